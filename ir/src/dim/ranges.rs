//! What is known about symbols, and what follows for expressions over them.
//!
//! A proof that something is not negative is sound and not complete: "no" means "not proved". Everything the compiler
//! asks comes down to this one question: is an access in range, does a quotient vanish, which size is the larger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Atom, Dim, Symbol, combine};

/// What is known about symbols: loop axes lie in `0..extent`, sizes that bound a running loop are at least 1.
#[derive(Debug, Clone, Default)]
pub struct Ranges {
    /// Axis to extent.
    axes: BTreeMap<Symbol, Dim>,
    /// Sizes that some enclosing loop runs over: at least one.
    positive: BTreeSet<Symbol>,
}

impl Ranges {
    /// Nothing is known but that symbols are not negative.
    pub fn new() -> Ranges {
        Ranges::default()
    }

    /// Inside a loop of `axis` over `0..extent`.
    pub fn enter(&mut self, axis: Symbol, extent: Dim) {
        if let Some(size) = extent.as_symbol() {
            self.positive.insert(size.clone());
        }
        self.axes.insert(axis, extent);
    }

    /// The extent of `axis`, if it is one.
    pub fn extent(&self, axis: &Symbol) -> Option<&Dim> {
        self.axes.get(axis)
    }

    /// Is `dim` ≥ 0 for all values in range? `false` also means "not proved".
    pub fn is_nonnegative(&self, dim: &Dim) -> bool {
        self.nonnegative(dim, 4)
    }

    fn nonnegative(&self, dim: &Dim, depth: usize) -> bool {
        if self.obviously_nonnegative(dim) {
            return true;
        }
        if depth == 0 {
            return false;
        }
        // An axis with a negative coefficient is at most its extent − 1, one with a positive at least 0.
        // Axes whose extent depends on others go first.
        let mut axes: Vec<Symbol> = Vec::new();
        dim.for_each_symbol(&mut |s| {
            if self.axes.contains_key(s) && !axes.contains(s) && dim.linear_in(s).is_some() {
                axes.push(s.clone());
            }
        });
        let inner = |axis: &&Symbol| !axes.iter().any(|other| self.axes[other].mentions(axis));
        let axis = axes.iter().find(inner).cloned();
        if let Some(axis) = axis {
            let (scale, offset) = dim.linear_in(&axis).expect("just checked");
            let top = self.axes[&axis].clone() - Dim::constant(1);
            if self.nonnegative(&scale, depth - 1) && self.nonnegative(&offset, depth) {
                return true;
            }
            return self.nonnegative(&-scale.clone(), depth - 1)
                && self.nonnegative(&(scale * top + offset), depth);
        }
        if let Some(bounded) = without_a_quotient(&without_content(dim)) {
            return self.nonnegative(&bounded, depth - 1);
        }
        for (monomial, c) in dim.terms() {
            if let [Atom::Min(members)] = monomial
                && c > 0
            {
                let rest = dim.clone() - Dim::from_atom(monomial[0].clone()) * Dim::constant(c);
                return members
                    .iter()
                    .all(|m| self.nonnegative(&(m.clone() * Dim::constant(c) + rest.clone()), depth - 1));
            }
            if let [Atom::Max(members)] = monomial
                && c < 0
            {
                let rest = dim.clone() - Dim::from_atom(monomial[0].clone()) * Dim::constant(c);
                return members
                    .iter()
                    .all(|m| self.nonnegative(&(m.clone() * Dim::constant(c) + rest.clone()), depth - 1));
            }
            if let [Atom::Max(members)] = monomial
                && c > 0
            {
                let rest = dim.clone() - Dim::from_atom(monomial[0].clone()) * Dim::constant(c);
                return members
                    .iter()
                    .any(|m| self.nonnegative(&(m.clone() * Dim::constant(c) + rest.clone()), depth - 1));
            }
            if let [Atom::Min(members)] = monomial
                && c < 0
            {
                let rest = dim.clone() - Dim::from_atom(monomial[0].clone()) * Dim::constant(c);
                return members
                    .iter()
                    .any(|m| self.nonnegative(&(m.clone() * Dim::constant(c) + rest.clone()), depth - 1));
            }
        }
        false
    }

