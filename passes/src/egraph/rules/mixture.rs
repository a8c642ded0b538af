//! Attention over several sets of keys and values: mixtures, and heads of their own lengths.

use egg::Id;
use ir::kernel::Expr;
use ir::kernel::lower::Lower;
use ir::op::normalize_axis;
use ir::{DType, Dim, Region, Tensor};
use ops::linalg::attention::{ATTENTION, SCORE};
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::exp::EXP;
use ops::math::log::LOG;
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::math::r#where::WHERE;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::reduce::along::AXES;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::{self, BROADCAST};
use ops::shape::concat::{self, CONCAT};
use ops::shape::pad::{self, PAD};
use ops::shape::reshape::{RESHAPE, SHAPE};

use super::softmax::normalised;
use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "mixture-of-keys",
        summary: "weights that are sums of exponentials, divided by their sum, are a softmax over all keys in a row",
        set: Set::Explore,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL],
        obligations: &[],
        apply: mixture,
    },
    Rule {
        name: "rows-without-keys",
        summary: "where(c, 0, p) · v is where(c, 0, p · v), c being one condition for each row",
        set: Set::Explore,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL],
        obligations: &[],
        apply: rows_without_keys,
    },
    Rule {
        name: "heads-side-by-side",
        summary: "attention of several heads, each over its own number of keys, is one attention with counts of keys",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&CONCAT],
        obligations: &[SAME_SCORES, KNOWN_COUNTS],
        apply: heads,
    },
];

const SAME_SCORES: &str = "all heads make their scores the same way, of queries and keys alone";
const KNOWN_COUNTS: &str = "the numbers of keys are numbers";

fn mixture(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [weights, v] = node.operands()[..] else { return Err(Stop::Other) };
    let terms = exponents(m, weights).ok_or(Stop::Other)?;
    let shape = m.shape(weights);
    if terms.len() < 2 || terms.iter().any(|(term, _)| m.shape(*term) != shape) {
        return Err(Stop::Other);
    }
    let mut logits = Vec::new();
    for &(term, factor) in &terms {
        let dtype = m.ty(term).dtype;
        logits.push(if factor == 1.0 {
            term
        } else {
            let offset = m.scalar(dtype, factor.ln());
            m.op(&ADD, &[term, offset])?
        });
    }
    let all = m.op_with(&CONCAT, &logits, [concat::AXIS.is(-1)])?;
    let softmax = m.op_with(&SOFTMAX, &[all], [AXIS.is(-1)])?;
    let values = m.op_with(&CONCAT, &vec![v; terms.len()], [concat::AXIS.is(-2)])?;
    let product = m.op(&MATMUL, &[softmax, values])?;
    m.covers(weights);
    Ok(vec![(class, product)])
}

/// The exponents `t` and factors `c`, where weights are `Σ c·exp(t)`, divided by their sum along the last axis.
fn exponents(m: &Match, weights: Id) -> Option<Vec<(Id, f64)>> {
    for node in m.nodes(weights) {
        if let Some((sum, -1)) = normalised(m, &node) {
            let mut terms = Vec::new();
            if addends(m, sum, &mut terms) {
                return Some(terms);
            }
        }
        let last = m.ty(weights).rank() as i64 - 1;
        if node.op() == Some(&SOFTMAX) && [-1, last].contains(&m.attrs(&node).get(AXIS)) {
            let terms = log_sum_exp(m, node.operands()[0]);
            if let Some(terms) = terms {
                return Some(terms.into_iter().map(|term| (term, 1.0)).collect());
            }
        }
    }
    None
}

/// Takes a sum of multiples of exponentials apart. False if it is none.
fn addends(m: &Match, sum: Id, terms: &mut Vec<(Id, f64)>) -> bool {
    if let Some((operands, _)) = m.find(&EXP, sum) {
        terms.push((operands[0], 1.0));
        return true;
    }
    for (operands, _) in m.uses_of(&MUL, sum) {
        for (x, factor) in [(operands[0], operands[1]), (operands[1], operands[0])] {
            let positive = m.number(factor).filter(|&factor| factor > 0.0);
            if let (Some(factor), Some((of, _))) = (positive, m.find(&EXP, x)) {
                terms.push((of[0], factor));
                return true;
            }
        }
    }
    let Some((operands, _)) = m.find(&ADD, sum) else { return false };
    operands.iter().all(|&operand| addends(m, operand, terms))
}

/// The terms `t`, where a value is `log Σ exp(t)` of arrays stacked along a new first axis, written with some shift:
/// `log Σ exp(stack − shift) + shift`.
fn log_sum_exp(m: &Match, value: Id) -> Option<Vec<Id>> {
    let unshaped = |x: Id| m.find(&RESHAPE, x).map_or(x, |(of, _)| of[0]);
    m.uses_of(&ADD, value).into_iter().find_map(|(operands, _)| {
        [(0, 1), (1, 0)].into_iter().find_map(|(a, b)| {
            let log = m.find(&LOG, operands[a])?.0[0];
            let (sum, attrs) = m.find(&REDUCE_SUM, log)?;
            let exp = m.find(&EXP, sum[0])?.0[0];
            let (shifted, _) = m.find(&SUB, exp)?;
            let (stack, axis) = m.find(&CONCAT, shifted[0])?;
            let same_shift = m.same(unshaped(operands[b]), unshaped(shifted[1]));
            let along_stack = attrs.get(AXES) == [0] && axis.get(concat::AXIS) == 0;
            let terms: Vec<Id> = stack.iter().map(|&part| unshaped(part)).collect();
            (same_shift && along_stack).then_some(terms)
        })
    })
}

