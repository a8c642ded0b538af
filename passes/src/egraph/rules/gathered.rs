//! Rows that are taken from a table: where it is computed, the rows are taken first, and the rest of the table is not
//! computed; where it is cast, rules that look for products of rows with chosen matrices see it so.

use egg::Id;
use ir::OpDef;
use ops::math::cast::CAST;
use ops::shape::gather::GATHER;
use ops::shape::gather_nd::GATHER_ND;
use ops::shape::reshape::RESHAPE;
use ops::shape::transpose::TRANSPOSE;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "gather-before-arithmetic",
        summary: "what is gathered from a constant table that is computed element by element is computed of what is gathered",
        set: Set::Fold,
        exactness: Exactness::Exact,
        anchor: &[&GATHER],
        obligations: &[],
        apply: gathered,
    },
    Rule {
        name: "cast-before-gather",
        summary: "what is gathered from a constant table, and cast, is gathered from the table that is cast",
        // Where rules recognise, since these make such casts, too.
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&CAST],
        obligations: &[],
        apply: cast_first,
    },
];

/// What takes rows of a table.
const GATHERS: [&OpDef; 2] = [&GATHER, &GATHER_ND];

/// What may stand between a table's rows and their cast.
const MOVES: [&OpDef; 2] = [&RESHAPE, &TRANSPOSE];

/// So many of these, one after the other.
const MOST_MOVES: usize = 4;

fn gathered(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [table, ids] = node.operands()[..] else { return Err(Stop::Other) };
    if !m.is_constant(table) || m.is_constant(ids) {
        return Err(Stop::Other);
    }
    let attrs = m.attrs(node);
    let mut equal = Equal::new();
    for computed in m.nodes(table) {
        let Some(op) = computed.op().filter(|op| op.semantics.is_elementwise()) else { continue };
        let operands = computed.operands().to_vec();
        let whole = |id: &Id| m.shape(*id) == m.shape(table);
        // The others are numbers.
        let fits = operands.iter().filter(|id| !whole(id)).all(|&id| m.ty(id).elements().is(1));
        if !fits || !operands.iter().any(whole) {
            continue;
        }
        let rows: Vec<bool> = operands.iter().map(whole).collect();
        let mut of = Vec::with_capacity(operands.len());
        for (&operand, rows) in operands.iter().zip(rows) {
            of.push(if rows { m.op_as(&GATHER, &[operand, ids], &attrs)? } else { operand });
        }
        let result = m.op_as(op, &of, &m.attrs(&computed))?;
        if m.ty(result) == m.ty(class) {
            m.covers(table);
            equal.push((class, result));
        }
    }
    Ok(equal)
}

fn cast_first(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [rows] = node.operands()[..] else { return Err(Stop::Other) };
    let attrs = m.attrs(node);
    let mut equal = Equal::new();
    for moved in m.nodes(rows) {
        let (Some(op), [of, ids @ ..]) = (moved.op(), moved.operands()) else { continue };
        let gathers = GATHERS.contains(&op) && m.is_constant(*of) && !ids.iter().all(|&id| m.is_constant(id));
        if !(gathers || MOVES.contains(&op) && is_of_table(m, *of, MOST_MOVES)) {
            continue;
        }
        let cast = m.op_as(&CAST, &[*of], &attrs)?;
        let operands: Vec<Id> = [cast].into_iter().chain(ids.iter().copied()).collect();
        equal.push((class, m.op_as(op, &operands, &m.attrs(&moved))?));
    }
    Ok(equal)
}

/// Are these rows of a constant table, moved at most so many times?
fn is_of_table(m: &Match, rows: Id, most: usize) -> bool {
    m.nodes(rows).iter().any(|node| {
        let (Some(op), [of, ..]) = (node.op(), node.operands()) else { return false };
        GATHERS.contains(&op) && m.is_constant(*of)
            || MOVES.contains(&op) && most > 0 && is_of_table(m, *of, most - 1)
    })
}
