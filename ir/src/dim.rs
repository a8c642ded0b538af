//! Symbolic sizes and indices: integer polynomials with floor division, minimum and maximum.
//!
//! A [`Dim`] is always in normal form: a sum of terms, each an integer times a product of atoms, sorted. Two
//! equal polynomials are therefore equal as values, and `n + n == 2*n`. Atoms are symbols, floor quotients,
//! minima and maxima of other dims, all in normal form themselves.
//!
//! The same algebra serves the kernel level: there a symbol may also be a loop axis, and facts about its range
//! ([`Ranges`]) let quotients disappear.
//!
//! Promises
//! - symbols stand for integers ≥ 0 (sizes and loop axes); divisors are positive;
//! - `a // b` is the floor quotient, `a % b = a − b·(a // b)`, `ceil(a, b) = (a + b − 1) // b`;
//! - equality of values is equality of polynomials; unequal values may still be equal numbers (`a//2 + a//2`
//!   and `a` for even `a`), and nothing here claims the contrary.
//!
//! Deliberately absent: solving systems of equations, real division, negative powers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

mod condition;
mod ranges;

pub use condition::{Condition, Relation};
pub use ranges::Ranges;

/// The name of a size or of a loop axis.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(Arc<str>);

impl Symbol {
    /// The symbol of that name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Symbol(Arc::from(name.as_ref()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// May a size of a graph be called so? Kernels call their axes `i0`, `k1`, `a2`, ….
    pub fn is_free_for_sizes(&self) -> bool {
        let number = self.name().strip_prefix(['i', 'k', 'a']);
        number.is_none_or(|n| n.is_empty() || !n.bytes().all(|b| b.is_ascii_digit()))
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Symbol {
    fn from(name: &str) -> Self {
        Symbol::new(name)
    }
}

/// What a term is a product of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A named size or axis.
    Symbol(Symbol),
    /// `⌊a / b⌋`, `b > 0`.
    Floor(Dim, Dim),
    /// The smallest of several; sorted, at least two.
    Min(Vec<Dim>),
    /// The largest of several; sorted, at least two.
    Max(Vec<Dim>),
}

/// A sorted product of atoms; empty for the constant term.
type Monomial = Vec<Atom>;

/// An integer expression over symbols, in normal form. See the [module](self).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dim {
    /// Sorted by monomial; no coefficient is zero.
    terms: Arc<[(Monomial, i64)]>,
}

impl Dim {
    fn from_map(map: BTreeMap<Monomial, i64>) -> Dim {
        Dim { terms: map.into_iter().filter(|(_, c)| *c != 0).collect() }
    }

    fn add_to(&self, sum: &mut BTreeMap<Monomial, i64>) {
        for (monomial, c) in self.terms.iter() {
            let entry = sum.entry(monomial.clone()).or_insert(0);
            *entry = entry.saturating_add(*c);
        }
    }

    fn from_atom(atom: Atom) -> Dim {
        Dim { terms: Arc::from([(vec![atom], 1)]) }
    }

    /// The number `value`.
    pub fn constant(value: i64) -> Dim {
        if value == 0 { Dim { terms: Arc::from([]) } } else { Dim { terms: Arc::from([(vec![], value)]) } }
    }

    /// The size or axis called `name`.
    pub fn symbol(name: impl AsRef<str>) -> Dim {
        Dim::from_atom(Atom::Symbol(Symbol::new(name)))
    }

