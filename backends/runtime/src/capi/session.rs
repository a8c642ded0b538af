//! Sessions as C sees them: tensors are set, sizes bound, the model run.

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::Arc,
};

use super::{CModel, Failure, argument, at, given, given_mut, given_slice, guarded};
use crate::{error::RunError, plan::DType, pool::Pool, session::Session};

/// More threads than this are a mistake of the caller.
const MAX_THREADS: usize = 1024;

/// A session as C sees it, with the tensors that were set.
pub struct CSession {
    session: Session,
    inputs: Vec<Option<CInput>>,
    outputs: Vec<Option<COutput>>,
    /// Room for the sizes and pointers of one run.
    pointers: (Vec<*const u8>, Vec<*mut u8>),
    /// Whether the inputs have other sizes than the bound ones.
    stale: bool,
}

struct CInput {
    dims: Vec<i64>,
    data: *const u8,
}

#[derive(Clone, Copy)]
struct COutput {
    data: *mut u8,
    bytes: usize,
}

impl AsRef<[i64]> for CInput {
    fn as_ref(&self) -> &[i64] {
        &self.dims
    }
}

/// Makes a session of an entry with this many threads; 0 takes one per processor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_new(
    model: *mut CModel,
    entry: usize,
    threads: c_int,
    out: *mut *mut CSession,
) -> c_int {
    guarded(|| {
        // SAFETY: null or valid.
        let out = unsafe { given_mut(out, "`out`") }?;
        *out = ptr::null_mut();
        // SAFETY: null or valid.
        let model = unsafe { given(model.cast_const(), "`model`") }?;
        model.entry(entry)?;
        let threads = usize::try_from(threads).ok().filter(|threads| *threads <= MAX_THREADS);
        let threads = threads.ok_or_else(|| argument(format!("`threads` is not in 0..={MAX_THREADS}")))?;
        let session = Session::new(Arc::clone(&model.model), entry, Pool::new(threads))?;
        *out = Box::into_raw(Box::new(CSession::new(session)));
        Ok(())
    })
}

/// Makes a session of another entry that has the state and the threads of `session`, which it may outlive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_beside(
    session: *mut CSession,
    entry: usize,
    out: *mut *mut CSession,
) -> c_int {
    guarded(|| {
        // SAFETY (both): null or valid.
        let out = unsafe { given_mut(out, "`out`") }?;
        *out = ptr::null_mut();
        let session = unsafe { given(session.cast_const(), "`session`") }?;
        *out = Box::into_raw(Box::new(CSession::new(session.session.beside(entry)?)));
        Ok(())
    })
}

/// Ends a session. Null is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_free(session: *mut CSession) {
    guarded(|| {
        if !session.is_null() {
            // SAFETY: `egraft_session_new` made it, and it is freed once.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    });
}

/// Sets an input: `data` is read by each run, in place, until the input is set again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_set_input(
    session: *mut CSession,
    index: usize,
    dtype: c_int,
    rank: usize,
    dims: *const i64,
    data: *const c_void,
) -> c_int {
    guarded(|| {
        // SAFETY: null or valid, and used by one thread at a time.
        let session = unsafe { given_mut(session, "`session`") }?;
        let port = at(&session.session.entry().inputs, index, "input")?;
        let found = u8::try_from(dtype).ok().and_then(DType::from_code);
        let found = found.ok_or_else(|| argument(format!("{dtype} is no element type")))?;
        if found != port.dtype {
            return Err(RunError::DType { input: port.name.clone(), expected: port.dtype, found }.into());
        }
        if rank != port.dims.len() {
            let expected = port.dims.len();
            return Err(RunError::Rank { input: port.name.clone(), expected, found: rank }.into());
        }
        // SAFETY: null or `rank` values.
        let dims = unsafe { given_slice(dims, rank, "`dims`") }?;
        let data = data.cast();
        match &mut session.inputs[index] {
            Some(input) if input.dims == dims => input.data = data,
            input => {
                *input = Some(CInput { dims: dims.to_vec(), data });
                session.stale = true;
            }
        }
        Ok(())
    })
}

/// Fixes all sizes; every input must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_bind(session: *mut CSession) -> c_int {
    // SAFETY: null or valid, and used by one thread at a time.
    guarded(|| unsafe { given_mut(session, "`session`") }?.bind())
}

