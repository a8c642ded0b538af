//! `matmul(a, b)[…, i, j] = Σₖ a[…, i, k] · b[…, k, j]`.
//!
//! Shapes: `a: […, M, K]`, `b: […, K, N]`, of one type of numbers; leading axes broadcast; the result is `[…,
//! M, N]`. Sums of 16-bit floats are carried in `f32`. Errors: [`OpError::RankAtLeast`], [`OpError::Size`],
//! [`OpError::DTypes`], [`OpError::DType`]. Source: ONNX MatMul, opset 13; Gemm, opset 13; onnxruntime, contrib operators,
//! FusedMatMul, FusedMatMulActivation, TransposeMatMul, FusedGemm.

use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Reduce};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::linalg::fused_activation::by_names;
use crate::math::add::ADD;
use crate::math::elementwise::want_alike;
use crate::math::mul::MUL;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reference::{self, Products};
use crate::shape::reshape::reshape;
use crate::shape::transpose::{swap_last_two, transpose};

/// The matrix product.
pub static MATMUL: OpDef = OpDef::new("matmul", &["a", "b"], &Matmul);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("MatMul", import),
    by("Gemm", |node, b| {
        let stretches = node.opset >= 7 || node.flag("broadcast", false)?;
        Ok(vec![gemm(node, b, stretches)?])
    }),
    by("FusedMatMul", |node, b| Ok(vec![fused(node, b)?])).in_domain("com.microsoft"),
    by("TransposeMatMul", |node, b| Ok(vec![fused(node, b)?])).in_domain("com.microsoft"),
    by("FusedMatMulActivation", |node, b| {
        let y = fused(node, b)?;
        Ok(vec![by_names(node, b, y)?])
    })
    .in_domain("com.microsoft"),
    by("FusedGemm", |node, b| {
        let y = gemm(node, b, true)?;
        Ok(vec![by_names(node, b, y)?])
    })
    .in_domain("com.microsoft"),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(e.as_one_of("MatMul", &TYPES, vec![])));

struct Matmul;

