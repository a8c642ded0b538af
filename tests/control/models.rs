//! ONNX models with control flow or run-time sizes, on every backend.

use std::fs;
use std::path::{Path, PathBuf};

use egraft::Options;
use harness::{Everywhere, check_all, model, root, tensors};
use ir::Graph;
use ir::program::{Program, Step};
use passes::FpMode;

/// Those of `data/onnx/valid` with nodes that are no kernels.
fn models() -> Vec<(PathBuf, Graph)> {
    let entries = fs::read_dir(root().join("tests/data/onnx/valid")).expect("the test data are there");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    folders.sort();
    let graphs = folders.into_iter().map(|folder| (model(&folder.join("model.onnx")), folder));
    let with_flow = graphs.filter(|(graph, _)| graph.order().iter().any(|&id| graph.flow(id).is_some()));
    with_flow.map(|(graph, folder)| (folder, graph)).collect()
}

#[test]
fn onnx_models_agree_everywhere() {
    let models = models();
    let mut runs = 0;
    for (folder, graph) in &models {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy();
        let mut everywhere = Everywhere::new(&name, graph);
        let sets = (0..).map(|k| folder.join(format!("set_{k}"))).take_while(|set| set.is_dir());
        for set in sets {
            let found = everywhere.run(&tensors(&set, "input"));
            let expected = tensors(&set, "output");
            check_all(&expected, &found).unwrap_or_else(|why| panic!("{}: {why}", set.display()));
            runs += 1;
        }
    }
    println!("{} models, {runs} runs", models.len());
    assert!(models.len() >= 25, "only {} models have control flow or run-time sizes", models.len());
}

/// The model of a file at the default level.
pub(crate) fn program(path: &Path) -> Program {
    program_with(path, FpMode::default())
}

/// The program of a model, with this much freedom in its sums.
pub(crate) fn program_with(path: &Path, fp: FpMode) -> Program {
    let options = Options { level: Some(2), fp: Some(fp), verify: true, ..Options::default() };
    let compiled = egraft::load(path, &options).and_then(|source| egraft::compile(source, &options, &mut ()));
    compiled.unwrap_or_else(|error| panic!("{}: {error}", path.display())).program
}

/// How many steps of a kind a program has, those inside of others included.
pub(crate) fn count(program: &Program, kind: impl Fn(&Step) -> bool) -> usize {
    let mut count = 0;
    for entry in &program.entries {
        for steps in [&entry.host, &entry.steps] {
            Step::walk(steps, &mut |step| count += usize::from(kind(step)));
        }
    }
    count
}
