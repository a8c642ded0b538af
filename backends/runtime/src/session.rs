//! A session: one entry of a model with its arena, its state and its arguments, ready to run.
//!
//! Promises
//! - `run` of a bound session allocates nothing;
//! - binding again with the same sizes does nothing, with others reuses the arena where it is large enough;
//! - state is zero at first and kept from run to run until it is reset.
//!
//! A session belongs to one thread at a time; several sessions of one model run at once. Deliberately
//! absent: queues, batching, and any copy of inputs or outputs in [`Session::run`].

use std::sync::Arc;

use crate::{
    bind,
    error::RunError,
    memory::{ALIGN, AlignedBytes, dangling},
    model::Model,
    plan::{Arg, Entry, Port, Space},
    pool::Pool,
    services::{KernelFn, Services},
    tensor::{TensorBuf, TensorRef},
};

/// One entry of a model, ready to be bound and run.
pub struct Session {
    model: Arc<Model>,
    entry: usize,
    services: Services,
    /// Whether all below is right for `input_dims`.
    bound: bool,
    input_dims: Vec<Vec<i64>>,
    input_bytes: Vec<usize>,
    output_dims: Vec<Vec<i64>>,
    output_bytes: Vec<usize>,
    arena: AlignedBytes,
    state: State,
    calls: Vec<Call>,
    args: Vec<*mut u8>,
    sizes: Vec<i64>,
    /// Which arguments are inputs and outputs, to be filled in by each run.
    ports: Vec<(usize, PortIndex)>,
}

// SAFETY: the pointers lead into the session's own memory and the model's, or are set by each run.
unsafe impl Send for Session {}

/// State buffers and whether they hold anything.
#[derive(Default)]
struct State {
    bytes: AlignedBytes,
    /// First byte and length of each buffer.
    places: Vec<(i64, i64)>,
    used: bool,
}

/// A step with its arguments: where they start in `args` and `sizes`.
struct Call {
    kernel: KernelFn,
    args: usize,
    sizes: usize,
}

#[derive(Clone, Copy)]
enum PortIndex {
    Input(usize),
    Output(usize),
}

