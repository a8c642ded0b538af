//! What an op's `lower` sees, and what it gives: its results as stages of index expressions.

use crate::attr::Attrs;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::Stage;
use crate::kernel::expr::{Expr, Reduce};
use crate::types::TensorType;

/// The results of an op as stages. The last `results` stages are the results, in order; those before them are
/// intermediate arrays. Loads name operands (`x0`, `x1`, …) or earlier stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Compute {
    /// The stages.
    pub stages: Vec<Stage>,
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
}

impl<'a> Lower<'a> {
    /// For an op with these operands, attributes and results.
    pub fn new(operands: &'a [&'a TensorType], attrs: &'a Attrs, results: &'a [TensorType]) -> Self {
        Lower { operands, attrs, results, axes: 0, stages: Vec::new() }
    }

    /// The name that stands for operand `index` in loads.
    pub fn operand_name(index: usize) -> Symbol {
        Symbol::new(format!("x{index}"))
    }

    /// The element of operand `index` at `at`.
    pub fn load(&self, index: usize, at: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::load(Lower::operand_name(index), self.operands[index].dtype, at)
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
        Some(Compute { stages: std::mem::take(&mut self.stages) })
    }
}

/// `element(widened…)` rounded back: arithmetic on 16-bit floats is carried out in `f32`.
pub fn in_arithmetic(operands: &[Expr], result: DType, element: impl FnOnce(&[Expr]) -> Expr) -> Expr {
    let wide: Vec<Expr> = operands.iter().map(|x| x.clone().cast(x.dtype().arithmetic())).collect();
    element(&wide).cast(result)
}
