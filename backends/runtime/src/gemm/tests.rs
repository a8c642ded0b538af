//! Products by every body that this CPU can run: against sums in f64, and bit against bit.

mod groups;
mod stored;
mod windows;

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Numbers in -1..1 that depend on the seed alone.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Rows contiguous, with a gap after each.
    Rows,
    /// Columns contiguous, with a gap after each.
    Columns,
    /// Every third float of rows that run from last to first.
    Scattered,
    /// In panels (B alone).
    Panels,
}

use Layout::{Columns, Panels, Rows, Scattered};

/// A matrix in some layout.
struct Operand {
    data: Vec<f32>,
    origin: usize,
    row: i64,
    col: i64,
}

impl Operand {
    fn new(rows: usize, cols: usize, values: &[f32], layout: Layout) -> Operand {
        if layout == Panels {
            let mut data = vec![f32::NAN; packed_len(rows, cols)];
            pack_panels(values, rows, cols, cols, 1, &mut data);
            return Operand { data, origin: 0, row: 0, col: 0 };
        }
        let (row, col, origin) = match layout {
            Rows => (cols as i64 + 5, 1, 0),
            Columns => (1, rows as i64 + 3, 0),
            Scattered => (-(3 * cols as i64 + 2), 3, rows.saturating_sub(1) * (3 * cols + 2)),
            Panels => unreachable!("bug: returned above"),
        };
        // What is not part of the matrix is NaN, so that reading it shows.
        let mut data = vec![f32::NAN; (rows + 3) * (3 * cols + 8)];
        for i in 0..rows {
            for j in 0..cols {
                data[(origin as i64 + i as i64 * row + j as i64 * col) as usize] = values[i * cols + j];
            }
        }
        Operand { data, origin, row, col }
    }

    fn pointer(&self) -> *const f32 {
        self.data[self.origin..].as_ptr()
    }
}

/// Where the test's epilogue puts what it is given.
struct Sink {
    n: usize,
    bits: Vec<AtomicU32>,
    hits: Vec<AtomicU32>,
}

