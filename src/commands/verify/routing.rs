//! Which experts tokens go to: a score that is nearly another one may choose differently than in the reference, and
//! then results differ by more than rounding. Such flips are told apart, and can be kept from happening.

use std::collections::BTreeSet;
use std::io::Write;

use egraft::Source;
use ir::attr::Attr;
use ir::graph::Value;
use ir::op::normalize_axis;
use ir::{DType, Graph, NodeId, Origin, Tensor};
use ops::order::topk::{AXIS, TOPK};
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use passes::pipeline::State;
use serde_json::json;

use super::cases::Names;
use super::reference;
use crate::report::Failure;

/// At most so many flips of a router are listed.
const LISTED: usize = 4;

/// What chooses experts, by scores: a top-k of floats along the last axis whose indices somebody uses.
pub(super) fn routers(state: &State) -> Vec<NodeId> {
    let State::Graph(graph) = state else { return Vec::new() };
    let chooses = |&id: &NodeId| {
        let Some((def, attrs)) = graph.node(id).op() else { return false };
        if def != &TOPK {
            return false;
        }
        let scores = graph.ty(graph.operands(id)[0]);
        let last = normalize_axis(attrs.get(AXIS), scores.rank()).is_ok_and(|axis| axis + 1 == scores.rank());
        let used = !graph.users(indices(id)).is_empty() || graph.outputs().contains(&indices(id));
        last && used && scores.dtype == DType::F32
    };
    graph.order().into_iter().filter(chooses).collect()
}

fn indices(id: NodeId) -> Value {
    Value { node: id, result: 1 }
}

/// A graph whose outputs are scores and choices of its routers.
pub(super) fn shown(source: &Source, routers: &[NodeId]) -> Source {
    let mut source = source.clone();
    if let State::Graph(graph) = &mut source.state {
        let both = |(number, &id): (usize, &NodeId)| {
            let scores = graph.operands(id)[0];
            [(format!("%scores{number}"), scores), (format!("%ids{number}"), indices(id))]
        };
        let outputs: Vec<(String, Value)> = routers.iter().enumerate().flat_map(both).collect();
        graph.set_outputs(outputs);
    }
    source
}

/// The model with the choices of its routers as further inputs, and what they are called.
pub(super) fn pinned(source: &Source, routers: &[NodeId]) -> (Source, Vec<String>) {
    let mut source = source.clone();
    let mut names = Vec::new();
    if let State::Graph(graph) = &mut source.state {
        for (number, &id) in routers.iter().enumerate() {
            names.push(format!("%ids{number}"));
            pin(graph, id, &names[number]);
        }
    }
    (source, names)
}

/// Takes the choices of a router from an input, and their values from the scores.
fn pin(graph: &mut Graph, id: NodeId, name: &str) {
    let (scores, origin) = (graph.operands(id)[0], graph.node(id).origin.clone());
    let ids = graph.add_input(name, graph.ty(indices(id)).clone(), Origin::none());
    let attrs = GATHER_ELEMENTS.check_attrs([(gather_elements::AXIS.name.to_owned(), Attr::Int(-1))]);
    let attrs = attrs.expect("bug: an axis is what it takes");
    let values = graph.add_op(&GATHER_ELEMENTS, &[scores, ids], attrs, origin);
    let values = values.expect("bug: the choices suit the scores that they were made of");
    graph.replace_uses(id.into(), values.into());
    graph.replace_uses(indices(id), ids);
}

