//! `unique(x) = values, first, inverse, counts, count`: the different elements of `x`, flattened, or its different
//! slices along `axis`.
//!
//! Value `g` stands first at index `first[g]`, and `counts[g]` times in all; index `i` holds value `inverse[i]`. Values
//! come in ascending order (slices by their first difference), or, unless `sorted`, in the order in which they stand
//! first. NaNs are one value, after all numbers; zeros of both signs are one value.
//!
//! Shapes: `x` of any type, with `n` elements (or slices); `values: [n]` (or the shape of `x`), `first`, `inverse` and
//! `counts: i64[n]`, `count: i64[]`. Only the first `count` entries of `values`, `first` and `counts` say something,
//! the others are 0. Errors: [`OpError::Axis`], [`OpError::Attribute`] for more than one axis. Source: ONNX Unique,
//! opset 11, whose results have `count` entries. Slices of several elements are compared each with each.

use std::cmp::Ordering;

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::dim::Symbol;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Sort, Stmt};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::scalar::{Binary, Unary};
use ir::tensor::for_each_index;
use ir::types::strides;
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::flow::as_size::as_size;
use crate::onnx::export::{Body, Emit, ToOnnx, function};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;
use crate::shape::slice::slice_axis;

/// The different elements, where they stand and how often.
pub static UNIQUE: OpDef = OpDef::new("unique", &["x"], &Unique)
    .attrs(&[AXIS.or(|| Attr::List(vec![])), SORTED.or(|| Attr::Bool(true))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Unique", import),
    by("Unique", |node, b| {
        let [values, _, inverse, counts] = found(b, node.input(0)?, None, false, node.op_type)?;
        Ok(vec![values, inverse, counts])
    })
    .in_domain("com.microsoft"),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Nodes(to_onnx));

/// The axis whose slices are compared; none compares the elements of `x`.
pub const AXIS: Key<Vec<i64>> = key("axis");

/// Do values come in ascending order? Else as they stand first.
pub const SORTED: Key<bool> = key("sorted");

struct Unique;

/// The axis, if one is given.
fn axis_of(axis: &[i64], rank: usize) -> Result<Option<usize>, OpError> {
    match axis {
        [] => Ok(None),
        [axis] => normalize_axis(*axis, rank).map(Some),
        _ => Err(OpError::Attribute { key: AXIS.name, why: "more than one axis" }),
    }
}

impl Semantics for Unique {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        cx.want_arithmetic(0, "x")?;
        let (values, n) = match axis_of(&cx.attrs.get(AXIS), x.rank())? {
            None => (x.with_shape([x.elements()]), x.elements()),
            Some(axis) => (x.clone(), x.shape[axis].clone()),
        };
        let each = TensorType::new(DType::I64, [n]);
        Ok(vec![values, each.clone(), each.clone(), each, TensorType::scalar(DType::I64)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let x = cx.operands[0];
        // Flattened, slices are elements.
        let axis = axis_of(&cx.attrs.get(AXIS), x.shape().len())?;
        let x = if axis.is_some() { x.clone() } else { x.reshaped(&shape).expect("as many elements") };
        let axis = axis.unwrap_or(0);
        let n = shape[axis];
        let mut slices: Vec<Vec<Scalar>> = vec![vec![]; n];
        for_each_index(&shape, |at| slices[at[axis]].push(x.at(at)));
        let compare = |a: usize, b: usize| {
            let pairs = slices[a].iter().zip(&slices[b]);
            pairs.map(|(a, b)| a.order(*b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        let mut first: Vec<usize> = Vec::new();
        for i in 0..n {
            if !first.iter().any(|&value| compare(value, i).is_eq()) {
                first.push(i);
            }
        }
        if cx.attrs.get(SORTED) {
            first.sort_by(|&a, &b| compare(a, b));
        }
        let group = |i: usize| {
            first.iter().position(|&value| compare(value, i).is_eq()).expect("each is one of them")
        };
        let numbers = |values: Vec<usize>| {
            let number = |at: &[usize]| values.get(at[0]).copied().unwrap_or(0) as i64;
            Tensor::from_fn(DType::I64, &[n], |at| Scalar::from_i64(DType::I64, number(at)))
        };
        let values = Tensor::from_fn(dtype, &shape, |at| match first.get(at[axis]) {
            None => Scalar::from_i64(dtype, 0),
            Some(&from) => {
                let mut at = at.to_vec();
                at[axis] = from;
                x.at(&at)
            }
        });
        let inverse: Vec<usize> = (0..n).map(group).collect();
        let counts = (0..first.len()).map(|g| inverse.iter().filter(|&&i| i == g).count()).collect();
        let count = Tensor::scalar(Scalar::from_i64(DType::I64, first.len() as i64));
        Ok(vec![values, numbers(first), numbers(inverse), numbers(counts), count])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let axis = axis_of(&cx.attrs.get(AXIS), cx.operands[0].rank()).ok()?;
        let mut body = Vec::new();
        let keys = Keys::new(cx, axis, &mut body);
        let order = keys.order(cx, &mut body);
        keys.clear(cx, &mut body);
        keys.groups(cx, &order, &mut body);
        cx.loops(KernelKind::Sort, body)
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        reference::of_numbers(self, cx)
    }
}

fn number(value: i64) -> Expr {
    Dim::constant(value).into()
}

/// A scalar of the loops: no size is called so.
fn scalar(name: &str) -> Symbol {
    Symbol::new(format!("unique.{name}"))
}

fn variable(name: &str) -> Expr {
    Expr::var(scalar(name), DType::I64)
}

fn start(name: &str, init: Expr) -> Stmt {
    Stmt::Var { name: scalar(name), init }
}

fn set(name: &str, value: Expr) -> Stmt {
    Stmt::Set { name: scalar(name), value }
}

fn bind(name: &str, value: Expr) -> Stmt {
    Stmt::Let { name: scalar(name), value }
}

fn when(cond: Expr, then: Vec<Stmt>) -> Stmt {
    Stmt::If { cond, then }
}

/// An array of `i64` over the slices: a result or scratch memory.
struct Numbers(Symbol);

impl Numbers {
    fn at(&self, i: Expr) -> Expr {
        Expr::load(self.0.clone(), DType::I64, [i])
    }

    fn put(&self, i: Expr, value: Expr) -> Stmt {
        Stmt::Store { target: self.0.clone(), at: vec![i], value }
    }
}

/// `a` comes before `b`: as [`Scalar::order`] has it.
fn comes_before(a: &Expr, b: &Expr) -> Expr {
    let less = a.clone().less(b.clone());
    if !a.dtype().is_float() {
        return less;
    }
    let number = Expr::unary(Unary::Not, Expr::unary(Unary::IsNan, a.clone()));
    Expr::binary(Binary::Or, less, number.and(Expr::unary(Unary::IsNan, b.clone())))
}

/// What is compared: `keys[i, …]` is slice `i`.
struct Keys {
    name: Symbol,
    dtype: DType,
    n: Dim,
    /// The sizes of a slice; none if it is an element.
    slice: Vec<Dim>,
    /// Where the axis stands in the values.
    axis: usize,
    first: Numbers,
    inverse: Numbers,
    counts: Numbers,
}

impl Keys {
    /// The keys; they are copied where `x` does not hold them as they are compared.
    fn new(cx: &mut Lower, axis: Option<usize>, body: &mut Vec<Stmt>) -> Keys {
        let x = cx.operands[0].clone();
        let n = cx.results[1].shape[0].clone();
        let slice: Vec<Dim> = match axis {
            None => vec![],
            Some(axis) => {
                let others: Vec<Dim> = [&x.shape[..axis], &x.shape[axis + 1..]].concat();
                if others.iter().all(|size| size.is(1)) { vec![] } else { others }
            }
        };
        let name = if x.rank() == 1 {
            Lower::operand_name(0)
        } else {
            let ty = x.with_shape([n.clone()].into_iter().chain(slice.iter().cloned()));
            let name = cx.scratch(ty);
            body.extend(cx.each_index(&x.shape, |cx, at| {
                let place = at.iter().zip(strides(&x.shape)).map(|(i, stride)| i.clone() * stride);
                let to: Vec<Dim> = match axis {
                    None => vec![place.sum()],
                    Some(axis) if slice.is_empty() => vec![at[axis].clone()],
                    Some(axis) => [&at[axis..=axis], &at[..axis], &at[axis + 1..]].concat(),
                };
                let value = cx.load(0, at.iter().map(Expr::from));
                vec![Stmt::Store {
                    target: name.clone(),
                    at: to.into_iter().map(Expr::from).collect(),
                    value,
                }]
            }));
            name
        };
        let [first, inverse, counts] = [1, 2, 3].map(|result| Numbers(Lower::result_name(result)));
        Keys { name, dtype: x.dtype, n, slice, axis: axis.unwrap_or(0), first, inverse, counts }
    }

    fn at(&self, i: Expr, rest: &[Dim]) -> Expr {
        Expr::load(self.name.clone(), self.dtype, [i].into_iter().chain(rest.iter().map(Expr::from)))
    }

    fn scratch(&self, cx: &mut Lower) -> Numbers {
        Numbers(cx.scratch(TensorType::new(DType::I64, [self.n.clone()])))
    }

    /// A loop over the slices.
    fn each(&self, cx: &mut Lower, body: impl FnOnce(&mut Lower, &Dim) -> Vec<Stmt>) -> Vec<Stmt> {
        cx.each_index(std::slice::from_ref(&self.n), |cx, at| body(cx, &at[0]))
    }

    /// The slices in ascending order, equal ones by their index.
    fn order(&self, cx: &mut Lower, body: &mut Vec<Stmt>) -> Numbers {
        let order = self.scratch(cx);
        if self.slice.is_empty() {
            let keys = TensorType::new(self.dtype, [self.n.clone()]);
            let scratch = cx.scratch(Sort::scratch_type(&keys, 0));
            let (keys, positions) = (self.name.clone(), Some(order.0.clone()));
            let sort = Sort { keys, axis: 0, descending: false, values: None, positions, scratch };
            body.push(Stmt::Sort(Box::new(sort)));
            return order;
        }
        // The place of a slice is the number of those before it. The array for `inverse` holds it until it is needed.
        body.extend(self.each(cx, |cx, i| {
            let mut count = vec![start("place", number(0))];
            count.extend(self.each(cx, |cx, j| {
                let mut compare = vec![start("sign", number(0))];
                compare.extend(cx.each_index(&self.slice, |_, rest| {
                    let (a, b) = (self.at(j.into(), rest), self.at(i.into(), rest));
                    let differ = vec![
                        when(comes_before(&a, &b), vec![set("sign", number(-1))]),
                        when(comes_before(&b, &a), vec![set("sign", number(1))]),
                    ];
                    vec![when(variable("sign").equals(number(0)), differ)]
                }));
                let tie = variable("sign").equals(number(0)).and(Expr::from(j).less(i.into()));
                let before = Expr::binary(Binary::Or, variable("sign").less(number(0)), tie);
                compare.push(when(before, vec![set("place", variable("place") + number(1))]));
                compare
            }));
            count.push(self.inverse.put(i.into(), variable("place")));
            count
        }));
        body.extend(self.each(cx, |_, i| vec![order.put(self.inverse.at(i.into()), i.into())]));
        order
    }

    /// Zeros for the entries that say nothing.
    fn clear(&self, cx: &mut Lower, body: &mut Vec<Stmt>) {
        let values = cx.results[0].clone();
        body.extend(cx.each_index(&values.shape, |_, at| {
            let value = Expr::constant(Scalar::from_i64(values.dtype, 0));
            vec![Stmt::Store {
                target: Lower::result_name(0),
                at: at.iter().map(Expr::from).collect(),
                value,
            }]
        }));
        body.extend(self.each(cx, |_, i| {
            vec![self.first.put(i.into(), number(0)), self.counts.put(i.into(), number(0))]
        }));
    }

    /// Numbers the values as they are met in `order`, and, unless they shall be sorted, again as they stand in `x`.
    fn groups(&self, cx: &mut Lower, order: &Numbers, body: &mut Vec<Stmt>) {
        let sorted = cx.attrs.get(SORTED);
        let first = if sorted { Numbers(self.first.0.clone()) } else { self.scratch(cx) };
        body.push(start("count", number(0)));
        body.extend(self.each(cx, |cx, i| {
            let same = Expr::var(scalar("same"), DType::Bool);
            let truth = |value| Expr::constant(Scalar::bool(value));
            let mut compare = vec![
                bind("before", order.at((i.clone() - Dim::constant(1)).into())),
                set("same", truth(true)),
            ];
            compare.extend(cx.each_index(&self.slice, |_, rest| {
                let (a, b) = (self.at(variable("before"), rest), self.at(variable("here"), rest));
                vec![when(comes_before(&a, &b), vec![set("same", truth(false))])]
            }));
            let mut new = vec![first.put(variable("count"), variable("here"))];
            if sorted {
                new.extend(self.copy(cx, variable("count"), variable("here")));
            }
            new.push(set("count", variable("count") + number(1)));
            let mut each = vec![
                bind("here", order.at(i.into())),
                start("same", truth(false)),
                when(number(1).at_most(i.into()), compare),
                when(Expr::unary(Unary::Not, same), new),
                bind("group", variable("count") - number(1)),
                self.inverse.put(variable("here"), variable("group")),
            ];
            if sorted {
                each.push(self.count_one());
            }
            each
        }));
        body.push(Stmt::Store { target: Lower::result_name(4), at: vec![], value: variable("count") });
        if sorted {
            return;
        }
        // In the order of `x`, a value is met first at its first index.
        let renamed = self.scratch(cx);
        body.push(start("met", number(0)));
        body.extend(self.each(cx, |cx, i| {
            let mut new = vec![
                renamed.put(variable("old"), variable("met")),
                self.first.put(variable("met"), i.into()),
            ];
            new.extend(self.copy(cx, variable("met"), i.into()));
            new.push(set("met", variable("met") + number(1)));
            vec![
                bind("old", self.inverse.at(i.into())),
                when(first.at(variable("old")).equals(i.into()), new),
                bind("group", renamed.at(variable("old"))),
                self.inverse.put(i.into(), variable("group")),
                self.count_one(),
            ]
        }));
    }

    /// `counts[group] += 1`.
    fn count_one(&self) -> Stmt {
        self.counts.put(variable("group"), self.counts.at(variable("group")) + number(1))
    }

    /// Value `to` is slice `from`.
    fn copy(&self, cx: &mut Lower, to: Expr, from: Expr) -> Vec<Stmt> {
        let units = cx.results[0].rank() - 1 - self.slice.len();
        cx.each_index(&self.slice, |_, rest| {
            let mut at: Vec<Expr> = vec![number(0); units];
            at.extend(rest.iter().map(Expr::from));
            at.insert(self.axis, to);
            vec![Stmt::Store { target: Lower::result_name(0), at, value: self.at(from, rest) }]
        })
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let sorted = node.flag("sorted", true)?;
    Ok(found(b, node.input(0)?, node.int("axis")?, sorted, node.op_type)?.into())
}

/// The four results of ONNX: values, where they stand first, which value each element has, and how often each occurs.
fn found(
    b: &mut Build,
    x: Value,
    axis: Option<i64>,
    sorted: bool,
    name: &str,
) -> Result<[Value; 4], ImportError> {
    let attrs = [AXIS.is(axis.into_iter().collect()), SORTED.is(sorted)];
    let results = b.ops_with(&UNIQUE, &[x], attrs)?;
    let (axis, n) =
        (axis_of(&axis.into_iter().collect::<Vec<_>>(), b.ty(x).rank())?, b.ty(results[1]).elements());
    let count = as_size(b, results[4], name, Some(n))?;
    let mut part =
        |result: usize, axis: usize| slice_axis(b, results[result], axis, Dim::constant(0), count.clone());
    Ok([part(0, axis.unwrap_or(0))?, part(1, 0)?, results[2], part(3, 0)?])
}

/// The results of ONNX with zeros behind them, and their number.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let own = e.ty(0).dtype;
    let taken = match own {
        DType::F32 | DType::F64 | DType::I64 | DType::I8 => own,
        dtype if dtype.is_float() => DType::F32,
        _ => DType::I64,
    };
    let axis = axis_of(&e.attrs.get(AXIS), e.ty(0).rank()).ok()?;
    let mut how = vec![("sorted", NodeAttr::Int(e.attrs.get(SORTED).into()))];
    how.extend(axis.map(|axis| ("axis", NodeAttr::Int(axis as i64))));
    let x = e.cast(e.x(0), own, taken);
    let found = e.nodes("Unique", &[x], 4, how);
    let count = e.node("Shape", &[&found[1]]);
    let (all, first) = (e.sizes(&e.result(1).shape), e.ints(&[0]));
    let rest = e.node("Sub", &[&all, &count]);
    let grown = |e: &mut Emit, x: &str, rank: usize, axis: usize, dtype: DType| {
        let (before, after) = (e.ints(&vec![0; rank + axis]), e.ints(&vec![0; rank - axis - 1]));
        let amounts = e.node_with("Concat", &[&before, &rest, &after], vec![("axis", NodeAttr::Int(0))]);
        let zero = e.number(dtype, 0.0);
        e.node("Pad", &[x, &amounts, &zero])
    };
    let values = grown(e, &found[0], e.result(0).rank(), axis.unwrap_or(0), taken);
    let (firsts, counts) = (grown(e, &found[1], 1, 0, DType::I64), grown(e, &found[3], 1, 0, DType::I64));
    let values = e.cast(values, taken, own);
    let count = e.node("Squeeze", &[count, first]);
    Some(vec![values, firsts, found[2].clone(), counts, count])
}
