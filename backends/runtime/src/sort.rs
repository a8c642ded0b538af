//! Rows of an array put in order, as kernels ask for it.
//!
//! Promises: the order is total (equal keys by their index), so a result is the same whatever algorithm and
//! however many threads made it; NaN is the largest key, and zeros of both signs are equal. Nothing is
//! allocated: pairs of key and index lie in the caller's scratch memory. Where fewer elements are asked for
//! than a row has, only those are sorted: a few by inserting them as the row is read, more by selecting them
//! first.

use crate::pool::Pool;

/// Less work than this (in elements) is not worth a thread.
const GRAIN: i64 = 1 << 13;

/// So many elements are kept in order while the row is read, rather than selected afterwards.
const INSERTED: usize = 64;

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
        let wanted = self.values_len.max(self.positions_len).min(self.n).max(0) as usize;
        // SAFETY: the keys of the row are readable, and as wide as stated.
        unsafe {
            match self.bytes {
                1 => self.order_pairs::<u8>(row, pairs, wanted),
                2 => self.order_pairs::<u16>(row, pairs, wanted),
                4 => self.order_pairs::<u32>(row, pairs, wanted),
                _ => self.order_pairs::<u64>(row, pairs, wanted),
            }
        }
        let bytes = self.bytes as usize;
        for at in 0..self.values_len {
            // SAFETY: both places lie within the row.
            unsafe {
                let to = self.values.offset(self.place(row, self.values_len, at) * bytes as isize);
                match pairs.get(at as usize) {
                    Some(&[_, from]) => {
                        let from = self.keys.offset(self.place(row, self.n, from) * bytes as isize);
                        from.copy_to_nonoverlapping(to, bytes);
                    }
                    None => to.write_bytes(0, bytes),
                }
            }
        }
        for at in 0..self.positions_len {
            let position = pairs.get(at as usize).map_or(0, |pair| pair[1]);
            // SAFETY: the place lies within the row.
            unsafe { self.positions.offset(self.place(row, self.positions_len, at)).write(position) };
        }
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
    fn nothing_to_sort() {
        assert_eq!(sorted::<f32>((0, 3, 1), &[], F32, false, 2, 2).1, []);
        assert_eq!(sorted::<f32>((2, 0, 1), &[], F32, false, 1, 2).1, [0, 0]);
    }
}
