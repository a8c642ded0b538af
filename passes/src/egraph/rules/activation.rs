//! Activations, in the spellings of exporters.

use std::sync::LazyLock;

use egg::Id;
use ir::{DType, OpDef};
use ops::math::add::ADD;
use ops::math::clip::CLIP;
use ops::math::div::DIV;
use ops::math::erf::ERF;
use ops::math::gelu::{APPROXIMATE, GELU};
use ops::math::hard_sigmoid::{ALPHA, BETA, HARD_SIGMOID};
use ops::math::hard_swish::HARD_SWISH;
use ops::math::log::LOG;
use ops::math::mul::MUL;
use ops::math::pow::POW;
use ops::math::silu::SILU;
use ops::math::softplus::SOFTPLUS;
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
    Rule {
        name: "hard-swish",
        summary: "x · clip(x + 3, 0, 6) / 6, in any order, and x · hard_sigmoid(x) with that slope, is hard_swish(x)",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&MUL, &DIV],
        obligations: &[],
        apply: hard_swish,
    },
    Rule {
        name: "hard-sigmoid",
        summary: "clip(x + b, 0, c) / c is hard_sigmoid(x) with alpha = 1/c and beta = b/c",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&MUL, &DIV],
        obligations: &[],
        apply: hard_sigmoid,
    },
    Rule {
        name: "softplus",
        summary: "ln(1 + exp(x)) is softplus(x), which cannot overflow",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&LOG],
        obligations: &[],
        apply: softplus,
    },
];

static SILU_SPELLED: LazyLock<Spellings> = LazyLock::new(|| Spellings::of(&["(mul ?x (sigmoid ?x))"]));

fn silu(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let found = SILU_SPELLED.find(m.classes(), class).into_iter().next().ok_or(Stop::Other)?;
    let silu = m.op(&SILU, &[found.get("?x")])?;
    Ok(vec![(class, silu)])
}

static SOFTPLUS_SPELLED: LazyLock<Spellings> =
    LazyLock::new(|| Spellings::of(&["(log (add ?one (exp ?x)))"]));

fn softplus(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let found = SOFTPLUS_SPELLED.find(m.classes(), class).into_iter();
    let mut found = found.filter(|found| m.number(found.get("?one")) == Some(1.0));
    let x = found.next().ok_or(Stop::Other)?.get("?x");
    let softplus = m.op(&SOFTPLUS, &[x])?;
    if m.ty(softplus) != m.ty(class) {
        return Err(Stop::Other);
    }
    m.replaces(node);
    Ok(vec![(class, softplus)])
}

fn hard_swish(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let gate = |m: &Match, x: Id, gate: Id, scale: f64| {
        let attrs = m.find(&HARD_SIGMOID, gate).filter(|(of, _)| m.same(of[0], x) && near(scale, 1.0));
        let named = attrs.is_some_and(|(_, a)| near(a.get(ALPHA), 1.0 / 6.0) && near(a.get(BETA), 0.5));
        let clipped = clipped(m, gate);
        named
            || clipped.is_some_and(|(of, by, most)| {
                m.same(of, x) && near(by, 3.0) && near(most, 6.0) && near(scale, 1.0 / 6.0)
            })
    };
    let found = scaled(m, class, 2).into_iter().find_map(|(of, scale)| match of[..] {
        [a, b] if gate(m, a, b, scale) => Some(a),
        [a, b] if gate(m, b, a, scale) => Some(b),
        _ => None,
    });
    let x = found.ok_or(Stop::Other)?;
    let hard_swish = m.op(&HARD_SWISH, &[x])?;
    if m.ty(hard_swish) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, hard_swish)])
}

fn hard_sigmoid(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let found = scaled(m, class, 1).into_iter().find_map(|(of, scale)| {
        let (x, by, most) = clipped(m, *of.first()?)?;
        (of.len() == 1 && near(scale * most, 1.0)).then_some((x, by, most))
    });
    let (x, by, most) = found.ok_or(Stop::Other)?;
    let sigmoid = m.op_with(&HARD_SIGMOID, &[x], [ALPHA.is(1.0 / most), BETA.is(by / most)])?;
    if m.ty(sigmoid) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, sigmoid)])
}

/// `x`, `b` and `c` where a value is `clip(x + b, 0, c)`.
fn clipped(m: &Match, y: Id) -> Option<(Id, f64, f64)> {
    m.uses_of(&CLIP, y).into_iter().find_map(|(of, _)| {
        let most = m.number(of[2]).filter(|most| m.number(of[1]) == Some(0.0) && *most > 0.0)?;
        m.uses_of(&ADD, of[0]).into_iter().find_map(|(sum, _)| {
            let (x, by) = if m.number(sum[1]).is_some() { (sum[0], sum[1]) } else { (sum[1], sum[0]) };
            Some((x, m.number(by)?, most))
        })
    })
}

/// The ways to read a value as a product and a number, taking products and quotients apart to this depth.
fn scaled(m: &Match, id: Id, depth: usize) -> Vec<(Vec<Id>, f64)> {
    if let Some(number) = m.number(id) {
        return vec![(vec![], number)];
    }
    let mut all = vec![(vec![id], 1.0)];
    if depth > 0 {
        for (op, inverse) in [(&MUL, false), (&DIV, true)] {
            for (of, _) in m.uses_of(op, id) {
                let right = match m.number(of[1]).filter(|_| inverse) {
                    Some(number) => vec![(vec![], 1.0 / number)],
                    None if inverse => continue,
                    None => scaled(m, of[1], depth - 1),
                };
                for (a, x) in scaled(m, of[0], depth - 1) {
                    all.extend(right.iter().map(|(b, y)| ([&a[..], b].concat(), x * y)));
                }
            }
        }
    }
    all
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

/// Is the value this constant, as precisely as an exporter writes it in its type?
fn is(m: &Match, id: Id, number: f64) -> bool {
    let precision = match m.ty(id).dtype {
        DType::F16 => 1.0 / 2048.0,
        DType::BF16 => 1.0 / 256.0,
        _ => 1e-6,
    };
    m.number(id).is_some_and(|value| (value - number).abs() <= precision * number.abs())
}

/// Are the numbers the same, as precisely as an exporter writes them?
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}
