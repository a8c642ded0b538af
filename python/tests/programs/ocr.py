"""A picture of text, found and read by rapidocr."""

import json

import numpy
from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime import RapidOCR


def main():
    image = Image.new("RGB", (480, 160), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(32)
    draw.text((20, 20), "Hello world 2026", fill="black", font=font)
    draw.text((20, 90), "egraft compiles", fill="black", font=font)
    found, _ = RapidOCR()(numpy.array(image))
    print(json.dumps([[numpy.round(box).tolist(), text, round(float(score), 2)] for box, text, score in found]))


main()