impl Semantics for Matmul {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (a, b) = (cx.operands[0], cx.operands[1]);
        let dtype = cx.common_dtype()?;
        cx.want_arithmetic(0, "a")?;
        if dtype == DType::Bool {
            return Err(OpError::DType { operand: "a", expected: "a number", found: dtype });
        }
        for (operand, ty) in [("a", a), ("b", b)] {
            if ty.rank() < 2 {
                return Err(OpError::RankAtLeast { operand, least: 2, found: ty.rank() });
            }
        }
        let (batch_a, [m, k]) = matrix(a);
        let (batch_b, [k_b, n]) = matrix(b);
        if k != k_b {
            let (left, right) = (k.clone(), k_b.clone());
            return Err(OpError::Size { what: "columns of `a` and rows of `b`", left, right });
        }
        let clash = |(left, right)| OpError::Size { what: "batch axes do not broadcast", left, right };
        let batch = ir::types::broadcast(batch_a, batch_b).map_err(clash)?;
        Ok(vec![TensorType::new(dtype, batch.into_iter().chain([m.clone(), n.clone()]))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (a, b) = (cx.operands[0], cx.operands[1]);
        let products = Products::new(a, b);
        let element = |at: &[usize]| {
            let (batch, ij) = at.split_at(at.len() - 2);
            let (row, [_, depth]) = first_of_matrix(a, batch);
            let (column, [_, columns]) = first_of_matrix(b, batch);
            let pairs = (0..depth).map(|k| (row + ij[0] * depth + k, column + k * columns + ij[1]));
            products.sum(dtype, pairs)
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (a, b) = (cx.operands[0].clone(), cx.operands[1].clone());
        let dtype = a.dtype;
        let depth = a.shape[a.rank() - 1].clone();
        cx.each(|cx, at| {
            let (batch, ij) = at.split_at(at.len() - 2);
            let sum = cx.fold(Reduce::Sum, &depth, |cx, k| {
                let wide = dtype.arithmetic();
                let left = cx.load(0, batch_index(&a, batch, [&ij[0], k])).cast(wide);
                let right = cx.load(1, batch_index(&b, batch, [k, &ij[1]])).cast(wide);
                left * right
            });
            sum.cast(dtype)
        })
    }
}

/// The position of the first element of the matrix that broadcasts to `batch`, and the sizes of that matrix.
fn first_of_matrix(tensor: &Tensor, batch: &[usize]) -> (usize, [usize; 2]) {
    let (sizes, matrix) = tensor.shape().split_at(tensor.shape().len() - 2);
    let batch = &batch[batch.len() - sizes.len()..];
    let which =
        batch.iter().zip(sizes).fold(0, |which, (&i, &size)| which * size + if size == 1 { 0 } else { i });
    (which * matrix[0] * matrix[1], [matrix[0], matrix[1]])
}

/// Batch axes, and the last two.
fn matrix(ty: &TensorType) -> (&[Dim], [&Dim; 2]) {
    let (batch, last) = ty.shape.split_at(ty.rank() - 2);
    (batch, [&last[0], &last[1]])
}

/// An index of an operand: its batch axes broadcast to `batch`, the last two are given.
fn batch_index(ty: &TensorType, batch: &[Dim], last: [&Dim; 2]) -> Vec<Expr> {
    let (sizes, _) = matrix(ty);
    let batch = sizes.iter().zip(&batch[batch.len() - sizes.len()..]);
    let batch = batch.map(|(size, i)| if size.is(1) { Dim::constant(0) } else { i.clone() });
    batch.chain(last.map(Dim::clone)).map(Expr::from).collect()
}

/// As numpy: a vector on the left is a row, one on the right a column; their axes leave the result.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![product(b, node.input(0)?, node.input(1)?)?])
}

/// The product as numpy has it.
///
/// # Errors
/// [`OpError::Size`], and what the op says of its operands.
pub(crate) fn product(b: &mut Build, left: Value, right: Value) -> Result<Value, OpError> {
    let one = Dim::constant(1);
    let [rank_left, rank_right] = [left, right].map(|value| b.ty(value).rank());
    let widened = |b: &mut Build, value: Value, column: bool| {
        let mut shape = b.ty(value).shape.clone();
        if shape.len() == 1 {
            shape.insert(usize::from(column), one.clone());
        }
        reshape(b, value, shape)
    };
    let (row, column) = (widened(b, left, false)?, widened(b, right, true)?);
    let product = b.op(&MATMUL, &[row, column])?;
    let mut shape = b.ty(product).shape.clone();
    if rank_right == 1 {
        shape.pop();
    }
    if rank_left == 1 {
        shape.remove(shape.len() - if rank_right == 1 { 1 } else { 2 });
    }
    reshape(b, product, shape)
}

/// `alpha · A′B′ + beta · C`, where `A′` and `B′` are maybe transposed, and `C` maybe stretches.
fn gemm(node: &NodeView, b: &mut Build, stretches: bool) -> Result<Value, ImportError> {
    let (mut left, mut right) = (node.input(0)?, node.input(1)?);
    for (operand, value) in [("A", left), ("B", right)] {
        let found = b.ty(value).rank();
        if found != 2 {
            return Err(OpError::Rank { operand, expected: 2, found }.into());
        }
    }
    if node.flag("transA", false)? {
        left = transpose(b, left, vec![1, 0])?;
    }
    if node.flag("transB", false)? {
        right = transpose(b, right, vec![1, 0])?;
    }
    let product = b.op(&MATMUL, &[left, right])?;
    let mut y = scaled(b, product, node.float_or("alpha", 1.0)?)?;
    let beta = node.float_or("beta", 1.0)?;
    if let Some(c) = node.optional_input(2) {
        if !stretches {
            want_alike("C", &b.ty(y).shape, &b.ty(c).shape)?;
        }
        let c = scaled(b, c, beta)?;
        y = b.op(&ADD, &[y, c])?;
    }
    Ok(y)
}

fn scaled(b: &mut Build, x: Value, factor: f64) -> Result<Value, OpError> {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = b.scalar(b.ty(x).dtype, factor);
    b.op(&MUL, &[x, factor])
}

/// What onnxruntime makes of a MatMul and its neighbours: `alpha · A′B′`, as numpy, where `A′` and `B′` are maybe
/// transposed. `transBatchA` moves the first axis behind the others but the last before that. Vectors stay.
fn fused(node: &NodeView, b: &mut Build) -> Result<Value, ImportError> {
    let mut turned = |index: usize, [batch, last]: [&str; 2]| -> Result<Value, ImportError> {
        let mut x = node.input(index)?;
        let rank = b.ty(x).rank() as i64;
        let (batch, last) = (node.flag(batch, false)?, node.flag(last, false)?);
        if batch && rank > 2 {
            x = transpose(b, x, (1..rank - 1).chain([0, rank - 1]).collect())?;
        }
        Ok(if last && rank > 1 { swap_last_two(b, x)? } else { x })
    };
    let (left, right) = (turned(0, ["transBatchA", "transA"])?, turned(1, ["transBatchB", "transB"])?);
    let y = product(b, left, right)?;
    Ok(scaled(b, y, node.float_or("alpha", 1.0)?)?)
}

/// The types that it takes in ONNX.
const TYPES: [DType; 8] =
    [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::U32, DType::U64, DType::I64];
