//! Every op agrees with itself: its types, its reference values, its stages and its sizes say the same.

mod naive;
mod samples;

use std::collections::BTreeSet;

use ir::build::Build;
use ir::graph::{KnownSizes, bind};
use ir::{DType, Dim, Graph, Scalar, Tensor, TensorType};

use naive::assert_close;
use samples::{Sample, samples};

fn graph_of(sample: &Sample) -> Graph {
    let mut b = Build::new("sample");
    let operands: Vec<_> = sample
        .operands
        .iter()
        .enumerate()
        .map(|(i, (ty, _))| b.input(&format!("x{i}"), ty.clone()))
        .collect();
    let results = b.ops_with(sample.op, &operands, sample.attrs.clone());
    let results = results.unwrap_or_else(|error| panic!("{}: {error}", what(sample)));
    b.finish(results)
}

fn what(sample: &Sample) -> String {
    let types: Vec<String> =
        sample.operands.iter().map(|(ty, t)| format!("{ty} as {:?}", t.shape())).collect();
    format!("{}({}) {:?}", sample.op.name, types.join(", "), sample.attrs)
}

fn tensors(sample: &Sample) -> Vec<Tensor> {
    sample.operands.iter().map(|(_, tensor)| tensor.clone()).collect()
}

#[test]
fn names_are_unique_and_are_those_of_files() {
    let mut seen = BTreeSet::new();
    for entry in ops::ALL {
        let name = entry.op.name;
        assert!(seen.insert(name), "`{name}` comes twice");
        assert_eq!(ops::find(name), Some(entry.op));
        let shelves = ["math", "linalg", "reduce", "shape", "order", "norm", "pool", "flow"];
        let source = format!("{}/src", env!("CARGO_MANIFEST_DIR"));
        let text =
            shelves.iter().find_map(|s| std::fs::read_to_string(format!("{source}/{s}/{name}.rs")).ok());
        let text = text.unwrap_or_else(|| panic!("`{name}` has no file of its name"));
        assert!(text.contains(&format!("pub static {}: OpDef", name.to_uppercase())), "{name}");
    }
}

#[test]
fn every_op_has_samples() {
    for entry in ops::ALL.iter().filter(|entry| !["as_size", "if", "loop"].contains(&entry.op.name)) {
        assert!(!samples(entry.op).is_empty(), "`{}` has no samples", entry.op.name);
    }
}

#[test]
fn stages_and_expansions_give_the_reference_values() {
    for entry in ops::ALL {
        for sample in samples(entry.op) {
            let graph = graph_of(&sample);
            let inputs = tensors(&sample);
            let expected = ir::graph::eval(&graph, &inputs);
            let expected = expected.unwrap_or_else(|at| panic!("{}: {}", what(&sample), at.error));
            let found = naive::run(&graph, &inputs);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(&what(&sample), found, expected);
            }
        }
    }
}

#[test]
fn inferred_types_are_those_of_the_values() {
    for entry in ops::ALL {
        for sample in samples(entry.op) {
            let graph = graph_of(&sample);
            let inputs = tensors(&sample);
            let sizes = bind(&graph, &inputs).expect("the inputs fit");
            let values = ir::graph::eval(&graph, &inputs).expect("evaluates");
            for (output, value) in graph.outputs().into_iter().zip(values) {
                let ty = graph.ty(output);
                let shape: Vec<i64> =
                    ty.shape.iter().map(|d| d.eval(&|s| sizes.get(s).copied()).expect("bound")).collect();
                let found: Vec<i64> = value.shape().iter().map(|&size| size as i64).collect();
                assert_eq!((ty.dtype, shape), (value.dtype(), found), "{}", what(&sample));
            }
        }
    }
}

#[test]
fn sizes_of_constants_are_their_values() {
    let mut known = 0;
    for entry in ops::ALL {
        for sample in samples(entry.op) {
            let mut b = Build::new("constants");
            let operands: Vec<_> = sample.operands.iter().map(|(_, tensor)| b.constant(tensor)).collect();
            let Ok(results) = b.ops_with(sample.op, &operands, sample.attrs.clone()) else { continue };
            let result = results[0];
            let graph = b.finish(vec![result]);
            let Some(sizes) = KnownSizes::new().of(&graph, result) else { continue };
            known += 1;
            let sizes: Option<Vec<i64>> = sizes.iter().map(ir::Dim::as_const).collect();
            let value = ir::graph::eval(&graph, &[]).expect("evaluates").remove(0);
            assert_eq!(sizes, Some(value.to_i64()), "{}", what(&sample));
        }
    }
    assert!(known > 200, "only {known} samples have known sizes");
}

#[test]
fn an_op_that_is_elementwise_has_the_shape_of_its_operands() {
    for entry in ops::ALL.iter().filter(|entry| entry.op.semantics.is_elementwise()) {
        for sample in samples(entry.op) {
            let graph = graph_of(&sample);
            let shapes =
                sample.operands.iter().try_fold(Vec::new(), |s, (ty, _)| ir::types::broadcast(&s, &ty.shape));
            assert_eq!(
                graph.ty(graph.outputs()[0]).shape,
                shapes.expect("they broadcast"),
                "{}",
                what(&sample)
            );
        }
    }
}

/// Arithmetic on the sizes of an input: what is known of it without the input is what it is for every input.
#[test]
fn symbolic_sizes_are_the_values_for_all_sizes() {
    let number = |b: &mut Build, value: i64| b.constant(&Tensor::from_i64(&[1], &[value]));
    let mut known = 0;
    let binary = |op: &&ops::Entry| op.op.semantics.is_elementwise() && op.op.arity.admits(2);
    for entry in ops::ALL.iter().filter(binary) {
        for (left, right) in (0..6).flat_map(|left| (0..6).map(move |right| (left, right))) {
            let mut b = Build::new("sizes");
            let x = b.input("x", TensorType::new(DType::Bool, ["n", "m"].map(Dim::symbol)));
            let shape = b.op(&ops::shape::shape::SHAPE, &[x]).expect("any tensor has a shape");
            let (zero, one) = (number(&mut b, 0), number(&mut b, 1));
            let n = b.op(&ops::shape::gather::GATHER, &[shape, zero]).expect("axis 0");
            let m = b.op(&ops::shape::gather::GATHER, &[shape, one]).expect("axis 1");
            let all = [
                n,
                m,
                b.op(&ops::math::add::ADD, &[n, m]).expect("both are i64[1]"),
                zero,
                number(&mut b, 4),
                number(&mut b, -3),
            ];
            let Ok(result) = b.op(entry.op, &[all[left], all[right]]) else { continue };
            let graph = b.finish(vec![result]);
            let Some(sizes) = KnownSizes::new().of(&graph, result) else { continue };
            known += 1;
            for shape in [[0, 0], [1, 5], [3, 3], [7, 2], [4, 1]] {
                let input = Tensor::splat(Scalar::bool(true), &shape);
                let value =
                    ir::graph::eval(&graph, std::slice::from_ref(&input)).expect("evaluates").remove(0);
                let bound = bind(&graph, &[input]).expect("the input fits");
                let sizes: Vec<i64> =
                    sizes.iter().map(|d| d.eval(&|s| bound.get(s).copied()).expect("bound")).collect();
                let what = format!("{}({left}, {right}) at {shape:?}", entry.op.name);
                assert_eq!(sizes, value.to_i64(), "{what}");
            }
        }
    }
    assert!(known > 150, "only {known} are known");
}
