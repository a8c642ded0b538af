//! Groups stages that run over a common iteration space.
//!
//! A group has a *prefix*: so many leading axes that all its stages share, and along which every element handed over
//! inside the group stays in its iteration. One iteration of the prefix computes all stages of the group.

use std::collections::{BTreeMap, BTreeSet};

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{ExprKind, KernelKind, Stage};

use super::flat::{Flat, FlatStage};
use super::inline::TYPICAL;
use super::rows;
use crate::kernel::{has_fold, is_contraction};
use crate::lower::attention::{along, own};
use crate::lower::running::{Running, free_axes};

/// A group without a common axis runs in one thread; it may have at most so many elements.
const SERIAL_ELEMENTS: i64 = 4096;

/// What rows of running totals come to has at most so many elements.
const FEW_ELEMENTS: i64 = 16;

/// What is computed in a step before others has at most this part of their elements.
const SLIGHT: i64 = 8;

/// Stages that become one kernel.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Positions among the stages of the entry, in an order in which they can run.
    pub(super) stages: Vec<usize>,
    /// Number of leading axes that they share.
    pub(super) prefix: usize,
}

/// The groups, in an order in which they can run.
pub(super) fn group(flat: &mut Flat) -> Vec<Group> {
    let producers: Vec<BTreeSet<usize>> = (0..flat.stages.len())
        .map(|at| flat.reads(at).iter().filter_map(|name| flat.find(name)).collect())
        .collect();
    let mut groups: Vec<Group> = Vec::new();
    let mut of: Vec<usize> = Vec::with_capacity(flat.stages.len());
    for at in 0..flat.stages.len() {
        // An attention is one group from the start.
        if let Some(bundle) = flat.stages[at].bundle
            && let Some(first) = (0..at).find(|&other| flat.stages[other].bundle == Some(bundle))
        {
            groups[of[first]].stages.push(at);
            of.push(of[first]);
            continue;
        }
        // The latest producer first: it is the one whose elements are still at hand.
        let mut candidates: Vec<usize> = producers[at].iter().map(|&p| of[p]).collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates.dedup();
        // A product or convolution offers more than a row does.
        candidates.sort_by_key(|&g| !has_contraction(flat, &groups[g]));
        let joined = candidates.into_iter().find_map(|g| {
            let prefix = joint_prefix(flat, &groups[g], at)?;
            let through_others =
                producers[at].iter().any(|&p| of[p] != g && reaches(&producers, &of, &groups, p, g));
            (!through_others).then_some((g, prefix))
        });
        match joined {
            Some((g, prefix)) => {
                groups[g].stages.push(at);
                groups[g].prefix = prefix;
                of.push(g);
            }
            None => {
                of.push(groups.len());
                groups.push(Group { stages: vec![at], prefix: free_axes(&flat.stages[at].stage) });
            }
        }
    }
    slight_ones_first(flat, &mut groups, &mut of);
    let (groups, of) = rows::with_products(flat, groups, of, &producers);
    order(groups, &producers, &of)
}

/// What little is computed element by element, and loaded again and again by one group alone, is computed by that one, in
/// a step before its own.
fn slight_ones_first(flat: &Flat, groups: &mut [Group], of: &mut [usize]) {
    let open = |&member: &usize| {
        let FlatStage { stage, kind, bundle, whole, .. } = &flat.stages[member];
        let plain = !kind.lasts() || *kind == KernelKind::Scan;
        bundle.is_none() && whole.is_none() && plain && !is_contraction(stage)
    };
    let size = |&member: &usize| {
        let stage = &flat.stages[member].stage;
        let elements: Dim = stage.axes.iter().map(|(_, extent)| extent.clone()).product();
        elements.eval(&|_| Some(TYPICAL)).unwrap_or(i64::MAX)
    };
    for group in 0..groups.len() {
        let members = &groups[group].stages;
        let inside = |&member: &usize| {
            let FlatStage { stage, .. } = &flat.stages[member];
            open(&member) && !has_fold(&stage.body) && !flat.kept.contains_key(&stage.name)
        };
        let users = members.iter().flat_map(|&member| flat.users(&flat.stages[member].stage.name));
        let users: BTreeSet<usize> = users.map(|user| of[user]).filter(|&user| user != group).collect();
        let mut users = users.into_iter();
        let (Some(user), None) = (users.next(), users.next()) else { continue };
        let slight = members
            .iter()
            .map(size)
            .max()
            .is_some_and(|most| groups[user].stages.iter().any(|member| size(member) / SLIGHT >= most));
        if slight && members.iter().all(inside) && groups[user].stages.iter().all(open) {
            let members = std::mem::take(&mut groups[group].stages);
            members.iter().for_each(|&member| of[member] = user);
            groups[user].stages.splice(0..0, members);
            groups[user].prefix = 0;
        }
    }
}

fn has_contraction(flat: &Flat, group: &Group) -> bool {
    group.stages.iter().any(|&s| is_contraction(&flat.stages[s].stage))
}

