//! Decision trees as tables, and how rows find their leaves in them: a loop over levels, in which each row is at one place of
//! each tree, and goes on from there; who has arrived stays.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor};

use crate::flow::r#loop::{Repeat, repeat};
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::ge::GE;
use crate::math::gt::GT;
use crate::math::is_nan::IS_NAN;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::ne::NE;
use crate::math::r#where::WHERE;
use crate::onnx::ImportError;
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_min::REDUCE_MIN;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::broadcast::broadcast;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::gather_elements::{self, GATHER_ELEMENTS};
use crate::shape::reshape::reshape;

/// What leaves give to targets is one table of at most so many numbers.
const MAX_TABLE: usize = 1 << 28;

/// How a feature is compared with the number of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Compare(&'static ir::OpDef),
    /// Is it one of several numbers?
    Member,
}

/// Names and numbers of the modes.
pub(crate) const MODES: [(&str, Mode); 7] = [
    ("BRANCH_LEQ", Mode::Compare(&LE)),
    ("BRANCH_LT", Mode::Compare(&LT)),
    ("BRANCH_GTE", Mode::Compare(&GE)),
    ("BRANCH_GT", Mode::Compare(&GT)),
    ("BRANCH_EQ", Mode::Compare(&EQ)),
    ("BRANCH_NEQ", Mode::Compare(&NE)),
    ("BRANCH_MEMBER", Mode::Member),
];

/// Where one goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    Node(usize),
    Leaf(usize),
}

/// A node with two ways on.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) feature: i64,
    pub(crate) mode: Mode,
    pub(crate) number: f64,
    pub(crate) members: Vec<f64>,
    /// Where a feature that is NaN goes.
    pub(crate) nan_is_true: bool,
    pub(crate) yes: Next,
    pub(crate) no: Next,
}

/// How the leaves that a row finds become one number for each target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// Trees, whose nodes and leaves are numbered through.
#[derive(Debug, Clone)]
pub(crate) struct Trees {
    pub(crate) splits: Vec<Split>,
    /// For each leaf, targets and what they get.
    pub(crate) leaves: Vec<Vec<(usize, f64)>>,
    pub(crate) roots: Vec<Next>,
    pub(crate) targets: usize,
}

impl Trees {
    fn place(&self, next: Next) -> usize {
        match next {
            Next::Node(node) => node,
            Next::Leaf(leaf) => self.splits.len() + leaf,
        }
    }

    /// Nodes and leaves that there are.
    fn count(&self) -> usize {
        self.splits.len() + self.leaves.len()
    }

    /// The largest number of nodes above a leaf.
    fn depth(&self) -> Result<usize, ImportError> {
        let mut level: Vec<usize> = self.roots.iter().map(|&root| self.place(root)).collect();
        for depth in 0..=self.splits.len() {
            let inner = level.iter().filter_map(|&place| self.splits.get(place));
            level = inner.flat_map(|split| [self.place(split.yes), self.place(split.no)]).collect();
            level.sort_unstable();
            level.dedup();
            if level.is_empty() {
                return Ok(depth);
            }
        }
        let why = "a node is below itself".to_owned();
        Err(ImportError::Attribute { name: "nodes_truenodeids".to_owned(), why })
    }

    /// What each target gets, `[N, targets]`, for rows `x: [N, F]` of floats.
    ///
    /// # Errors
    /// Trees that do not end, and operands of another shape.
    pub(crate) fn of(&self, b: &mut Build, x: Value, aggregate: Aggregate) -> Result<Value, ImportError> {
        let ty = b.ty(x).clone();
        let [rows, _] = ty.shape.as_slice() else {
            return Err(OpError::Rank { operand: "X", expected: 2, found: ty.rank() }.into());
        };
        let depth = self.depth()?;
        if self.count().saturating_mul(self.targets) > MAX_TABLE {
            return Err(ImportError::Unsupported {
                what: format!("a table of {} leaves and nodes for {} targets", self.count(), self.targets),
                help: "divide the ensemble, each part with some of the targets".to_owned(),
            });
        }
        let roots: Vec<i64> = self.roots.iter().map(|&root| self.place(root) as i64).collect();
        let roots = b.constant(&Tensor::from_i64(&[roots.len()], &roots));
        let mut place = broadcast(b, roots, vec![rows.clone(), self.roots.len().into()])?;
        if depth > 0 {
            let index = b.fresh_symbol("level");
            let mut body = Build::new("descend");
            body.set_origin(b.origin().clone());
            let before = body.input("in0", b.ty(place).clone());
            let sample = body.input("in1", ty.clone());
            let after = self.descend(&mut body, before, sample)?;
            let parts = Repeat {
                body: body.finish(vec![after]),
                index,
                count: Some(depth.into()),
                cond: None,
                carried: vec![place],
                captures: vec![x],
                changing: vec![],
            };
            place = repeat(b, parts, "trees")?[0];
        }
        Ok(self.aggregated(b, place, ty.dtype, aggregate)?)
    }

