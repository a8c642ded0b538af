//! The built-in models against the golden cases of their papers: built with a case's weights, run as native code, and
//! compared with its outputs.
//!
//! `golden/zoo.tsv` says for each case which model it is, and with which settings; a case that the table does not know
//! fails the test. Weights lie beside the case, in `weights.safetensors`, or beside the case that the table names. A model
//! has at most as many kernels of each kind as what is imported for the case.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use egraft::{Compiled, Options};
use harness::golden::{Case, cases, check_each};
use harness::root;
use ir::Symbol;
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
        /// Symbols that get a value.
        dims: Vec<(Symbol, i64)>,
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
        let (case, name, settings, weights, sizes) = (next(), next(), next(), next(), next());
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
        let dims = sizes.split_whitespace().map(|size| {
            let (name, value) = size.split_once('=').unwrap_or_else(|| panic!("{case}: {size}"));
            (Symbol::new(name), value.parse().unwrap_or_else(|_| panic!("{case}: {size}")))
        });
        let dims = dims.collect();
        (case.to_owned(), Line::Model { name: name.to_owned(), settings: settings.collect(), params, dims })
    });
    let mut all = BTreeMap::new();
    for (case, line) in lines {
        assert!(all.insert(case.clone(), line).is_none(), "{case} is there twice");
    }
    all
}

/// Compiles the model that a line names, and runs it on the tensors of the case.
fn run(case: &Case, line: &Line) -> Result<(), String> {
    let Line::Model { name, settings, params, dims } = line else { return Ok(()) };
    let say = |error: egraft::Error| error.to_string().replace('\n', " ");
    let options = Options {
        settings: settings.clone(),
        params: params.clone(),
        dims: dims.clone(),
        ..Options::default()
    };
    let source = egraft::source::build(name, &options).map_err(say)?;
    let State::Graph(graph) = &source.state else { return Err("it is no graph".to_owned()) };
    let inputs: Vec<&str> = graph.inputs().iter().map(|&id| graph.input_name(id)).collect();
    if (&inputs, &graph.output_names()) != (&names(&case.inputs), &names(&case.outputs)) {
        return Err(format!("{inputs:?} → {:?}", graph.output_names()));
    }
    let compiled = egraft::compile(source, &options, &mut ()).map_err(say)?;
    // Fewer are better.
    let more = case.miscounted(&compiled).into_iter().find(|(_, expected, found)| found > expected);
    if let Some((kind, expected, found)) = more {
        return Err(format!("{found} kernels of {kind}, at most {expected} (golden/kernels.tsv)"));
    }
    for set in case.sets()? {
        for threads in [1, 2] {
            let found = run_once(&compiled, &set.inputs, threads)?;
            case.check(&set, &found, &format!("{threads} threads"))?;
        }
    }
    Ok(())
}

fn names(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn run_once(compiled: &Compiled, inputs: &[ir::Tensor], threads: usize) -> Result<Vec<ir::Tensor>, String> {
    compiled.run(inputs, threads).map_err(|error| error.to_string())
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
    let missing = table.values().filter(|line| matches!(line, Line::Missing)).count();
    if missing > 0 {
        println!("{missing} of {} cases have no model yet", ours.len());
    }
    check_each(&ours, |case| run(case, &table[&case.name]));
}
