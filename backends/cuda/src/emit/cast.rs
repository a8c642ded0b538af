//! Conversions, as [`Scalar::cast`](ir::scalar::Scalar::cast) defines them.

use ir::DType;
use ir::dtype::Class;
use ir::float_format::{FloatFormat, Specials};

use super::Emitter;
use super::types::{Code, EQUAL, PREFIX, storage, value};

impl Emitter<'_> {
    /// An element as it is computed with.
    pub(super) fn loaded(&mut self, dtype: DType, element: Code) -> Code {
        match dtype {
            DType::F16 => self.helper("from_f16", &[&element]),
            DType::BF16 => self.helper("from_bf16", &[&element]),
            _ => element,
        }
    }

    /// An element as it is stored.
    pub(super) fn stored(&mut self, dtype: DType, value: Code) -> Code {
        match dtype {
            DType::F16 => self.helper("to_f16", &[&value]),
            DType::BF16 => self.helper("to_bf16", &[&value]),
            _ => value,
        }
    }

    pub(super) fn cast(&mut self, from: DType, to: DType, x: Code) -> Code {
        if from == to {
            return x;
        }
        if from.is_narrow() && from.is_float() {
            let single = self.decoded(from, &x);
            return self.cast(DType::F32, to, single);
        }
        let to_type = value(to);
        match (from.class(), to.class()) {
            (_, Class::Bool) => Code::infix("!=", EQUAL, &x, &Code::atom("0")),
            (Class::Float, Class::Float) => match to {
                DType::F64 => converted(to_type, &x),
                _ => {
                    // From 64 bits, the first rounding must not decide the second one.
                    let single = match (from, to) {
                        (DType::F64, DType::F32) => converted("float", &x),
                        (DType::F64, _) => self.helper("to_odd", &[&x]),
                        _ => x,
                    };
                    self.narrowed(to, single)
                }
            },
            (Class::Float, _) => {
                let wide = if to.bits() < 8 { DType::I32 } else { to };
                let whole = self.truncated(from, wide, &x);
                if wide == to { whole } else { self.cut(to, &whole) }
            }
            (_, Class::Float) => match to {
                DType::F32 | DType::F64 => converted(to_type, &x),
                _ => self.narrowed(to, converted("float", &x)),
            },
            _ if to.bits() < 8 => self.cut(to, &x),
            _ => converted(to_type, &x),
        }
    }

    /// An `f32` rounded to a float of fewer bits.
    fn narrowed(&mut self, to: DType, single: Code) -> Code {
        match to {
            DType::F16 => self.helper("round_f16", &[&single]),
            DType::BF16 => self.helper("round_bf16", &[&single]),
            DType::F32 => single,
            _ => self.encoded(to, &single),
        }
    }

    /// A float as a whole number: toward zero, saturating, NaN to 0.
    fn truncated(&mut self, from: DType, to: DType, x: &Code) -> Code {
        self.prelude.need("truncated");
        Code::call(&format!("truncated<{}, {}>", value(to), value(from)), &[x])
    }

    /// The lower bits of a whole number.
    fn cut(&mut self, to: DType, x: &Code) -> Code {
        let (ty, bits) = (value(to), to.bits());
        let function = if to.class() == Class::Signed { "cut_signed" } else { "cut_unsigned" };
        self.prelude.need(function);
        Code::new(format!("({ty}){function}<{bits}>({})", x.text), PREFIX)
    }

    /// The number that a code of a narrow float stands for.
    fn decoded(&mut self, from: DType, code: &Code) -> Code {
        let (bits, fraction, bias, specials) = parameters(from);
        self.prelude.need("decoded");
        Code::call(&format!("decoded<{bits}, {fraction}, {bias}, {specials}>"), &[code])
    }

    /// The code of the nearest number of a narrow float.
    fn encoded(&mut self, to: DType, single: &Code) -> Code {
        let (bits, fraction, bias, specials) = parameters(to);
        self.prelude.need("encoded");
        Code::new(format!("(u8)encoded<{bits}, {fraction}, {bias}, {specials}>({})", single.text), PREFIX)
    }

    pub(super) fn bitcast(&mut self, from: DType, to: DType, x: &Code) -> Code {
        match (from, to) {
            _ if from == to => x.clone(),
            (DType::F32, _) if to.is_int() => converted(value(to), &Code::call("__float_as_int", &[x])),
            (_, DType::F32) if from.is_int() => Code::call("__int_as_float", &[x]),
            (DType::F64, _) if to.is_int() => converted(value(to), &Code::call("__double_as_longlong", &[x])),
            (_, DType::F64) if from.is_int() => Code::call("__longlong_as_double", &[x]),
            _ => {
                let bits = self.stored(from, x.clone());
                let ty = storage(self.prelude, to);
                self.loaded(to, converted(ty, &bits))
            }
        }
    }
}

fn converted(ty: &str, x: &Code) -> Code {
    Code::new(format!("({ty}){}", x.within(PREFIX)), PREFIX)
}

/// Bits, those of the fraction, bias and the number of what special codes mean.
fn parameters(dtype: DType) -> (u32, u32, i32, u32) {
    let format = FloatFormat::of(dtype).expect("bug: a narrow float has a format");
    let specials = match format.specials {
        Specials::Ieee => 0,
        Specials::TopNan => 1,
        Specials::ZeroNan => 2,
        Specials::None => 3,
        Specials::Exponent => 4,
    };
    (format.bits, format.fraction, format.bias, specials)
}
