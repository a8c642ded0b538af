//! Graphs that are written as ONNX and read again: they mean the same, and become the same kernels.
//!
//! Every op is written on the samples that the crate `ops` tests it with, and read twice: as the op that it was, and with
//! the bodies of functions opened, which is what other engines run. So is every golden model, before and after the
//! passes on graphs. `scripts/export_check` asks onnxruntime the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use egraft::{Options, Source};
use harness::Tolerance;
use harness::golden::{Case, cases, check_each};
use ir::build::Build;
use ir::{At, Graph, Tensor};
use onnx::{ExportOptions, ExportProblem, ImportOptions, NoFiles};
use passes::pipeline::{self, State, Step};

#[path = "../ops/tests/agreement/samples.rs"]
mod samples;

use samples::{Sample, samples};

/// Bodies add up in another order, and in the type of their operands.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-3, rtol: 2e-3 };

fn graph_of(sample: &Sample) -> Graph {
    let mut b = Build::new("sample");
    let operands: Vec<_> = sample
        .operands
        .iter()
        .enumerate()
        .map(|(i, (ty, _))| b.input(&format!("x{i}"), ty.clone()))
        .collect();
    let results = b.ops_with(sample.op, &operands, sample.attrs.clone()).expect("samples fit their ops");
    b.finish(results)
}

fn export(graph: &Graph) -> Result<Vec<u8>, At<ExportProblem>> {
    onnx::export(graph, &ExportOptions::default()).map(|exported| exported.to_bytes())
}

fn import(bytes: &[u8]) -> Result<Graph, String> {
    let model = onnx::import(bytes, &NoFiles, &ImportOptions::default());
    model.map(|model| model.graph).map_err(|failure| failure.to_string())
}

/// The same model, whose functions do not say what they stand for.
fn without_hashes(bytes: &[u8]) -> Vec<u8> {
    replaced(bytes, b"egraft.body", b"nobody.body")
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths stand in the file");
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
    }
    bytes
}

fn agree(expected: &[Tensor], graph: &Graph, inputs: &[Tensor]) -> Result<(), String> {
    let found = ir::graph::eval(graph, inputs).map_err(|at| at.error.to_string())?;
    if found.len() != expected.len() {
        return Err(format!("{} results", found.len()));
    }
    expected.iter().zip(&found).try_for_each(|(expected, found)| TOLERANCE.check(expected, found))
}

/// An op on a sample, written and read.
fn op_survives(sample: &Sample) -> Result<(), String> {
    let graph = graph_of(sample);
    let inputs: Vec<Tensor> = sample.operands.iter().map(|(_, tensor)| tensor.clone()).collect();
    let expected = ir::graph::eval(&graph, &inputs).map_err(|at| at.error.to_string())?;
    let bytes = export(&graph).map_err(|at| format!("export: {at}"))?;
    for (how, bytes) in [("whole", bytes.clone()), ("opened", without_hashes(&bytes))] {
        let read = import(&bytes).map_err(|why| format!("{how}: import: {why}"))?;
        agree(&expected, &read, &inputs).map_err(|why| format!("{how}: {why}"))?;
    }
    Ok(())
}

#[test]
fn every_op_is_written_and_read_as_what_it_means() {
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in ops::ALL {
        for sample in samples(entry.op) {
            count += 1;
            let done = catch_unwind(AssertUnwindSafe(|| op_survives(&sample)));
            if let Err(why) = done.unwrap_or_else(|_| Err("a panic".to_owned())) {
                let types: Vec<String> = sample.operands.iter().map(|(ty, _)| ty.to_string()).collect();
                failures.push(format!("{}({}) {:?}: {why}", entry.op.name, types.join(", "), sample.attrs));
            }
        }
    }
    assert!(count > 1000, "only {count} samples");
    assert!(failures.is_empty(), "{} of {count} samples fail:\n{}", failures.len(), failures.join("\n"));
}

/// A model through the passes on graphs, as `--emit onnx` has it.
fn rewritten(source: Source, options: &Options) -> Result<Source, String> {
    let steps = pipeline::of_level(source.provenance.options.level);
    let is_graph = |step: &Step| step.contains("saturate") || matches!(step, Step::Graph(_));
    let end = steps.iter().position(|step| matches!(step, Step::Lower(_))).unwrap_or(steps.len());
    debug_assert!(steps[..end].iter().any(is_graph), "passes on graphs come first");
    egraft::run_passes(source, &steps[..end], None, options, &mut ()).map_err(|error| error.to_string())
}

