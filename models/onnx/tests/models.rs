//! The model files below `tests/data/onnx`: good ones compute the stored outputs, broken ones are refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ir::Tensor;
use ir::weight::Bytes;
use onnx::FailureKind::{BadInput, Unsupported};
use onnx::external::resolve_external;
use onnx::{FileError, Files, ImportOptions, Model, import, read_tensor};

/// Outputs agree within this, absolutely or relative to the expected value.
const TOLERANCE: f64 = 1e-4;

struct Beside(PathBuf);

impl Files for Beside {
    fn external(&self, location: &str, offset: u64, length: u64) -> Result<Bytes, FileError> {
        let path = resolve_external(&self.0, location)?;
        let bytes = fs::read(path).map_err(|error| FileError::io(location, &error))?;
        let size = bytes.len() as u64;
        let range = || FileError::Range { location: location.to_owned(), offset, length, size };
        let end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(range)?;
        Ok(bytes[offset as usize..end as usize].to_vec().into())
    }
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/onnx").join(kind);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.join("model.onnx").exists())
        .collect();
    cases.sort();
    assert!(cases.len() > 10, "{} holds only {} cases", folder.display(), cases.len());
    cases
}

fn name(case: &Path) -> String {
    case.file_name().expect("a case has a name").to_string_lossy().into_owned()
}

fn load(case: &Path) -> Result<Model, onnx::ImportFailure> {
    let path = case.join("model.onnx");
    let bytes = fs::read(&path).expect("just listed");
    import(&bytes, &Beside(path), &ImportOptions::default())
}

/// `input_0.pb`, `input_1.pb`, …
fn tensors(folder: &Path, kind: &str) -> Vec<(String, Tensor)> {
    let paths = (0..).map(|i| folder.join(format!("{kind}_{i}.pb"))).take_while(|path| path.exists());
    paths.map(|path| read_tensor(&fs::read(path).expect("just seen")).expect("a tensor")).collect()
}

fn difference(found: &Tensor, expected: &Tensor) -> Option<String> {
    if found.ty() != expected.ty() {
        return Some(format!("type {}, expected {}", found.ty(), expected.ty()));
    }
    if !expected.dtype().is_float() {
        return (found != expected).then(|| format!("{found:?}, expected {expected:?}"));
    }
    let pairs = found.to_f64().into_iter().zip(expected.to_f64());
    let far = |(f, e): &(f64, f64)| {
        !(f == e || f.is_nan() && e.is_nan() || (f - e).abs() <= TOLERANCE * e.abs().max(1.0))
    };
    let (position, (f, e)) = pairs.enumerate().find(|(_, pair)| far(pair))?;
    Some(format!("at {position}: {f}, expected {e}"))
}

/// What goes wrong with a case that should go well.
fn run(case: &Path) -> Result<(), String> {
    let model = load(case).map_err(|failure| failure.to_string())?;
    let graph = &model.graph;
    let mut sets = 0;
    while case.join(format!("set_{sets}")).exists() {
        let folder = case.join(format!("set_{sets}"));
        let given: BTreeMap<String, Tensor> = tensors(&folder, "input").into_iter().collect();
        let inputs: Option<Vec<Tensor>> =
            graph.inputs().iter().map(|&input| given.get(graph.input_name(input)).cloned()).collect();
        let inputs = inputs.ok_or_else(|| format!("set {sets} lacks an input"))?;
        let outputs = ir::graph::eval(graph, &inputs).map_err(|error| format!("set {sets}: {error}"))?;
        let found: BTreeMap<&str, &Tensor> = graph.output_names().into_iter().zip(&outputs).collect();
        let expected = tensors(&folder, "output");
        if expected.len() != found.len() {
            return Err(format!("set {sets}: {} outputs, expected {}", found.len(), expected.len()));
        }
        for (name, expected) in expected {
            let found = found.get(name.as_str()).ok_or_else(|| format!("no output `{name}`"))?;
            if let Some(difference) = difference(found, &expected) {
                return Err(format!("set {sets}, output `{name}`: {difference}"));
            }
        }
        sets += 1;
    }
    if sets == 0 { Err("it has no set_0".to_owned()) } else { Ok(()) }
}

