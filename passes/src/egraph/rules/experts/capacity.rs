//! Experts with seats: each has so many, slots take them one after the other, and who finds none is left out.
//!
//! Exporters write which slot has which seat as an array of ones and zeros, multiply tokens with it to seat them, and
//! results to bring them back. Experts work seat by seat, so a slot's result is made of its token alone: seats are not
//! needed, only who found one. A seat that stays empty counts for nothing.

use std::collections::BTreeMap;

use egg::Id;
use ir::Dim;
use ir::op::normalize_axis;
use ops::linalg::combine::{COMBINE, MOST_TERMS};
use ops::linalg::einsum::EINSUM;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::math::and::AND;
use ops::math::cast::CAST;
use ops::math::eq::EQ;
use ops::math::ge::GE;
use ops::math::lt::LT;
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::math::r#where::WHERE;
use ops::order::cumsum::CUMSUM;
use ops::order::prefix::{AXIS, EXCLUSIVE, REVERSE};
use ops::order::seat::{self, SEAT};
use ops::reduce::along::AXES;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::gather::{self, GATHER};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};

use super::super::axes::{Name, Named, Product, reshaped, stretched, unshaped};
use super::combine::FEW;
use super::order::{counts_up, is_everywhere};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};
use crate::egraph::rules::{Equal, Exactness, Rule, Set, Stop};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "unseated-experts",
    summary: "experts that take tokens by seats, and give none to who comes late, work on slots; late ones have no weight",
    set: Set::Raise,
    exactness: Exactness::Reassociating,
    anchor: &[&EINSUM],
    obligations: &[SEAT_BY_SEAT, FEW],
    apply: unseated,
}];

const SEAT_BY_SEAT: &str = "experts work seat by seat, on what was seated by the same slots";

/// Who sits where: 1 where a slot of the two leading axes has that seat of that expert, 0 elsewhere.
struct Seating {
    /// Of slots, experts and seats.
    seating: Named,
    /// The expert of each slot.
    ids: Id,
}

/// `Σₖ gates · seating`: what weight a token gives to what is on a seat.
struct Weights {
    seating: Seating,
    gates: Named,
    token: Name,
    choice: Name,
}

fn unseated(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let Product { operands: [left, right], result } = Product::of(m, class, node).ok_or(Stop::Other)?;
    let found = [(&left, &right), (&right, &left)].into_iter().find_map(|(by, y)| {
        let ([token, expert, seat], [.., feature]) = (&by.axes[..], &y.axes[..]) else { return None };
        let fits = y.axes == [*expert, *seat, *feature] && result.axes == [*token, *feature];
        Some((weights(m, by.value).filter(|_| fits)?, y.value))
    });
    let (Weights { seating, gates, token, choice }, y) = found.ok_or(Stop::Other)?;
    let shape = m.shape(seating.seating.value);
    let [first, second, experts, seats] = &shape[..] else { return Err(Stop::Other) };
    let choices = seating.seating.size(m, choice);
    if choices.as_const().is_none_or(|choices| choices > MOST_TERMS) {
        return Err(Missed::new(FEW, choices.to_string()).into());
    }
    let slots = vec![first.clone(), second.clone()];
    let by_token = |m: &mut Match, value: Id| -> Result<Id, Stop> {
        let value = reshaped(m, value, slots.clone())?;
        Named { value, axes: seating.seating.axes[..2].to_vec() }.ordered(m, &[token, choice])
    };
    let ids = by_token(m, seating.ids)?;
    let by = if seating.seating.axes[0] == token { vec![0, 1] } else { vec![1, 0] };
    let number = m.op_with(&SEAT, &[ids], [seat::COUNT.is(experts.clone()), seat::BY.is(by)])?;
    let gates = gates.ordered(m, &[token, choice])?;
    let gates = seated(m, number, seats, gates)?;
    let mut on_seats = Slots {
        m,
        seating: seating.seating.clone(),
        choice,
        ids,
        experts: experts.clone(),
        seats: seats.clone(),
        known: BTreeMap::new(),
        stuck: None,
    };
    let found = on_seats.of(y);
    let Slots { known, stuck, .. } = on_seats;
    known.into_iter().filter(|(_, found)| found.is_some()).for_each(|(id, _)| m.covers(id));
    let missed = || Missed::new(SEAT_BY_SEAT, m.describe(stuck.unwrap_or(y)));
    let y = found.ok_or_else(missed)?;
    let width = m.shape(y).last().cloned();
    let all = m.shape(gates).into_iter().chain(width).collect();
    let y = stretched(m, y, all)?;
    let combined = m.op(&COMBINE, &[y, gates])?;
    if m.ty(combined) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, combined)])
}

