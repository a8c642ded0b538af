//! The golden cases: models of the papers and of exporters, with inputs and the outputs that they must give.
//!
//! A case is a folder `golden/FAMILY/CASE` with `model.onnx`, `tensors.safetensors` (`in.NAME` and `out.NAME`; `in2.` and
//! `out2.` for the same model at other sizes) and `case.json` (the order of inputs and outputs, and the tolerance).
//! Folders are found, not listed. `golden/kernels.tsv` says how many kernels of which kinds a fused model has: one for each
//! softmax attention, for RPC one for each round; for each layer of experts a router, two products and a sum.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use egraft::{Compiled, tensors};
use ir::Tensor;
use runner::files;
use serde_json::Value;

use crate::{Tolerance, root};

/// A model with inputs, and the outputs that it must give.
pub struct Case {
    /// `FAMILY/CASE`.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// The names of its inputs, in order.
    pub inputs: Vec<String>,
    /// The names of its outputs, in order.
    pub outputs: Vec<String>,
    /// How far outputs may be from those that are given.
    pub tolerance: Tolerance,
    /// How many kernels of each kind the model becomes, by `golden/kernels.tsv`.
    pub kernels: Counts,
}

/// Kinds of kernels, or `all` of them, with their numbers.
pub type Counts = Vec<(String, usize)>;

/// Inputs and outputs of one run.
pub struct Set {
    /// In the order of [`Case::inputs`].
    pub inputs: Vec<Tensor>,
    /// In the order of [`Case::outputs`].
    pub outputs: Vec<Tensor>,
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
    ///
    /// # Errors
    /// The file of tensors lacks some.
    pub fn sets(&self) -> Result<Vec<Set>, String> {
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

    /// What is wrong with what was found, if anything; `how` says how it was.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, set: &Set, found: &[Tensor], how: &str) -> Result<(), String> {
        if found.len() != set.outputs.len() {
            return Err(format!("{how}: {} outputs", found.len()));
        }
        for (name, (expected, found)) in self.outputs.iter().zip(set.outputs.iter().zip(found)) {
            self.tolerance.check(expected, found).map_err(|why| format!("{how}: `{name}`: {why}"))?;
        }
        Ok(())
    }

    /// The kinds of which there are other numbers of kernels than the table says, with both numbers: first the table's.
    pub fn miscounted(&self, compiled: &Compiled) -> Vec<(&str, usize, usize)> {
        miscounted(&self.kernels, compiled)
    }
}

/// The kinds of which there are other numbers of kernels than these, with both numbers: first the one that is expected.
pub fn miscounted<'a>(expected: &'a Counts, compiled: &Compiled) -> Vec<(&'a str, usize, usize)> {
    let kernels = &compiled.program.kernels;
    let calls = compiled.program.entries.iter().flat_map(|entry| entry.calls());
    let kinds: Vec<&str> = calls.map(|call| kernels[call.kernel].kind.name()).collect();
    let count = |kind: &str| kinds.iter().filter(|found| kind == "all" || **found == kind).count();
    let counted = expected.iter().map(|(kind, expected)| (kind.as_str(), *expected, count(kind)));
    counted.filter(|(_, expected, found)| expected != found).collect()
}

/// The folders in a folder, in order.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).expect("a folder that can be read");
    let paths = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    let named = |path: PathBuf| (path.file_name().expect("a name").to_string_lossy().into_owned(), path);
    let all: BTreeMap<String, PathBuf> = paths.map(named).collect();
    all.into_iter().collect()
}

/// How many kernels of which kinds cases become, by a table beside them.
///
/// # Panics
/// If there is no such table.
pub fn kernel_counts(table: &str) -> BTreeMap<String, Counts> {
    let text = fs::read_to_string(root().join("tests/golden").join(table)).expect("the table is there");
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

/// All cases.
///
/// # Panics
/// If a folder is no case, or a table speaks of one that is not there.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut counts = kernel_counts("kernels.tsv");
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

/// Does something with each of these cases, several at a time.
///
/// # Panics
/// With all that failed, if any did.
pub fn check_each<'a>(cases: &[&'a Case], run: impl Fn(&'a Case) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures: Mutex<BTreeMap<&str, String>> = Mutex::default();
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for _ in 0..workers.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A panic is a failure of its case; the others are still looked at.
                    let done = catch_unwind(AssertUnwindSafe(|| run(case)));
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
