//! The discrete Fourier transform, `y[k] = Σ_j x[j]·e^(∓2πijk/N)`, and its inverse, as real products.
//!
//! A length of up to 64, or a prime number, is one product with the matrix of all `e^…`, whose work grows with the square of
//! the length; so is one that is known only when the model runs. Any other length is `n·m`, with `n` its largest divisor up
//! to 64, or the smallest above: a transform of `n` rows, a turn of each element, a transform of columns by the same rule.
//! 16-bit floats are computed in `f32`. Source: Cooley, Tukey 1965; ONNX DFT, opsets 17 and 20; STFT, opset 17; onnxruntime,
//! contrib operators, Rfft.

use std::f64::consts::TAU;

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim};

use crate::flow::as_size::as_size;
use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::cos::COS;
use crate::math::div::DIV;
use crate::math::elementwise::is_nonnegative;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::modulo::MODULO;
use crate::math::mul::MUL;
use crate::math::neg::NEG;
use crate::math::sin::SIN;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::shape::concat::{AXIS, CONCAT};
use crate::shape::gather::{self, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::{reshape, reshape_checked};
use crate::shape::run_time;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::{swap_last_two, transpose};

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("DFT", |node, b| import(node, b, Some(node.int_or("axis", 1)?))),
    since("DFT", 20, |node, b| {
        let axis = match node.optional_input(2) {
            None => Some(-2),
            Some(_) if node.known(b, 2).is_none() => None,
            Some(_) => node.const_ints(b, 2, "axis")?.and_then(|axis| axis.first().copied()),
        };
        import(node, b, axis)
    }),
    by("STFT", import_short_time),
    by("Rfft", import_real).in_domain("com.microsoft"),
];

/// Lengths up to this are one product.
const DIRECT: i64 = 64;

/// Complex numbers, or real ones.
#[derive(Clone, Copy)]
struct Complex {
    re: Value,
    im: Option<Value>,
}

impl Complex {
    fn map(
        self,
        b: &mut Build,
        f: impl Fn(&mut Build, Value) -> Result<Value, OpError>,
    ) -> Result<Complex, OpError> {
        let im = match self.im {
            Some(im) => Some(f(b, im)?),
            None => None,
        };
        Ok(Complex { re: f(b, self.re)?, im })
    }

    /// The product by `multiply`, which is linear in both operands; `first` says on which side `self` stands.
    fn times(
        self,
        b: &mut Build,
        other: Complex,
        multiply: impl Fn(&mut Build, Value, Value) -> Result<Value, OpError>,
    ) -> Result<Complex, OpError> {
        let Some(turn) = other.im else { return self.map(b, |b, part| multiply(b, part, other.re)) };
        let (mut re, mut im) = (multiply(b, self.re, other.re)?, multiply(b, self.re, turn)?);
        if let Some(own) = self.im {
            let (square, cross) = (multiply(b, own, turn)?, multiply(b, own, other.re)?);
            re = b.op(&SUB, &[re, square])?;
            im = b.op(&ADD, &[im, cross])?;
        }
        Ok(Complex { re, im: Some(im) })
    }

    /// Both parts as the last axis; the imaginary one is 0 if there is none.
    fn joined(self, b: &mut Build) -> Result<Value, OpError> {
        let column = [b.ty(self.re).shape.clone(), vec![Dim::constant(1)]].concat();
        let re = reshape(b, self.re, column.clone())?;
        let im = match self.im {
            Some(im) => im,
            None => b.op(&SUB, &[self.re, self.re])?,
        };
        let im = reshape(b, im, column)?;
        b.op_with(&CONCAT, &[re, im], [AXIS.is(-1)])
    }

