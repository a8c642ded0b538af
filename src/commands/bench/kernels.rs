//! Where the time of a run goes: every call of a kernel, what it costs by the model's own account, and how that
//! compares with what the machine could do.

use std::collections::BTreeMap;
use std::io::Write;

use ir::Dim;
use runner::timing::{Bound, Times};
use runtime::{Model, Pool, Profile, RunError, Session, peak};
use serde_json::{Value, json};

use crate::report::Failure;

/// What the machine could do at most, on this many threads.
pub(super) struct Machine {
    pub(super) threads: usize,
    /// What it is called, if it is not the processor.
    pub(super) device: Option<String>,
    /// 10⁹ multiply-adds in registers per second, each counted as two. Of a device it is not measured.
    gflops: Option<f64>,
    /// 10⁹ bytes per second: read from memory, or by a device, read and written by copies within its own.
    gbps: f64,
}

impl Machine {
    /// Measures it.
    ///
    /// # Errors
    /// The memory to be read is not there.
    pub(super) fn measure(model: &Model, threads: usize) -> Result<Machine, Failure> {
        if let Some(device) = model.device() {
            let gbps = peak::copied_bytes_per_second(&**device)? * 1e-9;
            return Ok(Machine { threads, device: Some(device.name().to_owned()), gflops: None, gbps });
        }
        let gbps = peak::bytes_per_second(&Pool::new(threads)).map_err(RunError::from)? * 1e-9;
        let gflops = peak::flops_per_second() * threads as f64 * 1e-9;
        Ok(Machine { threads, device: None, gflops: Some(gflops), gbps })
    }

    pub(super) fn json(&self) -> Value {
        let bytes = peak::READ_BYTES;
        match &self.device {
            None => json!({"fma_gflops": self.gflops, "read_gbps": self.gbps, "read_bytes": bytes}),
            Some(device) => json!({"device": device, "copy_gbps": self.gbps, "copy_bytes": bytes}),
        }
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (gbps, mebibytes) = (self.gbps, peak::READ_BYTES >> 20);
        match (&self.device, self.gflops) {
            (Some(device), _) => writeln!(
                out,
                "machine {device}, {gbps:.1} GB/s read and written by copies of {mebibytes} MiB"
            )?,
            (None, gflops) => writeln!(
                out,
                "machine {:.1} GFLOP/s of f32 multiply-adds (one thread times {}), {gbps:.1} GB/s read from \
                 {mebibytes} MiB",
                gflops.unwrap_or_default(),
                self.threads,
            )?,
        }
        Ok(())
    }
}

/// A call of a kernel, as the plan and the model's metadata know it.
pub(super) struct Call {
    pub(super) name: String,
    /// What it mainly is; empty if the metadata do not say.
    pub(super) kind: String,
    pub(super) origins: Vec<String>,
    /// Floating-point operations, at the sizes of the session.
    pub(super) flops: Option<i64>,
    /// Bytes read and written.
    pub(super) bytes: Option<i64>,
}

