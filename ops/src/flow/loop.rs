//! `loop(c?, x…, captures…)`: a graph, repeatedly, with what it gives in one iteration taken in the next.
//!
//! The body takes `carried` values and the captures, may use `index` (0, 1, …) as a size, and gives the next condition
//! (if `cond`), the next carried values, and one element for each stack. It runs at most `count` times (−1: no limit)
//! and, with `cond`, as long as the condition holds. Results: the carried values at the end, then the stacks, each with
//! the number of iterations as its first axis.
//!
//! Shapes: carried values keep element type and rank. A size that changes is a symbol of the body's inputs, listed in
//! `names`; it means the value at the end outside. With `cond`, the first of `names` is the number of iterations.
//! Elements of stacks have sizes that don't change. Errors: [`OpError::DType`], [`OpError::DTypes`],
//! [`OpError::Rank`], [`OpError::Size`], [`OpError::Attribute`]. Source: ONNX Loop, opset 25; Scan, opset 25.

use std::sync::Arc;

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::{Graph, Value, eval_in};
use ir::op::{Eval, Flow, Infer, OpError, Semantics};
use ir::{DType, Dim, OpDef, Scalar, Symbol, Tensor, TensorType};

use super::{NAMES, SIZES, agree, check_names, decided, none};
use crate::onnx::Import;

/// A graph, repeatedly.
pub static LOOP: OpDef = OpDef::variadic("loop", "operands", 0, &Loop).attrs(&[
    BODY.spec(),
    INDEX.spec(),
    COUNT.or(|| Attr::Int(-1)),
    COND.or(|| Attr::Bool(false)),
    CARRIED.spec(),
    NAMES.or(none),
    SIZES.or(none),
]);

/// The importer makes it: it knows what the body captures.
pub static ONNX: &[Import] = &[];

/// What runs.
pub const BODY: Key<Arc<Graph>> = key("body");

/// The name of the number of the iteration, in the body.
pub const INDEX: Key<String> = key("index");

/// How often it runs at most; −1 for no limit.
pub const COUNT: Key<Dim> = key("count");

/// Does a condition end it?
pub const COND: Key<bool> = key("cond");

/// How many values it carries.
pub const CARRIED: Key<i64> = key("carried");

struct Loop;

/// The parts of a loop by position.
struct Parts {
    body: Arc<Graph>,
    cond: usize,
    carried: usize,
    trips: Dim,
}

impl Parts {
    fn of(attrs: &Attrs) -> Result<Parts, OpError> {
        let cond = attrs.get(COND);
        let carried = usize::try_from(attrs.get(CARRIED))
            .map_err(|_| OpError::Attribute { key: CARRIED.name, why: "is a number of values" })?;
        let count = attrs.get(COUNT);
        let trips = match (cond, attrs.get(SIZES).first()) {
            (false, _) if count.is(-1) => {
                return Err(OpError::Attribute { key: COUNT.name, why: "nothing ends the loop" });
            }
            (false, _) => count,
            (true, Some(trips)) => trips.clone(),
            (true, None) => {
                return Err(OpError::Attribute {
                    key: SIZES.name,
                    why: "the number of iterations is missing",
                });
            }
        };
        Ok(Parts { body: attrs.get(BODY), cond: usize::from(cond), carried, trips })
    }
}

