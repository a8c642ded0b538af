//! Timing of runs. Each time is that of one call of the bound session: no file, no printing, and nothing is
//! allocated, since a run before has made all room.

#![allow(unsafe_code, reason = "runs are timed without the allocation of their outputs")]

use std::io::{self, Write};
use std::ptr;
use std::time::Instant;

use runtime::{RunError, Session, TensorBuf};
use serde_json::json;

use super::views;
use crate::tensor::Tensor;

/// Milliseconds of each run, in order.
pub(super) struct Times(Vec<f64>);

/// Runs `warmup` times, then `count` times for the record. State is reset before each, so that what is returned is
/// what a single run gives.
///
/// # Errors
/// The inputs don't fit the model.
pub(super) fn run(
    session: &mut Session,
    inputs: &[Tensor],
    warmup: usize,
    count: usize,
) -> Result<(Vec<TensorBuf>, Times), RunError> {
    // Checks dtypes and sizes, and gives outputs of the right size.
    let mut outputs = session.run_tensors(&views(inputs))?;
    let pointers: Vec<*const u8> = inputs.iter().map(|input| input.bytes().as_ptr()).collect();
    // What is as large as the run decides is in the session's memory.
    let dynamic: Vec<bool> = (0..outputs.len()).map(|index| session.entry().is_dynamic(index)).collect();
    let result = |(output, dynamic): (&mut TensorBuf, bool)| match dynamic {
        true => ptr::null_mut(),
        false => output.data.as_mut_ptr(),
    };
    let results: Vec<*mut u8> = outputs.iter_mut().zip(dynamic).map(result).collect();
    let mut once = || {
        // Each run starts as a program does; the clock doesn't see it.
        session.reset_state();
        let start = Instant::now();
        // SAFETY: the session is bound to exactly these inputs by the run above, which also gave each
        // output its size; all are owned or borrowed here, aligned to 64 bytes, and overlap nothing.
        unsafe { session.run(&pointers, &results) }?;
        Ok::<_, RunError>(start.elapsed().as_secs_f64() * 1e3)
    };
    for _ in 0..warmup {
        once()?;
    }
    let mut times = Vec::with_capacity(count.min(1 << 20));
    for _ in 0..count {
        times.push(once()?);
    }
    Ok((outputs, Times(times)))
}

impl Times {
    /// Prints the distribution; as JSON with every single time.
    pub(super) fn print(
        &self,
        entry: &str,
        threads: usize,
        json: bool,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |quantile| quantile_of(&sorted, quantile);
        let (median, p90, p99) = (at(0.5), at(0.9), at(0.99));
        if json {
            let report = json!({
                "entry": entry, "threads": threads, "ms": self.0,
                "min": at(0.0), "median": median, "p90": p90, "p99": p99,
            });
            return writeln!(out, "{report}");
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        writeln!(out, "runs    {} on {threads} thread{}", sorted.len(), plural(threads))?;
        for (name, value) in [("median", median), ("p90", p90), ("p99", p99)] {
            writeln!(out, "{name:<7} {value:.4} ms")?;
        }
        Ok(())
    }
}

/// Linear interpolation between the two nearest of the sorted values, as NumPy does it.
fn quantile_of(sorted: &[f64], quantile: f64) -> f64 {
    let at = quantile * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|q| quantile_of(&sorted, q)), [1.0, 2.5, 3.7, 4.0]);
        assert_eq!(quantile_of(&[7.0], 0.99), 7.0);
    }
}
