//! Slots sorted by expert: the order is taken out again.
//!
//! Whatever is made row by row is the same in any order. So of a value in sorted order one can say what it is in the
//! order of the slots: where rows were gathered, they are taken as they stand.

use std::collections::BTreeMap;

use egg::Id;
use ir::op::normalize_axis;
use ir::{DType, Dim, OpDef};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::math::add::ADD;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::reduce::along::{AXES, KEEP_DIMS};
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::GATHER;
use ops::shape::gather_nd::GATHER_ND;
use ops::shape::iota::{self, IOTA};
use ops::shape::reshape::RESHAPE;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_nd::SCATTER_ND;
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::super::axes::{Named, Product, reshaped, stretched};
use super::chosen::gathered;
use super::order::{self, Order, WHOLE};
use crate::egraph::language::{Head, Node};
use crate::egraph::rewrite::{Match, Missed};
use crate::egraph::rules::{Equal, Exactness, Rule, Set, Stop};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "unsorted-experts",
        summary: "slots that are sorted, worked on row by row, and added up by tokens are worked on as they stand",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&SCATTER_ND],
        obligations: &[WHOLE, ROW_BY_ROW],
        apply: added_up,
    },
    Rule {
        name: "unsorted-rows",
        summary: "slots that are sorted, worked on row by row, and put back are worked on as they stand",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&GATHER, &GATHER_ND],
        obligations: &[WHOLE, ROW_BY_ROW],
        apply: put_back,
    },
];

const ROW_BY_ROW: &str = "between sorting and putting back, each row is made of what belongs to its slot";

/// So many values are looked at between sorting and putting back.
const MOST: usize = 512;

fn added_up(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [base, rows, updates] = node.operands()[..] else { return Err(Stop::Other) };
    let shape = m.shape(base);
    let (Some((tokens, rest)), Some(depth)) = (shape.split_first(), m.ty(rows).shape.last()) else {
        return Err(Stop::Other);
    };
    if m.attrs(node).get(REDUCTION) != "add" || !depth.is(1) {
        return Err(Stop::Other);
    }
    let slots = m.ty(rows).elements();
    let has = |each: i64| tokens.clone() * Dim::constant(each) == slots;
    let (y, each) = match order::repeats(m, rows) {
        // They are in order as they are.
        Some(each) if has(each) => (updates, each),
        _ => {
            let (sort, each) = order::token(m, rows).ok_or(Stop::Other)?;
            let order = Order::of(m, sort)?;
            if !has(each) {
                return Err(Missed::new(WHOLE, format!("{slots} slots of {tokens} tokens")).into());
            }
            (unsorted(m, order, updates)?, each)
        }
    };
    let by_tokens = [&[tokens.clone(), Dim::constant(each)], rest].concat();
    let y = reshaped(m, y, by_tokens)?;
    let sum = m.op_with(&REDUCE_SUM, &[y], [AXES.is(vec![1]), KEEP_DIMS.is(false)])?;
    let whole = m.find(&BROADCAST, base).map_or(base, |(of, _)| of[0]);
    let sum = if m.number(whole) == Some(0.0) { sum } else { m.op(&ADD, &[base, sum])? };
    Ok(vec![(class, sum)])
}

fn put_back(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let (x, indices, axis) = gathered(m, class).ok_or(Stop::Other)?;
    let sort = order::inverse(m, indices).filter(|_| axis == 0).ok_or(Stop::Other)?;
    let order = Order::of(m, sort)?;
    if m.ty(x).shape.first() != Some(&order.slots) || m.ty(indices).elements() != order.slots {
        return Err(Stop::Other);
    }
    let y = unsorted(m, order, x)?;
    let shape = m.shape(class);
    Ok(vec![(class, reshaped(m, y, shape)?)])
}

/// What a value with a row for each slot is in the order of the slots.
fn unsorted(m: &mut Match, order: Order, value: Id) -> Result<Id, Stop> {
    let mut unsorting = Unsorting { m, order, known: BTreeMap::new(), stuck: None };
    let found = unsorting.rows(value);
    let Unsorting { known, stuck, .. } = unsorting;
    known.into_iter().filter(|(_, rows)| rows.is_some()).for_each(|(id, _)| m.covers(id));
    found.ok_or_else(|| Missed::new(ROW_BY_ROW, m.describe(stuck.unwrap_or(value))).into())
}

/// Takes an order out of what is made with it.
struct Unsorting<'m, 'a> {
    m: &'m mut Match<'a>,
    order: Order,
    /// Of values in sorted order, what they are in the order of the slots; nothing for those that are being looked at.
    known: BTreeMap<Id, Option<Id>>,
    /// The first value that could not be followed.
    stuck: Option<Id>,
}

