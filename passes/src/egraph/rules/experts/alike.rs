//! Experts that are written out one after the other and put side by side: where they are computed alike, they are one
//! computation with an axis of experts before all others, and with their weights side by side.

use std::collections::BTreeMap;

use egg::Id;
use ir::attr::{Attr, Attrs};
use ir::op::normalize_axis;
use ir::{Dim, OpDef};
use ops::linalg::matmul::MATMUL;
use ops::norm::{self, AXES};
use ops::shape::concat::{self, CONCAT};
use ops::shape::reshape::{RESHAPE, SHAPE};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::super::Stop;
use super::super::axes::reshaped;
use super::slots::{along_axes, along_axis, with};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

pub(super) const ALIKE: &str = "experts that are put side by side are computed alike";

/// So many values may be looked at for each expert.
const MOST: usize = 64;

/// Values of several experts each, as one.
#[derive(Default)]
pub(super) struct Alike {
    /// What was found before; nothing while it is being looked for, or if there is none.
    known: BTreeMap<(Vec<Id>, usize), Option<Id>>,
}

impl Alike {
    /// One value of so many axes, and one of experts before them: of size 1 if all experts have the same.
    pub(super) fn of(&mut self, m: &mut Match, parts: &[Id], rank: usize) -> Result<Id, Stop> {
        let first = *parts.first().ok_or(Stop::Other)?;
        if parts.iter().any(|&part| m.ty(part) != m.ty(first)) {
            return Err(Missed::new(ALIKE, m.describe(first)).into());
        }
        if parts.iter().all(|&part| m.same(part, first)) {
            return led(m, first, rank);
        }
        if parts.iter().all(|&part| m.is_constant(part)) {
            let each: Vec<Id> = parts.iter().map(|&part| led(m, part, rank)).collect::<Result<_, _>>()?;
            return Ok(m.op_with(&CONCAT, &each, [concat::AXIS.is(0)])?);
        }
        let key = (parts.to_vec(), rank);
        if let Some(known) = self.known.get(&key) {
            return known.ok_or(Stop::Other);
        }
        self.known.insert(key.clone(), None);
        if self.known.len() > MOST {
            return Err(Stop::Other);
        }
        let mut stop = Stop::from(Missed::new(ALIKE, m.describe(first)));
        for node in m.nodes(first) {
            let Some(def) = node.op() else { continue };
            let Some(operands) = operands_of_each(m, &node, def, parts) else { continue };
            match self.node(m, first, &node, def, &operands) {
                Ok(all) => {
                    let all = led_again(m, all, rank)?;
                    self.known.insert(key, Some(all));
                    parts.iter().for_each(|&part| m.covers(part));
                    return Ok(all);
                }
                Err(Stop::Missed(missed)) => stop = Stop::Missed(missed),
                Err(Stop::Other) => {}
            }
        }
        Err(stop)
    }

    /// The op that all experts apply, with an axis before all others.
    fn node(
        &mut self,
        m: &mut Match,
        first: Id,
        node: &Node,
        def: &'static OpDef,
        operands: &[Vec<Id>],
    ) -> Result<Id, Stop> {
        let attrs = m.attrs(node);
        let rank = m.ty(first).rank();
        let broadcasts = def.semantics.is_elementwise() || def == &MATMUL;
        let mut all = Vec::new();
        for parts in operands {
            let own = if broadcasts { rank } else { m.ty(parts[0]).rank() };
            all.push(self.of(m, parts, own)?);
        }
        if broadcasts {
            return Ok(m.op_as(def, &all, &attrs)?);
        }
        let experts = m.shape(*all.first().ok_or(Stop::Other)?).swap_remove(0);
        let behind = |axes: Vec<i64>| -> Result<Vec<i64>, Stop> {
            let each = axes.into_iter().map(|axis| Ok(normalize_axis(axis, rank)? as i64 + 1));
            each.collect()
        };
        let before = |value: Dim, sizes: Vec<Dim>| -> Vec<Dim> { [vec![value], sizes].concat() };
        let changed: Vec<(&'static str, Attr)> = if def == &RESHAPE {
            vec![SHAPE.is(before(experts, attrs.get(SHAPE)))]
        } else if def == &TRANSPOSE {
            let perm: Vec<i64> = attrs.get(PERM);
            vec![PERM.is([0].into_iter().chain(perm.into_iter().map(|axis| axis + 1)).collect())]
        } else if def == &SLICE {
            let steps: Vec<i64> = attrs.get(STEPS);
            let starts = before(Dim::constant(0), attrs.get(STARTS));
            let sizes = before(experts, attrs.get(SIZES));
            vec![STARTS.is(starts), SIZES.is(sizes), STEPS.is([vec![1], steps].concat())]
        } else if along_axis(def) {
            let along = behind(vec![attrs.get(norm::AXIS)])?;
            vec![norm::AXIS.is(along[0])]
        } else if along_axes(def) {
            vec![AXES.is(behind(attrs.get(AXES))?)]
        } else {
            return Err(Missed::new(ALIKE, m.describe(first)).into());
        };
        Ok(m.op_with(def, &all, with(&attrs, changed))?)
    }
}

/// The operands of the same op in each part, operand by operand.
fn operands_of_each(m: &Match, node: &Node, def: &'static OpDef, parts: &[Id]) -> Option<Vec<Vec<Id>>> {
    let attrs: Attrs = m.attrs(node);
    let mut each = vec![Vec::new(); node.operands().len()];
    for &part in parts {
        let same = m.uses_of(def, part).into_iter().find(|(of, own)| of.len() == each.len() && *own == attrs);
        each.iter_mut().zip(same?.0).for_each(|(operand, of)| operand.push(of));
    }
    Some(each)
}

/// A value with axes of size 1 before it: so many in all, and one more.
fn led(m: &mut Match, x: Id, rank: usize) -> Result<Id, Stop> {
    let sizes = m.shape(x);
    let more = (rank + 1).checked_sub(sizes.len()).ok_or(Stop::Other)?;
    reshaped(m, x, std::iter::repeat_n(Dim::constant(1), more).chain(sizes).collect())
}

/// A value with an axis of experts, behind which axes of size 1 are put until there are so many.
fn led_again(m: &mut Match, x: Id, rank: usize) -> Result<Id, Stop> {
    let sizes = m.shape(x);
    let more = (rank + 1).checked_sub(sizes.len()).ok_or(Stop::Other)?;
    let (experts, own) = sizes.split_first().ok_or(Stop::Other)?;
    let shape = [experts.clone()].into_iter().chain(std::iter::repeat_n(Dim::constant(1), more));
    reshaped(m, x, shape.chain(own.iter().cloned()).collect())
}
