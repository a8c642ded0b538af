"""A model in a page, as a notebook shows it, in a browser: where there is Chromium."""

import html
import json
import re
import shutil
import struct
import subprocess
import zlib

import pytest

import egraft

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>notebook</title></head>
<body><div class="output_html">{output}</div>
<script>
addEventListener("load", () => {{
  const seen = (element) => {{
    const box = element.getBoundingClientRect();
    return element.checkVisibility() && box.width > 0 && box.height > 0;
  }};
  document.querySelector("details").open = true;
  const picture = document.querySelector("details svg");
  document.body.dataset.seen = JSON.stringify({{
    rows: [...document.querySelectorAll("table tr")].filter(seen).map((row) => row.cells[0].innerText),
    picture: seen(picture),
    shapes: [...picture.querySelectorAll("rect, path, polygon, text")].filter(seen).length,
  }});
}});
</script></body></html>
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Opens a page, and gives what is asked for with the options and what the console said."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is no {' or '.join(BROWSERS)}")
    profile = tmp_path_factory.mktemp("profile")

    def open_page(page, *options):
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        command += [f"--user-data-dir={profile}", "--window-size=1200,900", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout, re.findall(r":CONSOLE[:(].*", done.stderr)

    return open_page


def lines_of(png):
    """The lines of a picture, as they are coded: those of an empty one are all the same, but for the first."""
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", png[at + 8 : at + 18])
        elif kind == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += size + 12
    line = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] + 7) // 8
    raw = zlib.decompress(data)
    return [raw[line * at : line * (at + 1)] for at in range(height)]


def test_a_model_in_a_page(chromium, digits, tmp_path):
    model = egraft.compile(digits)
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(output=model._repr_html_()), encoding="utf-8")
    dom, console = chromium(page, "--dump-dom")
    assert console == []
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom).group(1)))
    assert seen["rows"] == ["kernel", *(kernel["name"] for kernel in model.kernels())]
    assert seen["picture"] and seen["shapes"] > len(model.kernels())

    shot, empty = tmp_path / "shot.png", tmp_path / "empty.png"
    blank = tmp_path / "blank.html"
    blank.write_text("<!DOCTYPE html><title>blank</title>", encoding="utf-8")
    chromium(page, f"--screenshot={shot}")
    chromium(blank, f"--screenshot={empty}")
    assert len(set(lines_of(empty.read_bytes()))) <= 2 < 50 < len(set(lines_of(shot.read_bytes())))


def test_what_the_console_says_is_heard(chromium, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><script>nothing.there</script>", encoding="utf-8")
    _, console = chromium(page, "--dump-dom")
    assert len(console) == 1 and "ReferenceError" in console[0]
