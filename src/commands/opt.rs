//! `egraft opt`: passes on a model or a dump, and the result as text.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use egraft::{Source, output, write};
use passes::pipeline::{self, Observer, State, Step};
use passes::{About, Changed};

use super::Common;
use crate::report::Failure;
use crate::watch::Watch;

#[derive(Debug, Args)]
#[command(
    after_help = "A file called NN-PASS.ir, NN-PASS.kir or NN-PASS.prog is a dump: without --passes and \
                        --start-from, the pipeline goes on after PASS. A text that egraft wrote says on top how far it \
                        came, and goes on from there. Other files start at the beginning, or where \
                        their form belongs: kernels in stage form at fusion, loops at scheduling.\n\n\
                        Examples:\n  egraft opt stages/03-cse.ir --stop-after fuse\n  \
                        egraft opt m.ir --passes fold_constants,dce\n  \
                        egraft opt m.ir --passes dce -o m.onnx"
)]
pub(super) struct Opt {
    /// The model: .ir, .kir, .prog or .onnx
    model: PathBuf,
    /// Run these passes, in this order, instead of the pipeline
    #[arg(long, value_name = "PASS", value_delimiter = ',', conflicts_with_all = ["start_from", "stop_after"])]
    passes: Vec<String>,
    /// Begin with this pass of the pipeline
    #[arg(long, value_name = "PASS")]
    start_from: Option<String>,
    /// End after this pass of the pipeline
    #[arg(long, value_name = "PASS")]
    stop_after: Option<String>,
    /// Also print the form after this pass, or after `all` that change something
    #[arg(long, value_name = "PASS")]
    print_after: Vec<String>,
    /// Write the result to a file instead of printing it: as text, with weights in weights.bin beside it, or a graph as
    /// an ONNX model, if the name ends in .onnx
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print how long each pass took, after the result
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    common: Common,
}

impl Opt {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        if let Some(path) = &self.output {
            output::check(path)?;
            write::check_form(path)?;
            output::check_other(path, &self.model)?;
        }
        let named = self.passes.iter().chain(&self.start_from).chain(&self.stop_after);
        let after = self.print_after.iter().filter(|name| *name != "all");
        for name in named.chain(after) {
            find(name)?;
        }
        let (options, source) = self.common.load(&self.model)?;
        let chosen: Vec<Step> = self.passes.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
        let pipeline = pipeline::of_level(source.provenance.options.level);
        let steps = match &self.start_from {
            _ if !chosen.is_empty() => &chosen,
            Some(first) => from(pipeline, first)?,
            None => egraft::remaining(pipeline, &source),
        };
        if let Some(last) = &self.stop_after
            && !steps.iter().any(|step| step.contains(last))
        {
            return Err(not_ahead(last));
        }
        let from = source.provenance.to_line();
        let mut printing =
            Printing { watch: Watch::new(), after: &self.print_after, from: &from, text: String::new() };
        let done = egraft::run_passes(source, steps, self.stop_after.as_deref(), &options, &mut printing);
        let Printing { mut watch, text, .. } = printing;
        out.write_all(text.as_bytes())?;
        let Source { state, provenance, .. } = watch.finish(done)?;
        // Chosen passes are not on the way of the pipeline: the model has come as far as before.
        let from = if chosen.is_empty() { provenance.to_line() } else { from };
        let text = from + &print(&state);
        match &self.output {
            Some(path) => egraft::write_model(path, &text, &state)?,
            None => out.write_all(text.as_bytes())?,
        }
        if self.timing {
            watch.table(out)?;
        }
        Ok(0)
    }
}

fn find(name: &str) -> Result<Step, Failure> {
    Step::find(name).map_err(|error| Failure::bad_input(error.code(), &error, "`egraft passes` lists them"))
}

/// The pipeline from the first step that runs this pass.
fn from<'a>(pipeline: &'a [Step], pass: &str) -> Result<&'a [Step], Failure> {
    let at = pipeline.iter().position(|step| step.contains(pass));
    at.map(|at| &pipeline[at..]).ok_or_else(|| not_ahead(pass))
}

fn not_ahead(pass: &str) -> Failure {
    Failure::bad_input(
        "egraft::cli::passes",
        format!("`{pass}` is none of the passes that are left for this model"),
        "`egraft passes` shows the pipelines; `--passes` runs any pass",
    )
}

fn print(state: &State) -> String {
    match state {
        State::Graph(graph) => graph.to_string(),
        State::Program(program) => program.to_string(),
    }
}

/// Collects the form after some passes.
struct Printing<'a> {
    watch: Watch,
    after: &'a [String],
    from: &'a str,
    text: String,
}

impl Observer for Printing<'_> {
    fn before(&mut self, pass: About) {
        self.watch.before(pass);
    }

    fn after(&mut self, pass: About, state: &State, changed: Changed) {
        self.watch.after(pass, state, changed);
        let wanted = self.after.iter().any(|name| name == pass.name)
            || changed.0 && self.after.iter().any(|name| name == "all");
        if wanted {
            self.text += &format!("; after {}: {}\n{}{}\n", pass.name, pass.summary, self.from, print(state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_includes_the_pass() {
        let rest = from(pipeline::DEFAULT, "fuse").expect("it is in the pipeline");
        assert_eq!(rest[0].about().map(|about| about.name), Some("fuse"));
        assert!(from(pipeline::UNFUSED, "fuse").is_err(), "level 0 does not fuse");
    }

    #[test]
    fn unknown_passes_are_refused() {
        let Err(Failure::Problems { problems, .. }) = find("fuze") else { panic!("there is no such pass") };
        assert_eq!(problems[0].code, "egraft::passes::unknown_pass");
    }
}
