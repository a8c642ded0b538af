//! Builds what artifacts carry and places it where `src/embed.rs` embeds it: the runner, the same for models on GPUs,
//! and the runtime as a static library.
//!
//! Each comes out of a cargo run of its own, into a folder of their own, so that neither the flags nor the
//! wrappers nor the profile of the build around it change the bytes. Only the toolchain and its linker are
//! shared. Deliberately absent: prebuilt binaries and downloads.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What all have in common.
const PROFILE: &[&str] = &[
    "profile.release.debug=false",
    "profile.release.debug-assertions=false",
    "profile.release.overflow-checks=false",
    "profile.release.incremental=false",
    "profile.release.strip='symbols'",
];

/// Small, and fast where it matters: kernels keep `opt-level = 3`.
const FAST: &[&str] =
    &["profile.release.opt-level=3", "profile.release.lto='fat'", "profile.release.codegen-units=1"];

/// Small, and quickly built: kernels are on a GPU.
const PLAIN: &[&str] =
    &["profile.release.opt-level='s'", "profile.release.lto=false", "profile.release.codegen-units=16"];

/// A panic ends the program through its hook; there is nothing to unwind to.
const ABORT: &str = "profile.release.panic='abort'";

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let sources = Sources::find(&out);
    sources.watch();

    let (runner, is_static) = sources.build_runner();
    place(&runner, &out.join("egraft-runner"));
    println!("cargo:rustc-env=EGRAFT_RUNNER_STATIC={is_static}");
    place(&sources.build_cuda_runner(), &out.join("egraft-runner-cuda"));
    place(&sources.build_runtime(), &out.join("libegraft-runtime.a"));
}

/// Where the crates of runner and runtime are, and how to build them there.
struct Sources {
    runner: PathBuf,
    runtime: PathBuf,
    /// The manifest to build with.
    manifest: PathBuf,
    /// The folder whose cargo configuration applies.
    folder: PathBuf,
    /// The lock file of the workspace; `None` for sources from a registry.
    lock: Option<PathBuf>,
    /// The folder to build in.
    target: PathBuf,
}

impl Sources {
    fn find(out: &Path) -> Sources {
        let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
        let runner = PathBuf::from(variable("DEP_EGRAFT_RUNNER_ROOT"));
        let runtime = PathBuf::from(variable("DEP_EGRAFT_RUNTIME_ROOT"));
        if runner == root.join("backends/runner") {
            let lock = Some(root.join("Cargo.lock")).filter(|lock| lock.exists());
            // Every profile and set of features of the build around us embeds the same bytes, so they share what is built:
            // `OUT_DIR` is `TARGET/PROFILE/build/PACKAGE/out`.
            let target = out.ancestors().nth(4).unwrap_or(out).join("embedded");
            return Sources {
                manifest: runner.join("Cargo.toml"),
                folder: root,
                runner,
                runtime,
                lock,
                target,
            };
        }
        // From a registry. Its folder is not ours to write a lock file into, so a copy is built: a workspace
        // of the two. In there, the configuration of the project around us applies (a vendored registry).
        let copy = out.join("sources");
        for (from, name) in [(&runner, "runner"), (&runtime, "runtime")] {
            copy_package(from, &copy.join(name));
        }
        let workspace = "[workspace]\nresolver = \"3\"\nmembers = [\"runner\", \"runtime\"]\n\n\
                         [patch.crates-io]\negraft-runtime = { path = \"runtime\" }\n";
        let manifest = copy.join("Cargo.toml");
        write(&manifest, workspace);
        // What was resolved before may have been replaced since.
        let _ = fs::remove_file(copy.join("Cargo.lock"));
        Sources { manifest, folder: copy, runner, runtime, lock: None, target: out.join("embedded") }
    }

    /// The build is repeated when one of these changes.
    fn watch(&self) {
        println!("cargo:rerun-if-changed=build.rs");
        for package in [&self.runner, &self.runtime] {
            for file in ["src", "Cargo.toml", "build.rs"] {
                println!("cargo:rerun-if-changed={}", package.join(file).display());
            }
        }
        if let Some(lock) = &self.lock {
            println!("cargo:rerun-if-changed={}", lock.display());
            // The versions and features of dependencies stand here.
            println!("cargo:rerun-if-changed={}", self.folder.join("Cargo.toml").display());
        }
    }

    /// The runner, and whether it needs nothing of the system it runs on but its kernel.
    fn build_runner(&self) -> (PathBuf, bool) {
        let target = variable("TARGET");
        let args = &["build", "--package", "egraft-runner", "--bin", "egraft-runner"];
        let config = [FAST, &[ABORT]].concat();
        if target.contains("-linux-") {
            match self.cargo(args, &config, "-Ctarget-feature=+crt-static") {
                Ok(()) => return (self.built(&executable("egraft-runner")), true),
                Err(why) => println!(
                    "cargo:warning=the runner can't be linked statically here ({}): executables will need the C library of this system",
                    first_error(&why)
                ),
            }
        }
        match self.cargo(args, &config, "") {
            Ok(()) => (self.built(&executable("egraft-runner")), false),
            Err(why) => panic!("egraft-runner does not build:\n{why}"),
        }
    }

