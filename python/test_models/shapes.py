"""Valid models about sizes: shape arithmetic, symbolic dimensions, expressions as dimensions."""

from __future__ import annotations

import numpy as np

from .case import valid

BATCH_SEQUENCE = [{"batch": 1, "sequence": 3}, {"batch": 2, "sequence": 5}]


@valid(sets=BATCH_SEQUENCE)
def shape_split_heads():
    """Shape -> Gather -> Unsqueeze -> Concat -> Reshape, as exporters write the split into heads and back."""
    return """(float[batch, sequence, 8] x) => (float[batch, sequence, 8] y, float[batch, 2, sequence, 4] heads)
    <int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}, int64[1] two = {2}, int64[1] four = {4}, int64[1] eight = {8}>
    { shape = Shape(x)
      b = Gather <axis = 0> (shape, zero)
      s = Gather <axis = 0> (shape, one)
      b1 = Unsqueeze(b, axis)
      s1 = Unsqueeze(s, axis)
      split = Concat <axis = 0> (b1, s1, two, four)
      merged = Concat <axis = 0> (b1, s1, eight)
      h = Reshape(x, split)
      heads = Transpose <perm = [0, 2, 1, 3]> (h)
      doubled = Add(heads, heads)
      back = Transpose <perm = [0, 2, 1, 3]> (doubled)
      y = Reshape(back, merged) }"""


@valid(sets=BATCH_SEQUENCE)
def shape_start_end():
    """Shape with `start` and `end`, counted from both sides."""
    return """(float[batch, sequence, 2, 4] x) => (float["batch*sequence", 8] y, int64[2] inner, int64[1] last)
    <int64[1] minus_one = {-1}, int64[1] eight = {8}>
    { inner = Shape <start = 1, end = -1> (x)
      last = Shape <start = -1> (x)
      lead = Shape <start = 0, end = 2> (x)
      rows = ReduceProd <keepdims = 1> (lead)
      target = Concat <axis = 0> (rows, eight)
      y = Reshape(x, target) }"""


@valid(sets=[{"batch": 1, "sequence": 4}, {"batch": 3, "sequence": 6}])
def shape_arithmetic():
    """Slice, Div, Mul, Add, Sub, Squeeze and Cast on sizes: pairs of rows are folded into the columns."""
    return """(float[batch, sequence, 4] x) => (float[batch, "sequence//2", 8] y, int64 total, int64 less)
    <int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i3 = {3}, int64 two = {2}, int64 three = {3}>
    { shape = Shape(x)
      b = Slice(shape, i0, i1)
      s = Slice(shape, i1, i2, i0)
      c = Slice(shape, i2, i3, i0, i1)
      s32 = Cast <to = 6> (s)
      s64 = Cast <to = 7> (s32)
      half = Div(s64, two)
      wide = Mul(c, two)
      target = Concat <axis = 0> (b, half, wide)
      y = Reshape(x, target)
      flat = Squeeze(s, i0)
      plus = Add(flat, three)
      total = Mul(plus, two)
      less = Sub(total, flat) }"""


@valid(sets=BATCH_SEQUENCE)
def shape_expand_where():
    """ConstantOfShape -> Mul -> Equal -> Where -> Expand, as exporters write `expand(-1, -1, n)`."""
    return """(float[batch, sequence, 1] x) => (float[batch, sequence, 4] y)
    <int64[3] wanted = {-1, -1, 4}, int64[1] rank = {3}, int64 minus_one = {-1}>
    { shape = Shape(x)
      ones = ConstantOfShape <value = int64[1] {1}> (rank)
      negative = Mul(ones, minus_one)
      keep = Equal(wanted, negative)
      sizes = Where(keep, ones, wanted)
      y = Expand(x, sizes) }"""


@valid(sets=BATCH_SEQUENCE)
def shape_constant_of_shape():
    """A tensor of a symbolic size made from nothing but sizes, and one filled with the default zero."""
    return """(float[batch, sequence] x) => (float[batch, sequence] y, float[batch, sequence] z)
    { shape = Shape(x)
      fill = ConstantOfShape <value = float[1] {2.5}> (shape)
      y = Mul(x, fill)
      zeros = ConstantOfShape(shape)
      z = Sub(zeros, x) }"""


