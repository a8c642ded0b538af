//! `egraft verify --bisect`: which rewrite rule makes the results wrong.

use std::io::Write;

use egraft::bisect::{Guilty, Judge, Verdict, bisect};
use egraft::{Options, Source};
use serde_json::{Value, json};

use super::cases::Names;
use super::through::Ready;
use super::{Opinion, Verify, names, reference};
use crate::report::Failure;
use crate::watch::Watch;

/// Finds the guilty rules.
///
/// # Errors
/// A value of the model can't be told.
pub(super) fn run(
    verify: &Verify,
    original: &Source,
    options: &Options,
    names: &Names,
    opinions: &[Opinion],
) -> Result<Verdict, Failure> {
    bisect(original, options, &mut Comparing { verify, names, opinions })
}

/// Compiles, runs and compares as `verify` does.
struct Comparing<'a> {
    verify: &'a Verify,
    names: &'a Names,
    opinions: &'a [Opinion],
}

impl Judge for Comparing<'_> {
    type Error = Failure;

    fn outputs(&mut self, model: Source, options: &Options) -> Result<bool, Failure> {
        self.good(model, options, self.names, self.opinions)
    }

    fn value(&mut self, model: Source, options: &Options) -> Result<bool, Failure> {
        let names = names(&model.state);
        let opinion = |Opinion { case, .. }: &Opinion| {
            let values = reference(&model.state, &case.inputs)?;
            let expected = values.into_iter().map(Some).collect();
            Ok(Opinion { case: case.clone(), with: "the reference".to_owned(), expected })
        };
        let opinions: Vec<Opinion> = self.opinions.iter().map(opinion).collect::<Result<_, Failure>>()?;
        self.good(model, options, &names, &opinions)
    }
}

impl Comparing<'_> {
    /// Are the results good? They are not where the model does not compile: that may be what a rule spoils.
    fn good(
        &self,
        model: Source,
        options: &Options,
        names: &Names,
        opinions: &[Opinion],
    ) -> Result<bool, Failure> {
        let made = self.verify.through.compile(self.verify.guard, model, options, &mut Watch::new());
        let Ok(made) = made else { return Ok(false) };
        let (verify, threads) = (self.verify, self.verify.common.threads());
        egraft::output::with_folder(|folder| {
            Ok(Ready::new(verify.through, &made, folder).and_then(|ready| {
                for opinion in opinions {
                    let found = ready.run(&opinion.case.inputs, names, threads)?;
                    if !verify.verdict(names, &found, opinion).is_good() {
                        return Ok(false);
                    }
                }
                Ok(true)
            }))
        })?
    }
}

/// What was found out, for people.
///
/// # Errors
/// Those of `out`.
pub(super) fn tell(found: &Verdict, out: &mut dyn Write) -> Result<(), Failure> {
    match found {
        Verdict::Rules { guilty, node } => {
            if guilty.is_empty() {
                writeln!(out, "bisect: the results are good with every rule alone; none is guilty")?;
            }
            for Guilty { rule, alone } in guilty {
                let how = if *alone { "" } else { ", together with rules before it" };
                writeln!(out, "bisect: rule {rule} is guilty{how}; without it the results are good")?;
            }
            if let Some(place) = node {
                writeln!(out, "  it shows first at node {} ({})", place.name, place.op)?;
            }
        }
        Verdict::NoRule { unoptimised } => {
            let level = if *unoptimised { "they are good" } else { "they are wrong" };
            writeln!(out, "bisect: no rule is guilty: the results are wrong without any; with -O0 {level}")?;
        }
    }
    Ok(())
}

/// What was found out, for programs.
pub(super) fn json(found: &Verdict) -> Value {
    match found {
        Verdict::Rules { guilty, node } => {
            let rule = |guilty: &Guilty| json!({"rule": guilty.rule, "alone": guilty.alone});
            let node = node.as_ref().map(|place| json!({"name": place.name, "op": place.op}));
            json!({
                "guilty": guilty.iter().map(rule).collect::<Vec<_>>(), "node": node,
                "ok_without_rules": true, "ok_unoptimised": null,
            })
        }
        Verdict::NoRule { unoptimised } => json!({
            "guilty": [], "node": null, "ok_without_rules": false, "ok_unoptimised": unoptimised,
        }),
    }
}
