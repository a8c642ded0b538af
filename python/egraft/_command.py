"""The command line's verbs as functions, and the program `egraft` itself.

Options are those of the commands, as `egraft VERB --help` lists them, with `_` for `-`: a text or a number is the option's
value, True an option without one, a list an option that is repeated, and a dictionary one that is repeated as NAME=VALUE.
"""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

from . import _egraft

# Names that fit Python better than those of the options.
_NAMES = {
    "dims": "dim",
    "disable_rules": "disable-rule",
    "input_shapes": "input-shape",
    "settings": "set",
    "lengths": "length",
    "inputs": "input",
}


def onnx_bytes(model):
    """The bytes of a model that is no file: bytes, or an `onnx.ModelProto`; None for a path."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    if hasattr(model, "SerializeToString"):
        return model.SerializeToString()
    return None


@contextlib.contextmanager
def as_file(model):
    """The path of a model; one that is no file is written to one for as long."""
    data = onnx_bytes(model)
    if data is None:
        yield os.fspath(model)
        return
    with tempfile.TemporaryDirectory(prefix="egraft-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        yield str(path)


def _given(name, value):
    if name == "input-shape":
        return [f"{key}:{'x'.join(map(str, size))}" for key, size in value.items()]
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def arguments(options):
    """Options as the command line takes them."""
    args = []
    for key, value in options.items():
        name = _NAMES.get(key, key.replace("_", "-"))
        if value is None or value is False:
            continue
        if value is True:
            args.append(f"--{name}")
            continue
        for item in _given(name, value):
            args.append(f"--{name}={os.fspath(item) if isinstance(item, os.PathLike) else item}")
    return args


def report(verb, *args, options):
    """What the command reports, as dictionaries, lists, numbers and texts."""
    if "against" in options and "python" not in options and verb in ("verify", "bench"):
        # The engine that this interpreter has.
        options = {**options, "python": sys.executable}
    _, text = _egraft.command([verb, *args, "--json", *arguments(options)])
    return json.loads(text)


def main():
    """The program `egraft`."""
    sys.exit(_egraft.program(["egraft", *sys.argv[1:]]))
