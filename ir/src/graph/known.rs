//! What is known about integers in a graph without running it.

use std::collections::BTreeMap;

use super::{Graph, Kind, Value};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::types::TensorType;

/// The integer tensors of a graph whose elements are known as sizes: constants, shapes, and arithmetic on them. Truth
/// values count as 0 and 1.
#[derive(Debug, Clone, Default)]
pub struct KnownSizes(BTreeMap<Value, Option<Vec<Dim>>>);

impl KnownSizes {
    /// Nothing looked at yet. Answers are remembered: valid as long as the graph only grows.
    pub fn new() -> KnownSizes {
        KnownSizes::default()
    }

    /// The elements of `value`, row-major, if they are known as sizes.
    pub fn of(&mut self, graph: &Graph, value: Value) -> Option<Vec<Dim>> {
        if let Some(known) = self.0.get(&value) {
            return known.clone();
        }
        let found = self.compute(graph, value);
        self.0.insert(value, found.clone());
        found
    }

    fn compute(&mut self, graph: &Graph, value: Value) -> Option<Vec<Dim>> {
        let ty = graph.ty(value);
        let elements = ty.elements().as_const()?;
        if ty.dtype.is_float() || elements > crate::op::MAX_SIZES || value.result != 0 {
            return None;
        }
        // Sizes are signed: from 2⁶³ on, numbers are none.
        let is_signed = |sizes: &Vec<Dim>| {
            ty.dtype != DType::U64 || sizes.iter().all(|size| size.as_const().is_none_or(|size| size >= 0))
        };
        let known = match &graph.node(value.node).kind {
            Kind::Input(_) => None,
            Kind::Weight(weight) => Some(weight.tensor().to_i64().into_iter().map(Dim::constant).collect()),
            Kind::Op { def, attrs } => {
                let values = graph.operands(value.node);
                let operands: Vec<Option<Vec<Dim>>> = values.iter().map(|&v| self.of(graph, v)).collect();
                let types: Vec<&TensorType> = values.iter().map(|&v| graph.ty(v)).collect();
                let cx = crate::op::Sizes { types: &types, operands: &operands, attrs, result: ty };
                def.semantics.sizes(&cx).filter(|sizes| sizes.len() as i64 == elements)
            }
        };
        known.filter(is_signed)
    }
}
