//! What happens while a model is compiled: progress on the terminal, times, and dumps.
//!
//! Progress goes to standard error and is silent where that is no terminal. No time that is measured here decides
//! anything.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use egraft::{Dump, Error, Options, Source};
use indicatif::{ProgressBar, ProgressStyle};
use passes::egraph::Saturate;
use passes::pipeline::{Observer, State};
use passes::{About, Changed, GraphPass};
use serde_json::{Value, json};

use crate::report::Failure;

/// One run of a pass.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ran {
    /// The pass.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Whether it changed anything.
    pub changed: bool,
}

/// Watches one compilation.
pub(crate) struct Watch {
    bar: ProgressBar,
    started: Instant,
    ran: Vec<Ran>,
    rewrites: BTreeMap<String, usize>,
    dump: Option<Dump>,
}

impl Watch {
    /// Shows progress, and measures.
    pub(crate) fn new() -> Watch {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Watch { bar, started: Instant::now(), ran: Vec::new(), rewrites: BTreeMap::new(), dump: None }
    }

    /// Also writes the stages of the compilation of `source` to a folder.
    ///
    /// # Errors
    /// The folder holds something else, or can't be written to.
    pub(crate) fn with_dump(
        folder: Option<&Path>,
        source: &Source,
        options: &Options,
    ) -> Result<Watch, Error> {
        let mut watch = Watch::new();
        watch.dump(folder, source, options)?;
        Ok(watch)
    }

    /// From now on, also writes the stages of the compilation of `source` to a folder.
    ///
    /// # Errors
    /// As [`Watch::with_dump`].
    pub(crate) fn dump(
        &mut self,
        folder: Option<&Path>,
        source: &Source,
        options: &Options,
    ) -> Result<(), Error> {
        if let Some(folder) = folder {
            self.dump = Some(Dump::create(folder, source, options.processor()?)?);
        }
        Ok(())
    }

    /// Ends the watch: the compilation's result, unless a dump could not be written. Dumps are completed also of a
    /// compilation that failed: that is when they are read.
    ///
    /// # Errors
    /// That of the compilation, else that of the dump.
    pub(crate) fn finish<T>(&mut self, done: Result<T, Error>) -> Result<T, Failure> {
        self.bar.finish_and_clear();
        let dumped = self.dump.take().map_or(Ok(()), Dump::finish);
        let value = done?;
        dumped?;
        Ok(value)
    }

    /// Every run of a pass, in order.
    pub(crate) fn json(&self) -> Value {
        let ran =
            |ran: &Ran| json!({"name": ran.name, "ms": ran.took.as_secs_f64() * 1e3, "changed": ran.changed});
        self.ran.iter().map(ran).collect()
    }

    /// How often each rewrite rule is in what became of the model's graph.
    pub(crate) fn rewrites(&self) -> &BTreeMap<String, usize> {
        &self.rewrites
    }

    /// Every run of a pass with its time, as a table.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let total: Duration = self.ran.iter().map(|ran| ran.took).sum();
        for ran in &self.ran {
            let changed = if ran.changed { "" } else { "  nothing changed" };
            writeln!(out, "{:>10.3} ms  {}{changed}", ran.took.as_secs_f64() * 1e3, ran.name)?;
        }
        writeln!(out, "{:>10.3} ms  in all", total.as_secs_f64() * 1e3)
    }
}

impl Observer for Watch {
    fn before(&mut self, pass: About) {
        self.bar.set_message(pass.summary);
        self.bar.tick();
        self.started = Instant::now();
    }

    fn after(&mut self, pass: About, state: &State, changed: Changed) {
        self.ran.push(Ran { name: pass.name, took: self.started.elapsed(), changed: changed.0 });
        if let State::Graph(graph) = state
            && pass == Saturate.about()
        {
            self.rewrites = passes::explain::counts(graph);
        }
        if let Some(dump) = &mut self.dump {
            dump.after(pass, state, changed);
        }
    }
}
