//! Scalar expressions. The arms stand in the order of [`ExprKind`].

use ir::dtype::{Class, DType};
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Scalar, Unary};

use super::Emitter;
use super::types::{ADD, AND, ATOM, BITS, CHOICE, Code, EQUAL, MUL, OR, ORDER, PREFIX, value};
use crate::error::EmitError;

impl Emitter<'_> {
    pub(super) fn expr(&mut self, e: &Expr) -> Result<Code, EmitError> {
        Ok(match e.kind() {
            ExprKind::Const(scalar) => self.constant(*scalar),
            ExprKind::Index(dim) => self.index(dim),
            ExprKind::Load { source, dtype, at } => {
                let element = Code::atom(self.element(source, at)?);
                self.loaded(*dtype, element)
            }
            ExprKind::Var { name, .. } => {
                Code::atom(self.scope.scalars.get(name).ok_or_else(|| self.unbound(name))?.clone())
            }
            ExprKind::Unary(f, x) => {
                let code = self.expr(x)?;
                self.unary(*f, x.dtype(), &code)?
            }
            ExprKind::Binary(f, a, b) => {
                let dtype = a.dtype();
                let [a, b] = [self.expr(a)?, self.expr(b)?];
                self.binary(*f, dtype, &a, &b)?
            }
            ExprKind::Fma(a, b, c) => {
                let function = if e.dtype() == DType::F64 { "fma" } else { "fmaf" };
                let [a, b, c] = [self.expr(a)?, self.expr(b)?, self.expr(c)?];
                Code::call(function, &[&a, &b, &c])
            }
            ExprKind::Select(cond, yes, no) => {
                let [cond, yes, no] = [self.expr(cond)?, self.expr(yes)?, self.expr(no)?];
                let text = format!("{} ? {} : {}", cond.within(OR), yes.within(OR), no.within(CHOICE));
                Code::new(text, CHOICE)
            }
            ExprKind::Cast(to, x) => {
                let code = self.expr(x)?;
                self.cast(x.dtype(), *to, code)
            }
            ExprKind::Bitcast(to, x) => {
                let code = self.expr(x)?;
                self.bitcast(x.dtype(), *to, &code)
            }
            ExprKind::Fold(_) => return Err(EmitError::StageForm { kernel: self.kernel.name.to_string() }),
        })
    }

    pub(super) fn constant(&mut self, scalar: Scalar) -> Code {
        let dtype = scalar.dtype();
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => self.float(scalar.to_f64()),
            DType::F64 => {
                let number = scalar.to_f64();
                if number.is_finite() {
                    return signed(&format!("{number:?}"));
                }
                let float = self.float(number);
                Code::call("(double)", &[&float])
            }
            DType::Bool => Code::atom(scalar.to_bool().to_string()),
            DType::I64 if scalar.to_i64() == i64::MIN => Code::new("-9223372036854775807ll - 1", ADD),
            DType::I32 if scalar.to_i64() == i64::from(i32::MIN) => Code::new("-2147483647 - 1", ADD),
            DType::I64 => signed(&format!("{}ll", scalar.to_i64())),
            DType::U64 => Code::atom(format!("{}ull", scalar.bits())),
            DType::U32 => Code::atom(format!("{}u", scalar.bits())),
            DType::I32 => signed(&scalar.to_i64().to_string()),
            _ if dtype.is_float() => Code::atom(format!("(u8)0x{:02x}", scalar.bits())),
            _ => Code::new(format!("({}){}", value(dtype), scalar.to_i64()), PREFIX),
        }
    }

    fn float(&mut self, number: f64) -> Code {
        if number.is_finite() {
            return signed(&format!("{:?}f", number as f32));
        }
        self.prelude.need("infinity");
        match (number.is_nan(), number > 0.0) {
            (true, _) => Code::atom("NOT_A_NUMBER"),
            (_, true) => Code::atom("INFINITE"),
            (_, false) => Code::new("-INFINITE", PREFIX),
        }
    }

    /// What a float of 16 bits is rounded to; other types are what they are.
    fn rounded(&mut self, dtype: DType, code: Code) -> Code {
        match dtype {
            DType::F16 => self.helper("round_f16", &[&code]),
            DType::BF16 => self.helper("round_bf16", &[&code]),
            _ => code,
        }
    }

    /// A call of a function that stands before the kernel's.
    pub(super) fn helper(&mut self, function: &'static str, args: &[&Code]) -> Code {
        self.prelude.need(function);
        Code::call(function, args)
    }

    /// The same of a function that is one for each type.
    fn of_type(&mut self, function: &'static str, dtype: DType, args: &[&Code]) -> Code {
        self.prelude.need(function);
        Code::call(&format!("{function}<{}>", value(dtype)), args)
    }

    fn unary(&mut self, f: Unary, dtype: DType, x: &Code) -> Result<Code, EmitError> {
        let class = dtype.class();
        if matches!(f, Unary::IsNan | Unary::IsInf) {
            let x = if dtype.is_narrow() { self.cast(dtype, DType::F32, x.clone()) } else { x.clone() };
            let name = if f == Unary::IsNan { "is_nan" } else { "is_inf" };
            return Ok(self.helper(name, &[&x]));
        }
        if !f.accepts(dtype) {
            return Err(self.unsupported(format!("`{}` of {dtype}", f.name()), "cast it first".to_owned()));
        }
        let call = |name: &str| {
            Code::call(&if dtype == DType::F64 { name.to_owned() } else { format!("{name}f") }, &[x])
        };
        let code = match (f, class) {
            (Unary::Neg, Class::Signed | Class::Unsigned) => {
                let zero = self.constant(Scalar::from_i64(dtype, 0));
                return self.binary(Binary::Sub, dtype, &zero, x);
            }
            (Unary::Neg, _) => Code::new(format!("-{}", x.within(ATOM)), PREFIX),
            (Unary::Abs, Class::Unsigned) => x.clone(),
            (Unary::Abs, Class::Signed) => self.of_type("abs_int", dtype, &[x]),
            (Unary::Abs, _) => call("fabs"),
            (Unary::Not, Class::Bool) => Code::new(format!("!{}", x.within(PREFIX)), PREFIX),
            (Unary::Not, _) => Code::new(format!("({})~{}", value(dtype), x.within(PREFIX)), PREFIX),
            (Unary::Round, _) => call("rint"),
            (other, _) => call(other.name()),
        };
        Ok(self.rounded(dtype, code))
    }

    fn binary(&mut self, f: Binary, dtype: DType, a: &Code, b: &Code) -> Result<Code, EmitError> {
        // Whether narrow numbers are equal can be asked: of floats, their values.
        if dtype.is_narrow() && dtype.is_float() && f.is_comparison() {
            let [a, b] = [a, b].map(|x| x.clone()).map(|x| self.cast(dtype, DType::F32, x));
            return self.binary(f, DType::F32, &a, &b);
        }
        let compare = match f {
            Binary::Eq => Some(("==", EQUAL)),
            Binary::Ne => Some(("!=", EQUAL)),
            Binary::Lt => Some(("<", ORDER)),
            Binary::Le => Some(("<=", ORDER)),
            Binary::Gt => Some((">", ORDER)),
            Binary::Ge => Some((">=", ORDER)),
            _ => None,
        };
        if let Some((sign, level)) = compare {
            return Ok(Code::infix(sign, level, a, b));
        }
        if !f.accepts(dtype) {
            return Err(self.unsupported(format!("`{}` of {dtype}", f.name()), "cast it first".to_owned()));
        }
        let code = match dtype.class() {
            Class::Float => {
                let double = dtype == DType::F64;
                match f {
                    Binary::Add => Code::infix("+", ADD, a, b),
                    Binary::Sub => Code::infix("-", ADD, a, b),
                    Binary::Mul => Code::infix("*", MUL, a, b),
                    Binary::Div => Code::infix("/", MUL, a, b),
                    Binary::Rem => Code::call(if double { "fmod" } else { "fmodf" }, &[a, b]),
                    Binary::Mod => self.helper("mod_float", &[a, b]),
                    Binary::Pow => Code::call(if double { "pow" } else { "powf" }, &[a, b]),
                    Binary::Min => self.helper("smaller", &[a, b]),
                    Binary::Max => self.helper("larger", &[a, b]),
                    _ => unreachable!("bug: refused above"),
                }
            }
            Class::Bool => match f {
                Binary::And => Code::infix("&&", AND, a, b),
                Binary::Or => Code::infix("||", OR, a, b),
                Binary::Xor => Code::infix("!=", EQUAL, a, b),
                Binary::Min => Code::infix("&&", AND, a, b),
                _ => Code::infix("||", OR, a, b),
            },
            Class::Signed | Class::Unsigned => match f {
                Binary::Add => self.wrapping("+", ADD, dtype, a, b),
                Binary::Sub => self.wrapping("-", ADD, dtype, a, b),
                Binary::Mul => self.wrapping("*", MUL, dtype, a, b),
                Binary::Div => self.of_type("div_int", dtype, &[a, b]),
                Binary::Rem => self.of_type("rem_int", dtype, &[a, b]),
                Binary::Mod => self.of_type("mod_int", dtype, &[a, b]),
                Binary::Pow => self.of_type("pow_int", dtype, &[a, b]),
                Binary::Shl => self.of_type("shift_left", dtype, &[a, b]),
                Binary::Shr => self.of_type("shift_right", dtype, &[a, b]),
                Binary::And => Code::infix("&", BITS, a, b),
                Binary::Or => Code::infix("|", BITS, a, b),
                Binary::Xor => Code::infix("^", BITS, a, b),
                Binary::Min => self.of_type("min_int", dtype, &[a, b]),
                _ => self.of_type("max_int", dtype, &[a, b]),
            },
        };
        Ok(self.rounded(dtype, code))
    }

    /// Sums and products of whole numbers wrap.
    fn wrapping(&mut self, sign: &str, level: u8, dtype: DType, a: &Code, b: &Code) -> Code {
        let ty = value(dtype);
        match dtype {
            DType::U32 | DType::U64 => Code::infix(sign, level, a, b),
            // Index arithmetic that data take part in does not come near the end of 64 bits, but for what is wrong anyway.
            DType::I32 | DType::I64 => {
                let unsigned = if dtype == DType::I32 { "u32" } else { "u64" };
                let [a, b] = [a, b].map(|x| Code::new(format!("({unsigned}){}", x.within(PREFIX)), PREFIX));
                Code::new(format!("({ty})({})", Code::infix(sign, level, &a, &b).text), PREFIX)
            }
            _ => Code::new(format!("({ty})({})", Code::infix(sign, level, a, b).text), PREFIX),
        }
    }
}

/// A number that may have a sign.
fn signed(text: &str) -> Code {
    if text.starts_with('-') { Code::new(text, PREFIX) } else { Code::atom(text) }
}
