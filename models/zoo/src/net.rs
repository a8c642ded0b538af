//! What builders are written in: a graph under construction, with weights by name and the layers that papers speak of.
//!
//! - Weights are called as in the authors' code: `attn.0.qkv.weight`, where `attn.0` is a *scope*. The matrix of a linear
//!   layer is `[out, in]`, as PyTorch has it.
//! - A node says in its origin in which model and scope it was made.
//! - Names of inputs and outputs are the caller's. Sizes may be symbols.
//!
//! Deliberately absent: anything that belongs to one paper.

use std::collections::BTreeSet;

use ir::attr::Attr;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::origin::Place;
use ir::{DType, Dim, Graph, OpDef, Origin, TensorType, Weight};
use ops::flow::r#loop::{Repeat, repeat};

use crate::Config;
use crate::error::{ParamProblem, ZooError};
use crate::init::{Init, Start};
use crate::params::Params;

mod experts;
mod layers;
mod math;

pub(crate) use experts::{CAPACITY, Capacity, Experts, MULTIPLE, ORDER, Order, PRIORITY, Routing};
pub(crate) use layers::Activation;

/// What a step of a builder gives.
pub(crate) type Built<T> = Result<T, ZooError>;

/// Weights drawn from a seed take at most so many bytes: 8 GiB.
const MOST_BYTES: u64 = 1 << 33;

/// Where weights come from.
pub(crate) enum Weights<'a> {
    /// They are drawn.
    Drawn(Init),
    /// They are given.
    Given(&'a dyn Params),
    /// From nowhere: the model is built to tell what it wants, and weights are inputs.
    Listed,
}

/// A graph under construction.
pub(crate) struct Net<'a> {
    b: Build,
    /// Around the body of a loop that is under construction: the graph that it is in, and what it takes from there.
    around: Vec<(Build, Vec<Value>)>,
    model: &'static str,
    weights: Weights<'a>,
    scope: Vec<String>,
    /// The weights that were asked for, in order.
    asked: Vec<(String, TensorType)>,
    problems: Vec<ParamProblem>,
    outputs: Vec<(String, Value)>,
    bytes: u64,
}

/// A size that the caller of the model chooses.
pub(crate) fn symbol(name: &str) -> Dim {
    Dim::symbol(name)
}

