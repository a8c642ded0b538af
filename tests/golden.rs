//! The golden cases (see `harness::golden`), compiled from ONNX.
//!
//! Each model runs in this process, unfused and fused, and unfused as an executable,
//! with one thread and with two. Those of the family `attention` run fused with `--fp strict`, too: their errors, against
//! what was computed in float64, stay near those of the unfused model.

use std::process::Command;

use egraft::{Compiled, Options, tensors};
use harness::golden::{Case, Set, cases, check_each};
use harness::program;
use ir::Tensor;
use passes::FpMode;
use passes::egraph::rules;
use runner::files;

/// How many times the errors of the unfused model those with `--fp strict` may be.
const STRICT: f64 = 4.0;

/// Compiles and runs a case in every way.
fn run(case: &Case) -> Result<(), String> {
    let sets = case.sets()?;
    for level in [0, 2] {
        let compiled = compile(case, level, FpMode::default())?;
        if level > 0 {
            count_kernels(case, &compiled)?;
        }
        let model = compiled.model().map_err(|error| error.to_string())?;
        for set in &sets {
            for threads in [1, 2] {
                let found =
                    egraft::run(model.clone(), &set.inputs, threads).map_err(|error| error.to_string())?;
                case.check(set, &found, &format!("-O{level}, {threads} threads"))?;
            }
        }
        if level == 0 {
            run_executable(case, &compiled, &sets)?;
            if case.name.starts_with("attention/") {
                check_strict(case, &compiled, &sets)?;
            }
        }
    }
    Ok(())
}

/// With `--fp strict`, no rule that regroups is applied, and errors are at most [`STRICT`] times those of the
/// unfused model, or of a number's last place.
fn check_strict(case: &Case, unfused: &Compiled, sets: &[Set]) -> Result<(), String> {
    let strict = compile(case, 2, FpMode::Strict)?;
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
        for (name, (expected, (found, naive))) in case.outputs.iter().zip(set.outputs.iter().zip(found)) {
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
fn count_kernels(case: &Case, compiled: &Compiled) -> Result<(), String> {
    match case.miscounted(compiled).first() {
        None => Ok(()),
        Some((kind, expected, found)) => {
            Err(format!("{found} kernels of {kind}, expected {expected} (golden/kernels.tsv)"))
        }
    }
}

fn compile(case: &Case, level: u8, fp: FpMode) -> Result<Compiled, String> {
    let path = case.folder.join("model.onnx");
    let options = Options { level: Some(level), fp: Some(fp), ..Options::default() };
    egraft::load(&path, &options)
        .and_then(|source| egraft::compile(source, &options, &mut ()))
        .map_err(|error| error.to_string().replace(&format!("{}: ", path.display()), ""))
}

fn run_executable(case: &Case, compiled: &Compiled, sets: &[Set]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let [model, given, made] =
        ["model", "in.safetensors", "out.safetensors"].map(|file| folder.path().join(file));
    compiled.write_executable(&model).map_err(|e| e.to_string())?;
    for set in sets {
        let inputs: Option<Vec<_>> = set.inputs.iter().map(tensors::to_file).collect();
        let inputs = inputs.ok_or("no memory")?;
        let named: Vec<_> = case.inputs.iter().map(String::as_str).zip(&inputs).collect();
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
            let found = case.outputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            case.check(set, &found, &format!("executable, {threads} threads"))?;
        }
    }
    Ok(())
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

#[test]
fn golden_cases_give_their_outputs() {
    let cases = cases();
    assert!(cases.len() > 100, "only {} cases are found", cases.len());
    check_each(&cases.iter().collect::<Vec<_>>(), run);
}
