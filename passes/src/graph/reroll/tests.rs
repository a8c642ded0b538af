//! How much work it is to roll up loops: a number of comparisons that grows as the graph does.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Graph, Scalar, Tensor, TensorType};
use ops::flow::as_size::as_size;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::eq::EQ;
use ops::math::mul::MUL;
use ops::math::relu::RELU;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::order::nonzero::NONZERO;
use ops::order::topk::topk;
use ops::shape::gather::GATHER;
use ops::shape::gather_nd::GATHER_ND;
use ops::shape::reshape::reshape;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_nd::SCATTER_ND;
use ops::shape::slice::slice_axis;
use ops::shape::transpose::transpose;

use super::{Report, reroll};
use crate::pass::Cx;

const TOKENS: i64 = 4;
const WIDTH: usize = 3;

/// A matrix that no other is equal to.
fn matrix(b: &mut Build, shape: [usize; 2], seed: usize) -> Value {
    let mut at = seed * 1000;
    let next = |_: &[usize]| {
        at += 1;
        Scalar::from_f64(DType::F32, at as f64)
    };
    let tensor = Tensor::from_fn(DType::F32, &shape, next);
    b.constant(&tensor)
}

/// Each expert's tokens are taken, computed, weighed and added up.
fn layer(b: &mut Build, x: Value, experts: usize, seed: usize) -> Result<Value, OpError> {
    let router = matrix(b, [WIDTH, experts], seed);
    let logits = b.op(&MATMUL, &[x, router])?;
    let [values, ids] = topk(b, logits, -1, Dim::constant(2), true)?;
    let gates = b.op_with(&SOFTMAX, &[values], [AXIS.is(-1)])?;
    let zeros = Tensor::from_fn(DType::F32, &[TOKENS as usize, WIDTH], |_| Scalar::from_f64(DType::F32, 0.0));
    let mut sum = b.constant(&zeros);
    for expert in 0..experts {
        let number = b.scalar(DType::I64, expert as f64);
        let mask = b.op(&EQ, &[ids, number])?;
        let found = b.ops_with(&NONZERO, &[mask], [])?;
        let count = as_size(b, found[1], "found", Some(Dim::constant(2 * TOKENS)))?;
        let pairs = slice_axis(b, found[0], 1, Dim::constant(0), count.clone())?;
        let pairs = transpose(b, pairs, vec![1, 0])?;
        let tokens = slice_axis(b, pairs, 1, Dim::constant(0), Dim::constant(1))?;
        let own = reshape(b, tokens, vec![count.clone()])?;
        let rows = b.op(&GATHER, &[x, own])?;
        let seed = seed + 2 * expert + 1;
        let (up, down) = (matrix(b, [WIDTH, 5], seed), matrix(b, [5, WIDTH], seed + 1));
        let hidden = b.op(&MATMUL, &[rows, up])?;
        let hidden = b.op(&RELU, &[hidden])?;
        let y = b.op(&MATMUL, &[hidden, down])?;
        let gate = b.op(&GATHER_ND, &[gates, pairs])?;
        let gate = reshape(b, gate, vec![count, Dim::constant(1)])?;
        let y = b.op(&MUL, &[y, gate])?;
        sum = b.op_with(&SCATTER_ND, &[sum, tokens, y], [REDUCTION.is("add".to_owned())])?;
    }
    Ok(sum)
}

fn model(layers: usize, experts: usize) -> Graph {
    let mut b = Build::new("model");
    let ty = TensorType::new(DType::F32, [Dim::constant(TOKENS), Dim::from(WIDTH)]);
    let mut x = b.input("x", ty);
    for at in 0..layers {
        x = layer(&mut b, x, experts, at * 1000).expect("its operands suit each op");
    }
    b.finish(vec![x])
}

fn rolled(layers: usize, experts: usize) -> (Graph, Report) {
    let mut graph = model(layers, experts);
    let report = reroll(&mut graph, &Cx::default());
    (graph, report)
}

#[test]
fn work_grows_as_the_graph_does() {
    let (graph, report) = rolled(3, 128);
    assert_eq!((report.applied, &report.missed[..]), (3, &[][..]));
    let products = graph
        .order()
        .into_iter()
        .filter(|&id| graph.node(id).op().is_some_and(|(def, _)| *def == GROUPED_MATMUL));
    assert_eq!(products.count(), 6);
    // What the links share is looked at for each of them.
    assert!(report.compared <= 2 * model(3, 128).len(), "{} comparisons", report.compared);
    // Each link but the first of a layer takes as many.
    let (_, half) = rolled(3, 64);
    assert_eq!(report.compared * 63, half.compared * 127);
}

#[test]
fn a_layer_of_what_the_one_before_it_gives() {
    let (graph, report) = rolled(2, 3);
    assert_eq!(report.applied, 2);
    assert!(ir::verify::verify(&graph).is_empty());
    let left =
        graph.order().into_iter().any(|id| graph.node(id).op().is_some_and(|(def, _)| *def == SCATTER_ND));
    assert!(!left, "{graph}");
}

#[test]
fn long_terms_of_a_sum_are_no_links() -> Result<(), OpError> {
    let mut b = Build::new("sum");
    let x = b.input("x", TensorType::new(DType::F32, [Dim::constant(TOKENS), Dim::from(WIDTH)]));
    let mut terms = Vec::new();
    for seed in 0..2 {
        let w = matrix(&mut b, [1, WIDTH], seed);
        let mut term = b.op(&ADD, &[x, w])?;
        for _ in 0..10_000 {
            term = b.op(&RELU, &[term])?;
        }
        terms.push(b.op(&MUL, &[term, x])?);
    }
    let sum = b.op(&ADD, &terms)?;
    let mut graph = b.finish(vec![sum]);
    let report = reroll(&mut graph, &Cx::default());
    assert_eq!((report.changed, report.missed), (false, Vec::new()));
    assert!(report.compared < 1000, "{} comparisons", report.compared);
    Ok(())
}
