"""Element types: ONNX's numbers, onnxruntime's words and NumPy's names."""

import numpy

from ._exceptions import InvalidArgument

# By the number in TensorProto.DataType.
_NAMES = {
    1: ("float", "float32"),
    2: ("uint8", "uint8"),
    3: ("int8", "int8"),
    4: ("uint16", "uint16"),
    5: ("int16", "int16"),
    6: ("int32", "int32"),
    7: ("int64", "int64"),
    8: ("string", "object"),
    9: ("bool", "bool"),
    10: ("float16", "float16"),
    11: ("double", "float64"),
    12: ("uint32", "uint32"),
    13: ("uint64", "uint64"),
    14: ("complex64", "complex64"),
    15: ("complex128", "complex128"),
    16: ("bfloat16", "bfloat16"),
    17: ("float8e4m3fn", "float8_e4m3fn"),
    18: ("float8e4m3fnuz", "float8_e4m3fnuz"),
    19: ("float8e5m2", "float8_e5m2"),
    20: ("float8e5m2fnuz", "float8_e5m2fnuz"),
    21: ("uint4", "uint4"),
    22: ("int4", "int4"),
    23: ("float4e2m1", "float4_e2m1fn"),
    24: ("float8e8m0", "float8_e8m0fnu"),
}
_NUMBERS = {numpy_name: number for number, (_, numpy_name) in _NAMES.items()}


def word(number):
    """onnxruntime's word: `float`."""
    return _NAMES[number][0] if number in _NAMES else "undefined"


def name(number):
    """The name that NumPy, PyTorch and ml_dtypes share: `float32`."""
    return _NAMES[number][1]


def number_of_word(kind):
    """ONNX's number of the elements of a type in onnxruntime's words: `tensor(float)`."""
    for number, (word, _) in _NAMES.items():
        if kind == f"tensor({word})":
            return number
    raise ValueError(f"{kind} not found in map")


def number_of(element_type):
    """ONNX's number of a type, which is a NumPy type or such a number already."""
    if isinstance(element_type, int) and not isinstance(element_type, bool):
        if element_type not in _NAMES:
            raise InvalidArgument(f"{element_type} is no element type of ONNX")
        return element_type
    name = numpy.dtype(element_type).name
    if name not in _NUMBERS:
        raise InvalidArgument(f"{name} is no element type of ONNX")
    return _NUMBERS[name]


def dtype(element_type):
    """NumPy's type of an element type."""
    name = _NAMES[number_of(element_type)][1]
    try:
        return numpy.dtype(name)
    except TypeError:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, name))