impl Unsorting<'_, '_> {
    /// What a value, whose first axis are the sorted slots, is in their own order.
    fn rows(&mut self, value: Id) -> Option<Id> {
        let value = self.m.classes().find(value);
        if let Some(&known) = self.known.get(&value) {
            return known;
        }
        if self.known.len() == MOST {
            return None;
        }
        self.known.insert(value, None);
        let found = if self.m.number(value).is_some() {
            Some(value)
        } else {
            self.m.nodes(value).iter().find_map(|node| self.node(value, node))
        };
        if found.is_none() {
            self.stuck.get_or_insert(value);
        }
        self.known.insert(value, found);
        found
    }

    fn node(&mut self, value: Id, node: &Node) -> Option<Id> {
        let def = match node.head() {
            Head::Result(number) if self.m.same(node.operands()[0], self.order.sort) => {
                return self.of_sort(number);
            }
            Head::Op(def) => def,
            _ => return None,
        };
        if def == &GATHER || def == &GATHER_ND {
            return self.gather(value, node, def);
        }
        let by_rows = self.by_rows(value, node, def)?;
        let mut operands = node.operands().to_vec();
        for (operand, _) in operands.iter_mut().zip(by_rows).filter(|(_, by_rows)| *by_rows) {
            *operand = self.rows(*operand)?;
        }
        let attrs = self.m.attrs(node);
        let made = self.m.op_as(def, &operands, &attrs).ok()?;
        (self.m.ty(made) == self.m.ty(value)).then_some(made)
    }

    /// The sorted keys, or the order itself.
    fn of_sort(&mut self, result: u32) -> Option<Id> {
        if result == 0 {
            return Some(self.order.keys);
        }
        let shape = iota::SHAPE.is(vec![self.order.slots.clone()]);
        self.m.op_with(&IOTA, &[], [shape, iota::AXIS.is(0), iota::DTYPE.is(DType::I64)]).ok()
    }

    /// Which operands of an op have the rows of its result, each its own row. Others are the same for all rows.
    fn by_rows(&self, value: Id, node: &Node, def: &'static OpDef) -> Option<Vec<bool>> {
        let (m, attrs, operands) = (&*self.m, self.m.attrs(node), node.operands());
        let rank = m.ty(value).rank();
        let has_rows =
            |x: Id, rank: usize| m.ty(x).rank() == rank && m.ty(x).shape.first() == Some(&self.order.slots);
        if !has_rows(value, rank) {
            return None;
        }
        let aligned = || Some(operands.iter().map(|&x| has_rows(x, rank)).collect());
        let all = |holds: bool| {
            let rows = operands.iter().all(|&x| has_rows(x, m.ty(x).rank()));
            (holds && rows).then(|| vec![true; operands.len()])
        };
        if def.semantics.is_elementwise() || def == &BROADCAST {
            aligned()
        } else if def == &RESHAPE {
            all(true)
        } else if def == &TRANSPOSE {
            all(attrs.get(PERM)[0] == 0)
        } else if def == &SLICE {
            let (starts, steps) = (attrs.get(STARTS), attrs.get(STEPS));
            all(starts[0].is(0) && steps[0] == 1 && attrs.get(SIZES)[0] == self.order.slots)
        } else if def == &CONCAT {
            all(normalize_axis(attrs.get(concat::AXIS), rank).ok()? != 0)
        } else if def == &SOFTMAX {
            all(normalize_axis(attrs.get(AXIS), rank).ok()? != 0)
        } else if def == &GROUPED_MATMUL {
            Some(vec![has_rows(operands[0], rank), false, has_rows(operands[2], rank - 1)])
        } else {
            let Product { operands, result } = Product::of(m, value, node)?;
            let row = *result.axes.first()?;
            let leads = |x: &Named| match x.long(m).contains(&row) {
                true => (x.axes.first() == Some(&row)).then_some(true),
                false => Some(false),
            };
            operands.iter().map(leads).collect()
        }
    }

    /// Rows that are gathered: in the order, by tokens, or by what belongs to the slot.
    fn gather(&mut self, value: Id, node: &Node, def: &'static OpDef) -> Option<Id> {
        let (x, indices, _) = gathered(self.m, value).filter(|&(.., axis)| axis == 0)?;
        let (shape, slots) = (self.m.shape(value), self.order.slots.clone());
        let rows = self.m.shape(x).first()?.clone();
        let single = self.m.ty(indices).elements() == slots;
        if single && rows == slots && self.order.is(self.m, indices) {
            return reshaped(self.m, x, shape).ok();
        }
        let each = self.order.slots_of_token(self.m, indices).filter(|_| single);
        if let Some(each) = each.filter(|&each| rows.clone() * Dim::constant(each) == slots) {
            let rest = self.m.shape(x)[1..].to_vec();
            let with = |each: i64| [&[rows.clone(), Dim::constant(each)], &rest[..]].concat();
            let once = reshaped(self.m, x, with(1)).ok()?;
            let repeated = stretched(self.m, once, with(each)).ok()?;
            return reshaped(self.m, repeated, shape).ok();
        }
        if self.m.ty(indices).shape.first() != Some(&slots) {
            return None;
        }
        let indices = self.rows(indices)?;
        let attrs = self.m.attrs(node);
        self.m.op_as(def, &[x, indices], &attrs).ok()
    }
}
