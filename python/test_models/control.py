"""Valid models whose sizes are computed and whose nodes hold graphs: what a run decides, not the types."""

from __future__ import annotations

import numpy as np

from .case import valid


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def truth(value: bool) -> np.ndarray:
    return np.array(value, np.bool_)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def control(*sets: dict[str, object], **others: object):
    """A valid case whose outputs come from onnxruntime: the reference evaluator is not run in f64 through bodies."""
    return valid(sets=sets, oracle="onnxruntime", **others)


def squeezes(end: str) -> str:
    """Two dozen squeezes, each an If whose sides differ in rank, into a product; then `end`, which reads `p0`."""
    constants = "int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}, float[2, 2] w"
    nodes = [
        f"""s{i} = Shape(v{i})
        r{i} = Gather <axis = 0> (s{i}, zero)
        q{i} = Equal(r{i}, one)
        w{i} = If (q{i}) <then_branch = yes () => (float[a, b] t{i}) {{ t{i} = Squeeze(v{i}, axis) }},
                          else_branch = no () => (float[a, b, 2] e{i}) {{ e{i} = Identity(v{i}) }}>
        p{i} = Gemm(w{i}, w)"""
        for i in range(24)
    ]
    inputs = ", ".join(f"float[n{i}, m, 2] v{i}" for i in range(24))
    return f"({inputs}) => (float[m, 2] y) <{constants}> {{ {chr(10).join(nodes)} {end} }}"


# Loops


@control(
    {"m": number(5), "limit": np.array(1e9, np.float32)},
    {"m": number(100), "limit": np.array(20, np.float32)},
    {"m": number(0), "limit": np.array(1, np.float32)},
    {"m": number(-3), "limit": np.array(1, np.float32)},
)
def loop_count_and_condition():
    """As often as an input says and as long as the sum stays below another; each value also goes into a stack."""
    return """(int64 m, float limit, float[3] x) => (float[3] y, float[k, 3] seen, float[k] marks)
    <bool yes = {1}, float one = {1}, float zero = {0}, int64[1] first = {0}, bool never = {0}>
    { start = Mul(x, zero)
      y, seen, marks = Loop <body = grow (int64 i, bool c, float[3] a) => (bool go, float[3] next, float[3] element, float mark) {
        square = Mul(x, x)
        more = Add(square, one)
        next = Add(a, more)
        sum = ReduceSum <keepdims = 0> (next, first)
        go = Less(sum, limit)
        element = Identity(next)
        number = Cast <to = 1> (i)
        mark = Add(number, sum) }> (m, yes, start) }"""


@control({"m": number(0)}, {"m": number(1)}, {"m": number(4)})
def loop_swap():
    """Two carried values change places; the number of the iteration and a weight from outside are read; one goes out as it came."""
    return """(int64 m, float[2] p, float[2] q) => (float[2] a, float[2] b, float[2] same, float[k, 2] before)
    <float[2, 2] w>
    { a, b, same, before = Loop <body = swap (int64 i, bool c, float[2] u, float[2] v, float[2] s) =>
        (bool go, float[2] v2, float[2] u2, float[2] s2, float[2] was) {
        go = Identity(c)
        number = Cast <to = 1> (i)
        turned = MatMul(v, w)
        v2 = Add(turned, number)
        u2 = Identity(u)
        s2 = Identity(s)
        was = Identity(u) }> (m, , p, q, q) }"""


@control({"m": number(0)}, {"m": number(1)}, {"m": number(2)}, {"m": number(7)})
def loop_three_in_a_ring():
    """Three carried values are only passed on, each to the next."""
    return """(int64 m, float[2] x) => (float[2] a, float[2] b, float[2] c)
    { p = Neg(x)
      q = Abs(x)
      a, b, c = Loop <body = ring (int64 i, bool on, float[2] u, float[2] v, float[2] w) =>
        (bool go, float[2] w2, float[2] u2, float[2] v2) {
        go = Identity(on)
        w2 = Identity(w)
        u2 = Identity(u)
        v2 = Identity(v) }> (m, , x, p, q) }"""


