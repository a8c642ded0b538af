//! What experts compute, at the chosen ones alone: a value with an axis of experts becomes one of slots.
//!
//! From the result of the experts back to their input, each op is applied to slots in place of all pairs of a token and
//! an expert. What differs from expert to expert alone is gathered by the ids; what differs from token to token alone
//! stands for all choices; where both meet in a product, each slot meets the matrix of its expert.

use std::collections::BTreeMap;

use egg::Id;
use ir::attr::{Attr, Attrs};
use ir::op::normalize_axis;
use ir::{Dim, OpDef};
use ops::linalg::einsum::EINSUM;
use ops::linalg::matmul::MATMUL;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::log_softmax::LOG_SOFTMAX;
use ops::norm::rms_norm::RMS_NORM;
use ops::norm::softmax::SOFTMAX;
use ops::norm::{self, AXES};
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::{self, GATHER};
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::super::Stop;
use super::super::axes::{Product, reshaped};
use super::alike::{ALIKE, Alike};
use super::roles::{Role, aligned, before_reshape, placed, split, varies};
use super::routing::{stretched, transposed_roles};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

pub(super) const BY_ROW: &str =
    "an op between the products works on the row of one token and one expert alone";

/// So many values may be looked at between what experts give and what they are given.
const MOST: usize = 64;

/// Values of slots, in the order of axes that [`Role`] says.
pub(super) struct Slots {
    pub(super) ids: Id,
    pub(super) rows: usize,
    /// What was asked for before; nothing while it is being looked for, or if it was not found.
    known: BTreeMap<(Id, Vec<Role>, usize), Option<Id>>,
    scaled_by: Option<Scale>,
}

/// Weights that scale what experts are given.
pub(super) struct Scale {
    pub weights: Id,
    pub roles: Vec<Role>,
    /// What they are at the chosen experts.
    pub gates: Id,
}

impl Scale {
    /// Is it this value, its axes being these?
    pub(super) fn is(&self, m: &Match, x: Id, roles: &[Role]) -> bool {
        let sizes = m.shape(x);
        let differs = |((own, role), size): ((&Role, &Role), &Dim)| own != role && !size.is(1);
        m.same(x, self.weights) && !self.roles.iter().zip(roles).zip(&sizes).any(differs)
    }
}

impl Slots {
    /// Of these ids, whose last axis is that of choices.
    pub(super) fn new(m: &Match, ids: Id) -> Slots {
        Slots { ids, rows: m.ty(ids).rank() - 1, known: BTreeMap::new(), scaled_by: None }
    }

    /// Where it is known what weights are at the chosen experts.
    pub(super) fn scaled_by(self, scale: Scale) -> Slots {
        Slots { scaled_by: Some(scale), ..self }
    }

    /// A value of slots that has so many features. Its axes are of size 1 where the value does not vary along them.
    pub(super) fn of(&mut self, m: &mut Match, x: Id, roles: &[Role], features: usize) -> Result<Id, Stop> {
        if !varies(m, x, roles, |role| role == Role::Expert) {
            return placed(m, x, roles, self.rows, features);
        }
        // What a single token's experts compute cannot be told from what differs from expert to expert alone.
        let of_token = varies(m, x, roles, Role::is_row) || self.is_single(m) && !m.is_constant(x);
        if !of_token {
            return self.gathered(m, x, roles, features);
        }
        if let Some(scale) = self.scaled_by.as_ref().filter(|scale| scale.is(m, x, roles)) {
            let ones = std::iter::repeat_n(Dim::constant(1), features);
            let shape = m.shape(scale.gates).into_iter().chain(ones).collect();
            return reshaped(m, scale.gates, shape);
        }
        let key = (x, roles.to_vec(), features);
        if let Some(known) = self.known.get(&key) {
            return known.ok_or_else(|| Missed::new(BY_ROW, m.describe(x)).into());
        }
        self.known.insert(key.clone(), None);
        if self.known.len() > MOST {
            return Err(Missed::new(BY_ROW, m.describe(x)).into());
        }
        let mut first = None;
        for node in m.nodes(x) {
            let Some(def) = node.op() else { continue };
            match self.node(m, x, &node, def, roles, features) {
                Ok(found) => {
                    self.known.insert(key, Some(found));
                    m.covers(x);
                    return Ok(found);
                }
                Err(Stop::Missed(missed)) => first = first.or(Some(missed)),
                Err(Stop::Other) => {}
            }
        }
        if !varies(m, x, roles, Role::is_row) {
            let found = self.gathered(m, x, roles, features)?;
            self.known.insert(key, Some(found));
            return Ok(found);
        }
        Err(first.unwrap_or_else(|| Missed::new(BY_ROW, m.describe(x))).into())
    }

    /// Is there one token?
    fn is_single(&self, m: &Match) -> bool {
        m.ty(self.ids).shape[..self.rows].iter().all(|size| size.is(1))
    }

