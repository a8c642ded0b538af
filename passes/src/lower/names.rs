//! Names that are plain words, each given once.

use std::collections::{BTreeMap, BTreeSet};

/// The names of a kind of thing in one program.
#[derive(Debug, Default)]
pub(crate) struct Names {
    given: BTreeSet<String>,
    /// The next number to try behind a name.
    next: BTreeMap<String, usize>,
}

impl Names {
    /// With these given already.
    pub(crate) fn of<'a>(given: impl IntoIterator<Item = &'a str>) -> Names {
        Names { given: given.into_iter().map(str::to_owned).collect(), next: BTreeMap::new() }
    }

    /// `wanted` as a plain word (`fallback` if nothing is left of it), with a number behind it if it is given.
    pub(crate) fn fresh(&mut self, wanted: &str, fallback: &str) -> String {
        let base = plain(wanted, fallback);
        if self.given.insert(base.clone()) {
            return base;
        }
        let next = self.next.entry(base.clone()).or_insert(1);
        loop {
            let name = format!("{base}.{next}");
            *next += 1;
            if self.given.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// Letters, digits, `_` and `.`, a letter first.
fn plain(wanted: &str, fallback: &str) -> String {
    let clean: String =
        wanted.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    let clean = clean.trim_matches('_');
    if clean.is_empty() {
        fallback.to_owned()
    } else if clean.starts_with(|c: char| c.is_ascii_alphabetic()) {
        clean.to_owned()
    } else {
        format!("{fallback}_{clean}")
    }
}
