//! The golden cases: models of the papers and of exporters, with inputs and the outputs that they must give.
//!
//! A case is a folder `golden/FAMILY/CASE` with `model.onnx`, `tensors.safetensors` (`in.NAME` and `out.NAME`; `in2.` and
//! `out2.` for the same model at other sizes) and `case.json` (the order of inputs and outputs, and the tolerance).
//! Folders are found, not listed. `golden/kernels.tsv` says how many kernels of which kinds a fused model has: one for each
//! softmax attention, for RPC one for each round; for each layer of experts a router, two products and a sum.
//!
//! Each model runs in this process, unfused and fused, and unfused as an executable,
//! with one thread and with two. Those of the family `attention` run fused with `--fp strict`, too: their errors, against
//! what was computed in float64, stay near those of the unfused model.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use egraft::{Compiled, Options, tensors};
use harness::{Tolerance, program, root};
use ir::Tensor;
use ir::program::Call;
use passes::FpMode;
use passes::egraph::rules;
use runner::files;
use serde_json::Value;

/// How many times the errors of the unfused model those with `--fp strict` may be.
const STRICT: f64 = 4.0;

struct Case {
    /// `FAMILY/CASE`.
    name: String,
    folder: PathBuf,
    inputs: Vec<String>,
    outputs: Vec<String>,
    tolerance: Tolerance,
    /// How many kernels of each kind the model becomes, by `golden/kernels.tsv`.
    kernels: Counts,
}

/// Kinds of kernels, or `all` of them, with their numbers.
type Counts = Vec<(String, usize)>;

/// Inputs and outputs of one run.
struct Set {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Case {
    fn read(name: String, folder: PathBuf, kernels: Counts) -> Case {
        let text = fs::read_to_string(folder.join("case.json")).expect("a case has a case.json");
        let meta: Value = serde_json::from_str(&text).expect("it is JSON");
        let names = |key: &str| -> Vec<String> {
            let names = meta[key].as_array().expect("a list of names");
            names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
        };
        let number = |key: &str| meta["tolerance"][key].as_f64().expect("a tolerance is a number");
        let tolerance = Tolerance { atol: number("atol"), rtol: number("rtol") };
        let (inputs, outputs) = (names("onnx_inputs"), names("onnx_outputs"));
        Case { name, folder, inputs, outputs, tolerance, kernels }
    }

    /// The sets of tensors, at least one.
    fn sets(&self) -> Result<Vec<Set>, String> {
        let all = files::read_all(&self.folder.join("tensors.safetensors")).map_err(|e| e.to_string())?;
        let all: BTreeMap<&str, &runner::tensor::Tensor> =
            all.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let find = |prefix: &str, names: &[String]| -> Option<Vec<Tensor>> {
            let tensor = |name: &String| all.get(format!("{prefix}{name}").as_str()).copied();
            names.iter().map(|name| tensor(name).map(tensors::from_file)).collect()
        };
        let set = |input: &str, output: &str| {
            Some(Set { inputs: find(input, &self.inputs)?, outputs: find(output, &self.outputs)? })
        };
        let first = set("in.", "out.").ok_or("its tensors are incomplete")?;
        Ok([first].into_iter().chain(set("in2.", "out2.")).collect())
    }

    fn check(&self, set: &Set, found: &[Tensor], how: &str) -> Result<(), String> {
        if found.len() != set.outputs.len() {
            return Err(format!("{how}: {} outputs", found.len()));
        }
        for (name, (expected, found)) in self.outputs.iter().zip(set.outputs.iter().zip(found)) {
            self.tolerance.check(expected, found).map_err(|why| format!("{how}: `{name}`: {why}"))?;
        }
        Ok(())
    }

    /// Compiles and runs it in every way.
    fn run(&self) -> Result<(), String> {
        let sets = self.sets()?;
        for level in [0, 2] {
            let compiled = self.compile(level, FpMode::default())?;
            if level > 0 {
                self.count_kernels(&compiled)?;
            }
            let model = compiled.model().map_err(|error| error.to_string())?;
            for set in &sets {
                for threads in [1, 2] {
                    let found = egraft::run(model.clone(), &set.inputs, threads)
                        .map_err(|error| error.to_string())?;
                    self.check(set, &found, &format!("-O{level}, {threads} threads"))?;
                }
            }
            if level == 0 {
                self.run_executable(&compiled, &sets)?;
                if self.name.starts_with("attention/") {
                    self.check_strict(&compiled, &sets)?;
                }
            }
        }
        Ok(())
    }

    /// With `--fp strict`, no rule that regroups is applied, and errors are at most [`STRICT`] times those of the
    /// unfused model, or of a number's last place.
    fn check_strict(&self, unfused: &Compiled, sets: &[Set]) -> Result<(), String> {
        let strict = self.compile(2, FpMode::Strict)?;
        let calls = strict.program.entries.iter().flat_map(|entry| entry.calls());
        let mut applied = calls.flat_map(|call| call.origin.rules());
        if let Some(rule) = applied.find(|name| regroups(name)) {
            return Err(format!("--fp strict: the rule `{rule}` is applied"));
        }
        for set in sets {
            let run = |compiled: &Compiled| {
                let model = compiled.model().map_err(|error| error.to_string())?;
                egraft::run(model, &set.inputs, 1).map_err(|error| error.to_string())
            };
            let found = run(&strict)?.into_iter().zip(run(unfused)?);
            for (name, (expected, (found, naive))) in self.outputs.iter().zip(set.outputs.iter().zip(found)) {
                let [found, naive] = [found, naive].map(|tensor| largest_error(expected, &tensor));
                let bound = STRICT * naive.max(f64::from(f32::EPSILON) * largest(expected));
                if found > bound {
                    return Err(format!("--fp strict: `{name}`: an error of {found:e}, unfused {naive:e}"));
                }
            }
        }
        Ok(())
    }

