//! What an op costs, for extraction: arithmetic, bytes that move, launches.
//!
//! Counted from what the op lowers to, so a new op needs no entry here. Elementwise work is nearly free, because fusion
//! puts it beside what makes its operands; what a product or a reduction gives goes through memory, and so does what data
//! choose: a gathered matrix is a copy. No operand is read more than it is loaded: of many matrices, of which data choose
//! a few, only those are.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use egg::Language;
use ir::attr::Attrs;
use ir::build::Build;
use ir::dim::Symbol;
use ir::graph::Kind;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, ExprKind, Fold, Stage};
use ir::op::{Infer, OpError};
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, OpDef, TensorType};

use ops::shape::concat::CONCAT;

use super::facts::{Classes, signature};
use super::language::{Head, Node};
use crate::graph::fold_constants::MAX_FOLDED;
use crate::kernel::{has_fold, is_contraction};

/// What units of work take on a target, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prices {
    /// A floating-point operation of a matrix product.
    pub product_flop: f64,
    /// Another floating-point operation.
    pub flop: f64,
    /// A byte that moves.
    pub byte: f64,
    /// A kernel's start.
    pub launch: f64,
}

/// A CPU core with vectors of 512 bits, as measured: 160 Gflop/s in products, 10 Gflop/s elsewhere, 10 GB/s.
pub(super) const CPU: Prices = Prices { product_flop: 0.006, flop: 0.1, byte: 0.1, launch: 1000.0 };

/// Elementwise results mostly stay where they are made.
const FUSED: f64 = 0.25;

/// Whole numbers in products are bytes, of which a vector has four times as many.
const WHOLE: f64 = 0.25;

/// Of two spellings of the same work, that with the name of an op says more.
const NAMED: f64 = 0.99;

/// Of two spellings of the same work, that with fewer ops leaves less to fuse.
const NODE: f64 = 1.0;

/// What takes longer than this in the model is not computed by the compiler, which takes many times as long.
const FOLDED_COST: f64 = 1e6;

/// What has no lowering that could be counted.
const UNKNOWN: f64 = 1e6;

/// What a rule replaced, whatever it costs.
const REPLACED: f64 = 1e12;

/// A size that is not known counts as so many.
const TYPICAL: i64 = 128;

/// An op with attributes and the types of its operands.
type Applied = (&'static str, Attrs, Vec<TensorType>);

/// Prices nodes.
pub(super) struct Model<'a> {
    classes: &'a Classes,
    prices: Prices,
    known: RefCell<HashMap<Applied, f64>>,
    replaced: BTreeSet<Node>,
}

impl<'a> Model<'a> {
    /// Of the nodes of this e-graph.
    pub(super) fn new(classes: &'a Classes, prices: Prices) -> Self {
        let now = |node: &Node| node.clone().map_children(|id| classes.find(id));
        let replaced = classes.analysis.replaced().iter().map(now).collect();
        Model { classes, prices, known: RefCell::default(), replaced }
    }

    /// A node without its children. What depends on constants alone is computed when the model is compiled, unless it
    /// is large or takes long; another order or shape of a constant is a view of it.
    pub(super) fn node(&self, node: &Node) -> f64 {
        let Head::Op(def) = node.head() else { return 0.0 };
        let operands = node.operands();
        let constant = !operands.is_empty() && operands.iter().all(|&id| self.classes[id].data.constant);
        let (attrs, types) = signature(self.classes, node);
        let cost = self.op(def, &attrs, types);
        let free = || cost <= FOLDED_COST && self.is_folded(node) || self.is_rearranged(def, node);
        let cost = if constant && free() { 0.0 } else { cost };
        if self.replaced.contains(node) { cost + REPLACED } else { cost }
    }

    fn is_folded(&self, node: &Node) -> bool {
        let (attrs, types) = signature(self.classes, node);
        let operands: Vec<&TensorType> = types.iter().collect();
        let bytes = |types: &[&TensorType]| types.iter().map(|ty| number(&ty.bytes())).sum::<f64>();
        let results =
            node.op().and_then(|def| def.result_types(&Infer { operands: &operands, attrs: &attrs }).ok());
        results.is_some_and(|results| {
            let result = bytes(&results.iter().collect::<Vec<_>>());
            // Another order of a weight takes no memory.
            let crowds = self.classes.analysis.is_crowded()
                && node.op().is_some_and(|def| def.semantics.is_elementwise());
            result <= MAX_FOLDED as f64 || result <= bytes(&operands) && !crowds
        })
    }

    /// Are the elements those of the operands, each in another place?
    fn is_rearranged(&self, def: &'static OpDef, node: &Node) -> bool {
        if def == &CONCAT {
            return true;
        }
        let (attrs, types) = signature(self.classes, node);
        let operands: Vec<&TensorType> = types.iter().collect();
        let ([operand], Ok(results)) =
            (&operands[..], def.result_types(&Infer { operands: &operands, attrs: &attrs }))
        else {
            return false;
        };
        let lowered = def.semantics.lower(&mut Lower::new(&operands, &attrs, &results));
        let Some(Compute::Stages(stages)) = lowered else { return false };
        let ([result], [stage]) = (&results[..], &stages[..]) else { return false };
        let as_many = result.elements() == operand.elements();
        as_many && matches!(stage.body.kind(), ExprKind::Load { .. }) && !is_chosen(&stage.body)
    }