/// The sizes of an output of a bound session; if a run decides them, those of the last run. `rank` gets their
/// number; `dims` is filled if it has room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_output_shape(
    session: *mut CSession,
    index: usize,
    rank_capacity: usize,
    rank: *mut usize,
    dims: *mut i64,
) -> c_int {
    guarded(|| {
        // SAFETY: null or valid.
        let session = unsafe { given(session.cast_const(), "`session`") }?;
        let port = at(&session.session.entry().outputs, index, "output")?;
        // SAFETY: null or valid.
        *unsafe { given_mut(rank, "`rank`") }? = port.dims.len();
        session.require_fresh()?;
        let shape = session.session.output_shape(index)?;
        if shape.len() > rank_capacity {
            return Err(argument(format!(
                "output {index} has rank {}, room for {rank_capacity}",
                shape.len()
            )));
        }
        if !shape.is_empty() {
            if dims.is_null() {
                return Err(argument("`dims` is null"));
            }
            // SAFETY: not null, and the caller vouches for room for `rank_capacity` values.
            unsafe { ptr::copy_nonoverlapping(shape.as_ptr(), dims, shape.len()) };
        }
        Ok(())
    })
}

/// Sets an output: `data`, `bytes` long, is written by each run until the output is set again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_set_output(
    session: *mut CSession,
    index: usize,
    data: *mut c_void,
    bytes: usize,
) -> c_int {
    guarded(|| {
        // SAFETY: null or valid, and used by one thread at a time.
        let session = unsafe { given_mut(session, "`session`") }?;
        let port = at(&session.session.entry().outputs, index, "output")?;
        if session.session.entry().is_dynamic(index) {
            return Err(RunError::DynamicOutput { name: port.name.clone() }.into());
        }
        session.outputs[index] = Some(COutput { data: data.cast(), bytes });
        Ok(())
    })
}

/// The elements of an output whose sizes the last run has decided, aligned to 64 bytes, and how many bytes they
/// are. Valid until the next run, bind or change of sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_output_data(
    session: *mut CSession,
    index: usize,
    data: *mut *const c_void,
    bytes: *mut usize,
) -> c_int {
    guarded(|| {
        // SAFETY (all three): null or valid.
        let session = unsafe { given(session.cast_const(), "`session`") }?;
        let (data, bytes) = unsafe { (given_mut(data, "`data`")?, given_mut(bytes, "`bytes`")?) };
        (*data, *bytes) = (ptr::null(), 0);
        at(&session.outputs, index, "output")?;
        session.require_fresh()?;
        let found = session.session.output_data(index)?;
        (*data, *bytes) = (found.as_ptr().cast(), found.len());
        Ok(())
    })
}

/// Runs: binds if sizes changed, reads the inputs, writes the outputs. All must be set, but for outputs whose
/// sizes the run decides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_run(session: *mut CSession) -> c_int {
    guarded(|| {
        // SAFETY: null or valid, and used by one thread at a time.
        let session = unsafe { given_mut(session, "`session`") }?;
        session.bind()?;
        // SAFETY: the caller vouches for the tensors it has set; their sizes are checked.
        unsafe { session.run() }
    })
}

/// Makes the state kept between calls zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_reset_state(session: *mut CSession) -> c_int {
    guarded(|| {
        // SAFETY: null or valid, and used by one thread at a time.
        unsafe { given_mut(session, "`session`") }?.session.reset_state();
        Ok(())
    })
}

