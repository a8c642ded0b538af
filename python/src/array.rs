//! NumPy arrays as they lie in memory.
//!
//! The stable interface of CPython 3.10 has no buffers, and asking an array for its attributes one by one costs more than
//! a small model does. So the head of the array object is read, whose layout is part of NumPy's binary interface since
//! its version 1.0. [`check_layout`] makes sure of it when the module is imported.

#![allow(unsafe_code, reason = "it reads the objects of another library")]

use std::ffi::{c_char, c_int, c_long};
use std::slice;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use runtime::DType;

use crate::numpy::{self, numpy};

/// `PyArrayObject_fields` up to where it is the same in all versions.
#[repr(C)]
struct Fields {
    /// Reference count and class.
    head: [usize; 2],
    data: *mut u8,
    axes: c_int,
    sizes: *const isize,
    strides: *const isize,
    base: *const u8,
    descr: *const Descr,
    flags: c_int,
}

/// `PyArray_Descr` up to where it is the same in all versions.
#[repr(C)]
struct Descr {
    head: [usize; 2],
    class: *const u8,
    kind: c_char,
    letter: c_char,
    byte_order: c_char,
    flags: c_char,
    number: c_int,
}

const C_CONTIGUOUS: c_int = 0x0001;
const ALIGNED: c_int = 0x0100;
const WRITEABLE: c_int = 0x0400;

/// Where the elements of an array are.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// The first element.
    pub(crate) data: *mut u8,
    /// Sizes, outermost first.
    pub(crate) dims: Vec<i64>,
    /// Type of the elements; `None` for what has no twin here.
    pub(crate) dtype: Option<DType>,
    /// Whether the elements lie one after the other, row by row, each where its type wants it, in this machine's order
    /// of bytes.
    pub(crate) is_plain: bool,
    /// Whether they may be written.
    pub(crate) is_writable: bool,
}

/// Whether it is an array.
pub(crate) fn is_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.is_instance(numpy(object.py())?.ndarray.bind(object.py()))
}

/// Reads an array, for which [`is_array`] holds. The pointer is good as long as the array lives and nobody resizes it.
pub(crate) fn read(array: &Bound<'_, PyAny>) -> PyResult<Array> {
    assert!(is_array(array)?, "bug: it was to be looked at whether it is an array");
    // SAFETY: it is an instance of numpy.ndarray, whose objects begin with these fields; `check_layout` has seen that.
    // Its description lives as long as the array.
    let (fields, descr) = unsafe {
        let fields = &*array.as_ptr().cast::<Fields>();
        (fields, &*fields.descr)
    };
    let axes = usize::try_from(fields.axes).unwrap_or(0);
    let dims = match axes {
        0 => Vec::new(),
        // SAFETY: an array has a size for each axis.
        _ => unsafe { slice::from_raw_parts(fields.sizes, axes) }.iter().map(|&size| size as i64).collect(),
    };
    let dtype = match built_in(descr.number) {
        None => {
            let name: String = array.getattr("dtype")?.getattr("name")?.extract()?;
            numpy::named(&name)
        }
        known => known,
    };
    let swapped = if cfg!(target_endian = "little") { b'>' } else { b'<' };
    let is_plain = fields.flags & (C_CONTIGUOUS | ALIGNED) == C_CONTIGUOUS | ALIGNED
        && descr.byte_order as u8 != swapped;
    Ok(Array { data: fields.data, dims, dtype, is_plain, is_writable: fields.flags & WRITEABLE != 0 })
}

/// The type with this number among `NPY_TYPES`.
fn built_in(number: c_int) -> Option<DType> {
    let (long, unsigned_long) = match size_of::<c_long>() {
        8 => (DType::I64, DType::U64),
        _ => (DType::I32, DType::U32),
    };
    Some(match number {
        0 => DType::Bool,
        1 => DType::I8,
        2 => DType::U8,
        3 => DType::I16,
        4 => DType::U16,
        5 => DType::I32,
        6 => DType::U32,
        7 => long,
        8 => unsigned_long,
        9 => DType::I64,
        10 => DType::U64,
        11 => DType::F32,
        12 => DType::F64,
        23 => DType::F16,
        _ => return None,
    })
}

/// Compares what is read of an array with what its attributes say.
///
/// # Errors
/// This NumPy has arrays of another layout.
pub(crate) fn check_layout(py: Python<'_>) -> PyResult<()> {
    let array = numpy(py)?.empty.bind(py).call1(((2, 3), "float32"))?;
    let start: usize = array.getattr("ctypes")?.getattr("data")?.extract()?;
    let Array { data, dims, dtype, is_plain, is_writable } = read(&array)?;
    let turned = read(&array.getattr("T")?)?;
    let is_known = data.addr() == start
        && (dims.as_slice(), turned.dims.as_slice()) == (&[2, 3][..], &[3, 2][..])
        && dtype == Some(DType::F32)
        && (is_plain, is_writable, turned.is_plain) == (true, true, false);
    if is_known { Ok(()) } else { Err(PyImportError::new_err("this NumPy has arrays of an unknown layout")) }
}

/// Whether all of so many bytes lie between two of them, both included.
pub(crate) fn all_within(start: *const u8, bytes: usize, low: i8, high: i8) -> bool {
    if bytes == 0 {
        return true;
    }
    // SAFETY: callers have the elements of a tensor that somebody keeps.
    let bytes = unsafe { slice::from_raw_parts(start.cast::<i8>(), bytes) };
    bytes.iter().all(|byte| (low..=high).contains(byte))
}