/// The calls of the session's entry, at sizes as the last run left them.
fn calls(session: &Session) -> Vec<Call> {
    let (model, entry) = (session.model(), session.entry());
    let meta: Value = serde_json::from_str(model.meta()).unwrap_or_default();
    let launches: Vec<&Value> =
        meta["kernels"].as_array().into_iter().flatten().filter(|one| one["entry"] == entry.name).collect();
    let size = |value: &Value| match value.as_str() {
        Some(text) => Dim::parse(text).ok()?.eval(&|symbol| session.size(symbol.name())),
        None => value.as_i64(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let call = |(number, kernel): (usize, u32)| {
        let name = model.plan().kernels[kernel as usize].name.clone();
        let launch = launches.get(number).copied().filter(|launch| launch["name"] == name);
        let launch = launch.unwrap_or(&Value::Null);
        let bytes = size(&launch["bytes_read"]).zip(size(&launch["bytes_written"]));
        Call {
            name,
            kind: text(&launch["kind"]),
            origins: launch["origins"].as_array().into_iter().flatten().map(text).collect(),
            flops: size(&launch["flops"]),
            bytes: bytes.map(|(read, written)| read + written),
        }
    };
    entry.kernels().into_iter().enumerate().map(call).collect()
}

/// Where the time of some runs went.
pub(super) struct Profiled {
    pub(super) calls: Vec<Call>,
    /// How often a run makes each call: more than once in a loop, never in a branch that is not taken.
    made: Vec<usize>,
    /// Milliseconds of each call, run by run.
    ms: Vec<Vec<f64>>,
    /// Milliseconds of the runs.
    runs: Times,
    /// Milliseconds of each that no kernel took.
    outside: Times,
}

/// Calls taken together: their sums over a run.
struct Row<'a> {
    call: &'a Call,
    made: usize,
    times: Times,
    flops: Option<f64>,
    bytes: Option<f64>,
}

impl Profiled {
    /// Profiles `runs` runs.
    ///
    /// # Errors
    /// As [`Bound::time`].
    pub(super) fn measure(bound: &mut Bound<'_>, runs: usize) -> Result<Profiled, RunError> {
        let mut profile = profile(bound)?;
        let calls = calls(bound.session());
        let mut ms = vec![Vec::with_capacity(runs); calls.len()];
        let mut made = vec![0; calls.len()];
        let mut totals = Vec::with_capacity(runs);
        for _ in 0..runs {
            bound.profile(&mut profile)?;
            totals.push(profile.total().as_secs_f64() * 1e3);
            made.fill(0);
            let mut of_run = vec![0.0; calls.len()];
            for record in profile.records() {
                made[record.call] += 1;
                of_run[record.call] += (record.end - record.start).as_secs_f64() * 1e3;
            }
            ms.iter_mut().zip(of_run).for_each(|(ms, time)| ms.push(time));
        }
        let inside = |run: usize| ms.iter().map(|of_call| of_call[run]).sum::<f64>();
        let outside = totals.iter().enumerate().map(|(run, total)| (total - inside(run)).max(0.0)).collect();
        Ok(Profiled { calls, made, ms, runs: Times::new(totals), outside: Times::new(outside) })
    }

    /// The sums of these calls, the first of which tells what they are.
    fn row(&self, numbers: &[usize]) -> Row<'_> {
        let sum = |of: &dyn Fn(&Call) -> Option<i64>| {
            let each = numbers
                .iter()
                .map(|&number| Some(of(&self.calls[number])? as f64 * self.made[number] as f64));
            each.sum::<Option<f64>>()
        };
        let runs = self.runs.in_order().len();
        let times = (0..runs).map(|run| numbers.iter().map(|&number| self.ms[number][run]).sum()).collect();
        Row {
            call: &self.calls[numbers[0]],
            made: numbers.iter().map(|&number| self.made[number]).sum(),
            times: Times::new(times),
            flops: sum(&|call| call.flops),
            bytes: sum(&|call| call.bytes),
        }
    }

    /// Kernels by name, the one that takes longest first.
    fn kernels(&self) -> Vec<Row<'_>> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, call) in self.calls.iter().enumerate() {
            groups.entry(&call.name).or_default().push(number);
        }
        let mut rows: Vec<Row<'_>> = groups.values().map(|numbers| self.row(numbers)).collect();
        rows.sort_by(|a, b| b.times.median().total_cmp(&a.times.median()));
        rows
    }

    /// What shares are shares of: medians of parts, which is not quite the median of the runs.
    fn whole(&self, kernels: &[Row<'_>]) -> f64 {
        kernels.iter().map(|row| row.times.median()).sum::<f64>() + self.outside.median()
    }

    pub(super) fn json(&self, machine: &Machine) -> Value {
        let kernels = self.kernels();
        let whole = self.whole(&kernels);
        let row = |row: &Row<'_>| row.json(whole, machine);
        let step = |number: usize| {
            let mut step = row(&self.row(&[number]));
            step["step"] = json!(number);
            step["origins"] = json!(self.calls[number].origins);
            step
        };
        json!({
            "runs": self.runs.in_order().len(), "median_ms": self.runs.median(), "mean_ms": self.runs.mean(),
            "outside_ms": self.outside.median(), "kernels": kernels.iter().map(row).collect::<Vec<_>>(),
            "steps": (0..self.calls.len()).map(step).collect::<Vec<_>>(),
        })
    }

    pub(super) fn print(&self, machine: &Machine, out: &mut dyn Write) -> Result<(), Failure> {
        let kernels = self.kernels();
        let whole = self.whole(&kernels);
        writeln!(
            out,
            "\n{:>7} {:>10} {:>6} {:>9} {:>7} {:>7} {:>9}  {:<14}  kernel",
            "share", "ms", "calls", "GFLOP/s", "of peak", "GB/s", "of memory", "kind"
        )?;
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        let percent =
            |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
        for row in &kernels {
            let (ms, Rates { gflops, gbps }) = (row.times.median(), row.rates());
            writeln!(
                out,
                "{:>5.1} % {ms:>10.4} {:>6} {:>9} {:>7} {:>7} {:>9}  {:<14}  {}",
                ms / whole * 100.0,
                row.made,
                number(gflops),
                percent(share(gflops, machine.gflops)),
                number(gbps),
                percent(gbps.map(|rate| rate / machine.gbps)),
                row.call.kind,
                row.call.name
            )?;
        }
        let (outside, total) = (self.outside.median(), self.runs.median());
        writeln!(out, "{:>5.1} % {outside:>10.4}  outside of kernels", outside / whole * 100.0)?;
        let runs = self.runs.in_order().len();
        writeln!(out, "{:>7} {total:>10.4}  median of {runs} profiled runs", "")?;
        Ok(())
    }
}

/// 10⁹ operations and bytes per second, where there are any and their number is known.
struct Rates {
    gflops: Option<f64>,
    gbps: Option<f64>,
}

/// What a rate is of the most that there is, if that is known.
fn share(rate: Option<f64>, most: Option<f64>) -> Option<f64> {
    rate.zip(most).map(|(rate, most)| rate / most)
}

impl Row<'_> {
    fn rates(&self) -> Rates {
        let ms = self.times.median();
        let rate =
            |work: Option<f64>| work.filter(|work| *work > 0.0 && ms > 0.0).map(|work| work / ms * 1e-6);
        Rates { gflops: rate(self.flops), gbps: rate(self.bytes) }
    }

    fn json(&self, whole: f64, machine: &Machine) -> Value {
        let (ms, Rates { gflops, gbps }) = (self.times.median(), self.rates());
        json!({
            "name": self.call.name, "kind": self.call.kind, "calls": self.made,
            "median_ms": ms, "mean_ms": self.times.mean(), "share": ms / whole,
            "flops": self.flops, "bytes": self.bytes,
            "gflops": gflops, "share_of_peak": share(gflops, machine.gflops),
            "gbps": gbps, "share_of_memory": gbps.map(|rate| rate / machine.gbps),
        })
    }
}

/// Room for the records of a run: a run tells how much.
///
/// # Errors
/// As [`Bound::time`].
pub(super) fn profile(bound: &mut Bound<'_>) -> Result<Profile, RunError> {
    let mut profile = Profile::with_room(0);
    bound.profile(&mut profile)?;
    Ok(Profile::with_room(profile.calls()))
}
