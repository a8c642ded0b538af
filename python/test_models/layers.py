"""Valid models made of layers: dense, convolution, pooling, normalisation, softmax, with their attributes and opsets."""

from __future__ import annotations

import numpy as np

from .case import random, valid

BATCHES = [{"batch": 1}, {"batch": 5}]


def positive(name: str, *shape: int) -> np.ndarray:
    return random(name).uniform(0.5, 2.0, shape).astype(np.float32)


@valid(sets=[{"batch": 1}, {"batch": 5}, {"batch": 0}])
def mlp_relu():
    """Two dense layers with bias, ReLU between, softmax behind; symbolic batch, also empty."""
    return """(float[batch, 16] x) => (float[batch, 10] y)
    <float[16, 32] w1, float[32] b1, float[32, 10] w2, float[10] b2>
    { a = MatMul(x, w1)
      b = Add(a, b1)
      c = Relu(b)
      d = MatMul(c, w2)
      e = Add(d, b2)
      y = Softmax <axis = -1> (e) }"""


@valid(sets=BATCHES)
def mlp_gelu():
    """GELU written out with Erf, then Tanh and Sigmoid; the residual uses one value twice."""
    return """(float[batch, 8] x) => (float[batch, 8] y)
    <float[8, 8] w1, float[8] b1, float[8, 8] w2, float sqrt2 = {1.4142135}, float one = {1}, float half = {0.5}>
    { a = MatMul(x, w1)
      b = Add(b1, a)
      c = Div(b, sqrt2)
      d = Erf(c)
      e = Add(d, one)
      f = Mul(b, e)
      g = Mul(f, half)
      h = MatMul(g, w2)
      i = Tanh(h)
      j = Sigmoid(i)
      k = Mul(i, j)
      y = Add(x, k) }"""


@valid(sets=BATCHES, weights={"variance": positive("cnn_small", 8)})
def cnn_small():
    """Convolution, batch norm, ReLU, max-pool, depthwise convolution, global pool, Gemm."""
    return """(float[batch, 3, 12, 12] image) => (float[batch, 10] scores)
    <float[8, 3, 3, 3] w1, float[8] b1, float[8] scale, float[8] shift, float[8] mean, float[8] variance,
     float[8, 1, 3, 3] w2, float[10, 8] w3, float[10] b3>
    { a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w1, b1)
      b = BatchNormalization <epsilon = 0.001> (a, scale, shift, mean, variance)
      c = Relu(b)
      d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
      e = Conv <group = 8, pads = [1, 1, 1, 1]> (d, w2)
      f = GlobalAveragePool(e)
      g = Flatten(f)
      scores = Gemm <transB = 1> (g, w3, b3) }"""


@valid(sets=BATCHES)
def conv_attributes():
    """Strides, uneven pads, dilations and groups at once."""
    return """(float[batch, 4, 11, 9] x) => (float[batch, 6, 5, 7] y)
    <float[6, 2, 3, 2] w, float[6] b>
    { y = Conv <strides = [2, 1], pads = [1, 0, 2, 1], dilations = [2, 3], group = 2> (x, w, b) }"""


@valid(sets=BATCHES)
def conv_auto_pad():
    """SAME_UPPER, SAME_LOWER and VALID with an even kernel and stride 2."""
    return """(float[batch, 2, 7, 8] x) => (float[batch, 3, 4, 4] upper, float[batch, 3, 4, 4] lower, float[batch, 3, 3, 4] plain)
    <float[3, 2, 2, 2] w>
    { upper = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)
      lower = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (x, w)
      plain = Conv <auto_pad = "VALID", strides = [2, 2]> (x, w) }"""


@valid(sets=BATCHES)
def conv_ranks():
    """Convolution over one and over three spatial dimensions, and 1x1 over two."""
    return """(float[batch, 2, 9] line, float[batch, 2, 4, 5, 3] volume, float[batch, 4, 3, 3] plane)
      => (float[batch, 3, 9] a, float[batch, 2, 3, 3, 2] b, float[batch, 5, 3, 3] c)
    <float[3, 2, 3] w1, float[3] b1, float[2, 2, 2, 3, 2] w3, float[5, 4, 1, 1] w2>
    { a = Conv <pads = [1, 1]> (line, w1, b1)
      b = Conv(volume, w3)
      c = Conv(plane, w2) }"""


