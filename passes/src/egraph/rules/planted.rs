//! A wrong rule, so that finding the guilty one can be tested.
//!
//! It is compiled for tests alone and is in no list of rules: whoever wants it applied says so with
//! [`Cx::extra_rules`](crate::Cx::extra_rules).

use egg::Id;
use ops::math::neg::NEG;
use ops::math::tanh::TANH;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// The wrong rule, as a list.
pub static RULES: &[Rule] = &[Rule {
    name: "planted",
    summary: "tanh(x) is −x, which is wrong",
    set: Set::Raise,
    exactness: Exactness::Exact,
    anchor: &[&TANH],
    obligations: &[],
    apply: wrong,
}];

fn wrong(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    Ok(vec![(class, m.op(&NEG, node.operands())?)])
}