    /// Every term is a nonnegative product, after `size = 1 + size′` for sizes known to be positive.
    fn obviously_nonnegative(&self, dim: &Dim) -> bool {
        let shifted = dim.substitute(&|s| self.positive.contains(s).then(|| Dim::from(s) + Dim::constant(1)));
        termwise_nonnegative(&shifted)
    }

    /// The members of an extremum that can be it; `None` if nothing was decided.
    pub(super) fn reduce(&self, dims: &[Dim], largest: bool) -> Option<Dim> {
        let mut kept: Vec<Dim> = dims.to_vec();
        let mut at = 0;
        while at < kept.len() {
            let beaten = (0..kept.len()).any(|other| {
                let gap = if largest {
                    kept[other].clone() - kept[at].clone()
                } else {
                    kept[at].clone() - kept[other].clone()
                };
                other != at && self.is_nonnegative(&gap)
            });
            if beaten {
                kept.remove(at);
            } else {
                at += 1;
            }
        }
        (kept.len() < dims.len())
            .then(|| combine(kept.into_iter(), if largest { Dim::larger } else { Dim::smaller }))
    }
}

/// `dim` over the greatest common divisor of its coefficients, rounded down: not negative where `dim` isn't, and the
/// other way round.
fn without_content(dim: &Dim) -> Dim {
    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let named = || dim.terms().filter(|(monomial, _)| !monomial.is_empty());
    let content = named().fold(0, |content, (_, c)| gcd(content, c.unsigned_abs()));
    match i64::try_from(content) {
        Ok(content) if content > 1 => Dim {
            terms: dim
                .terms
                .iter()
                .map(|(monomial, c)| (monomial.clone(), c.div_euclid(content)))
                .filter(|(_, c)| *c != 0)
                .collect(),
        },
        _ => dim.clone(),
    }
}

/// Something that is smaller than a positive multiple of `dim` and without one of its quotients; where that is not
/// negative, `dim` isn't either. `None` if there is no quotient.
///
/// `b·⌊a/b⌋` lies between `a − (b − 1)` and `a`.
fn without_a_quotient(dim: &Dim) -> Option<Dim> {
    let (monomial, c, at) = dim.terms().find_map(|(monomial, c)| {
        let at = monomial.iter().position(|atom| matches!(atom, Atom::Floor(..)))?;
        Some((monomial, c, at))
    })?;
    let Atom::Floor(a, b) = &monomial[at] else { return None };
    let mut others = monomial.to_vec();
    others.remove(at);
    if !termwise_nonnegative(&Dim { terms: Arc::from([(others.clone(), 1)]) }) {
        return None;
    }
    let term = Dim { terms: Arc::from([(monomial.to_vec(), c)]) };
    let rest = dim.clone() - term;
    let factor = Dim { terms: Arc::from([(others, c)]) };
    let one = Dim::constant(1);
    let bound = if c > 0 { a.clone() - b.clone() + one.clone() } else { a.clone() };
    match factor.exact_div(b) {
        // The divisor stands before the quotient already.
        Some(factor) => Some(rest + factor * bound),
        // All is multiplied by it; what is an integer and above −1 is not negative.
        None => Some(rest * b.clone() + factor * bound + b.clone() - one),
    }
}

/// No coefficient is negative and every atom is a nonnegative number.
fn termwise_nonnegative(dim: &Dim) -> bool {
    dim.terms().all(|(monomial, c)| {
        c >= 0
            && monomial.iter().all(|atom| match atom {
                Atom::Symbol(_) => true,
                Atom::Floor(a, _) => termwise_nonnegative(a),
                Atom::Min(dims) => dims.iter().all(termwise_nonnegative),
                Atom::Max(dims) => dims.iter().any(termwise_nonnegative),
            })
    })
}