@valid(sets=[{"batch": 1, "height": 6, "width": 7}, {"batch": 2, "height": 9, "width": 5}])
def conv_symbolic_image():
    """Height and width unknown: the output's size is a floor division."""
    return """(float[batch, 2, height, width] x) => (float[batch, 3, "(height - 1)//2 + 1", "(width - 1)//2 + 1"] y)
    <float[3, 2, 3, 3] w, float[3] b>
    { y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b) }"""


@valid(sets=BATCHES)
def max_pool_attributes():
    """Max-pool with pads (which are never the maximum), dilations, ceil_mode and auto_pad; all inputs negative."""
    return """(float[batch, 2, 7, 8] x) => (float[batch, 2, 4, 4] padded, float[batch, 2, 3, 4] wide, float[batch, 2, 3, 4] up, float[batch, 2, 7, 8] same)
    <float ten = {10}>
    { low = Sub(x, ten)
      padded = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 0]> (low)
      wide = MaxPool <kernel_shape = [3, 3], dilations = [2, 2], pads = [0, 0, 0, 0]> (low)
      up = MaxPool <kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1> (low)
      same = MaxPool <kernel_shape = [2, 2], auto_pad = "SAME_UPPER"> (low) }"""


@valid(sets=BATCHES)
def average_pool_attributes():
    """Average-pool with pads left out of the count and counted, ceil_mode, and a default stride of 1."""
    return """(float[batch, 2, 6, 6] x) => (float[batch, 2, 3, 3] without, float[batch, 2, 3, 3] counted, float[batch, 2, 3, 3] up, float[batch, 2, 5, 5] dense)
    { without = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 0, 0]> (x)
      counted = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 0, 0], count_include_pad = 1> (x)
      up = AveragePool <kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1> (x)
      dense = AveragePool <kernel_shape = [2, 2]> (x) }"""


@valid(sets=BATCHES)
def global_pools():
    """GlobalAveragePool and GlobalMaxPool over one and two spatial dimensions."""
    return """(float[batch, 3, 4, 5] x, float[batch, 2, 6] line) => (float[batch, 3, 1, 1] mean, float[batch, 3, 1, 1] top, float[batch, 2, 1] line_mean)
    { mean = GlobalAveragePool(x)
      top = GlobalMaxPool(x)
      line_mean = GlobalAveragePool(line) }"""


@valid(sets=BATCHES, weights={"variance": positive("batch_norm", 4)})
def batch_norm():
    """BatchNormalization of opset 15 with its default epsilon, over an image and over a row."""
    return """(float[batch, 4, 3, 2] x, float[batch, 4] row) => (float[batch, 4, 3, 2] y, float[batch, 4] z)
    <float[4] scale, float[4] shift, float[4] mean, float[4] variance>
    { y = BatchNormalization(x, scale, shift, mean, variance)
      z = BatchNormalization(row, scale, shift, mean, variance) }"""


@valid(sets=BATCHES, opset=8, ir=3, oracle="onnxruntime")
def batch_norm_opset_8():
    """BatchNormalization of opset 7 with `momentum`; only the first of its outputs is asked for."""
    return """(float[batch, 4, 3, 2] x, float[4] scale = {1, 2, 3, 4}, float[4] shift = {0, 1, 0, -1}, float[4] mean = {0, 0.5, 1, -1},
      float[4] variance = {1, 2, 0.5, 4}) => (float[batch, 4, 3, 2] y)
    { y = BatchNormalization <epsilon = 0.01, momentum = 0.9> (x, scale, shift, mean, variance) }"""


