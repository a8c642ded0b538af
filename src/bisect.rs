//! Which rewrite rule makes a model give wrong results, and where it shows first.
//!
//! A [`Judge`] compiles, runs and compares; here is decided what is tried. The order is fixed: without any rule, each
//! rule alone, then one more at a time as long as the results are good. Only rules that found something in the model
//! are tried.

use std::collections::BTreeSet;
use std::sync::Arc;

use ir::origin::Place;
use ir::{Graph, Value};
use passes::pipeline::State;

use crate::compile::cx;
use crate::error::Error;
use crate::explain::{explain, name_nodes};
use crate::options::Options;
use crate::source::Source;

/// Says whether what a model gives is good.
pub trait Judge {
    /// Why it can't be told.
    type Error: From<Error>;

    /// Are the model's outputs good?
    ///
    /// # Errors
    /// Why it can't be told.
    fn outputs(&mut self, model: Source, options: &Options) -> Result<bool, Self::Error>;

    /// Does the model, whose only output is a value inside of the one in question, give what its meaning says?
    ///
    /// # Errors
    /// As [`Judge::outputs`].
    fn value(&mut self, model: Source, options: &Options) -> Result<bool, Self::Error>;
}

/// A rule without which results would be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guilty {
    /// Its name.
    pub rule: String,
    /// Results are wrong also if it is the only rule; otherwise only with others that come before it.
    pub alone: bool,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// These rules; the first node of the model at which they make a difference, where that shows.
    Rules {
        /// The rules.
        guilty: Vec<Guilty>,
        /// The node.
        node: Option<Arc<Place>>,
    },
    /// No rule: results are wrong without any.
    NoRule {
        /// Are they good without optimisation, each op being its own kernel?
        unoptimised: bool,
    },
}

/// Finds out why a model gives wrong results.
///
/// # Errors
/// That of the judge; those of passes.
pub fn bisect<J: Judge>(model: &Source, options: &Options, judge: &mut J) -> Result<Verdict, J::Error> {
    let rules = applied(model, options)?;
    let mut good = |allowed: &[&str]| judge.outputs(with_only(model, options, allowed), options);
    let Some(guilty) = guilty(&rules.iter().map(String::as_str).collect::<Vec<_>>(), &mut good)? else {
        let mut plain = with_only(model, options, &[]);
        plain.provenance.options.level = 0;
        return Ok(Verdict::NoRule { unoptimised: judge.outputs(plain, options)? });
    };
    let node = first_node(model, options, &guilty, judge)?;
    Ok(Verdict::Rules { guilty, node })
}

/// Finds the rules that spoil results: `good` says whether results are good with only the given ones allowed. `None`
/// if they are not even good without any.
///
/// # Errors
/// That of `good`.
pub fn guilty<E>(
    rules: &[&str],
    good: &mut dyn FnMut(&[&str]) -> Result<bool, E>,
) -> Result<Option<Vec<Guilty>>, E> {
    if !good(&[])? {
        return Ok(None);
    }
    let mut found = Vec::new();
    let mut rest = Vec::new();
    for &rule in rules {
        match good(&[rule])? {
            true => rest.push(rule),
            false => found.push(Guilty { rule: rule.to_owned(), alone: true }),
        }
    }
    let mut allowed = Vec::new();
    for rule in rest {
        allowed.push(rule);
        if !good(&allowed)? {
            allowed.pop();
            found.push(Guilty { rule: rule.to_owned(), alone: false });
        }
    }
    Ok(Some(found))
}

/// The rules that find something in the model, in the order in which they are tried.
fn applied(model: &Source, options: &Options) -> Result<Vec<String>, Error> {
    let applied = explain(model.clone(), options, &mut ())?.rules.map(|rules| rules.report.applied);
    let applied = applied.unwrap_or_default();
    let rules = cx(&model.provenance, options).rules();
    Ok(rules.filter(|rule| applied.contains_key(rule.name)).map(|rule| rule.name.to_owned()).collect())
}

