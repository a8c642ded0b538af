//! Maps files of weights into memory: the one file outside of the backends with `unsafe`.
//!
//! A mapped file is read page by page when it is touched, and never copied whole. Deliberately absent: writing,
//! locking, and any judgement about which files may be read.

#![allow(unsafe_code, reason = "mapping a file is unsafe, since somebody else may change it")]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ir::weight::Storage;
use memmap2::Mmap;

/// A file in memory, read-only.
struct Mapped(Mmap);

impl Storage for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn is_resident(&self) -> bool {
        false
    }
}

/// The file at `path` in memory. It must not change as long as the storage lives.
///
/// # Errors
/// What the system says.
pub(crate) fn map(path: &Path) -> io::Result<Arc<dyn Storage>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Pipes and devices have no length to map, and an empty file has nothing to map.
    if !metadata.is_file() || metadata.len() == 0 {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut &file, &mut bytes)?;
        return Ok(Arc::new(bytes));
    }
    // SAFETY: the mapping is read-only. A file that somebody changes meanwhile may give other bytes than it had, or
    // end the program where it was cut off; the documentation asks for files that don't change.
    let pages = unsafe { Mmap::map(&file) }?;
    Ok(Arc::new(Mapped(pages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_mapped_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let storage = map(&path).expect("it is there");
        assert_eq!(storage.bytes(), std::fs::read(&path).expect("it is there"));
    }

    #[test]
    fn folders_and_missing_files_are_errors() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(map(root).err().expect("a folder").kind(), io::ErrorKind::IsADirectory);
        assert_eq!(map(&root.join("none")).err().expect("missing").kind(), io::ErrorKind::NotFound);
    }
}
