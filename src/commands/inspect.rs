//! `egraft inspect`: what a model or an artifact consists of.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use egraft::summary::{self, Launch};
use egraft::{Provenance, Source, source};
use ir::graph::Kind;
use ir::program::{Entry, Port, Program};
use ir::{Dim, Graph, TensorType};
use passes::Target;
use passes::cost;
use passes::pipeline::State;
use runtime::container::{Artifact, Container, Header};
use runtime::plan::Plan;
use serde_json::{Value, json};

use super::compile::{readable, summary_json};
use super::{Common, print_json};
use crate::report::Failure;
use crate::watch::Watch;

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A model, or an artifact
    #[arg(value_name = "MODEL|ARTIFACT")]
    model: PathBuf,
    /// Compile the model and list its kernels with what they cost
    #[arg(long)]
    kernels: bool,
    #[command(flatten)]
    common: Common,
}

impl Inspect {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        if !source::is_model(&self.model) {
            return self.artifact(out);
        }
        let (options, source) = self.common.load(&self.model)?;
        if self.kernels {
            let mut watch = Watch::new();
            if source.provenance.options.target() == Target::Gpu {
                let done = egraft::optimize(source, &options, &mut watch);
                let Source { state, provenance, .. } = watch.finish(done)?;
                let State::Program(program) = state else { return Err(egraft::Error::NotLowered.into()) };
                let target = json!({"kind": "cuda", "looks": summary::looks(&program)});
                return kernels(&program, &provenance, &target, &watch, self.common.json, out);
            }
            let done = egraft::compile(source, &options, &mut watch);
            let compiled = watch.finish(done)?;
            let (target, json) = (compiled.code.target(), self.common.json);
            return kernels(&compiled.program, &compiled.provenance, &target, &watch, json, out);
        }
        let contents = Contents::of(&source);
        if self.common.json {
            print_json(out, &contents.json())?
        } else {
            contents.print(out)?
        }
        Ok(0)
    }

    fn artifact(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let wrong = |error| super::not_an_artifact(&self.model, error);
        let artifact = Artifact::open(&self.model).map_err(wrong)?;
        let container = artifact.container().map_err(wrong)?;
        let plan = container.plan().map_err(wrong)?;
        let meta = meta(&container).map_err(wrong)?;
        if self.common.json {
            print_json(out, &artifact_json(container.header(), &plan, &meta))?;
        } else {
            print_artifact(container.header(), &plan, &meta, out)?;
        }
        Ok(0)
    }
}

/// What a model consists of before it is compiled.
struct Contents {
    model: String,
    producer: String,
    blake3: String,
    entries: Vec<(String, Vec<Port>, Vec<Port>)>,
    /// How often each op, or each kind of kernel, occurs.
    ops: BTreeMap<&'static str, usize>,
    parameters: u64,
    weight_bytes: u64,
    unified: Vec<String>,
}

impl Contents {
    fn of(source: &Source) -> Contents {
        let provenance = &source.provenance;
        let mut contents = Contents {
            model: provenance.model.clone(),
            producer: provenance.producer.clone(),
            blake3: provenance.blake3.clone(),
            entries: Vec::new(),
            ops: BTreeMap::new(),
            parameters: 0,
            weight_bytes: 0,
            unified: provenance.unified.clone(),
        };
        match &source.state {
            State::Graph(graph) => contents.add_graph(graph),
            State::Program(program) => contents.add_program(program),
        }
        contents
    }

    fn add_graph(&mut self, graph: &Graph) {
        let port = |name: &str, ty: &TensorType| Port { name: name.to_owned(), ty: ty.clone() };
        let inputs =
            graph.inputs().iter().map(|&id| port(graph.input_name(id), &graph.node(id).types[0])).collect();
        let outputs = graph
            .output_names()
            .into_iter()
            .zip(graph.outputs())
            .map(|(name, value)| port(name, graph.ty(value)))
            .collect();
        self.entries.push((graph.name().to_owned(), inputs, outputs));
        graph.walk(&mut |graph| {
            for id in graph.order() {
                match &graph.node(id).kind {
                    Kind::Input(_) => {}
                    Kind::Weight(weight) => self.add_weight(weight),
                    Kind::Op { def, .. } => *self.ops.entry(def.name).or_insert(0) += 1,
                }
            }
        });
    }

    fn add_program(&mut self, program: &Program) {
        for entry in &program.entries {
            let Entry { name, inputs, outputs, .. } = entry;
            self.entries.push((name.clone(), inputs.clone(), outputs.clone()));
            for call in entry.calls() {
                *self.ops.entry(program.kernels[call.kernel].kind.name()).or_insert(0) += 1;
            }
        }
        for packed in &program.weights {
            self.add_weight(&packed.weight);
        }
    }

