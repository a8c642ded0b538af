//! Graphs by evaluation on host tensors: the meaning of everything else.

use std::collections::BTreeMap;

use super::{Graph, Kind, NodeId};
use crate::dim::{Dim, Symbol};
use crate::op::{Eval, Flow, OpError};
use crate::origin::{At, Origin};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The values of symbols.
pub type SizeValues = BTreeMap<Symbol, i64>;

/// Evaluates a graph on host tensors: the meaning of everything else.
///
/// Symbols are bound by the inputs' shapes, and by nodes that decide sizes; sizes in attributes are replaced by their
/// values before an op sees them.
///
/// # Errors
/// An input that does not fit its type, or what an op says of its operands.
pub fn eval(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, At<OpError>> {
    Ok(eval_all(graph, inputs)?.0)
}

/// The values of all nodes, by node.
pub type Trace = BTreeMap<NodeId, Vec<Tensor>>;

/// Like [`eval`], and gives the value of every node, too.
///
/// # Errors
/// As [`eval`].
pub fn eval_all(graph: &Graph, inputs: &[Tensor]) -> Result<(Vec<Tensor>, Trace), At<OpError>> {
    let (outputs, trace, _) = run(graph, inputs, &SizeValues::new())?;
    Ok((outputs, trace))
}

/// Evaluates a nested graph: `outer` are the values of sizes around it. Gives those inside, too.
///
/// # Errors
/// As [`eval`].
pub fn eval_in(
    graph: &Graph,
    inputs: &[Tensor],
    outer: &SizeValues,
) -> Result<(Vec<Tensor>, SizeValues), At<OpError>> {
    let (outputs, _, sizes) = run(graph, inputs, outer)?;
    Ok((outputs, sizes))
}

fn run(
    graph: &Graph,
    inputs: &[Tensor],
    outer: &SizeValues,
) -> Result<(Vec<Tensor>, Trace, SizeValues), At<OpError>> {
    let nowhere = |error| At { node: None, origin: Origin::none(), error };
    if inputs.len() != graph.inputs().len() {
        let expected = graph.inputs().len().to_string();
        return Err(nowhere(OpError::Arity { expected, found: inputs.len() }));
    }
    let mut sizes = bind_in(graph, inputs, outer)?;
    let mut trace = Trace::new();
    for (&id, tensor) in graph.inputs().iter().zip(inputs) {
        trace.insert(id, vec![tensor.clone()]);
    }
    for id in graph.order() {
        let node = graph.node(id);
        let results = match &node.kind {
            Kind::Input(_) => continue,
            Kind::Weight(weight) => vec![weight.tensor()],
            Kind::Op { def, attrs } => {
                let operands: Vec<&Tensor> =
                    graph.operands(id).into_iter().map(|v| &trace[&v.node][v.result]).collect();
                let flow = def.semantics.flow(attrs);
                let with = |symbol: &Symbol| sizes.get(symbol).map(|&size| Dim::constant(size));
                let attrs = match &flow {
                    Some(_) => attrs.clone(),
                    None => attrs.substitute(&with).map_err(|error| graph.at(id, error))?,
                };
                let cx = Eval { operands: &operands, attrs: &attrs, sizes: &sizes };
                let results = def.semantics.eval(&cx).map_err(|error| graph.at(id, error))?;
                if let Some(flow) = flow {
                    decide(&flow, &node.types, &results, &mut sizes).map_err(|error| graph.at(id, error))?;
                }
                results
            }
        };
        trace.insert(id, results);
    }
    let outputs = graph.outputs().into_iter().map(|v| trace[&v.node][v.result].clone()).collect();
    Ok((outputs, trace, sizes))
}

/// The symbols that a node decides get their values from its results; other sizes are compared.
fn decide(
    flow: &Flow,
    types: &[TensorType],
    results: &[Tensor],
    sizes: &mut SizeValues,
) -> Result<(), OpError> {
    // The symbols of an earlier evaluation, in a loop, are no longer what they were.
    for symbol in flow.decides() {
        sizes.remove(&symbol);
    }
    let mut pairs: Vec<(Dim, i64)> = Vec::new();
    if let Flow::Size { size, bound, .. } = flow {
        let found = results[0].get(0).to_i64();
        if found < 0 {
            let (left, right) = (found.into(), Dim::constant(0));
            return Err(OpError::Size { what: "a size that is computed at run time", left, right });
        }
        pairs.push((size.clone(), found));
        if let Some(bound) = bound.as_ref().and_then(|bound| bound.eval(&|s| sizes.get(s).copied()))
            && found > bound
        {
            let (left, right) = (found.into(), bound.into());
            return Err(OpError::Size { what: "a size that is computed at run time", left, right });
        }
    } else {
        for (ty, tensor) in types.iter().zip(results) {
            let found = tensor.shape().iter().map(|&size| size as i64);
            pairs.extend(ty.shape.iter().cloned().zip(found));
        }
    }
    pairs.iter().for_each(|(dim, size)| solve(dim, *size, sizes));
    let mismatch = |(dim, size): &&(Dim, i64)| dim.eval(&|symbol| sizes.get(symbol).copied()) != Some(*size);
    match pairs.iter().find(mismatch) {
        None => Ok(()),
        Some((dim, size)) => {
            let (left, right) = (dim.clone(), Dim::constant(*size));
            Err(OpError::Size { what: "a size that is decided at run time", left, right })
        }
    }
}

/// The value of every symbol that the inputs' shapes fix.
///
/// # Errors
/// An input whose element type, rank or sizes contradict its declared type.
pub fn bind(graph: &Graph, inputs: &[Tensor]) -> Result<SizeValues, At<OpError>> {
    bind_in(graph, inputs, &SizeValues::new())
}

/// As [`bind`], where some symbols have values already.
fn bind_in(graph: &Graph, inputs: &[Tensor], outer: &SizeValues) -> Result<SizeValues, At<OpError>> {
    let mut sizes = outer.clone();
    let pairs: Vec<(NodeId, &Tensor)> = graph.inputs().iter().copied().zip(inputs).collect();
    for &(id, tensor) in &pairs {
        let ty = &graph.node(id).types[0];
        if ty.dtype != tensor.dtype() {
            let error = OpError::DTypes { left: ty.dtype, right: tensor.dtype() };
            return Err(graph.at(id, error));
        }
        if ty.rank() != tensor.shape().len() {
            let (expected, found) = (ty.rank(), tensor.shape().len());
            return Err(graph.at(id, OpError::Rank { operand: "input", expected, found }));
        }
    }
    // Again while it helps: an expression may be solvable only once its other symbols are known.
    loop {
        let before = sizes.len();
        for &(id, tensor) in &pairs {
            for (dim, &size) in graph.node(id).types[0].shape.iter().zip(tensor.shape()) {
                solve(dim, size as i64, &mut sizes);
            }
        }
        if sizes.len() == before {
            break;
        }
    }
    for &(id, tensor) in &pairs {
        for (dim, &size) in graph.node(id).types[0].shape.iter().zip(tensor.shape()) {
            if dim.eval(&|symbol| sizes.get(symbol).copied()) != Some(size as i64) {
                let (left, right) = (dim.clone(), Dim::from(size));
                return Err(graph.at(id, OpError::Size { what: "size of an input", left, right }));
            }
        }
    }
    Ok(sizes)
}

/// Binds the one unknown symbol of `dim = size`, if `dim` is linear in it.
fn solve(dim: &Dim, size: i64, sizes: &mut SizeValues) {
    let known = dim.substitute(&|symbol| sizes.get(symbol).map(|&v| Dim::constant(v)));
    let mut unknown = None;
    known.for_each_symbol(&mut |symbol| unknown = Some(symbol.clone()));
    let Some(symbol) = unknown else { return };
    let Some((scale, offset)) = known.linear_in(&symbol) else { return };
    if let (Some(scale), Some(offset)) = (scale.as_const(), offset.as_const())
        && scale != 0
        && (size - offset) % scale == 0
    {
        sizes.insert(symbol, (size - offset) / scale);
    }
}
