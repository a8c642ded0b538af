//! Tensors as they cross the safe interface: row-major, contiguous.

use std::fmt;

use crate::{memory::AlignedBytes, plan::DType};

/// A tensor that the caller owns.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    /// Type of its elements.
    pub dtype: DType,
    /// Its sizes.
    pub dims: &'a [i64],
    /// Its elements, row-major. Where they are not aligned to an element, a run copies them.
    pub data: &'a [u8],
}

/// A tensor that a run returns.
#[derive(Debug)]
pub struct TensorBuf {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its sizes.
    pub dims: Vec<i64>,
    /// Its elements, row-major, aligned to 64 bytes.
    pub data: AlignedBytes,
}

impl TensorBuf {
    /// A view of it, to be given to another run.
    pub fn as_ref(&self) -> TensorRef<'_> {
        TensorRef { dtype: self.dtype, dims: &self.dims, data: &self.data }
    }
}

impl fmt::Display for TensorBuf {
    /// Its type: `probabilities: f32[1, 10]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{:?}", self.name, self.dtype, self.dims)
    }
}
