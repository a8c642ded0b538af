//! Attention over several sets of keys and values: mixtures, and heads of their own lengths.

use egg::Id;
use ir::attr::Attrs;
use ir::kernel::Expr;
use ir::kernel::lower::Lower;
use ir::op::normalize_axis;
use ir::{DType, Dim, Region, Tensor};
use ops::linalg::attention::{ATTENTION, SCORE};
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::cast::CAST;
use ops::math::exp::EXP;
use ops::math::is_nan::IS_NAN;
use ops::math::log::LOG;
use ops::math::mul::MUL;
use ops::math::neg::NEG;
use ops::math::not::NOT;
use ops::math::sub::SUB;
use ops::math::r#where::WHERE;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::reduce::along::AXES;
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::{self, BROADCAST};
use ops::shape::concat::{self, CONCAT};
use ops::shape::pad::{self, PAD};
use ops::shape::reshape::{RESHAPE, SHAPE};

use super::softmax::{quotients, sum_along};
use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "mixture-of-keys",
        summary: "weights that are sums of exponentials, divided by their sum and maybe a constant more, are a softmax over all keys in a row",
        set: Set::Explore,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL],
        obligations: &[],
        apply: mixture,
    },
    Rule {
        name: "rows-without-keys",
        summary: "where(c, 0, p) · v is where(c, 0, p · v), c being one condition for each row: given, or that softmax gives no numbers",
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

/// So many ops may stand between a sum and one of its exponentials.
const DEEPEST: usize = 16;

/// An exponential, and what it is multiplied with.
struct Term {
    exponent: Id,
    factors: Vec<Factor>,
}

/// What may be multiplied with an exponential: its logarithm is known.
#[derive(Clone)]
enum Factor {
    /// A constant without elements below 0.
    Constant(Id),
    /// 1 where this holds, 0 elsewhere.
    Kept(Id),
    /// 0 where this holds, 1 elsewhere.
    LeftOut(Id),
}

/// A key of no value, which takes its share of the weights.
enum Sink {
    /// Its weight among the exponentials.
    Weight(f64),
    /// Its score.
    Score(Id),
}

fn mixture(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [weights, v] = node.operands()[..] else { return Err(Stop::Other) };
    let (terms, sink) = exponents(m, weights).ok_or(Stop::Other)?;
    let plain = terms.len() == 1 && terms[0].factors.is_empty();
    if plain && sink.is_none() {
        return Err(Stop::Other);
    }
    let shape = m.shape(weights);
    let dtype = m.ty(weights).dtype;
    let mut logits = Vec::new();
    for term in &terms {
        let logit = logit(m, term)?;
        if m.shape(logit) != shape {
            return Err(Stop::Other);
        }
        logits.push(logit);
    }
    let mut values = vec![v; terms.len()];
    if let Some(sink) = sink {
        let score = match sink {
            Sink::Weight(weight) => m.scalar(dtype, weight.ln()),
            Sink::Score(score) => score,
        };
        let zero = m.scalar(m.ty(v).dtype, 0.0);
        let (mut rows, mut row) = (shape, m.shape(v));
        let (Some(keys), [.., key, _]) = (rows.last_mut(), &mut row[..]) else { return Err(Stop::Other) };
        (*keys, *key) = (Dim::constant(1), Dim::constant(1));
        logits.push(m.op_with(&BROADCAST, &[score], [broadcast::SHAPE.is(rows)])?);
        values.push(m.op_with(&BROADCAST, &[zero], [broadcast::SHAPE.is(row)])?);
    }
    let (all, values) = match (&logits[..], &values[..]) {
        ([logit], [values]) => (*logit, *values),
        _ => (
            m.op_with(&CONCAT, &logits, [concat::AXIS.is(-1)])?,
            m.op_with(&CONCAT, &values, [concat::AXIS.is(-2)])?,
        ),
    };
    let softmax = m.op_with(&SOFTMAX, &[all], [AXIS.is(-1)])?;
    let product = m.op(&MATMUL, &[softmax, values])?;
    m.covers(weights);
    Ok(vec![(class, product)])
}

/// The logarithm of a term.
fn logit(m: &mut Match, term: &Term) -> Result<Id, Stop> {
    let dtype = m.ty(term.exponent).dtype;
    let never = m.scalar(dtype, f64::NEG_INFINITY);
    let mut logit = term.exponent;
    for factor in &term.factors {
        logit = match *factor {
            Factor::Constant(factor) => {
                let logarithm = match m.number(factor) {
                    Some(number) => m.scalar(dtype, number.ln()),
                    None => m.op(&LOG, &[factor])?,
                };
                m.op(&ADD, &[logit, logarithm])?
            }
            Factor::Kept(condition) => m.op(&WHERE, &[condition, logit, never])?,
            Factor::LeftOut(condition) => m.op(&WHERE, &[condition, never, logit])?,
        };
    }
    Ok(logit)
}

/// The terms, where weights are divided by their sum along the last axis, and what is added to that sum.
fn exponents(m: &Match, weights: Id) -> Option<(Vec<Term>, Option<Sink>)> {
    for node in m.nodes(weights) {
        for (sum, divisor) in quotients(m, &node) {
            let mut terms = Vec::new();
            if sum_along(m, sum, divisor) == Some(-1) && addends(m, sum, &[], &mut terms, 0) {
                return Some((terms, None));
            }
            terms.clear();
            let besides = besides_sum(m, sum, divisor);
            if let Some(besides) = besides.filter(|_| addends(m, sum, &[], &mut terms, 0))
                && let Some(sink) = sink(m, &mut terms, besides)
            {
                return Some((terms, Some(sink)));
            }
        }
        let last = m.ty(weights).rank() as i64 - 1;
        if node.op() == Some(&SOFTMAX) && [-1, last].contains(&m.attrs(&node).get(AXIS)) {
            let mut terms = Vec::new();
            if log_addends(m, node.operands()[0], &[], &mut terms) {
                return Some((terms, None));
            }
        }
    }
    None
}

/// What is added to the sum of `x` along the last axis.
fn besides_sum(m: &Match, x: Id, divisor: Id) -> Option<Id> {
    m.uses_of(&ADD, divisor).into_iter().find_map(|(operands, _)| {
        let [a, b] = operands[..] else { return None };
        let is_sum = |sum: Id| sum_along(m, x, sum) == Some(-1) && m.ty(sum) == m.ty(divisor);
        [(a, b), (b, a)].into_iter().find_map(|(sum, besides)| is_sum(sum).then_some(besides))
    })
}

/// The sink, where this is added to the sum of the terms. A shift that both have is taken from the terms.
fn sink(m: &Match, terms: &mut [Term], besides: Id) -> Option<Sink> {
    let shifts = |exponent: Id| m.uses_of(&SUB, exponent).into_iter().map(|(x, _)| (x[0], x[1]));
    if let Some(weight) = m.number(besides).filter(|&weight| weight > 0.0) {
        // With a shift the sink is none of the constant's weight.
        let is_max = |(_, shift): (Id, Id)| m.find(&REDUCE_MAX, shift).is_some();
        let shifted = terms.iter().any(|term| shifts(term.exponent).any(is_max));
        return (!shifted).then_some(Sink::Weight(weight));
    }
    let score = m.find(&EXP, besides)?.0[0];
    let negated = m.uses_of(&NEG, score).into_iter().map(|(x, _)| (x[0], Sink::Weight(1.0)));
    let less = shifts(score).map(|(score, shift)| (shift, Sink::Score(score)));
    for (shift, sink) in negated.chain(less) {
        let without = |term: &Term| {
            let same = |&(x, by): &(Id, Id)| m.same(by, shift) && m.ty(x) == m.ty(term.exponent);
            shifts(term.exponent).find(same)
        };
        let unshifted: Option<Vec<Id>> = terms.iter().map(|term| Some(without(term)?.0)).collect();
        if let Some(unshifted) = unshifted {
            terms.iter_mut().zip(unshifted).for_each(|(term, x)| term.exponent = x);
            return Some(sink);
        }
    }
    Some(Sink::Score(score))
}

/// Takes a sum of multiples of exponentials apart. False if it is none.
fn addends(m: &Match, sum: Id, factors: &[Factor], terms: &mut Vec<Term>, depth: usize) -> bool {
    if depth > DEEPEST {
        return false;
    }
    if let Some((operands, _)) = m.find(&EXP, sum) {
        terms.push(Term { exponent: operands[0], factors: factors.to_vec() });
        return true;
    }
    let known = terms.len();
    for (x, factor) in multiples(m, sum) {
        let factors = [&[factor], factors].concat();
        if addends(m, x, &factors, terms, depth + 1) {
            return true;
        }
        terms.truncate(known);
    }
    let Some((operands, _)) = m.find(&ADD, sum) else { return false };
    operands.iter().all(|&operand| addends(m, operand, factors, terms, depth + 1))
}

/// What a value is a multiple of, and by which factor.
fn multiples(m: &Match, value: Id) -> Vec<(Id, Factor)> {
    let mut found = Vec::new();
    for (x, _) in m.uses_of(&MUL, value) {
        for (x, by) in [(x[0], x[1]), (x[1], x[0])] {
            if m.is_not_negative(by) && m.number(by) != Some(0.0) {
                found.push((x, Factor::Constant(by)));
            }
            let truth = m.find(&CAST, by).map(|(of, _)| of[0]).filter(|&of| m.ty(of).dtype == DType::Bool);
            found.extend(truth.map(|condition| (x, Factor::Kept(condition))));
        }
    }
    found.extend(chosen(m, value, 0.0));
    found
}

/// What a value is, where a condition keeps it or leaves it out, and this number elsewhere.
fn chosen(m: &Match, value: Id, elsewhere: f64) -> Vec<(Id, Factor)> {
    let is = |id: Id| m.number(id) == Some(elsewhere);
    let choice = |(x, _): (Vec<Id>, Attrs)| match x[..] {
        [condition, kept, other] if is(other) => Some((kept, Factor::Kept(condition))),
        [condition, other, kept] if is(other) => Some((kept, Factor::LeftOut(condition))),
        _ => None,
    };
    m.uses_of(&WHERE, value).into_iter().filter_map(choice).collect()
}

/// Takes the logarithm of a sum of exponentials apart, of which a mask may leave some out. False if it is none.
fn log_addends(m: &Match, value: Id, factors: &[Factor], terms: &mut Vec<Term>) -> bool {
    if let Some(exponents) = log_sum_exp(m, value) {
        let term = |exponent| Term { exponent, factors: factors.to_vec() };
        terms.extend(exponents.into_iter().map(term));
        return true;
    }
    factors.len() < DEEPEST
        && chosen(m, value, f64::NEG_INFINITY)
            .into_iter()
            .any(|(x, factor)| log_addends(m, x, &[&[factor], factors].concat(), terms))
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
    let choices = chosen(m, whole, 0.0).into_iter().filter(|&(kept, _)| m.ty(kept) == m.ty(whole));
    let choices: Vec<(Id, Factor)> = choices.collect();
    let by_rows = choices.iter().find(|(_, choice)| match choice {
        Factor::Kept(condition) | Factor::LeftOut(condition) => m.shape(*condition).last() == Some(&one),
        Factor::Constant(_) => false,
    });
    let by_numbers = || choices.iter().find(|(kept, choice)| is_number_of_softmax(m, *kept, choice));
    let Some((kept, choice)) = by_rows.or_else(by_numbers).cloned() else { return Err(Stop::Other) };
    let regrouped = match &shape {
        Some(shape) => m.op_with(&RESHAPE, &[kept], [SHAPE.is(shape.clone())])?,
        None => kept,
    };
    let product = m.op(&MATMUL, &[regrouped, v])?;
    let result = if by_rows.is_none() {
        // A row is not a number as a whole or nowhere. If a product is none, though, it may be for its value.
        let zero = m.scalar(m.ty(v).dtype, 0.0);
        let zeros = m.op(&MUL, &[v, zero])?;
        let zeros = m.op_with(&REDUCE_SUM, &[zeros], [AXES.is(vec![-2])])?;
        let condition = m.op(&IS_NAN, &[product])?;
        m.op(&WHERE, &[condition, zeros, product])?
    } else {
        let zero = m.scalar(m.ty(class).dtype, 0.0);
        match choice {
            Factor::Kept(condition) => {
                let condition = of_rows(m, condition, whole, shape)?;
                m.op(&WHERE, &[condition, product, zero])?
            }
            Factor::LeftOut(condition) => {
                let condition = of_rows(m, condition, whole, shape)?;
                m.op(&WHERE, &[condition, zero, product])?
            }
            Factor::Constant(_) => return Err(Stop::Other),
        }
    };
    if m.ty(result) != m.ty(class) {
        return Err(Stop::Other);
    }
    m.covers(whole);
    m.covers(weights);
    Ok(vec![(class, result)])
}

/// What is one number or condition for each row of `whole`, in the order of the rows in another shape.
pub(super) fn of_rows(m: &mut Match, each: Id, whole: Id, shape: Option<Vec<Dim>>) -> Result<Id, Stop> {
    let Some(mut regrouped) = shape else { return Ok(each) };
    let mut rows = m.shape(whole);
    *rows.last_mut().ok_or(Stop::Other)? = Dim::constant(1);
    *regrouped.last_mut().ok_or(Stop::Other)? = Dim::constant(1);
    let all = m.op_with(&BROADCAST, &[each], [broadcast::SHAPE.is(rows)])?;
    Ok(m.op_with(&RESHAPE, &[all], [SHAPE.is(regrouped)])?)
}

/// Is a softmax along the last axis kept where its elements are numbers?
fn is_number_of_softmax(m: &Match, kept: Id, choice: &Factor) -> bool {
    let is_nan = match *choice {
        Factor::LeftOut(condition) => Some(condition),
        Factor::Kept(condition) => m.find(&NOT, condition).map(|(of, _)| of[0]),
        Factor::Constant(_) => None,
    };
    let of_kept =
        is_nan.and_then(|is_nan| m.find(&IS_NAN, is_nan)).is_some_and(|(of, _)| m.same(of[0], kept));
    let last = m.ty(kept).rank() as i64 - 1;
    let along_last = |(_, attrs): (Vec<Id>, Attrs)| [-1, last].contains(&attrs.get(AXIS));
    of_kept && m.uses_of(&SOFTMAX, kept).into_iter().any(along_last)
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