    /// The runner that drives GPUs. It loads CUDA's driver, which no static program can.
    fn build_cuda_runner(&self) -> PathBuf {
        let args =
            &["build", "--package", "egraft-runner", "--bin", "egraft-runner-cuda", "--features", "cuda"];
        if let Err(why) = self.cargo(args, &[PLAIN, &[ABORT]].concat(), "") {
            panic!("egraft-runner-cuda does not build:\n{why}");
        }
        self.built(&executable("egraft-runner-cuda"))
    }

    /// The static library, for models on processors and on GPUs. It catches panics, so it unwinds.
    fn build_runtime(&self) -> PathBuf {
        let args = &[
            "rustc",
            "--package",
            "egraft-runtime",
            "--lib",
            "--crate-type",
            "staticlib",
            "--features",
            "cuda",
        ];
        let config = [FAST, &["profile.release.panic='unwind'"]].concat();
        // Libraries need code that can be loaded at any address.
        if let Err(why) = self.cargo(args, &config, "-Crelocation-model=pic") {
            panic!("the static library of egraft-runtime does not build:\n{why}");
        }
        let msvc = variable("TARGET").contains("-msvc");
        self.built(if msvc { "runtime.lib" } else { "libruntime.a" })
    }

    /// A file that cargo has just made.
    fn built(&self, name: &str) -> PathBuf {
        self.target.join(variable("TARGET")).join("release").join(name)
    }

    /// Runs cargo; on failure returns what it printed.
    fn cargo(&self, args: &[&str], config: &[&str], flags: &str) -> Result<(), String> {
        if self.lock.is_some() {
            return self.cargo_once(args, config, flags, Some("--locked"));
        }
        // All that is needed was fetched for the build around us; without a lock file, only `--offline` makes
        // cargo choose from that. Where it doesn't suffice, the network may help.
        self.cargo_once(args, config, flags, Some("--offline"))
            .or_else(|_| self.cargo_once(args, config, flags, None))
    }

    fn cargo_once(
        &self,
        args: &[&str],
        config: &[&str],
        flags: &str,
        mode: Option<&str>,
    ) -> Result<(), String> {
        let mut cargo = Command::new(variable("CARGO"));
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_the_outer_build(name)) {
            cargo.env_remove(name);
        }
        // Set, even if empty: it comes before every other source of flags, also those in files.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", [flags, &without_home()].join("\x1f").trim_matches('\x1f'));
        cargo.current_dir(&self.folder).args(args).arg("--release").args(mode);
        // With a target, flags don't reach build scripts and procedural macros.
        cargo.arg("--target").arg(variable("TARGET"));
        cargo.arg("--manifest-path").arg(&self.manifest).arg("--target-dir").arg(&self.target);
        for setting in PROFILE.iter().chain(config) {
            cargo.arg("--config").arg(setting);
        }
        match cargo.output() {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
            Err(error) => Err(format!("cargo can't be started: {error}")),
        }
    }
}

/// The flag that keeps the name of our home folder out of the messages of every artifact.
fn without_home() -> String {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    cargo.map_or_else(String::new, |cargo| format!("--remap-path-prefix={}=cargo", cargo.display()))
}

/// Whether a variable would carry flags, wrappers or settings of the surrounding build into the inner one.
/// What says where registries and toolchains are, and how to reach them, stays.
fn is_of_the_outer_build(name: &OsString) -> bool {
    const KEPT: &[&str] = &[
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_",
    ];
    let Some(name) = name.to_str() else { return false };
    if KEPT.iter().any(|kept| name.starts_with(kept)) {
        return false;
    }
    // A linker chosen for a target is part of the toolchain.
    if name.starts_with("CARGO_TARGET_") && name.ends_with("_LINKER") {
        return false;
    }
    let exact = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTDOC",
        "CLIPPY_ARGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
        "LLVM_PROFILE_FILE",
    ];
    exact.contains(&name)
        || ["CARGO_", "RUSTC_", "DEP_", "__CARGO"].iter().any(|prefix| name.starts_with(prefix))
        || name == "CARGO"
}

fn executable(name: &str) -> String {
    let end = if variable("TARGET").contains("windows") { ".exe" } else { "" };
    format!("{name}{end}")
}

/// Copies what a build of the crate needs: sources, build script, and the manifest without its tests.
fn copy_package(from: &Path, to: &Path) {
    // What was removed since must not stay.
    let _ = fs::remove_dir_all(to);
    copy_folder(&from.join("src"), &to.join("src"));
    place(&from.join("build.rs"), &to.join("build.rs"));
    let manifest = from.join("Cargo.toml");
    let text =
        fs::read_to_string(&manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    write(&to.join("Cargo.toml"), &without_tests(&text));
}

/// A manifest as registries hold it, without the tables that only tests need: dependencies of tests were not
/// fetched for the build around us.
fn without_tests(manifest: &str) -> String {
    const DROPPED: &[&str] = &["[dev-dependencies", "[[test]]", "[[example]]", "[[bench]]"];
    let mut kept = String::new();
    let mut drop = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            drop = DROPPED.iter().any(|table| line.starts_with(table));
        }
        if !drop {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", from.display())).path();
        let to = to.join(path.file_name().expect("an entry of a folder has a name"));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            place(&path, &to);
        }
    }
}

/// Copies a file.
fn place(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn first_error(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("error")).unwrap_or("no reason given")
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
}