#[test]
fn valid_models_compute_their_outputs() {
    let mut failures = String::new();
    for case in cases("valid") {
        if let Err(why) = run(&case) {
            let _ = writeln!(failures, "{}: {why}", name(&case));
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn exporter_metadata_becomes_origins() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/onnx/valid");
    let places = |case: &str| {
        let graph = load(&folder.join(case)).expect("a valid model").graph;
        let mut places: Vec<_> = graph
            .order()
            .iter()
            .flat_map(|&id| graph.node(id).origin.places())
            .map(|place| format!("{} {} [{}] {}", place.name, place.op, place.module, place.source))
            .collect();
        places.sort();
        places.dedup();
        places
    };
    assert_eq!(
        places("metadata_torch"),
        [
            "node_linear Gemm [layers.0] model.py:21",
            "node_linear_1 Gemm [head] model.py:22",
            "node_relu Relu [layers.1] model.py:21",
            "node_tanh Tanh [] ",
        ]
    );
    assert_eq!(
        places("metadata_torchscript"),
        ["/act/Relu Relu [act] model.py:22", "/fc/Gemm Gemm [fc] model.py:21"]
    );
}

#[test]
fn invalid_models_are_refused_and_the_culprit_is_named() {
    let index = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/onnx/invalid/index.tsv");
    let index = fs::read_to_string(index).expect("an index");
    let mut failures = String::new();
    for case in cases("invalid") {
        let name = name(&case);
        let Err(failure) = load(&case) else {
            let _ = writeln!(failures, "{name}: imported");
            continue;
        };
        let code = failure.problems()[0].error.code();
        let expected = CODES.iter().find(|(case, _)| *case == name).map(|(_, code)| *code);
        if expected != Some(code) {
            let _ = writeln!(failures, "    (\"{name}\", \"{code}\"), // expected {expected:?}: {failure}");
        }
        let text = failure.to_string();
        let row = index.lines().map(|line| line.split('\t').collect::<Vec<_>>()).find(|row| row[0] == name);
        let Some(row) = row else {
            let _ = writeln!(failures, "{name}: not in index.tsv");
            continue;
        };
        let expected = if row[1] == "unsupported" { Unsupported } else { BadInput };
        if failure.kind() != expected {
            let _ = writeln!(failures, "{name}: {:?}, expected {expected:?}: {failure}", failure.kind());
        }
        for mention in row[2].split('|').filter(|mention| !text.contains(mention)) {
            let _ = writeln!(failures, "{name}: `{mention}` is not mentioned in: {text}");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// The code of the first problem of each broken model.
const CODES: &[(&str, &str)] = &[
    ("add_sizes_differ", "egraft::op::size"),
    ("attribute_of_wrong_type", "egraft::onnx::attribute"),
    ("axis_out_of_range", "egraft::op::axis"),
    ("constant_of_shape_huge", "egraft::onnx::too_large"),
    ("conv_channels", "egraft::op::size"),
    ("conv_group_zero", "egraft::op::attribute"),
    ("conv_rank", "egraft::op::rank"),
    ("cycle", "egraft::onnx::cycle"),
    ("cycle_of_one", "egraft::onnx::cycle"),
    ("domain_without_opset", "egraft::onnx::opset"),
    ("dtypes_differ", "egraft::op::dtype"),
    ("duplicate_initializer", "egraft::onnx::duplicate"),
    ("duplicate_input", "egraft::onnx::duplicate"),
    ("duplicate_value", "egraft::onnx::duplicate"),
    ("duplicate_value_of_initializer", "egraft::onnx::duplicate"),
    ("duplicate_value_of_input", "egraft::onnx::duplicate"),
    ("empty", "egraft::onnx::malformed"),
    ("external_absolute", "egraft::onnx::external_path"),
    ("external_folder", "egraft::onnx::external_file"),
    ("external_length_beyond", "egraft::onnx::external_range"),
    ("external_length_differs", "egraft::onnx::external_range"),
    ("external_missing", "egraft::onnx::external_file"),
    ("external_offset_beyond", "egraft::onnx::external_range"),
    ("external_offset_negative", "egraft::onnx::external_range"),
    ("external_offset_overflow", "egraft::onnx::external_range"),
    ("external_offset_text", "egraft::onnx::external_range"),
    ("external_parent", "egraft::onnx::external_path"),
    ("external_parent_inside", "egraft::onnx::external_path"),
    ("external_without_location", "egraft::onnx::external_path"),
    ("flex_attention_graph_changes_shape", "egraft::op::size"),
    ("flex_attention_graph_changes_type", "egraft::op::dtype"),
    ("flex_attention_graph_reads_undefined", "egraft::onnx::undefined"),
    ("flex_attention_graph_takes_too_much", "egraft::onnx::attribute"),
    ("flex_attention_heads", "egraft::op::size"),
    ("function_attribute_missing", "egraft::onnx::function_attribute"),
    ("function_bomb", "egraft::onnx::too_many_nodes"),
    ("function_bomb_in_branch", "egraft::onnx::too_many_nodes"),
    ("function_defined_twice", "egraft::onnx::function"),
    ("function_mutually_recursive", "egraft::onnx::recursion"),
    ("function_recursive", "egraft::onnx::recursion"),
    ("function_recursive_in_branch", "egraft::onnx::recursion"),
    ("if_body_reads_undefined", "egraft::onnx::undefined"),
    ("if_condition_is_a_float", "egraft::op::dtype"),
    ("if_condition_of_many", "egraft::op::size"),
    ("if_counts_differ", "egraft::onnx::attribute"),
    ("if_dtypes_differ", "egraft::op::dtype"),
    ("if_gives_too_little", "egraft::onnx::no_output"),
    ("if_often_and_unknown_op", "egraft::onnx::unsupported_op"),
    ("if_ranks_fit_nothing", "egraft::op::attribute"),
    ("if_side_is_a_number", "egraft::onnx::attribute"),
    ("if_without_else", "egraft::onnx::attribute"),
    ("initializer_bytes_long", "egraft::onnx::tensor_data"),
    ("initializer_bytes_short", "egraft::onnx::tensor_data"),
    ("initializer_huge", "egraft::onnx::tensor_dims"),
    ("initializer_negative_dims", "egraft::onnx::tensor_dims"),
    ("initializer_overflow", "egraft::onnx::tensor_dims"),
    ("initializer_two_encodings", "egraft::onnx::tensor_data"),
    ("initializer_unknown_dtype", "egraft::onnx::tensor_dtype"),
    ("initializer_values_short", "egraft::onnx::tensor_data"),
    ("initializer_without_dtype", "egraft::onnx::tensor_dtype"),
    ("initializer_wrong_field", "egraft::onnx::tensor_data"),
    ("input_huge", "egraft::onnx::too_large"),
    ("ir_version_99", "egraft::onnx::ir_version"),
    ("ir_version_missing", "egraft::onnx::ir_version"),
    ("length_beyond_end", "egraft::onnx::malformed"),
    ("loop_body_condition_is_a_float", "egraft::op::dtype"),
    ("loop_body_cycle", "egraft::onnx::cycle"),
    ("loop_body_duplicate", "egraft::onnx::duplicate"),
    ("loop_body_gives_too_little", "egraft::onnx::attribute"),
    ("loop_body_output_undefined", "egraft::onnx::undefined"),
    ("loop_body_reads_undefined", "egraft::onnx::undefined"),
    ("loop_body_reads_what_comes_after", "egraft::onnx::cycle"),
    ("loop_body_takes_too_little", "egraft::onnx::attribute"),
    ("loop_condition_is_a_float", "egraft::op::dtype"),
    ("loop_dtype_changes", "egraft::op::dtype"),
    ("loop_gives_too_little", "egraft::onnx::no_output"),
    ("loop_rank_changes", "egraft::op::rank"),
    ("loop_stack_elements_grow", "egraft::op::size"),
    ("loop_without_body", "egraft::onnx::attribute"),
    ("loop_without_end", "egraft::onnx::unsupported"),
    ("maps_of_classic_models", "egraft::onnx::unsupported_op"),
    ("matmul_of_scalar", "egraft::op::rank"),
    ("matmul_sizes_differ", "egraft::op::size"),
    ("missing_initializer", "egraft::onnx::undefined"),
    ("nested_too_deeply", "egraft::onnx::malformed"),
    ("no_graph", "egraft::onnx::no_graph"),
    ("no_opset_import", "egraft::onnx::opset"),
    ("node_without_op_type", "egraft::onnx::op_type"),
    ("op_newer_than_opset", "egraft::onnx::opset"),
    ("opset_0", "egraft::onnx::opset"),
    ("opset_99", "egraft::onnx::opset"),
    ("output_never_produced", "egraft::onnx::no_output"),
    ("output_shape_differs", "egraft::onnx::output_type"),
    ("pool_stride_zero", "egraft::op::attribute"),
    ("qmoe_without_layout", "egraft::onnx::unsupported"),
    ("random_bytes", "egraft::onnx::malformed"),
    ("rank_at_run_time", "egraft::onnx::run_time_value"),
    ("required_attribute_missing", "egraft::onnx::attribute"),
    ("required_input_left_out", "egraft::onnx::input"),
    ("reshape_count", "egraft::op::size"),
    ("reshape_negative", "egraft::onnx::attribute"),
    ("reshape_to_huge", "egraft::onnx::too_large"),
    ("scan_axis_out_of_range", "egraft::op::axis"),
    ("scan_body_takes_too_little", "egraft::onnx::attribute"),
    ("scan_gives_too_little", "egraft::onnx::no_output"),
    ("scan_sizes_differ", "egraft::op::size"),
    ("scan_without_inputs", "egraft::onnx::attribute"),
    ("sequence_input", "egraft::onnx::length"),
    ("string_input", "egraft::onnx::type"),
    ("text_file", "egraft::onnx::malformed"),
    ("too_many_inputs", "egraft::op::arity"),
    ("transpose_permutation", "egraft::op::attribute"),
    ("truncated", "egraft::onnx::malformed"),
    ("truncated_by_one", "egraft::onnx::malformed"),
    ("two_opset_imports", "egraft::onnx::opset"),
    ("unknown_domain", "egraft::onnx::unsupported_op"),
    ("unknown_op", "egraft::onnx::unsupported_op"),
    ("unsupported_ops", "egraft::onnx::unsupported_op"),
];