@valid(sets=BATCHES)
def gemm_attributes():
    """transA, transB, alpha, beta; C as row, column, scalar, full, and missing."""
    return """(float[6, 4] at, float[5, 6] bt, float[batch, 6] a) => (float[4, 5] row, float[4, 5] column, float[4, 5] scalar, float[4, 5] full, float[batch, 5] none)
    <float[5] c_row, float[4, 1] c_column, float c_scalar = {3}, float[4, 5] c_full, float[6, 5] b>
    { row = Gemm <transA = 1, transB = 1, alpha = 0.5, beta = 2.0> (at, bt, c_row)
      column = Gemm <transA = 1, alpha = 1.5> (at, b, c_column)
      scalar = Gemm <transA = 1, transB = 1, beta = 0.25> (at, bt, c_scalar)
      full = Gemm <transA = 1, beta = 0.0> (at, b, c_full)
      none = Gemm <alpha = 2.0> (a, b) }"""


@valid(sets=[{"batch": 2, "sequence": 3}, {"batch": 1, "sequence": 1}])
def matmul_batched():
    """Batched operands, broadcast batch dimensions, and vectors on either side."""
    return """(float[batch, 2, sequence, 4] q, float[batch, 2, 4, sequence] k, float[sequence, 4] one, float[4] v)
      => (float[batch, 2, sequence, sequence] full, float[batch, 2, sequence, sequence] shared, float[batch, 2, sequence] right, float[sequence] left)
    { full = MatMul(q, k)
      shared = MatMul(one, k)
      right = MatMul(q, v)
      t = Transpose <perm = [1, 0]> (one)
      left = MatMul(v, t) }"""


@valid(sets=BATCHES)
def layer_norm():
    """LayerNormalization over the last axis, over the last two, and without bias."""
    return """(float[batch, 3, 8] x) => (float[batch, 3, 8] last, float[batch, 3, 8] two, float[batch, 3, 8] bare)
    <float[8] scale, float[8] shift, float[3, 8] scale2, float[3, 8] shift2>
    { last = LayerNormalization(x, scale, shift)
      two = LayerNormalization <axis = 1, epsilon = 0.01> (x, scale2, shift2)
      bare = LayerNormalization <axis = -1> (x, scale) }"""


@valid(sets=BATCHES)
def layer_norm_statistics():
    """The optional outputs: Mean left empty in one node, both taken from the other."""
    return """(float[batch, 8] x) => (float[batch, 8] y, float[batch, 1] deviation, float[batch, 1] mean2, float[batch, 1] deviation2)
    <float[8] scale, float[8] shift>
    { y, "", deviation = LayerNormalization(x, scale, shift)
      z, mean2, deviation2 = LayerNormalization <epsilon = 0.1> (x, scale) }"""


@valid(sets=BATCHES)
def layer_norm_written_out():
    """The same with ReduceMean, Sub, Pow, Sqrt and Div, as older exporters write it."""
    return """(float[batch, 3, 8] x) => (float[batch, 3, 8] y)
    <float[8] scale, float[8] shift, float two = {2}, float epsilon = {1e-5}, int64[1] last = {-1}>
    { mean = ReduceMean(x, last)
      centred = Sub(x, mean)
      squared = Pow(centred, two)
      variance = ReduceMean(squared, last)
      safe = Add(variance, epsilon)
      deviation = Sqrt(safe)
      normal = Div(centred, deviation)
      scaled = Mul(normal, scale)
      y = Add(scaled, shift) }"""


@valid(sets=BATCHES, opset=11, ir=6, oracle="onnxruntime")
def softmax_opset_11():
    """Before opset 13 everything from `axis` (default 1) on is one row."""
    return """(float[batch, 3, 4] x) => (float[batch, 3, 4] y, float[batch, 3, 4] z, float[batch, 3, 4] w, float[batch, 3, 4] l)
    { y = Softmax(x)
      z = Softmax <axis = 2> (x)
      w = Softmax <axis = 0> (x)
      l = LogSoftmax <axis = 1> (x) }"""


@valid(sets=BATCHES, opset=13, ir=7)
def softmax_opset_13():
    """From opset 13 on one axis (default the last) is normalised; large inputs must not overflow."""
    return """(float[batch, 3, 4] x) => (float[batch, 3, 4] y, float[batch, 3, 4] z, float[batch, 3, 4] big, float[batch, 3, 4] l)
    <float thousand = {1000}>
    { y = Softmax(x)
      z = Softmax <axis = 1> (x)
      large = Mul(x, thousand)
      big = Softmax <axis = -1> (large)
      l = LogSoftmax(x) }"""


