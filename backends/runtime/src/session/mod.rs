//! A session: one entry of a model with its memory, its state and its arguments, ready to run.
//!
//! Promises
//! - `run` of a bound session allocates nothing, except growing memory that is too small;
//! - binding again with the same sizes does nothing, with others reuses the arena where it is large enough;
//!   so does a run whose values decide other sizes;
//! - state is zero at first and kept from run to run until it is reset;
//! - after a run that failed, the next one is as if it had not been; only state may be half changed.
//!
//! A session belongs to one thread at a time; several sessions of one model run at once. Deliberately
//! absent: batching, and any copy of inputs or outputs in [`Session::run`], but for those to a device and back.
//!
//! On a device, a run whose steps nothing on this side looks into is recorded when its sizes come for the second time,
//! and from then on repeated as a whole.

use std::sync::Arc;

use crate::{
    device::{Queue, Recording, Region},
    error::RunError,
    model::Model,
    plan::{Entry, Phase, Port, Space, Step},
    pool::Pool,
    services::Services,
};

mod exec;
mod memory;
mod profile;
mod state;
mod table;
mod tensors;

pub use profile::{Profile, Record};

use exec::Run;
use memory::{Memory, Output, Span};
use profile::Look;
use state::{State, lock};
use table::Table;

/// One entry of a model, ready to be bound and run.
pub struct Session {
    model: Arc<Model>,
    entry: usize,
    services: Services,
    device: Option<OnDevice>,
    /// Whether all below is right for `input_dims`.
    bound: bool,
    /// Whether arena and `steps` are right for the symbols in `layout`.
    laid_out: bool,
    /// Whether dynamic outputs hold what the last run gave.
    ran: bool,
    input_dims: Vec<Vec<i64>>,
    layout: Vec<i64>,
    memory: Memory,
    host: Table,
    steps: Table,
    /// Room for the longest [`Step::Set`].
    values: Vec<i64>,
}

/// What a session on a device has.
struct OnDevice {
    queue: Arc<dyn Queue>,
    /// Whether its steps can be repeated as a whole.
    repeats: bool,
    /// Runs since memory was laid out.
    runs: usize,
    recorded: Option<Recorded>,
}

/// The steps of a run.
struct Recorded {
    recording: Box<dyn Recording>,
    /// The symbols after it.
    symbols: Vec<i64>,
}

/// Whether the steps of an entry are the same calls and copies at the same sizes: nothing is decided by what they
/// compute, and no memory moves.
fn repeats(entry: &Entry) -> bool {
    let mut same = entry.buffers.iter().all(|buffer| !matches!(buffer.space, Space::Grow(_)))
        && (0..entry.outputs.len()).all(|output| !entry.is_dynamic(output));
    for step in &entry.steps {
        step.each(&mut |step| {
            same &= matches!(
                step,
                Step::Call(_)
                    | Step::Set(_)
                    | Step::Require { .. }
                    | Step::Copy { .. }
                    | Step::Loop { cond: None, .. }
            );
        });
    }
    same
}

// SAFETY: the pointers lead into the session's own memory and the model's, or are set by each run.
unsafe impl Send for Session {}

