//! Layers of experts, found by the ids that name their matrices.

use ir::graph::{Kind, Value};
use ir::{Graph, NodeId, Tensor, Weight};
use ops::linalg::combine::COMBINE;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::math::cast::CAST;
use ops::order::route::ROUTE;
use ops::order::topk::TOPK;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::CONCAT;
use ops::shape::gather::{self, GATHER};
use ops::shape::gather_nd::GATHER_ND;
use ops::shape::reshape::RESHAPE;

use super::EditError;

/// A layer of experts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is called: like the node of the model that routes.
    pub name: String,
    /// How many experts there are to choose from.
    pub experts: usize,
    /// How many more every token goes to, behind those in all stacks: folded shared experts.
    pub always: usize,
    /// How many of them a token chooses.
    pub chosen: usize,
    /// The ids that the router gives.
    pub ids: Value,
    /// What gives the ids.
    pub router: NodeId,
    /// Products with matrices that the ids name, first those that are nearest to the tokens.
    pub products: Vec<NodeId>,
    /// Rows of tables that the ids name: biases.
    pub tables: Vec<NodeId>,
    /// What else looks at the ids.
    pub others: Vec<NodeId>,
    /// What adds up the results of a token's experts.
    pub combine: Option<NodeId>,
}

impl Layer {
    /// An edit that chooses among experts, or counts them, comes before shared ones are folded in.
    pub(super) fn want_no_folded(&self) -> Result<(), EditError> {
        match self.always {
            0 => Ok(()),
            folded => Err(EditError::Unfit {
                what: self.name.clone(),
                why: format!("shared experts are folded in already ({folded}); this edit comes before that"),
            }),
        }
    }

    /// A refusal that names a node.
    pub(super) fn refuse(&self, graph: &Graph, node: NodeId, why: &'static str) -> EditError {
        EditError::Node { what: self.name.clone(), why, node: name_of(graph, node) }
    }

    /// What holds something for each expert: the node, the operand that holds it, and the one with ids.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (NodeId, usize, usize)> {
        let products = self.products.iter().map(|&id| (id, 1, 2));
        products.chain(self.tables.iter().map(|&id| (id, 0, 1)))
    }
}

/// The layers of experts of a graph, in order; at least one.
///
/// # Errors
/// [`EditError::NoExperts`].
pub fn layers(graph: &Graph) -> Result<Vec<Layer>, EditError> {
    let mut layers: Vec<Layer> = Vec::new();
    for id in graph.order() {
        if !is(graph, id, &GROUPED_MATMUL) {
            continue;
        }
        let operands = graph.operands(id);
        let (ids, always) = root(graph, operands[2]);
        let matrices = graph.ty(operands[1]);
        if let Some(layer) = layers.iter_mut().find(|layer| layer.ids == ids) {
            layer.products.push(id);
            continue;
        }
        let Some(router) = router(graph, ids) else { continue };
        let count = matrices.shape[0].as_const().and_then(|count| usize::try_from(count).ok());
        let chosen = graph.ty(ids).shape.last().and_then(|last| usize::try_from(last.as_const()?).ok());
        let (Some(count), Some(chosen)) = (count, chosen) else { continue };
        layers.push(Layer {
            name: name_of(graph, router),
            experts: count.saturating_sub(always),
            always,
            chosen,
            ids,
            router,
            products: vec![id],
            tables: Vec::new(),
            others: Vec::new(),
            combine: None,
        });
    }
    for layer in &mut layers {
        let users = users(graph, layer.ids).into_iter().filter(|user| !layer.products.contains(user));
        (layer.tables, layer.others) =
            users.partition(|&user| is_table(graph, user, layer.experts + layer.always));
        layer.combine = layer.products.last().and_then(|&last| combine(graph, last.into()));
    }
    match layers.is_empty() {
        true => Err(EditError::NoExperts),
        false => Ok(layers),
    }
}

/// Is a node another shape or type of its operand?
fn is_view(graph: &Graph, id: NodeId) -> bool {
    [&RESHAPE, &BROADCAST, &CAST].into_iter().any(|def| is(graph, id, def))
}

/// Does a node give other numbers for ids: those of groups?
fn is_renumbering(graph: &Graph, id: NodeId) -> bool {
    is(graph, id, &GATHER) && {
        let table = graph.ty(graph.operands(id)[0]);
        table.rank() == 1 && table.dtype.is_int()
    }
}

/// How many numbers that are the same for every token a node puts behind ids.
fn appended(graph: &Graph, id: NodeId) -> Option<usize> {
    let operands = graph.operands(id);
    let &[_, same] = &operands[..] else { return None };
    let source = if is(graph, same.node, &BROADCAST) { graph.operands(same.node)[0] } else { same };
    let is_same = graph.node(source.node).weight().is_some_and(|weight| weight.dtype().is_int());
    let count = graph.ty(same).shape.last()?.as_const()?;
    if is(graph, id, &CONCAT) && is_same { usize::try_from(count).ok() } else { None }
}