    /// One of the ways to make a value.
    fn node(
        &mut self,
        m: &mut Match,
        x: Id,
        node: &Node,
        def: &'static OpDef,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let attrs = m.attrs(node);
        let operands = node.operands();
        if def.semantics.is_elementwise() {
            return self.elementwise(m, node, def, roles, features);
        }
        if def == &MATMUL || def == &EINSUM {
            let product = Product::of(m, x, node).ok_or(Stop::Other)?;
            return self.product(m, &product, roles, features);
        }
        if along_axis(def) || along_axes(def) {
            return self.normalised(m, operands[0], def, &attrs, roles, features);
        }
        if def == &TRANSPOSE {
            let before = transposed_roles(roles, &attrs.get(PERM));
            return self.of(m, operands[0], &before, features);
        }
        if def == &RESHAPE {
            return self.regrouped(m, x, operands[0], roles, features);
        }
        if def == &BROADCAST {
            let before = aligned(m, operands[0], roles).ok_or(Stop::Other)?;
            let inner = self.of(m, operands[0], &before, features)?;
            return self.stretched_features(m, inner, x, roles);
        }
        if def == &SLICE {
            return self.sliced(m, operands[0], &attrs, roles, features);
        }
        if def == &CONCAT {
            return self.side_by_side(m, node, roles, features);
        }
        Err(Stop::Other)
    }

    /// What differs from expert to expert alone.
    fn gathered(&self, m: &mut Match, x: Id, roles: &[Role], features: usize) -> Result<Id, Stop> {
        let each = placed(m, x, roles, 0, features)?;
        Ok(m.op_with(&GATHER, &[each, self.ids], [gather::AXIS.is(0)])?)
    }

    fn elementwise(
        &mut self,
        m: &mut Match,
        node: &Node,
        def: &'static OpDef,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let mut operands = Vec::new();
        for &operand in node.operands() {
            let own = aligned(m, operand, roles).ok_or(Stop::Other)?;
            // What has no axes but the last features broadcasts as it is.
            let last = own.iter().enumerate().all(|(axis, &role)| {
                features + axis >= own.len() && role == Role::Feature(features + axis - own.len())
            });
            operands.push(if last { operand } else { self.of(m, operand, &own, features)? });
        }
        Ok(m.op_as(def, &operands, &m.attrs(node))?)
    }

    /// Along features alone.
    fn normalised(
        &mut self,
        m: &mut Match,
        x: Id,
        def: &'static OpDef,
        attrs: &Attrs,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let one_axis = along_axis(def);
        let axes = if one_axis { vec![attrs.get(norm::AXIS)] } else { attrs.get(AXES) };
        let mut along = Vec::new();
        for axis in axes {
            let Role::Feature(feature) = roles[normalize_axis(axis, roles.len())?] else {
                return Err(Missed::new(BY_ROW, format!("{} along axis {axis}", def.name)).into());
            };
            along.push((self.rows + 1 + feature) as i64);
        }
        let x = self.of(m, x, roles, features)?;
        let along = if one_axis { norm::AXIS.is(along[0]) } else { AXES.is(along) };
        Ok(m.op_with(def, &[x], with(attrs, [along]))?)
    }

    /// In another shape: tokens or features may have other axes.
    fn regrouped(
        &mut self,
        m: &mut Match,
        x: Id,
        inner: Id,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let (from, to) = (m.shape(inner), m.shape(x));
        let Some(before) = before_reshape(&from, &to, roles) else {
            // Tokens and experts may have been one axis.
            if let Some(same) = split(m, inner, &to) {
                return self.of(m, same, roles, features);
            }
            return Err(Missed::new(BY_ROW, format!("reshape of {}", m.describe(inner))).into());
        };
        let count = before.features.unwrap_or(features);
        let slots = match before.rows {
            None => self.of(m, inner, &before.roles, count)?,
            Some(rows) => {
                let choices = m.shape(self.ids).pop();
                let whole: Vec<Dim> = rows.into_iter().chain(choices).collect();
                let ids = reshaped(m, self.ids, whole.clone())?;
                let slots = Slots::new(m, ids).of(m, inner, &before.roles, count)?;
                let width = m.shape(slots).split_off(whole.len());
                let slots = stretched(m, slots, [whole, width.clone()].concat())?;
                reshaped(m, slots, [m.shape(self.ids), width].concat())?
            }
        };
        if before.features.is_none() {
            return Ok(slots);
        }
        let own: Vec<(Role, Dim)> =
            roles.iter().copied().zip(to).filter(|(role, _)| role.is_feature()).collect();
        let mut shape = m.shape(slots);
        shape.truncate(self.rows + 1);
        shape.extend(own.iter().map(|(_, size)| size.clone()));
        let slots = reshaped(m, slots, shape)?;
        let order: Vec<Role> = self.leading().chain(own.into_iter().map(|(role, _)| role)).collect();
        placed(m, slots, &order, self.rows, features)
    }

