
BhsJ¹>¹B¹F