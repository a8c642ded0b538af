//! Rows of an array put in order, as kernels ask for it.
//!
//! Promises: the order is total (equal keys by their index), so a result is the same whatever algorithm and
//! however many threads made it; NaN is the largest key, and zeros of both signs are equal. Nothing is
//! allocated: pairs of key and index lie in the caller's scratch memory. Where fewer elements are asked for
//! than a row has, only those are sorted: a few by inserting them as the row is read, more by selecting them
//! first. Where all are, and keys have at most 32 bits, a key and its index are one number, and long rows are
//! distributed by the digits of their keys.

use crate::pool::Pool;

/// Less work than this (in elements) is not worth a thread.
const GRAIN: i64 = 1 << 13;

/// So many elements are kept in order while the row is read, rather than selected afterwards.
const INSERTED: usize = 64;

/// Rows of at least so many short keys are distributed by digits rather than compared.
const DISTRIBUTED: usize = 256;

/// Bits of a digit: three of them make a key of 32 bits.
const DIGIT: u32 = 11;

/// A sort of every row along the middle axis of `keys[outer, n, inner]`. Part of the kernel interface:
/// compiled code fills it in.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SortRows {
    /// Size of the axes before.
    pub outer: i64,
    /// Elements of a row.
    pub n: i64,
    /// Size of the axes behind.
    pub inner: i64,
    /// The keys.
    pub keys: *const u8,
    /// Bytes of a key: 1, 2, 4 or 8.
    pub bytes: i64,
    /// What a key is: 0 unsigned, 1 signed, 2 a float.
    pub class: i64,
    /// The bits of the keys' infinity, if they are floats.
    pub infinity: i64,
    /// Whether the largest comes first: 0 or not.
    pub descending: i64,
    /// Receives the first keys of each row, `[outer, values_len, inner]`, or null.
    pub values: *mut u8,
    /// So many of them, zeros behind the last.
    pub values_len: i64,
    /// Receives their indices, `[outer, positions_len, inner]`, or null.
    pub positions: *mut i64,
    /// So many of them, zeros behind the last.
    pub positions_len: i64,
    /// Room for `[tasks, n]` pairs.
    pub scratch: *mut Pair,
    /// Rows that may be in work at the same time.
    pub tasks: i64,
}

/// A key as a number that orders as it does, and its index.
pub type Pair = [i64; 2];

/// Pointers that the threads of one sort share.
struct Shared<'a>(&'a SortRows);
// SAFETY: tasks write apart from each other, and nobody writes what is read.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    fn call(&self) -> &SortRows {
        self.0
    }
}

/// Runs `call` on the threads of `pool`.
///
/// # Safety
/// The arrays that `call` describes are as large as it says and apart from each other, the keys readable, the
/// others writable.
pub unsafe fn sort(pool: &Pool, call: &SortRows) {
    let rows = call.outer * call.inner;
    if rows <= 0 || call.tasks <= 0 {
        return;
    }
    let (tasks, shared) = (call.tasks, Shared(call));
    let work = (rows / tasks).max(1).saturating_mul(call.n.max(1));
    pool.run(tasks, (GRAIN / work).max(1), &|begin, end| {
        let call = shared.call();
        for task in begin..end {
            // SAFETY: each task has pairs of its own, `n` of them.
            let pairs = unsafe {
                std::slice::from_raw_parts_mut(call.scratch.offset((task * call.n) as isize), call.n as usize)
            };
            for row in task * rows / tasks..(task + 1) * rows / tasks {
                // SAFETY: the row is one of the array's, and no other task's.
                unsafe { call.row(row, pairs) };
            }
        }
    });
}

impl SortRows {
    /// Where element `at` of a row stands in an array whose rows have `len` elements.
    fn place(&self, row: i64, len: i64, at: i64) -> isize {
        ((row / self.inner * len + at) * self.inner + row % self.inner) as isize
    }

    /// Sorts one row.
    ///
    /// # Safety
    /// As [`sort`] asks; nobody else writes the row's results, or `pairs`.
    unsafe fn row(&self, row: i64, pairs: &mut [Pair]) {
        // SAFETY: the keys of the row are readable, and as wide as stated.
        unsafe {
            match self.bytes {
                1 => self.row_of::<u8>(row, pairs),
                2 => self.row_of::<u16>(row, pairs),
                4 => self.row_of::<u32>(row, pairs),
                _ => self.row_of::<u64>(row, pairs),
            }
        }
    }

