//! A graph in the making: the outermost, or the body of a branch or a loop.
//!
//! A body takes what it reads from outside as inputs. Constants come along as themselves, and sizes as sizes, so that
//! what follows from them follows in the body, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::graph::{Graph, Value};
use ir::op::OpError;
use ir::{Dim, NodeId, Symbol, TensorType};
use ops::flow::as_size::check_size;
use ops::onnx::Known;
use ops::shape::reshape::reshape_checked;
use ops::shape::size::{size, sizes};

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) build: Build,
    pub(crate) known: RefCell<Known>,
    /// What it takes from the graph around it, with the inputs that they are here.
    pub(crate) captures: Vec<(Value, Value)>,
    /// The same as a table, with constants and sizes.
    inside: BTreeMap<Value, Value>,
    /// Symbols of the graph around it that are replaced here, in the order in which they were.
    pub(crate) local: Vec<(Symbol, Dim)>,
    /// Symbols that a loop gives other values each time: no equation decides them.
    pub(crate) fixed: BTreeSet<Symbol>,
}

impl Frame {
    /// The outermost graph.
    pub(crate) fn outermost(build: Build) -> Frame {
        Frame {
            build,
            known: RefCell::default(),
            captures: Vec::new(),
            inside: BTreeMap::new(),
            local: Vec::new(),
            fixed: BTreeSet::new(),
        }
    }

    /// A body in this graph, called `name`.
    pub(crate) fn body(&self, name: &str) -> Frame {
        let mut build = Build::new(name);
        build.set_origin(self.build.origin().clone());
        build.take_symbols(self.build.taken_symbols().iter().cloned());
        let mut used = Vec::new();
        self.build.graph().for_each_symbol(&mut |symbol| used.push(symbol.clone()));
        build.take_symbols(used);
        Frame { fixed: self.fixed.clone(), ..Frame::outermost(build) }
    }

    /// A size under the replacements that hold here.
    fn localized(&self, dim: &Dim) -> Dim {
        self.local.iter().fold(dim.clone(), |dim, (symbol, size)| {
            dim.substitute(&|other| (other == symbol).then(|| size.clone()))
        })
    }

    /// `value` of the graph around, here.
    pub(crate) fn capture(&mut self, outer: &mut Frame, value: Value) -> Value {
        if let Some(&inner) = self.inside.get(&value) {
            return inner;
        }
        let graph = outer.build.graph();
        let ty = graph.ty(value).clone();
        let known = outer.known.borrow_mut().of(graph, value);
        let inner = if let Some(weight) = graph.node(value.node).weight() {
            self.build.weight(weight.clone())
        } else if let Some(known) = known {
            let known: Vec<Dim> = known.iter().map(|dim| self.localized(dim)).collect();
            sizes(&mut self.build, &known, &ty).expect("sizes can be written as a tensor")
        } else {
            let ty = ty.with_shape(ty.shape.iter().map(|dim| self.localized(dim)).collect::<Vec<_>>());
            let input = self.input(ty);
            self.captures.push((value, input));
            input
        };
        self.inside.insert(value, inner);
        inner
    }

    /// A new input.
    pub(crate) fn input(&mut self, ty: TensorType) -> Value {
        let name = format!("in{}", self.build.graph().inputs().len());
        self.build.input(&name, ty)
    }

    /// Removes what neither `bound` nor what stands for sizes nor checks of sizes need.
    pub(crate) fn keep(&mut self, bound: Vec<NodeId>) {
        let mut known = self.known.borrow_mut();
        let pinned = known.pinned().map(|value| value.node).collect::<Vec<_>>();
        let captured = self.inside.values().map(|value| value.node);
        let graph = self.build.graph_mut();
        let checks = graph.roots();
        let needed = graph.needed(bound.into_iter().chain(pinned).chain(captured).chain(checks));
        graph.retain(|id| needed.contains(&id));
        // Ids of removed nodes may come again for others.
        known.forget();
    }

    /// The finished body with these outputs, and the values that it takes from the graph around.
    ///
    /// # Errors
    /// A capture whose size cannot be what the body wants.
    pub(crate) fn finish(
        mut self,
        outputs: Vec<Value>,
        outer: &mut Frame,
    ) -> Result<(Graph, Vec<Value>), OpError> {
        let named = outputs.into_iter().enumerate().map(|(i, value)| (format!("y{i}"), value));
        self.build.graph_mut().set_outputs(named.collect::<Vec<_>>());
        let mut captured = Vec::new();
        for (value, input) in std::mem::take(&mut self.captures) {
            let wanted = outer.build.ty(value).clone();
            if *self.build.ty(input) != wanted {
                let shape = self.build.ty(input).shape.clone();
                let original = self.build.graph_mut().replace_input(input.node, wanted);
                let seen = reshape_checked(&mut self.build, original, shape)?;
                self.build.graph_mut().replace_uses(input, seen);
                self.build.graph_mut().remove(input.node);
            }
            captured.push(value);
        }
        for (symbol, wanted) in std::mem::take(&mut self.local) {
            let value = size(&mut self.build, ir::DType::I64, &Dim::from(&symbol))?;
            check_size(&mut self.build, value, symbol.name(), wanted)?;
        }
        outer.build.take_symbols(self.build.taken_symbols().iter().cloned());
        let mut graph = self.build.into_graph();
        let needed = graph.needed(graph.roots());
        graph.retain(|id| needed.contains(&id));
        Ok((graph, captured))
    }
}