/// A golden model, written and read, becomes the kernels that it is known to become, and gives its outputs.
fn case_survives(case: &Case) -> Result<(), String> {
    let options = Options::default();
    let sets = case.sets()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("again.onnx");
    for form in ["plain", "after the passes"] {
        let source = egraft::load(&case.folder.join("model.onnx"), &options).map_err(|e| e.to_string())?;
        let source = if form == "plain" { source } else { rewritten(source, &options)? };
        let State::Graph(graph) = &source.state else { return Err("it is no graph any more".to_owned()) };
        let bytes = export(graph).map_err(|at| format!("{form}: {at}"))?;
        if bytes != export(graph).map_err(|at| at.to_string())? {
            return Err(format!("{form}: another time other bytes are written"));
        }
        egraft::write_model(&path, "", &source.state).map_err(|error| error.to_string())?;
        let again = egraft::load(&path, &options).map_err(|error| format!("{form}: {error}"))?;
        let compiled =
            egraft::compile(again, &options, &mut ()).map_err(|error| format!("{form}: {error}"))?;
        // What passes made is opened once more, and may become fewer.
        if let Some((kind, expected, found)) =
            case.miscounted(&compiled).into_iter().find(|(_, expected, found)| found > expected)
        {
            return Err(format!(
                "{form}: {found} kernels of {kind}, expected {expected} (golden/kernels.tsv)"
            ));
        }
        let model = compiled.model().map_err(|error| error.to_string())?;
        for set in &sets {
            let found = egraft::run(model.clone(), &set.inputs, 1).map_err(|error| error.to_string())?;
            case.check(set, &found, form)?;
        }
    }
    Ok(())
}

#[test]
fn golden_models_become_the_same_kernels_again() {
    let cases = cases();
    check_each(&cases.iter().collect::<Vec<_>>(), case_survives);
}

fn written(text: &str) -> Vec<u8> {
    export(&harness::graph(text)).unwrap_or_else(|at| panic!("{at}"))
}

fn ops_of(graph: &Graph) -> Vec<&'static str> {
    graph.order().into_iter().filter_map(|id| Some(graph.node(id).op()?.0.name)).collect()
}

const SILU: &str = "graph @g(%x: f32[n, 4]) -> f32[n, 4] {\n  %1 = silu %x\n  return %1 as \"y\"\n}\n";

#[test]
fn a_function_with_another_body_is_not_what_its_name_says() {
    let bytes = written(SILU);
    let x = Tensor::from_f32(&[1, 4], &[0.5, -1.0, 2.0, 0.0]);
    assert_eq!(ops_of(&import(&bytes).expect("it was just written")), ["silu"]);
    let changed = replaced(&bytes, b"Sigmoid", b"Softmax");
    let read = import(&changed).expect("both are operators");
    assert!(!ops_of(&read).contains(&"silu"), "{:?}", ops_of(&read));
    let expected = harness::graph(
        "graph @g(%x: f32[n, 4]) -> f32[n, 4] {\n  %1 = softmax %x {axis=-1}\n  %2 = mul %x, %1\n  return %2 as \"y\"\n}\n",
    );
    let expected = ir::graph::eval(&expected, std::slice::from_ref(&x)).expect("it evaluates");
    agree(&expected, &read, &[x]).expect("what the body says");
}

#[test]
fn equal_ops_share_a_function() {
    let text =
        "graph @g(%x: f32[n, 4]) -> f32[n, 4] {\n  %1 = silu %x\n  %2 = silu %1\n  return %2 as \"y\"\n}\n";
    let bytes = written(text);
    let functions = bytes.windows(11).filter(|window| window == b"egraft.body").count();
    assert_eq!(functions, 1);
    assert_eq!(ops_of(&import(&bytes).expect("it was just written")), ["silu", "silu"]);
}

#[test]
fn sizes_that_are_expressions_are_computed() {
    // A size of the result that only arithmetic on the inputs' gives.
    let text = "graph @g(%x: f32[n, m]) -> f32[2*n + m, 3] {\n  %1 = iota {shape=[2*n + m, 3], axis=0, dtype=f32}\n  \
                return %1 as \"y\"\n}\n";
    let graph = harness::graph(text);
    let x = Tensor::from_f32(&[2, 5], &[0.0; 10]);
    let expected = ir::graph::eval(&graph, std::slice::from_ref(&x)).expect("it evaluates");
    for bytes in [written(text), without_hashes(&written(text))] {
        let read = import(&bytes).expect("it was just written");
        assert_eq!(read.ty(read.outputs()[0]).shape, graph.ty(graph.outputs()[0]).shape);
        agree(&expected, &read, std::slice::from_ref(&x)).expect("the same");
    }
}

#[test]
fn what_cannot_be_written_is_named() {
    // Integers, and a kernel of unknown size: neither a convolution of ONNX nor a product.
    let text = "graph @g(%x: i32[1, 1, 9], %w: i32[1, 1, k]) -> i32[1, 1, 10 - k] {\n  %2 = conv %x, %w {dilations=[1], \
                high=[0], low=[0], strides=[1]} : i32[1, 1, 10 - k] from \"the conv\"(\"Conv\")\n  return %2 as \"y\"\n}\n";
    let error = export(&harness::graph(text)).expect_err("there is no form for it");
    assert!(error.to_string().contains("the conv"), "{error}");
    assert_eq!(error.error.code(), "egraft::onnx::export");
}
