//! A router takes in the product that makes its scores, and what makes the rows of that product.
//!
//! A row of scores is short: the product of a block of tokens stays at hand until their experts are chosen
//! (`to_loops::route`).

use std::collections::BTreeSet;

use ir::kernel::KernelKind;

use super::flat::Flat;
use super::group::{Group, reaches, shared_axes};
use crate::kernel::{has_fold, is_contraction, is_grouped};

/// Most scores in a row that are kept beside each other for a block of tokens.
const MOST_SCORES: i64 = 512;

/// The groups, and that of each stage, with routers that took in others.
pub(super) fn with_products(
    flat: &Flat,
    groups: Vec<Group>,
    of: Vec<usize>,
    producers: &[BTreeSet<usize>],
) -> (Vec<Group>, Vec<usize>) {
    let mut routers = Routers { flat, groups, of, producers };
    for router in 0..routers.groups.len() {
        if routers.is_router(router)
            && let Some(product) = routers.product_before(router)
        {
            routers.join(product, router);
            while let Some(rows) = routers.rows_before(router) {
                routers.join(rows, router);
            }
        }
    }
    routers.without_empty()
}

struct Routers<'a> {
    flat: &'a Flat,
    groups: Vec<Group>,
    of: Vec<usize>,
    producers: &'a [BTreeSet<usize>],
}

impl Routers<'_> {
    fn is_router(&self, group: usize) -> bool {
        self.groups[group].stages.iter().any(|&at| self.flat.stages[at].kind == KernelKind::Route)
    }

    /// The group of the product whose rows the router chooses from.
    fn product_before(&self, router: usize) -> Option<usize> {
        let makes_scores = |group: usize| {
            let mut products = self.groups[group].stages.iter().map(|&at| &self.flat.stages[at].stage);
            let product = products.clone().find(|stage| is_contraction(stage));
            let short = product.filter(|product| {
                let width = product.axes.last().and_then(|(_, extent)| extent.as_const());
                let rows = product.axes.len().checked_sub(1);
                rows == Some(self.groups[router].prefix)
                    && width.is_some_and(|width| width <= MOST_SCORES)
                    && !is_grouped(product)
            });
            short.is_some_and(|product| products.all(|stage| stage.axes.len() == product.axes.len()))
        };
        self.sources(router).into_iter().find(|&group| makes_scores(group) && self.can_join(group, router))
    }

    /// A group that computes, element by element, rows of what the router reads.
    fn rows_before(&self, router: usize) -> Option<usize> {
        let axes = self.groups[router].prefix + 1;
        let is_elementwise = |&at: &usize| {
            let stage = &self.flat.stages[at];
            stage.stage.axes.len() <= axes
                && stage.whole.is_none()
                && stage.bundle.is_none()
                && !stage.kind.lasts()
                && !has_fold(&stage.stage.body)
        };
        let makes_rows = |group: usize| self.groups[group].stages.iter().all(is_elementwise);
        self.sources(router).into_iter().find(|&group| makes_rows(group) && self.can_join(group, router))
    }

    /// The groups that a group reads from.
    fn sources(&self, group: usize) -> BTreeSet<usize> {
        let read = self.groups[group].stages.iter().flat_map(|&at| &self.producers[at]);
        read.map(|&at| self.of[at]).filter(|&source| source != group).collect()
    }

    /// Do the stages of both run over the router's rows, and hand over along them, with nothing else between?
    fn can_join(&self, source: usize, router: usize) -> bool {
        let stage = |&at: &usize| &self.flat.stages[at].stage;
        let rows = self.groups[router].prefix;
        let along_rows = self.groups[source].stages.iter().map(stage).all(|from| {
            self.groups[router].stages.iter().map(stage).all(|user| shared_axes(user, from) >= rows)
        });
        let read = self.groups[router].stages.iter().flat_map(|&at| &self.producers[at]);
        let mut others = read.filter(|&&at| ![source, router].contains(&self.of[at]));
        along_rows && !others.any(|&at| reaches(self.producers, &self.of, &self.groups, at, source))
    }

    fn join(&mut self, source: usize, router: usize) {
        let stages = std::mem::take(&mut self.groups[source].stages);
        stages.iter().for_each(|&at| self.of[at] = router);
        let all = &mut self.groups[router].stages;
        all.extend(stages);
        all.sort_unstable();
    }

    /// Closes the gaps that groups left which were taken in.
    fn without_empty(self) -> (Vec<Group>, Vec<usize>) {
        let (mut groups, mut place) = (Vec::new(), Vec::new());
        for group in self.groups {
            place.push(groups.len());
            if !group.stages.is_empty() {
                groups.push(group);
            }
        }
        (groups, self.of.into_iter().map(|group| place[group]).collect())
    }
}