@valid(sets=BATCH_SEQUENCE)
def reshape_copied_dims():
    """Reshape with 0 (copy the size), -1 (what is left), and Flatten at three axes."""
    return """(float[batch, sequence, 2, 3] x) => (float[batch, sequence, 6] y, float[batch, c0] f1, float[r2, 6] f2, float[1, c3] f0)
    <int64[3] shape = {0, 0, -1}>
    { y = Reshape(x, shape)
      f0 = Flatten <axis = 0> (x)
      f1 = Flatten(x)
      f2 = Flatten <axis = -2> (x) }"""


@valid(sets=[{"n": 2}, {"n": 0}])
def reshape_allow_zero():
    """`allowzero` takes a 0 literally: the result is empty whatever n is."""
    return """(float[n, 0, 4] x) => (float[0, 7] y)
    <int64[2] shape = {0, 7}>
    { y = Reshape <allowzero = 1> (x, shape) }"""


@valid(sets=[{"s36": 3, "s70": 2, "s72": 3}, {"s36": 1, "s70": 1, "s72": 4}])
def dim_params_expressions():
    """Dimensions that are expressions, `'2'` among them; sizes of one input follow from those of another."""
    return """(float["2", "s36 + 1", 4] x, float[s70, s72, "2"] p, float["2*s70*s72"] q)
      => (float[2, "2*s36 + 2", 4] y, float["2*s70*s72"] z)
    <int64[1] flat = {-1}>
    { y = Concat <axis = 1> (x, x)
      r = Reshape(p, flat)
      z = Add(r, q) }"""


@valid(sets=[{"s0": 5, "s1": 4}, {"s0": 8, "s1": 1}])
def dim_params_floor_division():
    """Expressions with floor division, brackets and a power, as strided pooling leaves them."""
    return """(float[1, 2, s0] x, float[s1, s1] t) => (float[1, 2, "((s0 - 1)//2) + 1"] y, float["s1**2"] u)
    <int64[1] flat = {-1}>
    { y = MaxPool <kernel_shape = [1], strides = [2]> (x)
      u = Reshape(t, flat) }"""


@valid(sets=[{"onnx::Add_dim_0": 2, "input.1_dim_1": 3, "t": np.arange(6, dtype=np.float32).reshape(3, 2)}])
def dim_params_odd_names():
    """Symbols that are no identifiers, an empty symbol, and a dimension without any value."""
    return """(float["onnx::Add_dim_0", "input.1_dim_1"] x, float["", ?] t) => (float["onnx::Add_dim_0", "input.1_dim_1"] y, float[?, ""] u)
    { y = Neg(x)
      u = Neg(t) }"""


@valid(sets=[{"n": 1, "m": 1}, {"n": 4, "m": 4}])
def dims_unified_by_add():
    """Two names for one size: the later MatMul holds only if n = m, so Add's operands are equal too."""
    return """(float[n, 4] x, float[m, 4] t) => (float[n, m] y, float[n, 4] s)
    { s = Add(x, t)
      tt = Transpose <perm = [1, 0]> (t)
      y = MatMul(x, tt) }"""


@valid(sets=[{"p": 2, "k1": 3, "k2": 3, "q": 5}, {"p": 1, "k1": 1, "k2": 1, "q": 1}])
def dims_unified_by_matmul():
    """MatMul forces k1 = k2; the second output is declared with the one and computed with the other."""
    return """(float[p, k1] a, float[k2, q] b) => (float[p, q] y, float[k1, "q + 1"] z)
    <int64[1] one = {1}>
    { y = MatMul(a, b)
      sums = ReduceSum <keepdims = 1> (b, one)
      z = Concat <axis = 1> (b, sums) }"""


