//! `if(c, captures…)`: the results of `then` if `c` holds, else those of `else`; only one of them is computed.
//!
//! Shapes: `c: bool[]`; `then` takes the first `taken` captures, `else` the others; both give results of equal element
//! types and ranks. Where sizes
//! of a result differ, it has a size that is decided here: the next of `names`, in the order of results and axes.
//! Errors: [`OpError::DType`], [`OpError::DTypes`], [`OpError::Rank`], [`OpError::Size`], [`OpError::Attribute`].
//! Source: ONNX If, opset 25.

use std::sync::Arc;

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::{Graph, Value, eval_in};
use ir::op::{Eval, Flow, Infer, OpError, Semantics};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use super::{NAMES, SIZES, agree, check_names, decided, none};
use crate::onnx::Import;

/// One of two graphs.
pub static IF: OpDef = OpDef::variadic("if", "captures", 1, &If).attrs(&[
    THEN.spec(),
    ELSE.spec(),
    TAKEN.or(|| Attr::Int(0)),
    NAMES.or(none),
    SIZES.or(none),
]);

/// The importer makes it: it knows what the bodies capture.
pub static ONNX: &[Import] = &[];

/// What runs if the condition holds.
pub const THEN: Key<Arc<Graph>> = key("then");

/// What runs if it does not.
pub const ELSE: Key<Arc<Graph>> = key("else");

/// How many captures `then` takes.
pub const TAKEN: Key<i64> = key("taken");

struct If;

impl Semantics for If {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let c = cx.operands[0];
        if c.dtype != DType::Bool {
            return Err(OpError::DType { operand: "c", expected: "bool", found: c.dtype });
        }
        cx.want_rank(0, "c", 0)?;
        check_names(cx.attrs)?;
        let (then, otherwise) = (cx.attrs.get(THEN), cx.attrs.get(ELSE));
        let captures = &cx.operands[1..];
        let taken = usize::try_from(cx.attrs.get(TAKEN)).ok().filter(|taken| *taken <= captures.len());
        let taken =
            taken.ok_or(OpError::Attribute { key: TAKEN.name, why: "there are not as many captures" })?;
        for (graph, captures) in [(&then, &captures[..taken]), (&otherwise, &captures[taken..])] {
            if graph.inputs().len() != captures.len() {
                let why = "a body takes another number of captures";
                return Err(OpError::Attribute { key: TAKEN.name, why });
            }
            for (input, given) in graph.inputs().iter().zip(captures) {
                agree("a capture", given, &graph.node(*input).types[0], &[])?;
            }
        }
        let mut sizes = cx.attrs.get(SIZES).into_iter();
        let results = joined(&then, &otherwise, &mut || sizes.next())?;
        if sizes.next().is_some() {
            return Err(OpError::Attribute { key: SIZES.name, why: "there are more than sizes that differ" });
        }
        Ok(results)
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let holds = cx.operands[0].get(0).to_bool();
        let (body, taken) = (cx.attrs.get(if holds { THEN } else { ELSE }), cx.attrs.get(TAKEN) as usize);
        let captures = if holds { &cx.operands[1..=taken] } else { &cx.operands[taken + 1..] };
        let captures: Vec<Tensor> = captures.iter().map(|&x| x.clone()).collect();
        Ok(eval_in(&body, &captures, cx.sizes).map_err(|at| at.error)?.0)
    }

    fn flow(&self, attrs: &Attrs) -> Option<Flow> {
        let (then, otherwise) = (attrs.get(THEN), attrs.get(ELSE));
        Some(Flow::If { then, otherwise, taken: attrs.get(TAKEN) as usize, sizes: decided(attrs) })
    }
}

/// The types of the results: `next` gives a size where those of the two bodies differ.
fn joined(
    then: &Graph,
    otherwise: &Graph,
    next: &mut dyn FnMut() -> Option<Dim>,
) -> Result<Vec<TensorType>, OpError> {
    let (a, b) = (then.outputs(), otherwise.outputs());
    if a.len() != b.len() {
        return Err(OpError::Attribute {
            key: ELSE.name,
            why: "the bodies differ in their number of results",
        });
    }
    let mut results = Vec::with_capacity(a.len());
    for (a, b) in a.iter().zip(&b) {
        let (a, b) = (then.ty(*a), otherwise.ty(*b));
        if a.dtype != b.dtype {
            return Err(OpError::DTypes { left: a.dtype, right: b.dtype });
        }
        if a.rank() != b.rank() {
            return Err(OpError::Rank { operand: "else", expected: a.rank(), found: b.rank() });
        }
        let mut shape = Vec::with_capacity(a.rank());
        for (left, right) in a.shape.iter().zip(&b.shape) {
            shape.push(if left == right {
                left.clone()
            } else {
                let missing =
                    || OpError::Size { what: "results of if", left: left.clone(), right: right.clone() };
                next().ok_or_else(missing)?
            });
        }
        results.push(a.with_shape(shape));
    }
    Ok(results)
}

/// A body with what it captures.
pub struct Body {
    /// The graph; its inputs are the captures.
    pub graph: Graph,
    /// What it captures.
    pub captures: Vec<Value>,
}

/// The results of `then` if `c` holds, else of `otherwise`.
///
/// # Errors
/// Bodies that do not go together.
pub fn branch(
    b: &mut Build,
    c: Value,
    then: Body,
    otherwise: Body,
    wanted: &str,
) -> Result<Vec<Value>, OpError> {
    let mut names = Vec::new();
    joined(&then.graph, &otherwise.graph, &mut || {
        let symbol = b.fresh_symbol(wanted);
        names.push(symbol);
        names.last().map(Dim::from)
    })?;
    let sizes: Vec<Dim> = names.iter().map(Dim::from).collect();
    let operands: Vec<Value> =
        [c].into_iter().chain(then.captures.iter().chain(&otherwise.captures).copied()).collect();
    let attrs = [
        THEN.is(Arc::new(then.graph)),
        ELSE.is(Arc::new(otherwise.graph)),
        TAKEN.is(then.captures.len() as i64),
        NAMES.is(names.iter().map(ToString::to_string).collect()),
        SIZES.is(sizes),
    ];
    b.ops_with(&IF, &operands, attrs)
}
