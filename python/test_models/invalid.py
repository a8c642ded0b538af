"""Files that must be refused: bytes that are no model, broken graphs, bad tensors, unsafe paths, unsupported versions.

`mentions` are names that the reader of the diagnostic needs: the node, the value, the file, the number that is wrong.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .case import invalid, parse, random, serialize

OUTSIDE = {"outside.bin": np.arange(4, dtype="<f4").tobytes()}
"""A real file just above each case's folder, so that refusing a path is a decision and not a missing file."""

ADD_W = "(float[n, 4] x) => (float[n, 4] y) <float[4] w> { [add] y = Add(x, w) }"


def small(name: str, body: str = ADD_W) -> onnx.ModelProto:
    return parse(name, body)


def weight(name: str, **fields: object) -> onnx.ModelProto:
    """x + w with the initializer w replaced by the given fields."""
    model = small(name)
    del model.graph.initializer[:]
    model.graph.initializer.append(TensorProto(name="w", **fields))
    return model


# Bytes


@invalid()
def empty():
    """No bytes at all, which protobuf takes for a message without fields."""
    return b""


@invalid()
def random_bytes():
    """Random bytes."""
    return random("random_bytes").bytes(512)


@invalid()
def text_file():
    """A text file under the wrong name."""
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 65651\n"


@invalid()
def truncated():
    """A good model cut in the middle."""
    content = serialize(small("truncated"))
    return content[: len(content) * 3 // 5]


@invalid()
def truncated_by_one():
    """A good model without its last byte."""
    return serialize(small("truncated_by_one"))[:-1]


@invalid()
def length_beyond_end():
    """A length prefix of 2^62 in front of nothing."""
    return b"\x08\x0a\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x3f"


@invalid()
def nested_too_deeply():
    """A graph in an attribute of a node of a graph, 3,000 levels deep: a recursive reader runs out of stack."""

    def field(number: int, content: bytes) -> bytes:
        size, prefix = len(content), bytearray([number << 3 | 2])
        while size > 0x7F:
            prefix.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes(prefix) + bytes([size]) + content

    graph = field(2, b"g")
    for _ in range(3000):
        attribute = field(1, b"b") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(4, b"If") + field(5, attribute))
    return b"\x08\x0a" + field(7, graph) + field(8, b"\x10\x15")


@invalid("graph")
def no_graph():
    """A model without a graph."""
    return onnx.ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 21)])


# Graph


@invalid("first", "second")
def cycle():
    """Two nodes that read each other's result."""
    return "(float[n] x) => (float[n] y) { [first] a = Add(x, b) [second] b = Neg(a) [third] y = Relu(b) }"


@invalid("loop")
def cycle_of_one():
    """A node that reads its own result."""
    return "(float[n] x) => (float[n] y) { [loop] y = Add(x, y) }"


@invalid("add", "weight")
def missing_initializer():
    """A node reads a value that nothing makes."""
    return "(float[n, 4] x) => (float[n, 4] y) { [add] y = Add(x, weight) }"


@invalid("z")
def output_never_produced():
    """The graph promises an output that no node makes."""
    return "(float[n] x) => (float[n] y, float[n] z) { [relu] y = Relu(x) }"


@invalid("a")
def duplicate_value():
    """Two nodes make the same value."""
    return "(float[n] x) => (float[n] y) { [first] a = Relu(x) [second] a = Neg(x) [third] y = Exp(a) }"


@invalid("x")
def duplicate_value_of_input():
    """A node makes a value that is already an input."""
    return "(float[n] x) => (float[n] y) { [first] x = Relu(x) [second] y = Neg(x) }"


@invalid("w")
def duplicate_value_of_initializer():
    """A node makes a value that is already an initializer."""
    return "(float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { [first] w = Relu(x) [second] y = Neg(w) }"


@invalid("x")
def duplicate_input():
    """Two inputs of one name."""
    model = small("duplicate_input")
    model.graph.input.append(model.graph.input[0])
    return model


@invalid("w")
def duplicate_initializer():
    """Two initializers of one name with different content."""
    model = small("duplicate_initializer")
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [4], [1, 2, 3, 4]))
    return model


