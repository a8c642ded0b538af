"""What the package promises: results, types, shapes, errors, threads, forks, memory."""

import collections
import concurrent.futures
import gc
import os
import pickle
import resource
import subprocess
import sys

import numpy
import pytest

import egraft

F32, I64, BOOL, BF16, F64 = 1, 7, 9, 16, 11


@pytest.fixture(scope="module")
def model(digits):
    return egraft.compile(digits)


@pytest.fixture(scope="module")
def add(make):
    """x + y of free size."""
    return egraft.compile(
        make([("Add", (["x", "y"], ["z"]), {})], [("x", F32, ["n", 3]), ("y", F32, ["n", 3])], [("z", F32, ["n", 3])])
    )


def test_ports(model):
    assert model.inputs == [("image", "float32", ("batch", 1, 8, 8))]
    (output,) = model.outputs
    assert (output.name, output.dtype, output.shape) == ("probabilities", "float32", ("batch", 10))
    assert model.name == "digits.onnx"
    assert repr(model) == "<egraft.Model digits.onnx(image: f32[batch, 1, 8, 8]) -> (probabilities: f32[batch, 10])>"


def test_runs_by_position_and_by_name(model, images):
    (result,) = model.run(images)
    assert result.argmax(1).tolist() == list(range(10))
    named = model.run({"image": images})
    assert list(named) == ["probabilities"]
    assert numpy.array_equal(named["probabilities"], result)
    assert numpy.array_equal(model.run(collections.UserDict(image=images))["probabilities"], result)
    (one,) = model.run(images[:1])
    assert one.shape == (1, 10)
    assert numpy.allclose(one, result[:1], rtol=1e-5)


def test_bytes_and_protobuf_are_models(digits, images, model):
    onnx = pytest.importorskip("onnx")
    expected = model.run(images)[0]
    for source in (digits.read_bytes(), onnx.load(digits), str(digits)):
        assert numpy.array_equal(egraft.compile(source).run(images)[0], expected)


def test_sizes_can_be_fixed(digits, images):
    model = egraft.compile(digits, dims={"batch": 2}, threads=1, fp="strict")
    assert model.inputs[0].shape == (2, 1, 8, 8)
    assert model.run(images[:2])[0].shape == (2, 10)
    with pytest.raises(egraft.InputError, match="axis 0 is 3, expected 2"):
        model.run(images[:3])


def test_results_own_their_memory(digits, images):
    model = egraft.compile(digits)
    (result,) = model.run(images)
    assert result.flags.owndata and result.flags.writeable and result.flags.c_contiguous
    copy = result.copy()
    (other,) = model.run(images[::-1])
    assert numpy.array_equal(result, copy) and not numpy.array_equal(other, copy)
    del model
    gc.collect()
    assert numpy.array_equal(result, copy)


def test_any_layout_is_read(add):
    x = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    y = numpy.ones((4, 3), numpy.float32)
    odd = numpy.frombuffer(b"\0" + x.tobytes(), numpy.uint8)[1:].view(numpy.float32).reshape(4, 3)
    read_only = x.copy()
    read_only.flags.writeable = False
    for given in (
        numpy.asfortranarray(x),
        x.repeat(2, axis=0)[::2],
        numpy.concatenate([x, x], axis=1)[:, :3],
        x[::-1][::-1],
        x.astype(">f4"),
        odd,
        read_only,
        x.tolist(),
    ):
        assert numpy.array_equal(add.run(given, y)[0], x + 1)
    assert add.run(x[:0], y[:0])[0].shape == (0, 3)


def test_dlpack_is_read(add):
    class Tensor:
        """What another library has."""

        def __init__(self, array, device=(1, 0)):
            self.array, self.device = array, device

        def __dlpack__(self, **_):
            return self.array.__dlpack__()

        def __dlpack_device__(self):
            return self.device

    x = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    assert numpy.array_equal(add.run(Tensor(x), Tensor(numpy.asfortranarray(x)))[0], 2 * x)
    with pytest.raises(egraft.InputError, match="not in the memory of the processor"):
        add.run(Tensor(x, (2, 0)), x)
    with pytest.raises(egraft.InputError, match="elements are f64, expected f32"):
        add.run(Tensor(x.astype(numpy.float64)), x)


