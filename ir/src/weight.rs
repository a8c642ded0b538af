//! Weights: constants too large to copy, named by the hash of what they hold.
//!
//! A [`Weight`] is a type, a content hash and a reference into somebody's storage: an owned buffer, or a file
//! that the caller mapped. Cloning one copies a pointer. Two weights with equal types and hashes are the same
//! weight, whatever they are called.

use std::fmt;
use std::sync::Arc;

use crate::dtype::DType;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Memory that outlives every weight in it: a buffer, or a mapped file.
pub trait Storage: Send + Sync {
    /// All of it.
    fn bytes(&self) -> &[u8];
}

impl Storage for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A range of some [`Storage`].
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<dyn Storage>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// `len` bytes of `storage` from `start`; `None` if it is shorter.
    pub fn slice(storage: Arc<dyn Storage>, start: usize, len: usize) -> Option<Bytes> {
        let end = start.checked_add(len)?;
        (end <= storage.bytes().len()).then_some(Bytes { storage, start, len })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.storage.bytes()[self.start..self.start + self.len]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Bytes { storage: Arc::new(bytes), start: 0, len }
    }
}

/// BLAKE3 of a weight's little-endian, row-major bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Hash> {
        Some(Hash(*blake3::Hash::from_hex(text).ok()?.as_bytes()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A constant tensor by reference. See the [module](self).
#[derive(Clone)]
pub struct Weight(Arc<Inner>);

struct Inner {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    hash: Hash,
    bytes: Bytes,
}

/// The storage of a weight has another size than its type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("weight `{name}` of type {ty} needs {needed} bytes, found {found}")]
pub struct WrongSize {
    /// The weight.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Bytes that the type takes.
    pub needed: usize,
    /// Bytes that there are.
    pub found: usize,
}

impl Weight {
    /// A weight called `name` in `bytes` (row-major, little-endian).
    pub fn new(
        name: impl Into<String>,
        dtype: DType,
        shape: Vec<usize>,
        bytes: Bytes,
    ) -> Result<Weight, WrongSize> {
        let name = name.into();
        let needed = shape.iter().try_fold(dtype.bytes(), |n, &d| n.checked_mul(d));
        let found = bytes.as_slice().len();
        if needed != Some(found) {
            let ty = TensorType::fixed(dtype, &shape);
            return Err(WrongSize { name, ty, needed: needed.unwrap_or(usize::MAX), found });
        }
        let hash = Hash::of(bytes.as_slice());
        Ok(Weight(Arc::new(Inner { name, dtype, shape, hash, bytes })))
    }

    /// A weight with the contents of `tensor`.
    pub fn from_tensor(name: impl Into<String>, tensor: &Tensor) -> Weight {
        Weight::new(name, tensor.dtype(), tensor.shape().to_vec(), tensor.bytes().to_vec().into())
            .expect("a tensor has the bytes that its type needs")
    }

    /// Its name: the initializer's, or one made by a pass.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The same contents under another name.
    pub fn renamed(&self, name: impl Into<String>) -> Weight {
        let Inner { dtype, ref shape, hash, ref bytes, .. } = *self.0;
        Weight(Arc::new(Inner { name: name.into(), dtype, shape: shape.clone(), hash, bytes: bytes.clone() }))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Its type.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.0.dtype, &self.0.shape)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.0.shape.iter().product()
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> Hash {
        self.0.hash
    }

    /// Its bytes, row-major, little-endian, not necessarily aligned.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes.as_slice()
    }

    /// A copy as a tensor.
    pub fn tensor(&self) -> Tensor {
        Tensor::new(self.0.dtype, self.0.shape.clone(), self.bytes().to_vec())
            .expect("a weight has the bytes that its type needs")
    }
}

impl PartialEq for Weight {
    fn eq(&self, other: &Weight) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        a.hash == b.hash && a.dtype == b.dtype && a.shape == b.shape
    }
}

impl Eq for Weight {}

impl std::hash::Hash for Weight {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.hash, self.0.dtype, &self.0.shape).hash(state);
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}: {}", self.name(), self.ty())
    }
}
