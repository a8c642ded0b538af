//! ONNX models from end to end: good ones compute what ONNX says, bad ones are refused, digits are read.
//!
//! What the files under `data/onnx` are is said in the README there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use egraft::{Compiled, Options};
use harness::program::{call, mentions};
use harness::{Tolerance, root};
use ir::program::{Arg, Call, Program};
use ir::{DType, Tensor};

fn data(kind: &str) -> Vec<PathBuf> {
    let folder = root().join("tests/data/onnx").join(kind);
    let entries = fs::read_dir(&folder).expect("the test data are there");
    let mut cases: Vec<PathBuf> =
        entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(cases.len() > 50, "{} holds only {} cases", folder.display(), cases.len());
    cases
}

fn name(path: &Path) -> String {
    path.file_name().expect("it has a name").to_string_lossy().into_owned()
}

fn compile(model: &Path, level: u8) -> Result<Compiled, egraft::Error> {
    let options = Options { level: Some(level), verify: true, ..Options::default() };
    egraft::compile(egraft::load(model, &options)?, &options, &mut ())
}

/// The tensors `KIND_0.pb`, `KIND_1.pb`, … of a set, in order.
fn tensors(set: &Path, kind: &str, ports: &[String]) -> Vec<Tensor> {
    let read = |port: usize| {
        let path = set.join(format!("{kind}_{port}.pb"));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (name, tensor) =
            onnx::read_tensor(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(name.is_empty() || name == ports[port], "{} is of `{name}`", path.display());
        tensor
    };
    let all: Vec<Tensor> = (0..ports.len()).map(read).collect();
    let next = set.join(format!("{kind}_{}.pb", ports.len()));
    assert!(!next.exists(), "the model has no port for {}", next.display());
    all
}

/// The sets of a case.
fn sets(case: &Path) -> Vec<PathBuf> {
    let sets: Vec<PathBuf> =
        (0..).map(|k| case.join(format!("set_{k}"))).take_while(|set| set.is_dir()).collect();
    assert!(!sets.is_empty(), "{} has no data", case.display());
    sets
}

/// What a tensor's values have to agree with: ONNX asks for 1e-3, f32 sums of this size allow more.
fn agrees(expected: &Tensor, found: &Tensor) -> Result<(), String> {
    Tolerance::of(expected.dtype()).check(expected, found)
}

#[test]
fn good_models_compute_what_onnx_says() {
    let (mut wrong, mut runs) = (Vec::new(), 0);
    let cases = data("valid");
    for case in &cases {
        for level in [0, 2] {
            let what = format!("{} at -O{level}", name(case));
            let compiled = match compile(&case.join("model.onnx"), level) {
                Ok(compiled) => compiled,
                Err(error) => {
                    wrong.push(format!("{what}: {error}"));
                    continue;
                }
            };
            let entry = &compiled.program.entries[0];
            let ports = |ports: &[ir::program::Port]| ports.iter().map(|port| port.name.clone()).collect();
            let (inputs, outputs): (Vec<String>, Vec<String>) = (ports(&entry.inputs), ports(&entry.outputs));
            let model = compiled.model().unwrap_or_else(|error| panic!("{what}: {error}"));
            for set in sets(case) {
                let given = tensors(&set, "input", &inputs);
                let expected = tensors(&set, "output", &outputs);
                for threads in [1, 2] {
                    runs += 1;
                    let what = format!("{what}, {}, {threads} threads", name(&set));
                    match egraft::run(Arc::clone(&model), &given, threads) {
                        Err(error) => wrong.push(format!("{what}: {error}")),
                        Ok(found) => {
                            assert_eq!(found.len(), expected.len(), "{what}");
                            for ((port, found), expected) in outputs.iter().zip(&found).zip(&expected) {
                                if let Err(why) = agrees(expected, found) {
                                    wrong.push(format!("{what}: `{port}`: {why}"));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{} models, {runs} runs, {} wrong", cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The bits of all results, for any number of threads.
#[test]
fn threads_do_not_change_a_bit() {
    for case in ["cnn_small", "mlp_gelu", "layer_norm", "matmul_batched"] {
        let case = root().join("tests/data/onnx/valid").join(case);
        let compiled =
            compile(&case.join("model.onnx"), 2).unwrap_or_else(|e| panic!("{}: {e}", name(&case)));
        let names: Vec<String> =
            compiled.program.entries[0].inputs.iter().map(|port| port.name.clone()).collect();
        for set in sets(&case) {
            let given = tensors(&set, "input", &names);
            let one = compiled.run(&given, 1).expect("it runs");
            for threads in [2, 3, 8] {
                assert_eq!(compiled.run(&given, threads).expect("it runs"), one, "{threads} threads");
            }
        }
    }
}

/// The exit code of each, and what its diagnostic must mention. Broken models are bad input; others are legal and beyond
/// what we have.
fn index() -> BTreeMap<String, (i32, Vec<String>)> {
    let text = fs::read_to_string(root().join("tests/data/onnx/invalid/index.tsv")).expect("it is there");
    let mut rows = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [case, kind, words, _] = fields[..] else { panic!("four fields: {line}") };
        let code = match kind {
            "bad_input" => 2,
            "unsupported" => 1,
            _ => panic!("no kind: {line}"),
        };
        let words = words.split('|').filter(|word| !word.is_empty()).map(str::to_owned);
        rows.insert(case.to_owned(), (code, words.collect()));
    }
    rows
}

#[test]
fn bad_models_are_refused_and_leave_nothing() {
    let index = index();
    let cases = data("invalid");
    let names: BTreeSet<String> = cases.iter().map(|case| name(case)).collect();
    assert_eq!(names, index.keys().cloned().collect(), "index.tsv lists what is there");
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::new());
    for case in &cases {
        let (name, model) = (name(case), case.join("model.onnx"));
        let (code, ref words) = index[&name];
        let out = folder.path().join("out");
        let compile = call(["compile".as_ref(), model.as_os_str(), "-o".as_ref(), out.as_os_str()]);
        let check = call(["check".as_ref(), model.as_os_str()]);
        for done in [&compile, &check] {
            let text = format!("{}{}", done.out, done.err);
            if done.code != Some(code) || text.contains("bug:") || text.contains("panicked") {
                wrong.push(format!("{name}: exit code {code} was expected\n{done}"));
            }
            if !text.contains("egraft::") {
                wrong.push(format!("{name}: there is no code\n{done}"));
            }
            for word in words.iter().filter(|word| !mentions(&text, word)) {
                wrong.push(format!("{name}: `{word}` is not mentioned\n{done}"));
            }
        }
        if !compile.out.is_empty() {
            wrong.push(format!("{name}: a failure prints no results\n{compile}"));
        }
        let left: Vec<String> = fs::read_dir(folder.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        if !left.is_empty() {
            wrong.push(format!("{name} leaves {left:?}"));
            break;
        }
        *counts.entry(code).or_insert(0) += 1;
    }
    println!("{} models refused: by exit code {counts:?}", cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_unsupported_nodes_are_reported_at_once() {
    let model = root().join("tests/data/onnx/invalid/unsupported_ops/model.onnx");
    let report = call(["check".as_ref(), model.as_os_str(), "--json".as_ref()]).exits(1).json();
    let problems = report["problems"].as_array().expect("a list");
    let nodes: Vec<&str> = problems.iter().filter_map(|problem| problem["node"].as_str()).collect();
    assert_eq!(nodes, ["pool", "pool_2", "decode"]);
    for problem in problems {
        assert_eq!(problem["opset"], 21, "{problem}");
        for key in ["op", "code", "reason", "remedy"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {problem}");
        }
    }
}

fn digits() -> PathBuf {
    root().join("models/zoo/digits.onnx")
}

fn image(digit: usize) -> Tensor {
    let path = root().join(format!("models/zoo/digits/{digit}.npy"));
    egraft::tensors::from_file(&runner::files::read_one(&path).unwrap_or_else(|error| panic!("{error}")))
}

/// The most probable class of each row.
fn answers(probabilities: &Tensor) -> Vec<usize> {
    let values = probabilities.to_f64();
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("ten classes");
    values.chunks(10).map(best).collect()
}

#[test]
fn ten_of_ten_digits() {
    for level in [0, 2] {
        let model = compile(&digits(), level).and_then(|compiled| compiled.model());
        let model = model.unwrap_or_else(|error| panic!("-O{level}: {error}"));
        let images: Vec<Tensor> = (0..10).map(image).collect();
        let mut right = 0;
        for (digit, image) in images.iter().enumerate() {
            let found = egraft::run(Arc::clone(&model), std::slice::from_ref(image), 2).expect("it runs");
            right += usize::from(answers(&found[0]) == [digit]);
        }
        println!("-O{level}: {right} of 10 digits");
        assert_eq!(right, 10, "-O{level}");
        // The same ten as one batch: the same bits.
        let bytes: Vec<u8> = images.iter().flat_map(|image| image.bytes().to_vec()).collect();
        let shape = [&[10], &images[0].shape()[1..]].concat();
        let batch = Tensor::new(DType::F32, shape, bytes).expect("ten images");
        let found = egraft::run(model, &[batch], 2).expect("it runs");
        assert_eq!(answers(&found[0]), (0..10).collect::<Vec<_>>());
    }
}

/// What a kernel is made for, and the weights that a launch of it reads.
fn launches(program: &Program) -> Vec<(&'static str, usize)> {
    let weights = |call: &Call| call.args.iter().filter(|arg| matches!(arg, Arg::Weight(_))).count();
    let calls = program.entries.iter().flat_map(|entry| entry.calls());
    calls.map(|call| (program.kernels[call.kernel].kind.name(), weights(call))).collect()
}

/// The gate of the first milestone, from outside: no kernel only copies, bias and activation are in their producer's
/// kernel, the arena is close to what must be alive at once.
#[test]
fn digits_are_fused() {
    let model = digits();
    let report = call(["inspect".as_ref(), model.as_os_str(), "--kernels".as_ref(), "--json".as_ref()]);
    let report = report.succeeds().json();
    let kernels = report["kernels"].as_array().expect("a list");
    let strings = |value: &serde_json::Value| -> Vec<String> {
        let list = value.as_array().expect("a list").iter();
        list.map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let kinds: Vec<&str> = kernels.iter().filter_map(|kernel| kernel["kind"].as_str()).collect();
    assert_eq!(kinds, ["conv", "fused", "conv", "fused", "matmul", "matmul"]);
    // Every activation is computed where the convolution or product before it is.
    for (producer, activation) in
        [("node_conv2d", "node_relu"), ("node_conv2d_1", "node_relu_1"), ("node_linear", "node_relu_2")]
    {
        let with: Vec<&serde_json::Value> = kernels
            .iter()
            .filter(|kernel| strings(&kernel["origins"]).iter().any(|origin| origin == activation))
            .collect();
        let [kernel] = with[..] else { panic!("{activation} is computed in {with:?}") };
        assert!(strings(&kernel["origins"]).iter().any(|origin| origin == producer), "{kernel}");
        assert!(matches!(kernel["kind"].as_str(), Some("conv" | "matmul")), "{kernel}");
    }
    // Every filter or matrix is read together with its bias, and nobody else reads weights.
    let compiled = compile(&model, 2).expect("it compiles");
    for (kind, weights) in launches(&compiled.program) {
        let expected = if matches!(kind, "conv" | "matmul") { 2 } else { 0 };
        assert_eq!(weights, expected, "weights of a {kind} kernel");
    }
    let (arena, live) = (report["peak_bytes"].as_f64(), report["live_peak"].as_f64());
    let (arena, live) = (arena.expect("a number"), live.expect("a number"));
    println!("{} kernels, arena {arena} bytes for {live} bytes alive at once", kernels.len());
    assert!(live > 0.0 && arena >= live && arena <= 1.3 * live, "{arena} for {live}");
    for batch in [1, 2, 7, 64] {
        let peaks = egraft::summary::peaks_at(&compiled.program, &|_| Some(batch));
        let (arena, live) = peaks.expect("the program is planned");
        assert!(arena as f64 <= 1.3 * live as f64, "batch {batch}: {arena} for {live}");
    }
}

/// Other models of this kind need no kernel that only moves data, either: readers index what they read.
#[test]
fn readers_index_instead_of_copying() {
    let mut copies = BTreeMap::new();
    for case in data("valid") {
        let Ok(compiled) = compile(&case.join("model.onnx"), 2) else { continue };
        let count = launches(&compiled.program).iter().filter(|(kind, _)| *kind == "data").count();
        if count > 0 {
            copies.insert(name(&case), count);
        }
    }
    println!("kernels that only copy: {copies:?}");
    for model in ["cnn_small", "mlp_relu", "mlp_gelu", "layer_norm", "shape_split_heads"] {
        assert_eq!(copies.get(model), None, "{model}");
    }
}

/// What exporters write where sizes are symbolic: heads split and joined, tokens dropped and cropped, images of any
/// size. Each as imported, on several sizes, on every backend.
#[test]
fn symbolic_sizes_compile_and_compute_the_same() {
    let folder = root().join("tests/data/symbolic");
    let entries = fs::read_dir(&folder).expect("it is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ir"));
    files.sort();
    assert!(files.len() > 20, "{} holds only {} texts", folder.display(), files.len());
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for file in &files {
        let text = fs::read_to_string(file).expect("readable");
        for base in [5, 6, 8] {
            // Different sizes for different names, and none that a kernel of three does not fit into.
            let size =
                |symbol: &ir::Symbol| base + i64::from(symbol.name().bytes().fold(0, u8::wrapping_add) % 3);
            let agrees = std::panic::catch_unwind(|| {
                let graph = harness::graph(&text);
                let inputs = harness::random_inputs(harness::input_types(&graph), base as u64, &size);
                harness::agree_everywhere(&name(file), &graph, &inputs);
            });
            runs += 1;
            if agrees.is_err() {
                wrong.push(name(file));
                break;
            }
        }
    }
    println!("{} graphs of symbolic sizes, {runs} runs, wrong: {wrong:?}", files.len());
    assert!(wrong.is_empty(), "{wrong:?}; what is wrong with them is said above");
}
