//! Arrays that are others in a different shape: no data moves for them.

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::{Ranges, Symbol};
use ir::kernel::{Expr, ExprKind, KernelKind, Stage};
use ir::scalar::Binary;
use ir::types::strides;
use ir::{Dim, Origin};

use super::flat::{Flat, FlatStage, all_ranges, indices, load_dtype, position, ranges_of, reshaped};
use crate::kernel::has_fold;
use crate::lower::simplify;

impl Flat {
    /// Replaces every array that is another one in a different shape by that one.
    pub(super) fn resolve_views(&mut self) {
        for at in 0..self.stages.len() {
            if let Some(source) = self.view_of(at) {
                if self.is_better_as_viewed(at, &source) {
                    self.take_shape(at, &source);
                }
                self.replace_view(at, &source);
            }
        }
    }

    /// The array that stage `at` is a view of, if it can be replaced by it.
    fn view_of(&self, at: usize) -> Option<Symbol> {
        let FlatStage { stage, .. } = &self.stages[at];
        let ExprKind::Load { source, at: index, .. } = stage.body.kind() else { return None };
        let ranges = ranges_of(&stage.axes);
        let from = position(&indices(index)?, &self.load_shape(source)).simplify(&ranges);
        let own: Vec<Dim> = stage.axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let extents: Vec<Dim> = stage.axes.iter().map(|(_, extent)| extent.clone()).collect();
        let to = position(&own, &extents).simplify(&ranges);
        let same_size = self.shapes[source].iter().cloned().product::<Dim>() == extents.into_iter().product();
        if from != to || !same_size {
            return None;
        }
        // What must be stored takes the place of the array that it views, if that has none yet.
        if self.kept.contains_key(&stage.name) {
            self.find(source)?;
            return (!self.kept.contains_key(source)).then(|| source.clone());
        }
        Some(source.clone())
    }

    /// Is the array seen in the shape of this view alone, and should it have that shape itself? What follows a sum over
    /// experts (state, residual, norm) runs over the same axes then, and what experts read, over those of their router.
    fn is_better_as_viewed(&self, view: usize, source: &Symbol) -> bool {
        let Some(at) = self.find(source).filter(|_| !self.kept.contains_key(source)) else { return false };
        let alike = |&user: &usize| self.extents(user) == self.extents(view) && self.view_of(user).is_some();
        let serves_experts = self.sums_experts(at)
            || self.is_read_by_experts(&self.stages[view].stage.name) && self.comes_from_outside(at);
        serves_experts && self.users(source).iter().all(alike)
    }

    /// Is the stage a sum over experts, or computed element by element from one that nobody else sees?
    fn sums_experts(&self, at: usize) -> bool {
        let FlatStage { stage, kind, .. } = &self.stages[at];
        let goes_in = |from: usize| {
            let name = &self.stages[from].stage.name;
            !self.kept.contains_key(name) && self.users(name) == [at] && self.sums_experts(from)
        };
        let mut from = self.reads(at).into_iter().filter_map(|array| self.find(&array));
        *kind == KernelKind::Combine || !has_fold(&stage.body) && from.any(goes_in)
    }

    /// Do experts multiply with the array, perhaps in another shape?
    fn is_read_by_experts(&self, array: &Symbol) -> bool {
        self.users(array).into_iter().any(|user| {
            let FlatStage { stage, kind, .. } = &self.stages[user];
            *kind == KernelKind::GroupedMatmul
                || self.view_of(user).is_some() && self.is_read_by_experts(&stage.name)
        })
    }