    /// What the last axis, of size 1 or 2, holds.
    fn apart(b: &mut Build, x: Value) -> Result<Complex, OpError> {
        let shape = b.ty(x).shape.clone();
        let last = shape.len().checked_sub(1).ok_or(OpError::RankAtLeast {
            operand: "input",
            least: 2,
            found: 0,
        })?;
        let part = |b: &mut Build, at: i64| {
            let part = slice_axis(b, x, last, at.into(), Dim::constant(1))?;
            reshape(b, part, shape[..last].to_vec())
        };
        match shape[last].as_const() {
            Some(1) => Ok(Complex { re: part(b, 0)?, im: None }),
            Some(2) => Ok(Complex { re: part(b, 0)?, im: Some(part(b, 1)?) }),
            _ => Err(OpError::Size {
                what: "the last axis holds real and imaginary parts",
                left: shape[last].clone(),
                right: Dim::constant(2),
            }),
        }
    }
}

/// `e^(∓2πi·row·column/n)`, `[rows, columns]`, computed in `f64`. The exponent is brought below one turn while it is an
/// integer.
fn turns(
    b: &mut Build,
    [rows, columns]: [&Dim; 2],
    n: &Dim,
    inverse: bool,
    dtype: DType,
) -> Result<Complex, OpError> {
    let row = iota(b, rows.clone(), DType::I64)?;
    let row = reshape(b, row, vec![rows.clone(), Dim::constant(1)])?;
    let column = iota(b, columns.clone(), DType::I64)?;
    let product = b.op(&MUL, &[row, column])?;
    let whole = size(b, DType::I64, &Dim::larger(n, &Dim::constant(1)))?;
    let rest = b.op(&MODULO, &[product, whole])?;
    let (rest, whole) = (convert(b, rest, DType::F64)?, convert(b, whole, DType::F64)?);
    let turn = b.scalar(DType::F64, if inverse { TAU } else { -TAU });
    let part = b.op(&DIV, &[rest, whole])?;
    let angle = b.op(&MUL, &[part, turn])?;
    let (re, im) = (b.op(&COS, &[angle])?, b.op(&SIN, &[angle])?);
    Ok(Complex { re: convert(b, re, dtype)?, im: Some(convert(b, im, dtype)?) })
}

/// The transform along the last of at least two axes, without a factor.
fn transform(b: &mut Build, x: Complex, inverse: bool) -> Result<Complex, OpError> {
    let ty = b.ty(x.re).clone();
    let (length, before) = ty.shape.split_last().expect("there are two axes");
    let matrix_product = |b: &mut Build, left: Value, right: Value| b.op(&MATMUL, &[left, right]);
    let divisor = length.as_const().filter(|&n| n > DIRECT).and_then(|n| {
        let mut small = (2..=DIRECT).rev();
        let mut large = (DIRECT..).take_while(|rows| rows * rows <= n);
        let rows = small.find(|rows| n % rows == 0).or_else(|| large.find(|rows| n % rows == 0))?;
        Some((rows, n / rows))
    });
    let Some((rows, columns)) = divisor else {
        let matrix = turns(b, [length, length], length, inverse, ty.dtype)?;
        return x.times(b, matrix, matrix_product);
    };
    // x[columns·j + c] is row j, column c; y[k + rows·l] is row k, column l.
    let (rows, columns) = (Dim::constant(rows), Dim::constant(columns));
    let grid = [before, &[rows.clone(), columns.clone()]].concat();
    let x = x.map(b, |b, part| reshape(b, part, grid.clone()))?;
    let matrix = turns(b, [&rows, &rows], &rows, inverse, ty.dtype)?;
    // The matrix stands on the left; the product of complex numbers does not mind.
    let across = x.times(b, matrix, |b, part, factor| b.op(&MATMUL, &[factor, part]))?;
    let turn = turns(b, [&rows, &columns], length, inverse, ty.dtype)?;
    let turned = across.times(b, turn, |b, left, right| b.op(&MUL, &[left, right]))?;
    let along = transform(b, turned, inverse)?;
    along.map(b, |b, part| {
        let part = swap_last_two(b, part)?;
        reshape(b, part, ty.shape.clone())
    })
}