    /// Sorts one row, whose keys are as wide as the unsigned type `Bits`.
    ///
    /// # Safety
    /// As [`SortRows::row`] asks; the keys of the row are as wide as `Bits`.
    unsafe fn row_of<Bits: Copy + Default + Into<u64>>(&self, row: i64, pairs: &mut [Pair]) {
        let wanted = self.values_len.max(self.positions_len).min(self.n).max(0) as usize;
        let is_whole = wanted == pairs.len() && u32::try_from(wanted).is_ok();
        // SAFETY: the keys of the row are readable, and as wide as `Bits`.
        unsafe {
            if is_whole && size_of::<Bits>() <= size_of::<u32>() {
                let order = self.order_short::<Bits>(row, pairs);
                self.write::<Bits>(row, |at| order.get(at).map(|&key| (key as u32).into()));
            } else {
                self.order_pairs::<Bits>(row, pairs, wanted);
                self.write::<Bits>(row, |at| pairs.get(at).map(|pair| pair[1]));
            }
        }
    }

    /// Writes the results of a row, whose element `at` in order stood at `from(at)`.
    ///
    /// # Safety
    /// As [`SortRows::row_of`] asks; `from` gives indices of the row.
    unsafe fn write<Bits: Copy + Default>(&self, row: i64, from: impl Fn(usize) -> Option<i64>) {
        let step = self.inner as isize;
        let (keys, read) = (self.keys.cast::<Bits>(), self.place(row, self.n, 0));
        let (values, to) = (self.values.cast::<Bits>(), self.place(row, self.values_len, 0));
        for at in 0..self.values_len as usize {
            // SAFETY: both places lie within the row.
            unsafe {
                let value = match from(at) {
                    Some(from) => keys.offset(read + from as isize * step).read_unaligned(),
                    None => Bits::default(),
                };
                values.offset(to + at as isize * step).write_unaligned(value);
            }
        }
        let to = self.place(row, self.positions_len, 0);
        for at in 0..self.positions_len as usize {
            // SAFETY: the place lies within the row.
            unsafe { self.positions.offset(to + at as isize * step).write(from(at).unwrap_or(0)) };
        }
    }

    /// A row of keys of at most 32 bits in order: each with its index below it.
    ///
    /// # Safety
    /// The keys of the row are readable, and as wide as `Bits`.
    unsafe fn order_short<'a, Bits: Copy + Into<u64>>(
        &self,
        row: i64,
        pairs: &'a mut [Pair],
    ) -> &'a mut [u64] {
        let n = pairs.len();
        // SAFETY: two numbers are a pair.
        let room = unsafe { std::slice::from_raw_parts_mut(pairs.as_mut_ptr().cast::<u64>(), 2 * n) };
        let (keys, other) = room.split_at_mut(n);
        let flip = if self.descending == 0 { 0 } else { u32::MAX };
        let (start, step) = (self.place(row, self.n, 0), self.inner as isize);
        for (at, to) in keys.iter_mut().enumerate() {
            let place = start + at as isize * step;
            // SAFETY: the element is one of the row's.
            let bits = unsafe { self.keys.cast::<Bits>().offset(place).read_unaligned() };
            // From 0 on; NaN stays above infinity.
            let least = if self.class == 0 { 0 } else { i64::from(i32::MIN) };
            let key = (self.order(bits.into()).min(least + i64::from(u32::MAX)) - least) as u32;
            *to = u64::from(key ^ flip) << 32 | at as u64;
        }
        if n >= DISTRIBUTED {
            return distribute(keys, other);
        }
        keys.sort_unstable();
        keys
    }

    /// Puts the first `wanted` pairs of key and index of a row, whose keys are as wide as the unsigned type
    /// `Bits`, in order to the start of `pairs`, which has room for all.
    ///
    /// # Safety
    /// The keys of the row are readable, and as wide as `Bits`.
    unsafe fn order_pairs<Bits: Copy + Into<u64>>(&self, row: i64, pairs: &mut [Pair], wanted: usize) {
        let flip = if self.descending == 0 { 0 } else { -1 };
        let (start, step) = (self.place(row, self.n, 0), self.inner as isize);
        let pair = |at: usize| {
            let place = start + at as isize * step;
            // SAFETY: the element is one of the row's.
            let bits = unsafe { self.keys.cast::<Bits>().offset(place).read_unaligned() };
            [self.order(bits.into()) ^ flip, at as i64]
        };
        if wanted == 0 {
            return;
        }
        if wanted > INSERTED || wanted == pairs.len() {
            pairs.iter_mut().enumerate().for_each(|(at, to)| *to = pair(at));
            if wanted < pairs.len() {
                pairs.select_nth_unstable(wanted - 1);
            }
            return pairs[..wanted].sort_unstable();
        }
        let (kept, n) = (&mut pairs[..wanted], self.n as usize);
        kept.iter_mut().enumerate().for_each(|(at, to)| *to = pair(at));
        kept.sort_unstable();
        for next in (wanted..n).map(pair) {
            // An equal key comes later, by its index.
            if next[0] < kept[wanted - 1][0] {
                let to = kept.partition_point(|earlier| earlier[0] <= next[0]);
                kept.copy_within(to..wanted - 1, to + 1);
                kept[to] = next;
            }
        }
    }

    /// A number that orders as the key with these bits does.
    fn order(&self, bits: u64) -> i64 {
        let unused = 64 - 8 * self.bytes as u32;
        let signed = ((bits << unused) as i64) >> unused;
        match self.class {
            0 if unused == 0 => signed ^ i64::MIN,
            0 => bits as i64,
            1 => signed,
            _ => {
                let magnitude = signed & (i64::MAX >> unused);
                match magnitude {
                    _ if magnitude > self.infinity => i64::MAX,
                    _ if signed < 0 => -magnitude,
                    _ => magnitude,
                }
            }
        }
    }
}

