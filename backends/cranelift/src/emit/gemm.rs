//! Matrix products: the runtime computes tiles, and an emitted function takes them.
//!
//! The call is a structure on the stack, 8 bytes for each of `ir::service::GEMM_F32_FIELDS`, or of `GEMM_I8_FIELDS` for
//! operands that are bytes. The runtime reads its
//! right operand in panels, or as a strided matrix; the left one may lie anywhere that sums over axes lead to, with
//! guards: then the call names a table, as `runtime::gemm` describes it. Where only the statement's left operand
//! suits the runtime's right side, both change places, and the runtime delivers the result transposed.
//!
//! The function that takes a part of the result, `(services, frame, tile, ld, row, rows, col, cols)`, runs the
//! statement's body for each element: rows one after the other, columns side by side.

use cranelift_codegen::ir::{self as clif, InstBuilder, MemFlagsData, types};
use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::operand::{MAX_AXES, MAX_GUARDS, Operand, even, linear};
use ir::kernel::stmt::{Axes, PANEL, QUAD, position};
use ir::kernel::stored::{Format, Part, Stored, Zero, shared_rows};
use ir::kernel::{Expr, ExprKind, Gemm, Group, LoopKind, Stmt};
use ir::service::{GEMM_F32_FIELDS, GEMM_I8_FIELDS, Service};
use ir::types::strides;

use super::address::Offset;
use super::function::{Array, Emitter, Frame, Local, define};
use super::value::Value;
use crate::error::EmitError;

/// A size that nothing reaches, for guards without one.
const ENDLESS: i64 = i64::MAX / 2;

/// An operand by its place: where it starts, how far its elements lie apart along rows (or columns) and along the
/// sum, and what guards them.
struct Place {
    start: Offset,
    along: Vec<Dim>,
    depth: Vec<Dim>,
    /// Factors along both, and offset and size.
    guards: Vec<(Vec<Dim>, Dim, Dim)>,
    format: Format,
}

/// An operand in panels: where they start, of what they are, and how scales and zeros lie beside them.
struct Panels {
    start: Offset,
    format: Format,
    /// The index of the first row that scales and zeros have.
    first: Vec<Expr>,
    /// How many rows of the operand share one of theirs, and how many of these there are.
    block: Dim,
    blocks: Dim,
}

/// The zeros of an operand of bytes.
struct Zeros {
    /// The one of all of them.
    one: clif::Value,
    /// Where those of rows (or columns) lie, and how far apart; or null.
    many: [clif::Value; 2],
}