    fn op(&self, def: &'static OpDef, attrs: &Attrs, types: Vec<TensorType>) -> f64 {
        let key = (def.name, attrs.clone(), types);
        if let Some(&cost) = self.known.borrow().get(&key) {
            return cost;
        }
        let operands: Vec<&TensorType> = key.2.iter().collect();
        let cost = match self.expansion(def, attrs, &operands) {
            Ok(Some(cost)) => cost * NAMED,
            Ok(None) | Err(_) => self.core(def, attrs, &operands) + NODE,
        };
        self.known.borrow_mut().insert(key, cost);
        cost
    }

    /// The sum over the ops that a composite op consists of.
    fn expansion(
        &self,
        def: &'static OpDef,
        attrs: &Attrs,
        operands: &[&TensorType],
    ) -> Result<Option<f64>, OpError> {
        let mut b = Build::new("expansion");
        let inputs: Vec<_> =
            operands.iter().enumerate().map(|(i, ty)| b.input(&format!("x{i}"), (*ty).clone())).collect();
        let Some(results) = def.semantics.expand(&mut b, &inputs, attrs)? else { return Ok(None) };
        let graph = b.finish(results);
        let each = graph.order().into_iter().map(|id| match &graph.node(id).kind {
            Kind::Op { def, attrs } => {
                let types = graph.operands(id).into_iter().map(|value| graph.ty(value).clone()).collect();
                self.op(def, attrs, types)
            }
            _ => 0.0,
        });
        Ok(Some(each.sum()))
    }

    fn core(&self, def: &'static OpDef, attrs: &Attrs, operands: &[&TensorType]) -> f64 {
        let Ok(results) = def.result_types(&Infer { operands, attrs }) else { return UNKNOWN };
        let bytes: f64 = results.iter().map(|ty| number(&ty.bytes())).sum();
        let read = |stages: &[Stage]| -> f64 {
            let each = operands.iter().enumerate();
            each.map(|(at, ty)| number(&ty.bytes()).min(loaded(stages, &Lower::operand_name(at), ty))).sum()
        };
        let Prices { product_flop, flop, byte, launch } = self.prices;
        match def.semantics.lower(&mut Lower::new(operands, attrs, &results)) {
            Some(Compute::Stages(stages)) => {
                let work = |stage| {
                    let each = if is_contraction(stage) { product_flop } else { flop };
                    let whole = results.iter().all(|ty| ty.dtype == DType::I32);
                    number(&stage_work(stage)) * if whole { each * WHOLE } else { each }
                };
                let work: f64 = stages.iter().map(work).sum();
                let reduces = stages.iter().any(|stage| has_fold(&stage.body));
                let moved = if reduces {
                    (bytes + read(&stages)) * byte + launch
                } else if stages.iter().any(|stage| is_chosen(&stage.body)) {
                    bytes * byte
                } else {
                    bytes * byte * FUSED
                };
                work + moved
            }
            Some(Compute::Loops(_)) => {
                let read: f64 = operands.iter().map(|ty| number(&ty.bytes())).sum();
                (bytes + read) * byte * 4.0 + launch
            }
            None => UNKNOWN,
        }
    }
}

fn number(dim: &Dim) -> f64 {
    dim.eval(&|_| Some(TYPICAL)).map_or(UNKNOWN, |n| n as f64)
}

/// Do data choose what is loaded?
fn is_chosen(body: &Expr) -> bool {
    body.any(&mut |e| match e.kind() {
        ExprKind::Load { at, .. } => at.iter().any(|index| index.as_index().is_none()),
        _ => false,
    })
}

/// The bytes that stages load of an operand of this name and type, counted each time.
fn loaded(stages: &[Stage], name: &Symbol, ty: &TensorType) -> f64 {
    let size = ty.dtype.bytes() as f64;
    let times = |stage: &Stage| {
        let elements: Dim = stage.axes.iter().map(|(_, extent)| extent.clone()).product();
        number(&(elements * loads(&stage.body, name)))
    };
    size * stages.iter().map(times).sum::<f64>()
}

/// How often an expression loads from what has this name.
fn loads(e: &Expr, name: &Symbol) -> Dim {
    let inside: Dim = e.children().into_iter().map(|child| loads(child, name)).sum();
    match e.kind() {
        ExprKind::Fold(Fold { extent, .. }) => inside * extent.clone(),
        ExprKind::Load { source, .. } if source == name => inside + Dim::constant(1),
        _ => inside,
    }
}

/// Arithmetic of a stage, functions weighed by what they take.
fn stage_work(stage: &Stage) -> Dim {
    let elements: Dim = stage.axes.iter().map(|(_, extent)| extent.clone()).product();
    elements * work(&stage.body)
}

fn work(e: &Expr) -> Dim {
    let inside: Dim = e.children().into_iter().map(work).sum();
    let own = match e.kind() {
        // Where it is loaded from is the same for many elements.
        ExprKind::Load { .. } => return Dim::constant(0),
        ExprKind::Fold(Fold { extent, .. }) => return (inside + Dim::constant(1)) * extent.clone(),
        ExprKind::Const(_) | ExprKind::Index(_) | ExprKind::Var { .. } => 0,
        ExprKind::Unary(Unary::Neg | Unary::Abs | Unary::Not | Unary::IsNan | Unary::IsInf, _) => 1,
        ExprKind::Unary(Unary::Sqrt, _) | ExprKind::Binary(Binary::Div | Binary::Rem | Binary::Mod, ..) => 4,
        ExprKind::Unary(Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc, _) => 2,
        ExprKind::Unary(..) => 16,
        ExprKind::Binary(Binary::Pow, ..) => 32,
        ExprKind::Fma(..) => 2,
        ExprKind::Binary(..) | ExprKind::Select(..) | ExprKind::Cast(..) | ExprKind::Bitcast(..) => 1,
    };
    inside + Dim::constant(own)
}
