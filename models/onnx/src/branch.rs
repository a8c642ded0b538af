//! `If`, whose sides are graphs of their own.
//!
//! A branch whose condition is known is opened where it stands. Where the sides of another one differ in rank,
//! what follows cannot have one type: the side with which the rest of the graph makes sense is taken, and that the
//! model takes it is checked when it runs.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::origin::Place;
use ir::{At, DType};
use onnx_protobuf::NodeProto;
use ops::flow::as_size::check_size;
use ops::flow::r#if::{Body, branch};
use ops::math::cast::convert;
use ops::onnx::ImportError;
use ops::shape::reshape::reshape;

use crate::error::ImportProblem;
use crate::frame::Frame;
use crate::metadata;
use crate::nodes::{Added, Binding, Importer, State};
use crate::sequences::Sequence;

/// So often the importer tries how to go on behind a branch; a model that needs more attempts is refused.
const MAX_ATTEMPTS: usize = 64;

/// What is said of a branch with no side to go on with.
const DIVERGES: &str = "a branch whose sides give results of different ranks";

/// What a side gives under a name, but for the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tensor,
    Sequence(usize),
    Nothing,
}

impl Form {
    fn of(binding: &Binding) -> Form {
        match binding {
            Binding::Value(_) => Form::Tensor,
            Binding::Sequence(sequence) => Form::Sequence(sequence.len()),
            Binding::Nothing | Binding::Absent | Binding::Poisoned => Form::Nothing,
        }
    }

    /// Of this form, from the next of `values`.
    fn with(self, values: &mut impl Iterator<Item = Value>) -> Binding {
        match self {
            Form::Tensor => values.next().map_or(Binding::Poisoned, Binding::Value),
            Form::Sequence(length) => Binding::Sequence(Sequence::new(values.take(length).collect())),
            Form::Nothing => Binding::Nothing,
        }
    }
}

/// The values in these, in order.
fn values(bindings: &[Binding]) -> Vec<Value> {
    let mut values = Vec::new();
    for binding in bindings {
        match binding {
            Binding::Value(value) => values.push(*value),
            Binding::Sequence(sequence) => values.extend(sequence.values()),
            Binding::Nothing | Binding::Absent | Binding::Poisoned => {}
        }
    }
    values
}

/// Is it that this is not supported?
fn is_about(problem: &ImportProblem, subject: &str) -> bool {
    let ImportProblem::Node { error, .. } = problem else { return false };
    matches!(&**error, ImportError::Unsupported { what, .. } if what == subject)
}

impl<'a> Importer<'a> {
    pub(crate) fn add_if(&mut self, node: &'a NodeProto, place: &Place) -> Added {
        self.try_if(node, place).unwrap_or(Added::Failed)
    }

    fn try_if(&mut self, node: &'a NodeProto, place: &Place) -> Option<Added> {
        let cond = self.operands(node, place)?.first().copied().flatten();
        let Some(cond) = cond else {
            self.report_op(place, ImportError::MissingInput { index: 0 });
            return None;
        };
        let then = self.graph_attribute(node, "then_branch", place)?;
        let otherwise = self.graph_attribute(node, "else_branch", place)?;
        if then.output.len() != otherwise.output.len() {
            let why = "gives another number of results than `then_branch`";
            self.report(place, ImportProblem::Attribute { name: "else_branch".to_owned(), why });
            return None;
        }
        self.build().set_origin(ir::Origin::place(place.clone()));
        if let Some(&holds) = self.constant(cond).as_ref().and_then(|cond| cond.first()) {
            let results = self.inline(if holds != 0 { then } else { otherwise }, &[], place)?;
            self.bind_all(node, place, results)?;
            return Some(Added::Done);
        }
        let given = cond;
        let cond = self.condition(cond, place)?;
        let state = self.state();
        let sides = [then, otherwise].map(|graph| self.body_of(graph, place, |_| {}));
        let [Some(then), Some(otherwise)] = sides else {
            // One side may be what never happens.
            let problems = self.undo(state.clone());
            if then.node.iter().chain(&otherwise.node).any(|node| self.is_unknown(node)) {
                self.problems.extend(problems);
                return None;
            }
            self.undo(state);
            return Some(Added::Diverges);
        };
        let forms = |(_, outputs): &(Frame, Vec<Binding>)| outputs.iter().map(Form::of).collect::<Vec<_>>();
        let both = forms(&then);
        if both != forms(&otherwise) {
            return self.differs(given, state, place);
        }
        let [then, otherwise] = [then, otherwise].map(|(frame, outputs)| (frame, values(&outputs)));
        let types = |(frame, values): &(Frame, Vec<Value>)| -> Vec<(DType, usize)> {
            let of = |value: &Value| (frame.build.ty(*value).dtype, frame.build.ty(*value).rank());
            values.iter().map(of).collect()
        };
        let (left, right) = (types(&then), types(&otherwise));
        if let Some(((left, _), (right, _))) = left.iter().zip(&right).find(|(left, right)| left.0 != right.0)
        {
            self.report_op(place, OpError::DTypes { left: *left, right: *right });
            return None;
        }
        if left != right {
            self.undo(state);
            return Some(Added::Diverges);
        }
        let [then, otherwise] = [then, otherwise].map(|(frame, values)| {
            let finished = frame.finish(values, self.frame_mut());
            self.made(place, finished).map(|(graph, captures)| Body { graph, captures })
        });
        self.build().set_origin(ir::Origin::place(place.clone()));
        let results = branch(self.build(), cond, then?, otherwise?, "if");
        let results = self.made(place, results)?;
        let mut results = results.into_iter();
        let results = both.into_iter().map(|form| form.with(&mut results)).collect();
        self.bind_all(node, place, results)?;
        Some(Added::Done)
    }