impl Emitter<'_, '_> {
    /// A matrix product; what becomes of its elements is in the statement.
    pub(crate) fn gemm(&mut self, gemm: &Gemm) -> Result<(), EmitError> {
        self.forget();
        let frame = self.capture()?;
        let [rows, cols, depth] = [&gemm.row, &gemm.col, &gemm.depth];
        // Operands are read in these loops.
        let outer = self.scope.ranges.clone();
        let number = gemm.group.iter().map(|group| (&group.axis, &group.extent));
        for (axis, extent) in gemm.outer().chain(depth).map(|(axis, extent)| (axis, extent)).chain(number) {
            self.scope.ranges.enter(axis.clone(), extent.clone());
        }
        let sides = [(rows, "left", &gemm.a), (cols, "right", &gemm.b)];
        let panels = [self.panels(rows, gemm, &gemm.a)?, self.panels(cols, gemm, &gemm.b)?];
        let mut places = Vec::with_capacity(2);
        for ((axes, side, operand), panels) in sides.iter().zip(&panels) {
            places.push(match panels {
                Some(_) => None,
                None => Some(self.place(side, operand, axes, gemm)?),
            });
        }
        self.scope.ranges = outer;
        let own = |axes: &Axes, operand: &Expr| {
            let zero = Operand::of(operand).and_then(|operand| operand.zero.cloned());
            zero.is_some_and(|zero| axes.iter().any(|(axis, _)| mentions(&zero, axis)))
        };
        let transposed = match (&panels, &places[..]) {
            _ if gemm.group.is_some() => false,
            ([_, Some(_)], _) => false,
            ([Some(_), _], _) => true,
            _ if own(cols, &gemm.b) || own(rows, &gemm.a) => own(rows, &gemm.a),
            (_, [_, Some(right)]) => right.matrix(cols, depth).is_none(),
            _ => unreachable!("bug: an operand is in panels or has a place"),
        };
        let (left, right) = if transposed { (1, 0) } else { (0, 1) };
        let epilogue = self.epilogue(gemm, &frame)?;
        let extents = [left, right].map(|side| sides[side].0).into_iter().chain([depth]);
        let mut sizes = Vec::with_capacity(3);
        for axes in extents {
            sizes.push(self.index(&axes.iter().map(|(_, extent)| extent.clone()).product())?);
        }
        let zero = self.b.ins().iconst(types::I64, 0);
        let Some(place) = &places[left] else { return Err(self.no_panels(sides[left].1)) };
        let a = self.start(sides[left].2, &place.start)?;
        let (a_strides, window) = match place.matrix(sides[left].0, depth) {
            Some([along, depth]) => ([self.index(&along)?, self.index(&depth)?], zero),
            None if place.format == Format::F32 || gemm.dtype() == DType::I32 => {
                ([zero, zero], self.window(place, sides[left].0, depth)?)
            }
            None => return Err(self.no_window(sides[left].1)),
        };
        if place.format != Format::F32 && gemm.group.is_some() {
            return Err(self.no_window(sides[left].1));
        }
        let (b, b_strides, packed) = match (&panels[right], &places[right]) {
            (Some(panels), _) => (&panels.start, [zero, zero], 1),
            (None, Some(place)) => {
                let matrix = place.matrix(sides[right].0, depth);
                let Some([along, depth]) = matrix else { return Err(self.no_panels(sides[right].1)) };
                (&place.start, [self.index(&depth)?, self.index(&along)?], 0)
            }
            (None, None) => unreachable!("bug: an operand is in panels or has a place"),
        };
        let (b, groups) = match &gemm.group {
            None => (self.start(sides[right].2, b)?, zero),
            Some(group) => {
                let Some((step, first)) = b.dim.linear_in(&group.axis) else {
                    return Err(self.not_affine(sides[right].1, sides[right].2));
                };
                let first = Offset { dim: first, computed: b.computed.clone() };
                (self.start(sides[right].2, &first)?, self.group_table(group, &step)?)
            }
        };
        let (b_type, scales) = match (&panels[right], &places[right]) {
            (Some(panels), _) if gemm.dtype() == DType::I32 => (panels.format, zero),
            (Some(panels), _) => (panels.format, self.scales(sides[right].2, panels)?),
            (None, Some(place)) => (place.format, zero),
            (None, None) => unreachable!("bug: an operand is in panels or has a place"),
        };
        let [packed, turned, a_type, b_type] =
            [packed, i64::from(transposed), place.format.number(), b_type.number()]
                .map(|n| self.b.ins().iconst(types::I64, n));
        let epilogue = self.function_address(epilogue);
        let start = [("m", sizes[0]), ("n", sizes[1]), ("k", sizes[2])];
        let strides = [("a_row", a_strides[0]), ("a_col", a_strides[1])];
        let right_strides = [("b_row", b_strides[0]), ("b_col", b_strides[1]), ("packed", packed)];
        let end = [("epilogue", epilogue), ("frame", frame.address)];
        if gemm.dtype() == DType::F32 {
            let left = [("a_type", a_type), ("window", window), ("b", b)];
            let rest = [("b_type", b_type), ("scales", scales), ("transposed", turned), ("groups", groups)];
            let fields: Vec<_> = start.into_iter().chain([("a", a)]).chain(strides).chain(left).collect();
            let fields: Vec<_> = fields.into_iter().chain(right_strides).chain(rest).chain(end).collect();
            return self.service(Service::GemmF32, &GEMM_F32_FIELDS, &fields);
        }
        let [a_signed, b_signed] = [left, right].map(|side| {
            let signed = Operand::of(sides[side].2).is_some_and(|operand| operand.format == Format::I8);
            self.b.ins().iconst(types::I64, i64::from(signed))
        });
        let a_zero = self.zeros(sides[left].1, sides[left].2, sides[left].0)?;
        let b_zero = self.zeros(sides[right].1, sides[right].2, sides[right].0)?;
        let left_zero = [("window", window), ("a_signed", a_signed), ("a_zero", a_zero.one), ("b", b)];
        let right_zero = [
            ("b_signed", b_signed),
            ("b_zero", b_zero.one),
            ("b_zeros", b_zero.many[0]),
            ("b_zeros_step", b_zero.many[1]),
            ("transposed", turned),
        ];
        let fields: Vec<_> = start.into_iter().chain([("a", a)]).chain(strides).chain(left_zero).collect();
        let fields: Vec<_> = fields.into_iter().chain(right_strides).chain(right_zero).chain(end).collect();
        self.service(Service::GemmI8, &GEMM_I8_FIELDS, &fields)
    }

