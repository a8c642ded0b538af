//! Steps to instructions: values in lanes.
//!
//! Registers 29 to 31 (13 to 15 at 256 bits) hold operands that have no register of their own, and at 256 bits the
//! mask of the existing lanes is in register 12; masks 0 and 7 are their like at 512 bits, and 1.

use iced_x86::{Code, Register};

use super::allocate::{Files, Home};
use super::code::{Arg, Assembler};
use super::region::{Class, Compare, Element, Kind, One, Slot};
use super::select;
use super::trace::Virtual;

/// Where the frame is.
pub(crate) const FRAME: Register = Register::RDI;
/// The vector axis.
pub(crate) const AXIS: Register = Register::RCX;
/// For addresses and numbers of the moment.
pub(crate) const SCRATCH: Register = Register::RAX;
/// The last first lane of a whole iteration, or the lanes that are left.
pub(crate) const LIMIT: Register = Register::RDX;
/// Bytes of a lane.
pub(crate) const LANE: i32 = 4;

/// Instructions for one function.
pub(crate) struct Encoder<'a> {
    /// The instructions.
    pub(crate) code: Assembler,
    /// 512 bits, else 256?
    pub(crate) wide: bool,
    /// Where virtual registers are.
    pub(crate) homes: &'a [Home],
    /// Where virtual registers live.
    pub(crate) classes: &'a [Class],
    /// Slots that are in a register.
    pub(crate) slots: Vec<Option<Register>>,
    /// May lanes not exist at this place?
    pub(crate) rest: bool,
}

/// Registers that are given out.
pub(crate) fn files(wide: bool) -> Files {
    if wide { Files { vectors: 29, masks: 5 } } else { Files { vectors: 12, masks: 0 } }
}

/// The first four lanes of a vector register.
pub(crate) fn low(register: Register) -> Register {
    let first = if register >= Register::ZMM0 { Register::ZMM0 } else { Register::YMM0 };
    Register::XMM0 + (register as u32 - first as u32)
}

/// The register with half of the bits of a vector register.
pub(crate) fn half(register: Register) -> Register {
    if register >= Register::ZMM0 {
        Register::YMM0 + (register as u32 - Register::ZMM0 as u32)
    } else {
        low(register)
    }
}

