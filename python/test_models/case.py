"""What a case is, and how its model is written down: ONNX's own text syntax plus random weights from a fixed seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser


@dataclass
class Valid:
    """A model that must import and compute. `oracle` says who made the expected outputs, of `standard` if that is there."""

    name: str
    about: str
    model: onnx.ModelProto
    sets: Sequence[Mapping[str, object]]
    oracle: str
    onnxruntime: bool
    files: dict[str, bytes] = field(default_factory=dict)
    standard: onnx.ModelProto | None = None


@dataclass
class Invalid:
    """A file that must be refused with a diagnostic that contains every string of `mentions`."""

    name: str
    about: str
    content: bytes
    mentions: Sequence[str]
    accepted_elsewhere: bool
    unsupported: bool
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Lists:
    """A model with sequences or optionals as inputs or outputs: lists of arrays, or `None`."""

    name: str
    about: str
    model: onnx.ModelProto
    sets: Sequence[Mapping[str, object]]


@dataclass
class State:
    """A model whose outputs are its inputs in the next run."""

    name: str
    about: str
    model: onnx.ModelProto


STATES: list[State] = []
VALID: list[Valid] = []
LISTS: list[Lists] = []
INVALID: list[Invalid] = []


def valid(
    sets: Sequence[Mapping[str, object]] = ({},),
    opset: int = 21,
    ir: int = 10,
    imports: str = "",
    weights: Mapping[str, np.ndarray] | None = None,
    oracle: str = "reference",
    onnxruntime: bool = True,
    standard: str = "",
) -> Callable:
    """Registers the decorated function as a valid case of the same name. `standard` is the same model in other operators.

    The function returns the model, or its text without the header, or one of these with the files beside the model.
    Each element of `sets` gives the sizes of the symbolic dimensions and, where random values won't do, whole inputs.
    """

    def register(build: Callable) -> Callable:
        name, built = build.__name__, build()
        body, files = built if isinstance(built, tuple) else (built, {})
        model = parse(name, body, opset, ir, imports, weights) if isinstance(body, str) else body
        same = parse(name, standard, opset, ir, "", weights) if standard else None
        VALID.append(Valid(name, (build.__doc__ or "").strip(), model, sets, oracle, onnxruntime, files, same))
        return build

    return register


def lists(*sets: Mapping[str, object], opset: int = 21) -> Callable:
    """Registers the decorated function, which returns the text of a model, with the inputs of each set."""

    def register(build: Callable) -> Callable:
        model = parse(build.__name__, build(), opset, 10, "", None)
        LISTS.append(Lists(build.__name__, (build.__doc__ or "").strip(), model, sets))
        return build

    return register


def invalid(
    *mentions: str,
    opset: int = 21,
    ir: int = 10,
    imports: str = "",
    accepted_elsewhere: bool = False,
    unsupported: bool = False,
) -> Callable:
    """Registers the decorated function as an invalid case. It returns bytes, a model or text, also with files.

    `accepted_elsewhere` marks a file that the checker and onnxruntime load: it keeps ONNX's rules and asks for what
    egraft does not support, or it breaks them where those two don't look. `unsupported` marks one that keeps them.
    """

    def register(build: Callable) -> Callable:
        name, built = build.__name__, build()
        body, files = built if isinstance(built, tuple) else (built, {})
        if isinstance(body, str):
            body = parse(name, body, opset, ir, imports)
        content = body if isinstance(body, bytes) else serialize(body)
        INVALID.append(Invalid(name, (build.__doc__ or "").strip(), content, mentions, accepted_elsewhere, unsupported, files))
        return build

    return register


def parse(
    name: str,
    body: str,
    opset: int = 21,
    ir: int = 10,
    imports: str = "",
    weights: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """Reads ONNX text. `body` starts at the graph's inputs; the graph takes the case's name.

    A value that stands in the angle brackets with a type but without content, and that no node produces, becomes an
    initializer: from `weights`, else random. Nodes without a name get one made of their operator and position.
    """
    more = f", {imports}" if imports else ""
    model = parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{more}]>\n{name} {body.lstrip()}')
    model.producer_name = "egraft test models"
    graph = model.graph
    generator = random(name)
    produced = {output for node in graph.node for output in node.output}
    declared = [info for info in graph.value_info if info.name not in produced]
    for info in declared:
        graph.value_info.remove(info)
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        given = (weights or {}).get(info.name)
        value = values(generator, info.type.tensor_type.elem_type, shape) * 0.5 if given is None else given
        value = np.asarray(value, dtype=helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
        graph.initializer.append(numpy_helper.from_array(value, info.name))
    for position, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
    return model


def random(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def values(generator: np.random.Generator, elem_type: int, shape: Sequence[int]) -> np.ndarray:
    """Ordinary numbers: standard normal floats, integers from 0 to 9, fair coins."""
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    if elem_type == onnx.TensorProto.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if np.issubdtype(dtype, np.integer):
        return generator.integers(0, 10, shape).astype(dtype)
    return generator.standard_normal(shape).astype(np.float32).astype(dtype)


def serialize(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)