/// The ids of a router that these are, maybe in another shape, or as the numbers of groups; and how many others stand behind
/// them.
fn root(graph: &Graph, mut ids: Value) -> (Value, usize) {
    let mut always = 0;
    loop {
        let operands = graph.operands(ids.node);
        ids = match operands[..] {
            [inner] if is_view(graph, ids.node) => inner,
            [_, inner] if is_renumbering(graph, ids.node) => inner,
            [inner, _] if let Some(count) = appended(graph, ids.node) => {
                always += count;
                inner
            }
            _ => return (ids, always),
        };
    }
}

/// Who looks at ids, maybe in another shape, or at the groups that they are.
fn users(graph: &Graph, ids: Value) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut open = vec![ids];
    while let Some(value) = open.pop() {
        for (user, operand) in graph.users(value) {
            let passes_on = is_view(graph, user)
                || operand == 1 && is_renumbering(graph, user)
                || operand == 0 && appended(graph, user).is_some();
            if passes_on {
                open.push(user.into());
            } else if !found.contains(&user) {
                found.push(user);
            }
        }
    }
    found.sort_unstable();
    found
}

pub(super) fn is(graph: &Graph, id: NodeId, def: &ir::OpDef) -> bool {
    graph.node(id).op().is_some_and(|(found, _)| found == def)
}

/// What a node is called: like that of the model, or like its op.
pub(super) fn name_of(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let places = node.origin.places();
    let named = places.iter().find(|place| !place.name.is_empty()).map(|place| format!("`{}`", place.name));
    named.unwrap_or_else(|| {
        node.op().map_or("a weight".to_owned(), |(def, _)| format!("a node of `{}`", def.name))
    })
}

/// The top-k whose places these are.
fn router(graph: &Graph, ids: Value) -> Option<NodeId> {
    let found = is(graph, ids.node, &ROUTE) || is(graph, ids.node, &TOPK);
    (found && ids.result == 1).then_some(ids.node)
}

/// Does a node take rows of a table that has one for each expert?
fn is_table(graph: &Graph, user: NodeId, experts: usize) -> bool {
    let Some((def, attrs)) = graph.node(user).op() else { return false };
    let operands = graph.operands(user);
    let of_experts = || graph.ty(operands[0]).shape.first().is_some_and(|first| first.is(experts as i64));
    let by_one = || graph.ty(operands[1]).shape.last().is_some_and(|last| last.is(1));
    let takes_rows = def == &GATHER && attrs.get(gather::AXIS) == 0 || def == &GATHER_ND && by_one();
    takes_rows && of_experts() && router(graph, root(graph, operands[0]).0).is_none()
}

/// The weighted sum that what becomes of a product ends in.
fn combine(graph: &Graph, mut value: Value) -> Option<NodeId> {
    for _ in 0..64 {
        let [(user, _)] = graph.users(value)[..] else { return None };
        if is(graph, user, &COMBINE) {
            return Some(user);
        }
        value = user.into();
    }
    None
}

/// A value that depends on weights alone, as a view of them where it is one.
pub(super) fn weight(graph: &Graph, value: Value) -> Option<Weight> {
    let view = match &graph.node(value.node).kind {
        Kind::Input(_) => return None,
        Kind::Weight(weight) => return Some(weight.clone()),
        Kind::Op { def, attrs } => {
            let operands = graph.operands(value.node).into_iter().map(|operand| weight(graph, operand));
            let operands: Vec<Weight> = operands.collect::<Option<_>>()?;
            def.semantics.rearranged(&operands.iter().collect::<Vec<_>>(), attrs)
        }
    };
    view.or_else(|| Some(Weight::from_tensor("", &constant(graph, value)?)))
}

/// The elements of a value that depends on weights alone.
pub(super) fn constant(graph: &Graph, value: Value) -> Option<Tensor> {
    match &graph.node(value.node).kind {
        Kind::Input(_) => None,
        Kind::Weight(weight) => Some(weight.tensor()),
        Kind::Op { def, attrs } => {
            let operands: Vec<Tensor> = graph
                .operands(value.node)
                .into_iter()
                .map(|operand| constant(graph, operand))
                .collect::<Option<_>>()?;
            let sizes = ir::graph::SizeValues::new();
            if attrs.has_symbols() || graph.flow(value.node).is_some() {
                return None;
            }
            let operands: Vec<&Tensor> = operands.iter().collect();
            let results =
                def.semantics.eval(&ir::op::Eval { operands: &operands, attrs, sizes: &sizes }).ok()?;
            results.into_iter().nth(value.result)
        }
    }
}
