//! Which indices a node of ONNX may have as they are.
//!
//! For an op, an index out of range is the nearest one (`gather`), or says nothing (`scatter_nd`); for a node of ONNX it is an
//! error. Indices that are *data* are taken as they are: those that the model is given, that it stores, or that come
//! from what counts elements of that axis, moved about in whatever way. What arithmetic makes is not.

use ir::graph::{Graph, Kind, Value};
use ir::{Dim, Weight};

use crate::math::cast::CAST;
use crate::math::r#where::WHERE;
use crate::order::nonzero::NONZERO;
use crate::order::route::ROUTE;
use crate::order::topk::TOPK;
use crate::order::unique::UNIQUE;
use crate::reduce::arg_max::ARG_MAX;
use crate::reduce::arg_min::ARG_MIN;
use crate::shape::broadcast::BROADCAST;
use crate::shape::concat::CONCAT;
use crate::shape::gather::GATHER;
use crate::shape::gather_elements::GATHER_ELEMENTS;
use crate::shape::gather_nd::GATHER_ND;
use crate::shape::iota::{self, IOTA};
use crate::shape::reshape::RESHAPE;
use crate::shape::restate::RESTATE;
use crate::shape::slice::SLICE;
use crate::shape::transpose::TRANSPOSE;

/// So many ops are looked through.
const DEPTH: usize = 24;

/// Larger constants are taken to be what the model wants.
const LOOKED_AT: usize = 1 << 16;

/// Are these indices, of an axis of `size`, data? The inputs of a graph are, if it is the model.
pub(super) fn are_in_range(graph: &Graph, indices: Value, size: &Dim, is_outermost: bool) -> bool {
    is_data(graph, indices, size, is_outermost, DEPTH)
}

fn is_data(graph: &Graph, value: Value, size: &Dim, is_outermost: bool, depth: usize) -> bool {
    let def = match &graph.node(value.node).kind {
        Kind::Input(_) => return is_outermost,
        Kind::Weight(weight) => return fits(weight, size),
        Kind::Op { def, .. } => *def,
    };
    let operands = graph.operands(value.node);
    let is = |operand: &Value| depth > 0 && is_data(graph, *operand, size, is_outermost, depth - 1);
    if [&RESHAPE, &RESTATE, &TRANSPOSE, &SLICE, &CAST, &BROADCAST, &GATHER, &GATHER_ELEMENTS, &GATHER_ND]
        .contains(&def)
    {
        return is(&operands[0]);
    }
    if def == &CONCAT {
        return operands.iter().all(is);
    }
    if def == &WHERE {
        return operands[1..].iter().all(is);
    }
    if def == &IOTA {
        let (Some((_, attrs)), ty) = (graph.node(value.node).op(), graph.ty(value)) else { return false };
        let axis = ir::op::normalize_axis(attrs.get(iota::AXIS), ty.rank());
        return axis.is_ok_and(|axis| at_most(&ty.shape[axis], size));
    }
    // Positions of elements.
    if [&TOPK, &ROUTE].contains(&def) {
        let from = &graph.ty(operands[0]).shape;
        return value.result == 1 && from.iter().any(|from| at_most(from, size));
    }
    if [&ARG_MAX, &ARG_MIN].contains(&def) {
        return graph.ty(operands[0]).shape.iter().any(|from| at_most(from, size));
    }
    if def == &NONZERO {
        return value.result == 0 && graph.ty(operands[0]).shape.iter().any(|from| at_most(from, size));
    }
    def == &UNIQUE && (1..=2).contains(&value.result)
}

fn at_most(from: &Dim, size: &Dim) -> bool {
    from == size || from.as_const().zip(size.as_const()).is_some_and(|(from, size)| from <= size)
}

/// Constants are in range where that can be told; along an axis of symbolic size it can't, and the model is taken by
/// its word.
fn fits(weight: &Weight, size: &Dim) -> bool {
    match size.as_const() {
        Some(size) if weight.elements() <= LOOKED_AT => {
            weight.values().all(|value| (-size..size).contains(&value.to_i64()))
        }
        _ => true,
    }
}
