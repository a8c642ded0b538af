//! Random numbers, the same at every run.
//!
//! Number `i` of a stream is `mix(key + (i + 1)·φ)`, where `φ` is 2⁶⁴ over the golden ratio and `mix` the one of SplitMix64;
//! its highest bits are the digits of a number from 0 up to, but not including, 1. The key is the attribute `seed`, and
//! without one it is made of the node's name. A node in a loop gives the same numbers in each iteration.
//!
//! Source: Steele, Lea, Flood 2014; Box, Muller 1958; ONNX RandomUniform, RandomUniformLike, RandomNormal,
//! RandomNormalLike, Bernoulli and Multinomial, opset 22.

use std::f64::consts::TAU;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor, TensorType};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::cos::COS;
use crate::math::le::LE;
use crate::math::log::LOG;
use crate::math::lt::LT;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::shr::SHR;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::math::xor::XOR;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::order::cumsum::CUMSUM;
use crate::order::prefix;
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("RandomUniform", |node, b| import_uniform(node, b, shaped(node)?)),
    by("RandomUniformLike", |node, b| import_uniform(node, b, like(node, b)?)),
    by("RandomNormal", |node, b| import_normal(node, b, shaped(node)?)),
    by("RandomNormalLike", |node, b| import_normal(node, b, like(node, b)?)),
    by("Bernoulli", import_bernoulli),
    by("Multinomial", import_multinomial),
];

/// A stream of random numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    key: u64,
    /// Only one in so many numbers is taken.
    step: u64,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const MIX: [(u64, u64); 2] = [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)];

impl Stream {
    /// The stream of a node.
    ///
    /// # Errors
    /// A seed that is no number.
    pub(crate) fn of(node: &NodeView) -> Result<Stream, ImportError> {
        // Dropout's seed is an integer.
        let seed = if node.op_type == "Dropout" {
            node.int("seed")?.map(|seed| seed as u64)
        } else {
            node.float("seed")?.map(f64::to_bits)
        };
        // FNV-1a.
        let named = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        let name = || node.name.bytes().fold(0xCBF2_9CE4_8422_2325, named);
        Ok(Stream { key: mix(seed.unwrap_or_else(name)), step: 1 })
    }

    /// Two streams that take turns.
    fn halves(self) -> [Stream; 2] {
        let step = 2 * self.step;
        [0, 1].map(|i| Stream { key: self.key.wrapping_add(GOLDEN.wrapping_mul(i)), step })
    }

    /// Numbers from 0 to 1 that `f32`, or `f64`, holds.
    pub(crate) fn uniform(self, b: &mut Build, ty: &TensorType) -> Result<Value, OpError> {
        let constant =
            |b: &mut Build, bits: u64| b.constant(&Tensor::scalar(Scalar::from_i64(DType::U64, bits as i64)));
        let mut z = iota(b, ty.elements(), DType::U64)?;
        let (step, first) = (GOLDEN.wrapping_mul(self.step), self.key.wrapping_add(GOLDEN));
        let (step, first) = (constant(b, step), constant(b, first));
        z = b.op(&MUL, &[z, step])?;
        z = b.op(&ADD, &[z, first])?;
        for (places, factor) in MIX {
            let (places, factor) = (constant(b, places), constant(b, factor));
            let high = b.op(&SHR, &[z, places])?;
            z = b.op(&XOR, &[z, high])?;
            z = b.op(&MUL, &[z, factor])?;
        }
        let places = constant(b, 31);
        let high = b.op(&SHR, &[z, places])?;
        z = b.op(&XOR, &[z, high])?;
        let digits = if ty.dtype == DType::F64 { 53 } else { 24 };
        let (rest, unit) = (constant(b, 64 - digits), b.scalar(ty.dtype, (-(digits as f64)).exp2()));
        let whole = b.op(&SHR, &[z, rest])?;
        // They fit the signed type, which more machines convert.
        let whole = convert(b, whole, DType::I64)?;
        let whole = convert(b, whole, ty.dtype)?;
        let part = b.op(&MUL, &[whole, unit])?;
        reshape(b, part, ty.shape.clone())
    }

    /// Numbers of mean 0 and variance 1.
    fn normal(self, b: &mut Build, ty: &TensorType) -> Result<Value, OpError> {
        let [radius, angle] = self.halves();
        let (radius, angle) = (radius.uniform(b, ty)?, angle.uniform(b, ty)?);
        let [one, two, turn] = [1.0, -2.0, TAU].map(|value| b.scalar(ty.dtype, value));
        // From 0, excluded, to 1.
        let radius = b.op(&SUB, &[one, radius])?;
        let radius = b.op(&LOG, &[radius])?;
        let radius = b.op(&MUL, &[radius, two])?;
        let radius = b.op(&SQRT, &[radius])?;
        let angle = b.op(&MUL, &[angle, turn])?;
        let wave = b.op(&COS, &[angle])?;
        b.op(&MUL, &[radius, wave])
    }
}