/// Gates of slots that have a seat, by their numbers; 0 for others.
fn seated(m: &mut Match, number: Id, seats: &Dim, gates: Id) -> Result<Id, Stop> {
    let seats = seats.as_const().ok_or(Stop::Other)?;
    let dtype = m.ty(number).dtype;
    let [first, end] = [0, seats].map(|number| m.scalar(dtype, number as f64));
    let come = m.op(&GE, &[number, first])?;
    let find = m.op(&LT, &[number, end])?;
    let sit = m.op(&AND, &[come, find])?;
    let zero = m.scalar(m.ty(gates).dtype, 0.0);
    Ok(m.op(&WHERE, &[sit, gates, zero])?)
}

fn weights(m: &Match, value: Id) -> Option<Weights> {
    m.nodes(value).into_iter().find_map(|node| {
        let Product { operands: [left, right], result } = Product::of(m, value, &node)?;
        [(&left, &right), (&right, &left)].into_iter().find_map(|(gates, seating)| {
            let [first, second, expert, seat] = seating.axes[..] else { return None };
            let [token, ..] = result.axes[..] else { return None };
            let choice = if token == first { second } else { first };
            let by_slots = gates.axes == [token, choice] || gates.axes == [choice, token];
            let fits = by_slots && result.axes == [token, expert, seat] && [first, second].contains(&token);
            let seating = self::seating(m, seating).filter(|_| fits)?;
            Some(Weights { seating, gates: gates.clone(), token, choice })
        })
    })
}

/// What a value says, if it compares the numbers of slots, each among those of its expert, with 0, 1, 2, …
fn seating(m: &Match, seating: &Named) -> Option<Seating> {
    let number = compared(m, seating.value)?;
    let [.., experts, _] = &m.ty(number).shape[..] else { return None };
    let is_flat = |id: &Id| matches!(&m.ty(*id).shape[..], [_, last] if last == experts);
    let numbers = unshaped(m, number).into_iter().find(is_flat)?;
    let counted = m.uses_of(&SUB, numbers).into_iter().find(|(x, _)| is_everywhere(m, x[1], 1))?.0[0];
    let is_count = |sum: Id, own: Id| {
        m.uses_of(&CUMSUM, sum).into_iter().any(|(of, attrs)| {
            let counts = attrs.get(AXIS) == 0 && !attrs.get(EXCLUSIVE) && !attrs.get(REVERSE);
            counts && m.same(of[0], own)
        })
    };
    let own = m.uses_of(&MUL, counted).into_iter().find_map(|(x, _)| {
        let either = [(x[0], x[1]), (x[1], x[0])];
        either.into_iter().find(|&(sum, own)| is_count(sum, own)).map(|(_, own)| own)
    })?;
    Some(Seating { seating: seating.clone(), ids: compared(m, own)? })
}

/// What is compared with 0, 1, 2, … along the last axis, as numbers: 1 where it is equal.
fn compared(m: &Match, value: Id) -> Option<Id> {
    let (last, rows) = m.ty(value).shape.split_last()?;
    let (equal, _) = m.find(&CAST, value)?;
    m.uses_of(&EQ, equal[0]).into_iter().find_map(|(x, _)| {
        let fits = |x: Id, count: Id| {
            let (own, counted) = (&m.ty(x).shape, m.ty(count));
            let along = counted.shape.last() == Some(last) && counted.elements() == *last;
            let by_rows = own.split_last().is_some_and(|(last, own)| last.is(1) && own == rows);
            (along && by_rows && counts_up(m, count)).then_some(x)
        };
        fits(x[0], x[1]).or_else(|| fits(x[1], x[0]))
    })
}

/// What is on seats, slot by slot.
struct Slots<'m, 'a> {
    m: &'m mut Match<'a>,
    seating: Named,
    choice: Name,
    /// The experts of slots, by tokens.
    ids: Id,
    experts: Dim,
    seats: Dim,
    /// Of values on seats, what slots have; nothing for those that are being looked at.
    known: BTreeMap<Id, Option<Id>>,
    /// The first value that could not be followed.
    stuck: Option<Id>,
}

