"""A graph that Dynamo has captured, compiled.

What is computed is compiled. Results that are inputs or views of them, or sizes, are PyTorch's own and cost nothing. What
the graph writes into its inputs is a result of the compiled model, and is copied there.
"""

import operator
import threading

import torch

import egraft

from . import _export, _spelled
from ._left import Unfit, say


class Part:
    """A captured graph: compiled when it is first called, and again when a constant has changed."""

    def __init__(self, graph, examples, options):
        nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
        if torch.is_grad_enabled() and any(isinstance(item, torch.Tensor) and item.requires_grad for item in examples):
            raise Unfit("gradients are asked for; under torch.no_grad() it is compiled")
        for item in examples:
            if isinstance(item, torch.Tensor) and item.device.type != "cpu":
                raise Unfit(f"a tensor is on {item.device}")
        self.graph, self.options = graph, options
        self.written = _written(nodes)
        self.fixed = [
            at for at, item in enumerate(examples) if _is_constant(nodes[at], item) and at not in self.written
        ]
        self.sizes = _sizes(nodes, examples)
        skipped = {*self.fixed, *self.sizes}
        self.inputs = [at for at in range(len(examples)) if at not in skipped]
        self.shapes = tuple(_free(nodes[at].meta["example_value"]) for at in self.inputs)
        self.computed, self.own, self.results = _split(graph, nodes)
        self.computes = bool(self.written) or not all(self.results)
        self.lock = threading.Lock()
        self.seen, self.model, self.is_left = None, None, False

    def _compile(self, given):
        constants = [given[at].detach() if at in self.fixed else None for at in range(len(given))]
        _spelled.spell(self.computed)
        module = _Without(self.computed, constants, self.sizes, self.written).eval()
        shapes = (self.shapes,) if any(self.shapes) else None
        examples = [given[at].detach() if isinstance(given[at], torch.Tensor) else given[at] for at in self.inputs]
        program = _export.export(module, examples, shapes)
        signature = program.exported_program.graph_signature
        if signature.user_inputs_to_mutate or signature.buffers_to_mutate:
            raise Unfit("it changes its inputs or buffers")
        self.model, self.seen = egraft.compile(_export.data(program), **self.options), self._state(given)

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
                    say(error)
                    self.is_left = True
                    return self.graph(*given)
        computed = _export.run(self.model, [given[at] for at in self.inputs])
        count = len(computed) - len(self.written)
        for at, value in zip(self.written, computed[count:]):
            given[at].copy_(value)
        if self.own is None:
            return computed[:count]
        parts = iter(computed[:count]), iter(self.own(*given))
        return tuple(next(parts[is_own]) for is_own in self.results)


class _Without(torch.nn.Module):
    """A graph whose constants and visible sizes are no inputs, and which returns what it would write into its inputs."""

    def __init__(self, graph, constants, sizes, written):
        super().__init__()
        self.graph, self.constants, self.sizes, self.written = graph, constants, sizes, written

    def forward(self, *tensors):
        rest = iter(tensors)
        given = []
        for at, constant in enumerate(self.constants):
            size = at in self.sizes
            given.append(None if size else next(rest) if constant is None else constant)
        for at, (tensor, axis) in self.sizes.items():
            given[at] = given[tensor].shape[axis]
        for at in self.written:
            given[at] = given[at].clone()
        return (*self.graph(*given), *(given[at] for at in self.written))


def _is_constant(node, item):
    known = node.meta.get("tensor_dict") or {}
    return isinstance(item, torch.nn.Parameter) or "_dynamo_static_input_type" in known


def _storage(value):
    return value.untyped_storage()._cdata


def _written(nodes):
    """The inputs that the graph writes into: capturing it has done so to their stand-ins."""
    values = [node.meta.get("example_value") for node in nodes]
    tensors = {at: value for at, value in enumerate(values) if isinstance(value, torch.Tensor)}
    written = [at for at, value in tensors.items() if not value.is_inference() and value._version > 0]
    for at in written:
        if any(other != at and _storage(value) == _storage(tensors[at]) for other, value in tensors.items()):
            raise Unfit("it changes an input that shares its memory with another one")
    return written


def _sizes(nodes, examples):
    """Where sizes that are inputs can be seen: at which tensor, along which axis. Others are inputs like any number."""
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
        if place is not None:
            found[at] = place
        elif not isinstance(item, (int, torch.SymInt)):
            raise Unfit(f"an input is neither a tensor nor an integer: {symbol}")
    return found


def _free(value):
    """The axes of an input whose sizes are free; or a number that is."""
    if not isinstance(value, torch.Tensor):
        return torch.export.Dim.DYNAMIC
    free = {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(value.shape) if isinstance(size, torch.SymInt)}
    return free or None


def _split(graph, nodes):
    """The graph of what is computed, that of results which are inputs, views of them or sizes, and which result is which.

    The second is none where there are no such results.
    """
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    storages = {
        _storage(node.meta["example_value"])
        for node in nodes
        if isinstance(node.meta.get("example_value"), torch.Tensor)
    }

    def is_own(result):
        value = getattr(result, "meta", {}).get("example_value")
        return not isinstance(value, torch.Tensor) or _storage(value) in storages

    results, made = [is_own(result) for result in output.args[0]], {}
    computed = torch.fx.Graph()
    computed.graph_copy(graph.graph, made)
    computed.output(tuple(made[result] for result, is_taken in zip(output.args[0], results) if not is_taken))
    computed = torch.fx.GraphModule(graph, computed)
    if not any(results):
        return computed, None, results
    own = torch.fx.Graph()
    made = {node: own.placeholder(node.name) for node in nodes}

    def take(node):
        if node not in made:
            value = node.meta.get("example_value")
            if isinstance(value, torch.Tensor) and _storage(value) not in storages:
                raise Unfit("a result is a number that is computed from tensors")
            if _is_in_place(node):
                made[node] = take(node.args[0])
            else:
                for operand in node.all_input_nodes:
                    take(operand)
                made[node] = own.node_copy(node, made.__getitem__)
        return made[node]

    picked = [result for result, is_taken in zip(output.args[0], results) if is_taken]
    own.output(tuple(take(result) if isinstance(result, torch.fx.Node) else result for result in picked))
    return computed, torch.fx.GraphModule(graph, own), results


_IN_PLACE = {
    getattr(operator, f"i{name}")
    for name in "add and concat floordiv lshift matmul mod mul or pow rshift sub truediv xor".split()
}


def _is_in_place(node):
    """Is the node one that gives back what it has written into?"""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    is_named_so = name.endswith("_") and not name.endswith("__")
    return is_named_so or node.target in _IN_PLACE or bool(node.kwargs.get("inplace"))