@control(
    {"flags": np.array([1, 1, 0], np.bool_)},
    {"flags": np.array([1, 0, 1], np.bool_)},
    {"flags": np.array([1, 1, 1], np.bool_)},
    {"flags": np.array([0, 0, 0], np.bool_)},
)
def loop_condition_is_carried():
    """The condition of the next iteration is what another carried value was, which is replaced in the same iteration."""
    return """(bool[3] flags) => (int64 count, bool first, bool second)
    <int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 most = {9}, bool no = {0}>
    { f0 = Gather(flags, zero)
      f1 = Gather(flags, one)
      f2 = Gather(flags, two)
      count, first, second = Loop <body = shift (int64 i, bool c, int64 n, bool a, bool b) =>
        (bool go, int64 n2, bool a2, bool b2) {
        go = Identity(a)
        n2 = Add(n, one)
        a2 = Identity(b)
        b2 = And(a, no) }> (most, f0, zero, f1, f2) }"""


@control({"k": 1, "n": 3, "m": number(3)}, {"k": 2, "n": 2, "m": number(0)}, {"k": 0, "n": 1, "m": number(6)})
def loop_grows():
    """A carried value that is longer after each iteration, read after the loop and inside of it."""
    return """(int64 m, float[k] a, float[n] x) => (float[rows] y, float total, float[i] sums)
    <int64[1] first = {0}>
    { grown, sums = Loop <body = append (int64 i, bool c, float[s] v) => (bool go, float[t] v2, float sum) {
        go = Identity(c)
        twice = Add(x, x)
        v2 = Concat <axis = 0> (v, twice)
        sum = ReduceSum <keepdims = 0> (v, first) }> (m, , a)
      y = Neg(grown)
      total = ReduceSum <keepdims = 0> (grown, first) }"""


@control({"n": 5, "m": number(2)}, {"n": 5, "m": number(5)}, {"n": 9, "m": number(3)}, {"n": 1, "m": number(0)})
def loop_shrinks():
    """The first element goes in each iteration; a second value keeps its size but is added to a size that changes."""
    return """(int64 m, float[n] x) => (float[rest] y, float[1] head)
    <int64[1] zero = {0}, int64[1] one = {1}, int64[1] end = {1000}>
    { h = Slice(x, zero, one)
      y, head = Loop <body = pop (int64 i, bool c, float[s] v, float[1] u) => (bool go, float[t] v2, float[1] u2) {
        go = Identity(c)
        v2 = Slice(v, one, end)
        f = Slice(v, zero, one)
        u2 = Add(u, f) }> (m, , x, h) }"""


@control({"m": number(3), "k": number(2)}, {"m": number(0), "k": number(5)}, {"m": number(2), "k": number(0)}, {"m": number(4), "k": number(4)})
def loop_nested():
    """A loop in a loop: the inner count depends on the outer iteration, both read values from outside, both carry."""
    return """(int64 m, int64 k, float[2] x) => (float[2] y, float[outer] sums)
    <float one = {1}, int64[1] first = {0}>
    { start = Sub(x, x)
      y, sums = Loop <body = rows (int64 i, bool c, float[2] a) => (bool go, float[2] a2, float sum) {
        go = Identity(c)
        inner = Add(k, i)
        a1 = Loop <body = columns (int64 j, bool d, float[2] b) => (bool on, float[2] b2) {
          on = Identity(d)
          place = Add(i, j)
          f = Cast <to = 1> (place)
          scaled = Mul(x, f)
          b2 = Add(b, scaled) }> (inner, , a)
        a2 = Add(a1, one)
        sum = ReduceSum <keepdims = 0> (a1, first) }> (m, , start) }"""


# Branches


@control({"c": truth(True), "n": 3}, {"c": truth(False), "n": 3}, {"c": truth(True), "n": 0}, {"c": truth(False), "n": 1})
def if_equal_shapes():
    """Both sides give the same sizes; one gives what it captures as it is."""
    return """(bool c, float[n] x) => (float[n] y, float[n] z)
    <float two = {2}>
    { a, b = If (c) <then_branch = yes () => (float[n] t, float[n] u) { t = Mul(x, two) u = Identity(x) },
                     else_branch = no () => (float[n] e, float[n] f) { e = Neg(x) f = Exp(e) }>
      y = Add(a, b)
      z = Identity(b) }"""


