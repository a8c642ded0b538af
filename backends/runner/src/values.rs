//! Elements of tensors as numbers and as text.
//!
//! Deliberately absent: arithmetic; this serves printing.

use runtime::DType;

use crate::narrow;

/// Element `index` as a float, or `None` where the dtype is not a float. Exact for every float dtype.
pub fn float(dtype: DType, bytes: &[u8], index: usize) -> Option<f64> {
    Some(match dtype {
        DType::F32 => f64::from(f32::from_le_bytes(element(bytes, index))),
        DType::F64 => f64::from_le_bytes(element(bytes, index)),
        _ if dtype.bytes() == 2 => return narrow::decode(dtype, u16::from_le_bytes(element(bytes, index))),
        _ if dtype.bytes() == 1 => return narrow::decode(dtype, bytes[index].into()),
        _ => return None,
    })
}

/// Element `index` as text: integers in full, bools as NumPy writes them, floats with the fewest digits
/// that read back as the same value of their own dtype (of f32 for floats of 16 and fewer bits).
pub fn text(dtype: DType, bytes: &[u8], index: usize) -> String {
    match dtype {
        DType::F64 => f64::from_le_bytes(element(bytes, index)).to_string(),
        DType::F32
        | DType::F16
        | DType::Bf16
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F4E2M1 => (float(dtype, bytes, index).expect("these are floats") as f32).to_string(),
        DType::I8 | DType::I4 | DType::I2 => i8::from_le_bytes(element(bytes, index)).to_string(),
        DType::I16 => i16::from_le_bytes(element(bytes, index)).to_string(),
        DType::I32 => i32::from_le_bytes(element(bytes, index)).to_string(),
        DType::I64 => i64::from_le_bytes(element(bytes, index)).to_string(),
        DType::U8 | DType::U4 | DType::U2 => u8::from_le_bytes(element(bytes, index)).to_string(),
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
    fn eight_and_fewer_bits() {
        assert_eq!([0x38, 0xc0, 0x7e].map(|code| text(DType::F8E4M3FN, &[code], 0)), ["1", "-2", "448"]);
        assert_eq!(text(DType::F8E8M0, &[0], 0), "0.000000000000000000000000000000000000005877472");
        assert_eq!(text(DType::F4E2M1, &[0xf], 0), "-6");
        assert_eq!(
            (text(DType::I4, &[0xf8], 0), text(DType::U2, &[3], 0)),
            ("-8".to_owned(), "3".to_owned())
        );
        assert_eq!(float(DType::U4, &[3], 0), None);
    }

    #[test]
    fn integers_are_written_in_full() {
        assert_eq!(text(DType::I64, &i64::MIN.to_le_bytes(), 0), "-9223372036854775808");
        assert_eq!(text(DType::U64, &u64::MAX.to_le_bytes(), 0), "18446744073709551615");
        assert_eq!(text(DType::Bool, &[0, 1], 1), "True");
        assert_eq!(float(DType::I8, &[1], 0), None);
    }
}
