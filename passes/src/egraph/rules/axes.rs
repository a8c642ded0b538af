//! Products by the names of their axes: `matmul` and `einsum` in one form.
//!
//! An axis of size 1 holds nothing that its name could be needed for: it is left out here, and put back by a reshape.

use egg::Id;
use ir::Dim;
use ops::linalg::einsum::{EINSUM, EQUATION};
use ops::linalg::equation::{Equation, Label};
use ops::linalg::matmul::MATMUL;
use ops::shape::broadcast::{self, BROADCAST};
use ops::shape::reshape::{CHECKED, RESHAPE, SHAPE};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::Stop;
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// The name of an axis.
pub(super) type Name = usize;

/// A value whose axes have names.
#[derive(Clone)]
pub(super) struct Named {
    pub value: Id,
    /// Of all axes, those of size 1 too.
    pub axes: Vec<Name>,
}

/// Products of the elements of two values, summed over the axes that the result leaves out.
pub(super) struct Product {
    pub operands: [Named; 2],
    pub result: Named,
}

impl Product {
    /// What a `matmul` or an `einsum` of two operands is.
    pub(super) fn of(m: &Match, class: Id, node: &Node) -> Option<Product> {
        let [left, right] = node.operands()[..] else { return None };
        let equation = match node.op() {
            Some(def) if def == &EINSUM => m.attrs(node).get(EQUATION),
            Some(def) if def == &MATMUL => "...ik,...kj->...ij".to_owned(),
            _ => return None,
        };
        let equation = Equation::parse(&equation, &[m.ty(left).rank(), m.ty(right).rank()]).ok()?;
        let [a, b] = <[Vec<Label>; 2]>::try_from(equation.operands).ok()?;
        let named = |value: Id, labels: Vec<Label>| {
            let axes: Vec<Name> = labels.into_iter().map(name).collect();
            let distinct = (1..axes.len()).all(|at| !axes[..at].contains(&axes[at]));
            (distinct && m.ty(value).rank() == axes.len()).then_some(Named { value, axes })
        };
        let operands = [named(left, a)?, named(right, b)?];
        Some(Product { operands, result: named(class, equation.result)? })
    }

    /// The axes that are summed over, if both operands have all of them, in the same sizes.
    pub(super) fn depth(&self, m: &Match) -> Option<Vec<Name>> {
        let [left, right] = self.operands.each_ref().map(|operand| {
            let summed = |name: &&Name| !self.result.axes.contains(name);
            operand.axes.iter().filter(summed).copied().collect::<Vec<Name>>()
        });
        let [a, b] = &self.operands;
        let both = |&name: &Name| right.contains(&name) && a.size(m, name) == b.size(m, name);
        (left.len() == right.len() && left.iter().all(both)).then_some(left)
    }

    /// Where an axis is in the result.
    pub(super) fn place(&self, name: Name) -> Option<usize> {
        self.result.axes.iter().position(|&other| other == name)
    }
}

/// Axes of an ellipsis have numbers below those of letters.
fn name(label: Label) -> Name {
    match label {
        Label::Ellipsis(number) => number,
        Label::Letter(letter) => letter as Name,
    }
}

impl Named {
    /// The names of its axes, without those of size 1.
    pub(super) fn long(&self, m: &Match) -> Vec<Name> {
        let shape = &m.ty(self.value).shape;
        self.axes.iter().zip(shape).filter(|(_, size)| !size.is(1)).map(|(&name, _)| name).collect()
    }

    /// The size along an axis.
    pub(super) fn size(&self, m: &Match, name: Name) -> Dim {
        let at = self.axes.iter().position(|&known| known == name);
        at.map_or(Dim::constant(1), |at| m.ty(self.value).shape[at].clone())
    }

    /// With these axes in this order, of size 1 where it has none. Its long axes are among them.
    pub(super) fn ordered(&self, m: &mut Match, axes: &[Name]) -> Result<Id, Stop> {
        let long = self.long(m);
        let wanted: Vec<Name> = axes.iter().copied().filter(|name| long.contains(name)).collect();
        if wanted.len() != long.len() {
            return Err(Stop::Other);
        }
        let sizes: Vec<Dim> = axes.iter().map(|&name| self.size(m, name)).collect();
        let mut value = self.value;
        if wanted != long {
            let own = long.iter().map(|&name| self.size(m, name)).collect();
            value = reshaped(m, value, own)?;
            let places = wanted.iter().filter_map(|name| long.iter().position(|own| own == name));
            value = transposed(m, value, places.map(|at| at as i64).collect())?;
        }
        reshaped(m, value, sizes)
    }
}

/// A value in another shape.
pub(super) fn reshaped(m: &mut Match, value: Id, shape: Vec<Dim>) -> Result<Id, Stop> {
    let known = unshaped(m, value);
    if let Some(&known) = known.iter().find(|&&known| m.ty(known).shape == shape) {
        return Ok(known);
    }
    let whole = known.last().copied().unwrap_or(value);
    Ok(m.op_with(&RESHAPE, &[whole], [SHAPE.is(shape)])?)
}

/// A value, and what it is in other shapes: what it is a reshape of, and so on.
pub(super) fn unshaped(m: &Match, value: Id) -> Vec<Id> {
    let mut known = vec![value];
    let mut next = Some(value);
    while let Some(value) = next {
        let reshapes = m.uses_of(&RESHAPE, value).into_iter().filter(|(_, attrs)| !attrs.get(CHECKED));
        let new = |of: &Id| !known.iter().any(|&id| m.same(id, *of));
        next = reshapes.map(|(of, _)| of[0]).find(new);
        known.extend(next);
    }
    known
}

/// A value with its axes in another order.
pub(super) fn transposed(m: &mut Match, value: Id, perm: Vec<i64>) -> Result<Id, Stop> {
    if perm.is_sorted() {
        return Ok(value);
    }
    let undone = m.uses_of(&TRANSPOSE, value).into_iter().find(|(_, attrs)| {
        let inner = attrs.get(PERM);
        perm.iter().enumerate().all(|(at, &axis)| inner.get(axis as usize) == Some(&(at as i64)))
    });
    match undone {
        Some((of, _)) => Ok(of[0]),
        None => Ok(m.op_with(&TRANSPOSE, &[value], [PERM.is(perm)])?),
    }
}

/// A value stretched to a shape.
pub(super) fn stretched(m: &mut Match, value: Id, shape: Vec<Dim>) -> Result<Id, Stop> {
    if m.shape(value) == shape {
        return Ok(value);
    }
    Ok(m.op_with(&BROADCAST, &[value], [broadcast::SHAPE.is(shape)])?)
}
