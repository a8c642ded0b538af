//! Tensors of other libraries, as DLPack hands them over: those of PyTorch, say.

#![allow(unsafe_code, reason = "it reads the structures of another library")]

use std::ffi::{CStr, c_void};
use std::slice;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use runtime::DType;

/// `DLTensor`. A capsule called `dltensor` holds it as the first member of its structure.
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: [i32; 2],
    axes: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    sizes: *const i64,
    strides: *const i64,
    offset: u64,
}

const NAME: &CStr = c"dltensor";
const CPU: i32 = 1;
/// Memory of the host that a GPU reads, too.
const PINNED: [i32; 2] = [3, 11];

/// Where the elements of a tensor are.
pub(crate) struct Shown<'py> {
    /// The first element.
    pub(crate) data: *const u8,
    /// Sizes, outermost first.
    pub(crate) dims: Vec<i64>,
    /// Elements from one to the next along each axis.
    strides: Vec<i64>,
    /// Type of the elements; `None` for what has no twin here.
    pub(crate) dtype: Option<DType>,
    /// Keeps the memory.
    pub(crate) capsule: Bound<'py, PyCapsule>,
}

/// Whether a tensor says that the processor can read it.
pub(crate) fn is_in_reach(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (device, _): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
    Ok(device == CPU || PINNED.contains(&device))
}

/// The tensor that an object with `__dlpack__` shows; `None` if it shows something else.
///
/// # Errors
/// The object's own.
pub(crate) fn shown<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Shown<'py>>> {
    let Ok(capsule) = object.call_method0("__dlpack__")?.cast_into::<PyCapsule>() else { return Ok(None) };
    let Ok(pointer) = capsule.pointer_checked(Some(NAME)) else { return Ok(None) };
    // SAFETY: a capsule of this name leads to a `DLManagedTensor`, which begins with the tensor, and keeps it. Its owner
    // frees it if nobody has taken it over, which we do not.
    let tensor = unsafe { pointer.cast::<DlTensor>().as_ref() };
    let axes = usize::try_from(tensor.axes).unwrap_or(0);
    let list = |start: *const i64| match axes {
        0 => Vec::new(),
        // SAFETY: the tensor has one for each axis.
        _ => unsafe { slice::from_raw_parts(start, axes) }.to_vec(),
    };
    let dims = list(tensor.sizes);
    // Without strides it is row by row.
    let strides = if tensor.strides.is_null() { row_major(&dims) } else { list(tensor.strides) };
    let data = tensor.data.cast::<u8>().cast_const().wrapping_add(tensor.offset as usize);
    let dtype = dtype(tensor.code, tensor.bits, tensor.lanes);
    Ok(Some(Shown { data, dims, strides, dtype, capsule }))
}

impl Shown<'_> {
    /// Whether the elements lie one after the other, row by row, each where its type wants it.
    pub(crate) fn is_plain(&self, dtype: DType) -> bool {
        let expected = row_major(&self.dims);
        let mut axes = self.dims.iter().zip(self.strides.iter().zip(&expected));
        self.dims.contains(&0)
            || axes.all(|(size, (stride, expected))| *size == 1 || stride == expected)
                && self.data.addr().is_multiple_of(dtype.bytes())
    }

    /// The elements row by row.
    pub(crate) fn copy(&self, dtype: DType) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.copy_axis(0, self.data, dtype.bytes(), &mut bytes);
        bytes
    }

    fn copy_axis(&self, axis: usize, from: *const u8, width: usize, to: &mut Vec<u8>) {
        let Some(&size) = self.dims.get(axis) else {
            // SAFETY: sizes and strides lead to elements of the tensor, which the capsule keeps.
            to.extend_from_slice(unsafe { slice::from_raw_parts(from, width) });
            return;
        };
        let step = self.strides[axis] as isize * width as isize;
        for index in 0..size as isize {
            self.copy_axis(axis + 1, from.wrapping_offset(index * step), width, to);
        }
    }
}

fn row_major(dims: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// The type with these `DLDataTypeCode` and size.
fn dtype(code: u8, bits: u8, lanes: u16) -> Option<DType> {
    if lanes != 1 {
        return None;
    }
    Some(match (code, bits) {
        (0, 8) => DType::I8,
        (0, 16) => DType::I16,
        (0, 32) => DType::I32,
        (0, 64) => DType::I64,
        (1, 8) => DType::U8,
        (1, 16) => DType::U16,
        (1, 32) => DType::U32,
        (1, 64) => DType::U64,
        (2, 16) => DType::F16,
        (2, 32) => DType::F32,
        (2, 64) => DType::F64,
        (4, 16) => DType::Bf16,
        (6, 8) => DType::Bool,
        (10, 8) => DType::F8E4M3FN,
        (11, 8) => DType::F8E4M3FNUZ,
        (12, 8) => DType::F8E5M2,
        (13, 8) => DType::F8E5M2FNUZ,
        (14, 8) => DType::F8E8M0,
        _ => return None,
    })
}
