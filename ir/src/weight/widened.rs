//! Weights that are read in a wider type than that in which they are stored.
//!
//! A weight of 16-bit floats that is cast to `f32`, or of small integers that are dequantized, is a view: its elements
//! are computed as they are read, and take no memory. Another order or shape of it is one of what it is computed from.

use std::sync::Arc;

use super::{Held, Inner, Weight};
use crate::dtype::DType;
use crate::pieces::starts;
use crate::program::Layout;
use crate::scalar::{Binary, Scalar};
use crate::weight::Hash;

/// Elements that are computed at a time.
const AT_A_TIME: usize = 4096;

/// `(values − zero) · scale`, element by element, each converted to the weight's type before, and rounded after each
/// step. All have its shape. In `i32` there is no scale.
#[derive(Clone, Debug)]
pub struct Widened {
    /// What is stored.
    pub values: Weight,
    /// What is subtracted; nothing, if it is left out.
    pub zero: Option<Weight>,
    /// What it is multiplied with; 1, if it is left out.
    pub scale: Option<Weight>,
}

impl Widened {
    /// What it is computed from.
    pub fn parts(&self) -> impl Iterator<Item = &Weight> {
        [Some(&self.values), self.zero.as_ref(), self.scale.as_ref()].into_iter().flatten()
    }

    /// The same of other parts, each made from one of these; `None` if one of them cannot be made.
    fn map(&self, change: &dyn Fn(&Weight) -> Option<Weight>) -> Option<Widened> {
        let optional = |part: &Option<Weight>| match part {
            Some(part) => change(part).map(Some),
            None => Some(None),
        };
        let (zero, scale) = (optional(&self.zero)?, optional(&self.scale)?);
        Some(Widened { values: change(&self.values)?, zero, scale })
    }

    fn element(dtype: DType, value: Scalar, zero: Option<Scalar>, scale: Option<Scalar>) -> Scalar {
        let mut element = value.cast(dtype);
        if let Some(zero) = zero {
            element = Binary::Sub.apply(element, zero.cast(dtype));
        }
        if let Some(scale) = scale {
            element = Binary::Mul.apply(element, scale.cast(dtype));
        }
        element
    }

    pub(super) fn get(&self, dtype: DType, place: usize) -> Scalar {
        let at = |part: &Option<Weight>| part.as_ref().map(|part| part.get(place));
        Widened::element(dtype, self.values.get(place), at(&self.zero), at(&self.scale))
    }

    /// Fills `out` with elements from place `start` on, `step` apart.
    pub(super) fn gather(&self, dtype: DType, start: usize, step: usize, out: &mut [u8]) {
        let size = dtype.bytes();
        for (piece, out) in out.chunks_mut(AT_A_TIME * size).enumerate() {
            let (start, count) = (start + piece * AT_A_TIME * step, out.len() / size);
            if dtype != DType::F32 {
                for (at, to) in out.chunks_exact_mut(size).enumerate() {
                    self.get(dtype, start + at * step).write(to);
                }
                continue;
            }
            let floats = |part: &Weight| floats(part, start, step, count);
            let mut elements = floats(&self.values);
            if let Some(zero) = &self.zero {
                elements.iter_mut().zip(floats(zero)).for_each(|(element, zero)| *element -= zero);
            }
            if let Some(scale) = &self.scale {
                elements.iter_mut().zip(floats(scale)).for_each(|(element, scale)| *element *= scale);
            }
            for (to, element) in out.chunks_exact_mut(size).zip(elements) {
                to.copy_from_slice(&element.to_le_bytes());
            }
        }
    }
}

/// The greatest number that divides both.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// `count` elements of a weight as `f32`.
fn floats(part: &Weight, start: usize, step: usize, count: usize) -> Vec<f32> {
    let (dtype, size) = (part.dtype(), part.dtype().bytes());
    let mut bytes = vec![0; count * size];
    part.gather(start, step, &mut bytes);
    let each = bytes.chunks_exact(size);
    match dtype {
        DType::BF16 => {
            each.map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)).collect()
        }
        DType::F16 => each.map(|b| from_half(u16::from_le_bytes([b[0], b[1]]))).collect(),
        DType::U8 | DType::U4 => bytes.iter().map(|&b| f32::from(b)).collect(),
        DType::I8 | DType::I4 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
        _ => each.map(|b| f32::from_bits(Scalar::read(dtype, b).cast(DType::F32).bits() as u32)).collect(),
    }
}

