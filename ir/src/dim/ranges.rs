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
    /// Some loop has no iteration: what is said inside is true of nothing.
    is_empty: bool,
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
        self.is_empty |= extent.as_const().is_some_and(|extent| extent <= 0);
        self.axes.insert(axis, extent);
    }

    /// The extent of `axis`, if it is one.
    pub fn extent(&self, axis: &Symbol) -> Option<&Dim> {
        self.axes.get(axis)
    }

    /// Every axis with its extent, in the order of names.
    pub fn axes(&self) -> impl Iterator<Item = (&Symbol, &Dim)> {
        self.axes.iter()
    }

    /// Is `dim` ≥ 0 for all values in range? `false` also means "not proved".
    pub fn is_nonnegative(&self, dim: &Dim) -> bool {
        self.is_empty || self.nonnegative(dim, 6)
    }

    /// Is `dim` ≥ 0 where one of `facts` is? Sizes in front of it do not matter: of `k·(n − k)` it is `n − k`.
    pub fn follows(&self, facts: &[Dim], dim: &Dim) -> bool {
        if facts.iter().any(|fact| self.is_nonnegative(&(dim.clone() - fact.clone()))) {
            return true;
        }
        if facts.is_empty() || dim.terms().count() < 2 {
            return false;
        }
        let mut factors = BTreeSet::new();
        dim.for_each_symbol(&mut |symbol| {
            factors.insert(symbol.clone());
        });
        factors.iter().map(Dim::from).any(|factor| {
            self.is_nonnegative(&factor)
                && dim.exact_div(&factor).is_some_and(|other| self.follows(facts, &other))
        })
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
            // A minimum is at least what all its members are, a maximum what any is; negated, the other way round.
            let (members, all) = match monomial {
                [Atom::Min(members)] => (members, c > 0),
                [Atom::Max(members)] => (members, c < 0),
                _ => continue,
            };
            let rest = dim.clone() - Dim::from_atom(monomial[0].clone()) * Dim::constant(c);
            let mut with = members.iter().map(|member| member.clone() * Dim::constant(c) + rest.clone());
            return match all {
                true => with.all(|dim| self.nonnegative(&dim, depth - 1)),
                false => with.any(|dim| self.nonnegative(&dim, depth - 1)),
            };
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
    let quotients: Vec<Quotient> = dim.terms().flat_map(|(monomial, c)| Quotient::all(monomial, c)).collect();
    // Those whose divisor stands before them, up to a number, need the smallest multiple.
    let cancelling = quotients.iter().filter_map(|quotient| Some((quotient, quotient.cancels()?)));
    let cancelling = cancelling.min_by_key(|(_, (times, _))| times.constant_term());
    let one = Dim::constant(1);
    if let Some((quotient, (times, factor))) = cancelling {
        let rest = dim.clone() - quotient.term.clone();
        // What is an integer and above −1 is not negative.
        return Some(rest * times.clone() + factor * quotient.bound.clone() + times - one);
    }
    let quotient = quotients.into_iter().next()?;
    let rest = dim.clone() - quotient.term;
    Some(rest * quotient.divisor.clone() + quotient.factor * quotient.bound + quotient.divisor - one)
}

/// A term `factor·⌊a/divisor⌋`, and what `divisor·⌊a/divisor⌋` cannot make smaller than by taking it for `bound`.
struct Quotient {
    term: Dim,
    factor: Dim,
    divisor: Dim,
    bound: Dim,
}

impl Quotient {
    /// Every quotient in a term, if the rest of the term is not negative but for its coefficient.
    fn all(monomial: &[Atom], c: i64) -> Vec<Quotient> {
        let quotient = |at: usize| {
            let Atom::Floor(a, b) = &monomial[at] else { return None };
            let mut others = monomial.to_vec();
            others.remove(at);
            if !termwise_nonnegative(&Dim { terms: Arc::from([(others.clone(), 1)]) }) {
                return None;
            }
            let bound = if c > 0 { a.clone() - b.clone() + Dim::constant(1) } else { a.clone() };
            Some(Quotient {
                term: Dim { terms: Arc::from([(monomial.to_vec(), c)]) },
                factor: Dim { terms: Arc::from([(others, c)]) },
                divisor: b.clone(),
                bound,
            })
        };
        (0..monomial.len()).filter_map(quotient).collect()
    }

    /// `(k, f)` with `k·factor = f·divisor` for a number `k`, if there is one.
    fn cancels(&self) -> Option<(Dim, Dim)> {
        let mut terms = self.divisor.terms();
        let k = match (terms.next(), terms.next()) {
            (Some((_, k)), None) => k.checked_abs()?,
            _ => 1,
        };
        let (_, c) = self.factor.terms().next()?;
        let k = Dim::constant(k / gcd(k.unsigned_abs(), c.unsigned_abs()) as i64);
        let factor = (self.factor.clone() * k.clone()).exact_div(&self.divisor)?;
        Some((k, factor))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// No coefficient is negative and every atom is a nonnegative number.
pub(super) fn termwise_nonnegative(dim: &Dim) -> bool {
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
