//! The `.safetensors` format, through the crate of its authors: a JSON header, then the data.
//!
//! It has floats of 8 bits. Those of 4 lie two in a byte, the first in the low half, and are read; they are written like
//! integers of fewer than 8 bits, as what [`narrow::stand_in`] says, since not every number of them fills its bytes.

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use runtime::DType;
use safetensors::{Dtype, SafeTensors, View};

use super::{FileError, Named, Tensor, atomic, check_bools};
use crate::narrow;

/// A tensor where it lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Which bytes of the file it is: row-major, little-endian; floats of 4 bits lie two in one, the first in the low
    /// half.
    pub bytes: Range<usize>,
}

/// Where the tensors of the file content `bytes` lie, by name; `path` is named in errors.
pub(super) fn places(path: &Path, bytes: &[u8]) -> Result<Vec<Place>, FileError> {
    let bad = |why: String| FileError::Safetensors { path: path.to_owned(), why };
    let (length, header) = SafeTensors::read_metadata(bytes).map_err(|error| bad(error.to_string()))?;
    // The length of the header is the first number of the file, of 8 bytes.
    let data = size_of::<u64>() + length;
    let mut names = header.offset_keys();
    names.sort_unstable();
    let place = |name: String| {
        let info = header.info(&name).expect("the header names it");
        let dtype = from_file(info.dtype).ok_or_else(|| {
            bad(format!("tensor `{name}` has dtype {:?}, which is not supported", info.dtype))
        })?;
        let (start, end) = info.data_offsets;
        Ok(Place { name, dtype, dims: info.shape.clone(), bytes: data + start..data + end })
    };
    names.into_iter().map(place).collect()
}

/// Reads all tensors of the file content `bytes`; `path` is named in errors.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Named, FileError> {
    let bad = |why: String| FileError::Safetensors { path: path.to_owned(), why };
    let tensor = |Place { name, dtype, dims, bytes: range }: Place| {
        let data = &bytes[range];
        if dtype == DType::Bool {
            check_bools(data).map_err(|(index, byte)| {
                bad(format!("element {index} of bool tensor `{name}` is the byte {byte}; a bool is 0 or 1"))
            })?;
        }
        let data = if dtype == DType::F4E2M1 { Cow::from(halves(data)) } else { Cow::from(data) };
        let tensor = Tensor::from_bytes(dtype, &dims, &data)
            .ok_or_else(|| bad(format!("tensor `{name}` is too large for this machine")))?;
        Ok((name, tensor))
    };
    places(path, bytes)?.into_iter().map(tensor).collect()
}

/// Writes `tensors`, ordered as the format recommends (by dtype, then by name).
pub(super) fn write(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<(), FileError> {
    let content = safetensors::serialize(tensors.iter().map(|(name, tensor)| (*name, Stored(tensor))), None)
        .map_err(|error| FileError::Safetensors { path: path.to_owned(), why: error.to_string() })?;
    atomic::write(path, |file| file.write_all(&content))
        .map_err(|source: io::Error| FileError::Write { path: path.to_owned(), source })
}

/// A tensor as the crate wants to see it.
struct Stored<'a>(&'a Tensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        to_file(self.0.dtype())
    }
    fn shape(&self) -> &[usize] {
        self.0.dims()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.bytes())
    }
    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}

fn from_file(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::BOOL => DType::Bool,
        Dtype::F8_E4M3 => DType::F8E4M3FN,
        Dtype::F8_E4M3FNUZ => DType::F8E4M3FNUZ,
        Dtype::F8_E5M2 => DType::F8E5M2,
        Dtype::F8_E5M2FNUZ => DType::F8E5M2FNUZ,
        Dtype::F8_E8M0 => DType::F8E8M0,
        Dtype::F4 => DType::F4E2M1,
        _ => return None,
    })
}

fn to_file(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::Bool => Dtype::BOOL,
        DType::F8E4M3FN => Dtype::F8_E4M3,
        DType::F8E4M3FNUZ => Dtype::F8_E4M3FNUZ,
        DType::F8E5M2 => Dtype::F8_E5M2,
        DType::F8E5M2FNUZ => Dtype::F8_E5M2FNUZ,
        DType::F8E8M0 => Dtype::F8_E8M0,
        DType::F4E2M1 | DType::I4 | DType::U4 | DType::I2 | DType::U2 => {
            to_file(narrow::stand_in(dtype).expect("a narrow type"))
        }
    }
}

/// The halves of bytes as bytes, the low one first.
fn halves(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [byte & 0xf, byte >> 4]).collect()
}
