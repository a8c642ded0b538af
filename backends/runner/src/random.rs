//! Seeded random tensors, for inputs that nobody gave.
//!
//! The same seed gives the same bytes on every machine: the generator is SplitMix64 (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014) and logarithm and cosine come from the `libm`
//! crate. Not for statistics, not for secrets.

use runtime::DType;

use crate::narrow;

/// SplitMix64: a 64-bit counter, scrambled.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The generator whose counter starts at `seed`.
    pub fn new(seed: u64) -> Self {
        SplitMix64 { state: seed }
    }

    /// The generator of the `index`-th tensor under `seed`: what one tensor takes doesn't shift the others.
    pub fn stream(seed: u64, index: usize) -> Self {
        // The seed is scrambled before the index comes in, so that the two can't stand for each other.
        let scrambled = SplitMix64::new(seed).next();
        SplitMix64::new(SplitMix64::new(scrambled ^ index as u64).next())
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "an endless source needs no Option")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1], in steps of 2^-53.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller: `sqrt(-2 ln u) cos(2 pi v)`.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.unit(), self.unit());
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)
    }
}

/// Fills the bytes of a tensor: floats standard normal; integers and bools 0 or 1 with equal chance, which
/// are good values for every index and every mask. Floats of 16 and fewer bits are rounded toward zero; powers of two are
/// of the absolute value.
pub fn fill(dtype: DType, bytes: &mut [u8], random: &mut SplitMix64) {
    let size = dtype.bytes();
    for element in bytes.chunks_exact_mut(size) {
        match dtype {
            DType::F32 => element.copy_from_slice(&(random.normal() as f32).to_le_bytes()),
            DType::F64 => element.copy_from_slice(&random.normal().to_le_bytes()),
            _ if narrow::decode(dtype, 0).is_some() => {
                let code = narrow::encode_toward_zero(dtype, random.normal()).expect("a narrow float");
                element.copy_from_slice(&code.to_le_bytes()[..size]);
            }
            _ => {
                element.fill(0);
                // The top bit; little-endian, so the first byte is the lowest.
                element[0] = (random.next() >> 63) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values;

    #[test]
    fn it_is_splitmix64() {
        // The first values for seed 1234567, as in the reference implementation.
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn floats_are_standard_normal() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::Bf16] {
            let mut bytes = vec![0; 20_000 * dtype.bytes()];
            fill(dtype, &mut bytes, &mut SplitMix64::stream(3, 1));
            let found: Vec<f64> =
                (0..20_000).map(|i| values::float(dtype, &bytes, i).expect("a float")).collect();
            let mean = found.iter().sum::<f64>() / 20_000.0;
            let variance = found.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
            assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{dtype:?}: {mean}, {variance}");
        }
    }

    #[test]
    fn integers_are_zero_or_one() {
        for dtype in [DType::I8, DType::U8, DType::I64, DType::U32, DType::Bool, DType::I4, DType::U2] {
            let mut bytes = vec![0xff; 1000 * dtype.bytes()];
            fill(dtype, &mut bytes, &mut SplitMix64::new(0));
            let ones = (0..1000)
                .filter(|&i| {
                    values::text(dtype, &bytes, i) == values::text(DType::U8, &[1], 0)
                        || values::text(dtype, &bytes, i) == "True"
                })
                .count();
            assert!((400..600).contains(&ones), "{dtype:?}: {ones}");
            assert_eq!(bytes.iter().map(|&byte| usize::from(byte)).sum::<usize>(), ones);
        }
    }

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, index| SplitMix64::stream(seed, index).next();
        assert_eq!(first(5, 2), first(5, 2));
        assert!(first(5, 2) != first(5, 3) && first(5, 2) != first(6, 2) && first(0, 1) != first(1, 0));
    }
}
