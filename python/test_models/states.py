"""Models that keep something from run to run: what is an output of one run is an input of the next."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .case import STATES, State

VOCABULARY, WIDTH, HEADS, HEAD, LAYERS = 32, 16, 2, 8, 2


def state(model: onnx.ModelProto, about: str) -> None:
    STATES.append(State(model.graph.name, about, model))


def weights() -> list[onnx.TensorProto]:
    """The same for every decoder: models that are compiled together share them."""
    random = np.random.default_rng(7)
    shapes = {"embedding": (VOCABULARY, WIDTH), "head": (WIDTH, VOCABULARY)}
    shapes |= {f"{name}{layer}": (WIDTH, WIDTH) for layer in range(LAYERS) for name in "qkvo"}
    drawn = {name: random.standard_normal(shape) * 0.3 for name, shape in shapes.items()}
    return [numpy_helper.from_array(values.astype(np.float32), name) for name, values in drawn.items()]


def tensor(name: str, *shape, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def decoder(name: str, past: bool, mask: bool) -> onnx.ModelProto:
    """Two layers of attention over what came before (if `past`) and what is new."""
    rows = "past + seq" if past else "seq"
    inputs, outputs, nodes = [tensor("ids", "batch", "seq", dtype=TensorProto.INT64)], [], []
    outputs.append(tensor("logits", "batch", "seq", VOCABULARY))
    if mask:
        inputs.append(tensor("mask", "batch", 1, "seq", rows))

    def add(op: str, operands: list[str], result: str, **attributes) -> str:
        nodes.append(helper.make_node(op, operands, [result], name=f"node_{result}", **attributes))
        return result

    x = add("Gather", ["embedding", "ids"], "x")
    for layer in range(LAYERS):
        heads = {}
        for kind in "qkv":
            flat = add("MatMul", [x, f"{kind}{layer}"], f"{kind}_flat{layer}")
            apart = add("Reshape", [flat, "apart"], f"{kind}_apart{layer}")
            heads[kind] = add("Transpose", [apart], f"{kind}_heads{layer}", perm=[0, 2, 1, 3])
        for kind, word in (("k", "key"), ("v", "value")):
            present = f"present.{layer}.{word}"
            outputs.append(tensor(present, "batch", HEADS, rows, HEAD))
            if past:
                before = f"past.{layer}.{word}"
                inputs.append(tensor(before, "batch", HEADS, "past", HEAD))
                add("Concat", [before, heads[kind]], present, axis=2)
            else:
                add("Identity", [heads[kind]], present)
        turned = add("Transpose", [f"present.{layer}.key"], f"turned{layer}", perm=[0, 1, 3, 2])
        product = add("MatMul", [heads["q"], turned], f"product{layer}")
        scores = add("Mul", [product, "scale"], f"scores{layer}")
        if mask:
            scores = add("Add", [scores, "mask"], f"masked{layer}")
        chosen = add("Softmax", [scores], f"chosen{layer}", axis=-1)
        mixed = add("MatMul", [chosen, f"present.{layer}.value"], f"mixed{layer}")
        beside = add("Transpose", [mixed], f"beside{layer}", perm=[0, 2, 1, 3])
        together = add("Reshape", [beside, "together"], f"together{layer}")
        projected = add("MatMul", [together, f"o{layer}"], f"projected{layer}")
        x = add("Add", [x, projected], f"x{layer}")
    add("MatMul", [x, "head"], "logits")
    constants = [
        numpy_helper.from_array(np.array([0, 0, HEADS, HEAD], np.int64), "apart"),
        numpy_helper.from_array(np.array([0, 0, WIDTH], np.int64), "together"),
        numpy_helper.from_array(np.array(HEAD**-0.5, np.float32), "scale"),
    ]
    graph = helper.make_graph(nodes, name, inputs, outputs, weights() + constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def parsed(name: str, text: str, opset: int = 17) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {name} {text}')
    return model


state(decoder("prefill", past=False, mask=False), "A decoder on its first tokens: it gives keys and values, and takes none.")
state(decoder("decode", past=True, mask=True), "The same decoder on further tokens, with a mask that tells how many came before.")
state(decoder("step", past=True, mask=False), "The same without a mask: no other input tells how many tokens came before.")
state(
    parsed(
        "recurrent",
        """(float[batch, 4] x, float[batch, 4] h) => (float[batch, 4] y, float[batch, 4] next)
        <float[4, 4] w = {0.5, -0.25, 0.125, 0.0, 0.25, 0.5, -0.5, 0.125, -0.125, 0.25, 0.5, 0.5, 0.0, -0.5, 0.25, 0.5}>
        { p = MatMul(h, w) s = Add(p, x) next = Tanh(s) y = Mul(next, x) }""",
    ),
    "A recurrent layer: each element of the next state depends on all of the last.",
)
state(
    parsed(
        "momentum",
        """(float[n] gradient, float[n] m) => (float[n] step, float[n] m_next)
        <float mu = {0.7}, float rate = {-0.1}>
        { a = Mul(m, mu) m_next = Add(a, gradient) step = Mul(m_next, rate) }""",
    ),
    "A momentum: each element of the next state depends on one of the last.",
)
state(
    parsed(
        "ring",
        """(float[1, 3] x, int64[1, 3] at, float[5, 3] cache) => (float[3] total, float[5, 3] cache_next)
        <int64[1] axis = {0}>
        { cache_next = ScatterElements <axis = 0> (cache, at, x) total = ReduceSum <keepdims = 0> (cache_next, axis) }""",
        18,
    ),
    "A cache of a fixed number of rows, one of which is written over.",
)


def grouped_query() -> onnx.ModelProto:
    """onnxruntime's attention for decoders: the cache is as long as there is room for, and an input tells how much of it is used."""
    names = ["q", "k", "v", "past_key", "past_value", "used", "total"]
    node = helper.make_node(
        "GroupQueryAttention", names, ["y", "present_key", "present_value"], name="attention", domain="com.microsoft",
        num_heads=4, kv_num_heads=2,
    )
    cache = [tensor(f"past_{kind}", "batch", 2, "room", 8) for kind in ("key", "value")]
    rows = [tensor("q", "batch", "seq", 32), tensor("k", "batch", "seq", 16), tensor("v", "batch", "seq", 16)]
    counts = [tensor("used", "batch", dtype=TensorProto.INT32), tensor("total", 1, dtype=TensorProto.INT32)]
    outputs = [tensor("y", "batch", "seq", 32)]
    outputs += [tensor(f"present_{kind}", "batch", 2, "rows", 8) for kind in ("key", "value")]
    graph = helper.make_graph([node], "grouped", rows + cache + counts, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


state(grouped_query(), "A cache with room for more than it holds, of which onnxruntime's attention is told how much.")
