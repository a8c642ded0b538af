//! Numbers that look random and follow from a seed (splitmix64).

/// Integers that break things.
const INTS: [i64; 18] = [
    0,
    1,
    2,
    3,
    7,
    8,
    64,
    100,
    -1,
    -2,
    1 << 31,
    1 << 32,
    1 << 40,
    (1 << 31) - 1,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
    i64::MIN + 1,
];

/// A generator.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u32) -> Random {
        Random(u64::from(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 below 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit.max(1) as u64) as usize
    }

    /// One in `count`?
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// An integer that breaks things.
    pub fn int(&mut self) -> i64 {
        INTS[self.below(INTS.len())]
    }
}
