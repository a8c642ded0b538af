//! Products of dequantized numbers become products of the bytes: `Σ s·(a − a₀) · t·(b − b₀)` is
//! `s·t · Σ (a − a₀)·(b − b₀)`, whose sum is exact.

use egg::Id;
use ir::{DType, Dim};
use ops::linalg::conv::{CONV, GROUPS};
use ops::linalg::matmul::MATMUL;
use ops::math::cast::{CAST, TO};
use ops::math::div::DIV;
use ops::math::mul::MUL;
use ops::math::round::ROUND;
use ops::math::sub::SUB;
use ops::shape::reshape::{RESHAPE, SHAPE};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::affine::wide_axes;
use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "product-of-quantized",
    summary: "a product or convolution of dequantized bytes with dequantized weights is one of the bytes, times the scales",
    set: Set::Fold,
    exactness: Exactness::Reassociating,
    anchor: &[&MATMUL, &CONV],
    obligations: &[WEIGHTS, ONE_SCALE, OUTPUTS, ONE_GROUP, RANGE],
    apply: product,
}];

const WEIGHTS: &str =
    "the weights are constants, or the result is quantized, too: an attention is better computed as one";
const ONE_SCALE: &str = "the values that are summed have one scale";
const OUTPUTS: &str = "the weights of a convolution have one scale, or one for each output channel";
const ONE_GROUP: &str = "a convolution has one group";
const RANGE: &str = "the sums are surely in the range of 32 bits";

/// So many reshapes and transpositions may lie between what is dequantized and the product.
const BETWEEN: usize = 3;

/// `(cast<f32>(cast<i32>(bytes) − zero)) · scale`.
struct Dequantized {
    bytes: Id,
    zero: Option<Id>,
    scale: Id,
}

fn product(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [x, w] = node.operands()[..] else { return Err(Stop::Other) };
    if m.ty(class).dtype != DType::F32 || m.is_constant(x) {
        return Err(Stop::Other);
    }
    let a = dequantized(m, x, BETWEEN)?.ok_or(Stop::Other)?;
    let b = dequantized(m, w, BETWEEN)?.ok_or(Stop::Other)?;
    if !m.is_constant(w) && !is_quantized(m, class) {
        return Err(Missed::new(WEIGHTS, m.describe(w)).into());
    }
    let is_conv = node.op() == Some(&CONV);
    let shape = m.shape(w);
    let summed =
        if is_conv { shape[1..].iter().cloned().product() } else { shape[shape.len().max(2) - 2].clone() };
    let most = a.most(m).zip(b.most(m)).and_then(|(a, b)| a.checked_mul(b)?.checked_mul(summed.as_const()?));
    if most.is_none_or(|most| most > i64::from(i32::MAX)) {
        return Err(Missed::new(RANGE, format!("sums of {summed} products")).into());
    }
    let rank = m.ty(x).rank();
    let scale = if is_conv {
        if m.attrs(node).get(GROUPS) != 1 {
            return Err(Missed::new(ONE_GROUP, m.describe(class)).into());
        }
        if !m.ty(a.scale).elements().is(1) {
            return Err(Missed::new(ONE_SCALE, m.describe(a.scale)).into());
        }
        if !wide_axes(m, b.scale, rank).iter().all(|&axis| axis == 0) {
            return Err(Missed::new(OUTPUTS, m.describe(b.scale)).into());
        }
        let mut channels = vec![Dim::constant(1); rank - 1];
        channels[0] = m.ty(b.scale).elements();
        m.op_with(&RESHAPE, &[b.scale], [SHAPE.is(channels)])?
    } else {
        let columns = shape.len();
        for (scale, rank, axis) in [(a.scale, rank, rank - 1), (b.scale, columns, columns.max(2) - 2)] {
            if wide_axes(m, scale, rank).contains(&axis) {
                return Err(Missed::new(ONE_SCALE, m.describe(scale)).into());
            }
        }
        // A product with a vector has no axis for its columns.
        if rank < 2 || columns < 2 {
            return Err(Stop::Other);
        }
        b.scale
    };
    let (a_scale, a, b) = (a.scale, a.whole(m)?, b.whole(m)?);
    let sums = m.op_as(node.op().ok_or(Stop::Other)?, &[a, b], &m.attrs(node))?;
    let sums = m.op_with(&CAST, &[sums], [TO.is(DType::F32)])?;
    let scale = m.op(&MUL, &[a_scale, scale])?;
    let result = m.op(&MUL, &[sums, scale])?;
    m.covers(x);
    m.covers(w);
    Ok(if m.ty(result) == m.ty(class) { vec![(class, result)] } else { vec![] })
}

