//! What goes through rows takes in the product that makes them.
//!
//! A norm or softmax over narrow rows takes in the product before it, as a step that ends before rows are normalised: they
//! are still near then. A router takes in the product that makes its scores,
//! what makes the rows of that product (sums, a norm), and the product before those. A row of scores is short, and so is
//! one of what they are made of: the products of a block of rows stay at hand until they are used (`to_loops::rows`).
//! Rows that lie along several axes are counted by one.
//!
//! Where scores depend on statistics of all tokens (of the clusters of a router with adaptive weights), these are steps
//! that end before rows are routed, and so is what makes the rows that they are statistics of (`to_loops::steps`).

use std::collections::{BTreeSet, VecDeque};

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::operand::{even, linear};
use ir::kernel::{Expr, ExprKind, KernelKind};

use super::flat::{Flat, FlatStage, all_ranges, indices, position};
use super::group::{Group, reaches};
use crate::kernel::{has_fold, is_contraction, is_grouped};

/// Most columns of a product whose rows are kept beside each other.
const MOST_COLUMNS: i64 = 512;

/// A product of fewer rows than this is spread over its columns instead, by a kernel of its own.
const FEW_ROWS: i64 = 16;

/// The groups, and that of each stage, with routers and norms that took in others.
pub(super) fn with_products(
    flat: &mut Flat,
    groups: Vec<Group>,
    of: Vec<usize>,
    producers: &[BTreeSet<usize>],
) -> (Vec<Group>, Vec<usize>) {
    let mut rows = Rows { flat, groups, of, producers };
    for router in 0..rows.groups.len() {
        if rows.is_router(router) {
            rows.lead_to(router);
        }
    }
    for norm in 0..rows.groups.len() {
        if rows.is_norm(norm)
            && let Some(product) = rows.product_before(norm)
        {
            rows.join(&product, norm);
        }
    }
    rows.without_empty()
}

struct Rows<'a> {
    flat: &'a mut Flat,
    groups: Vec<Group>,
    of: Vec<usize>,
    producers: &'a [BTreeSet<usize>],
}

/// A group that can join another, and how many of its leading axes are that one's rows.
struct Source {
    group: usize,
    rows: usize,
}

