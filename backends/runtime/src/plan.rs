//! The plan: what a compiled model does, as data. Entries, their ports and sizes, memory, the steps.
//!
//! A plan that [`Plan::validate`] accepts has every index in range and every symbol decided; the rest
//! of the crate relies on that. Deliberately absent: bytes (see `plan_bytes.rs`), pointers (see
//! `session/`), and anything about what the kernels compute.

use std::fmt;

use crate::size::Size;

mod step;
mod validate;

pub use crate::size::MAX_DEPTH;
pub use step::{Call, MAX_NESTING, Relation, Step};

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
    /// 4 bits of exponent, 3 of fraction, finite.
    F8E4M3FN = 14,
    /// 4 bits of exponent, 3 of fraction, finite, without −0.
    F8E4M3FNUZ = 15,
    /// 5 bits of exponent, 2 of fraction, as IEEE 754 would have it.
    F8E5M2 = 16,
    /// 5 bits of exponent, 2 of fraction, finite, without −0.
    F8E5M2FNUZ = 17,
    /// 8 bits of exponent alone.
    F8E8M0 = 18,
    /// 2 bits of exponent, 1 of fraction, in the low half of a byte.
    F4E2M1 = 19,
    /// Signed, 4 bits; a byte of −8 to 7.
    I4 = 20,
    /// Unsigned, 4 bits; a byte of 0 to 15.
    U4 = 21,
    /// Signed, 2 bits; a byte of −2 to 1.
    I2 = 22,
    /// Unsigned, 2 bits; a byte of 0 to 3.
    U2 = 23,
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
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
        DType::I4,
        DType::U4,
        DType::I2,
        DType::U2,
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
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ | DType::F8E8M0 => 1,
            DType::F4E2M1 | DType::I4 | DType::U4 | DType::I2 | DType::U2 => 1,
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
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F4E2M1 => "f4e2m1",
            DType::I4 => "i4",
            DType::U4 => "u4",
            DType::I2 => "i2",
            DType::U2 => "u2",
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
    /// Names of sizes: first those that inputs decide, one [`Bind`] each, then those decided while the
    /// model runs, which are 0 until a step decides them.
    pub symbols: Vec<String>,
    /// What it takes.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// Where the first symbols' values come from: exactly one for each of the first `binds.len()`.
    pub binds: Vec<Bind>,
    /// What runs before the arena is laid out: it decides sizes from the values of small inputs. Only
    /// [`Step::Call`], [`Step::Measure`], [`Step::Set`] and [`Step::Require`], on inputs, weights and
    /// buffers of [`Space::Host`]; and they read those of [`Space::State`].
    pub host: Vec<Step>,
    /// Bytes of the memory of [`Space::Host`]: a function of the symbols that inputs decide.
    pub host_bytes: Size,
    /// Bytes of the arena, shared by the buffers of [`Space::Arena`]: a function of the symbols that
    /// inputs and `host` decide.
    pub arena_bytes: Size,
    /// Intermediate values and state.
    pub buffers: Vec<Buffer>,
    /// What is kept from run to run and has a name: the first buffers of [`Space::State`], in their order. Sizes are
    /// decided by inputs.
    pub states: Vec<Port>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// When the value of a symbol, or of a size, is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// With the shapes of the inputs.
    Bind,
    /// After [`Entry::host`].
    Host,
    /// While [`Entry::steps`] run.
    Steps,
}

impl Entry {
    /// Names of the sizes that inputs decide.
    pub fn input_symbols(&self) -> &[String] {
        &self.symbols[..self.binds.len().min(self.symbols.len())]
    }

    /// Names of the sizes that are decided while the model runs.
    pub fn decided_symbols(&self) -> &[String] {
        &self.symbols[self.input_symbols().len()..]
    }

    /// Whether the shape of the output with this number is decided while the model runs. The session
    /// owns the memory of such an output.
    pub fn is_dynamic(&self, output: usize) -> bool {
        let mentions = |dim: &Size| dim.mentions(&|symbol| symbol as usize >= self.binds.len());
        self.outputs.get(output).is_some_and(|port| port.dims.iter().any(mentions))
    }

    /// The kernel of each call that its steps hold, in the order in which they are written: `host` first, nested
    /// ones included.
    pub fn kernels(&self) -> Vec<u32> {
        let mut kernels = Vec::new();
        for step in self.host.iter().chain(&self.steps) {
            step.each(&mut |step| {
                if let Step::Call(call) = step {
                    kernels.push(call.kernel);
                }
            });
        }
        kernels
    }

    /// How many calls of kernels its steps hold.
    pub fn calls(&self) -> usize {
        self.kernels().len()
    }

    /// When each symbol is known.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        let mut phases = vec![Phase::Steps; self.symbols.len()];
        for step in &self.host {
            step.decides(&mut |symbol| {
                if let Some(phase) = phases.get_mut(symbol as usize) {
                    *phase = Phase::Host;
                }
            });
        }
        phases[..self.input_symbols().len()].fill(Phase::Bind);
        phases
    }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The symbol that gets the value.
    pub symbol: u32,
    /// The input that decides it.
    pub input: u32,
    /// The axis of that input.
    pub axis: u32,
    /// Not 0.
    pub scale: i64,
    /// What is subtracted first, in symbols that binds before this one decide.
    pub offset: Size,
}

/// A piece of memory between steps.
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
    /// Kept between the runs of a session; zero at first. Its size is decided by inputs.
    State,
    /// Valid from [`Entry::host`] to the end of the run.
    Host,
    /// Memory of its own that grows while the model runs, by [`Step::Reserve`] and [`Step::Copy`];
    /// buffers with the same number share it. Numbers are below the number of buffers.
    Grow(u32),
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
}
