//! NumPy's `.npy` format: one tensor per file, a header written as a Python literal, then the elements.
//!
//! Versions 1 to 3, little-endian, row-major or column-major (converted to row-major), every dtype of egraft
//! but bf16, which the format doesn't have. It doesn't have the narrow ones either: their elements are written as what
//! [`stand_in`] says. Reading is total: any bytes give a tensor or an error, and memory
//! is asked for only after the file has proved to hold as many bytes as its shape needs.
//! Deliberately absent: big-endian data, records, strings, complex numbers and pickled objects.
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{self, Write};

use runtime::DType;

use super::check_bools;
use crate::narrow::stand_in;
use crate::tensor::{Tensor, byte_len};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The elements begin at a multiple of this, so that a file can be mapped.
const ALIGNMENT: usize = 64;
/// The prefix of a version 1 file: magic, two version bytes, two bytes of header length.
const PREFIX: usize = 10;
/// NumPy's own limit for the number of axes.
const MAX_RANK: usize = 64;

/// Why bytes are not a tensor in `.npy` format, or why a tensor can't be written in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The first bytes are not those of the format.
    #[error("it does not begin with the mark of a .npy file")]
    Magic,
    /// A version later than 3.
    #[error("it is .npy version {major}; versions 1 to 3 can be read")]
    Version {
        /// First byte of the version.
        major: u8,
    },
    /// The file ends inside its header.
    #[error("it ends inside its header")]
    TruncatedHeader,
    /// The header is not the Python literal that the format demands.
    #[error("its header is malformed: {why}")]
    Header {
        /// What was expected where.
        why: &'static str,
    },
    /// A dtype that egraft has no name for.
    #[error("its dtype `{descr}` is not supported")]
    DType {
        /// The dtype as the file writes it.
        descr: String,
    },
    /// Elements with the most significant byte first.
    #[error("its dtype `{descr}` is big-endian")]
    BigEndian {
        /// The dtype as the file writes it.
        descr: String,
    },
    /// The shape's size in bytes doesn't fit the machine.
    #[error("its shape {dims:?} is too large for this machine")]
    TooLarge {
        /// The shape.
        dims: Vec<usize>,
    },
    /// More or fewer bytes than the shape needs.
    #[error("its shape {dims:?} needs {expected} bytes of data, but {found} follow the header")]
    Length {
        /// The shape.
        dims: Vec<usize>,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// A byte other than 0 and 1 in a bool tensor.
    #[error("element {index} of its bool data is the byte {byte}; a bool is 0 or 1")]
    Bool {
        /// Position in the data.
        index: usize,
        /// The byte found there.
        byte: u8,
    },
    /// The format has no code for the dtype.
    #[error("the .npy format has no dtype {dtype}")]
    NoSuchDType {
        /// egraft's name of the dtype.
        dtype: &'static str,
    },
}

impl NpyError {
    /// The way out, for the second line of a diagnostic.
    pub fn help(&self) -> &'static str {
        match self {
            NpyError::Magic
            | NpyError::TruncatedHeader
            | NpyError::Header { .. }
            | NpyError::Length { .. } => "write the file again with numpy.save",
            NpyError::Version { .. } => "write it again with a current numpy.save",
            NpyError::DType { .. } => {
                "convert it first, for instance x.astype('float32'); for bf16 use a .safetensors file"
            }
            NpyError::BigEndian { .. } => "convert it first: x.astype(x.dtype.newbyteorder('<'))",
            NpyError::TooLarge { .. } => "split it into smaller files",
            NpyError::Bool { .. } => "make it a bool array first: x.astype(bool)",
            NpyError::NoSuchDType { .. } => "use a .safetensors file, which has it",
        }
    }
}

/// Reads a whole `.npy` file.
///
/// # Errors
/// See [`NpyError`]; `bytes` may be anything.
pub fn read(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let (header, data) = split(bytes)?;
    let header = Header::parse(header)?;
    let dtype = dtype_of(&header.descr)?;
    let dims = header.dims;
    let expected = byte_len(dtype, &dims).ok_or_else(|| NpyError::TooLarge { dims: dims.clone() })?;
    if data.len() != expected {
        return Err(NpyError::Length { dims, expected, found: data.len() });
    }
    if dtype == DType::Bool {
        check_bools(data).map_err(|(index, byte)| NpyError::Bool { index, byte })?;
    }
    let row_major;
    let data = if header.column_major && dims.len() > 1 {
        row_major = to_row_major(data, &dims, dtype.bytes());
        &row_major
    } else {
        data
    };
    Tensor::from_bytes(dtype, &dims, data).ok_or(NpyError::TooLarge { dims })
}

