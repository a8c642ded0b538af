//! Expressions to values over lanes. The arms stand in the order of [`ExprKind`].

use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Scalar, Unary};

use super::lower::{Affine, Fill, Lowering};
use super::region::{Class, Compare, Id, Kind, Logic, One, Two};

/// The largest distance between lanes.
const FARTHEST: i64 = 1 << 20;

/// Is it a type that lives in lanes here?
fn has_lanes(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32 | DType::Bool)
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
            _ if self.before(e, guard) => {
                let slot = self.slot(Fill::Scalar(e.clone()));
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
            _ => self.constant(Kind::Splat(value.bits() as u32)),
        }
    }

    fn splat(&mut self, value: i32) -> Id {
        self.constant(Kind::Splat(value as u32))
    }

    fn float(&mut self, value: f32) -> Id {
        self.constant(Kind::Splat(value.to_bits()))
    }

    fn vector(&mut self, kind: Kind, args: Vec<Id>) -> Id {
        self.push(kind, args, Class::Vector, 0)
    }

    fn mask(&mut self, kind: Kind, args: Vec<Id>) -> Id {
        self.push(kind, args, Class::Mask, 0)
    }

    fn negative(&mut self, value: Id) -> Id {
        let zero = self.splat(0);
        self.mask(Kind::Compare(Compare::Greater), vec![zero, value])
    }

    fn two(&mut self, f: Two, a: Id, b: Id) -> Id {
        self.vector(Kind::Two(f), vec![a, b])
    }

    fn logic(&mut self, f: Logic, a: Id, b: Id) -> Id {
        self.mask(Kind::Logic(f), vec![a, b])
    }

    fn not(&mut self, a: Id) -> Id {
        self.mask(Kind::Not, vec![a])
    }

    fn compare(&mut self, predicate: u8, a: Id, b: Id) -> Id {
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
                self.unary(*f, x.dtype(), id)
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
                    DType::F32 => self.floats(*f, a, b, y),
                    DType::Bool => Some(self.masks(*f, a, b)),
                    dtype => self.integers(*f, a, b, dtype == DType::I32),
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
        if along == 0 && guard.is_none() {
            return Some(self.push(Kind::Spread(place), vec![], Class::Vector, level));
        }
        let mut args = Vec::new();
        if along != 1 {
            let stride = i32::try_from(along).ok().filter(|s| i64::from(*s).abs() < FARTHEST)?;
            args.push(self.constant(Kind::Count(stride)));
        }
        let mut level = level.max(self.vector_level()?);
        if let Some(guard) = guard {
            level = level.max(self.region.values[guard].level);
            args.push(self.push(Kind::Existing, vec![guard], Class::Mask, level));
        }
        let kind = if along == 1 { Kind::Load(place) } else { Kind::Gather(place, along as i32) };
        Some(self.push(kind, args, Class::Vector, level))
    }

    fn unary(&mut self, f: Unary, dtype: DType, x: Id) -> Option<Id> {
        let one = |this: &mut Self, f| this.vector(Kind::One(f), vec![x]);
        Some(match (f, dtype) {
            (Unary::Neg, DType::F32) => {
                let sign = self.splat(i32::MIN);
                self.two(Two::Xor, x, sign)
            }
            (Unary::Abs, DType::F32) => {
                let size = self.splat(i32::MAX);
                self.two(Two::And, x, size)
            }
            (Unary::Neg, DType::I32 | DType::U32) => {
                let zero = self.splat(0);
                self.two(Two::SubI, zero, x)
            }
            (Unary::Abs, DType::I32) => one(self, One::AbsI),
            (Unary::Abs, DType::U32) => x,
            (Unary::Not, DType::I32 | DType::U32) => {
                let ones = self.splat(-1);
                self.two(Two::Xor, x, ones)
            }
            (Unary::Not, DType::Bool) => self.not(x),
            (Unary::Round, DType::F32) => one(self, One::Round(0)),
            (Unary::Floor, DType::F32) => one(self, One::Round(1)),
            (Unary::Ceil, DType::F32) => one(self, One::Round(2)),
            (Unary::Trunc, DType::F32) => one(self, One::Round(3)),
            (Unary::Sqrt, DType::F32) => one(self, One::Sqrt),
            (Unary::IsNan, DType::F32) => self.compare(UNORDERED, x, x),
            (Unary::IsInf, DType::F32) => {
                let size = self.splat(i32::MAX);
                let size = self.two(Two::And, x, size);
                let infinity = self.float(f32::INFINITY);
                self.compare(EQUAL, size, infinity)
            }
            _ => return None,
        })
    }

    fn floats(&mut self, f: Binary, a: Id, b: Id, right: &Expr) -> Option<Id> {
        Some(match f {
            Binary::Add => self.two(Two::AddF, a, b),
            Binary::Sub => self.two(Two::SubF, a, b),
            Binary::Mul => self.two(Two::MulF, a, b),
            Binary::Div => self.two(Two::DivF, a, b),
            // The instruction gives its second operand unless the first one wins.
            Binary::Min | Binary::Max => {
                let f = if f == Binary::Min { Two::MinF } else { Two::MaxF };
                let value = self.two(f, b, a);
                if matches!(right.kind(), ExprKind::Const(value) if !value.to_f64().is_nan()) {
                    return Some(value);
                }
                let nan = self.compare(UNORDERED, b, b);
                self.vector(Kind::Blend, vec![nan, b, value])
            }
            Binary::Eq => self.compare(EQUAL, a, b),
            Binary::Ne => self.compare(NOT_EQUAL, a, b),
            Binary::Lt => self.compare(LESS, a, b),
            Binary::Le => self.compare(AT_MOST, a, b),
            Binary::Gt => self.compare(LESS, b, a),
            Binary::Ge => self.compare(AT_MOST, b, a),
            _ => return None,
        })
    }

    fn integers(&mut self, f: Binary, a: Id, b: Id, signed: bool) -> Option<Id> {
        let function = match f {
            Binary::Add => Two::AddI,
            Binary::Sub => Two::SubI,
            Binary::Mul => Two::MulI,
            Binary::Min => {
                if signed {
                    Two::MinS
                } else {
                    Two::MinU
                }
            }
            Binary::Max => {
                if signed {
                    Two::MaxS
                } else {
                    Two::MaxU
                }
            }
            Binary::And => Two::And,
            Binary::Or => Two::Or,
            Binary::Xor => Two::Xor,
            Binary::Shl => Two::Shl,
            Binary::Shr => {
                if signed {
                    Two::Sar
                } else {
                    Two::Shr
                }
            }
            _ if f.is_comparison() => return self.compare_integers(f, a, b, signed),
            _ => return None,
        };
        Some(self.two(function, a, b))
    }

    fn compare_integers(&mut self, f: Binary, mut a: Id, mut b: Id, signed: bool) -> Option<Id> {
        let ordered = !matches!(f, Binary::Eq | Binary::Ne);
        if ordered && !signed {
            // The order of unsigned numbers is that of signed ones with the other sign.
            let sign = self.splat(i32::MIN);
            (a, b) = (self.two(Two::Xor, a, sign), self.two(Two::Xor, b, sign));
        }
        let (equal, greater) = (Kind::Compare(Compare::Equal), Kind::Compare(Compare::Greater));
        let (kind, args, opposite) = match f {
            Binary::Eq => (equal, vec![a, b], false),
            Binary::Ne => (equal, vec![a, b], true),
            Binary::Gt => (greater, vec![a, b], false),
            Binary::Le => (greater, vec![a, b], true),
            Binary::Lt => (greater, vec![b, a], false),
            Binary::Ge => (greater, vec![b, a], true),
            _ => return None,
        };
        let mask = self.mask(kind, args);
        Some(if opposite { self.not(mask) } else { mask })
    }

    fn masks(&mut self, f: Binary, a: Id, b: Id) -> Id {
        match f {
            Binary::Or | Binary::Max => self.logic(Logic::Or, a, b),
            Binary::Xor | Binary::Ne => self.logic(Logic::Xor, a, b),
            Binary::Lt => self.logic(Logic::AndNot, a, b),
            Binary::Gt => self.logic(Logic::AndNot, b, a),
            Binary::Eq => {
                let differ = self.logic(Logic::Xor, a, b);
                self.not(differ)
            }
            Binary::Le => {
                let more = self.logic(Logic::AndNot, b, a);
                self.not(more)
            }
            Binary::Ge => {
                let less = self.logic(Logic::AndNot, a, b);
                self.not(less)
            }
            // Other functions are not defined for truth values.
            _ => self.logic(Logic::And, a, b),
        }
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
            None => {
                (e.dtype() == DType::I64 && self.before(e, None)).then(|| (Dim::constant(0), Some(e.clone())))
            }
        };
        let ((left, plus), (right, minus)) = (side(a)?, side(b)?);
        let difference = self.counted(left - right, plus, minus)?;
        let zero = self.splat(0);
        self.compare_integers(f, difference, zero, true)
    }

    /// An index in lanes, wrapped to 32 bits; or a difference, of which the sign is kept.
    fn counted(&mut self, dim: Dim, plus: Option<Expr>, minus: Option<Expr>) -> Option<Id> {
        let Affine { base, steps, along } = self.affine(&dim)?;
        let scale = i32::try_from(along).ok().filter(|s| i64::from(*s).abs() < FARTHEST)?;
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

    fn cast(&mut self, from: DType, to: DType, x: Id) -> Option<Id> {
        Some(match (from, to) {
            (DType::Bool, DType::F32) => {
                let (one, zero) = (self.float(1.0), self.splat(0));
                self.vector(Kind::Blend, vec![x, one, zero])
            }
            (DType::Bool, DType::I32 | DType::U32) => {
                let (one, zero) = (self.splat(1), self.splat(0));
                self.vector(Kind::Blend, vec![x, one, zero])
            }
            (DType::F32, DType::Bool) => {
                let zero = self.float(0.0);
                self.compare(NOT_EQUAL, x, zero)
            }
            (DType::I32 | DType::U32, DType::Bool) => {
                let zero = self.splat(0);
                let equal = self.mask(Kind::Compare(Compare::Equal), vec![x, zero]);
                self.not(equal)
            }
            (DType::I32 | DType::U32, DType::I32 | DType::U32) => x,
            (DType::I32, DType::F32) => self.vector(Kind::One(One::ToFloat), vec![x]),
            (DType::F32, DType::I32) => self.saturated(x),
            _ => return None,
        })
    }

    /// To `i32`, toward zero: the nearest number where it has no room, and NaN to 0. The instruction alone gives the
    /// least number for all of these.
    fn saturated(&mut self, x: Id) -> Id {
        let value = self.vector(Kind::One(One::ToInt), vec![x]);
        let limit = self.float(2_147_483_648.0);
        let above = self.compare(AT_MOST, limit, x);
        let most = self.splat(i32::MAX);
        let value = self.vector(Kind::Blend, vec![above, most, value]);
        let ordered = self.compare(ORDERED, x, x);
        let zero = self.splat(0);
        self.vector(Kind::Blend, vec![ordered, value, zero])
    }
}

// Predicates of the instructions that compare floats; none signals.
const EQUAL: u8 = 0x00;
const UNORDERED: u8 = 0x03;
const NOT_EQUAL: u8 = 0x04;
const ORDERED: u8 = 0x07;
const LESS: u8 = 0x11;
const AT_MOST: u8 = 0x12;