    /// Calls a service with a structure of these fields.
    fn service(
        &mut self,
        service: Service,
        names: &[&str],
        fields: &[(&str, clif::Value)],
    ) -> Result<(), EmitError> {
        debug_assert!(fields.iter().map(|(name, _)| name).eq(names));
        let values: Vec<clif::Value> = fields.iter().map(|(_, value)| *value).collect();
        let call = self.table(&values)?;
        self.call(service, &[self.services, call], None);
        Ok(())
    }

    /// What is taken from the elements of an operand of bytes, which has the given axes beside the summed ones.
    fn zeros(&mut self, side: &str, e: &Expr, along: &Axes) -> Result<Zeros, EmitError> {
        let null = self.b.ins().iconst(types::I64, 0);
        let Some(zero) = Operand::of(e).and_then(|operand| operand.zero) else {
            return Ok(Zeros { one: null, many: [null; 2] });
        };
        if !along.iter().any(|(axis, _)| mentions(zero, axis)) {
            let value = self.expr(zero)?.scalar();
            let one = self.b.ins().sextend(types::I64, value);
            return Ok(Zeros { one, many: [null; 2] });
        }
        // The runtime reads them as it reads the operand.
        let own = Operand::of(e).map(|operand| operand.format);
        let Some(operand) = Operand::of(zero).filter(|zero| Some(zero.format) == own && zero.zero.is_none())
        else {
            return Err(self.not_affine(side, e));
        };
        let outer = self.scope.ranges.clone();
        for (axis, extent) in along {
            self.scope.ranges.enter(axis.clone(), extent.clone());
        }
        let offset = self.offset(operand.source, operand.at);
        self.scope.ranges = outer;
        let offset = offset?;
        let place = linear(&offset.dim, along).filter(|_| offset.computed.is_empty());
        let step = place.as_ref().and_then(|(strides, _)| even(along, strides));
        let (Some((_, rest)), Some(step)) = (place, step) else { return Err(self.not_affine(side, e)) };
        let (address, distance) =
            self.address(operand.source, &Offset { dim: rest, computed: Vec::new() })?;
        let many = [self.b.ins().iadd_imm_s(address, i64::from(distance)), self.index(&step)?];
        Ok(Zeros { one: null, many })
    }

    /// The table that says which rows meet which of several right operands, so many elements apart.
    fn group_table(&mut self, group: &Group, step: &Dim) -> Result<clif::Value, EmitError> {
        let base = |name: &Symbol| match self.scope.arrays.get(name) {
            Some(array) => Ok(array.base),
            None => Err(self.unbound("array", name)),
        };
        let (order, starts) = (base(&group.order)?, base(&group.starts)?);
        let (count, step) = (self.index(&group.extent)?, self.index(step)?);
        self.table(&[order, starts, count, step])
    }

    /// Numbers on the stack, one after the other.
    fn table(&mut self, values: &[clif::Value]) -> Result<clif::Value, EmitError> {
        let table = self.stack_bytes(8 * values.len() as u64, 3)?;
        for (at, &value) in values.iter().enumerate() {
            self.b.ins().store(MemFlagsData::trusted(), value, table, 8 * at as i32);
        }
        Ok(table)
    }

    /// The table that describes an operand of many axes.
    fn window(&mut self, place: &Place, along: &Axes, depth: &Axes) -> Result<clif::Value, EmitError> {
        let counts = [along.len(), depth.len(), place.guards.len()].map(|count| Dim::constant(count as i64));
        let mut numbers = counts.to_vec();
        for ((_, extent), stride) in along.iter().zip(&place.along).chain(depth.iter().zip(&place.depth)) {
            numbers.extend([extent.clone(), stride.clone()]);
        }
        for (factors, offset, size) in &place.guards {
            numbers.extend([size.clone(), offset.clone()]);
            numbers.extend_from_slice(factors);
        }
        let values: Vec<clif::Value> = numbers.iter().map(|n| self.index(n)).collect::<Result<_, _>>()?;
        self.table(&values)
    }