impl Rows<'_> {
    fn is_router(&self, group: usize) -> bool {
        self.groups[group].stages.iter().any(|&at| self.flat.stages[at].kind == KernelKind::Route)
    }

    /// Is it something that folds rows and goes through them, but makes no choice: a norm, a softmax?
    fn is_norm(&self, group: usize) -> bool {
        let Group { stages, prefix } = &self.groups[group];
        let of_rows = |&at: &usize| {
            let FlatStage { stage, kind, bundle, whole, .. } = &self.flat.stages[at];
            let open = bundle.is_none() && whole.is_none() && !kind.lasts();
            open && !is_contraction(stage) && stage.axes.len() <= prefix + 1
        };
        let folds = |&at: &usize| {
            let stage = &self.flat.stages[at].stage;
            stage.axes.len() == *prefix && has_fold(&stage.body)
        };
        let goes_through = |&at: &usize| self.flat.stages[at].stage.axes.len() == prefix + 1;
        stages.iter().all(of_rows) && stages.iter().any(folds) && stages.iter().any(goes_through)
    }

    /// Takes into a router what leads to its scores.
    fn lead_to(&mut self, router: usize) {
        let Some(scores) = self.product_before(router) else { return };
        self.join(&scores, router);
        self.take_rows(router);
        let mut steps = VecDeque::from([router]);
        while let Some(step) = self.statistic_before(&steps, router) {
            if self.groups[step].prefix == 0 && self.groups[step].stages.len() > 1 {
                self.part(step);
            } else {
                steps.push_front(step);
            }
            self.take_rows(router);
        }
        if steps.len() == 1 {
            self.take_product(router);
            return;
        }
        if let Some(Source { group, rows }) = self.rows_before_all(&steps, router) {
            self.count_rows_by_one(group, rows);
            self.take_product(group);
            steps.push_front(group);
        }
        self.join_steps(&steps, router);
    }

    /// Joins what makes the group's rows.
    fn take_rows(&mut self, group: usize) {
        while let Some(rows) = self.rows_before(group) {
            self.join(&rows, group);
        }
    }

    /// Joins the product before the group, if there are rows enough.
    fn take_product(&mut self, group: usize) {
        let many = self.number_of_rows(group).as_const().is_none_or(|rows| rows >= FEW_ROWS);
        if let Some(product) = self.product_before(group).filter(|_| many) {
            self.join(&product, group);
        }
    }

    /// A product that makes rows of what the group reads.
    fn product_before(&self, user: usize) -> Option<Source> {
        let makes_rows = |source: &Source| {
            let mut stages = self.groups[source.group].stages.iter().map(|&at| &self.flat.stages[at]);
            stages.clone().any(|FlatStage { stage, .. }| is_contraction(stage))
                && stages.all(|FlatStage { stage, kind, .. }| {
                    let width = stage.axes.last().and_then(|(_, extent)| extent.as_const());
                    stage.axes.len() == source.rows + 1
                        && width.is_some_and(|width| width <= MOST_COLUMNS)
                        && (!kind.lasts() || *kind == KernelKind::Matmul)
                        && !is_grouped(stage)
                })
        };
        self.source(user, &makes_rows)
    }

    /// A group that computes, row by row, what the group reads.
    fn rows_before(&self, user: usize) -> Option<Source> {
        self.source(user, &|source| self.makes_rows(source))
    }

    fn makes_rows(&self, source: &Source) -> bool {
        self.groups[source.group].stages.iter().all(|&at| {
            let FlatStage { stage, kind, .. } = &self.flat.stages[at];
            !kind.lasts() && stage.axes.len() <= source.rows + 1 && !is_contraction(stage)
        })
    }

    /// A group that computes, for these alone, what a row of the router may need of all rows.
    fn statistic_before(&self, steps: &VecDeque<usize>, router: usize) -> Option<usize> {
        let is_statistic = |group: usize| {
            let along_rows = self.rows_along(group, router).is_some();
            self.groups[group].stages.iter().all(|&at| {
                let FlatStage { stage, kind, bundle, whole, .. } = &self.flat.stages[at];
                let open = bundle.is_none() && whole.is_none();
                let kept = kind.lasts() && *kind != KernelKind::Matmul;
                open && !kept && (!is_contraction(stage) || !along_rows && !is_grouped(stage))
            })
        };
        let known = |at: &usize| steps.contains(&self.of[*at]);
        let for_these_alone = |group: usize| {
            self.groups[group].stages.iter().all(|&at| {
                let name = &self.flat.stages[at].stage.name;
                let users = self.flat.users(name);
                !self.flat.kept.contains_key(name)
                    && users.iter().all(|user| known(user) || self.of[*user] == group)
            })
        };
        let sources: BTreeSet<usize> = steps.iter().flat_map(|&step| self.sources(step)).collect();
        let mut others = sources.into_iter().filter(|source| !steps.contains(source));
        others.find(|&source| for_these_alone(source) && is_statistic(source))
    }

    /// A group that makes the rows of the router, which these steps read, too.
    fn rows_before_all(&self, steps: &VecDeque<usize>, router: usize) -> Option<Source> {
        let comes_first = |source: &Source| {
            let members = steps.iter().flat_map(|&step| &self.groups[step].stages);
            let mut others = members
                .flat_map(|&at| &self.producers[at])
                .filter(|&&at| self.of[at] != source.group && !steps.contains(&self.of[at]));
            !others.any(|&at| reaches(self.producers, &self.of, &self.groups, at, source.group))
        };
        let mut groups = self.sources(router).into_iter().filter(|source| !steps.contains(source));
        groups.find_map(|group| {
            let source = Source { group, rows: self.rows_along(group, router)? };
            (self.makes_rows(&source) && comes_first(&source)).then_some(source)
        })
    }

    /// A group of this sort that the group reads from and can take in.
    fn source(&self, user: usize, sort: &dyn Fn(&Source) -> bool) -> Option<Source> {
        self.sources(user).into_iter().find_map(|group| {
            let source = Source { group, rows: self.rows_along(group, user)? };
            (sort(&source) && self.can_join(&source, user)).then_some(source)
        })
    }

    /// The groups that a group reads from.
    fn sources(&self, group: usize) -> BTreeSet<usize> {
        let read = self.groups[group].stages.iter().flat_map(|&at| &self.producers[at]);
        read.map(|&at| self.of[at]).filter(|&source| source != group).collect()
    }

    fn number_of_rows(&self, group: usize) -> Dim {
        let Group { stages, prefix } = &self.groups[group];
        extent_of(&self.flat.stages[stages[0]].stage.axes[..*prefix])
    }

    /// So many leading axes of the source hold the group's rows, if it hands over along them.
    fn rows_along(&self, source: usize, user: usize) -> Option<usize> {
        let Group { stages, prefix } = &self.groups[source];
        let opaque =
            |&at: &usize| self.flat.stages[at].whole.is_some() || self.flat.stages[at].bundle.is_some();
        if stages.iter().any(opaque) {
            return None;
        }
        let (first, number) = (&self.flat.stages[stages[0]].stage, self.number_of_rows(user));
        let rows = (0..=*prefix).find(|&rows| extent_of(&first.axes[..rows]) == number)?;
        let along = |&at: &usize| self.loads_along(at, user, &first.axes[..rows], source);
        self.groups[user].stages.iter().all(along).then_some(rows)
    }

    /// Does a stage of the group load, of what the source computes over these rows, those of its own row?
    fn loads_along(&self, at: usize, user: usize, rows: &[(Symbol, Dim)], source: usize) -> bool {
        let stage = &self.flat.stages[at].stage;
        let ranges = all_ranges(stage);
        let row = |at: &[Dim], axes: &[(Symbol, Dim)]| {
            let shape: Vec<Dim> = axes.iter().map(|(_, extent)| extent.clone()).collect();
            position(at, &shape).simplify(&ranges)
        };
        let axes = &stage.axes[..self.groups[user].prefix];
        let own: Vec<Dim> = axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let own = row(&own, axes);
        let from = |array: &Symbol| self.flat.find(array).is_some_and(|at| self.of[at] == source);
        all_loads(&stage.body, &mut |array, at| {
            !from(array) || at.get(..rows.len()).and_then(indices).is_some_and(|at| row(&at, rows) == own)
        })
    }

    /// Do both have their rows along one axis, or can they have, with nothing else between them?
    fn can_join(&self, source: &Source, user: usize) -> bool {
        let read = self.groups[user].stages.iter().flat_map(|&at| &self.producers[at]);
        let mut others = read.filter(|&&at| ![source.group, user].contains(&self.of[at]));
        let evenly = |group: usize, rows: usize| {
            self.groups[group].stages.iter().all(|&at| rows <= 1 || self.rows_lie_evenly(at, rows))
        };
        evenly(source.group, source.rows)
            && evenly(user, self.groups[user].prefix)
            && !others.any(|&at| reaches(self.producers, &self.of, &self.groups, at, source.group))
    }

    /// Does a product find what it reads for one row as far from that for the row before, whatever axes count rows?
    fn rows_lie_evenly(&self, at: usize, rows: usize) -> bool {
        let stage = &self.flat.stages[at].stage;
        let (rows, ranges) = (&stage.axes[..rows], all_ranges(stage));
        !is_contraction(stage)
            || all_loads(&stage.body, &mut |array, at| {
                let at = indices(at).map(|at| position(&at, &self.flat.load_shape(array)).simplify(&ranges));
                let strides = at.and_then(|at| linear(&at, rows));
                strides.is_some_and(|(strides, _)| even(rows, &strides).is_some())
            })
    }

    fn join(&mut self, source: &Source, user: usize) {
        self.count_rows_by_one(source.group, source.rows);
        self.count_rows_by_one(user, self.groups[user].prefix);
        let stages = std::mem::take(&mut self.groups[source.group].stages);
        stages.iter().for_each(|&at| self.of[at] = user);
        let all = &mut self.groups[user].stages;
        all.extend(stages);
        all.sort_unstable();
    }

    /// Every stage of a group becomes a group of its own.
    fn part(&mut self, group: usize) {
        for at in self.groups[group].stages.split_off(1) {
            self.of[at] = self.groups.len();
            let prefix = self.flat.stages[at].stage.axes.len();
            self.groups.push(Group { stages: vec![at], prefix });
        }
        let first = &mut self.groups[group];
        first.prefix = self.flat.stages[first.stages[0]].stage.axes.len();
    }

    /// Makes one group of steps, each of which ends before the next begins. The last one is the router.
    fn join_steps(&mut self, steps: &VecDeque<usize>, router: usize) {
        let stages: Vec<usize> =
            steps.iter().flat_map(|&step| std::mem::take(&mut self.groups[step].stages)).collect();
        stages.iter().for_each(|&at| self.of[at] = router);
        self.groups[router] = Group { stages, prefix: 0 };
    }

    /// Lets the stages of a group have one axis instead of so many leading ones.
    fn count_rows_by_one(&mut self, group: usize, rows: usize) {
        if rows <= 1 {
            return;
        }
        for &at in &self.groups[group].stages {
            let (row, rest) = self.flat.stages[at].stage.axes.split_at(rows);
            let rest = rest.iter().map(|(_, extent)| extent.clone());
            let extents: Vec<Dim> = [extent_of(row)].into_iter().chain(rest).collect();
            self.flat.give_axes(at, extents.clone(), extents);
        }
        self.groups[group].prefix -= rows - 1;
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

/// How many iterations these axes have together.
fn extent_of(axes: &[(Symbol, Dim)]) -> Dim {
    axes.iter().map(|(_, extent)| extent.clone()).product()
}

/// Does this hold for every load, of its array and index?
fn all_loads(body: &Expr, holds: &mut dyn FnMut(&Symbol, &[Expr]) -> bool) -> bool {
    !body.any(&mut |e| match e.kind() {
        ExprKind::Load { source, at, .. } => !holds(source, at),
        _ => false,
    })
}