/// The model with no other rules allowed than these.
fn with_only(model: &Source, options: &Options, allowed: &[&str]) -> Source {
    let mut model = model.clone();
    let others = cx(&model.provenance, options).rules().filter(|rule| !allowed.contains(&rule.name));
    let disabled = &mut model.provenance.options.disabled_rules;
    disabled.extend(others.map(|rule| rule.name.to_owned()));
    disabled.sort();
    disabled.dedup();
    model
}

/// The first node of the model whose value is wrong, among those from which the guilty rules made something.
///
/// Each is looked at in a model of which it is the only output: as an output among others, it would have to be there,
/// and rules would have less to merge.
fn first_node<J: Judge>(
    model: &Source,
    options: &Options,
    guilty: &[Guilty],
    judge: &mut J,
) -> Result<Option<Arc<Place>>, J::Error> {
    let State::Graph(graph) = &model.state else { return Ok(None) };
    let mut graph = graph.clone();
    name_nodes(&mut graph);
    let named = Source { state: State::Graph(graph.clone()), ..model.clone() };
    let touched = touched(&named, options, guilty)?;
    for id in graph.order() {
        let node = graph.node(id);
        let Some(place) = node.origin.places().iter().find(|place| touched.contains(*place)) else {
            continue;
        };
        if node.op().is_none() {
            continue;
        }
        for result in 0..node.types.len() {
            let part =
                Source { state: State::Graph(only(&graph, Value { node: id, result })), ..model.clone() };
            if !judge.value(part, options)? {
                return Ok(Some(Arc::clone(place)));
            }
        }
    }
    Ok(None)
}

/// The nodes of the model from which the guilty rules made something.
fn touched(model: &Source, options: &Options, guilty: &[Guilty]) -> Result<BTreeSet<Arc<Place>>, Error> {
    let State::Program(program) = explain(model.clone(), options, &mut ())?.source.state else {
        return Ok(BTreeSet::new());
    };
    let is_guilty = |rule: &Arc<str>| guilty.iter().any(|guilty| guilty.rule == **rule);
    let calls = program.entries.iter().flat_map(ir::program::Entry::calls);
    let made = calls.filter(|call| call.origin.rules().iter().any(is_guilty));
    Ok(made.flat_map(|call| call.origin.places().to_vec()).collect())
}

/// The graph with one output.
fn only(graph: &Graph, value: Value) -> Graph {
    let mut part = graph.clone();
    part.set_outputs([("value".to_owned(), value)]);
    let needed = part.needed(part.roots());
    part.retain(|id| needed.contains(&id));
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guilty ones, if results are wrong exactly where `wrong` says so, and how often was asked.
    fn found(rules: &[&str], wrong: fn(&[&str]) -> bool) -> (Option<Vec<(String, bool)>>, usize) {
        let mut asked = 0;
        let mut good = |allowed: &[&str]| -> Result<bool, std::convert::Infallible> {
            asked += 1;
            Ok(!wrong(allowed))
        };
        let Ok(guilty) = guilty(rules, &mut good);
        let guilty = guilty.map(|all| all.into_iter().map(|guilty| (guilty.rule, guilty.alone)).collect());
        (guilty, asked)
    }

    const RULES: [&str; 4] = ["a", "b", "c", "d"];

    #[test]
    fn a_single_rule_is_named() {
        let (guilty, asked) = found(&RULES, |allowed| allowed.contains(&"c"));
        assert_eq!((guilty, asked), (Some(vec![("c".to_owned(), true)]), 8));
    }

    #[test]
    fn every_guilty_rule_is_named() {
        let (guilty, _) = found(&RULES, |allowed| allowed.contains(&"a") || allowed.contains(&"d"));
        assert_eq!(guilty, Some(vec![("a".to_owned(), true), ("d".to_owned(), true)]));
    }

    #[test]
    fn a_rule_that_needs_another_is_the_later_one() {
        let (guilty, _) = found(&RULES, |allowed| allowed.contains(&"b") && allowed.contains(&"d"));
        assert_eq!(guilty, Some(vec![("d".to_owned(), false)]));
    }

    #[test]
    fn rules_are_innocent_of_what_is_wrong_without_them() {
        assert_eq!(found(&RULES, |_| true), (None, 1));
        assert_eq!(found(&[], |allowed| allowed.len() > 1), (Some(vec![]), 1));
    }
}
