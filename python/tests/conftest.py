"""What the tests share: where the models are, and how they are made."""

import pathlib

import numpy
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "models" / "zoo" / "digits.onnx"


def pytest_addoption(parser):
    help = "all small golden models, and real programs and the tests with PyTorch, which are fetched"
    parser.addoption("--all", action="store_true", help=help)


@pytest.fixture(scope="session")
def digits():
    """The path of a small convolutional network."""
    return DIGITS


@pytest.fixture(scope="session")
def images():
    """Images of digits."""
    files = sorted((DIGITS.parent / "digits").glob("*.npy"))
    return numpy.concatenate([numpy.load(file).reshape(-1, 1, 8, 8) for file in files])


@pytest.fixture(scope="session")
def make():
    """Makes the bytes of an ONNX model of some nodes."""
    helper = pytest.importorskip("onnx.helper")

    def make(nodes, inputs, outputs, initializers=(), **said):
        def ports(ports):
            return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in ports]

        nodes = [helper.make_node(op, *args, **attributes) for op, args, attributes in nodes]
        graph = helper.make_graph(nodes, "g", ports(inputs), ports(outputs), list(initializers))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **said)
        return model.SerializeToString()

    return make
