//! Tensors on their way in and out: what Python gives, as the model wants it.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};
use runtime::{AlignedBytes, DType, RunError};

use crate::array::{self, Array};
use crate::numpy::{self, numpy};
use crate::{dlpack, error};

/// An input or an output of a model.
pub(crate) struct Port {
    /// Its name.
    pub(crate) name: Py<PyString>,
    /// The name in Rust.
    pub(crate) text: String,
    /// Type of the elements.
    pub(crate) dtype: DType,
    /// Sizes as the model says them: numbers and expressions.
    pub(crate) shape: Vec<Result<i64, String>>,
    /// NumPy's object for the type, once it was asked for.
    numpy: PyOnceLock<Py<PyAny>>,
}

impl Port {
    pub(crate) fn new(py: Python<'_>, port: &runtime::plan::Port, symbols: &[String]) -> Port {
        let size = |size: &runtime::Size| {
            let text = size.print(symbols);
            text.parse::<i64>().map_err(|_| text)
        };
        Port {
            name: PyString::intern(py, &port.name).unbind(),
            text: port.name.clone(),
            dtype: port.dtype,
            shape: port.dims.iter().map(size).collect(),
            numpy: PyOnceLock::new(),
        }
    }

    /// NumPy's object for the type.
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let found = self.numpy.get_or_try_init(py, || numpy::dtype(py, self.dtype).map(Bound::unbind))?;
        Ok(found.bind(py))
    }
}

/// A tensor that a run reads.
pub(crate) struct Input {
    /// The first element.
    pub(crate) data: *const u8,
    /// Sizes.
    pub(crate) dims: Vec<i64>,
    /// Bytes of all elements.
    pub(crate) bytes: usize,
    _owner: Owner,
}

/// What keeps the elements where they are. None of it is looked at again.
enum Owner {
    Object { _object: Py<PyAny> },
    Copy { _bytes: AlignedBytes },
}

impl Input {
    /// What `object` holds, as an input of that kind: in place, or as a copy where its layout does not allow that.
    pub(crate) fn new(object: &Bound<'_, PyAny>, port: &Port) -> PyResult<Input> {
        let py = object.py();
        if array::is_array(object)? {
            return of_array(object, port);
        }
        if object.hasattr("__dlpack__")? {
            return of_dlpack(object, port);
        }
        // Numbers and lists have no type, so that they may become what is wanted; all else has one.
        let array = numpy(py)?.asarray.bind(py).call1((object,));
        let array = array.map_err(|error| no_tensor(py, port, &error.value(py).to_string()))?;
        if object.hasattr("__array__")? || array::read(&array)?.dtype.is_none() {
            return of_array(&array, port);
        }
        let (wanted, rule) = (port.numpy(py)?, PyDict::new(py));
        rule.set_item("casting", "same_kind")?;
        match array.call_method("astype", (wanted,), Some(&rule)) {
            Ok(array) => of_array(&array, port),
            Err(_) => of_array(&array, port),
        }
    }

    fn checked(self, py: Python<'_>, port: &Port) -> PyResult<Input> {
        let (low, high) = match port.dtype {
            DType::Bool | DType::I4 | DType::U4 | DType::I2 | DType::U2 | DType::F4E2M1 => limits(port.dtype),
            _ => return Ok(self),
        };
        match array::all_within(self.data, self.bytes, low, high) {
            true => Ok(self),
            false => {
                let message = format!("input `{}` holds a byte that is no {}", port.text, port.dtype.name());
                Err(error::input(py, "egraft::python::tensor", &message))
            }
        }
    }
}

/// The least and the largest byte that is an element.
fn limits(dtype: DType) -> (i8, i8) {
    match dtype {
        DType::I4 => (-8, 7),
        DType::I2 => (-2, 1),
        DType::U2 => (0, 3),
        DType::Bool => (0, 1),
        _ => (0, 15),
    }
}

fn of_array(object: &Bound<'_, PyAny>, port: &Port) -> PyResult<Input> {
    let py = object.py();
    let found = array::read(object)?;
    let Some(dtype) = found.dtype else {
        let name = object.getattr("dtype")?.str()?;
        return Err(no_tensor(py, port, &format!("its elements are {name}")));
    };
    check_type(py, port, dtype)?;
    if found.is_plain {
        return Input::of(found, object.clone().unbind(), dtype).checked(py, port);
    }
    let copy = numpy(py)?.require.bind(py).call1((object, port.numpy(py)?, "CA"))?;
    Input::of(array::read(&copy)?, copy.unbind(), dtype).checked(py, port)
}

