//! The C interface: functions named `egraft_*`, and the text of the header that declares them.
//!
//! In a library each function appears under the model's name (`mlp_session_run`): the code generator adds functions
//! that pass their arguments on to these. The header of that library comes from [`c_header`].
//!
//! Promises: a bad argument is a status and a message ([`egraft_last_error`]), never a crash, as long as
//! pointers are null or valid; no unwinding crosses the border. Deliberately absent: ownership of tensors
//! (buffers are the caller's, but for outputs as large as a run decides) and locks: a session belongs to
//! one thread at a time.

#![allow(clippy::missing_safety_doc, reason = "one contract holds for all functions; the header states it")]

use std::{
    cell::RefCell,
    ffi::{CStr, CString, c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr,
    sync::Arc,
};

use crate::{
    error::{LoadError, RunError},
    model::{CodeSource, Model},
    plan::{Entry, Port},
    services::ABI_VERSION,
};

mod header;
mod session;

pub use header::c_header;
pub use session::*;

/// What a function returns: 0, or the kind of the failure. The message says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A null pointer, an index out of range, a value without meaning.
    Argument = 1,
    /// The model cannot be loaded.
    Load = 2,
    /// The session cannot be bound or run with these tensors.
    Run = 3,
    /// A bug in the runtime.
    Internal = 4,
}

/// A model as C sees it, with its names as C strings.
pub struct CModel {
    model: Arc<Model>,
    entries: Vec<CEntry>,
}

struct CEntry {
    name: CString,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    states: Vec<CString>,
}

struct Failure(Status, String);

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        let help = error.help().map_or_else(String::new, |help| format!("; {help}"));
        Failure(Status::Load, format!("{error}{help} [{}]", error.code()))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure(Status::Run, format!("{} [{}]", error, error.code()))
    }
}

fn argument(why: impl Into<String>) -> Failure {
    Failure(Status::Argument, why.into())
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

fn remember(message: String) {
    // C could not see past a NUL.
    let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    // A thread that is ending has nowhere to keep it, and nobody to read it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = message);
}

/// Runs the body of a function; a failure or a panic becomes a status, and its message is remembered.
fn guarded(body: impl FnOnce() -> Result<(), Failure>) -> c_int {
    answer(Status::Internal as c_int, || body().map(|()| Status::Ok as c_int), |status| status as c_int)
}

/// As [`guarded`], for functions that return something else than a status.
fn answer<T>(otherwise: T, body: impl FnOnce() -> Result<T, Failure>, failed: impl FnOnce(Status) -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(Failure(status, message))) => {
            remember(message);
            failed(status)
        }
        Err(_) => {
            remember("bug: the runtime panicked".to_owned());
            otherwise
        }
    }
}

/// The value behind a pointer that C passes, or why there is none.
///
/// # Safety
/// `pointer` is null or valid.
unsafe fn given<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller vouches for pointers that are not null.
    unsafe { pointer.as_ref() }.ok_or_else(|| argument(format!("{what} is null")))
}

/// As [`given`], to be changed.
///
/// # Safety
/// `pointer` is null or valid, and not used by anyone else during the call.
unsafe fn given_mut<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller vouches for pointers that are not null.
    unsafe { pointer.as_mut() }.ok_or_else(|| argument(format!("{what} is null")))
}

/// `count` values behind a pointer, which may be null where there are none.
///
/// # Safety
/// `pointer` is null or leads to `count` values that stay for `'a`.
unsafe fn given_slice<'a, T>(pointer: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(argument(format!("{what} is null or not aligned")));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(argument(format!("{what} is longer than memory")));
    }
    // SAFETY: not null, aligned, no longer than memory; the caller vouches for the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

fn at<'a, T>(list: &'a [T], index: usize, what: &str) -> Result<&'a T, Failure> {
    list.get(index).ok_or_else(|| argument(format!("there is no {what} {index}; there are {}", list.len())))
}

impl CModel {
    pub(crate) fn new(model: Arc<Model>) -> CModel {
        let text = |name: &String| CString::new(name.as_str()).expect("validated: names hold no NUL");
        let ports = |ports: &[Port]| ports.iter().map(|port| text(&port.name)).collect();
        let entry = |entry: &Entry| CEntry {
            name: text(&entry.name),
            inputs: ports(&entry.inputs),
            outputs: ports(&entry.outputs),
            states: ports(&entry.states),
        };
        CModel { entries: model.plan().entries.iter().map(entry).collect(), model }
    }

    fn entry(&self, entry: usize) -> Result<&Entry, Failure> {
        at(&self.model.plan().entries, entry, "entry")
    }
}

/// Version of the interface that the library was built with.
#[unsafe(no_mangle)]
pub extern "C" fn egraft_abi_version() -> u32 {
    ABI_VERSION
}