fn mix(mut z: u64) -> u64 {
    for (places, factor) in MIX {
        z = (z ^ (z >> places)).wrapping_mul(factor);
    }
    z ^ (z >> 31)
}

/// The type in which random numbers are computed for results of a type.
fn computed(ty: &TensorType) -> TensorType {
    ty.with_dtype(ty.dtype.arithmetic())
}

/// The type that the attributes ask for.
fn shaped(node: &NodeView) -> Result<TensorType, ImportError> {
    let shape = node.ints("shape")?;
    let shape = node.required("shape", shape)?;
    if let Some(size) = shape.iter().find(|size| **size < 0) {
        return Err(ImportError::value("shape", size, "sizes of 0 and more"));
    }
    let shape = shape.into_iter().map(Dim::constant);
    floats(TensorType::new(node.dtype("dtype")?.unwrap_or(DType::F32), shape))
}

/// The type of the input, maybe with other elements.
fn like(node: &NodeView, b: &Build) -> Result<TensorType, ImportError> {
    let ty = node.ty(b, 0)?;
    let dtype = node.dtype("dtype")?.unwrap_or(ty.dtype);
    floats(ty.with_dtype(dtype))
}

fn floats(ty: TensorType) -> Result<TensorType, ImportError> {
    match ty.dtype.is_float() {
        true => Ok(ty),
        false => Err(ImportError::value("dtype", ty.dtype, "floats")),
    }
}

/// `factor · x + offset`, in the type of the result.
fn placed(
    b: &mut Build,
    x: Value,
    factor: f64,
    offset: f64,
    ty: &TensorType,
) -> Result<Vec<Value>, ImportError> {
    let dtype = b.ty(x).dtype;
    let (factor, offset) = (b.scalar(dtype, factor), b.scalar(dtype, offset));
    let x = b.op(&MUL, &[x, factor])?;
    let x = b.op(&ADD, &[x, offset])?;
    Ok(vec![convert(b, x, ty.dtype)?])
}

fn import_uniform(node: &NodeView, b: &mut Build, ty: TensorType) -> Result<Vec<Value>, ImportError> {
    let (low, high) = (node.float_or("low", 0.0)?, node.float_or("high", 1.0)?);
    let part = Stream::of(node)?.uniform(b, &computed(&ty))?;
    placed(b, part, high - low, low, &ty)
}

fn import_normal(node: &NodeView, b: &mut Build, ty: TensorType) -> Result<Vec<Value>, ImportError> {
    let (mean, scale) = (node.float_or("mean", 0.0)?, node.float_or("scale", 1.0)?);
    let x = Stream::of(node)?.normal(b, &computed(&ty))?;
    placed(b, x, scale, mean, &ty)
}

/// 1 with the probability that the operand says, else 0.
fn import_bernoulli(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = floats(b.ty(x).clone())?;
    let result = node.dtype("dtype")?.unwrap_or(ty.dtype);
    let wide = computed(&ty);
    let part = Stream::of(node)?.uniform(b, &wide)?;
    let chance = convert(b, x, wide.dtype)?;
    let happens = b.op(&LT, &[part, chance])?;
    Ok(vec![convert(b, happens, result)?])
}

/// Classes, drawn with probabilities whose logarithms (up to a constant) the operand gives: the number of classes below
/// which all probabilities add up to no more than a random number.
fn import_multinomial(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = floats(b.ty(x).clone())?;
    let [batch, classes] = ty.shape.as_slice() else {
        return Err(OpError::Rank { operand: "input", expected: 2, found: ty.rank() }.into());
    };
    let samples = node.int_or("sample_size", 1)?;
    if samples < 0 {
        return Err(ImportError::value("sample_size", samples, "0 and more"));
    }
    let (one, samples) = (Dim::constant(1), Dim::constant(samples));
    let result = node.dtype("dtype")?.unwrap_or(DType::I32);
    let wide = computed(&ty).dtype;
    let logits = convert(b, x, wide)?;
    let chances = b.op_with(&SOFTMAX, &[logits], [AXIS.is(1)])?;
    let attrs = [prefix::AXIS.is(1), prefix::EXCLUSIVE.is(false), prefix::REVERSE.is(false)];
    let sums = b.op_with(&CUMSUM, &[chances], attrs)?;
    let sums = reshape(b, sums, vec![batch.clone(), one.clone(), classes.clone()])?;
    let drawn = TensorType::new(wide, [batch.clone(), samples, one.clone()]);
    let drawn = Stream::of(node)?.uniform(b, &drawn)?;
    let passed = b.op(&LE, &[sums, drawn])?;
    let passed = convert(b, passed, DType::I64)?;
    let class = reduce(b, &REDUCE_SUM, passed, &[2], false)?;
    // Where rounding leaves their sum below 1.
    let last = crate::shape::size::size(b, DType::I64, &(classes.clone() - one))?;
    let class = b.op(&MIN, &[class, last])?;
    Ok(vec![convert(b, class, result)?])
}
