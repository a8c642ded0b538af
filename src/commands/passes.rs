//! `egraft passes`: the passes, and the pipelines that they make up.

use std::io::Write;

use clap::Args;
use passes::pipeline::{self, Step};
use serde_json::json;

use super::print_json;
use crate::report::Failure;

/// The pipelines by the levels that run them.
const PIPELINES: [(&str, u8); 2] = [("-O0", 0), ("-O1 to -O3", 2)];

#[derive(Debug, Args)]
pub(super) struct Passes {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Passes {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let abouts: Vec<_> = pipeline::ALL.iter().filter_map(Step::about).collect();
        let pipelines = PIPELINES.map(|(levels, level)| (levels, text(pipeline::of_level(level))));
        if self.json {
            let passes: Vec<_> = abouts
                .iter()
                .zip(pipeline::ALL)
                .map(|(about, step)| {
                    json!({"name": about.name, "summary": about.summary, "works_on": noun(step)})
                })
                .collect();
            let pipelines: Vec<_> =
                pipelines.iter().map(|(levels, steps)| json!({"levels": levels, "steps": steps})).collect();
            print_json(out, &json!({"passes": passes, "pipelines": pipelines}))?;
            return Ok(0);
        }
        let width = abouts.iter().map(|about| about.name.len()).max().unwrap_or(0);
        for (about, step) in abouts.iter().zip(pipeline::ALL) {
            writeln!(out, "{:width$}  {:8} {}", about.name, noun(step), about.summary)?;
        }
        for (levels, steps) in pipelines {
            writeln!(out, "\n{levels}: {steps}")?;
        }
        Ok(0)
    }
}

/// What a pass works on.
fn noun(step: &Step) -> &'static str {
    match step {
        Step::Graph(_) => "graph",
        Step::Lower(_) => "lowering",
        Step::Program(_) => "program",
        Step::Repeat(..) => "",
    }
}

/// A pipeline in a line.
fn text(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Repeat(times, steps) => format!("({})×{times}", text(steps)),
        step => step.about().map_or_else(String::new, |about| about.name.to_owned()),
    };
    steps.iter().map(step).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_of_a_pipeline_is_listed() {
        let mut out = Vec::new();
        Passes { json: false }.run(&mut out).expect("memory takes it");
        let text = String::from_utf8(out).expect("text");
        for step in pipeline::ALL {
            let name = step.about().expect("a pass has a name").name;
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        }
        assert!(text.contains("(excess_precision fold_constants canonicalize cse dce)×3"), "{text}");
    }
}