/// The choices of the reference.
///
/// # Errors
/// What the reference says of the inputs.
pub(super) fn reference_ids(
    source: &Source,
    routers: &[NodeId],
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, Failure> {
    let all = reference(&shown(source, routers).state, inputs)?;
    Ok(all.into_iter().skip(1).step_by(2).collect())
}

/// Tokens that go to other experts than in the reference.
pub(super) struct Flips {
    /// The router's node in the model.
    router: String,
    tokens: usize,
    flips: Vec<Flip>,
}

struct Flip {
    token: usize,
    found: Vec<i64>,
    expected: Vec<i64>,
    /// By how much the reference's scores tell what was chosen from what was not.
    margin: f64,
}

/// Compares choices: scores and ids of each router, as found and as the reference has them.
pub(super) fn compare(
    source: &Source,
    routers: &[NodeId],
    found: &[Tensor],
    expected: &[Tensor],
) -> Vec<Flips> {
    let State::Graph(graph) = &source.state else { return Vec::new() };
    let each = routers.iter().zip(found.chunks(2)).zip(expected.chunks(2));
    each.map(|((&id, found), expected)| {
        let place = graph.node(id).origin.places().first().map(|place| place.name.clone());
        of_router(place.unwrap_or_default(), &expected[0], &found[1], &expected[1])
    })
    .collect()
}

fn of_router(router: String, scores: &Tensor, found: &Tensor, expected: &Tensor) -> Flips {
    let (experts, chosen) = (last(scores), last(expected));
    let (scores, found, expected) = (scores.to_f64(), found.to_i64(), expected.to_i64());
    let flip = |token: usize| {
        let [found, expected] = [&found, &expected].map(|ids| &ids[token * chosen..(token + 1) * chosen]);
        let scores = &scores[token * experts..(token + 1) * experts];
        let [mine, theirs]: [BTreeSet<i64>; 2] = [found, expected].map(|ids| ids.iter().copied().collect());
        let score = |id: &i64| scores[*id as usize];
        let least = theirs.difference(&mine).map(score).fold(f64::INFINITY, f64::min);
        let most = mine.difference(&theirs).map(score).fold(f64::NEG_INFINITY, f64::max);
        let (found, expected) = (found.to_vec(), expected.to_vec());
        (mine != theirs).then_some(Flip { token, found, expected, margin: (least - most).abs() })
    };
    let tokens = expected.len() / chosen;
    Flips { router, tokens, flips: (0..tokens).filter_map(flip).collect() }
}

fn last(tensor: &Tensor) -> usize {
    tensor.shape().last().copied().unwrap_or(1).max(1)
}

impl Flips {
    /// Do tokens go where they go in the reference?
    pub(super) fn is_none(&self) -> bool {
        self.flips.is_empty()
    }

    /// As JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        let flips = self.flips.iter().map(|flip| {
            json!({"token": flip.token, "found": flip.found, "expected": flip.expected, "margin": flip.margin})
        });
        json!({"router": self.router, "tokens": self.tokens, "flips": flips.collect::<Vec<_>>()})
    }

    /// In lines.
    pub(super) fn tell(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Flips { router, tokens, flips } = self;
        writeln!(out, "  routing: {} of {tokens} tokens go to other experts by `{router}`", flips.len())?;
        for Flip { token, found, expected, margin } in flips.iter().take(LISTED) {
            writeln!(
                out,
                "    token {token}: {found:?} instead of {expected:?}, by a margin of {margin:.3e}"
            )?;
        }
        Ok(())
    }
}

/// What a model is called with when choices are pinned.
pub(super) fn with_ids(names: &Names, ids: &[String]) -> Names {
    let inputs = names.inputs.iter().chain(ids).cloned().collect();
    Names { inputs, outputs: names.outputs.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_is_a_token_with_another_set_of_experts() {
        let scores = Tensor::from_f32(&[2, 3], &[0.1, 0.5, 0.25, 0.75, 0.5, 0.5]);
        let found = Tensor::from_i64(&[2, 2], &[2, 1, 0, 2]);
        let expected = Tensor::from_i64(&[2, 2], &[1, 2, 0, 1]);
        let flips = of_router("gate".to_owned(), &scores, &found, &expected);
        assert_eq!((flips.tokens, flips.flips.len()), (2, 1));
        let Flip { token, ref found, ref expected, margin } = flips.flips[0];
        assert_eq!((token, &found[..], &expected[..], margin), (1, &[0, 2][..], &[0, 1][..], 0.0));
    }
}