impl Input {
    fn of(found: Array, object: Py<PyAny>, dtype: DType) -> Input {
        let bytes = bytes(&found.dims, dtype);
        Input { data: found.data, dims: found.dims, bytes, _owner: Owner::Object { _object: object } }
    }
}

fn of_dlpack(object: &Bound<'_, PyAny>, port: &Port) -> PyResult<Input> {
    let py = object.py();
    if !dlpack::is_in_reach(object)? {
        return Err(no_tensor(py, port, "it is not in the memory of the processor"));
    }
    // PyTorch refuses tensors that gradients are asked of, for one; its reason says what to do.
    let shown = dlpack::shown(object)?;
    let Some((shown, dtype)) = shown.and_then(|shown| shown.dtype.map(|dtype| (shown, dtype))) else {
        return Err(no_tensor(py, port, "its elements have no twin here"));
    };
    check_type(py, port, dtype)?;
    let bytes = bytes(&shown.dims, dtype);
    if shown.is_plain(dtype) {
        let owner = Owner::Object { _object: shown.capsule.into_any().unbind() };
        return Input { data: shown.data, dims: shown.dims, bytes, _owner: owner }.checked(py, port);
    }
    let copy = AlignedBytes::copy_of(&shown.copy(dtype), "an input");
    let copy = copy.map_err(|memory| error::of_run(py, memory.into()))?;
    Input { data: copy.as_ptr(), dims: shown.dims, bytes, _owner: Owner::Copy { _bytes: copy } }
        .checked(py, port)
}

fn check_type(py: Python<'_>, port: &Port, found: DType) -> PyResult<()> {
    if found == port.dtype {
        return Ok(());
    }
    Err(error::of_run(py, RunError::DType { input: port.text.clone(), expected: port.dtype, found }))
}

fn no_tensor(py: Python<'_>, port: &Port, why: &str) -> PyErr {
    let message = format!("input `{}` is no tensor of {}: {why}", port.text, port.dtype.name());
    error::input(py, "egraft::python::tensor", &message)
}

/// Bytes of a tensor that exists.
fn bytes(dims: &[i64], dtype: DType) -> usize {
    dims.iter().map(|&size| usize::try_from(size).unwrap_or(0)).product::<usize>() * dtype.bytes()
}

/// A tensor that a run writes.
pub(crate) struct Output<'py> {
    /// The array.
    pub(crate) array: Bound<'py, PyAny>,
    /// Its first element.
    pub(crate) data: *mut u8,
    /// Bytes of all elements.
    pub(crate) bytes: usize,
}

impl<'py> Output<'py> {
    /// A new array.
    pub(crate) fn new(py: Python<'py>, port: &Port, dims: &[i64]) -> PyResult<Output<'py>> {
        let shape = PyTuple::new(py, dims)?;
        let array = numpy(py)?.empty.bind(py).call1((shape, port.numpy(py)?))?;
        let data = array::read(&array)?.data;
        Ok(Output { array, data, bytes: bytes(dims, port.dtype) })
    }

    /// An array of the caller's.
    pub(crate) fn given(array: &Bound<'py, PyAny>, port: &Port, dims: &[i64]) -> PyResult<Output<'py>> {
        let py = array.py();
        let wrong = |why: &str| {
            let message = format!(
                "the array for output `{}` is {why}; {} of shape {dims:?} is written",
                port.text,
                numpy::name(port.dtype)
            );
            error::input(py, "egraft::python::output", &message)
        };
        if !array::is_array(array)? {
            return Err(wrong("no NumPy array"));
        }
        let found = array::read(array)?;
        if found.dtype != Some(port.dtype) {
            return Err(wrong(&format!("of {}", array.getattr("dtype")?.str()?)));
        }
        if found.dims != dims {
            return Err(wrong(&format!("of shape {:?}", found.dims)));
        }
        match (found.is_plain, found.is_writable) {
            (false, _) => Err(wrong("not contiguous")),
            (_, false) => Err(wrong("read-only")),
            _ => Ok(Output { array: array.clone(), data: found.data, bytes: bytes(dims, port.dtype) }),
        }
    }

    /// Whether it has bytes in common with those.
    pub(crate) fn overlaps(&self, start: *const u8, bytes: usize) -> bool {
        let (ours, theirs) = (self.data.addr(), start.addr());
        self.bytes > 0 && bytes > 0 && ours < theirs + bytes && theirs < ours + self.bytes
    }
}
