//! A GPU without a GPU: `egraft` with a CUDA driver and an NVRTC that `tests/cuda/fake.cpp` plays on the processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tempfile::TempDir;

use crate::program::{Done, egraft, run};
use crate::shim;

/// How what the fake makes of sources is compiled.
const FLAGS: &str = "-std=c++20 -O1 -fwrapv -fno-strict-aliasing -ffp-contract=off -w -fPIC";

/// A folder with the fake's libraries, and those that it makes of kernels.
pub struct Fake {
    folder: TempDir,
    runs: AtomicUsize,
}

impl Fake {
    /// The one that tests of this process share, as long as one of them runs; `None`, and says so, if there is no C++ compiler.
    ///
    /// # Panics
    /// It does not compile.
    pub fn shared() -> Option<Arc<Fake>> {
        static SHARED: Mutex<Weak<Fake>> = Mutex::new(Weak::new());
        if !shim::is_there() {
            return None;
        }
        let mut shared = SHARED.lock().expect("who builds it does not panic");
        let fake = shared.upgrade().unwrap_or_else(|| Arc::new(Fake::build()));
        *shared = Arc::downgrade(&fake);
        Some(fake)
    }

    fn build() -> Fake {
        let folder = tempfile::tempdir().expect("the system has room for temporary files");
        let fake = Fake { folder, runs: AtomicUsize::new(0) };
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
        fs::copy(sources.join("shim.h"), fake.path("shim.h")).expect("the folder is writable");
        fs::write(fake.path("flags"), FLAGS).expect("the folder is writable");
        let compile = |args: &[&str], from: PathBuf, to: &str| {
            let mut command = Command::new(shim::compiler());
            command.args(FLAGS.split(' ')).args(args).arg("-o").arg(fake.path(to)).arg(from);
            run(&mut command).succeeds();
        };
        // Most of what a kernel's compilation takes is the header.
        compile(&["-x", "c++-header"], fake.path("shim.h"), "shim.h.gch");
        compile(&["-shared", "-fvisibility=hidden"], sources.join("fake.cpp"), "libcuda.so");
        fs::copy(fake.path("libcuda.so"), fake.path("libnvrtc.so")).expect("the folder is writable");
        fake
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// `egraft` with these words, with a GPU; and what it asked the driver for.
    ///
    /// # Panics
    /// As [`run`]; the driver found something wrong.
    pub fn egraft(&self, line: &str) -> (Done, Calls) {
        let mut command = Command::new(egraft());
        command.args(line.split_whitespace());
        self.run(&mut command)
    }

    /// A program, with a GPU; and what it asked the driver for.
    ///
    /// # Panics
    /// As [`run`]; the driver found something wrong.
    pub fn run(&self, command: &mut Command) -> (Done, Calls) {
        let noted = self.path(&format!("calls-{}", self.runs.fetch_add(1, Ordering::Relaxed)));
        command.env("EGRAFT_FAKE_CUDA", self.folder.path()).env("LD_LIBRARY_PATH", self.folder.path());
        // What is made of sources leads to files of this folder.
        command.env("EGRAFT_FAKE_CALLS", &noted).env("EGRAFT_CACHE", self.path("cache"));
        let done = run(command);
        let calls = fs::read_to_string(&noted).unwrap_or_default();
        let wrong: Vec<&str> = calls.lines().filter(|call| call.starts_with("wrong")).collect();
        assert!(wrong.is_empty(), "{wrong:?}\n{done}");
        (done, Calls(calls))
    }
}

/// What the driver was asked for, a line for each call.
pub struct Calls(String);

impl Calls {
    /// How many calls begin with these words.
    pub fn count(&self, call: &str) -> usize {
        self.0.lines().filter(|line| line.starts_with(call)).count()
    }
}
