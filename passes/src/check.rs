//! Which nodes of a graph cannot be compiled, told without compiling it.
//!
//! What an op opens into, and whether it has a native form, follows from its attributes and the types of its operands
//! alone. So each kind of node is asked once, whatever sizes are called in it, and all nodes of a kind that has none are
//! reported. Nothing is rewritten, scheduled or made machine code of.

use std::collections::HashMap;

use ir::attr::Attrs;
use ir::build::Build;
use ir::dim::Symbol;
use ir::graph::Value;
use ir::kernel::lower::Lower;
use ir::op::OpError;
use ir::{At, Dim, Graph, NodeId, OpDef, TensorType};

use crate::error::PassError;

/// What was found out about a graph and those nested in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// How many ops they have.
    pub nodes: usize,
    /// What cannot be compiled, all of it. Origins say where it is in the model.
    pub problems: Vec<At<PassError>>,
}

/// Looks for what cannot be compiled.
pub fn check(graph: &Graph) -> Report {
    let mut checked = Checked::default();
    let mut report = Report::default();
    graph.walk(&mut |graph| {
        for id in graph.order() {
            report.nodes += usize::from(graph.node(id).op().is_some());
            report.problems.extend(checked.node(graph, id).map(|error| graph.at(id, error)));
        }
    });
    report
}

/// What is wrong with the nodes seen so far, by their kind.
#[derive(Default)]
struct Checked {
    kinds: HashMap<Kind, Option<PassError>>,
}

/// What the compilation of a node depends on.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    op: &'static str,
    attrs: Attrs,
    operands: Vec<TensorType>,
}

impl Checked {
    fn node(&mut self, graph: &Graph, id: NodeId) -> Option<PassError> {
        let (def, attrs) = graph.node(id).op()?;
        if def.semantics.flow(attrs).is_some() {
            return None;
        }
        let operands = graph.operands(id).into_iter().map(|value| graph.ty(value).clone()).collect();
        let kind = match Kind::of(def, attrs, operands) {
            Ok(kind) => kind,
            Err(error) => return Some(error.into()),
        };
        if let Some(known) = self.kinds.get(&kind) {
            return known.clone();
        }
        let wrong = self.op(def, &kind).err();
        self.kinds.insert(kind, wrong.clone());
        wrong
    }

    /// Opens an op, or asks for its native form.
    fn op(&mut self, def: &'static OpDef, kind: &Kind) -> Result<(), PassError> {
        let mut b = Build::new("kind");
        let named = kind.operands.iter().enumerate();
        let inputs: Vec<Value> = named.map(|(i, ty)| b.input(&format!("x{i}"), ty.clone())).collect();
        if def.semantics.expand(&mut b, &inputs, &kind.attrs)?.is_some() {
            let opened = b.into_graph();
            let wrong = opened.order().into_iter().find_map(|id| self.node(&opened, id));
            return wrong.map_or(Ok(()), Err);
        }
        let operands: Vec<&TensorType> = kind.operands.iter().collect();
        let results = def.result_types(&ir::op::Infer { operands: &operands, attrs: &kind.attrs })?;
        let lowered = def.semantics.lower(&mut Lower::new(&operands, &kind.attrs, &results));
        lowered.map(|_| ()).ok_or(PassError::NoLowering { op: def.name })
    }
}

impl Kind {
    /// Its sizes go by their numbers: each expert of a loop has a count of its own, under a name of its own.
    fn of(def: &'static OpDef, attrs: &Attrs, operands: Vec<TensorType>) -> Result<Kind, OpError> {
        let mut symbols = HashMap::new();
        let mut number = |symbol: &Symbol| {
            let next = symbols.len();
            symbols.entry(symbol.clone()).or_insert(next);
        };
        attrs.for_each_symbol(&mut number);
        operands.iter().flat_map(|ty| &ty.shape).for_each(|dim| dim.for_each_symbol(&mut number));
        if symbols.is_empty() {
            return Ok(Kind { op: def.name, attrs: attrs.clone(), operands });
        }
        let with = |symbol: &Symbol| Some(Dim::symbol(format!("s{}", symbols.get(symbol)?)));
        let operands = operands.iter().map(|ty| ty.substitute(&with)).collect();
        Ok(Kind { op: def.name, attrs: attrs.substitute(&with)?, operands })
    }
}

#[cfg(test)]
mod tests {
    use ir::DType;
    use ops::linalg::matmul::MATMUL;
    use ops::norm::AXIS;
    use ops::norm::softmax::SOFTMAX;

    use super::*;

    /// A network of so many equal layers, each with a size of its own.
    fn layers(count: usize) -> Graph {
        let mut b = Build::new("g");
        let mut sums = Vec::new();
        for layer in 0..count {
            let n = Dim::symbol(format!("n{layer}"));
            let x = b.input(&format!("x{layer}"), TensorType::new(DType::F32, [n, Dim::constant(8)]));
            let w = b.input(&format!("w{layer}"), TensorType::new(DType::F32, [8, 8].map(Dim::constant)));
            let y = b.op(&MATMUL, &[x, w]).expect("sizes agree");
            sums.push(b.op_with(&SOFTMAX, &[y], [AXIS.is(-1)]).expect("there is an axis"));
        }
        b.finish(sums)
    }

    #[test]
    fn each_kind_of_node_is_looked_at_once() {
        let kinds = |count| {
            let graph = layers(count);
            let mut checked = Checked::default();
            assert!(graph.order().into_iter().all(|id| checked.node(&graph, id).is_none()));
            checked.kinds.len()
        };
        assert!(kinds(1) > 2, "softmax opens into several ops");
        assert_eq!(kinds(1), kinds(100));
    }
}
