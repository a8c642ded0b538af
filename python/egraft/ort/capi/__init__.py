"""The places inside onnxruntime from which programs import exceptions and classes."""
