import os
from typing import Any, Iterable, Mapping

from ._egraft import Model as Model, __version__ as __version__
from ._errors import (
    Error as Error,
    InputError as InputError,
    InternalError as InternalError,
    ModelError as ModelError,
    UnsupportedError as UnsupportedError,
)
from ._model import Port as Port

# A path, "zoo:NAME", the bytes of an ONNX model, or an onnx.ModelProto.
_Model = str | os.PathLike[str] | bytes | bytearray | memoryview | Any

def compile(
    model: _Model,
    *,
    target: str = "cpu",
    dims: Mapping[str, int] = {},
    fp: str = "reassoc",
    threads: int | None = None,
    disable_rules: Iterable[str] = (),
    settings: Mapping[str, Any] = {},
) -> Model: ...
def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Model: ...
def verify(model: _Model, **options: Any) -> dict[str, Any]: ...
def check(model: _Model, **options: Any) -> dict[str, Any]: ...
def bench(model: _Model, **options: Any) -> dict[str, Any]: ...
def zoo(name: str | None = None, **settings: Any) -> Any: ...
