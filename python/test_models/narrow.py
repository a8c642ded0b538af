"""Valid models with floats of 8 and 4 bits and integers of 4 and 2: how they are stored, cast and quantized."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .case import parse, random, valid

T = TensorProto
FLOATS = [T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ, T.FLOAT8E8M0]
PACKED = [T.FLOAT4E2M1, T.INT4, T.UINT4, T.INT2, T.UINT2]
# Neither onnxruntime nor numpy itself has all of them.
NARROW = {"opset": 25, "ir": 13, "onnxruntime": False}


def codes(elem_type: int) -> TensorProto:
    """Every code of a type but one, so that what is packed does not fill its last byte."""
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    bits = 8 if elem_type in FLOATS else 2 if elem_type in (T.INT2, T.UINT2) else 4
    array = np.arange(2**bits - 1, dtype=np.uint8)
    if elem_type in (T.INT4, T.INT2):
        array = (array.astype(np.int8) << (8 - bits)) >> (8 - bits)
    return numpy_helper.from_array(array.view(dtype), f"w_{T.DataType.Name(elem_type).lower()}")


def as_int32(proto: TensorProto) -> TensorProto:
    """The same, byte for byte in `int32_data`."""
    proto.int32_data.extend(proto.raw_data)
    proto.ClearField("raw_data")
    return proto


def stored(name: str, about: str, change) -> None:
    """Each initializer is cast to f32, bit for bit exact; `x` goes along so that there is an input."""

    def build() -> onnx.ModelProto:
        model = parse(name, "(float[n] x) => (float[n] y) { y = Neg(x) }", NARROW["opset"], NARROW["ir"])
        for proto in map(change, map(codes, FLOATS + PACKED)):
            output = proto.name.replace("w_", "y_")
            model.graph.initializer.append(proto)
            model.graph.node.append(helper.make_node("Cast", [proto.name], [output], f"Cast_{proto.name}", to=T.FLOAT))
            model.graph.output.append(helper.make_tensor_value_info(output, T.FLOAT, list(proto.dims)))
        return model

    build.__name__, build.__doc__ = name, about
    valid(sets=[{"n": 3}], **NARROW)(build)


stored("narrow_raw_data", "Types of 8, 4 and 2 bits in `raw_data`, those below 8 several in a byte.", lambda proto: proto)
stored("narrow_int32_data", "The same bytes in `int32_data`.", as_int32)

EDGES = np.array([0, -0.0, 0.3, -1.75, 6.5, 17, -240, 256, 464, 500, 6e4, -7e4, 1e9, 1e-9, np.inf, -np.inf, np.nan], np.float32)


@valid(sets=[{"x": EDGES}], **NARROW)
def narrow_casts():
    """Casts to floats of 8 and 4 bits, saturating or not, and back."""
    body, outputs = [], []
    for elem_type in [*FLOATS[:4], T.FLOAT4E2M1]:
        name = T.DataType.Name(elem_type).lower()
        for saturate in (1, 0):
            y = f"{name}_{saturate}"
            body.append(f"n_{y} = Cast <to = {elem_type}, saturate = {saturate}> (x)\n{y} = Cast <to = 1> (n_{y})")
            outputs.append(f"float[{EDGES.size}] {y}")
    return f"(float[{EDGES.size}] x) => ({', '.join(outputs)}) {{ {' '.join(body)} }}"


@valid(sets=[{"n": 3}], **NARROW)
def microscaling():
    """A product with a matrix of floats of 4 bits, of which each 4 in a column share a power of two."""
    generator = random("microscaling")
    e2m1, e8m0 = map(helper.tensor_dtype_to_np_dtype, (T.FLOAT4E2M1, T.FLOAT8E8M0))
    matrix = generator.integers(0, 16, (8, 5)).astype(np.uint8).view(e2m1)
    scale = generator.integers(124, 130, (2, 5)).astype(np.uint8).view(e8m0)
    text = """(float[n, 8] x) => (float[n, 5] y)
    { d = DequantizeLinear <axis = 0, block_size = 4, output_dtype = 1> (q, s)
      w = Cast <to = 1> (d)
      y = MatMul(x, w) }"""
    model = parse("microscaling", text, NARROW["opset"], NARROW["ir"])
    model.graph.initializer.extend([numpy_helper.from_array(matrix, "q"), numpy_helper.from_array(scale, "s")])
    return model


@valid(sets=[{"n": 2}], **NARROW)
def weights_of_four_bits():
    """Integers of 4 bits in another shape and order before they are dequantized by columns."""
    generator = random("weights_of_four_bits")
    i4 = helper.tensor_dtype_to_np_dtype(T.INT4)
    matrix = generator.integers(-8, 8, 15).astype(i4)
    text = """(float[n, 5] x) => (float[n, 3] y)
    <float[3] scale = {0.5, 0.25, 2}, int64[2] shape = {3, 5}>
    { a = Reshape(q, shape)
      b = Transpose <perm = [1, 0]> (a)
      w = DequantizeLinear <axis = 1> (b, scale)
      y = MatMul(x, w) }"""
    model = parse("weights_of_four_bits", text, NARROW["opset"], NARROW["ir"])
    model.graph.initializer.append(numpy_helper.from_array(matrix, "q"))
    return model
