"""Real programs, unchanged, on the twin and on onnxruntime: what they say must be the same. And the tests with PyTorch.

With --all they are fetched into environments of their own.
"""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess

import pytest

import egraft

from conftest import ROOT

WORK = ROOT / "target" / "python"
# PyTorch's wheel needs CUDA's packages: this much is unpacked, with room for the fetched archives.
TORCH_BYTES = 12 * 10**9
TORCH = [
    "torch==2.15.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "onnxscript==0.7.2",
    "numpy==2.4.6",
    "pytest==9.2.0",
    "silero-vad==6.2.3",
    "transformers==5.24.0",
]
PACKAGES = {
    "generate": TORCH,
    "magika_files": ["magika==1.0.3", "numpy==2.4.6", "onnxruntime==1.32.0"],
    "ocr": ["rapidocr-onnxruntime==1.4.4", "numpy==2.4.6", "onnxruntime==1.32.0"],
    "speech": TORCH,
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


def environment(program):
    """The Python of a program, as the scripts make theirs."""
    packages = PACKAGES[program]
    folder = WORK / ("torch" if packages is TORCH else program)
    free = shutil.disk_usage(WORK).free
    if packages is TORCH and not folder.exists() and free < TORCH_BYTES:
        pytest.skip(f"PyTorch needs {TORCH_BYTES / 1e9:.0f} GB of disk, and {free / 1e9:.0f} are free")
    loader = importlib.machinery.SourceFileLoader("conformance", str(ROOT / "scripts" / "conformance"))
    conformance = importlib.util.module_from_spec(importlib.util.spec_from_loader("conformance", loader))
    loader.exec_module(conformance)
    python, why = conformance.environment(folder, packages)
    if python is None:
        pytest.skip(why)
    return python


@pytest.fixture(autouse=True)
def asked(request):
    if not request.config.getoption("--all"):
        pytest.skip("real programs are fetched with --all")


@pytest.mark.parametrize("program", PACKAGES)
def test_program(program):
    python = environment(program)
    script = str(pathlib.Path(__file__).parent / "programs" / f"{program}.py")
    theirs, ours = run(python, script), run(python, "-c", ON_TWIN, script)
    assert equal(ours, theirs), (ours, theirs)


def test_torch():
    files = ["test_docs.py", "test_golden_layers.py", "test_layers.py", "test_torch.py"]
    tests = [str(pathlib.Path(__file__).parent / name) for name in files]
    options = ["-q", "-p", "no:cacheprovider", "--show-capture=no"]
    words = [str(environment("generate")), "-m", "pytest", *options, *tests]
    done = subprocess.run(words, capture_output=True, text=True, env=variables())
    assert done.returncode == 0 and " skipped" not in done.stdout, done.stdout
