//! Libraries, called from the C programs under `tests/c`. Without a C compiler there is a word about it instead.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::program::{egraft, run};
use harness::root;
use ir::Tensor;

use crate::weights::heavy;
use crate::{alone, batch, compile, digits, folder, has, images, load, read, save};

/// The digits as a shared library with its header in `folder`; `None`, with a word about it, without a C compiler.
fn library(folder: &Path) -> Option<PathBuf> {
    if !has("cc") {
        return None;
    }
    let path = folder.join("libdigits.so");
    compile(&digits(), &path, &["--emit", "lib"]).succeeds();
    assert!(folder.join("digits.h").is_file(), "the header lies beside the library");
    Some(path)
}

/// Compiles a C program of ours against a library in `folder`.
fn c_program(folder: &Path, source: &str, library: &[&str]) -> PathBuf {
    let program = folder.join(source);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-I"]).arg(folder);
    cc.arg(root().join(format!("tests/c/{source}.c"))).arg("-o").arg(&program);
    cc.arg("-L").arg(folder).arg(format!("-Wl,-rpath,{}", folder.display()));
    cc.args(library).args(["-lpthread", "-ldl", "-lm"]);
    let done = run(&mut cc).exits(0);
    assert_eq!(done.err, "", "{done}");
    program
}

/// The file that `digits.c` reads: images, and what a compilation in memory answers for them.
fn images_and_answers(path: &Path) {
    let given: Vec<Tensor> = images().iter().map(|path| load(path)).collect();
    let all = batch(&given);
    let options = egraft::Options::default();
    let model = egraft::load(&digits(), &options).and_then(|model| egraft::compile(model, &options, &mut ()));
    let answers = model.and_then(|model| model.run(std::slice::from_ref(&all), 1));
    let answers = answers.unwrap_or_else(|error| panic!("{error}"));
    let bytes = [&10i32.to_ne_bytes(), all.bytes(), answers[0].bytes()].concat();
    fs::write(path, bytes).expect("the folder is writable");
}

#[cfg(unix)]
#[test]
fn c_programs_call_a_library_from_two_threads() {
    let folder = folder();
    if library(folder.path()).is_none() {
        return;
    }
    let data = folder.path().join("images");
    images_and_answers(&data);
    let expected: String = (0..10).map(|digit| format!("{digit}: {digit}\n")).collect();
    let program = c_program(folder.path(), "digits", &["-ldigits"]);
    assert_eq!(run(alone(&program).arg(&data)).succeeds().out, expected);
    // It does compare: other answers are noticed.
    let mut bytes = read(&data);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&0.25f32.to_ne_bytes());
    fs::write(&data, &bytes).expect("the folder is writable");
    let done = run(alone(&program).arg(&data));
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.err.contains("answer 99 is ") && done.err.contains(", not 0.25"), "{done}");
}

#[cfg(unix)]
#[test]
fn a_static_library_serves_the_same_program() {
    let folder = folder();
    if !has("cc") || !has("ar") {
        return;
    }
    let archive = folder.path().join("libdigits.a");
    compile(&digits(), &archive, &["--emit", "staticlib"]).succeeds();
    let program = c_program(folder.path(), "digits", &[archive.to_str().expect("a plain path")]);
    fs::remove_file(&archive).expect("it was written");
    let data = folder.path().join("images");
    images_and_answers(&data);
    let expected: String = (0..10).map(|digit| format!("{digit}: {digit}\n")).collect();
    assert_eq!(run(alone(&program).arg(&data)).succeeds().out, expected);
}

#[cfg(unix)]
#[test]
fn mistakes_in_c_are_statuses() {
    let folder = folder();
    if library(folder.path()).is_none() {
        return;
    }
    let program = c_program(folder.path(), "refusals", &["-ldigits"]);
    let done = run(&mut alone(&program)).succeeds();
    assert_eq!(done.out, "", "{done}");
}

