//! Files of tensors: `.npy` holds one, `.npz` and `.safetensors` hold several by name.
//!
//! The extension decides the format. Types that a format lacks are written as others (see [`crate::narrow`]). Reading is total: any bytes give tensors or an error that says what is
//! wrong with the file and what to do. Writing is atomic: the finished file appears under its name or nothing
//! does. ONNX's `TensorProto` files are not read here.

mod atomic;
pub mod npy;
mod npz;
mod safetensors;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use runtime::DType;

pub use safetensors::Place;

use crate::narrow::out_of_range;
use crate::tensor::Tensor;

use npy::NpyError;

/// Tensors with their names, in the order of the file.
pub type Named = Vec<(String, Tensor)>;

/// Why a file of tensors can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refuses.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refuses, or the disk is full.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The extension names no format that fits here.
    #[error("{} is not a {expected} file by its name", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The extensions that fit.
        expected: &'static str,
    },
    /// A `.npy` file, or one inside a `.npz` file, is not what it should be.
    #[error("{} cannot be used: {source}", place(path, entry.as_deref()))]
    Npy {
        /// The file.
        path: PathBuf,
        /// The tensor's name in a `.npz` file.
        entry: Option<String>,
        /// What is wrong.
        source: NpyError,
    },
    /// The archive around the `.npy` files is damaged, encrypted or packed in a way that NumPy never uses.
    #[error("{} is not a good .npz archive: {why}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The bytes are not those of a `.safetensors` file.
    #[error("{} is not a good .safetensors file: {why}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Two tensors of one file have the same name.
    #[error("{} holds two tensors named `{name}`", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl FileError {
    /// The stable code of a diagnostic.
    pub fn code(&self) -> &'static str {
        match self {
            FileError::Read { .. } => "egraft::runner::read",
            FileError::Write { .. } => "egraft::runner::write",
            FileError::Format { .. } => "egraft::runner::format",
            FileError::Npy { .. } => "egraft::runner::npy",
            FileError::Archive { .. } => "egraft::runner::npz",
            FileError::Safetensors { .. } => "egraft::runner::safetensors",
            FileError::Duplicate { .. } => "egraft::runner::duplicate",
        }
    }

    /// The way out, for the second line of a diagnostic.
    pub fn help(&self) -> String {
        match self {
            FileError::Read { .. } => "check the path and its permissions".to_owned(),
            FileError::Write { .. } => "check that the folder exists, is writable and has room".to_owned(),
            FileError::Format { expected, .. } => format!("give a file whose name ends in {expected}"),
            FileError::Npy { source, .. } => source.help().to_owned(),
            FileError::Archive { .. } => {
                "write it again with numpy.savez or numpy.savez_compressed".to_owned()
            }
            FileError::Safetensors { .. } => "write it again with safetensors.numpy.save_file".to_owned(),
            FileError::Duplicate { .. } => "give each tensor a name of its own".to_owned(),
        }
    }
}

fn place(path: &Path, entry: Option<&str>) -> String {
    match entry {
        Some(entry) => format!("tensor `{entry}` of {}", path.display()),
        None => path.display().to_string(),
    }
}

/// The formats of several named tensors.
#[derive(Clone, Copy)]
enum Container {
    Npz,
    Safetensors,
}

const CONTAINERS: &str = ".npz or .safetensors";

fn container(path: &Path) -> Result<Container, FileError> {
    match extension(path).as_deref() {
        Some("npz") => Ok(Container::Npz),
        Some("safetensors") => Ok(Container::Safetensors),
        _ => Err(FileError::Format { path: path.to_owned(), expected: CONTAINERS }),
    }
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Reads the one tensor of a `.npy` file.
///
/// # Errors
/// The file can't be read, has another extension, or is not what its extension says.
pub fn read_one(path: &Path) -> Result<Tensor, FileError> {
    if extension(path).as_deref() != Some("npy") {
        return Err(FileError::Format { path: path.to_owned(), expected: ".npy" });
    }
    npy::read(&read(path)?).map_err(|source| FileError::Npy { path: path.to_owned(), entry: None, source })
}

/// Reads all tensors of a `.npz` or `.safetensors` file.
///
/// # Errors
/// The file can't be read, has another extension, is not what its extension says, or repeats a name.
pub fn read_all(path: &Path) -> Result<Named, FileError> {
    container(path)?;
    parse_all(path, &read(path)?)
}

/// As [`read_all`], of what the file at `path` holds.
///
/// # Errors
/// Those of [`read_all`].
pub fn parse_all(path: &Path, bytes: &[u8]) -> Result<Named, FileError> {
    let tensors = match container(path)? {
        Container::Npz => npz::read(path, bytes)?,
        Container::Safetensors => safetensors::read(path, bytes)?,
    };
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(FileError::Duplicate { path: path.to_owned(), name: pair[0].to_owned() }),
        None => Ok(tensors),
    }
}

