//! Products at the chosen experts: rows of slots meet the matrices of their experts.

use egg::Id;
use ir::Dim;
use ops::linalg::einsum::{EINSUM, EQUATION};
use ops::linalg::equation::Label;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;

use super::super::Stop;
use super::roles::{Product, Role, placed, reshaped, varies};
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
        let role = |label: &Label| {
            let axis = product.result.iter().position(|other| other == label);
            axis.map_or(Role::Unit, |axis| roles[axis])
        };
        let roles_of = |labels: &[Label]| -> Vec<Role> { labels.iter().map(role).collect() };
        let [left, right] = &product.operands;
        // Matrices are what differs from expert to expert, and from token to token does not.
        let sides = [(left, right), (right, left)].into_iter();
        let sides = sides.filter(|(_, (w, labels))| !varies(m, *w, &roles_of(labels), Role::is_row));
        let chosen = sides.min_by_key(|(_, (w, labels))| {
            let by_expert = varies(m, *w, &roles_of(labels), |role| role == Role::Expert);
            (!by_expert, !m.is_constant(*w))
        });
        let Some((rows, matrices)) = chosen else {
            return self.each_with_each(m, product, &role, features);
        };
        let feature = |label: &&Label| role(label).is_feature();
        let mut kept: Vec<Label> = rows.1.iter().filter(feature).copied().collect();
        let mut cols: Vec<Label> = matrices.1.iter().filter(feature).copied().collect();
        kept.retain(|label| !matrices.1.contains(label) || size(m, rows, label) != Dim::constant(1));
        cols.retain(|label| !kept.contains(label) || size(m, matrices, label) != Dim::constant(1));
        if product.depth.is_empty() || cols.iter().any(|label| kept.contains(label)) {
            return self.each_with_each(m, product, &role, features);
        }
        kept.sort_by_key(&role);
        cols.sort_by_key(&role);
        let x = self.rows_of(m, rows, &kept, &product.depth, &role)?;
        let w = matrices_of(m, matrices, &product.depth, &cols, &role)?;
        let y = self.multiplied(m, x, w, kept.len())?;
        let sizes = |of: &(Id, Vec<Label>), labels: &[Label]| -> Vec<Dim> {
            labels.iter().map(|label| size(m, of, label)).collect()
        };
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
        role: &impl Fn(&Label) -> Role,
        features: usize,
    ) -> Result<Id, Stop> {
        let mut result: Vec<Label> = product.result.clone();
        result.retain(|label| role(label).is_feature());
        let named: Vec<Label> = product.depth.iter().chain(&result).copied().collect();
        let (mut sides, mut terms) = (Vec::new(), Vec::new());
        for (x, labels) in &product.operands {
            let own: Vec<Label> = labels.iter().copied().filter(|label| named.contains(label)).collect();
            let roles = labels.iter().map(|label| {
                let place = own.iter().position(|other| other == label);
                place.map_or_else(|| role(label), Role::Feature)
            });
            let roles: Vec<Role> = roles.collect();
            sides.push(self.of(m, *x, &roles, own.len())?);
            terms.push(own);
        }
        terms.push(result.clone());
        let y = if is_matrices(&terms, &product.depth) {
            m.op(&MATMUL, &sides)?
        } else {
            let equation = self.equation(&terms, &named)?;
            m.op_with(&EINSUM, &sides, [EQUATION.is(equation)])?
        };
        let order: Vec<Role> = self.leading().chain(result.iter().map(role)).collect();
        placed(m, y, &order, self.rows, features)
    }

    /// The equation of a product of slots whose features have these names, two operands and the result.
    fn equation(&self, terms: &[Vec<Label>], named: &[Label]) -> Result<String, Stop> {
        let letter = |place: usize| ('a'..='z').chain('A'..='Z').nth(place).ok_or(Stop::Other);
        let term = |labels: &Vec<Label>| -> Result<String, Stop> {
            let places = labels.iter().filter_map(|label| named.iter().position(|other| other == label));
            (0..=self.rows).chain(places.map(|place| self.rows + 1 + place)).map(letter).collect()
        };
        let [left, right, result] = terms else { return Err(Stop::Other) };
        Ok(format!("{},{}->{}", term(left)?, term(right)?, term(result)?))
    }

    /// The left side: rows of slots, what is summed over being their last axis.
    fn rows_of(
        &mut self,
        m: &mut Match,
        (x, labels): &(Id, Vec<Label>),
        kept: &[Label],
        depth: &[Label],
        role: &impl Fn(&Label) -> Role,
    ) -> Result<Id, Stop> {
        let own = |label: &Label| {
            let place = kept.iter().chain(depth).position(|other| other == label);
            match (place, role(label)) {
                (Some(place), _) => Role::Feature(place),
                (None, Role::Feature(_)) => Role::Unit,
                (None, role) => role,
            }
        };
        let roles: Vec<Role> = labels.iter().map(own).collect();
        let slots = self.of(m, *x, &roles, kept.len() + depth.len())?;
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
fn is_matrices(terms: &[Vec<Label>], depth: &[Label]) -> bool {
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
    (w, labels): &(Id, Vec<Label>),
    depth: &[Label],
    cols: &[Label],
    role: &impl Fn(&Label) -> Role,
) -> Result<Id, Stop> {
    let own = |label: &Label| {
        let place = depth.iter().chain(cols).position(|other| other == label);
        match (place, role(label)) {
            (Some(place), _) => Role::Feature(place),
            (None, Role::Expert) => Role::Expert,
            (None, _) => Role::Unit,
        }
    };
    let roles: Vec<Role> = labels.iter().map(own).collect();
    let placed = placed(m, *w, &roles, 0, depth.len() + cols.len())?;
    let sizes = m.shape(placed);
    let (rows, columns) = sizes[1..].split_at(depth.len());
    let shape = vec![sizes[0].clone(), rows.iter().cloned().product(), columns.iter().cloned().product()];
    reshaped(m, placed, shape)
}

/// The size of an axis.
fn size(m: &Match, (x, labels): &(Id, Vec<Label>), label: &Label) -> Dim {
    let axis = labels.iter().position(|other| other == label);
    axis.map_or(Dim::constant(1), |axis| m.ty(*x).shape[axis].clone())
}
