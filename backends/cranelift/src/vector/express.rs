//! Expressions to values over lanes. The arms stand in the order of [`ExprKind`].

use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Scalar};

use super::lower::{Affine, Fill, Lowering};
use super::region::{Class, Compare, Element, Id, Kind, Logic, One, Two, Value};

/// Is it a type that lives in lanes here? 16-bit floats do as the `f32`s that they are equal to.
fn has_lanes(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32 | DType::U8 | DType::I8 | DType::Bool)
        || is_half(dtype)
}

/// Is it a 16-bit float?
pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Is the function of two bytes one, or a truth value, when it is computed of their 32 bits?
fn stays_a_byte(f: Binary) -> bool {
    f.is_comparison() || matches!(f, Binary::And | Binary::Or | Binary::Xor | Binary::Min | Binary::Max)
}

/// What is known of an expression.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Is it the same wherever it stands in the region?
    fixed: bool,
    /// Does it read memory?
    reads: bool,
    /// Does it read only what the region does not write?
    settled: bool,
}

fn class(dtype: DType) -> Class {
    if dtype == DType::Bool { Class::Mask } else { Class::Vector }
}

impl Lowering<'_, '_, '_> {
    /// The value of an expression. Memory is read only in the lanes of the guard, a mask.
    pub(crate) fn expr(&mut self, e: &Expr, guard: Option<Id>) -> Option<Id> {
        let key = (std::ptr::from_ref(e.kind()), guard);
        if let Some(&known) = self.memo.get(&key) {
            return Some(known);
        }
        if !has_lanes(e.dtype()) {
            return None;
        }
        let id = match e.kind() {
            ExprKind::Const(value) => self.scalar(*value),
            _ if !is_half(e.dtype()) && self.before(e, guard) => {
                let slot = self.slot(Fill::Scalar(self.for_caller(e)));
                let value = self.constant(Kind::Uniform(slot));
                if e.dtype() == DType::Bool { self.negative(value) } else { value }
            }
            _ => self.node(e, guard)?,
        };
        self.memo.insert(key, id);
        Some(id)
    }

    /// Can the caller compute it, once for the whole region?
    pub(crate) fn before(&mut self, e: &Expr, guard: Option<Id>) -> bool {
        let facts = self.facts(e);
        facts.fixed && (!facts.reads || guard.is_none() && facts.settled && self.is_certain())
    }

    /// What the caller computes: there no axis of the region has a name, and what follows from their ranges is not known.
    fn for_caller(&self, e: &Expr) -> Expr {
        match e.kind() {
            ExprKind::Index(dim) => self.em.resolve(dim).into(),
            _ => e.map_children(&mut |child| self.for_caller(child)),
        }
    }

    fn reads(&mut self, e: &Expr) -> bool {
        self.facts(e).reads
    }

    fn facts(&mut self, e: &Expr) -> Facts {
        let key = std::ptr::from_ref(e.kind());
        if let Some(&known) = self.facts.get(&key) {
            return known;
        }
        let mut facts = match e.kind() {
            ExprKind::Index(dim) => {
                Facts { fixed: !self.mentions(&self.em.resolve(dim)), reads: false, settled: true }
            }
            ExprKind::Var { name, .. } => {
                Facts { fixed: !self.names.contains_key(name), reads: false, settled: true }
            }
            ExprKind::Load { source, .. } => {
                Facts { fixed: true, reads: true, settled: !self.stored.contains(source) }
            }
            _ => Facts { fixed: true, reads: false, settled: true },
        };
        for child in e.children() {
            let inside = self.facts(child);
            facts.fixed &= inside.fixed;
            facts.reads |= inside.reads;
            facts.settled &= inside.settled;
        }
        self.facts.insert(key, facts);
        facts
    }

    fn scalar(&mut self, value: Scalar) -> Id {
        match value.dtype() {
            DType::Bool => {
                let value = self.splat(-i32::from(value.to_bool()));
                self.negative(value)
            }
            DType::I8 => self.splat(value.to_i64() as i32),
            dtype if is_half(dtype) => self.float(value.to_f64() as f32),
            _ => self.constant(Kind::Splat(value.bits() as u32)),
        }
    }

    pub(crate) fn splat(&mut self, value: i32) -> Id {
        self.constant(Kind::Splat(value as u32))
    }

    pub(crate) fn float(&mut self, value: f32) -> Id {
        self.constant(Kind::Splat(value.to_bits()))
    }

    pub(crate) fn vector(&mut self, kind: Kind, args: Vec<Id>) -> Id {
        self.push(kind, args, Class::Vector, 0)
    }

    pub(crate) fn mask(&mut self, kind: Kind, args: Vec<Id>) -> Id {
        self.push(kind, args, Class::Mask, 0)
    }

    fn negative(&mut self, value: Id) -> Id {
        let zero = self.splat(0);
        self.mask(Kind::Compare(Compare::Greater), vec![zero, value])
    }

    pub(crate) fn two(&mut self, f: Two, a: Id, b: Id) -> Id {
        self.vector(Kind::Two(f), vec![a, b])
    }

    pub(crate) fn logic(&mut self, f: Logic, a: Id, b: Id) -> Id {
        self.mask(Kind::Logic(f), vec![a, b])
    }

    pub(crate) fn not(&mut self, a: Id) -> Id {
        self.mask(Kind::Not, vec![a])
    }

    pub(crate) fn compare(&mut self, predicate: u8, a: Id, b: Id) -> Id {
        self.mask(Kind::Compare(Compare::Float(predicate)), vec![a, b])
    }

    fn node(&mut self, e: &Expr, guard: Option<Id>) -> Option<Id> {
        match e.kind() {
            ExprKind::Load { source, dtype, at } => self.load(source, *dtype, at, guard),
            ExprKind::Var { name, dtype } => {
                let (id, bound) = *self.names.get(name)?;
                (bound == *dtype).then_some(id)
            }
            ExprKind::Unary(f, x) => {
                let id = self.expr(x, guard)?;
                let value = self.unary(*f, x.dtype(), id)?;
                if let (Kind::One(One::Round(_)), Some(&(low, high))) =
                    (self.region.values[value].kind, self.bounds.get(&id))
                {
                    self.bounds.insert(value, (low - 1.0, high + 1.0));
                }
                Some(value)
            }
            ExprKind::Binary(f, a, b) if f.is_comparison() && a.dtype() == DType::I64 => {
                self.compare_indices(*f, a, b)
            }
            ExprKind::Binary(f, x, y) => {
                if x.dtype() != y.dtype() || !f.accepts(x.dtype()) {
                    return None;
                }
                let (a, b) = (self.expr(x, guard)?, self.expr(y, guard)?);
                match x.dtype() {
                    DType::F32 => {
                        let value = self.floats(*f, a, b, y)?;
                        self.bound(*f, value, a, y);
                        Some(value)
                    }
                    DType::Bool => Some(self.masks(*f, a, b)),
                    dtype if is_half(dtype) => None,
                    // What could leave the range of a byte has no form here.
                    DType::U8 | DType::I8 if !stays_a_byte(*f) => None,
                    dtype => self.integers(*f, a, b, dtype != DType::U32),
                }
            }
            ExprKind::Fma(a, b, c) => {
                if [a, b, c].iter().any(|x| x.dtype() != DType::F32) {
                    return None;
                }
                let args = vec![self.expr(a, guard)?, self.expr(b, guard)?, self.expr(c, guard)?];
                Some(self.vector(Kind::Fma, args))
            }
            ExprKind::Select(cond, yes, no) => self.select(cond, yes, no, guard),
            ExprKind::Cast(to, x) => match x.as_index() {
                Some(dim) if matches!(to, DType::I32 | DType::U32) => {
                    let dim = self.em.resolve(dim);
                    self.counted(dim, None, None)
                }
                _ => {
                    let id = self.expr(x, guard)?;
                    self.cast(x.dtype(), *to, id)
                }
            },
            ExprKind::Bitcast(to, x) if to.bits() == 32 && x.dtype().bits() == 32 => self.expr(x, guard),
            ExprKind::Const(_) | ExprKind::Index(_) | ExprKind::Bitcast(..) | ExprKind::Fold(_) => None,
        }
    }

    fn load(&mut self, source: &Symbol, dtype: DType, at: &[Expr], guard: Option<Id>) -> Option<Id> {
        if dtype == DType::Bool || self.em.scope.arrays.get(source)?.dtype != dtype {
            return None;
        }
        let (place, along, level) = self.place(source, at, guard)?;
        let level = self.level_of_read(source, level);
        let mut level = level;
        let mut args = Vec::new();
        let stride = self.stride(along)?;
        if !matches!(stride, 0 | 1) {
            if place.element != Element::Lane {
                return None;
            }
            args.push(self.constant(Kind::Count(stride)));
        }
        if let Some(guard) = guard {
            let Value { varying, level: inside, kind, .. } = self.region.values[guard];
            level = level.max(if kind == Kind::Cell { self.depth() } else { inside });
            if varying || stride != 0 {
                level = level.max(self.vector_level()?);
                args.push(self.push(Kind::Existing, vec![guard], Class::Mask, level));
            } else {
                args.push(guard);
            }
        }
        let kind = match stride {
            0 => Kind::Spread(place),
            1 => Kind::Load(place),
            _ => Kind::Gather(place, stride),
        };
        Some(self.push(kind, args, Class::Vector, level))
    }

    fn select(&mut self, cond: &Expr, yes: &Expr, no: &Expr, guard: Option<Id>) -> Option<Id> {
        if cond.dtype() != DType::Bool || yes.dtype() != no.dtype() {
            return None;
        }
        let mask = self.expr(cond, guard)?;
        let both = |this: &mut Self, mask| match guard {
            Some(guard) => this.logic(Logic::And, guard, mask),
            None => mask,
        };
        let inside = if self.reads(yes) { Some(both(self, mask)) } else { guard };
        let outside = if self.reads(no) {
            let other = self.not(mask);
            Some(both(self, other))
        } else {
            guard
        };
        let a = self.expr(yes, inside)?;
        // A load gives zeros where it reads nothing.
        let zero = matches!(no.kind(), ExprKind::Const(value) if value.bits() == 0);
        if zero && matches!(yes.kind(), ExprKind::Load { .. }) {
            return Some(a);
        }
        let b = self.expr(no, outside)?;
        Some(match class(yes.dtype()) {
            Class::Vector => self.vector(Kind::Blend, vec![mask, a, b]),
            Class::Mask => {
                let a = self.logic(Logic::And, mask, a);
                let b = self.logic(Logic::AndNot, mask, b);
                self.logic(Logic::Or, a, b)
            }
        })
    }

    /// A comparison of indices: the sign of their difference. A side that is no index arithmetic is the same for
    /// the whole region.
    fn compare_indices(&mut self, f: Binary, a: &Expr, b: &Expr) -> Option<Id> {
        let mut side = |e: &Expr| match e.as_index() {
            Some(dim) => Some((self.em.resolve(dim), None)),
            None => (e.dtype() == DType::I64 && self.before(e, None))
                .then(|| (Dim::constant(0), Some(self.for_caller(e)))),
        };
        let ((left, plus), (right, minus)) = (side(a)?, side(b)?);
        let difference = left - right;
        if let Some(mask) = self.compare_lanes(f, &difference, &plus, &minus) {
            return Some(mask);
        }
        let difference = self.counted(difference, plus, minus)?;
        let zero = self.splat(0);
        self.compare_integers(f, difference, zero, true)
    }

    /// The sign of `rest + s·i`, where `i` is the vector axis: `s·i`, in lanes, is compared with `−rest`, which is
    /// fixed for the vector loop. The lanes have 31 bits for `s·i`.
    fn compare_lanes(
        &mut self,
        f: Binary,
        dim: &Dim,
        plus: &Option<Expr>,
        minus: &Option<Expr>,
    ) -> Option<Id> {
        let level = self.vector_level()?;
        let Affine { base, steps, along } = self.affine(dim)?;
        let scale = self.stride(along).filter(|&scale| scale != 0)?;
        // An equality with the limit is one with the lanes.
        let (beyond, less) = match f {
            Binary::Lt => (0, true),
            Binary::Le => (1, true),
            Binary::Gt => (0, false),
            Binary::Ge => (-1, false),
            _ => return None,
        };
        let extent = self.vector_extent()?;
        let limit = (1 << 30) / i64::from(scale.abs());
        match extent.as_const() {
            Some(extent) if extent < limit => {}
            Some(_) => return None,
            None => self.narrow.push((extent, limit)),
        }
        let base = Dim::constant(beyond) - base;
        let steps: Vec<_> = steps.into_iter().map(|(depth, step)| (depth, -step)).collect();
        let slot = self.advanced(Fill::Difference(base, minus.clone(), plus.clone()), &steps, 1)?;
        let around = steps.iter().map(|(depth, _)| depth + 1).max().unwrap_or(0);
        let limit = self.push(Kind::First { slot, scale: 0, clamp: true }, vec![], Class::Vector, around);
        let zero = self.slot(Fill::Index(Dim::constant(0)));
        let first = Kind::First { slot: zero, scale, clamp: false };
        let (first, count) =
            (self.push(first, vec![], Class::Vector, level), self.constant(Kind::Count(scale)));
        let lanes = self.two(Two::AddI, first, count);
        let args = if less { vec![limit, lanes] } else { vec![lanes, limit] };
        Some(self.mask(Kind::Compare(Compare::Greater), args))
    }

    /// An index in lanes, wrapped to 32 bits; or a difference, of which the sign is kept.
    fn counted(&mut self, dim: Dim, plus: Option<Expr>, minus: Option<Expr>) -> Option<Id> {
        let Affine { base, steps, along } = self.affine(&dim)?;
        let scale = self.stride(along)?;
        let slot = self.advanced(Fill::Difference(base, plus, minus), &steps, 1)?;
        let level = steps.iter().map(|(depth, _)| depth + 1).max().unwrap_or(0);
        let level = if scale == 0 { level } else { level.max(self.vector_level()?) };
        let first = self.push(Kind::First { slot, scale, clamp: true }, vec![], Class::Vector, level);
        if scale == 0 {
            return Some(first);
        }
        let count = self.constant(Kind::Count(scale));
        Some(self.two(Two::AddI, first, count))
    }
}