impl Semantics for Loop {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        check_names(cx.attrs)?;
        let Parts { body, cond, carried, trips } = Parts::of(cx.attrs)?;
        let (inputs, outputs) = (body.inputs(), body.outputs());
        let parts = "the body takes or gives another number of values";
        if inputs.len() + cond != cx.operands.len()
            || inputs.len() < carried
            || outputs.len() < cond + carried
        {
            return Err(OpError::Attribute { key: BODY.name, why: parts });
        }
        if cond == 1 {
            for (operand, ty) in [("c", cx.operands[0]), ("body", body.ty(outputs[0]))] {
                if ty.dtype != DType::Bool {
                    return Err(OpError::DType { operand, expected: "bool as a condition", found: ty.dtype });
                }
                if ty.rank() != 0 {
                    return Err(OpError::Rank { operand, expected: 0, found: ty.rank() });
                }
            }
        }
        let sizes = cx.attrs.get(SIZES);
        let changing = &sizes[cond.min(sizes.len())..];
        let mut results = Vec::new();
        for (i, (&input, given)) in inputs.iter().zip(&cx.operands[cond..]).enumerate() {
            let ty = &body.node(input).types[0];
            let free = if i < carried { changing } else { &[] };
            agree("what a loop takes", given, ty, free)?;
            if i < carried {
                agree("what a loop carries", body.ty(outputs[cond + i]), ty, changing)?;
                results.push(ty.clone());
            }
        }
        let index = Symbol::new(cx.attrs.get(INDEX));
        for &output in &outputs[cond + carried..] {
            let ty = body.ty(output);
            let varies = |dim: &Dim| {
                dim.mentions(&index)
                    || changing.iter().any(|size| size.as_symbol().is_some_and(|s| dim.mentions(s)))
            };
            if let Some(size) = ty.shape.iter().find(|dim| varies(dim)) {
                let (left, right) = (size.clone(), trips.clone());
                return Err(OpError::Size { what: "elements of a stack change their size", left, right });
            }
            results.push(ty.with_shape(std::iter::once(trips.clone()).chain(ty.shape.iter().cloned())));
        }
        Ok(results)
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let Parts { body, cond, carried, .. } = Parts::of(cx.attrs)?;
        let mut sizes = cx.sizes.clone();
        for name in cx.attrs.get(NAMES) {
            sizes.remove(&Symbol::new(name));
        }
        let count = cx.attrs.get(COUNT);
        let count = match count.is(-1) {
            true => i64::MAX,
            false => count.eval(&|symbol| sizes.get(symbol).copied()).ok_or(OpError::Attribute {
                key: COUNT.name,
                why: "a size that no input of the graph fixes",
            })?,
        };
        let index = Symbol::new(cx.attrs.get(INDEX));
        let mut values: Vec<Tensor> = cx.operands[cond..].iter().map(|&x| x.clone()).collect();
        let mut goes_on = cond == 0 || cx.operands[0].get(0).to_bool();
        let stacks = body.outputs().split_off(cond + carried);
        let mut elements: Vec<Vec<Tensor>> = vec![Vec::new(); stacks.len()];
        let mut trips = 0;
        while goes_on && trips < count {
            sizes.insert(index.clone(), trips);
            let (outputs, _) = eval_in(&body, &values, &sizes).map_err(|at| at.error)?;
            let mut outputs = outputs.into_iter();
            if cond == 1 {
                goes_on = outputs.next().is_some_and(|c| c.get(0).to_bool());
            }
            for (value, next) in values[..carried].iter_mut().zip(&mut outputs) {
                *value = next;
            }
            elements.iter_mut().zip(outputs).for_each(|(stack, element)| stack.push(element));
            trips += 1;
        }
        values.truncate(carried);
        for (stack, &value) in elements.iter().zip(&stacks) {
            let ty = body.ty(value);
            let shape = match stack.first() {
                Some(element) => element.shape().to_vec(),
                None => {
                    let size = |dim: &Dim| dim.eval(&|symbol| cx.sizes.get(symbol).copied());
                    ty.shape.iter().map(|dim| size(dim).unwrap_or(0).max(0) as usize).collect()
                }
            };
            values.push(stacked(ty.dtype, stack, &shape)?);
        }
        Ok(values)
    }

    fn flow(&self, attrs: &Attrs) -> Option<Flow> {
        let Parts { body, cond, carried, trips } = Parts::of(attrs).ok()?;
        let count = Some(attrs.get(COUNT)).filter(|count| !count.is(-1));
        let index = Symbol::new(attrs.get(INDEX));
        Some(Flow::Loop { body, index, count, cond: cond == 1, carried, trips, sizes: decided(attrs) })
    }
}

/// The elements behind each other.
fn stacked(dtype: DType, elements: &[Tensor], shape: &[usize]) -> Result<Tensor, OpError> {
    if let Some(other) = elements.iter().find(|element| element.shape() != shape) {
        let sizes = |shape: &[usize]| Dim::from(shape.iter().product::<usize>());
        let (left, right) = (sizes(shape), sizes(other.shape()));
        return Err(OpError::Size { what: "elements of a stack", left, right });
    }
    let whole: Vec<usize> = std::iter::once(elements.len()).chain(shape.iter().copied()).collect();
    let mut all = elements.iter().flat_map(Tensor::values);
    Ok(Tensor::from_fn(dtype, &whole, |_| all.next().unwrap_or(Scalar::from_bits(dtype, 0))))
}

/// A loop in the making.
pub struct Repeat {
    /// What runs: inputs are what it carries, then captures.
    pub body: Graph,
    /// The number of the iteration, in the body.
    pub index: Symbol,
    /// How often at most.
    pub count: Option<Dim>,
    /// The first condition, if one ends it.
    pub cond: Option<Value>,
    /// What it carries first.
    pub carried: Vec<Value>,
    /// What the body takes besides.
    pub captures: Vec<Value>,
    /// Symbols of the body's inputs that change.
    pub changing: Vec<Symbol>,
}

/// The results of a loop: what it carries last, then stacks. `wanted` names the number of iterations.
///
/// # Errors
/// Parts that do not go together.
pub fn repeat(b: &mut Build, parts: Repeat, wanted: &str) -> Result<Vec<Value>, OpError> {
    let mut names = Vec::new();
    if parts.cond.is_some() {
        names.push(b.fresh_symbol(wanted));
    }
    names.extend(parts.changing);
    let sizes: Vec<Dim> = names.iter().map(Dim::from).collect();
    let mut operands: Vec<Value> = parts.cond.into_iter().collect();
    operands.extend(&parts.carried);
    operands.extend(&parts.captures);
    let attrs = [
        BODY.is(Arc::new(parts.body)),
        INDEX.is(parts.index.to_string()),
        COUNT.is(parts.count.unwrap_or_else(|| Dim::constant(-1))),
        COND.is(parts.cond.is_some()),
        CARRIED.is(parts.carried.len() as i64),
        NAMES.is(names.iter().map(ToString::to_string).collect()),
        SIZES.is(sizes),
    ];
    b.ops_with(&LOOP, &operands, attrs)
}
