//! Products of operands that are stored in fewer bits: against the same product of floats, bit for bit.

use super::*;

/// A matrix that is stored in panels, and the floats that it is.
struct Narrow {
    stored: Stored,
    data: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
    block: usize,
    values: Vec<f32>,
}

/// Bytes that depend on the seed alone: some are 16-bit floats that are infinite, or no numbers, unless they are told
/// to be finite.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    random(seed, len).into_iter().map(|x| (x * 1e6) as i64 as u8).collect()
}

/// A 16-bit float as an `f64`, by its definition.
fn half(bits: u16, exponent_bits: u32) -> f64 {
    let fraction_bits = 15 - exponent_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let exponent = i32::from(bits >> fraction_bits & ((1 << exponent_bits) - 1));
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1u32 << fraction_bits);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(1 - bias),
        _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

impl Narrow {
    /// A random `k`×`n` matrix; zeros and scales are shared by `block` rows, if there are some.
    fn new(stored: Stored, [k, n]: [usize; 2], block: Option<usize>, seed: u64) -> Narrow {
        let (panels, row) = (n.div_ceil(PANEL), stored.bytes()[1]);
        let mut data = bytes(seed, panels * k * row);
        if matches!(stored, Stored::F16 | Stored::BF16) {
            // Finite numbers of moderate size, and some below the normal ones.
            let high = |byte: u8| if byte.is_multiple_of(7) { byte & 0x80 } else { byte & 0x83 | 0x38 };
            data.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = high(*byte));
        }
        let blocks = k.div_ceil(block.unwrap_or(k.max(1)));
        let scales = random(seed + 1, panels * blocks * PANEL);
        let zeros = bytes(seed + 2, panels * blocks * PANEL);
        let value = |i: usize, j: usize| {
            let at = (j / PANEL * k + i) * PANEL + j % PANEL;
            let pair = || u16::from_le_bytes([data[2 * at], data[2 * at + 1]]);
            match stored {
                Stored::F32 => unreachable!("bug: floats of 32 bits are not converted"),
                Stored::F16 => half(pair(), 5),
                Stored::BF16 => half(pair(), 8),
                Stored::I8 => f64::from(data[at] as i8),
                Stored::U8 => f64::from(data[at]),
                Stored::U4 => {
                    let byte = data[(j / PANEL * k + i) * row + j % (PANEL / 2)];
                    f64::from(if j % PANEL < PANEL / 2 { byte % 16 } else { byte / 16 })
                }
            }
        };
        let element = |i: usize, j: usize| {
            let value = value(i, j) as f32;
            let Some(block) = block else { return value };
            let at = (j / PANEL * blocks + i / block) * PANEL + j % PANEL;
            ((f64::from(value) - f64::from(zeros[at] as i8)) as f32) * scales[at]
        };
        let values = (0..k * n).map(|at| element(at / n, at % n)).collect();
        Narrow { stored, data, scales, zeros, block: block.unwrap_or(0), values }
    }

    fn table(&self, k: usize) -> Scales {
        Scales {
            scales: self.scales.as_ptr(),
            zeros: self.zeros.as_ptr(),
            zeros_type: Stored::I8 as i64,
            zero: 0,
            block: self.block as i64,
            blocks: k.div_ceil(self.block.max(1)) as i64,
        }
    }
}

/// The bits of C, each element of which the epilogue has seen once.
fn run(call: GemmF32, kernels: &'static Kernels, pool: &Pool) -> Vec<u32> {
    let [m, n, _] = call.sizes();
    let count = || (0..m * n).map(|_| AtomicU32::new(0)).collect();
    let sink = Sink { n, bits: count(), hits: count() };
    let call = GemmF32 { frame: (&raw const sink).cast(), ..call };
    // SAFETY: the callers' operands outlive the call and fit it.
    unsafe { product::multiply(kernels, pool, SERVICES, &call) };
    assert!(sink.hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1));
    sink.bits.into_iter().map(AtomicU32::into_inner).collect()
}

/// A call of packed panels of floats.
fn call([m, n, k]: [usize; 3], a: &Operand, b: *const f32) -> GemmF32 {
    GemmF32 {
        m: m as i64,
        n: n as i64,
        k: k as i64,
        a: a.pointer(),
        a_row: a.row,
        a_col: a.col,
        a_type: 0,
        window: std::ptr::null(),
        b,
        b_row: 0,
        b_col: 0,
        packed: 1,
        b_type: 0,
        scales: std::ptr::null(),
        transposed: 0,
        groups: std::ptr::null(),
        epilogue: collect,
        frame: std::ptr::null(),
    }
}

const NARROW: [Stored; 5] = [Stored::F16, Stored::BF16, Stored::I8, Stored::U8, Stored::U4];

