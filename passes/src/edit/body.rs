//! What the experts of a layer compute, as a function of tokens and ids: it can be applied to others.
//!
//! A body is what stands between the tokens and the weighted sum of the experts' results: products and tables that ids name,
//! ranges of columns, and ops by element. Other shapes in between say nothing new, since a slot stays a row throughout. The body
//! is applied with one axis of slots behind those of the tokens, whatever shapes it had.

use std::collections::{BTreeMap, BTreeSet};

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::{Kind, Value};
use ir::op::OpError;
use ir::{Dim, Graph, NodeId, OpDef};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::shape::broadcast::BROADCAST;
use ops::shape::gather::{self, GATHER};
use ops::shape::reshape::{RESHAPE, reshape};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS, slice_axis};

use super::EditError;
use super::layer::{Layer, constant, is};

/// The body of a layer's experts.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) layer: &'a Layer,
    /// What follows from the ids.
    by_ids: BTreeSet<NodeId>,
    /// The tokens, in the shape in which the graph has them first.
    pub(super) tokens: Value,
    /// What the experts say.
    pub(super) result: Value,
    /// The axes of tokens, without their features.
    pub(super) rows: Vec<Dim>,
    /// What each slot weighs.
    pub(super) gates: Value,
}

/// What a value of a body is.
#[derive(Debug)]
pub(super) enum Part {
    /// The tokens.
    Tokens,
    /// Rows times the matrices of their experts.
    Product { x: Value },
    /// A row for each slot, that of its expert.
    Table,
    /// The same in another shape.
    View(Value),
    /// These columns of something.
    Columns { x: Value, start: usize },
    /// Element by element of others.
    Elementwise { def: &'static OpDef, attrs: Attrs, operands: Vec<Value> },
    /// A number.
    Number,
}

/// What a body is applied to.
pub(super) struct Apply<'a> {
    /// The tokens: `[rows…, 1, D]`.
    pub(super) tokens: Value,
    /// The ids for those that a node of the body has.
    pub(super) ids: &'a dyn Fn(&mut Build, Value) -> Result<Value, OpError>,
    /// What a product or a table reads instead of its stack, if something else.
    pub(super) stacks: &'a BTreeMap<NodeId, Value>,
}