/// A binary16 as an `f32`.
fn from_half(bits: u16) -> f32 {
    /// From the bias of one format to that of the other.
    const REBIASED: f32 = f32::from_bits((127 + 112) << 23);
    let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    let magnitude = if rest >= 0x7c00 {
        // Infinite, or no number.
        rest << 13 | 0x7f80_0000
    } else {
        (f32::from_bits(rest << 13) * REBIASED).to_bits()
    };
    f32::from_bits(sign | magnitude)
}

impl Weight {
    /// The weight called `name` whose elements are those of this one, rounded to a type. Nothing is copied.
    pub fn rounded(&self, name: impl Into<String>, dtype: DType) -> Weight {
        let (shape, values) = (self.shape().to_vec(), self.clone());
        let held = Held::Widened(Arc::new(Widened { values, zero: None, scale: None }));
        Weight::named(
            name,
            Inner { name: String::new(), dtype, shape, hash: Hash([0; 32]), held, strides: None },
        )
    }

    /// The weight called `name` that is computed so, in `f32` or `i32`. Nothing is copied. `None` if the parts have
    /// different shapes, or if there is a scale in `i32`.
    pub fn widen(name: impl Into<String>, dtype: DType, from: Widened) -> Option<Weight> {
        let shape = from.values.shape().to_vec();
        let alike = from.parts().all(|part| part.shape() == shape);
        let fits = dtype == DType::F32 || dtype == DType::I32 && from.scale.is_none();
        let held = Held::Widened(Arc::new(from));
        let inner = Inner { name: String::new(), dtype, shape, hash: Hash([0; 32]), held, strides: None };
        (alike && fits).then(|| Weight::named(name, inner))
    }

    /// What it is computed from as it is read, if it is stored in a narrower type.
    pub fn widened(&self) -> Option<&Widened> {
        match &self.0.held {
            Held::Widened(widened) if matches!(self.dtype(), DType::F32 | DType::I32) => Some(widened),
            _ => None,
        }
    }

    /// The largest number of rows of a matrix in panels that hold the same wherever so many, from the first one on, are a
    /// block; 0 if all rows do. It is at most that of each matrix that the layout has.
    ///
    /// # Panics
    /// The layout is none in panels.
    pub fn equal_rows(&self, layout: &Layout) -> usize {
        let &Layout::Panels { ref outer, depth, cols, row, col, offset } = layout else {
            panic!("bug: rows of a layout that is not in panels")
        };
        let size = self.dtype().bytes();
        let [mut last, mut here] = [(); 2].map(|()| vec![0; cols * size]);
        let mut block = 0;
        for start in starts(outer) {
            self.gather(offset + start, col, &mut last);
            for k in 1..depth {
                self.gather(offset + start + k * row, col, &mut here);
                if here != last {
                    block = divisor(k, block);
                    std::mem::swap(&mut here, &mut last);
                }
                if block == 1 {
                    return 1;
                }
            }
        }
        block
    }

    /// The same weight of other parts; `None` if it is none that is widened, or one of them cannot be made.
    pub(super) fn of_parts(
        &self,
        name: impl Into<String>,
        change: &dyn Fn(&Weight) -> Option<Weight>,
    ) -> Option<Weight> {
        let Held::Widened(widened) = &self.0.held else { return None };
        let parts = widened.map(change)?;
        match self.widened() {
            Some(_) => Weight::widen(name, self.dtype(), parts),
            None => Some(parts.values.rounded(name, self.dtype())),
        }
    }

    /// What `join` makes of several weights, if all are computed in the same way: part by part.
    pub(super) fn joined_parts(
        name: impl Into<String>,
        all: &[&Weight],
        join: &dyn Fn(&[&Weight]) -> Option<Weight>,
    ) -> Option<Weight> {
        let widened: Vec<&Widened> = all.iter().map(|weight| weight.widened()).collect::<Option<_>>()?;
        let first = widened.first()?;
        if all.iter().any(|weight| weight.dtype() != all[0].dtype()) {
            return None;
        }
        let optional = |part: &dyn Fn(&Widened) -> Option<Weight>| -> Option<Option<Weight>> {
            let parts: Vec<Weight> = widened.iter().filter_map(|&one| part(one)).collect();
            match parts.len() {
                0 => Some(None),
                count if count == widened.len() => join(&parts.iter().collect::<Vec<_>>()).map(Some),
                _ => None,
            }
        };
        let values: Vec<&Weight> = widened.iter().map(|one| &one.values).collect();
        let (zero, scale) = (optional(&|one| one.zero.clone())?, optional(&|one| one.scale.clone())?);
        let dtypes = |part: &Weight| part.dtype() == first.values.dtype();
        let values = values.iter().all(|part| dtypes(part)).then(|| join(&values))??;
        Weight::widen(name, all[0].dtype(), Widened { values, zero, scale })
    }
}
