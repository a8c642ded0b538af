"""The types of a session's inputs and outputs, in the words of NumPy, PyTorch and ONNX."""

from .. import _types


class TypeHelper:
    """What onnxruntime's words for types are elsewhere."""

    @staticmethod
    def get_input_type(ort_session, name):
        return _type(ort_session.get_inputs(), name, "input")

    @staticmethod
    def get_output_type(ort_session, name):
        return _type(ort_session.get_outputs(), name, "output")

    @staticmethod
    def ort_type_to_numpy_type(ort_type):
        dtype = _types.dtype(_types.number_of_word(ort_type))
        return bool if dtype == bool else dtype.type

    @staticmethod
    def ort_type_to_torch_type(ort_type):
        return _torch_type(_types.number_of_word(ort_type))

    @staticmethod
    def ort_type_to_onnx_type(ort_type):
        return _types.number_of_word(ort_type)

    @staticmethod
    def numpy_type_to_torch_type(numpy_type):
        return _torch_type(_types.number_of(numpy_type))

    @staticmethod
    def torch_type_to_numpy_type(torch_type):
        dtype = _types.dtype(str(torch_type).removeprefix("torch."))
        return bool if dtype == bool else dtype.type

    @staticmethod
    def get_io_onnx_type_map(ort_session):
        return {port.name: _types.number_of_word(port.type) for port in _ports(ort_session)}

    @staticmethod
    def get_io_numpy_type_map(ort_session):
        return {port.name: TypeHelper.ort_type_to_numpy_type(port.type) for port in _ports(ort_session)}


def _torch_type(number):
    import torch

    return getattr(torch, _types.name(number))


def _ports(session):
    return [*session.get_inputs(), *session.get_outputs()]


def _type(ports, name, what):
    for port in ports:
        if port.name == name:
            return port.type
    raise ValueError(f"{what} name {name} not found")
