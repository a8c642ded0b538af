//! Room on the disk: how much there is in a folder, and whether it is enough.

use std::path::Path;

use crate::error::Error;
use crate::output::folder_of;

/// The bytes that may be written in the folder of `path`, if the system says.
pub fn free(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        // Without a size it is no disk.
        let stat = rustix::fs::statvfs(folder_of(path)).ok().filter(|stat| stat.f_blocks > 0)?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Whether `needed` bytes find room in the folder of `path`.
///
/// # Errors
/// [`Error::NoRoom`] if the system says that they don't.
pub(crate) fn check(path: &Path, needed: u64) -> Result<(), Error> {
    match free(path) {
        Some(free) if free < needed => Err(Error::NoRoom { path: path.to_owned(), needed, free }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("m");
        check(&path, 1).expect("there is room for a byte");
        if free(&path).is_some() {
            let error = check(&path, u64::MAX).expect_err("no disk is so large");
            assert_eq!(error.code(), "egraft::cli::no_room");
        }
    }
}
