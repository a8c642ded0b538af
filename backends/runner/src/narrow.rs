//! Floats of 16 and fewer bits, and what files hold for types that they don't have.
//!
//! Deliberately absent: rounding. A number becomes a narrow one toward zero, which is enough for random inputs; the
//! compiler's tests hold this against its own definition of the formats.

use runtime::DType;

/// How a narrow float is laid out.
struct Layout {
    /// All of its bits.
    bits: u32,
    /// Those of the fraction.
    fraction: u32,
    /// What is subtracted from the exponent.
    bias: i32,
    /// What the topmost codes mean.
    top: Top,
}

/// Codes that are no numbers.
enum Top {
    /// The topmost exponent is kept for infinities and NaNs.
    Exponent,
    /// The topmost code of each sign is NaN.
    Code,
    /// None; where there are 8 bits, the code of −0 is NaN.
    Nothing,
}

fn layout(dtype: DType) -> Option<Layout> {
    let (bits, fraction, bias, top) = match dtype {
        DType::F16 => (16, 10, 15, Top::Exponent),
        DType::Bf16 => (16, 7, 127, Top::Exponent),
        DType::F8E4M3FN => (8, 3, 7, Top::Code),
        DType::F8E4M3FNUZ => (8, 3, 8, Top::Nothing),
        DType::F8E5M2 => (8, 2, 15, Top::Exponent),
        DType::F8E5M2FNUZ => (8, 2, 16, Top::Nothing),
        DType::F4E2M1 => (4, 1, 1, Top::Nothing),
        _ => return None,
    };
    Some(Layout { bits, fraction, bias, top })
}

impl Layout {
    /// The code of −0, which is the sign's bit.
    fn sign(&self) -> u32 {
        1 << (self.bits - 1)
    }

    /// Is the code of −0 NaN?
    fn has_one_zero(&self) -> bool {
        self.bits == 8 && matches!(self.top, Top::Nothing)
    }
}

/// The value of the code of a float of 16 or fewer bits, exactly; `None` for other types.
pub fn decode(dtype: DType, code: u16) -> Option<f64> {
    if dtype == DType::F8E8M0 {
        return Some(if code == 0xff { f64::NAN } else { 2f64.powi(i32::from(code) - 127) });
    }
    let layout = layout(dtype)?;
    let Layout { fraction, bias, .. } = layout;
    let magnitude = u32::from(code) & (layout.sign() - 1);
    let negative = u32::from(code) & layout.sign() != 0;
    let (exponent, digits) = (magnitude >> fraction, magnitude & ((1 << fraction) - 1));
    let value = match layout.top {
        Top::Exponent if exponent == (layout.sign() - 1) >> fraction => {
            if digits == 0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        }
        Top::Code if magnitude == layout.sign() - 1 => f64::NAN,
        _ if layout.has_one_zero() && negative && magnitude == 0 => f64::NAN,
        _ if exponent == 0 => f64::from(digits) * 2f64.powi(1 - bias - fraction as i32),
        _ => f64::from(digits | 1 << fraction) * 2f64.powi(exponent as i32 - bias - fraction as i32),
    };
    Some(if negative { -value } else { value })
}

/// The code next to a number that is neither an infinity nor NaN, toward zero; powers of two have no sign. `None` for
/// other types.
pub(crate) fn encode_toward_zero(dtype: DType, value: f64) -> Option<u16> {
    let exponent = ((value.abs().to_bits() >> 52) as i32) - 1023;
    if dtype == DType::F8E8M0 {
        return Some((exponent + 127).clamp(0, 254) as u16);
    }
    let layout = layout(dtype)?;
    let Layout { fraction, bias, .. } = layout;
    let exponent = exponent.max(1 - bias);
    // In units of the last place; those of the exponents below come to that.
    let digits = (value.abs() * 2f64.powi(fraction as i32 - exponent)) as u32;
    let magnitude = digits + (((exponent + bias - 1) as u32) << fraction);
    let largest = match layout.top {
        Top::Exponent => (((layout.sign() - 1) >> fraction) << fraction) - 1,
        Top::Code => layout.sign() - 2,
        Top::Nothing => layout.sign() - 1,
    };
    let magnitude = magnitude.min(largest);
    let negative = value.is_sign_negative() && !(magnitude == 0 && layout.has_one_zero());
    Some((magnitude | if negative { layout.sign() } else { 0 }) as u16)
}

/// The type of the elements that files hold in the place of those that no file has: the value of an integer, the bits of
/// a float.
pub fn stand_in(dtype: DType) -> Option<DType> {
    match dtype {
        DType::I4 | DType::I2 => Some(DType::I8),
        DType::U4 | DType::U2 => Some(DType::U8),
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => Some(DType::U8),
        DType::F8E8M0 | DType::F4E2M1 => Some(DType::U8),
        DType::F32 | DType::F64 | DType::F16 | DType::Bf16 | DType::Bool => None,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => None,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => None,
    }
}

/// What a byte may be as an element of `dtype`, as far as it is less than every byte: the least and the largest number.
pub fn range(dtype: DType) -> Option<(i8, i8)> {
    match dtype {
        DType::I4 => Some((-8, 7)),
        DType::U4 | DType::F4E2M1 => Some((0, 15)),
        DType::I2 => Some((-2, 1)),
        DType::U2 => Some((0, 3)),
        DType::Bool => Some((0, 1)),
        _ => None,
    }
}

/// The first byte that no element of `dtype` is, with its position.
pub fn out_of_range(dtype: DType, bytes: &[u8]) -> Option<(usize, u8)> {
    let (least, most) = range(dtype)?;
    let index = bytes.iter().position(|&byte| !(least..=most).contains(&(byte as i8)))?;
    Some((index, bytes[index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_toward_zero() {
        for &dtype in DType::ALL {
            let Some(_) = decode(dtype, 0) else { continue };
            let codes =
                0..if dtype.bytes() == 2 { u16::MAX } else { 1 << layout(dtype).map_or(8, |l| l.bits) };
            for code in codes {
                let value = decode(dtype, code).expect("a narrow float");
                if !value.is_finite() {
                    continue;
                }
                assert_eq!(encode_toward_zero(dtype, value), Some(code), "{dtype} {value}");
                let near = value * (1.0 + 1e-5);
                let back = encode_toward_zero(dtype, near).and_then(|code| decode(dtype, code));
                assert_eq!(back, Some(value), "{dtype} {near}");
            }
        }
        assert_eq!(encode_toward_zero(DType::F4E2M1, -1e9), Some(0xf));
        assert_eq!(encode_toward_zero(DType::F8E4M3FNUZ, -1e-9), Some(0));
        assert_eq!(encode_toward_zero(DType::I4, 1.0), None);
    }

    #[test]
    fn bytes_that_are_no_elements() {
        assert_eq!(out_of_range(DType::I4, &[0xf8, 7, 8]), Some((2, 8)));
        assert_eq!(out_of_range(DType::I2, &[0xfe, 1, 0xfd]), Some((2, 0xfd)));
        assert_eq!(out_of_range(DType::U2, &[3, 0xff]), Some((1, 0xff)));
        assert_eq!(out_of_range(DType::F4E2M1, &[15, 16]), Some((1, 16)));
        assert_eq!(out_of_range(DType::F8E5M2, &[0xff]), None);
        assert_eq!(out_of_range(DType::Bool, &[1, 2]), Some((1, 2)));
    }
}