    /// Where an operand lies, over the axes that it moves along and the summed ones; it may not depend on the others.
    fn place(&mut self, side: &str, e: &Expr, along: &Axes, gemm: &Gemm) -> Result<Place, EmitError> {
        let Some(operand) = Operand::of(e) else { return Err(self.not_affine(side, e)) };
        let offset = self.offset(operand.source, operand.at)?;
        let few = along.len().max(gemm.depth.len()) <= MAX_AXES && operand.guards.len() <= MAX_GUARDS;
        if !few {
            return Err(self.unsupported(
                format!("the {side} operand of a matrix product"),
                format!("it has more than {MAX_AXES} axes or {MAX_GUARDS} guards; copy it to a scratch array before"),
            ));
        }
        let axes: Axes = gemm.outer().chain(&gemm.depth).cloned().collect();
        let own: Axes = along.iter().chain(&gemm.depth).cloned().collect();
        let depends = |dim: &Dim| axes.iter().any(|(axis, _)| dim.mentions(axis));
        let computed_depends = |(index, stride): &(Expr, Dim)| {
            depends(stride) || index.any(&mut |e| e.as_index().is_some_and(depends))
        };
        let sum = |dim: &Dim| linear(dim, &own).filter(|(_, rest)| !depends(rest));
        let Some((mut strides, rest)) = sum(&offset.dim) else { return Err(self.not_affine(side, e)) };
        if offset.computed.iter().any(computed_depends) {
            return Err(self.not_affine(side, e));
        }
        let mut guards = Vec::with_capacity(operand.guards.len());
        for guard in &operand.guards {
            let size = guard.size.as_ref().map_or(Dim::constant(ENDLESS), |size| self.resolve(size));
            let Some((factors, offset)) = sum(&self.resolve(&guard.value)).filter(|_| !depends(&size)) else {
                return Err(self.not_affine(side, e));
            };
            guards.push((factors, offset, size));
        }
        let depth = strides.split_off(along.len());
        let (start, format) = (Offset { dim: rest, computed: offset.computed }, operand.format);
        Ok(Place { start, along: strides, depth, guards, format })
    }

    fn not_affine(&self, side: &str, load: &Expr) -> EmitError {
        self.unsupported(
            format!("the {side} operand of a matrix product, {:?}", load.dtype()),
            "it must be an f32 load, or one of bytes as i32, perhaps guarded, that is affine in its axes, and a zero at most \
             that of its row or column; copy it to a scratch array before",
        )
    }

    fn no_window(&self, side: &str) -> EmitError {
        self.unsupported(
            format!("the {side} operand of a matrix product"),
            "16-bit floats must be a strided matrix without guards and without an order of rows; convert it before",
        )
    }

    fn no_panels(&self, side: &str) -> EmitError {
        self.unsupported(
            format!("the {side} operand of a matrix product"),
            "one operand must be a strided matrix or in panels, and not both may be in panels",
        )
    }

