//! What an op's `lower` sees, and what it gives: its results as stages of index expressions, or as loops.

use crate::attr::Attrs;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::expr::{Expr, Reduce};
use crate::kernel::stmt::{LoopKind, Stmt};
use crate::kernel::{KernelKind, Stage};
use crate::scalar::Scalar;
use crate::types::TensorType;

/// How the results of an op come to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Compute {
    /// Element by element. The last `results` stages are the results, in order; those before them are intermediate
    /// arrays. Loads name operands (`x0`, `x1`, …) or earlier stages.
    Stages(Vec<Stage>),
    /// By statements, where no expression says what one element is: the elements of a result depend on each other, or
    /// the data decide where they go. Fusion leaves such a kernel alone.
    Loops(Loops),
}

/// Statements over operands (`x0`, `x1`, …), results (`y0`, `y1`, …) and scratch arrays.
#[derive(Debug, Clone, PartialEq)]
pub struct Loops {
    /// What the kernel mainly is.
    pub kind: KernelKind,
    /// Scratch arrays by name.
    pub scratch: Vec<(Symbol, TensorType)>,
    /// What runs. Every element of every result is written.
    pub body: Vec<Stmt>,
}

/// What `lower` sees.
pub struct Lower<'a> {
    /// The operands' types.
    pub operands: &'a [&'a TensorType],
    /// The attributes.
    pub attrs: &'a Attrs,
    /// The results' types.
    pub results: &'a [TensorType],
    axes: usize,
    stages: Vec<Stage>,
    scratch: Vec<(Symbol, TensorType)>,
}

impl<'a> Lower<'a> {
    /// For an op with these operands, attributes and results.
    pub fn new(operands: &'a [&'a TensorType], attrs: &'a Attrs, results: &'a [TensorType]) -> Self {
        Lower { operands, attrs, results, axes: 0, stages: Vec::new(), scratch: Vec::new() }
    }

    /// The name that stands for operand `index` in loads.
    pub fn operand_name(index: usize) -> Symbol {
        Symbol::new(format!("x{index}"))
    }

    /// The name that stands for result `index` in loops.
    pub fn result_name(index: usize) -> Symbol {
        Symbol::new(format!("y{index}"))
    }

    /// The element of operand `index` at `at`. If it is known to be empty, nothing comes here, and it is any number.
    pub fn load(&self, index: usize, at: impl IntoIterator<Item = Expr>) -> Expr {
        let TensorType { dtype, shape } = self.operands[index];
        if shape.iter().any(|size| size.is(0)) {
            return Expr::constant(Scalar::from_i64(*dtype, 0));
        }
        Expr::load(Lower::operand_name(index), *dtype, at)
    }

    /// The element of operand `index` that broadcasts to `at`, an index of the result.
    pub fn load_broadcast(&self, index: usize, at: &[Dim]) -> Expr {
        let ty = self.operands[index];
        let skip = at.len() - ty.rank();
        let at = at[skip..].iter().zip(&ty.shape);
        self.load(index, at.map(|(i, size)| if size.is(1) { Dim::constant(0) } else { i.clone() }.into()))
    }

    /// A new axis.
    pub fn axis(&mut self) -> Symbol {
        self.axes += 1;
        Symbol::new(format!("i{}", self.axes - 1))
    }

    /// An intermediate array with these sizes, element by element. Gives its name, for loads.
    pub fn stage(&mut self, shape: &[Dim], element: impl FnOnce(&mut Self, &[Dim]) -> Expr) -> Symbol {
        let axes: Vec<(Symbol, Dim)> = shape.iter().map(|size| (self.axis(), size.clone())).collect();
        let at: Vec<Dim> = axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let body = element(self, &at);
        let name = Symbol::new(format!("s{}", self.stages.len()));
        self.stages.push(Stage { name: name.clone(), axes, body });
        name
    }

    /// A fold of `element` over a new axis of this extent.
    pub fn fold(&mut self, op: Reduce, extent: &Dim, element: impl FnOnce(&mut Self, &Dim) -> Expr) -> Expr {
        let axis = self.axis();
        let body = element(self, &Dim::from(&axis));
        Expr::fold(op, axis, extent.clone(), body)
    }

    /// The only result, element by element: the end of most `lower`s.
    pub fn each(&mut self, element: impl FnOnce(&mut Self, &[Dim]) -> Expr) -> Option<Compute> {
        let shape = self.results[0].shape.clone();
        self.stage(&shape, element);
        self.finish()
    }

    /// The only result, from the elements of operands that broadcast to it.
    pub fn pointwise(&mut self, element: impl FnOnce(&[Expr]) -> Expr) -> Option<Compute> {
        self.each(|cx, at| {
            let operands: Vec<Expr> = (0..cx.operands.len()).map(|i| cx.load_broadcast(i, at)).collect();
            element(&operands)
        })
    }

    /// The stages so far, the last ones being the results.
    pub fn finish(&mut self) -> Option<Compute> {
        Some(Compute::Stages(std::mem::take(&mut self.stages)))
    }

    /// A scratch array for loops. Gives its name.
    pub fn scratch(&mut self, ty: TensorType) -> Symbol {
        let name = Symbol::new(format!("s{}", self.scratch.len()));
        self.scratch.push((name.clone(), ty));
        name
    }

    /// The results by statements, over the scratch arrays so far.
    pub fn loops(&mut self, kind: KernelKind, body: Vec<Stmt>) -> Option<Compute> {
        Some(Compute::Loops(Loops { kind, scratch: std::mem::take(&mut self.scratch), body }))
    }

    /// One loop for each of these sizes around `body`, outermost first.
    pub fn each_index(
        &mut self,
        shape: &[Dim],
        body: impl FnOnce(&mut Self, &[Dim]) -> Vec<Stmt>,
    ) -> Vec<Stmt> {
        let axes: Vec<(Symbol, Dim)> = shape.iter().map(|size| (self.axis(), size.clone())).collect();
        let at: Vec<Dim> = axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let body = body(self, &at);
        axes.into_iter()
            .rev()
            .fold(body, |body, (axis, extent)| vec![Stmt::For { axis, extent, kind: LoopKind::Serial, body }])
    }
}

/// `element(widened…)` rounded back: arithmetic on 16-bit floats is carried out in `f32`.
pub fn in_arithmetic(operands: &[Expr], result: DType, element: impl FnOnce(&[Expr]) -> Expr) -> Expr {
    let wide: Vec<Expr> = operands.iter().map(|x| x.clone().cast(x.dtype().arithmetic())).collect();
    element(&wide).cast(result)
}
