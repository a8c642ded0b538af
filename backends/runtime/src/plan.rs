//! The plan: what a compiled model does, as data. Entries, their ports and sizes, the arena, the steps.
//!
//! A plan that [`Plan::validate`] accepts has every index in range and every symbol bound once; the
//! rest of the crate relies on that. Deliberately absent: bytes (see `plan_bytes.rs`), pointers (see
//! `session.rs`), and anything about what the kernels compute.

use std::fmt;

use crate::{error::PlanError, size::Size};

pub use crate::size::MAX_DEPTH;

/// Type of an element. The discriminant is its code in plans and in the C interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DType {
    /// IEEE 754 binary32.
    F32 = 1,
    /// IEEE 754 binary64.
    F64 = 2,
    /// IEEE 754 binary16.
    F16 = 3,
    /// The upper half of a binary32.
    Bf16 = 4,
    /// Signed, 8 bits.
    I8 = 5,
    /// Signed, 16 bits.
    I16 = 6,
    /// Signed, 32 bits.
    I32 = 7,
    /// Signed, 64 bits.
    I64 = 8,
    /// Unsigned, 8 bits.
    U8 = 9,
    /// Unsigned, 16 bits.
    U16 = 10,
    /// Unsigned, 32 bits.
    U32 = 11,
    /// Unsigned, 64 bits.
    U64 = 12,
    /// One byte, 0 or 1.
    Bool = 13,
}

impl DType {
    /// Every type, in the order of the codes.
    pub const ALL: &[DType] = &[
        DType::F32,
        DType::F64,
        DType::F16,
        DType::Bf16,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
    ];

    /// The code in plans and in the C interface.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type with this code.
    pub fn from_code(code: u8) -> Option<DType> {
        DType::ALL.iter().copied().find(|dtype| dtype.code() == code)
    }

    /// Bytes of an element, which is also its alignment.
    pub const fn bytes(self) -> usize {
        match self {
            DType::I8 | DType::U8 | DType::Bool => 1,
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => 2,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F64 | DType::I64 | DType::U64 => 8,
        }
    }

    /// Its name, such as `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A compiled model without its code and weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What can be called.
    pub entries: Vec<Entry>,
    /// The constants, shared by all entries.
    pub weights: Vec<WeightSlot>,
    /// The kernels, shared by all entries.
    pub kernels: Vec<KernelSlot>,
}

/// A kernel in the code image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSlot {
    /// Its name, for people.
    pub name: String,
    /// Its first instruction, in bytes from the start of the code image.
    pub offset: u64,
}

/// A constant in the weights section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSlot {
    /// Its name in the model.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its sizes, as it is stored.
    pub dims: Vec<u64>,
    /// Its first byte in the weights section, a multiple of 64.
    pub offset: u64,
    /// How many bytes it has there.
    pub bytes: u64,
    /// BLAKE3 of these bytes.
    pub hash: [u8; 32],
}

/// Something that can be called: a function of tensors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its name, unique in the plan.
    pub name: String,
    /// Names of the sizes that inputs decide.
    pub symbols: Vec<String>,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// Where each symbol's value comes from: exactly one per symbol.
    pub binds: Vec<Bind>,
    /// Bytes of the arena, shared by the buffers of [`Space::Arena`].
    pub arena_bytes: Size,
    /// Intermediate values and state.
    pub buffers: Vec<Buffer>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// An input or an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, unique among its kind.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its sizes.
    pub dims: Vec<Size>,
}

/// `symbol = (dims(input)[axis] - offset) / scale`, which must divide evenly and not be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The symbol that gets the value.
    pub symbol: u32,
    /// The input that decides it.
    pub input: u32,
    /// The axis of that input.
    pub axis: u32,
    /// Not 0.
    pub scale: i64,
    /// What is subtracted first.
    pub offset: i64,
}

/// A piece of the arena or of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Its first byte in its space, a multiple of 64.
    pub offset: Size,
    /// How many bytes it has.
    pub bytes: Size,
    /// Which space.
    pub space: Space,
}

/// Where a buffer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Valid during one run; undefined at its start.
    Arena,
    /// Kept between the runs of a session; zero at first.
    State,
}

/// One call of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which kernel.
    pub kernel: u32,
    /// The buffers it is given.
    pub args: Vec<Arg>,
    /// The sizes it is given.
    pub sizes: Vec<Size>,
}

/// A buffer that a kernel is given, by its number among its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// An input of the entry.
    Input(u32),
    /// An output of the entry.
    Output(u32),
    /// A weight of the plan.
    Weight(u32),
    /// A buffer of the entry.
    Buffer(u32),
}

impl Default for Size {
    fn default() -> Size {
        Size::Const(0)
    }
}

