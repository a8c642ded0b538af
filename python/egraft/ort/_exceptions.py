"""onnxruntime's exceptions, and what of egraft's errors they are."""

import contextlib

from .._errors import Error, InputError, ModelError, UnsupportedError


class Fail(Exception):
    pass


class InvalidArgument(Exception):
    pass


class NoSuchFile(Exception):
    pass


class NoModel(Exception):
    pass


class EngineError(Exception):
    pass


class RuntimeException(Exception):
    pass


class InvalidProtobuf(Exception):
    pass


class ModelLoaded(Exception):
    pass


class NotImplemented(Exception):  # noqa: A001, the name is onnxruntime's
    pass


class InvalidGraph(Exception):
    pass


class EPFail(Exception):
    pass


def _twin(error):
    if error.code == "egraft::cli::read":
        return NoSuchFile
    if isinstance(error, UnsupportedError):
        return NotImplemented
    if isinstance(error, InputError):
        return InvalidArgument
    if isinstance(error, ModelError):
        return InvalidProtobuf if error.code == "egraft::onnx::malformed" else InvalidGraph
    return Fail


@contextlib.contextmanager
def translated():
    """Raises egraft's errors as onnxruntime's."""
    try:
        yield
    except Error as error:
        raise _twin(error)(str(error)) from error
