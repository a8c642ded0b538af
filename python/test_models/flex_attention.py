"""Attention whose scores and weights go through graphs of the node. Each model comes with the same in standard operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .case import invalid, valid

DOMAIN = '"ai.onnx.preview" : 1'


def flex(sets: Sequence[Mapping[str, object]], signature: str, **parts: str) -> Callable:
    """A valid case that is one attention of `q`, `k` and `v`; see `written`."""
    standard = written(signature, **parts, node=False)

    def register(build: Callable) -> Callable:
        def model() -> str:
            return written(signature, **parts)

        model.__name__, model.__doc__ = build.__name__, build.__doc__
        return valid(sets=sets, opset=24, imports=DOMAIN, standard=standard)(model)

    return register


def written(
    signature: str, weights: str = "", before: str = "", scores: str = "", probs: str = "", node: bool = True
) -> str:
    """The model, as one node or in standard operators. `scores` make `t` of `s`, `probs` make `u` of `p`, `before` stand before."""
    if node:
        graphs = [
            f"{name} = {name} (float[B, H, L, S] {given}) => (float[B, H, L, S] {made}) {{ {body} }}"
            for name, given, made, body in (("score_mod", "s", "t", scores), ("prob_mod", "p", "u", probs))
            if body
        ]
        body = f"[attend] y = ai.onnx.preview.FlexAttention <{', '.join(['scale = 0.4', *graphs])}> (q, k, v)"
    else:
        weights += ", int64[4] heads = {0, 0, 1, 1}, float scale = {0.4}"
        body = f"""every_k = Gather <axis = 1> (k, heads) every_v = Gather <axis = 1> (v, heads)
        transposed = Transpose <perm = [0, 1, 3, 2]> (every_k) product = MatMul(q, transposed) s = Mul(product, scale)
        {scores or "t = Identity(s)"} p = Softmax <axis = -1> (t) {probs or "u = Identity(p)"} y = MatMul(u, every_v)"""
    return f"{signature} <{weights.removeprefix(', ')}> {{ {before} {body} }}"


def operands(more: str = "") -> str:
    """Queries of four heads, keys and values of two; rows of values are wider."""
    return f"(float[b, 4, n, 8] q, float[b, 2, m, 8] k, float[b, 2, m, 6] v{more}) => (float[b, 4, n, 6] y)"


PLACES = """shape = Shape(s)
  rows = Gather <axis = 0> (shape, two) cols = Gather <axis = 0> (shape, three)
  i = Range(zero, rows, one) j = Range(zero, cols, one)
  query = Unsqueeze(i, last)"""
NUMBERS = "int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 three = {3}, int64[1] last = {-1}"
FEW = [{"b": 2, "n": 5, "m": 7}, {"b": 1, "n": 1, "m": 1}]
MANY = [*FEW, {"b": 1, "n": 70, "m": 600}]


@flex(FEW, operands())
def flex_attention():
    """FlexAttention without graphs; two heads of queries share one of keys."""


@flex(
    MANY,
    operands(),
    weights=f"{NUMBERS}, float cap = {{1.5}}, float never = {{-inf}}",
    scores=f"""{PLACES} small = Div(s, cap) bounded = Tanh(small) capped = Mul(bounded, cap)
      earlier = GreaterOrEqual(query, j) t = Where(earlier, capped, never)""",
)
def flex_attention_causal():
    """Scores are capped; a query sees no later key: places come from the shape of the scores."""


@flex(
    MANY,
    operands(", float[4, 1, 1] slopes"),
    weights=f"{NUMBERS}, int64 width = {{3}}, float never = {{-10000}}",
    scores=f"""{PLACES} distance = Sub(j, query) far = Cast <to = 1> (distance) bias = Mul(slopes, far) biased = Add(s, bias)
      size = Abs(distance) near = LessOrEqual(size, width) t = Where(near, biased, never)""",
)
def flex_attention_slopes():
    """Distances times a slope for each head, which the graph reads from outside, and a window."""


@flex(
    [{"b": 2, "n": 4, "m": 6, "of_q": np.array([[0, 0, 1, 2], [3, 1, 1, 0]]), "of_k": np.array([[0, 1, 1, 2, 2, 0], [3, 3, 0, 1, 0, 1]])}],
    operands(", int64[b, n] of_q, int64[b, m] of_k"),
    weights="int64[2] columns = {1, 3}, int64[2] rows = {1, 2}, float never = {-inf}",
    before="left = Unsqueeze(of_q, columns)",
    scores="right = Unsqueeze(of_k, rows) alike = Equal(left, right) t = Where(alike, s, never)",
)
def flex_attention_documents():
    """A query sees the keys of its own document; one side of the comparison is made outside of the graph."""


@flex(
    [{"b": 2, "n": 5, "m": 7, "n2": 5, "m2": 7}],
    operands(", float[n2, m2] bias"),
    scores="t = Add(bias, s)",
)
def flex_attention_of_equal_sizes():
    """The graph adds a bias whose sizes have other names."""


@flex(
    FEW,
    operands(", float[b, 1, n, 1] gate, float[m] key"),
    weights="float two = {2}, float third = {3}",
    scores="t = Div(s, two)",
    probs="gated = Mul(p, gate) keyed = Mul(key, gated) u = Div(keyed, third)",
)
def flex_attention_scaled_weights():
    """Weights are scaled: for each query, for each key, and by a number."""


@flex(
    FEW,
    operands(", bool[n, m] kept"),
    weights="float nothing = {0}",
    probs="square = Mul(p, p) u = Where(kept, square, nothing)",
)
def flex_attention_other_weights():
    """Weights are squared, and some left out."""


def attention_with(graph: str) -> str:
    return f"(float[2, 4, 3, 8] q, float[2, 4, 5, 8] k, float[2, 4, 5, 6] v) => (float[2, 4, 3, 6] y) {{ [attend] y = ai.onnx.preview.FlexAttention <{graph}> (q, k, v) }}"


def broken(*mentions: str) -> Callable:
    return invalid("attend", *mentions, opset=24, imports=DOMAIN)


@broken("score_mod")
def flex_attention_graph_takes_too_much():
    """The graph of the scores takes a second value."""
    return attention_with("score_mod = g (float[b, h, n, m] s, float[b, h, n, m] r) => (float[b, h, n, m] t) { t = Add(s, r) }")


@broken("prob_mod", "f16")
def flex_attention_graph_changes_type():
    """The graph of the weights gives another element type."""
    return attention_with("prob_mod = g (float[b, h, n, m] p) => (float16[b, h, n, m] u) { u = Cast <to = 10> (p) }")


@broken("score_mod", "5 against 1")
def flex_attention_graph_changes_shape():
    """The graph of the scores gives one number for each query."""
    return attention_with("score_mod = g (float[b, h, n, m] s) => (float[b, h, n, 1] t) { last = Constant <value_ints = [3]> () t = ReduceSum(s, last) }")


@broken("nowhere")
def flex_attention_graph_reads_undefined():
    """The graph of the scores reads what nothing gives."""
    return attention_with("score_mod = g (float[b, h, n, m] s) => (float[b, h, n, m] t) { t = Add(s, nowhere) }")


@broken("heads")
def flex_attention_heads():
    """Three heads of keys for four of queries."""
    return "(float[2, 4, 3, 8] q, float[2, 3, 5, 8] k, float[2, 3, 5, 6] v) => (float[2, 4, 3, 6] y) { [attend] y = ai.onnx.preview.FlexAttention(q, k, v) }"
