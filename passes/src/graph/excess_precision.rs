//! Computes in `f32` what a model computes in floats of 16 bits.
//!
//! Arithmetic on 16-bit floats is that on `f32`, each result rounded. Between ops that round, this pass leaves the rounding
//! out: values keep the *excess precision* of `f32` until they leave the graph, are stored in a state, or enter an op that
//! knows 16 bits only. Results are nearer to those of real numbers, and the graph is that of the model in `f32`, in which
//! rules find what they know: attention, experts, norms. What only moves elements which nobody computed stays as it is:
//! tables, caches and weights are read in their own type.
//!
//! On a GPU, what is multiplied by weights is rounded as the model says: its products of 16-bit floats are faster.
//!
//! Where arithmetic is strict, every rounding stays.

use std::collections::BTreeMap;

use ir::graph::{Kind, Value};
use ir::op::{Infer, OpError};
use ir::{At, DType, Graph, NodeId, OpDef, Origin, TensorType};
use ops::linalg::conv::CONV;
use ops::linalg::einsum::EINSUM;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::cast::{self, CAST};
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::CONCAT;
use ops::shape::gather::GATHER;
use ops::shape::gather_elements::GATHER_ELEMENTS;
use ops::shape::gather_nd::GATHER_ND;
use ops::shape::pad::PAD;
use ops::shape::put::PUT;
use ops::shape::reshape::RESHAPE;
use ops::shape::restate::RESTATE;
use ops::shape::slice::SLICE;
use ops::shape::transpose::TRANSPOSE;

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, FpMode, GraphPass};
use crate::target::Target;

/// What gives elements of its operands, as they are.
const MOVES: [&OpDef; 11] = [
    &BROADCAST,
    &CONCAT,
    &GATHER,
    &GATHER_ELEMENTS,
    &GATHER_ND,
    &PAD,
    &PUT,
    &RESHAPE,
    &RESTATE,
    &SLICE,
    &TRANSPOSE,
];

/// Those of them that only give an operand another shape or order.
const SHAPES: [&OpDef; 3] = [&BROADCAST, &RESHAPE, &TRANSPOSE];

/// How many of these are looked through, one after the other.
const MOST_MOVES: usize = 16;

/// What tensor cores compute.
const PRODUCTS: [&OpDef; 4] = [&CONV, &EINSUM, &GROUPED_MATMUL, &MATMUL];

/// See the [module](self).
pub struct ExcessPrecision;

impl GraphPass for ExcessPrecision {
    fn about(&self) -> About {
        About::new("excess_precision", "keep in f32 what 16-bit floats are computed to")
    }

    fn run(&self, graph: &mut Graph, cx: &Cx) -> Result<Changed, At<PassError>> {
        let order = graph.order();
        let halves = |&id: &NodeId| graph.node(id).types.iter().any(is_half);
        if cx.fp == FpMode::Strict || !order.iter().any(halves) {
            return Ok(Changed(false));
        }
        let mut widening = Widening::of(graph, cx.target);
        for id in order {
            widening.node(id).map_err(|error| widening.graph.at(id, PassError::from(error)))?;
        }
        widening.round()?;
        let Widening { made, mut changed, .. } = widening;
        let needed = graph.needed(graph.roots());
        changed |= made.iter().any(|id| needed.contains(id));
        graph.retain(|id| needed.contains(&id));
        Ok(Changed(changed))
    }
}

/// A graph on its way.
struct Widening<'a> {
    graph: &'a mut Graph,
    target: Target,
    /// What was computed in `f32` for values of 16 bits.
    wide: BTreeMap<Value, Value>,
    /// Other values of 16 bits in `f32`.
    casts: BTreeMap<Value, Value>,
    /// Nodes that compute in `f32` what others did in 16 bits. Nobody may need them.
    made: Vec<NodeId>,
    /// Is a cast gone?
    changed: bool,
}