    /// The number, if no symbol is involved.
    pub fn as_const(&self) -> Option<i64> {
        match &*self.terms {
            [] => Some(0),
            [(monomial, c)] if monomial.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// The symbol, if it is one and nothing else.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match &*self.terms {
            [(monomial, 1)] => match monomial.as_slice() {
                [Atom::Symbol(symbol)] => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// Is it the number `value`?
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    /// The terms: `(atoms, coefficient)`, sorted.
    pub fn terms(&self) -> impl Iterator<Item = (&[Atom], i64)> {
        self.terms.iter().map(|(monomial, c)| (monomial.as_slice(), *c))
    }

    /// The constant term.
    pub fn constant_term(&self) -> i64 {
        match self.terms.first() {
            Some((monomial, c)) if monomial.is_empty() => *c,
            _ => 0,
        }
    }

    /// `⌊self / divisor⌋`.
    ///
    /// Terms that the divisor divides leave the quotient; nested quotients collapse.
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        if divisor.is(1) || self.is(0) {
            return self.clone();
        }
        if let (Some(a), Some(b)) = (self.as_const(), divisor.as_const())
            && b > 0
        {
            return Dim::constant(a.div_euclid(b));
        }
        if let Some(quotient) = self.exact_div(divisor) {
            return quotient;
        }
        // ⌊(q·d + r) / d⌋ = q + ⌊r / d⌋, term by term where d is a single term.
        let mut outside = BTreeMap::new();
        let mut rest = BTreeMap::new();
        for (monomial, c) in self.terms.iter() {
            match divisor.single_term().and_then(|(by, d)| divide_term((monomial, *c), (by, d))) {
                Some((monomial, c)) => *outside.entry(monomial).or_insert(0) += c,
                None => *rest.entry(monomial.clone()).or_insert(0) += *c,
            }
        }
        // The constant may contribute whole multiples of a constant divisor, too.
        if let Some(d) = divisor.as_const().filter(|d| *d > 0) {
            let c = rest.remove(&vec![]).unwrap_or(0);
            *outside.entry(vec![]).or_insert(0) += c.div_euclid(d);
            rest.insert(vec![], c.rem_euclid(d));
        }
        let (outside, rest) = (Dim::from_map(outside), Dim::from_map(rest));
        if rest.is(0) {
            return outside;
        }
        if let (Some(r), Some(d)) = (rest.as_const(), divisor.as_const())
            && d > 0
        {
            return outside + Dim::constant(r.div_euclid(d));
        }
        // ⌊(⌊a / b⌋ + k) / c⌋ = ⌊(a + k·b) / (b·c)⌋.
        let k = rest.constant_term();
        let quotient = &rest.terms[usize::from(k != 0)..];
        if let [(monomial, 1)] = quotient
            && let [Atom::Floor(a, b)] = monomial.as_slice()
        {
            let whole = a.clone() + b.clone() * Dim::constant(k);
            return outside + whole.floor_div(&(b.clone() * divisor.clone()));
        }
        outside + Dim::from_atom(Atom::Floor(rest, divisor.clone()))
    }

    /// `self − divisor·⌊self / divisor⌋`, in `0..divisor`.
    pub fn modulo(&self, divisor: &Dim) -> Dim {
        self.clone() - self.floor_div(divisor) * divisor.clone()
    }

    /// `⌈self / divisor⌉`.
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        (self.clone() + divisor.clone() - Dim::constant(1)).floor_div(divisor)
    }

    /// The quotient, if `divisor` divides this polynomial.
    pub fn exact_div(&self, divisor: &Dim) -> Option<Dim> {
        let (lead, by) = divisor.terms.last()?;
        let mut rest = self.clone();
        let mut quotient = Dim::constant(0);
        // Each step removes the leading term, so the degree bounds the steps.
        for _ in 0..=self.terms.len() * 4 {
            let Some((monomial, c)) = rest.terms.last() else { return Some(quotient) };
            let term = divide_term((monomial, *c), (lead, *by))?;
            let term = Dim { terms: Arc::from([term]) };
            quotient = quotient + term.clone();
            rest = rest - term * divisor.clone();
        }
        None
    }

    fn single_term(&self) -> Option<(&Monomial, i64)> {
        match &*self.terms {
            [(monomial, c)] => Some((monomial, *c)),
            _ => None,
        }
    }

    /// The smaller of two.
    pub fn smaller(&self, other: &Dim) -> Dim {
        extremum(self, other, false)
    }

    /// The larger of two.
    pub fn larger(&self, other: &Dim) -> Dim {
        extremum(self, other, true)
    }

    /// Its value where every symbol has one. `None` where a symbol is missing, a divisor is not positive, or
    /// the value leaves 64 bits.
    pub fn eval(&self, lookup: &dyn Fn(&Symbol) -> Option<i64>) -> Option<i64> {
        let mut sum: i64 = 0;
        for (monomial, c) in self.terms.iter() {
            let mut product = *c;
            for atom in monomial {
                product = product.checked_mul(atom.eval(lookup)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// Every symbol replaced by what `with` gives for it (`None` keeps it), and normalised again.
    pub fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        let mut changes = false;
        self.for_each_symbol(&mut |symbol| changes |= with(symbol).is_some());
        if !changes {
            return self.clone();
        }
        let mut sum: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (monomial, c) in self.terms.iter() {
            let mut product = Dim::constant(*c);
            for atom in monomial {
                product = product * atom.substitute(with);
            }
            product.add_to(&mut sum);
        }
        Dim::from_map(sum)
    }

    /// Calls `visit` with each symbol in it (repeatedly, if it occurs repeatedly).
    pub fn for_each_symbol(&self, visit: &mut dyn FnMut(&Symbol)) {
        for (monomial, _) in self.terms.iter() {
            for atom in monomial {
                match atom {
                    Atom::Symbol(symbol) => visit(symbol),
                    Atom::Floor(a, b) => {
                        a.for_each_symbol(visit);
                        b.for_each_symbol(visit);
                    }
                    Atom::Min(dims) | Atom::Max(dims) => dims.iter().for_each(|d| d.for_each_symbol(visit)),
                }
            }
        }
    }

    /// Does it never fall when symbols grow? `false` also means "not known".
    pub fn grows_with_all(&self) -> bool {
        self.terms().all(|(atoms, factor)| {
            (factor >= 0 || atoms.is_empty())
                && atoms.iter().all(|atom| match atom {
                    Atom::Symbol(_) => true,
                    Atom::Floor(a, b) => b.as_const().is_some() && a.grows_with_all(),
                    Atom::Min(dims) | Atom::Max(dims) => dims.iter().all(Dim::grows_with_all),
                })
        })
    }

    /// Does `symbol` occur in it?
    pub fn mentions(&self, symbol: &Symbol) -> bool {
        let mut found = false;
        self.for_each_symbol(&mut |s| found |= s == symbol);
        found
    }

    /// `(a, b)` with `self = a·symbol + b` and neither `a` nor `b` mentioning `symbol`, if it has that form.
    pub fn linear_in(&self, symbol: &Symbol) -> Option<(Dim, Dim)> {
        let mut scale = BTreeMap::new();
        let mut offset = BTreeMap::new();
        for (monomial, c) in self.terms.iter() {
            let with: Vec<usize> = (0..monomial.len())
                .filter(|&i| matches!(&monomial[i], Atom::Symbol(s) if s == symbol))
                .collect();
            match with.as_slice() {
                [] => *offset.entry(monomial.clone()).or_insert(0) += *c,
                [at] => {
                    let mut rest = monomial.clone();
                    rest.remove(*at);
                    *scale.entry(rest).or_insert(0) += *c;
                }
                _ => return None,
            }
        }
        let (scale, offset) = (Dim::from_map(scale), Dim::from_map(offset));
        (!scale.mentions(symbol) && !offset.mentions(symbol)).then_some((scale, offset))
    }

    /// Rebuilt with what `ranges` knows: quotients and extrema that it decides disappear.
    pub fn simplify(&self, ranges: &Ranges) -> Dim {
        let mut sum = Dim::constant(0);
        for (monomial, c) in self.terms.iter() {
            let mut product = Dim::constant(*c);
            for atom in monomial {
                product = product * atom.simplify(ranges);
            }
            sum = sum + product;
        }
        sum
    }

    /// Parses `2*n + 1`, `(n + 1)//2`, `n % 4`, `min(a, b)`, `max(a, b)`, `floor(a, b)`, `ceil(a, b)`.
    pub fn parse(text: &str) -> Result<Dim, ParseDimError> {
        crate::text::dim::parse(text)
    }
}

impl Atom {
    fn eval(&self, lookup: &dyn Fn(&Symbol) -> Option<i64>) -> Option<i64> {
        match self {
            Atom::Symbol(symbol) => lookup(symbol),
            Atom::Floor(a, b) => {
                let b = b.eval(lookup).filter(|b| *b > 0)?;
                Some(a.eval(lookup)?.div_euclid(b))
            }
            Atom::Min(dims) => fold_values(dims, lookup, i64::min),
            Atom::Max(dims) => fold_values(dims, lookup, i64::max),
        }
    }

    fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        self.rebuild(&|dim| dim.substitute(with), &|symbol| with(symbol))
    }

    fn simplify(&self, ranges: &Ranges) -> Dim {
        let dim = self.rebuild(&|dim| dim.simplify(ranges), &|_| None);
        let [(monomial, 1)] = &*dim.terms else { return dim };
        match monomial.as_slice() {
            [Atom::Floor(a, b)] => {
                let below = b.clone() - Dim::constant(1) - a.clone();
                if ranges.is_nonnegative(a) && ranges.is_nonnegative(&below) {
                    return Dim::constant(0);
                }
                dim
            }
            [Atom::Min(dims)] => ranges.reduce(dims, false).unwrap_or(dim),
            [Atom::Max(dims)] => ranges.reduce(dims, true).unwrap_or(dim),
            _ => dim,
        }
    }

    fn rebuild(&self, inner: &dyn Fn(&Dim) -> Dim, symbol: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        match self {
            Atom::Symbol(s) => symbol(s).unwrap_or_else(|| Dim::from_atom(self.clone())),
            Atom::Floor(a, b) => inner(a).floor_div(&inner(b)),
            Atom::Min(dims) => combine(dims.iter().map(inner), Dim::smaller),
            Atom::Max(dims) => combine(dims.iter().map(inner), Dim::larger),
        }
    }
}

fn combine(mut dims: impl Iterator<Item = Dim>, op: impl Fn(&Dim, &Dim) -> Dim) -> Dim {
    let first = dims.next().expect("an extremum has at least two members");
    dims.fold(first, |a, b| op(&a, &b))
}

fn fold_values(
    dims: &[Dim],
    lookup: &dyn Fn(&Symbol) -> Option<i64>,
    op: impl Fn(i64, i64) -> i64,
) -> Option<i64> {
    let mut values = dims.iter().map(|dim| dim.eval(lookup));
    let first = values.next()??;
    values.try_fold(first, |a, b| Some(op(a, b?)))
}

/// `(m₁·c₁) / (m₂·c₂)`, if the division is exact.
fn divide_term(a: (&Monomial, i64), b: (&Monomial, i64)) -> Option<(Monomial, i64)> {
    // Checked: the least number divided by −1 has no quotient, either.
    if a.1.checked_rem(b.1) != Some(0) {
        return None;
    }
    let mut rest = a.0.clone();
    for atom in b.0 {
        let at = rest.iter().position(|x| x == atom)?;
        rest.remove(at);
    }
    Some((rest, a.1.checked_div(b.1)?))
}

fn extremum(a: &Dim, b: &Dim, largest: bool) -> Dim {
    let mut members = Vec::new();
    for dim in [a, b] {
        match &*dim.terms {
            [(monomial, 1)] if monomial.len() == 1 => match &monomial[0] {
                Atom::Max(dims) if largest => members.extend(dims.iter().cloned()),
                Atom::Min(dims) if !largest => members.extend(dims.iter().cloned()),
                _ => members.push(dim.clone()),
            },
            _ => members.push(dim.clone()),
        }
    }
    members.sort();
    members.dedup();
    // A member that another one exceeds term by term does not count.
    let exceeds = |a: &Dim, b: &Dim| {
        let gap = if largest { a.clone() - b.clone() } else { b.clone() - a.clone() };
        ranges::termwise_nonnegative(&gap)
    };
    let is_exceeded = |member: &Dim| members.iter().any(|other| other != member && exceeds(other, member));
    let kept: Vec<Dim> = members.iter().filter(|member| !is_exceeded(member)).cloned().collect();
    match kept.as_slice() {
        [one] => one.clone(),
        _ => Dim::from_atom(if largest { Atom::Max(kept) } else { Atom::Min(kept) }),
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Dim::constant(value)
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Self {
        Dim::constant(i64::try_from(value).expect("a size in memory fits 63 bits"))
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Self {
        Dim::from_atom(Atom::Symbol(symbol))
    }
}

impl From<&Symbol> for Dim {
    fn from(symbol: &Symbol) -> Self {
        Dim::from(symbol.clone())
    }
}

// Coefficients saturate: a polynomial that large is no size of anything, and evaluation reports overflow.
impl Add for Dim {
    type Output = Dim;

    fn add(self, other: Dim) -> Dim {
        let mut map: BTreeMap<Monomial, i64> = self.terms.iter().cloned().collect();
        other.add_to(&mut map);
        Dim::from_map(map)
    }
}

impl Neg for Dim {
    type Output = Dim;

    fn neg(self) -> Dim {
        Dim { terms: self.terms.iter().map(|(monomial, c)| (monomial.clone(), c.saturating_neg())).collect() }
    }
}

impl Sub for Dim {
    type Output = Dim;

    fn sub(self, other: Dim) -> Dim {
        self + -other
    }
}

impl Mul for Dim {
    type Output = Dim;

    fn mul(self, other: Dim) -> Dim {
        let mut map: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (a, ca) in self.terms.iter() {
            for (b, cb) in other.terms.iter() {
                let mut monomial = a.clone();
                monomial.extend(b.iter().cloned());
                monomial.sort();
                let entry = map.entry(monomial).or_insert(0);
                *entry = entry.saturating_add(ca.saturating_mul(*cb));
            }
        }
        Dim::from_map(map)
    }
}

impl std::iter::Product for Dim {
    fn product<I: Iterator<Item = Dim>>(iter: I) -> Dim {
        iter.fold(Dim::constant(1), |a, b| a * b)
    }
}

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Dim>>(iter: I) -> Dim {
        iter.fold(Dim::constant(0), |a, b| a + b)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The constant comes last, as one writes it.
        let (constant, named): (Vec<_>, Vec<_>) = self.terms.iter().partition(|(m, _)| m.is_empty());
        for (at, (monomial, c)) in named.into_iter().chain(constant).enumerate() {
            match (at, *c < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let size = c.unsigned_abs();
            if monomial.is_empty() {
                write!(f, "{size}")?;
                continue;
            }
            if size != 1 {
                write!(f, "{size}*")?;
            }
            for (i, atom) in monomial.iter().enumerate() {
                if i > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |dims: &[Dim]| dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Atom::Symbol(symbol) => crate::text::lex::symbol(f, symbol.name()),
            Atom::Floor(a, b) => write!(f, "floor({a}, {b})"),
            Atom::Min(dims) => write!(f, "min({})", list(dims)),
            Atom::Max(dims) => write!(f, "max({})", list(dims)),
        }
    }
}

/// Why a text is no size expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no size expression: expected {why} at byte {at}")]
pub struct ParseDimError {
    /// The whole text.
    pub text: String,
    /// Byte offset of the problem.
    pub at: usize,
    /// What was expected.
    pub why: &'static str,
}
