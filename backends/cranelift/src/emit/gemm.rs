//! Matrix products: the runtime computes tiles, and an emitted function takes them.
//!
//! The call is a structure on the stack, 8 bytes for each of `ir::service::GEMM_F32_FIELDS`. The function that takes a
//! tile, `(services, frame, tile, ld, row, rows, col, cols)`, runs the statement's body for each element: rows one
//! after the other, columns side by side.

use cranelift_codegen::ir::{self as clif, InstBuilder, MemFlagsData, types};
use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::stmt::PANEL;
use ir::kernel::{Expr, ExprKind, Gemm, LoopKind, Stmt};
use ir::service::{GEMM_F32_FIELDS, Service};

use super::address::Offset;
use super::function::{Array, Emitter, Frame, Local, define};
use super::value::Value;
use crate::error::EmitError;

/// One operand: where it starts, and how far its elements lie apart along two axes.
struct Operand {
    start: clif::Value,
    strides: [clif::Value; 2],
}

impl Emitter<'_, '_> {
    /// A matrix product; what becomes of its elements is in the statement.
    pub(crate) fn gemm(&mut self, gemm: &Gemm) -> Result<(), EmitError> {
        let dtypes = (gemm.a.dtype(), gemm.b.dtype());
        if dtypes != (DType::F32, DType::F32) {
            return Err(self.unsupported(
                format!("a matrix product of {} and {}", dtypes.0, dtypes.1),
                "the micro-kernels compute f32; schedule it as loops, or cast the operands before",
            ));
        }
        self.forget();
        let frame = self.capture()?;
        let epilogue = self.epilogue(gemm, &frame)?;
        let [m, n, k] = [&gemm.row, &gemm.col, &gemm.depth].map(|(_, extent)| self.index(extent));
        let (m, n, k) = (m?, n?, k?);
        let zero = self.b.ins().iconst(types::I64, 0);
        // Operands are read in these loops.
        let outer = self.scope.ranges.clone();
        for (axis, extent) in [&gemm.row, &gemm.col, &gemm.depth] {
            self.scope.ranges.enter(axis.clone(), extent.clone());
        }
        let a = self.operand("left", &gemm.a, [&gemm.row.0, &gemm.depth.0], &gemm.col.0)?;
        let (b, packed) = match self.panels(gemm)? {
            Some(start) => (Operand { start, strides: [zero, zero] }, 1),
            None => (self.operand("right", &gemm.b, [&gemm.depth.0, &gemm.col.0], &gemm.row.0)?, 0),
        };
        self.scope.ranges = outer;
        let workspace = match (&gemm.workspace, packed) {
            (_, 1) => zero,
            (Some(name), _) => match self.scope.arrays.get(name) {
                Some(array) if array.dtype == DType::F32 => array.base,
                _ => return Err(self.unbound("f32 workspace", name)),
            },
            (None, _) => {
                return Err(self.unsupported(
                    "a matrix product without workspace",
                    "its right operand is not in panels of 32 columns, so there must be room to pack it",
                ));
            }
        };
        let packed = self.b.ins().iconst(types::I64, packed);
        let epilogue = self.function_address(epilogue);
        let fields = [
            ("m", m),
            ("n", n),
            ("k", k),
            ("a", a.start),
            ("a_row", a.strides[0]),
            ("a_col", a.strides[1]),
            ("b", b.start),
            ("b_row", b.strides[0]),
            ("b_col", b.strides[1]),
            ("packed", packed),
            ("workspace", workspace),
            ("epilogue", epilogue),
            ("frame", frame.address),
        ];
        let call = self.stack_bytes(8 * fields.len() as u64, 3)?;
        for (at, (name, value)) in fields.into_iter().enumerate() {
            debug_assert_eq!(name, GEMM_F32_FIELDS[at], "bug: the fields stand in another order");
            self.b.ins().store(MemFlagsData::trusted(), value, call, 8 * at as i32);
        }
        self.call(Service::GemmF32, &[self.services, call], None);
        Ok(())
    }

