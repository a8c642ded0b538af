
BhJ·