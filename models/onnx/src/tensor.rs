//! Tensors in a file: every encoding of every element type that we have, checked before anything is allocated.
//!
//! Values may stand in `raw_data`, in the field that belongs to their type, or in a file beside the model.
//! Exactly one of them, and with exactly the number of values that the dims say; anything else is an error.
//!
//! Source: `TensorProto` in `onnx.proto`. The type is matched by its number: newer types than the schema knows
//! arrive as numbers, too.

use ir::weight::Bytes;
use ir::{DType, Tensor, Weight};
use onnx_protobuf::{StringStringEntryProto, TensorProto};
use ops::onnx::{dtype_name, dtype_of};

use crate::Files;
use crate::external::FileError;
use crate::in_place;

/// No tensor is larger than this, in bytes (1 TiB): far above what a machine holds, far below where sizes overflow.
pub const MAX_BYTES: i64 = 1 << 40;

/// Why a tensor of the model can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// No element type is stated.
    #[error("it has no element type")]
    NoDType,
    /// An element type that we don't have.
    #[error("element type {name} is not supported")]
    DType {
        /// Its name, or its number if it has none that we know.
        name: String,
    },
    /// A size below zero.
    #[error("axis {axis} has the negative size {size}")]
    NegativeDim {
        /// The axis.
        axis: usize,
        /// Its size.
        size: i64,
    },
    /// More bytes than any tensor may have.
    #[error("its dims {dims:?} make it larger than 1 TiB, the limit of any tensor")]
    TooLarge {
        /// Its sizes.
        dims: Vec<i64>,
    },
    /// The bytes are not as many as the type needs.
    #[error("its type takes {needed} bytes, found {found}")]
    Bytes {
        /// Bytes that the type takes.
        needed: usize,
        /// Bytes that there are.
        found: usize,
    },
    /// The range in a file has another length than the type needs.
    #[error("its type takes {needed} bytes, its external data in `{location}` states a length of {found}")]
    ExternalLength {
        /// The file.
        location: String,
        /// Bytes that the type takes.
        needed: usize,
        /// Bytes that are stated.
        found: u64,
    },
    /// The values are not as many as the dims say.
    #[error("its dims ask for {needed} values, `{field}` holds {found}")]
    Values {
        /// Where they stand.
        field: &'static str,
        /// Values that the dims ask for.
        needed: usize,
        /// Values that there are.
        found: usize,
    },
    /// Values in a field that does not belong to the element type, or in two.
    #[error("values of element type {dtype} in `{field}`, expected only `{expected}`")]
    Field {
        /// The element type.
        dtype: DType,
        /// Where values stand.
        field: &'static str,
        /// Where they belong.
        expected: &'static str,
    },
    /// A value that the element type can't hold.
    #[error("value {value} at position {position} does not fit element type {dtype}")]
    Value {
        /// The element type.
        dtype: DType,
        /// Row-major position.
        position: usize,
        /// The value.
        value: i128,
    },
    /// The tensor is stored in segments.
    #[error(
        "it is stored in segments, which is not supported: save the model again with a current version of onnx"
    )]
    Segment,
    /// `offset` or `length` of external data is no number of bytes.
    #[error("`{key} = {value}` of its external data is no number of bytes")]
    Entry {
        /// Which.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// `data_location` has a value that we don't know.
    #[error("its data location is number {number}, which is unknown")]
    Location {
        /// The number.
        number: i32,
    },
    /// External data can't be read.
    #[error("its external data: {0}")]
    File(#[from] FileError),
}

impl TensorError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            TensorError::DType { .. } | TensorError::NoDType => "egraft::onnx::tensor_dtype",
            TensorError::NegativeDim { .. } | TensorError::TooLarge { .. } => "egraft::onnx::tensor_dims",
            TensorError::Bytes { .. }
            | TensorError::Values { .. }
            | TensorError::Field { .. }
            | TensorError::Value { .. }
            | TensorError::Segment
            | TensorError::Location { .. } => "egraft::onnx::tensor_data",
            TensorError::Entry { .. } | TensorError::ExternalLength { .. } => "egraft::onnx::external_range",
            TensorError::File(error) => error.code(),
        }
    }

    /// Is it legal, and just not supported?
    pub fn is_unsupported(&self) -> bool {
        match self {
            TensorError::DType { name } => !name.starts_with("number "),
            TensorError::Segment => true,
            _ => false,
        }
    }
}

