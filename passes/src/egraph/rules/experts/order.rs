//! Orders of slots: what sorts them, which tokens they are of then, and what puts them back.

use egg::Id;
use ir::op::normalize_axis;
use ir::{DType, Dim, Scalar};
use ops::math::add::ADD;
use ops::math::and::AND;
use ops::math::cast::{CAST, TO};
use ops::math::div::DIV;
use ops::math::eq::EQ;
use ops::math::lt::LT;
use ops::math::mul::MUL;
use ops::math::ne::NE;
use ops::math::not::NOT;
use ops::math::or::OR;
use ops::math::sub::SUB;
use ops::math::xor::XOR;
use ops::order::topk::{K, LARGEST, TOPK};
use ops::shape::broadcast::BROADCAST;
use ops::shape::iota::{self, IOTA};
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::SCATTER_ELEMENTS;
use ops::shape::scatter_nd::SCATTER_ND;

use super::super::axes::unshaped;
use super::chosen::gathered;
use crate::egraph::language::Head;
use crate::egraph::rewrite::{Match, Missed};

/// Why it may be that what is sorted cannot be put back.
pub(super) const WHOLE: &str = "what is sorted are all slots, so that the order is a permutation";

/// So many ops may stand between an order and what is made of it.
const DEEPEST: usize = 16;

/// Slots sorted by keys.
pub(super) struct Order {
    /// The sort, a top-k of everything.
    pub sort: Id,
    pub keys: Id,
    pub slots: Dim,
}

impl Order {
    /// The order in which a top-k takes its elements.
    pub(super) fn of(m: &Match, sort: Id) -> Result<Order, Missed> {
        let taken = m.find(&TOPK, sort).filter(|(keys, _)| m.ty(keys[0]).rank() == 1);
        let (keys, attrs) = taken.ok_or_else(|| Missed::new(WHOLE, m.describe(sort)))?;
        let (slots, k) = (m.shape(keys[0])[0].clone(), attrs.get(K));
        if k != slots {
            return Err(Missed::new(WHOLE, format!("{k} of {slots}")));
        }
        Ok(Order { sort, keys: keys[0], slots })
    }

    /// Is the value, in whatever shape, where the slots stood before?
    pub(super) fn is(&self, m: &Match, indices: Id) -> bool {
        sort(m, indices).is_some_and(|sort| m.same(sort, self.sort))
    }

    /// How many slots a token has, where the value is the token of each slot in this order.
    pub(super) fn slots_of_token(&self, m: &Match, rows: Id) -> Option<i64> {
        token(m, rows).filter(|&(sort, _)| m.same(sort, self.sort)).map(|(_, each)| each)
    }
}

/// The top-k whose indices a value is, in whatever shape.
fn sort(m: &Match, indices: Id) -> Option<Id> {
    unshaped(m, indices).into_iter().flat_map(|known| m.nodes(known)).find_map(|node| {
        let of = *node.operands().first().filter(|_| matches!(node.head(), Head::Result(1)))?;
        m.find(&TOPK, of).map(|_| of)
    })
}

/// The top-k whose indices a value is, each divided by a number and rounded down, or the tokens of these; and how many
/// slots a token has.
pub(super) fn token(m: &Match, rows: Id) -> Option<(Id, i64)> {
    quotient(m, rows, 0)
}

fn quotient(m: &Match, value: Id, depth: usize) -> Option<(Id, i64)> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(sort) = sort(m, value) {
        return Some((sort, 1));
    }
    unshaped(m, value).into_iter().find_map(|known| {
        let divided = m.uses_of(&DIV, known).into_iter().find_map(|(x, _)| {
            let by = integer(m, x[1]).filter(|&by| by >= 1)?;
            quotient(m, x[0], depth + 1).map(|(sort, each)| (sort, each * by))
        });
        // Exporters correct a quotient where it is negative, which no index is.
        let corrected = || {
            m.uses_of(&SUB, known).into_iter().find_map(|(x, _)| {
                let is_zero = m.find(&CAST, x[1]).is_some_and(|(x, _)| truth(m, x[0], 0) == Some(false));
                is_zero.then(|| quotient(m, x[0], depth + 1))?
            })
        };
        let converted = || {
            let (x, attrs) = m.find(&CAST, known)?;
            let counts = |dtype: DType| [DType::I32, DType::I64].contains(&dtype);
            (counts(attrs.get(TO)) && counts(m.ty(x[0]).dtype)).then(|| quotient(m, x[0], depth + 1))?
        };
        let gathered = || {
            let (tokens, order, axis) = gathered(m, known)?;
            let flat = m.ty(tokens).rank() == 1 && axis == 0;
            flat.then(|| Some((sort(m, order)?, repeats(m, tokens)?)))?
        };
        divided.or_else(corrected).or_else(converted).or_else(gathered)
    })
}

