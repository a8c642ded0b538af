//! What an artifact says about itself.

use std::io::{self, Write};

use runtime::Model;
use runtime::plan::{Entry, Port};
use serde_json::{Value, json};

pub(super) fn version(model: &Model, out: &mut dyn Write) -> io::Result<()> {
    let header = model.header();
    writeln!(out, "egraft-runner {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(
        out,
        "model: compiled by egraft {} for {}, format {}, kernel ABI {}",
        header.compiler, header.arch, header.format, header.abi
    )
}

pub(super) fn print(model: &Model, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let (header, plan) = (model.header(), model.plan());
    // Whoever wrote it promised JSON; where it isn't, it is shown as it is.
    let meta: Value = serde_json::from_str(model.meta()).unwrap_or_else(|_| Value::from(model.meta()));
    let sidecar = header.sidecar.as_ref().map(|sidecar| sidecar.name.as_str());
    let weight_bytes: u64 = plan.weights.iter().map(|weight| weight.bytes).sum();
    if json {
        let report = json!({
            "header": {
                "format": header.format, "abi": header.abi, "compiler": header.compiler, "arch": header.arch,
                "features": header.features, "sidecar": sidecar,
            },
            "entries": plan.entries.iter().map(entry_json).collect::<Vec<_>>(),
            "kernels": plan.kernels.len(),
            "weight_bytes": weight_bytes,
            "meta": meta,
        });
        return writeln!(out, "{report:#}");
    }
    let features = if header.features.is_empty() {
        String::new()
    } else {
        format!(" with {}", header.features.join(", "))
    };
    writeln!(out, "compiled by egraft {} for {}{features}", header.compiler, header.arch)?;
    writeln!(out, "format {}, kernel ABI {}", header.format, header.abi)?;
    let place = sidecar.map_or_else(String::new, |name| format!(" in {name}"));
    writeln!(out, "{} kernels, {weight_bytes} bytes of weights{place}", plan.kernels.len())?;
    for entry in &plan.entries {
        writeln!(out, "entry {}", entry.name)?;
        for (kind, ports) in
            [("input ", &entry.inputs), ("output", &entry.outputs), ("state ", &entry.states)]
        {
            for port in ports {
                writeln!(out, "  {kind} {}: {}[{}]", port.name, port.dtype, shape(entry, port).join(", "))?;
            }
        }
        if !entry.decided_symbols().is_empty() {
            writeln!(out, "  decided while it runs: {}", entry.decided_symbols().join(", "))?;
        }
    }
    match &meta {
        Value::String(text) => writeln!(out, "{text}"),
        meta => writeln!(out, "{meta:#}"),
    }
}

fn shape(entry: &Entry, port: &Port) -> Vec<String> {
    port.dims.iter().map(|size| size.print(&entry.symbols)).collect()
}

fn entry_json(entry: &Entry) -> Value {
    let ports = |ports: &[Port]| -> Vec<Value> {
        ports
            .iter()
            .map(|port| json!({"name": port.name, "dtype": port.dtype.name(), "shape": shape(entry, port)}))
            .collect()
    };
    json!({
        "name": entry.name, "symbols": entry.input_symbols(), "decided_symbols": entry.decided_symbols(),
        "inputs": ports(&entry.inputs), "outputs": ports(&entry.outputs),
        "states": ports(&entry.states),
    })
}