    /// Each attention of a softmax is one kernel, each layer of experts a few, and none is left of their parts.
    fn count_kernels(&self, compiled: &Compiled) -> Result<(), String> {
        let kernels = &compiled.program.kernels;
        let calls: Vec<_> = compiled.program.entries.iter().flat_map(|entry| entry.calls()).collect();
        for (kind, expected) in &self.kernels {
            let is_one = |call: &&&Call| kind == "all" || kernels[call.kernel].kind.name() == kind;
            let found = calls.iter().filter(is_one).count();
            if found != *expected {
                return Err(format!("{found} kernels of {kind}, expected {expected} (golden/kernels.tsv)"));
            }
        }
        Ok(())
    }

    fn compile(&self, level: u8, fp: FpMode) -> Result<Compiled, String> {
        let path = self.folder.join("model.onnx");
        let options = Options { level: Some(level), fp: Some(fp), ..Options::default() };
        egraft::load(&path, &options)
            .and_then(|source| egraft::compile(source, &options, &mut ()))
            .map_err(|error| error.to_string().replace(&format!("{}: ", path.display()), ""))
    }

    fn run_executable(&self, compiled: &Compiled, sets: &[Set]) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let [model, given, made] =
            ["model", "in.safetensors", "out.safetensors"].map(|file| folder.path().join(file));
        compiled.write_executable(&model).map_err(|e| e.to_string())?;
        for set in sets {
            let inputs: Option<Vec<_>> = set.inputs.iter().map(tensors::to_file).collect();
            let inputs = inputs.ok_or("no memory")?;
            let named: Vec<_> = self.inputs.iter().map(String::as_str).zip(&inputs).collect();
            files::write_all(&given, &named).map_err(|e| e.to_string())?;
            for threads in ["1", "2"] {
                let mut command = Command::new(&model);
                command.arg("--inputs").arg(&given).arg("--outputs").arg(&made).args(["--threads", threads]);
                let done = program::run(&mut command);
                if done.code != Some(0) {
                    return Err(format!("executable: {done}"));
                }
                let all = files::read_all(&made).map_err(|e| e.to_string())?;
                let find = |name: &String| {
                    let found = all.iter().find(|(known, _)| known == name);
                    found.map(|(_, tensor)| tensors::from_file(tensor)).ok_or(format!("no output `{name}`"))
                };
                let found = self.outputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
                self.check(set, &found, &format!("executable, {threads} threads"))?;
            }
        }
        Ok(())
    }
}

fn regroups(rule: &str) -> bool {
    rules::all().any(|known| known.name == rule && !known.exactness.allowed(FpMode::Strict))
}

fn largest(tensor: &Tensor) -> f64 {
    tensor.values().map(|value| value.to_f64().abs()).fold(0.0, f64::max)
}

fn largest_error(expected: &Tensor, found: &Tensor) -> f64 {
    let errors = expected.values().zip(found.values()).map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
    errors.fold(0.0, |most, error| if error > most || error.is_nan() { error } else { most })
}

/// The folders in a folder, in order.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).expect("a folder that can be read");
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    let named = |path: PathBuf| (path.file_name().expect("a name").to_string_lossy().into_owned(), path);
    let all: BTreeMap<String, PathBuf> = paths.map(named).collect();
    all.into_iter().collect()
}

/// How many kernels of which kinds cases become.
fn kernel_counts() -> BTreeMap<String, Counts> {
    let text = fs::read_to_string(root().join("tests/golden/kernels.tsv")).expect("the table is there");
    let count = |field: &str| {
        let (kind, count) = field.split_once('=').expect("a kind and a number");
        (kind.to_owned(), count.parse().expect("a number"))
    };
    let line = |line: &str| {
        let (name, counts) = line.split_once('\t').expect("a name and counts");
        (name.to_owned(), counts.split(' ').map(count).collect())
    };
    text.lines().filter(|text| !text.starts_with('#')).map(line).collect()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut counts = kernel_counts();
    for (family, folder) in folders(&root().join("tests/golden")) {
        for (case, folder) in folders(&folder) {
            let name = format!("{family}/{case}");
            let kernels = counts.remove(&name).unwrap_or_default();
            cases.push(Case::read(name, folder, kernels));
        }
    }
    assert!(counts.is_empty(), "kernels.tsv has cases that are not there: {counts:?}");
    cases
}

#[test]
fn golden_cases_give_their_outputs() {
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases are found", cases.len());
    let next = AtomicUsize::new(0);
    let failures: Mutex<BTreeMap<&str, String>> = Mutex::default();
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for _ in 0..workers.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A panic is a failure of its case; the others are still looked at.
                    let done = catch_unwind(AssertUnwindSafe(|| case.run()));
                    if let Err(why) = done.unwrap_or_else(|_| Err("the compiler panics".to_owned())) {
                        failures
                            .lock()
                            .expect("no thread panics while it holds this")
                            .insert(&case.name, why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("all threads have ended");
    let first_line = |why: &str| why.lines().next().unwrap_or_default().to_owned();
    let all: Vec<String> =
        failures.iter().map(|(name, why)| format!("{name}: {}", first_line(why))).collect();
    assert!(all.is_empty(), "{} of {} cases fail:\n{}", all.len(), cases.len(), all.join("\n"));
}
