//! Activations, in the spellings of exporters.

use std::sync::LazyLock;

use egg::Id;
use ops::math::gelu::{APPROXIMATE, GELU};
use ops::math::mul::MUL;
use ops::math::silu::SILU;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::pattern::{Found, Spellings};
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

/// `x/2 · y`, the factors in any order.
macro_rules! halved {
    ($y:literal) => {
        [
            concat!("(mul (mul ?x ?half) ", $y, ")"),
            concat!("(mul ?x (mul ?half ", $y, "))"),
            concat!("(mul ?half (mul ?x ", $y, "))"),
        ]
    };
}

static GELU_MUL: LazyLock<Spellings> =
    LazyLock::new(|| Spellings::of(&halved!("(add ?one (erf (mul ?x ?c)))")));

static GELU_DIV: LazyLock<Spellings> =
    LazyLock::new(|| Spellings::of(&halved!("(add ?one (erf (div ?x ?c)))")));

static GELU_TANH: LazyLock<Spellings> = LazyLock::new(|| {
    let cubes = [
        halved!("(add ?one (tanh (mul ?c (add ?x (mul ?k (pow ?x ?three))))))"),
        halved!("(add ?one (tanh (mul ?c (add ?x (mul ?k (mul ?x (mul ?x ?x)))))))"),
        halved!("(add ?one (tanh (mul ?c (add ?x (mul (mul ?k ?x) (mul ?x ?x))))))"),
        halved!("(add ?one (tanh (mul ?c (add ?x (mul ?x (mul ?x (mul ?k ?x)))))))"),
    ];
    Spellings::of(cubes.as_flattened())
});

static SILU_SPELLED: LazyLock<Spellings> = LazyLock::new(|| Spellings::of(&["(mul ?x (sigmoid ?x))"]));

fn gelu(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let root = std::f64::consts::SQRT_2;
    let spelled = [(&GELU_MUL, 1.0 / root), (&GELU_DIV, root)];
    let found = spelled.into_iter().find_map(|(spellings, scale)| {
        let all = spellings.find(m.classes(), class);
        all.into_iter().find(|found| is_half_of_one(m, found) && is(m, found, "?c", scale))
    });
    let x = found.ok_or(Stop::Other)?.get("?x");
    let gelu = m.op(&GELU, &[x])?;
    Ok(vec![(class, gelu)])
}

fn gelu_tanh(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let fits = |m: &Match, found: &Found| {
        is_half_of_one(m, found) && is(m, found, "?c", scale) && is(m, found, "?k", 0.044715)
    };
    let found = GELU_TANH.find(m.classes(), class).into_iter().find(|found| fits(m, found));
    let found = found.ok_or(Stop::Other)?;
    if found.has("?three") && !is(m, &found, "?three", 3.0) {
        return Err(Stop::Other);
    }
    let gelu = m.op_with(&GELU, &[found.get("?x")], [APPROXIMATE.is("tanh".to_owned())])?;
    Ok(vec![(class, gelu)])
}

fn silu(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let found = SILU_SPELLED.find(m.classes(), class).into_iter().next().ok_or(Stop::Other)?;
    let silu = m.op(&SILU, &[found.get("?x")])?;
    Ok(vec![(class, silu)])
}

fn is_half_of_one(m: &Match, found: &Found) -> bool {
    is(m, found, "?half", 0.5) && is(m, found, "?one", 1.0)
}

/// Is the constant this number, as precisely as an exporter writes it?
fn is(m: &Match, found: &Found, name: &str, number: f64) -> bool {
    m.number(found.get(name)).is_some_and(|value| (value - number).abs() <= 1e-6 * number.abs())
}
