//! An op's signature, and what it means.
//!
//! An [`OpDef`] is a `static`: operands, results and attributes as plain data, meaning as one [`Semantics`]. Two
//! ops are equal when their names are. This crate defines none; see the crate `ops`.
//!
//! There are two sorts, and the sort shows at a glance: a *core* op gives `infer`, `eval` and `lower`; a
//! *composite* one gives `expand` and derives the rest.

use std::fmt;
use std::sync::Arc;

use crate::attr::{Attr, AttrError, AttrSpec, Attrs};
use crate::build::Build;
use crate::dim::{Condition, Dim, Symbol};
use crate::dtype::DType;
use crate::graph::{Graph, SizeValues, Value};
use crate::kernel::KernelKind;
use crate::kernel::lower::{Compute, Lower};
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::weight::Weight;

/// How many operands an op takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// One for each name.
    Fixed(&'static [&'static str]),
    /// Any number of at least `.1`, all called `.0`.
    Variadic(&'static str, usize),
}

impl Arity {
    /// Does it admit `count` operands?
    pub fn admits(self, count: usize) -> bool {
        match self {
            Arity::Fixed(names) => names.len() == count,
            Arity::Variadic(_, least) => count >= least,
        }
    }

    /// The name of operand `index`.
    pub fn operand(self, index: usize) -> &'static str {
        match self {
            Arity::Fixed(names) => names.get(index).copied().unwrap_or("?"),
            Arity::Variadic(name, _) => name,
        }
    }
}

/// The signature and the meaning of an op.
pub struct OpDef {
    /// Its name in every text form, rule, file and message.
    pub name: &'static str,
    /// Its operands.
    pub arity: Arity,
    /// The attributes it declares.
    pub attrs: &'static [AttrSpec],
    /// What it means.
    pub semantics: &'static dyn Semantics,
}

impl OpDef {
    /// An op with named operands.
    pub const fn new(
        name: &'static str,
        operands: &'static [&'static str],
        semantics: &'static dyn Semantics,
    ) -> OpDef {
        OpDef { name, arity: Arity::Fixed(operands), attrs: &[], semantics }
    }

    /// An op with any number of operands of at least `least`.
    pub const fn variadic(
        name: &'static str,
        operand: &'static str,
        least: usize,
        semantics: &'static dyn Semantics,
    ) -> OpDef {
        OpDef { name, arity: Arity::Variadic(operand, least), attrs: &[], semantics }
    }

    /// The same op with declared attributes.
    pub const fn attrs(self, attrs: &'static [AttrSpec]) -> OpDef {
        OpDef { attrs, ..self }
    }

    /// The types of the results for these operands.
    ///
    /// # Errors
    /// What is wrong with the operands; [`OpError::TooManyAxes`].
    pub fn result_types(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let types = self.semantics.infer(cx)?;
        match types.iter().map(TensorType::rank).find(|&rank| rank > MAX_RANK) {
            Some(rank) => Err(OpError::TooManyAxes { rank, limit: MAX_RANK }),
            None => Ok(types),
        }
    }

    /// `given` checked against the declaration, defaults filled in.
    pub fn check_attrs(&self, given: impl IntoIterator<Item = (String, Attr)>) -> Result<Attrs, AttrError> {
        Attrs::check(self.name, self.attrs, given)
    }
}

impl PartialEq for OpDef {
    fn eq(&self, other: &OpDef) -> bool {
        self.name == other.name
    }
}

impl Eq for OpDef {}

impl fmt::Debug for OpDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Finds an op by name: how text becomes a graph. Implemented by the crate `ops`.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<&'static OpDef>;

