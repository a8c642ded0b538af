//! Activations, in the spellings of exporters.

use std::sync::LazyLock;

use egg::Id;
use ir::OpDef;
use ops::math::add::ADD;
use ops::math::div::DIV;
use ops::math::erf::ERF;
use ops::math::gelu::{APPROXIMATE, GELU};
use ops::math::mul::MUL;
use ops::math::pow::POW;
use ops::math::silu::SILU;
use ops::math::tanh::TANH;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::pattern::Spellings;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "gelu",
        summary: "x/2 · (1 + erf(x/√2)), in any order and with a quotient or a product, is gelu(x)",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&MUL],
        obligations: &[],
        apply: gelu,
    },
    Rule {
        name: "gelu-tanh",
        summary: "x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) is gelu(x) with approximate = tanh",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&MUL],
        obligations: &[],
        apply: gelu_tanh,
    },
    Rule {
        name: "silu",
        summary: "x · sigmoid(x) is silu(x)",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&MUL],
        obligations: &[],
        apply: silu,
    },
];

static SILU_SPELLED: LazyLock<Spellings> = LazyLock::new(|| Spellings::of(&["(mul ?x (sigmoid ?x))"]));

fn silu(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let found = SILU_SPELLED.find(m.classes(), class).into_iter().next().ok_or(Stop::Other)?;
    let silu = m.op(&SILU, &[found.get("?x")])?;
    Ok(vec![(class, silu)])
}

fn gelu(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let root = std::f64::consts::SQRT_2;
    let (x, _) = halved(m, class, &ERF)
        .into_iter()
        .find(|&(x, scaled)| {
            let product = factors(m, scaled, 1).into_iter().any(|f| matches_all(m, &f, &[x], 1.0 / root));
            let quotient =
                m.uses_of(&DIV, scaled).iter().any(|(of, _)| m.same(of[0], x) && is(m, of[1], root));
            product || quotient
        })
        .ok_or(Stop::Other)?;
    let gelu = m.op(&GELU, &[x])?;
    Ok(vec![(class, gelu)])
}

fn gelu_tanh(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let (x, _) = halved(m, class, &TANH)
        .into_iter()
        .find(|&(x, inner)| {
            factors(m, inner, 1).into_iter().any(|f| {
                let sum = f.iter().copied().find(|&id| !is(m, id, scale));
                sum.is_some_and(|sum| matches_all(m, &f, &[sum], scale) && adds_cube(m, x, sum))
            })
        })
        .ok_or(Stop::Other)?;
    let gelu = m.op_with(&GELU, &[x], [APPROXIMATE.is("tanh".to_owned())])?;
    Ok(vec![(class, gelu)])
}

/// Is the sum `x + 0.044715 x³`?
fn adds_cube(m: &Match, x: Id, sum: Id) -> bool {
    let is_cube = |cube: Id| {
        factors(m, cube, 3).into_iter().any(|f| {
            let power =
                |id: &Id| m.uses_of(&POW, *id).iter().any(|(of, _)| m.same(of[0], x) && is(m, of[1], 3.0));
            let powers: Vec<Id> = f.iter().copied().filter(power).collect();
            match powers[..] {
                [power] => matches_all(m, &f, &[power], 0.044715),
                _ => matches_all(m, &f, &[x, x, x], 0.044715),
            }
        })
    };
    m.uses_of(&ADD, sum)
        .iter()
        .any(|(of, _)| m.same(of[0], x) && is_cube(of[1]) || m.same(of[1], x) && is_cube(of[0]))
}

/// `x` and `y` of each way to read a value as `x/2 · (1 + f(y))`.
fn halved(m: &Match, class: Id, f: &'static OpDef) -> Vec<(Id, Id)> {
    let one_more = |id: Id| {
        m.uses_of(&ADD, id).into_iter().find_map(|(of, _)| {
            let (one, other) = if is(m, of[0], 1.0) { (of[0], of[1]) } else { (of[1], of[0]) };
            is(m, one, 1.0).then(|| m.find(f, other)).flatten().map(|(of, _)| of[0])
        })
    };
    let mut found = Vec::new();
    for all in factors(m, class, 2).into_iter().filter(|all| all.len() == 3) {
        let Some(at) = all.iter().position(|&id| one_more(id).is_some()) else { continue };
        let inner = one_more(all[at]);
        let rest: Vec<Id> = (0..3).filter(|&other| other != at).map(|other| all[other]).collect();
        let x = [(rest[0], rest[1]), (rest[1], rest[0])].into_iter().find(|&(half, _)| is(m, half, 0.5));
        if let (Some(inner), Some((_, x))) = (inner, x) {
            found.push((x, inner));
        }
    }
    found
}

/// The ways to read a value as a product, taking products apart to this depth.
fn factors(m: &Match, id: Id, depth: usize) -> Vec<Vec<Id>> {
    let mut all = vec![vec![id]];
    if depth > 0 {
        for (of, _) in m.uses_of(&MUL, id) {
            for left in factors(m, of[0], depth - 1) {
                for right in factors(m, of[1], depth - 1) {
                    all.push(left.iter().chain(&right).copied().collect());
                }
            }
        }
    }
    all
}

/// Are the factors these values and one number?
fn matches_all(m: &Match, factors: &[Id], values: &[Id], number: f64) -> bool {
    let mut left = factors.to_vec();
    for &value in values {
        let Some(at) = left.iter().position(|&id| m.same(id, value)) else { return false };
        left.remove(at);
    }
    matches!(left[..], [constant] if is(m, constant, number))
}

/// Is the value this constant, as precisely as an exporter writes it?
fn is(m: &Match, id: Id, number: f64) -> bool {
    m.number(id).is_some_and(|value| (value - number).abs() <= 1e-6 * number.abs())
}
