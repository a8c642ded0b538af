
BhJ¹º