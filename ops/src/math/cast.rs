//! `cast(x)`: each element in another type.
//!
//! Floats round to nearest even, and what is too large becomes an infinity, or NaN where there is none; float to integer
//! truncates, saturating, NaN to 0, or wraps if it has fewer than 8 bits; integer to integer wraps; to bool: not equal to
//! zero. Shapes: any. Source: ONNX Cast, opset 25, where it defines the value.
//!
//! ONNX casts to floats of 8 bits saturate unless they say otherwise: that is a `clip` before the `cast`. Those to powers
//! of two (`f8e8m0`) round up or down by the bits of an `f64`.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::float_format::{FloatFormat, Specials};
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::bitcast::{self, BITCAST};
use crate::math::clip::CLIP;
use crate::math::elementwise::wrapped;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reference;

/// Each element in another type.
pub static CAST: OpDef = OpDef::new("cast", &["x"], &Cast).attrs(&[TO.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Cast", import), by("CastLike", import_like)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(vec![e.cast_always(e.x(0), e.attrs.get(TO))]));

/// The type of the result.
pub const TO: Key<DType> = key("to");

struct Cast;

impl Semantics for Cast {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![cx.operands[0].with_dtype(cx.attrs.get(TO))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        Ok(vec![Tensor::from_fn(dtype, &shape, |at| cx.operands[0].at(at).cast(dtype))])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let to = cx.attrs.get(TO);
        cx.pointwise(|x| x[0].clone().cast(to))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let to = cx.attrs.get(TO);
        cx.operands[0].as_ref()?.iter().map(|size| wrapped(size, to)).collect()
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn is_identity(&self, _: &Attrs) -> bool {
        true
    }
}

/// The attributes of a cast to this type.
pub fn to(dtype: DType) -> Attrs {
    let (name, value) = TO.is(dtype);
    CAST.check_attrs([(name.to_owned(), value)])
        .expect("a cast says the type of its result, and nothing else")
}

/// `x` in type `to`: itself, if that is its type.
///
/// # Errors
/// None that this op gives; the signature is that of every build step.
pub fn convert(b: &mut Build, x: Value, to: DType) -> Result<Value, OpError> {
    if b.ty(x).dtype == to { Ok(x) } else { b.op_with(&CAST, &[x], [TO.is(to)]) }
}

/// `x` in type `to`, where a narrow float is the nearest of its numbers for whatever lies beyond them.
///
/// # Errors
/// None that these ops give; the signature is that of every build step.
pub fn saturating(b: &mut Build, x: Value, to: DType) -> Result<Value, OpError> {
    let Some(format) = format_of(b, x, to) else { return convert(b, x, to) };
    let wide = wide(b.ty(x).dtype);
    let x = convert(b, x, wide)?;
    let inside = inside(b, x, format)?;
    convert(b, inside, to)
}

/// The format of `to`, if it is a narrow float and another type than that of `x`.
fn format_of(b: &Build, x: Value, to: DType) -> Option<FloatFormat> {
    FloatFormat::of(to).filter(|_| to.is_narrow() && b.ty(x).dtype != to)
}

/// The float in which all values of a type that a narrow float can tell apart are different.
fn wide(dtype: DType) -> DType {
    if dtype.is_int() || dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// `x`, a float of 32 or 64 bits, between the least and the largest number of a format.
fn inside(b: &mut Build, x: Value, format: FloatFormat) -> Result<Value, OpError> {
    let dtype = b.ty(x).dtype;
    let least = if format.specials == Specials::Exponent { format.min_positive() } else { -format.max() };
    let bounds = [least, format.max()].map(|bound| b.scalar(dtype, bound));
    b.op(&CLIP, &[x, bounds[0], bounds[1]])
}

/// How a number between two powers of two becomes one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RoundMode {
    /// Away from zero.
    Up,
    /// Toward zero.
    Down,
    /// To the nearest, ties up.
    Nearest,
}

impl RoundMode {
    fn of(node: &NodeView) -> Result<RoundMode, ImportError> {
        match node.str_or("round_mode", "up")? {
            "up" => Ok(RoundMode::Up),
            "down" => Ok(RoundMode::Down),
            "nearest" => Ok(RoundMode::Nearest),
            other => Err(ImportError::Attribute {
                name: "round_mode".to_owned(),
                why: format!("expected `up`, `down` or `nearest`, found `{other}`"),
            }),
        }
    }
}

/// `x` as a power of two.
fn power_of_two(b: &mut Build, x: Value, mode: RoundMode, saturate: bool) -> Result<Value, OpError> {
    let to = DType::F8E8M0;
    let Some(format) = format_of(b, x, to) else { return Ok(x) };
    // In this type no power of two that there is, is subnormal.
    let x = convert(b, x, DType::F64)?;
    let x = if saturate { inside(b, x, format)? } else { x };
    if mode == RoundMode::Nearest {
        return convert(b, x, to);
    }
    let fraction = (1i64 << 52) - 1;
    let mut bits = b.op_with(&BITCAST, &[x], [bitcast::TO.is(DType::I64)])?;
    if mode == RoundMode::Up {
        // Anything in the fraction carries into the exponent. A NaN becomes a zero, which is no power of two either.
        let all = b.constant(&Tensor::from_i64(&[], &[fraction]));
        bits = b.op(&ADD, &[bits, all])?;
    }
    let exponent = b.constant(&Tensor::from_i64(&[], &[!fraction]));
    let bits = b.op(&AND, &[bits, exponent])?;
    let power = b.op_with(&BITCAST, &[bits], [bitcast::TO.is(DType::F64)])?;
    convert(b, power, to)
}

/// Cast to a known type, by the attributes of the node.
fn by_attributes(node: &NodeView, b: &mut Build, to: DType) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let (saturate, mode) = (node.flag("saturate", true)?, RoundMode::of(node)?);
    Ok(vec![match saturate {
        _ if to == DType::F8E8M0 => power_of_two(b, x, mode, saturate)?,
        true => saturating(b, x, to)?,
        false => convert(b, x, to)?,
    }])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let to = node.dtype("to")?;
    by_attributes(node, b, node.required("to", to)?)
}

fn import_like(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let to = b.ty(node.input(1)?).dtype;
    by_attributes(node, b, to)
}
