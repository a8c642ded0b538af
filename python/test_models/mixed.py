"""Valid models that mix bodies with sizes from values: what one alone does not show."""

from __future__ import annotations

import numpy as np

from .control import control, floats, ints, number, truth


@control({"m": number(3), "n": 2}, {"m": number(0), "n": 2}, {"m": number(4), "n": 1}, {"m": number(2), "n": 0})
def mixed_growth_begins_again():
    """In each outer iteration an inner loop grows a value from its first size; the outer one grows by what it gives."""
    return """(int64 m, float[n] x) => (float[k] y, float[t] sums)
    <int64[1] first = {0}>
    { y, sums = Loop <body = outer (int64 i, bool c, float[s] v) => (bool go, float[u] v2, float sum) {
        go = Identity(c)
        grown = Loop <body = inner (int64 j, bool d, float[p] w) => (bool on, float[q] w2) {
          on = Identity(d)
          w2 = Concat <axis = 0> (w, x) }> (i, , x)
        sum = ReduceSum <keepdims = 0> (grown, first)
        v2 = Concat <axis = 0> (v, grown) }> (m, , x) }"""


@control(
    {"m": number(3), "x": floats(1, -2, 3, -4, 5, 0.5), "n": 6},
    {"m": number(2), "x": floats(-1, -2), "n": 2},
    {"m": number(0), "x": floats(1, 2), "n": 2},
)
def mixed_filter_in_loop():
    """What is positive is kept and made smaller, again and again: the size falls as values say."""
    return """(int64 m, float[n] x) => (float[k] y, int64[t] counts)
    <float one = {1}, float zero = {0}, int64[1] first = {0}, int64 single = {0}>
    { y, counts = Loop <body = keep (int64 i, bool c, float[s] v) => (bool go, float[u] v2, int64 count) {
        go = Identity(c)
        mask = Greater(v, zero)
        where = NonZero(mask)
        at = Squeeze(where, first)
        kept = Gather(v, at)
        v2 = Sub(kept, one)
        shape = Shape(v2)
        count = Gather(shape, single) }> (m, , x) }"""


@control({"m": number(3), "n": 4}, {"m": number(1), "n": 1})
def mixed_products_and_sorts_in_loop():
    """A product with a weight, a softmax, a sort and a running sum in a body, with rows of a size from outside."""
    return """(int64 m, float[n, 4] x) => (float[n, 4] y, float[t, n, 2] best, int64[t, n, 2] at)
    <float[4, 4] w, float[4] b, int64[1] two = {2}, int64 axis = {1}>
    { y, best, at = Loop <body = layer (int64 i, bool c, float[n, 4] v) =>
        (bool go, float[n, 4] v2, float[n, 2] top, int64[n, 2] index) {
        go = Identity(c)
        product = MatMul(v, w)
        moved = Add(product, b)
        p = Softmax <axis = 1> (moved)
        top, index = TopK <axis = 1> (p, two)
        sums = CumSum(p, axis)
        v2 = Add(v, sums) }> (m, , x) }"""


@control({"m": number(4), "n": 3}, {"m": number(0), "n": 3}, {"m": number(2), "n": 1})
def mixed_products_of_what_grows():
    """A matrix that gets rows in each iteration is multiplied with itself and with a weight."""
    return """(int64 m, float[n, 3] x) => (float[k, 3] y, float[k, k] gram)
    <float[3, 3] w>
    { y = Loop <body = step (int64 i, bool c, float[s, 3] v) => (bool go, float[u, 3] v2) {
        go = Identity(c)
        turned = MatMul(v, w)
        flat = Tanh(turned)
        v2 = Concat <axis = 0> (flat, x) }> (m, , x)
      t = Transpose <perm = [1, 0]> (y)
      gram = MatMul(y, t) }"""


@control(
    {"m": ints(3), "c": np.array([True]), "n": 2},
    {"m": ints(2), "c": np.array([False]), "n": 2},
)
def mixed_vectors_of_one():
    """A count, a condition and a branch's condition that are vectors of one element."""
    return """(int64[1] m, bool[1] c, float[n] x) => (float[n] y, float[n] z)
    { y = Loop <body = twice (int64 i, bool[1] d, float[n] v) => (bool[1] go, float[n] v2) {
        go = Identity(d)
        v2 = Add(v, v) }> (m, c, x)
      z = If (c) <then_branch = yes () => (float[n] t) { t = Neg(x) }, else_branch = no () => (float[n] e) { e = Abs(x) }> }"""


@control({"m": number(2), "n": 3}, {"m": number(0), "n": 1})
def mixed_equal_bodies():
    """Two loops of one body, one of another start, one whose results nothing reads, and a result that is read twice."""
    nodes = []
    for name, start in (("a", "x"), ("b", "x"), ("c", "z"), ("unused", "z")):
        nodes.append(
            f"""{name} = Loop <body = same_{name} (int64 i, bool d, float[n] v) => (bool go, float[n] v2) {{
        go = Identity(d)
        f = Cast <to = 1> (i)
        s = Add(v, f)
        v2 = Mul(s, s) }}> (m, , {start})"""
        )
    return f"""(int64 m, float[n] x) => (float[n] y)
    {{ z = Neg(x) {" ".join(nodes)} ab = Add(a, b) y = Sub(ab, c) }}"""


