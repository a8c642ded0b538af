//! Weights: constants too large to copy, named by the hash of what they hold.
//!
//! A [`Weight`] is a type, a content hash and a reference into somebody's storage: an owned buffer, or a file
//! that the caller mapped. Cloning one copies a pointer; so does putting its axes in another order, giving it another
//! shape, stretching it, stacking several, or reading it in a wider type ([`Widened`]). Two weights with equal types and hashes are the same weight, whatever they are called and
//! however they lie in their storage.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::dtype::DType;
use crate::pieces::Sink;
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

mod widened;

pub use widened::Widened;

/// Memory that outlives every weight in it: a buffer, or a mapped file.
pub trait Storage: Send + Sync {
    /// All of it.
    fn bytes(&self) -> &[u8];

    /// Does it take memory of the process? Pages of a file don't.
    fn is_resident(&self) -> bool;
}

impl Storage for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn is_resident(&self) -> bool {
        true
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

    /// `len` of these bytes from `start`; `None` if there are fewer.
    pub fn part(&self, start: usize, len: usize) -> Option<Bytes> {
        let end = start.checked_add(len)?;
        let storage = Arc::clone(&self.storage);
        (end <= self.len).then_some(Bytes { storage, start: self.start + start, len })
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

    /// The hash of bytes that come in pieces.
    pub fn of_pieces(each: impl FnOnce(Sink<'_, Infallible>) -> Result<(), Infallible>) -> Hash {
        let mut hasher = blake3::Hasher::new();
        let done = each(&mut |piece| {
            hasher.update(piece);
            Ok(())
        });
        match done {
            Ok(()) => Hash(*hasher.finalize().as_bytes()),
        }
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

#[derive(Clone)]
struct Inner {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    hash: Hash,
    held: Held,
    /// For each axis how many of the elements as they are held lie between neighbours; `None` where that is row-major.
    strides: Option<Vec<usize>>,
}

/// Where the elements are.
#[derive(Clone)]
enum Held {
    /// One after the other.
    Bytes(Bytes),
    /// One after the other, several in a byte, the first in its lowest bits.
    Packed(Packed),
    /// In several weights, put together.
    Parts(Parts),
    /// In a narrower type.
    Widened(Arc<Widened>),
}

/// Elements of fewer than 8 bits, as files have them.
#[derive(Clone)]
struct Packed {
    bytes: Bytes,
    dtype: DType,
}

impl Packed {
    /// How many elements lie in a byte.
    fn each(&self) -> usize {
        8 / self.dtype.bits()
    }

    fn get(&self, place: usize) -> Scalar {
        let bits = self.bytes.as_slice()[place / self.each()] >> (place % self.each() * self.dtype.bits());
        Scalar::from_bits(self.dtype, bits.into())
    }

    /// The byte that the element is alone.
    fn stored(&self, place: usize) -> &'static [u8] {
        static BYTES: [u8; 256] = {
            let mut all = [0; 256];
            let mut byte = 0;
            while byte < 256 {
                all[byte] = byte as u8;
                byte += 1;
            }
            all
        };
        let mut byte = [0];
        self.get(place).write(&mut byte);
        std::slice::from_ref(&BYTES[usize::from(byte[0])])
    }

    /// Fills `out` with elements from place `start` on, `step` apart, each in a byte of its own.
    fn gather(&self, start: usize, step: usize, out: &mut [u8]) {
        for (at, to) in out.chunks_exact_mut(1).enumerate() {
            self.get(start + at * step).write(to);
        }
    }

    /// So many elements from a place on, if they begin a byte.
    fn part(&self, start: usize, count: usize) -> Option<Packed> {
        let each = self.each();
        let bytes =
            start.is_multiple_of(each).then(|| self.bytes.part(start / each, count.div_ceil(each)))?;
        Some(Packed { bytes: bytes?, dtype: self.dtype })
    }
}

/// Weights that are one: in each of so many rows, what that row of each part holds, one part after the other.
#[derive(Clone)]
struct Parts {
    parts: Arc<[Weight]>,
    rows: usize,
    /// Where the elements of each part end, in a row.
    ends: Arc<[usize]>,
}

impl Parts {
    fn new(parts: &[Weight], rows: usize) -> Parts {
        let each = parts.iter().map(|part| part.elements().checked_div(rows).unwrap_or(0));
        let ends = each.scan(0, |end, each| {
            *end += each;
            Some(*end)
        });
        Parts { parts: parts.into(), rows, ends: ends.collect() }
    }

    /// The part that holds the element at a place, the element's position there, and how many there are from it to the
    /// part's end in this row.
    fn find(&self, place: usize) -> (&Weight, usize, usize) {
        let width = self.ends.last().copied().unwrap_or(0);
        let (row, at) = (place / width, place % width);
        let part = self.ends.partition_point(|&end| end <= at);
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        let each = self.ends[part] - start;
        (&self.parts[part], row * each + at - start, self.ends[part] - at)
    }
}

/// Row-major strides in elements.
pub(crate) fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
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
        let held = Held::Bytes(bytes);
        Ok(Weight(Arc::new(Inner { name, dtype, shape, hash, held, strides: None })))
    }

    /// A weight called `name` in `bytes` that hold several elements each, of fewer than 8 bits: row-major, the first in the
    /// lowest bits. Nothing is copied.
    ///
    /// # Panics
    /// Elements of this type fill a byte.
    pub fn packed(
        name: impl Into<String>,
        dtype: DType,
        shape: Vec<usize>,
        bytes: Bytes,
    ) -> Result<Weight, WrongSize> {
        assert!(dtype.bits() < 8, "bug: {dtype} is not packed");
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let needed = elements.map(|elements| elements.div_ceil(8 / dtype.bits()));
        let found = bytes.as_slice().len();
        if needed != Some(found) {
            let (name, ty) = (name.into(), TensorType::fixed(dtype, &shape));
            return Err(WrongSize { name, ty, needed: needed.unwrap_or(usize::MAX), found });
        }
        let held = Held::Packed(Packed { bytes, dtype });
        let hash = Hash([0; 32]);
        Ok(Weight::named(name, Inner { name: String::new(), dtype, shape, hash, held, strides: None }))
    }

    /// The weight called `name` of the integers that lie several in each of these bytes, the first in the lowest bits: its
    /// last axis is that many times longer. Nothing is copied. `None` if these are no bytes, or do not lie one after the
    /// other.
    ///
    /// # Panics
    /// Elements of this type fill a byte.
    pub fn split(&self, name: impl Into<String>, dtype: DType) -> Option<Weight> {
        let Inner { ref shape, held: Held::Bytes(ref bytes), strides: None, .. } = *self.0 else {
            return None;
        };
        let (last, outer) = shape.split_last().filter(|_| self.dtype() == DType::U8)?;
        let shape = outer.iter().copied().chain([last * (8 / dtype.bits())]).collect();
        Weight::packed(name, dtype, shape, bytes.clone()).ok()
    }

    /// A weight with the contents of `tensor`.
    pub fn from_tensor(name: impl Into<String>, tensor: &Tensor) -> Weight {
        Weight::of(name, tensor.clone())
    }

    /// The weight that `tensor` is, without a copy.
    pub fn of(name: impl Into<String>, tensor: Tensor) -> Weight {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        Weight::new(name, dtype, shape, tensor.into_bytes().into())
            .expect("a tensor has the bytes that its type needs")
    }

    /// The weight called `name` that has a new axis in front, along which `parts` lie in order. Nothing is copied. `None`
    /// if there is no part, or if their types differ.
    pub fn stack(name: impl Into<String>, parts: &[Weight]) -> Option<Weight> {
        let first = parts.first()?;
        if parts.iter().any(|part| part.dtype() != first.dtype() || part.shape() != first.shape()) {
            return None;
        }
        let name = name.into();
        let all: Vec<&Weight> = parts.iter().collect();
        let stacked = |parts: &[&Weight]| {
            let parts: Vec<Weight> = parts.iter().map(|&part| part.clone()).collect();
            Weight::stack(parts[0].name(), &parts)
        };
        if let Some(stack) = Weight::joined_parts(&name, &all, &stacked) {
            return Some(stack);
        }
        let (held, strides) = joined(parts).unwrap_or_else(|| (Held::Parts(Parts::new(parts, 1)), None));
        let shape = [parts.len()].into_iter().chain(first.shape().iter().copied()).collect();
        let (dtype, hash) = (first.dtype(), first.hash());
        Some(Weight::named(name, Inner { name: String::new(), dtype, shape, hash, held, strides }))
    }

    /// The weight called `name` that has `parts` one after the other along an axis. Nothing is copied. `None` if there is
    /// no such axis, or if they differ in more than their size along it.
    pub fn concat(name: impl Into<String>, parts: &[&Weight], axis: usize) -> Option<Weight> {
        let first = parts.first().filter(|first| axis < first.shape().len())?;
        let others = |part: &Weight| {
            let mut shape = part.shape().to_vec();
            (shape.remove(axis), shape, part.dtype())
        };
        let (_, same, dtype) = others(first);
        if parts.iter().any(|part| part.shape().len() != first.shape().len()) {
            return None;
        }
        let mut total = 0;
        for part in parts {
            let (size, own, of) = others(part);
            if own != same || of != dtype {
                return None;
            }
            total += size;
        }
        let name = name.into();
        let joined = |parts: &[&Weight]| Weight::concat(parts[0].name(), parts, axis);
        if let Some(whole) = Weight::joined_parts(&name, parts, &joined) {
            return Some(whole);
        }
        let mut shape = first.shape().to_vec();
        let rows = shape[..axis].iter().product();
        shape[axis] = total;
        let parts: Vec<Weight> = parts.iter().map(|&part| part.clone()).collect();
        let (held, hash) = (Held::Parts(Parts::new(&parts, rows)), first.hash());
        Some(Weight::named(name, Inner { name: String::new(), dtype, shape, hash, held, strides: None }))
    }

    /// The weight called `name` that holds `count` indices of the first axis from `start` on. `None` if there are fewer,
    /// or if that would need a copy.
    pub fn leading(&self, name: impl Into<String>, start: usize, count: usize) -> Option<Weight> {
        let Inner { dtype, ref shape, hash, ref held, ref strides, .. } = *self.0;
        let (&first, own) = shape.split_first()?;
        let each: usize = own.iter().product();
        // What belongs to an index lies together, and what belongs to the next one behind it.
        let outermost = strides.as_ref().is_none_or(|strides| strides[0] == each);
        if !outermost || start.checked_add(count)? > first {
            return None;
        }
        let held = match held {
            Held::Bytes(bytes) => {
                let each = each * dtype.bytes();
                Held::Bytes(bytes.part(start * each, count * each)?)
            }
            Held::Packed(packed) => Held::Packed(packed.part(start * each, count * each)?),
            Held::Parts(Parts { parts, rows: 1, .. })
                if parts.len() == first && strides.is_none() && count > 0 =>
            {
                Held::Parts(Parts::new(&parts[start..start + count], 1))
            }
            Held::Parts(_) => return None,
            Held::Widened(_) => return self.of_parts(name, &|part| part.leading(part.name(), start, count)),
        };
        let shape = [count].into_iter().chain(own.iter().copied()).collect();
        let strides = strides.clone();
        Some(Weight::named(name, Inner { name: String::new(), dtype, shape, hash, held, strides }))
    }

    /// A weight of these parts, with the hash of what it holds.
    fn named(name: impl Into<String>, inner: Inner) -> Weight {
        let unnamed = Weight(Arc::new(inner));
        let hash = Hash::of_pieces(|sink| unnamed.for_each_piece(sink));
        let inner = Arc::unwrap_or_clone(unnamed.0);
        Weight(Arc::new(Inner { name: name.into(), hash, ..inner }))
    }

    /// Its name: the initializer's, or one made by a pass.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The same contents under another name.
    pub fn renamed(&self, name: impl Into<String>) -> Weight {
        Weight(Arc::new(Inner { name: name.into(), ..Inner::clone(&self.0) }))
    }

    /// The weight called `name` whose axis `i` is axis `perm[i]` of this one. Nothing is copied.
    ///
    /// # Panics
    /// `perm` is no permutation of the axes.
    pub fn permuted(&self, name: impl Into<String>, perm: &[usize]) -> Weight {
        let Inner { dtype, ref shape, hash, ref held, ref strides, .. } = *self.0;
        let name = name.into();
        if let Some(same) = self.of_parts(&name, &|part| Some(part.permuted(part.name(), perm))) {
            return same;
        }
        let from = strides.clone().unwrap_or_else(|| row_major_strides(shape));
        let shape: Vec<usize> = perm.iter().map(|&axis| self.0.shape[axis]).collect();
        let strides: Vec<usize> = perm.iter().map(|&axis| from[axis]).collect();
        let strides = Some(strides).filter(|strides| *strides != row_major_strides(&shape));
        Weight::named(name, Inner { name: String::new(), dtype, shape, hash, held: held.clone(), strides })
    }

    /// The weight called `name` with the same elements in another shape. `None` if they are not as many, or if that
    /// would need a copy.
    pub fn reshaped(&self, name: impl Into<String>, shape: &[usize]) -> Option<Weight> {
        if shape.iter().product::<usize>() != self.elements() {
            return None;
        }
        if let Held::Widened(_) = self.0.held {
            return self.of_parts(name, &|part| part.reshaped(part.name(), shape));
        }
        let strides = self.0.strides.as_ref().map(|strides| restated(self.shape(), strides, shape));
        let (name, shape) = (name.into(), shape.to_vec());
        let inner = Inner::clone(&self.0);
        match strides {
            None => Some(Weight(Arc::new(Inner { name, shape, ..inner }))),
            Some(Some(strides)) => {
                Some(Weight(Arc::new(Inner { name, shape, strides: Some(strides), ..inner })))
            }
            // What gives elements several times has few of them to look through.
            Some(None) if self.is_stretched() => {
                let held = Held::Parts(Parts::new(std::slice::from_ref(self), 1));
                Some(Weight(Arc::new(Inner { name, shape, held, strides: None, ..inner })))
            }
            Some(None) => None,
        }
    }

    /// The weight called `name` that is stretched to a shape, as numpy broadcasts. Nothing is copied.
    ///
    /// # Panics
    /// It does not broadcast to the shape.
    pub fn stretched(&self, name: impl Into<String>, shape: &[usize]) -> Weight {
        let name = name.into();
        if let Some(same) = self.of_parts(&name, &|part| Some(part.stretched(part.name(), shape))) {
            return same;
        }
        let Inner { dtype, shape: ref own, hash, ref held, ref strides, .. } = *self.0;
        let skip = shape.len().checked_sub(own.len()).expect("bug: an array of fewer axes");
        let from = strides.clone().unwrap_or_else(|| row_major_strides(own));
        let stride = |axis: usize| match axis.checked_sub(skip) {
            Some(at) if own[at] == shape[axis] => from[at],
            Some(at) => {
                assert_eq!(own[at], 1, "bug: a size that does not broadcast");
                0
            }
            None => 0,
        };
        let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
        let (shape, strides) = (shape.to_vec(), Some(strides).filter(|new| *new != row_major_strides(shape)));
        Weight::named(name, Inner { name: String::new(), dtype, shape, hash, held: held.clone(), strides })
    }

    /// Does it give elements of its storage several times?
    fn is_stretched(&self) -> bool {
        let strides = self.0.strides.iter().flatten();
        strides.zip(self.shape()).any(|(&stride, &size)| stride == 0 && size > 1)
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

    /// Number of bytes.
    pub fn size(&self) -> usize {
        self.elements() * self.0.dtype.bytes()
    }

    /// The bytes of the process' memory that it refers to.
    pub fn resident(&self) -> usize {
        match &self.0.held {
            Held::Bytes(bytes) | Held::Packed(Packed { bytes, .. }) if bytes.storage.is_resident() => {
                bytes.len
            }
            Held::Bytes(_) | Held::Packed(_) => 0,
            Held::Parts(all) => all.parts.iter().map(Weight::resident).sum(),
            Held::Widened(widened) => widened.parts().map(Weight::resident).sum(),
        }
    }

    /// The bytes of its elements, in any order.
    pub fn stored(&self) -> Box<dyn Iterator<Item = Cow<'_, [u8]>> + '_> {
        if self.is_stretched() {
            return Box::new((0..self.elements()).map(|position| Cow::Owned(bytes_of(self.get(position)))));
        }
        match &self.0.held {
            Held::Bytes(bytes) => {
                Box::new(bytes.as_slice().chunks_exact(self.0.dtype.bytes()).map(Cow::Borrowed))
            }
            Held::Packed(packed) => {
                Box::new((0..self.elements()).map(|place| Cow::Borrowed(packed.stored(place))))
            }
            Held::Parts(all) => Box::new(all.parts.iter().flat_map(Weight::stored)),
            Held::Widened(widened) => Box::new(
                (0..self.elements()).map(|place| Cow::Owned(bytes_of(widened.get(self.0.dtype, place)))),
            ),
        }
    }

    /// Its bytes row-major, if they are stored so.
    pub fn row_major(&self) -> Option<&[u8]> {
        match &self.0.held {
            Held::Bytes(bytes) if self.0.strides.is_none() => Some(bytes.as_slice()),
            _ => None,
        }
    }

    /// The element at a row-major position.
    pub fn get(&self, position: usize) -> Scalar {
        let place = self.place(position);
        match &self.0.held {
            Held::Bytes(bytes) => {
                Scalar::read(self.0.dtype, &bytes.as_slice()[place * self.0.dtype.bytes()..])
            }
            Held::Packed(packed) => packed.get(place),
            Held::Parts(all) => {
                let (part, position, _) = all.find(place);
                part.get(position)
            }
            Held::Widened(widened) => widened.get(self.0.dtype, place),
        }
    }

    /// All elements, row-major.
    pub fn values(&self) -> impl Iterator<Item = Scalar> + '_ {
        (0..self.elements()).map(|position| self.get(position))
    }

    /// Fills `out` with the elements at row-major positions `start`, `start + step`, ….
    pub(crate) fn gather(&self, start: usize, step: usize, out: &mut [u8]) {
        let size = self.0.dtype.bytes();
        let (Some(strides), Some(&row)) = (&self.0.strides, self.0.shape.last()) else {
            return self.0.held.gather(self.0.dtype, start, step, out);
        };
        // As far as the positions stay in one row, elements are equally far apart in the storage, too.
        let last = strides[strides.len() - 1];
        let (mut at, mut out) = (start, out);
        while !out.is_empty() {
            let left = (row - at % row).div_ceil(step.max(1)).min(out.len() / size);
            let (here, rest) = out.split_at_mut(left * size);
            self.0.held.gather(self.0.dtype, self.place(at), step * last, here);
            (at, out) = (at + left * step, rest);
        }
    }

    /// Where among the elements as they are held the one at a row-major position lies.
    fn place(&self, position: usize) -> usize {
        let Some(strides) = &self.0.strides else { return position };
        let axes = self.0.shape.iter().zip(strides).rev();
        let (place, _) = axes
            .fold((0, position), |(place, rest), (size, stride)| (place + rest % size * stride, rest / size));
        place
    }

    /// A copy as a tensor.
    pub fn tensor(&self) -> Tensor {
        let mut bytes = Vec::with_capacity(self.size());
        let Ok(()) = self.for_each_piece::<Infallible>(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        Tensor::new(self.0.dtype, self.0.shape.clone(), bytes)
            .expect("a weight has the bytes that its type needs")
    }
}

impl Held {
    /// Fills `out` with elements from place `start` on, `step` apart.
    fn gather(&self, dtype: DType, start: usize, step: usize, out: &mut [u8]) {
        let size = dtype.bytes();
        let all = match self {
            Held::Bytes(bytes) => return copy_strided(bytes.as_slice(), size, start, step, out),
            Held::Packed(packed) => return packed.gather(start, step, out),
            Held::Widened(widened) => return widened.gather(dtype, start, step, out),
            Held::Parts(all) => all,
        };
        let (mut at, mut out) = (start, out);
        while !out.is_empty() {
            let (part, position, left) = all.find(at);
            let wanted = out.len() / size;
            let here = if step == 0 { wanted } else { left.div_ceil(step).min(wanted) };
            let (now, rest) = out.split_at_mut(here * size);
            part.gather(position, step, now);
            (at, out) = (at + here * step, rest);
        }
    }
}

/// An element as it is stored.
fn bytes_of(element: Scalar) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(element.dtype().bytes());
    element.append_to(&mut bytes);
    bytes
}

/// The strides of a shape that differs from another in axes of size 1 only. `None` if it differs more.
fn restated(from: &[usize], strides: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let mut axes = from.iter().zip(strides).filter(|(size, _)| **size != 1);
    let stride = |&size: &usize| match size {
        1 => Some(1),
        _ => axes.next().and_then(|(own, &stride)| (*own == size).then_some(stride)),
    };
    to.iter().map(stride).collect()
}

/// What `parts` make together, if each begins in one storage where the one before it ends: those of a stack that was
/// split. Also their strides, if they are not row-major.
fn joined(parts: &[Weight]) -> Option<(Held, Option<Vec<usize>>)> {
    let bytes = |part: &Weight| match &part.0.held {
        Held::Bytes(bytes) if part.0.strides == parts[0].0.strides && !part.is_stretched() => {
            Some(bytes.clone())
        }
        _ => None,
    };
    let mut all = bytes(parts.first()?)?;
    for part in &parts[1..] {
        let next = bytes(part)?;
        if !Arc::ptr_eq(&all.storage, &next.storage) || all.start + all.len != next.start {
            return None;
        }
        all.len += next.len;
    }
    let stacked = |own: &Vec<usize>| [parts[0].elements()].into_iter().chain(own.iter().copied()).collect();
    Some((Held::Bytes(all), parts[0].0.strides.as_ref().map(stacked)))
}

/// Fills `out` with elements of `size` bytes from `start` on, `step` apart.
fn copy_strided(from: &[u8], size: usize, start: usize, step: usize, out: &mut [u8]) {
    fn copy<const SIZE: usize>(from: &[u8], step: usize, out: &mut [u8]) {
        let (from, _) = from.as_chunks::<SIZE>();
        let (out, _) = out.as_chunks_mut::<SIZE>();
        for (to, element) in out.iter_mut().zip(from.iter().step_by(step)) {
            *to = *element;
        }
    }
    if out.is_empty() {
        return;
    }
    let from = &from[start * size..];
    match (step, size) {
        (0, _) => out.chunks_exact_mut(size).for_each(|to| to.copy_from_slice(&from[..size])),
        (1, _) => out.copy_from_slice(&from[..out.len()]),
        (_, 1) => copy::<1>(from, step, out),
        (_, 2) => copy::<2>(from, step, out),
        (_, 4) => copy::<4>(from, step, out),
        (_, 8) => copy::<8>(from, step, out),
        _ => unreachable!("bug: elements of {size} bytes"),
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
