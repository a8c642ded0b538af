//! What classic models do with their scores in the end.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::math::abs::ABS;
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::exp::EXP;
use crate::math::gt::GT;
use crate::math::log::LOG;
use crate::math::mul::MUL;
use crate::math::neg::NEG;
use crate::math::sigmoid::SIGMOID;
use crate::math::sign::SIGN;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::ImportError;
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_sum::REDUCE_SUM;

/// A function of the rows of scores `[N, E]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PostTransform {
    None,
    Softmax,
    Logistic,
    /// A softmax in which zeros stay.
    SoftmaxZero,
    /// The inverse of the normal distribution.
    Probit,
}

const ALL: [(&str, PostTransform); 5] = [
    ("NONE", PostTransform::None),
    ("SOFTMAX", PostTransform::Softmax),
    ("LOGISTIC", PostTransform::Logistic),
    ("SOFTMAX_ZERO", PostTransform::SoftmaxZero),
    ("PROBIT", PostTransform::Probit),
];

impl PostTransform {
    /// The one of that name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn named(name: &str) -> Result<PostTransform, ImportError> {
        let found = ALL.iter().find(|(known, _)| *known == name).map(|(_, transform)| *transform);
        found.ok_or_else(|| {
            ImportError::value("post_transform", name, "NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO and PROBIT")
        })
    }

    /// The one of that number.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn numbered(number: i64) -> Result<PostTransform, ImportError> {
        let found = usize::try_from(number).ok().and_then(|number| ALL.get(number));
        found
            .map(|(_, transform)| *transform)
            .ok_or_else(|| ImportError::value("post_transform", number, "0 to 4"))
    }

    /// Its value.
    ///
    /// # Errors
    /// `x` is no matrix of floats.
    pub(crate) fn of(self, b: &mut Build, x: Value) -> Result<Value, OpError> {
        match self {
            PostTransform::None => Ok(x),
            PostTransform::Softmax => b.op_with(&SOFTMAX, &[x], [AXIS.is(1)]),
            PostTransform::Logistic => b.op(&SIGMOID, &[x]),
            PostTransform::SoftmaxZero => softmax_zero(b, x),
            PostTransform::Probit => probit(b, x),
        }
    }
}

/// Where `|x| ≤ 10⁻⁷`, `x` stands for what would be `eˣ`; rows that add up to 0 become ½.
fn softmax_zero(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let dtype = b.ty(x).dtype;
    let [tiny, zero, half, one] = [1e-7, 0.0, 0.5, 1.0].map(|value| b.scalar(dtype, value));
    let largest = reduce(b, &REDUCE_MAX, x, &[1], true)?;
    let shifted = b.op(&SUB, &[x, largest])?;
    let exp = b.op(&EXP, &[shifted])?;
    let down = b.op(&NEG, &[largest])?;
    let down = b.op(&EXP, &[down])?;
    let small = b.op(&MUL, &[x, down])?;
    let size = b.op(&ABS, &[x])?;
    let counts = b.op(&GT, &[size, tiny])?;
    let part = b.op(&WHERE, &[counts, exp, small])?;
    let sum = reduce(b, &REDUCE_SUM, part, &[1], true)?;
    let nothing = b.op(&EQ, &[sum, zero])?;
    let divisor = b.op(&WHERE, &[nothing, one, sum])?;
    let y = b.op(&DIV, &[part, divisor])?;
    b.op(&WHERE, &[nothing, half, y])
}

/// `√2·erf⁻¹(2x − 1)`, with Winitzki's inverse of the error function, as other implementations have it.
fn probit(b: &mut Build, x: Value) -> Result<Value, OpError> {
    const A: f64 = 0.147;
    let dtype = b.ty(x).dtype;
    let number = |b: &mut Build, value: f64| b.scalar(dtype, value);
    let (one, two, half) = (number(b, 1.0), number(b, 2.0), number(b, 0.5));
    let twice = b.op(&MUL, &[x, two])?;
    let z = b.op(&SUB, &[twice, one])?;
    let (below, above) = (b.op(&SUB, &[one, z])?, b.op(&ADD, &[one, z])?);
    let rest = b.op(&MUL, &[below, above])?;
    let log = b.op(&LOG, &[rest])?;
    let (shift, factor) = (number(b, 2.0 / (std::f64::consts::PI * A)), number(b, 1.0 / A));
    let halved = b.op(&MUL, &[log, half])?;
    let v = b.op(&ADD, &[halved, shift])?;
    let square = b.op(&MUL, &[v, v])?;
    let scaled = b.op(&MUL, &[log, factor])?;
    let inner = b.op(&SUB, &[square, scaled])?;
    let inner = b.op(&SQRT, &[inner])?;
    let size = b.op(&SUB, &[inner, v])?;
    let size = b.op(&SQRT, &[size])?;
    let sign = b.op(&SIGN, &[z])?;
    let y = b.op(&MUL, &[sign, size])?;
    let root = number(b, std::f64::consts::SQRT_2);
    b.op(&MUL, &[y, root])
}