    fn add_weight(&mut self, weight: &ir::Weight) {
        self.parameters += weight.elements() as u64;
        self.weight_bytes += weight.size() as u64;
    }

    fn json(&self) -> Value {
        let ports = |ports: &[Port]| -> Vec<Value> {
            let port = |port: &Port| {
                let shape: Vec<Value> = port.ty.shape.iter().map(summary::size).collect();
                json!({"name": port.name, "dtype": port.ty.dtype.name(), "shape": shape})
            };
            ports.iter().map(port).collect()
        };
        let entry = |(name, inputs, outputs): &(String, Vec<Port>, Vec<Port>)| {
            json!({
                "name": name, "inputs": ports(inputs), "outputs": ports(outputs), "symbols": symbols(inputs),
            })
        };
        json!({
            "model": self.model, "producer": self.producer, "blake3": self.blake3,
            "entries": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "ops": self.ops, "parameters": self.parameters, "weight_bytes": self.weight_bytes,
            "unified": self.unified,
        })
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let by =
            if self.producer.is_empty() { String::new() } else { format!(", written by {}", self.producer) };
        writeln!(out, "{}{by}", self.model)?;
        for (name, inputs, outputs) in &self.entries {
            writeln!(out, "entry {name}")?;
            for port in inputs {
                writeln!(out, "  input  {}: {}", port.name, port.ty)?;
            }
            for port in outputs {
                writeln!(out, "  output {}: {}", port.name, port.ty)?;
            }
        }
        let total: usize = self.ops.values().sum();
        writeln!(out, "{total} ops")?;
        let mut ops: Vec<(&str, usize)> = self.ops.iter().map(|(name, count)| (*name, *count)).collect();
        ops.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        for (name, count) in ops {
            writeln!(out, "  {count:>6} {name}")?;
        }
        writeln!(out, "{} parameters, {}", self.parameters, readable(self.weight_bytes))?;
        for unified in &self.unified {
            writeln!(out, "note: {unified}")?;
        }
        Ok(())
    }
}

fn symbols(inputs: &[Port]) -> Vec<String> {
    let mut symbols: Vec<String> = Vec::new();
    for dim in inputs.iter().flat_map(|port| &port.ty.shape) {
        dim.for_each_symbol(&mut |symbol| {
            if !symbols.iter().any(|known| known == symbol.name()) {
                symbols.push(symbol.to_string());
            }
        });
    }
    symbols
}

/// The launches of a compiled model. Where sizes are symbolic, peaks are those with 1 for each symbol.
fn kernels(
    program: &Program,
    provenance: &Provenance,
    target: &Value,
    watch: &Watch,
    json: bool,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let peaks = summary::peaks_at(program, &|_| Some(1));
    let symbols = program.entries.iter().flat_map(|entry| entry.all_symbols());
    let symbols: Vec<String> = symbols.map(|symbol| symbol.to_string()).collect();
    if json {
        let mut report = summary_json(program, provenance, target);
        report["arena"] = report["peak_bytes"].take();
        report["peak_bytes"] = json!(peaks.map(|(arena, _)| arena));
        report["live_peak"] = json!(peaks.map(|(_, live)| live));
        report["sizes"] = symbols.iter().map(|symbol| (symbol.clone(), json!(1))).collect();
        report["passes"] = watch.json();
        report["rewrites"] = json!(watch.rewrites());
        print_json(out, &report)?;
        return Ok(0);
    }
    let launches = summary::launches(program);
    let rows: Vec<[String; 7]> = launches
        .iter()
        .map(|Launch { name, kind, origins, rules, cost, .. }| {
            let size = |dim: &Dim| dim.to_string();
            [
                name.clone(),
                (*kind).to_owned(),
                size(&cost.flops),
                size(&cost.bytes_read),
                size(&cost.bytes_written),
                if rules.is_empty() { "-".to_owned() } else { rules.join(", ") },
                origins.join(", "),
            ]
        })
        .collect();
    let head = ["kernel", "kind", "flops", "bytes read", "bytes written", "rules", "from"].map(str::to_owned);
    let width = |column: usize| {
        let rows = rows.iter().chain(std::iter::once(&head));
        rows.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}  {}", cells.join("  "), row[6])?;
    }
    for Launch { name, experts, .. } in &launches {
        let Some(cost::Experts { count, chosen, flops, flops_dense, bytes_per_token }) = experts else {
            continue;
        };
        writeln!(
            out,
            "{name}: {chosen} of {count} experts for each token, {flops} flops instead of {flops_dense}, \
             {bytes_per_token} bytes for each token"
        )?;
    }
    let arena = summary::peak(program).map_or_else(String::new, |arena| arena.to_string());
    writeln!(out, "arena {arena} bytes, weights {} bytes", summary::weight_bytes(program))?;
    if let Some((arena, live)) = peaks {
        let at =
            if symbols.is_empty() { String::new() } else { format!(" with {} = 1", symbols.join(" = ")) };
        writeln!(out, "{arena} bytes of arena for {live} bytes alive at once{at}")?;
    }
    if let Some(looks) = target["looks"].as_u64() {
        let which = match looks {
            0 => "the host reads nothing from the GPU but outputs".to_owned(),
            1 => "the host reads a size or a condition from the GPU at one step".to_owned(),
            _ => format!("the host reads sizes and conditions from the GPU at {looks} steps"),
        };
        writeln!(out, "{which}")?;
    }
    Ok(0)
}

