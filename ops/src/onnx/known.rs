//! What is known about integers while a model is imported, and which of them are made sizes.

use std::collections::BTreeMap;

use ir::build::Build;
use ir::graph::{Graph, Kind, KnownSizes, SizeValues, Value};
use ir::op::{Eval, MAX_SIZES, OpError, Sizes};
use ir::{DType, Dim, Scalar, Tensor, TensorType};

use crate::flow::as_size::as_size;
use crate::math::cast::convert;
use crate::shape::reshape::reshape;
use crate::shape::size::sizes;
use crate::shape::slice::slice_axis;

/// What an importer knows about integers in a graph: sizes that follow from shapes, and those that nodes read when the
/// model runs.
#[derive(Debug, Clone, Default)]
pub struct Known {
    sizes: KnownSizes,
    /// Values whose elements were made sizes, and what to use for them.
    pins: BTreeMap<Value, Value>,
}

impl Known {
    /// Nothing yet.
    pub fn new() -> Known {
        Known::default()
    }

    /// The elements of `value`, row-major, if they are known as sizes.
    pub fn of(&mut self, graph: &Graph, value: Value) -> Option<Vec<Dim>> {
        let value = self.pins.get(&value).copied().unwrap_or(value);
        self.sizes.of(graph, value)
    }

    /// The value of `value`, if it follows from weights and known sizes in few steps on small tensors.
    pub fn constant(&mut self, graph: &Graph, value: Value) -> Option<Tensor> {
        fold(graph, value, &mut self.sizes, &mut BTreeMap::new(), FOLD_DEPTH)
    }

    /// The graph was changed: sizes must be looked up again.
    pub fn forget(&mut self) {
        self.sizes = KnownSizes::new();
    }

    /// What stands for values whose elements were made sizes.
    pub fn pinned(&self) -> impl Iterator<Item = Value> {
        self.pins.values().copied()
    }

    /// Would the elements be known as sizes if those of the operands were?
    pub(super) fn is_arithmetic(&mut self, graph: &Graph, value: Value) -> bool {
        let Some((def, attrs)) = graph.node(value.node).op() else { return false };
        if value.result != 0 || def.semantics.flow(attrs).is_some() {
            return false;
        }
        let values = graph.operands(value.node);
        let types: Vec<&TensorType> = values.iter().map(|&v| graph.ty(v)).collect();
        let count = |ty: &TensorType| ty.elements().as_const().filter(|count| *count <= MAX_SIZES);
        let operands: Option<Vec<_>> = values
            .iter()
            .zip(&types)
            .enumerate()
            .map(|(i, (&value, ty))| {
                let stand_in = || {
                    let count = count(ty).filter(|_| !ty.dtype.is_float())?;
                    Some((0..count).map(|n| Dim::symbol(format!("?{i}.{n}"))).collect())
                };
                Some(self.of(graph, value).or_else(stand_in))
            })
            .collect();
        let Some(operands) = operands else { return false };
        let cx = Sizes { types: &types, operands: &operands, attrs, result: graph.ty(value) };
        !values.is_empty() && def.semantics.sizes(&cx).is_some()
    }

    /// A value with the same elements, each of which is a size: where they follow from others by arithmetic on sizes,
    /// those others are made sizes. `None` if their number is not known.
    pub(super) fn pin(
        &mut self,
        b: &mut Build,
        value: Value,
        wanted: &str,
    ) -> Result<Option<Value>, OpError> {
        if let Some(&pinned) = self.pins.get(&value) {
            return Ok(Some(pinned));
        }
        if self.sizes.of(b.graph(), value).is_some() {
            return Ok(Some(value));
        }
        let ty = b.ty(value).clone();
        let pinned = if self.is_arithmetic(b.graph(), value) {
            let node = b.graph().node(value.node);
            let (def, attrs) =
                node.op().map(|(def, attrs)| (def, attrs.clone())).expect("arithmetic is an op");
            let mut operands = Vec::new();
            for operand in b.graph().operands(value.node) {
                let small = b.ty(operand).elements().as_const().is_some_and(|n| n <= MAX_SIZES);
                let pinned = if small && !b.ty(operand).dtype.is_float() {
                    self.pin(b, operand, wanted)?
                } else {
                    None
                };
                operands.push(pinned.unwrap_or(operand));
            }
            let attrs = attrs.iter().map(|(name, attr)| (name, attr.clone())).collect::<Vec<_>>();
            b.op_with(def, &operands, attrs)?
        } else {
            let Some(elements) = scalars(b, value)? else { return Ok(None) };
            let mut parts = Vec::new();
            for element in elements {
                let size = as_size(b, element, wanted, None)?;
                parts.push(size);
            }
            sizes(b, &parts, &ty)?
        };
        self.pins.insert(value, pinned);
        Ok(Some(pinned))
    }
}

/// The elements of `value`, an `i64` without axes for each; `None` if their number is not known to be small.
pub(super) fn scalars(b: &mut Build, value: Value) -> Result<Option<Vec<Value>>, OpError> {
    let count = b.ty(value).elements().as_const().filter(|count| *count <= MAX_SIZES);
    let Some(count) = count else { return Ok(None) };
    let flat = reshape(b, value, vec![count.into()])?;
    let flat = convert(b, flat, DType::I64)?;
    let element = |i: i64| {
        let one = slice_axis(b, flat, 0, i.into(), Dim::constant(1))?;
        reshape(b, one, vec![])
    };
    Ok(Some((0..count).map(element).collect::<Result<_, _>>()?))
}

/// How many steps [`fold`] follows.
const FOLD_DEPTH: usize = 64;

/// The value of `value`, if it follows from small weights and known sizes.
fn fold(
    graph: &Graph,
    value: Value,
    sizes: &mut KnownSizes,
    done: &mut BTreeMap<Value, Option<Tensor>>,
    depth: usize,
) -> Option<Tensor> {
    if let Some(tensor) = done.get(&value) {
        return tensor.clone();
    }
    let ty = graph.ty(value);
    if depth == 0 || ty.elements().as_const().is_none_or(|elements| elements > MAX_SIZES) {
        return None;
    }
    let mut known = || {
        let known: Vec<i64> = sizes.of(graph, value)?.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let shape = ty.fixed_shape()?;
        let mut numbers = known.into_iter();
        Some(Tensor::from_fn(ty.dtype, &shape, |_| {
            Scalar::from_i64(ty.dtype, numbers.next().expect("one for each element"))
        }))
    };
    let tensor = known().or_else(|| match &graph.node(value.node).kind {
        Kind::Input(_) => None,
        Kind::Weight(weight) => Some(weight.tensor()),
        Kind::Op { def, attrs } => {
            let operands = graph.operands(value.node).into_iter();
            let operands: Vec<Tensor> =
                operands.map(|x| fold(graph, x, sizes, done, depth - 1)).collect::<Option<_>>()?;
            let operands: Vec<&Tensor> = operands.iter().collect();
            let results =
                def.semantics.eval(&Eval { operands: &operands, attrs, sizes: &SizeValues::new() }).ok()?;
            results.into_iter().nth(value.result)
        }
    });
    done.insert(value, tensor.clone());
    tensor
}
