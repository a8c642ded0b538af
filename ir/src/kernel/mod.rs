//! Kernels: what is computed, then how.
//!
//! A [`Kernel`] is first a list of [`Stage`]s, arrays given by one scalar expression each; fusion between ops
//! happens on this form. Then it is loops over buffers ([`Stmt`]), which a schedule rewrites and an emitter turns
//! into machine code. Both forms have a meaning of their own, and the walker of the reference backend runs both.
//!
//! Meaning of the stage form: stages in order, each computed completely before the next; a stage whose name is a
//! written parameter fills it, the others fill temporaries. Folds run in ascending order.
//!
//! Meaning of the loop form: `for` runs its body for each value of its axis, ascending, whatever its kind is; a
//! parallel or vector loop promises that iterations do not depend on each other. A `fold` takes elements in sixteen
//! lanes, in an order that is part of its meaning ([`LaneFold`]). `select(c, a, b)` evaluates only the side that it
//! chooses: the way to guard a load. Arrays are row-major and contiguous.

pub mod eval;
pub mod expr;
pub mod lower;
pub mod operand;
pub mod stmt;
pub mod stored;

use crate::dim::{Condition, Dim, Symbol};
use crate::dtype::DType;
use crate::types::TensorType;

pub use expr::{Expr, ExprKind, Fold, Reduce};
pub use stmt::{Gemm, Group, LaneFold, LoopKind, Sort, Stmt};

/// What a kernel mainly is: for reports and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelKind {
    /// Fused attention.
    Attention,
    /// Router: scores, top-k and gates.
    Route,
    /// Matrix products of routed tokens with their experts.
    GroupedMatmul,
    /// Weighted sum of the experts' results.
    Combine,
    /// Matrix product with what follows it.
    Matmul,
    /// Convolution with what follows it.
    Conv,
    /// Elementwise functions and reductions over one iteration space.
    Fused,
    /// Only moves elements.
    Data,
    /// Sorting, top-k.
    Sort,
    /// Prefix sums.
    Scan,
    /// None of these.
    Other,
}

impl KernelKind {
    /// Every kind.
    pub const ALL: [KernelKind; 11] = [
        KernelKind::Attention,
        KernelKind::Route,
        KernelKind::GroupedMatmul,
        KernelKind::Combine,
        KernelKind::Matmul,
        KernelKind::Conv,
        KernelKind::Fused,
        KernelKind::Data,
        KernelKind::Sort,
        KernelKind::Scan,
        KernelKind::Other,
    ];

    /// Does a kernel stay one of this kind, whatever elementwise functions and moves join it?
    pub const fn lasts(self) -> bool {
        !matches!(self, KernelKind::Fused | KernelKind::Data)
    }

    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            KernelKind::Attention => "attention",
            KernelKind::Route => "route",
            KernelKind::GroupedMatmul => "grouped_matmul",
            KernelKind::Combine => "combine",
            KernelKind::Matmul => "matmul",
            KernelKind::Conv => "conv",
            KernelKind::Fused => "fused",
            KernelKind::Data => "data",
            KernelKind::Sort => "sort",
            KernelKind::Scan => "scan",
            KernelKind::Other => "other",
        }
    }
}

/// What a kernel does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes every element of it, and may read what it wrote.
    Write,
    /// Scratch memory: contents before and after mean nothing.
    Scratch,
}

/// A buffer that a kernel is called with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Param {
    /// Its name inside the kernel.
    pub name: Symbol,
    /// Its type.
    pub ty: TensorType,
    /// What the kernel does with it.
    pub access: Access,
}

/// An array given by one expression: `name[axes…] = body`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stage {
    /// Its name.
    pub name: Symbol,
    /// Its axes with their extents, outermost first.
    pub axes: Vec<(Symbol, Dim)>,
    /// The element, over the axes.
    pub body: Expr,
}

impl Stage {
    /// The type of the array.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.body.dtype(), self.axes.iter().map(|(_, extent)| extent.clone()))
    }
}

/// What a kernel does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    /// What is computed.
    Stages(Vec<Stage>),
    /// How.
    Loops(Vec<Stmt>),
}

/// One unit of execution: a function over buffers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Its name in the program.
    pub name: Symbol,
    /// What it mainly is.
    pub kind: KernelKind,
    /// Sizes that it is called with, in order.
    pub sizes: Vec<Symbol>,
    /// What holds for them whenever it is called.
    pub given: Vec<Condition>,
    /// Buffers that it is called with, in order.
    pub params: Vec<Param>,
    /// What it does.
    pub body: Body,
}

impl Kernel {
    /// The parameter called `name`.
    pub fn param(&self, name: &Symbol) -> Option<&Param> {
        self.params.iter().find(|param| param.name == *name)
    }

    /// The type of the elements of `name`, a parameter.
    pub fn dtype(&self, name: &Symbol) -> Option<DType> {
        self.param(name).map(|param| param.ty.dtype)
    }
}
