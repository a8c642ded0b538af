//! Where NVRTC is found: with the system's libraries, or in the packages of a Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use device::Nvrtc;

use super::engines;
use crate::report::Failure;

/// NVRTC: the system's, or else that of the package `nvidia-cuda-nvrtc` of $EGRAFT_PYTHON or `python3`.
///
/// # Errors
/// It is not there.
pub(super) fn load() -> Result<Nvrtc, Failure> {
    let found = Nvrtc::load(&[]).or_else(|_| Nvrtc::load(&in_packages(&engines::python(None))));
    Ok(found.map_err(egraft::Error::from)?)
}

/// The files of NVRTC in the packages of a Python, the newest version first; none if there is no such Python.
fn in_packages(python: &Path) -> Vec<PathBuf> {
    let said = Command::new(python).args(["-c", "import sys; print('\\n'.join(sys.path))"]).output();
    let Ok(said) = said else { return Vec::new() };
    let folders = String::from_utf8_lossy(&said.stdout).into_owned();
    let mut files: Vec<PathBuf> = folders
        .lines()
        .filter(|line| !line.is_empty())
        .flat_map(|folder| in_folder(Path::new(folder)))
        .collect();
    files.sort_by(|a, b| b.file_name().cmp(&a.file_name()));
    files
}

/// `nvidia/*/lib/libnvrtc.so.*` in a folder of packages.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc.so."))
    };
    list(&folder.join("nvidia")).iter().flat_map(|package| list(&package.join("lib"))).filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_searched_and_nothing_else_is_found() {
        egraft::output::with_folder(|folder| {
            let lib = folder.join("nvidia/cu13/lib");
            fs::create_dir_all(&lib).expect("writable");
            for name in ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libcudart.so.13"] {
                fs::write(lib.join(name), "").expect("writable");
            }
            assert_eq!(in_folder(folder), [lib.join("libnvrtc.so.13")]);
            assert_eq!(in_folder(&folder.join("none")), [PathBuf::new(); 0]);
            fs::remove_dir_all(folder.join("nvidia")).expect("writable");
            Ok(())
        })
        .expect("there is room");
        assert_eq!(in_packages(Path::new("/nonexistent/python")), [PathBuf::new(); 0]);
    }
}
