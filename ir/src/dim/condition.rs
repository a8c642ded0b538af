//! Conditions on sizes: what must hold when a model runs, and may be assumed from there on.

use std::fmt;

use super::{Dim, Ranges, Symbol};

/// How two sizes compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// They are equal.
    Equal,
    /// The left is at most the right.
    AtMost,
}

/// `left = right` or `left ≤ right`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// The left size.
    pub left: Dim,
    /// How they compare.
    pub relation: Relation,
    /// The right size.
    pub right: Dim,
}

impl Condition {
    /// `left = right`.
    pub fn equal(left: Dim, right: Dim) -> Condition {
        Condition { left, relation: Relation::Equal, right }
    }

    /// `left ≤ right`.
    pub fn at_most(left: Dim, right: Dim) -> Condition {
        Condition { left, relation: Relation::AtMost, right }
    }

    /// What it says, as expressions that are not negative.
    pub fn facts(&self) -> Vec<Dim> {
        let gap = self.right.clone() - self.left.clone();
        match self.relation {
            Relation::Equal => vec![gap.clone(), -gap],
            Relation::AtMost => vec![gap],
        }
    }

    /// Does it hold for all values in range? `false` also means "not proved".
    pub fn is_proved(&self, ranges: &Ranges) -> bool {
        self.facts().iter().all(|fact| ranges.is_nonnegative(fact))
    }

    /// Does it hold for no sizes at all? `false` also means "not known".
    pub fn is_refuted(&self) -> bool {
        self.facts().iter().any(|fact| fact.as_const().is_some_and(|value| value < 0))
    }

    /// Every symbol replaced by what `with` gives for it.
    pub fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Condition {
        Condition {
            left: self.left.substitute(with),
            relation: self.relation,
            right: self.right.substitute(with),
        }
    }

    /// Calls `visit` with each symbol in it.
    pub fn for_each_symbol(&self, visit: &mut dyn FnMut(&Symbol)) {
        self.left.for_each_symbol(visit);
        self.right.for_each_symbol(visit);
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.relation {
            Relation::Equal => "==",
            Relation::AtMost => "<=",
        };
        write!(f, "{} {sign} {}", self.left, self.right)
    }
}
