//! Sizes that are computed, branches and loops, as steps.

use std::collections::BTreeSet;

use ir::dim::{Condition, Symbol};
use ir::graph::Value;
use ir::op::{Decided, Flow};
use ir::program::{Arg, Branch, Copy, Loop, Measure, Require, Step};
use ir::{Dim, Graph, NodeId, Origin, TensorType};

use super::Lowering;
use crate::error::PassError;

/// The sizes that a node speaks of, and not those that it decides itself.
pub(super) fn flow_sizes(flow: &Flow, types: &[TensorType]) -> Vec<Dim> {
    let own: BTreeSet<Symbol> = flow.decides().into_iter().collect();
    let mut sizes: Vec<Dim> = types.iter().flat_map(|ty| ty.shape.clone()).collect();
    match flow {
        Flow::Size { size, bound, .. } => sizes.extend([size].into_iter().chain(bound).cloned()),
        Flow::If { sizes: decided, .. } => sizes.extend(decided.iter().map(|decided| decided.size.clone())),
        Flow::Loop { sizes: decided, count, .. } => {
            sizes.extend(decided.iter().map(|decided| &decided.size).chain(count).cloned());
        }
    }
    sizes.retain(|size| size.as_symbol().is_none_or(|symbol| !own.contains(symbol)));
    sizes
}

impl Lowering<'_, '_> {
    /// The steps of a node that is no kernel.
    pub(super) fn flow(&mut self, id: NodeId, flow: Flow, operands: &[Value]) -> Result<(), PassError> {
        let decides = flow.decides();
        match flow {
            Flow::Size { name, size, bound } => self.size(id, operands[0], Decided { name, size }, bound),
            Flow::If { then, otherwise, taken, sizes } => {
                self.branch(id, [&*then, &*otherwise], taken, &sizes, operands);
            }
            Flow::Loop { .. } => self.repeat(id, flow, operands)?,
        }
        self.shared.symbols.extend(decides);
        Ok(())
    }

    fn origin(&self, id: NodeId) -> Origin {
        self.graph.node(id).origin.clone()
    }

    fn size(&mut self, id: NodeId, operand: Value, decided: Decided, bound: Option<Dim>) {
        let source = self.places[&operand];
        self.places.insert(id.into(), source);
        if let Some(scalar) = self.scalars.get(&operand) {
            self.scalars.insert(id.into(), *scalar);
        }
        let free = decided.is_free();
        let symbol = if free { decided.name.clone() } else { self.shared.fresh_symbol(&decided.name) };
        if let Some(bound) = &bound {
            self.facts.push(bound.clone() - Dim::from(&symbol));
        }
        let origin = self.origin(id);
        self.steps.push(Step::Measure(Measure { symbol: symbol.clone(), source, bound, origin }));
        if !free {
            let origin = self.origin(id);
            self.set(&[(decided, Dim::from(&symbol))], "sizes agree where they must", &origin);
        }
    }

