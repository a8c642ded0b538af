"""Where programs look for onnxruntime's exceptions."""

from egraft.ort import *  # noqa: F403
from egraft.ort import __getattr__  # noqa: F401