impl Plan {
    /// The number of the entry with this name.
    pub fn entry(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// Checks that every index is in range, every symbol is bound exactly once, names are unique and
    /// hold no NUL, sizes are not nested too deep, and weights are aligned.
    ///
    /// # Errors
    /// The first contradiction, with its place.
    pub fn validate(&self) -> Result<(), PlanError> {
        names(self.entries.iter().map(|entry| &entry.name), || "the entries".into())?;
        names_without_nul(self.kernels.iter().map(|kernel| &kernel.name), || "the kernels".into())?;
        names_without_nul(self.weights.iter().map(|weight| &weight.name), || "the weights".into())?;
        for weight in &self.weights {
            let place = || format!("weight `{}`", weight.name);
            require(weight.offset % 64 == 0, place, || {
                format!("its offset {} is not a multiple of 64", weight.offset)
            })?;
            require(weight.offset.checked_add(weight.bytes).is_some(), place, || "its end overflows".into())?;
        }
        self.entries.iter().try_for_each(|entry| self.validate_entry(entry))
    }

    fn validate_entry(&self, entry: &Entry) -> Result<(), PlanError> {
        let at = |what: &str| format!("entry `{}`, {what}", entry.name);
        let size = |size: &Size, place: &dyn Fn() -> String| {
            size.depth().ok_or(PlanError::Depth { limit: MAX_DEPTH })?;
            let mut unknown = None;
            size.symbols(&mut |symbol| {
                if symbol as usize >= entry.symbols.len() {
                    unknown = Some(symbol);
                }
            });
            require(unknown.is_none(), place, || format!("symbol {} does not exist", unknown.unwrap_or(0)))
        };
        names(entry.symbols.iter(), || at("symbols"))?;
        names(entry.inputs.iter().map(|port| &port.name), || at("inputs"))?;
        names(entry.outputs.iter().map(|port| &port.name), || at("outputs"))?;
        for port in entry.inputs.iter().chain(&entry.outputs) {
            port.dims.iter().try_for_each(|dim| size(dim, &|| at(&format!("port `{}`", port.name))))?;
        }
        let mut bound = vec![false; entry.symbols.len()];
        for (i, bind) in entry.binds.iter().enumerate() {
            let place = || at(&format!("bind {i}"));
            let rank = entry.inputs.get(bind.input as usize).map(|port| port.dims.len());
            require(rank.is_some(), place, || format!("input {} does not exist", bind.input))?;
            require(rank > Some(bind.axis as usize), place, || format!("axis {} does not exist", bind.axis))?;
            require(bind.scale != 0, place, || "the scale is 0".into())?;
            match bound.get_mut(bind.symbol as usize) {
                None => return Err(inconsistent(place, format!("symbol {} does not exist", bind.symbol))),
                Some(bound) if *bound => {
                    return Err(inconsistent(place, format!("symbol {} is bound already", bind.symbol)));
                }
                Some(bound) => *bound = true,
            }
        }
        if let Some(free) = bound.iter().position(|bound| !bound) {
            return Err(inconsistent(|| at("symbols"), format!("`{}` is never bound", entry.symbols[free])));
        }
        size(&entry.arena_bytes, &|| at("arena"))?;
        for (i, buffer) in entry.buffers.iter().enumerate() {
            size(&buffer.offset, &|| at(&format!("buffer {i}")))?;
            size(&buffer.bytes, &|| at(&format!("buffer {i}")))?;
        }
        for (i, step) in entry.steps.iter().enumerate() {
            let place = || at(&format!("step {i}"));
            let kernel = (step.kernel as usize) < self.kernels.len();
            require(kernel, place, || format!("kernel {} does not exist", step.kernel))?;
            for arg in &step.args {
                let (index, count) = match *arg {
                    Arg::Input(index) => (index, entry.inputs.len()),
                    Arg::Output(index) => (index, entry.outputs.len()),
                    Arg::Weight(index) => (index, self.weights.len()),
                    Arg::Buffer(index) => (index, entry.buffers.len()),
                };
                require((index as usize) < count, place, || format!("{arg:?} does not exist"))?;
            }
            step.sizes.iter().try_for_each(|one| size(one, &place))?;
        }
        Ok(())
    }
}

fn inconsistent(place: impl Fn() -> String, why: String) -> PlanError {
    PlanError::Inconsistent { place: place(), why }
}

fn require(holds: bool, place: impl Fn() -> String, why: impl Fn() -> String) -> Result<(), PlanError> {
    if holds { Ok(()) } else { Err(inconsistent(place, why())) }
}

/// Names are unique, and hold no NUL because C reads them.
fn names<'a>(
    names: impl Iterator<Item = &'a String> + Clone,
    place: impl Fn() -> String,
) -> Result<(), PlanError> {
    names_without_nul(names.clone(), &place)?;
    let mut sorted: Vec<&String> = names.collect();
    sorted.sort();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    require(twice.is_none(), place, || {
        format!("the name `{}` is used twice", twice.map_or("", |pair| pair[0]))
    })
}

fn names_without_nul<'a>(
    mut names: impl Iterator<Item = &'a String>,
    place: impl Fn() -> String,
) -> Result<(), PlanError> {
    require(!names.any(|name| name.contains('\0')), place, || "a name contains NUL".into())
}
