"""egraft as a backend of `torch.compile`, and for modules of PyTorch; for inference.

    fast = torch.compile(module.eval(), backend="egraft")
    with torch.no_grad():
        fast(x)

    egraft.torch.export(module.eval(), (x,)).save("module.onnx")

What Dynamo captures is exported to ONNX by `torch.onnx.export`, which needs the package onnxscript, and compiled. Parameters
and buffers are constants; when one has changed, the part that reads it is compiled again; those that a run changes are inputs.
What cannot be exported or compiled, is asked for gradients, or is not on the CPU runs as it is, and a warning says so once.
"""

from . import layers
from ._export import export
from ._left import SAID as _SAID
from ._left import Unfit, say
from ._module import Module
from ._part import Part

__all__ = ["backend", "compile", "export", "layers"]


def backend(graph_module, example_inputs, mode=None, options=None):
    """Takes what Dynamo has captured, and compiles it when it is first called: a backend of `torch.compile`.

    `torch.compile(module, backend="egraft", options={...})` hands on options of `egraft.compile`. A mode tunes Inductor, and
    changes nothing here.
    """
    try:
        part = Part(graph_module, example_inputs, options or {})
    except Unfit as why:
        say(why)
        return graph_module.forward
    return part if part.computes else graph_module.forward


def compile(module, example_inputs=(), dynamic_shapes=None, kwargs=None, **options):
    """Compiles a module for inputs like these; what is returned takes and gives what the module does.

    `kwargs` are inputs by name; `dynamic_shapes` says which sizes are free, as for `torch.onnx.export`; `options` are those
    of `egraft.compile`.
    """
    return Module(export(module, example_inputs, dynamic_shapes, kwargs=kwargs), options)
