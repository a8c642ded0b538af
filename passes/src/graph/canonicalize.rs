//! Brings nodes into the form that later passes expect.
//!
//! - a node that gives back its only operand unchanged disappears: a reshape, transposition, broadcast, slice or
//!   conversion to the type that there is already; so does one that takes zeros from a value;
//! - two reshapes, two transpositions or two broadcasts in a row become one.
//!
//! All of this is exact. Which ops move elements only, and how two of them compose, the ops say themselves.

use ir::graph::Value;
use ir::{At, Graph, Scalar, Weight};
use ops::math::sub::SUB;

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};

/// Constants with more elements are not looked through.
const MOST: usize = 1 << 16;

/// See the [module](self).
pub struct Canonicalize;

impl GraphPass for Canonicalize {
    fn about(&self) -> About {
        About::new("canonicalize", "drop nodes that do nothing, join those that move elements twice")
    }

    fn run(&self, graph: &mut Graph, _: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        for id in graph.order() {
            let Some((def, attrs)) = graph.node(id).op() else { continue };
            let operands = graph.operands(id);
            if let [kept, zeros] = operands[..]
                && def == &SUB
                && graph.ty(kept) == &graph.node(id).types[0]
                && is_zero(graph, zeros)
            {
                graph.replace_uses(Value::from(id), kept);
                changed = true;
                continue;
            }
            let [operand] = operands[..] else { continue };
            if graph.node(id).types.len() != 1 {
                continue;
            }
            if graph.ty(operand) == &graph.node(id).types[0] && def.semantics.is_identity(attrs) {
                graph.replace_uses(Value::from(id), operand);
                changed = true;
                continue;
            }
            // f(g(x)) with f and g of one op: is it that op on x alone?
            let Some((inner, inner_attrs)) = graph.node(operand.node).op() else { continue };
            if inner != def {
                continue;
            }
            let Some(joined) = def.semantics.after_itself(attrs, inner_attrs) else { continue };
            let source = graph.operands(operand.node)[0];
            let origin = graph.node(operand.node).origin.join(&graph.node(id).origin);
            let new = graph
                .add_op(def, &[source], joined, origin)
                .map_err(|error| graph.at(id, PassError::from(error)))?;
            graph.replace_uses(Value::from(id), Value::from(new));
            changed = true;
        }
        Ok(Changed(changed))
    }
}

/// Is a value a constant of zeros, of which none is negative?
fn is_zero(graph: &Graph, value: Value) -> bool {
    let zero = Scalar::from_i64(graph.ty(value).dtype, 0);
    let is = |weight: &Weight| weight.elements() <= MOST && weight.values().all(|x| x.bits() == zero.bits());
    graph.node(value.node).weight().is_some_and(is)
}