unsafe extern "C" fn collect(
    services: *const c_void,
    frame: *const u8,
    tile: *const f32,
    ld: i64,
    row: i64,
    rows: i64,
    col: i64,
    cols: i64,
) {
    // SAFETY: `product` passes a `Sink` as the frame.
    let sink = unsafe { &*frame.cast::<Sink>() };
    assert_eq!(services, SERVICES);
    assert!(rows > 0 && cols > 0 && cols <= ld);
    for r in 0..rows {
        for c in 0..cols {
            // SAFETY: the tile has `rows` rows of `cols` floats.
            let value = unsafe { *tile.add((r * ld + c) as usize) };
            let place = (row + r) as usize * sink.n + (col + c) as usize;
            sink.bits[place].store(value.to_bits(), Ordering::Relaxed);
            sink.hits[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the products pass as their services: never read.
const SERVICES: *const c_void = std::ptr::dangling();

/// A product of random matrices.
struct Case {
    size: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Case {
    fn new(size: [usize; 3]) -> Case {
        let [m, n, k] = size;
        Case { size, a: random(1 + m as u64, m * k), b: random(1000 + n as u64, k * n) }
    }

    /// The bits of C. Fails unless the epilogue has seen every element exactly once.
    fn run(&self, kernels: &'static Kernels, pool: &Pool, a: Layout, b: Layout) -> Vec<u32> {
        let [m, n, k] = self.size;
        let (a_operand, b_operand) = (Operand::new(m, k, &self.a, a), Operand::new(k, n, &self.b, b));
        let count = || (0..m * n).map(|_| AtomicU32::new(0)).collect();
        let sink = Sink { n, bits: count(), hits: count() };
        let call = GemmF32 {
            m: m as i64,
            n: n as i64,
            k: k as i64,
            a: a_operand.pointer(),
            a_row: a_operand.row,
            a_col: a_operand.col,
            a_type: 0,
            window: std::ptr::null(),
            b: b_operand.pointer(),
            b_row: b_operand.row,
            b_col: b_operand.col,
            packed: i64::from(b == Panels),
            b_type: 0,
            scales: std::ptr::null(),
            transposed: 0,
            groups: std::ptr::null(),
            epilogue: collect,
            frame: (&raw const sink).cast(),
        };
        // SAFETY: the operands and the sink outlive the call and fit it.
        unsafe { product::multiply(kernels, pool, SERVICES, &call) };
        let context = format!("{:?} {} {a:?} {b:?}", self.size, kernels.name);
        assert!(sink.hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1), "{context}");
        sink.bits.into_iter().map(AtomicU32::into_inner).collect()
    }

    /// Compares C with sums in f64. Each of the k roundings is off by at most 2^-24 of a partial sum, which is
    /// at most sum |a||b|.
    fn check(&self, bits: &[u32]) {
        let [m, n, k] = self.size;
        for i in 0..m {
            for j in 0..n {
                let terms = || (0..k).map(|l| f64::from(self.a[i * k + l]) * f64::from(self.b[l * n + j]));
                let (want, scale) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let got = f64::from(f32::from_bits(bits[i * n + j]));
                let tolerance = k as f64 * 2f64.powi(-24) * scale;
                assert!((got - want).abs() <= tolerance, "{:?} at {i},{j}: {got}, not {want}", self.size);
            }
        }
    }

    /// The sums by the stated order: the bits that every body must give.
    fn in_order(&self) -> Vec<u32> {
        let [m, n, k] = self.size;
        let element = |i: usize, j: usize| {
            (0..k).fold(0f32, |sum, l| self.a[i * k + l].mul_add(self.b[l * n + j], sum)).to_bits()
        };
        (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect()
    }
}

const SIZES: [usize; 5] = [1, 3, 13, 33, 100];

fn cases() -> impl Iterator<Item = Case> {
    let odd = SIZES.into_iter().flat_map(|m| SIZES.into_iter().flat_map(move |n| SIZES.map(|k| [m, n, k])));
    // Every height of a walk and of a strip; several stretches of k; several blocks each way.
    let heights = (1..=15).map(|m| [m, 70, 40]);
    let large = [[2, 300, 600], [4, 257, 513], [57, 40, 700], [130, 300, 257], [200, 33, 64], [9, 520, 256]];
    odd.chain(heights).chain(large).map(Case::new)
}

#[test]
fn every_body_sums_in_the_stated_order() {
    let pool = Pool::new(1);
    for case in cases() {
        let want = case.in_order();
        case.check(&want);
        for kernels in Kernels::available() {
            assert!(case.run(kernels, &pool, Rows, Panels) == want, "{:?} {}", case.size, kernels.name);
        }
    }
}

#[test]
fn neither_layout_nor_thread_count_changes_a_bit() {
    let pools = [1, 2, 3].map(Pool::new);
    for case in cases().filter(|case| case.size.iter().product::<usize>() >= 20_000) {
        let want = case.run(Kernels::detected(), &pools[0], Rows, Panels);
        for kernels in Kernels::available() {
            for pool in &pools {
                for (a, b) in [(Rows, Panels), (Columns, Rows), (Scattered, Columns), (Rows, Scattered)] {
                    let got = case.run(kernels, pool, a, b);
                    let threads = pool.threads();
                    assert!(got == want, "{:?} {} {a:?} {b:?} {threads} threads", case.size, kernels.name);
                }
            }
        }
    }
}

#[test]
fn small_products_in_every_layout() {
    let pool = Pool::new(2);
    for size in [[1, 1, 1], [1, 33, 13], [2, 64, 3], [3, 31, 100], [5, 32, 17], [13, 1, 33], [33, 100, 3]] {
        let case = Case::new(size);
        let want = case.in_order();
        for kernels in Kernels::available() {
            for a in [Rows, Columns, Scattered] {
                for b in [Rows, Columns, Scattered, Panels] {
                    assert!(case.run(kernels, &pool, a, b) == want, "{size:?} {} {a:?} {b:?}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn an_empty_sum_is_zero_and_an_empty_product_calls_nothing() {
    let pool = Pool::new(2);
    for kernels in Kernels::available() {
        for layout in [Rows, Panels] {
            for m in [1, 4, 40] {
                assert_eq!(Case::new([m, 70, 0]).run(kernels, &pool, Rows, layout), vec![0; m * 70]);
            }
            for size in [[0, 5, 7], [5, 0, 7], [0, 0, 0]] {
                assert!(Case::new(size).run(kernels, &pool, Rows, layout).is_empty());
            }
        }
    }
}

#[test]
fn panels_hold_each_element_once_and_zeros_beyond() {
    let (k, n) = (5, 70);
    let values = random(7, k * n);
    let transposed: Vec<f32> = (0..n * k).map(|i| values[i % k * n + i / k]).collect();
    for (b, row, col) in [(&values, n, 1), (&transposed, 1, k)] {
        let mut packed = vec![f32::NAN; packed_len(k, n)];
        pack_panels(b, k, n, row, col, &mut packed);
        assert_eq!(packed.len(), 3 * PANEL * k);
        for (place, &value) in packed.iter().enumerate() {
            let (i, j) = (place / PANEL % k, place / PANEL / k * PANEL + place % PANEL);
            assert_eq!(value, if j < n { values[i * n + j] } else { 0.0 }, "{i} {j}");
        }
    }
    pack_panels(&[], 0, 70, 1, 1, &mut []);
    pack_panels(&[], 5, 0, 1, 1, &mut []);
}

#[test]
#[should_panic(expected = "bug: 34 floats hold no 5x7 matrix of strides 7 and 1")]
fn packing_checks_its_source() {
    pack_panels(&[0.0; 34], 5, 7, 7, 1, &mut [0.0; 160]);
}

const _: () = {
    assert!(product::BLOCK_ROWS * A_STRIDE <= scratch::A_LEN);
    assert!(product::BLOCK_ROWS * PANEL <= scratch::TILES_LEN);
    assert!(product::BLOCK_ROWS.next_multiple_of(STRIP) * PANEL <= scratch::TURNED_LEN);
};

#[test]
fn bodies_fit_the_drivers_buffers() {
    for kernels in Kernels::available() {
        let height = kernels.tiles.len();
        let sets = [
            kernels.across,
            kernels.shared,
            kernels.looking,
            kernels.turned,
            kernels.looking_turned,
            kernels.narrow,
        ];
        assert!(sets.iter().all(|tiles| tiles.len() == height), "{}", kernels.name);
        assert!(height <= kernels.strip && kernels.strip <= STRIP, "{}", kernels.name);
        for (r, walk) in kernels.walks.iter().enumerate() {
            assert!(walk.panels * DEPTH * PANEL <= scratch::B_LEN);
            assert!((r + 1) * walk.panels <= walks::WALK_TILES, "{}", kernels.name);
        }
    }
}
