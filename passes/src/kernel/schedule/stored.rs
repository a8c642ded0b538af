//! Constant operands of products, laid out in the type in which they are stored.
//!
//! A weight that is only read in a wider type (`ir::weight::Widened`) becomes panels of what it is computed from, with
//! zeros and scales in panels beside it, a row for each block of rows that share them. So do 16-bit floats that the
//! kernel casts. The element is the same, and so is the sum.

use std::ops::RangeInclusive;

use ir::dim::Symbol;
use ir::kernel::stmt::{Axes, PANEL, position};
use ir::kernel::stored::{Format, Stored};
use ir::kernel::{Access, Expr, Gemm, Param};
use ir::program::{Arg, Layout, PackedWeight, Program};
use ir::scalar::Binary;
use ir::weight::Widened;
use ir::{DType, Dim, Scalar, Tensor, Weight};

use super::{lay_out, weights_behind};
use crate::lower::Names;

/// What is stored in more bytes for each element than this is laid out as it is computed.
const MOST_BYTES: f64 = 3.0;

/// Lays a constant operand out in panels, and gives an element of it. Before its position among columns, the index has
/// the numbers `number`.
pub(super) fn in_panels(
    program: &mut Program,
    kernel: usize,
    array: &Symbol,
    layout: &Layout,
    number: Option<Dim>,
    [cols, depth]: [&Axes; 2],
) -> Expr {
    if let Some(parts) = Parts::of(program, kernel, array, layout) {
        return parts.lay_out(program, kernel, array, number, [cols, depth]);
    }
    lay_out(program, kernel, array, &|_| layout.clone());
    let dtype = program.kernels[kernel].param(array).map_or(DType::F32, |param| param.ty.dtype);
    let at = number.into_iter().chain(Gemm::in_panels(cols, depth));
    Expr::load(array.clone(), dtype, at.map(Expr::from)).cast(DType::F32)
}

/// What the weights behind a parameter are computed from, as packed: the same for all calls of the kernel.
struct Parts {
    /// For each weight behind the parameter the packed values, zeros and scales.
    each: Vec<(usize, Packed)>,
    /// How many rows share zeros and scales.
    block: usize,
}

/// The packed parts of a weight.
#[derive(Clone)]
struct Packed {
    values: PackedWeight,
    zero: Option<Zero>,
    scale: Option<PackedWeight>,
}

/// What is subtracted.
#[derive(Clone, PartialEq)]
enum Zero {
    Number(f32),
    Panels(PackedWeight),
}

impl Parts {
    /// Those of the weights behind a parameter, if all are computed in the same way, and it is a gain to store them so.
    fn of(program: &Program, kernel: usize, array: &Symbol, layout: &Layout) -> Option<Parts> {
        let weights = weights_behind(program, kernel, array)?;
        let mut each: Vec<(usize, Packed)> = Vec::new();
        let mut block = None;
        for at in weights {
            if each.iter().any(|(known, _)| *known == at) {
                continue;
            }
            let weight = &program.weights[at];
            let widened = weight.weight.widened().filter(|_| weight.weight.dtype() == DType::F32)?;
            let shared = shared_rows(widened, layout);
            if *block.get_or_insert(shared) != shared {
                return None;
            }
            each.push((at, packed(widened, weight.name.name(), layout, shared)?));
        }
        let (parts, block) = (Parts { each, block: block? }, block?);
        let (_, first) = parts.each.first()?;
        let alike = parts.each.iter().all(|(_, other)| first.is_like(other));
        (alike && first.bytes(block) <= MOST_BYTES).then_some(parts)
    }

