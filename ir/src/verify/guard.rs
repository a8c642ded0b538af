//! What follows from ranges and from the conditions around: a little more than [`Ranges`] knows alone.
//!
//! Incomplete on purpose: a few substitutions are tried, no system of inequalities is solved. `false` also means
//! "not proved".

use crate::dim::{Dim, Ranges, Symbol};

/// Is `dim` ≥ 0 where all `facts` are? `facts` may be used `depth` times.
///
/// From `axis + r ≥ 0` follows `axis = t − r` for some `t` in `0..extent + r`, and from `r − axis ≥ 0`, that
/// `axis = r − t` for some `t` in `0..r + 1`. Both are put in, also inside quotients, and the axis now stands for `t`.
pub(super) fn nonnegative(ranges: &Ranges, facts: &[Dim], dim: &Dim, depth: usize) -> bool {
    if ranges.is_nonnegative(dim) || ranges.follows(facts, dim) {
        return true;
    }
    if depth == 0 {
        return false;
    }
    facts.iter().enumerate().any(|(at, fact)| {
        let mut axes: Vec<Symbol> = Vec::new();
        fact.for_each_symbol(&mut |symbol| {
            if ranges.extent(symbol).is_some() && dim.mentions(symbol) && !axes.contains(symbol) {
                axes.push(symbol.clone());
            }
        });
        axes.iter().any(|axis| {
            let Some((scale, rest)) = fact.linear_in(axis) else { return false };
            let Some(extent) = ranges.extent(axis) else { return false };
            let (value, extent) = match scale.as_const() {
                Some(1) => (Dim::from(axis) - rest.clone(), extent.clone() + rest),
                Some(-1) => (rest.clone() - Dim::from(axis), rest + Dim::constant(1)),
                _ => return false,
            };
            // The extents of other axes keep their meaning only if they do not speak of this one.
            let mut bound = extent.mentions(axis);
            for dim in facts.iter().chain([dim]) {
                dim.for_each_symbol(&mut |other| {
                    bound |=
                        other != axis && ranges.extent(other).is_some_and(|extent| extent.mentions(axis));
                });
            }
            if bound {
                return false;
            }
            let put = |dim: &Dim| dim.substitute(&|symbol| (symbol == axis).then(|| value.clone()));
            let mut narrowed = ranges.clone();
            narrowed.enter(axis.clone(), extent);
            let others: Vec<Dim> = (0..facts.len()).filter(|i| *i != at).map(|i| put(&facts[i])).collect();
            nonnegative(&narrowed, &others, &put(dim), depth - 1)
        })
    })
}
