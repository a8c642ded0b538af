//! A dense expert and the routed ones, walked side by side from what they say to the tokens: whether the one is computed as the
//! others are, and with which matrices.

use std::collections::BTreeMap;

use ir::attr::Attrs;
use ir::graph::Value;
use ir::{DType, Graph, NodeId, OpDef, Scalar, Tensor};
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;

use crate::edit::EditError;
use crate::edit::body::{Body, Part, columns, features, keeps_rows, tokens};
use crate::edit::layer::{constant, is, name_of};

/// What a dense expert is in terms of routed ones.
#[derive(Debug, Clone)]
pub(super) struct Likeness {
    /// How many routed experts it is.
    pub(super) parts: usize,
    /// By the product or table of the routed experts, and the first column of its stack.
    pieces: BTreeMap<(NodeId, usize), Piece>,
}

/// What stands for some columns of a stack in the dense expert.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    /// A matrix, or a row of biases.
    source: Tensor,
    /// The first of its columns that count.
    start: usize,
    /// How many columns of the stack it is.
    width: usize,
    cut: Cut,
}

/// How a matrix is cut into those of several experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Each has some of the rows.
    Rows,
    /// Each has some of the columns.
    Columns,
    /// The first has it whole, the others have zeros.
    Whole,
}

/// Where values stand in an expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Behind its products: what several experts say is added up.
    Result,
    /// Before the last product, where an expert that is several has so many times the features.
    Hidden,
    /// Before that.
    Input,
}

/// Columns of a value.
#[derive(Debug, Clone, Copy)]
struct Side {
    value: Value,
    start: usize,
    count: usize,
}

impl Side {
    /// All columns.
    fn of(graph: &Graph, value: Value) -> Side {
        let width = features(graph, value).as_const().and_then(|width| usize::try_from(width).ok());
        Side { value, start: 0, count: width.unwrap_or(1) }
    }

    /// The same columns of what the value is a part of, from there on.
    fn within(self, value: Value, from: usize) -> Side {
        Side { value, start: self.start + from, ..self }
    }

    /// The same columns of an operand, or its only one.
    fn operand(self, graph: &Graph, value: Value) -> Side {
        let all = Side::of(graph, value);
        if all.count == 1 { all } else { self.within(value, 0) }
    }
}

/// What a value is in terms of the routed experts; or why it is not, and how many of its products had been reached.
pub(super) fn compare(graph: &Graph, body: &Body, dense: Value) -> Result<Likeness, (usize, EditError)> {
    let found = Likeness { parts: 1, pieces: BTreeMap::new() };
    let mut pairs = Pairs { graph, body, found, whole: None, reached: 0 };
    let alike = pairs.compare(Side::of(graph, body.result), Side::of(graph, dense), Level::Result);
    match (alike, pairs.whole, pairs.found.parts) {
        (Err(error), ..) => Err((pairs.reached, error)),
        (Ok(()), Some(node), parts @ 2..) => {
            let why = format!(
                "the shared expert is {parts} times as wide as a routed one, and cannot be taken apart"
            );
            Err((pairs.reached, pairs.refuse(node, &why)))
        }
        _ => Ok(pairs.found),
    }
}

/// A walk.
struct Pairs<'a> {
    graph: &'a Graph,
    body: &'a Body<'a>,
    found: Likeness,
    /// What must not be there if the dense expert is several.
    whole: Option<NodeId>,
    /// How many products of the dense expert were reached: of several refusals, the one that came last says most.
    reached: usize,
}

