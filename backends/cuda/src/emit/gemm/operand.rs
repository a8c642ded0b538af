//! Operands of a product: where elements come from, and how many side by side.

use ir::dim::Symbol;
use ir::kernel::stmt::Axes;
use ir::kernel::{Expr, ExprKind, Gemm};
use ir::scalar::Scalar;
use ir::types::strides;
use ir::{DType, Dim};

use super::super::Emitter;
use super::super::types::{CHOICE, Code, OR, storage};
use super::tile::Way;
use crate::error::EmitError;

/// Bytes that a thread loads at once, at most.
const PACK: i64 = 16;

/// What the rows (or columns) of a tile are in the product.
pub(super) enum Places {
    /// Those from a number on.
    From(String),
    /// Those that an array in shared memory names.
    Named(String),
}

impl Places {
    /// Binds axes to the row at this place of the tile.
    pub(super) fn bind(&self, emitter: &mut Emitter, axes: &Axes, place: &str) {
        let number = match self {
            Places::From(first) if axes.len() > 1 => format!("({first} + {place})"),
            Places::From(first) => format!("{first} + {place}"),
            Places::Named(rows) => format!("{rows}[{place}]"),
        };
        emitter.place_blocks(axes, &number);
    }
}

/// An operand as it is brought.
pub(super) struct Operand<'a> {
    expr: &'a Expr,
    /// Its rows or columns.
    axes: &'a Axes,
    /// The type of its elements in shared memory.
    dtype: DType,
    /// Do its elements lie side by side along the sum, or else across it?
    pub(super) along_sum: bool,
    /// How many of them are loaded at once.
    pub(super) width: i64,
}

