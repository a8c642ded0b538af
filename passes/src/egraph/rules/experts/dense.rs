//! Experts that all see every token, of which weights, most of them 0, take a few.
//!
//! The rule starts at the sum over experts. One side of its products are weights: `routing` finds which are not 0, and
//! what they are. The other side is what experts say: `slots` gives it for these alone. What all others say is
//! multiplied by 0 in the model and left out here; it is taken to be finite.

use egg::Id;
use ir::op::normalize_axis;
use ir::{DType, Dim};
use ops::linalg::combine::{COMBINE, MOST_TERMS};
use ops::linalg::einsum::EINSUM;
use ops::linalg::matmul::MATMUL;
use ops::math::mul::MUL;
use ops::reduce::along::AXES;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::super::axes::{Name, Product, reshaped, transposed};
use super::super::{Equal, Exactness, Rule, Set, Stop};
use super::alike::ALIKE;
use super::roles::{Role, aligned, varies};
use super::routing::{DISTINCT, Experts, IN_RANGE, stretched};
use super::slots::{BY_ROW, Slots};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "sum-of-gates",
        summary: "Σₑ g[t, e], where g is 0 but for the gates of a few experts, is the sum of these gates",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&REDUCE_SUM],
        obligations: &[IN_RANGE, DISTINCT],
        apply: sum_of_gates,
    },
    Rule {
        name: "dense-experts",
        summary: "Σₑ g[t, e] · yₑ(x[t]), where g is 0 but for the gates of a few experts, is the sum over these alone",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&EINSUM, &MATMUL, &REDUCE_SUM],
        obligations: &[IN_RANGE, DISTINCT, IN_F32, FEW, ALIKE, BY_ROW],
        apply: dense,
    },
];

pub(super) const IN_F32: &str = "experts compute in f32";
const FEW: &str = "a token chooses so many experts as is known, and at most 64";

/// A product is taken apart into at most so many factors.
const MOST_FACTORS: usize = 8;

/// A sum over experts of weights times what they give.
struct Mixture {
    weights: (Id, Vec<Role>),
    outputs: (Id, Vec<Role>),
    result: Vec<Role>,
}

fn sum_of_gates(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let weights = node.operands()[0];
    let sizes = m.shape(weights);
    let [axis] = m.attrs(node).get(AXES)[..] else { return Err(Stop::Other) };
    let axis = normalize_axis(axis, sizes.len())?;
    if m.is_constant(weights) {
        return Err(Stop::Other);
    }
    let mut roles = counted((0..sizes.len()).filter(|&at| at != axis).map(|_| true));
    roles.insert(axis, Role::Expert);
    let rows = (0..sizes.len()).filter(|&at| at != axis).map(|at| sizes[at].clone());
    let routing = Experts::new(sizes[axis].clone(), rows.collect()).routing(m, weights, &roles)?;
    let gates = routing.gates(m)?;
    let sum = m.op_with(&REDUCE_SUM, &[gates], [AXES.is(vec![-1])])?;
    let shape = m.shape(class);
    let sum = reshaped(m, sum, shape)?;
    if m.ty(sum) == m.ty(class) { Ok(vec![(class, sum)]) } else { Err(Stop::Other) }
}

fn dense(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let mut stop = Stop::Other;
    for mixture in mixtures(m, class, node) {
        match of_chosen(m, class, &mixture) {
            Ok(sum) => return Ok(vec![(class, sum)]),
            Err(Stop::Missed(missed)) => stop = Stop::Missed(missed),
            Err(Stop::Other) => {}
        }
    }
    Err(stop)
}

/// The sum over the chosen experts.
fn of_chosen(m: &mut Match, class: Id, mixture: &Mixture) -> Result<Id, Stop> {
    let (weights, outputs) = (&mixture.weights, &mixture.outputs);
    let by_expert = varies(m, outputs.0, &outputs.1, |role| role == Role::Expert);
    if !by_expert || m.is_constant(weights.0) || m.is_constant(outputs.0) {
        return Err(Stop::Other);
    }
    let mut experts = experts(m, mixture).ok_or(Stop::Other)?;
    if !experts.rows.is_empty() && !varies(m, outputs.0, &outputs.1, Role::is_row) {
        return Err(Stop::Other);
    }
    let routing = experts.routing(m, weights.0, &weights.1)?;
    if m.ty(outputs.0).dtype != DType::F32 {
        return Err(Missed::new(IN_F32, m.ty(outputs.0).dtype.to_string()).into());
    }
    let choices = m.shape(routing.ids).pop();
    if choices.as_ref().and_then(Dim::as_const).is_none_or(|choices| choices > MOST_TERMS) {
        return Err(Missed::new(FEW, m.describe(routing.ids)).into());
    }
    let features = mixture.result.iter().filter(|role| role.is_feature()).count();
    let chosen = Slots::new(m, routing.ids).of(m, outputs.0, &outputs.1, features)?;
    let slots = m.shape(routing.ids);
    let width = m.shape(chosen).split_off(slots.len());
    let whole = stretched(m, chosen, [slots.clone(), width.clone()].concat())?;
    let rows = reshaped(m, whole, slots.iter().cloned().chain([width.iter().cloned().product()]).collect())?;
    let gates = routing.gates(m)?;
    let sum = m.op(&COMBINE, &[rows, gates])?;
    let sum = in_order(m, sum, &experts.rows, &width, class, &mixture.result)?;
    m.covers(outputs.0);
    if m.ty(sum) == m.ty(class) { Ok(sum) } else { Err(Stop::Other) }
}

