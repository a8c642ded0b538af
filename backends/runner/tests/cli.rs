//! The command line on a model in memory: what is printed, what is written, what is refused and how.

#![allow(unsafe_code, reason = "the model's kernels are functions of this test")]

mod support;

use runner::files;
use runner::tensor::Tensor;
use runtime::DType;
use serde_json::{Value, json};
use support::{Done, call, floats, integers, save};
use tempfile::TempDir;

/// A folder with `x.npy` f32[1, 3], `x2.npy` f32[2, 3], `a.npy` f32[2], `b.npy` i64[3], `one.npy` f32[1].
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    save(&at("x.npy"), &floats(&[1, 3], &[0.25, 0.5, -1.0]));
    save(&at("x2.npy"), &floats(&[2, 3], &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]));
    save(&at("a.npy"), &floats(&[2], &[0.5, 1.5]));
    save(&at("b.npy"), &integers(&[1, 2, 3]));
    save(&at("one.npy"), &floats(&[1], &[1.5]));
    dir
}

#[track_caller]
fn prints(line: &str, expected: &str) {
    let Done { code, out, err } = call(folder().path(), line);
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""), "{line}");
}

#[track_caller]
fn refuses(line: &str, expected: &str) {
    let dir = folder();
    let Done { code, out, err } = call(dir.path(), line);
    let err = err.replace(&format!("{}/", dir.path().display()), "");
    assert_eq!((code, out.as_str(), err.as_str()), (2, "", format!("{expected}\n").as_str()), "{line}");
}

#[test]
fn one_file_is_answered_and_shown() {
    prints("{}/x.npy", "x.npy: 1  1.0000\np: f32[1, 3]\n[[ 0.5000  1.0000 -2.0000]]\n");
    prints("--input x={}/x.npy", "p: f32[1, 3]\n[[ 0.5000  1.0000 -2.0000]]\nlargest: 1  1.0000\n");
}

#[test]
fn several_files_are_several_runs() {
    prints("{}/x.npy {}/x.npy", "x.npy: 1  1.0000\nx.npy: 1  1.0000\n");
    // State is not carried from one file to the next.
    prints(
        "--entry count {}/one.npy {}/one.npy",
        "one.npy\ntotal: f32[1]\n[1.5000]\none.npy\ntotal: f32[1]\n[1.5000]\n",
    );
}

#[test]
fn files_are_bound_in_order_after_names() {
    let expected = "sum: f32[2]\n[1.5000 3.5000]\nlargest: 1  3.5000\nany: bool[1]\n[True]\n";
    prints("--entry pair {}/a.npy {}/b.npy", expected);
    prints("--entry pair {}/b.npy --input a={}/a.npy", expected);
}

#[test]
fn named_files_in_and_out() {
    let dir = folder();
    for kind in ["npz", "safetensors"] {
        let path = dir.path().join(format!("in.{kind}"));
        files::write_all(&path, &[("b", &integers(&[1, 2, 3])), ("a", &floats(&[2], &[0.5, 1.5]))])
            .expect("writable");
        let done =
            call(dir.path(), &format!("--entry pair --inputs {{}}/in.{kind} --outputs {{}}/out.{kind}"));
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "", ""));
        let found = files::read_all(&dir.path().join(format!("out.{kind}"))).expect("it was written");
        let of =
            |name: &str| found.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor).expect(name);
        assert_eq!(of("sum").bytes(), floats(&[2], &[1.5, 3.5]).bytes());
        assert_eq!((of("any").dtype(), of("any").bytes()), (DType::Bool, &[1][..]));
    }
}

#[test]
fn json_of_one_and_of_several_runs() {
    let dir = folder();
    let of = |line: &str| serde_json::from_str::<Value>(&call(dir.path(), line).out).expect("it is JSON");
    let outputs = json!([{"name": "p", "dtype": "f32", "shape": [1, 3], "values": [0.5, 1.0, -2.0], "truncated": false}]);
    assert_eq!(of("{}/x.npy --json"), json!({"entry": "classify", "outputs": outputs}));
    let two = of("{}/x.npy {}/x.npy --json");
    assert_eq!((two["runs"][1]["outputs"].clone(), two["runs"].as_array().map(Vec::len)), (outputs, Some(2)));
}

