//! What reference evaluations share: the result's type on real operands, reading with broadcast, folds.
//!
//! Written for clarity; nothing here is meant to be fast. Sums and products of floats are carried in `f64`.

use ir::kernel::Reduce;
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, Scalar, Tensor, TensorType};

/// The element type and the sizes of the first result of `op` on these operands.
///
/// # Errors
/// What `infer` says of them, or a size that is no number.
pub(crate) fn result(op: &dyn Semantics, cx: &Eval) -> Result<(DType, Vec<usize>), OpError> {
    let types: Vec<TensorType> = cx.operands.iter().map(|tensor| tensor.ty()).collect();
    let types: Vec<&TensorType> = types.iter().collect();
    let results = op.infer(&Infer { operands: &types, attrs: cx.attrs })?;
    let shape = results[0].shape.iter().map(size).collect::<Result<_, _>>()?;
    Ok((results[0].dtype, shape))
}

/// The elements of the first result of `op`, if those of all operands are known numbers.
pub(crate) fn of_numbers(op: &dyn Semantics, cx: &Sizes) -> Option<Vec<Dim>> {
    let tensor = |(ty, known): (&&TensorType, &Option<Vec<Dim>>)| {
        let known: Vec<i64> = known.as_ref()?.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let mut numbers = known.into_iter();
        Some(Tensor::from_fn(ty.dtype, &ty.fixed_shape()?, |_| {
            Scalar::from_i64(ty.dtype, numbers.next().expect("one for each element"))
        }))
    };
    let operands: Vec<Tensor> = cx.types.iter().zip(cx.operands).map(tensor).collect::<Option<_>>()?;
    let operands: Vec<&Tensor> = operands.iter().collect();
    let results =
        op.eval(&Eval { operands: &operands, attrs: cx.attrs, sizes: &ir::graph::SizeValues::new() }).ok()?;
    Some(results.first()?.to_i64().into_iter().map(Dim::constant).collect())
}

fn size(dim: &Dim) -> Result<usize, OpError> {
    dim.as_const().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| OpError::Size {
        what: "size of a result",
        left: dim.clone(),
        right: Dim::constant(0),
    })
}

/// The numbers that these sizes are.
///
/// # Errors
/// [`OpError::Attribute`] for one that is no number: a symbol that no input binds.
pub(crate) fn numbers(key: &'static str, dims: &[Dim]) -> Result<Vec<i64>, OpError> {
    let numbers: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
    numbers.ok_or(OpError::Attribute { key, why: "a size that no input of the graph fixes" })
}

/// The element of `tensor` that broadcasts to `at`, an index of the result.
pub(crate) fn broadcast_at(tensor: &Tensor, at: &[usize]) -> Scalar {
    let at = &at[at.len() - tensor.shape().len()..];
    let position = at
        .iter()
        .zip(tensor.shape())
        .fold(0, |position, (&i, &size)| position * size + if size == 1 { 0 } else { i });
    tensor.get(position)
}

/// A fold of elements, all of type `dtype`.
pub(crate) fn fold(op: Reduce, dtype: DType, elements: impl Iterator<Item = Scalar>) -> Scalar {
    match op {
        Reduce::Sum if dtype.is_float() => Scalar::from_f64(dtype, elements.map(Scalar::to_f64).sum()),
        Reduce::Prod if dtype.is_float() => Scalar::from_f64(dtype, elements.map(Scalar::to_f64).product()),
        _ => elements.fold(op.neutral(dtype), |a, b| op.function().apply(a, b)),
    }
}

/// Sums of products, on operands that were read once: floats as `f64`, integers as `i64`, which wraps as they
/// do.
pub(crate) enum Products {
    /// Two operands of floats.
    Floats(Vec<f64>, Vec<f64>),
    /// Two operands of integers.
    Ints(Vec<i64>, Vec<i64>),
}

impl Products {
    /// Of elements of `a` and of `b`, which have one type.
    pub(crate) fn new(a: &Tensor, b: &Tensor) -> Products {
        if a.dtype().is_float() {
            Products::Floats(a.to_f64(), b.to_f64())
        } else {
            Products::Ints(a.to_i64(), b.to_i64())
        }
    }

    /// `Σ a·b` over pairs of positions, as a `dtype`.
    pub(crate) fn sum(&self, dtype: DType, positions: impl Iterator<Item = (usize, usize)>) -> Scalar {
        match self {
            Products::Floats(a, b) => Scalar::from_f64(dtype, positions.map(|(i, j)| a[i] * b[j]).sum()),
            Products::Ints(a, b) => {
                let add = |sum: i64, (i, j): (usize, usize)| sum.wrapping_add(a[i].wrapping_mul(b[j]));
                Scalar::from_i64(dtype, positions.fold(0, add))
            }
        }
    }
}
