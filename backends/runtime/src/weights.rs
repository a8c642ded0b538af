//! The weights section in memory: owned, mapped from a file, or part of the program. Never copied whole
//! once it is in a file; always aligned to 64 bytes.
//!
//! A sidecar is a file of weights beside an artifact: a header of 64 bytes, then zeros up to 64 KiB, then
//! the section. Its header is checked when it is opened; its data, which may be many GB, only by
//! [`crate::Model::verify_weights`].

use std::{fs::File, path::Path};

use memmap2::{Mmap, MmapOptions};

use crate::{
    container::{SECTION_ALIGN, Sidecar},
    error::LoadError,
    memory::{ALIGN, AlignedBytes, OutOfMemory},
};

/// First bytes of a sidecar.
pub(crate) const SIDECAR_MAGIC: &[u8; 8] = b"egraftw\x01";
/// Version of the sidecar's layout.
pub(crate) const SIDECAR_VERSION: u32 = 1;
/// Bytes of its header: magic, version, 4 zeros, length of the data, BLAKE3 of the data, 8 zeros.
pub(crate) const SIDECAR_HEADER: usize = 64;

/// The weights section.
pub struct Weights(Bytes);

enum Bytes {
    Owned(AlignedBytes),
    Mapped { pages: Mmap, begin: usize, end: usize },
    Program(&'static [u8]),
}

impl Weights {
    /// No weights.
    pub fn none() -> Weights {
        Weights(Bytes::Owned(AlignedBytes::default()))
    }

    /// A copy of `bytes`, aligned. To avoid the copy, fill [`AlignedBytes`] and convert that.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn copy_of(bytes: &[u8]) -> Result<Weights, OutOfMemory> {
        AlignedBytes::copy_of(bytes, "the weights").map(Weights::from)
    }

    /// The weights of a mapped artifact, in place.
    pub(crate) fn of_artifact(pages: Mmap, begin: usize, end: usize) -> Weights {
        debug_assert!(begin.is_multiple_of(ALIGN) && end <= pages.len());
        Weights(Bytes::Mapped { pages, begin, end })
    }

    /// Weights that are part of the program, in place; they must be aligned.
    pub(crate) fn of_program(bytes: &'static [u8]) -> Result<Weights, LoadError> {
        if !bytes.is_empty() && !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(LoadError::Misaligned { what: "the container", align: ALIGN });
        }
        Ok(Weights(Bytes::Program(bytes)))
    }

    /// Maps the data of the sidecar that `recorded` describes, in `folder`.
    pub(crate) fn of_sidecar(folder: &Path, recorded: &Sidecar) -> Result<Weights, LoadError> {
        let path = folder.join(&recorded.name);
        let shown = path.display().to_string();
        let wrong = |why: &str| LoadError::SidecarWrong { path: shown.clone(), why: why.to_owned() };
        let missing =
            |error: std::io::Error| LoadError::SidecarMissing { path: shown.clone(), why: error.to_string() };
        let file = File::open(&path).map_err(missing)?;
        let bytes = file.metadata().map_err(missing)?.len();
        if bytes != recorded.bytes {
            return Err(wrong(&format!("it has {bytes} bytes, {} were written", recorded.bytes)));
        }
        // SAFETY: read-only; nobody may change an artifact's files while it runs, as for any program.
        let pages = unsafe { MmapOptions::new().map(&file) }
            .map_err(|error| LoadError::Io { path: shown.clone(), why: error.to_string() })?;
        let header = pages.get(..SIDECAR_HEADER).ok_or_else(|| wrong("it is too short to have a header"))?;
        if !header.starts_with(SIDECAR_MAGIC) {
            return Err(wrong("it is no weights file of egraft"));
        }
        if header[8..12] != SIDECAR_VERSION.to_le_bytes() {
            return Err(wrong("it has another format version"));
        }
        if *blake3::hash(header).as_bytes() != recorded.header_hash {
            return Err(wrong("its header has another hash than the one the model was compiled with"));
        }
        let (begin, end) = (SECTION_ALIGN as usize, pages.len());
        if end < begin {
            return Err(wrong("it is too short to have data"));
        }
        Ok(Weights(Bytes::Mapped { pages, begin, end }))
    }

    /// The bytes of the section.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped { pages, begin, end } => &pages[*begin..*end],
            Bytes::Program(bytes) => bytes,
        }
    }
}

impl From<AlignedBytes> for Weights {
    fn from(bytes: AlignedBytes) -> Weights {
        Weights(Bytes::Owned(bytes))
    }
}