@invalid("nameless")
def node_without_op_type():
    """A node that names no operator."""
    model = small("node_without_op_type")
    model.graph.node[0].name = "nameless"
    model.graph.node[0].op_type = ""
    return model


# Types and shapes


@invalid("matmul")
def matmul_of_scalar():
    """MatMul takes no scalar."""
    return "(float[n, 4] x) => (float[n] y) <float s = {2}> { [matmul] y = MatMul(x, s) }"


@invalid("matmul", "4", "5")
def matmul_sizes_differ():
    """The inner sizes of a product differ."""
    return "(float[n, 4] x) => (float[n, 3] y) <float[5, 3] w> { [matmul] y = MatMul(x, w) }"


@invalid("conv")
def conv_rank():
    """An image of rank 4 and a filter of rank 3."""
    return "(float[n, 2, 8, 8] x) => (float[n, 3, 6, 6] y) <float[3, 2, 3] w> { [conv] y = Conv(x, w) }"


@invalid("conv", accepted_elsewhere=True)
def conv_channels():
    """The filter wants three channels, the image has two."""
    return "(float[n, 2, 8, 8] x) => (float[n, 4, 6, 6] y) <float[4, 3, 3, 3] w> { [conv] y = Conv(x, w) }"


@invalid("conv", accepted_elsewhere=True)
def conv_group_zero():
    """No groups at all: a division by zero waits here."""
    return "(float[n, 2, 8, 8] x) => (float[n, 4, 6, 6] y) <float[4, 2, 3, 3] w> { [conv] y = Conv <group = 0> (x, w) }"


@invalid("pool")
def pool_stride_zero():
    """A stride of zero: another division by zero."""
    return "(float[n, 2, 8, 8] x) => (float[n, 2, a, b] y) { [pool] y = MaxPool <kernel_shape = [2, 2], strides = [0, 1]> (x) }"


@invalid("add", "4", "3")
def add_sizes_differ():
    """Sizes 4 and 3 do not broadcast."""
    return "(float[n, 4] x) => (float[n, 4] y) <float[3] w> { [add] y = Add(x, w) }"


@invalid("add")
def dtypes_differ():
    """f32 plus i64."""
    return "(float[4] x) => (float[4] y) <int64[4] w = {1, 2, 3, 4}> { [add] y = Add(x, w) }"


@invalid("reshape", "6", "4", accepted_elsewhere=True)
def reshape_count():
    """Six elements do not fit a shape of four."""
    return "(float[2, 3] x) => (float[2, 2] y) <int64[2] shape = {2, 2}> { [reshape] y = Reshape(x, shape) }"


@invalid("reshape", "-2")
def reshape_negative():
    """A size of -2 in a shape."""
    return "(float[2, 3] x) => (float[m, 3] y) <int64[2] shape = {-2, 3}> { [reshape] y = Reshape(x, shape) }"


@invalid("concat", "7")
def axis_out_of_range():
    """An axis beyond the rank."""
    return "(float[2, 3] x) => (float[4, 3] y) { [concat] y = Concat <axis = 7> (x, x) }"


@invalid("transpose")
def transpose_permutation():
    """A permutation that repeats an axis."""
    return "(float[2, 3] x) => (float[2, 2] y) { [transpose] y = Transpose <perm = [0, 0]> (x) }"


@invalid("y")
def output_shape_differs():
    """The declared output shape contradicts the computed one."""
    return "(float[2, 3] x) => (float[2, 5] y) { [relu] y = Relu(x) }"


@invalid("conv")
def required_input_left_out():
    """Conv's filter is an empty name."""
    return '(float[n, 2, 8, 8] x) => (float[n, 4, 6, 6] y) { [conv] y = Conv(x, "") }'


@invalid("relu")
def too_many_inputs():
    """Relu with two operands."""
    return "(float[n] x) => (float[n] y) { [relu] y = Relu(x, x) }"


@invalid("concat", "axis")
def required_attribute_missing():
    """Concat without an axis."""
    return "(float[2, 3] x) => (float[4, 3] y) { [concat] y = Concat(x, x) }"