/// How many experts there are, and the axes of tokens that they have.
fn experts(m: &Match, mixture: &Mixture) -> Option<Experts> {
    let (weights, roles) = &mixture.weights;
    let sizes = m.shape(*weights);
    let of = |role: Role| roles.iter().position(|&other| other == role).map(|axis| sizes[axis].clone());
    let rows = (0..).map_while(|row| of(Role::Row(row))).collect();
    Some(Experts::new(of(Role::Expert)?, rows))
}

/// A value with axes of tokens and then features, in the order of the result.
pub(super) fn in_order(
    m: &mut Match,
    x: Id,
    rows: &[Dim],
    width: &[Dim],
    class: Id,
    result: &[Role],
) -> Result<Id, Stop> {
    let x = reshaped(m, x, [rows, width].concat())?;
    let place = |role: &Role| match role {
        Role::Row(row) => Some(*row),
        Role::Feature(feature) => Some(rows.len() + feature),
        _ => None,
    };
    let order: Vec<i64> = result.iter().filter_map(place).map(|place| place as i64).collect();
    let ordered =
        if order.len() == m.ty(x).rank() { transposed(m, x, order)? } else { return Err(Stop::Other) };
    let shape = m.shape(class);
    reshaped(m, ordered, shape)
}

/// What may be meant: either side of a product may be the weights.
fn mixtures(m: &mut Match, class: Id, node: &Node) -> Vec<Mixture> {
    if node.op() != Some(&REDUCE_SUM) {
        let Some(product) = Product::of(m, class, node) else { return Vec::new() };
        return [0, 1].into_iter().filter_map(|weights| of_product(m, &product, weights)).collect();
    }
    let x = node.operands()[0];
    let rank = m.ty(x).rank();
    let [axis] = m.attrs(node).get(AXES)[..] else { return Vec::new() };
    let Ok(axis) = normalize_axis(axis, rank) else { return Vec::new() };
    let kept = m.ty(class).rank() == rank;
    let products = m.uses_of(&MUL, x).into_iter();
    let mut sides: Vec<(Id, Id)> = products.flat_map(|(of, _)| [(of[0], of[1]), (of[1], of[0])]).collect();
    sides.extend(widest_apart(m, x));
    sides
        .into_iter()
        .filter_map(|(weights, outputs)| of_sum(m, weights, outputs, axis, (rank, kept)))
        .collect()
}

/// Of a product of several factors: that of all but the widest, and that of these.
fn widest_apart(m: &mut Match, x: Id) -> Option<(Id, Id)> {
    let factors = factors_of(m, x);
    let width = |m: &Match, factor: Id| m.ty(factor).shape.iter().filter(|size| !size.is(1)).count();
    let widest = factors.iter().map(|&factor| width(m, factor)).max()?;
    let (wide, narrow): (Vec<Id>, Vec<Id>) = factors.iter().partition(|&&factor| width(m, factor) == widest);
    if narrow.len() < 2 {
        return None;
    }
    Some((product(m, &narrow)?, product(m, &wide)?))
}

/// The factors of a product, each taken apart as far as it is one.
fn factors_of(m: &Match, x: Id) -> Vec<Id> {
    let (mut factors, mut todo) = (Vec::new(), vec![x]);
    while let Some(x) = todo.pop() {
        match m.find(&MUL, x).filter(|_| factors.len() + todo.len() < MOST_FACTORS) {
            Some((of, _)) => todo.extend(of.into_iter().rev()),
            None => factors.push(x),
        }
    }
    factors
}

fn product(m: &mut Match, factors: &[Id]) -> Option<Id> {
    let (first, others) = factors.split_first()?;
    others.iter().try_fold(*first, |product, &factor| m.op(&MUL, &[product, factor]).ok())
}

/// Of a product that is summed over experts.
fn of_product(m: &Match, product: &Product, weights: usize) -> Option<Mixture> {
    let [expert] = product.depth(m)?[..] else { return None };
    let [weights, outputs] = [weights, 1 - weights].map(|side| &product.operands[side]);
    let long = |&name: &Name| !weights.size(m, name).is(1);
    let result = counted(product.result.axes.iter().map(long));
    let role = |&name: &Name| match product.place(name) {
        Some(axis) => result[axis],
        None if name == expert => Role::Expert,
        None => Role::Unit,
    };
    let [weights, outputs] = [weights, outputs].map(|x| (x.value, x.axes.iter().map(role).collect()));
    Some(Mixture { weights, outputs, result })
}

/// Of a sum along an axis of elementwise products.
fn of_sum(m: &Match, weights: Id, outputs: Id, axis: usize, (rank, kept): (usize, bool)) -> Option<Mixture> {
    let sizes = m.shape(weights);
    let skip = rank.checked_sub(sizes.len())?;
    let long = |at: usize| at != axis && at >= skip && !sizes[at - skip].is(1);
    let mut others = counted((0..rank).filter(|&at| at != axis).map(long));
    let mut result = others.clone();
    if kept {
        result.insert(axis, Role::Unit);
    }
    others.insert(axis, Role::Expert);
    let weights = (weights, aligned(m, weights, &others)?);
    let outputs = (outputs, aligned(m, outputs, &others)?);
    Some(Mixture { weights, outputs, result })
}

/// Axes of tokens, and the others being features.
pub(super) fn counted(is_row: impl Iterator<Item = bool>) -> Vec<Role> {
    let (mut rows, mut features) = (0, 0);
    let next = |is_row: bool| {
        let count = if is_row { &mut rows } else { &mut features };
        *count += 1;
        if is_row { Role::Row(*count - 1) } else { Role::Feature(*count - 1) }
    };
    is_row.map(next).collect()
}
