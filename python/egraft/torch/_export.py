"""Modules as ONNX models, and tensors of PyTorch in and out of these."""

import io
import logging
import warnings

import numpy
import torch

from . import layers

_LAYERS = tuple(getattr(layers, name) for name in layers.__all__)


def export(module, example_inputs, dynamic_shapes=None, functions=_LAYERS, **options):
    """What `torch.onnx.export` makes of a module, a `torch.onnx.ONNXProgram`, in which each call of a layer is one node.

    `functions` are the classes of modules that are layers: those of `egraft.torch.layers`, or others. A layer is a function
    of the model, of the domain `egraft`, whose body are standard nodes, so that other runtimes open it. A layer inside of
    another one is a part of that. `dynamic_shapes` and `options`, such as `kwargs`, are those of `torch.onnx.export`.
    """
    from . import _calls, _element_types, _spelled, _translations

    kinds = {path: type(part).__name__ for path, part in module.named_modules() if isinstance(part, tuple(functions))}
    table = {**_translations.table(), **options.pop("custom_translation_table", {})}
    options = {"verbose": False, "custom_translation_table": table, **options}
    known = _translations.of_complex_numbers()
    with torch.no_grad(), warnings.catch_warnings(), _spelled.modules(), known:
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        args = tuple(example_inputs)
        if args and isinstance(args[-1], dict) and not options.get("kwargs"):
            # `torch.onnx.export` would take them for inputs by name.
            module = torch.export.export(
                module, args, dynamic_shapes=dynamic_shapes, prefer_deferred_runtime_asserts_over_guards=True
            )
            args, dynamic_shapes = (), None
        program = torch.onnx.export(
            module, args, dynamic_shapes=dynamic_shapes, dynamo=True, optimize=False, **options
        )
        _calls.outline(program, kinds)
        _element_types.unite(program.model)
    return program


def data(program):
    """The bytes of a program's model."""
    out = io.BytesIO()
    program.save(out)
    return out.getvalue()


def run(model, given):
    """Runs a compiled model on tensors and numbers; tensors."""
    return tuple(map(_tensor, model.run(*map(_array, given))))


def _array(item):
    return item.detach() if isinstance(item, torch.Tensor) else numpy.asarray(item)


def _tensor(array):
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
