//! What arguments lead to: the session's memory and the caller's, and where each buffer lies.
//!
//! A buffer whose place depends on nothing that steps decide gets it once, checked against its memory.
//! All others, and what grows, are looked up at each use: nothing is used beyond the memory there is.

use std::sync::Arc;

use super::state::State;
use crate::{
    bind,
    device::{Queue, Region},
    error::RunError,
    guard::Guards,
    memory::{ALIGN, AlignedBytes, dangling},
    model::Model,
    plan::{Arg, Entry, Phase, Space, Step},
};

/// Bytes that may be used: `room` of them start at `start`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) start: *mut u8,
    pub(super) room: usize,
}

/// An output: its sizes as far as they are known, and its bytes.
pub(super) struct Output {
    /// Whether its sizes are decided while the model runs.
    pub(super) dynamic: bool,
    pub(super) dims: Vec<i64>,
    pub(super) bytes: usize,
    /// Where the caller wants it; set by each run. Not used by dynamic ones.
    pub(super) given: Span,
    /// The bytes of a dynamic one.
    pub(super) grown: Region,
    /// The same in this process, if they are on a device.
    pub(super) fetched: AlignedBytes,
}

impl Output {
    /// The bytes that the last run gave a dynamic one.
    pub(super) fn data(&self) -> &[u8] {
        // A run succeeds only if all of them are there.
        match &self.grown {
            Region::Process(bytes) => &bytes[..self.bytes],
            Region::Device { .. } => &self.fetched[..self.bytes],
        }
    }
}

/// Inputs and outputs on a device.
pub(super) struct Ports {
    queue: Arc<dyn Queue>,
    inputs: Vec<Region>,
    outputs: Vec<Region>,
    /// Where the caller wants outputs, in this process.
    wanted: Vec<Span>,
}

/// The values of symbols and all memory.
pub(super) struct Memory {
    pub(super) symbols: Vec<i64>,
    /// When each symbol is known.
    pub(super) phases: Vec<Phase>,
    /// Set by each run.
    pub(super) inputs: Vec<Span>,
    pub(super) outputs: Vec<Output>,
    weights: Vec<Span>,
    /// First byte and length of each buffer that has a place once and for all.
    places: Vec<Option<(i64, i64)>>,
    arena: Region,
    /// Memory for each buffer by itself instead of the arena and of that of sizes, on a device with guards.
    apart: Option<Vec<Region>>,
    /// Bytes of the arena that this layout uses.
    arena_bytes: usize,
    host: Region,
    pub(super) state: State,
    /// Growing memory, by its number.
    grown: Vec<Region>,
    /// If the model runs on a device.
    pub(super) ports: Option<Ports>,
}

impl Span {
    /// For tensors without a pointer.
    pub(super) fn without_pointer(room: usize) -> Span {
        Span { start: dangling().as_ptr(), room }
    }
}

impl Memory {
    pub(super) fn new(model: &Model, entry: &Entry, state: State, queue: Option<&Arc<dyn Queue>>) -> Memory {
        let output = |index| Output {
            dynamic: entry.is_dynamic(index),
            dims: Vec::with_capacity(entry.outputs[index].dims.len()),
            bytes: 0,
            given: Span::without_pointer(0),
            grown: Region::none(queue),
            fetched: AlignedBytes::default(),
        };
        // Kernels read weights through these pointers and never write.
        let (weights, _) = model.weights_start();
        let weight = |slot: &crate::plan::WeightSlot| Span {
            start: weights.wrapping_add(slot.offset as usize),
            room: slot.bytes as usize,
        };
        let numbers = entry.buffers.iter().filter_map(|buffer| match buffer.space {
            Space::Grow(number) => Some(number as usize + 1),
            _ => None,
        });
        Memory {
            symbols: vec![0; entry.symbols.len()],
            phases: entry.phases(),
            inputs: vec![Span::without_pointer(0); entry.inputs.len()],
            outputs: (0..entry.outputs.len()).map(output).collect(),
            weights: model.plan().weights.iter().map(weight).collect(),
            places: vec![None; entry.buffers.len()],
            arena: Region::none(queue),
            apart: queue
                .filter(|queue| queue.guards().is_some())
                .map(|queue| entry.buffers.iter().map(|_| Region::none(Some(queue))).collect()),
            arena_bytes: 0,
            host: Region::none(queue),
            state,
            grown: (0..numbers.max().unwrap_or(0)).map(|_| Region::none(queue)).collect(),
            ports: queue.map(|queue| Ports {
                queue: Arc::clone(queue),
                inputs: entry.inputs.iter().map(|_| Region::none(Some(queue))).collect(),
                outputs: entry.outputs.iter().map(|_| Region::none(Some(queue))).collect(),
                wanted: Vec::with_capacity(entry.outputs.len()),
            }),
        }
    }

