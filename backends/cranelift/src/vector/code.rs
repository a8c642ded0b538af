//! Instructions and constants of one function, and their bytes.

use iced_x86::{BlockEncoder, BlockEncoderOptions, Code, Instruction, InstructionBlock, OpKind, Register};

use super::region::Kind;

/// A place in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// An operand of an instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arg {
    /// A register.
    Reg(Register),
    /// `[base + index·scale + distance]`, read as one element for all lanes if so wanted.
    Mem {
        /// The base register.
        base: Register,
        /// The index register, or none.
        index: Register,
        /// 1, 2, 4 or 8.
        scale: u32,
        /// Bytes beyond.
        distance: i32,
        /// One element for all lanes?
        spread: bool,
    },
    /// A constant of the pool, read as one element for all lanes if so wanted.
    Pool(Kind, bool),
    /// Eight bits.
    Imm8(u8),
    /// Thirty-two bits, extended by their sign.
    Imm32(i32),
}

impl Arg {
    /// `[base + distance]`.
    pub(crate) fn at(base: Register, distance: i32) -> Arg {
        Arg::Mem { base, index: Register::None, scale: 1, distance, spread: false }
    }

    /// The memory so many bytes further.
    pub(crate) fn beyond(self, bytes: i32) -> Arg {
        match self {
            Arg::Mem { base, index, scale, distance, spread } => {
                Arg::Mem { base, index, scale, distance: distance + bytes, spread }
            }
            other => other,
        }
    }

    /// The same memory, one element for all lanes.
    pub(crate) fn spread(self) -> Arg {
        match self {
            Arg::Mem { base, index, scale, distance, .. } => {
                Arg::Mem { base, index, scale, distance, spread: true }
            }
            other => other,
        }
    }
}

/// Alignment of a function: constants behind it are aligned to a vector.
pub(crate) const ALIGN: usize = 64;

/// A function under construction.
#[derive(Default)]
pub(crate) struct Assembler {
    instructions: Vec<Instruction>,
    /// The instruction that each label stands before.
    labels: Vec<usize>,
    /// Instructions that refer to a label.
    branches: Vec<(usize, Label)>,
    /// Constants.
    pool: Vec<Kind>,
    /// Instructions that refer to a constant.
    reads: Vec<(usize, usize)>,
}

impl Assembler {
    /// A label that is to be bound.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        Label(self.labels.len() - 1)
    }

    /// The label stands before the next instruction.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = self.instructions.len();
    }

    /// Appends an instruction, which may then be masked.
    pub(crate) fn push(&mut self, code: Code, args: &[Arg]) -> &mut Instruction {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (at, arg) in args.iter().enumerate() {
            let at = at as u32;
            match *arg {
                Arg::Reg(register) => instruction.set_op_register(at, register),
                Arg::Mem { base, index, scale, distance, spread } => {
                    instruction.set_op_kind(at, OpKind::Memory);
                    instruction.set_memory_base(base);
                    instruction.set_memory_index(index);
                    instruction.set_memory_index_scale(scale);
                    instruction.set_memory_displacement64(i64::from(distance) as u64);
                    instruction.set_memory_displ_size(u32::from(distance != 0));
                    instruction.set_is_broadcast(spread);
                }
                Arg::Pool(kind, spread) => {
                    instruction.set_op_kind(at, OpKind::Memory);
                    instruction.set_memory_base(Register::RIP);
                    instruction.set_memory_displ_size(8);
                    instruction.set_is_broadcast(spread);
                    let known = self.pool.iter().position(|known| *known == kind);
                    let place = known.unwrap_or_else(|| {
                        self.pool.push(kind);
                        self.pool.len() - 1
                    });
                    self.reads.push((self.instructions.len(), place));
                }
                Arg::Imm8(value) => {
                    instruction.set_op_kind(at, OpKind::Immediate8);
                    instruction.set_immediate8(value);
                }
                Arg::Imm32(value) => {
                    instruction.set_op_kind(at, OpKind::Immediate32to64);
                    instruction.set_immediate32to64(i64::from(value));
                }
            }
        }
        self.instructions.push(instruction);
        self.instructions.last_mut().expect("it was just pushed")
    }

    /// Appends a jump.
    pub(crate) fn jump(&mut self, code: Code, to: Label) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        instruction.set_op_kind(0, OpKind::NearBranch64);
        self.branches.push((self.instructions.len(), to));
        self.instructions.push(instruction);
    }

    /// The bytes: code, and behind it the constants, for vectors of so many lanes. A constant that is the same in all
    /// lanes stands there once if the processor can spread it.
    pub(crate) fn finish(mut self, lanes: usize, spreads: bool) -> Vec<u8> {
        let code = self.instructions.len();
        // Whole vectors come first, so that each is aligned.
        let mut order: Vec<usize> = (0..self.pool.len()).collect();
        order.sort_by_key(|&at| (matches!(self.pool[at], Kind::Splat(_)), at));
        let mut places = vec![0; self.pool.len()];
        for at in order {
            places[at] = self.instructions.len();
            for bytes in data(self.pool[at], lanes, spreads).chunks(16) {
                let data = Instruction::with_declare_byte(bytes).expect("bug: sixteen bytes are data");
                self.instructions.push(data);
            }
        }
        // The encoder knows instructions by their addresses.
        let address = |at: usize| 1 + at as u64;
        for (at, instruction) in self.instructions.iter_mut().enumerate() {
            instruction.set_ip(address(at));
        }
        for &(at, label) in &self.branches {
            self.instructions[at].set_near_branch64(address(self.labels[label.0]));
        }
        for &(at, place) in &self.reads {
            self.instructions[at].set_memory_displacement64(address(places[place]));
        }
        let length = assemble(&self.instructions).1[code..].first().copied();
        let Some(length) = length else { return assemble(&self.instructions).0 };
        let padding = (length as usize).next_multiple_of(ALIGN) - length as usize;
        let fill = vec![0xcc; padding];
        let mut fill: Vec<Instruction> = fill
            .chunks(16)
            .map(|bytes| Instruction::with_declare_byte(bytes).expect("bug: sixteen bytes are data"))
            .collect();
        for (at, instruction) in fill.iter_mut().enumerate() {
            instruction.set_ip(address(self.instructions.len() + at));
        }
        self.instructions.splice(code..code, fill);
        assemble(&self.instructions).0
    }
}

/// The bytes of a constant.
fn data(kind: Kind, lanes: usize, spreads: bool) -> Vec<u8> {
    let lane = |at: usize| match kind {
        Kind::Splat(bits) => bits,
        Kind::Count(step) => step.wrapping_mul(at as i32) as u32,
        _ => unreachable!("bug: {kind:?} is no constant"),
    };
    let count = if spreads && matches!(kind, Kind::Splat(_)) { 1 } else { lanes };
    (0..count).flat_map(|at| lane(at).to_le_bytes()).collect()
}

/// The bytes, and where each instruction begins.
fn assemble(instructions: &[Instruction]) -> (Vec<u8>, Vec<u32>) {
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let block = InstructionBlock::new(instructions, 0);
    let result = BlockEncoder::encode(64, block, options).expect("bug: an instruction has no encoding");
    (result.code_buffer, result.new_instruction_offsets)
}
