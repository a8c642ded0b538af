//! What rewrite rules did to a model: which kernels they made, what kept them from more, and what is not allowed.
//!
//! The model goes through all passes up to the program; no code is made. Text shortens long lists of nodes, JSON does
//! not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use egraft::options::fp_name;
use egraft::{Explained, Options, Source, explain as explained};
use ir::origin::Place;
use ir::program::{Call, Program};
use ir::{Graph, Origin};
use passes::egraph::MissedAt;
use passes::explain::Withheld;
use passes::pipeline::State;
use serde_json::{Value, json};

use super::super::{Common, print_json};
use crate::near;
use crate::report::Failure;
use crate::watch::Watch;

/// So many nodes of a list are shown in text.
const SHOWN: usize = 4;

/// Explains a model, or what became of a part of it.
pub(super) fn explain(
    path: &Path,
    part: Option<&str>,
    common: &Common,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let (options, source) = common.load(path)?;
    examine(source, &options, part, |report, program| match common.json {
        true => print_json(out, &report.json(program)),
        false => report.print(program, out),
    })?;
    Ok(0)
}

/// What there is to say about a model as JSON.
///
/// # Errors
/// It cannot be compiled, or has no such part.
pub(crate) fn json(source: Source, options: &Options, part: Option<&str>) -> Result<Value, Failure> {
    examine(source, options, part, |report, program| Ok(report.json(program)))
}

/// Compiles a model, and tells `say` what rules did to it.
fn examine<T>(
    mut source: Source,
    options: &Options,
    part: Option<&str>,
    say: impl FnOnce(&Report<'_>, &Program) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if let State::Graph(graph) = &mut source.state {
        explained::name_nodes(graph);
    }
    let before = places(&source.state);
    let mut watch = Watch::new();
    let done = egraft::explain(source, options, &mut watch);
    let Explained { source, rules } = watch.finish(done)?;
    let State::Program(program) = &source.state else { return Err(egraft::Error::NotLowered.into()) };
    let asked = part.map(|part| Asked::of(part, &before, program)).transpose()?;
    let calls = calls(program);
    let launches = calls.len();
    let are_applied = rules.is_some();
    let rules = rules.unwrap_or_default();
    let mut report = Report {
        source: &source,
        are_applied,
        counts: rules.counts,
        kernels: calls,
        launches,
        missed: rules.report.missed,
        withheld: rules.withheld,
    };
    match &asked {
        Some(asked) => report.restrict(asked),
        None => report.kernels.retain(|(_, call)| !call.origin.rules().is_empty()),
    }
    say(&report, program)
}

/// Every launch with the name of its entry.
fn calls(program: &Program) -> Vec<(&str, &Call)> {
    program
        .entries
        .iter()
        .flat_map(|entry| entry.calls().into_iter().map(|call| (entry.name.as_str(), call)))
        .collect()
}

/// The nodes of the model.
fn places(state: &State) -> BTreeSet<Arc<Place>> {
    let mut places = BTreeSet::new();
    let mut add = |origin: &Origin| places.extend(origin.places().iter().cloned());
    match state {
        State::Graph(graph) => {
            graph.walk(&mut |graph: &Graph| {
                graph.order().into_iter().for_each(|id| add(&graph.node(id).origin));
            });
        }
        State::Program(program) => calls(program).iter().for_each(|(_, call)| add(&call.origin)),
    }
    places
}

/// The part of a model that is asked for.
struct Asked {
    places: BTreeSet<Arc<Place>>,
    kernel: Option<String>,
}

impl Asked {
    /// The kernel of that name, the node of that name, or all nodes with that in their names.
    fn of(part: &str, places: &BTreeSet<Arc<Place>>, program: &Program) -> Result<Asked, Failure> {
        let names = || program.kernels.iter().map(|kernel| kernel.name.name());
        let name = part.strip_prefix('@').unwrap_or(part);
        if names().any(|kernel| kernel == name) {
            return Ok(Asked { places: BTreeSet::new(), kernel: Some(name.to_owned()) });
        }
        let named = |is: &dyn Fn(&str) -> bool| -> BTreeSet<Arc<Place>> {
            places.iter().filter(|place| is(&place.name)).cloned().collect()
        };
        let mut found = named(&|node| node == part);
        if found.is_empty() {
            found = named(&|node| !part.is_empty() && node.contains(part));
        }
        if !found.is_empty() {
            return Ok(Asked { places: found, kernel: None });
        }
        let known: Vec<&str> = names().chain(places.iter().map(|place| place.name.as_str())).collect();
        Err(Failure::bad_input(
            "egraft::cli::unknown_node",
            format!(
                "the model has no node with `{part}` in its name, and its program no kernel of that name"
            ),
            near::suggestion(part, known, "`egraft inspect MODEL --kernels` lists kernels and their nodes"),
        ))
    }
}

/// What there is to say.
struct Report<'a> {
    source: &'a Source,
    /// Does the pipeline apply rules?
    are_applied: bool,
    /// How often each rule is in the result.
    counts: BTreeMap<String, usize>,
    kernels: Vec<(&'a str, &'a Call)>,
    launches: usize,
    missed: Vec<MissedAt>,
    withheld: Vec<Withheld>,
}