impl Slots<'_, '_> {
    /// What a value, whose first axes are experts and their seats, is for slots by tokens; of size 1 along the slots
    /// of a token where it is the same for them.
    fn of(&mut self, value: Id) -> Option<Id> {
        let value = self.m.classes().find(value);
        if let Some(&known) = self.known.get(&value) {
            return known;
        }
        self.known.insert(value, None);
        let found = match &self.m.ty(value).shape[..] {
            [experts, seats, _] if *experts == self.experts && *seats == self.seats => {
                self.m.nodes(value).iter().find_map(|node| self.node(value, node))
            }
            _ => None,
        };
        if found.is_none() {
            self.stuck.get_or_insert(value);
        }
        self.known.insert(value, found);
        found
    }

    fn node(&mut self, value: Id, node: &Node) -> Option<Id> {
        let def = node.op()?;
        if def.semantics.is_elementwise() {
            let operands = node.operands().iter().map(|&x| self.operand(x)).collect::<Option<Vec<Id>>>()?;
            let attrs = self.m.attrs(node);
            return self.m.op_as(def, &operands, &attrs).ok();
        }
        if def == &SLICE {
            return self.slice(node);
        }
        let product = Product::of(self.m, value, node)?;
        let [left, right] = &product.operands;
        let forward = self.product(left, right, &product.result);
        forward.or_else(|| self.product(right, left, &product.result))
    }

    /// An operand of an elementwise op: on seats, one for each expert, or the same for all.
    fn operand(&mut self, x: Id) -> Option<Id> {
        let shape = self.m.shape(x);
        match &shape[..] {
            [experts, seats, _] if *experts == self.experts && *seats == self.seats => self.of(x),
            [experts, one, width] if *experts == self.experts && one.is(1) => {
                let rows = reshaped(self.m, x, vec![experts.clone(), width.clone()]).ok()?;
                self.m.op_with(&GATHER, &[rows, self.ids], [gather::AXIS.is(0)]).ok()
            }
            [outer @ .., _] if outer.iter().all(|size| size.is(1)) => Some(x),
            [] => Some(x),
            _ => None,
        }
    }

    /// Some of the features.
    fn slice(&mut self, node: &Node) -> Option<Id> {
        let attrs = self.m.attrs(node);
        let [mut starts, mut sizes] = [attrs.get(STARTS), attrs.get(SIZES)];
        let steps = attrs.get(STEPS);
        let x = self.of(node.operands()[0])?;
        let shape = self.m.shape(x);
        let ([first, second, _], [1, 1, _]) = (&mut starts[..], &steps[..]) else { return None };
        let whole = first.is(0) && second.is(0) && sizes[..2] == [self.experts.clone(), self.seats.clone()];
        sizes[..2].clone_from_slice(shape.get(..2)?);
        let attrs = [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)];
        whole.then(|| self.m.op_with(&SLICE, &[x], attrs).ok())?
    }

    /// Tokens that take their seats, or a product with the matrix of each expert.
    fn product(&mut self, x: &Named, by: &Named, result: &Named) -> Option<Id> {
        let [expert, seat, column] = result.axes[..] else { return None };
        if let [token, _] = x.axes[..]
            && x.axes == [token, column]
            && by.axes == [token, expert, seat]
            && self.is_dispatch(by.value)
        {
            let shape = self.m.shape(x.value);
            let once = vec![shape[0].clone(), Dim::constant(1), shape[1].clone()];
            return reshaped(self.m, x.value, once).ok();
        }
        let [own_expert, own_seat, depth] = x.axes[..] else { return None };
        let by_experts =
            by.axes.len() == 3 && [expert, depth, column].iter().all(|name| by.axes.contains(name));
        if [own_expert, own_seat] != [expert, seat] || !by_experts {
            return None;
        }
        let x = self.of(x.value)?;
        let matrices = by.ordered(self.m, &[expert, depth, column]).ok()?;
        self.m.op(&GROUPED_MATMUL, &[x, matrices, self.ids]).ok()
    }

    /// Is it the seating of tokens, by any of their slots?
    fn is_dispatch(&self, value: Id) -> bool {
        let axes = &self.seating.axes;
        self.m.uses_of(&REDUCE_SUM, value).into_iter().any(|(x, attrs)| {
            let [axis] = attrs.get(AXES)[..] else { return false };
            let axis = normalize_axis(axis, axes.len());
            let by_choices = axis.is_ok_and(|axis| axes[axis] == self.choice);
            by_choices && self.m.same(x[0], self.seating.value) && self.m.ty(value).rank() == 3
        })
    }
}