#[test]
fn missing_inputs_are_random_and_repeatable() {
    let dir = folder();
    let first = call(dir.path(), "--json --dim n=4");
    assert_eq!((first.code, first.err.as_str()), (0, "note: input `x` f32[4, 3] is random (seed 0)\n"));
    assert_eq!(call(dir.path(), "--json --dim n=4").out, first.out);
    assert_ne!(call(dir.path(), "--json --dim n=4 --seed 1").out, first.out);
    // The given input decides the size, also where it isn't the one that binds it.
    let done = call(dir.path(), "--entry pair --input b={}/b.npy --json");
    assert_eq!((done.code, done.err.as_str()), (0, "note: input `a` f32[2] is random (seed 0)\n"));
    assert_eq!(call(dir.path(), "--entry pair {}/a.npy").err, "note: input `b` i64[3] is random (seed 0)\n");
    assert_eq!(call(dir.path(), "").err, "note: input `x` f32[1, 3] is random (seed 0)\n");
    assert_eq!(call(dir.path(), "--dim n=0").code, 0);
}

#[test]
fn bench_times_every_run() {
    let dir = folder();
    let done = call(dir.path(), "{}/x.npy --bench 7 --warmup 2 --threads 1 --json");
    let report: Value = serde_json::from_str(&done.out).expect("it is JSON");
    assert_eq!((done.code, report["ms"].as_array().map(Vec::len)), (0, Some(7)));
    assert!(
        report["median"].as_f64() <= report["p90"].as_f64()
            && report["p90"].as_f64() <= report["p99"].as_f64()
    );
    let text = call(dir.path(), "{}/x.npy --bench 3 --threads 1").out;
    assert!(text.starts_with("runs    3 on 1 thread\nmedian  ") && text.ends_with(" ms\n"), "{text}");
    // Times and results together: what is written is what a single run gives, also with state.
    let done = call(dir.path(), "--entry count {}/one.npy --bench 3 --warmup 1 --outputs {}/out.npz");
    assert_eq!(done.code, 0, "{}", done.err);
    let outputs = files::read_all(&dir.path().join("out.npz")).expect("it was written");
    assert_eq!(outputs[0].1.bytes(), 1.5_f32.to_le_bytes());
}

#[test]
fn wrong_names_are_answered_with_the_right_ones() {
    refuses(
        "--input y={}/x.npy",
        "error[egraft::runner::unknown_input]: there is no input `y`; the inputs are `x`\n  help: `--inspect` shows the inputs of all entries",
    );
    refuses(
        "--entry main",
        "error[egraft::runner::unknown_entry]: there is no entry `main`; the entries are `classify`, `pair`, `count`, `positive`\n  help: `--inspect` shows all entries",
    );
    refuses(
        "--dim m=2",
        "error[egraft::runner::unknown_dim]: there is no symbolic dim `m`; the symbolic dims are `n`\n  help: `--inspect` shows the shapes of all inputs",
    );
    refuses(
        "--entry count --dim m=2",
        "error[egraft::runner::unknown_dim]: there is no symbolic dim `m`; all dims are fixed\n  help: `--inspect` shows the shapes of all inputs",
    );
}

#[test]
fn outputs_are_as_large_as_the_run_decides() {
    let dir = folder();
    save(&dir.path().join("p.npy"), &floats(&[4], &[-1.0, 2.0, 0.0, 3.0]));
    save(&dir.path().join("none.npy"), &floats(&[2], &[-1.0, -2.0]));
    save(&dir.path().join("many.npy"), &floats(&[3], &[1.0, 2.0, 3.0]));
    let run = |line: &str| call(dir.path(), &format!("--entry positive {line}"));
    assert_eq!(
        run("{}/p.npy {}/none.npy").out,
        "p.npy\ny: f32[2]\n[2.0000 3.0000]\nlargest: 1  3.0000\nany: bool[1]\n[True]\n\
         none.npy\ny: f32[0]\n[]\nany: bool[1]\n[False]\n"
    );
    let done = run("{}/p.npy --bench 3 --warmup 1 --outputs {}/out.npz");
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let outputs = files::read_all(&dir.path().join("out.npz")).expect("it was written");
    let y = &outputs.iter().find(|(name, _)| name == "y").expect("it is an output").1;
    assert_eq!((y.dims(), y.bytes()), (&[2][..], floats(&[2], &[2.0, 3.0]).bytes()));
    let done = run("{}/many.npy");
    assert_eq!(
        (done.code, done.err.as_str()),
        (
            2,
            "error[egraft::runtime::measured]: the size `k` of node `/Compress` is 3; it must be at most 2\n  \
             help: the values of the inputs decide sizes; give others\n"
        )
    );
    // Only what inputs decide can be chosen.
    let done = run("--dim k=2");
    assert!(done.err.contains("there is no symbolic dim `k`; the symbolic dims are `n`\n"), "{}", done.err);
    assert_eq!(run("--dim n=0").out, "y: f32[0]\n[]\nany: bool[1]\n[False]\n");
    let text = call(dir.path(), "--inspect").out;
    assert!(
        text.contains("  output y: f32[k]\n  output any: bool[1]\n  decided while it runs: k\n"),
        "{text}"
    );
    let report: Value = serde_json::from_str(&call(dir.path(), "--inspect --json").out).expect("it is JSON");
    let entry = &report["entries"][3];
    assert_eq!((&entry["symbols"], &entry["decided_symbols"]), (&json!(["n"]), &json!(["k"])));
}