@control({"m": number(3), "lo": number(2)}, {"m": number(0), "lo": number(5)}, {"m": number(2), "lo": number(0)})
def mixed_ranges_in_loop():
    """A range, a slice and a count inside of a body whose bounds come from the iteration and from an input."""
    return """(int64 m, int64 lo, float[8] x) => (int64 total, float[8] y)
    <int64 one = {1}, int64[1] first = {0}, int64 none = {0}, int64[1] shape = {1}>
    { total, y = Loop <body = step (int64 i, bool c, int64 s, float[8] v) => (bool go, int64 s2, float[8] v2) {
        go = Identity(c)
        end = Add(lo, i)
        numbers = Range(i, end, one)
        sum = ReduceSum <keepdims = 0> (numbers, first)
        s2 = Add(s, sum)
        i1 = Reshape(i, shape)
        e1 = Reshape(end, shape)
        part = Slice(v, i1, e1)
        most = ReduceSum <keepdims = 0> (part, first)
        v2 = Add(v, most) }> (m, , none, x) }"""


@control({"t": 4, "b": 2}, {"t": 1, "b": 1})
def mixed_scan_of_scan():
    """A scan in a scan: rows, and elements of each row, with a branch at the bottom."""
    return """(float[b] s, float[t, 5, b] x) => (float[b] last, float[t, 5, b] all)
    <float zero = {0}, int64[1] first = {0}>
    { last, all = Scan <num_scan_inputs = 1, body = rows (float[b] a, float[5, b] row) => (float[b] a2, float[5, b] o) {
        a2, o = Scan <num_scan_inputs = 1, body = elements (float[b] u, float[b] e) => (float[b] u2, float[b] p) {
          sum = ReduceSum <keepdims = 0> (e, first)
          up = Greater(sum, zero)
          u2 = If (up) <then_branch = add () => (float[b] r) { r = Add(u, e) }, else_branch = less () => (float[b] q) { q = Sub(u, e) }>
          p = Identity(u2) }> (a, row) }> (s, x) }"""


@control({"t": 3, "b": 2, "m": number(2)}, {"t": 1, "b": 1, "m": number(0)})
def mixed_recurrent_in_loop():
    """An LSTM and a GRU in the body of a loop: their states are carried."""
    return """(int64 m, float[t, b, 4] x, float[1, b, 4] h0, float[1, b, 4] c0) => (float[t, b, 4] y, float[1, b, 4] h, float[1, b, 4] c)
    <float[1, 16, 4] w, float[1, 16, 4] r, float[1, 12, 4] gw, float[1, 12, 4] gr, int64[1] one = {1}>
    { y, h, c = Loop <body = layer (int64 i, bool d, float[t, b, 4] v, float[1, b, 4] u, float[1, b, 4] s) =>
        (bool go, float[t, b, 4] v2, float[1, b, 4] u2, float[1, b, 4] s2) {
        go = Identity(d)
        ys, u1, s2 = LSTM <hidden_size = 4> (v, w, r, , , u, s)
        flat = Squeeze(ys, one)
        gs, u2 = GRU <hidden_size = 4> (flat, gw, gr, , , u1)
        v2 = Squeeze(gs, one) }> (m, , x, h0, c0) }"""


@control(
    *({"c": truth(c), "x": floats(*x), "n": len(x)} for c in (True, False) for x in ((1, 0, 2), (0, 0), ())),
)
def mixed_counts_in_branches():
    """Each side has a size of its own that values decide; both become one, and a product over it follows."""
    return """(bool c, float[n] x) => (float[k] y, float total, int64[1] size)
    <int64[1] first = {0}, int64[1] column = {1}>
    { y = If (c) <then_branch = yes () => (float[p] t) {
          where = NonZero(x)
          at = Squeeze(where, first)
          t = Gather(x, at) },
        else_branch = no () => (float[q] e) {
          values = Unique <sorted = 1> (x)
          e = Concat <axis = 0> (values, values) }>
      square = Mul(y, y)
      total = ReduceSum <keepdims = 0> (square, first)
      size = Shape(y) }"""


@control({"m": number(3)}, {"m": number(1)}, {"m": number(0)})
def mixed_element_types():
    """What is carried and stacked has all sorts of element types, and no axes."""
    return """(int64 m, float16 h, double d, int32 i, uint8 u, bool b) =>
      (float16 h2, double d2, int32 i2, uint8 u2, bool b2, float16[t] hs, int32[t] is, uint8[t] us, bool[t] bs)
    { h2, d2, i2, u2, b2, hs, is, us, bs = Loop <body = all (int64 k, bool c, float16 h0, double d0, int32 i0, uint8 u0, bool b0) =>
        (bool go, float16 h1, double d1, int32 i1, uint8 u1, bool b1, float16 hh, int32 ii, uint8 uu, bool bb) {
        go = Identity(c)
        h1 = Add(h0, h0)
        d1 = Mul(d0, d0)
        i1 = Sub(i0, i)
        u1 = Add(u0, u0)
        b1 = Not(b0)
        hh = Neg(h1)
        ii = Identity(i0)
        uu = Identity(u1)
        bb = Identity(b0) }> (m, , h, d, i, u, b) }"""


@control({"m": number(3), "n": 2}, {"m": number(1), "n": 1})
def mixed_stack_goes_on():
    """A stack of unknown length is scanned, reduced and joined; its length is a size like others."""
    return """(int64 m, float[n] x) => (float[2] last, float[n] mean, float[r] all, int64[2] shape)
    <int64[1] zero = {0}, int64[1] minus = {-1}, float[2] start = {0, 0}, float[1, 2] ones = {1, 1}>
    { y, rows = Loop <body = step (int64 i, bool c, float[n] v) => (bool go, float[n] v2, float[n] e) {
        go = Identity(c)
        v2 = Add(v, x)
        e = Mul(v2, v2) }> (m, , x)
      mean = ReduceSum <keepdims = 0> (rows, zero)
      all = Reshape(rows, minus)
      shape = Shape(rows)
      last = Scan <num_scan_inputs = 1, body = fold (float[2] a, float[n] row) => (float[2] b) {
        s = ReduceSum <keepdims = 0> (row, zero)
        b = Add(a, s) }> (start, rows) }"""
