//! Recognises matrix products and convolutions in plain loops, and gives them to the micro-kernels.
//!
//! The loops are those that lowering makes: independent axes around an accumulator from zero, loops that add products
//! to it, and what becomes of the sum. The innermost axes that move only one operand are the columns, those around
//! them that move only the other one are the rows, and what is left stays a loop: a batch, the groups of a
//! convolution. An axis that an operand sees as a quotient and a remainder (heads, groups of channels) is two axes.
//! A constant operand is laid out in panels ahead of time; any other is packed as it is read. Where data choose for
//! each row which of several matrices it meets, rows are put in the order of their matrices first (`groups`).

use ir::dim::{Atom, Ranges, Symbol};
use ir::kernel::operand::{MAX_AXES, MAX_GUARDS, Operand, even, linear};
use ir::kernel::stmt::Axes;
use ir::kernel::stored::Format;
use ir::kernel::{Body, Expr, ExprKind, Gemm, LoopKind, Stmt};
use ir::program::{Layout, Program};
use ir::scalar::Binary;
use ir::{DType, Dim};

use super::access::{Arrays, accesses, varies};
use super::groups::Chosen;
use super::{is_independent, keeps_scalars, lay_out, stored, weights_behind};
use crate::lower::map_block;
use crate::target::Target;

/// A window has to be multiplied with at least so many vectors to be worth its packing.
const WORTH_PACKING: i64 = 8;

/// Fewer rows than this leave most of a GPU's tile empty.
const WORTH_TILES: i64 = 8;

/// The kernel's body with matrix products as statements.
pub(super) fn use_gemm(program: &mut Program, kernel: usize, body: Vec<Stmt>, target: Target) -> Vec<Stmt> {
    rewrite(program, kernel, body, target, None)
}

/// A block, and what is known of the loops around it, if there are some.
fn rewrite(
    program: &mut Program,
    kernel: usize,
    block: Vec<Stmt>,
    target: Target,
    around: Option<&Ranges>,
) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(block.len());
    for stmt in block {
        let product = Product::find(program, kernel, &stmt, around);
        if let Some(product) = product.filter(|product| product.is_worth_it(target)) {
            out.extend(product.into_stmts(program, kernel, target));
            continue;
        }
        out.push(match stmt {
            Stmt::For { axis, extent, kind, body } => {
                let mut ranges = around.cloned().unwrap_or_default();
                ranges.enter(axis.clone(), extent.clone());
                let body = rewrite(program, kernel, body, target, Some(&ranges));
                Stmt::For { axis, extent, kind, body }
            }
            other => other,
        });
    }
    out
}

/// `for outer, rows, cols { var acc = 0; for depth { acc = a·b + acc }; body }`.
struct Product {
    /// The loops around, the rows and the columns.
    axes: [Axes; 3],
    depth: Axes,
    /// The operands, with their places.
    a: (Expr, Place),
    b: (Expr, Place),
    acc: Symbol,
    body: Vec<Stmt>,
    chosen: Option<Chosen>,
}

/// Where the elements of an operand lie: a sum over axes.
struct Place {
    array: Symbol,
    offset: Dim,
    /// How far along each axis around the sum, and along each summed axis.
    outer: Vec<Dim>,
    depth: Vec<Dim>,
    /// Does it move along each axis, in its place or its guards?
    moves: Vec<bool>,
    guarded: bool,
    /// The type of its elements.
    format: Format,
    /// How far the zeros of rows (or columns) lie apart along each axis around the sum, if each has its own.
    zeros: Option<Vec<Dim>>,
}

/// The loops that may be a product.
struct Nest {
    axes: Axes,
    depth: Axes,
    acc: Symbol,
    factors: [Expr; 2],
    body: Vec<Stmt>,
    /// What the second factor is one of, if data choose it.
    chosen: Option<Chosen>,
}