/// The first `count` elements of the last axis, and zeros where there are fewer.
fn cut(b: &mut Build, x: Value, count: &Dim) -> Result<Value, OpError> {
    let ty = b.ty(x).clone();
    let last = ty.rank() - 1;
    let there = &ty.shape[last];
    if is_nonnegative(&(there.clone() - count.clone())) {
        return slice_axis(b, x, last, Dim::constant(0), count.clone());
    }
    let index = iota(b, count.clone(), DType::I64)?;
    let taken = b.op_with(&GATHER, &[x, index], [gather::AXIS.is(last as i64)])?;
    let (end, nothing) = (size(b, DType::I64, there)?, b.scalar(ty.dtype, 0.0));
    let exists = b.op(&LT, &[index, end])?;
    b.op(&WHERE, &[exists, taken, nothing])
}

/// How many numbers of a transform say all of it, where what it is of is real.
fn half(length: &Dim) -> Dim {
    length.floor_div(&Dim::constant(2)) + Dim::constant(1)
}

/// The whole of a transform of real numbers from its first half: the rest is conjugate, backwards.
fn completed(b: &mut Build, x: Complex, length: &Dim) -> Result<Complex, OpError> {
    let k = iota(b, length.clone(), DType::I64)?;
    let (n, middle) =
        (size(b, DType::I64, length)?, size(b, DType::I64, &(half(length) - Dim::constant(1)))?);
    let backwards = b.op(&SUB, &[n, k])?;
    let given = b.op(&LE, &[k, middle])?;
    let index = b.op(&WHERE, &[given, k, backwards])?;
    let last = b.ty(x.re).rank() as i64 - 1;
    let full = x.map(b, |b, part| {
        let part = cut(b, part, &half(length))?;
        b.op_with(&GATHER, &[part, index], [gather::AXIS.is(last)])
    })?;
    let im = match full.im {
        None => None,
        Some(im) => {
            let conjugate = b.op(&NEG, &[im])?;
            Some(b.op(&WHERE, &[given, im, conjugate])?)
        }
    };
    Ok(Complex { re: full.re, im })
}

/// The axis that is transformed, of so many.
enum Place {
    Known {
        axis: usize,
        rank: usize,
    },
    /// Computed when the model runs: each axis is seen as two, one of which has size 1, and the second is transformed.
    Computed {
        axis: Value,
        pairs: Vec<Dim>,
        others: Vec<Dim>,
    },
}

impl Place {
    /// The axis of parts of this type that input 2 names when the model runs.
    fn computed(node: &NodeView, b: &mut Build, part: Value) -> Result<Place, ImportError> {
        let shape = b.ty(part).shape.clone();
        let axis = convert(b, node.input(2)?, DType::I64)?;
        let axis = reshape(b, axis, vec![])?;
        // It counts the axis of real and imaginary parts, too.
        let (zero, count) = (b.scalar(DType::I64, 0.0), b.scalar(DType::I64, shape.len() as f64 + 1.0));
        let (negative, from_end) = (b.op(&LT, &[axis, zero])?, b.op(&ADD, &[axis, count])?);
        let axis = b.op(&WHERE, &[negative, from_end, axis])?;
        let named = reshape(b, axis, vec![Dim::constant(1)])?;
        let named = run_time::axes(b, named, shape, false)?;
        let (split, others) = named.split(b, part, node.op_type)?;
        Ok(Place::Computed { axis, pairs: b.ty(split).shape.clone(), others })
    }

