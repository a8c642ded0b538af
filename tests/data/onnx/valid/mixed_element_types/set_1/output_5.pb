
BhsJ¾-