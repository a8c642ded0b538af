//! Scalar math as the kernels call it: one C function per service, in f64 and f32.
//!
//! Promises: every function is `libm`'s own Rust code, so a result depends on neither the platform's C
//! library nor the CPU. The f16 conversions are exact, or rounded to nearest with ties to even.
//!
//! Deliberately absent: vector forms (kernels carry their own) and bf16 (a shift that needs no service).

/// Defines `extern "C"` functions of one operand, each by the `libm` function it stands for.
macro_rules! unary {
    ($type:ty: $($name:ident = $function:ident),+ $(,)?) => {$(
        pub(crate) extern "C" fn $name(x: $type) -> $type {
            libm::$function(x)
        }
    )+};
}

/// Defines `extern "C"` functions of two operands, each by the `libm` function it stands for.
macro_rules! binary {
    ($type:ty: $($name:ident = $function:ident),+ $(,)?) => {$(
        pub(crate) extern "C" fn $name(x: $type, y: $type) -> $type {
            libm::$function(x, y)
        }
    )+};
}

unary!(f64:
    exp_f64 = exp, log_f64 = log,
    sin_f64 = sin, cos_f64 = cos, tan_f64 = tan,
    asin_f64 = asin, acos_f64 = acos, atan_f64 = atan,
    sinh_f64 = sinh, cosh_f64 = cosh, tanh_f64 = tanh,
    asinh_f64 = asinh, atanh_f64 = atanh,
    erf_f64 = erf,
);
unary!(f32:
    exp_f32 = expf, log_f32 = logf,
    sin_f32 = sinf, cos_f32 = cosf, tan_f32 = tanf,
    asin_f32 = asinf, acos_f32 = acosf, atan_f32 = atanf,
    sinh_f32 = sinhf, cosh_f32 = coshf, tanh_f32 = tanhf,
    asinh_f32 = asinhf, atanh_f32 = atanhf,
    erf_f32 = erff,
);

