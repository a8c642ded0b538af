"""Valid models about how constants are stored: initializers, Constant nodes, external data."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from .case import parse, random, valid

FINITE = [0.0, -0.0, 1.0, -2.5, 0.15625, 3.0e4]
SPECIAL = [np.inf, -np.inf, np.nan]
SAMPLES: dict[int, np.ndarray] = {
    TensorProto.FLOAT: np.array(FINITE + SPECIAL + [1e-42, 3.4028235e38], np.float32),
    TensorProto.DOUBLE: np.array(FINITE + SPECIAL + [5e-324, 1.7976931348623157e308], np.float64),
    TensorProto.FLOAT16: np.array(FINITE + SPECIAL + [6e-8, 65504.0], np.float16),
    TensorProto.BFLOAT16: np.array(FINITE + SPECIAL + [9.2e-41, 3.3895e38], ml_dtypes.bfloat16),
    TensorProto.INT8: np.array([0, 1, -1, 127, -128], np.int8),
    TensorProto.INT16: np.array([0, 1, -1, 32767, -32768], np.int16),
    TensorProto.INT32: np.array([0, 1, -1, 2**31 - 1, -(2**31)], np.int32),
    TensorProto.INT64: np.array([0, 1, -1, 2**63 - 1, -(2**63)], np.int64),
    TensorProto.UINT8: np.array([0, 1, 128, 255], np.uint8),
    TensorProto.UINT16: np.array([0, 1, 32768, 65535], np.uint16),
    TensorProto.UINT32: np.array([0, 1, 2**31, 2**32 - 1], np.uint32),
    TensorProto.UINT64: np.array([0, 1, 2**63, 2**64 - 1], np.uint64),
    TensorProto.BOOL: np.array([True, False, True], np.bool_),
}


def bits(array: np.ndarray) -> list[int]:
    """Sixteen-bit floats as `int32_data` holds them."""
    return [int(value) for value in array.view(np.uint16)]


def tensor(elem_type: int, field: str) -> TensorProto:
    array = SAMPLES[elem_type]
    proto = TensorProto(name=f"w_{TensorProto.DataType.Name(elem_type).lower()}", data_type=elem_type, dims=array.shape)
    if field == "raw_data":
        proto.raw_data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    elif elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        getattr(proto, field).extend(bits(array))
    else:
        getattr(proto, field).extend((array.astype(np.uint8) if array.dtype == np.bool_ else array).tolist())
    return proto


def passed_through(name: str, tensors: list[TensorProto]) -> onnx.ModelProto:
    """Each initializer goes through Identity to an output, bit for bit; `x` goes along so that there is an input."""
    model = parse(name, "(float[n] x) => (float[n] y) { y = Neg(x) }")
    for proto in tensors:
        output = proto.name.replace("w_", "y_")
        model.graph.initializer.append(proto)
        model.graph.node.append(helper.make_node("Identity", [proto.name], [output], f"Identity_{proto.name}"))
        model.graph.output.append(helper.make_tensor_value_info(output, proto.data_type, list(proto.dims)))
    return model


def encoding(name: str, field: str, about: str, *elem_types: int) -> None:
    def build() -> onnx.ModelProto:
        return passed_through(name, [tensor(elem_type, field) for elem_type in elem_types])

    build.__name__, build.__doc__ = name, about
    valid(sets=[{"n": 3}])(build)


T = TensorProto
encoding("initializer_raw_data", "raw_data", "Every dtype as little-endian bytes.", *SAMPLES)
encoding("initializer_float_data", "float_data", "f32 in `float_data`.", T.FLOAT)
encoding("initializer_double_data", "double_data", "f64 in `double_data`.", T.DOUBLE)
encoding("initializer_int64_data", "int64_data", "i64 in `int64_data`.", T.INT64)
encoding("initializer_uint64_data", "uint64_data", "u32 and u64 in `uint64_data`.", T.UINT32, T.UINT64)
encoding(
    "initializer_int32_data",
    "int32_data",
    "All that `int32_data` may hold: i32, i16, i8, u16, u8, bool by value; f16 and bf16 by bit pattern.",
    *(T.INT32, T.INT16, T.INT8, T.UINT16, T.UINT8, T.BOOL, T.FLOAT16, T.BFLOAT16),
)


@valid(sets=[{"n": 2}])
def initializer_shapes():
    """A scalar (no dims), an empty tensor, one element of rank 3, and one that nothing uses."""
    return """(float[n, 3] x) => (float[n, 3] y, float[n_plus_0, 3] z)
    <float scalar = {2.5}, float[0, 3] empty = {}, float[1, 1, 1] deep = {-1.5}, float[4] unused = {1, 2, 3, 4},
     int64[2] shape = {-1, 3}>
    { a = Mul(x, scalar)
      b = Add(a, deep)
      y = Reshape(b, shape)
      z = Concat <axis = 0> (x, empty) }"""


@valid(sets=[{"n": 2}], opset=7, ir=3)
def initializer_listed_as_input():
    """Before IR version 4 an initializer is also a graph input, there the default of an input."""
    return """(float[n, 3] x, float[3, 2] weight = {1, 2, 3, 4, 5, 6}, float[2] bias = {0.5, -0.5}) => (float[n, 2] y)
    { a = MatMul(x, weight)
      y = Add(a, bias) }"""


@valid(sets=[{"n": 2}])
def constant_attributes():
    """Constant with `value`, `value_float`, `value_floats`, `value_int` and `value_ints`."""
    return """(float[n, 6] x) => (float[n, 2, 3] y, int64 count, int64[2] pair)
    { table = Constant <value = float[2, 3] {1, 2, 3, 4, 5, 6}> ()
      half = Constant <value_float: float = 0.5> ()
      row = Constant <value_floats: floats = [10.0, 20.0, 30.0]> ()
      count = Constant <value_int: int = 7> ()
      pair = Constant <value_ints: ints = [3, 4]> ()
      shape = Constant <value_ints: ints = [-1, 2, 3]> ()
      a = Reshape(x, shape)
      b = Mul(a, table)
      c = Mul(b, half)
      y = Add(c, row) }"""


@valid(sets=[{"n": 3}])
def external_data():
    """Weights in two files, one of them in a folder below: with offset and length, with length alone, with neither."""
    generator = random("external_data")
    weights = [generator.standard_normal(shape).astype("<f4") for shape in ([4, 8], [8], [8, 2], [2])]
    w1, b1, w2, b2 = (array.tobytes() for array in weights)
    files = {"weights_a.bin": b1 + bytes(4096 - len(b1)) + w1, "data/weights_b.bin": w2, "data/bias.bin": b2 + b2}
    text = """(float[n, 4] x) => (float[n, 2] y)
    <float[4, 8] w1 = ["location": "weights_a.bin", "offset": "4096", "length": "128"],
     float[8] b1 = ["location": "weights_a.bin", "offset": "0", "length": "32"],
     float[8, 2] w2 = ["location": "data/weights_b.bin"],
     float[2] b2 = ["location": "data/bias.bin", "length": "8"]>
    { a = MatMul(x, w1)
      b = Add(a, b1)
      c = Relu(b)
      d = MatMul(c, w2)
      y = Add(d, b2) }"""
    return text, files