#[test]
fn wrong_tensors_are_refused() {
    refuses(
        "{}/b.npy",
        "error[egraft::runtime::dtype]: input `x`: elements are i64, expected f32\n  help: nothing is cast silently; write the file with dtype f32",
    );
    refuses(
        "{}/a.npy",
        "error[egraft::runtime::rank]: input `x`: rank 1, expected 2\n  help: `--inspect` shows the shapes of all inputs",
    );
    refuses(
        "{}/x.npy --dim n=2",
        "error[egraft::runner::dim_conflict]: `--dim n=2` contradicts the inputs, by which `n` is 1\n  help: leave out the option",
    );
    let dir = folder();
    let done = call(dir.path(), "--entry pair {}/a.npy --input b={}/big.npy");
    assert!(done.code == 2 && done.err.starts_with("error[egraft::runner::read]: "), "{done:?}");
    save(&dir.path().join("big.npy"), &integers(&[0; 9]));
    let done = call(dir.path(), "--entry pair {}/a.npy --input b={}/big.npy");
    assert!(done.code == 2 && done.err.contains("input `b`: axis 0 is 9, expected"), "{done:?}");
}

#[test]
fn wrong_counts_are_refused() {
    refuses(
        "--entry pair {}/a.npy {}/b.npy {}/a.npy",
        "error[egraft::runner::files]: 3 files are given for 2 inputs\n  help: give at most one file per input, or a multiple of that for several runs",
    );
    refuses(
        "--input x={}/x.npy {}/x.npy",
        "error[egraft::runner::files]: 1 files are given for 0 inputs\n  help: leave them out",
    );
    refuses(
        "--input x={}/x.npy --input x={}/x.npy",
        "error[egraft::runner::duplicate_input]: input `x` is given twice\n  help: leave out one of the two",
    );
    refuses(
        "{}/x.npy {}/x.npy --outputs {}/o.npz",
        "error[egraft::runner::usage]: the files make 2 runs, but `--outputs` takes one\n  help: give one file per input",
    );
}

#[test]
fn nothing_is_left_behind_by_a_failure() {
    let dir = folder();
    let before = std::fs::read_dir(dir.path()).expect("it exists").count();
    for line in
        ["{}/b.npy --outputs {}/o.npz", "{}/x.npy --outputs {}/none/o.npz", "{}/x.npy --outputs {}/o.npy"]
    {
        assert_eq!(call(dir.path(), line).code, 2, "{line}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("it exists").count(), before);
}

#[test]
fn absurd_sizes_are_refused() {
    let dir = folder();
    for size in ["1099511627776", "9223372036854775807", "4611686018427387904"] {
        let done = call(dir.path(), &format!("--dim n={size}"));
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{size}");
        assert!(done.err.contains("error[egraft::runner::random_input]"), "{}", done.err);
    }
    let done = call(dir.path(), "--entry pair --dim n=9223372036854775807");
    assert_eq!(done.code, 2, "{}", done.err);
}

#[test]
fn a_tensor_without_elements_runs() {
    let dir = folder();
    save(&dir.path().join("none.npy"), &Tensor::zeroed(DType::F32, &[0, 3]).expect("small"));
    let done = call(dir.path(), "{}/none.npy");
    assert_eq!((done.code, done.out.as_str()), (0, "p: f32[0, 3]\n[]\n"));
}

#[test]
fn help_version_and_inspection() {
    let dir = folder();
    let help = call(dir.path(), "--help");
    assert!(help.code == 0 && help.out.contains("Usage: ./m [OPTIONS]"), "{}", help.out);
    let version = call(dir.path(), "--version").out;
    assert!(version.starts_with(concat!("egraft-runner ", env!("CARGO_PKG_VERSION"), "\n")), "{version}");
    let text = call(dir.path(), "--inspect").out;
    assert!(
        text.contains("entry pair\n  input  a: f32[n]\n  input  b: i64[n + 1]\n  output sum: f32[n]\n"),
        "{text}"
    );
    assert!(text.contains("\"model\": \"test\""), "{text}");
    let report: Value = serde_json::from_str(&call(dir.path(), "--inspect --json").out).expect("it is JSON");
    assert_eq!(report["meta"], json!({"model": "test"}));
    assert_eq!(report["entries"][0]["inputs"], json!([{"name": "x", "dtype": "f32", "shape": ["n", "3"]}]));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut err = Vec::new();
    let args = ["m", "--help"].map(Into::into);
    assert_eq!(runner::cli::run(&support::model(), args, &mut Closed, &mut err), 0);
    assert!(err.is_empty());
}