@valid(sets=BATCHES, opset=6, ir=4)
def opset_6():
    """Before opset 7; of its operators, those that onnxruntime has, too."""
    return """(float[batch, 6] x) => (float[batch, 4] y, float[6, batch] turned)
    <float[6, 4] w, float[6, 4] v>
    { low = MatMul(x, w)
      bent = Relu(low)
      other = MatMul(x, v)
      curved = Tanh(other)
      y = Sum(bent, curved)
      turned = Transpose <perm = [1, 0]> (x) }"""


@valid(sets=BATCHES, opset=7, ir=3)
def clip_opset_7():
    """Before opset 11 Clip's bounds are attributes; either may be missing."""
    return """(float[batch, 6] x) => (float[batch, 6] both, float[batch, 6] low, float[batch, 6] high)
    { both = Clip <min = -0.5, max = 0.75> (x)
      low = Clip <min = 0.0> (x)
      high = Clip <max = 0.25> (x) }"""


@valid(sets=BATCHES, opset=13, ir=7)
def clip_optional_inputs():
    """From opset 11 on they are inputs; a missing min is an empty name, a missing max is no name at all."""
    return """(float[batch, 6] x, float bound) => (float[batch, 6] both, float[batch, 6] low, float[batch, 6] high, float[batch, 6] free, float[batch, 6] given)
    <float min = {-0.5}, float max = {0.75}>
    { both = Clip(x, min, max)
      low = Clip(x, min)
      high = Clip(x, "", max)
      free = Clip(x)
      given = Clip(x, bound, "") }"""


@valid(sets=BATCHES)
def dropout_identity():
    """Dropout at inference and Identity change nothing; ratio and training_mode given, left empty, absent; the mask is all true."""
    return """(float[batch, 6] x) => (float[batch, 6] y, bool[batch, 6] mask)
    <float ratio = {0.25}, bool training = {0}>
    { a = Dropout(x, ratio, training)
      b = Identity(a)
      c = Dropout(b)
      d, mask = Dropout(c, "", training)
      y = Relu(d) }"""


@valid(sets=BATCHES, opset=7, ir=3)
def dropout_opset_7():
    """Before opset 12 the ratio is an attribute."""
    return """(float[batch, 6] x) => (float[batch, 6] y)
    { a = Dropout <ratio = 0.3> (x)
      y = Identity(a) }"""


@valid(sets=BATCHES)
def reductions():
    """Sum, mean, max, min and product over chosen axes, all axes, with and without kept dimensions; empty axes."""
    return """(float[batch, 3, 4] x) => (float[batch, 4] sum, float[batch, 1, 1] mean, float top, float[1, 1, 1] low, float[batch, 3] product, float[batch, 3, 4] same)
    <int64[1] middle = {1}, int64[2] tail = {1, -1}, int64[1] last = {-1}, int64[0] no_axes = {}>
    { sum = ReduceSum <keepdims = 0> (x, middle)
      mean = ReduceMean(x, tail)
      top = ReduceMax <keepdims = 0> (x)
      low = ReduceMin(x)
      product = ReduceProd <keepdims = 0> (x, last)
      same = ReduceSum <noop_with_empty_axes = 1> (x, no_axes) }"""


@valid(sets=[{"n": 2, "m": 3}, {"n": 1, "m": 1}])
def broadcasting():
    """Operands of different rank, ones on either side, and a scalar."""
    return """(float[n, 1, 4] x, float[m, 1] t) => (float[n, m, 4] sum, float[n, m, 4] product, float[n, m, 4] shifted, bool[n, m, 4] less)
    <float scalar = {-3}>
    { sum = Add(x, t)
      product = Mul(t, x)
      shifted = Sub(product, scalar)
      less = Less(sum, product) }"""


@valid(sets=BATCHES, opset=28, ir=14, onnxruntime=False)
def newest_versions():
    """The newest opset and IR version that we read."""
    return """(float[batch, 4] x) => (float[batch, 3] y)
    <float[4, 3] w, float[3] b>
    { a = MatMul(x, w)
      c = Add(a, b)
      y = Relu(c) }"""
