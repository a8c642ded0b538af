//! Scalar regions as ops on whole arrays: what an engine computes that knows no regions.
//!
//! Each expression of a region becomes an array that broadcasts to all the numbers. Both sides of a choice are computed,
//! so that what is loaded where it is not chosen is whatever a gather gives.

use std::collections::HashMap;

use ir::build::Build;
use ir::dim::Atom;
use ir::graph::Value;
use ir::kernel::{Expr, ExprKind};
use ir::op::{OpDef, OpError};
use ir::region::operand_number;
use ir::{DType, Dim, Region, Tensor};

use crate::math::add::ADD;
use crate::math::bitcast::{self, BITCAST};
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::modulo::MODULO;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::shape::broadcast::broadcast;
use crate::shape::concat::{self, CONCAT};
use crate::shape::gather_nd::GATHER_ND;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// What the region gives for each of `numbers`, where `operands` are those of the op that carries it.
///
/// # Errors
/// What the ops say; a region that does not fit.
pub(super) fn as_ops(
    b: &mut Build,
    region: &Region,
    numbers: Value,
    operands: &[Value],
) -> Result<Value, OpError> {
    let sizes = b.ty(numbers).shape.clone();
    let mut walk = Walk { sizes, numbers, operands, seen: HashMap::new() };
    let y = walk.value(b, region.body())?;
    broadcast(b, y, walk.sizes)
}

struct Walk<'a> {
    /// The sizes of all numbers.
    sizes: Vec<Dim>,
    numbers: Value,
    operands: &'a [Value],
    seen: HashMap<Expr, Value>,
}

const MISFIT: OpError = OpError::Attribute { key: "score", why: "it has parts that are no ops" };

fn op_called(name: &str) -> Result<&'static OpDef, OpError> {
    crate::find(name).ok_or(MISFIT)
}

