"""Writes the ONNX files that the importer's tests read, below `tests/data/onnx/`.

    valid/<case>/model.onnx, set_K/input_J.pb, set_K/output_J.pb     must import and compute these outputs
    lists/<case>/model.onnx, set_K/…                                 the same with sequences and optionals
    states/<case>/model.onnx                                         runs go on from each other
    invalid/<case>/model.onnx                                        must be refused
    invalid/index.tsv                                                the kind of each, what its diagnostic must mention, and why
    README.md                                                        one line for each case

The cases themselves are in `test_models/`. Expected outputs come from ONNX's reference evaluator, run in float64 and
rounded once to the declared type. Where that evaluator only knows a newer version of the operator, or can't call
a function (defaults of attributes, another opset, inputs left empty), they come from onnxruntime. A model in a preview of
ONNX comes with the same model in standard operators, of which both are asked.
Every valid case passes `onnx.checker` and is also run by onnxruntime, which has to agree (except on bf16, which it can't
hand to numpy). Every invalid case is refused by at least one of the two, unless it says why not.

    python -m venv .venv
    .venv/bin/pip install numpy==2.4.6 ml_dtypes==0.6.0 onnx==1.23.2 onnxruntime==1.32.0
    .venv/bin/python python/make_test_models.py

Made with these versions on Python 3.11. Without onnxruntime its checks are skipped, and the cases that need its outputs
keep the files that they have. Seeds are fixed: a second run writes the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from test_models import case, contrib, control, encodings, flex_attention, invalid, invalid_control, layers, lists, mixed, narrow, rare, shapes, states, structure, traced  # noqa: F401 (importing registers cases)

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

ROOT = Path(__file__).resolve().parent.parent / "tests" / "data" / "onnx"
RTOL, ATOL = 1e-4, 1e-5


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model, without functions, in which every f32 is an f64."""
    wide = onnx.inliner.inline_local_functions(model)
    for info in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in wide.graph.initializer:
        widen_tensor(tensor)
    for node in wide.graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                widen_tensor(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif attribute.name in ("value_float", "value_floats"):
                value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(np.array(value, np.float64))))
    return wide


def widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def make_inputs(valid: case.Valid, position: int) -> dict[str, np.ndarray]:
    """One set of inputs: sizes by symbol (or by expression over symbols), the rest from the case's seed."""
    given = valid.sets[position]
    generator = case.random(f"{valid.name}/{position}")
    defaults = {tensor.name for tensor in valid.model.graph.initializer}
    inputs = {}
    for info in valid.model.graph.input:
        if info.name in defaults:
            continue
        tensor = info.type.tensor_type
        if isinstance(given.get(info.name), np.ndarray):
            inputs[info.name] = given[info.name]
            continue
        sizes = {key: value for key, value in given.items() if not isinstance(value, np.ndarray)}
        shape = [
            sizes[dim.dim_param] if dim.dim_param in sizes else eval(dim.dim_param or str(dim.dim_value), {}, sizes)
            for dim in tensor.shape.dim
        ]
        inputs[info.name] = case.values(generator, tensor.elem_type, shape)
    return inputs


def dtype_of(info: onnx.ValueInfoProto) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)


def by_reference(valid: case.Valid, path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    wide = widen(onnx.load(path))
    feeds = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in inputs.items()}
    results = ReferenceEvaluator(wide).run(None, feeds)
    outputs = valid.model.graph.output
    return {info.name: np.asarray(value).astype(dtype_of(info)) for value, info in zip(results, outputs, strict=True)}


def by_onnxruntime(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.type != "tensor(bfloat16)"]
    return dict(zip(names, session.run(names, inputs)))


def compare(name: str, actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    for output, got in actual.items():
        want, context = expected[output], f"{name}: output {output}"
        if got.shape != want.shape or got.dtype != want.dtype:
            raise SystemExit(f"{context}: onnxruntime {got.dtype}{got.shape}, expected {want.dtype}{want.shape}")
        if np.issubdtype(want.dtype, np.floating):
            np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL, err_msg=context)
        else:
            np.testing.assert_array_equal(got, want, err_msg=context)