    /// Bytes there are, apart from the caller's and the weights.
    pub(super) fn bytes(&self) -> usize {
        let grown = self.grown.iter().chain(self.outputs.iter().map(|output| &output.grown));
        let lasting = self.arena.len() + self.host.len() + self.state.span().room;
        let grown = grown.chain(self.apart.iter().flatten());
        lasting + grown.map(|bytes| bytes.len()).sum::<usize>()
    }

    /// Fixes what the sizes of the inputs decide, and lays out the state and what `host` uses.
    pub(super) fn bind(&mut self, entry: &Entry, dims: &[&[i64]]) -> Result<(), RunError> {
        self.symbols = bind::symbols(entry, dims)?;
        for ((port, dims), input) in entry.inputs.iter().zip(dims).zip(&mut self.inputs) {
            let bytes = bind::tensor_bytes(port.dtype, dims, || format!("input `{}`", port.name))?;
            *input = Span::without_pointer(bytes);
        }
        self.require(entry, Phase::Bind)?;
        for index in 0..self.outputs.len() {
            if !self.outputs[index].dynamic {
                self.size_output(entry, index)?;
            }
        }
        let what = "the memory of sizes";
        let bytes = bind::eval_count(entry, &entry.host_bytes, &self.symbols, || what.to_owned())?;
        self.place_all(entry, |space| match space {
            Space::Host => Some(bytes),
            Space::State => Some(i64::MAX),
            Space::Arena | Space::Grow(_) => None,
        })?;
        let state = entry.buffers.iter().zip(&self.places).filter(|(buffer, _)| buffer.space == Space::State);
        self.state.lay_out(state.filter_map(|(_, place)| *place).collect())?;
        if let Some(ports) = &mut self.ports {
            for (region, input) in ports.inputs.iter_mut().zip(&self.inputs) {
                region.reserve(input.room, "an input")?;
            }
            for (region, output) in ports.outputs.iter_mut().zip(&self.outputs) {
                region.reserve(if output.dynamic { 0 } else { output.bytes }, "an output")?;
            }
        }
        if self.apart.is_some() {
            return self.part(entry, Space::Host);
        }
        self.host.reserve(memory_size(bytes, what)?, what)
    }

    /// Lays out the arena. All that inputs and `host` decide must be known.
    pub(super) fn lay_out(&mut self, entry: &Entry) -> Result<(), RunError> {
        self.require(entry, Phase::Host)?;
        let what = "the arena";
        let bytes = bind::eval_count(entry, &entry.arena_bytes, &self.symbols, || what.to_owned())?;
        self.place_all(entry, |space| (space == Space::Arena).then_some(bytes))?;
        self.arena_bytes = memory_size(bytes, what)?;
        if self.apart.is_some() {
            return self.part(entry, Space::Arena);
        }
        self.arena.reserve(self.arena_bytes, what)
    }

    /// Makes memory for each buffer of a space by itself, as large as it is now.
    fn part(&mut self, entry: &Entry, space: Space) -> Result<(), RunError> {
        let (Some(apart), Some(ports)) = (&mut self.apart, &self.ports) else { return Ok(()) };
        for ((buffer, region), place) in entry.buffers.iter().zip(apart).zip(&self.places) {
            if let (true, Some((_, bytes))) = (buffer.space == space, place) {
                *region = Region::none(Some(&ports.queue));
                region.reserve(memory_size(*bytes, "a buffer")?, "a buffer")?;
            }
        }
        Ok(())
    }