/// Bytes of a state; the session must be bound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_state_bytes(
    session: *mut CSession,
    index: usize,
    bytes: *mut usize,
) -> c_int {
    guarded(|| {
        // SAFETY (both): null or valid.
        let session = unsafe { given(session.cast_const(), "`session`") }?;
        *unsafe { given_mut(bytes, "`bytes`") }? = session.session.state_bytes(index)?;
        Ok(())
    })
}

/// Copies the elements of a state to `data`, which has room for `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_read_state(
    session: *mut CSession,
    index: usize,
    data: *mut c_void,
    bytes: usize,
) -> c_int {
    guarded(|| {
        // SAFETY: null or valid, and used by one thread at a time.
        let session = unsafe { given(session.cast_const(), "`session`") }?;
        if data.is_null() && bytes > 0 {
            return Err(argument("`data` is null"));
        }
        let mut state = vec![0; bytes];
        session.session.read_state(index, &mut state)?;
        // SAFETY: the caller vouches for room for `bytes`.
        unsafe { ptr::copy_nonoverlapping(state.as_ptr(), data.cast(), bytes) };
        Ok(())
    })
}

/// Gives a state the elements at `data`, `bytes` long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn egraft_session_write_state(
    session: *mut CSession,
    index: usize,
    data: *const c_void,
    bytes: usize,
) -> c_int {
    guarded(|| {
        // SAFETY: null or valid, and used by one thread at a time.
        let session = unsafe { given_mut(session, "`session`") }?;
        // SAFETY: null or `bytes` bytes.
        let data = unsafe { given_slice(data.cast::<u8>(), bytes, "`data`") }?;
        session.session.write_state(index, data)?;
        Ok(())
    })
}

impl CSession {
    fn new(session: Session) -> CSession {
        let (inputs, outputs) = (session.entry().inputs.len(), session.entry().outputs.len());
        CSession {
            session,
            inputs: (0..inputs).map(|_| None).collect(),
            outputs: vec![None; outputs],
            pointers: (Vec::with_capacity(inputs), Vec::with_capacity(outputs)),
            stale: true,
        }
    }

    /// The session is bound to the inputs that are set.
    fn require_fresh(&self) -> Result<(), Failure> {
        if self.stale { Err(RunError::Unbound.into()) } else { Ok(()) }
    }

    fn bind(&mut self) -> Result<(), Failure> {
        if !self.stale {
            return Ok(());
        }
        let missing = self.inputs.iter().position(Option::is_none);
        if let Some(index) = missing {
            let name = self.session.entry().inputs[index].name.clone();
            return Err(RunError::Missing { what: "input", name }.into());
        }
        let inputs: Vec<&CInput> = self.inputs.iter().flatten().collect();
        self.session.bind(&inputs)?;
        self.stale = false;
        Ok(())
    }

    /// # Safety
    /// The tensors that were set are as large as their sizes say, and as [`Session::run`] asks.
    unsafe fn run(&mut self) -> Result<(), Failure> {
        let (inputs, outputs) = &mut self.pointers;
        inputs.clear();
        inputs.extend(self.inputs.iter().flatten().map(|input| input.data));
        outputs.clear();
        for (index, output) in self.outputs.iter().enumerate() {
            if self.session.entry().is_dynamic(index) {
                outputs.push(ptr::null_mut());
                continue;
            }
            let name = || self.session.entry().outputs[index].name.clone();
            let Some(output) = output else {
                return Err(RunError::Missing { what: "output", name: name() }.into());
            };
            let (expected, found) = (self.session.output_bytes(index)?, output.bytes);
            if found < expected {
                return Err(RunError::Bytes { what: "output", name: name(), expected, found }.into());
            }
            outputs.push(output.data);
        }
        // SAFETY: as the caller vouches; outputs are large enough.
        Ok(unsafe { self.session.run(inputs, outputs) }?)
    }
}
