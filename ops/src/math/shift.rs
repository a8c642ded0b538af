//! Shifts in ONNX, which knows them for numbers without a sign, and by less than their width.

use ir::DType;
use ir::dtype::Class;

use crate::onnx::NodeAttr;
use crate::onnx::export::{Attributes, Emit};

/// As a node, where that shifts by known amounts that are small enough.
pub(super) fn as_bit_shift(e: &mut Emit, direction: &str) -> Option<Vec<String>> {
    let dtype = e.ty(0).dtype;
    let amounts = e.weight(1)?;
    let is_small = amounts.values().all(|amount| (0..dtype.bits() as i64).contains(&amount.to_i64()));
    let is_plain = matches!(dtype.class(), Class::Unsigned) && !dtype.is_narrow();
    (is_plain && is_small).then(|| e.same_with("BitShift", direction_of(direction)))
}

fn direction_of(direction: &str) -> Attributes {
    vec![("direction", NodeAttr::Str(direction.to_owned()))]
}

/// The shift of any integers by any amounts. To the right, `x` below 0 is the complement of its shifted complement.
pub(super) fn shifted(e: &mut Emit, direction: &str) -> String {
    let (dtype, keeps_sign) = (e.ty(0).dtype, direction == "RIGHT" && e.ty(0).dtype.class() == Class::Signed);
    let wide = if dtype.bits() > 32 { DType::U64 } else { DType::U32 };
    let [width, last] = [dtype.bits(), dtype.bits() - 1].map(|n| e.number(wide, n as f64));
    let amount = e.cast(e.x(1), dtype, wide);
    if keeps_sign {
        let x = e.cast(e.x(0), dtype, DType::I64);
        let nothing = e.number(DType::I64, 0.0);
        let negative = e.node("Less", &[&x, &nothing]);
        let complement = e.node("BitwiseNot", &[&x]);
        let size = e.node("Where", &[&negative, &complement, &x]);
        let size = e.cast(size, DType::I64, wide);
        let amount = e.node("Min", &[amount, last]);
        let moved = e.node_with("BitShift", &[size, amount], direction_of(direction));
        let moved = e.cast(moved, wide, DType::I64);
        let complement = e.node("BitwiseNot", &[&moved]);
        let y = e.node("Where", &[negative, complement, moved]);
        return e.cast(y, DType::I64, dtype);
    }
    let x = e.cast(e.x(0), dtype, wide);
    let small = e.node("Less", &[&amount, &width]);
    let bounded = e.node("Min", &[amount, last]);
    let moved = e.node_with("BitShift", &[x, bounded], direction_of(direction));
    // As a product, since not every engine chooses between such numbers.
    let kept = e.cast_always(small, wide);
    let y = e.node("Mul", &[moved, kept]);
    e.cast(y, wide, dtype)
}