    /// Parts with this axis as the last one, behind at least one more.
    fn last(&self, b: &mut Build, x: Complex) -> Result<Complex, OpError> {
        x.map(b, |b, part| match self {
            Place::Known { axis, rank } => {
                let mut last: Vec<i64> = (0..*rank as i64).filter(|other| other != &(*axis as i64)).collect();
                last.push(*axis as i64);
                let part = transpose(b, part, last)?;
                let shape = [vec![Dim::constant(1)], b.ty(part).shape.clone()].concat();
                reshape(b, part, shape)
            }
            Place::Computed { pairs, others, .. } => {
                let part = reshape_checked(b, part, pairs.clone())?;
                let (even, odd) = (0..pairs.len() as i64).partition::<Vec<i64>, _>(|axis| axis % 2 == 0);
                let part = transpose(b, part, [even, odd].concat())?;
                let length = pairs.iter().skip(1).step_by(2).cloned().product();
                reshape(b, part, [vec![Dim::constant(1)], others.clone(), vec![length]].concat())
            }
        })
    }

    /// The way back, whatever size the axis has now.
    fn back(&self, b: &mut Build, x: Complex) -> Result<Complex, OpError> {
        let shape = b.ty(x.re).shape[1..].to_vec();
        match self {
            Place::Known { axis, rank } => {
                let mut back: Vec<i64> = (0..*rank as i64 - 1).collect();
                back.insert(*axis, *rank as i64 - 1);
                x.map(b, |b, part| {
                    let part = reshape(b, part, shape.clone())?;
                    transpose(b, part, back.clone())
                })
            }
            Place::Computed { axis, others, .. } => {
                let rank = others.len();
                let (length, one) = (size(b, DType::I64, &shape[rank])?, b.scalar(DType::I64, 1.0));
                let mut inner = Vec::new();
                for other in 0..rank {
                    let named = run_time::is_axis(b, *axis, other, rank + 1)?;
                    let here = b.op(&WHERE, &[named, length, one])?;
                    inner.push(as_size(b, here, "DFT", None)?);
                }
                let whole: Vec<Dim> = others.iter().zip(&inner).map(|(o, i)| o.clone() * i.clone()).collect();
                let beside = (0..rank as i64).flat_map(|axis| [axis, axis + rank as i64]).collect::<Vec<_>>();
                x.map(b, |b, part| {
                    let part = reshape_checked(b, part, [others.clone(), inner.clone()].concat())?;
                    let part = transpose(b, part, beside.clone())?;
                    reshape(b, part, whole.clone())
                })
            }
        }
    }
}

/// Without a known axis, input 2 names it.
fn import(node: &NodeView, b: &mut Build, axis: Option<i64>) -> Result<Vec<Value>, ImportError> {
    let (inverse, one_sided) = (node.flag("inverse", false)?, node.flag("onesided", false)?);
    let input = node.input(0)?;
    let ty = b.ty(input).clone();
    let wide = convert(b, input, ty.dtype.arithmetic())?;
    let x = Complex::apart(b, wide)?;
    let rank = ty.rank() - 1;
    let place = match axis {
        None => Place::computed(node, b, x.re)?,
        Some(axis) => match normalize_axis(axis, ty.rank())? {
            axis if axis < rank => Place::Known { axis, rank },
            axis => return Err(OpError::Axis { axis: axis as i64, rank }.into()),
        },
    };
    let x = place.last(b, x)?;
    let extent = b.ty(x.re).shape.last().expect("it is behind another").clone();
    let length = match node.sizes(b, 1, "dft_length")?.and_then(|sizes| sizes.first().cloned()) {
        Some(length) => length,
        None if inverse && one_sided => (extent - Dim::constant(1)) * Dim::constant(2),
        None => extent,
    };
    if length.as_const().is_some_and(|length| length < 1) {
        return Err(ImportError::value("dft_length", length, "1 and more"));
    }
    let x = match inverse && one_sided {
        true => completed(b, x, &length)?,
        false => x.map(b, |b, part| cut(b, part, &length))?,
    };
    let mut y = transform(b, x, inverse)?;
    if inverse {
        let count = size(b, b.ty(y.re).dtype, &Dim::larger(&length, &Dim::constant(1)))?;
        y = y.map(b, |b, part| b.op(&DIV, &[part, count]))?;
    } else if one_sided {
        y = y.map(b, |b, part| cut(b, part, &half(&length)))?;
    }
    let y = place.back(b, y)?;
    let joined = if inverse && one_sided {
        let column = [b.ty(y.re).shape.clone(), vec![Dim::constant(1)]].concat();
        reshape(b, y.re, column)?
    } else {
        y.joined(b)?
    };
    Ok(vec![convert(b, joined, ty.dtype)?])
}