/// The message of the last failing call in this thread; empty before the first. Valid until the next.
#[unsafe(no_mangle)]
pub extern "C" fn egraft_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Opens the model in `container`, `len` bytes aligned to 64 that stay as long as the program. With
/// `code`, its code is there, in executable memory; else in the container. `sidecar_dir` is the folder of
/// the weights file, or null for the working directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_model_open(
    container: *const u8,
    len: usize,
    code: *const u8,
    code_len: usize,
    sidecar_dir: *const c_char,
    out: *mut *mut CModel,
) -> c_int {
    guarded(|| {
        // SAFETY (all three): pointers are null or valid; the container is part of the program.
        let out = unsafe { given_mut(out, "`out`") }?;
        *out = ptr::null_mut();
        if container.is_null() {
            return Err(argument("`container` is null"));
        }
        // SAFETY: as above.
        let bytes: &'static [u8] = unsafe { given_slice(container, len, "`container`") }?;
        let code = match code.is_null() {
            true => CodeSource::Section,
            false => CodeSource::Program { start: code, len: code_len },
        };
        let folder = match sidecar_dir.is_null() {
            true => None,
            // SAFETY: a C string, not null.
            false => Some(unsafe { CStr::from_ptr(sidecar_dir) }),
        };
        let folder = folder.map(|folder| folder.to_str().map_err(|_| argument("`sidecar_dir` is not UTF-8")));
        let folder = folder.transpose()?.map(Path::new);
        let model = Model::from_program(bytes, code, folder)?;
        *out = Box::into_raw(Box::new(CModel::new(model)));
        Ok(())
    })
}

/// Gives the model back; its sessions keep what they need. Null is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_model_close(model: *mut CModel) {
    guarded(|| {
        if !model.is_null() {
            // SAFETY: `egraft_model_open` made it, and it is closed once.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

/// Number of entries; 0 for a null model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_entry_count(model: *const CModel) -> usize {
    // SAFETY: null or valid.
    answer(0, || unsafe { given(model, "`model`") }.map(|model| model.entries.len()), |_| 0)
}

/// Name of an entry, valid as long as the model is open; null where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_entry_name(model: *const CModel, entry: usize) -> *const c_char {
    let name = || {
        // SAFETY: null or valid.
        let model = unsafe { given(model, "`model`") }?;
        at(&model.entries, entry, "entry").map(|entry| entry.name.as_ptr())
    };
    answer(ptr::null(), name, |_| ptr::null())
}

/// The functions that ask about inputs and outputs: they differ in the list only.
macro_rules! port_functions {
    ($what:literal, $list:ident, $count:ident, $name:ident, $dtype:ident, $rank:ident) => {
        #[doc = concat!("Number of ", $what, "s of an entry; 0 where there is no such entry.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $count(model: *const CModel, entry: usize) -> usize {
            // SAFETY: null or valid.
            let count = || Ok(unsafe { given(model, "`model`") }?.entry(entry)?.$list.len());
            answer(0, count, |_| 0)
        }

        #[doc = concat!("Name of an ", $what, ", valid as long as the model is open; null where there is none.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(model: *const CModel, entry: usize, index: usize) -> *const c_char {
            let name = || {
                // SAFETY: null or valid.
                let model = unsafe { given(model, "`model`") }?;
                let entry = at(&model.entries, entry, "entry")?;
                at(&entry.$list, index, $what).map(|name| name.as_ptr())
            };
            answer(ptr::null(), name, |_| ptr::null())
        }

        #[doc = concat!("Element type of an ", $what, "; 0 where there is none.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $dtype(model: *const CModel, entry: usize, index: usize) -> c_int {
            let dtype = || {
                // SAFETY: null or valid.
                let entry = unsafe { given(model, "`model`") }?.entry(entry)?;
                at(&entry.$list, index, $what).map(|port| c_int::from(port.dtype.code()))
            };
            answer(0, dtype, |_| 0)
        }

        #[doc = concat!("Number of axes of an ", $what, "; 0 where there is none.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $rank(model: *const CModel, entry: usize, index: usize) -> usize {
            let rank = || {
                // SAFETY: null or valid.
                let entry = unsafe { given(model, "`model`") }?.entry(entry)?;
                at(&entry.$list, index, $what).map(|port| port.dims.len())
            };
            answer(0, rank, |_| 0)
        }
    };
}

port_functions!(
    "input",
    inputs,
    egraft_input_count,
    egraft_input_name,
    egraft_input_dtype,
    egraft_input_rank
);
port_functions!(
    "output",
    outputs,
    egraft_output_count,
    egraft_output_name,
    egraft_output_dtype,
    egraft_output_rank
);
port_functions!(
    "state",
    states,
    egraft_state_count,
    egraft_state_name,
    egraft_state_dtype,
    egraft_state_rank
);

/// Whether the sizes of an output are decided while the model runs; 0 where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_output_is_dynamic(model: *const CModel, entry: usize, index: usize) -> c_int {
    let dynamic = || {
        // SAFETY: null or valid.
        let entry = unsafe { given(model, "`model`") }?.entry(entry)?;
        at(&entry.outputs, index, "output").map(|_| c_int::from(entry.is_dynamic(index)))
    };
    answer(0, dynamic, |_| 0)
}
