//! What `egraft compile` writes: it runs alone, says what is wrong with it, has the same bytes each time, can be made
//! from any dump, and is called from C.
//!
//! Everything goes through the built `egraft` and the artifacts themselves, as a user's shell would see it.

#![allow(clippy::print_stdout, reason = "a test says what it could not look at")]

#[path = "artifacts/damage.rs"]
mod damage;
#[cfg(target_os = "linux")]
#[path = "artifacts/large.rs"]
mod large;
#[path = "artifacts/library.rs"]
mod library;
#[path = "artifacts/narrow.rs"]
mod narrow;
#[path = "artifacts/weights.rs"]
mod weights;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::program::{Done, call, egraft, run};
use harness::root;
use ir::weight::Hash;
use ir::{DType, Tensor};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("the system has room for temporary files")
}

fn digits() -> PathBuf {
    root().join("models/zoo/digits.onnx")
}

fn image(digit: usize) -> PathBuf {
    root().join(format!("models/zoo/digits/{digit}.npy"))
}

fn images() -> Vec<PathBuf> {
    (0..10).map(image).collect()
}

/// `egraft compile MODEL -o OUT OPTIONS`.
fn compile(model: &Path, out: &Path, options: &[&str]) -> Done {
    let mut args = vec![OsStr::new("compile"), model.as_os_str(), OsStr::new("-o"), out.as_os_str()];
    args.extend(options.iter().map(OsStr::new));
    call(args)
}

/// The digits as an executable in `folder`.
fn executable(folder: &Path) -> PathBuf {
    let path = folder.join("digits");
    compile(&digits(), &path, &[]).succeeds();
    path
}

/// A program in an empty environment, in a folder that is not its own.
fn alone(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/nonexistent").current_dir("/");
    command
}

fn write_program(path: &Path, bytes: &[u8]) {
    // Not over a file that runs: a new one.
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("the folder is writable");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn save(path: &Path, tensor: &Tensor) {
    let tensor = egraft::tensors::to_file(tensor).expect("it is small");
    let mut bytes = Vec::new();
    runner::files::npy::write(&tensor, &mut bytes).expect("memory takes it");
    fs::write(path, bytes).expect("the folder is writable");
}

fn load(path: &Path) -> Tensor {
    egraft::tensors::from_file(&runner::files::read_one(path).unwrap_or_else(|error| panic!("{error}")))
}

fn batch(images: &[Tensor]) -> Tensor {
    let bytes = images.iter().flat_map(|image| image.bytes().to_vec()).collect();
    Tensor::new(DType::F32, vec![images.len(), 1, 8, 8], bytes).expect("images of 8x8")
}

fn answers(done: &Done) -> Vec<String> {
    let class = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    done.out.lines().map(class).collect()
}

fn ten_of_ten() -> Vec<String> {
    (0..10).map(|digit| format!("{digit}.npy: {digit}")).collect()
}

#[test]
fn an_executable_needs_nothing_around_it() {
    let folder = folder();
    let program = executable(folder.path());
    let done = run(alone(&program).args(images())).succeeds();
    assert_eq!(answers(&done), ten_of_ten());
    // Nor `egraft`'s folder, nor its own name.
    let moved = folder.path().join("elsewhere");
    fs::rename(&program, &moved).expect("the folder is writable");
    assert_eq!(run(alone(&moved).args(images())).succeeds().out, done.out);
    let told = call(
        [OsStr::new("run"), moved.as_os_str()].into_iter().chain(images().iter().map(|p| p.as_os_str())),
    );
    assert_eq!(told.succeeds().out, done.out, "`egraft run` is the same command line");
}

/// The kinds of segments in an ELF file.
fn segments(elf: &[u8]) -> Vec<u32> {
    let number = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)) as usize
    };
    assert!(elf.starts_with(b"\x7fELF\x02\x01"), "this is a little-endian ELF of 64 bits");
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|i| number(table + i * size, 4) as u32).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_executable_that_is_called_static_has_no_interpreter() {
    const PT_INTERP: u32 = 3;
    let folder = folder();
    let path = folder.path().join("digits");
    let told = compile(&digits(), &path, &[]).succeeds().out;
    let is_static = !told.contains("needs this system's C library");
    let needs = segments(&read(&path)).contains(&PT_INTERP);
    assert_eq!(needs, !is_static, "{told}");
}