impl<'a> Net<'a> {
    /// The empty graph of a model.
    pub(crate) fn new(model: &'static str, weights: Weights<'a>) -> Net<'a> {
        Net {
            b: Build::new(model),
            around: Vec::new(),
            model,
            weights,
            scope: Vec::new(),
            asked: Vec::new(),
            problems: Vec::new(),
            outputs: Vec::new(),
            bytes: 0,
        }
    }

    /// The graph, and the weights that it has asked for.
    ///
    /// # Errors
    /// All that is wrong with the weights that were given.
    pub(crate) fn finish(mut self) -> Built<(Graph, Vec<(String, TensorType)>)> {
        if let Weights::Given(params) = self.weights {
            let asked: BTreeSet<&str> = self.asked.iter().map(|(name, _)| name.as_str()).collect();
            let unused = params.names().into_iter().filter(|name| !asked.contains(name));
            self.problems.extend(unused.map(|name| ParamProblem::Unused { name: name.to_owned() }));
        }
        if !self.problems.is_empty() {
            return Err(ZooError::Params { model: self.model, problems: self.problems });
        }
        let mut graph = self.b.into_graph();
        graph.set_outputs(self.outputs);
        Ok((graph, self.asked))
    }

    /// What `body` adds is in the scope `name`, inside of the present one.
    pub(crate) fn within<T>(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce(&mut Self) -> Built<T>,
    ) -> Built<T> {
        self.scope.push(name.into());
        let made = body(self);
        self.scope.pop();
        made
    }

    /// What `body` makes for each index below `count`, one behind the other. It has no weights of its own, and what it takes
    /// from outside goes through [`Net::capture`].
    pub(crate) fn repeated(
        &mut self,
        count: usize,
        body: impl FnOnce(&mut Self, Dim) -> Built<Value>,
    ) -> Built<Value> {
        let index = self.b.fresh_symbol("index");
        let mut inside = Build::new("body");
        inside.take_symbols(self.b.taken_symbols().iter().cloned());
        self.around.push((std::mem::replace(&mut self.b, inside), Vec::new()));
        let made = body(self, Dim::from(&index));
        let (b, captures) = self.around.pop().expect("bug: a body ends where it began");
        let inside = std::mem::replace(&mut self.b, b);
        let body = inside.finish(vec![made?]);
        let (count, carried, changing) = (Some(Dim::from(count)), Vec::new(), Vec::new());
        let parts = Repeat { body, index, count, cond: None, carried, captures, changing };
        self.make("loop", |b| Ok(repeat(b, parts, "index")?[0]))
    }

    /// A value from around the body of a loop, in it.
    pub(crate) fn capture(&mut self, value: Value) -> Value {
        let (outside, captures) = self.around.last_mut().expect("bug: this is no body");
        captures.push(value);
        self.b.set_origin(Origin::none());
        self.b.input(&format!("in{}", captures.len() - 1), outside.ty(value).clone())
    }

    /// An input.
    pub(crate) fn input(&mut self, name: &str, dtype: DType, shape: impl IntoIterator<Item = Dim>) -> Value {
        self.b.set_origin(Origin::none());
        self.b.input(name, TensorType::new(dtype, shape))
    }

    /// The next output.
    pub(crate) fn output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.to_owned(), value));
    }

    /// What weights are drawn from that a model draws itself; where they are given, it has no use for the seed.
    pub(crate) fn seed(&self, config: &Config) -> u64 {
        match self.weights {
            Weights::Given(_) => 0,
            Weights::Drawn(_) | Weights::Listed => config.seed(),
        }
    }

    /// The weight `name` of the present scope: the one that is given, or one that begins as `start` says.
    ///
    /// # Errors
    /// [`ZooError::TooLarge`]. Weights that do not suit are reported together, by [`Net::finish`].
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize], start: Start) -> Built<Value> {
        let name = self.scope.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
        let wanted = TensorType::fixed(DType::F32, shape);
        assert!(
            self.asked.iter().all(|(asked, _)| *asked != name),
            "bug: `{}` asks twice for `{name}`",
            self.model
        );
        self.asked.push((name.clone(), wanted.clone()));
        self.b.set_origin(Origin::none());
        let problem = match &mut self.weights {
            Weights::Listed => return Ok(self.b.input(&name, wanted)),
            Weights::Drawn(init) => {
                let bytes = shape.iter().try_fold(4u64, |bytes, &size| bytes.checked_mul(size as u64));
                let all = bytes.and_then(|bytes| self.bytes.checked_add(bytes));
                let fits = all.filter(|&all| all <= MOST_BYTES);
                self.bytes = fits.ok_or(ZooError::TooLarge { model: self.model, limit: MOST_BYTES })?;
                let weight = Weight::of(name, init.tensor(shape, start));
                return Ok(self.b.weight(weight));
            }
            Weights::Given(params) => match params.ty(&name) {
                None => ParamProblem::Missing { name: name.clone(), wanted: wanted.clone() },
                Some(found) if found != wanted => {
                    ParamProblem::Type { name: name.clone(), wanted: wanted.clone(), found }
                }
                Some(_) => match params.weight(&name) {
                    Some(weight) => return Ok(self.b.weight(weight.renamed(name))),
                    None => ParamProblem::Missing { name: name.clone(), wanted: wanted.clone() },
                },
            },
        };
        self.problems.push(problem);
        // The rest is still looked at, with something in its place.
        Ok(self.b.input(&name, wanted))
    }

    /// A constant number.
    pub(crate) fn scalar(&mut self, value: f64) -> Value {
        self.b.scalar(DType::F32, value)
    }

    /// The type of a value.
    pub(crate) fn ty(&self, value: Value) -> &TensorType {
        self.b.ty(value)
    }

    /// The size of an axis, which may count from the end.
    pub(crate) fn size(&self, value: Value, axis: i64) -> Dim {
        self.ty(value).shape[self.axis(value, axis)].clone()
    }

    /// The size of an axis that is a number.
    pub(crate) fn width(&self, value: Value, axis: i64) -> usize {
        let size = self.size(value, axis);
        let number = size.as_const().and_then(|size| usize::try_from(size).ok());
        number.unwrap_or_else(|| panic!("bug: axis {axis} of {} has no fixed size", self.ty(value)))
    }

    fn axis(&self, value: Value, axis: i64) -> usize {
        let rank = self.ty(value).rank() as i64;
        usize::try_from(if axis < 0 { axis + rank } else { axis }).expect("bug: the axis is there")
    }

    /// The first result of an op.
    ///
    /// # Errors
    /// What the op says of these operands, with the scope.
    pub(crate) fn op(
        &mut self,
        def: &'static OpDef,
        operands: &[Value],
        attrs: impl IntoIterator<Item = (&'static str, Attr)>,
    ) -> Built<Value> {
        self.make(def.name, |b| b.op_with(def, operands, attrs))
    }

    /// What a function of ours or of `ops` adds; `what` names it in origins and errors.
    ///
    /// # Errors
    /// What it says, with the scope.
    pub(crate) fn make<T>(
        &mut self,
        what: &'static str,
        add: impl FnOnce(&mut Build) -> Result<T, OpError>,
    ) -> Built<T> {
        let scope = self.scope.iter().map(String::as_str);
        let name = [self.model].into_iter().chain(scope).collect::<Vec<_>>().join(".");
        let place = Place { name, op: what.to_owned(), ..Place::default() };
        self.b.set_origin(Origin::place(place));
        let made = add(&mut self.b);
        made.map_err(|error| {
            let place = [self.scope.as_slice(), &[what.to_owned()]].concat().join(".");
            ZooError::Op { model: self.model, place, error }
        })
    }
}
