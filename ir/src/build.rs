//! Adding nodes with types inferred.

use std::collections::{BTreeMap, BTreeSet};

use crate::attr::Attr;
use crate::dim::Symbol;
use crate::dtype::DType;
use crate::graph::{Graph, NodeId, Value};
use crate::op::{OpDef, OpError};
use crate::origin::Origin;
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::weight::Weight;

/// Adds nodes to a graph, all with one origin.
#[derive(Debug, Clone)]
pub struct Build {
    graph: Graph,
    origin: Origin,
    made: Vec<NodeId>,
    /// Names of sizes that may not be given again.
    taken: BTreeSet<Symbol>,
    /// Does `taken` hold every symbol of the graph? What others do to the graph is not seen.
    is_taken: bool,
    /// For each base of names, the first number that may be free: looking through all of them for each new symbol would
    /// take time with the square of their number.
    next: BTreeMap<String, usize>,
}

impl Build {
    /// Into a new graph.
    pub fn new(name: impl Into<String>) -> Build {
        Build::on(Graph::new(name))
    }

    /// Into an existing graph.
    pub fn on(graph: Graph) -> Build {
        Build {
            graph,
            origin: Origin::none(),
            made: Vec::new(),
            taken: BTreeSet::new(),
            is_taken: false,
            next: BTreeMap::new(),
        }
    }

    /// From now on, nodes get this origin.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// The origin that nodes get.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph so far, to edit.
    pub fn graph_mut(&mut self) -> &mut Graph {
        self.is_taken = false;
        &mut self.graph
    }

    /// A symbol for a size that is decided while the graph runs: no other in the graph is called so, nor is one that
    /// was taken before.
    pub fn fresh_symbol(&mut self, wanted: &str) -> Symbol {
        let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let base: String = wanted.chars().map(clean).collect();
        let base = base.trim_matches(|c: char| c == '_' || c.is_ascii_digit());
        let base = if base.is_empty() { "size" } else { base };
        if !self.is_taken {
            let taken = &mut self.taken;
            self.graph.for_each_symbol(&mut |symbol| take(taken, symbol));
            self.is_taken = true;
        }
        let next = self.next.entry(base.to_owned()).or_default();
        let mut numbered = (*next..).map(|number| (number, Symbol::new(format!("{base}_{number}"))));
        let (number, symbol) =
            numbered.find(|(_, symbol)| !self.taken.contains(symbol)).expect("there are enough numbers");
        *next = number + 1;
        self.taken.insert(symbol.clone());
        symbol
    }

    /// These symbols are not given by [`Build::fresh_symbol`].
    pub fn take_symbols(&mut self, symbols: impl IntoIterator<Item = Symbol>) {
        self.taken.extend(symbols);
    }

    /// The symbols that are not given again.
    pub fn taken_symbols(&self) -> &BTreeSet<Symbol> {
        &self.taken
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        self.graph.ty(value)
    }

    /// The ops added since this was last asked, in order.
    pub fn take_made(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.made)
    }

    /// An input.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Value {
        ty.shape.iter().for_each(|dim| dim.for_each_symbol(&mut |symbol| take(&mut self.taken, symbol)));
        self.graph.add_input(name, ty, self.origin.clone())
    }

    /// A weight.
    pub fn weight(&mut self, weight: Weight) -> Value {
        self.graph.add_weight(weight, self.origin.clone())
    }

    /// A constant tensor.
    pub fn constant(&mut self, tensor: &Tensor) -> Value {
        self.weight(Weight::from_tensor("", tensor))
    }

    /// A constant without axes, rounded to `dtype`.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        self.constant(&Tensor::scalar(Scalar::from_f64(dtype, value)))
    }

    /// The first result of an op without attributes other than defaults.
    ///
    /// # Errors
    /// What `infer` says of these operands.
    pub fn op(&mut self, def: &'static OpDef, operands: &[Value]) -> Result<Value, OpError> {
        self.op_with(def, operands, [])
    }

    /// The first result of an op with attributes.
    ///
    /// # Errors
    /// What `infer` says of these operands, or attributes that the op does not declare.
    pub fn op_with(
        &mut self,
        def: &'static OpDef,
        operands: &[Value],
        attrs: impl IntoIterator<Item = (&'static str, Attr)>,
    ) -> Result<Value, OpError> {
        Ok(self.ops_with(def, operands, attrs)?[0])
    }

    /// All results of an op with attributes.
    ///
    /// # Errors
    /// As [`Build::op_with`].
    pub fn ops_with(
        &mut self,
        def: &'static OpDef,
        operands: &[Value],
        attrs: impl IntoIterator<Item = (&'static str, Attr)>,
    ) -> Result<Vec<Value>, OpError> {
        let attrs = def.check_attrs(attrs.into_iter().map(|(key, attr)| (key.to_owned(), attr)))?;
        attrs.for_each_symbol(&mut |symbol| take(&mut self.taken, symbol));
        let node = self.graph.add_op(def, operands, attrs, self.origin.clone())?;
        self.made.push(node);
        let results = self.graph.node(node).types.len();
        Ok((0..results).map(|result| Value { node, result }).collect())
    }

    /// The graph, with these outputs, named by position.
    pub fn finish(mut self, outputs: Vec<Value>) -> Graph {
        self.graph.set_outputs(outputs.into_iter().enumerate().map(|(i, value)| (format!("y{i}"), value)));
        self.graph
    }

    /// The graph as it is.
    pub fn into_graph(self) -> Graph {
        self.graph
    }
}

fn take(taken: &mut BTreeSet<Symbol>, symbol: &Symbol) {
    if !taken.contains(symbol) {
        taken.insert(symbol.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;

    fn input(b: &mut Build, size: &str) {
        b.input("x", TensorType::new(DType::F32, [Dim::symbol(size)]));
    }

    #[test]
    fn fresh_symbols_are_those_of_nothing_else() {
        let mut b = Build::new("g");
        input(&mut b, "n_0");
        assert_eq!([b.fresh_symbol("n"), b.fresh_symbol("n")], ["n_1", "n_2"].map(Symbol::from));
        // What came meanwhile, by the builder and around it.
        input(&mut b, "n_3");
        assert!(b.is_taken, "the builder has seen what it added: the graph is not walked through again");
        assert_eq!(b.fresh_symbol("n"), Symbol::from("n_4"));
        let ty = TensorType::new(DType::F32, [Dim::symbol("n_5")]);
        b.graph_mut().add_input("y", ty, Origin::none());
        assert_eq!([b.fresh_symbol("N 7"), b.fresh_symbol("n")], ["n_6", "n_7"].map(Symbol::from));
    }
}
