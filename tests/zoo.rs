//! The built-in models against the golden cases of their papers: built with a case's weights, run as native code, and
//! compared with its outputs.
//!
//! `golden/zoo.tsv` says for each case which model it is, and with which settings; a case that the table does not know
//! fails the test. Weights lie beside the case, in `weights.safetensors`, or beside the case that the table names. With
//! the sizes of the case, a model has at most as many kernels as what is imported for it; of some kinds it may have as many as
//! `golden/zoo_kernels.tsv` says, where it is built in another way than the model of the case.

#[path = "zoo/metrics.rs"]
mod metrics;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use egraft::{Compiled, Options, Source};
use harness::golden::{Case, Counts, cases, check_each, kernel_counts, miscounted};
use harness::{input_types, root};
use ir::Graph;
use passes::pipeline::State;

/// The families whose cases are models of papers.
const FAMILIES: [&str; 3] = ["attention/", "moe/", "sliced_ot/"];

/// What a case is.
enum Line {
    /// A model of ours.
    Model {
        name: String,
        settings: Vec<(String, String)>,
        /// The file of its weights, if it has some.
        params: Option<PathBuf>,
    },
    /// None yet, and why.
    Missing,
}

/// The table: cases with what they are.
fn table() -> BTreeMap<String, Line> {
    let text = fs::read_to_string(root().join("tests/golden/zoo.tsv")).expect("the table is there");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (case, name, settings, weights) = (next(), next(), next(), next());
        if name == "-" {
            assert!(!settings.is_empty(), "{case}: no reason is given");
            return (case.to_owned(), Line::Missing);
        }
        let settings = settings.split_whitespace().map(|setting| {
            let (key, value) = setting.split_once('=').unwrap_or_else(|| panic!("{case}: {setting}"));
            (key.to_owned(), value.to_owned())
        });
        let of = |case: &str| root().join("tests/golden").join(case).join("weights.safetensors");
        let own = of(case);
        let params = match weights {
            "" => own.exists().then_some(own),
            other => Some(of(other)),
        };
        (case.to_owned(), Line::Model { name: name.to_owned(), settings: settings.collect(), params })
    });
    let mut all = BTreeMap::new();
    for (case, line) in lines {
        assert!(all.insert(case.clone(), line).is_none(), "{case} is there twice");
    }
    all
}

/// Compiles the model that a line names, for all sizes and for those of the import, and runs it on the tensors of the case.
fn run(case: &Case, line: &Line, limits: &Counts) -> Result<(), String> {
    let Line::Model { name, settings, params } = line else { return Ok(()) };
    let imported = egraft::load(&case.folder.join("model.onnx"), &Options::default()).map_err(said)?;
    let shapes: Vec<_> = input_types(graph(&imported)).into_iter().map(|ty| ty.shape.clone()).collect();
    let imported = egraft::compile(imported, &Options::default(), &mut ()).map_err(said)?;
    for shapes in [None, Some(shapes)] {
        let shapes = shapes.as_ref();
        let named = shapes.map(|shapes| case.inputs.iter().cloned().zip(shapes.clone()).collect());
        let options = Options {
            settings: settings.clone(),
            params: params.clone(),
            input_shapes: named.unwrap_or_default(),
            ..Options::default()
        };
        let ours = egraft::source::build(name, &options).map_err(said)?;
        check_ports(case, graph(&ours))?;
        let ours = egraft::compile(ours, &options, &mut ()).map_err(said)?;
        if shapes.is_some() {
            check_kernels(limits, &ours, &imported)?;
        }
        for set in case.sets()? {
            for threads in [1, 2] {
                let found = ours.run(&set.inputs, threads).map_err(said)?;
                case.check(&set, &found, &format!("{threads} threads"))?;
            }
        }
    }
    Ok(())
}

/// An error in one line.
fn said(error: egraft::Error) -> String {
    error.to_string().replace('\n', " ")
}

fn graph(source: &Source) -> &Graph {
    match &source.state {
        State::Graph(graph) => graph,
        State::Program(_) => unreachable!("a model is a graph"),
    }
}

/// Inputs and outputs have the names of the case, in its order.
fn check_ports(case: &Case, graph: &Graph) -> Result<(), String> {
    let inputs: Vec<&str> = graph.inputs().iter().map(|&id| graph.input_name(id)).collect();
    match (&case.inputs, &case.outputs) == (&owned(&inputs), &owned(&graph.output_names())) {
        true => Ok(()),
        false => Err(format!("{inputs:?} → {:?}", graph.output_names())),
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// There are at most as many kernels of each kind as the table says; where it does not count all of them, at most as many
/// launches as the imported model has.
fn check_kernels(limits: &Counts, ours: &Compiled, imported: &Compiled) -> Result<(), String> {
    // Fewer are better.
    let more = miscounted(limits, ours).into_iter().find(|(_, expected, found)| found > expected);
    if let Some((kind, expected, found)) = more {
        return Err(format!("{found} kernels of {kind}, at most {expected}"));
    }
    if limits.iter().any(|(kind, _)| kind == "all") {
        return Ok(());
    }
    let [ours, imported] = [ours, imported].map(|compiled| {
        let entries = &compiled.program.entries;
        entries.iter().map(|entry| entry.calls().len()).sum::<usize>()
    });
    match ours <= imported {
        true => Ok(()),
        false => Err(format!("{ours} kernels, and {imported} of the imported model")),
    }
}

#[test]
fn models_give_what_their_papers_give() {
    let (cases, table) = (cases(), table());
    let ours: Vec<&Case> =
        cases.iter().filter(|case| FAMILIES.iter().any(|family| case.name.starts_with(family))).collect();
    assert!(ours.len() > 100, "only {} cases are found", ours.len());
    let unknown: Vec<&str> =
        ours.iter().map(|case| case.name.as_str()).filter(|name| !table.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "zoo.tsv does not know {unknown:?}");
    let gone: Vec<&String> =
        table.keys().filter(|name| !ours.iter().any(|case| case.name == **name)).collect();
    assert!(gone.is_empty(), "zoo.tsv has cases that are not there: {gone:?}");
    let limits = kernel_counts("zoo_kernels.tsv");
    let foreign: Vec<&String> = limits.keys().filter(|name| !table.contains_key(*name)).collect();
    assert!(foreign.is_empty(), "zoo_kernels.tsv has cases that are not there: {foreign:?}");
    let missing = table.values().filter(|line| matches!(line, Line::Missing)).count();
    if missing > 0 {
        println!("{missing} of {} cases have no model yet", ours.len());
    }
    check_each(&ours, |case| run(case, &table[&case.name], limits.get(&case.name).unwrap_or(&case.kernels)));
}