/// The prefix that the group would have with stage `at`; `None` if it should not join.
fn joint_prefix(flat: &Flat, group: &Group, at: usize) -> Option<usize> {
    let stage = &flat.stages[at].stage;
    let stays = |at: usize| flat.stages[at].whole.is_some();
    if stays(at) || group.stages.iter().any(|&member| stays(member)) || is_contraction(stage) {
        return None;
    }
    if let Some(first) = group.stages.iter().find(|&&member| flat.stages[member].bundle.is_some()) {
        let bundle = flat.stages[*first].bundle;
        let joins = flat.stages[at].bundle.is_none() && follows_attention(flat, group, bundle, at);
        return joins.then_some(group.prefix);
    }
    let mut prefix = group.prefix.min(free_axes(stage));
    for &member in &group.stages {
        let other = &flat.stages[member].stage;
        prefix = prefix.min(shared_axes(stage, other));
    }
    if has_contraction(flat, group) {
        // What follows a product must take each element as it comes.
        let whole = prefix == group.prefix && prefix == stage.axes.len() && !has_fold(&stage.body);
        let combines = flat.stages[at].kind == KernelKind::Combine;
        return (whole && !combines).then_some(prefix);
    }
    // A router keeps its rows, and counts of its choices are not its business.
    let routes = group.stages.iter().any(|&member| flat.stages[member].kind == KernelKind::Route);
    if routes && (prefix < group.prefix || runs(stage)) {
        return None;
    }
    if prefix == 0 {
        // Rows of running totals come to a few numbers in the end: a last step of their kernel.
        let totals = group.stages.iter().any(|&member| runs(&flat.stages[member].stage));
        if totals && elements(stage).is_some_and(|n| n <= FEW_ELEMENTS) && !runs(stage) {
            return Some(0);
        }
        let members = group.stages.iter().map(|&s| &flat.stages[s].stage).chain([stage]);
        let small = |s: &Stage| elements(s).is_some_and(|n| n <= SERIAL_ELEMENTS);
        return members.into_iter().all(small).then_some(0);
    }
    Some(prefix)
}

/// Is the stage a running total?
fn runs(stage: &Stage) -> bool {
    Running::of(stage).is_some()
}

/// How many elements a stage has, if that is known.
fn elements(stage: &Stage) -> Option<i64> {
    stage.axes.iter().map(|(_, extent)| extent.clone()).product::<Dim>().as_const()
}

/// Does stage `at` take elements of an attention's result one by one, perhaps in another order of axes, or of what
/// follows it?
fn follows_attention(flat: &Flat, group: &Group, bundle: Option<usize>, at: usize) -> bool {
    let stage = &flat.stages[at].stage;
    let Some(result) = group.stages.iter().copied().filter(|&s| flat.stages[s].bundle == bundle).max() else {
        return false;
    };
    let mut known: BTreeMap<Symbol, Vec<Dim>> = BTreeMap::new();
    for member in group.stages.iter().copied().filter(|&member| member >= result) {
        let member = &flat.stages[member].stage;
        let axes = match known.is_empty() {
            true => Some(own(member)),
            false => along(member, &|source| known.get(source).cloned()),
        };
        let Some(axes) = axes else { return false };
        known.insert(member.name.clone(), axes);
    }
    let inside = group.stages.iter().copied().filter(|&member| member < result);
    let mut inner = inside.map(|member| &flat.stages[member].stage.name);
    let reads = flat.reads(at);
    let Some(axes) = along(stage, &|source| known.get(source).cloned()) else { return false };
    let result = &flat.stages[result].stage;
    let extent =
        |dim: &Dim| result.axes.iter().find(|(axis, _)| dim.as_symbol() == Some(axis)).map(|(_, e)| e);
    let whole = axes.len() == result.axes.len()
        && stage.axes.iter().zip(&axes).all(|((_, size), dim)| extent(dim) == Some(size));
    whole && !has_fold(&stage.body) && !inner.any(|name| reads.contains(name))
}

/// Number of leading axes of equal extent along which `user` loads `producer` element by element; all equal leading
/// axes if it does not load it.
fn shared_axes(user: &Stage, producer: &Stage) -> usize {
    let mut shared = user.axes.iter().zip(&producer.axes).take_while(|((_, a), (_, b))| a == b).count();
    user.body.walk(&mut |e| {
        if let ExprKind::Load { source, at, .. } = e.kind()
            && *source == producer.name
        {
            let own = at.iter().zip(&user.axes);
            let same = own.take_while(|(i, (axis, _))| i.as_index().and_then(Dim::as_symbol) == Some(axis));
            shared = shared.min(same.count());
        }
    });
    shared
}

/// Does stage `from` depend on a stage of group `target` through stages of other groups? A group runs as a whole, so
/// all members of a group on the way count.
pub(super) fn reaches(
    producers: &[BTreeSet<usize>],
    of: &[usize],
    groups: &[Group],
    from: usize,
    target: usize,
) -> bool {
    let Some(&first) = groups[target].stages.iter().min() else { return false };
    let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
    while let Some(stage) = todo.pop() {
        let group = of[stage];
        if group == target {
            return true;
        }
        // What stands before the target cannot depend on it.
        let stages = &groups[group].stages;
        if stages.iter().any(|&stage| stage > first) && seen.insert(group) {
            todo.extend(stages.iter().flat_map(|&stage| &producers[stage]));
        }
    }
    false
}

/// The groups sorted so that each comes after those that it depends on; among those that could run, the one with
/// the earliest stage comes first.
fn order(groups: Vec<Group>, producers: &[BTreeSet<usize>], of: &[usize]) -> Vec<Group> {
    let mut needs: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); groups.len()];
    let mut users: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); groups.len()];
    for (stage, sources) in producers.iter().enumerate() {
        for &source in sources {
            if of[source] != of[stage] {
                needs[of[stage]].insert(of[source]);
                users[of[source]].insert(of[stage]);
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..groups.len()).filter(|&g| needs[g].is_empty()).collect();
    let mut sorted = Vec::with_capacity(groups.len());
    while let Some(next) = ready.pop_first() {
        sorted.push(groups[next].clone());
        for &user in &users[next] {
            needs[user].remove(&next);
            if needs[user].is_empty() {
                ready.insert(user);
            }
        }
    }
    assert_eq!(sorted.len(), groups.len(), "bug: groups depend on each other in a circle");
    sorted
}
