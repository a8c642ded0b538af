"""Real programs, unchanged, on the twin and on onnxruntime: what they say must be the same. And the tests with PyTorch.

They are fetched into environments of their own. With --all those that are quick with a compiler without optimisations;
with --programs all of them.
"""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess

import pytest

import egraft

from conftest import ROOT

WORK = ROOT / "target" / "python"
TORCH = ["torch==2.15.0", "onnx==1.23.2", "onnxruntime==1.32.0", "onnxscript==0.7.2", "numpy==2.4.6"]
PACKAGES = {
    "generate": [*TORCH, "transformers==5.24.0"],
    "magika_files": ["magika==1.0.3", "numpy==2.4.6", "onnxruntime==1.32.0"],
    "ocr": ["rapidocr-onnxruntime==1.4.4", "numpy==2.4.6", "onnxruntime==1.32.0"],
    "speech": ["silero-vad==6.2.3", "numpy==2.4.6", "onnxruntime==1.32.0"],
}
ON_TWIN = """
import runpy, sys
import egraft.ort
sys.modules["onnxruntime"] = egraft.ort
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def variables():
    """Those with which another environment finds the package that is tested, and nothing else of this one."""
    beside = WORK / "package"
    beside.mkdir(parents=True, exist_ok=True)
    package = pathlib.Path(egraft.__file__).resolve().parent
    for folder in (package, *package.parent.glob("egraft-*.dist-info")):
        link = beside / folder.name
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    return {**os.environ, "PYTHONPATH": str(beside), "PYTHONDONTWRITEBYTECODE": "1"}


def run(python, *args):
    done = subprocess.run([str(python), *args], capture_output=True, text=True, env=variables())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def equal(ours, theirs):
    """Numbers may differ in the last digit that is shown."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == pytest.approx(theirs, abs=0.002)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[key], theirs[key]) for key in ours)
    return ours == theirs


def environment(folder, packages):
    """As the scripts make theirs."""
    loader = importlib.machinery.SourceFileLoader("conformance", str(ROOT / "scripts" / "conformance"))
    conformance = importlib.util.module_from_spec(importlib.util.spec_from_loader("conformance", loader))
    loader.exec_module(conformance)
    return conformance.environment(folder, packages)


@pytest.mark.parametrize("program", PACKAGES)
def test_program(request, program):
    every = request.config.getoption("--programs")
    if not every and not (program == "magika_files" and request.config.getoption("--all")):
        pytest.skip("real programs are run with --programs, the quick ones with --all")
    python, why = environment(WORK / program, PACKAGES[program])
    if python is None:
        pytest.skip(why)
    script = str(pathlib.Path(__file__).parent / "programs" / f"{program}.py")
    theirs, ours = run(python, script), run(python, "-c", ON_TWIN, script)
    assert equal(ours, theirs), (ours, theirs)


def test_torch(request):
    if not request.config.getoption("--programs"):
        pytest.skip("PyTorch is fetched with --programs")
    python, why = environment(WORK / "torch", [*TORCH, "pytest==9.2.0"])
    if python is None:
        pytest.skip(why)
    tests = [str(pathlib.Path(__file__).parent / name) for name in ("test_torch.py", "test_layers.py")]
    options = ["-q", "-p", "no:cacheprovider", "--show-capture=no"]
    done = subprocess.run([str(python), "-m", "pytest", *options, *tests], capture_output=True, text=True, env=variables())
    assert done.returncode == 0 and " skipped" not in done.stdout, done.stdout