@control({"c": truth(True), "n": 3}, {"c": truth(False), "n": 3}, {"c": truth(False), "n": 1}, {"c": truth(True), "n": 0})
def if_different_shapes():
    """The sides give different sizes, which what follows computes with."""
    return """(bool c, float[n, 2] x) => (float[rows, 2] y, int64[2] shape)
    <int64[1] zero = {0}, int64[1] one = {1}, float half = {0.5}>
    { part = If (c) <then_branch = yes () => (float[p, 2] t) { t = Concat <axis = 0> (x, x, x) },
                     else_branch = no () => (float[q, 2] e) { s = Mul(x, half) e = Slice(s, zero, one, zero) }>
      y = Neg(part)
      shape = Shape(part) }"""


@control(*({"a": truth(a), "b": truth(b), "n": 2} for a in (True, False) for b in (True, False)))
def if_nested():
    """A branch in a branch; the inner sides differ in size."""
    return """(bool a, bool b, float[n] x) => (float[k] y)
    { z = If (a) <then_branch = yes () => (float[p] t) {
          t = If (b) <then_branch = both () => (float[q] t1) { t1 = Concat <axis = 0> (x, x) },
                      else_branch = one () => (float[r] t2) { t2 = Neg(x) }> },
        else_branch = no () => (float[s] e) { n1 = Neg(x) e = Concat <axis = 0> (n1, x, x) }>
      y = Add(z, z) }"""


@control({"m": number(5), "n": 2}, {"m": number(0), "n": 2}, {"m": number(2), "n": 3})
def if_in_loop():
    """Even iterations add, odd ones make it longer."""
    return """(int64 m, float[n] x) => (float[k] y)
    <int64 two = {2}, int64 none = {0}, float one = {1}>
    { y = Loop <body = step (int64 i, bool c, float[s] v) => (bool go, float[t] v2) {
        go = Identity(c)
        rest = Mod(i, two)
        even = Equal(rest, none)
        v2 = If (even) <then_branch = add () => (float[p] a) { a = Add(v, one) },
                        else_branch = append () => (float[q] b) { b = Concat <axis = 0> (v, x) }> }> (m, , x) }"""


@control({"c": truth(True), "m": number(3)}, {"c": truth(False), "m": number(3)}, {"c": truth(True), "m": number(0)})
def loop_in_if():
    """A loop on one side, whose stack has as many rows as it ran; nothing of it on the other."""
    return """(bool c, int64 m, float[2] x) => (float[2] y, float[k, 2] rows)
    <int64[1] zero = {0}>
    { y, rows = If (c) <then_branch = yes () => (float[2] t, float[p, 2] ts) {
          t, ts = Loop <body = twofold (int64 i, bool d, float[2] v) => (bool go, float[2] v2, float[2] e) {
            go = Identity(d)
            v2 = Add(v, v)
            e = Add(v2, x) }> (m, , x) },
        else_branch = no () => (float[2] f, float[q, 2] fs) { f = Neg(x) fs = Unsqueeze(x, zero) }> }"""


@control({"n": 1, "m": 3}, {"n": 1, "m": 5})
def squeeze_or_not():
    """What torch writes for `squeeze(0)`: an If on a size whose sides differ in rank, and only one of them fits Gemm."""
    return """(float[n, m, 2] x) => (float[m, 2] y)
    <int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}, float[2, 2] w>
    { shape = Shape(x)
      rows = Gather <axis = 0> (shape, zero)
      single = Equal(rows, one)
      z = If (single) <then_branch = yes () => (float[a, b] t) { t = Squeeze(x, axis) },
                       else_branch = no () => (float[a, b, 2] e) { e = Identity(x) }>
      y = Gemm(z, w) }"""


@control({"c": truth(True), "m": 3})
def if_one_side_fits():
    """A condition that is an input, and sides that differ in rank: only the one that is taken here fits what follows."""
    return """(bool c, float[1, m, 2] x) => (float[m, 2] y)
    <int64[1] axis = {0}, float[2, 2] w>
    { z = If (c) <then_branch = yes () => (float[a, b] t) { t = Squeeze(x, axis) },
                  else_branch = no () => (float[a, b, 2] e) { e = Identity(x) }>
      y = Gemm(z, w) }"""


@control({"m": 3, **{f"n{i}": 1 for i in range(24)}})
def squeeze_or_not_often():
    """The same two dozen times: each wrong side is given up at once, or reading would take years."""
    return squeezes("y = Neg(p0)")


