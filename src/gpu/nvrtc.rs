//! Where NVRTC is found: with the system's libraries, or in the packages of a Python.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cuda::{Nvrtc, NvrtcError};

use crate::python::python;

/// As [`Compiler::find`](super::Compiler::find) says.
pub(super) fn load(newest: Option<u32>) -> Result<Nvrtc, NvrtcError> {
    Nvrtc::load(&[]).or_else(|_| Nvrtc::load(&in_packages(&python(None), newest)))
}

/// The files of NVRTC in the packages of a Python, the best one first; none if there is no such Python.
fn in_packages(python: &Path, newest: Option<u32>) -> Vec<PathBuf> {
    let said = Command::new(python).args(["-c", "import sys; print('\\n'.join(sys.path))"]).output();
    let Ok(said) = said else { return Vec::new() };
    let folders = String::from_utf8_lossy(&said.stdout).into_owned();
    let folders = folders.lines().filter(|line| !line.is_empty());
    let mut files: Vec<PathBuf> = folders.flat_map(|folder| in_folder(Path::new(folder))).collect();
    files.sort_by_key(|file| {
        let version = version(file);
        let too_new = newest.is_some_and(|newest| version > newest);
        (too_new, Reverse(version), file.clone())
    });
    files
}

/// The version in the name of such a file.
fn version(file: &Path) -> u32 {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digits = name.trim_start_matches(PREFIX).split('.').next().unwrap_or_default().parse();
    digits.unwrap_or(0)
}

/// How the name of such a file begins.
const PREFIX: &str = "libnvrtc.so.";

/// `nvidia/*/lib/libnvrtc.so.*` in a folder of packages.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    list(&folder.join("nvidia")).iter().flat_map(|package| list(&package.join("lib"))).filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_names() {
        for (name, number) in [("a/libnvrtc.so.13", 13), ("libnvrtc.so.12.9", 12), ("libnvrtc.so.alt", 0)] {
            assert_eq!(version(Path::new(name)), number, "{name}");
        }
    }

    #[test]
    fn packages_are_searched_and_nothing_else_is_found() {
        egraft::output::with_folder(|folder| {
            let lib = folder.join("nvidia/cu13/lib");
            fs::create_dir_all(&lib).expect("writable");
            for name in ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libcudart.so.13"] {
                fs::write(lib.join(name), "").expect("writable");
            }
            assert_eq!(in_folder(folder), [lib.join("libnvrtc.so.13")]);
            assert!(in_folder(&folder.join("none")).is_empty());
            fs::remove_dir_all(folder.join("nvidia")).expect("writable");
            Ok(())
        })
        .expect("there is room");
        assert!(in_packages(Path::new("/nonexistent/python"), None).is_empty());
    }
}
