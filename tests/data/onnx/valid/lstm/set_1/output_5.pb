B
yc_reverseJ0â–?MëÐ>(îa¿ÄDñ;fÁ¥>CŽ=Pyp½:P¼—Ï&¿¯Ü¿öÿV?¹Q¾