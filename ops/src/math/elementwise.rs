//! Scalar functions applied to every element: one [`Semantics`] for all of one operand, one for all of two.
//!
//! The functions themselves are defined in [`ir::scalar`]. Two operands broadcast as in numpy.

use ir::build::Build;
use ir::dim::Ranges;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower, in_arithmetic};
use ir::op::{Eval, Infer, OpDef, OpError, Semantics, Sizes, normalize_axis};
use ir::scalar::{Binary, Unary};
use ir::tensor::for_each_index;
use ir::{DType, Dim, Scalar, Tensor, TensorType};

use crate::onnx::{ImportError, NodeView};
use crate::reference;
use crate::shape::reshape::reshape;

/// A function of each element of `x`.
pub struct Map(pub Unary);

impl Semantics for Map {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (f, x) = (self.0, cx.operands[0]);
        if !f.accepts(x.dtype) {
            cx.want_arithmetic(0, "x")?;
            let expected = expected(&|dtype| f.accepts(dtype));
            return Err(OpError::DType { operand: "x", expected, found: x.dtype });
        }
        Ok(vec![x.with_dtype(f.result(x.dtype))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let mut x = cx.operands[0].values();
        let next = |_: &[usize]| self.0.apply(x.next().expect("the result has the operand's shape"));
        Ok(vec![Tensor::from_fn(dtype, &shape, next)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let result = cx.results[0].dtype;
        cx.pointwise(|x| in_arithmetic(x, result, |x| Expr::unary(self.0, x[0].clone())))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let x = cx.operands[0].as_ref()?;
        let one = Dim::constant(1);
        let f: &dyn Fn(&Dim) -> Option<Dim> = match self.0 {
            Unary::Neg => &|d| Some(-d.clone()),
            Unary::Abs => &|d| match d.as_const() {
                Some(value) => Some(value.wrapping_abs().into()),
                None => is_nonnegative(d).then(|| d.clone()),
            },
            Unary::Not if cx.result.dtype == DType::Bool => &|d| Some(one.clone() - d.clone()),
            _ => return None,
        };
        x.iter().map(|d| wrapped(&f(d)?, cx.result.dtype)).collect()
    }

    fn is_elementwise(&self) -> bool {
        true
    }
}

/// A function of the elements of `a` and `b`.
pub struct Zip(pub Binary);

impl Semantics for Zip {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let f = self.0;
        let dtype = cx.common_dtype()?;
        if !f.accepts(dtype) {
            cx.want_arithmetic(0, "a")?;
            let expected = expected(&|dtype| f.accepts(dtype));
            return Err(OpError::DType { operand: "a", expected, found: dtype });
        }
        Ok(vec![TensorType::new(f.result(dtype), cx.broadcast()?)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (a, b) = (cx.operands[0], cx.operands[1]);
        let at = |i: &[usize]| self.0.apply(reference::broadcast_at(a, i), reference::broadcast_at(b, i));
        Ok(vec![Tensor::from_fn(dtype, &shape, at)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let result = cx.results[0].dtype;
        cx.pointwise(|x| in_arithmetic(x, result, |x| Expr::binary(self.0, x[0].clone(), x[1].clone())))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        broadcast_sizes(cx, |x| wrapped(&size_of(self.0, &x[0], &x[1])?, cx.result.dtype))
    }

    fn is_elementwise(&self) -> bool {
        true
    }
}

/// What a function accepts, in words.
fn expected(accepts: &dyn Fn(DType) -> bool) -> &'static str {
    match (accepts(DType::F32), accepts(DType::I32), accepts(DType::Bool)) {
        (true, true, true) => "any",
        (true, true, false) => "a number",
        (true, false, _) => "a float",
        (false, true, true) => "an integer or bool",
        (false, true, false) => "an integer",
        (false, false, _) => "bool",
    }
}

/// Is it at least 0 whatever the sizes are?
pub(crate) fn is_nonnegative(dim: &Dim) -> bool {
    Ranges::new().is_nonnegative(dim)
}

/// A size as an element of this type holds it: numbers wrap, and expressions fit the types that are meant for
/// sizes.
pub(crate) fn wrapped(size: &Dim, dtype: DType) -> Option<Dim> {
    match size.as_const() {
        Some(value) => Some(Scalar::from_i64(DType::I64, value).cast(dtype).to_i64().into()),
        None => matches!(dtype, DType::I32 | DType::I64 | DType::Bool).then(|| size.clone()),
    }
}

/// The elements of the result from those of operands that broadcast to it. An operand that is unknown makes
/// all unknown.
pub(crate) fn broadcast_sizes(cx: &Sizes, f: impl Fn(&[Dim]) -> Option<Dim>) -> Option<Vec<Dim>> {
    let shapes: Vec<Vec<usize>> = cx.types.iter().map(|ty| ty.fixed_shape()).collect::<Option<_>>()?;
    let operands: Vec<&Vec<Dim>> = cx.operands.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let mut result = Some(Vec::new());
    for_each_index(&cx.result.fixed_shape()?, |at| {
        let elements: Vec<Dim> = operands
            .iter()
            .zip(&shapes)
            .map(|(elements, shape)| {
                let at = &at[at.len() - shape.len()..];
                let position = at
                    .iter()
                    .zip(shape)
                    .fold(0, |position, (&i, &size)| position * size + if size == 1 { 0 } else { i });
                elements[position].clone()
            })
            .collect();
        result = result.take().and_then(|mut all| {
            all.push(f(&elements)?);
            Some(all)
        });
    });
    result
}

/// A function of two sizes, where its value is one for all values of the symbols. Truth values are 0 and 1.
fn size_of(f: Binary, a: &Dim, b: &Dim) -> Option<Dim> {
    let difference = a.clone() - b.clone();
    let one = Dim::constant(1);
    let truth = |holds: Option<bool>| holds.map(|holds| Dim::constant(i64::from(holds)));
    let less = |difference: &Dim| {
        if is_nonnegative(difference) {
            Some(false)
        } else {
            is_nonnegative(&(-difference.clone() - one.clone())).then_some(true)
        }
    };
    let equal = if difference.is(0) {
        Some(true)
    } else {
        let apart = |d: Dim| is_nonnegative(&(d - one.clone()));
        (apart(difference.clone()) || apart(-difference.clone())).then_some(false)
    };
    // Floor and truncation agree on numbers that are not negative.
    let by_positive = is_nonnegative(&(b.clone() - one.clone()));
    let divides = is_nonnegative(a) && by_positive;
    let numbers = a.as_const().zip(b.as_const());
    // Numbers wrap; coefficients stop at the largest, which is no polynomial of the sizes any more.
    let exact = |polynomial: Dim, of_numbers: fn(i64, i64) -> i64| {
        let fits = polynomial.terms().all(|(_, factor)| factor.unsigned_abs() < i64::MAX as u64);
        let wrapped = numbers.map(|(x, y)| of_numbers(x, y).into());
        wrapped.or_else(|| fits.then_some(polynomial))
    };
    match f {
        Binary::Add => exact(a.clone() + b.clone(), i64::wrapping_add),
        Binary::Sub => exact(difference, i64::wrapping_sub),
        Binary::Mul => exact(a.clone() * b.clone(), i64::wrapping_mul),
        Binary::Min => Some(a.smaller(b)),
        Binary::Max => Some(a.larger(b)),
        Binary::Div if divides => Some(a.floor_div(b)),
        // What is less than 0 by less than the divisor is truncated to 0: `(n − 1) / 4` where n is 0.
        Binary::Div if by_positive && is_nonnegative(&(a.clone() + b.clone() - one.clone())) => {
            Some(a.larger(&Dim::constant(0)).floor_div(b))
        }
        Binary::Rem | Binary::Mod if divides => Some(a.modulo(b)),
        Binary::Div | Binary::Rem | Binary::Mod => {
            let (x, y) = numbers.filter(|&(_, y)| y != 0)?;
            Some(Dim::constant(match f {
                Binary::Div => x.checked_div(y)?,
                Binary::Rem => x.checked_rem(y)?,
                _ => x.checked_rem(y)? + if x % y != 0 && (x < 0) != (y < 0) { y } else { 0 },
            }))
        }
        Binary::And if is_truth(a) && is_truth(b) => Some(a.clone() * b.clone()),
        Binary::Or if is_truth(a) && is_truth(b) => Some(a.larger(b)),
        Binary::Eq => truth(equal),
        Binary::Ne => truth(equal.map(|equal| !equal)),
        Binary::Lt => truth(less(&difference)),
        Binary::Ge => truth(less(&difference).map(|less| !less)),
        Binary::Gt => truth(less(&-difference)),
        Binary::Le => truth(less(&-difference).map(|less| !less)),
        _ => None,
    }
}

fn is_truth(dim: &Dim) -> bool {
    dim.is(0) || dim.is(1)
}

/// The two operands of an ONNX op, broadcasting as in numpy. Before opset 7, they had one shape, unless `broadcast` was
/// set: then the second stretched to the first, whose axes from `axis` on it had, or the last ones.
///
/// # Errors
/// A missing input; [`OpError::Size`] where sizes do not agree so; [`OpError::Axis`].
pub(crate) fn aligned(node: &NodeView, b: &mut Build) -> Result<[Value; 2], ImportError> {
    let inputs = node.inputs()?;
    let &[left, right] = inputs.as_slice() else {
        return Err(OpError::Arity { expected: "2".to_owned(), found: inputs.len() }.into());
    };
    if node.opset >= 7 {
        return Ok([left, right]);
    }
    let [wide, narrow] = [left, right].map(|value| b.ty(value).shape.clone());
    if !node.flag("broadcast", false)? {
        // It says nothing alone.
        node.ignore(&["axis"]);
        want_alike("B", &wide, &narrow)?;
        return Ok([left, right]);
    }
    let last = wide.len().checked_sub(narrow.len());
    let last = last.ok_or(OpError::Rank { operand: "B", expected: wide.len(), found: narrow.len() })?;
    let first = match node.int("axis")? {
        None => last,
        Some(axis) => normalize_axis(axis, wide.len())?,
    };
    let behind = last.checked_sub(first).ok_or(OpError::Axis { axis: first as i64, rank: last + 1 })?;
    for (size, other) in narrow.iter().zip(&wide[first..]) {
        if size != other && !size.is(1) {
            let (left, right) = (other.clone(), size.clone());
            return Err(OpError::Size { what: "operands do not broadcast", left, right }.into());
        }
    }
    let shape = [narrow, vec![Dim::constant(1); behind]].concat();
    Ok([left, reshape(b, right, shape)?])
}

/// Fails unless `operand` has the shape that is wanted, without broadcasting.
///
/// # Errors
/// [`OpError::Rank`], [`OpError::Size`].
pub(crate) fn want_alike(operand: &'static str, wanted: &[Dim], found: &[Dim]) -> Result<(), OpError> {
    if found.len() != wanted.len() {
        return Err(OpError::Rank { operand, expected: wanted.len(), found: found.len() });
    }
    match wanted.iter().zip(found).find(|(wanted, found)| wanted != found) {
        None => Ok(()),
        Some((left, right)) => {
            let (left, right) = (left.clone(), right.clone());
            Err(OpError::Size { what: "operands without broadcasting", left, right })
        }
    }
}

/// An ONNX op of any number of inputs, as a chain of `op`.
///
/// # Errors
/// A missing input, or what `op` says.
pub(crate) fn chain(node: &NodeView, b: &mut Build, op: &'static OpDef) -> Result<Value, ImportError> {
    let inputs = node.inputs()?;
    let first = node.input(0)?;
    inputs[1..].iter().try_fold(first, |sum, &x| Ok(b.op(op, &[sum, x])?))
}
