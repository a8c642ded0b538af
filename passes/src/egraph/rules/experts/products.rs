//! Products at the chosen experts: rows of slots meet the matrices of their experts.

use egg::Id;
use ir::Dim;
use ops::linalg::einsum::{EINSUM, EQUATION};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;

use super::super::Stop;
use super::super::axes::{Name, Named, Product, reshaped};
use super::roles::{Role, placed, varies};
use super::slots::Slots;
use crate::egraph::rewrite::Match;

impl Slots {
    /// A product of rows with matrices that differ from expert to expert, or are the same for all.
    pub(super) fn product(
        &mut self,
        m: &mut Match,
        product: &Product,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let depth = product.depth(m).ok_or(Stop::Other)?;
        let role = |name: &Name| product.place(*name).map_or(Role::Unit, |axis| roles[axis]);
        let roles_of = |x: &Named| -> Vec<Role> { x.axes.iter().map(role).collect() };
        let [left, right] = &product.operands;
        // Matrices are what differs from expert to expert, and from token to token does not.
        let sides = [(left, right), (right, left)].into_iter();
        let sides = sides.filter(|(_, w)| !varies(m, w.value, &roles_of(w), Role::is_row));
        let chosen = sides.min_by_key(|(_, w)| {
            let by_expert = varies(m, w.value, &roles_of(w), |role| role == Role::Expert);
            (!by_expert, !m.is_constant(w.value))
        });
        let Some((rows, matrices)) = chosen else {
            return self.each_with_each(m, product, &depth, &role, features);
        };
        let feature = |name: &&Name| role(name).is_feature();
        let mut kept: Vec<Name> = rows.axes.iter().filter(feature).copied().collect();
        let mut cols: Vec<Name> = matrices.axes.iter().filter(feature).copied().collect();
        kept.retain(|name| !matrices.axes.contains(name) || !rows.size(m, *name).is(1));
        cols.retain(|name| !kept.contains(name) || !matrices.size(m, *name).is(1));
        if depth.is_empty() || cols.iter().any(|name| kept.contains(name)) {
            return self.each_with_each(m, product, &depth, &role, features);
        }
        kept.sort_by_key(&role);
        cols.sort_by_key(&role);
        let x = self.rows_of(m, rows, &kept, &depth, &role)?;
        let w = matrices_of(m, matrices, &depth, &cols, &role)?;
        let y = self.multiplied(m, x, w, kept.len())?;
        let sizes =
            |of: &Named, names: &[Name]| -> Vec<Dim> { names.iter().map(|&name| of.size(m, name)).collect() };
        let own = [sizes(rows, &kept), sizes(matrices, &cols)].concat();
        let shape = m.shape(y)[..=self.rows].iter().cloned().chain(own).collect();
        let y = reshaped(m, y, shape)?;
        let order: Vec<Role> = self.leading().chain(kept.iter().chain(&cols).map(role)).collect();
        placed(m, y, &order, self.rows, features)
    }

    /// A product of what each slot has with what it has, too.
    fn each_with_each(
        &mut self,
        m: &mut Match,
        product: &Product,
        depth: &[Name],
        role: &impl Fn(&Name) -> Role,
        features: usize,
    ) -> Result<Id, Stop> {
        let mut result: Vec<Name> = product.result.axes.clone();
        result.retain(|name| role(name).is_feature());
        let named: Vec<Name> = depth.iter().chain(&result).copied().collect();
        let (mut sides, mut terms) = (Vec::new(), Vec::new());
        for Named { value, axes } in &product.operands {
            let own: Vec<Name> = axes.iter().copied().filter(|name| named.contains(name)).collect();
            let roles = axes.iter().map(|name| {
                let place = own.iter().position(|other| other == name);
                place.map_or_else(|| role(name), Role::Feature)
            });
            let roles: Vec<Role> = roles.collect();
            sides.push(self.of(m, *value, &roles, own.len())?);
            terms.push(own);
        }
        terms.push(result.clone());
        let y = if is_matrices(&terms, depth) {
            m.op(&MATMUL, &sides)?
        } else {
            let equation = self.equation(&terms, &named)?;
            m.op_with(&EINSUM, &sides, [EQUATION.is(equation)])?
        };
        let order: Vec<Role> = self.leading().chain(result.iter().map(role)).collect();
        placed(m, y, &order, self.rows, features)
    }

