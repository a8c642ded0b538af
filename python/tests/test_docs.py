"""The examples of docs/python.md, one after the other, as a reader would try them."""

import re
import sys
import textwrap

import pytest

from conftest import ROOT


def test_examples(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (ROOT / "target" / "python").mkdir(parents=True, exist_ok=True)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    text = (ROOT / "docs" / "python.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(examples) > 5
    known = {}
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), known)
    sys.modules.pop("onnxruntime")
    assert "[Port(name='image', dtype='float32', shape=('batch', 1, 8, 8))]" in capsys.readouterr().out


@pytest.mark.parametrize("section", ["From a mixture of experts to a program", "Layers of papers"])
def test_examples_with_pytorch(section, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(ROOT)
    (ROOT / "target" / "python").mkdir(parents=True, exist_ok=True)
    text = (ROOT / "docs" / "python.md").read_text().split(f"### {section}\n")[1].split("\n### ")[0]
    example = textwrap.dedent("".join(re.findall(r"^    .*\n|^\n", text, re.MULTILINE)))
    exec(compile(example, "docs/python.md", "exec"), {"__name__": "example"})
