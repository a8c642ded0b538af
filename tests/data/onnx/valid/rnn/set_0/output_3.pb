B
yh_reverseJ Ðx?ÜÜ\¾x	>EQq¿Xz2¿´Çi?l{¿94?