/// Is all that becomes of a value what it is as a byte?
fn is_quantized(m: &Match, id: Id) -> bool {
    let users = m.users(&DIV, id);
    !users.is_empty() && users.iter().all(|(quotient, _)| !m.users(&ROUND, *quotient).is_empty())
}

/// What a value is dequantized from, perhaps in another order or shape.
fn dequantized(m: &mut Match, id: Id, depth: usize) -> Result<Option<Dequantized>, Stop> {
    for (of, _) in m.uses_of(&MUL, id) {
        for (values, scale) in [(of[0], of[1]), (of[1], of[0])] {
            let Some((whole, _)) = m.find(&CAST, values).filter(|_| m.ty(values) == m.ty(id)) else {
                continue;
            };
            if let Some((bytes, zero)) = centred(m, whole[0]) {
                return Ok(Some(Dequantized { bytes, zero, scale }));
            }
        }
    }
    if depth == 0 {
        return Ok(None);
    }
    if let Some((of, attrs)) = m.find(&TRANSPOSE, id)
        && let Some(inner) = dequantized(m, of[0], depth - 1)?
    {
        let rank = m.ty(id).rank();
        let turned = |m: &mut Match, value: Id| -> Result<Id, Stop> {
            if m.ty(value).elements().is(1) {
                return Ok(value);
            }
            let mut shape = vec![Dim::constant(1); rank - m.ty(value).rank()];
            shape.extend(m.shape(value));
            let whole = m.op_with(&RESHAPE, &[value], [SHAPE.is(shape)])?;
            Ok(m.op_with(&TRANSPOSE, &[whole], [PERM.is(attrs.get(PERM))])?)
        };
        let bytes = m.op_as(&TRANSPOSE, &[inner.bytes], &attrs)?;
        let zero = inner.zero.map(|zero| turned(m, zero)).transpose()?;
        return Ok(Some(Dequantized { bytes, zero, scale: turned(m, inner.scale)? }));
    }
    if let Some((of, attrs)) = m.find(&RESHAPE, id)
        && let Some(inner) = dequantized(m, of[0], depth - 1)?
    {
        let one = |value: &Id| m.ty(*value).elements().is(1);
        if one(&inner.scale) && inner.zero.as_ref().is_none_or(one) {
            let bytes = m.op_as(&RESHAPE, &[inner.bytes], &attrs)?;
            let single = |m: &mut Match, value| m.op_with(&RESHAPE, &[value], [SHAPE.is(vec![])]);
            let zero = inner.zero.map(|zero| single(m, zero)).transpose()?;
            return Ok(Some(Dequantized { bytes, zero, scale: single(m, inner.scale)? }));
        }
    }
    Ok(None)
}

/// Bytes as whole numbers, perhaps less a zero.
fn centred(m: &Match, id: Id) -> Option<(Id, Option<Id>)> {
    let bytes = |id: Id| {
        let (of, _) = m.find(&CAST, id).filter(|_| m.ty(id).dtype == DType::I32)?;
        matches!(m.ty(of[0]).dtype, DType::I8 | DType::U8).then_some(of[0])
    };
    if let Some(bytes) = bytes(id) {
        return Some((bytes, None));
    }
    let (of, _) = m.find(&SUB, id).filter(|(of, _)| m.ty(of[0]) == m.ty(id))?;
    Some((bytes(of[0])?, Some(of[1])))
}

/// The least and the greatest value of bytes of a type.
fn range(dtype: DType) -> (i64, i64) {
    if dtype == DType::I8 { (-128, 127) } else { (0, 255) }
}

impl Dequantized {
    /// The largest difference from its zero that a byte may have; `None` if its zero may be any number.
    fn most(&self, m: &Match) -> Option<i64> {
        let (least, greatest) = range(m.ty(self.bytes).dtype);
        let from = |zero: i64| zero.saturating_sub(least).max(greatest.saturating_sub(zero));
        let Some(zero) = self.zero else { return Some(from(0)) };
        if let Some(zeros) = m.value(zero) {
            return zeros.values().map(|zero| from(zero.to_i64())).max();
        }
        let (of, _) = m.find(&CAST, zero)?;
        let dtype = m.ty(of[0]).dtype;
        let (low, high) = range(dtype);
        (dtype.bits() == 8 && dtype.is_int()).then(|| from(low).max(from(high)))
    }

    /// The whole numbers that are multiplied.
    fn whole(&self, m: &mut Match) -> Result<Id, Stop> {
        let whole = m.op_with(&CAST, &[self.bytes], [TO.is(DType::I32)])?;
        Ok(match self.zero {
            Some(zero) => m.op(&SUB, &[whole, zero])?,
            None => whole,
        })
    }
}
