//! Every file under `filetests/`: text in, text out, and the meaning unchanged.
//!
//! The first line says what to do: `; test: passes=fuse,to_loops`, with `fp=strict` if sums keep their order and `target=cuda`
//! for kernels of a GPU. The result is a snapshot beside the input. Then both sides run on random inputs at three sizes: a snapshot says what changed, running says that nothing did that
//! matters. Files under `verify/` and `errors/` say what the verifier or the parser has to complain about.

use std::fs;
use std::path::Path;

use harness::{Weights, check_all, header, input_types, random_inputs, root, sizes_of_round};
use ir::text::{parse_graph, parse_program};
use ir::{Symbol, Tensor};
use passes::pipeline::{self, State, Step};
use passes::{Cx, FpMode, Target};
use reference::States;

fn snapshot(path: &Path, output: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(path.parent().expect("a file has a folder"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.remove_snapshot_suffix();
    let name = path.file_name().and_then(|n| n.to_str()).expect("names are text").to_owned();
    settings.bind(|| insta::assert_snapshot!(name, output));
}

fn folders(kind: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let base = root().join("tests/filetests");
    for folder in fs::read_dir(&base).expect("the filetests are there") {
        let folder = folder.expect("readable").path();
        let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let special = matches!(name.as_str(), "verify" | "errors");
        if folder.is_dir() && (kind == name || kind == "passes" && !special) {
            for file in fs::read_dir(&folder).expect("readable") {
                let path = file.expect("readable").path();
                if path.extension().is_some_and(|e| e == "ir" || e == "kir") {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    files
}

fn state(path: &Path, text: &str) -> State {
    match path.extension().and_then(|e| e.to_str()) {
        Some("ir") => State::Graph(harness::graph(text)),
        _ => State::Program(harness::program(text)),
    }
}

fn evaluate(state: &State, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    match state {
        State::Graph(graph) => reference::run_graph(graph, inputs).map_err(|e| e.to_string()),
        State::Program(program) => reference::run_program(program, 0, inputs).map_err(|e| e.to_string()),
    }
}

/// What the inputs and outputs of `before` are in a form in which what is kept is neither any more.
fn evaluate_as(before: &State, state: &State, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let (State::Graph(graph), State::Program(program)) = (before, state) else {
        return evaluate(state, inputs);
    };
    if program.entries[0].inputs.len() == graph.inputs().len() {
        return evaluate(state, inputs);
    }
    let kept = graph.kept();
    let is_kept = |at: &usize| kept.contains(&Some(*at));
    let name = |at: usize| Symbol::new(graph.input_name(graph.inputs()[at]));
    let mut states: States =
        (0..inputs.len()).filter(is_kept).map(|at| (name(at), inputs[at].clone())).collect();
    let given: Vec<Tensor> =
        (0..inputs.len()).filter(|at| !is_kept(at)).map(|at| inputs[at].clone()).collect();
    let outputs = reference::run_program_on(program, 0, &given, &mut states).map_err(|e| e.to_string())?;
    let mut outputs = outputs.into_iter();
    let all = kept.iter().map(|input| match input {
        Some(at) => states.remove(&name(*at)),
        None => outputs.next(),
    });
    all.collect::<Option<_>>().ok_or_else(|| "an output is missing".to_owned())
}

fn print(state: &State) -> String {
    match state {
        State::Graph(graph) => graph.to_string(),
        State::Program(program) => program.to_string(),
    }
}

#[test]
fn passes_change_what_they_should_and_nothing_that_matters() {
    for path in folders("passes") {
        let text = fs::read_to_string(&path).expect("readable");
        let before = state(&path, &text);
        let header = header(&text);
        let names = header.get("passes").cloned().unwrap_or_default();
        let fp = header.get("fp").map_or(Some(FpMode::default()), |name| egraft::options::fp_mode(name));
        let fp = fp.unwrap_or_else(|| panic!("{}: no such mode", path.display()));
        let steps: Vec<Step> = names
            .split(',')
            .map(|name| Step::find(name).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
            .collect();
        let target = match header.get("target").map(String::as_str) {
            None => Target::Cpu,
            Some("cuda") => Target::Gpu,
            Some(other) => panic!("{}: no target `{other}`", path.display()),
        };
        let cx = Cx { target, fp, ..Cx::default() };
        let options = pipeline::Run { cx, verify: true, ..pipeline::Run::default() };
        let after = pipeline::run(before.clone(), &steps, &options, &mut ())
            .unwrap_or_else(|e| panic!("{}: {e:#?}", path.display()));
        let printed = print(&after);
        snapshot(&path, &printed);
        let weights = Weights::of(&after);
        let again = match &after {
            State::Graph(_) => {
                State::Graph(parse_graph(&printed, &ops::find, &weights).expect("it was printed"))
            }
            State::Program(_) => State::Program(parse_program(&printed, &weights).expect("it was printed")),
        };
        assert_eq!(print(&again), printed, "{}: print and parse", path.display());
        for round in 0..3 {
            let types: Vec<ir::TensorType> = match &before {
                State::Graph(graph) => input_types(graph).into_iter().cloned().collect(),
                State::Program(program) => program.entries[0].inputs.iter().map(|p| p.ty.clone()).collect(),
            };
            let inputs = random_inputs(&types, round as u64, &sizes_of_round(round));
            let expected = evaluate(&before, &inputs).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for (what, state) in [("after the passes", &after), ("printed and parsed", &again)] {
                let found = evaluate_as(&before, state, &inputs)
                    .unwrap_or_else(|e| panic!("{} {what}: {e}", path.display()));
                check_all(&expected, &found).unwrap_or_else(|e| panic!("{} {what}: {e}", path.display()));
            }
        }
    }
}

#[test]
fn the_verifier_names_every_violation() {
    for path in folders("verify") {
        let text = fs::read_to_string(&path).expect("readable");
        let violations: Vec<String> = match path.extension().and_then(|e| e.to_str()) {
            Some("ir") => {
                let graph = parse_graph(&text, &ops::find, &Weights::default())
                    .unwrap_or_else(|e| panic!("{}: {e:#?}", path.display()));
                ir::verify::verify(&graph).iter().map(ToString::to_string).collect()
            }
            _ => {
                let program = parse_program(&text, &Weights::default())
                    .unwrap_or_else(|e| panic!("{}: {e:#?}", path.display()));
                ir::verify::verify_program(&program).iter().map(ToString::to_string).collect()
            }
        };
        assert!(!violations.is_empty(), "{}: the verifier has nothing to say", path.display());
        snapshot(&path, &violations.join("\n"));
    }
}

#[test]
fn the_parser_says_where_and_what() {
    for path in folders("errors") {
        let text = fs::read_to_string(&path).expect("readable");
        let errors = match path.extension().and_then(|e| e.to_str()) {
            Some("ir") => parse_graph(&text, &ops::find, &Weights::default()).err(),
            _ => parse_program(&text, &Weights::default()).err(),
        };
        let errors = errors.unwrap_or_else(|| panic!("{}: it parses", path.display()));
        let lines: Vec<String> = errors
            .iter()
            .map(|error| {
                let line = text[..error.span.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}: {}", error.problem)
            })
            .collect();
        snapshot(&path, &lines.join("\n"));
    }
}
