//! `extend(x)`: `x` continued beyond its borders by its own elements.
//!
//! `mode`: `edge` repeats the last element, `reflect` mirrors at it (without repeating it), `wrap` starts
//! over. Shapes: axis `i` grows by `low[i] + high[i]`; an axis that grows is not empty. A negative amount cuts off.
//! Errors: [`OpError::Attribute`], also when the model runs; [`OpError::Unsupported`] for another mode.
//! Source: ONNX Pad, opset 25.

use ir::attr::{Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::math::add::ADD;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::modulo::MODULO;
use crate::math::sub::SUB;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, NodeAttr};
use crate::reference;
use crate::shape::pad::{HIGH, LOW, enough_is_left, grown};

/// `x` continued by its own elements.
pub static EXTEND: OpDef =
    OpDef::new("extend", &["x"], &Extend).attrs(&[LOW.spec(), HIGH.spec(), MODE.spec()]);

/// ONNX Pad is in the file of `pad`.
pub static ONNX: &[Import] = &[];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// `edge`, `reflect` or `wrap`.
pub const MODE: Key<String> = key("mode");

struct Extend;

impl Semantics for Extend {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        let mode = cx.attrs.get(MODE);
        if !["edge", "reflect", "wrap"].contains(&mode.as_str()) {
            return Err(OpError::Unsupported { key: MODE.name, value: mode });
        }
        let result = grown(x, &cx.attrs.get(LOW), &cx.attrs.get(HIGH))?;
        if x.shape.iter().zip(&result.shape).any(|(from, to)| from.is(0) && !to.is(0)) {
            return Err(OpError::Attribute {
                key: MODE.name,
                why: "an empty axis has nothing to continue with",
            });
        }
        Ok(vec![result])
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let (low, high) = (cx.attrs.get(LOW), cx.attrs.get(HIGH));
        let axes =
            cx.operands[0].shape.iter().enumerate().filter(|(axis, _)| grows(&low[*axis], &high[*axis]));
        let not_empty = |size: &Dim| Condition::at_most(Dim::constant(1), size.clone());
        let what = "an axis that is continued has something to continue with";
        let mut needed = enough_is_left(cx.operands[0], cx.attrs);
        needed.extend(axes.map(|(_, size)| Requirement { condition: not_empty(size), what }));
        needed
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, mode) = (cx.operands[0], cx.attrs.get(MODE));
        let low = reference::numbers(LOW.name, &cx.attrs.get(LOW))?;
        let element = |at: &[usize]| {
            let from = at.iter().zip(&low).zip(x.shape());
            let from: Vec<usize> =
                from.map(|((&i, &low), &size)| source(&mode, i as i64 - low, size as i64) as usize).collect();
            x.at(&from)
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (low, high, mode) = (cx.attrs.get(LOW), cx.attrs.get(HIGH), cx.attrs.get(MODE));
        cx.each(|cx, at| {
            let shape = cx.operands[0].shape.clone();
            let from: Vec<Dim> = (0..at.len())
                .map(|axis| {
                    let i = at[axis].clone() - low[axis].clone();
                    if grows(&low[axis], &high[axis]) { source_index(&mode, &i, &shape[axis]) } else { i }
                })
                .collect();
            cx.load(0, from.into_iter().map(Expr::from))
        })
    }
}

/// May an axis grow by these amounts?
fn grows(low: &Dim, high: &Dim) -> bool {
    [low, high].iter().any(|n| n.as_const().is_none_or(|n| n > 0))
}

/// The same, computed; with `edge`, or where only what lies inside counts, an index that is too large or small will do
/// once none is negative.
pub(crate) fn continued(b: &mut Build, mode: &str, i: Value, size: Value) -> Result<Value, OpError> {
    let (zero, one) = (b.scalar(DType::I64, 0.0), b.scalar(DType::I64, 1.0));
    match mode {
        "wrap" => b.op(&MODULO, &[i, size]),
        "reflect" => {
            let last = b.op(&SUB, &[size, one])?;
            let period = b.op(&ADD, &[last, last])?;
            let period = b.op(&MAX, &[period, one])?;
            let i = b.op(&MODULO, &[i, period])?;
            let mirrored = b.op(&SUB, &[period, i])?;
            b.op(&MIN, &[i, mirrored])
        }
        _ => b.op(&MAX, &[i, zero]),
    }
}

/// Where the element at position `i` comes from, on an axis of `size`.
fn source(mode: &str, i: i64, size: i64) -> i64 {
    match mode {
        "edge" => i.clamp(0, size - 1),
        "wrap" => i.rem_euclid(size),
        _ => {
            let period = (2 * (size - 1)).max(1);
            let i = i.rem_euclid(period);
            i.min(period - i)
        }
    }
}

/// The same on indices.
fn source_index(mode: &str, i: &Dim, size: &Dim) -> Dim {
    let (zero, one) = (Dim::constant(0), Dim::constant(1));
    let last = size.clone() - one.clone();
    match mode {
        "edge" => Dim::larger(&i.smaller(&last), &zero),
        "wrap" => i.modulo(size),
        _ => {
            let period = Dim::larger(&(Dim::constant(2) * last), &one);
            let i = i.modulo(&period);
            Dim::smaller(&i, &(period - i.clone()))
        }
    }
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (amounts, mode) = ([e.attrs.get(LOW), e.attrs.get(HIGH)].concat(), e.attrs.get(MODE));
    let amounts = e.sizes(&amounts);
    Some(vec![e.node_with("Pad", &[e.x(0), amounts], vec![("mode", NodeAttr::Str(mode))])])
}