#[test]
fn one_artifact_serves_any_batch_size() {
    let folder = folder();
    let program = executable(folder.path());
    let given: Vec<Tensor> = images().iter().map(|path| load(path)).collect();
    let mut singles = Vec::new();
    for count in [1, 2, 3, 10, 0, 33] {
        let batch = batch(&given.iter().cycle().take(count).cloned().collect::<Vec<_>>());
        let (x, y) = (folder.path().join("x.npy"), folder.path().join(format!("y{count}.npz")));
        save(&x, &batch);
        run(alone(&program).arg(&x).arg("--outputs").arg(&y)).succeeds();
        let found = runner::files::read_all(&y).unwrap_or_else(|error| panic!("{error}"));
        let [(_, found)] = &found[..] else { panic!("the model has one output") };
        assert_eq!(found.dims(), [count, 10]);
        if count == 10 {
            singles = found.bytes().to_vec();
        }
        // Each image has the same answer, to the bit, in any company.
        if count == 33 {
            for (row, bytes) in found.bytes().chunks(40).enumerate() {
                assert_eq!(bytes, &singles[row % 10 * 40..][..40], "row {row}");
            }
        }
    }
}

#[test]
fn bench_reports_every_run() {
    let folder = folder();
    let program = executable(folder.path());
    let mut command = alone(&program);
    command.arg(image(3)).args(["--bench", "3", "--threads", "2", "--json"]);
    let report = run(&mut command).succeeds().json();
    assert_eq!((&report["entry"], &report["threads"]), (&"main".into(), &2.into()));
    let times: Vec<f64> =
        report["ms"].as_array().expect("a list").iter().filter_map(|ms| ms.as_f64()).collect();
    assert_eq!(times.len(), 3);
    assert!(times.iter().all(|ms| *ms > 0.0), "{times:?}");
    let key = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("`{key}` of {report}"));
    let order = [key("min"), key("median"), key("p90"), key("p99")];
    assert!(order.is_sorted(), "{order:?}");
    assert!(times.contains(&key("min")) && times.contains(&key("median")), "{report}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = folder();
    let program = executable(folder.path());
    for option in ["--help", "--inspect", "--json"] {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let mut command = alone(&program);
        let child =
            command.arg(option).arg(image(1)).stdout(writer).stderr(std::process::Stdio::piped()).spawn();
        let done = child.and_then(|child| child.wait_with_output()).expect("it starts");
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), err.as_ref()), (Some(0), ""), "{option}");
    }
}

#[test]
fn an_artifact_says_what_it_is() {
    let folder = folder();
    let program = executable(folder.path());
    let own = run(alone(&program).args(["--inspect", "--json"])).succeeds().json();
    let told = call([OsStr::new("inspect"), program.as_os_str(), OsStr::new("--json")]).succeeds().json();
    for report in [&own, &told] {
        let (header, meta) = (&report["header"], &report["meta"]);
        assert_eq!(header["abi"], runtime::ABI_VERSION);
        assert_eq!(header["compiler"], env!("CARGO_PKG_VERSION"));
        assert_eq!(header["arch"], std::env::consts::ARCH);
        assert_eq!(meta["model"]["blake3"], Hash::of(&read(&digits())).to_string());
        assert_eq!(meta["options"]["level"], 2);
        assert_eq!(meta["weights"].as_array().map(Vec::len), Some(8));
        assert!(meta["kernels"].as_array().is_some_and(|kernels| !kernels.is_empty()));
    }
    let weights = told["weights"].as_array().expect("a list");
    assert!(weights.iter().all(|weight| weight["blake3"].as_str().is_some_and(|hash| hash.len() == 64)));
    let text = call([OsStr::new("inspect"), program.as_os_str()]).succeeds().out;
    let abi = format!("ABI {}", runtime::ABI_VERSION);
    for part in ["digits.onnx", &abi, "input  image: f32[batch, 1, 8, 8]", "node_conv2d", "weights"] {
        assert!(text.contains(part), "`{part}` is not in it:\n{text}");
    }
}

/// Also from another folder, by another path, in another environment.
#[test]
fn compiling_twice_gives_the_same_bytes() {
    let (first, second) = (folder(), folder());
    let mut kinds = vec!["exe", "obj", "ir", "kir", "prog", "clif", "asm", "dot"];
    if has("cc") {
        kinds.push("lib");
    }
    if has("ar") {
        kinds.push("staticlib");
    }
    let model = digits();
    for kind in kinds {
        for level in ["-O0", "-O2"] {
            let compiled = |folder: &TempDir, elsewhere: bool| {
                // A folder for each: texts keep their weights beside them.
                let place = folder.path().join(format!("{kind}{level}"));
                fs::create_dir(&place).expect("the folder is writable");
                let mut command = Command::new(egraft());
                command.arg("compile");
                if elsewhere {
                    let path = std::env::var_os("PATH").unwrap_or_default();
                    command.env_clear().env("PATH", path).env("LANG", "tr_TR.UTF-8").env("TZ", "Asia/Tokyo");
                    command.current_dir(model.parent().expect("it lies in a folder")).arg("digits.onnx");
                    command.args(["--threads", "1"]);
                } else {
                    command.arg(&model);
                }
                run(command.arg("-o").arg(place.join("m")).args(["--emit", kind, level])).succeeds();
                let mut files: Vec<PathBuf> =
                    fs::read_dir(&place).expect("readable").map(|e| e.expect("readable").path()).collect();
                files.sort();
                let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
                files.iter().map(|path| (name(path), Hash::of(&read(path)))).collect::<Vec<_>>()
            };
            assert_eq!(compiled(&first, false), compiled(&second, true), "{kind} at {level}");
        }
    }
}