/// Puts numbers in the order of their upper halves, those with equal ones in the order in which they come: digit by
/// digit, the lowest first, from one array to the other and back. Gives the one in which they end.
fn distribute<'a>(mut keys: &'a mut [u64], mut other: &'a mut [u64]) -> &'a mut [u64] {
    const DIGITS: usize = u32::BITS.div_ceil(DIGIT) as usize;
    const VALUES: usize = 1 << DIGIT;
    let digit = |key: u64, number: usize| (key >> 32 >> (number as u32 * DIGIT)) as usize % VALUES;
    let mut counts = [[0_u32; VALUES]; DIGITS];
    for &key in keys.iter() {
        counts.iter_mut().enumerate().for_each(|(number, counts)| counts[digit(key, number)] += 1);
    }
    for (number, counts) in counts.iter_mut().enumerate() {
        // All keys may have the same digit.
        if keys.first().is_some_and(|&key| counts[digit(key, number)] as usize == keys.len()) {
            continue;
        }
        let mut before = 0;
        for count in counts.iter_mut() {
            before += std::mem::replace(count, before);
        }
        for &key in keys.iter() {
            let to = &mut counts[digit(key, number)];
            other[*to as usize] = key;
            *to += 1;
        }
        std::mem::swap(&mut keys, &mut other);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorts `[outer, n, inner]` keys, and gives the first `k` of each row with their indices.
    fn sorted<T: Copy + Default>(
        (outer, n, inner): (usize, usize, usize),
        keys: &[T],
        (class, infinity): (i64, i64),
        descending: bool,
        k: usize,
        threads: usize,
    ) -> (Vec<T>, Vec<i64>) {
        let rows = outer * inner;
        let tasks = rows.min(5);
        let mut values = vec![T::default(); rows * k];
        let mut positions = vec![-1; rows * k];
        let mut scratch = vec![[0; 2]; tasks * n];
        let call = SortRows {
            outer: outer as i64,
            n: n as i64,
            inner: inner as i64,
            keys: keys.as_ptr().cast(),
            bytes: size_of::<T>() as i64,
            class,
            infinity,
            descending: i64::from(descending),
            values: values.as_mut_ptr().cast(),
            values_len: k as i64,
            positions: positions.as_mut_ptr(),
            positions_len: k as i64,
            scratch: scratch.as_mut_ptr(),
            tasks: tasks as i64,
        };
        // SAFETY: the arrays are as large as stated.
        unsafe { sort(&Pool::new(threads), &call) };
        (values, positions)
    }

    const F32: (i64, i64) = (2, 0x7f80_0000);

    #[test]
    fn floats_order_with_nan_last_and_equal_zeros() {
        let keys = [1.0, f32::NAN, -0.0, f32::NEG_INFINITY, 0.0, f32::INFINITY, -f32::NAN, -1.0];
        let up = sorted((1, 8, 1), &keys, F32, false, 8, 1).1;
        assert_eq!(up, [3, 7, 2, 4, 0, 5, 1, 6]);
        let down = sorted((1, 8, 1), &keys, F32, true, 8, 1).1;
        assert_eq!(down, [1, 6, 5, 0, 2, 4, 7, 3]);
    }

    #[test]
    fn integers_order_by_their_sign() {
        let bytes = [3_u8, 255, 0, 128, 127];
        assert_eq!(sorted((1, 5, 1), &bytes, (0, 0), false, 5, 1).0, [0, 3, 127, 128, 255]);
        assert_eq!(sorted((1, 5, 1), &bytes, (1, 0), false, 5, 1).0, [128, 255, 0, 3, 127]);
        let wide = [i64::MIN, -1, i64::MAX, 0];
        assert_eq!(sorted((1, 4, 1), &wide, (1, 0), true, 4, 1).0, [i64::MAX, 0, -1, i64::MIN]);
        assert_eq!(sorted((1, 4, 1), &wide, (0, 0), true, 4, 1).0, [-1, i64::MIN, i64::MAX, 0]);
    }

    #[test]
    fn rows_along_any_axis_on_any_threads() {
        let (outer, n, inner) = (3, 300, 7);
        let keys: Vec<i32> = (0..outer * n * inner).map(|i| (i * 7919 % 101) as i32 - 50).collect();
        for descending in [false, true] {
            for k in [0, 1, 5, 64, 65, 299, 300, 302] {
                let found = sorted((outer, n, inner), &keys, (1, 0), descending, k, 1);
                assert_eq!(found, sorted((outer, n, inner), &keys, (1, 0), descending, k, 3));
                for (row, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                    let key = |at: usize| keys[(row * n + at) * inner + i];
                    let mut order: Vec<usize> = (0..n).collect();
                    order.sort_by_key(|&at| if descending { -key(at) } else { key(at) });
                    for at in 0..k {
                        let place = (row * k + at) * inner + i;
                        let (value, position) =
                            order.get(at).map_or((0, 0), |&from| (key(from), from as i64));
                        assert_eq!((found.0[place], found.1[place]), (value, position));
                    }
                }
            }
        }
    }

    #[test]
    fn long_rows_of_short_keys_keep_the_order_of_equal_ones() {
        let n = 3 * DISTRIBUTED;
        let mut floats: Vec<f32> = (0..n).map(|i| ((i * 7919) % 509) as f32 * 0.37 - 90.0).collect();
        floats.splice(
            100..108,
            [f32::NAN, -0.0, 0.0, f32::INFINITY, -f32::NAN, f32::NEG_INFINITY, 1e-40, -1e-40],
        );
        let bytes: Vec<u8> = floats.iter().map(|x| *x as u8).collect();
        let words: Vec<u32> = floats.iter().map(|x| x.to_bits()).collect();
        for descending in [false, true] {
            let order = |rank: &dyn Fn(usize) -> i64| {
                let mut order: Vec<i64> = (0..n as i64).collect();
                order.sort_by_key(|&i| if descending { -rank(i as usize) } else { rank(i as usize) });
                order
            };
            let float = |i: usize| match floats[i] {
                x if x.is_nan() => i64::MAX >> 1,
                x if x < 0.0 => -i64::from((-x).to_bits()),
                x => i64::from(x.abs().to_bits()),
            };
            let found = sorted((1, n, 1), &floats, F32, descending, n, 1);
            assert_eq!(found.1, order(&float));
            let same =
                found.0.iter().zip(&found.1).all(|(x, &i)| x.to_bits() == floats[i as usize].to_bits());
            assert!(same);
            let found = sorted((1, n, 1), &bytes, (0, 0), descending, n, 1);
            assert_eq!(found.1, order(&|i| bytes[i].into()));
            let found = sorted((1, n, 1), &words, (0, 0), descending, n, 1);
            assert_eq!(found.1, order(&|i| words[i].into()));
            let found = sorted((1, n, 1), &words, (1, 0), descending, n, 1);
            assert_eq!(found.1, order(&|i| (words[i] as i32).into()));
        }
    }

    #[test]
    fn nothing_to_sort() {
        assert_eq!(sorted::<f32>((0, 3, 1), &[], F32, false, 2, 2).1, []);
        assert_eq!(sorted::<f32>((2, 0, 1), &[], F32, false, 1, 2).1, [0, 0]);
    }
}
