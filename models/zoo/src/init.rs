//! Weights drawn from a seed: the same on every machine.

use ir::{DType, Scalar, Tensor, Weight};

/// Draws weights one after the other (splitmix64).
pub(crate) struct Init(u64);

impl Init {
    pub(crate) fn new(seed: u64) -> Init {
        Init(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `−b..b` with `b = √(6 / fan_in)`: the variance that keeps the size of activations through ReLU.
    /// Source: He et al. 2015, equation 10.
    pub(crate) fn weight(&mut self, name: &str, shape: &[usize], fan_in: usize) -> Weight {
        let bound = (6.0 / fan_in as f64).sqrt();
        let tensor = Tensor::from_fn(DType::F32, shape, |_| {
            let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
            Scalar::f32(((unit * 2.0 - 1.0) * bound) as f32)
        });
        Weight::from_tensor(name, &tensor)
    }

    /// Zeros: where biases begin.
    pub(crate) fn bias(name: &str, shape: &[usize]) -> Weight {
        Weight::from_tensor(name, &Tensor::splat(Scalar::f32(0.0), shape))
    }
}