# Scans


@control({"t": 5}, {"t": 1})
def scan_forward():
    """A running sum, and one number for each step."""
    return """(float[2] s, float[t, 2] x) => (float[2] last, float[t, 2] sums, float[t] marks)
    <int64[1] first = {0}>
    { last, sums, marks = Scan <num_scan_inputs = 1, body = step (float[2] a, float[2] e) => (float[2] a2, float[2] o, float mark) {
        a2 = Add(a, e)
        o = Identity(a2)
        mark = ReduceSum <keepdims = 0> (e, first) }> (s, x) }"""


@control({"t": 4}, {"t": 1})
def scan_other_axes():
    """Two inputs, one backwards along its second axis; one result backwards, one along its last axis."""
    return """(float[2] s, float[2, t] x, float[t, 2] z) => (float[2] last, float[t, 2] a, float[2, t] b)
    { last, a, b = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [1, 0],
          scan_output_axes = [0, -1], scan_output_directions = [1, 0],
          body = step (float[2] u, float[2] e, float[2] f) => (float[2] u2, float[2] o, float[2] p) {
        product = Mul(e, f)
        u2 = Add(u, product)
        o = Sub(u2, e)
        p = Neg(e) }> (s, x, z) }"""


@valid(sets=[{"n": 3, "t": 4}, {"n": 1, "t": 2}], opset=8, ir=4, oracle="onnxruntime")
def scan_opset_8():
    """In opset 8 everything has a batch axis in front, which the body does not see; one input is scanned backwards, and the
    body reads a value from outside that has no batch."""
    return """(float[n, 2] s, float[n, t, 2] x, float[n, t, 2] z, float[2] w) => (float[n, 2] last, float[n, t, 2] sums)
    { last, sums = Scan <num_scan_inputs = 2, directions = [0, 1],
          body = step (float[2] u, float[2] e, float[2] f) => (float[2] u2, float[2] o) {
        product = Mul(e, f)
        u2 = Add(u, product)
        o = Mul(u2, w) }> ("", s, x, z) }"""


# Sizes from values


@control(
    {"x": floats(1, 0, -2, 0, 3), "n": 5},
    {"x": floats(0, 0, 0), "n": 3},
    {"x": floats(4), "n": 1},
    {"x": floats(), "n": 0},
)
def nonzero_and_back():
    """NonZero, Gather, a computation, ScatterND back: the way of tokens to an expert. Two outputs have one unknown size."""
    return """(float[n] x) => (float[n] y, int64[k] at, float[k] values)
    <int64[1] zero = {0}, int64[1] column = {1}, float ten = {10}>
    { where = NonZero(x)
      at = Squeeze(where, zero)
      picked = Gather <axis = 0> (x, at)
      values = Mul(picked, ten)
      indices = Transpose <perm = [1, 0]> (where)
      y = ScatterND(x, indices, values) }"""


@control({"x": ints(3, 1, 3, 3, 2), "n": 5}, {"x": ints(7), "n": 1}, {"x": ints(2, 2, 2), "n": 3})
def unique_values():
    """Unique with all results, of which two have the unknown size and one that of the input."""
    return """(int64[n] x) => (int64[k] values, int64[k] first, int64[n] back, int64[k] counts, int64[n] same)
    { values, first, back, counts = Unique <sorted = 1> (x)
      same = Gather <axis = 0> (values, back) }"""


@control(
    {"n": 4, "keep": np.array([1, 0, 1, 1], np.bool_)},
    {"n": 4, "keep": np.array([0, 0, 0, 0], np.bool_)},
    {"n": 2, "keep": np.array([0, 1], np.bool_)},
)
def compress_rows():
    """Rows that a mask keeps, none of them too; a product, a mean over columns and a sum over rows follow."""
    return """(float[n, 3] x, bool[n] keep) => (float[k, 3] rows, float[3] sums, float[k, k] products)
    <int64[1] zero = {0}>
    { rows = Compress <axis = 0> (x, keep)
      sums = ReduceSum <keepdims = 0> (rows, zero)
      columns = Transpose <perm = [1, 0]> (rows)
      products = MatMul(rows, columns) }"""


