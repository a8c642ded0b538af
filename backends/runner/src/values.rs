//! Elements of tensors as numbers and as text.
//!
//! Deliberately absent: arithmetic; this serves printing.

use runtime::DType;

/// Element `index` as a float, or `None` where the dtype is not a float. Exact for every float dtype.
pub fn float(dtype: DType, bytes: &[u8], index: usize) -> Option<f64> {
    Some(match dtype {
        DType::F32 => f64::from(f32::from_le_bytes(element(bytes, index))),
        DType::F64 => f64::from_le_bytes(element(bytes, index)),
        DType::F16 => f16(u16::from_le_bytes(element(bytes, index))),
        DType::Bf16 => f64::from(f32::from_bits(u32::from(u16::from_le_bytes(element(bytes, index))) << 16)),
        _ => return None,
    })
}

/// Element `index` as text: integers in full, bools as NumPy writes them, floats with the fewest digits
/// that read back as the same value of their own dtype (of f32 for 16-bit floats).
pub fn text(dtype: DType, bytes: &[u8], index: usize) -> String {
    match dtype {
        DType::F64 => f64::from_le_bytes(element(bytes, index)).to_string(),
        DType::F32 | DType::F16 | DType::Bf16 => {
            (float(dtype, bytes, index).expect("these are floats") as f32).to_string()
        }
        DType::I8 => i8::from_le_bytes(element(bytes, index)).to_string(),
        DType::I16 => i16::from_le_bytes(element(bytes, index)).to_string(),
        DType::I32 => i32::from_le_bytes(element(bytes, index)).to_string(),
        DType::I64 => i64::from_le_bytes(element(bytes, index)).to_string(),
        DType::U8 => u8::from_le_bytes(element(bytes, index)).to_string(),
        DType::U16 => u16::from_le_bytes(element(bytes, index)).to_string(),
        DType::U32 => u32::from_le_bytes(element(bytes, index)).to_string(),
        DType::U64 => u64::from_le_bytes(element(bytes, index)).to_string(),
        DType::Bool => if bytes[index] == 0 { "False" } else { "True" }.to_owned(),
    }
}

fn element<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
    let mut element = [0; N];
    element.copy_from_slice(&bytes[index * N..(index + 1) * N]);
    element
}

/// IEEE 754 binary16: one sign bit, five of exponent, ten of fraction.
fn f16(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f64::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        exponent => sign * (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits() {
        let f16s = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f64.powi(-24)),
            (0x0400, 2f64.powi(-14)),
        ];
        for (bits, value) in f16s {
            assert_eq!(float(DType::F16, &u16::to_le_bytes(bits), 0), Some(value));
        }
        assert_eq!(float(DType::F16, &[0, 0x7c], 0), Some(f64::INFINITY));
        assert!(float(DType::F16, &[1, 0x7c], 0).expect("a float").is_nan());
        assert_eq!(float(DType::Bf16, &[0, 0, 0xc0, 0x3f], 1), Some(1.5));
        assert_eq!(text(DType::F16, &[0x66, 0x2e], 0), "0.099975586");
    }

    #[test]
    fn integers_are_written_in_full() {
        assert_eq!(text(DType::I64, &i64::MIN.to_le_bytes(), 0), "-9223372036854775808");
        assert_eq!(text(DType::U64, &u64::MAX.to_le_bytes(), 0), "18446744073709551615");
        assert_eq!(text(DType::Bool, &[0, 1], 1), "True");
        assert_eq!(float(DType::I8, &[1], 0), None);
    }
}
