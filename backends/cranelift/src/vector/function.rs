//! A region as the bytes of a function: loops, slots in registers, and what surrounds them.
//!
//! The function is called with the address of the frame and keeps what its caller's convention wants kept.

use iced_x86::{Code, Register};

use super::allocate::{Allocation, allocate};
use super::code::{Arg, Assembler, Label};
use super::encode::{AXIS, Encoder, FRAME, LIMIT, SCRATCH, files};
use super::region::{Kind, Number, Region, Slot};
use super::trace::{Lanes, Mode, Shape, Step, Trace, trace};

/// Registers for slots; the first four need not be kept.
const SLOTS: [Register; 9] = [
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::RBX,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Rows and vectors in one iteration, the most first; with fewer if registers do not suffice.
const SHAPES: [(usize, usize); 6] = [(4, 4), (2, 4), (4, 2), (2, 2), (1, 2), (1, 1)];

/// The longest body that is written out for several vectors.
const LONGEST: usize = 1200;

/// The function of a region, at 512 bits or at 256.
pub(crate) fn function(region: &Region, wide: bool) -> Vec<u8> {
    let lanes = if wide { 16 } else { 8 };
    let candidates = SHAPES.iter().map(|&(rows, parts)| {
        let trace = trace(region, Shape { lanes, parts, rows });
        let allocation = allocate(&trace, files(wide));
        (rows * parts, trace, allocation)
    });
    let fits = |(most, trace, allocation): &(usize, Trace, Allocation)| {
        *most == 1 || allocation.spilled == 0 && trace.steps.len() <= LONGEST
    };
    let (_, trace, allocation) = { candidates }.find(fits).expect("bug: one vector always fits");
    let mut writer = Writer {
        region,
        open: Vec::new(),
        e: Encoder {
            code: Assembler::default(),
            wide,
            homes: &allocation.homes,
            classes: &trace.classes,
            slots: slots_in_registers(region, &trace),
            rest: false,
        },
    };
    writer.whole(&trace, allocation.spilled);
    writer.e.code.finish(lanes, wide)
}

/// The slots that are used most in loops get registers.
fn slots_in_registers(region: &Region, trace: &Trace) -> Vec<Option<Register>> {
    let mut weights = vec![0u64; region.slots];
    let mut depth = 0;
    for step in &trace.steps {
        let weight = 10u64.pow(depth.min(6));
        let mut used = |slot: Slot, times: u64| weights[slot] += weight * times;
        match step {
            Step::Compute { kind, .. } => match kind {
                Kind::Load(place) | Kind::Spread(place) | Kind::Gather(place, _) => used(place.slot, 1),
                Kind::First { slot, .. } => used(*slot, 1),
                _ => {}
            },
            Step::Store { place, .. } => used(place.slot, 1),
            Step::Enter(..) => depth += 1,
            Step::Leave(at, _) => {
                let inner = &region.loops[*at];
                inner.advances.iter().for_each(|advance| used(advance.slot, 2));
                inner.counter.iter().for_each(|&counter| used(counter, 2));
                depth -= 1;
            }
        }
    }
    let mut order: Vec<Slot> = (0..region.slots).filter(|&slot| weights[slot] >= 10).collect();
    order.sort_by_key(|&slot| (std::cmp::Reverse(weights[slot]), slot));
    let mut registers = vec![None; region.slots];
    for (slot, register) in order.into_iter().zip(SLOTS) {
        registers[slot] = Some(register);
    }
    registers
}

struct Writer<'a> {
    region: &'a Region,
    /// Where the open loops begin and end.
    open: Vec<(Label, Label)>,
    e: Encoder<'a>,
}