/// What the compiler wrote about the model; as it is, where that is no JSON.
fn meta(container: &Container<'_>) -> Result<Value, runtime::LoadError> {
    let text = container.meta()?;
    Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}

fn artifact_json(header: &Header, plan: &Plan, meta: &Value) -> Value {
    let ports = |ports: &[runtime::plan::Port], symbols: &[String]| -> Vec<Value> {
        let shape = |port: &runtime::plan::Port| -> Vec<String> {
            port.dims.iter().map(|size| size.print(symbols)).collect()
        };
        ports
            .iter()
            .map(|port| json!({"name": port.name, "dtype": port.dtype.name(), "shape": shape(port)}))
            .collect()
    };
    let entry = |entry: &runtime::plan::Entry| {
        json!({
            "name": entry.name, "symbols": entry.input_symbols(), "decided_symbols": entry.decided_symbols(), "inputs": ports(&entry.inputs, &entry.symbols),
            "outputs": ports(&entry.outputs, &entry.symbols), "steps": entry.calls(),
            "arena": entry.arena_bytes.print(&entry.symbols),
        })
    };
    let weight = |weight: &runtime::plan::WeightSlot| {
        let hash: String = weight.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"name": weight.name, "dtype": weight.dtype.name(), "shape": weight.dims, "bytes": weight.bytes, "blake3": hash})
    };
    json!({
        "header": {
            "format": header.format, "abi": header.abi, "compiler": header.compiler, "arch": header.arch,
            "features": header.features, "sidecar": header.sidecar.as_ref().map(|sidecar| &sidecar.name),
        },
        "entries": plan.entries.iter().map(entry).collect::<Vec<_>>(),
        "kernels": plan.kernels.iter().map(|kernel| &kernel.name).collect::<Vec<_>>(),
        "weights": plan.weights.iter().map(weight).collect::<Vec<_>>(),
        "weight_bytes": plan.weights.iter().map(|weight| weight.bytes).sum::<u64>(),
        "meta": meta,
    })
}

fn print_artifact(header: &Header, plan: &Plan, meta: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    writeln!(out, "model     {} (blake3 {})", text(&meta["model"]["name"]), text(&meta["model"]["blake3"]))?;
    writeln!(out, "compiler  egraft {}, format {}, ABI {}", header.compiler, header.format, header.abi)?;
    writeln!(out, "target    {}: {}", header.arch, header.features.join(" "))?;
    writeln!(out, "options   {}", meta["options"])?;
    for entry in &plan.entries {
        writeln!(out, "entry {}", entry.name)?;
        for (kind, ports) in [("input ", &entry.inputs), ("output", &entry.outputs)] {
            for port in ports {
                let shape: Vec<String> = port.dims.iter().map(|size| size.print(&entry.symbols)).collect();
                writeln!(out, "  {kind} {}: {}[{}]", port.name, port.dtype, shape.join(", "))?;
            }
        }
        if !entry.decided_symbols().is_empty() {
            writeln!(out, "  decided while it runs: {}", entry.decided_symbols().join(", "))?;
        }
        writeln!(
            out,
            "  {} launches, arena {} bytes",
            entry.calls(),
            entry.arena_bytes.print(&entry.symbols)
        )?;
    }
    let weight_bytes: u64 = plan.weights.iter().map(|weight| weight.bytes).sum();
    let place = header.sidecar.as_ref().map_or_else(String::new, |sidecar| format!(" in {}", sidecar.name));
    writeln!(
        out,
        "{} kernels, {} weights of {weight_bytes} bytes{place}",
        plan.kernels.len(),
        plan.weights.len()
    )?;
    for kernel in meta["kernels"].as_array().into_iter().flatten() {
        let origins: Vec<String> = kernel["origins"].as_array().into_iter().flatten().map(text).collect();
        writeln!(out, "  {} ({}) from {}", text(&kernel["name"]), text(&kernel["kind"]), origins.join(", "))?;
    }
    for unified in meta["unified"].as_array().into_iter().flatten() {
        writeln!(out, "note: {}", text(unified))?;
    }
    Ok(())
}
