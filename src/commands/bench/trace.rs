//! One run as a Chrome trace: a JSON array of complete events, for Perfetto or `chrome://tracing`. Times are
//! microseconds since the start of the run.

use std::time::Duration;

use runner::timing::Bound;
use runtime::{Record, RunError};
use serde_json::{Value, json};

use super::kernels::{self, Profiled};

/// The trace of one more run.
///
/// # Errors
/// As [`Bound::time`].
pub(super) fn of_one_run(bound: &mut Bound<'_>, profiled: &Profiled) -> Result<String, RunError> {
    let mut profile = kernels::profile(bound)?;
    bound.profile(&mut profile)?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let event = |name: &str, kind: &str, start: Duration, end: Duration, args: Value| {
        json!({
            "ph": "X", "name": name, "cat": kind, "pid": 1, "tid": 1, "ts": micros(start),
            "dur": micros(end - start), "args": args,
        })
    };
    let run = event("run", "run", Duration::ZERO, profile.total(), json!({}));
    let kernel = |record: &Record| {
        let call = &profiled.calls[record.call];
        let args = json!({
            "step": record.call, "origins": call.origins, "flops": call.flops, "bytes": call.bytes,
        });
        event(&call.name, &call.kind, record.start, record.end, args)
    };
    let events: Vec<Value> = std::iter::once(run).chain(profile.records().iter().map(kernel)).collect();
    Ok(format!("{:#}\n", Value::from(events)))
}