impl Widening<'_> {
    fn of(graph: &mut Graph, target: Target) -> Widening<'_> {
        let (wide, casts) = (BTreeMap::new(), BTreeMap::new());
        Widening { graph, target, wide, casts, made: Vec::new(), changed: false }
    }

    /// Has a node compute in `f32`, if it can.
    fn node(&mut self, id: NodeId) -> Result<(), OpError> {
        let node = self.graph.node(id);
        let Some((def, attrs)) = node.op() else { return Ok(()) };
        let (attrs, types, origin) = (attrs.clone(), node.types.clone(), node.origin.clone());
        let operands = self.graph.operands(id);
        if def == &CAST {
            return self.cast(id, operands[0], &origin);
        }
        let half = |x: &&Value| is_half(self.graph.ty(**x));
        let (computed, given): (Vec<&Value>, Vec<&Value>) =
            operands.iter().filter(half).partition(|x| self.wide.contains_key(x));
        let constant = |x: &&Value| self.graph.node(x.node).weight().is_some();
        let moves = MOVES.contains(&def);
        let stays = computed.is_empty() && (moves || given.is_empty() || !types.iter().any(is_half));
        // A cache with new rows behind it leaves as it came.
        let leaves = || def == &PUT || self.graph.outputs().contains(&id.into());
        if stays || moves && !given.iter().all(constant) && leaves() || self.graph.flow(id).is_some() {
            return Ok(());
        }
        let expected: Vec<TensorType> = types.iter().map(widened).collect();
        let wider: Vec<TensorType> = operands.iter().map(|x| widened(self.graph.ty(*x))).collect();
        let inferred =
            def.result_types(&Infer { operands: &wider.iter().collect::<Vec<_>>(), attrs: &attrs });
        if inferred.ok().as_ref() != Some(&expected) {
            return Ok(());
        }
        let stored =
            |x: &Value| self.is_behind(*x, &MOVES, MOST_MOVES, |kind| matches!(kind, Kind::Weight(_)));
        let rounds = self.target == Target::Gpu && PRODUCTS.contains(&def) && operands.iter().any(stored);
        let mut wider = Vec::new();
        for x in operands {
            wider.push(match self.wide.get(&x) {
                Some(&wide) if !rounds => wide,
                _ => self.converted(x, &origin)?,
            });
        }
        let new = self.graph.add_op(def, &wider, attrs, origin)?;
        self.made.push(new);
        for (result, ty) in types.iter().enumerate() {
            let (old, new) = (Value { node: id, result }, Value { node: new, result });
            if is_half(ty) {
                self.wide.insert(old, new);
            } else {
                self.graph.replace_uses(old, new);
            }
        }
        Ok(())
    }

    /// A cast to 16 bits rounds nothing, and one from there to wider floats has nothing to do, unless a product of a GPU
    /// is to have it so.
    fn cast(&mut self, id: NodeId, x: Value, origin: &Origin) -> Result<(), OpError> {
        let (from, to) = (self.graph.ty(x).dtype, self.graph.node(id).types[0].dtype);
        let known = self.wide.get(&x).copied();
        if is_half(&self.graph.node(id).types[0]) {
            let wide = known.or(Some(x).filter(|_| from == DType::F32));
            // Whole numbers and wider floats that nobody needs in 16 bits become f32 at once.
            let wide = match wide {
                Some(wide) => wide,
                None if is_half(self.graph.ty(x)) => return Ok(()),
                None => self.cast_to(x, DType::F32, origin)?,
            };
            self.wide.insert(id.into(), wide);
            return Ok(());
        }
        if let Some(wide) = known
            && to.is_float()
            && !to.is_narrow()
            && !self.is_for_products(id)
        {
            let wide = if to == DType::F32 { wide } else { self.cast_to(wide, to, origin)? };
            self.graph.replace_uses(id.into(), wide);
            self.changed = true;
        }
        Ok(())
    }

    /// On a GPU, a product reads what was rounded for it.
    fn is_for_products(&self, id: NodeId) -> bool {
        let users = self.graph.users(id.into());
        let is = |&(user, _): &(NodeId, usize)| {
            self.graph.node(user).op().is_some_and(|(def, _)| PRODUCTS.contains(&def))
        };
        self.target == Target::Gpu && !users.is_empty() && users.iter().all(is)
    }

    /// Is a value of such a kind, or behind one, with at most so many of these ops between them?
    fn is_behind(&self, value: Value, ops: &[&OpDef], most: usize, is: fn(&Kind) -> bool) -> bool {
        let node = self.graph.node(value.node);
        let moved = |(def, _): (&'static OpDef, _)| {
            let of = || self.graph.operands(value.node).first().copied();
            most > 0 && ops.contains(&def) && of().is_some_and(|of| self.is_behind(of, ops, most - 1, is))
        };
        is(&node.kind) || node.op().is_some_and(moved)
    }

    /// A value as an operand: one of 16 bits as `f32`.
    fn converted(&mut self, x: Value, origin: &Origin) -> Result<Value, OpError> {
        if !is_half(self.graph.ty(x)) {
            return Ok(x);
        }
        if let Some(&cast) = self.casts.get(&x) {
            return Ok(cast);
        }
        let is_input = |kind: &Kind| matches!(kind, Kind::Input(_));
        let node = self.graph.node(x.node).clone();
        let cast = match node.op().filter(|_| self.is_behind(x, &SHAPES, MOST_MOVES, is_input)) {
            // Rules look through shapes, but not through casts: that of an input stands before all of them.
            Some((def, attrs)) => {
                let of = self.converted(self.graph.operands(x.node)[0], origin)?;
                self.graph.add_op(def, &[of], attrs.clone(), node.origin.clone())?.into()
            }
            None => self.cast_to(x, DType::F32, origin)?,
        };
        self.casts.insert(x, cast);
        Ok(cast)
    }

    fn cast_to(&mut self, x: Value, to: DType, origin: &Origin) -> Result<Value, OpError> {
        Ok(self.graph.add_op(&CAST, &[x], cast::to(to), origin.clone())?.into())
    }

    /// Rounds what is needed in 16 bits after all. What only moves elements, moves those that are rounded.
    fn round(&mut self) -> Result<(), At<PassError>> {
        for (old, wide) in std::mem::take(&mut self.wide) {
            let stays = |(def, _): (&'static OpDef, _)| def == &CAST || MOVES.contains(&def);
            let needed = || self.graph.outputs().contains(&old) || !self.graph.users(old).is_empty();
            if self.graph.node(old.node).op().is_some_and(stays) || !needed() {
                continue;
            }
            let (to, origin) = (self.graph.ty(old).dtype, self.graph.node(old.node).origin.clone());
            let narrow = self.cast_to(wide, to, &origin);
            let narrow = narrow.map_err(|error| self.graph.at(old.node, PassError::from(error)))?;
            self.graph.replace_uses(old, narrow);
        }
        Ok(())
    }
}

fn is_half(ty: &TensorType) -> bool {
    matches!(ty.dtype, DType::F16 | DType::BF16)
}

/// A type with `f32` for 16-bit floats.
fn widened(ty: &TensorType) -> TensorType {
    if is_half(ty) { ty.with_dtype(DType::F32) } else { ty.clone() }
}