/// `acosh x`; NaN below 1, where the library gives numbers.
pub(crate) extern "C" fn acosh_f64(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

/// The same.
pub(crate) extern "C" fn acosh_f32(x: f32) -> f32 {
    if x < 1.0 { f32::NAN } else { libm::acoshf(x) }
}

binary!(f64: pow_f64 = pow, fmod_f64 = fmod);
binary!(f32: pow_f32 = powf, fmod_f32 = fmodf);

/// The value of the f16 whose bits are the low half of `bits`. Exact; a NaN keeps its payload and sign
/// and becomes quiet.
pub(crate) extern "C" fn f16_to_f32(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let exponent = bits >> 10 & 0x1f;
    let fraction = bits & 0x3ff;
    let magnitude = match (exponent, fraction) {
        (0, _) => return f32::from_bits(sign | (fraction as f32 * 2f32.powi(-24)).to_bits()),
        (31, 0) => 0x7f80_0000,
        (31, _) => 0x7fc0_0000 | fraction << 13,
        // The exponent's bias grows from 15 to 127.
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The bits of the f16 nearest to `x`, ties to even, in the low half of the result. From 65520 on the
/// nearest is infinity; a NaN keeps its sign and the high bits of its payload and becomes quiet.
pub(crate) extern "C" fn f32_to_f16(x: f32) -> u32 {
    let bits = x.to_bits();
    let sign = bits >> 16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00 | magnitude >> 13 & 0x3ff,
        // 65520, halfway between the largest f16 and the next power of two, and all above it.
        0x477f_f000.. => 0x7c00,
        // At least 2^-14, the smallest normal f16. A carry out of the fraction raises the exponent.
        0x3880_0000.. => round_shift(magnitude - (112 << 23), 13),
        // Above 2^-25, half of the smallest subnormal: the fraction with its hidden bit, in units of 2^-24.
        0x3300_0001.. => round_shift(magnitude & 0x7f_ffff | 0x80_0000, 126 - (magnitude >> 23)),
        _ => 0,
    };
    sign | half
}

/// `value / 2^shift`, rounded to nearest with ties to even; `1 <= shift <= 31`.
fn round_shift(value: u32, shift: u32) -> u32 {
    let kept = value >> shift;
    let rest = value & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    kept + u32::from(rest > half || rest == half && kept & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_f16_widens_as_in_half() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits.into()), f16::from_bits(bits).to_f32());
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#06x}");
        }
    }

    #[test]
    fn every_f16_survives_the_round_trip() {
        for bits in 0..=u16::MAX {
            let quiet = if f16::from_bits(bits).is_nan() { bits | 0x200 } else { bits };
            assert_eq!(f32_to_f16(f16_to_f32(bits.into())), quiet.into(), "{bits:#06x}");
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even_as_in_half() {
        let agree = |bits: u32| {
            let x = f32::from_bits(bits);
            assert_eq!(f32_to_f16(x), f16::from_f32(x).to_bits().into(), "{x:e} ({bits:#010x})");
        };
        // Around every f16 and around the midpoint of every two neighbours.
        for half_bits in 0..=u16::MAX {
            let at = f16::from_bits(half_bits).to_f32();
            let next = f16::from_bits(half_bits.wrapping_add(1)).to_f32();
            for center in [at, (at + next) / 2.0] {
                for offset in -2i32..=2 {
                    agree(center.to_bits().wrapping_add_signed(offset));
                }
            }
        }
        // And across the whole range of f32, by a stride that meets every exponent.
        for bits in (0..=u32::MAX).step_by(4099) {
            agree(bits);
        }
        for edge in [0, 1, 0x8000_0001, 0x3300_0000, 0x3300_0001, 0x477f_efff, 0x477f_f000, 0x7f7f_ffff] {
            agree(edge);
        }
    }

    #[test]
    fn services_are_close_to_the_platforms_functions() {
        // The same points in both widths; `None` where the standard library has no such function.
        type Case = (&'static str, extern "C" fn(f64) -> f64, extern "C" fn(f32) -> f32, fn(f64) -> f64);
        let cases: [Case; 14] = [
            ("exp", exp_f64, exp_f32, f64::exp),
            ("log", log_f64, log_f32, f64::ln),
            ("sin", sin_f64, sin_f32, f64::sin),
            ("cos", cos_f64, cos_f32, f64::cos),
            ("tan", tan_f64, tan_f32, f64::tan),
            ("asin", asin_f64, asin_f32, f64::asin),
            ("acos", acos_f64, acos_f32, f64::acos),
            ("atan", atan_f64, atan_f32, f64::atan),
            ("sinh", sinh_f64, sinh_f32, f64::sinh),
            ("cosh", cosh_f64, cosh_f32, f64::cosh),
            ("tanh", tanh_f64, tanh_f32, f64::tanh),
            ("asinh", asinh_f64, asinh_f32, f64::asinh),
            ("acosh", acosh_f64, acosh_f32, f64::acosh),
            ("atanh", atanh_f64, atanh_f32, f64::atanh),
        ];
        for (name, wide, narrow, expected) in cases {
            // f32 points, so that both widths see the same number.
            for x in [-3.5, -1.0, -0.75, -0.125, 0.0, 0.25, 0.5, 0.9375, 1.0, 1.5, 20.0] {
                let want = expected(x);
                let (w, n) = (wide(x), f64::from(narrow(x as f32)));
                if want.is_finite() {
                    assert!(
                        (w - want).abs() <= 4e-15 * want.abs().max(1e-3),
                        "{name}_f64({x}) = {w}, {want}"
                    );
                    assert!((n - want).abs() <= 4e-7 * want.abs().max(1e-3), "{name}_f32({x}) = {n}, {want}");
                } else {
                    assert!(w == want || w.is_nan() && want.is_nan(), "{name}_f64({x}) = {w}, {want}");
                    assert!(n == want || n.is_nan() && want.is_nan(), "{name}_f32({x}) = {n}, {want}");
                }
            }
        }
    }

    #[test]
    fn erf_pow_and_fmod_have_known_values() {
        // erf(0.5), erf(2): NIST Handbook of Mathematical Functions, table 7.1.
        assert!((erf_f64(0.5) - 0.520_499_877_813_046_5).abs() < 1e-15);
        assert!((erf_f64(-2.0) + 0.995_322_265_018_952_7).abs() < 1e-15);
        assert!((erf_f32(0.5) - 0.520_499_9).abs() < 1e-6);
        assert_eq!((pow_f64(2.0, -3.0), pow_f32(-2.0, 3.0)), (0.125, -8.0));
        assert!(pow_f64(-2.0, 0.5).is_nan());
        assert_eq!((fmod_f64(-7.0, 3.0), fmod_f32(7.5, -2.0)), (-1.0, 1.5));
        assert!(fmod_f32(1.0, 0.0).is_nan());
    }
}