/// onnxruntime's, of the last axis of real numbers: the first half of the transform.
fn import_real(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    for (name, default, known) in [("signal_ndim", 1, 1), ("onesided", 1, 1), ("normalized", 0, 0)] {
        let given = node.int_or(name, default)?;
        if given != known {
            return Err(ImportError::value(name, given, &known.to_string()));
        }
    }
    let input = node.input(0)?;
    let ty = b.ty(input).clone();
    let Some(last) = ty.rank().checked_sub(1) else {
        return Err(OpError::RankAtLeast { operand: "X", least: 1, found: 0 }.into());
    };
    let place = Place::Known { axis: last, rank: ty.rank() };
    let wide = convert(b, input, ty.dtype.arithmetic())?;
    let x = place.last(b, Complex { re: wide, im: None })?;
    let y = transform(b, x, false)?;
    let y = y.map(b, |b, part| cut(b, part, &half(&ty.shape[last])))?;
    let y = place.back(b, y)?.joined(b)?;
    Ok(vec![convert(b, y, ty.dtype)?])
}

/// Transforms of parts of a signal that begin `frame_step` after each other, each under a window.
fn import_short_time(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let one_sided = node.flag("onesided", true)?;
    let input = node.input(0)?;
    let ty = b.ty(input).clone();
    if ty.rank() != 3 {
        return Err(OpError::Rank { operand: "signal", expected: 3, found: ty.rank() }.into());
    }
    let first = |sizes: Option<Vec<Dim>>| sizes.and_then(|sizes| sizes.first().cloned());
    let step = first(node.sizes(b, 1, "frame_step")?).ok_or(ImportError::MissingInput { index: 1 })?;
    let window = node.optional_input(2);
    let length = match first(node.sizes(b, 3, "frame_length")?) {
        Some(length) => length,
        None => match window {
            Some(window) => b.ty(window).elements(),
            None => return Err(ImportError::MissingInput { index: 3 }),
        },
    };
    for (name, number) in [("frame_step", &step), ("frame_length", &length)] {
        if number.as_const().is_some_and(|number| number < 1) {
            return Err(ImportError::value(name, number, "1 and more"));
        }
    }
    let (signal, none) = (ty.shape[1].clone(), Dim::constant(0));
    let steps = (signal - length.clone()).floor_div(&Dim::larger(&step, &Dim::constant(1)));
    let frames = Dim::larger(&(steps + Dim::constant(1)), &none);
    let start = iota(b, frames.clone(), DType::I64)?;
    let start = reshape(b, start, vec![frames, Dim::constant(1)])?;
    let step = size(b, DType::I64, &step)?;
    let start = b.op(&MUL, &[start, step])?;
    let within = iota(b, length.clone(), DType::I64)?;
    let place = b.op(&ADD, &[start, within])?;
    let wide = convert(b, input, ty.dtype.arithmetic())?;
    let x = Complex::apart(b, wide)?;
    let x = x.map(b, |b, part| b.op_with(&GATHER, &[part, place], [gather::AXIS.is(1)]))?;
    let x = match window {
        None => x,
        Some(window) => {
            let window = convert(b, window, ty.dtype.arithmetic())?;
            let window = reshape(b, window, vec![length.clone()])?;
            x.map(b, |b, part| b.op(&MUL, &[part, window]))?
        }
    };
    let mut y = transform(b, x, false)?;
    if one_sided {
        y = y.map(b, |b, part| cut(b, part, &half(&length)))?;
    }
    let joined = y.joined(b)?;
    Ok(vec![convert(b, joined, ty.dtype)?])
}
