//! Functions of elements over lanes, as `ir::scalar` defines them.

use ir::dtype::DType;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Unary};

use super::express::is_half;
use super::lower::Lowering;
use super::region::{Compare, Id, Kind, Logic, One, Two};

// Predicates of the instructions that compare floats; none signals.
const EQUAL: u8 = 0x00;
const UNORDERED: u8 = 0x03;
const NOT_EQUAL: u8 = 0x04;
const ORDERED: u8 = 0x07;
const LESS: u8 = 0x11;
const AT_MOST: u8 = 0x12;

impl Lowering<'_, '_, '_> {
    pub(crate) fn unary(&mut self, f: Unary, dtype: DType, x: Id) -> Option<Id> {
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

    pub(crate) fn floats(&mut self, f: Binary, a: Id, b: Id, right: &Expr) -> Option<Id> {
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

    /// Notes between which numbers `f(a, right)` lies, for a constant on the right.
    pub(crate) fn bound(&mut self, f: Binary, value: Id, a: Id, right: &Expr) {
        let ExprKind::Const(c) = right.kind() else { return };
        let c = f32::from_bits(c.bits() as u32);
        let (low, high) = self.bounds.get(&a).copied().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let bounds = match f {
            _ if c.is_nan() => return,
            Binary::Min => (low.min(c), high.min(c)),
            Binary::Max => (low.max(c), high.max(c)),
            Binary::Mul if c > 0.0 => (low * c, high * c),
            _ => return,
        };
        self.bounds.insert(value, bounds);
    }

    pub(crate) fn integers(&mut self, f: Binary, a: Id, b: Id, signed: bool) -> Option<Id> {
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

    pub(crate) fn compare_integers(&mut self, f: Binary, mut a: Id, mut b: Id, signed: bool) -> Option<Id> {
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

    pub(crate) fn masks(&mut self, f: Binary, a: Id, b: Id) -> Id {
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

    pub(crate) fn cast(&mut self, from: DType, to: DType, x: Id) -> Option<Id> {
        const WHOLE: [DType; 4] = [DType::I32, DType::U32, DType::U8, DType::I8];
        if is_half(from) {
            return self.cast(DType::F32, to, x);
        }
        // A number of 32 bits would be rounded twice.
        if is_half(to) && from != DType::F32 && from.bits() > 8 {
            return None;
        }
        if is_half(to) && from != DType::F32 {
            return self.cast(from, DType::F32, x);
        }
        Some(match (from, to) {
            (DType::F32, DType::F32) => x,
            (DType::F32, DType::F16) => self.vector(Kind::One(One::Half), vec![x]),
            (DType::F32, DType::BF16) => self.brain(x),
            (DType::Bool, DType::F32) => {
                let (one, zero) = (self.float(1.0), self.splat(0));
                self.vector(Kind::Blend, vec![x, one, zero])
            }
            (DType::Bool, _) if WHOLE.contains(&to) => {
                let (one, zero) = (self.splat(1), self.splat(0));
                self.vector(Kind::Blend, vec![x, one, zero])
            }
            (DType::F32, DType::Bool) => {
                let zero = self.float(0.0);
                self.compare(NOT_EQUAL, x, zero)
            }
            (_, DType::Bool) if WHOLE.contains(&from) => {
                let zero = self.splat(0);
                let equal = self.mask(Kind::Compare(Compare::Equal), vec![x, zero]);
                self.not(equal)
            }
            (_, DType::I32 | DType::U32) if WHOLE.contains(&from) => x,
            (_, DType::U8) if WHOLE.contains(&from) => {
                let byte = self.splat(0xff);
                self.two(Two::And, x, byte)
            }
            (_, DType::I8) if WHOLE.contains(&from) => {
                let above = self.splat(24);
                let high = self.two(Two::Shl, x, above);
                self.two(Two::Sar, high, above)
            }
            (DType::I32 | DType::U8 | DType::I8, DType::F32) => self.vector(Kind::One(One::ToFloat), vec![x]),
            (DType::F32, DType::I32) => self.saturated(x),
            (DType::F32, DType::U8) => self.byte(x, 0, 255),
            (DType::F32, DType::I8) => self.byte(x, -128, 127),
            _ => return None,
        })
    }

    /// Rounded to the nearest `bf16`, of two the even one: what is cut off is rounded into the upper half.
    fn brain(&mut self, x: Id) -> Id {
        let (half, one, most) = (self.splat(16), self.splat(1), self.splat(0x7fff));
        let upper = self.splat(-0x1_0000);
        let lowest = self.two(Two::Shr, x, half);
        let odd = self.two(Two::And, lowest, one);
        let more = self.two(Two::AddI, odd, most);
        let rounded = self.two(Two::AddI, x, more);
        let rounded = self.two(Two::And, rounded, upper);
        let quiet = self.splat(0x40_0000);
        let nan = self.two(Two::Or, x, quiet);
        let nan = self.two(Two::And, nan, upper);
        let is_nan = self.compare(UNORDERED, x, x);
        self.vector(Kind::Blend, vec![is_nan, nan, rounded])
    }

    /// To a byte, toward zero: the nearest number where it has no room, and NaN to 0.
    fn byte(&mut self, x: Id, least: i32, most: i32) -> Id {
        let value = self.saturated(x);
        let (low, high) = self.bounds.get(&x).copied().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let value = if low > (least - 1) as f32 {
            value
        } else {
            let least = self.splat(least);
            self.two(Two::MaxS, value, least)
        };
        if high < (most + 1) as f32 {
            return value;
        }
        let most = self.splat(most);
        self.two(Two::MinS, value, most)
    }

    /// To `i32`, toward zero: the nearest number where it has no room, and NaN to 0. The instruction alone gives the
    /// least number for all of these.
    fn saturated(&mut self, x: Id) -> Id {
        let value = self.vector(Kind::One(One::ToInt), vec![x]);
        let limit = 2_147_483_648.0;
        let value = if self.bounds.get(&x).is_some_and(|(_, high)| *high < limit) {
            value
        } else {
            let limit = self.float(limit);
            let above = self.compare(AT_MOST, limit, x);
            let most = self.splat(i32::MAX);
            self.vector(Kind::Blend, vec![above, most, value])
        };
        let ordered = self.compare(ORDERED, x, x);
        let zero = self.splat(0);
        self.vector(Kind::Blend, vec![ordered, value, zero])
    }
}