/// A library finds its file of weights in the folder that its caller names.
#[cfg(unix)]
#[test]
fn a_library_is_told_where_its_weights_are() {
    let folder = folder();
    if !has("cc") {
        return;
    }
    let source = heavy(folder.path(), 3);
    let library = folder.path().join("libheavy.so");
    let report = compile(&source, &library, &["--emit", "lib", "--json"]).succeeds().json();
    let sidecar = folder.path().join("libheavy.so.weights");
    assert_eq!(report["weights_file"], sidecar.to_str().expect("a plain path"));
    let size = fs::metadata(&library).expect("it was written").len();
    assert!(size < 6 << 20, "{size} bytes");
    let program = c_program(folder.path(), "heavy", &["-lheavy"]);
    let home = folder.path().join("weights");
    fs::create_dir(&home).expect("the folder is writable");
    fs::rename(&sidecar, home.join("libheavy.so.weights")).expect("the folder is writable");
    let lines =
        |from: &Path, folder: &OsStr| run(alone(&program).current_dir(from).arg(folder)).succeeds().out;
    let here = lines(&home, OsStr::new("-"));
    assert!(here.trim().parse::<f64>().is_ok(), "{here}");
    assert_eq!(lines(Path::new("/"), home.as_os_str()), here);
    for missing in [lines(folder.path(), OsStr::new("-")), lines(&home, folder.path().as_os_str())] {
        assert!(missing.starts_with("status 2: ") && missing.contains("sidecar_missing"), "{missing}");
    }
}

/// Entries share weights, sessions keep state, and two models fit into one program.
#[cfg(unix)]
#[test]
fn entries_share_a_library_and_keep_state() {
    let folder = folder();
    if library(folder.path()).is_none() {
        return;
    }
    let source = root().join("tests/c/counter.prog");
    compile(&source, &folder.path().join("libcounter.so"), &["--emit", "lib"]).succeeds();
    let program = c_program(folder.path(), "counter", &["-lcounter", "-ldigits"]);
    let expected = "2 entries, and 1 of the other model\nscale: 1 2 3 4 0 2 0 40\n\
                    three runs: 3 6 9 12\ntwo runs: 0 4 0 80\nafter a reset: 1 2 3 4\n";
    assert_eq!(run(&mut alone(&program)).succeeds().out, expected);
    // As a program, each run starts anew.
    let artifact = folder.path().join("m");
    compile(&source, &artifact, &[]).succeeds();
    let x = folder.path().join("x.npy");
    save(&x, &Tensor::from_f32(&[4], &[1.0; 4]));
    for _ in 0..2 {
        let done = run(alone(&artifact).args(["--entry", "sum", "--json"]).arg(&x)).succeeds().json();
        assert_eq!(done["outputs"][0]["values"], serde_json::json!([1.0, 2.0, 3.0, 4.0]));
    }
    run(alone(&artifact).args(["--entry", "difference"]))
        .refused("egraft::runner::unknown_entry", &["difference", "scale", "sum"]);
}

/// The functions that a header declares.
fn declared(header: &str) -> Vec<String> {
    let mut names: Vec<String> = header
        .lines()
        .filter(|line| line.ends_with(");"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_exports_what_its_header_declares() {
    let folder = folder();
    let Some(library) = library(folder.path()) else { return };
    let header = fs::read_to_string(folder.path().join("digits.h")).expect("readable");
    let declared = declared(&header);
    assert!(declared.len() > 15 && declared.iter().all(|name| name.starts_with("digits_")), "{declared:?}");
    if has("nm") {
        let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library)).succeeds().out;
        let mut exported: Vec<&str> =
            symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        exported.sort_unstable();
        assert_eq!(exported, declared);
    }
    // The header alone, in several languages.
    let source = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, "#include \"digits.h\"\n#include \"digits.h\"\nint main(void) { return 0; }\n")
            .expect("the folder is writable");
        path
    };
    for (compiler, standard, file) in [
        ("cc", "-std=c99", "header.c"),
        ("c++", "-std=c++11", "header.cpp"),
        ("c++", "-std=c++17", "header.cpp"),
    ] {
        if has(compiler) {
            let mut check = Command::new(compiler);
            check.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"]);
            run(check.arg(folder.path()).arg(source(file))).succeeds();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_c_compiler_executables_are_made_and_libraries_say_what_is_missing() {
    let folder = folder();
    let compile = |out: &str, kind: &str| {
        let mut command = Command::new(egraft());
        command.env("PATH", "/nonexistent").arg("compile").arg(digits());
        run(command.arg("-o").arg(folder.path().join(out)).args(["--emit", kind]))
    };
    compile("m", "exe").succeeds();
    compile("m.o", "obj").succeeds();
    fs::remove_file(folder.path().join("m.h")).expect("it was written");
    compile("m.so", "lib").refused("egraft::cli::no_tool", &["cc"]);
    compile("m.a", "staticlib").refused("egraft::cli::no_tool", &["ar"]);
    assert!(!folder.path().join("m.so").exists() && !folder.path().join("m.h").exists());
}
