//! A kernel in steps: what a router needs of all rows is there before the first one is routed, a product is spread
//! over threads as it is anywhere before its rows are normalised, and large stages that share no axis follow each other.
//!
//! A step is a run of stages that share their outer axes; each ends before the next begins, and what it hands over lies in
//! memory. Any cut into runs gives the same numbers.

use std::collections::BTreeSet;
use std::ops::Range;

use ir::kernel::{Access, Kernel, KernelKind, Param, Stage, Stmt};

use super::{LOCAL_BYTES, Loops, loads_of, prefix, rows};
use crate::kernel::{has_fold, is_contraction};
use crate::target::Tiles;

/// The loops of the kernel, and the scratch parameters that it needs for them.
pub(super) fn loops(kernel: &Kernel, stages: &[Stage], tiles: &Tiles) -> (Vec<Stmt>, Vec<Param>) {
    let routes = kernel.kind == KernelKind::Route;
    let steps = match kernel.kind {
        KernelKind::Route => before_rows(stages),
        KernelKind::Matmul => after_products(stages),
        _ => with_common_axes(stages),
    };
    let mut kernel = kernel.clone();
    let handed_over = steps.iter().flat_map(|step| handed_over(&kernel, stages, step));
    let mut scratch: Vec<Param> = handed_over.collect();
    kernel.params.extend_from_slice(&scratch);
    let (mut body, mut accumulators) = (Vec::new(), 0);
    for step in steps {
        let (chooses, stages) = (step.end == stages.len(), &stages[step]);
        let blocks =
            routes.then(|| rows::loops(&kernel, stages, chooses, tiles, &mut accumulators)).flatten();
        let (step, more) = blocks.unwrap_or_else(|| Loops::of(&kernel, stages, &mut accumulators));
        body.extend(step);
        scratch.extend(more);
    }
    (body, scratch)
}

/// The last step is as long as it can be; those before it begin with a product, or where nothing else is shared.
fn before_rows(stages: &[Stage]) -> Vec<Range<usize>> {
    let last = (0..stages.len()).find(|&first| prefix(&stages[first..]) > 0).unwrap_or(0);
    let mut steps = Vec::new();
    let mut first = 0;
    while first < last {
        let shares = |end: &usize| !is_contraction(&stages[*end]) && prefix(&stages[first..=*end]) > 0;
        let end = first + 1 + (first + 1..last).take_while(shares).count();
        steps.push(first..end);
        first = end;
    }
    steps.push(last..stages.len());
    steps
}

/// A product and what takes its elements as they come; then what folds its rows.
fn after_products(stages: &[Stage]) -> Vec<Range<usize>> {
    let product = stages.iter().position(is_contraction);
    let folds = product.and_then(|product| {
        (product + 1..stages.len()).find(|&at| has_fold(&stages[at].body) && !is_contraction(&stages[at]))
    });
    let cut = folds.unwrap_or(stages.len());
    [0..cut, cut..stages.len()].into_iter().filter(|step| !step.is_empty()).collect()
}

/// What shares axes, each time as much as there is, where whole stages are too much for local arrays.
fn with_common_axes(stages: &[Stage]) -> Vec<Range<usize>> {
    let is_large = |stage: &Stage| {
        let bytes = stage.ty().bytes().as_const();
        bytes.is_none_or(|bytes| bytes > LOCAL_BYTES)
    };
    if prefix(stages) > 0 || !stages.iter().any(is_large) {
        return std::iter::once(0..stages.len()).collect();
    }
    let mut steps = Vec::new();
    let mut first = 0;
    while first < stages.len() {
        let shares = |end: &usize| {
            let step = &stages[first..=*end];
            prefix(step) > 0 || step.iter().all(|stage| stage.axes.is_empty())
        };
        let end = first + 1 + (first + 1..stages.len()).take_while(shares).count();
        steps.push(first..end);
        first = end;
    }
    steps
}

/// What later steps load of what this one computes, where it is no result.
fn handed_over(kernel: &Kernel, stages: &[Stage], step: &Range<usize>) -> Vec<Param> {
    let is_loaded = |stage: &&Stage| {
        stages[step.end..].iter().any(|user| loads_of(&user.body, &stage.name).next().is_some())
    };
    let params: BTreeSet<_> = kernel.params.iter().map(|param| &param.name).collect();
    let inside = stages[step.clone()].iter().filter(|stage| !params.contains(&stage.name));
    let scratch = |stage: &Stage| Param { name: stage.name.clone(), ty: stage.ty(), access: Access::Scratch };
    inside.filter(is_loaded).map(scratch).collect()
}