def write_valid(valid: case.Valid) -> str:
    folder = ROOT / "valid" / valid.name
    path = folder / "model.onnx"
    if onnxruntime is None and valid.oracle == "onnxruntime":
        return "kept" if path.exists() else "left out, needs onnxruntime"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_files(folder, valid.files)
    path.write_bytes(case.serialize(valid.model))
    onnx.checker.check_model(str(path), full_check=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        asked = path
        if valid.standard is not None:
            asked = Path(elsewhere) / "model.onnx"
            asked.write_bytes(case.serialize(valid.standard))
        for position in range(len(valid.sets)):
            inputs = make_inputs(valid, position)
            second = by_onnxruntime(asked, inputs) if onnxruntime and valid.onnxruntime else None
            expected = second if valid.oracle == "onnxruntime" else by_reference(valid, asked, inputs)
            if second is not None:
                compare(valid.name, second, expected)
            write_set(folder / f"set_{position}", inputs, expected)
    return "compared" if second is not None else "reference only"


def write_set(folder: Path, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    for kind, values in (("input", inputs), ("output", outputs)):
        for position, (name, value) in enumerate(values.items()):
            tensor = numpy_helper.from_array(value, name)
            (folder / f"{kind}_{position}.pb").write_bytes(tensor.SerializeToString(deterministic=True))


def write_lists(lists: case.Lists) -> str:
    folder = ROOT / "lists" / lists.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(case.serialize(lists.model))
    onnx.checker.check_model(str(path), full_check=True)
    for position, given in enumerate(lists.sets):
        results = ReferenceEvaluator(lists.model).run(None, dict(given))
        write_ports(folder / f"set_{position}", "input", lists.model.graph.input, given.values())
        write_ports(folder / f"set_{position}", "output", lists.model.graph.output, results)
    return "reference only"


def write_ports(folder: Path, kind: str, ports, values) -> None:
    """Each value in the message that its port declares."""
    folder.mkdir(exist_ok=True)
    for position, (port, value) in enumerate(zip(ports, values, strict=True)):
        match port.type.WhichOneof("value"):
            case "sequence_type":
                proto = numpy_helper.from_list(value, port.name)
            case "optional_type":
                proto = numpy_helper.from_optional(value, port.name)
            case _:
                proto = numpy_helper.from_array(np.asarray(value), port.name)
        (folder / f"{kind}_{position}.pb").write_bytes(proto.SerializeToString(deterministic=True))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def write_state(state: case.State) -> str:
    onnx.checker.check_model(state.model, full_check=True)
    write_files(ROOT / "states" / state.name, {"model.onnx": state.model.SerializeToString(deterministic=True)})
    return f"{len(state.model.graph.node)} nodes"


def write_invalid(broken: case.Invalid) -> str:
    folder = ROOT / "invalid" / broken.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_files(folder, broken.files)
    path = folder / "model.onnx"
    path.write_bytes(broken.content)
    if broken.accepted_elsewhere:
        return "accepted elsewhere"
    refusals = [name for name, load in (("checker", by_checker), ("onnxruntime", by_loading)) if refuses(load, path)]
    if not refusals and onnxruntime is not None:
        raise SystemExit(f"{broken.name}: claims to be invalid, but everyone accepts it")
    return "refused by " + (", ".join(refusals) or "nobody here")


def by_checker(path: Path) -> None:
    if not path.read_bytes():
        raise ValueError("an empty file is an empty message, which the checker takes for a model")
    onnx.checker.check_model(str(path), full_check=True)


def by_loading(path: Path) -> None:
    if onnxruntime is not None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def refuses(load, path: Path) -> bool:
    try:
        load(path)
    except Exception:  # noqa: BLE001 (each reader has its own kinds of error)
        return True
    return False


def write_index() -> None:
    rows = ["case\tkind\tmust_mention\tabout"]
    kinds = {False: "bad_input", True: "unsupported"}
    rows += [f"{b.name}\t{kinds[b.unsupported]}\t{'|'.join(b.mentions)}\t{b.about}" for b in case.INVALID]
    (ROOT / "invalid" / "index.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = [
        "# ONNX files for tests",
        "",
        "Written by `python/make_test_models.py`; don't edit by hand. `invalid/index.tsv` lists the strings (separated by `|`) that each",
        "diagnostic must contain. A link that leaves the model's folder can't be stored portably: the test that needs one makes it.",
        "",
        "## valid",
        "",
        *(f"- `{v.name}`: {v.about}" for v in case.VALID),
        "",
        "## lists",
        "",
        *(f"- `{one.name}`: {one.about}" for one in case.LISTS),
        "",
        "## states",
        "",
        *(f"- `{one.name}`: {one.about}" for one in case.STATES),
        "",
        "## invalid",
        "",
        *(f"- `{b.name}`: {b.about}" for b in case.INVALID),
    ]
    (ROOT / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", metavar="CASE", help="write just this case (and the index)")
    only = arguments.parse_args().only
    kinds = (
        ("valid", case.VALID, write_valid),
        ("lists", case.LISTS, write_lists),
        ("states", case.STATES, write_state),
        ("invalid", case.INVALID, write_invalid),
    )
    for kind, cases, write in kinds:
        names = {one.name for one in cases}
        folder = ROOT / kind
        folder.mkdir(parents=True, exist_ok=True)
        for stale in sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in names):
            shutil.rmtree(stale)
        for one in cases:
            if only in (None, one.name):
                print(f"{kind}/{one.name}: {write(one)}")
    write_files(ROOT / "invalid", invalid.OUTSIDE)
    write_index()
    size = sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file())
    print(f"{len(case.VALID)} valid, {len(case.INVALID)} invalid, {size} bytes")


if __name__ == "__main__":
    main()