impl Emitter<'_> {
    /// How an operand is brought.
    pub(super) fn operand<'a>(
        &self,
        gemm: &Gemm,
        expr: &'a Expr,
        axes: &'a Axes,
        rows: &Places,
        is_left: bool,
        dtype: DType,
    ) -> Operand<'a> {
        let along_sum = self.runs_along(expr, &gemm.depth).unwrap_or(is_left);
        let side = if along_sum { &gemm.depth } else { axes };
        let ordered = along_sum || matches!(rows, Places::From(_));
        let width = if ordered { self.pack(expr, side, dtype) } else { 1 };
        Operand { expr, axes, dtype, along_sum, width }
    }

    /// Do elements of the operand lie side by side along the sum? `None` where its place is not known.
    fn runs_along(&self, operand: &Expr, depth: &Axes) -> Option<bool> {
        let (axis, _) = depth.last()?;
        let mut found = None;
        operand.walk(&mut |e| {
            let ExprKind::Load { source, at, .. } = e.kind() else { return };
            let Some(position) = self.affine(source, at) else { return };
            let side = position.linear_in(axis).is_some_and(|(stride, _)| stride.is(1));
            found.get_or_insert(side);
        });
        found
    }

    /// The place of an element in its array, where no data decide it.
    fn affine(&self, source: &Symbol, at: &[Expr]) -> Option<Dim> {
        let array = self.scope.arrays.get(source)?;
        let at: Option<Vec<&Dim>> = at.iter().map(Expr::as_index).collect();
        Some(at?.into_iter().zip(strides(&array.shape)).map(|(index, stride)| index.clone() * stride).sum())
    }

    /// How many elements along nested axes can be loaded at once: they lie side by side in memory of the GPU, and every
    /// such group of them starts at a multiple of its size, as arrays do.
    fn pack(&self, operand: &Expr, axes: &Axes, dtype: DType) -> i64 {
        let Some((source, at)) = stored(operand, dtype) else { return 1 };
        if !self.kernel.params.iter().any(|param| param.name == *source) {
            return 1;
        }
        let Some((axis, extent)) = axes.last() else { return 1 };
        let place = self.affine(source, at).and_then(|place| place.linear_in(axis));
        let Some((stride, rest)) = place else { return 1 };
        let fits = |width: &i64| {
            let whole = |dim: &Dim| dim.terms().all(|(_, factor)| factor % width == 0);
            stride.is(1) && whole(extent) && whole(&rest)
        };
        let most = PACK / dtype.bytes() as i64;
        [8, 4, 2].into_iter().filter(|width| *width <= most).find(fits).unwrap_or(1)
    }

    /// The operand as a function of a place in the tile and a step of the sum: elements, or where they lie.
    pub(super) fn bring(
        &mut self,
        gemm: &Gemm,
        operand: &Operand,
        rows: &Places,
        way: Way,
        name: &str,
    ) -> Result<(), EmitError> {
        let Operand { expr, axes, dtype, width, .. } = operand;
        let ty = storage(self.prelude, *dtype);
        let outer = self.scope.clone();
        let [i, k] = ["i", "k"].map(|name| self.scope.names.fresh(name));
        self.enclosed(&format!("const auto {name} = [&](int {i}, i64 {k})"), "};", |this| {
            rows.bind(this, axes, &i);
            this.place_blocks(&gemm.depth, &k);
            if *width > 1 {
                let (source, at) = stored(expr, *dtype).expect("bug: a pack is loaded");
                let position = this.position(source, at)?;
                let array = &this.scope.arrays[source].name;
                this.line(&match way {
                    Way::Kept => format!("return *(const Pack<{ty}, {width}>*)&{array}[{}];", position.text),
                    Way::Copied => {
                        format!("return Address<Pack<{ty}, {width}>>{{&{array}[{}]}};", position.text)
                    }
                });
            } else {
                let element = this.kept(expr, *dtype)?;
                let name = this.scope.names.fresh("element");
                this.line(&format!("const {ty} {name} = {};", element.text));
                this.line(&format!("return Pack<{ty}, 1>{{{name}}};"));
            }
            Ok(())
        })?;
        self.scope = outer;
        Ok(())
    }

    /// An element as it is kept in shared memory: a float of 16 bits as it is stored.
    fn kept(&mut self, e: &Expr, dtype: DType) -> Result<Code, EmitError> {
        if e.dtype() == dtype {
            return self.expr(e);
        }
        if let Some((source, at)) = stored(e, dtype) {
            let position = self.position(source, at)?;
            return Ok(Code::atom(format!("{}[{}]", self.scope.arrays[source].name, position.text)));
        }
        if let ExprKind::Select(cond, yes, no) = e.kind() {
            let [yes, no] = [self.kept(yes, dtype)?, self.kept(no, dtype)?];
            let text =
                format!("{} ? {} : {}", self.expr(cond)?.within(OR), yes.within(OR), no.within(CHOICE));
            return Ok(Code::new(text, CHOICE));
        }
        let value = self.expr(e)?;
        Ok(self.stored(dtype, value))
    }
}

/// The array and the index of an element that is loaded as it is.
fn stored(e: &Expr, dtype: DType) -> Option<(&Symbol, &[Expr])> {
    match e.kind() {
        ExprKind::Load { source, dtype: of, at } if *of == dtype => Some((source, at)),
        ExprKind::Cast(DType::F32, x) if dtype != DType::F32 && x.dtype() == dtype => stored(x, dtype),
        _ => None,
    }
}

/// The floats of 16 bits that have every value of an expression.
pub(super) fn exact_halves(e: &Expr) -> Vec<DType> {
    let both = vec![DType::F16, DType::BF16];
    match e.kind() {
        ExprKind::Const(number) => both.into_iter().filter(|&half| is_exact(*number, half)).collect(),
        ExprKind::Select(_, yes, no) => {
            let others = exact_halves(no);
            exact_halves(yes).into_iter().filter(|half| others.contains(half)).collect()
        }
        ExprKind::Cast(DType::F32, x) => match x.dtype() {
            half @ (DType::F16 | DType::BF16) => vec![half],
            narrow if narrow.is_int() && narrow.bits() <= 8 => both,
            _ => vec![],
        },
        _ => vec![],
    }
}

fn is_exact(number: Scalar, half: DType) -> bool {
    number.cast(half).cast(number.dtype()) == number
}