impl Report<'_> {
    /// Keeps what is about a part.
    fn restrict(&mut self, asked: &Asked) {
        let State::Program(program) = &self.source.state else { return };
        let mut places = asked.places.clone();
        let touches = |origin: &Origin, places: &BTreeSet<Arc<Place>>| {
            origin.places().iter().any(|place| places.contains(place))
        };
        self.kernels.retain(|(_, call)| match &asked.kernel {
            Some(kernel) => program.kernels[call.kernel].name.name() == kernel,
            None => touches(&call.origin, &places),
        });
        if asked.kernel.is_some() {
            places.extend(self.kernels.iter().flat_map(|(_, call)| call.origin.places().iter().cloned()));
        }
        self.missed.retain(|missed| touches(&missed.origin, &places));
        self.withheld.retain(|withheld| touches(&withheld.origin, &places));
    }

    fn json(&self, program: &Program) -> Value {
        let kernel = |(entry, call): &(&str, &Call)| {
            let kernel = &program.kernels[call.kernel];
            json!({
                "entry": entry, "name": kernel.name.name(), "kind": kernel.kind.name(),
                "rules": rules(&call.origin), "nodes": nodes(&call.origin),
            })
        };
        let missed = |missed: &MissedAt| {
            json!({
                "rule": missed.rule, "anchor": missed.anchor, "obligation": missed.why.obligation,
                "found": missed.why.found, "nodes": nodes(&missed.origin),
            })
        };
        let withheld = |withheld: &Withheld| {
            json!({
                "rules": withheld.rules, "makes": withheld.op, "fp": withheld.fp.map(fp_name),
                "disabled": withheld.disabled, "nodes": nodes(&withheld.origin),
            })
        };
        let provenance = &self.source.provenance;
        json!({
            "model": provenance.model, "options": provenance.options, "rules_are_applied": self.are_applied,
            "kernels": self.kernels.iter().map(kernel).collect::<Vec<_>>(),
            "missed": self.missed.iter().map(missed).collect::<Vec<_>>(),
            "not_allowed": self.withheld.iter().map(withheld).collect::<Vec<_>>(),
            "launches": self.launches, "rewrites": self.counts,
        })
    }

    fn print(&self, program: &Program, out: &mut dyn Write) -> Result<(), Failure> {
        let provenance = &self.source.provenance;
        for (_, call) in &self.kernels {
            let kernel = &program.kernels[call.kernel];
            let by = match rules(&call.origin).as_slice() {
                [] => "by fusion, without a rule".to_owned(),
                rules => format!("by {}", rules.join(", ")),
            };
            writeln!(out, "kernel @{} ({}) {by}", kernel.name.name(), kernel.kind.name())?;
            print_nodes(&call.origin, out)?;
        }
        for MissedAt { rule, anchor, origin, why } in &self.missed {
            writeln!(out, "no {rule} at {anchor}")?;
            print_nodes(origin, out)?;
            writeln!(out, "  must hold: {}\n  found: {}", why.obligation, why.found)?;
        }
        for withheld in &self.withheld {
            writeln!(
                out,
                "not allowed: {} would make {} {}",
                withheld.rules.join(", "),
                withheld.op,
                ways(withheld)
            )?;
            print_nodes(&withheld.origin, out)?;
        }
        if !self.are_applied {
            let why = match provenance.options.level {
                0 => "-O0 applies none",
                _ => "the model is past them",
            };
            writeln!(out, "no rules: {why}")?;
            return Ok(());
        }
        let counts: Vec<String> = self.counts.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
        writeln!(out, "{}: {} kernel launches; rules: {counts}", provenance.model, self.launches)?;
        writeln!(
            out,
            "{} kept from it by an obligation, {} not allowed by options",
            self.missed.len(),
            self.withheld.len()
        )?;
        Ok(())
    }
}

/// What allows the rules.
fn ways(withheld: &Withheld) -> String {
    let mode = withheld.fp.map(|fp| format!("with --fp {}", fp_name(fp)));
    let names = withheld.disabled.iter().map(|rule| format!("without --disable-rule {rule}"));
    mode.into_iter().chain(names).collect::<Vec<_>>().join(" and ")
}

fn rules(origin: &Origin) -> Vec<&str> {
    origin.rules().iter().map(|rule| &**rule).collect()
}

/// All nodes of an origin as JSON.
fn nodes(origin: &Origin) -> Vec<Value> {
    let node = |place: &Arc<Place>| json!({"name": place.name, "op": place.op, "module": place.module, "source": place.source});
    origin.places().iter().map(node).collect()
}

/// The first nodes of an origin, a line each.
fn print_nodes(origin: &Origin, out: &mut dyn Write) -> Result<(), Failure> {
    let places = origin.places();
    // One more takes no more room than the word that there is one more.
    let shown = if places.len() == SHOWN + 1 { SHOWN + 1 } else { SHOWN };
    for place in places.iter().take(shown) {
        let mut line = format!("  from {}", place.name);
        if !place.op.is_empty() {
            line.push_str(&format!(" ({})", place.op));
        }
        for (word, what) in [("in", &place.module), ("at", &place.source)] {
            if !what.is_empty() {
                line.push_str(&format!(" {word} {what}"));
            }
        }
        writeln!(out, "{line}")?;
    }
    if places.len() > shown {
        writeln!(out, "  and {} more nodes", places.len() - shown)?;
    }
    Ok(())
}
