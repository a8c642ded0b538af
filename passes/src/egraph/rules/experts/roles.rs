//! What the axes of a value are to experts.

use egg::Id;
use ir::Dim;
use ops::shape::reshape::RESHAPE;

use super::super::Stop;
use super::super::axes::{reshaped, transposed};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// What an axis is to experts. Values of slots have their axes in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Tokens: an axis that the ids have, too, by its number there.
    Row(usize),
    /// The choices of a token, where experts have an axis beside it.
    Slot,
    /// Experts; in a value of slots, choices.
    Expert,
    /// What an expert works on, by its number.
    Feature(usize),
    /// Of size 1, and nothing of the above.
    Unit,
}

impl Role {
    /// Where it stands in a value of slots with so many axes of tokens.
    fn place(self, rows: usize) -> Option<usize> {
        match self {
            Role::Row(row) => Some(row),
            Role::Slot | Role::Expert => Some(rows),
            Role::Feature(feature) => Some(rows + 1 + feature),
            Role::Unit => None,
        }
    }

    /// Is it one of tokens?
    pub(super) fn is_row(self) -> bool {
        matches!(self, Role::Row(_))
    }

    /// Is it what an expert works on?
    pub(super) fn is_feature(self) -> bool {
        matches!(self, Role::Feature(_))
    }
}

/// Does a value change along an axis with such a role?
pub(super) fn varies(m: &Match, x: Id, roles: &[Role], of: impl Fn(Role) -> bool) -> bool {
    roles.iter().zip(&m.ty(x).shape).any(|(&role, size)| of(role) && !size.is(1))
}

/// The roles of an operand that broadcasts to a value with these.
pub(super) fn aligned(m: &Match, operand: Id, roles: &[Role]) -> Option<Vec<Role>> {
    let skip = roles.len().checked_sub(m.ty(operand).rank())?;
    Some(roles[skip..].to_vec())
}

/// A value of slots: with axes for so many rows, the choices, and so many features, those it does not have of size 1.
pub(super) fn placed(m: &mut Match, x: Id, roles: &[Role], rows: usize, features: usize) -> Result<Id, Stop> {
    let sizes = m.shape(x);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&axis| roles[axis]);
    let moves: Vec<usize> = order.iter().copied().filter(|&axis| !sizes[axis].is(1)).collect();
    let ordered = if moves.is_sorted() {
        x
    } else {
        transposed(m, x, order.into_iter().map(|axis| axis as i64).collect())?
    };
    let mut shape = vec![Dim::constant(1); rows + 1 + features];
    for (role, size) in roles.iter().zip(sizes).filter(|(_, size)| !size.is(1)) {
        let place = role.place(rows).and_then(|place| shape.get_mut(place)).ok_or(Stop::Other)?;
        *place = place.clone() * size;
    }
    reshaped(m, ordered, shape)
}

/// What the axes of a value were before it was reshaped.
pub(super) struct Before {
    pub roles: Vec<Role>,
    /// The sizes of the axes of tokens, if they were others.
    pub rows: Option<Vec<Dim>>,
    /// How many features there were, if they were others.
    pub features: Option<usize>,
}