/// What an op means. Methods that return `None` by default follow from [`Semantics::expand`].
pub trait Semantics: Sync {
    /// The results' types.
    ///
    /// # Errors
    /// What is wrong with these operands; the caller adds where.
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let graph = expansion(self, cx.operands, cx.attrs)?;
        Ok(graph.outputs().iter().map(|value| graph.ty(*value).clone()).collect())
    }

    /// The results' values: the reference, written for clarity. Sums are carried in `f64`.
    ///
    /// # Errors
    /// What is wrong with these operands.
    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let types: Vec<TensorType> = cx.operands.iter().map(|tensor| tensor.ty()).collect();
        let graph = expansion(self, &types.iter().collect::<Vec<_>>(), cx.attrs)?;
        let operands: Vec<Tensor> = cx.operands.iter().map(|tensor| (*tensor).clone()).collect();
        Ok(crate::graph::eval_in(&graph, &operands, cx.sizes).map_err(|at| at.error)?.0)
    }

    /// The results as stages of index expressions, or as loops: what a kernel computes. Only asked of core ops.
    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let _ = cx;
        None
    }

    /// The op as a small graph of simpler ones: the results. `Ok(None)` for a core op.
    ///
    /// # Errors
    /// What is wrong with these operands.
    fn expand(&self, b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Option<Vec<Value>>, OpError> {
        let _ = (b, x, attrs);
        Ok(None)
    }

    /// The elements of the first result (row-major), where those of the operands are known as sizes: what shape
    /// arithmetic is made of. Only asked where the result holds at most [`MAX_SIZES`] integers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let _ = cx;
        None
    }

    /// Does it give back its operand unchanged where the result has the operand's type? (Reshape, broadcast and
    /// conversion do; a transposition does if its permutation is the identity.)
    fn is_identity(&self, attrs: &Attrs) -> bool {
        let _ = attrs;
        false
    }

    /// The attributes with which this op does in one go what it does twice in a row, `inner` first.
    fn after_itself(&self, outer: &Attrs, inner: &Attrs) -> Option<Attrs> {
        let _ = (outer, inner);
        None
    }

    /// What it has a step do instead of a kernel, if it does: sizes and control flow.
    fn flow(&self, attrs: &Attrs) -> Option<Flow> {
        let _ = attrs;
        None
    }

    /// The result for constants, if it is the same elements in another order or shape: it is read from where they are.
    fn rearranged(&self, x: &[&Weight], attrs: &Attrs) -> Option<Weight> {
        let _ = (x, attrs);
        None
    }

    /// Conditions on sizes that the types alone don't settle: checked when a model runs, and what the lowering takes
    /// for given. Those that follow from the sizes may be among them.
    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let _ = cx;
        Vec::new()
    }

    /// What a kernel of this op mainly is, if its expressions do not tell.
    fn kind(&self) -> Option<KernelKind> {
        None
    }

    /// Is it computed element by element from operands that broadcast?
    fn is_elementwise(&self) -> bool {
        false
    }
}

/// A condition on sizes, and what it means: `a slice stays inside its operand`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The condition.
    pub condition: Condition,
    /// What it means.
    pub what: &'static str,
}

/// What an op does around kernels. Its operands are the condition or the number that it looks at, then what bodies
/// take.
#[derive(Debug, Clone)]
pub enum Flow {
    /// The only operand, an `i64` without axes, is a size. A symbol of that name gets the value, unless `size` is
    /// another expression by now: then it is compared with it.
    Size {
        /// The name that it was given.
        name: Symbol,
        /// What stands for it.
        size: Dim,
        /// It is at most this.
        bound: Option<Dim>,
    },
    /// One of two graphs: the first operand, a truth value, chooses.
    If {
        /// If it holds.
        then: Arc<Graph>,
        /// If it does not.
        otherwise: Arc<Graph>,
        /// How many of the other operands `then` takes; `otherwise` takes the rest.
        taken: usize,
        /// Sizes of results that differ.
        sizes: Vec<Decided>,
    },
    /// A graph, repeatedly. Its inputs are what it carries, then captures; its outputs are the next condition (if it
    /// has one), what it carries next, and elements of stacks. The op's operands are the first condition (if it has
    /// one), what it carries first, and captures; its results are what it carries last, and the stacks.
    Loop {
        /// The graph.
        body: Arc<Graph>,
        /// The number of the iteration, in the graph.
        index: Symbol,
        /// How often at most; `None` for no limit.
        count: Option<Dim>,
        /// Does a condition end it?
        cond: bool,
        /// How many values it carries.
        carried: usize,
        /// The number of iterations.
        trips: Dim,
        /// Sizes of carried values that change, and the number of iterations if a condition ends it.
        sizes: Vec<Decided>,
    },
}