@control(
    {"n": 4, "s": ints(1, -3), "e": ints(3, 100)},
    {"n": 2, "s": ints(0, 2), "e": ints(-1, 2)},
    {"n": 3, "s": ints(-100, 4), "e": ints(2, -1)},
    {"n": 5, "s": ints(3, 0), "e": ints(1, 5)},
)
def run_time_slice():
    """Bounds as inputs: negative, out of range, in the wrong order, empty."""
    return """(float[n, 5] x, int64[2] s, int64[2] e) => (float[p, q] y)
    <int64[2] axes = {0, 1}> { y = Slice(x, s, e, axes) }"""


@control(
    {"n": 4, "s": ints(-1), "e": ints(-100)},
    {"n": 5, "s": ints(3), "e": ints(0)},
    {"n": 3, "s": ints(100), "e": ints(-3)},
    {"n": 2, "s": ints(0), "e": ints(1)},
)
def run_time_slice_backwards():
    """The same with a step of -2."""
    return """(float[n, 3] x, int64[1] s, int64[1] e) => (float[k, 3] y)
    <int64[1] axes = {0}, int64[1] steps = {-2}> { y = Slice(x, s, e, axes, steps) }"""


@control(
    {"n": 4, "s": ints(1), "e": ints(3), "ax": ints(0)},
    {"n": 4, "s": ints(-1), "e": ints(100), "ax": ints(-1)},
    {"n": 1, "s": ints(0), "e": ints(-1), "ax": ints(0)},
)
def run_time_slice_axis():
    """The axis is an input, too."""
    return """(float[n, 5] x, int64[1] s, int64[1] e, int64[1] ax) => (float[p, q] y)
    { y = Slice(x, s, e, ax) }"""


@control({"n": 4, "s": ints(2, -1, 3)}, {"n": 2, "s": ints(0, 3, 2)}, {"n": 2, "s": ints(12, 1, 1)}, {"n": 0, "s": ints(0, 3, 2)})
def run_time_reshape():
    """A shape as an input, with 0 and -1."""
    return """(float[n, 6] x, int64[3] s) => (float[a, b, c] y, float[a] sums)
    <int64[2] axes = {1, 2}>
    { y = Reshape(x, s)
      sums = ReduceSum <keepdims = 0> (y, axes) }"""


@control(
    {"n": 4, "m": 2, "k": 2, "ax": ints(0, 2)},
    {"n": 2, "m": 5, "k": 2, "ax": ints(-2, 0)},
    {"n": 1, "m": 2, "k": 2, "ax": ints(1, 2)},
)
def run_time_axes():
    """Axes to reduce as inputs, kept and dropped."""
    return """(float[n, 3, m] x, int64[2] ax) => (float[a, b, c] sum, float[d] most, float[a, b, c] norm)
    { sum = ReduceSum <keepdims = 1> (x, ax)
      most = ReduceMax <keepdims = 0> (x, ax)
      norm = ReduceL2 <keepdims = 1> (x, ax) }"""


@control({"n": 4, "k": 1, "ax": ints(0)}, {"n": 4, "k": 2, "ax": ints(1, 0)}, {"n": 4, "k": 0, "ax": ints()})
def run_time_axes_any():
    """Any number of axes; none at all means all."""
    return """(float[n, 3] x, int64[k] ax) => (float[a, b] y) { y = ReduceSum <keepdims = 1> (x, ax) }"""


@control(
    {"n": 3, "r": ints(1, 2), "p": ints(1, 0, 2, 3), "s": ints(2, 3), "c": ints(1, 2)},
    {"n": 3, "r": ints(3, 4), "p": ints(0, 0, 0, 0), "s": ints(4, 3), "c": ints(3, 0)},
    {"n": 3, "r": ints(0, 1), "p": ints(0, 1, 0, 0), "s": ints(0, 3), "c": ints(0, 3)},
)
def run_time_counts():
    """Tile, Pad, Expand, ConstantOfShape and Split by inputs."""
    return """(float[2, n] x, float[1, n] row, int64[2] r, int64[4] p, int64[2] s, int64[2] c) =>
      (float[a, b] tiled, float[d, e] padded, float[f, g] wide, float[h, i] filled, float[2] left, float[2, j] right)
    <int64[1] one = {1}>
    { tiled = Tile(x, r)
      padded = Pad(x, p)
      wide = Expand(row, s)
      filled = ConstantOfShape <value = float[1] {2.5}> (s)
      l, right = Split <axis = 1> (x, c)
      left = ReduceSum <keepdims = 0> (l, one) }"""