impl Writer<'_> {
    fn op(&mut self, code: Code, args: &[Arg]) {
        self.e.code.push(code, args);
    }

    fn whole(&mut self, trace: &Trace, spilled: u32) {
        let (base, stack) = (Arg::Reg(Register::RBP), Arg::Reg(Register::RSP));
        let kept: Vec<Register> =
            SLOTS[4..].iter().copied().filter(|r| self.e.slots.contains(&Some(*r))).collect();
        self.op(Code::Push_r64, &[base]);
        self.op(Code::Mov_r64_rm64, &[base, stack]);
        for &register in &kept {
            self.op(Code::Push_r64, &[Arg::Reg(register)]);
        }
        if spilled > 0 {
            let bytes = spilled as i32 * self.e.lanes() * 4;
            self.op(Code::Sub_rm64_imm32, &[stack, Arg::Imm32(bytes)]);
            self.op(Code::And_rm64_imm32, &[stack, Arg::Imm32(-64)]);
        }
        for slot in 0..self.region.slots {
            if let Some(register) = self.e.slots[slot] {
                self.op(Code::Mov_r64_rm64, &[Arg::Reg(register), Arg::at(FRAME, 8 * slot as i32)]);
            }
        }
        for step in &trace.steps {
            match step {
                Step::Compute { to, kind, args, part } => self.e.compute(*to, *kind, args, *part),
                Step::Store { place, value, lanes, part } => match lanes {
                    Lanes::Beside => self.e.store(*place, *value, *part),
                    Lanes::Apart(stride, index) => self.e.scatter(*place, *stride, [*index, *value], *part),
                    Lanes::One => self.e.store_one(*place, *value),
                },
                Step::Enter(at, mode) => self.enter(*at, *mode),
                Step::Leave(at, mode) => self.leave(*at, *mode),
            }
        }
        if spilled > 0 {
            let saved = Arg::at(Register::RBP, -8 * kept.len() as i32);
            self.op(Code::Lea_r64_m, &[stack, saved]);
        }
        for &register in kept.iter().rev() {
            self.op(Code::Pop_r64, &[Arg::Reg(register)]);
        }
        self.op(Code::Pop_r64, &[base]);
        self.op(Code::VEX_Vzeroupper, &[]);
        self.op(Code::Retnq, &[]);
    }

    fn set(&mut self, to: Register, number: Number) {
        match number {
            Number::Const(value) => self.op(Code::Mov_rm64_imm32, &[Arg::Reg(to), Arg::Imm32(value as i32)]),
            Number::Slot(slot) => {
                let from = self.e.slot(slot);
                self.op(Code::Mov_r64_rm64, &[Arg::Reg(to), from]);
            }
        }
    }

    fn enter(&mut self, at: usize, mode: Mode) {
        let (top, end) = (self.e.code.label(), self.e.code.label());
        self.open.push((top, end));
        let inner = &self.region.loops[at];
        let axis = Arg::Reg(AXIS);
        let limit = Arg::Reg(LIMIT);
        match mode {
            Mode::Serial => {
                let counter = inner.counter.expect("bug: a serial loop counts");
                self.set(SCRATCH, inner.count);
                if !matches!(inner.count, Number::Const(count) if count > 0) {
                    self.op(Code::Cmp_rm64_imm32, &[Arg::Reg(SCRATCH), Arg::Imm32(0)]);
                    self.e.code.jump(Code::Jle_rel32_64, end);
                }
                let counter = self.e.slot(counter);
                self.op(Code::Mov_rm64_r64, &[counter, Arg::Reg(SCRATCH)]);
                self.e.code.bind(top);
            }
            Mode::Several(rows) => {
                let counter = self.e.slot(inner.counter.expect("bug: a serial loop counts"));
                self.set(SCRATCH, inner.count);
                self.op(Code::Sub_rm64_imm32, &[Arg::Reg(SCRATCH), Arg::Imm32(rows as i32)]);
                self.op(Code::Mov_rm64_r64, &[counter, Arg::Reg(SCRATCH)]);
                self.e.code.jump(Code::Jl_rel32_64, end);
                self.e.code.bind(top);
            }
            Mode::Left(rows) => {
                let counter = self.e.slot(inner.counter.expect("bug: a serial loop counts"));
                self.op(Code::Add_rm64_imm32, &[counter, Arg::Imm32(rows as i32)]);
                self.e.code.jump(Code::Jle_rel32_64, end);
                self.e.code.bind(top);
            }
            Mode::Whole(parts) => {
                self.op(Code::Xor_r32_rm32, &[Arg::Reg(Register::ECX), Arg::Reg(Register::ECX)]);
                self.set(LIMIT, inner.count);
                let span = parts as i32 * self.e.lanes();
                self.op(Code::Sub_rm64_imm32, &[limit, Arg::Imm32(span)]);
                self.e.code.jump(Code::Jl_rel32_64, end);
                self.e.code.bind(top);
            }
            Mode::Rest { first, .. } => {
                if first {
                    self.op(Code::Xor_r32_rm32, &[Arg::Reg(Register::ECX), Arg::Reg(Register::ECX)]);
                }
                self.e.code.bind(top);
                self.set(LIMIT, inner.count);
                self.op(Code::Sub_r64_rm64, &[limit, axis]);
                self.e.code.jump(Code::Jle_rel32_64, end);
                self.existing();
                self.e.rest = true;
            }
        }
    }

    /// The mask of the lanes that are left.
    fn existing(&mut self) {
        let mask = self.e.existing();
        let left = Register::EDX;
        if self.e.wide {
            let ones = Arg::Reg(Register::EAX);
            self.op(Code::Mov_rm64_imm32, &[Arg::Reg(Register::RAX), Arg::Imm32(-1)]);
            self.op(Code::VEX_Bzhi_r32_rm32_r32, &[ones, ones, Arg::Reg(left)]);
            self.op(Code::VEX_Kmovw_kr_r32, &[Arg::Reg(mask), ones]);
        } else {
            self.e.spread_number(mask, left);
            let lanes = Arg::Pool(Kind::Count(1), false);
            self.op(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, &[Arg::Reg(mask), Arg::Reg(mask), lanes]);
        }
    }

    fn leave(&mut self, at: usize, mode: Mode) {
        let (top, end) = self.open.pop().expect("bug: a loop ends that did not begin");
        let region = self.region;
        let inner = &region.loops[at];
        let axis = Arg::Reg(AXIS);
        match mode {
            Mode::Several(rows) => {
                for advance in &inner.advances {
                    let Number::Const(step) = advance.step else {
                        unreachable!("bug: several rows at a distance that is not known")
                    };
                    let step = Number::Const(step * rows as i64);
                    self.change(Code::Add_rm64_imm32, Code::Add_rm64_r64, advance.slot, step);
                }
                let counter = self.e.slot(inner.counter.expect("bug: a serial loop counts"));
                self.op(Code::Sub_rm64_imm32, &[counter, Arg::Imm32(rows as i32)]);
                self.e.code.jump(Code::Jge_rel32_64, top);
            }
            Mode::Serial | Mode::Left(_) => {
                for advance in &inner.advances {
                    self.change(Code::Add_rm64_imm32, Code::Add_rm64_r64, advance.slot, advance.step);
                }
                let counter = self.e.slot(inner.counter.expect("bug: a serial loop counts"));
                self.op(Code::Sub_rm64_imm32, &[counter, Arg::Imm32(1)]);
                self.e.code.jump(Code::Jne_rel32_64, top);
                for advance in &inner.advances {
                    if let Some(rewind) = advance.rewind {
                        self.change(Code::Sub_rm64_imm32, Code::Sub_rm64_r64, advance.slot, rewind);
                    }
                }
            }
            Mode::Whole(parts) => {
                let span = parts as i32 * self.e.lanes();
                self.op(Code::Add_rm64_imm32, &[axis, Arg::Imm32(span)]);
                self.op(Code::Cmp_r64_rm64, &[axis, Arg::Reg(LIMIT)]);
                self.e.code.jump(Code::Jle_rel32_64, top);
            }
            Mode::Rest { again, .. } => {
                let lanes = self.e.lanes();
                self.op(Code::Add_rm64_imm32, &[axis, Arg::Imm32(lanes)]);
                if again {
                    self.e.code.jump(Code::Jmp_rel32_64, top);
                }
                self.e.rest = false;
            }
        }
        self.e.code.bind(end);
    }

    /// Adds a number to a slot, or subtracts it.
    fn change(&mut self, constant: Code, register: Code, slot: Slot, by: Number) {
        let to = self.e.slot(slot);
        match by {
            Number::Const(by) => self.op(constant, &[to, Arg::Imm32(by as i32)]),
            Number::Slot(by) => {
                let from = match self.e.slots[by] {
                    Some(from) => from,
                    None => {
                        self.set(SCRATCH, Number::Slot(by));
                        SCRATCH
                    }
                };
                self.op(register, &[to, Arg::Reg(from)]);
            }
        }
    }
}
