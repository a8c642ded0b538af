"""Where programs look for onnxruntime's classes."""

from egraft.ort import InferenceSession, IOBinding, OrtDevice, OrtValue  # noqa: F401
