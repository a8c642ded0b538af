"""The twin against the real onnxruntime, where that is installed; what has no counterpart, alone."""

import json
import struct
import sys

import numpy
import pytest

import egraft
import egraft.ort as twin

from conftest import ROOT

EXPERTS = ROOT / "models" / "zoo" / "digits_moe"
FEW = [
    "attention/elliptical_layer_dynamic",
    "attention/softmax_core_causal",
    "attention/mgk_hard",
    "attention/dynamicconv_k7",
    "moe/ac_gate",
    "moe/adam_layer_first",
    "spellings/mixtral_index_add",
    "spellings/stacked_experts",
]


# Larger ones take long with a compiler that is not optimised, and have the same interface.
LARGEST = 100_000


def golden(config):
    folder = ROOT / "tests" / "golden"
    if config.getoption("--all"):
        models = [path for path in folder.rglob("model.onnx") if path.stat().st_size <= LARGEST]
        return sorted(path.parent.relative_to(folder).as_posix() for path in models)
    return FEW


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", golden(metafunc.config))
    if "experts" in metafunc.fixturenames:
        models = sorted(path.name for path in EXPERTS.glob("*.onnx"))
        metafunc.parametrize("experts", models if metafunc.config.getoption("--all") else ["plain.onnx"])


@pytest.fixture(scope="module")
def real():
    return pytest.importorskip("onnxruntime")


