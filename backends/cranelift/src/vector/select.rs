//! Which machine instruction computes what, at 512 and at 256 bits.

use iced_x86::Code;

use super::region::{Compare, Element, Logic, One, Two};

/// The instruction at 512 bits, or at 256.
fn by(wide: bool, at512: Code, at256: Code) -> Code {
    if wide { at512 } else { at256 }
}

/// A function of two vectors.
pub(crate) fn two(f: Two, wide: bool) -> Code {
    let (at512, at256) = match f {
        Two::AddF => (Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256),
        Two::SubF => (Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256),
        Two::MulF => (Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256),
        Two::DivF => (Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256),
        Two::MinF => (Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256),
        Two::MaxF => (Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
        Two::AddI => (Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256),
        Two::SubI => (Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsubd_ymm_ymm_ymmm256),
        Two::MulI => (Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmulld_ymm_ymm_ymmm256),
        Two::MinS => (Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpminsd_ymm_ymm_ymmm256),
        Two::MaxS => (Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmaxsd_ymm_ymm_ymmm256),
        Two::MinU => (Code::EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpminud_ymm_ymm_ymmm256),
        Two::MaxU => (Code::EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmaxud_ymm_ymm_ymmm256),
        Two::And => (Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpand_ymm_ymm_ymmm256),
        Two::Or => (Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpor_ymm_ymm_ymmm256),
        Two::Xor => (Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpxor_ymm_ymm_ymmm256),
        Two::Shl => (Code::EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsllvd_ymm_ymm_ymmm256),
        Two::Sar => (Code::EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsravd_ymm_ymm_ymmm256),
        Two::Shr => (Code::EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsrlvd_ymm_ymm_ymmm256),
    };
    by(wide, at512, at256)
}

/// May its operands change places?
pub(crate) fn commutes(f: Two) -> bool {
    matches!(f, Two::AddF | Two::MulF | Two::AddI | Two::MulI | Two::MinS | Two::MaxS | Two::MinU | Two::MaxU)
        || matches!(f, Two::And | Two::Or | Two::Xor)
}

/// A function of one vector.
pub(crate) fn one(f: One, wide: bool) -> Code {
    let (at512, at256) = match f {
        One::Sqrt => (Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Code::VEX_Vsqrtps_ymm_ymmm256),
        One::Round(_) => {
            (Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, Code::VEX_Vroundps_ymm_ymmm256_imm8)
        }
        One::ToFloat => (Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtdq2ps_ymm_ymmm256),
        One::ToInt => (Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae, Code::VEX_Vcvttps2dq_ymm_ymmm256),
        One::Half => (to_half(true), to_half(false)),
        One::AbsI => (Code::EVEX_Vpabsd_zmm_k1z_zmmm512b32, Code::VEX_Vpabsd_ymm_ymmm256),
    };
    by(wide, at512, at256)
}

/// A comparison; the second tells the predicate, where the instruction has one.
pub(crate) fn compare(f: Compare, wide: bool) -> (Code, Option<u8>) {
    match (f, wide) {
        (Compare::Float(predicate), true) => {
            (Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, Some(predicate))
        }
        (Compare::Float(predicate), false) => (Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, Some(predicate)),
        (Compare::Equal, true) => (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, Some(0)),
        (Compare::Greater, true) => (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, Some(6)),
        (Compare::Equal, false) => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, None),
        (Compare::Greater, false) => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, None),
    }
}

/// A function of two masks.
pub(crate) fn logic(f: Logic, wide: bool) -> Code {
    let (at512, at256) = match f {
        Logic::And => (Code::VEX_Kandw_kr_kr_kr, Code::VEX_Vpand_ymm_ymm_ymmm256),
        Logic::Or => (Code::VEX_Korw_kr_kr_kr, Code::VEX_Vpor_ymm_ymm_ymmm256),
        Logic::Xor => (Code::VEX_Kxorw_kr_kr_kr, Code::VEX_Vpxor_ymm_ymm_ymmm256),
        Logic::AndNot => (Code::VEX_Kandnw_kr_kr_kr, Code::VEX_Vpandn_ymm_ymm_ymmm256),
    };
    by(wide, at512, at256)
}

/// The instruction that moves lanes so far down, and how it is to do it; by four and more, it has two operands.
pub(crate) fn down(distance: u8, wide: bool) -> (Code, u8) {
    match (distance, wide) {
        (8, _) => (Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, 0x4e),
        (4, true) => (Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, 0xb1),
        (4, false) => (Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, 0x01),
        (distance, _) => {
            let code =
                by(wide, Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpermilps_ymm_ymmm256_imm8);
            (code, if distance == 2 { 0x4e } else { 0xb1 })
        }
    }
}

/// The first lane in all lanes.
pub(crate) fn lowest(wide: bool) -> Code {
    by(wide, Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_xmm)
}

/// One element to memory.
pub(crate) fn store_one(wide: bool) -> Code {
    by(wide, Code::EVEX_Vmovss_m32_k1_xmm, Code::VEX_Vmovss_m32_xmm)
}

/// `a·b + c` into the register of `a`.
pub(crate) fn fma_213(wide: bool) -> Code {
    by(wide, Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256)
}

/// `a·b + c` into the register of `c`.
pub(crate) fn fma_231(wide: bool) -> Code {
    by(wide, Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256)
}

/// `a·b + c` into the register of `a`, with `b` the operand that may be in memory.
pub(crate) fn fma_132(wide: bool) -> Code {
    by(wide, Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256)
}

/// A vector from memory or a register.
pub(crate) fn load(wide: bool) -> Code {
    by(wide, Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256)
}

/// Elements of memory, or of a register, as lanes; those of [`Element::Brain`] still have to be shifted to the upper half.
pub(crate) fn load_narrow(element: Element, wide: bool) -> Code {
    match element {
        Element::Lane => load(wide),
        Element::Unsigned => by(wide, Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, Code::VEX_Vpmovzxbd_ymm_xmmm64),
        Element::Signed => by(wide, Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128, Code::VEX_Vpmovsxbd_ymm_xmmm64),
        Element::Half => by(wide, Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, Code::VEX_Vcvtph2ps_ymm_xmmm128),
        Element::Brain => by(wide, Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256, Code::VEX_Vpmovzxwd_ymm_xmmm128),
    }
}

/// One element of memory as a number of 32 bits.
pub(crate) fn load_one(element: Element) -> Code {
    match element {
        Element::Signed => Code::Movsx_r32_rm8,
        Element::Half | Element::Brain => Code::Movzx_r32_rm16,
        Element::Lane | Element::Unsigned => Code::Movzx_r32_rm8,
    }
}

/// A float as an `f16`, to a register or memory.
pub(crate) fn to_half(wide: bool) -> Code {
    by(wide, Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8)
}

/// A shift of all lanes by the same amount, to the left or to the right.
pub(crate) fn shift(left: bool, wide: bool) -> Code {
    match left {
        true => by(wide, Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpslld_ymm_ymm_imm8),
        false => by(wide, Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8),
    }
}

/// The first lane as a number.
pub(crate) fn first_lane(wide: bool) -> Code {
    by(wide, Code::EVEX_Vmovd_rm32_xmm, Code::VEX_Vmovd_rm32_xmm)
}

/// A vector to memory.
pub(crate) fn store(wide: bool) -> Code {
    by(wide, Code::EVEX_Vmovups_zmmm512_k1z_zmm, Code::VEX_Vmovups_ymmm256_ymm)
}

/// One element of memory in all lanes.
pub(crate) fn spread(wide: bool) -> Code {
    by(wide, Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32)
}
