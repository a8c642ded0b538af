"""A twin of onnxruntime: programs that were written for it run on egraft.

    import egraft.ort as onnxruntime

or, for a program that imports onnxruntime itself, before it does:

    import sys, egraft.ort
    sys.modules["onnxruntime"] = egraft.ort

What is there behaves as in onnxruntime, on the CPU. What is not there raises an error that names it.
"""

from ._exceptions import (
    EPFail,
    EngineError,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoaded,
    NoModel,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)
from ._options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    OrtLoggingLevel,
    RunOptions,
    SessionOptions,
)
from ._session import InferenceSession, IOBinding, ModelMetadata, NodeArg
from ._values import OrtDevice, OrtValue

# The version whose interface this follows.
__version__ = "1.20.0"

_CPU = "CPUExecutionProvider"


def get_available_providers():
    """The processor, and nothing else."""
    return [_CPU]


def get_all_providers():
    return [_CPU]


def get_device():
    return "CPU"


def get_version_string():
    return __version__


def get_build_info():
    import egraft

    return f"egraft {egraft.__version__}, as onnxruntime {__version__}"


def set_default_logger_severity(severity):
    """egraft logs nothing: what goes wrong is an exception."""
    if severity not in range(5):
        raise Fail(f"a severity is a number from 0 to 4, not {severity}")


def set_default_logger_verbosity(verbosity):
    """As `set_default_logger_severity`."""


def set_seed(seed):
    """Random numbers of models are the same at every run, whatever the seed."""


def enable_telemetry_events():
    """There is no telemetry."""


def disable_telemetry_events():
    """There is no telemetry."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"onnxruntime.{name} has no twin in egraft.ort; run the model through InferenceSession on the CPU, "
        "or use onnxruntime for this part"
    )