@invalid("softmax", "axis")
def attribute_of_wrong_type():
    """An axis that is a float."""
    return "(float[n, 4] x) => (float[n, 4] y) { [softmax] y = Softmax <axis = 1.0> (x) }"


# Tensors


@invalid("w")
def initializer_bytes_short():
    """Four f32 in 12 bytes."""
    return weight("initializer_bytes_short", data_type=1, dims=[4], raw_data=bytes(12))


@invalid("w")
def initializer_bytes_long():
    """Four f32 in 17 bytes."""
    return weight("initializer_bytes_long", data_type=1, dims=[4], raw_data=bytes(17))


@invalid("w")
def initializer_values_short():
    """Four f32, three values in `float_data`."""
    return weight("initializer_values_short", data_type=1, dims=[4], float_data=[1, 2, 3])


@invalid("w")
def initializer_wrong_field():
    """f32 whose values stand in `int64_data`."""
    return weight("initializer_wrong_field", data_type=1, dims=[4], int64_data=[1, 2, 3, 4])


@invalid("w")
def initializer_two_encodings():
    """`raw_data` and `float_data` both filled."""
    return weight("initializer_two_encodings", data_type=1, dims=[4], raw_data=bytes(16), float_data=[1, 2, 3, 4])


@invalid("w")
def initializer_without_dtype():
    """An initializer without a data type."""
    return weight("initializer_without_dtype", dims=[4], raw_data=bytes(16))


@invalid("w", "99")
def initializer_unknown_dtype():
    """Data type 99."""
    return weight("initializer_unknown_dtype", data_type=99, dims=[4], raw_data=bytes(16))


@invalid("w")
def initializer_huge():
    """2^40 elements claimed, 16 bytes given: nothing may be allocated by the claim."""
    return weight("initializer_huge", data_type=1, dims=[2**40], raw_data=bytes(16))


@invalid("w")
def initializer_overflow():
    """2^40 x 2^40 elements: their number wraps to 0 in 64 bits, and no bytes are given."""
    return weight("initializer_overflow", data_type=1, dims=[2**40, 2**40], raw_data=b"")


@invalid("w", "-2")
def initializer_negative_dims():
    """Dims of -2 and -2, whose product is what the bytes hold."""
    return weight("initializer_negative_dims", data_type=1, dims=[-2, -2], raw_data=bytes(16))


@invalid(accepted_elsewhere=True)
def input_huge():
    """An input of 2^40 x 2^40: the size of the buffers leaves 64 bits."""
    return "(float[1099511627776, 1099511627776] x) => (float[1099511627776, 1099511627776] y) { [relu] y = Relu(x) }"


@invalid("fill", accepted_elsewhere=True)
def constant_of_shape_huge():
    """A constant of 2^40 x 2^40 elements made by a node: folding it would never end."""
    return """(float[4] x) => (float[4] y)
    <int64[2] shape = {1099511627776, 1099511627776}, int64[1] flat = {4}, int64[1] zero = {0}>
    { [fill] big = ConstantOfShape(shape) [sum] total = ReduceMax <keepdims = 0> (big) [add] y = Add(x, total) }"""


@invalid("shape", accepted_elsewhere=True)
def reshape_to_huge():
    """A run-time reshape whose sizes multiply to 2^80."""
    return """(float[n] x) => (float[1099511627776, 1099511627776] y)
    <int64[2] shape = {1099511627776, 1099511627776}>
    { [reshape_huge_shape] y = Reshape(x, shape) }"""


# External data