impl Product {
    fn find(program: &Program, kernel: usize, stmt: &Stmt, around: Option<&Ranges>) -> Option<Product> {
        let mut nest = Nest::of(stmt)?;
        let Body::Loops(whole) = &program.kernels[kernel].body else { return None };
        let arrays = Arrays::of(&program.kernels[kernel], whole);
        if around.is_none() {
            nest.choose(&arrays);
        }
        let ranges = around.cloned().unwrap_or_default();
        nest.split_axes(&arrays, &ranges);
        let ranges = nest.ranges(&ranges);
        let places: Vec<Place> =
            nest.factors.iter().map(|e| nest.place(e, &arrays, &ranges)).collect::<Option<_>>()?;
        let [x, y]: [Place; 2] = places.try_into().ok()?;
        let chosen = nest.chosen.is_some();
        let (left, right) = (nest.split(&x, &y), nest.split(&y, &x).filter(|_| !chosen));
        let [first, second] = nest.factors;
        // Columns are innermost; a product of a matrix and a vector may have one of both only.
        let (axes, a, b) = match (left, right) {
            (Some(axes), _) => (axes, (first, x), (second, y)),
            (None, Some(axes)) => (axes, (second, y), (first, x)),
            (None, None) => return None,
        };
        let Nest { depth, acc, body, chosen, .. } = nest;
        Some(Product { axes, depth, a, b, acc, body, chosen })
    }

    /// Of strides along all axes around the sum, those along the given kind.
    fn along(&self, strides: &[Dim], kind: usize) -> Vec<Dim> {
        let from = self.axes[..kind].iter().map(Vec::len).sum::<usize>();
        strides[from..from + self.axes[kind].len()].to_vec()
    }

    /// The operand as a strided matrix: the distance along rows (or columns), and along the sum.
    fn matrix(&self, place: &Place, kind: usize) -> Option<[Dim; 2]> {
        let along = even(&self.axes[kind], &self.along(&place.outer, kind))?;
        let depth = even(&self.depth, &place.depth)?;
        (!place.guarded).then_some([along, depth])
    }

    /// Does it gain by being computed in tiles?
    fn is_worth_it(&self, target: Target) -> bool {
        match target {
            Target::Cpu => self.suits_runtime(),
            Target::Gpu => {
                let rows = self.axes[1].iter().map(|(_, extent)| extent.clone()).product::<Dim>();
                rows.as_const().is_none_or(|rows| rows >= WORTH_TILES)
            }
        }
    }

    /// Can the runtime compute it, and does it gain by that? One operand must be a matrix, to be packed in panels; the
    /// other may be anything.
    fn suits_runtime(&self) -> bool {
        if let Some(zeros) = &self.a.1.zeros {
            let even = even(&self.axes[1], &self.along(zeros, 1)).is_some();
            return even && self.b.1.zeros.is_none() && self.matrix(&self.a.1, 1).is_some();
        }
        if let Some(zeros) = &self.b.1.zeros {
            return even(&self.axes[2], &self.along(zeros, 2)).is_some()
                && self.matrix(&self.b.1, 2).is_some();
        }
        // 16-bit floats have to be a matrix, and their rows in the order in which they lie.
        let half = |place: &Place| place.format.is_float() && place.format != Format::F32;
        let reads = |place: &Place, kind| !half(place) || self.matrix(place, kind).is_some();
        let ordered = self.chosen.is_some() && half(&self.a.1);
        if !reads(&self.a.1, 1) || !reads(&self.b.1, 2) || ordered {
            return false;
        }
        if self.matrix(&self.b.1, 2).is_some() {
            return true;
        }
        if self.chosen.is_some() {
            return false;
        }
        let rows = self.axes[1].iter().map(|(_, extent)| extent.clone()).product::<Dim>();
        let many = rows.as_const().is_none_or(|rows| rows >= WORTH_PACKING);
        self.matrix(&self.a.1, 1).is_some() && many
    }

    fn into_stmts(self, program: &mut Program, kernel: usize, target: Target) -> Vec<Stmt> {
        let [mut a, mut b] = [self.a.0.clone(), self.b.0.clone()];
        let sides = [(2, &self.b.1, &self.a.1, &mut b), (1, &self.a.1, &self.b.1, &mut a)];
        // The tiles of a GPU read weights as they are.
        for (kind, place, other, operand) in sides.into_iter().filter(|_| target == Target::Cpu) {
            // Zeros of its own has the side that the runtime takes for the right one.
            if other.zeros.is_some() {
                continue;
            }
            if let Some(layout) = self.constant_panels(program, kernel, place, kind) {
                let number = self.chosen.as_ref().map(|chosen| Dim::from(&chosen.axis));
                let axes = [&self.axes[kind], &self.depth];
                *operand = match layout {
                    Layout::Quads { .. } => in_quads(program, kernel, place, &layout, operand, axes),
                    _ => stored::in_panels(program, kernel, &place.array, &layout, number, axes),
                };
                break;
            }
        }
        let Product { axes: [outer, row, col], depth, acc, body, chosen, .. } = self;
        let (mut stmts, group) = match chosen {
            Some(chosen) => chosen.order(program, kernel, &row, target),
            None => (Vec::new(), None),
        };
        let product = Stmt::Gemm(Box::new(Gemm { row, col, depth, group, a, b, acc, body }));
        stmts.push(outer.into_iter().rev().fold(product, |inner, (axis, extent)| Stmt::For {
            axis,
            extent,
            kind: LoopKind::Serial,
            body: vec![inner],
        }));
        stmts
    }

