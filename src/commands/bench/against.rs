//! Two engines in turns: first their outputs must agree, then rounds of runs alternate, so that what else the machine
//! does falls on both alike.

use std::io::Write;
use std::thread;
use std::time::Duration;

use egraft::tensors;
use ir::Tensor;
use runner::timing::{Bound, Times};
use serde_json::{Value, json};

use crate::commands::compare::{Tolerance, compare};
use crate::commands::engines::Other;
use crate::report::{FAILED, Failure, Problem};

/// Rounds of each engine. The first of a round is the second of the next.
const ROUNDS: usize = 9;

/// Between the turns: threads of an engine may spin for a while after its last run.
const PAUSE: Duration = Duration::from_millis(20);

/// The outputs of both must agree before anything is timed.
///
/// # Errors
/// They don't: a mismatch.
pub(super) fn compare_outputs(bound: &Bound<'_>, theirs: &[Tensor], other: &str) -> Result<(), Failure> {
    let tolerance = Tolerance { atol: Some(1e-3), rtol: Some(1e-3) };
    let (names, ours) = (&bound.session().entry().outputs, bound.outputs());
    let mut wrong: Vec<String> = Vec::new();
    if ours.len() != theirs.len() {
        wrong.push(format!("there are {} outputs, and {} of {other}", ours.len(), theirs.len()));
    }
    for ((port, ours), theirs) in names.iter().zip(ours).zip(theirs) {
        let comparison = compare(&port.name, &tensors::from_result(ours), theirs, tolerance);
        wrong.extend((!comparison.is_good()).then(|| comparison.describe()));
    }
    let Some(first) = wrong.first() else { return Ok(()) };
    let message = format!("the results differ from those of {other}: {first}");
    let help = "nothing was timed; `egraft verify MODEL --per-node` names the first node that differs from the reference";
    Err(Failure::Problems {
        problems: vec![Problem::new("egraft::cli::mismatch", message, help)],
        exit: FAILED,
    })
}

/// How the rounds went.
pub(super) struct Turns {
    other: String,
    runs_per_round: usize,
    /// Milliseconds of every run.
    ours: Times,
    theirs: Times,
    /// For each round: their median over ours.
    ratios: Times,
}

impl Turns {
    /// About `iters` runs of each in [`ROUNDS`] rounds, after `warmup`. One run more begins each turn, untimed.
    ///
    /// # Errors
    /// One of them fails.
    pub(super) fn take(
        bound: &mut Bound<'_>,
        other: &mut dyn Other,
        warmup: usize,
        iters: usize,
    ) -> Result<Turns, Failure> {
        let runs = iters.div_ceil(ROUNDS);
        other.times(warmup)?;
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let mut us = || turn(|| Ok(bound.times(1, runs)?));
            let mut them = || turn(|| Ok(Times::new(other.times(runs + 1)?.split_off(1))));
            let (mine, yours) = match round % 2 {
                0 => (us()?, them()?),
                _ => {
                    let yours = them()?;
                    (us()?, yours)
                }
            };
            ratios.push(yours.median() / mine.median());
            ours.extend_from_slice(mine.in_order());
            theirs.extend_from_slice(yours.in_order());
        }
        Ok(Turns {
            other: other.name().to_owned(),
            runs_per_round: runs,
            ours: Times::new(ours),
            theirs: Times::new(theirs),
            ratios: Times::new(ratios),
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "engine": self.other, "rounds": ROUNDS, "runs_per_round": self.runs_per_round,
            "ours_ms": self.ours.median(), "theirs_ms": self.theirs.median(),
            "ratio": self.ratios.median(), "ratios": self.ratios.in_order(),
        })
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (ours, theirs, ratio) = (self.ours.median(), self.theirs.median(), self.ratios.median());
        writeln!(out, "\negraft {ours:.4} ms, {} {theirs:.4} ms: {ratio:.2} times as fast", self.other)?;
        let [least, most] = [0.0, 1.0].map(|quantile| self.ratios.quantile(quantile));
        Ok(writeln!(
            out,
            "medians over {ROUNDS} rounds of {} runs of each in turns, whose ratios are {least:.2} to {most:.2}; \
             above 1 egraft is faster; the outputs agree",
            self.runs_per_round
        )?)
    }
}

/// A turn, after a pause.
fn turn(runs: impl FnOnce() -> Result<Times, Failure>) -> Result<Times, Failure> {
    thread::sleep(PAUSE);
    runs()
}