fn rows_without_keys(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [weights, v] = node.operands()[..] else { return Err(Stop::Other) };
    let (whole, shape) = match m.find(&RESHAPE, weights) {
        Some((of, _)) => (of[0], Some(m.shape(weights))),
        None => (weights, None),
    };
    let one = Dim::constant(1);
    let found = m.uses_of(&WHERE, whole).into_iter().find(|(operands, _)| {
        m.number(operands[1]) == Some(0.0) && m.shape(operands[0]).last() == Some(&one)
    });
    let ([condition, zero, kept], _) =
        found.map(|(x, attrs)| ([x[0], x[1], x[2]], attrs)).ok_or(Stop::Other)?;
    if m.ty(kept) != m.ty(whole) {
        return Err(Stop::Other);
    }
    let (condition, kept) = match shape {
        None => (condition, kept),
        Some(shape) => {
            let mut rows = m.shape(whole);
            *rows.last_mut().ok_or(Stop::Other)? = one.clone();
            let all = m.op_with(&BROADCAST, &[condition], [broadcast::SHAPE.is(rows)])?;
            let mut regrouped = shape.clone();
            *regrouped.last_mut().ok_or(Stop::Other)? = one;
            let condition = m.op_with(&RESHAPE, &[all], [SHAPE.is(regrouped)])?;
            (condition, m.op_with(&RESHAPE, &[kept], [SHAPE.is(shape)])?)
        }
    };
    let product = m.op(&MATMUL, &[kept, v])?;
    let result = m.op(&WHERE, &[condition, zero, product])?;
    if m.ty(result) != m.ty(class) {
        return Err(Stop::Other);
    }
    m.covers(whole);
    m.covers(weights);
    Ok(vec![(class, result)])
}

fn heads(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let mut parts = Vec::new();
    for &part in node.operands() {
        parts.push(m.find(&ATTENTION, part).ok_or(Stop::Other)?);
    }
    let rank = m.ty(class).rank();
    let axis = normalize_axis(m.attrs(node).get(concat::AXIS), rank)?;
    let score = parts[0].1.get(SCORE);
    let plain = |(x, attrs): &(Vec<Id>, _)| x.len() == 3 && ir::attr::Attrs::get(attrs, SCORE) == score;
    if parts.len() < 2 || axis + 2 >= rank {
        return Err(Stop::Other);
    }
    if !parts.iter().all(plain) || score.symbols().0.contains(&axis) {
        return Err(Missed::new(SAME_SCORES, score.to_string()).into());
    }
    let all_axes = |x: &Id| m.ty(*x).rank() == rank && m.shape(*x)[axis].is(1);
    if !parts.iter().all(|(x, _)| x.iter().all(all_axes)) {
        return Err(Stop::Other);
    }
    let keys: Vec<Dim> = parts.iter().map(|(x, _)| m.shape(x[1])[rank - 2].clone()).collect();
    let counts: Option<Vec<i64>> = keys.iter().map(Dim::as_const).collect();
    let Some(counts) = counts else {
        return Err(Missed::new(KNOWN_COUNTS, format!("{keys:?}")).into());
    };
    let most = counts.iter().copied().max().unwrap_or(0);
    let mut operands = Vec::new();
    for operand in 0..3 {
        let mut each = Vec::new();
        for (at, (x, _)) in parts.iter().enumerate() {
            let missing = if operand == 0 { 0 } else { most - counts[at] };
            each.push(padded(m, x[operand], rank, missing)?);
        }
        operands.push(m.op_with(&CONCAT, &each, [concat::AXIS.is(axis as i64)])?);
    }
    let region = if counts.iter().all(|&count| count == most) {
        score
    } else {
        operands.push(m.constant(&Tensor::from_i64(&[counts.len()], &counts)));
        let head = Expr::from(Dim::from(&Region::axis(axis)));
        let count = Expr::load(Lower::operand_name(3), DType::I64, [head]);
        let inside = Expr::from(Dim::from(&Region::axis(rank - 1))).less(count);
        let never = Expr::number(DType::F32, f64::NEG_INFINITY);
        Region::new(inside.select(score.body().clone(), never))
    };
    let fused = m.op_with(&ATTENTION, &operands, [SCORE.is(region)])?;
    if m.ty(fused) != m.ty(class) {
        return Err(Stop::Other);
    }
    node.operands().iter().for_each(|&part| m.covers(part));
    Ok(vec![(class, fused)])
}

/// With so many zeros more along the rows.
fn padded(m: &mut Match, x: Id, rank: usize, missing: i64) -> Result<Id, Stop> {
    if missing == 0 {
        return Ok(x);
    }
    let zero = m.scalar(DType::F32, 0.0);
    let low = vec![Dim::constant(0); rank];
    let mut high = low.clone();
    high[rank - 2] = Dim::constant(missing);
    Ok(m.op_with(&PAD, &[x, zero], [pad::LOW.is(low), pad::HIGH.is(high)])?)
}
