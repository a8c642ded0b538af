//! Sessions of one model, for several threads at once, and for processes that are forked.
//!
//! A run takes a session of its entry that nobody uses and gives it back; so there are as many as runs at the same time.
//! All share the threads, and the states if the model has some: then one runs while the others wait.
//!
//! A forked process has the memory of its parent, but none of its threads. What was made before the fork is left alone
//! there, neither used nor freed. The lock is only held with the GIL, which whoever forks holds: so it is free in the
//! new process, too.

#![allow(unsafe_code, reason = "running a model takes pointers")]

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use runtime::{Model, Pool, RunError, Session};

use crate::error;
use crate::tensor::{Input, Output, Port};

/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// This process was forked from another.
pub(crate) fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The sessions of a model.
pub(crate) struct Sessions {
    model: Arc<Model>,
    threads: usize,
    idle: Mutex<Idle>,
}

/// Those that nobody uses.
struct Idle {
    /// The process in which they were made.
    born: u32,
    /// The threads that all share; made by the first run.
    pool: Option<Arc<Pool>>,
    /// Never run itself: it has the states that the others share.
    first: Option<Session>,
    /// By entry.
    ready: BTreeMap<usize, Vec<Session>>,
}

impl Idle {
    fn new() -> Idle {
        Idle { born: FORKS.load(Ordering::Relaxed), pool: None, first: None, ready: BTreeMap::new() }
    }

    fn is_of_this_process(&self) -> bool {
        self.born == FORKS.load(Ordering::Relaxed)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        if !self.is_of_this_process() {
            // Ending threads that this process does not have would wait for ever.
            mem::forget((self.pool.take(), self.first.take(), mem::take(&mut self.ready)));
        }
    }
}

impl Sessions {
    pub(crate) fn new(model: Arc<Model>, threads: usize) -> Sessions {
        Sessions { model, threads, idle: Mutex::new(Idle::new()) }
    }

    /// The idle ones of this process. To be held only with the GIL.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !idle.is_of_this_process() {
            *idle = Idle::new();
        }
        idle
    }

    fn take(&self, _: Python<'_>, entry: usize) -> Result<Session, RunError> {
        let mut idle = self.idle();
        if let Some(session) = idle.ready.get_mut(&entry).and_then(Vec::pop) {
            return Ok(session);
        }
        let pool = Arc::clone(idle.pool.get_or_insert_with(|| Pool::new(self.threads)));
        if self.model.plan().entries[entry].states.is_empty() {
            return Session::new(Arc::clone(&self.model), entry, pool);
        }
        let first = match &idle.first {
            Some(first) => first,
            None => idle.first.insert(Session::new(Arc::clone(&self.model), entry, pool)?),
        };
        first.beside(entry)
    }

    fn give_back(&self, _: Python<'_>, entry: usize, session: Session) {
        self.idle().ready.entry(entry).or_default().push(session);
    }

    /// Makes the states zero.
    pub(crate) fn reset(&self, _: Python<'_>) {
        let mut idle = self.idle();
        if let Some(session) = &mut idle.first {
            session.reset_state();
        }
    }

    /// Runs an entry once. Outputs are new arrays, or those that are given.
    pub(crate) fn run<'py>(
        &self,
        py: Python<'py>,
        entry: usize,
        inputs: &[Input],
        ports: &[Port],
        given: &[Option<Bound<'py, PyAny>>],
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut session = self.take(py, entry).map_err(|error| error::of_run(py, error))?;
        let outputs = Run { py, inputs, ports, given }.with(&mut session);
        self.give_back(py, entry, session);
        outputs
    }
}

/// What a run reads and writes.
struct Run<'a, 'py> {
    py: Python<'py>,
    inputs: &'a [Input],
    ports: &'a [Port],
    given: &'a [Option<Bound<'py, PyAny>>],
}

/// Pointers that cross to where the GIL is free.
struct Pointers {
    inputs: Vec<*const u8>,
    outputs: Vec<*mut u8>,
}

// SAFETY: they lead to memory that `Run` keeps, and are used by one thread.
unsafe impl Send for Pointers {}

impl<'py> Run<'_, 'py> {
    fn with(&self, session: &mut Session) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let failed = |error| error::of_run(self.py, error);
        let dims: Vec<&[i64]> = self.inputs.iter().map(|input| input.dims.as_slice()).collect();
        session.bind(&dims).map_err(failed)?;
        let mut outputs: Vec<Option<Output<'py>>> = Vec::with_capacity(self.ports.len());
        for (index, port) in self.ports.iter().enumerate() {
            outputs.push(match session.entry().is_dynamic(index) {
                true => None,
                false => {
                    let dims = session.output_shape(index).map_err(failed)?;
                    Some(self.output(index, port, dims, &outputs)?)
                }
            });
        }
        let start = |output: &Option<Output<'_>>| match output {
            Some(output) => output.data,
            None => std::ptr::null_mut(),
        };
        let pointers = Pointers {
            inputs: self.inputs.iter().map(|input| input.data).collect(),
            outputs: outputs.iter().map(start).collect(),
        };
        let done = self.py.detach(|| {
            let pointers = pointers;
            // SAFETY: an input has the type, and by `bind` the sizes, of its port, and is kept by its owner; an output was
            // made, or found to be, as large as the session says; none overlaps another tensor. That nobody else writes
            // to arrays meanwhile is a rule of all that shares them.
            unsafe { session.run(&pointers.inputs, &pointers.outputs) }
        });
        done.map_err(failed)?;
        let mut arrays = Vec::with_capacity(outputs.len());
        for (index, (port, output)) in self.ports.iter().zip(outputs).enumerate() {
            arrays.push(match (output, &self.given[index]) {
                (None, given) => {
                    let dims = session.output_shape(index).map_err(failed)?;
                    let output = match given {
                        Some(array) => Output::given(array, port, dims)?,
                        None => Output::new(self.py, port, dims)?,
                    };
                    output.fill(session.output_data(index).map_err(failed)?);
                    output.array
                }
                // It would have overlapped.
                (Some(made), Some(given)) if !made.array.is(given) => {
                    crate::numpy::numpy(self.py)?.copyto.bind(self.py).call1((given, made.array))?;
                    given.clone()
                }
                (Some(made), _) => made.array,
            });
        }
        Ok(arrays)
    }

    /// The array that an output is written to: the one that was given, unless other tensors are in the same place.
    fn output(
        &self,
        index: usize,
        port: &Port,
        dims: &[i64],
        earlier: &[Option<Output<'py>>],
    ) -> PyResult<Output<'py>> {
        let Some(array) = &self.given[index] else { return Output::new(self.py, port, dims) };
        let output = Output::given(array, port, dims)?;
        let overlaps = self.inputs.iter().any(|input| output.overlaps(input.data, input.bytes))
            || earlier.iter().flatten().any(|other| output.overlaps(other.data, other.bytes));
        if overlaps { Output::new(self.py, port, dims) } else { Ok(output) }
    }
}

impl Output<'_> {
    /// Writes all its bytes.
    fn fill(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes, "bug: an output has other sizes than its array");
        // SAFETY: the array has so many bytes, and is new or the caller's to be written to.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data, bytes.len()) }
    }
}
