//! NumPy's `.npz` format: a zip archive with one `NAME.npy` per tensor, stored or deflated.

use std::io::{self, Cursor, Read};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{FileError, Named, Tensor, atomic, npy};

/// Reads all tensors of the archive `bytes`; `path` is named in errors.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Named, FileError> {
    let bad = |why: String| FileError::Archive { path: path.to_owned(), why };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| bad(error.to_string()))?;
    let mut packed = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| bad(error.to_string()))?;
        packed = entry.compressed_size().saturating_add(packed);
    }
    // Else a small file is as many tensors as it likes, which all lie in the same place.
    if packed > bytes.len() as u64 {
        return Err(bad("its entries lie upon each other".to_owned()));
    }
    let mut tensors = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| bad(error.to_string()))?;
        let name = entry.name().map_err(|error| bad(error.to_string()))?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else {
            return Err(bad(format!("its entry `{name}` is not a .npy file")));
        };
        let mut data = Vec::new();
        // The size that the archive declares is a claim: what comes out may not be longer, and memory is
        // taken as data comes out.
        let declared = entry.size();
        (&mut entry)
            .take(declared.saturating_add(1))
            .read_to_end(&mut data)
            .map_err(|error| bad(format!("`{name}.npy`: {error}")))?;
        if data.len() as u64 != declared {
            return Err(bad(format!("`{name}.npy` is not as long as the archive says")));
        }
        let tensor = npy::read(&data).map_err(|source| FileError::Npy {
            path: path.to_owned(),
            entry: Some(name.clone()),
            source,
        })?;
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

/// Writes `tensors` without compression. The archive carries a constant date, so that equal tensors give
/// equal bytes.
pub(super) fn write(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<(), FileError> {
    for (name, tensor) in tensors {
        npy::code(tensor.dtype()).map_err(|source| FileError::Npy {
            path: path.to_owned(),
            entry: Some((*name).to_owned()),
            source,
        })?;
    }
    atomic::write(path, |file| {
        let mut archive = ZipWriter::new(file);
        for (name, tensor) in tensors {
            // Room for the header; above 4 GiB the archive needs its 64-bit form.
            let large = tensor.bytes().len() as u64 + 4096 > u64::from(u32::MAX);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .last_modified_time(zip::DateTime::default())
                .large_file(large);
            archive.start_file(format!("{name}.npy"), options).map_err(io::Error::other)?;
            npy::write(tensor, &mut archive)?;
        }
        archive.finish().map_err(io::Error::other)?;
        Ok(())
    })
    .map_err(|source| FileError::Write { path: path.to_owned(), source })
}