impl Session {
    /// A session of the entry with this number, whose loops run on `pool`.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn new(model: Arc<Model>, entry: usize, pool: Arc<Pool>) -> Result<Session, RunError> {
        let queue = model.device().map(|device| device.queue()).transpose()?;
        let state = State::new(queue.as_ref());
        Session::with(model, entry, Services::new(pool), state, queue)
    }

    /// A session of another entry of the same model that goes on from this one: both have one state, and the same
    /// threads. While one of them runs, the other waits.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn beside(&self, entry: usize) -> Result<Session, RunError> {
        let (model, services) = (Arc::clone(&self.model), self.services.clone());
        let queue = model.device().map(|device| device.queue()).transpose()?;
        Session::with(model, entry, services, self.memory.state.shared(), queue)
    }

    fn with(
        model: Arc<Model>,
        entry: usize,
        services: Services,
        state: State,
        queue: Option<Arc<dyn Queue>>,
    ) -> Result<Session, RunError> {
        let entries = &model.plan().entries;
        let count = entries.len();
        let plan = entries.get(entry).ok_or(RunError::Entry { index: entry, count })?;
        let mut longest = 0;
        for step in plan.host.iter().chain(&plan.steps) {
            step.each(&mut |step| {
                if let Step::Set(values) = step {
                    longest = longest.max(values.len());
                }
            });
        }
        Ok(Session {
            memory: Memory::new(&model, plan, state, queue.as_ref()),
            device: queue.map(|queue| {
                // Guards are looked at after each call.
                let repeats = queue.guards().is_none() && repeats(plan);
                OnDevice { queue, repeats, runs: 0, recorded: None }
            }),
            layout: Vec::with_capacity(plan.symbols.len()),
            model,
            entry,
            services,
            bound: false,
            laid_out: false,
            ran: false,
            input_dims: Vec::new(),
            host: Table::default(),
            steps: Table::default(),
            values: Vec::with_capacity(longest),
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The entry: names, types and symbolic sizes of inputs and outputs.
    pub fn entry(&self) -> &Entry {
        &self.model.plan().entries[self.entry]
    }

    /// Fixes the sizes of the inputs, in their order; lays out the arena and the arguments of every step,
    /// as far as they do not depend on what the model decides when it runs.
    ///
    /// # Errors
    /// The sizes contradict the model or each other, are too large, or there is not enough memory. The
    /// session is then unbound.
    pub fn bind<D: AsRef<[i64]>>(&mut self, dims: &[D]) -> Result<(), RunError> {
        if self.bound && dims.len() == self.input_dims.len() {
            let mut both = dims.iter().zip(&self.input_dims);
            if both.all(|(new, old)| new.as_ref() == old.as_slice()) {
                return Ok(());
            }
        }
        (self.bound, self.laid_out, self.ran) = (false, false, false);
        self.forget();
        crate::gemm::scratch::reserve();
        let dims: Vec<&[i64]> = dims.iter().map(AsRef::as_ref).collect();
        let entry = &self.model.plan().entries[self.entry];
        self.memory.bind(entry, &dims)?;
        self.host.resolve(&self.model, entry, &entry.host, &self.memory, (Phase::Bind, 0))?;
        if entry.host.is_empty() {
            self.lay_out()?;
        }
        self.input_dims = dims.iter().map(|dims| dims.to_vec()).collect();
        self.bound = true;
        Ok(())
    }

    /// Lays out the arena and the arguments of `steps` for the symbols as they are.
    fn lay_out(&mut self) -> Result<(), RunError> {
        self.laid_out = false;
        self.forget();
        let entry = &self.model.plan().entries[self.entry];
        self.memory.lay_out(entry)?;
        self.steps.resolve(&self.model, entry, &entry.steps, &self.memory, (Phase::Host, self.host.calls))?;
        self.layout.clear();
        self.layout.extend_from_slice(&self.memory.symbols);
        self.laid_out = true;
        Ok(())
    }

    /// Whether the sizes of the inputs are fixed.
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// The sizes of an output of a bound session. If they are decided while the model runs: those of the
    /// last run.
    ///
    /// # Errors
    /// The session is not bound, has not run, or there is no such output.
    pub fn output_shape(&self, index: usize) -> Result<&[i64], RunError> {
        self.output(index).map(|output| output.dims.as_slice())
    }

    /// Bytes of an output of a bound session.
    ///
    /// # Errors
    /// As [`Session::output_shape`].
    pub fn output_bytes(&self, index: usize) -> Result<usize, RunError> {
        self.output(index).map(|output| output.bytes)
    }

    /// The elements of an output whose sizes are decided while the model runs, row-major, aligned to 64
    /// bytes: what the last run gave, until the next run or bind.
    ///
    /// # Errors
    /// As [`Session::output_shape`]; and the output is one of the others, which the caller has.
    pub fn output_data(&self, index: usize) -> Result<&[u8], RunError> {
        let output = self.output(index)?;
        if !output.dynamic {
            return Err(RunError::FixedOutput { name: self.entry().outputs[index].name.clone() });
        }
        Ok(output.data())
    }

    fn output(&self, index: usize) -> Result<&Output, RunError> {
        self.require_bound()?;
        let outputs = &self.memory.outputs;
        let (expected, found) = (outputs.len(), index.saturating_add(1));
        let output = outputs.get(index).ok_or(RunError::Count { what: "outputs", expected, found })?;
        if output.dynamic && !self.ran {
            return Err(RunError::NotRun { name: self.entry().outputs[index].name.clone() });
        }
        Ok(output)
    }

    /// Bytes of an input of a bound session.
    ///
    /// # Errors
    /// The session is not bound, or there is no such input.
    pub fn input_bytes(&self, index: usize) -> Result<usize, RunError> {
        self.require_bound()?;
        let inputs = &self.memory.inputs;
        let (expected, found) = (inputs.len(), index.saturating_add(1));
        let input = inputs.get(index).ok_or(RunError::Count { what: "inputs", expected, found })?;
        Ok(input.room)
    }

    /// The value of a size by its name, as binding and the last run left it. `None` for a name that there is not.
    pub fn size(&self, name: &str) -> Option<i64> {
        let symbol = self.entry().symbols.iter().position(|known| known == name)?;
        Some(self.memory.symbols[symbol])
    }

    /// Bytes of the session's memory as it is now: arena, state, and what has grown.
    pub fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }

    fn require_bound(&self) -> Result<(), RunError> {
        if self.bound { Ok(()) } else { Err(RunError::Unbound) }
    }

    /// Runs the bound session: reads `inputs`, writes `outputs`, in the order of the entry, in place.
    /// Pointers of tensors without elements may be null; those of outputs whose sizes are decided while
    /// the model runs ([`Entry::is_dynamic`]) must be: [`Session::output_data`] has them afterwards.
    /// Allocates nothing, except growing memory that is too small.
    ///
    /// # Errors
    /// The session is not bound; pointers are missing, null or not aligned to their element. Nothing is
    /// read or written then. Or sizes that are decided while the model runs are wrong, or too large for the
    /// memory there is; outputs may be written in part then.
    ///
    /// # Safety
    /// Each pointer that is not null leads to the [`Session::input_bytes`] or [`Session::output_bytes`] of
    /// its tensor; inputs are initialised, a `bool` is 0 or 1; no output overlaps another tensor; nobody
    /// else writes any of it, or reads an output, during the call.
    pub unsafe fn run(&mut self, inputs: &[*const u8], outputs: &[*mut u8]) -> Result<(), RunError> {
        // SAFETY: as the caller vouches.
        unsafe { self.run_seen(inputs, outputs, &mut ()) }
    }

    /// [`Session::run`], which also records when each kernel was called and when it returned. Calls that `profile`
    /// has no room for are counted only: nothing is allocated for them.
    ///
    /// # Errors
    /// As [`Session::run`].
    ///
    /// # Safety
    /// As [`Session::run`].
    pub unsafe fn run_profiled(
        &mut self,
        inputs: &[*const u8],
        outputs: &[*mut u8],
        profile: &mut Profile,
    ) -> Result<(), RunError> {
        // SAFETY: as the caller vouches.
        unsafe { self.run_seen(inputs, outputs, profile) }
    }

    /// # Safety
    /// As [`Session::run`].
    unsafe fn run_seen<L: Look>(
        &mut self,
        inputs: &[*const u8],
        outputs: &[*mut u8],
        look: &mut L,
    ) -> Result<(), RunError> {
        look.begin();
        self.require_bound()?;
        self.see_state()?;
        self.set_pointers(inputs, outputs)?;
        self.ran = false;
        let state = self.memory.state.handle();
        let mut state = lock(&state);
        if !self.memory.state.is_current(&state) {
            // Another thread was faster: both have inputs of other sizes.
            return Err(RunError::State);
        }
        state.begin();
        // SAFETY: as the caller vouches.
        unsafe { self.memory.upload() }?;
        let known = self.entry().input_symbols().len();
        self.memory.symbols[known..].fill(0);
        if !self.entry().host.is_empty() {
            // SAFETY: as the caller vouches.
            unsafe { self.run_steps(Phase::Host, look) }?;
            if !self.laid_out || self.layout != self.memory.symbols {
                self.lay_out()?;
            }
        }
        // SAFETY: as the caller vouches.
        unsafe { self.run_or_repeat(look) }?;
        self.memory.finish_outputs(&self.model.plan().entries[self.entry])?;
        // SAFETY: as the caller vouches.
        unsafe { self.memory.download() }?;
        self.ran = true;
        Ok(look.end()?)
    }

    /// Runs `steps`; on a device, repeats them as they were recorded, if nothing has changed since.
    ///
    /// # Safety
    /// As [`Session::run`], whose pointers are set.
    unsafe fn run_or_repeat<L: Look>(&mut self, look: &mut L) -> Result<(), RunError> {
        let Some(device) = self.device.as_mut().filter(|device| device.repeats && !L::LOOKS) else {
            // SAFETY: as the caller vouches.
            return unsafe { self.run_steps(Phase::Steps, look) };
        };
        device.runs += 1;
        if device.runs == 1 {
            // Most sizes come once; and what a device prepares at first use is no part of a recording.
            // SAFETY: as the caller vouches.
            return unsafe { self.run_steps(Phase::Steps, look) };
        }
        if device.recorded.is_none() {
            let queue = Arc::clone(&device.queue);
            queue.begin_recording()?;
            // SAFETY: as the caller vouches.
            let noted = unsafe { self.run_steps(Phase::Steps, look) };
            let recording = queue.end_recording();
            noted?;
            let symbols = self.memory.symbols.clone();
            if let Some(device) = &mut self.device {
                device.recorded = Some(Recorded { recording: recording?, symbols });
            }
        }
        if let Some(Recorded { recording, symbols }) =
            self.device.as_ref().and_then(|device| device.recorded.as_ref())
        {
            self.memory.symbols.clone_from(symbols);
            // SAFETY: memory stays where it is until `forget` is called.
            unsafe { recording.replay() }?;
        }
        Ok(())
    }

    /// Memory may move: what was recorded is of no use any more.
    fn forget(&mut self) {
        if let Some(device) = &mut self.device {
            (device.runs, device.recorded) = (0, None);
        }
    }

    /// Binds again if another session has made the state anew since.
    fn see_state(&mut self) -> Result<(), RunError> {
        let state = self.memory.state.handle();
        if self.memory.state.is_current(&lock(&state)) {
            return Ok(());
        }
        self.bound = false;
        let dims = std::mem::take(&mut self.input_dims);
        self.bind(&dims)
    }

    /// Runs `host` or `steps`.
    ///
    /// # Safety
    /// As [`Session::run`], whose pointers are set.
    unsafe fn run_steps<L: Look>(&mut self, phase: Phase, look: &mut L) -> Result<(), RunError> {
        let entry = &self.model.plan().entries[self.entry];
        let (steps, table) = match phase {
            Phase::Host => (&entry.host, &mut self.host),
            Phase::Bind | Phase::Steps => (&entry.steps, &mut self.steps),
        };
        let (model, services) = (&*self.model, &self.services);
        let queue = self.device.as_ref().map(|device| &device.queue);
        let (memory, values) = (&mut self.memory, &mut self.values);
        // SAFETY: as the caller vouches.
        unsafe { Run { model, entry, services, queue, memory, table, values, look }.all(steps) }
    }

    /// Checks the pointers of a run and keeps them for it.
    fn set_pointers(&mut self, inputs: &[*const u8], outputs: &[*mut u8]) -> Result<(), RunError> {
        let entry = &self.model.plan().entries[self.entry];
        let memory = &mut self.memory;
        let count = |what, expected: usize, found: usize| match expected == found {
            true => Ok(()),
            false => Err(RunError::Count { what, expected, found }),
        };
        count("inputs", memory.inputs.len(), inputs.len())?;
        count("outputs", memory.outputs.len(), outputs.len())?;
        for ((port, input), pointer) in entry.inputs.iter().zip(&mut memory.inputs).zip(inputs) {
            // Kernels read inputs through it and never write.
            *input = given("input", port, input.room, pointer.cast_mut())?;
        }
        for ((port, output), pointer) in entry.outputs.iter().zip(&mut memory.outputs).zip(outputs) {
            if !output.dynamic {
                output.given = given("output", port, output.bytes, *pointer)?;
            } else if !pointer.is_null() {
                return Err(RunError::DynamicOutput { name: port.name.clone() });
            }
        }
        Ok(())
    }

    /// Bytes of a state of a bound session, by its position in [`Entry::states`].
    ///
    /// # Errors
    /// The session is not bound, or there is no such state.
    pub fn state_bytes(&self, index: usize) -> Result<usize, RunError> {
        self.state_place(index).map(|(_, bytes)| bytes)
    }

    /// The sizes of a state of a bound session.
    ///
    /// # Errors
    /// As [`Session::state_bytes`].
    pub fn state_shape(&self, index: usize) -> Result<Vec<i64>, RunError> {
        self.state_place(index)?;
        let (entry, mut shape) = (self.entry(), Vec::new());
        crate::bind::dims(entry, &entry.states[index], &self.memory.symbols, &mut shape)?;
        Ok(shape)
    }

    /// The elements of a state, row-major: to go on from them another time.
    ///
    /// # Errors
    /// As [`Session::state_bytes`]; `to` has another length.
    pub fn read_state(&self, index: usize, to: &mut [u8]) -> Result<(), RunError> {
        self.with_state(index, to.len(), |state, offset| state.read(offset, to))
    }

    /// Gives a state these elements, row-major.
    ///
    /// # Errors
    /// As [`Session::read_state`].
    pub fn write_state(&mut self, index: usize, from: &[u8]) -> Result<(), RunError> {
        self.with_state(index, from.len(), |state, offset| state.write(offset, from))
    }

    fn state_place(&self, index: usize) -> Result<(usize, usize), RunError> {
        self.require_bound()?;
        let states = &self.entry().states;
        let (expected, found) = (states.len(), index.saturating_add(1));
        states.get(index).ok_or(RunError::Count { what: "states", expected, found })?;
        Ok(self.memory.place_of_state(self.entry(), index))
    }

    fn with_state(
        &self,
        index: usize,
        found: usize,
        with: impl FnOnce(&mut Region, usize) -> Result<Option<()>, RunError>,
    ) -> Result<(), RunError> {
        let (offset, expected) = self.state_place(index)?;
        let wrong = || {
            let name = self.entry().states[index].name.clone();
            RunError::Bytes { what: "state", name, expected, found }
        };
        let state = self.memory.state.handle();
        let mut state = lock(&state);
        if !self.memory.state.is_current(&state) {
            return Err(RunError::Unbound);
        }
        if expected != found {
            return Err(wrong());
        }
        state.begin();
        with(state.memory(), offset)?.ok_or_else(wrong)
    }

    /// Makes the state zero, as in a new session.
    pub fn reset_state(&mut self) {
        self.memory.state.reset();
    }
}

/// What the caller gives for a port.
fn given(what: &'static str, port: &Port, bytes: usize, start: *mut u8) -> Result<Span, RunError> {
    if bytes == 0 {
        return Ok(Span::without_pointer(0));
    }
    if start.is_null() {
        return Err(RunError::Null { what, name: port.name.clone() });
    }
    let align = port.dtype.bytes();
    if !start.addr().is_multiple_of(align) {
        return Err(RunError::Misaligned { what, name: port.name.clone(), align });
    }
    Ok(Span { start, room: bytes })
}