impl Pairs<'_> {
    /// Columns of the routed experts and of the dense one are computed alike.
    fn compare(&mut self, own: Side, dense: Side, level: Level) -> Result<(), EditError> {
        let (graph, at) = (self.graph, dense.value);
        // In the dense expert, too, other shapes say nothing new, and a range of columns is looked through.
        if is(graph, at.node, &SLICE)
            && let Some((start, _)) = columns(graph, at)
        {
            return self.compare(own, dense.within(graph.operands(at.node)[0], start), level);
        }
        if is(graph, at.node, &RESHAPE) && keeps_rows(graph, at, graph.operands(at.node)[0]) {
            return self.compare(own, dense.within(graph.operands(at.node)[0], 0), level);
        }
        let part = self.body.part(graph, own.value)?;
        if level == Level::Result && matches!(part, Part::Tokens | Part::Number) {
            self.whole = Some(own.value.node);
        }
        match part {
            Part::View(x) => self.compare(own.within(x, 0), dense, level),
            Part::Columns { x, start } => self.compare(own.within(x, start), dense, level),
            Part::Product { x } => self.product(own, x, dense, level),
            Part::Table => self.bias(own, dense, level),
            Part::Elementwise { def, attrs, operands } => {
                self.elementwise(own, (def, &attrs, &operands), dense, level)
            }
            Part::Tokens => {
                let same = tokens(graph, at) == self.body.tokens;
                match same && (own.start, own.count) == (dense.start, dense.count) {
                    true => Ok(()),
                    false => {
                        Err(self.refuse(at.node, "the shared expert reads other values than the routed ones"))
                    }
                }
            }
            Part::Number => {
                let number = |value| constant(graph, value).filter(|tensor| tensor.elements() == 1);
                match number(own.value).map(|x| x.to_f64()) == number(at).map(|x| x.to_f64()) {
                    true => Ok(()),
                    false => Err(self.differs(at.node)),
                }
            }
        }
    }

    fn elementwise(
        &mut self,
        own: Side,
        (def, attrs, operands): (&'static OpDef, &Attrs, &[Value]),
        dense: Side,
        level: Level,
    ) -> Result<(), EditError> {
        let graph = self.graph;
        if level == Level::Result && def != &ADD {
            self.whole = Some(own.value.node);
        }
        let is_same = graph.node(dense.value.node).op() == Some((def, attrs));
        if is_same {
            let others = graph.operands(dense.value.node);
            let turned = others.iter().rev().copied().collect();
            let orders = if def == &ADD || def == &MUL { vec![others, turned] } else { vec![others] };
            let before = (self.found.clone(), self.whole);
            let reached = std::mem::take(&mut self.reached);
            let mut refused: Option<(usize, EditError)> = None;
            for others in orders {
                let mut pairs = operands.iter().zip(others);
                let alike = pairs.try_for_each(|(&operand, other)| {
                    self.compare(own.operand(graph, operand), dense.operand(graph, other), level)
                });
                let Err(error) = alike else {
                    self.reached += reached;
                    return Ok(());
                };
                let far = std::mem::take(&mut self.reached);
                if refused.as_ref().is_none_or(|(other, _)| far > *other) {
                    refused = Some((far, error));
                }
                (self.found, self.whole) = before.clone();
            }
            let (far, error) = refused.expect("bug: operands were compared in some order");
            self.reached = reached + far;
            return Err(error);
        }
        // A bias that the dense expert does not have is 0.
        let is_table = |value: &Value| self.body.layer.tables.contains(&value.node);
        match operands.iter().position(is_table) {
            Some(table) if def == &ADD => self.compare(own.operand(graph, operands[1 - table]), dense, level),
            _ => Err(self.differs(dense.value.node)),
        }
    }

    fn product(&mut self, own: Side, x: Value, dense: Side, level: Level) -> Result<(), EditError> {
        let (graph, node) = (self.graph, dense.value.node);
        if !is(graph, node, &MATMUL) {
            return Err(self.differs(node));
        }
        let [y, matrix] = graph.operands(node)[..] else { unreachable!("bug: a product has two operands") };
        let source = constant(graph, matrix)
            .filter(|matrix| matrix.shape().len() == 2)
            .ok_or_else(|| self.refuse(node, "the shared expert's matrix is no constant"))?;
        self.reached += 1;
        let (x, y) = (Side::of(graph, x), Side::of(graph, y));
        let times = |whole: usize, part: usize| {
            if whole.is_multiple_of(part.max(1)) { whole / part.max(1) } else { 0 }
        };
        let (high, wide, parts) = (times(y.count, x.count), times(dense.count, own.count), self.found.parts);
        let (cut, below) = match (level, high, wide) {
            (Level::Result, 2.., 1) if parts == 1 || parts == high => {
                self.found.parts = high;
                (Cut::Rows, Level::Hidden)
            }
            (Level::Hidden, 1, wide) if wide == parts => (Cut::Columns, Level::Input),
            (Level::Result | Level::Input, 1, 1) => {
                if level == Level::Input {
                    self.whole = Some(own.value.node);
                }
                (Cut::Whole, Level::Input)
            }
            _ => {
                let why = format!(
                    "a matrix of the shared expert is {} x {}, and those of the routed ones, {} x {}, are no part of it",
                    y.count, dense.count, x.count, own.count
                );
                return Err(self.refuse(node, &why));
            }
        };
        self.place(own, Piece { source, start: dense.start, width: own.count, cut }, node)?;
        self.compare(x, y, below)
    }

    fn bias(&mut self, own: Side, dense: Side, level: Level) -> Result<(), EditError> {
        let node = dense.value.node;
        let (cut, parts) = match level {
            Level::Hidden => (Cut::Columns, self.found.parts),
            Level::Result | Level::Input => (Cut::Whole, 1),
        };
        let row = constant(self.graph, dense.value)
            .filter(|row| row.shape().last() == Some(&row.elements()) && dense.count == parts * own.count)
            .ok_or_else(|| self.differs(node))?;
        let source = row.reshaped(&[1, row.elements()]).expect("as many elements");
        self.place(own, Piece { source, start: dense.start, width: own.count, cut }, node)
    }

    /// Notes what stands for columns of a stack: one thing only.
    fn place(&mut self, own: Side, piece: Piece, dense: NodeId) -> Result<(), EditError> {
        let placed = self.found.pieces.entry((own.value.node, own.start)).or_insert_with(|| piece.clone());
        if *placed == piece { Ok(()) } else { Err(self.differs(dense)) }
    }

    fn differs(&self, node: NodeId) -> EditError {
        self.refuse(node, "the shared expert is not computed as the routed ones are")
    }

    fn refuse(&self, node: NodeId, why: &str) -> EditError {
        let why = format!("{why}, at {}", name_of(self.graph, node));
        EditError::Unfit { what: self.body.layer.name.clone(), why }
    }
}

impl Likeness {
    /// What stands behind the routed experts in the stack of a product or table of this type: `[n, rows, columns]`, or
    /// `[n, columns]`.
    pub(super) fn behind(&self, node: NodeId, dtype: DType, shape: &[usize]) -> Tensor {
        let shape: Vec<usize> = [self.parts].iter().chain(&shape[1..]).copied().collect();
        let all = (node, 0)..=(node, usize::MAX);
        let element = |at: &[usize]| {
            let (part, column) = (at[0], at[at.len() - 1]);
            let row = if at.len() == 3 { at[1] } else { 0 };
            let mut pieces = self.pieces.range(all.clone());
            let piece = pieces.find(|((_, from), piece)| (*from..from + piece.width).contains(&column));
            let ((_, from), piece) = piece?;
            let column = piece.start + column - from;
            match piece.cut {
                Cut::Rows => Some(piece.source.at(&[part * shape[1] + row, column])),
                Cut::Columns => Some(piece.source.at(&[row, part * piece.width + column])),
                Cut::Whole => (part == 0).then(|| piece.source.at(&[row, column])),
            }
        };
        Tensor::from_fn(dtype, &shape, |at| element(at).unwrap_or(Scalar::from_f64(dtype, 0.0)))
    }
}
