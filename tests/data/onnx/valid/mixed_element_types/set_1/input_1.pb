
BhJ¾©