    /// Is the stage computed element by element from what is not computed here?
    fn comes_from_outside(&self, at: usize) -> bool {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![at]);
        while let Some(at) = todo.pop() {
            let FlatStage { stage, bundle: None, whole: None, .. } = &self.stages[at] else { return false };
            if has_fold(&stage.body) {
                return false;
            }
            if seen.insert(at) {
                todo.extend(self.reads(at).iter().filter_map(|array| self.find(array)));
            }
        }
        true
    }

    /// Lets the array have the axes that its view has.
    fn take_shape(&mut self, view: usize, source: &Symbol) {
        if let Some(at) = self.find(source) {
            let (axes, shape) = (self.extents(view), self.shapes[&self.stages[view].stage.name].clone());
            self.give_axes(at, axes, shape);
        }
    }

    /// Lets what is computed element by element from a product with chosen matrices, seen in another shape, have the
    /// shape of the product: so it can join it.
    pub(super) fn follow_products(&mut self) {
        let mut products: BTreeSet<usize> = BTreeSet::new();
        for at in 0..self.stages.len() {
            let FlatStage { stage, kind, bundle: None, whole: None, .. } = &self.stages[at] else { continue };
            if self.is_gone(at) {
                continue;
            }
            if has_fold(&stage.body) {
                products.extend((*kind == KernelKind::GroupedMatmul).then_some(at));
                continue;
            }
            let sources = self.reads(at).into_iter().filter_map(|array| self.find(&array));
            let Some(product) = sources.filter(|p| products.contains(p)).find(|&p| self.follows(at, p))
            else {
                continue;
            };
            if self.extents(at) == self.extents(product) {
                products.insert(at);
            } else if !self.kept.contains_key(&stage.name) {
                let shape = self.shapes[&self.stages[product].stage.name].clone();
                self.give_axes(at, self.extents(product), shape);
                products.insert(at);
            }
        }
    }

    /// Does stage `at` load each element of `product` where its own is, as both lie in memory?
    fn follows(&self, at: usize, product: usize) -> bool {
        let stage = &self.stages[at].stage;
        let Stage { name, axes, .. } = &self.stages[product].stage;
        let size = |axes: &[(Symbol, Dim)]| axes.iter().map(|(_, extent)| extent.clone()).product::<Dim>();
        let ranges = ranges_of(&stage.axes);
        let own: Vec<Dim> = stage.axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let here = position(&own, &self.extents(at)).simplify(&ranges);
        let mut same = size(axes) == size(&stage.axes);
        stage.body.walk(&mut |e| {
            if let ExprKind::Load { source, at, .. } = e.kind()
                && source == name
            {
                let there = indices(at).map(|at| position(&at, &self.extents(product)).simplify(&ranges));
                same &= there.as_ref() == Some(&here);
            }
        });
        same
    }

    fn extents(&self, at: usize) -> Vec<Dim> {
        self.stages[at].stage.axes.iter().map(|(_, extent)| extent.clone()).collect()
    }

    /// Lets a stage run over axes of these extents, its elements lying in memory as they did; `shape` is the same with
    /// axes of extent 1.
    pub(super) fn give_axes(&mut self, at: usize, extents: Vec<Dim>, shape: Vec<Dim>) {
        let from = self.extents(at);
        let Stage { name, axes, body } = self.stages[at].stage.clone();
        let fresh = |number: usize| Symbol::new(format!("{name}a{number}"));
        let new: Vec<(Symbol, Dim)> = (0..).map(fresh).zip(extents.iter().cloned()).collect();
        let ranges = ranges_of(&new);
        let own: Vec<Dim> = new.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let index = reshaped(&from, &extents, &own, &ranges);
        let index: BTreeMap<&Symbol, &Expr> = axes.iter().map(|(axis, _)| axis).zip(&index).collect();
        let place = |axis: &Symbol| index.get(axis).and_then(|index| index.as_index()).cloned();
        let body = simplify(&body.substitute(&place), &ranges);
        self.set_body(at, body, &Origin::none());
        self.stages[at].stage.axes = new;
        self.shapes.insert(name.clone(), shape);
        self.users(&name).into_iter().for_each(|user| self.load_instead(user, &name, &from, &name));
    }

    fn replace_view(&mut self, at: usize, source: &Symbol) {
        let view = self.remove(at);
        if let Some(behind) = self.find(source) {
            let behind = &mut self.stages[behind];
            behind.origin = behind.origin.join(&view.origin);
            if let Some(place) = self.kept.remove(&view.stage.name) {
                self.kept.insert(source.clone(), place);
            }
        }
        let from: Vec<Dim> = view.stage.axes.iter().map(|(_, extent)| extent.clone()).collect();
        for user in self.users(&view.stage.name) {
            if self.stages[user].whole.is_some() {
                self.read_instead(user, &view, source);
            } else {
                self.load_instead(user, &view.stage.name, &from, source);
                self.stages[user].origin = view.origin.join(&self.stages[user].origin);
            }
        }
    }

    /// Lets a stage load `source` where it loads `array`, which has the shape `from` and the same elements.
    fn load_instead(&mut self, user: usize, array: &Symbol, from: &[Dim], source: &Symbol) {
        let to = self.load_shape(source);
        let stage = &self.stages[user].stage;
        let ranges = all_ranges(stage);
        let Some(dtype) = load_dtype(&stage.body, array) else { return };
        let body = stage.body.replace_loads(&mut |name, index| {
            if name != array {
                return None;
            }
            let index: Vec<Expr> = match indices(index) {
                Some(index) => reshaped(&to, from, &index, &ranges),
                None => reshaped_in_part(index, from, &to, &ranges),
            };
            Some(Expr::load(source.clone(), dtype, index))
        });
        self.set_body(user, body, &Origin::none());
    }

    /// Lets a kernel that stays as it is read `source` instead of a view of it: the elements lie in memory as they did.
    fn read_instead(&mut self, user: usize, view: &FlatStage, source: &Symbol) {
        self.forget_loads(user);
        let FlatStage { whole: Some(whole), origin, .. } = &mut self.stages[user] else { return };
        *origin = view.origin.join(origin);
        for array in whole.arrays.iter_mut().flatten().filter(|array| **array == view.stage.name) {
            *array = source.clone();
        }
        self.note_loads(user);
    }
}

/// As [`reshaped`], for an index that depends on data: along axes that both shapes end with, it stays as it is.
fn reshaped_in_part(at: &[Expr], from: &[Dim], to: &[Dim], ranges: &Ranges) -> Vec<Expr> {
    let same = from.iter().rev().zip(to.iter().rev()).take_while(|(a, b)| a == b).count();
    let ((at, rest), from) = (at.split_at(at.len() - same), &from[..from.len() - same]);
    let to = &to[..to.len() - same];
    let mut index = match indices(at) {
        Some(at) => reshaped(to, from, &at, ranges),
        None => reshaped_values(at, from, to),
    };
    index.extend_from_slice(rest);
    index
}

/// As [`reshaped`], for an index that depends on data.
fn reshaped_values(at: &[Expr], from: &[Dim], to: &[Dim]) -> Vec<Expr> {
    let position = at
        .iter()
        .zip(strides(from))
        .map(|(i, stride)| i.clone() * Expr::from(stride))
        .reduce(|a, b| a + b)
        .unwrap_or_else(|| Expr::from(Dim::constant(0)));
    let strides = strides(to);
    (0..to.len())
        .map(|axis| {
            let whole = Expr::binary(Binary::Div, position.clone(), Expr::from(&strides[axis]));
            if axis == 0 { whole } else { Expr::binary(Binary::Mod, whole, Expr::from(&to[axis])) }
        })
        .collect()
}