def test_results_can_be_put_somewhere(add):
    x = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    out = numpy.empty_like(x)
    assert add.run(x, x, out=[out])[0] is out
    assert numpy.array_equal(out, 2 * x)
    assert add.run({"x": x, "y": out}, out={"z": out})["z"] is out
    assert numpy.array_equal(out, 3 * x), "an output may lie where an input does"
    x[:] = 1
    for wrong, why in (
        (numpy.empty((4, 3)), "of float64"),
        (numpy.empty((3, 4), numpy.float32), r"of shape \[3, 4\]"),
        (numpy.empty((3, 4), numpy.float32).T, "not contiguous"),
        ([1.0], "no NumPy array"),
    ):
        with pytest.raises(egraft.InputError, match=why) as caught:
            add.run(x, x, out=[wrong])
        assert caught.value.code == "egraft::python::output"
    with pytest.raises(egraft.InputError, match="no output `w`"):
        add.run(x, x, out={"w": out})


def test_wrong_inputs_are_named(add):
    x = numpy.ones((2, 3), numpy.float32)
    for given, code, says in (
        ((x,), "egraft::runtime::count", "2 inputs expected, 1 given"),
        (({"x": x},), "egraft::runtime::missing", "input `y` is not given"),
        (({"x": x, "y": x, "w": x},), "egraft::runtime::unknown_input", "`w`"),
        ((x.astype(numpy.float64), x), "egraft::runtime::dtype", "input `x`: elements are f64, expected f32"),
        ((x[0], x), "egraft::runtime::rank", "input `x`: rank 1, expected 2"),
        ((x, x[:1]), "egraft::runtime::dim", "input `y`: axis 0"),
        ((x, x[:, :2]), "egraft::runtime::dim", "input `y`: axis 1 is 2, expected 3"),
        ((x, "text"), "egraft::python::tensor", "input `y` is no tensor of f32"),
        ((x, numpy.array([["a"]])), "egraft::python::tensor", "input `y` is no tensor of f32: its elements are <U1"),
        ((x, None), "egraft::python::tensor", "input `y` is no tensor of f32: its elements are object"),
        ((x, x.astype(numpy.complex64)), "egraft::python::tensor", "complex64"),
    ):
        with pytest.raises(egraft.InputError) as caught:
            add.run(*given)
        assert says in str(caught.value), given
        assert caught.value.code == code
        assert caught.value.help
    assert add.run(x, x)[0].tolist() == (2 * x).tolist(), "and it still runs"