    /// The layout in panels, if the operand is a weight that nothing else in the kernel loads, at numbers.
    fn constant_panels(
        &self,
        program: &Program,
        kernel: usize,
        place: &Place,
        kind: usize,
    ) -> Option<Layout> {
        let [along, depth] = self.matrix(place, kind)?;
        let weights = weights_behind(program, kernel, &place.array)?;
        let plain = weights.iter().all(|&w| program.weights[w].layout == Layout::Plain);
        let other = if kind == 2 { &self.a.1 } else { &self.b.1 };
        let elsewhere = accesses(&self.body).iter().any(|access| *access.array == place.array);
        let still = self.axes[0].iter().zip(&place.outer).all(|(_, stride)| stride.is(0));
        let number = |d: &Dim| d.as_const().and_then(|v| usize::try_from(v).ok());
        let count = |axes: &Axes| number(&axes.iter().map(|(_, extent)| extent.clone()).product::<Dim>());
        let (offset, outer) = match &self.chosen {
            Some(chosen) => {
                let (step, first) = place.offset.linear_in(&chosen.axis)?;
                (first, vec![(number(&chosen.extent)?, number(&step)?)])
            }
            None => (place.offset.clone(), vec![]),
        };
        let (depth, row) = (count(&self.depth)?, number(&depth)?);
        let (cols, col) = (count(&self.axes[kind])?, number(&along)?);
        let offset = number(&offset)?;
        let layout = match place.format {
            // Bytes of the other sign are not what zeros of their own are taken from.
            Format::U8 if place.zeros.is_some() => return None,
            Format::U8 | Format::I8 => Layout::Quads { depth, cols, row, col, offset },
            _ => Layout::Panels { outer, depth, cols, row, col, offset },
        };
        (plain && !elsewhere && still && other.array != place.array).then_some(layout)
    }
}

impl Nest {
    fn of(stmt: &Stmt) -> Option<Nest> {
        let mut axes = Axes::new();
        let mut block = std::slice::from_ref(stmt);
        while let [Stmt::For { axis, extent, kind: LoopKind::Serial, body }] = block
            && is_independent(axis, body)
        {
            axes.push((axis.clone(), extent.clone()));
            block = body;
        }
        let [Stmt::Var { name: acc, init }, sum @ Stmt::For { .. }, rest @ ..] = block else { return None };
        let mut depth = Axes::new();
        let mut inner = std::slice::from_ref(sum);
        while let [Stmt::For { axis, extent, kind: LoopKind::Serial, body }] = inner {
            depth.push((axis.clone(), extent.clone()));
            inner = body;
        }
        let [Stmt::Set { name, value }] = inner else { return None };
        let (a, b, sum) = product_and_sum(value)?;
        let is_acc = matches!(sum.kind(), ExprKind::Var { name, .. } if name == acc);
        let zero = Expr::number(value.dtype(), 0.0);
        // An extent that depends on an axis is no rectangle.
        let rectangle = axes
            .iter()
            .chain(&depth)
            .all(|(_, extent)| axes.iter().chain(&depth).all(|(axis, _)| !extent.mentions(axis)));
        let plain = name == acc && is_acc && *init == zero && keeps_scalars(rest) && !has_loops(rest);
        let factors = [a.clone(), b.clone()];
        (plain && rectangle && !axes.is_empty()).then(|| Nest {
            axes,
            depth,
            acc: acc.clone(),
            factors,
            body: rest.to_vec(),
            chosen: None,
        })
    }

    /// Takes out what chooses one of the factors, which becomes the second one.
    fn choose(&mut self, arrays: &Arrays) {
        for at in 0..2 {
            if let Some((factor, chosen)) = Chosen::find(&self.factors[at], arrays) {
                self.factors = [self.factors[1 - at].clone(), factor];
                self.chosen = Some(chosen);
                return;
            }
        }
    }