    /// A value of slots, stretched along the features of a value.
    fn stretched_features(&self, m: &mut Match, slots: Id, x: Id, roles: &[Role]) -> Result<Id, Stop> {
        let mut shape = m.shape(slots);
        for (role, size) in roles.iter().zip(m.shape(x)) {
            if let Role::Feature(feature) = role {
                shape[self.rows + 1 + feature] = size;
            }
        }
        stretched(m, slots, shape)
    }

    /// The roles of the axes of slots before their features.
    pub(super) fn leading(&self) -> impl Iterator<Item = Role> + use<> {
        (0..self.rows).map(Role::Row).chain([Role::Expert])
    }

    /// A part of the features. Where one is left of an axis, that was a feature before.
    fn sliced(
        &mut self,
        m: &mut Match,
        inner: Id,
        attrs: &Attrs,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let (starts, sizes, steps) = (attrs.get(STARTS), attrs.get(SIZES), attrs.get(STEPS));
        let whole = m.shape(inner);
        let mut before = roles.to_vec();
        let mut all = features;
        for (role, size) in before.iter_mut().zip(&whole).filter(|(role, _)| **role == Role::Unit) {
            if !size.is(1) {
                *role = Role::Feature(all);
                all += 1;
            }
        }
        let slots = self.of(m, inner, &before, all)?;
        let mut shape = m.shape(slots);
        let mut from = vec![Dim::constant(0); shape.len()];
        let mut by = vec![1; shape.len()];
        for (axis, role) in before.iter().enumerate() {
            match role {
                Role::Feature(feature) => {
                    let at = self.rows + 1 + feature;
                    (from[at], shape[at], by[at]) = (starts[axis].clone(), sizes[axis].clone(), steps[axis]);
                }
                _ if sizes[axis] == whole[axis] && steps[axis] == 1 => {}
                _ => return Err(Missed::new(BY_ROW, format!("slice along axis {axis}")).into()),
            }
        }
        let mut left = shape.clone();
        left.truncate(self.rows + 1 + features);
        let part = m.op_with(&SLICE, &[slots], [STARTS.is(from), SIZES.is(shape), STEPS.is(by)])?;
        reshaped(m, part, left)
    }

    /// Features one after the other.
    fn side_by_side(
        &mut self,
        m: &mut Match,
        node: &Node,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        let axis = normalize_axis(m.attrs(node).get(concat::AXIS), roles.len())?;
        let feature = match roles[axis] {
            Role::Feature(feature) => feature,
            Role::Expert => return self.each_expert(m, node, axis, roles, features),
            _ => return Err(Missed::new(BY_ROW, format!("concat along axis {axis}")).into()),
        };
        let parts: Vec<Id> = node
            .operands()
            .iter()
            .map(|&part| self.of(m, part, roles, features))
            .collect::<Result<_, _>>()?;
        // One that is the same for all choices is repeated.
        let slots = m.shape(self.ids);
        let mut whole = Vec::new();
        for part in parts {
            let own = m.shape(part).split_off(self.rows + 1);
            whole.push(stretched(m, part, slots.iter().cloned().chain(own).collect())?);
        }
        let along = concat::AXIS.is((self.rows + 1 + feature) as i64);
        Ok(m.op_with(&CONCAT, &whole, [along])?)
    }

    /// Experts one after the other.
    fn each_expert(
        &mut self,
        m: &mut Match,
        node: &Node,
        axis: usize,
        roles: &[Role],
        features: usize,
    ) -> Result<Id, Stop> {
        if let Some(&several) = node.operands().iter().find(|&&part| !m.ty(part).shape[axis].is(1)) {
            return Err(Missed::new(ALIKE, m.describe(several)).into());
        }
        let all = Alike::default().of(m, node.operands(), roles.len())?;
        let mut behind = roles.to_vec();
        behind[axis] = Role::Unit;
        self.of(m, all, &[vec![Role::Expert], behind].concat(), features)
    }
}

/// Does an op work along one axis, and give a value of the same shape?
pub(super) fn along_axis(def: &OpDef) -> bool {
    [&SOFTMAX, &LOG_SOFTMAX].contains(&def)
}

/// Does it along several axes?
pub(super) fn along_axes(def: &OpDef) -> bool {
    [&LAYER_NORM, &RMS_NORM].contains(&def)
}

/// Attributes, some of them others.
pub(super) fn with(
    attrs: &Attrs,
    others: impl IntoIterator<Item = (&'static str, Attr)>,
) -> Vec<(&'static str, Attr)> {
    attrs.iter().map(|(key, attr)| (key, attr.clone())).chain(others).collect()
}
