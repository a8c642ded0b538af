"""Options of sessions and runs. What only tunes onnxruntime is kept, and changes nothing here."""

import enum

from ._exceptions import Fail, NotImplemented


class GraphOptimizationLevel(enum.IntEnum):
    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class OrtLoggingLevel(enum.IntEnum):
    VERBOSE = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    FATAL = 4


class _Checked:
    """Attributes that exist may be set; others are a mistake."""

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in self._attributes:
            raise AttributeError(f"onnxruntime.{type(self).__name__}.{name} has no twin in egraft.ort")
        object.__setattr__(self, name, value)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"onnxruntime.{type(self).__name__}.{name} has no twin in egraft.ort")


class SessionOptions(_Checked):
    _attributes = {
        "enable_cpu_mem_arena": True,
        "enable_mem_pattern": True,
        "enable_mem_reuse": True,
        "enable_profiling": False,
        "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
        "execution_order": ExecutionOrder.DEFAULT,
        "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
        "inter_op_num_threads": 0,
        "intra_op_num_threads": 0,
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "optimized_model_filepath": "",
        "profile_file_prefix": "onnxruntime_profile_",
        "use_deterministic_compute": False,
    }

    def __init__(self):
        for name, value in self._attributes.items():
            setattr(self, name, value)
        self._config = {}
        self._dims = {}

    def add_session_config_entry(self, key, value):
        self._config[key] = value

    def get_session_config_entry(self, key):
        if key not in self._config:
            raise Fail(f"SessionOptions does not have configuration with key: {key}")
        return self._config[key]

    def add_free_dimension_override_by_name(self, name, size):
        """The size that a symbolic dimension has."""
        self._dims[name] = size

    def has_providers(self):
        return False


class RunOptions(_Checked):
    _attributes = {
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "only_execute_path_to_fetches": False,
        "terminate": False,
        "training_mode": False,
    }

    def __init__(self):
        for name, value in self._attributes.items():
            setattr(self, name, value)
        self._config = {}

    def add_run_config_entry(self, key, value):
        self._config[key] = value

    def get_run_config_entry(self, key):
        if key not in self._config:
            raise Fail(f"RunOptions does not have configuration with key: {key}")
        return self._config[key]


def refuse(options):
    """Raises for what is asked of a session that egraft has no twin of."""
    if options.enable_profiling:
        raise NotImplemented("SessionOptions.enable_profiling has no twin in egraft.ort; egraft.bench times kernels")
    if options.optimized_model_filepath:
        raise NotImplemented(
            "SessionOptions.optimized_model_filepath has no twin in egraft.ort; "
            "`egraft compile MODEL --emit onnx` writes the rewritten model"
        )
