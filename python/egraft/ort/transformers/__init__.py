"""The place inside onnxruntime from which optimum imports what it asks about types."""