    /// Gives the kernel its parameters, and an element of the operand.
    fn lay_out(
        self,
        program: &mut Program,
        kernel: usize,
        array: &Symbol,
        number: Option<Dim>,
        [cols, depth]: [&Axes; 2],
    ) -> Expr {
        let first = self.each[0].1.clone();
        let find = |at: usize| {
            let found = self.each.iter().find(|(known, _)| *known == at);
            found.map(|(_, packed)| packed).expect("bug: a weight that was just looked at")
        };
        let [panel, k, column] = Gemm::in_panels(cols, depth);
        let mut value = match first.values.layout {
            Layout::Nibbles { .. } => {
                Stored::nibble(array, number.clone().into_iter(), k.clone(), &position(cols))
            }
            _ => {
                let at = number.clone().into_iter().chain([panel.clone(), k.clone(), column.clone()]);
                let dtype = first.values.dtype();
                Expr::load(array.clone(), dtype, at.map(Expr::from)).cast(DType::F32)
            }
        };
        let shared = || {
            let row = k.floor_div(&Dim::constant(self.block as i64));
            let row = if self.is_one_block(&first) { Dim::constant(0) } else { row };
            number.clone().into_iter().chain([panel.clone(), row, column.clone()]).map(Expr::from)
        };
        let zero = first.zero.as_ref().map(|zero| match zero {
            Zero::Number(number) => Expr::number(DType::F32, f64::from(*number)),
            Zero::Panels(packed) => {
                let name = add(program, kernel, array, "zero", &|at| match &find(at).zero {
                    Some(Zero::Panels(packed)) => packed.clone(),
                    _ => unreachable!("bug: all weights have zeros of one kind"),
                });
                Expr::load(name, packed.dtype(), shared()).cast(DType::F32)
            }
        });
        if let Some(zero) = zero {
            value = Expr::binary(Binary::Sub, value, zero);
        }
        if first.scale.is_some() {
            let name = add(program, kernel, array, "scale", &|at| {
                find(at).scale.clone().expect("bug: all weights have scales")
            });
            value = Expr::binary(Binary::Mul, value, Expr::load(name, DType::F32, shared()));
        }
        replace(program, kernel, array, &|at| find(at).values.clone());
        value
    }

    /// Do all rows share zeros and scales?
    fn is_one_block(&self, packed: &Packed) -> bool {
        let (Layout::Panels { depth, .. } | Layout::Nibbles { depth, .. }) = packed.values.layout else {
            return false;
        };
        self.block >= depth
    }
}

impl Packed {
    /// Bytes for each element.
    fn bytes(&self, block: usize) -> f64 {
        let of = |packed: &PackedWeight| packed.dtype().bytes() as f64 / block.max(1) as f64;
        let values = match self.values.layout {
            Layout::Nibbles { .. } => 0.5,
            _ => self.values.dtype().bytes() as f64,
        };
        let zero = match &self.zero {
            Some(Zero::Panels(packed)) => of(packed),
            _ => 0.0,
        };
        values + zero + self.scale.as_ref().map_or(0.0, of)
    }

    /// Does an element of another weight have the same form?
    fn is_like(&self, other: &Packed) -> bool {
        let zeros = match (&self.zero, &other.zero) {
            (Some(Zero::Panels(a)), Some(Zero::Panels(b))) => a.ty() == b.ty(),
            (a, b) => a == b,
        };
        let scales = self.scale.as_ref().map(PackedWeight::ty) == other.scale.as_ref().map(PackedWeight::ty);
        self.values.ty() == other.values.ty() && zeros && scales
    }
}

