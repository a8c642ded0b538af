//! Keys in parts: those whose keys or values come from several arrays, one behind the other. No array of all of them is
//! made: the tiles of a part read its own.

use ir::Dim;
use ir::dim::{Ranges, Symbol};
use ir::kernel::{Expr, Stage};

use crate::lower::attention::{Attention, sum_of_products};
use crate::lower::boundaries::{boundaries, inside};
use crate::lower::simplify;

/// Keys of one origin. The axis of keys counts from the first of them.
pub(super) struct Part {
    /// How many there are.
    pub(super) keys: Dim,
    /// Queries and keys, over the axes of scores.
    pub(super) factors: [Expr; 2],
    /// What becomes of a score, over the axes of its stage.
    pub(super) becomes: Expr,
    /// The values, over the axes of the sum and its fold.
    pub(super) value: Expr,
}

/// The parts, in groups of those with the same values: their weights can be added up before these are multiplied.
pub(super) fn parts(stages: &[Stage], roles: &Attention, becomes: &Expr) -> Vec<Vec<Part>> {
    let (scores, scored, sum) = (&stages[roles.scores], &stages[roles.scored], &stages[roles.sum]);
    let (_, factors) = sum_of_products(scores).expect("bug: scores are sums of products");
    let (fold, [_, value]) = sum_of_products(sum).expect("bug: the result is a sum of products");
    let last = |stage: &Stage| stage.axes.last().expect("bug: scores have an axis of keys").clone();
    let (key, keys) = last(scores);
    let mut cuts = vec![Dim::constant(0)];
    let at = [boundaries(factors[1], &key), boundaries(value, &fold.axis)];
    if let [Some(of_keys), Some(of_values)] = at
        && let Some(places) = inside(of_keys.into_iter().chain(of_values), &keys)
    {
        cuts.extend(places);
    }
    let ends = cuts.iter().skip(1).chain([&keys]);
    let mut groups: Vec<Vec<Part>> = Vec::new();
    for (from, end) in cuts.iter().zip(ends) {
        let keys = end.clone() - from.clone();
        let of_part = |e: &Expr, axis: &Symbol| {
            let mut ranges = Ranges::new();
            ranges.enter(axis.clone(), keys.clone());
            let place = from.clone() + Dim::from(axis);
            simplify(&e.substitute(&|symbol| (symbol == axis).then(|| place.clone())), &ranges)
        };
        let part = Part {
            factors: factors.map(|e| of_part(e, &key)),
            becomes: of_part(becomes, &last(scored).0),
            value: of_part(value, &fold.axis),
            keys,
        };
        match groups.iter_mut().find(|group| group[0].keys == part.keys && group[0].value == part.value) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    groups
}