/// Whether a condition on indices holds for all of them, if that is known: none is negative.
fn truth(m: &Match, condition: Id, depth: usize) -> Option<bool> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(weight) = m.value(condition) {
        let first = weight.values().next()?.to_bool();
        return weight.values().all(|value| value.to_bool() == first).then_some(first);
    }
    m.nodes(condition).into_iter().find_map(|node| {
        let (def, x) = (node.op()?, node.operands());
        let of = |at: usize| truth(m, x[at], depth + 1);
        if def == &LT {
            (quotient(m, x[0], depth + 1).is_some() && integer(m, x[1])? <= 0).then_some(false)
        } else if def == &NOT {
            of(0).map(|holds| !holds)
        } else if def == &EQ && m.ty(x[0]).dtype == DType::Bool {
            Some(of(0)? == of(1)?)
        } else if (def == &NE || def == &XOR) && m.ty(x[0]).dtype == DType::Bool {
            Some(of(0)? != of(1)?)
        } else if def == &AND || def == &OR {
            let decides = def == &OR;
            match (of(0), of(1)) {
                (Some(one), _) | (_, Some(one)) if one == decides => Some(decides),
                (Some(_), Some(_)) => Some(!decides),
                _ => None,
            }
        } else if def == &BROADCAST {
            of(0)
        } else {
            None
        }
    })
}

/// Are all elements this number?
pub(super) fn is_everywhere(m: &Match, value: Id, number: i64) -> bool {
    integer(m, value) == Some(number) || m.number(value) == Some(number as f64)
}

/// The number that all elements are.
fn integer(m: &Match, value: Id) -> Option<i64> {
    let value = m.find(&BROADCAST, value).map_or(value, |(of, _)| of[0]);
    let weight = m.value(value).filter(|weight| weight.dtype().is_int())?;
    let first = weight.values().next()?.to_i64();
    weight.values().all(|value| value.to_i64() == first).then_some(first)
}

/// The top-k that a value puts back: for each slot, in whatever shape, where the order has it.
pub(super) fn inverse(m: &Match, indices: Id) -> Option<Id> {
    let sorted_again = || {
        let again = sort(m, indices)?;
        let (keys, attrs) = m.find(&TOPK, again)?;
        let whole = attrs.get(K) == m.shape(keys[0])[0] && m.ty(keys[0]).rank() == 1;
        (whole && !attrs.get(LARGEST)).then(|| sort(m, keys[0]))?
    };
    let scattered = |known: Id| {
        [&SCATTER_ND, &SCATTER_ELEMENTS].into_iter().find_map(|def| {
            let (x, attrs) = m.find(def, known)?;
            let single = m.ty(x[0]).rank() == 1 && m.ty(x[1]).elements() == m.ty(x[0]).elements();
            (single && attrs.get(REDUCTION) == "none" && counts_up(m, x[2])).then(|| sort(m, x[1]))?
        })
    };
    unshaped(m, indices).into_iter().find_map(scattered).or_else(sorted_again)
}

/// How often each number comes, where a value, in whatever shape, is 0, 0, …, 1, 1, …: the tokens of slots in order.
pub(super) fn repeats(m: &Match, value: Id) -> Option<i64> {
    unshaped(m, value).into_iter().find_map(|known| {
        let constant = || {
            let weight = m.value(known).filter(|weight| weight.dtype().is_int())?;
            let each = weight.values().take_while(|value| value.to_i64() == 0).count();
            let in_order = |(at, value): (usize, Scalar)| value.to_i64() == (at / each) as i64;
            (each > 0 && weight.values().enumerate().all(in_order)).then_some(each as i64)
        };
        let divided = || {
            let (x, _) = m.find(&DIV, known)?;
            integer(m, x[1]).filter(|&each| each >= 1 && counts_up(m, x[0]))
        };
        let stretched = || {
            let (of, _) = m.find(&BROADCAST, known)?;
            let (from, to) = (&m.ty(of[0]).shape, &m.ty(known).shape);
            let long: Vec<usize> = (0..to.len()).filter(|&at| !to[at].is(1)).collect();
            let own = |at: usize| (at + from.len()).checked_sub(to.len()).map(|at| &from[at]);
            // Tokens are one axis, and their slots the other one, along which nothing changes.
            let [tokens, slots] = long[..] else { return None };
            let fits = own(tokens) == Some(&to[tokens]) && own(slots).is_none_or(|size| size.is(1));
            (fits && counts_up(m, of[0])).then(|| to[slots].as_const())?
        };
        constant().or_else(divided).or_else(stretched)
    })
}

/// Is it 0, 1, 2, …?
pub(super) fn counts_up(m: &Match, value: Id) -> bool {
    is_count(m, value, 0)
}

fn is_count(m: &Match, value: Id, depth: usize) -> bool {
    if depth > DEEPEST {
        return false;
    }
    unshaped(m, value).into_iter().any(|known| {
        let is_constant = m.value(known).is_some_and(|weight| {
            weight.dtype().is_int()
                && weight.values().enumerate().all(|(at, value)| value.to_i64() == at as i64)
        });
        let is_neutral = |def, neutral: i64| {
            m.uses_of(def, known).into_iter().any(|(x, _)| {
                let pairs = [(x[0], x[1]), (x[1], x[0])];
                pairs.into_iter().any(|(x, by)| integer(m, by) == Some(neutral) && is_count(m, x, depth + 1))
            })
        };
        let is_iota = || {
            m.find(&IOTA, known).is_some_and(|(_, attrs)| {
                let ty = m.ty(known);
                let axis = normalize_axis(attrs.get(iota::AXIS), ty.rank());
                axis.is_ok_and(|axis| ty.shape[axis] == ty.elements())
            })
        };
        is_constant || is_iota() || is_neutral(&MUL, 1) || is_neutral(&ADD, 0)
    })
}