    /// The equation of a product of slots whose features have these names, two operands and the result.
    fn equation(&self, terms: &[Vec<Name>], named: &[Name]) -> Result<String, Stop> {
        let letter = |place: usize| ('a'..='z').chain('A'..='Z').nth(place).ok_or(Stop::Other);
        let term = |names: &Vec<Name>| -> Result<String, Stop> {
            let places = names.iter().filter_map(|name| named.iter().position(|other| other == name));
            (0..=self.rows).chain(places.map(|place| self.rows + 1 + place)).map(letter).collect()
        };
        let [left, right, result] = terms else { return Err(Stop::Other) };
        Ok(format!("{},{}->{}", term(left)?, term(right)?, term(result)?))
    }

    /// The left side: rows of slots, what is summed over being their last axis.
    fn rows_of(
        &mut self,
        m: &mut Match,
        rows: &Named,
        kept: &[Name],
        depth: &[Name],
        role: &impl Fn(&Name) -> Role,
    ) -> Result<Id, Stop> {
        let own = |name: &Name| {
            let place = kept.iter().chain(depth).position(|other| other == name);
            match (place, role(name)) {
                (Some(place), _) => Role::Feature(place),
                (None, Role::Feature(_)) => Role::Unit,
                (None, role) => role,
            }
        };
        let roles: Vec<Role> = rows.axes.iter().map(own).collect();
        let slots = self.of(m, rows.value, &roles, kept.len() + depth.len())?;
        let mut shape = m.shape(slots);
        let summed: Dim = shape.split_off(self.rows + 1 + kept.len()).into_iter().product();
        shape.push(summed);
        reshaped(m, slots, shape)
    }

    /// Rows times the matrices of their experts, or times one matrix.
    fn multiplied(&self, m: &mut Match, x: Id, w: Id, kept: usize) -> Result<Id, Stop> {
        let [experts, depth, cols] = &m.shape(w)[..] else { return Err(Stop::Other) };
        if experts.is(1) {
            let w = reshaped(m, w, vec![depth.clone(), cols.clone()])?;
            return Ok(m.op(&MATMUL, &[x, w])?);
        }
        let shape = m.shape(self.ids).into_iter().chain(std::iter::repeat_n(Dim::constant(1), kept));
        let ids = reshaped(m, self.ids, shape.collect())?;
        Ok(m.op(&GROUPED_MATMUL, &[x, w, ids])?)
    }
}

/// Are axes so named those of a product of matrices?
fn is_matrices(terms: &[Vec<Name>], depth: &[Name]) -> bool {
    match terms.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
        [[a @ .., i, k], [b @ .., l, j], [batch @ .., row, column]] => {
            a == batch && b == batch && (i, j) == (row, column) && k == l && depth == [*k]
        }
        _ => false,
    }
}

/// The right side: a matrix for each expert, or one.
fn matrices_of(
    m: &mut Match,
    matrices: &Named,
    depth: &[Name],
    cols: &[Name],
    role: &impl Fn(&Name) -> Role,
) -> Result<Id, Stop> {
    let own = |name: &Name| {
        let place = depth.iter().chain(cols).position(|other| other == name);
        match (place, role(name)) {
            (Some(place), _) => Role::Feature(place),
            (None, Role::Expert) => Role::Expert,
            (None, _) => Role::Unit,
        }
    };
    let roles: Vec<Role> = matrices.axes.iter().map(own).collect();
    let placed = placed(m, matrices.value, &roles, 0, depth.len() + cols.len())?;
    let sizes = m.shape(placed);
    let (rows, columns) = sizes[1..].split_at(depth.len());
    let shape = vec![sizes[0].clone(), rows.iter().cloned().product(), columns.iter().cloned().product()];
    reshaped(m, placed, shape)
}