    fn ranges(&self, around: &Ranges) -> Ranges {
        let mut ranges = around.clone();
        for (axis, extent) in self.axes.iter().chain(&self.depth) {
            ranges.enter(axis.clone(), extent.clone());
        }
        if let Some(chosen) = &self.chosen {
            ranges.enter(chosen.axis.clone(), chosen.extent.clone());
        }
        ranges
    }

    fn all_axes(&self) -> Axes {
        self.axes.iter().chain(&self.depth).cloned().collect()
    }

    /// Makes two axes of each that an operand sees as `⌊i / n⌋`, `n` being a number that divides its extent.
    fn split_axes(&mut self, arrays: &Arrays, around: &Ranges) {
        while let Some((axis, width)) = self.quotient(arrays, around) {
            let [outer, inner] = ["o", "i"].map(|part| Symbol::new(format!("{axis}{part}")));
            let whole = Dim::from(&outer) * width.clone() + Dim::from(&inner);
            for axes in [&mut self.axes, &mut self.depth] {
                if let Some(at) = axes.iter().position(|(name, _)| *name == axis) {
                    let count = axes[at].1.exact_div(&width).expect("bug: a divisor was looked for");
                    axes.splice(at..=at, [(outer.clone(), count), (inner.clone(), width.clone())]);
                }
            }
            let with = |s: &Symbol| (*s == axis).then(|| whole.clone());
            let ranges = self.ranges(around);
            let index = |dim: &Dim| dim.substitute(&with).simplify(&ranges);
            let expr = |e: &Expr| reindexed(e, &index);
            self.factors = self.factors.each_ref().map(expr);
            self.body = map_block(&self.body, &expr, &index);
            if let Some(chosen) = &mut self.chosen {
                chosen.which = expr(&chosen.which);
            }
        }
    }

    /// An axis that an operand sees divided by a number, and the number.
    fn quotient(&self, arrays: &Arrays, around: &Ranges) -> Option<(Symbol, Dim)> {
        let ranges = self.ranges(around);
        let all = self.all_axes();
        for e in &self.factors {
            let operand = Operand::of(e)?;
            let position = arrays.position(operand.source, operand.at, &ranges)?;
            for (atoms, _) in position.terms() {
                for atom in atoms {
                    let Atom::Floor(value, width) = atom else { continue };
                    let Some(axis) = value.as_symbol() else { continue };
                    let extent = all.iter().find(|(name, _)| name == axis).map(|(_, extent)| extent);
                    let divides = extent.and_then(|extent| extent.exact_div(width)).is_some();
                    if divides && width.as_const().is_some_and(|width| width > 1) {
                        return Some((axis.clone(), width.clone()));
                    }
                }
            }
        }
        None
    }

    fn place(&self, e: &Expr, arrays: &Arrays, ranges: &Ranges) -> Option<Place> {
        let operand = Operand::of(e)?;
        let all = self.all_axes();
        let few = self.axes.len().max(self.depth.len()) <= MAX_AXES && operand.guards.len() <= MAX_GUARDS;
        let position = arrays.position(operand.source, operand.at, ranges).filter(|_| few)?;
        let (mut strides, offset) = linear(&position, &all)?;
        let mut moves: Vec<bool> = strides.iter().map(|stride| !stride.is(0)).collect();
        for guard in &operand.guards {
            let (factors, _) = linear(&guard.value.simplify(ranges), &all)?;
            moves.iter_mut().zip(&factors).for_each(|(moves, factor)| *moves |= !factor.is(0));
        }
        let depth = strides.split_off(self.axes.len());
        moves.truncate(self.axes.len());
        let guarded = !operand.guards.is_empty();
        if guarded && !operand.has_zero_of_its_type() {
            return None;
        }
        let zeros = match operand.zero {
            Some(zero) if all.iter().any(|(axis, _)| varies(zero, axis)) => {
                Some(self.zeros(zero, operand.format, &moves, arrays, ranges)?)
            }
            _ => None,
        };
        let format = operand.format;
        Some(Place {
            array: operand.source.clone(),
            offset,
            outer: strides,
            depth,
            moves,
            guarded,
            format,
            zeros,
        })
    }

