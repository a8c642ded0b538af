//! What constants are computed from, where that is stored in fewer bytes than they take.
//!
//! A cast of 16-bit floats to `f32` and a dequantization, `(values − zero) · scale`, are such constants; so are they in
//! another order or shape, in part, or put together. [`ReadStored`] gives them to products as views of what is stored,
//! which the schedule lays out as it is. Elsewhere they are what constant folding makes of them. Where the user wants
//! it ([`Cx::weights`]), so are weights that are rounded to fewer bits.

use ir::graph::{Kind, Node, Value};
use ir::weight::Widened;
use ir::{At, DType, Graph, NodeId, OpDef, Scalar, Weight};
use ops::linalg::conv::CONV;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::cast::{self, CAST, TO};
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::CONCAT;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;
use ops::shape::transpose::TRANSPOSE;

use super::fold_constants::{MAX_FOLDED, own_name, weight_names};
use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};
use crate::target::Target;

/// Constants that take fewer bytes than this are folded like any other.
const SMALL: usize = 16 << 10;

/// So many ops at most make up a constant, one after the other.
const MOST_OPS: usize = 16;

/// What such constants are computed by.
const STEPS: [&OpDef; 8] = [&CAST, &SUB, &MUL, &BROADCAST, &CONCAT, &RESHAPE, &SLICE, &TRANSPOSE];

/// See the [module](self).
pub struct ReadStored;

impl GraphPass for ReadStored {
    fn about(&self) -> About {
        About::new("read_stored", "let products read constants in the type in which they are stored")
    }

    fn run(&self, graph: &mut Graph, cx: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        let mut names = weight_names(graph);
        for id in graph.order() {
            let Some((def, attrs)) = graph.node(id).op() else { continue };
            // What weights of convolutions are dequantized to is folded, if that does not take too much memory.
            if ![&MATMUL, &GROUPED_MATMUL, &CONV].contains(&def) {
                continue;
            }
            let least =
                |weight: &Weight| if def == &CONV && halves(weight).is_none() { MAX_FOLDED } else { 0 };
            let (attrs, mut operands) = (attrs.clone(), graph.operands(id));
            let rounded =
                || cx.weights.filter(|_| def != &CONV).and_then(|dtype| rounded(graph, operands[1], dtype));
            // Bytes that are multiplied as whole numbers are read as they are.
            let floats = graph.ty(operands[1]).dtype.is_float();
            let found = stored(graph, operands[1]).filter(|_| floats).or_else(rounded);
            let Some(weight) = found.filter(|weight| weight.size() > least(weight)) else { continue };
            let halves = halves(&weight).filter(|_| cx.target == Target::Gpu);
            if halves.is_some() && widens(graph, operands[1].node) {
                continue;
            }
            let origin = graph.node(operands[1].node).origin.clone();
            let base = origin.places().first().map_or("c", |place| place.name.as_str());
            let name = own_name(base, &mut names);
            operands[1] = graph.add_weight(halves.unwrap_or(&weight).renamed(name), origin.clone());
            if halves.is_some() {
                let cast = graph.add_op(&CAST, &[operands[1]], cast::to(weight.dtype()), origin);
                operands[1] = cast.map_err(|error| graph.at(id, PassError::from(error)))?.into();
            }
            let (types, origin) = (graph.node(id).types.clone(), graph.node(id).origin.clone());
            let node = Node { kind: Kind::Op { def, attrs }, types, origin };
            let same = graph.add_node_unchecked(node, &operands);
            graph.replace_uses(id.into(), same.into());
            graph.remove(id);
            changed = true;
        }
        Ok(Changed(changed))
    }
}

/// The 16-bit floats that are all that a weight is computed from. A kernel of a GPU casts what it loads.
fn halves(weight: &Weight) -> Option<&Weight> {
    let widened = weight.widened().filter(|widened| widened.zero.is_none() && widened.scale.is_none());
    widened.map(|widened| &widened.values).filter(|values| values.dtype().is_float())
}

/// The weight that a computed value is, if it is one that is stored in a narrower type, and no small one.
pub(crate) fn stored(graph: &Graph, value: Value) -> Option<Weight> {
    let weight = is_stored(graph, value).then(|| constant(graph, value))??;
    weight.widened().is_some().then_some(weight)
}

