//! Programs under test, from outside: the `egraft` that was just built, what it writes, and what they say.
//!
//! Deliberately absent: building anything. Cargo gives a test no path to a binary of another package, so `egraft` is
//! looked for where Cargo puts it: in the folder above that of the test's own program.

#![allow(clippy::print_stderr, reason = "a note to the person whose test fails")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The path of `egraft`, of the same profile as the test.
///
/// # Panics
/// If it is not built.
pub fn egraft() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a file");
    let folder = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let path = folder.join(format!("egraft{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "there is no {}: run `cargo build` (of this profile) first, as `scripts/test` does",
        path.display()
    );
    if let Some(newer) = newer_source(&path) {
        // Only seen when a test fails: then it may be why.
        eprintln!("note: {} is older than {newer}: `cargo build` renews it", path.display());
    }
    path
}

/// A source of `program` that was changed after it was built, by the list that Cargo keeps beside it.
fn newer_source(program: &Path) -> Option<String> {
    let built = fs::metadata(program).ok()?.modified().ok()?;
    let list = fs::read_to_string(program.with_extension("d")).ok()?;
    let sources = list.split_once(": ")?.1.replace("\\ ", "\0");
    let changed = |path: &String| fs::metadata(path).and_then(|m| m.modified()).is_ok_and(|at| at > built);
    sources.split_whitespace().map(|path| path.replace('\0', " ")).find(changed)
}

/// How a program ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs a command without input, to its end.
///
/// # Panics
/// If it can't be started, or prints what is no text.
pub fn run(command: &mut Command) -> Done {
    let line = format!("{command:?}");
    let mut done = command.stdin(Stdio::null()).output();
    // A test beside this one, just about to start a program, may still hold a file that was written here for writing.
    while done.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ExecutableFileBusy) {
        std::thread::yield_now();
        done = command.output();
    }
    let Output { status, stdout, stderr } = done.unwrap_or_else(|e| panic!("{line} does not start: {e}"));
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|e| panic!("{line} prints no text: {e}"));
    Done { code: status.code(), out: text(stdout), err: text(stderr), line }
}

/// Runs `egraft` with these arguments.
///
/// # Panics
/// As [`run`].
pub fn call<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Done {
    run(Command::new(egraft()).args(args))
}

impl Done {
    /// It must have ended with this code, without a panic.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn exits(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(!self.err.contains("bug:") && !self.err.contains("panicked"), "{self}");
        self
    }

    /// It must have succeeded and said nothing but its results.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn succeeds(self) -> Done {
        let done = self.exits(0);
        assert_eq!(done.err, "", "{done}");
        done
    }

    /// It must have been refused as bad usage or bad input, with this code and these words in the diagnostic, and
    /// without results.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn refused(self, code: &str, words: &[&str]) -> Done {
        let done = self.exits(2);
        assert_eq!(done.out, "", "{done}");
        assert!(done.err.contains(code), "`{code}` is not in it: {done}");
        for word in words {
            assert!(mentions(&done.err, word), "`{word}` is not in it: {done}");
        }
        done
    }

    /// What it printed, as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("this is no JSON: {error}\n{self}"))
    }
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Done { line, code, out, err } = self;
        write!(f, "{line}\nexit code {code:?}\n-- output\n{out}\n-- errors\n{err}")
    }
}

/// Whether `text` holds `word` as a whole: `w` is not in `where`. Line ends count as blanks, borders of reports not
/// at all.
pub fn mentions(text: &str, word: &str) -> bool {
    let text: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == '│').filter(|w| !w.is_empty()).collect();
    let text = text.join(" ");
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(word).any(|(at, _)| {
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next())
    })
}
