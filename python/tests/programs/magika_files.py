"""Twenty files of different kinds, identified by magika."""

import io
import json
import tarfile
import wave
import zipfile
import zlib

from magika import Magika


def packed(kind):
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(zipfile.ZipInfo("a.txt"), "some text\n" * 50)
    elif kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            info = tarfile.TarInfo("a.txt")
            info.size = 500
            archive.addfile(info, io.BytesIO(b"some text\n" * 50))
    else:
        with wave.open(out, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(range(256)) * 16)
    return out.getvalue()


def png():
    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = chunk(b"IHDR", bytes([0, 0, 0, 16, 0, 0, 0, 16, 8, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(17 * 16))) + chunk(b"IEND", b"")


FILES = [
    b"#!/usr/bin/env python3\nimport os\n\n\ndef main():\n    print(os.getcwd())\n\n\nmain()\n",
    b"fn main() {\n    let x: Vec<u32> = (0..10).collect();\n    println!(\"{x:?}\");\n}\n",
    b"#include <stdio.h>\n\nint main(void) {\n    printf(\"hello\\n\");\n    return 0;\n}\n",
    b"package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"hello\")\n}\n",
    b"public class A {\n    public static void main(String[] args) {\n        System.out.println(1);\n    }\n}\n",
    b"const f = async (x) => {\n  const y = await fetch(x);\n  return y.json();\n};\nexport default f;\n",
    b"<!DOCTYPE html>\n<html><head><title>t</title></head><body><p>text</p></body></html>\n",
    b"<?xml version=\"1.0\"?>\n<a><b c=\"d\">e</b></a>\n",
    b"{\"a\": [1, 2, 3], \"b\": {\"c\": null, \"d\": true}, \"e\": \"text\"}\n",
    b"a: 1\nb:\n  - c\n  - d: e\nf: |\n  text\n",
    b"a,b,c\n1,2,3\n4,5,6\n7,8,9\n" * 10,
    b"# Title\n\nSome *text* with a [link](https://example.org).\n\n- one\n- two\n",
    b"SELECT a, COUNT(*) FROM t WHERE b > 3 GROUP BY a ORDER BY 2 DESC;\n",
    b"#!/bin/sh\nset -e\nfor f in *.txt; do\n  echo \"$f\"\ndone\n",
    b"body { margin: 0; }\n.a > .b { color: #fff; display: flex; }\n",
    b"FROM debian:12\nRUN apt-get update && apt-get install -y gcc\nCOPY . /src\nCMD [\"make\"]\n",
    packed("zip"),
    packed("tar"),
    packed("wav"),
    png(),
]


def main():
    magika = Magika()
    found = [magika.identify_bytes(data) for data in FILES]
    print(json.dumps([[result.output.label, round(result.score, 3)] for result in found]))


main()