/// A size that a node of control flow decides: a symbol of that name, unless it turned out to be another expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The name that it was given.
    pub name: Symbol,
    /// What stands for it.
    pub size: Dim,
}

impl Decided {
    /// Is it this node that gives the symbol its value?
    pub fn is_free(&self) -> bool {
        self.size.as_symbol() == Some(&self.name)
    }
}

impl Flow {
    /// The symbols that get their values here.
    pub fn decides(&self) -> Vec<Symbol> {
        match self {
            Flow::Size { name, size, .. } => {
                if size.as_symbol() == Some(name) {
                    vec![name.clone()]
                } else {
                    vec![]
                }
            }
            Flow::If { sizes, .. } | Flow::Loop { sizes, .. } => {
                sizes.iter().filter(|size| size.is_free()).map(|size| size.name.clone()).collect()
            }
        }
    }
}

/// The expansion of an op on inputs of these types, as a graph of its own.
fn expansion<S: Semantics + ?Sized>(
    op: &S,
    operands: &[&TensorType],
    attrs: &Attrs,
) -> Result<Graph, OpError> {
    let mut b = Build::new("expansion");
    let inputs: Vec<Value> =
        operands.iter().enumerate().map(|(i, ty)| b.input(&format!("x{i}"), (*ty).clone())).collect();
    match op.expand(&mut b, &inputs, attrs)? {
        Some(results) => Ok(b.finish(results)),
        None => unreachable!("bug: an op defines neither this method nor `expand`"),
    }
}

/// What `infer` sees.
pub struct Infer<'a> {
    /// The operands' types.
    pub operands: &'a [&'a TensorType],
    /// The attributes, checked and complete.
    pub attrs: &'a Attrs,
}

impl Infer<'_> {
    /// The dtype that all operands share.
    ///
    /// # Errors
    /// [`OpError::DTypes`] if they differ.
    pub fn common_dtype(&self) -> Result<DType, OpError> {
        let first = self.operands[0].dtype;
        match self.operands.iter().find(|ty| ty.dtype != first) {
            None => Ok(first),
            Some(other) => Err(OpError::DTypes { left: first, right: other.dtype }),
        }
    }

    /// The shape that the operands broadcast to.
    ///
    /// # Errors
    /// [`OpError::Size`] if two sizes clash.
    pub fn broadcast(&self) -> Result<Vec<Dim>, OpError> {
        self.operands.iter().try_fold(Vec::new(), |shape, ty| {
            crate::types::broadcast(&shape, &ty.shape).map_err(|(left, right)| OpError::Size {
                what: "operands do not broadcast",
                left,
                right,
            })
        })
    }

    /// Fails unless there is arithmetic on the elements of operand `index` (called `operand`), which are not narrow.
    ///
    /// # Errors
    /// [`OpError::DType`].
    pub fn want_arithmetic(&self, index: usize, operand: &'static str) -> Result<(), OpError> {
        match self.operands[index].dtype {
            found if found.is_narrow() => Err(OpError::DType { operand, expected: ARITHMETIC, found }),
            _ => Ok(()),
        }
    }

    /// Fails unless operand `index` (called `operand`) has `expected` axes.
    ///
    /// # Errors
    /// [`OpError::Rank`].
    pub fn want_rank(&self, index: usize, operand: &'static str, expected: usize) -> Result<(), OpError> {
        let found = self.operands[index].rank();
        if found == expected { Ok(()) } else { Err(OpError::Rank { operand, expected, found }) }
    }
}

/// What an op wants that does not only move elements: an [`OpError::DType`] for narrow ones.
pub const ARITHMETIC: &str = "a type with arithmetic, which a cast gives";

/// What `eval` sees.
pub struct Eval<'a> {
    /// The operands' values.
    pub operands: &'a [&'a Tensor],
    /// The attributes, checked and complete; sizes in them are numbers by now.
    pub attrs: &'a Attrs,
    /// The values of sizes, for nested graphs.
    pub sizes: &'a SizeValues,
}

