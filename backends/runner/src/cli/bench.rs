//! How the times of runs are printed.

use std::io::{self, Write};

use serde_json::json;

use crate::timing::Times;

/// Prints the distribution; as JSON with every single time.
pub(super) fn print(
    times: &Times,
    entry: &str,
    threads: usize,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (median, p90, p99) = (times.median(), times.quantile(0.9), times.quantile(0.99));
    if json {
        let report = json!({
            "entry": entry, "threads": threads, "ms": times.in_order(),
            "min": times.quantile(0.0), "median": median, "p90": p90, "p99": p99,
        });
        return writeln!(out, "{report}");
    }
    let (count, plural) = (times.in_order().len(), if threads == 1 { "" } else { "s" });
    writeln!(out, "runs    {count} on {threads} thread{plural}")?;
    for (name, value) in [("median", median), ("p90", p90), ("p99", p99)] {
        writeln!(out, "{name:<7} {value:.4} ms")?;
    }
    Ok(())
}