    /// The lowering of a body, with its inputs at these places.
    fn body<'b>(&mut self, graph: &'b Graph, inputs: &[(Arg, Option<Value>)]) -> Body<'b> {
        let mut body = Body { graph, places: Vec::new(), scalars: Vec::new() };
        for (&input, &(place, outer)) in graph.inputs().iter().zip(inputs) {
            body.places.push((input.into(), place));
            if let Some(scalar) = outer.and_then(|outer| self.scalars.get(&outer)) {
                body.scalars.push((input.into(), *scalar));
            }
        }
        body
    }

    /// Lowers a body with some results at given places, then does `finish`. Gives its steps.
    fn nested(
        &mut self,
        body: Body<'_>,
        results: impl IntoIterator<Item = (Value, Arg)>,
        facts: Vec<Dim>,
        finish: impl FnOnce(&mut Lowering<'_, '_>),
    ) -> Vec<Step> {
        let mut inner = Lowering::new(body.graph, &mut *self.shared, facts);
        inner.space = self.space;
        inner.places.extend(body.places);
        inner.scalars.extend(body.scalars);
        for (value, place) in results {
            inner.places.entry(value).or_insert(place);
        }
        for id in body.graph.order() {
            inner.node(id);
        }
        if inner.problems.is_empty() {
            finish(&mut inner);
        }
        let (steps, problems) = (inner.steps, inner.problems);
        self.problems.extend(problems);
        steps
    }

    fn branch(
        &mut self,
        id: NodeId,
        bodies: [&Graph; 2],
        taken: usize,
        sizes: &[Decided],
        operands: &[Value],
    ) {
        let captures: Vec<(Arg, Option<Value>)> =
            operands[1..].iter().map(|value| (self.places[value], Some(*value))).collect();
        let captures = [&captures[..taken], &captures[taken..]];
        let types = self.graph.node(id).types.clone();
        let mut places = Vec::with_capacity(types.len());
        for (result, ty) in types.iter().enumerate() {
            places.push(self.place(Value { node: id, result }, ty.clone()));
        }
        self.shared.symbols.extend(sizes.iter().filter(|size| size.is_free()).map(|size| size.name.clone()));
        let [then, otherwise] = [0, 1].map(|side| {
            let graph = bodies[side];
            let outputs = graph.outputs();
            // An op of the body that gives a result of this very type writes it where it belongs.
            let direct: Vec<bool> = outputs
                .iter()
                .enumerate()
                .map(|(i, value)| {
                    graph.node(value.node).op().is_some()
                        && !matches!(graph.flow(value.node), Some(Flow::Size { .. }))
                        && *graph.ty(*value) == types[i]
                        && !outputs[..i].contains(value)
                })
                .collect();
            let at_once = outputs.iter().zip(&places).zip(&direct).filter(|(_, direct)| **direct);
            let at_once: Vec<(Value, Arg)> = at_once.map(|((value, place), _)| (*value, *place)).collect();
            let decided = differing(bodies, graph, sizes);
            let origin = self.origin(id);
            let body = self.body(graph, captures[side]);
            let facts = self.facts.clone();
            self.nested(body, at_once, facts, |inner| {
                for (i, value) in outputs.iter().enumerate() {
                    if !direct[i] {
                        let (from, origin) = (inner.places[value], origin.clone());
                        inner.steps.push(Step::Copy(Copy { from, to: places[i], at: None, origin }));
                    }
                }
                inner.set(&decided, "branches give results of fitting sizes", &origin);
            })
        });
        let (cond, origin) = (self.places[&operands[0]], self.origin(id));
        self.steps.push(Step::If(Branch { cond, then, otherwise, origin }));
    }

    /// Each becomes the size beside it, or is compared with it.
    fn set(&mut self, decided: &[(Decided, Dim)], what: &str, origin: &Origin) {
        let mut set = Vec::new();
        for (decided, size) in decided.iter().filter(|(decided, size)| decided.size != *size) {
            if decided.is_free() {
                set.push((decided.name.clone(), size.clone()));
            } else {
                let condition = Condition::equal(size.clone(), decided.size.clone());
                let require = Require { condition, what: what.into(), origin: origin.clone() };
                self.steps.push(Step::Require(require));
            }
        }
        if !set.is_empty() {
            self.steps.push(Step::Set(set));
        }
    }

    fn repeat(&mut self, id: NodeId, flow: Flow, operands: &[Value]) -> Result<(), PassError> {
        let Flow::Loop { body, index, count, cond, carried, trips, sizes } = flow else { return Ok(()) };
        let origin = self.origin(id);
        let copy = |from, to, at| Step::Copy(Copy { from, to, at, origin: origin.clone() });
        let what = "what a loop carries keeps its size";
        let (first, given) = operands.split_at(usize::from(cond));
        let (body, index) = self.own_index(&body, index)?;
        let types = self.graph.node(id).types.clone();
        let changing = &sizes[usize::from(cond)..];

        // What it carries lives where its results go.
        let mut inputs: Vec<(Arg, Option<Value>)> = Vec::new();
        let mut sizes_first = Vec::new();
        for (result, &value) in given[..carried].iter().enumerate() {
            let place = self.place(Value { node: id, result }, types[result].clone());
            self.steps.push(copy(self.places[&value], place, None));
            inputs.push((place, None));
            sizes_first.extend(changed(&types[result], &self.graph.ty(value).shape, changing));
        }
        inputs.extend(given[carried..].iter().map(|value| (self.places[value], Some(*value))));
        let goes_on = first.first().map(|value| {
            let place = self.shared.buffer(TensorType::scalar(ir::DType::Bool), self.space);
            self.steps.push(copy(self.places[value], place, None));
            place
        });
        self.shared.symbols.extend(changing.iter().map(|size| size.name.clone()));
        self.set(&sizes_first, what, &origin);
        let mut stacks = Vec::new();
        for (result, ty) in types.iter().enumerate().skip(carried) {
            stacks.push(self.place(Value { node: id, result }, ty.clone()));
        }

        let outputs = body.outputs();
        let mut next_sizes = Vec::new();
        for (ty, value) in types[..carried].iter().zip(&outputs[usize::from(cond)..]) {
            next_sizes.extend(changed(ty, &body.ty(*value).shape, changing));
        }
        let mut facts = self.facts.clone();
        facts.retain(|fact| !changing.iter().any(|size| fact.mentions(&size.name)));
        facts.extend(count.iter().map(|n| n.clone() - Dim::from(&index) - Dim::constant(1)));
        let own: Vec<Arg> = inputs[..carried].iter().map(|(place, _)| *place).collect();
        let inside = self.body(&body, &inputs);
        let space = self.space;
        let steps = self.nested(inside, [], facts, |inner| {
            let mut sources: Vec<Arg> = outputs.iter().map(|value| inner.places[value]).collect();
            let (conds, rest) = sources.split_at_mut(usize::from(cond));
            let (nexts, elements) = rest.split_at_mut(carried);
            // The condition may be a carried value as it was, which is overwritten below.
            for (next, place) in conds.iter().zip(goes_on) {
                inner.steps.push(copy(*next, place, None));
            }
            // What another value is carried on as must not be overwritten before.
            for (i, next) in nexts.iter_mut().enumerate() {
                if own.iter().enumerate().any(|(j, place)| j != i && place == next) {
                    let ty = inner.graph.ty(outputs[usize::from(cond) + i]).clone();
                    let kept = inner.shared.buffer(ty, space);
                    inner.steps.push(copy(*next, kept, None));
                    *next = kept;
                }
            }
            for (element, stack) in elements.iter().zip(&stacks) {
                inner.steps.push(copy(*element, *stack, Some(Dim::from(&index))));
            }
            for (next, place) in nexts.iter().zip(&own).filter(|(next, place)| next != place) {
                inner.steps.push(copy(*next, *place, None));
            }
            inner.set(&next_sizes, what, &origin);
        });
        let (counted, compared) = self.counter(&sizes, cond, &trips);
        self.steps.push(Step::Loop(Loop {
            index,
            count,
            cond: goes_on,
            trips: counted,
            body: steps,
            origin: origin.clone(),
        }));
        self.facts.retain(|fact| !changing.iter().any(|size| fact.mentions(&size.name)));
        if let Some(condition) = compared {
            let what = "a loop runs as often as its results are used".into();
            self.steps.push(Step::Require(Require { condition, what, origin }));
        }
        Ok(())
    }

    /// The symbol that counts iterations if a condition ends the loop, and with what it is compared.
    fn counter(&mut self, sizes: &[Decided], cond: bool, trips: &Dim) -> (Option<Symbol>, Option<Condition>) {
        let Some(decided) = sizes.first().filter(|_| cond) else { return (None, None) };
        if decided.is_free() {
            return (Some(decided.name.clone()), None);
        }
        let symbol = self.shared.fresh_symbol(&decided.name);
        let condition = Condition::equal(Dim::from(&symbol), trips.clone());
        (Some(symbol), Some(condition))
    }

    /// The body with a name for its iterations that no loop around has.
    fn own_index(&mut self, body: &Graph, index: Symbol) -> Result<(Graph, Symbol), PassError> {
        let mut body = body.clone();
        if self.shared.symbols.insert(index.clone()) {
            return Ok((body, index));
        }
        let own = self.shared.fresh_symbol(&index);
        body.substitute(&|symbol| (*symbol == index).then(|| Dim::from(&own))).map_err(|at| at.error)?;
        Ok((body, own))
    }
}

/// A body, and where its inputs are.
struct Body<'a> {
    graph: &'a Graph,
    places: Vec<(Value, Arg)>,
    scalars: Vec<(Value, ir::Scalar)>,
}

/// The sizes of `graph`, one of two bodies, where their results differ.
fn differing(bodies: [&Graph; 2], graph: &Graph, sizes: &[Decided]) -> Vec<(Decided, Dim)> {
    let shapes = |graph: &Graph| -> Vec<Dim> {
        graph.outputs().iter().flat_map(|value| graph.ty(*value).shape.clone()).collect()
    };
    let differ = shapes(bodies[0]).into_iter().zip(shapes(bodies[1])).zip(shapes(graph));
    let differ = differ.filter(|((a, b), _)| a != b).map(|(_, own)| own);
    sizes.iter().cloned().zip(differ).collect()
}

/// The sizes of `shape` where the carried type has one that changes.
fn changed(ty: &TensorType, shape: &[Dim], changing: &[Decided]) -> Vec<(Decided, Dim)> {
    let each = ty.shape.iter().zip(shape).filter_map(|(size, own)| {
        changing.iter().find(|decided| decided.size == *size).map(|decided| (decided.clone(), own.clone()))
    });
    each.collect()
}
