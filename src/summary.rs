//! What there is to say about a compiled model, as data: for reports and for artifacts.
//!
//! Sizes that depend on inputs are expressions, as text; others are numbers.

use ir::program::{Program, Step};
use ir::{Dim, Origin, Symbol};
use passes::cost;
use serde_json::{Value, json};

use crate::packed::ALIGN;
use crate::provenance::Provenance;

/// A size in JSON: a number, or an expression such as `"64*n"`.
pub fn size(dim: &Dim) -> Value {
    dim.as_const().map_or_else(|| Value::from(dim.to_string()), Value::from)
}

/// One launch of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The entry that it belongs to.
    pub entry: String,
    /// The kernel.
    pub name: String,
    /// What it mainly is.
    pub kind: &'static str,
    /// The nodes of the model that it computes.
    pub origins: Vec<String>,
    /// The rewrite rules that had a part in it.
    pub rules: Vec<String>,
    /// What it costs.
    pub cost: cost::Cost,
    /// If its rows choose their matrices: how many there are, and what choosing saves.
    pub experts: Option<cost::Experts>,
}

/// Every launch of a program, in order.
pub fn launches(program: &Program) -> Vec<Launch> {
    let of_entry = |entry: &ir::program::Entry| -> Vec<Launch> {
        let launch = |call: &ir::program::Call| {
            let kernel = &program.kernels[call.kernel];
            Launch {
                entry: entry.name.clone(),
                name: kernel.name.to_string(),
                kind: kernel.kind.name(),
                origins: origins(&call.origin),
                rules: rules(&call.origin),
                cost: cost::of_call(program, call),
                experts: cost::experts_of_call(program, call),
            }
        };
        entry.calls().into_iter().map(launch).collect()
    };
    program.entries.iter().flat_map(of_entry).collect()
}

/// The nodes of an origin by name; nodes without one by their op.
fn origins(origin: &Origin) -> Vec<String> {
    let name = |place: &ir::origin::Place| match place.name.is_empty() {
        true => place.op.clone(),
        false => place.name.clone(),
    };
    origin.places().iter().map(|place| name(place)).collect()
}

/// The rules of an origin by name.
fn rules(origin: &Origin) -> Vec<String> {
    origin.rules().iter().map(ToString::to_string).collect()
}

impl Launch {
    /// As JSON.
    pub fn json(&self) -> Value {
        let mut json = json!({
            "entry": self.entry, "name": self.name, "kind": self.kind, "origins": self.origins, "rules": self.rules,
            "flops": size(&self.cost.flops), "bytes_read": size(&self.cost.bytes_read),
            "bytes_written": size(&self.cost.bytes_written),
        });
        if let Some(experts) = &self.experts {
            json["experts"] = json!({
                "count": size(&experts.count), "chosen": size(&experts.chosen), "flops": size(&experts.flops),
                "flops_dense": size(&experts.flops_dense), "bytes_per_token": size(&experts.bytes_per_token),
            });
        }
        json
    }
}

/// What all launches of a program come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// How many there are.
    pub launches: usize,
    /// Their floating-point operations.
    pub flops: i64,
    /// Bytes that they read or write.
    pub bytes: i64,
}

/// What all launches come to where each symbol has a value.
pub fn total_at(program: &Program, value: &dyn Fn(&Symbol) -> Option<i64>) -> Option<Total> {
    let launches = launches(program);
    let (mut flops, mut bytes) = (0, 0);
    for Launch { cost, .. } in &launches {
        flops += cost.flops.eval(value)?;
        bytes += cost.bytes_read.eval(value)? + cost.bytes_written.eval(value)?;
    }
    Some(Total { launches: launches.len(), flops, bytes })
}

/// Bytes of the weights as they are stored, one after the other.
pub fn weight_bytes(program: &Program) -> u64 {
    let sizes = program.weights.iter().map(|weight| weight.size() as u64);
    sizes.fold(0, |at, size| at.next_multiple_of(ALIGN) + size)
}

/// How many steps look at a value that kernels have computed: sizes that it decides, conditions of branches and loops.
/// Where kernels run on a device, such a value is read from there.
pub fn looks(program: &Program) -> usize {
    let mut looks = 0;
    for steps in program.entries.iter().flat_map(|entry| [&entry.host, &entry.steps]) {
        Step::walk(steps, &mut |step| {
            let condition = matches!(step, Step::Loop(each) if each.cond.is_some());
            looks += usize::from(condition || matches!(step, Step::Measure(_) | Step::If(_)));
        });
    }
    looks
}

/// Bytes of the arena: of the largest, if there are several entries. `None` before the memory plan.
pub fn peak(program: &Program) -> Option<Dim> {
    let arenas = program.entries.iter().map(|entry| entry.arena.clone());
    let arenas = arenas.collect::<Option<Vec<Dim>>>()?;
    Some(arenas.into_iter().reduce(|a, b| Dim::larger(&a, &b)).unwrap_or(Dim::constant(0)))
}

/// Bytes of the arena, and of the buffers that must live at the same time, where each symbol has a value.
pub fn peaks_at(program: &Program, value: &dyn Fn(&Symbol) -> Option<i64>) -> Option<(i64, i64)> {
    let mut peaks = (0, 0);
    for entry in &program.entries {
        let arena = entry.arena.as_ref()?.eval(value)?;
        let live = passes::lower::live_peak(entry, value)?;
        peaks = (arena.max(peaks.0), live.max(peaks.1));
    }
    Some(peaks)
}

/// What an artifact says about itself.
pub(crate) fn meta(program: &Program, target: Value, provenance: &Provenance) -> Value {
    let weight = |packed: &ir::program::PackedWeight| {
        let weight = &packed.weight;
        json!({
            "name": weight.name(), "dtype": weight.dtype().name(), "shape": weight.shape(),
            "blake3": weight.hash().to_string(),
        })
    };
    json!({
        "compiler": concat!("egraft ", env!("CARGO_PKG_VERSION")),
        "model": {
            "name": provenance.model, "blake3": provenance.blake3, "producer": provenance.producer,
            "graph": program.name,
        },
        "target": target,
        "options": provenance.options,
        "unified": provenance.unified,
        "kernels": launches(program).iter().map(Launch::json).collect::<Vec<_>>(),
        "weights": program.weights.iter().map(weight).collect::<Vec<_>>(),
        "peak_bytes": peak(program).as_ref().map(size),
    })
}