    /// Where rows go on from `place: [N, T]`.
    fn descend(&self, b: &mut Build, place: Value, x: Value) -> Result<Value, OpError> {
        let dtype = b.ty(x).dtype;
        let lookup = |b: &mut Build, table: Tensor| {
            let table = b.constant(&table);
            b.op_with(&GATHER, &[table, place], [AXIS.is(0)])
        };
        let of_node = |i: usize, f: &dyn Fn(&Split) -> i64, leaf: i64| self.splits.get(i).map_or(leaf, f);
        let ints = |f: &dyn Fn(usize) -> i64| {
            Tensor::from_i64(&[self.count()], &(0..self.count()).map(f).collect::<Vec<_>>())
        };
        let feature = lookup(b, ints(&|i| of_node(i, &|split| split.feature, 0)))?;
        let value = b.op_with(&GATHER_ELEMENTS, &[x, feature], [gather_elements::AXIS.is(1)])?;
        let number = |i: usize| Scalar::from_f64(dtype, self.splits.get(i).map_or(0.0, |split| split.number));
        let number = lookup(b, Tensor::from_fn(dtype, &[self.count()], |at| number(at[0])))?;
        let mut kinds: Vec<Mode> = Vec::new();
        for split in &self.splits {
            if !kinds.contains(&split.mode) {
                kinds.push(split.mode);
            }
        }
        let mut holds: Option<Value> = None;
        for mode in &kinds {
            let own = match mode {
                Mode::Compare(op) => b.op(op, &[value, number])?,
                Mode::Member => self.is_member(b, place, value)?,
            };
            holds = Some(match holds {
                None => own,
                Some(holds) => {
                    let here = |split: &Split| i64::from(split.mode == *mode);
                    let which = lookup(b, ints(&|i| of_node(i, &here, 0)))?;
                    let which = convert(b, which, DType::Bool)?;
                    b.op(&WHERE, &[which, own, holds])?
                }
            });
        }
        let mut holds = holds.expect("there is a level, so there is a node");
        if kinds.contains(&Mode::Compare(&NE)) || self.splits.iter().any(|split| split.nan_is_true) {
            let nan = b.op(&IS_NAN, &[value])?;
            let goes = lookup(b, ints(&|i| of_node(i, &|split| i64::from(split.nan_is_true), 0)))?;
            let goes = convert(b, goes, DType::Bool)?;
            holds = b.op(&WHERE, &[nan, goes, holds])?;
        }
        let stays = |i: usize, next: &dyn Fn(&Split) -> Next| {
            self.splits.get(i).map_or(i, |split| self.place(next(split))) as i64
        };
        let yes = lookup(b, ints(&|i| stays(i, &|split| split.yes)))?;
        let no = lookup(b, ints(&|i| stays(i, &|split| split.no)))?;
        b.op(&WHERE, &[holds, yes, no])
    }

    /// Is the value among the members of the node? Sets are filled up with NaN, which equals nothing.
    fn is_member(&self, b: &mut Build, place: Value, value: Value) -> Result<Value, OpError> {
        let dtype = b.ty(value).dtype;
        let most = self.splits.iter().map(|split| split.members.len()).max().unwrap_or(0).max(1);
        let member = |at: &[usize]| {
            let members = self.splits.get(at[0]).map_or(&[][..], |split| &split.members);
            Scalar::from_f64(dtype, members.get(at[1]).copied().unwrap_or(f64::NAN))
        };
        let table = b.constant(&Tensor::from_fn(dtype, &[self.count(), most], member));
        let members = b.op_with(&GATHER, &[table, place], [AXIS.is(0)])?;
        let column = [b.ty(value).shape.clone(), vec![Dim::constant(1)]].concat();
        let value = reshape(b, value, column)?;
        let same = b.op(&EQ, &[members, value])?;
        reduce(b, &REDUCE_MAX, same, &[2], false)
    }

    /// What the leaves at `place: [N, T]` give.
    fn aggregated(
        &self,
        b: &mut Build,
        place: Value,
        dtype: DType,
        aggregate: Aggregate,
    ) -> Result<Value, OpError> {
        // What a target has of trees that say nothing of it.
        let (op, nothing) = match aggregate {
            Aggregate::Sum | Aggregate::Average => (&REDUCE_SUM, 0.0),
            Aggregate::Min => (&REDUCE_MIN, f64::INFINITY),
            Aggregate::Max => (&REDUCE_MAX, f64::NEG_INFINITY),
        };
        let share = if aggregate == Aggregate::Average { self.roots.len() as f64 } else { 1.0 };
        let mut table = Tensor::splat(Scalar::from_f64(dtype, nothing), &[self.count(), self.targets]);
        for (leaf, given) in self.leaves.iter().enumerate() {
            for &(target, weight) in given {
                let at = (self.splits.len() + leaf) * self.targets + target;
                let old = table.get(at).to_f64();
                let new = match aggregate {
                    Aggregate::Sum | Aggregate::Average => old + weight / share,
                    Aggregate::Min => old.min(weight),
                    Aggregate::Max => old.max(weight),
                };
                table.set(at, Scalar::from_f64(dtype, new));
            }
        }
        let table = b.constant(&table);
        let given = b.op_with(&GATHER, &[table, place], [AXIS.is(0)])?;
        let y = reduce(b, op, given, &[1], false)?;
        if matches!(aggregate, Aggregate::Sum | Aggregate::Average) {
            return Ok(y);
        }
        // Of which no tree says anything, that is 0.
        let (nothing, zero) = (b.scalar(dtype, nothing), b.scalar(dtype, 0.0));
        let is_unsaid = b.op(&EQ, &[y, nothing])?;
        b.op(&WHERE, &[is_unsaid, zero, y])
    }
}
