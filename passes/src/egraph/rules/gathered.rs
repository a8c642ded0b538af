//! Rows that are taken from a computed table: the rows are taken first, and the rest of the table is not computed.

use egg::Id;
use ops::shape::gather::GATHER;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "gather-before-arithmetic",
    summary: "what is gathered from a constant table that is computed element by element is computed of what is gathered",
    set: Set::Fold,
    exactness: Exactness::Exact,
    anchor: &[&GATHER],
    obligations: &[],
    apply: gathered,
}];

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
