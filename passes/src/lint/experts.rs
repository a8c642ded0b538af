//! Experts that no token reaches.
//!
//! Exporters that follow one sample through a mixture of experts leave out what the sample did not choose, or write down
//! as constants where its tokens went. Such a model is valid and can be compiled; it is wrong for every other input.

use std::collections::BTreeSet;

use ir::graph::Value;
use ir::op::normalize_axis;
use ir::{At, Dim, Graph, NodeId, Weight};
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::cast::CAST;
use ops::math::eq::EQ;
use ops::math::sigmoid::SIGMOID;
use ops::math::r#where::WHERE;
use ops::norm::log_softmax::LOG_SOFTMAX;
use ops::norm::softmax::SOFTMAX;
use ops::order::topk::{self, TOPK};
use ops::reduce::arg_max::ARG_MAX;
use ops::reduce::position;
use ops::shape::broadcast::BROADCAST;
use ops::shape::gather::{self, GATHER};
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::{SIZES, SLICE, STARTS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::Lint;
use crate::graph::reroll::{chains, constant};

/// A bias that is lower than others by more than this is never made good by scores.
const NEVER: f64 = 1e4;

/// A choice among more than so many is none of experts.
const MOST_EXPERTS: i64 = 1 << 16;

/// So many ops are looked through between scores and their bias, so many nodes at what is added to rows.
const DEEPEST: usize = 64;

/// Routers whose choices reach too little, and experts whose rows are constants.
pub(super) fn experts(graph: &Graph, order: &[NodeId], constants: &BTreeSet<NodeId>) -> Vec<At<Lint>> {
    let mut lints = Vec::new();
    for router in order.iter().filter_map(|&id| Router::of(graph, id)) {
        lints.extend(router.lints(graph, constants).into_iter().map(|lint| graph.at(router.id, lint)));
    }
    lints.extend(constant_rows(graph, constants));
    lints
}

/// A choice of the largest scores of each row.
struct Router {
    id: NodeId,
    scores: Value,
    ids: Value,
    taken: Option<i64>,
    experts: i64,
}

impl Router {
    fn of(graph: &Graph, id: NodeId) -> Option<Router> {
        let (def, attrs) = graph.node(id).op()?;
        let (axis, taken, result) = match def {
            _ if *def == TOPK => (attrs.get(topk::AXIS), attrs.get(topk::K).as_const(), 1),
            _ if *def == ARG_MAX => (attrs.get(position::AXIS), Some(1), 0),
            _ => return None,
        };
        let largest = *def == ARG_MAX || attrs.get(topk::LARGEST);
        let scores = *graph.operands(id).first()?;
        let shape = &graph.ty(scores).shape;
        let last = normalize_axis(axis, shape.len()) == Ok(shape.len().checked_sub(1)?);
        let experts = shape.last().and_then(Dim::as_const).filter(|_| largest && last)?;
        (experts <= MOST_EXPERTS).then_some(Router {
            id,
            scores,
            ids: Value { node: id, result },
            taken,
            experts,
        })
    }

    fn lints(&self, graph: &Graph, constants: &BTreeSet<NodeId>) -> Vec<Lint> {
        let used = self.used(graph, constants);
        // Where there are no two experts, something else is chosen.
        if used.len() < 2 {
            return Vec::new();
        }
        let absent: Vec<i64> = (0..self.experts).filter(|expert| !used.contains(expert)).collect();
        let mut lints = Vec::new();
        if constants.contains(&self.scores.node) {
            lints.push(Lint::ConstantScores);
        }
        if !absent.is_empty() {
            lints.push(Lint::MissingExperts { experts: self.experts, absent });
        }
        let experts = self.unreachable(graph);
        if !experts.is_empty() {
            lints.push(Lint::UnreachableExperts { experts });
        }
        lints
    }

    /// The experts whose bias is lower than that of as many others as are taken.
    fn unreachable(&self, graph: &Graph) -> Vec<i64> {
        let Some(bias) = bias(graph, self.scores, self.experts) else { return Vec::new() };
        let mut ordered = bias.clone();
        ordered.sort_unstable_by(|a, b| b.total_cmp(a));
        let last = self.taken.and_then(|taken| usize::try_from(taken).ok()?.checked_sub(1));
        let Some(&least) = last.and_then(|last| ordered.get(last)) else { return Vec::new() };
        (0..).zip(bias).filter(|&(_, own)| least - own > NEVER).map(|(expert, _)| expert).collect()
    }

    /// The experts that something is computed for: ids are compared with their numbers, or name parts of a weight.
    fn used(&self, graph: &Graph, constants: &BTreeSet<NodeId>) -> BTreeSet<i64> {
        let mut used = BTreeSet::new();
        let (mut seen, mut open) = (BTreeSet::new(), vec![self.ids]);
        while let Some(value) = open.pop() {
            for (user, position) in graph.users(value) {
                let Some((def, attrs)) = graph.node(user).op().filter(|_| seen.insert(user)) else {
                    continue;
                };
                let operands = graph.operands(user);
                if *def == EQ {
                    let Some(numbers) = constant(graph, operands[1 - position]) else { continue };
                    match numbers.elements() {
                        1 => used.extend([numbers.get(0).to_i64()]),
                        _ => used.extend(parts(graph, user.into(), numbers)),
                    }
                } else if *def == GATHER && position == 1 && constants.contains(&operands[0].node) {
                    let shape = &graph.ty(operands[0]).shape;
                    let axis = normalize_axis(attrs.get(gather::AXIS), shape.len()).ok();
                    let size = axis.and_then(|axis| shape[axis].as_const()).unwrap_or(0);
                    used.extend(0..size.min(self.experts));
                } else if [&RESHAPE, &TRANSPOSE, &SLICE, &BROADCAST, &CAST, &WHERE].contains(&def) {
                    open.push(user.into());
                }
            }
        }
        used
    }
}

/// Of a one-hot encoding by `numbers`: those whose part is taken; all of them if it is used as a whole.
fn parts(graph: &Graph, encoded: Value, numbers: &Weight) -> BTreeSet<i64> {
    let classes = || numbers.values().map(|number| number.to_i64());
    let along = numbers.shape().iter().position(|&size| size == numbers.elements());
    let rank = graph.ty(encoded).rank();
    let Some(axis) = along.map(|axis| rank - numbers.shape().len() + axis) else {
        return classes().collect();
    };
    let mut taken = BTreeSet::new();
    let (mut seen, mut open) = (BTreeSet::new(), vec![(encoded, axis)]);
    while let Some((value, axis)) = open.pop() {
        for (user, _) in graph.users(value) {
            let Some((def, attrs)) = graph.node(user).op().filter(|_| seen.insert(user)) else { continue };
            let along = || normalize_axis(attrs.get(gather::AXIS), graph.ty(value).rank()) == Ok(axis);
            let at = graph.operands(user).get(1).copied().filter(|_| *def == GATHER && along());
            if *def == CAST || *def == WHERE {
                open.push((user.into(), axis));
            } else if *def == TRANSPOSE {
                let moved = attrs.get(PERM).iter().position(|&from| from == axis as i64);
                open.extend(moved.map(|axis| (user.into(), axis)));
            } else if *def == SLICE && attrs.get(SIZES)[axis].is(1) {
                taken.extend(attrs.get(STARTS)[axis].as_const());
            } else if let Some(at) = at.and_then(|at| constant(graph, at)) {
                taken.extend(at.values().map(|number| number.to_i64()));
            } else {
                return classes().collect();
            }
        }
    }
    classes().enumerate().filter(|(at, _)| taken.contains(&(*at as i64))).map(|(_, class)| class).collect()
}

/// The constant that is added to scores before the largest are taken, one number for each expert.
fn bias(graph: &Graph, mut scores: Value, experts: i64) -> Option<Vec<f64>> {
    for _ in 0..DEEPEST {
        let (def, _) = graph.node(scores.node).op()?;
        let operands = graph.operands(scores.node);
        let added = operands.iter().filter_map(|&value| constant(graph, value));
        let each = |bias: &&Weight| {
            bias.elements() as i64 == experts && bias.shape().last() == Some(&bias.elements())
        };
        if let Some(bias) = added.into_iter().find(each).filter(|_| *def == ADD) {
            return Some(bias.values().map(|number| number.to_f64()).collect());
        }
        // What keeps the order of scores.
        let keeps_row =
            *def == RESHAPE && graph.ty(operands[0]).shape.last().is_some_and(|size| size.is(experts));
        let keeps = [&SOFTMAX, &LOG_SOFTMAX, &SIGMOID, &CAST].contains(&def) || keeps_row;
        scores = *operands.first().filter(|_| keeps)?;
    }
    None
}

/// Sums over experts of rows that constants name: those of the sample that an exporter followed.
fn constant_rows(graph: &Graph, constants: &BTreeSet<NodeId>) -> Vec<At<Lint>> {
    let is_constant = |value: Value| constants.contains(&value.node);
    let mut lints = Vec::new();
    for chain in chains(graph) {
        let by_constants = |link: &crate::graph::reroll::Link| {
            link.rows.is_some_and(is_constant) && computes_taken_rows(graph, link.addend, constants)
        };
        let last = chain.last().and_then(|link| link.node);
        if let Some(last) = last.filter(|_| chain.iter().all(by_constants)) {
            lints.push(graph.at(last, Lint::ConstantRows { experts: chain.len() }));
        }
    }
    lints
}

/// Is it made of rows that constants take of something, by a product with a weight?
fn computes_taken_rows(graph: &Graph, addend: Value, constants: &BTreeSet<NodeId>) -> bool {
    let is_constant = |value: &Value| constants.contains(&value.node);
    let (mut takes, mut multiplies) = (false, false);
    let (mut seen, mut open) = (BTreeSet::new(), vec![addend]);
    while let Some(value) = open.pop().filter(|_| seen.len() < DEEPEST) {
        let Some((def, _)) = graph.node(value.node).op() else { continue };
        let operands = graph.operands(value.node);
        if is_constant(&value) || !seen.insert(value.node) {
            continue;
        }
        if *def == GATHER && is_constant(&operands[1]) {
            takes = true;
            continue;
        }
        multiplies |= *def == MATMUL && operands.iter().any(is_constant);
        open.extend(operands);
    }
    takes && multiplies
}