/// A tensor as the file has it: checked, and still by reference where it is external.
#[derive(Clone)]
struct Contents {
    dtype: DType,
    shape: Vec<usize>,
    /// Several elements in each, where they have fewer than 8 bits.
    bytes: Bytes,
}

/// The contents of a tensor. Its `raw_data` is moved, not copied, or stays in the model's file.
///
/// # Errors
/// Whatever does not fit together in it.
fn contents(mut proto: TensorProto, files: &dyn Files) -> Result<Contents, TensorError> {
    let code = i64::from(proto.data_type);
    if code == 0 {
        return Err(TensorError::NoDType);
    }
    let dtype = dtype_of(code).ok_or_else(|| TensorError::DType { name: dtype_name(code) })?;
    let (shape, elements) = checked_shape(&proto.dims, dtype)?;
    if proto.segment.is_some() {
        return Err(TensorError::Segment);
    }
    let needed = elements.div_ceil(per_byte(dtype)) * dtype.bytes();
    let bytes = match proto.data_location.value() {
        1 => {
            if let Some(field) = filled(&proto).next() {
                return Err(TensorError::Field { dtype, field, expected: "external_data" });
            }
            external(&proto.external_data, needed, files)?
        }
        0 => {
            let in_place = in_place::place(&proto);
            let raw = !proto.raw_data.is_empty() || in_place.is_some();
            let expected = if raw { "raw_data" } else { field_of(dtype) };
            if let Some(field) = filled(&proto).find(|field| *field != expected) {
                return Err(TensorError::Field { dtype, field, expected });
            }
            if raw {
                let there = in_place.and_then(|(offset, length)| files.model()?.part(offset, length));
                let bytes = there.unwrap_or_else(|| std::mem::take(&mut proto.raw_data).into());
                let found = bytes.as_slice().len();
                if found != needed {
                    return Err(TensorError::Bytes { needed, found });
                }
                bytes
            } else {
                values(&proto, dtype, elements.div_ceil(per_byte(dtype)))?.into()
            }
        }
        number => return Err(TensorError::Location { number }),
    };
    Ok(Contents { dtype, shape, bytes: if dtype == DType::Bool { truths(bytes) } else { bytes } })
}

/// The contents as a weight called `name`.
pub(crate) fn weight(name: &str, proto: TensorProto, files: &dyn Files) -> Result<Weight, TensorError> {
    let Contents { dtype, shape, bytes } = contents(proto, files)?;
    let weight = match per_byte(dtype) {
        1 => Weight::new(name, dtype, shape, bytes),
        _ => Weight::packed(name, dtype, shape, bytes),
    };
    Ok(weight.expect("the number of bytes was compared with the type"))
}

/// The contents as a tensor of its own.
pub(crate) fn tensor(proto: TensorProto, files: &dyn Files) -> Result<Tensor, TensorError> {
    Ok(weight("", proto, files)?.tensor())
}

/// The sizes and the number of elements.
fn checked_shape(dims: &[i64], dtype: DType) -> Result<(Vec<usize>, usize), TensorError> {
    if let Some(axis) = dims.iter().position(|&size| size < 0) {
        return Err(TensorError::NegativeDim { axis, size: dims[axis] });
    }
    let too_large = || TensorError::TooLarge { dims: dims.to_vec() };
    // Of the sizes other than 0, too: [2^62, 0] is empty, and still nothing that strides could count.
    let nonzero = dims.iter().filter(|&&size| size > 0);
    let bytes = nonzero.copied().try_fold(dtype.bytes() as i64, i64::checked_mul).ok_or_else(too_large)?;
    if bytes > MAX_BYTES {
        return Err(too_large());
    }
    let shape: Option<Vec<usize>> = dims.iter().map(|&size| usize::try_from(size).ok()).collect();
    let shape = shape.ok_or_else(too_large)?;
    let elements = shape.iter().product();
    Ok((shape, elements))
}

