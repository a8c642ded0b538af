//! What is said against an access that is not proved in range: a place where it is not.
//!
//! Ranges of symbolic sizes are not decidable in general, and [`nonnegative`](super::guard) tries a few steps only.
//! Where it finds no proof, small sizes are tried: an access that leaves its array leaves it there already, at the
//! ends of its loops. What is neither proved nor refuted passes.

use std::collections::{BTreeMap, BTreeSet};

use crate::dim::{Dim, Ranges, Symbol};

/// Sizes to try, the most telling first; how many of them depends on how many sizes there are.
const SIZES: [i64; 7] = [1, 5, 2, 8, 3, 0, 4];

/// At most so many combinations of sizes, and so many points of the loops for each.
const COMBINATIONS: usize = 256;
const POINTS: usize = 512;

/// Sizes times combinations, at most: of many sizes, only a few differ from combination to combination.
const TRIED_SIZES: usize = 4096;

type Values = BTreeMap<Symbol, i64>;

/// Is there a place, inside the loops of `ranges` and where all `facts` are ≥ 0, at which `index` is not in `0..size`?
///
/// Only a few places are tried. `false` also means "not found".
pub(super) fn leaves(ranges: &Ranges, facts: &[Dim], index: &Dim, size: &Dim) -> bool {
    let (symbols, facts) = concerned(ranges, facts, [index, size]);
    let (axes, sizes): (Vec<Symbol>, Vec<Symbol>) =
        symbols.into_iter().partition(|symbol| ranges.extent(symbol).is_some());
    let place = Place { ranges, facts: &facts, index, size, axes: &ordered(ranges, axes) };
    let tried = &SIZES[..choices(sizes.len(), COMBINATIONS).min(SIZES.len())];
    let most = COMBINATIONS.min(TRIED_SIZES / sizes.len().max(1)).max(1);
    let combinations = tried.len().saturating_pow(sizes.len() as u32).min(most);
    (0..combinations).any(|mut combination| {
        let mut values = Values::new();
        for size in &sizes {
            values.insert(size.clone(), tried[combination % tried.len()]);
            combination /= tried.len();
        }
        place.reached(&values) && place.leaves(&mut values, 0)
    })
}

struct Place<'a> {
    ranges: &'a Ranges,
    facts: &'a [&'a Dim],
    index: &'a Dim,
    size: &'a Dim,
    /// An axis stands after those that its extent speaks of.
    axes: &'a [Symbol],
}

impl Place<'_> {
    /// Do all loops around that depend on sizes alone run at least once?
    fn reached(&self, values: &Values) -> bool {
        self.ranges.axes().all(|(_, extent)| value(extent, values).is_none_or(|extent| extent > 0))
    }

    /// Does the index leave at one of the points tried, from the axis `at` inwards?
    fn leaves(&self, values: &mut Values, at: usize) -> bool {
        let Some(axis) = self.axes.get(at) else { return self.is_outside(values) };
        let extent = self.ranges.extent(axis).and_then(|extent| value(extent, values)).unwrap_or(0);
        let found = ends(extent, choices(self.axes.len(), POINTS)).into_iter().any(|point| {
            values.insert(axis.clone(), point);
            self.leaves(values, at + 1)
        });
        values.remove(axis);
        found
    }

    fn is_outside(&self, values: &Values) -> bool {
        let holds = |fact: &&Dim| value(fact, values).is_some_and(|fact| fact >= 0);
        let (Some(index), Some(size)) = (value(self.index, values), value(self.size, values)) else {
            return false;
        };
        !(0..size).contains(&index) && self.facts.iter().all(holds)
    }
}

fn value(dim: &Dim, values: &Values) -> Option<i64> {
    dim.eval(&|symbol| values.get(symbol).copied())
}

/// The symbols that decide about `dims`, and the facts that speak of them.
fn concerned<'a>(ranges: &Ranges, facts: &'a [Dim], dims: [&Dim; 2]) -> (BTreeSet<Symbol>, Vec<&'a Dim>) {
    let mut symbols = BTreeSet::new();
    let add = |dim: &Dim, symbols: &mut BTreeSet<Symbol>| {
        dim.for_each_symbol(&mut |symbol| {
            symbols.insert(symbol.clone());
        });
    };
    dims.into_iter().for_each(|dim| add(dim, &mut symbols));
    loop {
        let before = symbols.clone();
        let speaks = |fact: &&Dim| before.iter().any(|symbol| fact.mentions(symbol));
        before.iter().filter_map(|symbol| ranges.extent(symbol)).for_each(|extent| add(extent, &mut symbols));
        facts.iter().filter(speaks).for_each(|fact| add(fact, &mut symbols));
        if symbols == before {
            return (symbols, facts.iter().filter(speaks).collect());
        }
    }
}

/// The axes, each after those that its extent speaks of.
fn ordered(ranges: &Ranges, mut axes: Vec<Symbol>) -> Vec<Symbol> {
    let mut ordered = Vec::with_capacity(axes.len());
    while !axes.is_empty() {
        let free = |axis: &Symbol| {
            let extent = ranges.extent(axis);
            extent.is_none_or(|extent| !axes.iter().any(|other| other != axis && extent.mentions(other)))
        };
        let next = axes.iter().position(free).unwrap_or(0);
        ordered.push(axes.remove(next));
    }
    ordered
}

/// The largest number of choices for each of `count` things that keeps all combinations within `limit`: at least 2.
fn choices(count: usize, limit: usize) -> usize {
    let within = |choices: &usize| choices.checked_pow(count as u32).is_some_and(|all| all <= limit);
    (2..=limit).take_while(within).last().unwrap_or(2)
}

/// `count` points of `0..extent`, from both ends in turn.
fn ends(extent: i64, count: usize) -> Vec<i64> {
    let count = i64::try_from(count).unwrap_or(i64::MAX).min(extent.max(0));
    (0..count).map(|i| if i % 2 == 0 { i / 2 } else { extent - 1 - i / 2 }).collect()
}
