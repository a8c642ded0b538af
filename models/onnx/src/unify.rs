//! Equal sizes under different names.
//!
//! Exporters give each dynamic dimension of each input a name of its own, also where the model works only if some
//! are equal. When an op says that two sizes must agree, one symbol in them is replaced by what makes them agree.

use std::fmt;

use ir::dim::Atom;
use ir::origin::Place;
use ir::{Dim, Symbol};

use crate::tensor::MAX_BYTES;

/// A symbol that was replaced, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Unified {
    /// The symbol that is no more.
    pub symbol: Symbol,
    /// What it is.
    pub size: Dim,
    /// One size that the node has.
    pub left: Dim,
    /// The size that it must equal.
    pub right: Dim,
    /// The node of the model that wants them equal.
    pub by: Place,
}

impl fmt::Display for Unified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unified { symbol, size, left, right, by } = self;
        write!(f, "{symbol} = {size}, because node \"{}\" ({}) needs {left} = {right}", by.name, by.op)
    }
}

/// The symbol to replace, and by what, so that `left = right`.
///
/// Of several candidates the symbol that comes last in `symbols` goes: names of earlier inputs stay. A solution
/// that subtracts (`n = m − 1`) comes last, since sizes are rather known as sums. None if the sizes can't agree:
/// if nothing is linear, or a solution is no size.
///
/// A factor that both sides share is no reason against: `b·n = 12·b` makes `n = 12`, as it must be unless `b = 0`,
/// where it does no harm. `4·n = 8·⌊n/2⌋` says that `n` is even: `n = 2·n_div_2`, with a new symbol.
///
/// The first `given` symbols are those of inputs: the others get their values only when the model runs, and no input's
/// size follows from them.
pub(crate) fn solve(symbols: &[Symbol], given: usize, left: &Dim, right: &Dim) -> Option<(Symbol, Dim)> {
    let mut difference = left.clone() - right.clone();
    if difference.is(0) {
        return None;
    }
    // `n = 0` says something about n, `n = 2·n` nothing that a model means.
    let shared: &[Symbol] = if left.is(0) || right.is(0) { &[] } else { symbols };
    for symbol in shared {
        while let Some(quotient) =
            difference.exact_div(&Dim::from(symbol)).filter(|_| difference.mentions(symbol))
        {
            difference = quotient;
        }
    }
    let solutions = symbols.iter().rev().filter_map(|symbol| {
        let (scale, offset) = difference.linear_in(symbol)?;
        let scale = scale.as_const().filter(|&scale| scale != 0)?;
        let size = (-offset).exact_div(&Dim::constant(scale))?;
        let is_size = size.as_const().is_none_or(|size| (0..=MAX_BYTES).contains(&size));
        let is_given = |symbol: &Symbol| symbols[..given].contains(symbol);
        let follows = !is_given(symbol) || !symbols[given..].iter().any(|other| size.mentions(other));
        (is_size && follows).then(|| (symbol.clone(), size))
    });
    let solutions: Vec<(Symbol, Dim)> = solutions.collect();
    let adds = |size: &Dim| size.terms().all(|(_, factor)| factor > 0);
    let linear = solutions.iter().find(|(_, size)| adds(size)).or(solutions.first()).cloned();
    linear.or_else(|| multiple(&symbols[..given], &difference))
}

/// `symbol = k·new`, if `difference` is a multiple of `symbol mod k`.
fn multiple(symbols: &[Symbol], difference: &Dim) -> Option<(Symbol, Dim)> {
    difference.terms().find_map(|(atoms, factor)| {
        let [Atom::Floor(whole, part)] = atoms else { return None };
        let (symbol, k) = (whole.as_symbol()?, part.as_const()?);
        // factor·⌊s/k⌋ + … = c·(s − k·⌊s/k⌋) for c = −factor/k.
        let rest = whole.modulo(part) * Dim::constant(-(factor / k));
        let name = format!("{symbol}_div_{k}");
        let is_new = !symbols.iter().any(|other| other.name() == name);
        (factor % k == 0 && rest == *difference && is_new)
            .then(|| (symbol.clone(), Dim::symbol(name) * Dim::constant(k)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(left: Dim, right: Dim) -> Option<String> {
        let symbols = ["a", "b", "c"].map(Symbol::from);
        solve(&symbols, symbols.len(), &left, &right).map(|(symbol, size)| format!("{symbol} = {size}"))
    }

    fn a() -> Dim {
        Dim::symbol("a")
    }

    fn b() -> Dim {
        Dim::symbol("b")
    }

    fn number(value: i64) -> Dim {
        Dim::constant(value)
    }

    #[test]
    fn the_earlier_name_stays() {
        assert_eq!(solved(a(), b()).as_deref(), Some("b = a"));
        assert_eq!(solved(b(), a()).as_deref(), Some("b = a"));
    }

    #[test]
    fn numbers_win() {
        assert_eq!(solved(a(), number(4)).as_deref(), Some("a = 4"));
        assert_eq!(solved(number(0), a()).as_deref(), Some("a = 0"));
        assert_eq!(solved(number(7), a() * number(2) + number(1)).as_deref(), Some("a = 3"));
    }

    #[test]
    fn sums_before_differences() {
        assert_eq!(solved(a(), b() + number(1)).as_deref(), Some("a = b + 1"));
        assert_eq!(solved(a() + number(1), b()).as_deref(), Some("b = a + 1"));
        assert_eq!(solved(a() * number(2), b()).as_deref(), Some("b = 2*a"));
        assert_eq!(solved(a().floor_div(&number(2)), b()).as_deref(), Some("b = floor(a, 2)"));
    }

    #[test]
    fn shared_factors_do_not_hide_a_solution() {
        assert_eq!(solved(a() * b(), a() * number(12)).as_deref(), Some("b = 12"));
        assert_eq!(solved(a() * a() * b(), a() * a() * Dim::symbol("c")).as_deref(), Some("c = b"));
    }

    #[test]
    fn remainders_that_must_vanish_make_multiples() {
        let half = b().floor_div(&number(2));
        assert_eq!(
            solved(a() * b() * number(4), a() * half.clone() * number(8)).as_deref(),
            Some("b = 2*b_div_2")
        );
        assert_eq!(solved(half.clone() * number(2), b()).as_deref(), Some("b = 2*b_div_2"));
        // Floors of sums are left alone, and so is what is no remainder.
        assert_eq!(solved((b() + number(1)).floor_div(&number(2)) * number(2), b() + number(1)), None);
        assert_eq!(solved(half * number(3), b()), None);
    }

    #[test]
    fn what_no_size_solves_stays_an_error() {
        assert_eq!(solved(a(), a() + number(1)), None);
        assert_eq!(solved(a() * number(2), number(7)), None);
        assert_eq!(solved(a() + number(4), number(3)), None);
        assert_eq!(solved(a() * b(), number(6)), None);
        assert_eq!(solved(a() * b(), a() * b()), None);
        assert_eq!(solved(a(), a() * number(2)), None);
        assert_eq!(solved(number(3), number(4)), None);
        assert_eq!(solved(a(), number(i64::MAX)), None);
    }
}
