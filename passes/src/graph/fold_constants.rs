//! Evaluates nodes whose operands are all constant, and shape arithmetic whose result is known.
//!
//! A result takes the place of its node if it is small, or no larger than the operands that it replaces. What only
//! puts weights in another order or shape, or together, copies nothing; all other results are kept in memory, so beyond
//! [`MAX_RESIDENT`] large ones are left to be computed when the model runs. Bytes that products multiply as whole numbers
//! stay bytes, and before rules look for what is quantized, weights are not cast to wider types
//! ([`FoldConstants::widens`]). Uses the reference semantics, so folding cannot disagree with it.

use std::collections::BTreeSet;

use ir::graph::{Kind, KnownSizes, SizeValues, Value};
use ir::op::{Eval, Flow};
use ir::scalar::Scalar;
use ir::{At, DType, Graph, NodeId, Tensor, Weight};
use ops::linalg::conv::CONV;
use ops::linalg::matmul::MATMUL;
use ops::math::cast::{CAST, TO};
use ops::math::sub::SUB;

use super::stored;
use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};
use crate::target::Target;

/// The weights of a graph may take so many bytes of memory that are not pages of a file.
pub const MAX_RESIDENT: usize = 256 << 20;

/// A folded result has at most so many bytes, unless folding shrinks its operands.
pub const MAX_FOLDED: usize = 4 << 20;

/// See the [module](self).
pub struct FoldConstants {
    /// The largest result in bytes that may be folded even though its operands are smaller.
    pub max_bytes: usize,
    /// Is a weight folded that is cast to a wider type? Before rules have seen what is stored, it is not, but for small
    /// ones; and never for a GPU, whose kernels cast what they load.
    pub widens: bool,
}

impl GraphPass for FoldConstants {
    fn about(&self) -> About {
        About::new("fold_constants", "evaluate what does not depend on inputs")
    }

    fn run(&self, graph: &mut Graph, cx: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        let order = graph.order();
        let mut names = weight_names(graph);
        let resident = |&id: &NodeId| Some(graph.node(id).weight()?.resident());
        let mut resident: usize = order.iter().filter_map(resident).sum();
        for id in order {
            let room = MAX_RESIDENT.saturating_sub(resident);
            if stored::widens(graph, id) && !(self.widens && cx.target == Target::Cpu) {
                continue;
            }
            let Some(results) = self.fold(graph, id, room)? else { continue };
            resident += results.iter().map(Weight::resident).sum::<usize>();
            let origin = graph.node(id).origin.clone();
            let base = origin.places().first().map_or("c", |place| place.name.as_str()).to_owned();
            for (result, weight) in results.iter().enumerate() {
                let name = own_name(&base, &mut names);
                let value = graph.add_weight(weight.renamed(name), origin.clone());
                graph.replace_uses(Value { node: id, result }, value);
            }
            graph.remove(id);
            changed = true;
        }
        Ok(Changed(changed))
    }
}

/// The names that weights have.
pub(super) fn weight_names(graph: &Graph) -> BTreeSet<String> {
    let name = |id: NodeId| Some(graph.node(id).weight()?.name().to_owned());
    graph.order().into_iter().filter_map(name).collect()
}

/// Are bytes cast to whole numbers for products alone, perhaps less a zero? These read the bytes.
fn is_read_as_bytes(graph: &Graph, id: NodeId) -> bool {
    let bytes = |value: &Value| matches!(graph.ty(*value).dtype, DType::I8 | DType::U8);
    let is_cast = graph.node(id).op().is_some_and(|(def, attrs)| def == &CAST && attrs.get(TO) == DType::I32);
    is_cast && graph.operands(id).first().is_some_and(bytes) && is_for_products(graph, id.into())
}

/// Do products alone use a value, or what is left of it without a zero?
fn is_for_products(graph: &Graph, value: Value) -> bool {
    let users = graph.users(value);
    let is = |(user, operand): (NodeId, usize)| match graph.node(user).op() {
        Some((def, _)) if def == &SUB => operand == 0 && is_for_products(graph, user.into()),
        Some((def, _)) => [&MATMUL, &CONV].contains(&def),
        None => false,
    };
    !users.is_empty() && users.into_iter().all(is)
}

/// A name that no weight has: `base`, or `base` with a number.
pub(super) fn own_name(base: &str, names: &mut BTreeSet<String>) -> String {
    let mut numbered = (1..).map(|n| format!("{base}.{n}"));
    let free = |name: &String| !names.contains(name);
    let name = Some(base.to_owned()).filter(free).or_else(|| numbered.find(free));
    let name = name.expect("there are more numbers than names");
    names.insert(name.clone());
    name
}

impl FoldConstants {
    /// The results of a node, if it should be folded; large ones may take `room` bytes of memory.
    fn fold(&self, graph: &Graph, id: NodeId, room: usize) -> Result<Option<Vec<Weight>>, At<PassError>> {
        let node = graph.node(id);
        let Kind::Op { def, attrs } = &node.kind else { return Ok(None) };
        // What decides or compares sizes has to run, unless what it finds is known to be what it must be.
        match graph.flow(id) {
            Some(Flow::Size { size, .. }) => {
                let weight = graph.operands(id).first().and_then(|value| graph.node(value.node).weight());
                let is_known = |weight: &&Weight| weight.values().next().is_some_and(|x| size.is(x.to_i64()));
                return Ok(weight.filter(is_known).map(|weight| vec![weight.clone()]));
            }
            Some(_) => return Ok(None),
            None => {}
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
                return Ok(Some(vec![Weight::of("", Tensor::from_fn(dtype, &shape, next))]));
            }
        }
        let operands = graph.operands(id);
        let weights: Option<Vec<&Weight>> =
            operands.iter().map(|value| graph.node(value.node).weight()).collect();
        let Some(weights) = weights.filter(|_| !attrs.has_symbols()) else { return Ok(None) };
        if is_read_as_bytes(graph, id) {
            return Ok(None);
        }
        let size = |ty: &ir::TensorType| ty.bytes().as_const().and_then(|b| usize::try_from(b).ok());
        let Some(result) = node.types.iter().map(size).sum::<Option<usize>>() else { return Ok(None) };
        let replaced: usize = weights.iter().map(|weight| weight.size()).sum();
        if result > self.max_bytes.max(replaced) {
            return Ok(None);
        }
        if let Some(result) = def.semantics.rearranged(&weights, attrs) {
            return Ok(Some(vec![result]));
        }
        if result > self.max_bytes.max(room) {
            return Ok(None);
        }
        let tensors: Vec<Tensor> = weights.iter().map(|weight| weight.tensor()).collect();
        let sizes = SizeValues::new();
        let cx = Eval { operands: &tensors.iter().collect::<Vec<_>>(), attrs, sizes: &sizes };
        match def.semantics.eval(&cx) {
            Ok(results) => Ok(Some(results.into_iter().map(|result| Weight::of("", result)).collect())),
            Err(error) => Err(graph.at(id, PassError::from(error))),
        }
    }
}
