"""Valid models of onnxruntime's own operators: quantized products and experts, fused layers. onnxruntime says what they compute."""

from __future__ import annotations

import numpy as np

from .case import random, valid

MICROSOFT = '"com.microsoft" : 1'


def integers(name: str, dtype: type, shape: tuple[int, ...], least: int | None = None, most: int | None = None) -> np.ndarray:
    limits = np.iinfo(dtype)
    least, most = limits.min if least is None else least, limits.max if most is None else most
    return random(f"contrib/{name}").integers(least, most, shape, endpoint=True).astype(dtype)


def floats(name: str, shape: tuple[int, ...], least: float = -1.0, most: float = 1.0) -> np.ndarray:
    return random(f"contrib/{name}").uniform(least, most, shape).astype(np.float32)


def blocks(name: str, rows: int, columns: int, bits: int, block: int) -> dict[str, np.ndarray]:
    """Packed rows of integers, a scale for each block, and zeros, packed and as floats."""
    count = -(-columns // block)
    return {
        f"{name}_q": integers(f"{name}_q", np.uint8, (rows, count, block * bits // 8)),
        f"{name}_scale": floats(f"{name}_scale", (rows, count), 0.02, 0.1),
        f"{name}_zero": integers(f"{name}_zero", np.uint8, (rows, -(-count * bits // 8))),
        f"{name}_float": floats(f"{name}_float", (rows, count), 0.0, 2.0**bits - 1),
    }


@valid(
    sets=[{"n": 2, "t": 3}, {"n": 1, "t": 1}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={
        **blocks("two", 6, 64, 2, 32),
        **blocks("four", 8, 40, 4, 16),
        **blocks("eight", 8, 32, 8, 16),
    },
)
def matmul_n_bits():
    """Weights of 2, 4 and 8 bits by blocks, the last of which may be cut; zeros that are packed, floats, or left out; a bias."""
    return """(float[n, t, 64] a, float[n, 40] b, float[n, t, 32] c) => (float[n, t, 6] two, float[n, t, 6] middle, float[n, 8] four, float[n, 8] float, float[n, 8] plain, float[n, t, 8] eight)
    <uint8[6, 2, 8] two_q, float[6, 2] two_scale, uint8[6, 1] two_zero, uint8[8, 3, 8] four_q, float[8, 3] four_scale, uint8[8, 2] four_zero, float[8, 3] four_float,
     uint8[8, 2, 16] eight_q, float[8, 2] eight_scale, uint8[8, 2] eight_zero, float[8] bias>
    { two = com.microsoft.MatMulNBits <K = 64, N = 6, bits = 2, block_size = 32> (a, two_q, two_scale, two_zero)
      middle = com.microsoft.MatMulNBits <K = 64, N = 6, bits = 2, block_size = 32> (a, two_q, two_scale)
      four = com.microsoft.MatMulNBits <K = 40, N = 8, bits = 4, block_size = 16> (b, four_q, four_scale, four_zero, "", bias)
      float = com.microsoft.MatMulNBits <K = 40, N = 8, bits = 4, block_size = 16> (b, four_q, four_scale, four_float)
      plain = com.microsoft.MatMulNBits <K = 40, N = 8, block_size = 16> (b, four_q, four_scale)
      eight = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 8, block_size = 16> (c, eight_q, eight_scale, eight_zero, "", bias) }"""


@valid(sets=[{"n": 3}, {"n": 1}], imports=MICROSOFT, oracle="onnxruntime", weights=blocks("h", 8, 64, 4, 32))
def matmul_n_bits_half():
    """The same in 16 bits, computed in 32."""
    return """(float16[n, 64] x) => (float16[n, 8] y)
    <uint8[8, 2, 16] h_q, float16[8, 2] h_scale, uint8[8, 1] h_zero, float16[8] bias>
    { y = com.microsoft.MatMulNBits <K = 64, N = 8, bits = 4, block_size = 32> (x, h_q, h_scale, h_zero, "", bias) }"""


@valid(
    sets=[{"n": 3}, {"n": 1}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={
        **blocks("w", 8, 32, 4, 16),
        "groups": np.array([0, 1] * 16, np.int32),
    },
)
def matmul_n_bits_groups():
    """Columns that say themselves to which block they belong."""
    return """(float[n, 32] x) => (float[n, 8] y)
    <uint8[8, 2, 8] w_q, float[8, 2] w_scale, int32[32] groups>
    { y = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 16> (x, w_q, w_scale, "", groups) }"""


@valid(
    sets=[{"n": 2, "t": 4, "ids": np.array([[0, 4, 2, -1], [3, 3, 1, 0]])}, {"n": 1, "t": 1, "ids": np.array([[4]])}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={
        "four": integers("gather4", np.uint8, (5, 20)),
        "two": integers("gather2", np.uint8, (5, 8)),
        "eight": integers("gather8", np.uint8, (5, 32)),
        "scale": floats("gather_scale", (5, 3), 0.02, 0.1),
        "scale2": floats("gather_scale2", (5, 2), 0.02, 0.1),
        "zero": integers("gather_zero", np.uint8, (5, 2)),
    },
)
def gather_block_quantized():
    """Rows of tables of 2, 4 and 8 bits, with zeros and without."""
    return """(int64[n, t] ids) => (float[n, t, 40] a, float[n, t, 40] b, float[n, t, 32] c, float[n, t, 32] d)
    <uint8[5, 20] four, uint8[5, 8] two, uint8[5, 32] eight, float[5, 3] scale, float[5, 2] scale2, uint8[5, 2] zero>
    { a = com.microsoft.GatherBlockQuantized <bits = 4, block_size = 16> (four, ids, scale, zero)
      b = com.microsoft.GatherBlockQuantized <bits = 4, block_size = 16> (four, ids, scale)
      c = com.microsoft.GatherBlockQuantized <bits = 2, block_size = 16> (two, ids, scale2)
      d = com.microsoft.GatherBlockQuantized <bits = 8, block_size = 16> (eight, ids, scale2, zero) }"""


@valid(
    sets=[{"n": 2, "ids": np.array([1, 2], np.int32)}, {"n": 1, "ids": np.array([-1], np.int32)}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={"signed": integers("gather_int", np.int8, (20, 3), -8, 7), "scale": floats("gather_int_scale", (2, 3), 0.02, 0.1), "rows": floats("gather_int_rows", (3, 2), 0.02, 0.1)},
)
def gather_int4():
    """Tables of 4-bit types, gathered along the axis of the blocks, and along another."""
    return """(int32[n] ids) => (float[n, 3] across, float[3, n] along)
    <int4[20, 3] signed, float[2, 3] scale, float[3, 2] rows>
    { across = com.microsoft.GatherBlockQuantized <block_size = 16, gather_axis = 0, quantize_axis = 0> (signed, ids, scale)
      turned = Transpose(signed)
      along = com.microsoft.GatherBlockQuantized <block_size = 16, gather_axis = 1, quantize_axis = 1> (turned, ids, rows) }"""


BYTES = {
    "w": integers("w", np.uint8, (6, 5)),
    "s": integers("s", np.int8, (6, 5)),
    "w_scales": floats("w_scales", (5,), 0.01, 0.05),
    "w_zeros": integers("w_zeros", np.uint8, (5,)),
}


@valid(
    sets=[
        {"n": 2, "t": 3, "a": integers("a", np.uint8, (2, 3, 6)), "b": integers("b", np.int8, (4, 6))},
        {"n": 1, "t": 1, "a": integers("a1", np.uint8, (1, 1, 6)), "b": integers("b1", np.int8, (4, 6))},
    ],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={**BYTES, "c": integers("c", np.int32, (4, 5), -9999, 9999)},
)
def quantized_products():
    """Products of bytes as floats, quantized as they come, and as onnxruntime's Gemm, with one scale and one for each column."""
    return """(uint8[n, t, 6] a, float[n, t, 6] x, int8[4, 6] b) => (float[n, t, 5] one, float[n, t, 5] each, float[n, t, 5] dynamic, float[n, t, 5] columns, float[4, 5] gemm, int8[4, 5] bytes)
    <uint8[6, 5] w, int8[6, 5] s, float[5] w_scales, uint8[5] w_zeros, float a_scale = {0.05}, float s_scale = {0.02}, uint8 a_zero = {117}, uint8 w_zero = {131}, int8 s_zero = {3}, int8 b_zero = {-5}, float[5] bias, int32[4, 5] c, float y_scale = {3.5}, int8 y_zero = {-7}>
    { one = com.microsoft.MatMulIntegerToFloat(a, w, a_scale, s_scale, a_zero, w_zero, bias)
      each = com.microsoft.MatMulIntegerToFloat(a, w, a_scale, w_scales, a_zero, w_zeros)
      dynamic = com.microsoft.DynamicQuantizeMatMul(x, s, s_scale, s_zero, bias)
      columns = com.microsoft.DynamicQuantizeMatMul(x, w, w_scales, w_zeros)
      gemm = com.microsoft.QGemm <alpha = 0.5> (b, a_scale, b_zero, s, s_scale, s_zero, c)
      across = Transpose(b)
      turned = Transpose(s)
      bytes = com.microsoft.QGemm <transA = 1, transB = 1> (across, a_scale, b_zero, turned, s_scale, s_zero, c, y_scale, y_zero) }"""


@valid(
    sets=[
        {"n": 2, "a": integers("qa", np.uint8, (2, 3, 4)), "b": integers("qb", np.uint8, (3, 1)), "p": np.array([[True, False, True]]).repeat(2, 0)},
        {"n": 1, "a": integers("qa1", np.uint8, (1, 3, 4)), "b": integers("qb1", np.uint8, (3, 1)), "p": np.array([[False, True, True]])},
    ],
    imports=MICROSOFT,
    oracle="onnxruntime",
)
def qlinear_elementwise():
    """Sums, products, activations and choices of bytes, each with its scale and zero."""
    return """(uint8[n, 3, 4] a, uint8[3, 1] b) => (uint8[n, 3, 4] sum, uint8[n, 3, 4] product, uint8[n, 3, 4] sigmoid, uint8[n, 3, 4] leaky, uint8[n, 3, 4] chosen, uint8[n, 6, 4] both)
    <float sa = {0.03}, uint8 za = {120}, float sb = {0.05}, uint8 zb = {100}, float sc = {0.0703}, uint8 zc = {130}, float sp = {0.09}, float ss = {0.0039}, uint8 zs = {0}, bool[3, 1] p = {1, 0, 1}>
    { sum = com.microsoft.QLinearAdd(a, sa, za, b, sb, zb, sc, zc)
      product = com.microsoft.QLinearMul(a, sa, za, b, sb, zb, sp, zc)
      sigmoid = com.microsoft.QLinearSigmoid(a, sa, za, ss, zs)
      leaky = com.microsoft.QLinearLeakyRelu <alpha = 0.1> (a, sa, za, sc, zc)
      chosen = com.microsoft.QLinearWhere(p, a, sa, za, b, sb, zb, sc, zc)
      both = com.microsoft.QLinearConcat <axis = 1> (sc, zc, a, sa, za, sum, sc, zc) }"""


@valid(
    sets=[
        {"n": 2, "x": integers("px", np.int8, (2, 3, 7, 6)), "y": integers("py", np.uint8, (2, 5, 4, 3))},
        {"n": 1, "x": integers("px1", np.int8, (1, 3, 7, 6)), "y": integers("py1", np.uint8, (1, 5, 4, 3))},
    ],
    imports=MICROSOFT,
    oracle="onnxruntime",
)
def qlinear_pools():
    """Means of windows and of images, of signed and unsigned bytes; channels first and last."""
    return """(int8[n, 3, 7, 6] x, uint8[n, 5, 4, 3] y) => (int8[n, 3, 4, 3] padded, int8[n, 3, 3, 3] counted, uint8[n, 2, 3, 3] last, int8[n, 3, 1, 1] whole, uint8[n, 1, 1, 3] each)
    <float sx = {0.05}, int8 zx = {-7}, float sy = {0.02}, uint8 zy = {120}, float s = {0.0307}, int8 z = {5}, uint8 zu = {101}>
    { padded = com.microsoft.QLinearAveragePool <kernel_shape = [3, 2], pads = [1, 0, 1, 0], strides = [2, 2]> (x, sx, zx, s, z)
      counted = com.microsoft.QLinearAveragePool <kernel_shape = [3, 2], pads = [0, 1, 0, 0], strides = [2, 2], count_include_pad = 1> (x, sx, zx, s, z)
      last = com.microsoft.QLinearAveragePool <kernel_shape = [3, 2], strides = [2, 1], ceil_mode = 0, channels_last = 1> (y, sy, zy, s, zu)
      whole = com.microsoft.QLinearGlobalAveragePool(x, sx, zx, s, z)
      each = com.microsoft.QLinearGlobalAveragePool <channels_last = 1> (y, sy, zy, s, zu) }"""


@valid(
    sets=[{"n": 2, "x": integers("nx", np.uint8, (2, 6, 5, 4))}, {"n": 1, "x": integers("nx1", np.uint8, (1, 6, 5, 4))}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={"w": integers("nw", np.int8, (3, 4, 2, 3)), "scales": floats("nscales", (3,), 0.01, 0.05), "b": integers("nb", np.int32, (3,), -999, 999)},
)
def qlinear_conv_channels_last():
    """A quantized convolution of images whose channels come last, and the largest of windows of such."""
    return """(uint8[n, 6, 5, 4] x) => (uint8[n, 5, 3, 3] y, uint8[n, 3, 4, 4] z)
    <int8[3, 4, 2, 3] w, float[3] scales, int32[3] b, float s = {0.02}, uint8 zx = {130}, int8 zw = {0}, float sy = {0.9}, uint8 zy = {120}>
    { y = com.microsoft.QLinearConv <channels_last = 1, kernel_shape = [2, 3]> (x, s, zx, w, scales, zw, sy, zy, b)
      z = com.microsoft.NhwcMaxPool <kernel_shape = [2, 2], strides = [2, 1]> (x) }"""


@valid(
    sets=[
        {"n": 2, "t": 4, "x": integers("attention", np.uint8, (2, 4, 6)), "mask": np.array([3, 4], np.int32), "p": 2},
        {"n": 1, "t": 1, "x": integers("attention1", np.uint8, (1, 1, 6)), "mask": np.array([3], np.int32), "p": 2},
    ],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={"w": integers("attention_w", np.int8, (6, 24)), "scales": floats("attention_scales", (24,), 0.001, 0.01)},
)
def quantized_attention():
    """Attention of quantized queries, keys and values: a mask of lengths, later keys hidden, a past."""
    return """(uint8[n, t, 6] x, int32[n] mask, float[2, n, 2, p, 4] past) => (float[n, t, 8] y, float[n, t, 8] later, float[2, n, 2, q, 4] present)
    <int8[6, 24] w, float[24] bias, float sx = {0.02}, float sw = {0.005}, float[24] scales, uint8 zx = {125}, int8 zw = {2}>
    { y = com.microsoft.QAttention <num_heads = 2> (x, w, bias, sx, sw, mask, zx, zw)
      later, present = com.microsoft.QAttention <num_heads = 2, unidirectional = 1> (x, w, bias, sx, sw, "", zx, zw, past) }"""


@valid(
    sets=[{"t": 5, "n": 1}, {"t": 1, "n": 1}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={
        "w": integers("lstm_w", np.int8, (2, 3, 16)),
        "r": integers("lstm_r", np.int8, (2, 4, 16)),
        "ws": floats("lstm_ws", (2,), 0.004, 0.01),
        "rs": floats("lstm_rs", (2,), 0.004, 0.01),
        "wc": floats("lstm_wc", (2, 16), 0.004, 0.01),
        "rc": floats("lstm_rc", (2, 16), 0.004, 0.01),
    },
)
def quantized_lstm():
    """Both directions, with a scale for each, or for each column; peepholes and first states."""
    return """(float[t, n, 3] x, float[2, n, 4] h, float[2, n, 4] c) => (float[t, 2, n, 4] y, float[2, n, 4] yh, float[2, n, 4] yc, float[t, 2, n, 4] each)
    <int8[2, 3, 16] w, int8[2, 4, 16] r, float[2, 32] b, float[2, 12] p, float[2] ws, float[2] rs, int8[2] z = {0, 0}, float[2, 16] wc, float[2, 16] rc,
     int8[2, 16] zc = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}>
    { y, yh, yc = com.microsoft.DynamicQuantizeLSTM <direction = "bidirectional", hidden_size = 4> (x, w, r, b, "", h, c, p, ws, z, rs, z)
      each = com.microsoft.DynamicQuantizeLSTM <direction = "bidirectional", hidden_size = 4> (x, w, r, "", "", "", "", "", wc, zc, rc, zc) }"""


@valid(sets=[{"n": 2, "t": 3}, {"n": 1, "t": 2}], imports=MICROSOFT, oracle="onnxruntime")
def fused_products():
    """Products and convolutions with what onnxruntime puts into them: transposed operands and batches, factors, activations."""
    return """(float[n, t, 4] a, float[n, 5, 4] b, float[t, 5, 4] f, float[3, 4] x, float[n, 2, 6, 5] image) => (float[n, t, 5] wide, float[n, t, 4] turned, float[t, n, 5] batches, float[3, 2] gemm, float[3, 2] leaky, float[n, 3, 4, 5] relu, float[n, 3, 4, 5] clipped, float[n, 3, 4, 5] hard)
    <float[2, 4] w, float[2] c, float[4, 4] square, float[3, 2, 3, 3] k, float[3] bias, float[1, 3, 1, 1] z>
    { wide = com.microsoft.FusedMatMul <alpha = 0.5, transB = 1> (a, b)
      turned = com.microsoft.TransposeMatMul <alpha = 2.0> (a, square)
      batches = com.microsoft.FusedMatMul <transBatchA = 1, transB = 1> (a, f)
      gemm = com.microsoft.FusedGemm <activation = "Tanh", transB = 1, alpha = 0.5, beta = 0.25> (x, w, c)
      leaky = com.microsoft.FusedGemm <activation = "LeakyRelu", activation_alpha = 0.2, transB = 1> (x, w, c)
      relu = com.microsoft.FusedConv <activation = "Relu", kernel_shape = [3, 3], pads = [0, 1, 0, 1]> (image, k, bias)
      clipped = com.microsoft.FusedConv <activation = "Clip", activation_params = [-0.5, 0.75], kernel_shape = [3, 3], pads = [0, 1, 0, 1]> (image, k, bias, relu)
      hard = com.microsoft.FusedConv <activation = "HardSigmoid", activation_params = [0.3, 0.4], kernel_shape = [3, 3], pads = [0, 1, 0, 1]> (image, k) }"""


@valid(
    sets=[{"n": 2, "t": 4, "ids": np.array([[0, 3, 5, 1], [2, 2, 6, 0]], np.int32), "kinds": np.array([[0, 0, 1, 1], [0, 1, 1, 1]], np.int32), "mask": np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32), "places": np.array([[1, 2, 3, 0], [0, 0, 4, 4]], np.int32)}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={name: integers(f"embed_{name}", np.uint8, shape) for name, shape in {"qw": (7, 8), "qp": (5, 8), "qk": (2, 8), "qg": (8,), "qb": (8,)}.items()},
)
def embeddings():
    """Words, positions and segments, added up and normalised; also from quantized tables."""
    return """(int32[n, t] ids, int32[n, t] kinds, int32[n, t] mask, int32[n, t] places) => (float[n, t, 8] y, int32[n] counts, float[n, t, 8] sum, float[n, t, 8] words, float[n, t, 8] quantized, int32[n] others)
    <float[7, 8] w, float[5, 8] p, float[2, 8] k, float[8] g, float[8] b, uint8[7, 8] qw, uint8[5, 8] qp, uint8[2, 8] qk, uint8[8] qg, uint8[8] qb,
     float s = {0.02}, float sp = {0.03}, float sg = {0.01}, uint8 z = {128}, uint8 zp = {120}, uint8 zg = {10}>
    { y, counts, sum = com.microsoft.EmbedLayerNormalization <epsilon = 0.001> (ids, kinds, w, p, k, g, b, mask, places)
      words, nothing = com.microsoft.EmbedLayerNormalization(ids, "", w, p, "", g, b)
      quantized, others = com.microsoft.QEmbedLayerNormalization(ids, kinds, qw, qp, qk, qg, qb, mask, s, sp, s, sg, sg, z, zp, z, zg, zg) }"""


@valid(sets=[{"n": 2, "t": 3}, {"n": 1, "t": 1}], imports=MICROSOFT, oracle="onnxruntime")
def fused_activations():
    """GELU of a sum, the sigmoid times its operand, and the quick forms."""
    return """(float[n, t, 6] x) => (float[n, t, 6] gelu, float[n, t, 6] quick, float[n, t, 6] half)
    <float[6] bias>
    { gelu = com.microsoft.BiasGelu(x, bias)
      quick = com.microsoft.QuickGelu(x)
      half = com.microsoft.QuickGelu <alpha = 0.5> (x) }"""


@valid(
    sets=[{"n": 3, "x": np.linspace(-70, 90, 12, dtype=np.float32).reshape(3, 4)}],
    opset=20,
    ir=9,
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={"old": integers("old", np.uint16, (3, 4))},
)
def quantized_to_16_bits():
    """Integers of 16 bits, which ONNX has since version 21 only."""
    return """(float[n, 4] x) => (uint16[n, 4] q, int16[n, 4] each, float[n, 4] back, float[3, 4] known)
    <float s = {0.005}, uint16 z = {32000}, float[4] scales = {0.01, 0.02, 0.005, 0.003}, int16[4] zeros = {-5, 0, 7, 1000}, uint16[3, 4] old>
    { q = com.microsoft.QuantizeLinear(x, s, z)
      each = com.microsoft.QuantizeLinear <axis = 1> (x, scales, zeros)
      back = com.microsoft.DequantizeLinear <axis = 1> (each, scales, zeros)
      known = com.microsoft.DequantizeLinear(old, s, z) }"""


def experts(name: str, bits: tuple[int, int], block: int | None) -> dict[str, np.ndarray]:
    """Four quantized experts for tokens of 32, with hidden layers of 48, of which the first may have two rows for each."""
    count, width, hidden = 4, 32, 48
    rows = hidden if block is None else 2 * hidden
    made = {}
    for layer, (n, k), size in zip(("fc1", "fc2"), ((rows, width), (width, hidden)), bits):
        scales = (count, n) if block is None else (count, n, k // block)
        made |= {
            f"{layer}_{name}": integers(f"{layer}_{name}", np.uint8, (count, n, k * size // 8)),
            f"{layer}_{name}_scale": floats(f"{layer}_{name}_scale", scales, 0.1 / 2**size, 0.4 / 2**size),
            f"{layer}_{name}_bias": floats(f"{layer}_{name}_bias", (count, n), -0.1, 0.1),
            f"{layer}_{name}_zero": integers(f"{layer}_{name}_zero", np.uint8, (*scales[:-1], -(-scales[-1] * size // 8))),
        }
    return made


@valid(
    sets=[{"n": 5}, {"n": 1}],
    imports=MICROSOFT,
    oracle="onnxruntime",
    weights={**experts("four", (4, 4), 16), **experts("eight", (8, 8), None)},
)
def quantized_experts():
    """Experts of 4 bits by blocks, of 8 bits by rows: with zeros and without, and gates that are not the scores."""
    return """(float[n, 32] x, float[n, 4] scores, float[n, 4] gates) => (float[n, 32] four, float[n, 32] plain, float[n, 32] eight, float[n, 32] mixed, float[n, 32] given)
    <uint8[4, 96, 16] fc1_four, float[4, 96, 2] fc1_four_scale, float[4, 96] fc1_four_bias, uint8[4, 96, 1] fc1_four_zero,
     uint8[4, 32, 24] fc2_four, float[4, 32, 3] fc2_four_scale, float[4, 32] fc2_four_bias, uint8[4, 32, 2] fc2_four_zero,
     uint8[4, 48, 32] fc1_eight, float[4, 48] fc1_eight_scale, float[4, 48] fc1_eight_bias, uint8[4, 48] fc1_eight_zero,
     uint8[4, 32, 48] fc2_eight, float[4, 32] fc2_eight_scale, float[4, 32] fc2_eight_bias, uint8[4, 32] fc2_eight_zero>
    { shares = Sigmoid(gates)
      four = com.microsoft.QMoE <k = 2, activation_type = "swiglu", swiglu_fusion = 1, block_size = 16, activation_alpha = 1.702, activation_beta = 1.0, swiglu_limit = 0.9, normalize_routing_weights = 1, weights_prepacked = 0>
          (x, scores, fc1_four, fc1_four_scale, fc1_four_bias, fc2_four, fc2_four_scale, fc2_four_bias, "", "", "", fc1_four_zero, fc2_four_zero)
      plain = com.microsoft.QMoE <k = 2, activation_type = "swiglu", swiglu_fusion = 1, block_size = 16>
          (x, scores, fc1_four, fc1_four_scale, "", fc2_four, fc2_four_scale)
      eight = com.microsoft.QMoE <k = 1, expert_weight_bits = 8, activation_type = "silu">
          (x, scores, fc1_eight, fc1_eight_scale, fc1_eight_bias, fc2_eight, fc2_eight_scale, fc2_eight_bias, "", "", "", fc1_eight_zero, fc2_eight_zero)
      mixed = com.microsoft.QMoE <k = 3, expert_weight_bits = 8, activation_type = "relu", normalize_routing_weights = 1>
          (x, scores, fc1_eight, fc1_eight_scale, "", fc2_eight, fc2_eight_scale, "", "", "", "", "", "", "", shares)
      given = com.microsoft.QMoE <k = 2, expert_weight_bits = 8, activation_type = "gelu">
          (x, scores, fc1_eight, fc1_eight_scale, "", fc2_eight, fc2_eight_scale, "", "", "", "", "", "", "", shares) }"""


@valid(
    sets=[
        {"n": 2, "m": np.stack([np.eye(4)[[2, 0, 3, 1]] * 2 + 0.25, floats("inverse", (4, 4)) + 2 * np.eye(4)]).astype(np.float32), "v": np.array([3, 1, 3, 7, 1, 3], np.float32), "u": 3},
        {"n": 1, "m": np.eye(4, dtype=np.float32)[None, ::-1].copy(), "v": np.array([5], np.float32), "u": 1},
    ],
    imports=MICROSOFT,
    oracle="onnxruntime",
)
def early_operators():
    """Operators that came before those of ONNX: inverses, distances, padding, distinct values, another axis, sampled images."""
    return """(float[n, 4, 4] m, float[v0] v, float[n, 2, 3, 4] image, float[n, 3, 2, 2] grid) => (float[n, 4, 4] inverse, float[n, 3] far, float[n, 3] root, float[n, 2, 5, 5] padded, float[u] values, int64[v0] which, int64[u] counts, float[v0, 1] column, float[n, 2, 3, 2] sampled)
    <int64[8] pads = {0, 0, 1, 0, 0, 0, 1, 1}, float value = {0.5}, int32 axis = {1}, int64[2] shape = {-1, 16}, float[3, 16] others>
    { inverse = com.microsoft.Inverse(m)
      flat = Reshape(m, shape)
      far = com.microsoft.CDist <metric = "sqeuclidean"> (flat, others)
      root = com.microsoft.CDist <metric = "euclidean"> (flat, others)
      padded = com.microsoft.Pad(image, pads, value)
      values, which, counts = com.microsoft.Unique(v)
      column = com.microsoft.ExpandDims(v, axis)
      sampled = com.microsoft.GridSample <padding_mode = "border"> (image, grid) }"""