def tensors(path):
    """The tensors of a .safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    types = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "BOOL": "?", "F16": "<f2", "U8": "u1"}
    found = {}
    for name, info in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__" and info["dtype"] in types:
            start, end = info["data_offsets"]
            raw = data[8 + length + start : 8 + length + end]
            found[name] = numpy.frombuffer(raw, types[info["dtype"]]).reshape(info["shape"])
    return found


def sessions(real, model):
    options = real.SessionOptions()
    options.log_severity_level = 4
    return real.InferenceSession(model, options, providers=["CPUExecutionProvider"]), twin.InferenceSession(model)


def ports(args):
    return [(arg.name, arg.type, list(arg.shape)) for arg in args]


def test_golden_models(real, case):
    folder = ROOT / "tests" / "golden" / case
    data = tensors(folder / "tensors.safetensors")
    try:
        theirs, ours = sessions(real, str(folder / "model.onnx"))
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            pytest.skip(f"onnxruntime does not load it: {error}")
        raise
    assert ports(theirs.get_inputs()) == ports(ours.get_inputs())
    assert [arg.name for arg in theirs.get_outputs()] == [arg.name for arg in ours.get_outputs()]
    assert [arg.type for arg in theirs.get_outputs()] == [arg.type for arg in ours.get_outputs()]
    feed = {arg.name: data[f"in.{arg.name}"] for arg in ours.get_inputs()}
    # Each of the two may be off by this much.
    tolerance = json.loads((folder / "case.json").read_text())["tolerance"]
    for their, our in zip(theirs.run(None, feed), ours.run(None, feed), strict=True):
        assert (their.dtype, their.shape) == (our.dtype, our.shape)
        numpy.testing.assert_allclose(our, their, rtol=2 * tolerance["rtol"], atol=2 * tolerance["atol"])


def test_mixtures_of_experts(real, experts, images):
    theirs, ours = sessions(real, str(EXPERTS / experts))
    assert ports(theirs.get_inputs()) == ports(ours.get_inputs())
    (name,) = (arg.name for arg in ours.get_inputs())
    for their, our in zip(theirs.run(None, {name: images}), ours.run(None, {name: images}), strict=True):
        numpy.testing.assert_allclose(our, their, rtol=1e-3, atol=1e-5)


def test_what_a_model_says(real, digits):
    theirs, ours = sessions(real, str(digits))
    assert ports(theirs.get_inputs()) == ports(ours.get_inputs())
    assert ports(theirs.get_outputs()) == ports(ours.get_outputs())
    assert ours.get_providers() == theirs.get_providers()
    assert ours.get_provider_options().keys() == theirs.get_provider_options().keys()
    for name in (
        "custom_metadata_map",
        "description",
        "domain",
        "graph_description",
        "graph_name",
        "producer_name",
        "version",
    ):
        assert getattr(ours.get_modelmeta(), name) == getattr(theirs.get_modelmeta(), name), name


def test_what_a_model_says_wrongly(real, make):
    """A negative size is none; what is computed holds where an output is declared otherwise."""
    nodes = [("Relu", (["x"], ["y"]), {})]
    model = make(nodes, [("x", 1, [-1, 3])], [("y", 1, [6])])
    theirs, ours = sessions(real, model)
    assert ports(theirs.get_inputs()) == ports(ours.get_inputs())
    assert [arg.name for arg in theirs.get_outputs()] == [arg.name for arg in ours.get_outputs()]
    x = numpy.arange(-3, 3, dtype=numpy.float32).reshape(2, 3)
    numpy.testing.assert_array_equal(ours.run(None, {"x": x})[0], theirs.run(None, {"x": x})[0])


@pytest.mark.parametrize("labels", [[3, 5, 9], ["a", "b", "c"]])
def test_maps_and_texts(real, labels):
    """What classifiers of scikit-learn give, as skl2onnx writes them."""
    helper = pytest.importorskip("onnx.helper")
    is_text = isinstance(labels[0], str)
    key, map_key = ("classlabels_strings",) * 2 if is_text else ("classlabels_ints", "classlabels_int64s")
    weights = [float(number) for number in range(-3, 3)]
    kind = 8 if is_text else 7
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["chosen", "scores"], domain="ai.onnx.ml", coefficients=weights,
            intercepts=[0.5, 0.0, -0.5], multi_class=1, post_transform="SOFTMAX", **{key: labels},
        ),
        helper.make_node("Identity", ["chosen"], ["label"]),
        helper.make_node("ZipMap", ["scores"], ["chances"], domain="ai.onnx.ml", **{map_key: labels}),
    ]
    chances = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, helper.make_tensor_type_proto(1, [])))
    outputs = [helper.make_tensor_value_info("label", kind, ["n"]), helper.make_value_info("chances", chances)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 2])], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    theirs, ours = sessions(real, helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    assert ports(theirs.get_outputs()) == ports(ours.get_outputs())
    feed = {"x": numpy.array([[1, 2], [-3, 1], [0.5, -4], [0, 0]], numpy.float32)}
    (their, their_maps), (our, our_maps) = theirs.run(None, feed), ours.run(None, feed)
    assert our.dtype == their.dtype and our.tolist() == their.tolist()
    assert [list(row) for row in our_maps] == [list(row) for row in their_maps]
    for our_row, their_row in zip(our_maps, their_maps):
        assert our_row == pytest.approx(their_row, abs=1e-6)
    assert ours.run(["label"], feed)[0].tolist() == their.tolist()


def test_runs(real, digits, images):
    theirs, ours = sessions(real, digits.read_bytes())
    feed = {"image": images}
    for names in (None, [], ["probabilities"]):
        (their,), (our,) = theirs.run(names, feed), ours.run(names, feed)
        numpy.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-6)


def test_mistakes_are_the_same(real, digits, images):
    theirs, ours = sessions(real, str(digits))
    for names, feed in (
        (None, {}),
        (["none"], {"image": images}),
        (None, {"image": images, "none": images}),
        (None, {"image": images.astype(numpy.float64)}),
        (None, {"image": images[0, 0]}),
        (None, {"image": images[:, :, :4]}),
    ):
        with pytest.raises(Exception) as their:
            theirs.run(names, feed)
        with pytest.raises(Exception) as our:
            ours.run(names, feed)
        assert type(our.value).__name__ == type(their.value).__name__, (names, feed)
    for model in ("none.onnx", b"none"):
        with pytest.raises(Exception) as their:
            real.InferenceSession(model)
        with pytest.raises(Exception) as our:
            twin.InferenceSession(model)
        assert type(our.value).__name__ == type(their.value).__name__, model


def bound(module, session, images):
    """All ways to bind, which must give the same."""
    results = []
    shape = (len(images), 10)
    binding = session.io_binding()
    binding.bind_cpu_input("image", images)
    binding.bind_output("probabilities")
    session.run_with_iobinding(binding)
    results.append(binding.copy_outputs_to_cpu()[0])
    assert binding.get_outputs()[0].shape() == list(shape)

    binding = session.io_binding()
    out = numpy.zeros(shape, numpy.float32)
    binding.bind_input("image", "cpu", 0, numpy.float32, images.shape, images.ctypes.data)
    binding.bind_output("probabilities", "cpu", 0, numpy.float32, shape, out.ctypes.data)
    session.run_with_iobinding(binding)
    results.append(out)

    binding = session.io_binding()
    value = module.OrtValue.ortvalue_from_shape_and_type(shape, numpy.float32)
    binding.bind_ortvalue_input("image", module.OrtValue.ortvalue_from_numpy(images))
    binding.bind_ortvalue_output("probabilities", value)
    session.run_with_iobinding(binding)
    results.append(value.numpy())
    session.run_with_iobinding(binding, module.RunOptions())
    results.append(value.numpy())
    assert (value.data_type(), value.element_type(), value.device_name().lower()) == ("tensor(float)", 1, "cpu")
    binding.clear_binding_inputs()
    binding.clear_binding_outputs()
    return results


def test_bindings(real, digits, images):
    theirs, ours = sessions(real, str(digits))
    for their, our in zip(bound(real, theirs, images), bound(twin, ours, images), strict=True):
        numpy.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-6)


def test_sizes_are_overridden(real, digits, images):
    results = []
    for module in (real, twin):
        options = module.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = module.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = module.ExecutionMode.ORT_SEQUENTIAL
        options.add_free_dimension_override_by_name("batch", 10)
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        session = module.InferenceSession(str(digits), options, providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].shape[1:] == [1, 8, 8]
        results.append(session.run(None, {"image": images})[0])
    numpy.testing.assert_allclose(*results, rtol=1e-4, atol=1e-6)


def test_what_is_not_there_is_named(digits):
    for ask in (
        lambda: twin.TrainingSession,
        lambda: twin.SessionOptions().register_custom_ops_library,
        lambda: twin.InferenceSession(str(digits)).get_profiling_start_time_ns,
        lambda: setattr(twin.SessionOptions(), "enable_everything", True),
    ):
        with pytest.raises(AttributeError, match="has no twin"):
            ask()
    options = twin.SessionOptions()
    options.enable_profiling = True
    with pytest.raises(twin.NotImplemented, match="enable_profiling"):
        twin.InferenceSession(str(digits), options)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        twin.InferenceSession(str(digits), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_types_in_other_words(real, digits):
    """What optimum asks."""
    torch = pytest.importorskip("torch")
    from onnxruntime.transformers.io_binding_helper import TypeHelper as Theirs

    from egraft.ort.transformers.io_binding_helper import TypeHelper as Ours

    for word in "float double float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64".split():
        kind = f"tensor({word})"
        for ask in ("ort_type_to_numpy_type", "ort_type_to_torch_type", "ort_type_to_onnx_type"):
            assert getattr(Ours, ask)(kind) == getattr(Theirs, ask)(kind), (ask, word)
        for there, back in (("numpy_type_to_torch_type", "numpy"), ("torch_type_to_numpy_type", "torch")):
            known = getattr(Theirs, f"ort_type_to_{back}_type")(kind)
            assert getattr(Ours, there)(known) == getattr(Theirs, there)(known), (there, word)
    assert Ours.ort_type_to_torch_type("tensor(bfloat16)") is torch.bfloat16
    theirs, ours = sessions(real, str(digits))
    for ask in ("get_io_onnx_type_map", "get_io_numpy_type_map"):
        assert getattr(Ours, ask)(ours) == getattr(Theirs, ask)(theirs)
    assert Ours.get_input_type(ours, "image") == Theirs.get_input_type(theirs, "image")
    with pytest.raises(ValueError):
        Ours.get_output_type(ours, "image")


def test_it_takes_the_place(monkeypatch, digits, images):
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxruntime", twin)
    import onnxruntime
    from onnxruntime import InferenceSession, get_available_providers
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    assert onnxruntime is twin and get_available_providers() == ["CPUExecutionProvider"]
    with pytest.raises(InvalidArgument):
        InferenceSession(str(digits)).run(None, {"image": images[0]})
    for name in [name for name in sys.modules if name.startswith("onnxruntime.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("name, element", [("bfloat16", 16), ("float8_e4m3fn", 17), ("float16", 10)])
def test_values_of_types_that_numpy_lacks_are_handed_out(make, name, element):
    types = pytest.importorskip("ml_dtypes")
    model = egraft.compile(make([("Cast", (["x"], ["y"]), {"to": 1})], [("x", element, [2, 3])], [("y", 1, [2, 3])]))
    given = numpy.array([[0.5, 1, -2], [3, 0, -0.25]], numpy.float32)
    value = twin.OrtValue.ortvalue_from_numpy(given.astype(getattr(types, name, name)))
    assert value.element_type() == element
    numpy.testing.assert_array_equal(model.run(value)[0], given)
