//! Normalisations where a graph spells them out.

use std::sync::LazyLock;

use egg::Id;
use ir::op::normalize_axis;
use ops::math::div::DIV;
use ops::math::mul::MUL;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::rms_norm::RMS_NORM;
use ops::norm::{AXES, EPSILON};
use ops::reduce::along::{self, KEEP_DIMS};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::pattern::{Found, Spellings};
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "layer-norm",
        summary: "(x − μ) / √(mean (x − μ)² + ε), however it is written, is layer_norm(x)",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&DIV, &MUL],
        obligations: &[],
        apply: layer_norm,
    },
    Rule {
        name: "rms-norm",
        summary: "x / √(mean x² + ε), however it is written, is rms_norm(x)",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&DIV, &MUL],
        obligations: &[],
        apply: rms_norm,
    },
];

/// `y / √(mean y² + ε)` in every way, `y²` as a power or a product.
static NORMALISED: LazyLock<[Spellings; 2]> = LazyLock::new(|| {
    let by = |square: &str| {
        let root = format!("(sqrt (add (reduce_mean {square} ?axes) ?epsilon))");
        let texts = [
            format!("(div ?y {root})"),
            format!("(mul ?y (reciprocal {root}))"),
            format!("(mul ?y (div ?one {root}))"),
        ];
        Spellings::of(&texts.each_ref().map(String::as_str))
    };
    [by("(pow ?y ?two)"), by("(mul ?y ?y)")]
});

static CENTRED: LazyLock<Spellings> = LazyLock::new(|| Spellings::of(&["(sub ?x (reduce_mean ?x ?axes))"]));

/// What is normalised, the axes and ε.
fn normalised(m: &Match, class: Id) -> Option<(Id, Vec<i64>, f64)> {
    let number =
        |found: &Found, name: &str, value: f64| !found.has(name) || m.number(found.get(name)) == Some(value);
    let all = NORMALISED.iter().flat_map(|spellings| spellings.find(m.classes(), class));
    all.into_iter().find_map(|found| {
        let y = found.get("?y");
        let axes = axes(m, found.get("?axes"), m.ty(y).rank())?;
        let epsilon = m.number(found.get("?epsilon"))?;
        let fits = number(&found, "?one", 1.0) && number(&found, "?two", 2.0) && epsilon > 0.0;
        fits.then_some((y, axes, epsilon))
    })
}

/// The axes of a reduction that keeps them.
fn axes(m: &Match, attrs: Id, rank: usize) -> Option<Vec<i64>> {
    let attrs = m.attributes(attrs)?;
    let all = attrs.get(along::AXES).into_iter().map(|axis| Some(normalize_axis(axis, rank).ok()? as i64));
    let mut axes: Vec<i64> = all.collect::<Option<_>>()?;
    axes.sort_unstable();
    attrs.get(KEEP_DIMS).then_some(axes)
}

fn layer_norm(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let (centred, axes_, epsilon) = normalised(m, class).ok_or(Stop::Other)?;
    let found = CENTRED
        .find(m.classes(), centred)
        .into_iter()
        .find(|found| axes(m, found.get("?axes"), m.ty(centred).rank()).as_ref() == Some(&axes_));
    let x = found.ok_or(Stop::Other)?.get("?x");
    m.covers(centred);
    let norm = m.op_with(&LAYER_NORM, &[x], [AXES.is(axes_), EPSILON.is(epsilon)])?;
    if m.ty(norm) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, norm)])
}

fn rms_norm(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let (x, axes, epsilon) = normalised(m, class).ok_or(Stop::Other)?;
    let norm = m.op_with(&RMS_NORM, &[x], [AXES.is(axes), EPSILON.is(epsilon)])?;
    if m.ty(norm) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, norm)])
}
