//! Files that appear complete or not at all.
//!
//! What is written goes to new files in the destination's folder, under names that nobody else has; only when all of
//! them are complete are they renamed. On a failure they are removed and what was there before stays. A link at the
//! destination is followed: what it points to is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file on its way to its name.
pub(crate) struct Pending {
    temporary: PathBuf,
    target: PathBuf,
    /// As the caller named it.
    shown: PathBuf,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After a commit it is gone; after a failure nobody is left who could do more.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Whether a file may be made at `path`: its folder exists, and it is none itself. To be asked before any work.
///
/// # Errors
/// [`Error::NoFolder`], [`Error::IsFolder`].
pub fn check(path: &Path) -> Result<(), Error> {
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(Error::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
    }
    if path.is_dir() || path.file_name().is_none() {
        return Err(Error::IsFolder { path: path.to_owned() });
    }
    Ok(())
}

/// Whether `path` is another file than `source`, that it is made of.
///
/// # Errors
/// [`Error::SameFile`].
pub fn check_other(path: &Path, source: &Path) -> Result<(), Error> {
    match (path.canonicalize(), source.canonicalize()) {
        (Ok(one), Ok(other)) if one == other => {
            Err(Error::SameFile { path: path.to_owned(), what: "the model itself" })
        }
        _ => Ok(()),
    }
}

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Pending {
    /// A new file that will be `path`, filled by `content`.
    ///
    /// # Errors
    /// Those of [`check`]; [`Error::Write`] for what the system or `content` says.
    pub(crate) fn create<T>(
        path: &Path,
        executable: bool,
        content: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
    ) -> Result<(Pending, T), Error> {
        check(path)?;
        let failed = |source| Error::Write { path: path.to_owned(), source };
        // What doesn't exist yet has no canonical path.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (temporary, file) = create_beside(&target, executable).map_err(failed)?;
        let pending = Pending { temporary, target, shown: path.to_owned() };
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let done = content(&mut file).map_err(failed)?;
        file.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok((pending, done))
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub(crate) fn commit(self) -> Result<(), Error> {
        fs::rename(&self.temporary, &self.target)
            .map_err(|source| Error::Write { path: self.shown.clone(), source })
    }
}

/// A new file in the folder of `path`; no other process can have opened it.
fn create_beside(path: &Path, executable: bool) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for attempt in 0..64 {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, if executable { 0o777 } else { 0o666 });
        match options.open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Creates or replaces a file.
///
/// # Errors
/// Those of [`check`]; [`Error::Write`].
pub fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_with(path, |file| file.write_all(content))
}

/// Creates or replaces a file with what `content` writes.
///
/// # Errors
/// As [`write`]; those of `content`.
pub(crate) fn write_with(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    Pending::create(path, false, content)?.0.commit()
}

/// Creates a folder of files that all have this ending, or replaces one that holds nothing else.
///
/// # Errors
/// [`Error::NoFolder`], [`Error::Write`]; [`Error::OtherFiles`] where the folder holds other files.
pub fn write_folder(path: &Path, ending: &str, files: &[(String, &[u8])]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut old = Vec::new();
    if path.exists() {
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if !file.is_file() || file.extension().is_none_or(|found| found != ending) {
                let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(Error::OtherFiles { folder: path.to_owned(), file, ending: ending.to_owned() });
            }
            old.push(file);
        }
    } else {
        check(path)?;
        fs::create_dir(path).map_err(failed)?;
    }
    let mut pending = Vec::with_capacity(files.len());
    for (name, content) in files {
        let at = path.join(name);
        pending.push(Pending::create(&at, false, |file| file.write_all(content))?.0);
        old.retain(|file| *file != at);
    }
    pending.into_iter().try_for_each(Pending::commit)?;
    old.into_iter().try_for_each(|file| fs::remove_file(file).map_err(failed))
}

/// Runs `body` with a new folder for files that other programs need, and removes it afterwards.
///
/// # Errors
/// [`Error::Write`] if there is no room for it; what `body` says.
pub fn with_folder<T>(body: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
    let base = std::env::temp_dir();
    let failed = |source| Error::Write { path: base.clone(), source };
    let mut folder = None;
    for attempt in 0..64 {
        let path = base.join(format!("egraft-{}-{attempt}", std::process::id()));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(&path) {
            Ok(()) => {
                folder = Some(Folder(path));
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed(error)),
        }
    }
    let folder = folder.ok_or_else(|| failed(io::ErrorKind::AlreadyExists.into()))?;
    body(&folder.0)
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("it is there")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        with_folder(|folder| {
            let path = folder.join("m");
            write(&path, b"old")?;
            let failed = Pending::create(&path, true, |file| {
                file.write_all(b"half")?;
                Err::<(), _>(io::Error::other("no more"))
            });
            assert_eq!(failed.err().map(|error| error.code()), Some("egraft::cli::write"));
            assert_eq!(fs::read(&path).expect("still there"), b"old");
            assert_eq!(names(folder), ["m"]);
            // Not committed: as if it had never been.
            Pending::create(&path, true, |file| file.write_all(b"whole")).map(drop)?;
            assert_eq!(
                (fs::read(&path).expect("still there"), names(folder)),
                (b"old".to_vec(), vec!["m".into()])
            );
            write(&path, b"new")?;
            assert_eq!(fs::read(&path).expect("there"), b"new");
            Ok(())
        })
        .expect("the folder is writable");
    }

    #[test]
    fn folders_are_refused() {
        with_folder(|folder| {
            assert_eq!(write(folder, b"").expect_err("a folder").code(), "egraft::cli::output_folder");
            let inside = folder.join("none/m");
            assert_eq!(write(&inside, b"").expect_err("no folder").code(), "egraft::cli::no_folder");
            assert_eq!(names(folder), [""; 0]);
            Ok(())
        })
        .expect("the folder is writable");
    }

    #[test]
    fn the_folder_goes_in_the_end() {
        let path = with_folder(|folder| Ok(folder.to_owned())).expect("there is room");
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn programs_can_be_started() {
        use std::os::unix::fs::PermissionsExt;
        with_folder(|folder| {
            let path = folder.join("m");
            Pending::create(&path, true, |file| file.write_all(b"x"))?.0.commit()?;
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_ne!(mode & 0o100, 0);
            Ok(())
        })
        .expect("the folder is writable");
    }
}
