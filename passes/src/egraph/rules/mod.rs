//! The rewrite rules. One file is one subject; adding a rule is adding it to its file's list.
//!
//! A rule has an *anchor*: the ops at whose classes it is tried. It looks from there through every equal spelling, and
//! either makes something equal, or finds nothing of its kind, or names the first obligation that does not hold. A rule
//! changes nothing that it does not state: what it makes has the type and the value of what it found.

mod activation;
mod affine;
mod attention;
mod axes;
mod branches;
mod computed;
mod experts;
mod gathered;
mod group_norm;
mod horizontal;
mod linear;
mod log_sum_exp;
mod mixture;
mod norm;
#[cfg(feature = "planted-rule")]
pub mod planted;
mod quantized;
mod router;
mod scaled;
mod softmax;
mod weights;

use std::collections::BTreeMap;
use std::fmt;

use egg::Id;
use ir::OpDef;
use ir::op::OpError;

use super::facts::Classes;
use super::language::Node;
use super::rewrite::{Made, Match, Missed};
use crate::pass::FpMode;

/// What a rule does to numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exactness {
    /// Every bit stays.
    Exact,
    /// Sums, products and quotients are regrouped.
    Reassociating,
    /// Accuracy is lost, within a model's tolerance.
    Approximate,
}

impl Exactness {
    /// The name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Exactness::Exact => "exact",
            Exactness::Reassociating => "reassociating",
            Exactness::Approximate => "approximate",
        }
    }

    /// May such a rule be applied?
    pub fn allowed(self, fp: FpMode) -> bool {
        match self {
            Exactness::Exact => true,
            Exactness::Reassociating => fp != FpMode::Strict,
            Exactness::Approximate => fp == FpMode::Fast,
        }
    }
}

/// When a rule is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Moves what is done with constants into constants. The cheapest spelling is taken before other rules look, so
    /// that these do not meet a product with its weights as they were.
    Fold,
    /// Algebra: other spellings of the same.
    Explore,
    /// Recognises what a graph spells out, and merges.
    Raise,
}

impl Set {
    /// Every set, in the order in which they are applied.
    pub const ALL: [Set; 3] = [Set::Fold, Set::Explore, Set::Raise];

    /// The name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Set::Fold => "fold",
            Set::Explore => "explore",
            Set::Raise => "raise",
        }
    }
}

/// Values that a rule made equal: what was there, and what is new.
pub(super) type Equal = Vec<(Id, Id)>;

/// Why a rule makes nothing at an anchor.
pub(super) enum Stop {
    /// There is nothing of its kind.
    Other,
    /// There is, but something does not hold.
    Missed(Missed),
}

impl From<Missed> for Stop {
    fn from(missed: Missed) -> Self {
        Stop::Missed(missed)
    }
}

/// What a rule would make does not suit its operands: there is nothing of its kind.
impl From<OpError> for Stop {
    fn from(_: OpError) -> Self {
        Stop::Other
    }
}

/// A rewrite rule.
pub struct Rule {
    /// Its name, for `--disable-rule` and reports.
    pub name: &'static str,
    /// What it makes of what, in a line.
    pub summary: &'static str,
    /// When it is applied.
    pub set: Set,
    /// What it does to numbers.
    pub exactness: Exactness,
    /// The ops at which it is tried.
    pub anchor: &'static [&'static OpDef],
    /// What must hold, in its words: what [`Missed::obligation`] says.
    pub obligations: &'static [&'static str],
    /// Tries it at a class, for one of its nodes.
    pub(super) apply: fn(&mut Match, Id, &Node) -> Result<Equal, Stop>,
}

/// Rules are told apart by their names.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}

/// A rule is constant.
impl std::panic::RefUnwindSafe for Rule {}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every rule, in the order in which they are tried.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [
        softmax::RULES,
        log_sum_exp::RULES,
        norm::RULES,
        group_norm::RULES,
        activation::RULES,
        affine::RULES,
        weights::RULES,
        quantized::RULES,
        gathered::RULES,
        branches::RULES,
        linear::RULES,
        attention::RULES,
        mixture::RULES,
        scaled::RULES,
        horizontal::RULES,
        router::RULES,
    ]
    .into_iter()
    .chain(experts::RULES.iter().copied())
    .flatten()
}

/// The rule of that name.
pub fn find(name: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.name == name)
}

/// What came of trying a rule at an anchor.
pub(super) enum Outcome {
    /// It made something that was not known to be equal.
    New,
    /// It made what was there already.
    Known,
    /// Nothing of its kind.
    Other,
    /// An obligation failed.
    Missed(Missed),
}

impl Rule {
    /// Tries the rule at a node of a class.
    pub(super) fn try_at(
        &self,
        classes: &mut Classes,
        made: &mut BTreeMap<Node, Made>,
        class: Id,
        node: &Node,
    ) -> Outcome {
        let mut at = Match::new(classes, made, self.name, node);
        match (self.apply)(&mut at, class, node) {
            Ok(equal) if equal.is_empty() => Outcome::Other,
            Ok(equal) => {
                if at.finish(&equal) {
                    Outcome::New
                } else {
                    Outcome::Known
                }
            }
            Err(Stop::Other) => Outcome::Other,
            Err(Stop::Missed(missed)) => Outcome::Missed(missed),
        }
    }
}