@valid(sets=[{"batch": 2}, {"batch": 3}], opset=10, ir=5)
def axes_as_attributes():
    """Before opset 13 axes of Squeeze, Unsqueeze and ReduceSum are attributes."""
    return """(float[batch, 1, 6] x) => (float[batch] y, float[1, batch, 6, 1] z, float[batch, 1, 2] part)
    <int64[1] start = {-2}, int64[1] end = {2147483647}, int64[1] axis = {2}>
    { a = Squeeze <axes = [1]> (x)
      y = ReduceSum <axes = [1], keepdims = 0> (a)
      z = Unsqueeze <axes = [0, 3]> (a)
      part = Slice(x, start, end, axis) }"""


@valid(sets=[{"batch": 3}], opset=9, ir=4)
def slice_attributes():
    """Before opset 10 all of Slice's bounds are attributes, with ends beyond the size."""
    return """(float[batch, 6] x) => (float[batch, 4] y)
    { y = Slice <axes = [1], starts = [2], ends = [9223372036854775807]> (x) }"""


@valid(sets=[{"batch": 2}, {"batch": 0}])
def slice_steps():
    """Steps above one and below zero, bounds outside the size; also with an empty batch."""
    return """(float[batch, 7] x) => (float[batch, 3] odd, float[batch, 7] reversed, float[batch, 3] back)
    <int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] m1 = {-1}, int64[1] m2 = {-2}, int64[1] far = {100}, int64[1] low = {-100}, int64[1] axis = {1}>
    { odd = Slice(x, i1, far, axis, i2)
      reversed = Slice(x, m1, low, axis, m1)
      back = Slice(x, m2, low, axis, m2) }"""


UNKNOWN = {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 12}


@valid(sets=[UNKNOWN])
def sizes_stated_as_unknown():
    """Sizes below zero, and two that are both called `?`: nothing is said about any of them, nor that they are equal."""
    return """(float[-1, "?", "?"] x) => (float[-1, -3] y)
    <int64[2] flat = {0, -1}>
    { a = Relu(x)
      y = Reshape(a, flat) }"""


@valid(sets=[{"n": 1, "h": 4, "w": 8}, {"n": 2, "h": 7, "w": 12}])
def skip_connection_of_symbolic_size():
    """A map is halved twice, doubled once and added to the one between, which fits only some heights and widths."""
    return """(float[n, 2, h, w] x) => (float[n, 2, p, q] y)
    <float[2, 2, 3, 3] w1, float[2, 2, 3, 3] w2, float[4] scales = {1, 1, 2, 2}>
    { a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1)
      b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (a, w2)
      c = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (b, , scales)
      y = Add(a, c) }"""


@valid(sets=[{"rows": 1}, {"rows": 3}])
def shape_row_that_is_stretched():
    """The last `rows` of a bias with one row, as MPT's attention cuts them: a size that is never more than 1 is stretched."""
    return """(float[rows, 4] x, float[1, 4] bias) => (float[rows, 4] y)
    <int64[1] zero = {0}, int64[1] one = {1}, int64[1] end = {9223372036854775807}>
    { shape = Shape(x)
      rows = Gather(shape, zero)
      left = Sub(one, rows)
      start = Max(left, zero)
      last = Slice(bias, start, end, zero)
      y = Add(x, last) }"""


@valid(sets=[{"batch": 2, "rows": 5}, {"batch": 2, "rows": 9}, {"batch": 1, "rows": 16}])
def shape_after_strides():
    """`(rows - 1) / 4 + 1` and what follows from it, as exporters count the rows that convolutions leave."""
    return """(float[batch, 1, rows] x) => (float[batch, left] y)
    <float[1, 1, 3] w = {1, 2, 3}, float[1, 1, 2] v = {1, 2}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] four = {4}>
    { shape = Shape(x)
      batch = Slice(shape, zero, one)
      rows = Slice(shape, two, three)
      less = Sub(rows, one)
      steps = Div(less, four)
      less_still = Sub(steps, one)
      more = Div(less_still, two)
      left = Add(more, one)
      target = Concat <axis = 0> (batch, left)
      first = Conv <pads = [1, 1], strides = [4]> (x, w)
      second = Conv <strides = [2]> (first, v)
      y = Reshape <allowzero = 1> (second, target) }"""
