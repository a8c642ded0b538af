"""The cases behind `tests/data/onnx`: what each file contains and why. `make_test_models.py` turns them into files."""
