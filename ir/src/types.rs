//! Tensor types: an element type and a shape of symbolic sizes.

use std::fmt;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;

/// The sizes of a tensor, outermost first.
pub type Shape = Vec<Dim>;

/// Element type and shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Shape,
}

impl TensorType {
    /// The type with these parts.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = Dim>) -> Self {
        TensorType { dtype, shape: shape.into_iter().collect() }
    }

    /// A type whose sizes are all numbers.
    pub fn fixed(dtype: DType, shape: &[usize]) -> Self {
        TensorType { dtype, shape: shape.iter().map(|&d| Dim::from(d)).collect() }
    }

    /// A single element without axes.
    pub fn scalar(dtype: DType) -> Self {
        TensorType { dtype, shape: Vec::new() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> Dim {
        self.shape.iter().cloned().product()
    }

    /// Size in bytes.
    pub fn bytes(&self) -> Dim {
        self.elements() * Dim::from(self.dtype.bytes())
    }

    /// The sizes, if all are numbers that fit.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.as_const().and_then(|v| usize::try_from(v).ok())).collect()
    }

    /// The same element type with another shape.
    pub fn with_shape(&self, shape: impl IntoIterator<Item = Dim>) -> Self {
        TensorType::new(self.dtype, shape)
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, shape: self.shape.clone() }
    }

    /// Every symbol replaced by what `with` gives for it.
    pub fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Self {
        TensorType::new(self.dtype, self.shape.iter().map(|d| d.substitute(with)))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// The common shape of two under numpy's rules (right-aligned, 1 stretches), or the axis sizes that clash.
///
/// A symbol against another symbol or number clashes: what is not known to be 1 does not stretch.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, (Dim, Dim)> {
    let rank = a.len().max(b.len());
    let one = Dim::constant(1);
    (0..rank)
        .map(|axis| {
            let of = |shape: &[Dim]| {
                (axis + shape.len()).checked_sub(rank).map_or_else(|| one.clone(), |i| shape[i].clone())
            };
            match (of(a), of(b)) {
                (x, y) if x == y => Ok(x),
                (x, y) if x.is(1) => Ok(y),
                (x, y) if y.is(1) => Ok(x),
                clash => Err(clash),
            }
        })
        .collect()
}

/// Row-major strides in elements.
pub fn strides(shape: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::constant(1); shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].clone() * shape[axis + 1].clone();
    }
    strides
}

/// The index in an array of shape `from` of the element that lies at `at` in shape `to`.
///
/// Both have equally many elements. Axes are paired in the smallest groups of equal size, so that those that stay are
/// plain indices; where none are known to be equal, all that is left makes one group.
pub fn reindex(from: &[Dim], to: &[Dim], at: &[Dim]) -> Vec<Dim> {
    let zero = Dim::constant(0);
    if from.iter().any(|size| size.is(0)) {
        return vec![zero; from.len()];
    }
    let product = |sizes: &[Dim]| sizes.iter().cloned().product::<Dim>();
    let (mut i, mut j) = (0, 0);
    let mut index = Vec::with_capacity(from.len());
    while i < from.len() {
        if from[i].is(1) {
            index.push(zero.clone());
            i += 1;
            continue;
        }
        let (m, n) = (i + 1..=from.len())
            .flat_map(|m| (j..=to.len()).map(move |n| (m, n)))
            .filter(|&(m, n)| product(&from[i..m]) == product(&to[j..n]))
            .min_by_key(|&(m, n)| (m - i) + (n - j))
            .unwrap_or((from.len(), to.len()));
        let position: Dim =
            at[j..n].iter().zip(strides(&to[j..n])).map(|(i, stride)| i.clone() * stride).sum();
        for (axis, stride) in strides(&from[i..m]).into_iter().enumerate() {
            let quotient = position.floor_div(&stride);
            index.push(if axis == 0 { quotient } else { quotient.modulo(&from[i + axis]) });
        }
        (i, j) = (m, n);
    }
    index
}
