//! Closed forms on lines: what it costs to move signed masses along a line, and along all lines of trees.

use ir::Dim;
use ir::graph::Value;
use ops::math::min::MIN;

use crate::net::{Built, Net};

impl Net<'_> {
    /// Transport along lines that all start in their root, which has coordinate 0 (section 1): of coordinates `c` and
    /// signed masses, `[L, k, N]`, gives `[L, k]`. After sorting along a line, with prefix sums `F` and their total `T`,
    /// an edge costs its length times `|F|ᵖ` on the side below the root, and `|T − F|ᵖ` above it. No point is put in
    /// where the root is: with `c⁻ = min(c, 0)` and `c⁺ = max(c, 0)`, the cost is
    ///
    /// `Σ_j (c⁻_{j+1} − c⁻_j) |F_j|ᵖ + (c⁺_{j+1} − c⁺_j) |T − F_j|ᵖ  +  |T|ᵖ (c⁺_first − c⁻_last)`.
    pub(super) fn rooted_cost(&mut self, coordinates: Value, masses: Value, p: f64) -> Built<Value> {
        let [sorted, places] = self.sorted(coordinates)?;
        let masses = self.gather_along(masses, places)?;
        let prefix = self.cumsum(masses, -1, [false, false])?;
        let last = self.size(prefix, -1) - Dim::constant(1);
        let total = self.slice(prefix, -1, last.clone(), 1usize)?;
        let before = self.but_last(prefix)?;

        let zero = self.scalar(0.0);
        let below = self.op(&MIN, &[sorted, zero], [])?;
        let above = self.max(sorted, zero)?;
        let (to_below, to_above) = (self.steps(below)?, self.steps(above)?);
        let after = self.sub(total, before)?;
        let below_costs = self.weighted(to_below, before, p)?;
        let above_costs = self.weighted(to_above, after, p)?;
        let edges = self.add(below_costs, above_costs)?;
        let edges = self.total_of(edges)?;

        let (first, end) = (self.slice(sorted, -1, 0usize, 1usize)?, self.slice(sorted, -1, last, 1usize)?);
        let (first, end) = (self.max(first, zero)?, self.op(&MIN, &[end, zero], [])?);
        let to_root = self.sub(first, end)?;
        let rest = self.weighted(to_root, total, p)?;
        let rest = self.squeeze(rest, -1)?;
        self.add(edges, rest)
    }

    /// Transport along lines on which masses sum to 0, so that roots do not matter: `Σ_j (c_{j+1} − c_j) |F_j|ᵖ`. Here the
    /// signed masses `[N]` are the same for all lines `c: [L, k, N]`: gives `[L, k]`.
    pub(super) fn balanced_cost(&mut self, coordinates: Value, masses: Value, p: f64) -> Built<Value> {
        let [sorted, places] = self.sorted(coordinates)?;
        let masses = self.gather(masses, places)?;
        let prefix = self.cumsum(masses, -1, [false, false])?;
        let (before, steps) = (self.but_last(prefix)?, self.steps(sorted)?);
        let edges = self.weighted(steps, before, p)?;
        self.total_of(edges)
    }

    /// `length · |mass|ᵖ`.
    pub(super) fn weighted(&mut self, length: Value, mass: Value, p: f64) -> Built<Value> {
        let mass = self.abs(mass)?;
        let mass = self.power(mass, p)?;
        self.mul(length, mass)
    }

    /// The sum along the last axis, which goes.
    pub(super) fn total_of(&mut self, x: Value) -> Built<Value> {
        self.reduced(&ops::reduce::reduce_sum::REDUCE_SUM, x, &[-1], false)
    }
}