/// In blocks of how many rows of the matrix zeros and scales are the same.
fn shared_rows(widened: &Widened, layout: &Layout) -> usize {
    let Layout::Panels { depth, .. } = layout else { unreachable!("bug: operands are laid out in panels") };
    let parts = widened.zero.iter().chain(&widened.scale);
    let blocks = parts.map(|part| part.equal_rows(layout)).filter(|&block| block > 0);
    blocks.reduce(gcd).unwrap_or(*depth).clamp(1, (*depth).max(1))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The parts of a weight in panels; `None` if products cannot read them.
fn packed(widened: &Widened, name: &str, layout: &Layout, block: usize) -> Option<Packed> {
    let of = |weight: &Weight, layout: Layout| PackedWeight {
        name: Symbol::new(name),
        weight: weight.clone(),
        layout,
    };
    let dtype = widened.values.dtype();
    let small = matches!(dtype, DType::I4 | DType::U4);
    let values = of(&widened.values, if small { in_halves(layout) } else { layout.clone() });
    if !small && Format::of(dtype).is_none_or(|format| format == Format::F32) {
        return None;
    }
    // Signed numbers of 4 bits are stored as unsigned ones.
    let more: f32 = if dtype == DType::I4 { 8.0 } else { 0.0 };
    let zero = match &widened.zero {
        None => (more != 0.0).then_some(Zero::Number(more)),
        Some(zero) => Some(centre(zero, more, name, layout, block)),
    };
    let zero = zero.filter(|zero| *zero != Zero::Number(0.0));
    let scale = match &widened.scale {
        None => None,
        Some(scale) if scale.dtype() == DType::F32 => Some(of(scale, each_block(layout, block))),
        Some(_) => return None,
    };
    Some(Packed { values, zero, scale })
}

/// The same layout with two numbers to a byte.
fn in_halves(layout: &Layout) -> Layout {
    let Layout::Panels { outer, depth, cols, row, col, offset } = layout.clone() else {
        unreachable!("bug: operands are laid out in panels")
    };
    Layout::Nibbles { outer, depth, cols, row, col, offset }
}

/// The same layout of the first row of each block of rows.
fn each_block(layout: &Layout, block: usize) -> Layout {
    let Layout::Panels { outer, depth, cols, row, col, offset } = layout.clone() else {
        unreachable!("bug: operands are laid out in panels")
    };
    Layout::Panels { outer, depth: depth.div_ceil(block), cols, row: row * block, col, offset }
}

/// What is subtracted, and `more`: one number, if all are; bytes, if they are such; else floats.
fn centre(zero: &Weight, more: f32, name: &str, layout: &Layout, block: usize) -> Zero {
    let layout = each_block(layout, block);
    let Layout::Panels { cols, depth, .. } = layout else { unreachable!("bug: a layout that was just made") };
    let packed = PackedWeight { name: Symbol::new(name), weight: zero.clone(), layout };
    let (shape, panel) = (packed.shape(), PANEL as usize);
    let numbers: Vec<f64> = packed.pack().values().map(|value| value.to_f64() + f64::from(more)).collect();
    // Behind the last column there are none.
    let column = |at: usize| at / (panel * depth) % cols.div_ceil(panel) * panel + at % panel;
    let used: Vec<f64> = (0..numbers.len()).filter(|&at| column(at) < cols).map(|at| numbers[at]).collect();
    let first = used.first().copied().unwrap_or(0.0);
    if used.iter().all(|number| *number == first) {
        return Zero::Number(first as f32);
    }
    let fit = |range: RangeInclusive<f64>| used.iter().all(|n| n.fract() == 0.0 && range.contains(n));
    let dtype = match (fit(-128.0..=127.0), fit(0.0..=255.0)) {
        (true, _) => DType::I8,
        (_, true) => DType::U8,
        _ => DType::F32,
    };
    let mut each =
        numbers.iter().enumerate().map(|(at, number)| if column(at) < cols { *number } else { 0.0 });
    let element = |_: &[usize]| Scalar::from_f64(dtype, each.next().unwrap_or(0.0));
    let weight = Weight::of(zero.name(), Tensor::from_fn(dtype, &shape, element));
    Zero::Panels(PackedWeight { weight, layout: Layout::Plain, ..packed })
}

/// Gives a parameter of the kernel other weights, of another type.
fn replace(program: &mut Program, kernel: usize, param: &Symbol, new: &dyn Fn(usize) -> PackedWeight) {
    let position = place(program, kernel, param);
    let weights = &mut program.weights;
    let mut ty = None;
    for entry in &mut program.entries {
        entry.for_each_call_mut(&mut |call| {
            let Some(Arg::Weight(old)) = call.args.get(position).copied().filter(|_| call.kernel == kernel)
            else {
                return;
            };
            let at = find_or_add(weights, new(old), "packed");
            ty = Some(weights[at].ty());
            call.args[position] = Arg::Weight(at);
        });
    }
    program.kernels[kernel].params[position].ty = ty.expect("bug: a parameter that no call has");
}

/// One more parameter of the kernel, beside that of which it is a part, with the weights that go with those behind it.
fn add(
    program: &mut Program,
    kernel: usize,
    beside: &Symbol,
    what: &str,
    new: &dyn Fn(usize) -> PackedWeight,
) -> Symbol {
    let position = place(program, kernel, beside);
    let weights = &mut program.weights;
    let mut ty = None;
    for entry in &mut program.entries {
        entry.for_each_call_mut(&mut |call| {
            let Some(Arg::Weight(of)) = call.args.get(position).copied().filter(|_| call.kernel == kernel)
            else {
                return;
            };
            let at = find_or_add(weights, new(of), what);
            ty = Some(weights[at].ty());
            call.args.push(Arg::Weight(at));
        });
    }
    let params = &mut program.kernels[kernel].params;
    let name =
        Names::of(params.iter().map(|param| param.name.name())).fresh(&format!("{beside}.{what}"), "x");
    let name = Symbol::new(name);
    let ty = ty.expect("bug: a parameter that no call has");
    params.push(Param { name: name.clone(), ty, access: Access::Read });
    name
}

fn place(program: &Program, kernel: usize, param: &Symbol) -> usize {
    let params = &program.kernels[kernel].params;
    params.iter().position(|p| p.name == *param).expect("bug: the parameter was just looked up")
}

/// A weight of the program that is the same, or this one under a name of its own.
fn find_or_add(weights: &mut Vec<PackedWeight>, new: PackedWeight, what: &str) -> usize {
    let there = weights.iter().position(|w| w.weight == new.weight && w.layout == new.layout);
    there.unwrap_or_else(|| {
        let mut names = Names::of(weights.iter().map(|w| w.name.name()));
        let name = names.fresh(&format!("{}.{what}", new.name), "w");
        weights.push(PackedWeight { name: Symbol::new(name), ..new });
        weights.len() - 1
    })
}