impl Walk<'_> {
    fn value(&mut self, b: &mut Build, e: &Expr) -> Result<Value, OpError> {
        if let Some(&known) = self.seen.get(e) {
            return Ok(known);
        }
        let value = match e.kind() {
            ExprKind::Const(value) => b.constant(&Tensor::scalar(*value)),
            ExprKind::Index(dim) => self.index(b, dim)?,
            ExprKind::Load { source, at, .. } => {
                let operand = operand_number(source).and_then(|number| self.operands.get(number));
                self.load(b, *operand.ok_or(MISFIT)?, at)?
            }
            ExprKind::Var { .. } => self.numbers,
            ExprKind::Unary(f, x) => {
                let x = self.value(b, x)?;
                b.op(op_called(f.name())?, &[x])?
            }
            ExprKind::Binary(f, x, y) => {
                let operands = [self.value(b, x)?, self.value(b, y)?];
                b.op(op_called(f.name())?, &operands)?
            }
            ExprKind::Fma(x, y, z) => {
                let (x, y, z) = (self.value(b, x)?, self.value(b, y)?, self.value(b, z)?);
                let product = b.op(&MUL, &[x, y])?;
                b.op(&ADD, &[product, z])?
            }
            ExprKind::Select(c, yes, no) => {
                let operands = [self.value(b, c)?, self.value(b, yes)?, self.value(b, no)?];
                b.op(&WHERE, &operands)?
            }
            ExprKind::Cast(to, x) => {
                let x = self.value(b, x)?;
                convert(b, x, *to)?
            }
            ExprKind::Bitcast(to, x) => {
                let x = self.value(b, x)?;
                b.op_with(&BITCAST, &[x], [bitcast::TO.is(*to)])?
            }
            ExprKind::Fold(_) => return Err(MISFIT),
        };
        self.seen.insert(e.clone(), value);
        Ok(value)
    }

    /// Index arithmetic, in 64 bits.
    fn index(&mut self, b: &mut Build, dim: &Dim) -> Result<Value, OpError> {
        let mut speaks_of_axes = false;
        dim.for_each_symbol(&mut |symbol| speaks_of_axes |= Region::axis_number(symbol).is_some());
        if !speaks_of_axes {
            return size(b, DType::I64, dim);
        }
        let mut sum: Option<Value> = None;
        for (atoms, factor) in dim.terms() {
            let mut term: Option<Value> = None;
            for atom in atoms {
                let atom = self.atom(b, atom)?;
                term = Some(match term {
                    None => atom,
                    Some(term) => b.op(&MUL, &[term, atom])?,
                });
            }
            let term = match term {
                Some(term) if factor == 1 => term,
                Some(term) => {
                    let factor = size(b, DType::I64, &factor.into())?;
                    b.op(&MUL, &[term, factor])?
                }
                None => size(b, DType::I64, &factor.into())?,
            };
            sum = Some(match sum {
                None => term,
                Some(sum) => b.op(&ADD, &[sum, term])?,
            });
        }
        sum.ok_or(MISFIT)
    }

    fn atom(&mut self, b: &mut Build, atom: &Atom) -> Result<Value, OpError> {
        match atom {
            Atom::Symbol(symbol) => match Region::axis_number(symbol) {
                None => size(b, DType::I64, &Dim::from(symbol)),
                Some(axis) => {
                    let extent = self.sizes.get(axis).ok_or(MISFIT)?.clone();
                    let counted = iota(b, extent.clone(), DType::I64)?;
                    let behind = self.sizes.len() - axis - 1;
                    reshape(b, counted, [vec![extent], vec![Dim::constant(1); behind]].concat())
                }
            },
            Atom::Floor(a, divisor) => {
                let (a, divisor) = (self.index(b, a)?, self.index(b, divisor)?);
                // Division truncates: without the remainder, it is exact.
                let rest = b.op(&MODULO, &[a, divisor])?;
                let whole = b.op(&SUB, &[a, rest])?;
                b.op(&DIV, &[whole, divisor])
            }
            Atom::Min(dims) => self.extremum(b, &MIN, dims),
            Atom::Max(dims) => self.extremum(b, &MAX, dims),
        }
    }

    fn extremum(&mut self, b: &mut Build, op: &'static OpDef, dims: &[Dim]) -> Result<Value, OpError> {
        let first = self.index(b, dims.first().ok_or(MISFIT)?)?;
        dims[1..].iter().try_fold(first, |most, dim| {
            let dim = self.index(b, dim)?;
            b.op(op, &[most, dim])
        })
    }

    /// The elements of an operand at these places.
    fn load(&mut self, b: &mut Build, x: Value, at: &[Expr]) -> Result<Value, OpError> {
        if at.is_empty() {
            return Ok(x);
        }
        if let Some(axes) = self.plain(b, x, at) {
            return self.moved(b, x, &axes);
        }
        let mut shape = Vec::new();
        let mut places = Vec::new();
        for index in at {
            let index = self.value(b, index)?;
            let index = convert(b, index, DType::I64)?;
            let clash = |(left, right)| OpError::Size { what: "indices do not broadcast", left, right };
            shape = ir::types::broadcast(&shape, &b.ty(index).shape).map_err(clash)?;
            places.push(index);
        }
        let column = [shape.as_slice(), &[Dim::constant(1)]].concat();
        let mut columns = Vec::new();
        for place in places {
            let place = broadcast(b, place, shape.clone())?;
            columns.push(reshape(b, place, column.clone())?);
        }
        let last = [concat::AXIS.is(shape.len() as i64)];
        let rows = if let [one] = columns[..] { one } else { b.op_with(&CONCAT, &columns, last)? };
        b.op(&GATHER_ND, &[x, rows])
    }

    /// For each axis of an operand the axis of the numbers that it follows, or the place where it is read, if all
    /// indices are such: a view of it, then.
    fn plain(&self, b: &Build, x: Value, at: &[Expr]) -> Option<Vec<Result<usize, i64>>> {
        let mut axes: Vec<Result<usize, i64>> = Vec::new();
        for (index, extent) in at.iter().zip(&b.ty(x).shape) {
            let index = index.as_index()?;
            axes.push(match (index.as_const(), index.as_symbol().and_then(Region::axis_number)) {
                (Some(place), _) => {
                    let inside = extent.as_const().is_some_and(|extent| (0..extent).contains(&place));
                    Err(Some(place).filter(|_| inside)?)
                }
                (None, Some(axis)) if self.sizes.get(axis) == Some(extent) => Ok(axis),
                _ => return None,
            });
        }
        let mut followed: Vec<usize> = axes.iter().filter_map(|axis| axis.ok()).collect();
        followed.sort_unstable();
        followed.is_sorted_by(|a, b| a < b).then_some(axes)
    }

    fn moved(&self, b: &mut Build, mut x: Value, axes: &[Result<usize, i64>]) -> Result<Value, OpError> {
        for (axis, place) in axes.iter().enumerate() {
            if let Err(place) = place {
                x = slice_axis(b, x, axis, (*place).into(), Dim::constant(1))?;
            }
        }
        // Those that are read at one place come first, and go.
        let mut order: Vec<usize> = (0..axes.len()).collect();
        order.sort_by_key(|&axis| axes[axis].map_or(0, |followed| followed + 1));
        x = transpose(b, x, order.iter().map(|&axis| axis as i64).collect())?;
        let followed: Vec<usize> = order.iter().filter_map(|&axis| axes[axis].ok()).collect();
        let first = followed.first().copied().unwrap_or(self.sizes.len());
        let size = |axis: usize| {
            if followed.contains(&axis) { self.sizes[axis].clone() } else { Dim::constant(1) }
        };
        reshape(b, x, (first..self.sizes.len()).map(size).collect())
    }
}
