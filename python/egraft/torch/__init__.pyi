from typing import Any, Callable, Mapping, Sequence

from torch import Tensor
from torch.fx import GraphModule
from torch.nn import Module
from torch.onnx import ONNXProgram

from .._egraft import Model

class _Module:
    model: Model
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

def backend(
    graph_module: GraphModule,
    example_inputs: Sequence[Any],
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., tuple[Tensor, ...]]: ...
def compile(
    module: Module,
    example_inputs: Sequence[Any] = (),
    dynamic_shapes: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> _Module: ...
def export(
    module: Module,
    example_inputs: Sequence[Any],
    dynamic_shapes: Any = None,
    functions: Sequence[type[Module]] = ...,
    **options: Any,
) -> ONNXProgram: ...