/// A result has at most so many axes, as in numpy: what is proven of indices takes time with their number.
pub const MAX_RANK: usize = 64;

/// Tensors of at most so many elements are tracked as sizes.
pub const MAX_SIZES: i64 = 1024;

/// What `sizes` sees.
pub struct Sizes<'a> {
    /// The operands' types.
    pub types: &'a [&'a TensorType],
    /// The operands' elements (row-major), where they are known as sizes.
    pub operands: &'a [Option<Vec<Dim>>],
    /// The attributes.
    pub attrs: &'a Attrs,
    /// The type of the first result.
    pub result: &'a TensorType,
}

/// Why an op can't be applied to its operands. Says what is wrong; [`crate::At`] says where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// Another number of operands than the op takes.
    #[error("{found} operands, expected {expected}")]
    Arity {
        /// What the op takes.
        expected: String,
        /// What there is.
        found: usize,
    },
    /// An operand has another number of axes than the op is defined for.
    #[error("operand `{operand}` has rank {found}, expected {expected}")]
    Rank {
        /// Its name.
        operand: &'static str,
        /// Axes that the op wants.
        expected: usize,
        /// Axes that it has.
        found: usize,
    },
    /// An operand has fewer axes than the op needs.
    #[error("operand `{operand}` has rank {found}, expected at least {least}")]
    RankAtLeast {
        /// Its name.
        operand: &'static str,
        /// Axes that the op wants.
        least: usize,
        /// Axes that it has.
        found: usize,
    },
    /// More axes than a tensor may have here.
    #[error("{rank} axes, and at most {limit} are supported")]
    TooManyAxes {
        /// How many there would be.
        rank: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Two sizes that must agree don't. Symbolic sizes agree only with themselves.
    #[error("{what}: {left} against {right}")]
    Size {
        /// What they are the sizes of.
        what: &'static str,
        /// One.
        left: Dim,
        /// The other.
        right: Dim,
    },
    /// Two element types that must agree don't.
    #[error("operands have different element types, {left} and {right}")]
    DTypes {
        /// One.
        left: DType,
        /// The other.
        right: DType,
    },
    /// An element type that the op is not defined for.
    #[error("operand `{operand}` has element type {found}, expected {expected}")]
    DType {
        /// The operand.
        operand: &'static str,
        /// What the op wants.
        expected: &'static str,
        /// What it has.
        found: DType,
    },
    /// An axis that the operand does not have.
    #[error("axis {axis} is out of range for rank {rank}")]
    Axis {
        /// The axis.
        axis: i64,
        /// Axes that there are.
        rank: usize,
    },
    /// An attribute's value makes no sense for these operands.
    #[error("attribute `{key}`: {why}")]
    Attribute {
        /// The attribute.
        key: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// Attributes that do not fit the op's declaration.
    #[error(transparent)]
    Attrs(#[from] AttrError),
    /// A legal value of an attribute that we don't implement. Never silently ignored.
    #[error("`{key} = {value}` is not supported")]
    Unsupported {
        /// The attribute.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

impl OpError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            OpError::Arity { .. } => "egraft::op::arity",
            OpError::Rank { .. } | OpError::RankAtLeast { .. } | OpError::TooManyAxes { .. } => {
                "egraft::op::rank"
            }
            OpError::Size { .. } => "egraft::op::size",
            OpError::DTypes { .. } | OpError::DType { .. } => "egraft::op::dtype",
            OpError::Axis { .. } => "egraft::op::axis",
            OpError::Attribute { .. } | OpError::Attrs(_) => "egraft::op::attribute",
            OpError::Unsupported { .. } => "egraft::op::unsupported",
        }
    }
}

/// An axis given as in numpy (negative counts from the end), as a position below `rank`.
///
/// # Errors
/// [`OpError::Axis`] if there is no such axis.
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let from_end = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_end).ok().filter(|&a| a < rank).ok_or(OpError::Axis { axis, rank })
}