/// The roles of what is reshaped to a value with these: axes of tokens and features may be grouped otherwise.
pub(super) fn before_reshape(from: &[Dim], to: &[Dim], roles: &[Role]) -> Option<Before> {
    let long =
        |sizes: &[Dim]| -> Vec<usize> { (0..sizes.len()).filter(|&axis| !sizes[axis].is(1)).collect() };
    let (ours, theirs) = (long(from), long(to));
    let mut before = Before { roles: vec![Role::Unit; from.len()], rows: None, features: None };
    let (mut i, mut j) = (0, 0);
    let (mut other_rows, mut other_features) = (false, false);
    while i < ours.len() && j < theirs.len() {
        let (own, other) = equal_products(&ours[i..], &theirs[j..], from, to)?;
        let (own, other) = (&ours[i..i + own], &theirs[j..j + other]);
        (i, j) = (i + own.len(), j + other.len());
        if let ([axis], [same]) = (own, other) {
            before.roles[*axis] = roles[*same];
            continue;
        }
        let kind = if other.iter().all(|&axis| roles[axis].is_row()) {
            other_rows = true;
            Role::Row(0)
        } else if other.iter().all(|&axis| roles[axis].is_feature()) {
            other_features = true;
            Role::Feature(0)
        } else {
            return None;
        };
        own.iter().for_each(|&axis| before.roles[axis] = kind);
    }
    // Tokens keep their order only if their axes stand as they are counted.
    let rows = theirs.iter().map(|&axis| roles[axis]).filter(|role| role.is_row());
    if i < ours.len() || j < theirs.len() || (other_rows && !rows.is_sorted()) {
        return None;
    }
    if other_rows {
        let rows = before.roles.iter_mut().zip(from).filter(|(role, _)| role.is_row());
        let each = rows.enumerate().map(|(number, (role, size))| {
            *role = Role::Row(number);
            size.clone()
        });
        before.rows = Some(each.collect());
    }
    if other_features {
        let features = before.roles.iter_mut().filter(|role| role.is_feature());
        let each = features.enumerate().map(|(number, role)| *role = Role::Feature(number));
        before.features = Some(each.count());
    }
    Some(before)
}

/// What an elementwise op gives, in a shape in which each of its axes is one or several: the op on its operands as they
/// were before these axes became one.
pub(super) fn split(m: &mut Match, x: Id, to: &[Dim]) -> Option<Id> {
    let from = m.shape(x);
    let parts = parts(&from, to)?;
    let merged = |operand: &Id| m.ty(*operand).elements().is(1) || !m.uses_of(&RESHAPE, *operand).is_empty();
    let splits = |node: &Node| {
        node.op().is_some_and(|def| def.semantics.is_elementwise()) && node.operands().iter().all(merged)
    };
    let node = m.nodes(x).into_iter().find(splits)?;
    let mut operands = Vec::new();
    for &operand in node.operands() {
        let sizes = m.shape(operand);
        let skip = from.len().checked_sub(sizes.len())?;
        let each = sizes.iter().zip(&from[skip..]).zip(&parts[skip..]).flat_map(|((size, whole), part)| {
            let once = vec![Dim::constant(1); part.len()];
            if size == whole { part.clone() } else { once }
        });
        operands.push(reshaped(m, operand, each.collect()).ok()?);
    }
    m.op_as(node.op()?, &operands, &m.attrs(&node)).ok()
}

/// The sizes of the axes that each axis of a shape is made of in another.
fn parts(from: &[Dim], to: &[Dim]) -> Option<Vec<Vec<Dim>>> {
    let mut rest = to.iter().cloned();
    let mut parts = Vec::new();
    for size in from {
        let (mut part, mut whole) = (Vec::new(), Dim::constant(1));
        while whole != *size {
            let next = rest.next()?;
            whole = whole * next.clone();
            part.push(next);
        }
        parts.push(part);
    }
    let ones: Vec<Dim> = rest.collect();
    let fits = ones.iter().all(|size| size.is(1));
    parts.last_mut().filter(|_| fits)?.extend(ones);
    Some(parts)
}

/// The fewest axes of two shapes, from the first of each on, that hold as many elements.
fn equal_products(ours: &[usize], theirs: &[usize], from: &[Dim], to: &[Dim]) -> Option<(usize, usize)> {
    let product =
        |axes: &[usize], sizes: &[Dim]| -> Dim { axes.iter().map(|&axis| sizes[axis].clone()).product() };
    let all = (2..=ours.len() + theirs.len()).flat_map(|count| (1..count).map(move |own| (own, count - own)));
    all.filter(|&(own, other)| own <= ours.len() && other <= theirs.len())
        .find(|&(own, other)| product(&ours[..own], from) == product(&theirs[..other], to))
}
