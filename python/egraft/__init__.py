"""egraft: ONNX models compiled to native code, in this process.

    import egraft

    model = egraft.compile("digits.onnx")
    (scores,) = model.run(images)

`egraft.ort` is the same for programs that were written for onnxruntime.
"""

import os as _os

from . import _command, _egraft
from ._egraft import Model, __version__
from ._errors import Error, InputError, InternalError, ModelError, UnsupportedError
from ._model import Port

__all__ = [
    "Error",
    "InputError",
    "InternalError",
    "Model",
    "ModelError",
    "Port",
    "UnsupportedError",
    "__version__",
    "bench",
    "check",
    "compile",
    "load",
    "verify",
    "zoo",
]

if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_egraft.forked)


def compile(
    model,
    *,
    target="cpu",
    dims={},
    fp="reassoc",
    threads=None,
    disable_rules=(),
    settings={},
):
    """Compiles a model to native code that runs in this process.

    `model` is the path of a .onnx, .ir, .kir or .prog, "zoo:NAME" for a built-in model, the bytes of an ONNX model, or an
    `onnx.ModelProto`. `dims` fixes symbolic sizes: {"batch": 1}; what is left open may change from run to run. `fp` says
    which rewrites of floating-point arithmetic are allowed: "strict", "reassoc" or "fast". `threads` is how many threads
    a run takes, all by default; results are the same for any number. `disable_rules` names rewrite rules that are not
    applied, and `settings` configures a built-in model.
    """
    data = _command.onnx_bytes(model)
    path = "model.onnx" if data is not None else _os.fspath(model)
    settings = [(key, str(value)) for key, value in settings.items()]
    return _egraft.compile(path, data, target, list(dims.items()), fp, threads, list(disable_rules), settings, False)


def load(path, *, threads=None):
    """Loads an artifact: an executable that `Model.save` or `egraft compile` wrote. The file must not change meanwhile.

    What runs is the first of its `entries`; `entry(name)` of the result is another one.
    """
    return _egraft.load(_os.fspath(path), threads)


def verify(model, **options):
    """Compiles a model, runs it, and compares with known results, the reference or another engine.

    The report of `egraft verify`, with its options: `verify("m.onnx", against="onnxruntime", rtol=1e-4)`. `report["ok"]`
    says whether all is well.
    """
    with _command.as_file(model) as path:
        return _command.report("verify", path, options=options)


def check(model, **options):
    """Says which nodes of a model cannot be compiled, and what it can hardly be meant to do.

    The report of `egraft check`, with its options. `report["ok"]` says whether the model can be compiled.
    """
    with _command.as_file(model) as path:
        return _command.report("check", path, options=options)


def bench(model, **options):
    """Times a model kernel by kernel, next to what the machine could do.

    The report of `egraft bench`, with its options: `bench("m.onnx", dims={"batch": 8}, threads=1, iters=20)`.
    """
    with _command.as_file(model) as path:
        return _command.report("bench", path, options=options)


def zoo(name=None, **settings):
    """The built-in models; or settings, inputs, outputs and weights of the one with that name.

    `egraft.compile("zoo:NAME", settings={...})` compiles it.
    """
    if name is None:
        return _command.report("zoo", "list", options={})["models"]
    return _command.report("zoo", "show", name, options={"settings": settings})