/// Writes `tensor` as a version 1 file (version 2 where the header is too long for it), row-major.
///
/// # Errors
/// What `out` reports, and [`NpyError::NoSuchDType`] for bf16 as [`io::ErrorKind::InvalidInput`]; see [`code`].
pub fn write(tensor: &Tensor, out: &mut dyn Write) -> io::Result<()> {
    let descr = code(tensor.dtype()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (");
    for (axis, dim) in tensor.dims().iter().enumerate() {
        header.push_str(if axis == 0 { "" } else { " " });
        header.push_str(&format!("{dim},"));
    }
    // One axis keeps its comma, as Python's own tuples do.
    if tensor.dims().len() > 1 {
        header.pop();
    }
    header.push_str("), }");
    let short = (PREFIX + header.len() + 1).next_multiple_of(ALIGNMENT) - PREFIX;
    let (version, prefix) = if short <= usize::from(u16::MAX) { (1, PREFIX) } else { (2, PREFIX + 2) };
    let len = (prefix + header.len() + 1).next_multiple_of(ALIGNMENT) - prefix;
    header.extend(std::iter::repeat_n(' ', len - header.len() - 1));
    header.push('\n');
    out.write_all(MAGIC)?;
    out.write_all(&[version, 0])?;
    let len = u32::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?.to_le_bytes();
    out.write_all(&len[..prefix - MAGIC.len() - 2])?;
    out.write_all(header.as_bytes())?;
    out.write_all(tensor.bytes())
}

/// The format's code for `dtype`, such as `<f4`.
///
/// # Errors
/// [`NpyError::NoSuchDType`] for bf16.
pub fn code(dtype: DType) -> Result<&'static str, NpyError> {
    Ok(match dtype {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::F16 => "<f2",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
        DType::Bf16 => return Err(NpyError::NoSuchDType { dtype: dtype.name() }),
        DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F4E2M1
        | DType::I4
        | DType::U4
        | DType::I2
        | DType::U2 => code(stand_in(dtype).expect("a narrow type"))?,
    })
}

fn dtype_of(descr: &str) -> Result<DType, NpyError> {
    let unsupported = || NpyError::DType { descr: descr.to_owned() };
    let mut rest = descr.chars();
    let order = rest.next().ok_or_else(unsupported)?;
    let dtype = match rest.as_str() {
        "f4" => DType::F32,
        "f8" => DType::F64,
        "f2" => DType::F16,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "b1" => DType::Bool,
        _ => return Err(unsupported()),
    };
    match order {
        '<' => Ok(dtype),
        '|' if dtype.bytes() == 1 => Ok(dtype),
        '>' if dtype.bytes() == 1 => Ok(dtype),
        '>' => Err(NpyError::BigEndian { descr: descr.to_owned() }),
        _ => Err(unsupported()),
    }
}

/// Header text and data.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), NpyError> {
    let rest = match bytes.strip_prefix(MAGIC) {
        Some(rest) => rest,
        None if MAGIC.starts_with(bytes) => return Err(NpyError::TruncatedHeader),
        None => return Err(NpyError::Magic),
    };
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or(NpyError::TruncatedHeader)?;
    let (len, rest) = match major {
        1 => {
            let (len, rest) = rest.split_first_chunk().ok_or(NpyError::TruncatedHeader)?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk().ok_or(NpyError::TruncatedHeader)?;
            (usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX), rest)
        }
        _ => return Err(NpyError::Version { major }),
    };
    rest.split_at_checked(len).ok_or(NpyError::TruncatedHeader)
}