    /// An operand, if it is in panels: `[…, i // 32, k, i % 32]` of an array that ends in `[…, depth, 32]`, or in
    /// `[…, depth, 16]` if each element has two numbers.
    fn panels(&mut self, of: &Axes, gemm: &Gemm, e: &Expr) -> Result<Option<Panels>, EmitError> {
        if e.dtype() == DType::I32 {
            return self.quads(of, gemm, e);
        }
        let Some(Stored { format, source, at, zero, scale }) = Stored::of(e) else { return Ok(None) };
        let array = self.scope.arrays.get(source).ok_or_else(|| self.unbound("array", source))?;
        let mut wanted = Gemm::in_panels(of, &gemm.depth);
        let whole = wanted.clone();
        if format == Format::U4 {
            wanted[2] = position(of).modulo(&Dim::constant(format.row()));
        }
        let Some(prefix) = at.len().checked_sub(wanted.len()) else { return Ok(None) };
        let same = at[prefix..].iter().zip(&wanted).all(|(index, wanted)| {
            index.as_index().is_some_and(|dim| self.resolve(dim) == self.resolve(wanted))
        });
        let ends = array.shape.get(prefix + 1..).is_some_and(|ends| {
            ends.len() == 2
                && self.resolve(&ends[0]) == self.resolve(&gemm.summed())
                && ends[1].is(format.row())
        });
        if !same || !ends {
            return Ok(None);
        }
        let none = Expr::from(Dim::constant(0));
        let start: Vec<Expr> = at[..prefix].iter().cloned().chain(vec![none.clone(); wanted.len()]).collect();
        let start = self.offset(source, &start)?;
        let zeros = match &zero {
            Some(Zero::Load(part)) => Some(part),
            _ => None,
        };
        let parts: Vec<&Part<'_>> = zeros.into_iter().chain(&scale).collect();
        let (mut first, mut block, mut blocks) = (Vec::new(), Dim::constant(1), Dim::constant(1));
        for part in &parts {
            let array =
                self.scope.arrays.get(part.source).ok_or_else(|| self.unbound("array", part.source))?;
            let rows = array.shape.get(prefix + 1).cloned();
            let shared = part
                .at
                .get(prefix + 1)
                .and_then(Expr::as_index)
                .and_then(|at| shared_rows(&self.resolve(at), &self.resolve(&whole[1]), &gemm.summed()));
            let same = part.at.len() == at.len()
                && part.at[..prefix] == at[..prefix]
                && [prefix, prefix + 2].iter().zip([&whole[0], &whole[2]]).all(|(&place, wanted)| {
                    part.at[place].as_index().is_some_and(|at| self.resolve(at) == self.resolve(wanted))
                });
            let (Some(rows), Some(shared), true) = (rows, shared, same) else {
                return Err(self.no_panels("right"));
            };
            first =
                at[..prefix].iter().map(|_| none.clone()).chain(vec![none.clone(); wanted.len()]).collect();
            (block, blocks) = (shared, rows);
        }
        Ok(Some(Panels { start, format, first, block, blocks }))
    }