    /// Nothing was written beside what `kernel` was given, nor beside anything else.
    pub(super) fn check(
        &self,
        entry: &Entry,
        guards: &Guards,
        kernel: impl FnOnce() -> String,
    ) -> Result<(), RunError> {
        let Some(found) = guards.trespass()? else { return Ok(()) };
        let (side, from) = match found.at {
            ..0 => ("before", found.at.unsigned_abs()),
            at => ("behind", at.unsigned_abs() - found.len),
        };
        let memory = self.owner(entry, found.start);
        Err(RunError::Trespass { kernel: kernel(), bytes: found.bytes, from, side, memory, len: found.len })
    }

    /// Whose memory begins there.
    fn owner(&self, entry: &Entry, start: *mut u8) -> String {
        let mut owners: Vec<(*mut u8, String)> = Vec::new();
        let mut add = |region: &Region, what: String| owners.push((region.start(), what));
        let is_output = |index: usize| Arg::Output(index as u32);
        for (index, region) in self.apart.iter().flatten().enumerate() {
            add(region, describe(entry, Arg::Buffer(index as u32)));
        }
        for (index, output) in self.outputs.iter().enumerate() {
            add(&output.grown, describe(entry, is_output(index)));
        }
        if let Some(ports) = &self.ports {
            for (index, region) in ports.inputs.iter().enumerate() {
                add(region, describe(entry, Arg::Input(index as u32)));
            }
            for (index, region) in ports.outputs.iter().enumerate() {
                add(region, describe(entry, is_output(index)));
            }
        }
        self.grown.iter().for_each(|region| add(region, "a growing buffer".to_owned()));
        owners.push((self.state.span().start, "the state".to_owned()));
        let owner = owners.into_iter().find(|(first, _)| *first == start);
        owner.map_or_else(|| "the weights".to_owned(), |(_, what)| what)
    }

    /// Checks what the steps begin with, where it is known: what is required tells why a size would be negative, and
    /// whose it is.
    fn require(&self, entry: &Entry, known: Phase) -> Result<(), RunError> {
        for step in &entry.steps {
            let Step::Require { left, relation, right, what } = step else { break };
            if left.phase(&self.phases).max(right.phase(&self.phases)) <= known {
                bind::require(entry, left, *relation, right, &self.symbols, what)?;
            }
        }
        Ok(())
    }

    /// Places the buffers of the spaces of which `limit` knows the length, if steps do not move them.
    fn place_all(&mut self, entry: &Entry, limit: impl Fn(Space) -> Option<i64>) -> Result<(), RunError> {
        for (number, buffer) in entry.buffers.iter().enumerate() {
            let Some(limit) = limit(buffer.space) else { continue };
            let phase = buffer.offset.phase(&self.phases).max(buffer.bytes.phase(&self.phases));
            if phase == Phase::Steps {
                continue;
            }
            let (offset, bytes) = self.place(entry, number)?;
            if offset + bytes > limit {
                let space = if buffer.space == Space::Host { "a host memory" } else { "an arena" };
                let why = format!("it ends at byte {} of {space} of {limit}", offset + bytes);
                return Err(RunError::Layout { buffer: number, why });
            }
            self.places[number] = Some((offset, bytes));
        }
        Ok(())
    }

    /// First byte and length of a buffer as sizes are now. Their sum is an `i64`.
    fn place(&self, entry: &Entry, number: usize) -> Result<(i64, i64), RunError> {
        let offset = self.offset(entry, number)?;
        let bytes = self.buffer_bytes(entry, number)?;
        let too_large = || RunError::TooLarge { what: format!("buffer {number}") };
        offset.checked_add(bytes).ok_or_else(too_large)?;
        Ok((offset, bytes))
    }

    fn offset(&self, entry: &Entry, number: usize) -> Result<i64, RunError> {
        let what = || format!("buffer {number}");
        let offset = bind::eval_count(entry, &entry.buffers[number].offset, &self.symbols, what)?;
        if offset % ALIGN as i64 != 0 {
            let why = format!("its offset {offset} is not a multiple of {ALIGN}");
            return Err(RunError::Layout { buffer: number, why });
        }
        Ok(offset)
    }