impl Encoder<'_> {
    /// Lanes of a vector.
    pub(crate) fn lanes(&self) -> i32 {
        if self.wide { 16 } else { 8 }
    }

    /// A vector register by number.
    pub(crate) fn vector(&self, number: u8) -> Register {
        let first = if self.wide { Register::ZMM0 } else { Register::YMM0 };
        first + u32::from(number)
    }

    /// A vector register for operands that have none.
    pub(crate) fn spare(&self, number: u8) -> Register {
        self.vector(number + if self.wide { 29 } else { 13 })
    }

    /// The mask of the lanes that exist.
    pub(crate) fn existing(&self) -> Register {
        if self.wide { Register::K1 } else { self.vector(12) }
    }

    fn is_mask(&self, v: Virtual) -> bool {
        self.wide && self.classes[v] == Class::Mask
    }

    fn on_stack(&self, number: u32) -> Arg {
        Arg::at(Register::RSP, number as i32 * self.lanes() * LANE)
    }

    /// The slot, where it is.
    pub(crate) fn slot(&self, slot: Slot) -> Arg {
        self.slots[slot].map_or(Arg::at(FRAME, 8 * slot as i32), Arg::Reg)
    }

    /// The slot in a register.
    pub(crate) fn slot_in(&mut self, slot: Slot, spare: Register) -> Register {
        if let Some(register) = self.slots[slot] {
            return register;
        }
        self.code.push(Code::Mov_r64_rm64, &[Arg::Reg(spare), Arg::at(FRAME, 8 * slot as i32)]);
        spare
    }

    /// The operand in memory, or in its register.
    pub(crate) fn anywhere(&mut self, v: Virtual, spare: u8) -> Arg {
        match self.homes[v] {
            Home::Register(number) => Arg::Reg(self.vector(number)),
            Home::Stack(number) => self.on_stack(number),
            Home::Pool(kind) => Arg::Pool(kind, self.wide && matches!(kind, Kind::Splat(_))),
            Home::Frame(slot) if self.wide => Arg::at(FRAME, 8 * slot as i32).spread(),
            Home::Frame(_) => Arg::Reg(self.operand(v, spare)),
        }
    }

    /// The operand in a register.
    pub(crate) fn operand(&mut self, v: Virtual, spare: u8) -> Register {
        if let Home::Register(number) = self.homes[v] {
            return self.vector(number);
        }
        let register = self.spare(spare);
        self.fetch(register, self.homes[v]);
        register
    }

    pub(crate) fn fetch(&mut self, to: Register, home: Home) {
        let (code, from) = match home {
            Home::Register(number) => (select::load(self.wide), Arg::Reg(self.vector(number))),
            Home::Stack(number) => (select::load(self.wide), self.on_stack(number)),
            Home::Pool(kind @ Kind::Splat(_)) if self.wide => (select::spread(true), Arg::Pool(kind, false)),
            Home::Pool(kind) => (select::load(self.wide), Arg::Pool(kind, false)),
            Home::Frame(slot) => (select::spread(self.wide), Arg::at(FRAME, 8 * slot as i32)),
        };
        self.code.push(code, &[Arg::Reg(to), from]);
    }

    /// A mask in a mask register.
    pub(crate) fn mask(&mut self, v: Virtual, spare: Register) -> Register {
        match self.homes[v] {
            Home::Register(number) => Register::K0 + u32::from(number),
            Home::Stack(number) => {
                let from = self.on_stack(number);
                self.code.push(Code::VEX_Kmovw_kr_km16, &[Arg::Reg(spare), from]);
                spare
            }
            Home::Pool(_) | Home::Frame(_) => unreachable!("bug: a mask that is a constant"),
        }
    }

    /// Computes a value.
    pub(crate) fn compute(&mut self, to: Virtual, kind: Kind, args: &[Virtual], part: usize) {
        let is_mask = self.is_mask(to);
        let (result, spilled) = match self.homes[to] {
            Home::Register(number) if is_mask => (Register::K0 + u32::from(number), None),
            Home::Register(number) => (self.vector(number), None),
            Home::Stack(number) if is_mask => (Register::K7, Some(number)),
            Home::Stack(number) => (self.spare(0), Some(number)),
            // Read where it is used.
            Home::Pool(_) | Home::Frame(_) => return,
        };
        if is_mask {
            self.compute_mask(result, kind, args)
        } else {
            self.compute_vector(result, kind, args, part)
        }
        if let Some(number) = spilled {
            let code = if is_mask { Code::VEX_Kmovw_m16_kr } else { select::store(self.wide) };
            let to = self.on_stack(number);
            self.code.push(code, &[to, Arg::Reg(result)]);
        }
    }

    fn compute_mask(&mut self, to: Register, kind: Kind, args: &[Virtual]) {
        let to = Arg::Reg(to);
        match kind {
            Kind::Compare(f) => self.compare(to, f, args),
            Kind::Logic(f) => {
                let a = self.mask(args[0], Register::K0);
                let b = self.mask(args[1], Register::K7);
                self.code.push(select::logic(f, true), &[to, Arg::Reg(a), Arg::Reg(b)]);
            }
            Kind::Not => {
                let a = self.mask(args[0], Register::K7);
                self.code.push(Code::VEX_Knotw_kr_kr, &[to, Arg::Reg(a)]);
            }
            Kind::Existing => {
                let a = self.mask(args[0], Register::K7);
                let existing = Arg::Reg(self.existing());
                self.code.push(Code::VEX_Kandw_kr_kr_kr, &[to, Arg::Reg(a), existing]);
            }
            Kind::Copy => {
                let a = self.mask(args[0], Register::K7);
                self.code.push(Code::VEX_Kmovw_kr_km16, &[to, Arg::Reg(a)]);
            }
            _ => unreachable!("bug: {kind:?} gives no mask"),
        }
    }

    fn compare(&mut self, to: Arg, f: Compare, args: &[Virtual]) {
        let a = Arg::Reg(self.operand(args[0], 1));
        let b = self.anywhere(args[1], 2);
        let (code, predicate) = select::compare(f, self.wide);
        match predicate {
            Some(predicate) => self.code.push(code, &[to, a, b, Arg::Imm8(predicate)]),
            None => self.code.push(code, &[to, a, b]),
        };
    }

    fn compute_vector(&mut self, register: Register, kind: Kind, args: &[Virtual], part: usize) {
        let to = Arg::Reg(register);
        let wide = self.wide;
        match kind {
            Kind::Splat(_) | Kind::Count(_) => self.fetch(register, Home::Pool(kind)),
            Kind::Uniform(slot) => self.fetch(register, Home::Frame(slot)),
            Kind::First { slot, scale, clamp } => self.first(register, slot, scale, clamp, part),
            Kind::Load(place) => self.load(to, place, args.first().copied(), part),
            Kind::Spread(place) => self.spread(to, place, args.first().copied()),
            Kind::Gather(place, stride) => self.gather(to, place, stride, args, part),
            Kind::Two(f) => {
                let in_register = |v: Virtual| matches!(self.homes[v], Home::Register(_));
                let swap = select::commutes(f) && !in_register(args[0]) && in_register(args[1]);
                let (a, b) = if swap { (args[1], args[0]) } else { (args[0], args[1]) };
                let a = Arg::Reg(self.operand(a, 1));
                let b = self.anywhere(b, 2);
                self.code.push(select::two(f, wide), &[to, a, b]);
            }
            Kind::One(One::Half) => {
                let a = Arg::Reg(self.operand(args[0], 1));
                let bits = Arg::Reg(half(self.spare(1)));
                self.code.push(select::one(One::Half, wide), &[bits, a, Arg::Imm8(0)]);
                self.code.push(select::load_narrow(Element::Half, wide), &[to, bits]);
            }
            Kind::One(f) => {
                let a = self.anywhere(args[0], 1);
                match f {
                    One::Round(mode) => {
                        // Bit 3: an inexact result is no event.
                        self.code.push(select::one(f, wide), &[to, a, Arg::Imm8(8 | mode)])
                    }
                    _ => self.code.push(select::one(f, wide), &[to, a]),
                };
            }
            Kind::Fma => self.fma(register, args),
            Kind::Blend => self.blend(to, args),
            Kind::Keep => {
                let no = Arg::Reg(self.operand(args[1], 1));
                let yes = self.anywhere(args[0], 2);
                self.choose(to, no, yes);
            }
            Kind::Copy => self.fetch(register, self.homes[args[0]]),
            Kind::Down(distance) => {
                let a = Arg::Reg(self.operand(args[0], 1));
                let (code, how) = select::down(distance, wide);
                let how = Arg::Imm8(how);
                match distance {
                    4.. => self.code.push(code, &[to, a, a, how]),
                    _ => self.code.push(code, &[to, a, how]),
                };
            }
            Kind::Lowest => {
                let a = self.operand(args[0], 1);
                self.code.push(select::lowest(wide), &[to, Arg::Reg(low(a))]);
            }
            // Masks of 256 bits are vectors.
            Kind::Compare(f) => self.compare(to, f, args),
            Kind::Logic(f) => {
                let a = Arg::Reg(self.operand(args[0], 1));
                let b = self.anywhere(args[1], 2);
                self.code.push(select::logic(f, false), &[to, a, b]);
            }
            Kind::Not => {
                let ones = Arg::Reg(self.spare(2));
                self.code.push(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[ones, ones, ones]);
                let a = self.anywhere(args[0], 1);
                self.code.push(Code::VEX_Vpxor_ymm_ymm_ymmm256, &[to, ones, a]);
            }
            Kind::Existing => {
                let a = self.anywhere(args[0], 1);
                let existing = Arg::Reg(self.existing());
                self.code.push(Code::VEX_Vpand_ymm_ymm_ymmm256, &[to, existing, a]);
            }
            Kind::Cell | Kind::Half => unreachable!("bug: {kind:?} is not computed"),
        }
    }

    fn fma(&mut self, to: Register, args: &[Virtual]) {
        let wide = self.wide;
        let is = |this: &Self, v: Virtual| match this.homes[v] {
            Home::Register(number) => this.vector(number) == to,
            _ => false,
        };
        let [mut a, mut b, c] = [args[0], args[1], args[2]];
        if is(self, b) || !matches!(self.homes[a], Home::Register(_)) {
            (a, b) = (b, a);
        }
        if is(self, c) && !is(self, a) {
            let a = Arg::Reg(self.operand(a, 1));
            let b = self.anywhere(b, 2);
            self.code.push(select::fma_231(wide), &[Arg::Reg(to), a, b]);
            return;
        }
        // Neither of the others is in `to` here.
        if !is(self, a) {
            self.fetch(to, self.homes[a]);
        }
        let in_register = |this: &Self, v: Virtual| matches!(this.homes[v], Home::Register(_));
        if !in_register(self, b) && in_register(self, c) {
            let c = Arg::Reg(self.operand(c, 1));
            let b = self.anywhere(b, 2);
            self.code.push(select::fma_132(wide), &[Arg::Reg(to), c, b]);
        } else {
            let b = Arg::Reg(self.operand(b, 1));
            let c = self.anywhere(c, 2);
            self.code.push(select::fma_213(wide), &[Arg::Reg(to), b, c]);
        }
    }

    /// `yes` in the lanes that exist.
    fn choose(&mut self, to: Arg, no: Arg, yes: Arg) {
        let existing = self.existing();
        if self.wide {
            let code = Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
            self.code.push(code, &[to, no, yes]).set_op_mask(existing);
        } else {
            let args = [to, no, yes, Arg::Reg(existing)];
            self.code.push(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &args);
        }
    }

    fn blend(&mut self, to: Arg, args: &[Virtual]) {
        let no = Arg::Reg(self.operand(args[2], 1));
        let yes = self.anywhere(args[1], 2);
        if self.wide {
            let mask = self.mask(args[0], Register::K7);
            let code = Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
            self.code.push(code, &[to, no, yes]).set_op_mask(mask);
        } else {
            let mask = Arg::Reg(self.operand(args[0], 0));
            self.code.push(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &[to, no, yes, mask]);
        }
    }
}