/// The fields that hold values.
fn filled(proto: &TensorProto) -> impl Iterator<Item = &'static str> {
    [
        ("raw_data", !proto.raw_data.is_empty() || in_place::place(proto).is_some()),
        ("float_data", !proto.float_data.is_empty()),
        ("int32_data", !proto.int32_data.is_empty()),
        ("int64_data", !proto.int64_data.is_empty()),
        ("double_data", !proto.double_data.is_empty()),
        ("uint64_data", !proto.uint64_data.is_empty()),
        ("string_data", !proto.string_data.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, is_filled)| is_filled.then_some(field))
}

/// The field, besides `raw_data`, in which values of a type stand.
fn field_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float_data",
        DType::F64 => "double_data",
        DType::I64 => "int64_data",
        DType::U32 | DType::U64 => "uint64_data",
        DType::I8
        | DType::I16
        | DType::I32
        | DType::U8
        | DType::U16
        | DType::Bool
        | DType::F16
        | DType::BF16
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F4E2M1
        | DType::I4
        | DType::U4
        | DType::I2
        | DType::U2 => "int32_data",
    }
}

/// How many elements lie in a byte of a file: two of 4 bits, four of 2, the first in the lowest bits.
fn per_byte(dtype: DType) -> usize {
    (8 / dtype.bits()).max(1)
}

/// The values of the field that belongs to `dtype`, as little-endian bytes; those of several elements are bytes, too.
fn values(proto: &TensorProto, dtype: DType, needed: usize) -> Result<Vec<u8>, TensorError> {
    let field = field_of(dtype);
    let found = match field {
        "float_data" => proto.float_data.len(),
        "double_data" => proto.double_data.len(),
        "int64_data" => proto.int64_data.len(),
        "uint64_data" => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    };
    if found != needed {
        return Err(TensorError::Values { field, needed, found });
    }
    Ok(match dtype {
        DType::F32 => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F64 => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I64 => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U64 => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U32 => narrow(dtype, &proto.uint64_data, 0..=i128::from(u32::MAX))?,
        DType::I32 => proto.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I16 => narrow(dtype, &proto.int32_data, i128::from(i16::MIN)..=i128::from(i16::MAX))?,
        DType::I8 => narrow(dtype, &proto.int32_data, i128::from(i8::MIN)..=i128::from(i8::MAX))?,
        // Floats of 16 bits by their bits, zero-extended.
        DType::U16 | DType::F16 | DType::BF16 => narrow(dtype, &proto.int32_data, 0..=i128::from(u16::MAX))?,
        DType::U8 => narrow(dtype, &proto.int32_data, 0..=i128::from(u8::MAX))?,
        DType::Bool => narrow(dtype, &proto.int32_data, 0..=1)?,
        // By their bits, several of them in a byte where they have fewer than 8.
        DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F4E2M1
        | DType::I4
        | DType::U4
        | DType::I2
        | DType::U2 => narrow(dtype, &proto.int32_data, 0..=i128::from(u8::MAX))?,
    })
}

/// The low bytes of values that lie in `range`.
fn narrow<T: Copy + Into<i128>>(
    dtype: DType,
    values: &[T],
    range: std::ops::RangeInclusive<i128>,
) -> Result<Vec<u8>, TensorError> {
    let mut bytes = Vec::with_capacity(values.len() * dtype.bytes());
    for (position, &value) in values.iter().enumerate() {
        let value: i128 = value.into();
        if !range.contains(&value) {
            return Err(TensorError::Value { dtype, position, value });
        }
        bytes.extend_from_slice(&value.to_le_bytes()[..dtype.bytes()]);
    }
    Ok(bytes)
}