    fn buffer_bytes(&self, entry: &Entry, number: usize) -> Result<i64, RunError> {
        bind::eval_count(entry, &entry.buffers[number].bytes, &self.symbols, || format!("buffer {number}"))
    }

    /// First byte and length of a state of a bound session.
    pub(super) fn place_of_state(&self, entry: &Entry, index: usize) -> (usize, usize) {
        let states = entry.buffers.iter().zip(&self.places);
        let mut states = states.filter(|(buffer, _)| buffer.space == Space::State);
        let place = states.nth(index).and_then(|(_, place)| *place);
        place.map_or((0, 0), |(offset, bytes)| (offset as usize, bytes as usize))
    }

    /// Whether the argument leads to the same bytes, or to the same port, all the time.
    pub(super) fn is_fixed(&self, arg: Arg) -> bool {
        match arg {
            Arg::Input(_) | Arg::Weight(_) => true,
            Arg::Output(index) => !self.outputs[index as usize].dynamic,
            Arg::Buffer(index) => self.places[index as usize].is_some(),
        }
    }

    /// The bytes that an argument leads to now. Those of a buffer that has no place once and for all end
    /// with their memory.
    pub(super) fn span(&self, entry: &Entry, arg: Arg) -> Result<Span, RunError> {
        let all = |bytes: &Region| Span { start: bytes.start(), room: bytes.len() };
        let (index, memory) = match arg {
            Arg::Input(index) => return Ok(self.inputs[index as usize]),
            Arg::Weight(index) => return Ok(self.weights[index as usize]),
            Arg::Output(index) => {
                let output = &self.outputs[index as usize];
                return Ok(if output.dynamic { all(&output.grown) } else { output.given });
            }
            Arg::Buffer(index) => {
                if let (Some(apart), Some(_)) = (&self.apart, self.places[index as usize])
                    && matches!(entry.buffers[index as usize].space, Space::Arena | Space::Host)
                {
                    return Ok(all(&apart[index as usize]));
                }
                let memory = match entry.buffers[index as usize].space {
                    Space::Arena => Span { start: self.arena.start(), room: self.arena_bytes },
                    Space::State => self.state.span(),
                    Space::Host => all(&self.host),
                    Space::Grow(number) => all(&self.grown[number as usize]),
                };
                (index as usize, memory)
            }
        };
        let (offset, room) = match self.places[index] {
            Some((offset, bytes)) => (offset as usize, bytes as usize),
            None => {
                let before = fits(entry, arg, self.offset(entry, index)?, memory)?;
                (before, memory.room - before)
            }
        };
        // It lies in its memory: checked here, or when it got its place.
        Ok(Span { start: memory.start.wrapping_add(offset), room })
    }

    /// The pointer that a kernel gets for an argument, whose type must fit the memory there is.
    pub(super) fn pointer(&mut self, entry: &Entry, arg: Arg) -> Result<*mut u8, RunError> {
        let span = self.span(entry, arg)?;
        if !self.is_fixed(arg) {
            fits(entry, arg, self.typed_bytes(entry, arg)?, span)?;
        }
        Ok(span.start)
    }

    /// Makes room for what grows, as its type says now. What it held is lost.
    pub(super) fn reserve(&mut self, entry: &Entry, arg: Arg) -> Result<(), RunError> {
        let bytes = self.typed_bytes(entry, arg)?;
        self.make_room(entry, arg, bytes, false)
    }

    /// Bytes of a buffer or of a dynamic output, as its type says now.
    fn typed_bytes(&mut self, entry: &Entry, arg: Arg) -> Result<i64, RunError> {
        match arg {
            Arg::Buffer(index) => self.buffer_bytes(entry, index as usize),
            Arg::Output(index) if self.outputs[index as usize].dynamic => {
                self.size_output(entry, index as usize)?;
                Ok(self.outputs[index as usize].bytes as i64)
            }
            _ => Ok(0),
        }
    }