impl<'a> Body<'a> {
    /// The body of a layer.
    ///
    /// # Errors
    /// Results that are not added up with gates, or a node that is nothing of what a body has.
    pub(super) fn of(graph: &Graph, layer: &'a Layer) -> Result<Body<'a>, EditError> {
        let combine = layer.combine.ok_or_else(|| {
            layer.refuse(graph, layer.router, "its experts' results are not added up with gates")
        })?;
        let [result, gates] = graph.operands(combine)[..] else {
            unreachable!("bug: a weighted sum has two operands")
        };
        let (_, rows) = graph.ty(gates).shape.split_last().expect("bug: slots are an axis");
        let rows = rows.to_vec();
        let mut by_ids: BTreeSet<NodeId> = layer.stacks().map(|(node, _, _)| node).collect();
        for id in graph.order() {
            if graph.operands(id).iter().any(|value| by_ids.contains(&value.node)) {
                by_ids.insert(id);
            }
        }
        let first = layer.products[0];
        let tokens = tokens(graph, graph.operands(first)[0]);
        let body = Body { layer, by_ids, tokens, result, rows, gates };
        let width = features(graph, tokens);
        let count: Dim = body.rows.iter().cloned().product();
        if graph.ty(tokens).shape.iter().cloned().product::<Dim>() != count * width {
            return Err(layer.refuse(graph, first, "its experts do not read a row for each token"));
        }
        body.check(graph, result, &mut BTreeSet::new())?;
        Ok(body)
    }

    /// All that a value is made of belongs to a body.
    fn check(&self, graph: &Graph, value: Value, seen: &mut BTreeSet<Value>) -> Result<(), EditError> {
        if !seen.insert(value) {
            return Ok(());
        }
        let inner = match self.part(graph, value)? {
            Part::Product { x } | Part::View(x) | Part::Columns { x, .. } => vec![x],
            Part::Elementwise { operands, .. } => operands,
            Part::Tokens | Part::Table | Part::Number => Vec::new(),
        };
        inner.into_iter().try_for_each(|value| self.check(graph, value, seen))
    }

    /// What a value is.
    ///
    /// # Errors
    /// Nothing of what a body has.
    pub(super) fn part(&self, graph: &Graph, value: Value) -> Result<Part, EditError> {
        let id = value.node;
        if self.layer.products.contains(&id) {
            return Ok(Part::Product { x: graph.operands(id)[0] });
        }
        if self.layer.tables.contains(&id) && graph.ty(graph.operands(id)[0]).rank() == 2 {
            return Ok(Part::Table);
        }
        if !self.by_ids.contains(&id) {
            return match tokens(graph, value) == self.tokens {
                true => Ok(Part::Tokens),
                false if constant(graph, value).is_some_and(|tensor| tensor.elements() == 1) => {
                    Ok(Part::Number)
                }
                false => Err(self.layer.refuse(graph, id, "its experts read something besides their tokens")),
            };
        }
        let unknown = || self.layer.refuse(graph, id, "what its experts compute is not a row for each slot");
        let Kind::Op { def, attrs } = graph.node(id).kind.clone() else { return Err(unknown()) };
        let operands = graph.operands(id);
        if def == &RESHAPE && keeps_rows(graph, value, operands[0]) {
            return Ok(Part::View(operands[0]));
        }
        if def == &SLICE {
            let (start, _) = columns(graph, value).ok_or_else(unknown)?;
            return Ok(Part::Columns { x: operands[0], start });
        }
        // Axes behind the features must not make two of them meet.
        let alike = |operand: &Value| {
            !self.by_ids.contains(&operand.node) || behind(graph, *operand) == behind(graph, value)
        };
        match def.semantics.is_elementwise() && !attrs.has_symbols() && operands.iter().all(alike) {
            true => Ok(Part::Elementwise { def, attrs, operands }),
            false => Err(unknown()),
        }
    }

    /// What the experts say of other tokens, by other ids: `[rows…, K, D]`.
    ///
    /// # Errors
    /// What an op says of what it is given.
    pub(super) fn apply(&self, b: &mut Build, with: &Apply) -> Result<Value, EditError> {
        self.applied(b, self.result, with, &mut BTreeMap::new())
    }

    fn applied(
        &self,
        b: &mut Build,
        value: Value,
        with: &Apply,
        made: &mut BTreeMap<Value, Value>,
    ) -> Result<Value, EditError> {
        if let Some(&made) = made.get(&value) {
            return Ok(made);
        }
        let stack = |b: &Build, operand: usize| {
            with.stacks.get(&value.node).copied().unwrap_or_else(|| b.graph().operands(value.node)[operand])
        };
        let result = match self.part(b.graph(), value)? {
            Part::Tokens => with.tokens,
            Part::Number => value,
            Part::View(x) => self.applied(b, x, with, made)?,
            Part::Product { x } => {
                let (stack, ids) = (stack(b, 1), b.graph().operands(value.node)[2]);
                let x = self.applied(b, x, with, made)?;
                let ids = (with.ids)(b, ids)?;
                b.op(&GROUPED_MATMUL, &[x, stack, ids])?
            }
            Part::Table => {
                let (stack, ids) = (stack(b, 0), b.graph().operands(value.node)[1]);
                let ids = (with.ids)(b, ids)?;
                b.op_with(&GATHER, &[stack, ids], [gather::AXIS.is(0)])?
            }
            Part::Columns { x, start } => {
                let count = b.ty(value).shape.last().cloned().unwrap_or(Dim::constant(1));
                let x = self.applied(b, x, with, made)?;
                let axis = b.ty(x).rank() - 1;
                slice_axis(b, x, axis, start.into(), count)?
            }
            Part::Elementwise { def, attrs, operands } => {
                let operands = operands
                    .into_iter()
                    .map(|operand| self.applied(b, operand, with, made))
                    .collect::<Result<Vec<_>, _>>()?;
                let origin = b.origin().clone();
                b.graph_mut().add_op(def, &operands, attrs, origin)?.into()
            }
        };
        made.insert(value, result);
        Ok(result)
    }

    /// The shape of so many slots for each token.
    pub(super) fn slots(&self, count: usize) -> Vec<Dim> {
        self.rows.iter().cloned().chain([count.into()]).collect()
    }

    /// The tokens with an axis of slots: `[rows…, 1, D]`.
    ///
    /// # Errors
    /// What `reshape` says.
    pub(super) fn row_of_tokens(&self, b: &mut Build) -> Result<Value, OpError> {
        let width = features(b.graph(), self.tokens);
        let shape = self.rows.iter().cloned().chain([Dim::constant(1), width]).collect();
        reshape(b, self.tokens, shape)
    }
}

/// What a value is in its first shape, that has the same rows.
pub(super) fn tokens(graph: &Graph, mut value: Value) -> Value {
    loop {
        let operands = graph.operands(value.node);
        let [inner] = operands[..] else { return value };
        let stretches = is(graph, value.node, &BROADCAST) && stretches_slots(graph, value, inner);
        let restates = is(graph, value.node, &RESHAPE) && keeps_rows(graph, value, inner);
        if !stretches && !restates {
            return value;
        }
        value = inner;
    }
}

/// Does a broadcast repeat a row for each slot: `[…, 1, D]` to `[…, K, D]`?
fn stretches_slots(graph: &Graph, value: Value, inner: Value) -> bool {
    let (from, to) = (&graph.ty(inner).shape, &graph.ty(value).shape);
    let axis = to.len().wrapping_sub(2);
    from.len() == to.len()
        && from.iter().zip(to).enumerate().all(|(at, (from, to))| from == to || at == axis && from.is(1))
}

/// How many features a row has: the last size, but for axes of size 1 behind it.
pub(super) fn features(graph: &Graph, value: Value) -> Dim {
    let mut sizes = graph.ty(value).shape.iter().rev();
    sizes.find(|size| !size.is(1)).cloned().unwrap_or(Dim::constant(1))
}

/// How many axes of size 1 are behind the features.
fn behind(graph: &Graph, value: Value) -> usize {
    graph.ty(value).shape.iter().rev().take_while(|size| size.is(1)).count()
}

/// Do rows have the same features in both?
pub(super) fn keeps_rows(graph: &Graph, value: Value, inner: Value) -> bool {
    features(graph, value) == features(graph, inner)
}

/// The columns that a slice takes, all of each other axis.
pub(super) fn columns(graph: &Graph, value: Value) -> Option<(usize, usize)> {
    let (_, attrs) = graph.node(value.node).op()?;
    let whole = &graph.ty(graph.operands(value.node)[0]).shape;
    let (starts, sizes) = (attrs.get(STARTS), attrs.get(SIZES));
    let (start, outer) = starts.split_last()?;
    let (count, others) = sizes.split_last()?;
    let is_whole = outer.iter().all(|start| start.is(0)) && others == &whole[..others.len()];
    // Nothing stands behind the features.
    let has_features = whole.last().is_some_and(|last| !last.is(1));
    let number = |dim: &Dim| usize::try_from(dim.as_const()?).ok();
    let found = (number(start)?, number(count)?);
    (is_whole && has_features && attrs.get(STEPS).iter().all(|&step| step == 1)).then_some(found)
}
