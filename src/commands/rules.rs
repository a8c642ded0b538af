//! `egraft rules`: the rewrite rules, what they do to numbers, and what must hold for them.

use std::io::Write;

use clap::Args;
use egraft::options::fp_name;
use passes::FpMode;
use passes::egraph::rules::{self, Exactness, Rule};
use serde_json::{Value, json};

use super::print_json;
use crate::report::Failure;

#[derive(Debug, Args)]
pub(super) struct Rules {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rules {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        if self.json {
            print_json(out, &json!({"rules": rules::all().map(json).collect::<Vec<_>>()}))?;
            return Ok(0);
        }
        let width = rules::all().map(|rule| rule.name.len()).max().unwrap_or(0);
        for rule in rules::all() {
            let Rule { name, summary, set, exactness, obligations, .. } = rule;
            let from = fp_name(first_mode(*exactness));
            writeln!(
                out,
                "{name:width$}  {:7}  {:13}  from --fp {from:7}  at {}",
                set.name(),
                exactness.name(),
                anchors(rule).join(", "),
            )?;
            writeln!(out, "    {summary}")?;
            for obligation in *obligations {
                writeln!(out, "    if {obligation}")?;
            }
        }
        Ok(0)
    }
}

/// The names of the ops at which a rule is tried.
fn anchors(rule: &Rule) -> Vec<&'static str> {
    rule.anchor.iter().map(|op| op.name).collect()
}

/// The most careful mode in which such a rule is applied.
pub(super) fn first_mode(exactness: Exactness) -> FpMode {
    let mut modes = [FpMode::Strict, FpMode::Reassoc, FpMode::Fast].into_iter();
    modes.find(|fp| exactness.allowed(*fp)).unwrap_or(FpMode::Fast)
}

fn json(rule: &'static Rule) -> Value {
    json!({
        "name": rule.name, "set": rule.set.name(), "exactness": rule.exactness.name(),
        "fp": fp_name(first_mode(rule.exactness)), "anchors": anchors(rule), "summary": rule.summary,
        "obligations": rule.obligations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_listed_with_what_it_needs() {
        let mut out = Vec::new();
        Rules { json: false }.run(&mut out).expect("memory takes it");
        let text = String::from_utf8(out).expect("text");
        for rule in rules::all() {
            assert!(text.lines().any(|line| line.starts_with(rule.name)), "{}", rule.name);
            assert!(rule.obligations.iter().all(|obligation| text.contains(obligation)), "{}", rule.name);
        }
    }

    #[test]
    fn modes_allow_what_they_are_for() {
        assert_eq!(first_mode(Exactness::Exact), FpMode::Strict);
        assert_eq!(first_mode(Exactness::Reassociating), FpMode::Reassoc);
        assert_eq!(first_mode(Exactness::Approximate), FpMode::Fast);
    }
}