    /// The sides give sequences of different lengths, or one an optional without an element: which one is taken must
    /// be known, or follow from what comes after.
    fn differs(&mut self, cond: Value, state: State<'a>, place: &Place) -> Option<Added> {
        self.undo(state);
        match self.numbers(cond, 0, "cond") {
            Err(error @ ImportError::InputValue { .. }) => {
                self.report_op(place, error);
                None
            }
            _ => Some(Added::Diverges),
        }
    }

    /// Is it an op that there is not?
    fn is_unknown(&self, node: &NodeProto) -> bool {
        let domain = metadata::domain(&node.domain);
        let is_flow = domain.is_empty() && ["If", "Loop", "Scan"].contains(&node.op_type.as_str());
        let opset = self.scope().opsets.get(domain).copied().unwrap_or(0);
        let found = ops::onnx::find_import(domain, &node.op_type, opset);
        !is_flow
            && !crate::sequences::is_list_op(&node.op_type)
            && self.functions.called_by(node).is_none()
            && !matches!(found, ops::onnx::Found::Import(_))
    }

    /// Goes on with the side of a branch with which the rest makes sense: the first of `rest` is the branch. Gives the
    /// number of those before the first problem.
    pub(crate) fn choose(&mut self, nodes: &'a [NodeProto], rest: &[usize], place: &Place) -> usize {
        let node = &nodes[rest[0]];
        let state = self.state();
        let attempt = self.attempt;
        let mut failed: Option<(usize, Vec<At<ImportProblem>>)> = None;
        // Mostly the general case is what stands under `else`. It is given up at its first problem.
        for (name, holds) in [("else_branch", 0), ("then_branch", 1)] {
            if self.attempts == MAX_ATTEMPTS {
                break;
            }
            self.attempts += 1;
            let before = self.problems.len();
            let is_first = failed.is_none();
            self.attempt = if is_first { Some(before) } else { attempt };
            let taken = self.take(node, name, holds, place);
            let good = if taken.is_some() {
                1 + self.add_nodes(nodes, &rest[1..])
            } else {
                self.poison(node);
                0
            };
            self.attempt = attempt;
            if self.problems.len() == before {
                return good;
            }
            let problems = self.undo(state.clone());
            // What goes wrong later tells more.
            if failed.as_ref().is_none_or(|(best, _)| good > *best) {
                failed = Some((good, problems));
            }
        }
        let (good, problems) = failed.unwrap_or_default();
        // It is said once, of the last of several branches.
        let is_said = problems.iter().any(|at| is_about(&at.error, DIVERGES));
        self.problems.extend(problems);
        if !is_said {
            let help = "with neither side the rest of the model makes sense; fix the sizes that it depends on with --dim";
            self.unsupported(place, DIVERGES, help);
        }
        self.poison(node);
        good
    }

    fn take(&mut self, node: &'a NodeProto, side: &str, holds: i64, place: &Place) -> Option<()> {
        let cond = self.operands(node, place)?.first().copied().flatten()?;
        let graph = self.graph_attribute(node, side, place)?;
        self.build().set_origin(ir::Origin::place(place.clone()));
        let checked = (|b: &mut Build| {
            let cond = reshape(b, cond, vec![])?;
            let cond = convert(b, cond, DType::I64)?;
            check_size(b, cond, "taken", holds.into())
        })(self.build());
        self.made(place, checked)?;
        let results = self.inline(graph, &[], place)?;
        self.bind_all(node, place, results)
    }
}
