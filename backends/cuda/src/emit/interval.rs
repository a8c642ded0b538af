//! How large index arithmetic gets: where 32 bits hold everything on the way to an index, nothing wider is needed.

use ir::Dim;
use ir::dim::{Atom, Ranges};

/// What is computed stays below this. Loops go one step beyond their ends.
const MOST: i64 = 1 << 30;

/// The least and the largest value, if that and all that is computed on the way fits 32 bits.
pub(super) fn interval(dim: &Dim, ranges: &Ranges) -> Option<(i64, i64)> {
    let (mut low, mut high, mut size) = (0, 0, 0);
    for (atoms, factor) in dim.terms() {
        let mut term = small((factor, factor))?;
        for atom in atoms {
            let (a, b) = (term, of_atom(atom, ranges)?);
            let corners = [a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1];
            term = small((*corners.iter().min()?, *corners.iter().max()?))?;
        }
        (low, high, size) = (low + term.0, high + term.1, size + term.0.abs().max(term.1.abs()));
        small((-size, size))?;
    }
    Some((low, high))
}

fn of_atom(atom: &Atom, ranges: &Ranges) -> Option<(i64, i64)> {
    match atom {
        Atom::Symbol(axis) => {
            let (_, end) = interval(ranges.extent(axis)?, ranges)?;
            Some((0, (end - 1).max(0)))
        }
        Atom::Floor(value, by) => {
            let (low, high) = interval(value, ranges)?;
            let (least, most) = interval(by, ranges)?;
            let all = [low, high].map(|value| [least, most].map(|by| value.div_euclid(by.max(1))));
            Some((*all.iter().flatten().min()?, *all.iter().flatten().max()?))
        }
        Atom::Min(all) => {
            let all = all.iter().map(|dim| interval(dim, ranges)).collect::<Option<Vec<_>>>()?;
            all.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
        }
        Atom::Max(all) => {
            let all = all.iter().map(|dim| interval(dim, ranges)).collect::<Option<Vec<_>>>()?;
            all.into_iter().reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
        }
    }
}

fn small((low, high): (i64, i64)) -> Option<(i64, i64)> {
    (-MOST < low && high < MOST).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Symbol;

    #[test]
    fn what_32_bits_hold_is_known_from_sizes() {
        let mut ranges = Ranges::new();
        for (axis, extent) in [("i0", 1 << 16), ("i1", 1000)] {
            ranges.enter(Symbol::new(axis), Dim::constant(extent));
        }
        let of = |text: &str| interval(&Dim::parse(text).expect("a size"), &ranges);
        assert_eq!(of("1000*i0 + i1"), Some((0, 1000 * 65535 + 999)));
        assert_eq!(of("floor(i0, 64) - i1"), Some((-999, 1023)));
        assert_eq!(of("min(64, i1 - 5)"), Some((-5, 64)));
        assert_eq!(of("max(0, 7 - i1)"), Some((0, 7)));
        assert_eq!(of("100000*i0"), None);
        // The difference is small, what it is computed from is not.
        assert_eq!(of("20000*i0 - 20000*floor(i0, 2)"), None);
        assert_eq!(of("n + i1"), None);
    }
}