    /// The table of the scales and zeros of an operand in panels; none if it has none.
    fn scales(&mut self, e: &Expr, panels: &Panels) -> Result<clif::Value, EmitError> {
        let nothing = self.b.ins().iconst(types::I64, 0);
        let Some(Stored { zero, scale, .. }) = Stored::of(e) else { return Ok(nothing) };
        if zero.is_none() && scale.is_none() {
            return Ok(nothing);
        }
        let mut start = |of: Option<&Part<'_>>| match of {
            None => Ok(nothing),
            Some(part) => {
                let offset = self.offset(part.source, &panels.first)?;
                let (address, distance) = self.address(part.source, &offset)?;
                Ok(self.b.ins().iadd_imm_s(address, i64::from(distance)))
            }
        };
        let scales = start(scale.as_ref())?;
        let (zeros, format, number) = match &zero {
            Some(Zero::Load(part)) => (start(Some(part))?, part.format, 0.0),
            Some(Zero::Number(number)) => (nothing, Format::F32, *number),
            None => (nothing, Format::F32, 0.0),
        };
        let [format, number] =
            [format.number(), i64::from(number.to_bits())].map(|n| self.b.ins().iconst(types::I64, n));
        let (block, blocks) = (self.index(&panels.block)?, self.index(&panels.blocks)?);
        self.table(&[scales, zeros, format, number, block, blocks])
    }

    /// An operand of bytes, if it is in panels: `[i // 32, k // 4, i % 32, k % 4]`, and behind these of a panel its sums.
    fn quads(&mut self, of: &Axes, gemm: &Gemm, e: &Expr) -> Result<Option<Panels>, EmitError> {
        let Some(Operand { source, at, format: Format::I8, guards, .. }) = Operand::of(e) else {
            return Ok(None);
        };
        let array = self.scope.arrays.get(source).ok_or_else(|| self.unbound("array", source))?;
        let quads = gemm.summed().ceil_div(&Dim::constant(QUAD)) + Dim::constant(1);
        let panels = match &array.shape[..] {
            [_, rows, width, quad] => {
                self.resolve(rows) == self.resolve(&quads) && width.is(PANEL) && quad.is(QUAD)
            }
            _ => false,
        };
        let wanted = Gemm::in_quads(of, &gemm.depth);
        let same = at.iter().zip(&wanted).all(|(index, wanted)| {
            index.as_index().is_some_and(|dim| self.resolve(dim) == self.resolve(wanted))
        });
        if !panels || !same || !guards.is_empty() {
            return Ok(None);
        }
        let first = vec![Expr::from(Dim::constant(0)); wanted.len()];
        let start = self.offset(source, &first)?;
        let one = Dim::constant(1);
        Ok(Some(Panels { start, format: Format::I8, first: Vec::new(), block: one.clone(), blocks: one }))
    }

    /// The address of an operand's first element.
    fn start(&mut self, operand: &Expr, offset: &Offset) -> Result<clif::Value, EmitError> {
        let stored = || Stored::of(innermost(operand)).map(|stored| stored.source);
        let Some(source) = Operand::of(operand).map(|operand| operand.source).or_else(stored) else {
            unreachable!("bug: the operand was just looked at")
        };
        let (address, distance) = self.address(source, offset)?;
        Ok(self.b.ins().iadd_imm_s(address, i64::from(distance)))
    }

    /// The function that takes parts of the result. The part is an array there, and the product's axes follow from
    /// its axes plus the part's place.
    fn epilogue(&mut self, gemm: &Gemm, frame: &Frame) -> Result<u32, EmitError> {
        let name = format!("{}.{}", self.kernel.name, gemm.acc);
        // The builder of kernels gives no such names.
        let [tile, ld, row, rows, col, cols, r, c, which] =
            ["%tile", "%ld", "%row", "%rows", "%col", "%cols", "%r", "%c", "%which"].map(Symbol::new);
        let place = [&r, &c].map(|axis| Expr::from(Dim::from(axis)));
        let sum = Stmt::Let { name: gemm.acc.clone(), value: Expr::load(tile.clone(), gemm.dtype(), place) };
        let body: Vec<Stmt> = [sum].into_iter().chain(gemm.body.iter().cloned()).collect();
        let columns =
            Stmt::For { axis: c.clone(), extent: Dim::from(&cols), kind: LoopKind::Vector(16), body };
        define(self.module, self.kernel, name, &[types::I64; 8], true, |inner, given| {
            inner.restore(frame, given[1]);
            for (name, value) in [&ld, &row, &rows, &col, &cols].into_iter().zip(&given[3..]) {
                inner.bind_scalar(name.clone(), DType::I64, Value::Uniform(*value));
            }
            let shape = vec![Dim::from(&rows), Dim::from(&ld)];
            let array = Array { base: given[2], shape, param: true, dtype: gemm.dtype() };
            inner.scope.arrays.insert(tile.clone(), array);
            let place = Dim::from(&row) + Dim::from(&r);
            inner.bind_axes(&gemm.col, Dim::from(&col) + Dim::from(&c));
            let Some(group) = &gemm.group else {
                inner.bind_axes(&gemm.row, place);
                return inner.serial_for(&r, &Dim::from(&rows), std::slice::from_ref(&columns));
            };
            let count = gemm.row.iter().map(|(_, extent)| extent.clone()).product();
            inner.scope.ranges.enter(which.clone(), count);
            inner.bind_axes(&gemm.row, Dim::from(&which));
            let value = Expr::load(group.order.clone(), DType::I64, [Expr::from(place)]);
            let row = Stmt::Let { name: which.clone(), value };
            inner.serial_for(&r, &Dim::from(&rows), &[row, columns])
        })
    }

    /// Binds nested axes to the iteration with this number.
    fn bind_axes(&mut self, axes: &Axes, at: Dim) {
        let extents: Vec<Dim> = axes.iter().map(|(_, extent)| extent.clone()).collect();
        for (i, ((axis, extent), inner)) in axes.iter().zip(strides(&extents)).enumerate() {
            self.scope.ranges.enter(axis.clone(), extent.clone());
            let index = at.floor_div(&inner);
            let index = if i == 0 { index } else { index.modulo(extent) };
            self.scope.locals.insert(axis.clone(), Local::Index(index));
        }
    }
}

/// Does the expression depend on the axis?
fn mentions(e: &Expr, axis: &Symbol) -> bool {
    e.any(&mut |e| e.as_index().is_some_and(|dim| dim.mentions(axis)))
}

/// An operand without its guards.
fn innermost(operand: &Expr) -> &Expr {
    match operand.kind() {
        ExprKind::Select(_, inside, _) => innermost(inside),
        _ => operand,
    }
}

impl Place {
    /// The distances along its own axes and along the sum, if it is a strided matrix.
    fn matrix(&self, along: &Axes, depth: &Axes) -> Option<[Dim; 2]> {
        let strides = [even(along, &self.along)?, even(depth, &self.depth)?];
        self.guards.is_empty().then_some(strides)
    }
}
