//! Evaluates nodes whose operands are all constant, and shape arithmetic whose result is known.
//!
//! A result takes the place of its node if it is small, or no larger than the operands that it replaces. Uses the
//! reference semantics, so folding cannot disagree with it. Ops say nothing about folding.

use std::collections::BTreeSet;

use ir::graph::{Kind, KnownSizes, SizeValues, Value};
use ir::op::{Eval, Flow};
use ir::scalar::Scalar;
use ir::{At, Graph, NodeId, Tensor, Weight};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};

/// See the [module](self).
pub struct FoldConstants {
    /// The largest result in bytes that may be folded even though its operands are smaller.
    pub max_bytes: usize,
}

impl GraphPass for FoldConstants {
    fn about(&self) -> About {
        About::new("fold_constants", "evaluate what does not depend on inputs")
    }

    fn run(&self, graph: &mut Graph, _: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        let order = graph.order();
        let mut names: BTreeSet<String> =
            order.iter().filter_map(|&id| Some(graph.node(id).weight()?.name().to_owned())).collect();
        for id in order {
            let Some(results) = self.fold(graph, id)? else { continue };
            let origin = graph.node(id).origin.clone();
            let base = origin.places().first().map_or("c", |place| place.name.as_str()).to_owned();
            for (result, tensor) in results.iter().enumerate() {
                let name = own_name(&base, &mut names);
                let weight = Weight::from_tensor(name, tensor);
                let value = graph.add_weight(weight, origin.clone());
                graph.replace_uses(Value { node: id, result }, value);
            }
            graph.remove(id);
            changed = true;
        }
        Ok(Changed(changed))
    }
}

/// Is it a comparison of sizes that may fail? It has to be there when the model runs, whatever is known of its result.
fn is_open_check(graph: &Graph, id: NodeId) -> bool {
    let Some(Flow::Size { name, size, .. }) = graph.flow(id) else { return false };
    if size.as_symbol() == Some(&name) {
        return false;
    }
    let compared = graph.operands(id).first().and_then(|value| graph.node(value.node).weight());
    compared.is_none_or(|weight| size.as_const() != Some(weight.tensor().get(0).to_i64()))
}

/// A name that no weight has: `base`, or `base` with a number.
fn own_name(base: &str, names: &mut BTreeSet<String>) -> String {
    let mut numbered = (1..).map(|n| format!("{base}.{n}"));
    let free = |name: &String| !names.contains(name);
    let name = Some(base.to_owned()).filter(free).or_else(|| numbered.find(free));
    let name = name.expect("there are more numbers than names");
    names.insert(name.clone());
    name
}

impl FoldConstants {
    /// The results of a node, if it should be folded.
    fn fold(&self, graph: &Graph, id: NodeId) -> Result<Option<Vec<Tensor>>, At<PassError>> {
        let node = graph.node(id);
        let Kind::Op { def, attrs } = &node.kind else { return Ok(None) };
        if is_open_check(graph, id) {
            return Ok(None);
        }
        if node.types.len() == 1 && node.types[0].dtype.is_int() {
            let value = Value::from(id);
            if let (Some(sizes), Some(shape)) =
                (KnownSizes::new().of(graph, value), node.types[0].fixed_shape())
                && let Some(values) = sizes.iter().map(ir::Dim::as_const).collect::<Option<Vec<i64>>>()
            {
                let mut at = values.into_iter();
                let dtype = node.types[0].dtype;
                let next = |_: &[usize]| Scalar::from_i64(dtype, at.next().unwrap_or(0));
                return Ok(Some(vec![Tensor::from_fn(dtype, &shape, next)]));
            }
        }
        let operands = graph.operands(id);
        let weights: Option<Vec<&Weight>> =
            operands.iter().map(|value| graph.node(value.node).weight()).collect();
        let Some(weights) = weights.filter(|_| !attrs.has_symbols()) else { return Ok(None) };
        let size = |ty: &ir::TensorType| ty.bytes().as_const().and_then(|b| usize::try_from(b).ok());
        let Some(result) = node.types.iter().map(size).sum::<Option<usize>>() else { return Ok(None) };
        let replaced: usize = weights.iter().map(|weight| weight.bytes().len()).sum();
        if result > self.max_bytes.max(replaced) {
            return Ok(None);
        }
        let tensors: Vec<Tensor> = weights.iter().map(|weight| weight.tensor()).collect();
        let sizes = SizeValues::new();
        let cx = Eval { operands: &tensors.iter().collect::<Vec<_>>(), attrs, sizes: &sizes };
        match def.semantics.eval(&cx) {
            Ok(results) => Ok(Some(results)),
            Err(error) => Err(graph.at(id, PassError::from(error))),
        }
    }
}
