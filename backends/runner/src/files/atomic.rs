//! A file that appears complete or not at all.
//!
//! The content goes to a new file in the same folder, which is renamed at the end; on an error it is removed.
//! A link at the destination is followed, so that what it points to is replaced and the link stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process;

/// Creates or replaces `path` with what `content` writes.
///
/// # Errors
/// What the system or `content` reports.
pub(super) fn write(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    // A destination that doesn't exist yet has no canonical path.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let (temporary, file) = create_beside(&path)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let done = content(&mut file)
        .and_then(|()| file.into_inner().map_err(io::IntoInnerError::into_error))
        .and_then(|_| fs::rename(&temporary, &path));
    if done.is_err() {
        // The error that is under way matters more than one from cleaning up.
        let _ = fs::remove_file(&temporary);
    }
    done
}

/// A new file in the folder of `path`; no other process can have opened it.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for attempt in 0..64 {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", process::id()));
        let temporary = path.with_file_name(temporary);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .expect("it exists")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x");
        write(&path, |file| file.write_all(b"old")).expect("it is writable");
        let failed = write(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.expect_err("content failed").to_string(), "no more");
        assert_eq!(fs::read(&path).expect("still there"), b"old");
        assert_eq!(names(dir.path()), ["x"]);
        write(&path, |file| file.write_all(b"new")).expect("it is writable");
        assert_eq!(
            (fs::read(&path).expect("there"), names(dir.path())),
            (b"new".to_vec(), vec!["x".to_owned()])
        );
    }

    #[test]
    fn folders_and_missing_folders_are_errors() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(write(dir.path(), |_| Ok(())).is_err());
        assert!(write(&dir.path().join("none/x"), |_| Ok(())).is_err());
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().expect("a folder");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, b"old").expect("writable");
        std::os::unix::fs::symlink(&target, &link).expect("links work");
        write(&link, |file| file.write_all(b"new")).expect("it is writable");
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).expect("there"), b"new");
    }
}
