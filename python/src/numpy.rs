//! NumPy: the functions of it that we call, and its element types.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use runtime::DType;

use crate::error;

/// What we use of NumPy.
pub(crate) struct NumPy {
    /// The class of arrays.
    pub(crate) ndarray: Py<PyType>,
    /// Makes an array that holds anything.
    pub(crate) empty: Py<PyAny>,
    /// Makes an array of what can be one.
    pub(crate) asarray: Py<PyAny>,
    /// Copies an array to where its elements lie one after the other.
    pub(crate) require: Py<PyAny>,
    /// Copies elements.
    pub(crate) copyto: Py<PyAny>,
    dtype: Py<PyAny>,
}

/// NumPy, imported.
pub(crate) fn numpy(py: Python<'_>) -> PyResult<&NumPy> {
    static NUMPY: PyOnceLock<NumPy> = PyOnceLock::new();
    NUMPY.get_or_try_init(py, || {
        let numpy = py.import("numpy")?;
        let function = |name: &str| numpy.getattr(name).map(Bound::unbind);
        Ok(NumPy {
            ndarray: numpy.getattr("ndarray")?.cast_into::<PyType>()?.unbind(),
            empty: function("empty")?,
            asarray: function("asarray")?,
            require: function("require")?,
            copyto: function("copyto")?,
            dtype: function("dtype")?,
        })
    })
}

/// The name of a type in NumPy; of those that it lacks, in the package ml_dtypes.
pub(crate) fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::F16 => "float16",
        DType::Bf16 => "bfloat16",
        DType::I8 => "int8",
        DType::I16 => "int16",
        DType::I32 => "int32",
        DType::I64 => "int64",
        DType::U8 => "uint8",
        DType::U16 => "uint16",
        DType::U32 => "uint32",
        DType::U64 => "uint64",
        DType::Bool => "bool",
        DType::F8E4M3FN => "float8_e4m3fn",
        DType::F8E4M3FNUZ => "float8_e4m3fnuz",
        DType::F8E5M2 => "float8_e5m2",
        DType::F8E5M2FNUZ => "float8_e5m2fnuz",
        DType::F8E8M0 => "float8_e8m0fnu",
        DType::F4E2M1 => "float4_e2m1fn",
        DType::I4 => "int4",
        DType::U4 => "uint4",
        DType::I2 => "int2",
        DType::U2 => "uint2",
    }
}

/// The type of that name.
pub(crate) fn named(text: &str) -> Option<DType> {
    DType::ALL.iter().copied().find(|dtype| name(*dtype) == text)
}

/// NumPy's object for a type.
///
/// # Errors
/// It is in ml_dtypes, which is not installed.
pub(crate) fn dtype<'py>(py: Python<'py>, of: DType) -> PyResult<Bound<'py, PyAny>> {
    let numpy = numpy(py)?;
    let name = name(of);
    // NumPy knows the names of further types once the package is imported.
    if let Ok(found) = numpy.dtype.bind(py).call1((name,)) {
        return Ok(found);
    }
    let found = py.import("ml_dtypes").and_then(|types| numpy.dtype.bind(py).call1((types.getattr(name)?,)));
    found.map_err(|_| {
        let message =
            format!("NumPy has no type {name}, and the package ml_dtypes, which has it, is not there");
        error::unsupported(py, "egraft::python::type", &message)
    })
}
