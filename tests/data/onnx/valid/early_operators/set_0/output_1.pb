BfarJ¤óAûÆĞAÙjBˆä©AU(éA¯,
B