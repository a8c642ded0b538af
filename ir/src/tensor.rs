//! Host tensors: reference results, constants that passes compute, inputs of tests.
//!
//! Written for clarity, not for speed: elements are read and written as [`Scalar`]s.

use std::fmt;

use crate::dtype::DType;
use crate::scalar::Scalar;
use crate::types::TensorType;

/// A dense row-major tensor in host memory, little-endian.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// From raw bytes; `None` if their number is not what the type needs.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Option<Tensor> {
        let needed = shape.iter().try_fold(dtype.bytes(), |n, &d| n.checked_mul(d))?;
        (needed == bytes.len()).then_some(Tensor { dtype, shape, bytes })
    }

    /// The tensor whose element at each index is what `at` says.
    pub fn from_fn(dtype: DType, shape: &[usize], mut at: impl FnMut(&[usize]) -> Scalar) -> Tensor {
        let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * dtype.bytes());
        for_each_index(shape, |index| {
            let value = at(index);
            debug_assert_eq!(value.dtype(), dtype, "bug: element of another type");
            value.append_to(&mut bytes);
        });
        Tensor { dtype, shape: shape.to_vec(), bytes }
    }

    /// All elements equal.
    pub fn splat(value: Scalar, shape: &[usize]) -> Tensor {
        Tensor::from_fn(value.dtype(), shape, |_| value)
    }

    /// One element without axes.
    pub fn scalar(value: Scalar) -> Tensor {
        Tensor::splat(value, &[])
    }

    /// From `f32`s in row-major order; their number must be that of the shape.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(DType::F32, shape.to_vec(), bytes).expect("as many values as the shape has elements")
    }

    /// From `i64`s in row-major order; their number must be that of the shape.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Tensor {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::new(DType::I64, shape.to_vec(), bytes).expect("as many values as the shape has elements")
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its type.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.shape)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes, row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, without their type.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The element at a row-major position.
    pub fn get(&self, position: usize) -> Scalar {
        let size = self.dtype.bytes();
        Scalar::read(self.dtype, &self.bytes[position * size..])
    }

    /// Overwrites the element at a row-major position.
    pub fn set(&mut self, position: usize, value: Scalar) {
        debug_assert_eq!(value.dtype(), self.dtype, "bug: element of another type");
        let size = self.dtype.bytes();
        value.write(&mut self.bytes[position * size..(position + 1) * size]);
    }

    /// The element at an index.
    pub fn at(&self, index: &[usize]) -> Scalar {
        self.get(self.position(index))
    }

    /// The row-major position of an index.
    pub fn position(&self, index: &[usize]) -> usize {
        debug_assert_eq!(index.len(), self.shape.len(), "bug: index of another rank");
        index.iter().zip(&self.shape).fold(0, |position, (&i, &size)| position * size + i)
    }

    /// All elements in row-major order.
    pub fn values(&self) -> impl Iterator<Item = Scalar> + '_ {
        (0..self.elements()).map(|i| self.get(i))
    }

    /// All elements as `f64`, row-major.
    pub fn to_f64(&self) -> Vec<f64> {
        self.values().map(Scalar::to_f64).collect()
    }

    /// All elements as `i64`, row-major.
    pub fn to_i64(&self) -> Vec<i64> {
        self.values().map(Scalar::to_i64).collect()
    }

    /// The same elements in another shape of equal size; `None` if the size differs.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Tensor> {
        Tensor::new(self.dtype, shape.to_vec(), self.bytes.clone())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.ty())?;
        for (i, value) in self.values().take(16).enumerate() {
            write!(f, "{}{value}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.elements() > 16 { ", …]" } else { "]" })
    }
}

/// Calls `visit` with every index of `shape` in row-major order; once, with `[]`, for a scalar.
pub fn for_each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let Some(axis) = (0..shape.len()).rev().find(|&axis| index[axis] + 1 < shape[axis]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}