/// Where the tensors of a `.safetensors` file lie in it, sorted by name: for who maps the file, which holds `bytes`, rather
/// than read it.
///
/// # Errors
/// The file has another extension, or is not what its extension says.
pub fn places(path: &Path, bytes: &[u8]) -> Result<Vec<Place>, FileError> {
    match container(path) {
        Ok(Container::Safetensors) => safetensors::places(path, bytes),
        _ => Err(FileError::Format { path: path.to_owned(), expected: ".safetensors" }),
    }
}

/// Whether [`write_all`] knows the format, to be asked before there is anything to write.
///
/// # Errors
/// [`FileError::Format`].
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    container(path).map(|_| ())
}

/// Writes tensors under their names to a `.npz` (stored, not compressed) or `.safetensors` file.
/// Same tensors, same bytes. The file appears when it is complete; on an error nothing is left behind.
///
/// # Errors
/// The extension is another one, the system refuses, or the format lacks a dtype.
pub fn write_all(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<(), FileError> {
    match container(path)? {
        Container::Npz => npz::write(path, tensors),
        Container::Safetensors => safetensors::write(path, tensors),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

/// The first byte that is not a bool, with its position.
fn check_bools(data: &[u8]) -> Result<(), (usize, u8)> {
    out_of_range(DType::Bool, data).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{self, SplitMix64};

    /// A tensor of each dtype, one without axes, one without elements.
    fn tensors(bf16: bool) -> Named {
        let mut tensors = Vec::new();
        for (i, &dtype) in DType::ALL.iter().enumerate().filter(|(_, dtype)| bf16 || **dtype != DType::Bf16) {
            let dims: &[usize] = [&[2, 3][..], &[], &[4, 0], &[5]][i % 4];
            let mut tensor = Tensor::zeroed(dtype, dims).expect("small");
            random::fill(dtype, tensor.bytes_mut(), &mut SplitMix64::new(i as u64));
            // Names as ONNX writes them.
            tensors.push((format!("/layer.{i}/Out:0=é {dtype}"), tensor));
        }
        tensors
    }

    fn borrowed(tensors: &Named) -> Vec<(&str, &Tensor)> {
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, bf16) in [("x.npz", false), ("x.safetensors", true), ("x.NPZ", false)] {
            let (path, tensors) = (dir.path().join(name), tensors(bf16));
            write_all(&path, &borrowed(&tensors)).expect("it is writable");
            let mut found = read_all(&path).expect("we wrote it");
            assert_eq!(found.len(), tensors.len());
            for (name, tensor) in &tensors {
                let at = found.iter().position(|(found, _)| found == name).expect("no name is lost");
                let (_, back) = found.swap_remove(at);
                let back = back.read_as(tensor.dtype()).expect("it was in range");
                assert_eq!(
                    (back.dtype(), back.dims(), back.bytes()),
                    (tensor.dtype(), tensor.dims(), tensor.bytes())
                );
            }
            let first = fs::read(&path).expect("it is there");
            write_all(&path, &borrowed(&tensors)).expect("it is writable");
            assert_eq!(fs::read(&path).expect("it is there"), first, "equal tensors give equal bytes");
        }
    }

    #[test]
    fn deflated_archives_are_read() {
        use zip::write::SimpleFileOptions;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.npz");
        let tensor = Tensor::zeroed(DType::F32, &[100, 100]).expect("small");
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).expect("it is writable"));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file("x.npy", options).expect("room");
        npy::write(&tensor, &mut archive).expect("room");
        archive.finish().expect("room");
        assert!(fs::metadata(&path).expect("it is there").len() < 1000);
        assert_eq!(read_all(&path).expect("a good file")[0].1.dims(), [100, 100]);
    }

    /// A file that lists one entry a thousand times, under as many names, would be a thousand tensors.
    #[test]
    fn entries_that_share_their_bytes_are_refused() {
        use std::io::Cursor;
        use zip::write::SimpleFileOptions;
        let tensor = Tensor::zeroed(DType::U8, &[1 << 16]).expect("small");
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file("0000.npy", options).expect("room");
        npy::write(&tensor, &mut archive).expect("room");
        let one = archive.finish().expect("room").into_inner();
        assert_eq!(parse_all(Path::new("x.npz"), &one).expect("a good file").len(), 1);
        // The directory stands between the entry and the last 22 bytes, which tell how long it is and where.
        let (directory, end) = one.split_at(one.len() - 22);
        let start = u32::from_le_bytes(*end[16..].first_chunk().expect("four bytes")) as usize;
        let (entry, listed) = directory.split_at(start);
        let (mut file, mut end) = (entry.to_vec(), end.to_vec());
        for number in 0..1000_u16 {
            let at = file.len();
            file.extend(listed);
            file[at + 46..at + 50].copy_from_slice(format!("{number:04}").as_bytes());
        }
        for at in [8, 10] {
            end[at..at + 2].copy_from_slice(&1000_u16.to_le_bytes());
        }
        let size = u32::try_from(1000 * listed.len()).expect("small");
        end[12..16].copy_from_slice(&size.to_le_bytes());
        file.extend(end);
        let error = parse_all(Path::new("x.npz"), &file).expect_err("64 KiB a thousand times");
        assert!(error.to_string().contains("lie upon each other"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let one = vec![("a".to_owned(), Tensor::zeroed(DType::F32, &[2, 2]).expect("small"))];
        for name in ["x.npz", "x.safetensors"] {
            let path = dir.path().join(name);
            write_all(&path, &borrowed(&one)).expect("it is writable");
            let bytes = fs::read(&path).expect("it is there");
            for len in 0..bytes.len() {
                fs::write(&path, &bytes[..len]).expect("it is writable");
                assert!(read_all(&path).is_err(), "{len} of {} bytes of {name} were accepted", bytes.len());
            }
        }
    }

    #[test]
    fn garbage_never_panics() {
        let one = vec![("a".to_owned(), Tensor::zeroed(DType::Bool, &[2, 2]).expect("small"))];
        let dir = tempfile::tempdir().expect("a folder");
        let mut random = SplitMix64::new(1);
        for name in ["x.npz", "x.safetensors"] {
            let path = dir.path().join(name);
            write_all(&path, &borrowed(&one)).expect("it is writable");
            let good = fs::read(&path).expect("it is there");
            for _ in 0..5000 {
                let mut bytes = good.clone();
                for _ in 0..1 + random.next() % 4 {
                    let at = random.next() as usize % bytes.len();
                    bytes[at] = random.next() as u8;
                }
                // Either is fine, as long as it comes back.
                let _ = match container(&path).expect("a known name") {
                    Container::Npz => npz::read(&path, &bytes),
                    Container::Safetensors => safetensors::read(&path, &bytes),
                };
            }
        }
    }

    #[test]
    fn mistakes_have_a_name_and_a_way_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let bf16 = vec![("w".to_owned(), Tensor::zeroed(DType::Bf16, &[1]).expect("small"))];
        let error = write_all(&dir.path().join("x.npz"), &borrowed(&bf16)).expect_err("npz has no bf16");
        assert!(
            error.to_string().contains("tensor `w`") && error.to_string().contains("no dtype bf16"),
            "{error}"
        );
        assert_eq!(error.help(), "use a .safetensors file, which has it");
        assert!(!dir.path().join("x.npz").exists());
        for (path, code) in [("x.txt", "egraft::runner::format"), ("none.npz", "egraft::runner::read")] {
            assert_eq!(read_all(&dir.path().join(path)).expect_err(path).code(), code);
        }
        assert_eq!(
            read_one(Path::new("x.npz")).expect_err("not .npy").help(),
            "give a file whose name ends in .npy"
        );
        assert!(matches!(check_writable(Path::new("x.npy")), Err(FileError::Format { .. })));
        let full = write_all(&dir.path().join("none/x.npz"), &[]).expect_err("no such folder");
        assert_eq!(full.code(), "egraft::runner::write");
    }
}
