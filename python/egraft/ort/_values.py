"""Tensors in the memory of the processor, as onnxruntime's OrtValue."""

import ctypes
import math

import numpy

from . import _types
from ._exceptions import InvalidArgument, NotImplemented


def on_cpu(device_type):
    """Raises for devices that there are not."""
    name = device_type if isinstance(device_type, str) else device_type.device_type()
    if name not in ("cpu", "Cpu", 0):
        raise NotImplemented(f"device `{name}` has no twin in egraft.ort, which runs on the CPU")


def at_pointer(pointer, shape, element_type):
    """The array at an address, which whoever gave it keeps."""
    dtype = _types.dtype(element_type)
    count = math.prod(shape)
    if count == 0:
        return numpy.empty(shape, dtype)
    memory = (ctypes.c_byte * (count * dtype.itemsize)).from_address(pointer)
    return numpy.frombuffer(memory, numpy.uint8).view(dtype).reshape(shape)


# What DLPack calls the element types that NumPy lacks, and therefore does not hand out.
_DLPACK_CODES = {
    "bfloat16": 4,
    "float8_e4m3fn": 10,
    "float8_e4m3fnuz": 11,
    "float8_e5m2": 12,
    "float8_e5m2fnuz": 13,
    "float8_e8m0fnu": 14,
}
# Where the code stands in a `DLTensor`: behind the data, the device and the number of axes.
_CODE_AT = 20


def _dlpack(array, code):
    """A DLPack capsule of an array: NumPy's, of numbers of the same size, with this type."""
    capsule = array.view(f"uint{8 * array.itemsize}").__dlpack__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    ctypes.c_uint8.from_address(pointer(capsule, b"dltensor") + _CODE_AT).value = code
    return capsule


class OrtDevice:
    """A device: the processor."""

    def __init__(self, device_type="cpu", device_id=0):
        on_cpu(device_type)
        self._id = device_id

    @staticmethod
    def make(device_type, device_id):
        return OrtDevice(device_type, device_id)

    @staticmethod
    def cpu():
        return 0

    def device_type(self):
        return "cpu"

    def device_id(self):
        return self._id


class OrtValue:
    """A tensor. It shares the memory of the array that it was made of."""

    def __init__(self, array):
        self._array = array

    @staticmethod
    def ortvalue_from_numpy(numpy_obj, device_type="cpu", device_id=0):
        on_cpu(device_type)
        return OrtValue(numpy.ascontiguousarray(numpy_obj).reshape(numpy.shape(numpy_obj)))

    @staticmethod
    def ortvalue_from_numpy_with_onnx_type(data, onnx_element_type):
        return OrtValue(data.view(_types.dtype(onnx_element_type)))

    @staticmethod
    def ortvalue_from_shape_and_type(shape, element_type, device_type="cpu", device_id=0):
        on_cpu(device_type)
        return OrtValue(numpy.empty(tuple(shape), _types.dtype(element_type)))

    @staticmethod
    def from_dlpack(data, is_bool_tensor=False):
        array = numpy.from_dlpack(data)
        return OrtValue(array.view(numpy.bool_) if is_bool_tensor else array)

    @property
    def _ortvalue(self):
        """What onnxruntime has behind a value, for programs that reach for it."""
        return self

    def numpy(self):
        return self._array

    def data_ptr(self):
        return self._array.ctypes.data

    def shape(self):
        return list(self._array.shape)

    def element_type(self):
        return _types.number_of(self._array.dtype)

    def data_type(self):
        return f"tensor({_types.word(self.element_type())})"

    def device_name(self):
        return "cpu"

    def is_tensor(self):
        return True

    def is_tensor_sequence(self):
        return False

    def is_sparse_tensor(self):
        return False

    def has_value(self):
        return True

    def update_inplace(self, np_arr):
        if np_arr.shape != self._array.shape or np_arr.dtype != self._array.dtype:
            raise InvalidArgument("the array has another shape or type than the value that it is to replace")
        numpy.copyto(self._array, np_arr)

    def to_dlpack(self):
        return self.__dlpack__()

    def __dlpack__(self, **options):
        code = _DLPACK_CODES.get(self._array.dtype.name)
        return self._array.__dlpack__(**options) if code is None else _dlpack(self._array, code)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"onnxruntime.OrtValue.{name} has no twin in egraft.ort")