    /// How far along each axis around the sum zeros lie apart that are bytes of this type, if they depend only on axes that
    /// move the operand.
    fn zeros(
        &self,
        zero: &Expr,
        format: Format,
        moves: &[bool],
        arrays: &Arrays,
        ranges: &Ranges,
    ) -> Option<Vec<Dim>> {
        let operand =
            Operand::of(zero).filter(|o| o.format == format && o.zero.is_none() && o.guards.is_empty())?;
        let position = arrays.position(operand.source, operand.at, ranges)?;
        let (mut strides, _) = linear(&position, &self.all_axes())?;
        let own = |at: usize, stride: &Dim| stride.is(0) || moves.get(at) == Some(&true);
        let all = strides.iter().enumerate().all(|(at, stride)| own(at, stride));
        strides.truncate(moves.len());
        all.then_some(strides)
    }

    /// The axes as loops around, rows and columns, if these are the operands: from the inside, columns move only `b`,
    /// rows only `a`.
    fn split(&self, a: &Place, b: &Place) -> Option<[Axes; 3]> {
        let only = |mine: &Place, other: &Place, at: usize| mine.moves[at] && !other.moves[at];
        let mut first = self.axes.len();
        while first > 0 && only(b, a, first - 1) {
            first -= 1;
        }
        let cols = self.axes[first..].to_vec();
        if let Some(chosen) = &self.chosen {
            // Which matrix a row meets is its own business, whatever axes tell the row; but one matrix it is.
            let whole = cols.iter().chain(&self.depth).all(|(axis, _)| !chosen.depends(axis));
            let still = whole && (0..first).all(|at| !b.moves[at]);
            return (still && !cols.is_empty()).then(|| [vec![], self.axes[..first].to_vec(), cols]);
        }
        let end = first;
        while first > 0 && only(a, b, first - 1) {
            first -= 1;
        }
        let rows = self.axes[first..end].to_vec();
        (!cols.is_empty()).then(|| [self.axes[..first].to_vec(), rows, cols])
    }
}

/// `a`, `b` and `c` of `a·b + c`: of floats with one rounding, or of whole numbers.
fn product_and_sum(value: &Expr) -> Option<(&Expr, &Expr, &Expr)> {
    match value.kind() {
        ExprKind::Fma(a, b, sum) => Some((a, b, sum)),
        ExprKind::Binary(Binary::Add, sum, product) if value.dtype() == DType::I32 => match product.kind() {
            ExprKind::Binary(Binary::Mul, a, b) => Some((a, b, sum)),
            _ => None,
        },
        _ => None,
    }
}

/// Lays a constant operand of bytes out in panels, and gives an element of it.
fn in_quads(
    program: &mut Program,
    kernel: usize,
    place: &Place,
    layout: &Layout,
    operand: &Expr,
    [cols, depth]: [&Axes; 2],
) -> Expr {
    lay_out(program, kernel, &place.array, &|_| layout.clone());
    let at = Gemm::in_quads(cols, depth).map(Expr::from);
    let load = Expr::load(place.array.clone(), DType::I8, at);
    if place.format == Format::U8 { signed(operand, load) } else { with_load(operand, load) }
}

/// An operand without guards that loads this.
fn with_load(operand: &Expr, load: Expr) -> Expr {
    match operand.kind() {
        ExprKind::Cast(dtype, _) => load.cast(*dtype),
        ExprKind::Binary(f, byte, zero) => Expr::binary(*f, with_load(byte, load), zero.clone()),
        _ => load,
    }
}

/// An operand of `u8` without guards that loads this instead, each byte being 128 less than it was.
fn signed(operand: &Expr, load: Expr) -> Expr {
    let less = Expr::number(DType::I32, 128.0);
    let zero = match operand.kind() {
        ExprKind::Binary(f, _, zero) => Expr::binary(*f, zero.clone(), less),
        _ => Expr::number(DType::I32, -128.0),
    };
    Expr::binary(Binary::Sub, load.cast(DType::I32), zero)
}

/// The expression with all its index arithmetic replaced.
fn reindexed(e: &Expr, index: &dyn Fn(&Dim) -> Dim) -> Expr {
    match e.kind() {
        ExprKind::Index(dim) => index(dim).into(),
        _ => e.map_children(&mut |child| reindexed(child, index)),
    }
}

fn has_loops(block: &[Stmt]) -> bool {
    block.iter().any(|stmt| matches!(stmt, Stmt::For { .. } | Stmt::Var { .. } | Stmt::Gemm(_)))
}
