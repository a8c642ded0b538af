//! A tensor in memory: dtype, dims and its elements, row-major in aligned storage of its own.
//!
//! It is what files are read into and written from. Deliberately absent: arithmetic, views and casts.

use runtime::{AlignedBytes, DType, TensorBuf, TensorRef};

use crate::narrow;

/// A tensor that owns its elements. Its data always holds exactly the elements of its dims.
#[derive(Debug)]
pub struct Tensor {
    dtype: DType,
    dims: Vec<usize>,
    /// `dims` as the runtime takes them.
    signed: Vec<i64>,
    data: AlignedBytes,
}

impl Tensor {
    /// A tensor of zeros; `None` where the memory for it isn't there or can't be addressed.
    pub fn zeroed(dtype: DType, dims: &[usize]) -> Option<Tensor> {
        let data = AlignedBytes::zeroed(byte_len(dtype, dims)?, "a tensor").ok()?;
        let signed = dims.iter().map(|&dim| i64::try_from(dim).ok()).collect::<Option<_>>()?;
        Some(Tensor { dtype, dims: dims.to_vec(), signed, data })
    }

    /// A tensor with a copy of `data`; `None` where the memory isn't there.
    ///
    /// # Panics
    /// `data` holds more or fewer bytes than the dims need.
    pub fn from_bytes(dtype: DType, dims: &[usize], data: &[u8]) -> Option<Tensor> {
        let mut tensor = Tensor::zeroed(dtype, dims)?;
        tensor.data.copy_from_slice(data);
        Some(tensor)
    }

    /// The tensor as elements of `dtype`, if it has what files hold in their place; else as it is.
    ///
    /// # Errors
    /// The first byte that is no such element, with its position.
    pub fn read_as(self, dtype: DType) -> Result<Tensor, (usize, u8)> {
        if narrow::stand_in(dtype) != Some(self.dtype) {
            return Ok(self);
        }
        match narrow::out_of_range(dtype, &self.data) {
            Some(wrong) => Err(wrong),
            None => Ok(Tensor { dtype, ..self }),
        }
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The same sizes, as sessions take them.
    pub fn signed_dims(&self) -> &[i64] {
        &self.signed
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.bytes()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The elements, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// A view of it for a run.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef { dtype: self.dtype, dims: &self.signed, data: &self.data }
    }
}

impl From<TensorBuf> for Tensor {
    fn from(tensor: TensorBuf) -> Tensor {
        let usize_of = |&dim: &i64| usize::try_from(dim).expect("bug: a result has a negative dim");
        let dims = tensor.dims.iter().map(usize_of).collect();
        Tensor { dtype: tensor.dtype, dims, signed: tensor.dims, data: tensor.data }
    }
}

/// Bytes of a tensor, or `None` if they don't fit the address space.
pub(crate) fn byte_len(dtype: DType, dims: &[usize]) -> Option<usize> {
    let len = dims.iter().try_fold(dtype.bytes(), |len, &dim| len.checked_mul(dim))?;
    (len <= isize::MAX as usize).then_some(len)
}