def test_wrong_models_are_named(make, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x0a")
    for source, kind, code in (
        (b"no model", egraft.ModelError, "egraft::onnx::"),
        (broken, egraft.ModelError, "egraft::onnx::"),
        (tmp_path / "none.onnx", egraft.ModelError, "egraft::cli::read"),
        (tmp_path / "model.txt", egraft.ModelError, "egraft::cli::unknown_format"),
        ("zoo:none", egraft.ModelError, "egraft::cli::zoo_model"),
    ):
        with pytest.raises(kind) as caught:
            egraft.compile(source)
        assert caught.value.code.startswith(code)
    unsupported = make(
        [("StringNormalizer", (["x"], ["y"]), {"name": "lower"})], [("x", 8, ["n"])], [("y", 8, ["n"])]
    )
    with pytest.raises(egraft.UnsupportedError) as caught:
        egraft.compile(unsupported)
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is egraft.UnsupportedError and str(error) == str(caught.value)
    assert error.code and error.help and isinstance(error, egraft.Error)


def test_wrong_options_are_named(digits):
    for options, says in (
        ({"fp": "loose"}, "`strict`, `reassoc` or `fast`"),
        ({"target": "tpu"}, "`cpu` or `cuda`"),
        ({"threads": 0}, "from 1 to 4096"),
        ({"dims": {"n": 1}}, "no input has a dimension called `n`"),
        ({"disable_rules": ["none"]}, "no rewrite rule `none`"),
    ):
        with pytest.raises(egraft.InputError, match=says):
            egraft.compile(digits, **options)


def test_a_gpu_runs_the_model_or_what_is_missing_is_named(digits):
    try:
        model = egraft.compile(digits, target="cuda")
    except egraft.InputError as error:
        assert error.code in ("egraft::cuda::no_nvrtc", "egraft::device::no_driver", "egraft::device::no_gpu")
        assert error.help
    else:
        image = numpy.ones((1, 1, 8, 8), numpy.float32)
        found, expected = (each.run(image)[0] for each in (model, egraft.compile(digits)))
        numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_types(make):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for number, dtype in ((F64, numpy.float64), (I64, numpy.int64), (10, numpy.float16), (BF16, ml_dtypes.bfloat16)):
        model = egraft.compile(
            make([("Add", (["x", "x"], ["y"]), {})], [("x", number, [2])], [("y", number, [2])])
        )
        (result,) = model.run(numpy.array([1, 2], dtype))
        assert (result.dtype, result.tolist()) == (numpy.dtype(dtype), [2, 4])
    flip = egraft.compile(make([("Not", (["x"], ["y"]), {})], [("x", BOOL, [2])], [("y", BOOL, [2])]))
    assert flip.run([True, False])[0].tolist() == [False, True]
    with pytest.raises(egraft.InputError, match="a byte that is no bool"):
        flip.run(numpy.array([2, 0], numpy.uint8).view(numpy.bool_))


def test_sizes_that_the_run_decides(make):
    model = egraft.compile(
        make([("NonZero", (["x"], ["y"]), {})], [("x", F32, ["n"])], [("y", I64, [1, "k"])])
    )
    for x in ([0, 1, 2], [0.0], [3, 0, 4, 5]):
        (result,) = model.run(numpy.array(x, numpy.float32))
        assert result.tolist() == [[at for at, value in enumerate(x) if value]]


def test_kernels_and_explanations(model):
    kernels = model.kernels()
    assert all(kernel["name"] and isinstance(kernel["origins"], list) for kernel in kernels)
    report = model.explain()
    assert report["launches"] == len(kernels)
    part = model.explain("node_softmax")
    assert part["model"] == "digits.onnx" and len(part["kernels"]) < len(kernels)
    with pytest.raises(egraft.InputError, match="no node with `none`"):
        model.explain("none")
    page = model._repr_html_()
    assert page.count("<tr>") == len(kernels) + 1 and "<svg" in page


def test_stages_can_be_read(model, tmp_path):
    model.dump(tmp_path / "stages")
    names = sorted(path.name for path in (tmp_path / "stages").iterdir())
    assert names[0] == "00-import.ir" and names[-1] == "weights.bin" and any(name.endswith(".prog") for name in names)


def test_artifacts_are_those_of_the_command_line(model, images, digits, tmp_path):
    (path,) = model.save(tmp_path / "digits")
    loaded = egraft.load(path)
    assert numpy.array_equal(loaded.run(images)[0], model.run(images)[0])
    assert loaded.kernels() == model.kernels() and loaded.inputs == model.inputs and "<table>" in loaded._repr_html_()
    by_command = tmp_path / "command"
    egraft._egraft.command(["compile", str(digits), "-o", str(by_command)])
    assert by_command.read_bytes() == (tmp_path / "digits").read_bytes()
    subprocess.run([path, "--inspect"], check=True, capture_output=True)
    for call in (lambda: loaded.explain(), lambda: loaded.save(tmp_path / "again"), lambda: loaded.dump(tmp_path / "s")):
        with pytest.raises(egraft.UnsupportedError, match="loaded from an artifact"):
            call()
    with pytest.raises(egraft.ModelError):
        egraft.load(digits)
    with pytest.raises(egraft.InputError, match="emit is"):
        model.save(tmp_path / "other", emit="jar")


def test_entries_share_states(make, tmp_path):
    sizes = 1, [3]
    for name, op in (("add", "Add"), ("take", "Sub")):
        nodes = [(op, (["past", "x"], ["present"]), {}), ("Identity", (["present"], ["sum"]), {})]
        data = make(nodes, [("past", *sizes), ("x", *sizes)], [("present", *sizes), ("sum", *sizes)])
        (tmp_path / f"{name}.onnx").write_bytes(data)
    models = [str(tmp_path / f"{name}.onnx") for name in ("add", "take")]
    exit, text = egraft._egraft.command(["compile", *models, "-o", str(tmp_path / "both"), "--keep", "past=present"])
    assert exit == 0, text
    add = egraft.load(tmp_path / "both", threads=1)
    take = add.entry("take")
    assert add.entries == take.entries == ["add", "take"]
    assert [port.name for port in take.inputs] == ["x"] and [port.name for port in take.outputs] == ["sum"]
    one = numpy.ones(3, numpy.float32)
    sums = [entry.run({"x": one})["sum"][0] for entry in (add, add, take, take, take, add)]
    assert sums == [1, 2, 1, 0, -1, 0]
    add.run(one)
    take.reset()
    assert add.run(one)[0][0] == 1
    with pytest.raises(egraft.InputError, match="no entry `none`, but `add`, `take`"):
        add.entry("none")


def test_reports_are_data(digits):
    assert egraft.check(digits)["ok"]
    report = egraft.verify(digits.read_bytes(), dims={"batch": 2})
    assert report["ok"] and report["cases"]
    assert not egraft.verify(digits, atol=0, rtol=0, seed=3, fp="strict")["ok"] in (None,)
    times = egraft.bench(digits, dims={"batch": 1}, threads=1, iters=3, warmup=1)
    assert times["runs"] == 3 and times["latency_ms"]["median"] > 0
    with pytest.raises(egraft.InputError) as caught:
        egraft.bench(digits, iterations=3)
    assert caught.value.code == "egraft::cli::usage" and "--iterations" in str(caught.value)


def test_built_in_models():
    names = [model["name"] for model in egraft.zoo()]
    assert "db-tsw" in names
    assert egraft.zoo("db-tsw")["name"] == "db-tsw"
    model = egraft.compile("zoo:db-tsw", settings={"trees": 4, "dim": 3})
    x = numpy.random.default_rng(0).normal(size=(5, 3)).astype(numpy.float32)
    same, other = (model.run(x, y)[0].item() for y in (x, x + 1))
    assert abs(same) < 1e-5 < other


def test_threads_share_a_model(digits, images, model):
    expected = [model.run(images[:size])[0] for size in range(1, 9)]

    def work(size):
        for _ in range(50):
            (result,) = model.run(images[:size])
            if not numpy.array_equal(result, expected[size - 1]):
                return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(1, 9)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_processes_run_it(digits, images):
    model = egraft.compile(digits, threads=2)
    (expected,) = model.run(images)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = all(numpy.array_equal(model.run(images)[0], expected) for _ in range(3))
                # Ending a model whose threads stayed behind must not wait for them.
                del model
                gc.collect()
            finally:
                os._exit(0 if good else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert numpy.array_equal(model.run(images)[0], expected)


def test_memory_is_not_leaked(add):
    x = numpy.ones((64, 3), numpy.float32)

    def runs(count):
        for _ in range(count):
            add.run({"x": x, "y": x})
            try:
                add.run(x, x[:1])
            except egraft.InputError:
                pass
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = runs(2_000)
    # An output of 768 bytes that stayed would be 7.5 MB.
    assert runs(10_000) - before < 2_000


def test_models_are_freed(digits):
    def compiled():
        for _ in range(3):
            egraft.compile(digits, threads=2).run(numpy.zeros((1, 1, 8, 8), numpy.float32))
        gc.collect()
        return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

    assert compiled() == compiled()


def test_a_model_is_no_data(model):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(model)


def test_the_command_comes_along():
    done = subprocess.run(
        [sys.executable, "-c", "from egraft._command import main; main()", "rules"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "attention" in done.stdout
    done = subprocess.run(
        [sys.executable, "-c", "from egraft._command import main; main()", "check", "none.onnx"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "egraft::cli::read" in done.stderr