/// An artifact that is damaged, or of somewhere else, is refused by itself, by `egraft run` and by `egraft inspect`,
/// with the same code.
fn is_refused(program: &Path, code: &str, words: &[&str]) {
    let code = format!("egraft::runtime::{code}");
    run(&mut alone(program)).refused(&code, words);
    call([OsStr::new("run"), program.as_os_str()]).refused(&code, words);
}

/// Whether a program of the system is there.
fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success());
    if !is_there {
        println!("there is no `{program}` here: what needs it is not tested");
    }
    is_there
}

/// The texts of a dump, in order.
fn texts(dump: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dump).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ir" || e == "kir" || e == "prog"));
    files.sort();
    files
}

/// A compilation goes on from any of its dumps, to the same artifact and the same text.
fn resumes(model: &Path, options: &[&str]) -> usize {
    let folder = folder();
    let (dump, artifact) = (folder.path().join("dump"), folder.path().join("m"));
    compile(model, &artifact, &[options, &["--dump", dump.to_str().expect("a plain path")]].concat())
        .succeeds();
    let texts = texts(&dump);
    let kinds: Vec<&str> = texts.iter().filter_map(|path| path.extension()?.to_str()).collect();
    for kind in ["ir", "kir", "prog"] {
        assert!(kinds.contains(&kind), "there is no .{kind} in {texts:?}");
    }
    for (number, path) in texts.iter().enumerate() {
        let name = path.file_name().expect("it has a name").to_string_lossy();
        assert!(name.starts_with(&format!("{number:02}-")), "{name} is number {number}");
    }
    let emits = fs::read_dir(&dump).expect("readable").filter_map(|entry| entry.ok()).map(|e| e.file_name());
    assert!(emits.map(|n| n.to_string_lossy().into_owned()).any(|name| name.ends_with("-emit.clif")));
    let expected = read(&artifact);
    let last = texts.last().expect("there are some");
    let opt = |path: &Path| call([OsStr::new("opt"), path.as_os_str()]).succeeds().out;
    let without_name = |path: &Path| {
        let text = fs::read_to_string(path).expect("readable");
        text.split_once('\n').expect("the first line is the file's name").1.to_owned()
    };
    let end = without_name(last);
    for path in &texts {
        let again = folder.path().join("m2");
        compile(path, &again, &[]).succeeds();
        assert!(read(&again) == expected, "{}: another artifact", path.display());
        fs::remove_file(&again).expect("it was written");
        assert_eq!(opt(path), end, "{}: another program", path.display());
    }
    texts.len()
}

#[test]
fn compilations_go_on_from_any_dump() {
    let mut texts = resumes(&digits(), &[]);
    texts += resumes(&digits(), &["-O0", "--dim", "batch=3"]);
    for case in ["mlp_gelu", "shape_split_heads", "cnn_small"] {
        texts += resumes(
            &root().join(format!("tests/data/onnx/valid/{case}/model.onnx")),
            &["--mcpu", "portable"],
        );
    }
    // Control flow, and sizes that values decide.
    for case in ["loop_count_and_condition", "loop_nested", "if_nested", "if_in_loop", "unique_values"] {
        texts += resumes(&root().join(format!("tests/data/onnx/valid/{case}/model.onnx")), &[]);
    }
    texts += resumes(&root().join("tests/data/onnx/valid/run_time_axes/model.onnx"), &["-O0"]);
    texts += resumes(&root().join("tests/golden/moe/smoe_loop_dynamic/model.onnx"), &[]);
    println!("resumed from {texts} dumps");
}

#[test]
fn a_changed_text_changes_the_model() {
    let folder = folder();
    let dump = folder.path().join("dump");
    let model = root().join("tests/data/onnx/valid/mlp_relu/model.onnx");
    compile(&model, &folder.path().join("m"), &["--dump", dump.to_str().expect("a plain path")]).succeeds();
    let first = texts(&dump).remove(0);
    let text = fs::read_to_string(&first).expect("readable");
    assert!(text.contains("= relu"), "{text}");
    let changed = dump.join("changed.ir");
    fs::write(&changed, text.replace("= relu", "= tanh")).expect("writable");
    let (was, is) = (folder.path().join("was"), folder.path().join("is"));
    compile(&first, &was, &[]).succeeds();
    compile(&changed, &is, &[]).succeeds();
    let run = |program: &Path| run(alone(program).args(["--seed", "1", "--json"])).exits(0).out;
    assert_ne!(run(&was), run(&is));
}