/// `needed` bytes of the file that `entries` name. Without a length, as many as the type needs.
fn external(
    entries: &[StringStringEntryProto],
    needed: usize,
    files: &dyn Files,
) -> Result<Bytes, TensorError> {
    let entry = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let number = |key: &'static str| match entry(key) {
        None => Ok(None),
        Some(value) => {
            let number: Result<u64, _> = value.parse();
            number.map(Some).map_err(|_| TensorError::Entry { key, value: value.to_owned() })
        }
    };
    let location = entry("location").ok_or(FileError::NoLocation)?;
    crate::external::validate_location(location)?;
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(needed as u64);
    if length != needed as u64 {
        let found = length;
        return Err(TensorError::ExternalLength { location: location.to_owned(), needed, found });
    }
    let bytes = files.external(location, offset, length)?;
    let found = bytes.as_slice().len() as u64;
    if found != length {
        return Err(FileError::Range { location: location.to_owned(), offset, length, size: found }.into());
    }
    Ok(bytes)
}

/// Every byte that is not 0 as 1: what a truth value is made of.
fn truths(bytes: Bytes) -> Bytes {
    if bytes.as_slice().iter().all(|&byte| byte <= 1) {
        return bytes;
    }
    bytes.as_slice().iter().map(|&byte| u8::from(byte != 0)).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoFiles;

    fn proto(code: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: code, dims: dims.to_vec(), ..TensorProto::default() }
    }

    fn read(proto: TensorProto) -> Result<Tensor, TensorError> {
        tensor(proto, &NoFiles)
    }

    /// A file of sixteen bytes, 0 to 15.
    struct Sixteen;

    impl Files for Sixteen {
        fn external(&self, _: &str, offset: u64, length: u64) -> Result<Bytes, FileError> {
            let bytes: Vec<u8> = (0..16).collect();
            Ok(bytes[offset as usize..(offset + length) as usize].to_vec().into())
        }
    }

    fn external_proto(entries: &[(&str, &str)]) -> TensorProto {
        let mut proto = proto(2, &[4]);
        proto.data_location = onnx_protobuf::tensor_proto::DataLocation::EXTERNAL.into();
        for (key, value) in entries {
            let (key, value) = ((*key).to_owned(), (*value).to_owned());
            proto.external_data.push(StringStringEntryProto {
                key,
                value,
                ..StringStringEntryProto::default()
            });
        }
        proto
    }

    #[test]
    fn raw_bytes_of_every_type() {
        for code in 1..=26 {
            let Some(dtype) = dtype_of(code).filter(|dtype| dtype.bits() >= 8) else { continue };
            let raw: Vec<u8> = (0..2 * dtype.bytes() as u8).map(|byte| byte % 2).collect();
            let read =
                read(TensorProto { raw_data: raw.clone(), ..proto(code as i32, &[2]) }).expect("two values");
            assert_eq!((read.dtype(), read.bytes()), (dtype, raw.as_slice()));
        }
    }

    #[test]
    fn narrow_values_of_int32_data() {
        let of =
            |code, values: &[i32]| read(TensorProto { int32_data: values.to_vec(), ..proto(code, &[2]) });
        assert_eq!(of(3, &[-1, 127]).expect("i8").bytes(), [0xff, 0x7f]);
        assert_eq!(of(2, &[255, 0]).expect("u8").bytes(), [0xff, 0]);
        assert_eq!(of(5, &[-2, 1]).expect("i16").bytes(), [0xfe, 0xff, 1, 0]);
        assert_eq!(of(4, &[65535, 1]).expect("u16").bytes(), [0xff, 0xff, 1, 0]);
        assert_eq!(of(9, &[1, 0]).expect("bool").bytes(), [1, 0]);
        assert_eq!(of(10, &[0x3c00, 0xc000]).expect("f16").to_f64(), [1.0, -2.0]);
        assert_eq!(of(16, &[0x3f80, 0xc000]).expect("bf16").to_f64(), [1.0, -2.0]);
        assert_eq!(of(2, &[0, 256]), Err(TensorError::Value { dtype: DType::U8, position: 1, value: 256 }));
        assert_eq!(of(9, &[2, 0]), Err(TensorError::Value { dtype: DType::Bool, position: 0, value: 2 }));
    }

    #[test]
    fn several_elements_in_a_byte() {
        let raw = |code, n, bytes: &[u8]| read(TensorProto { raw_data: bytes.to_vec(), ..proto(code, &[n]) });
        // The first in the lowest bits; what is left of the last byte means nothing.
        assert_eq!(raw(22, 3, &[0x8f, 0x67]).expect("i4").to_i64(), [-1, -8, 7]);
        assert_eq!(raw(21, 3, &[0x8f, 0x67]).expect("u4").to_i64(), [15, 8, 7]);
        assert_eq!(raw(26, 5, &[0b10_01_00_11, 0b11_11_11_10]).expect("i2").to_i64(), [-1, 0, 1, -2, -2]);
        assert_eq!(raw(25, 5, &[0b10_01_00_11, 0b11_11_11_10]).expect("u2").to_i64(), [3, 0, 1, 2, 2]);
        assert_eq!(raw(23, 2, &[0xe3]).expect("f4e2m1").to_f64(), [1.5, -4.0]);
        assert_eq!(raw(22, 3, &[0; 3]), Err(TensorError::Bytes { needed: 2, found: 3 }));
        let ints =
            |code, n, values: &[i32]| read(TensorProto { int32_data: values.to_vec(), ..proto(code, &[n]) });
        assert_eq!(ints(22, 3, &[0x8f, 7]).expect("i4").to_i64(), [-1, -8, 7]);
        assert_eq!(ints(25, 5, &[0b11, 2]).expect("u2").to_i64(), [3, 0, 0, 0, 2]);
        assert_eq!(ints(17, 2, &[0x38, 0xfe]).expect("f8e4m3fn").to_f64(), [1.0, -448.0]);
        let error = TensorError::Value { dtype: DType::U4, position: 0, value: 256 };
        assert_eq!(ints(21, 1, &[256]), Err(error));
        let error = TensorError::Values { field: "int32_data", needed: 2, found: 3 };
        assert_eq!(ints(21, 3, &[1, 2, 3]), Err(error));
    }

    #[test]
    fn values_of_the_other_fields() {
        let f32 = read(TensorProto { float_data: vec![1.5, -0.0], ..proto(1, &[2]) }).expect("f32");
        assert_eq!(f32, Tensor::from_f32(&[2], &[1.5, -0.0]));
        let i64 = read(TensorProto { int64_data: vec![i64::MIN], ..proto(7, &[]) }).expect("i64");
        assert_eq!(i64, Tensor::from_i64(&[], &[i64::MIN]));
        let f64 = read(TensorProto { double_data: vec![0.1], ..proto(11, &[1]) }).expect("f64");
        assert_eq!(f64.to_f64(), [0.1]);
        let u32 =
            read(TensorProto { uint64_data: vec![u64::from(u32::MAX)], ..proto(12, &[1]) }).expect("u32");
        assert_eq!(u32.to_i64(), [i64::from(u32::MAX)]);
        let u64 = read(TensorProto { uint64_data: vec![u64::MAX], ..proto(13, &[1]) }).expect("u64");
        assert_eq!(u64.bytes(), [0xff; 8]);
        let over = read(TensorProto { uint64_data: vec![1 << 32], ..proto(12, &[1]) });
        assert_eq!(over, Err(TensorError::Value { dtype: DType::U32, position: 0, value: 1 << 32 }));
    }

    #[test]
    fn dims_are_checked_before_anything_is_allocated() {
        let huge = |dims: &[i64]| Err(TensorError::TooLarge { dims: dims.to_vec() });
        for dims in
            [&[1i64 << 40][..], &[1 << 40, 1 << 40], &[1 << 62, 0], &[1 << 32, 1 << 32, 0], &[i64::MAX]]
        {
            assert_eq!(read(proto(1, dims)), huge(dims), "{dims:?}");
        }
        assert_eq!(read(proto(1, &[-2, -2])), Err(TensorError::NegativeDim { axis: 0, size: -2 }));
        assert_eq!(read(proto(1, &[3, 0])).expect("empty").elements(), 0);
    }

    #[test]
    fn values_and_type_fit() {
        let short = TensorProto { raw_data: vec![0; 12], ..proto(1, &[4]) };
        assert_eq!(read(short), Err(TensorError::Bytes { needed: 16, found: 12 }));
        let few = TensorProto { float_data: vec![0.0; 3], ..proto(1, &[4]) };
        assert_eq!(read(few), Err(TensorError::Values { field: "float_data", needed: 4, found: 3 }));
        let wrong = TensorProto { int64_data: vec![0; 4], ..proto(1, &[4]) };
        let error = TensorError::Field { dtype: DType::F32, field: "int64_data", expected: "float_data" };
        assert_eq!(read(wrong), Err(error));
        let twice = TensorProto { float_data: vec![0.0; 4], raw_data: vec![0; 16], ..proto(1, &[4]) };
        let error = TensorError::Field { dtype: DType::F32, field: "float_data", expected: "raw_data" };
        assert_eq!(read(twice), Err(error));
        let none = read(proto(1, &[4]));
        assert_eq!(none, Err(TensorError::Values { field: "float_data", needed: 4, found: 0 }));
    }

    #[test]
    fn types_that_we_lack_are_named() {
        assert_eq!(read(proto(0, &[])), Err(TensorError::NoDType));
        for (code, name, is_unsupported) in
            [(8, "string", true), (27, "float6e2m3", true), (99, "number 99", false)]
        {
            let error = read(proto(code, &[1])).expect_err("not supported");
            assert_eq!(error, TensorError::DType { name: name.to_owned() });
            assert_eq!(error.is_unsupported(), is_unsupported);
        }
    }

    #[test]
    fn truth_values_are_zero_or_one() {
        let read = read(TensorProto { raw_data: vec![0, 1, 2, 255], ..proto(9, &[4]) }).expect("bool");
        assert_eq!(read.bytes(), [0, 1, 1, 1]);
    }

    #[test]
    fn ranges_of_external_data() {
        let bytes = |entries: &[(&str, &str)]| {
            contents(external_proto(entries), &Sixteen).map(|contents| contents.bytes.as_slice().to_vec())
        };
        assert_eq!(bytes(&[("location", "w")]), Ok(vec![0, 1, 2, 3]));
        assert_eq!(bytes(&[("location", "w"), ("offset", "8"), ("length", "4")]), Ok(vec![8, 9, 10, 11]));
        assert_eq!(bytes(&[("offset", "8")]), Err(FileError::NoLocation.into()));
        assert_eq!(
            bytes(&[("location", "../w")]),
            Err(FileError::Escapes { location: "../w".to_owned() }.into())
        );
        assert_eq!(
            bytes(&[("location", "w"), ("length", "5")]),
            Err(TensorError::ExternalLength { location: "w".to_owned(), needed: 4, found: 5 })
        );
        for value in ["-1", "four", "99999999999999999999"] {
            assert_eq!(
                bytes(&[("location", "w"), ("offset", value)]),
                Err(TensorError::Entry { key: "offset", value: value.to_owned() })
            );
        }
        let mut both = external_proto(&[("location", "w")]);
        both.raw_data = vec![0; 4];
        let error = contents(both, &Sixteen).err();
        assert_eq!(
            error,
            Some(TensorError::Field { dtype: DType::U8, field: "raw_data", expected: "external_data" })
        );
    }
}
