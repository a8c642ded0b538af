//! Steps to instructions: what touches memory or the frame.

use iced_x86::{Code, Register};

use super::code::Arg;
use super::encode::{AXIS, Encoder, LANE, LIMIT, SCRATCH, half, low};
use super::region::{Element, Place, Slot};
use super::select;
use super::trace::Virtual;

/// Beside the scratch register.
const OTHER: Register = Register::RSI;

impl Encoder<'_> {
    /// Elements along the vector axis.
    fn along(&mut self, place: Place, part: usize) -> Arg {
        let base = self.slot_in(place.slot, SCRATCH);
        let bytes = place.element.bytes();
        let distance = place.distance + part as i32 * self.lanes() * bytes;
        Arg::Mem { base, index: AXIS, scale: bytes as u32, distance, spread: false }
    }

    pub(crate) fn load(&mut self, to: Arg, place: Place, guard: Option<Virtual>, part: usize) {
        let from = self.along(place, part);
        let mask = match guard {
            Some(guard) if self.wide => Some(self.mask(guard, Register::K7)),
            Some(guard) => Some(self.operand(guard, 1)),
            None => self.rest.then(|| self.existing()),
        };
        let code = select::load_narrow(place.element, self.wide);
        match mask {
            None => {
                self.code.push(code, &[to, from]);
            }
            Some(mask) if self.wide => {
                let load = self.code.push(code, &[to, from]);
                load.set_op_mask(mask);
                load.set_zeroing_masking(true);
            }
            Some(mask) if place.element != Element::Lane => {
                let some = self.some(from, mask, place.element.bytes());
                self.code.push(code, &[to, Arg::Reg(some)]);
            }
            Some(mask) => {
                self.code.push(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[to, Arg::Reg(mask), from]);
            }
        }
        if place.element == Element::Brain {
            self.code.push(select::shift(true, self.wide), &[to, to, Arg::Imm8(16)]);
        }
    }

    /// Elements of one or two bytes in the lanes of a mask, at 256 bits; those of others are 0.
    fn some(&mut self, from: Arg, mask: Register, bytes: i32) -> Register {
        let some = low(self.spare(2));
        let (to, wanted) = (Arg::Reg(some), Arg::Reg(Register::ESI));
        let insert = match bytes {
            1 => Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8,
            _ => Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8,
        };
        self.code.push(Code::VEX_Vmovmskps_r32_ymm, &[wanted, Arg::Reg(mask)]);
        self.code.push(Code::VEX_Vpxor_xmm_xmm_xmmm128, &[to, to, to]);
        for lane in 0..self.lanes() {
            let next = self.code.label();
            self.code.push(Code::Test_rm64_imm32, &[Arg::Reg(OTHER), Arg::Imm32(1 << lane)]);
            self.code.jump(Code::Je_rel32_64, next);
            self.code.push(insert, &[to, to, from.beyond(lane * bytes), Arg::Imm8(lane as u8)]);
            self.code.bind(next);
        }
        some
    }

    /// Writes what elements of one or two bytes keep of lanes.
    fn store_narrow(&mut self, to: Arg, value: Register, element: Element) {
        let value = Arg::Reg(value);
        let temporary = self.spare(2);
        let shifted = Arg::Reg(temporary);
        if element == Element::Brain {
            self.code.push(select::shift(false, self.wide), &[shifted, value, Arg::Imm8(16)]);
        }
        if self.wide {
            let (code, value) = match element {
                Element::Half => (select::to_half(true), value),
                Element::Brain => (Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, shifted),
                _ => (Code::EVEX_Vpmovdb_xmmm128_k1z_zmm, value),
            };
            let existing = self.existing();
            let store = match element {
                Element::Half => self.code.push(code, &[to, value, Arg::Imm8(0)]),
                _ => self.code.push(code, &[to, value]),
            };
            if self.rest {
                store.set_op_mask(existing);
            }
            return;
        }
        let packed = Arg::Reg(low(temporary));
        let upper = |this: &mut Self, from: Arg| {
            let code = Code::VEX_Vextracti128_xmmm128_ymm_imm8;
            this.code.push(code, &[packed, from, Arg::Imm8(1)]);
        };
        let lower = |of: Arg| match of {
            Arg::Reg(register) => Arg::Reg(low(register)),
            other => other,
        };
        match element {
            Element::Half => {
                self.code.push(select::to_half(false), &[packed, value, Arg::Imm8(0)]);
            }
            // Both halves of the shifted lanes, as words.
            Element::Brain => {
                let other = Arg::Reg(low(self.spare(1)));
                let code = Code::VEX_Vextracti128_xmmm128_ymm_imm8;
                self.code.push(code, &[other, shifted, Arg::Imm8(1)]);
                self.code.push(Code::VEX_Vpackusdw_xmm_xmm_xmmm128, &[packed, packed, other]);
            }
            // Numbers that are bytes are not changed by saturation.
            Element::Signed => {
                upper(self, value);
                self.code.push(Code::VEX_Vpackssdw_xmm_xmm_xmmm128, &[packed, lower(value), packed]);
                self.code.push(Code::VEX_Vpacksswb_xmm_xmm_xmmm128, &[packed, packed, packed]);
            }
            Element::Unsigned | Element::Lane => {
                upper(self, value);
                self.code.push(Code::VEX_Vpackusdw_xmm_xmm_xmmm128, &[packed, lower(value), packed]);
                self.code.push(Code::VEX_Vpackuswb_xmm_xmm_xmmm128, &[packed, packed, packed]);
            }
        }
        let bytes = element.bytes();
        let (all, one) = match bytes {
            1 => (Code::VEX_Vmovq_xmmm64_xmm, Code::VEX_Vpextrb_r32m8_xmm_imm8),
            _ => (Code::VEX_Vmovups_xmmm128_xmm, Code::VEX_Vpextrw_r32m16_xmm_imm8),
        };
        if !self.rest {
            self.code.push(all, &[to, packed]);
            return;
        }
        let end = self.code.label();
        for lane in 0..self.lanes() {
            self.code.push(Code::Cmp_rm64_imm32, &[Arg::Reg(LIMIT), Arg::Imm32(lane)]);
            self.code.jump(Code::Jle_rel32_64, end);
            self.code.push(one, &[to.beyond(lane * bytes), packed, Arg::Imm8(lane as u8)]);
        }
        self.code.bind(end);
    }

    /// Writes lanes.
    pub(crate) fn store(&mut self, place: Place, value: Virtual, part: usize) {
        let to = self.along(place, part);
        let register = self.operand(value, 0);
        if place.element != Element::Lane {
            return self.store_narrow(to, register, place.element);
        }
        let value = Arg::Reg(register);
        let existing = self.existing();
        match (self.rest, self.wide) {
            (false, wide) => {
                self.code.push(select::store(wide), &[to, value]);
            }
            (true, true) => self.code.push(select::store(true), &[to, value]).set_op_mask(existing),
            (true, false) => {
                self.code.push(Code::VEX_Vmaskmovps_m256_ymm_ymm, &[to, Arg::Reg(existing), value]);
            }
        }
    }

    /// Writes the first lane.
    pub(crate) fn store_one(&mut self, place: Place, value: Virtual) {
        let base = self.slot_in(place.slot, SCRATCH);
        let whole = self.operand(value, 0);
        let value = Arg::Reg(low(whole));
        let to = Arg::at(base, place.distance);
        if place.element == Element::Lane {
            self.code.push(select::store_one(self.wide), &[to, value]);
            return;
        }
        let number = Arg::Reg(Register::ESI);
        match place.element {
            Element::Half => {
                let bits = Arg::Reg(half(self.spare(2)));
                self.code.push(select::to_half(self.wide), &[bits, Arg::Reg(whole), Arg::Imm8(0)]);
                let bits = Arg::Reg(low(self.spare(2)));
                self.code.push(select::first_lane(self.wide), &[number, bits]);
            }
            _ => {
                self.code.push(select::first_lane(self.wide), &[number, value]);
            }
        }
        match place.element {
            Element::Half => self.code.push(Code::Mov_rm16_r16, &[to, Arg::Reg(Register::SI)]),
            Element::Brain => {
                self.code.push(Code::Shr_rm32_imm8, &[number, Arg::Imm8(16)]);
                self.code.push(Code::Mov_rm16_r16, &[to, Arg::Reg(Register::SI)])
            }
            _ => self.code.push(Code::Mov_rm8_r8, &[to, Arg::Reg(Register::SIL)]),
        };
    }

    /// One element for all lanes that want it.
    pub(crate) fn spread(&mut self, to: Arg, place: Place, guard: Option<Virtual>) {
        let base = self.slot_in(place.slot, SCRATCH);
        let from = Arg::at(base, place.distance);
        if place.element != Element::Lane {
            return self.spread_narrow(to, from, place.element, guard);
        }
        match guard {
            None => {
                self.code.push(select::spread(self.wide), &[to, from]);
            }
            // With no lane that wants it, the instruction reads nothing.
            Some(guard) if self.wide => {
                let mask = self.mask(guard, Register::K7);
                let spread = self.code.push(select::spread(true), &[to, from]);
                spread.set_op_mask(mask);
                spread.set_zeroing_masking(true);
            }
            Some(guard) => {
                let mask = Arg::Reg(self.operand(guard, 1));
                let value = Arg::Reg(self.spare(2));
                let any = Arg::Reg(Register::ESI);
                let none = self.code.label();
                self.code.push(Code::VEX_Vpxor_ymm_ymm_ymmm256, &[value, value, value]);
                self.code.push(Code::VEX_Vmovmskps_r32_ymm, &[any, mask]);
                self.code.push(Code::Test_rm32_r32, &[any, any]);
                self.code.jump(Code::Je_rel32_64, none);
                self.code.push(select::spread(false), &[value, from]);
                self.code.bind(none);
                self.code.push(Code::VEX_Vpand_ymm_ymm_ymmm256, &[to, value, mask]);
            }
        }
    }

    /// One element of one or two bytes for all lanes that want it.
    fn spread_narrow(&mut self, to: Arg, from: Arg, element: Element, guard: Option<Virtual>) {
        let number = Arg::Reg(Register::ESI);
        let none = self.code.label();
        let mask = match guard {
            Some(guard) if self.wide => {
                let mask = self.mask(guard, Register::K7);
                self.code.push(Code::VEX_Kmovw_r32_kr, &[number, Arg::Reg(mask)]);
                Some(mask)
            }
            Some(guard) => {
                let mask = self.operand(guard, 1);
                self.code.push(Code::VEX_Vmovmskps_r32_ymm, &[number, Arg::Reg(mask)]);
                Some(mask)
            }
            None => None,
        };
        if mask.is_some() {
            self.code.push(Code::Test_rm32_r32, &[number, number]);
            self.code.jump(Code::Je_rel32_64, none);
        }
        self.code.push(select::load_one(element), &[number, from]);
        self.code.bind(none);
        // All lanes have the number: they are converted before some of them become 0.
        let register = self.spare(2);
        let value = Arg::Reg(register);
        match self.wide {
            true => {
                self.code.push(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &[value, number]);
            }
            false => self.spread_number(register, Register::ESI),
        }
        match element {
            Element::Brain => {
                self.code.push(select::shift(true, self.wide), &[value, value, Arg::Imm8(16)]);
            }
            Element::Half => {
                let bits = Arg::Reg(half(register));
                match self.wide {
                    true => self.code.push(Code::EVEX_Vpmovdw_ymmm256_k1z_zmm, &[bits, value]),
                    false => self.code.push(Code::VEX_Vpackusdw_ymm_ymm_ymmm256, &[value, value, value]),
                };
                self.code.push(select::load_narrow(Element::Half, self.wide), &[value, bits]);
            }
            _ => {}
        }
        match mask {
            Some(mask) if self.wide => {
                let kept = self.code.push(select::load(true), &[to, value]);
                kept.set_op_mask(mask);
                kept.set_zeroing_masking(true);
            }
            Some(mask) => {
                self.code.push(Code::VEX_Vpand_ymm_ymm_ymmm256, &[to, value, Arg::Reg(mask)]);
            }
            None => {
                self.code.push(select::load(self.wide), &[to, value]);
            }
        }
    }

    /// The address of the first lane, of lanes that lie apart; the distances of the others are `index`.
    fn apart(&mut self, place: Place, stride: i32, index: Register, part: usize) -> Arg {
        let base = self.slot_in(place.slot, SCRATCH);
        let scaled = [Arg::Reg(OTHER), Arg::Reg(AXIS), Arg::Imm32(stride * LANE)];
        self.code.push(Code::Imul_r64_rm64_imm32, &scaled);
        self.code.push(Code::Add_r64_rm64, &[Arg::Reg(OTHER), Arg::Reg(base)]);
        let distance = place.distance + part as i32 * self.lanes() * stride * LANE;
        Arg::Mem { base: OTHER, index, scale: LANE as u32, distance, spread: false }
    }

    /// Writes lanes that lie apart.
    pub(crate) fn scatter(&mut self, place: Place, stride: i32, args: [Virtual; 2], part: usize) {
        let value = self.operand(args[1], 0);
        if self.wide {
            let index = self.operand(args[0], 1);
            let to = self.apart(place, stride, index, part);
            let mask = Arg::Reg(Register::K7);
            if self.rest {
                let existing = Arg::Reg(self.existing());
                self.code.push(Code::VEX_Kmovw_kr_km16, &[mask, existing]);
            } else {
                self.code.push(Code::VEX_Kxnorw_kr_kr_kr, &[mask, mask, mask]);
            }
            let write = self.code.push(Code::EVEX_Vscatterdps_vm32z_k1_zmm, &[to, Arg::Reg(value)]);
            write.set_op_mask(Register::K7);
            return;
        }
        let Arg::Mem { base, distance, .. } = self.apart(place, stride, Register::None, part) else { return };
        let end = self.code.label();
        let mut four = low(value);
        for lane in 0..self.lanes() {
            if self.rest {
                self.code.push(Code::Cmp_rm64_imm32, &[Arg::Reg(LIMIT), Arg::Imm32(lane)]);
                self.code.jump(Code::Jle_rel32_64, end);
            }
            if lane == 4 {
                four = low(self.spare(2));
                let halves = [Arg::Reg(four), Arg::Reg(value), Arg::Imm8(1)];
                self.code.push(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &halves);
            }
            let to = Arg::at(base, distance + lane * stride * LANE);
            let element = [to, Arg::Reg(four), Arg::Imm8(lane as u8 % 4)];
            self.code.push(Code::VEX_Vextractps_rm32_xmm_imm8, &element);
        }
        self.code.bind(end);
    }

    pub(crate) fn gather(&mut self, to: Arg, place: Place, stride: i32, args: &[Virtual], part: usize) {
        let index = self.operand(args[0], 1);
        let from = self.apart(place, stride, index, part);
        let guard = args.get(1).copied();
        // The instruction clears its mask as it goes.
        if self.wide {
            let mask = Arg::Reg(Register::K7);
            match guard {
                Some(guard) => {
                    let guard = self.mask(guard, Register::K7);
                    self.code.push(Code::VEX_Kmovw_kr_km16, &[mask, Arg::Reg(guard)]);
                }
                None if self.rest => {
                    let existing = Arg::Reg(self.existing());
                    self.code.push(Code::VEX_Kmovw_kr_km16, &[mask, existing]);
                }
                None => {
                    self.code.push(Code::VEX_Kxnorw_kr_kr_kr, &[mask, mask, mask]);
                }
            }
            self.code.push(Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, &[to, to, to]);
            self.code.push(Code::EVEX_Vgatherdps_zmm_k1_vm32z, &[to, from]).set_op_mask(Register::K7);
        } else {
            let mask = Arg::Reg(self.spare(2));
            match guard {
                Some(guard) => self.fetch(self.spare(2), self.homes[guard]),
                None if self.rest => {
                    let existing = Arg::Reg(self.existing());
                    self.code.push(select::load(false), &[mask, existing]);
                }
                None => {
                    self.code.push(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, &[mask, mask, mask]);
                }
            }
            self.code.push(Code::VEX_Vpxor_ymm_ymm_ymmm256, &[to, to, to]);
            self.code.push(Code::VEX_Vgatherdps_ymm_vm32y_ymm, &[to, from, mask]);
        }
    }

    pub(crate) fn first(&mut self, to: Register, slot: Slot, scale: i32, clamp: bool, part: usize) {
        let value = Arg::Reg(SCRATCH);
        let slot = self.slot(slot);
        self.code.push(Code::Mov_r64_rm64, &[value, slot]);
        if scale != 0 {
            let mut index = AXIS;
            if scale != 1 {
                index = OTHER;
                let scaled = [Arg::Reg(OTHER), Arg::Reg(AXIS), Arg::Imm32(scale)];
                self.code.push(Code::Imul_r64_rm64_imm32, &scaled);
            }
            let distance = part as i32 * self.lanes() * scale;
            let sum = Arg::Mem { base: SCRATCH, index, scale: 1, distance, spread: false };
            self.code.push(Code::Lea_r64_m, &[value, sum]);
        }
        if clamp {
            let limit = Arg::Reg(OTHER);
            for (bound, choose) in [(1 << 30, Code::Cmovg_r64_rm64), (-(1 << 30), Code::Cmovl_r64_rm64)] {
                self.code.push(Code::Mov_rm64_imm32, &[limit, Arg::Imm32(bound)]);
                self.code.push(Code::Cmp_r64_rm64, &[value, limit]);
                self.code.push(choose, &[value, limit]);
            }
        }
        if self.wide {
            let from = Arg::Reg(Register::EAX);
            self.code.push(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, &[Arg::Reg(to), from]);
        } else {
            self.spread_number(to, Register::EAX);
        }
    }

    /// A number in all lanes, at 256 bits.
    pub(crate) fn spread_number(&mut self, to: Register, from: Register) {
        let low = Arg::Reg(low(to));
        self.code.push(Code::VEX_Vmovd_xmm_rm32, &[low, Arg::Reg(from)]);
        self.code.push(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[Arg::Reg(to), low]);
    }
}