@control(
    {"a": number(1), "b": number(10), "d": number(4), "n": 5, "k": ints(2)},
    {"a": number(10), "b": number(-5), "d": number(-3), "n": 3, "k": ints(3)},
    {"a": number(3), "b": number(3), "d": number(1), "n": 2, "k": ints(0)},
    {"a": number(3), "b": number(-3), "d": number(1), "n": 4, "k": ints(1)},
)
def run_time_range_and_topk():
    """A range between inputs, also an empty one, and the k largest for k an input."""
    return """(int64 a, int64 b, int64 d, float[2, n] x, int64[1] k) => (int64[r] y, float[2, t] best, int64[2, t] at)
    { y = Range(a, b, d)
      best, at = TopK <axis = 1> (x, k) }"""


@control({"b": 2, "t": 3}, {"b": 1, "t": 8}, {"b": 1, "t": 0})
def positions_cropped():
    """A table of positions cut to the length of the input: right up to the table's length."""
    return """(float[b, t, 2] x) => (float[b, t, 2] y)
    <int64[1] zero = {0}, float[8, 2] pos>
    { length = Shape <start = 1, end = 2> (x)
      p = Slice(pos, zero, length, zero)
      y = Add(x, p) }"""


# Recurrent layers


def recurrent(op: str, gates: int, states: int, **attributes: str) -> str:
    """The same layer in three directions, with a bias and states to begin with."""
    inputs, outputs, constants, nodes = ["float[t, b, 3] x"], [], [], []
    for direction, d in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        given = [f"{name}_{direction}" for name in ("h", "c")[:states]]
        made = [f"{name}_{direction}" for name in ("y", "yh", "yc")[: states + 1]]
        parts = [f"{name}_{direction}" for name in ("w", "r", "bias")]
        shapes = (f"{d}, {4 * gates}, 3", f"{d}, {4 * gates}, 4", f"{d}, {8 * gates}")
        inputs += [f"float[{d}, b, 4] {name}" for name in given]
        outputs += [f"float[t, {d}, b, 4] {made[0]}"] + [f"float[{d}, b, 4] {name}" for name in made[1:]]
        constants += [f"float[{shape}] {name}" for shape, name in zip(shapes, parts)]
        more = attributes.get(direction, "")
        operands = ", ".join([*["x", *parts], "", *given])
        nodes.append(f'{", ".join(made)} = {op} <hidden_size = 4, direction = "{direction}"{more}> ({operands})')
    return f"({', '.join(inputs)}) => ({', '.join(outputs)})\n<{', '.join(constants)}>\n{{ {chr(10).join(nodes)} }}"


@control({"t": 5, "b": 2}, {"t": 1, "b": 3})
def lstm():
    """LSTM forward, reverse and in both directions."""
    return recurrent("LSTM", 4, 2)


@control({"t": 5, "b": 2}, {"t": 1, "b": 3})
def gru():
    """GRU forward, reverse and in both directions; the first resets after the product."""
    return recurrent("GRU", 3, 1, forward=", linear_before_reset = 1")


@control({"t": 5, "b": 2}, {"t": 1, "b": 3})
def rnn():
    """RNN forward, reverse and in both directions."""
    return recurrent("RNN", 1, 1)


# Sequences


@control({"n": 3})
def sequences():
    """Split, made, inserted into, taken from and joined: all of it is known when the model is read."""
    return """(float[n, 6] x, float[n, 2] z) => (float[n, 10] joined, float[n, 2] last, float[2, n, 2] stacked, int64 count)
    <int64 two = {2}, int64 zero = {0}, int64 minus = {-1}>
    { parts = SplitToSequence <axis = 1> (x, two)
      first = SequenceAt(parts, zero)
      more = SequenceInsert(parts, z, zero)
      all = SequenceInsert(more, first)
      joined = ConcatFromSequence <axis = 1> (all)
      last = SequenceAt(parts, minus)
      pair = SequenceConstruct(z, first)
      stacked = ConcatFromSequence <axis = 0, new_axis = 1> (pair)
      count = SequenceLength(pair) }"""
