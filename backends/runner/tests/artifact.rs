//! The program itself with a model appended: it runs with nothing around it, and says what is wrong with it.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(unsafe_code, reason = "shares a module with tests whose kernels are functions")]

#[allow(dead_code, reason = "shared with the tests of the command line")]
mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use runtime::plan::{Arg, Call, Entry, KernelSlot, Port, Step};
use runtime::{CodePart, Contents, DType, Plan, Size, WeightsPart};
use support::{floats, save};

/// Copies one float: `mov rax, [rsi]; mov rcx, [rsi + 8]; mov eax, [rax]; mov [rcx], eax; ret`.
const COPY: &[u8] = &[0x48, 0x8b, 0x06, 0x48, 0x8b, 0x4e, 0x08, 0x8b, 0x00, 0x89, 0x01, 0xc3];

/// A program that computes `y = x` for `x: f32[1]`.
fn artifact(dir: &Path) -> PathBuf {
    let port = |name: &str| Port { name: name.into(), dtype: DType::F32, dims: vec![Size::Const(1)] };
    let entry = Entry {
        name: "main".into(),
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        arena_bytes: Size::Const(0),
        steps: vec![Step::Call(Call { kernel: 0, args: vec![Arg::Input(0), Arg::Output(0)], sizes: vec![] })],
        ..Entry::default()
    };
    let kernels = vec![KernelSlot { name: "copy".into(), offset: 0 }];
    let plan = Plan { entries: vec![entry], weights: Vec::new(), kernels };
    let contents = Contents {
        compiler: "9.9.9",
        arch: "x86_64",
        features: &[],
        meta: "{}",
        plan: &plan,
        code: CodePart::Embedded(COPY),
        weights: WeightsPart::Embedded(&[]),
    };
    let runner = fs::read(env!("CARGO_BIN_EXE_egraft-runner")).expect("cargo built it");
    let mut bytes = Vec::new();
    runtime::append(&runner, &contents, &mut bytes).expect("a vector takes everything");
    program(dir, "m", &bytes)
}

fn program(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("the folder is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// Another test that starts a program at this moment may still have this one open for writing, for an instant.
fn run(program: &Path, args: &[&str]) -> Output {
    loop {
        match Command::new(program).env_clear().args(args).output() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            done => return done.expect("it can be started"),
        }
    }
}

fn texts(done: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn it_runs_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = artifact(dir.path());
    let x = dir.path().join("x.npy");
    save(&x, &floats(&[1], &[1.5]));
    let done = run(&program, &[x.to_str().expect("a plain path")]);
    assert_eq!(texts(&done), (Some(0), "y: f32[1]\n[1.5000]\n".to_owned(), String::new()));
    let (code, out, _) = texts(&run(&program, &["--version"]));
    assert!(code == Some(0) && out.contains("compiled by egraft 9.9.9 for x86_64"), "{out}");
    let (code, out, err) = texts(&run(&program, &["--nonsense"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error[egraft::runner::usage]: "), "{err}");
}

#[test]
fn without_a_model_it_says_so() {
    let (code, out, err) = texts(&run(Path::new(env!("CARGO_BIN_EXE_egraft-runner")), &[]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error[egraft::runtime::stripped]: ") && err.lines().count() == 1, "{err}");
}

#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = fs::read(artifact(dir.path())).expect("it was written");
    let runner_bytes =
        fs::metadata(env!("CARGO_BIN_EXE_egraft-runner")).expect("cargo built it").len() as usize;
    let start = runner_bytes.next_multiple_of(1 << 16);
    // Header, description, code (at 64 KiB), footer: byte by byte would take as many processes.
    for at in [start, start + 9, start + 30, start + 200, start + (1 << 16), good.len() - 64, good.len() - 40]
    {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let (code, out, err) = texts(&run(&program(dir.path(), &format!("d{at}"), &bytes), &[]));
        assert_eq!((code, out.as_str()), (Some(2), ""), "byte {at}: {err}");
        assert!(err.starts_with("error[egraft::runtime::"), "byte {at}: {err}");
    }
    for len in [good.len() - 1, good.len() - 64, start + 100] {
        let (code, _, err) = texts(&run(&program(dir.path(), &format!("t{len}"), &good[..len]), &[]));
        assert_eq!(code, Some(2), "{len} bytes: {err}");
        assert!(err.starts_with("error[egraft::runtime::"), "{len} bytes: {err}");
    }
}