    /// The address and the strides of a load that is affine in two axes and does not depend on a third.
    fn operand(
        &mut self,
        side: &str,
        load: &Expr,
        axes: [&Symbol; 2],
        other: &Symbol,
    ) -> Result<Operand, EmitError> {
        let ExprKind::Load { source, at, .. } = load.kind() else {
            return Err(self.not_affine(side, load));
        };
        let offset = self.offset(source, at)?;
        let depends = |dim: &Dim| axes.iter().any(|axis| dim.mentions(axis)) || dim.mentions(other);
        let computed_depends = |(index, stride): &(Expr, Dim)| {
            depends(stride) || index.any(&mut |e| e.as_index().is_some_and(depends))
        };
        let linear = offset.dim.linear_in(axes[0]).and_then(|(first, rest)| {
            let (second, rest) = rest.linear_in(axes[1])?;
            Some((first, second, rest))
        });
        let Some((first, second, rest)) = linear else { return Err(self.not_affine(side, load)) };
        if [&first, &second, &rest].into_iter().any(depends) || offset.computed.iter().any(computed_depends) {
            return Err(self.not_affine(side, load));
        }
        let strides = [self.polynomial(&first)?, self.polynomial(&second)?];
        let start = self.start(source, &Offset { dim: rest, computed: offset.computed })?;
        Ok(Operand { start, strides })
    }

    fn not_affine(&self, side: &str, load: &Expr) -> EmitError {
        self.unsupported(
            format!("the {side} operand of a matrix product, {:?}", load.dtype()),
            "it must be a load that is affine in its two axes; copy it to a scratch array before",
        )
    }

    /// The start of the right operand, if it is in panels: `[…, col // 32, depth, col % 32]` of an array that ends
    /// in `[…, depth, 32]`.
    fn panels(&mut self, gemm: &Gemm) -> Result<Option<clif::Value>, EmitError> {
        let ExprKind::Load { source, at, .. } = gemm.b.kind() else { return Ok(None) };
        let array = self.scope.arrays.get(source).ok_or_else(|| self.unbound("array", source))?;
        let col = Dim::from(&gemm.col.0);
        let width = Dim::constant(PANEL);
        let wanted = [col.floor_div(&width), Dim::from(&gemm.depth.0), col.modulo(&width)];
        let Some(prefix) = at.len().checked_sub(wanted.len()) else { return Ok(None) };
        let same = at[prefix..].iter().zip(&wanted).all(|(index, wanted)| {
            index.as_index().is_some_and(|dim| self.resolve(dim) == self.resolve(wanted))
        });
        let ends = array.shape.get(prefix + 1..).is_some_and(|ends| {
            ends.len() == 2 && self.resolve(&ends[0]) == self.resolve(&gemm.depth.1) && ends[1].is(PANEL)
        });
        if !same || !ends {
            return Ok(None);
        }
        let zero = Expr::from(Dim::constant(0));
        let first: Vec<Expr> = at[..prefix].iter().cloned().chain(vec![zero; wanted.len()]).collect();
        let offset = self.offset(source, &first)?;
        self.start(source, &offset).map(Some)
    }

    fn start(&mut self, source: &Symbol, offset: &Offset) -> Result<clif::Value, EmitError> {
        let (address, distance) = self.address(source, offset)?;
        Ok(self.b.ins().iadd_imm_s(address, i64::from(distance)))
    }

    /// The function that takes tiles. The tile is an array there, and the product's axes are its axes plus the
    /// tile's place.
    fn epilogue(&mut self, gemm: &Gemm, frame: &Frame) -> Result<u32, EmitError> {
        let name = format!("{}.{}", self.kernel.name, gemm.acc);
        // The builder of kernels gives no such names.
        let [tile, ld, row, rows, col, cols, r, c] =
            ["%tile", "%ld", "%row", "%rows", "%col", "%cols", "%r", "%c"].map(Symbol::new);
        let place = [&r, &c].map(|axis| Expr::from(Dim::from(axis)));
        let sum = Stmt::Let { name: gemm.acc.clone(), value: Expr::load(tile.clone(), DType::F32, place) };
        let body: Vec<Stmt> = [sum].into_iter().chain(gemm.body.iter().cloned()).collect();
        let columns =
            Stmt::For { axis: c.clone(), extent: Dim::from(&cols), kind: LoopKind::Vector(16), body };
        define(self.module, self.kernel, name, &[types::I64; 8], true, |inner, given| {
            inner.restore(frame, given[1]);
            for (name, value) in [&ld, &row, &rows, &col, &cols].into_iter().zip(&given[3..]) {
                inner.bind_scalar(name.clone(), DType::I64, Value::Uniform(*value));
            }
            let shape = vec![Dim::from(&rows), Dim::from(&ld)];
            let array = Array { base: given[2], shape, param: true, dtype: DType::F32 };
            inner.scope.arrays.insert(tile.clone(), array);
            for ((axis, extent), (first, step)) in [(&gemm.row, (&row, &r)), (&gemm.col, (&col, &c))] {
                inner.scope.ranges.enter(axis.clone(), extent.clone());
                let index = Dim::from(first) + Dim::from(step);
                inner.scope.locals.insert(axis.clone(), Local::Index(index));
            }
            inner.serial_for(&r, &Dim::from(&rows), std::slice::from_ref(&columns))
        })
    }
}