    /// Makes room for `bytes` bytes of an argument if it grows.
    pub(super) fn make_room(
        &mut self,
        entry: &Entry,
        arg: Arg,
        bytes: i64,
        keep: bool,
    ) -> Result<(), RunError> {
        let (memory, offset, what) = match arg {
            Arg::Output(index) if self.outputs[index as usize].dynamic => {
                (&mut self.outputs[index as usize].grown, 0, "an output")
            }
            Arg::Buffer(index) => match entry.buffers[index as usize].space {
                Space::Grow(number) => {
                    let offset = self.offset(entry, index as usize)?;
                    (&mut self.grown[number as usize], offset, "a growing buffer")
                }
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        let end =
            offset.checked_add(bytes).ok_or_else(|| RunError::TooLarge { what: describe(entry, arg) })?;
        let end = memory_size(end, what)?;
        if keep { memory.extend(end, what) } else { memory.reserve(end, what) }
    }

    /// The sizes of dynamic outputs, once all is decided.
    pub(super) fn finish_outputs(&mut self, entry: &Entry) -> Result<(), RunError> {
        for index in 0..self.outputs.len() {
            if self.outputs[index].dynamic {
                self.pointer(entry, Arg::Output(index as u32))?;
            }
        }
        Ok(())
    }

    /// Copies the inputs to the device, if there is one: calls are given those copies, and room for outputs there.
    ///
    /// # Safety
    /// Inputs lead to their tensors, which stay as they are until the run is over.
    pub(super) unsafe fn upload(&mut self) -> Result<(), RunError> {
        let Some(ports) = &mut self.ports else { return Ok(()) };
        for (region, input) in ports.inputs.iter().zip(&mut self.inputs) {
            if input.room > 0 {
                // SAFETY: as the caller vouches; binding has made room for it.
                unsafe { ports.queue.write(input.start, region.start(), input.room) }?;
                input.start = region.start();
            }
        }
        ports.wanted.clear();
        for (region, output) in ports.outputs.iter().zip(&mut self.outputs) {
            ports.wanted.push(output.given);
            output.given.start = region.start();
        }
        Ok(())
    }

    /// Copies the outputs to where the caller wants them, or to the session's memory, once all is done.
    ///
    /// # Safety
    /// Outputs lead to room for their tensors.
    pub(super) unsafe fn download(&mut self) -> Result<(), RunError> {
        let Some(ports) = &self.ports else { return Ok(()) };
        for (output, wanted) in self.outputs.iter_mut().zip(&ports.wanted) {
            if output.dynamic {
                output.fetched.reserve(output.bytes, "an output")?;
                output.grown.read(0, &mut output.fetched[..output.bytes])?;
            } else if wanted.room > 0 {
                // SAFETY: as the caller vouches; binding has made room for it.
                unsafe { ports.queue.read(output.given.start, wanted.start, wanted.room) }?;
            }
        }
        Ok(ports.queue.wait()?)
    }

    fn size_output(&mut self, entry: &Entry, index: usize) -> Result<(), RunError> {
        let (port, output) = (&entry.outputs[index], &mut self.outputs[index]);
        bind::dims(entry, port, &self.symbols, &mut output.dims)?;
        output.bytes = bind::tensor_bytes(port.dtype, &output.dims, || format!("output `{}`", port.name))?;
        Ok(())
    }
}

/// `bytes`, if an argument that leads to `span` may use that many.
pub(super) fn fits(entry: &Entry, arg: Arg, bytes: i64, span: Span) -> Result<usize, RunError> {
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= span.room => Ok(bytes),
        _ => Err(RunError::Room { what: describe(entry, arg), needed: bytes, room: span.room }),
    }
}

/// What an argument is called.
pub(super) fn describe(entry: &Entry, arg: Arg) -> String {
    match arg {
        Arg::Input(index) => format!("input `{}`", entry.inputs[index as usize].name),
        Arg::Output(index) => format!("output `{}`", entry.outputs[index as usize].name),
        Arg::Weight(index) => format!("weight {index}"),
        Arg::Buffer(index) => format!("buffer {index}"),
    }
}

pub(super) fn memory_size(bytes: i64, what: &str) -> Result<usize, RunError> {
    usize::try_from(bytes).map_err(|_| RunError::TooLarge { what: what.to_owned() })
}