/// What the header's dictionary says.
struct Header {
    descr: String,
    column_major: bool,
    dims: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`: any order of keys, either quote.
    fn parse(text: &[u8]) -> Result<Header, NpyError> {
        let mut cursor = Cursor { rest: text };
        let (mut descr, mut column_major, mut dims) = (None, None, None);
        cursor.expect(b'{', "a `{` is missing")?;
        while !cursor.eat(b'}') {
            let key = cursor.string()?;
            cursor.expect(b':', "a `:` is missing after a key")?;
            let repeated = match key.as_str() {
                "descr" if cursor.peek() == Some(b'[') => {
                    return Err(NpyError::DType { descr: "record".to_owned() });
                }
                "descr" => descr.replace(cursor.string()?).is_some(),
                "fortran_order" => column_major.replace(cursor.boolean()?).is_some(),
                "shape" => dims.replace(cursor.tuple()?).is_some(),
                _ => return Err(NpyError::Header { why: "an unknown key" }),
            };
            if repeated {
                return Err(NpyError::Header { why: "a key stands there twice" });
            }
            if !cursor.eat(b',') {
                cursor.expect(b'}', "a `,` or `}` is missing after a value")?;
                break;
            }
        }
        if cursor.peek().is_some() {
            return Err(NpyError::Header { why: "text follows the closing `}`" });
        }
        Ok(Header {
            descr: descr.ok_or(NpyError::Header { why: "the key `descr` is missing" })?,
            column_major: column_major
                .ok_or(NpyError::Header { why: "the key `fortran_order` is missing" })?,
            dims: dims.ok_or(NpyError::Header { why: "the key `shape` is missing" })?,
        })
    }
}

/// Reads the few forms of Python literals that a header may hold.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn peek(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), NpyError> {
        if self.eat(byte) { Ok(()) } else { Err(NpyError::Header { why }) }
    }

    /// A string in either quotes. Escapes never occur in what we accept.
    fn string(&mut self) -> Result<String, NpyError> {
        let malformed = NpyError::Header { why: "a string is missing or not closed" };
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err(malformed),
        };
        let text = &self.rest[1..];
        let Some(end) = text.iter().position(|&byte| byte == quote) else { return Err(malformed) };
        self.rest = &text[end + 1..];
        // Capped: it is shown in messages.
        String::from_utf8(text[..end.min(64)].to_vec())
            .map_err(|_| NpyError::Header { why: "a string is not UTF-8" })
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        self.peek();
        for (word, value) in [(b"True".as_slice(), true), (b"False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(NpyError::Header { why: "`fortran_order` is neither True nor False" })
    }

    fn tuple(&mut self) -> Result<Vec<usize>, NpyError> {
        self.expect(b'(', "`shape` is not a tuple")?;
        let mut dims = Vec::new();
        while !self.eat(b')') {
            if dims.len() == MAX_RANK {
                return Err(NpyError::Header { why: "`shape` has more than 64 axes" });
            }
            dims.push(self.integer()?);
            if !self.eat(b',') {
                self.expect(b')', "a `,` or `)` is missing in `shape`")?;
                break;
            }
        }
        Ok(dims)
    }

    /// A non-negative integer; Python 2 wrote some of them with an `L` behind.
    fn integer(&mut self) -> Result<usize, NpyError> {
        self.peek();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(NpyError::Header { why: "a dim is not a non-negative integer" });
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest.strip_prefix(b"L").unwrap_or(rest);
        number
            .iter()
            .try_fold(0_usize, |value, digit| value.checked_mul(10)?.checked_add(usize::from(digit - b'0')))
            .ok_or(NpyError::Header { why: "a dim does not fit 64 bits" })
    }
}

/// Reorders elements of `size` bytes from first-axis-fastest to last-axis-fastest.
/// `data` holds exactly the elements of `dims`.
fn to_row_major(data: &[u8], dims: &[usize], size: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = size;
    for dim in dims {
        strides.push(stride);
        stride *= dim;
    }
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; dims.len()];
    let mut at = 0;
    while out.len() < data.len() {
        out.extend_from_slice(&data[at..at + size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::narrow::range;

    fn file(major: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([major, 0]);
        let len = u32::try_from(header.len()).expect("short").to_le_bytes();
        bytes.extend(&len[..if major == 1 { 2 } else { 4 }]);
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn written(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(tensor, &mut bytes).expect("a vector takes everything");
        bytes
    }

    #[test]
    fn a_file_of_numpy_is_read_and_written_to_the_byte() {
        // numpy.save("x.npy", numpy.array([[1, 2, 3]], dtype=numpy.int16))
        let mut expected =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i2', 'fortran_order': False, 'shape': (1, 3), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        expected.extend([1, 0, 2, 0, 3, 0]);
        let tensor = read(&expected).expect("it is a good file");
        assert_eq!((tensor.dtype(), tensor.dims()), (DType::I16, &[1, 3][..]));
        assert_eq!(written(&tensor), expected);
    }

    #[test]
    fn every_dtype_and_rank_comes_back() {
        for &dtype in DType::ALL {
            for dims in [&[][..], &[0], &[3], &[2, 0, 5], &[1, 2, 3, 4]] {
                let len = byte_len(dtype, dims).expect("small");
                let data: Vec<u8> =
                    (0..len).map(|i| if range(dtype).is_some() { i % 2 } else { i } as u8).collect();
                let tensor = Tensor::from_bytes(dtype, dims, &data).expect("small");
                if dtype == DType::Bf16 {
                    let error = write(&tensor, &mut Vec::new()).expect_err("there is no code for it");
                    assert!(error.to_string().contains("no dtype bf16"), "{error}");
                    continue;
                }
                let back = read(&written(&tensor)).expect("we wrote it");
                assert_eq!(back.dtype(), stand_in(dtype).unwrap_or(dtype));
                let back = back.read_as(dtype).expect("it was in range");
                assert_eq!((back.dtype(), back.dims(), back.bytes()), (dtype, dims, &data[..]));
            }
        }
    }

    #[test]
    fn all_versions_and_spellings_of_the_header() {
        for major in 1..=3 {
            for header in [
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }\n",
                "{\"shape\":(2,1),\"descr\":\"<f4\",\"fortran_order\":False}",
                "  { 'fortran_order' : True , 'shape' : ( 2L , 1L , ) , 'descr' : '<f4' }  ",
            ] {
                let tensor = read(&file(major, header, &floats(&[1.0, -2.0]))).expect(header);
                assert_eq!((tensor.dims(), tensor.bytes()), (&[2, 1][..], &floats(&[1.0, -2.0])[..]));
            }
        }
    }

    #[test]
    fn column_major_is_converted() {
        let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
        let tensor =
            read(&file(1, header, &floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]))).expect("it is a good file");
        assert_eq!(tensor.bytes(), floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        // numpy.arange(24).reshape(2, 3, 4), saved column-major
        let data: Vec<u8> =
            (0..4).flat_map(|k| (0..3).flat_map(move |j| (0..2).map(move |i| i * 12 + j * 4 + k))).collect();
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }";
        assert_eq!(
            read(&file(1, header, &data)).expect("it is a good file").bytes(),
            (0..24).collect::<Vec<u8>>()
        );
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let of = |descr: &str| {
            read(&file(1, &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': ()}}"), &[0; 8]))
        };
        assert_eq!(of("'>f8'").err(), Some(NpyError::BigEndian { descr: ">f8".into() }));
        for descr in ["'<c8'", "'|O'", "'<U2'", "'|V2'", "''", "'f8'", "'|f8'", "'<f16'", "'é'"] {
            let expected = NpyError::DType { descr: descr.trim_matches('\'').into() };
            assert_eq!(of(descr).err(), Some(expected));
        }
        assert_eq!(of("[('a', '<f4')]").err(), Some(NpyError::DType { descr: "record".into() }));
        assert_eq!(read(&file(4, "", &[])).err(), Some(NpyError::Version { major: 4 }));
        let bools = file(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", &[0, 1, 2]);
        assert_eq!(read(&bools).err(), Some(NpyError::Bool { index: 2, byte: 2 }));
    }

    #[test]
    fn absurd_shapes_are_errors() {
        let of = |shape: &str| {
            read(&file(1, &format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"), &[0; 4]))
        };
        for shape in ["(4611686018427387904,)", "(4294967296, 4294967296)", "(18446744073709551615, 2)"] {
            assert!(matches!(of(shape), Err(NpyError::TooLarge { .. })), "{shape}");
        }
        for shape in ["(2,)", "(0,)", "(1099511627776,)", "(0, 18446744073709551615)"] {
            assert!(matches!(of(shape), Err(NpyError::Length { .. })), "{shape}");
        }
        for shape in ["(-1,)", "(1.0,)", "(18446744073709551616,)", "(1 1)", "(,)", "1", "[1]", "(1,", "(1"] {
            assert!(matches!(of(shape), Err(NpyError::Header { .. })), "{shape}");
        }
        assert!(matches!(of(&format!("({})", "1,".repeat(65))), Err(NpyError::Header { .. })));
        assert!(of("(1,)").is_ok() && of("()").is_ok());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let tensor = Tensor::from_bytes(DType::F32, &[2, 2], &floats(&[1.0; 4])).expect("small");
        let bytes = written(&tensor);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} of {} bytes were accepted", bytes.len());
        }
        assert!(read(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn garbage_never_panics() {
        let tensor = Tensor::from_bytes(DType::F32, &[2, 2], &floats(&[1.0; 4])).expect("small");
        let good = written(&tensor);
        let mut random = crate::random::SplitMix64::new(7);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.next() % 4 {
                let at = random.next() as usize % 80;
                bytes[at] = random.next() as u8;
            }
            if let Ok(tensor) = read(&bytes) {
                assert_eq!(tensor.bytes().len(), 16);
            }
        }
    }
}
