//! Weights drawn from a seed: the same on every machine.

use ir::{DType, Scalar, Tensor};

/// How a weight begins.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// All 0: where biases begin.
    Zeros,
    /// All 1: where scales begin.
    Ones,
    /// All the same.
    Splat(f64),
    /// Uniform in `−b..b` with `b = √(6 / fan_in)`: the variance that keeps the size of activations through ReLU.
    /// Source: He et al. 2015, equation 10.
    He {
        /// How many numbers each result is a sum of.
        fan_in: usize,
    },
    /// Uniform in `−b..b` with `b = √(6 / (fan_in + fan_out))`. Source: Glorot, Bengio 2010, equation 16.
    Xavier {
        /// How many numbers each result is a sum of.
        fan_in: usize,
        /// In how many sums each number is.
        fan_out: usize,
    },
    /// Nearly normal, of mean 0.
    Normal {
        /// The standard deviation.
        deviation: f64,
    },
    /// Uniform from `low` to `high`.
    Uniform {
        /// None is smaller.
        low: f64,
        /// All are smaller.
        high: f64,
    },
    /// A function of the index, which draws nothing.
    At(&'a dyn Fn(&[usize]) -> f64),
}

/// Draws weights one after the other (splitmix64).
pub(crate) struct Init(u64);

impl Init {
    pub(crate) fn new(seed: u64) -> Init {
        Init(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn around_zero(&mut self, bound: f64) -> f64 {
        (self.unit() * 2.0 - 1.0) * bound
    }

    /// Nearly: the sum of four uniform numbers, of variance 1. No function is needed whose last place differs between
    /// machines.
    fn normal(&mut self) -> f64 {
        (0..4).map(|_| self.around_zero(1.0)).sum::<f64>() * (3f64 / 4.0).sqrt()
    }

    /// The next weight.
    pub(crate) fn tensor(&mut self, shape: &[usize], start: Start) -> Tensor {
        let mut fill = |number: &mut dyn FnMut(&mut Init, &[usize]) -> f64| {
            Tensor::from_fn(DType::F32, shape, |at| Scalar::f32(number(self, at) as f32))
        };
        match start {
            Start::Zeros => Tensor::splat(Scalar::f32(0.0), shape),
            Start::Ones => Tensor::splat(Scalar::f32(1.0), shape),
            Start::Splat(value) => Tensor::splat(Scalar::f32(value as f32), shape),
            Start::He { fan_in } => {
                let bound = (6.0 / fan_in as f64).sqrt();
                fill(&mut |init, _| init.around_zero(bound))
            }
            Start::Xavier { fan_in, fan_out } => {
                let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
                fill(&mut |init, _| init.around_zero(bound))
            }
            Start::Normal { deviation } => fill(&mut |init, _| init.normal() * deviation),
            Start::Uniform { low, high } => fill(&mut |init, _| low + init.unit() * (high - low)),
            Start::At(function) => fill(&mut |_, at| function(at)),
        }
    }
}
