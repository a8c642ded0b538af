"""egraft as a backend of `torch.compile`, and for modules of PyTorch; for inference.

    fast = torch.compile(module.eval(), backend="egraft")
    with torch.no_grad():
        fast(x)

    egraft.torch.export(module.eval(), (x,)).save("module.onnx")

What Dynamo captures is exported to ONNX by `torch.onnx.export`, which needs the package onnxscript, and compiled. Parameters
and buffers are constants; when one has changed, the part that reads it is compiled again. What cannot be exported or
compiled, changes its inputs, hands them out as results, is asked for gradients, or is not on the CPU runs as it is, and a
warning says so once.
"""

import io
import logging
import threading
import warnings

import numpy
import torch

import egraft

from . import layers

__all__ = ["backend", "compile", "export"]

_LAYERS = tuple(getattr(layers, name) for name in layers.__all__)

_SAID = set()


def _say(why):
    """Warns, once for each reason."""
    if why not in _SAID:
        _SAID.add(why)
        warnings.warn(f"egraft leaves a part of the model to PyTorch: {why}", stacklevel=3)


class _Unfit(Exception):
    """Why a graph is left to PyTorch."""


def _reason(error):
    if isinstance(error, _Unfit):
        return str(error)
    # What torch.onnx could not translate is said by the first of its errors.
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


def backend(graph_module, example_inputs):
    """Takes what Dynamo has captured, and compiles it when it is first called: a backend of `torch.compile`."""
    try:
        return _Part(graph_module, example_inputs)
    except _Unfit as why:
        _say(_reason(why))
        return graph_module.forward


def compile(module, example_inputs, dynamic_shapes=None, **options):
    """Compiles a module for inputs like these; what is returned is called with tensors and returns tensors.

    `dynamic_shapes` says which sizes are free, as for `torch.onnx.export`; `options` are those of `egraft.compile`.
    """
    program = export(module, example_inputs, dynamic_shapes)
    return _Module(_bytes(program), options)


def export(module, example_inputs, dynamic_shapes=None, functions=_LAYERS, **options):
    """What `torch.onnx.export` makes of a module, a `torch.onnx.ONNXProgram`, in which each call of a layer is one node.

    `functions` are the classes of modules that are layers: those of `egraft.torch.layers`, or others. A layer is a function
    of the model, of the domain `egraft`, whose body are standard nodes, so that other runtimes open it. A layer inside of
    another one is a part of that. `dynamic_shapes` and `options` are those of `torch.onnx.export`.
    """
    from . import _calls, _translations

    kinds = {path: type(part).__name__ for path, part in module.named_modules() if isinstance(part, tuple(functions))}
    table = {**_translations.table(), **options.pop("custom_translation_table", {})}
    options = {"verbose": False, "custom_translation_table": table, **options}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module, tuple(example_inputs), dynamic_shapes=dynamic_shapes, dynamo=True, optimize=False, **options
        )
        _calls.outline(program, kinds)
    return program


class _Module:
    def __init__(self, data, options):
        self.model = egraft.compile(data, **options)

    def __call__(self, *inputs):
        outputs = _run(self.model, inputs)
        return outputs[0] if len(outputs) == 1 else outputs


class _Without(torch.nn.Module):
    """A graph whose constants and sizes are no inputs."""

    def __init__(self, graph, constants, sizes):
        super().__init__()
        self.graph, self.constants, self.sizes = graph, constants, sizes

    def forward(self, *tensors):
        rest = iter(tensors)
        given = []
        for at, constant in enumerate(self.constants):
            size = at in self.sizes
            given.append(None if size else next(rest) if constant is None else constant)
        for at, (tensor, axis) in self.sizes.items():
            given[at] = given[tensor].shape[axis]
        return self.graph(*given)


class _Part:
    """A captured graph, compiled."""

    def __init__(self, graph, examples):
        nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
        if torch.is_grad_enabled() and any(isinstance(item, torch.Tensor) and item.requires_grad for item in examples):
            raise _Unfit("gradients are asked for; under torch.no_grad() it is compiled")
        for item in examples:
            if isinstance(item, torch.Tensor) and item.device.type != "cpu":
                raise _Unfit(f"a tensor is on {item.device}")
        _check_outputs(graph, nodes)
        self.graph = graph
        self.fixed = [at for at, item in enumerate(examples) if _is_constant(nodes[at], item)]
        self.sizes = _sizes(nodes, examples)
        skipped = {*self.fixed, *self.sizes}
        self.inputs = [at for at in range(len(examples)) if at not in skipped]
        self.shapes = tuple(_free(nodes[at].meta["example_value"]) for at in self.inputs)
        self.lock = threading.Lock()
        self.seen, self.model, self.is_left = None, None, False

    def _compile(self, given):
        constants = [given[at].detach() if at in self.fixed else None for at in range(len(given))]
        module = _Without(self.graph, constants, self.sizes).eval()
        shapes = (self.shapes,) if any(self.shapes) else None
        program = export(module, [given[at].detach() for at in self.inputs], shapes)
        signature = program.exported_program.graph_signature
        if signature.user_inputs_to_mutate or signature.buffers_to_mutate:
            raise _Unfit("it changes its inputs or buffers")
        self.model, self.seen = egraft.compile(_bytes(program)), self._state(given)

    def _state(self, given):
        """What tells whether a constant has changed."""
        return [
            (given[at].data_ptr(), 0 if given[at].is_inference() else given[at]._version) for at in self.fixed
        ]

    def __call__(self, *given):
        if self.is_left:
            return self.graph(*given)
        if self._state(given) != self.seen:
            with self.lock:
                try:
                    if self._state(given) != self.seen:
                        self._compile(given)
                except Exception as error:
                    _say(_reason(error))
                    self.is_left = True
                    return self.graph(*given)
        return _run(self.model, [given[at] for at in self.inputs])


def _is_constant(node, item):
    known = node.meta.get("tensor_dict") or {}
    return isinstance(item, torch.nn.Parameter) or "_dynamo_static_input_type" in known


def _sizes(nodes, examples):
    """Where each size that is an input can be seen: at which tensor, along which axis."""
    found = {}
    for at, item in enumerate(examples):
        if isinstance(item, torch.Tensor):
            continue
        symbol = str(nodes[at].meta["example_value"])
        places = (
            (other, axis)
            for other, node in enumerate(nodes)
            if isinstance(examples[other], torch.Tensor)
            for axis, size in enumerate(node.meta["example_value"].shape)
            if isinstance(size, torch.SymInt) and str(size) == symbol
        )
        place = next(places, None)
        if place is None:
            raise _Unfit(f"an input is no tensor and no size of one: {symbol}")
        found[at] = place
    return found


def _free(value):
    """The axes of an input whose sizes are free."""
    free = {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(value.shape) if isinstance(size, torch.SymInt)}
    return free or None


def _check_outputs(graph, nodes):
    """Results must be tensors of their own: those that are inputs, or parts of them, would be copies."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    storages = {
        node.meta["example_value"].untyped_storage()._cdata
        for node in nodes
        if isinstance(node.meta.get("example_value"), torch.Tensor)
    }
    for result in output.args[0]:
        value = getattr(result, "meta", {}).get("example_value")
        if not isinstance(value, torch.Tensor):
            raise _Unfit("a result is no tensor")
        if value.untyped_storage()._cdata in storages:
            raise _Unfit("a result is an input, or a view of one")


def _bytes(program):
    data = io.BytesIO()
    program.save(data)
    return data.getvalue()


def _run(model, tensors):
    return tuple(map(_tensor, model.run(*(tensor.detach() for tensor in tensors))))


def _tensor(array):
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