def external(name: str, **entries: str) -> onnx.ModelProto:
    model = weight(name, data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    return model


@invalid("w", "../outside.bin")
def external_parent():
    """A path that leaves the model's folder by `..`; the file exists."""
    return external("external_parent", location="../outside.bin")


@invalid("w", "data/../../outside.bin")
def external_parent_inside():
    """The same, hidden in the middle of the path."""
    return external("external_parent_inside", location="data/../../outside.bin"), {"data/kept.bin": bytes(16)}


@invalid("w", "/etc/passwd")
def external_absolute():
    """An absolute path, to a file that exists on most systems."""
    return external("external_absolute", location="/etc/passwd", length="16")


@invalid("w", "missing.bin")
def external_missing():
    """A file that is not there."""
    return external("external_missing", location="missing.bin")


@invalid("w", "data")
def external_folder():
    """A folder in place of a file."""
    return external("external_folder", location="data"), {"data/kept.bin": bytes(16)}


@invalid("w", "weights.bin")
def external_offset_beyond():
    """An offset behind the end of the file."""
    return external("external_offset_beyond", location="weights.bin", offset="64", length="16"), {"weights.bin": bytes(32)}


@invalid("w", "weights.bin")
def external_offset_overflow():
    """Offset plus length leaves 64 bits."""
    entries = {"location": "weights.bin", "offset": "18446744073709551608", "length": "16"}
    return external("external_offset_overflow", **entries), {"weights.bin": bytes(32)}


@invalid("w", "weights.bin")
def external_length_beyond():
    """The range begins inside the file and ends outside."""
    return external("external_length_beyond", location="weights.bin", offset="24", length="16"), {"weights.bin": bytes(32)}


@invalid("w", "weights.bin")
def external_length_differs():
    """Twelve bytes for sixteen."""
    return external("external_length_differs", location="weights.bin", length="12"), {"weights.bin": bytes(32)}


@invalid("w", "-16")
def external_offset_negative():
    """A negative offset."""
    return external("external_offset_negative", location="weights.bin", offset="-16", length="16"), {"weights.bin": bytes(32)}


@invalid("w", "sixteen")
def external_offset_text():
    """An offset that is no number."""
    return external("external_offset_text", location="weights.bin", offset="sixteen"), {"weights.bin": bytes(32)}


@invalid("w", "location")
def external_without_location():
    """External data that names no file."""
    return external("external_without_location", offset="0", length="16")


# What egraft does not know


@invalid("pool", "pool_2", "decode", "MaxRoiPool", "ImageDecoder", "21", accepted_elsewhere=True, unsupported=True)
def unsupported_ops():
    """Two operators that we lack, in three nodes among good ones: all three are reported at once."""
    return """(float[1, 3, height, width] x, float[n, 5] rois, uint8[bytes] jpeg) => (float[n, 3, 2, 2] y, uint8[rows, columns, 3] picture)
    { [pool] a = MaxRoiPool <pooled_shape = [2, 2]> (x, rois)
      [relu] b = Relu(a)
      [pool_2] c = MaxRoiPool <pooled_shape = [2, 2]> (x, rois)
      [add] y = Add(b, c)
      [decode] picture = ImageDecoder(jpeg) }"""


@invalid("zip", "ZipMap", "maps", imports='"ai.onnx.ml" : 3', accepted_elsewhere=True, unsupported=True)
def maps_of_classic_models():
    """Scores as a map from labels, which nothing reads."""
    return """(float[n, 2] x) => (float[n, 2] y)
    { [zip] maps = ai.onnx.ml.ZipMap <classlabels_int64s = [1, 2]> (x)
      y = Identity(x) }"""


@invalid("experts", "QMoE", "square", "--qmoe-layout", imports='"com.microsoft" : 1', accepted_elsewhere=True, unsupported=True)
def qmoe_without_layout():
    """Experts whose matrices are square: that rows of integers lie one after the other is said by nothing."""
    return """(float[n, 64] x, float[n, 4] scores) => (float[n, 64] y)
    <uint8[4, 64, 32] w1, float[4, 64] s1, uint8[4, 64, 32] w2, float[4, 64] s2>
    { [experts] y = com.microsoft.QMoE <k = 2, activation_type = "silu"> (x, scores, w1, s1, "", w2, s2) }"""


@invalid("mystery", "com.example", "Mystery", imports='"com.example" : 1', unsupported=True)
def unknown_domain():
    """An operator of a domain that we don't know and that no function defines."""
    return '(float[n] x) => (float[n] y) { [mystery] y = com.example.Mystery(x) }'


@invalid("mystery", "com.example")
def domain_without_opset():
    """The same domain, without an opset import."""
    return '(float[n] x) => (float[n] y) { [mystery] y = com.example.Mystery(x) }'


@invalid("rectify", "Rectify", unsupported=True)
def unknown_op():
    """No such operator in the standard."""
    return "(float[n] x) => (float[n] y) { [rectify] y = Rectify(x) }"


@invalid("gelu", "Gelu", opset=17)
def op_newer_than_opset():
    """Gelu came with opset 20, the model imports 17."""
    return "(float[n] x) => (float[n] y) { [gelu] y = Gelu(x) }"


@invalid("99", opset=99, unsupported=True)
def opset_99():
    """An opset from the future."""
    return "(float[n] x) => (float[n] y) { [relu] y = Relu(x) }"


@invalid("0", opset=0, ir=3, unsupported=True)
def opset_0():
    """An opset before the first."""
    return "(float[n] x) => (float[n] y) { [relu] y = Relu(x) }"


@invalid("99", ir=99, unsupported=True)
def ir_version_99():
    """An IR version from the future."""
    return "(float[n] x) => (float[n] y) { [relu] y = Relu(x) }"


@invalid("ir_version")
def ir_version_missing():
    """No IR version."""
    model = small("ir_version_missing")
    model.ClearField("ir_version")
    return model


@invalid("opset")
def no_opset_import():
    """No opset at all."""
    model = small("no_opset_import")
    del model.opset_import[:]
    return model


@invalid("opset", accepted_elsewhere=True)
def two_opset_imports():
    """Two versions of the standard operators at once."""
    model = small("two_opset_imports")
    model.opset_import.append(helper.make_opsetid("", 13))
    return model


@invalid("words", accepted_elsewhere=True, unsupported=True)
def string_input():
    """An input of strings."""
    return '(string[n] words) => (string[n] y) { [identity] y = Identity(words) }'


@invalid("pieces", accepted_elsewhere=True, unsupported=True)
def sequence_input():
    """An input that is a sequence of tensors, and nothing says of how many."""
    return "(seq(float[2]) pieces) => (float[m] y) { [join] y = ConcatFromSequence <axis = 0> (pieces) }"


# Functions


@invalid("Again", imports='"local" : 1')
def function_recursive():
    """A function that calls itself."""
    return """(float[n] x) => (float[n] y) { [call] y = local.Again(x) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]> Again (x) => (y) { a = Relu(x) y = local.Again(a) }"""


@invalid("Ping", imports='"local" : 1')
def function_mutually_recursive():
    """Two functions that call each other."""
    return """(float[n] x) => (float[n] y) { [call] y = local.Ping(x) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]> Ping (x) => (y) { y = local.Pong(x) }
    <domain: "local", opset_import: ["" : 21, "local" : 1]> Pong (x) => (y) { y = local.Ping(x) }"""


@invalid("F0", imports='"local" : 1', accepted_elsewhere=True)
def function_bomb():
    """Forty functions, each calling the next twice: inlined, 2^40 nodes."""
    header = '<domain: "local", opset_import: ["" : 21, "local" : 1]>'
    calls = [f"{header} F{i} (x) => (y) {{ a = local.F{i + 1}(x) y = local.F{i + 1}(a) }}" for i in range(40)]
    return "\n".join(
        ["(float[n] x) => (float[n] y) { [call] y = local.F0(x) }", *calls, f"{header} F40 (x) => (y) {{ y = Neg(x) }}"]
    )


@invalid("Leak", "slope", imports='"local" : 1', accepted_elsewhere=True)
def function_attribute_missing():
    """A call leaves out an attribute that has no default and that the body reads where the operator needs one."""
    return """(float[n] x) => (float[n] y) { [call] y = local.Leak(x) }
    <domain: "local", opset_import: ["" : 21]> Leak <slope> (x) => (y)
    { factor = Constant <value_float: float = @slope> () y = Mul(x, factor) }"""


@invalid("Twice", imports='"local" : 1')
def function_defined_twice():
    """Two definitions of one function."""
    body = '<domain: "local", opset_import: ["" : 21]> Twice (x) => (y) { y = Add(x, x) }'
    return f"(float[n] x) => (float[n] y) {{ [call] y = local.Twice(x) }}\n{body}\n{body}"