/// A weight of floats, and no small one, as floats that are stored in another type.
fn rounded(graph: &Graph, value: Value, dtype: DType) -> Option<Weight> {
    let weight = graph.node(value.node).weight()?;
    let fits = weight.dtype() == DType::F32 && weight.size() >= SMALL && weight.widened().is_none();
    let values = fits.then(|| weight.rounded(weight.name(), dtype))?;
    Weight::widen("", DType::F32, Widened { values, zero: None, scale: None })
}

/// Does a node give a weight in a wider type, in which it is no small one?
pub(super) fn widens(graph: &Graph, id: NodeId) -> bool {
    let Some((def, attrs)) = graph.node(id).op() else { return false };
    let from = graph.operands(id).first().and_then(|x| graph.node(x.node).weight());
    let large = |weight: &Weight| weight.elements() * attrs.get(TO).bytes() >= SMALL;
    def == &CAST && from.is_some_and(|weight| is_wider(weight.dtype(), attrs.get(TO)) && large(weight))
}

/// Is a value one that [`stored`] gives a weight for, unless that would need a copy?
pub(super) fn is_stored(graph: &Graph, value: Value) -> bool {
    is_computed(graph, value, MOST_OPS)
}

/// Is a value computed by ops that widen, scale and move the elements of weights, at most so many after each other?
fn is_computed(graph: &Graph, value: Value, depth: usize) -> bool {
    fn all(graph: &Graph, value: Value, depth: usize, widened: &mut bool) -> bool {
        let Some((def, _)) = graph.node(value.node).op() else {
            return graph.node(value.node).weight().is_some();
        };
        *widened |= widens(graph, value.node);
        let known = STEPS.contains(&def) && depth > 0;
        known && graph.operands(value.node).into_iter().all(|x| all(graph, x, depth - 1, widened))
    }
    let mut widened = false;
    all(graph, value, depth, &mut widened) && widened
}

/// The weight that such a value is, as a view of those that it is computed from; `None` if that would need a copy.
fn constant(graph: &Graph, value: Value) -> Option<Weight> {
    let node = graph.node(value.node);
    let Some((def, attrs)) = node.op() else { return node.weight().cloned() };
    let shape = node.types[0].fixed_shape()?;
    let all: Vec<Weight> =
        graph.operands(value.node).into_iter().map(|x| constant(graph, x)).collect::<Option<_>>()?;
    match &all[..] {
        [x] if def == &BROADCAST => Some(x.stretched(x.name(), &shape)),
        [x] if def == &CAST => cast(x, attrs.get(TO)),
        [a, b] if def == &SUB => centred(a, b, &shape),
        [a, b] if def == &MUL => scaled(a, b, &shape).or_else(|| scaled(b, a, &shape)),
        _ => def.semantics.rearranged(&all.iter().collect::<Vec<_>>(), attrs),
    }
}

/// A weight in another type: as it is stored, or centred in whole numbers, which floats of 32 bits can hold.
fn cast(x: &Weight, to: DType) -> Option<Weight> {
    let from = match x.widened() {
        None if is_wider(x.dtype(), to) => Widened { values: x.clone(), zero: None, scale: None },
        Some(widened) if (x.dtype(), to) == (DType::I32, DType::F32) => widened.clone(),
        _ => return None,
    };
    Weight::widen("", to, from)
}

/// `a − b`. A zero of whole numbers has no more bits than what is stored may have.
fn centred(a: &Weight, b: &Weight, shape: &[usize]) -> Option<Weight> {
    let widened = a.widened().filter(|widened| widened.zero.is_none() && widened.scale.is_none())?;
    let small = |value: Scalar| value.to_i64().unsigned_abs() < 1 << 16;
    if a.shape() != shape || a.dtype() == DType::I32 && !b.values().all(small) {
        return None;
    }
    Weight::widen("", a.dtype(), Widened { zero: Some(b.stretched(b.name(), shape)), ..widened.clone() })
}

/// `a · b`, `a` being what is stored.
fn scaled(a: &Weight, b: &Weight, shape: &[usize]) -> Option<Weight> {
    let widened = a.widened().filter(|widened| widened.scale.is_none())?;
    let fits = a.dtype() == DType::F32 && a.shape() == shape;
    let scale = Some(b.stretched(b.name(), shape));
    fits.then(|| Weight::widen("", DType::F32, Widened { scale, ..widened.clone() }))?
}

/// Does a product gain by reading weights of a type as they are, rather than in another?
fn is_wider(from: DType, to: DType) -> bool {
    let is_narrow = matches!(from, DType::F16 | DType::BF16 | DType::I8 | DType::U8 | DType::I4 | DType::U4);
    is_narrow && (to == DType::F32 || to == DType::I32 && from.is_int())
}