impl Session {
    /// A session of the entry with this number, whose loops run on `pool`.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn new(model: Arc<Model>, entry: usize, pool: Arc<Pool>) -> Result<Session, RunError> {
        let count = model.plan().entries.len();
        if entry >= count {
            return Err(RunError::Entry { index: entry, count });
        }
        Ok(Session {
            model,
            entry,
            services: Services::new(pool),
            bound: false,
            input_dims: Vec::new(),
            input_bytes: Vec::new(),
            output_dims: Vec::new(),
            output_bytes: Vec::new(),
            arena: AlignedBytes::default(),
            state: State::default(),
            calls: Vec::new(),
            args: Vec::new(),
            sizes: Vec::new(),
            ports: Vec::new(),
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

    /// Fixes the sizes of the inputs, in their order; lays out the arena and the arguments of every step.
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
        self.bound = false;
        let dims: Vec<&[i64]> = dims.iter().map(AsRef::as_ref).collect();
        self.lay_out(&dims)?;
        self.input_dims = dims.iter().map(|dims| dims.to_vec()).collect();
        self.bound = true;
        Ok(())
    }

    fn lay_out(&mut self, dims: &[&[i64]]) -> Result<(), RunError> {
        let model = Arc::clone(&self.model);
        let entry = &model.plan().entries[self.entry];
        let symbols = bind::symbols(entry, dims)?;

        self.input_bytes.clear();
        for (port, dims) in entry.inputs.iter().zip(dims) {
            self.input_bytes.push(bind::tensor_bytes(port.dtype, dims, || format!("input `{}`", port.name))?);
        }
        self.output_bytes.clear();
        self.output_dims.clear();
        for port in &entry.outputs {
            let dims = bind::dims(entry, port, &symbols)?;
            self.output_bytes
                .push(bind::tensor_bytes(port.dtype, &dims, || format!("output `{}`", port.name))?);
            self.output_dims.push(dims);
        }

        let arena_bytes = bind::eval_count(entry, &entry.arena_bytes, &symbols, || "the arena".to_owned())?;
        let places = places(entry, &symbols, arena_bytes)?;
        self.state.lay_out(entry, &places)?;
        let arena_bytes = memory_size(arena_bytes, "the arena")?;
        if arena_bytes > self.arena.len() {
            // The old one first, so that both are never there at once.
            self.arena = AlignedBytes::default();
            self.arena = AlignedBytes::zeroed(arena_bytes, "the arena")?;
        }
        self.resolve(&model, entry, &symbols, &places)
    }

    /// Fills the argument tables of every step; inputs and outputs are left to each run.
    fn resolve(
        &mut self,
        model: &Model,
        entry: &Entry,
        symbols: &[i64],
        places: &[(i64, i64)],
    ) -> Result<(), RunError> {
        self.calls.clear();
        self.args.clear();
        self.sizes.clear();
        self.ports.clear();
        for (number, step) in entry.steps.iter().enumerate() {
            let call =
                Call { kernel: model.kernel(step.kernel), args: self.args.len(), sizes: self.sizes.len() };
            self.calls.push(call);
            for arg in &step.args {
                let at = self.args.len();
                self.args.push(match *arg {
                    Arg::Input(index) => {
                        self.ports.push((at, PortIndex::Input(index as usize)));
                        dangling().as_ptr()
                    }
                    Arg::Output(index) => {
                        self.ports.push((at, PortIndex::Output(index as usize)));
                        dangling().as_ptr()
                    }
                    // Kernels read weights through it and never write.
                    Arg::Weight(index) => {
                        let slot = &model.plan().weights[index as usize];
                        model.weights()[slot.offset as usize..].as_ptr().cast_mut()
                    }
                    Arg::Buffer(index) => {
                        let base = match entry.buffers[index as usize].space {
                            Space::Arena => self.arena.start(),
                            Space::State => self.state.bytes.start(),
                        };
                        // `places` has checked that it lies inside the space.
                        base.wrapping_add(places[index as usize].0 as usize)
                    }
                });
            }
            for size in &step.sizes {
                self.sizes.push(bind::eval(entry, size, symbols, || {
                    format!("step {number}, kernel `{}`", model.plan().kernels[step.kernel as usize].name)
                })?);
            }
        }
        Ok(())
    }

    /// Whether the sizes are fixed.
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// The sizes of an output of a bound session.
    ///
    /// # Errors
    /// The session is not bound, or there is no such output.
    pub fn output_shape(&self, index: usize) -> Result<&[i64], RunError> {
        self.require_bound()?;
        self.output_dims.get(index).map(Vec::as_slice).ok_or(RunError::Count {
            what: "outputs",
            expected: self.output_dims.len(),
            found: index.saturating_add(1),
        })
    }

    /// Bytes of an output of a bound session.
    ///
    /// # Errors
    /// As [`Session::output_shape`].
    pub fn output_bytes(&self, index: usize) -> Result<usize, RunError> {
        self.output_shape(index)?;
        Ok(self.output_bytes[index])
    }

    /// Bytes of an input of a bound session.
    ///
    /// # Errors
    /// The session is not bound, or there is no such input.
    pub fn input_bytes(&self, index: usize) -> Result<usize, RunError> {
        self.require_bound()?;
        let expected = self.input_bytes.len();
        let found = index.saturating_add(1);
        self.input_bytes.get(index).copied().ok_or(RunError::Count { what: "inputs", expected, found })
    }

    /// Bytes of the arena and of the state, as they are now.
    pub fn memory_bytes(&self) -> usize {
        self.arena.len() + self.state.bytes.len()
    }

    fn require_bound(&self) -> Result<(), RunError> {
        if self.bound { Ok(()) } else { Err(RunError::Unbound) }
    }

    /// Runs the bound session: reads `inputs`, writes `outputs`, in the order of the entry, in place.
    /// Pointers of tensors without elements may be null. Allocates nothing.
    ///
    /// # Errors
    /// The session is not bound; pointers are missing, null or not aligned to their element. Nothing is
    /// read or written then.
    ///
    /// # Safety
    /// Each pointer leads to the [`Session::input_bytes`] or [`Session::output_bytes`] of its tensor;
    /// inputs are initialised, a `bool` is 0 or 1; no output overlaps another tensor; nobody else writes
    /// any of it, or reads an output, during the call.
    pub unsafe fn run(&mut self, inputs: &[*const u8], outputs: &[*mut u8]) -> Result<(), RunError> {
        self.require_bound()?;
        let entry = &self.model.plan().entries[self.entry];
        check_pointers("input", "inputs", &entry.inputs, &self.input_bytes, inputs.iter().copied())?;
        let pointers = outputs.iter().map(|output| output.cast_const());
        check_pointers("output", "outputs", &entry.outputs, &self.output_bytes, pointers)?;
        for (at, port) in &self.ports {
            let (pointer, bytes) = match *port {
                // Kernels read inputs through it and never write.
                PortIndex::Input(index) => (inputs[index].cast_mut(), self.input_bytes[index]),
                PortIndex::Output(index) => (outputs[index], self.output_bytes[index]),
            };
            self.args[*at] = if bytes == 0 { dangling().as_ptr() } else { pointer };
        }
        self.state.used = !self.state.bytes.is_empty();
        for call in &self.calls {
            // SAFETY: both offsets are inside the tables (or at their end, for a step without any), which
            // `bind` filled with what the plan gives this kernel; the caller vouches for its own buffers.
            unsafe {
                let (args, sizes) = (self.args.as_ptr().add(call.args), self.sizes.as_ptr().add(call.sizes));
                (call.kernel)(&raw const self.services, args, sizes);
            }
        }
        Ok(())
    }

    /// Binds, runs, and returns the outputs in fresh memory: `inputs` in the order of the entry.
    ///
    /// # Errors
    /// Wrong number, types, ranks, sizes or lengths of inputs, or not enough memory.
    pub fn run_tensors(&mut self, inputs: &[TensorRef<'_>]) -> Result<Vec<TensorBuf>, RunError> {
        let model = Arc::clone(&self.model);
        let entry = &model.plan().entries[self.entry];
        if inputs.len() != entry.inputs.len() {
            return Err(RunError::Count {
                what: "inputs",
                expected: entry.inputs.len(),
                found: inputs.len(),
            });
        }
        for (port, input) in entry.inputs.iter().zip(inputs) {
            check_dtype(port, input)?;
        }
        self.bind(&inputs.iter().map(|input| input.dims).collect::<Vec<_>>())?;
        // Copies of what is not aligned to its elements; the rest is read in place.
        let mut aligned = Vec::new();
        let mut pointers = Vec::new();
        for ((port, input), expected) in entry.inputs.iter().zip(inputs).zip(&self.input_bytes) {
            let (expected, found) = (*expected, input.data.len());
            if found != expected {
                return Err(RunError::Bytes { what: "input", name: port.name.clone(), expected, found });
            }
            if input.data.as_ptr().addr().is_multiple_of(port.dtype.bytes()) {
                pointers.push(input.data.as_ptr());
            } else {
                let copy = AlignedBytes::copy_of(input.data, "an input")?;
                pointers.push(copy.as_ptr());
                aligned.push(copy);
            }
        }
        let mut outputs = Vec::new();
        for ((port, dims), bytes) in entry.outputs.iter().zip(&self.output_dims).zip(&self.output_bytes) {
            let data = AlignedBytes::zeroed(*bytes, "an output")?;
            outputs.push(TensorBuf { name: port.name.clone(), dtype: port.dtype, dims: dims.clone(), data });
        }
        let results: Vec<*mut u8> = outputs.iter().map(|output| output.data.start()).collect();
        // SAFETY: every buffer has the bytes that binding asked for, is aligned, and is borrowed or owned
        // by this function; outputs are fresh, so they overlap nothing.
        unsafe { self.run(&pointers, &results) }?;
        drop(aligned);
        Ok(outputs)
    }

    /// As [`Session::run_tensors`], with inputs by name in any order.
    ///
    /// # Errors
    /// Also: unknown, repeated and missing names.
    pub fn run_named(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<TensorBuf>, RunError> {
        let entry = self.entry();
        for (i, (name, _)) in inputs.iter().enumerate() {
            if !entry.inputs.iter().any(|port| port.name == *name) {
                let known = entry.inputs.iter().map(|port| format!("`{}`", port.name));
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(RunError::UnknownInput { name: (*name).to_owned(), known });
            }
            if inputs[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(RunError::DuplicateInput { name: (*name).to_owned() });
            }
        }
        let find = |port: &Port| match inputs.iter().find(|(name, _)| *name == port.name) {
            Some((_, input)) => Ok(*input),
            None => Err(RunError::Missing { what: "input", name: port.name.clone() }),
        };
        let ordered = entry.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.run_tensors(&ordered)
    }

    /// Makes the state zero, as in a new session.
    pub fn reset_state(&mut self) {
        self.state.bytes.fill(0);
        self.state.used = false;
    }
}

impl State {
    /// Makes room for the state buffers of `entry`; what is there stays as it is.
    fn lay_out(&mut self, entry: &Entry, places: &[(i64, i64)]) -> Result<(), RunError> {
        let state = entry.buffers.iter().zip(places).filter(|(buffer, _)| buffer.space == Space::State);
        let places: Vec<(i64, i64)> = state.map(|(_, place)| *place).collect();
        if places == self.places {
            return Ok(());
        }
        if self.used {
            return Err(RunError::State);
        }
        let end = places.iter().map(|(offset, bytes)| offset + bytes).max().unwrap_or(0);
        *self = State {
            bytes: AlignedBytes::zeroed(memory_size(end, "the state")?, "the state")?,
            places,
            used: false,
        };
        Ok(())
    }
}

/// First byte and length of every buffer, inside the arena where that is its space.
fn places(entry: &Entry, symbols: &[i64], arena_bytes: i64) -> Result<Vec<(i64, i64)>, RunError> {
    let place = |(number, buffer): (usize, &crate::plan::Buffer)| {
        let what = || format!("buffer {number}");
        let offset = bind::eval_count(entry, &buffer.offset, symbols, what)?;
        let bytes = bind::eval_count(entry, &buffer.bytes, symbols, what)?;
        let end = offset.checked_add(bytes).ok_or_else(|| RunError::TooLarge { what: what() })?;
        if buffer.space == Space::Arena && end > arena_bytes {
            let why = format!("it ends at byte {end} of an arena of {arena_bytes}");
            return Err(RunError::Layout { buffer: number, why });
        }
        if offset % ALIGN as i64 != 0 {
            let why = format!("its offset {offset} is not a multiple of {ALIGN}");
            return Err(RunError::Layout { buffer: number, why });
        }
        Ok((offset, bytes))
    };
    entry.buffers.iter().enumerate().map(place).collect()
}

fn memory_size(bytes: i64, what: &str) -> Result<usize, RunError> {
    usize::try_from(bytes).map_err(|_| RunError::TooLarge { what: what.to_owned() })
}

pub(crate) fn check_dtype(port: &Port, input: &TensorRef<'_>) -> Result<(), RunError> {
    if input.dtype == port.dtype {
        return Ok(());
    }
    Err(RunError::DType { input: port.name.clone(), expected: port.dtype, found: input.dtype })
}

fn check_pointers(
    what: &'static str,
    all: &'static str,
    ports: &[Port],
    bytes: &[usize],
    pointers: impl ExactSizeIterator<Item = *const u8>,
) -> Result<(), RunError> {
    if pointers.len() != ports.len() {
        return Err(RunError::Count { what: all, expected: ports.len(), found: pointers.len() });
    }
    for ((port, bytes), pointer) in ports.iter().zip(bytes).zip(pointers) {
        if *bytes > 0 && pointer.is_null() {
            return Err(RunError::Null { what, name: port.name.clone() });
        }
        let align = port.dtype.bytes();
        if *bytes > 0 && !pointer.addr().is_multiple_of(align) {
            return Err(RunError::Misaligned { what, name: port.name.clone(), align });
        }
    }
    Ok(())
}
