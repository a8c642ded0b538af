//! Patterns as text, expanded into their commuted variants.
//!
//! There is no rule that says `a + b = b + a`: with one, a chain of sums has exponentially many spellings. Instead a
//! pattern is compiled once for each order of the operands of its commutative ops.

use egg::{ENodeOrVar, Id, Language, Pattern, PatternAst, RecExpr, Searcher, Subst, Var};

use super::facts::Classes;
use super::language::Node;

/// Ops whose two operands may change places.
const COMMUTATIVE: [&str; 7] = ["add", "mul", "max", "min", "and", "or", "eq"];

/// What a rule looks for, in every order.
pub(super) struct Spellings(Vec<Pattern<Node>>);

impl Spellings {
    /// The patterns with these texts and their commuted variants.
    pub(super) fn of(texts: &[&str]) -> Spellings {
        let mut all: Vec<PatternAst<Node>> = Vec::new();
        for text in texts {
            let pattern: Pattern<Node> =
                text.parse().unwrap_or_else(|error| panic!("bug: the pattern `{text}`: {error}"));
            all.push(pattern.ast);
        }
        let mut next = 0;
        while next < all.len() {
            for at in 0..all[next].as_ref().len() {
                let Some(other) = commuted(&all[next], at) else { continue };
                if !all.contains(&other) {
                    all.push(other);
                }
            }
            next += 1;
        }
        Spellings(all.into_iter().map(Pattern::new).collect())
    }

    /// What the variables stand for, in each way in which a class is spelled so.
    pub(super) fn find(&self, classes: &Classes, class: Id) -> Vec<Found> {
        let matches = self.0.iter().filter_map(|pattern| pattern.search_eclass(classes, class));
        matches.flat_map(|matches| matches.substs).map(Found).collect()
    }
}

/// The pattern with the operands of node `at` in the other order.
fn commuted(pattern: &PatternAst<Node>, at: usize) -> Option<PatternAst<Node>> {
    let mut nodes: Vec<ENodeOrVar<Node>> = pattern.as_ref().to_vec();
    let ENodeOrVar::ENode(node) = &mut nodes[at] else { return None };
    if !COMMUTATIVE.contains(&node.op()?.name) {
        return None;
    }
    node.children_mut().swap(0, 1);
    Some(RecExpr::from(nodes))
}

/// What the variables of a pattern stand for.
pub(super) struct Found(Subst);

impl Found {
    /// The class that stands for `?name`.
    pub(super) fn get(&self, name: &str) -> Id {
        let var: Var = name.parse().unwrap_or_else(|error| panic!("bug: the variable `{name}`: {error}"));
        self.0[var]
    }

    /// Does the pattern have a variable `?name`?
    pub(super) fn has(&self, name: &str) -> bool {
        name.parse().is_ok_and(|var: Var| self.0.get(var).is_some())
    }
}