#[test]
fn panels_of_few_bits_are_panels_of_floats() {
    let pools = [1, 3].map(Pool::new);
    for stored in NARROW {
        for [m, n, k] in [[1, 70, 40], [2, 33, 300], [4, 200, 65], [5, 32, 33], [40, 70, 300], [230, 33, 270]]
        {
            for block in [None, Some(16), Some(40), Some(k)] {
                let narrow = Narrow::new(stored, [k, n], block, 7);
                let case = Case { size: [m, n, k], a: random(3, m * k), b: narrow.values.clone() };
                let a = Operand::new(m, k, &case.a, Rows);
                let table = narrow.table(k);
                let scales = if block.is_some() { &raw const table } else { std::ptr::null() };
                let call = GemmF32 {
                    b_type: narrow.stored as i64,
                    scales,
                    ..call(case.size, &a, narrow.data.as_ptr().cast())
                };
                let want = case.in_order();
                case.check(&want);
                for kernels in Kernels::available() {
                    for pool in &pools {
                        let found = run(call, kernels, pool);
                        assert!(found == want, "{stored:?} {:?} {block:?} {}", case.size, kernels.name);
                    }
                }
            }
        }
    }
}

#[test]
fn each_row_meets_the_narrow_matrix_that_it_names() {
    let pool = Pool::new(2);
    let (which, [n, k], block) = ([1usize, 2, 1, 1, 0, 2], [70, 48], 16);
    for stored in NARROW {
        let each: Vec<Narrow> =
            (0..3).map(|group| Narrow::new(stored, [k, n], Some(block), 50 + 10 * group)).collect();
        let all = |part: &dyn Fn(&Narrow) -> Vec<u8>| each.iter().flat_map(part).collect::<Vec<u8>>();
        let (data, zeros) = (all(&|one| one.data.clone()), all(&|one| one.zeros.clone()));
        let scales: Vec<f32> = each.iter().flat_map(|one| one.scales.clone()).collect();
        let table = Scales { scales: scales.as_ptr(), zeros: zeros.as_ptr(), ..each[0].table(k) };
        let values = random(3, which.len() * k);
        let a = Operand::new(which.len(), k, &values, Rows);
        let mut order: Vec<i64> = (0..which.len() as i64).collect();
        order.sort_by_key(|&row| which[row as usize]);
        let starts: Vec<i64> =
            (0..=3).map(|group| which.iter().filter(|&&of| of < group).count() as i64).collect();
        let step = each[0].data.len() / stored.bytes()[0];
        let groups = Groups { order: order.as_ptr(), starts: starts.as_ptr(), count: 3, step: step as i64 };
        let call = GemmF32 {
            b_type: stored as i64,
            scales: &raw const table,
            groups: &raw const groups,
            ..call([which.len(), n, k], &a, data.as_ptr().cast())
        };
        let want: Vec<u32> = order
            .iter()
            .flat_map(|&row| {
                let row = row as usize;
                let a = values[row * k..(row + 1) * k].to_vec();
                Case { size: [1, n, k], a, b: each[which[row]].values.clone() }.in_order()
            })
            .collect();
        for kernels in Kernels::available() {
            assert!(run(call, kernels, &pool) == want, "{stored:?} {}", kernels.name);
        }
    }
}

#[test]
fn matrices_of_16_bit_floats_are_read_where_they_lie() {
    let pool = Pool::new(2);
    for (stored, exponent) in [(Stored::F16, 5), (Stored::BF16, 8)] {
        for [m, n, k] in [[1, 70, 40], [3, 33, 300], [4, 40, 17000], [40, 100, 300], [20, 31, 33]] {
            let floats = |count: usize, seed| {
                let finite = |bits: u16| bits & 0x83ff | 0x3800;
                let bits: Vec<u16> = bytes(seed, 2 * count)
                    .chunks(2)
                    .map(|b| finite(u16::from_le_bytes([b[0], b[1]])))
                    .collect();
                let values = bits.iter().map(|&bits| half(bits, exponent) as f32).collect::<Vec<f32>>();
                (bits, values)
            };
            let ((a, a_values), (b, b_values)) = (floats(m * k, 11), floats(k * n, 12));
            let case = Case { size: [m, n, k], a: a_values.clone(), b: b_values };
            let want = case.in_order();
            let turned: Vec<u16> = (0..k * n).map(|at| b[at % k * n + at / k]).collect();
            let rows = Operand::new(m, k, &a_values, Rows);
            for kernels in Kernels::available() {
                for (b, b_row, b_col) in [(&b, n, 1), (&turned, 1, k)] {
                    let call = GemmF32 {
                        a: a.as_ptr().cast(),
                        a_row: k as i64,
                        a_col: 1,
                        a_type: stored as i64,
                        packed: 0,
                        b_row: b_row as i64,
                        b_col: b_col as i64,
                        b_type: stored as i64,
                        ..call(case.size, &rows, b.as_ptr().cast())
                    };
                    assert!(run(call, kernels, &pool) == want, "{stored:?} {:?} {}", case.size, kernels.name);
                }
            }
        }
    }
}
