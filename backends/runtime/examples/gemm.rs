//! Measures the matrix product: GF/s, and the share of the machine's fused multiply-add peak, measured in
//! the same minute. Prints the fastest and the median of the rounds.
//!
//! `cargo run --release -p egraft-runtime --example gemm -- [THREADS]`

#![allow(unsafe_code, reason = "the product is called as compiled code calls it")]
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::ffi::c_void;
use std::time::Instant;

use runtime::gemm::{GemmF32, gemm, pack_panels, packed_len};
use runtime::{Pool, peak};

/// A round lasts about this long.
const ROUND_SECONDS: f64 = 0.02;
const ROUNDS: usize = 15;

/// m, n, k.
const SIZES: [[usize; 3]; 14] = [
    [64, 2048, 512],
    [64, 512, 2048],
    [256, 512, 2048],
    [128, 128, 128],
    [512, 512, 512],
    [1024, 1024, 1024],
    [128, 768, 768],
    [128, 3072, 768],
    [128, 768, 3072],
    [512, 512, 64],
    [8, 768, 768],
    [4, 3072, 768],
    [1, 3072, 768],
    [1, 512, 512],
];

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().expect("THREADS is a number"));
    let pool = Pool::new(threads);
    let peak = peak::flops_per_second() * pool.threads() as f64 * 1e-9;
    println!("{} threads, fused multiply-add peak {peak:.1} GF/s", pool.threads());
    println!("{:>16} {:>8} {:>20} {:>20}", "m x n x k", "B", "fastest", "median");
    for [m, n, k] in SIZES {
        for packed in [true, false] {
            let mut rates = rates(&pool, [m, n, k], packed);
            rates.sort_by(f64::total_cmp);
            let cell = |rate: f64| format!("{rate:.1} GF/s {:3.0} %", rate / peak * 100.0);
            let layout = if packed { "packed" } else { "rows" };
            let size = format!("{m} x {n} x {k}");
            println!(
                "{size:>16} {layout:>8} {:>20} {:>20}",
                cell(rates[ROUNDS - 1]),
                cell(rates[ROUNDS / 2])
            );
        }
    }
}

/// GF/s of the product, round by round.
fn rates(pool: &Pool, [m, n, k]: [usize; 3], packed: bool) -> Vec<f64> {
    let numbers = |len: usize| (0..len).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
    let mut panels = vec![0.0; packed_len(k, n)];
    pack_panels(&b, k, n, n, 1, &mut panels);
    let frame = Frame { c: c.as_mut_ptr(), n };
    let call = GemmF32 {
        m: m as i64,
        n: n as i64,
        k: k as i64,
        a: a.as_ptr(),
        a_row: k as i64,
        a_col: 1,
        a_type: 0,
        window: std::ptr::null(),
        b: if packed { panels.as_ptr() } else { b.as_ptr() },
        b_row: n as i64,
        b_col: 1,
        packed: i64::from(packed),
        b_type: 0,
        scales: std::ptr::null(),
        transposed: 0,
        groups: std::ptr::null(),
        epilogue: store,
        frame: (&raw const frame).cast(),
    };
    // SAFETY: the operands, the panels and C outlive the calls and have the sizes that `call` says.
    let run = || unsafe { gemm(pool, std::ptr::null(), &call) };
    let flops = 2.0 * (m * n * k) as f64;
    repeat(flops, run)
}

/// What the epilogue stores to.
struct Frame {
    c: *mut f32,
    n: usize,
}

/// An epilogue that stores the sums as they are.
unsafe extern "C" fn store(
    _services: *const c_void,
    frame: *const u8,
    tile: *const f32,
    ld: i64,
    row: i64,
    rows: i64,
    col: i64,
    cols: i64,
) {
    // SAFETY: `rates` passes a `Frame` whose C holds every tile.
    unsafe {
        let frame = &*frame.cast::<Frame>();
        for r in 0..rows {
            let to = frame.c.add((row + r) as usize * frame.n + col as usize);
            to.copy_from_nonoverlapping(tile.add((r * ld) as usize), cols as usize);
        }
    }
}

/// Work per nanosecond of `run`, round by round.
fn repeat(work: f64, mut run: impl FnMut()) -> Vec<f64> {
    let mut time = |count: usize| {
        let start = Instant::now();
        (0..count).for_each(|_| run());
        start.elapsed().as_secs_f64()
    };
    let once = time(3) / 3.0;
    let count = (ROUND_SECONDS / once).ceil().clamp(1.0, 1e6) as usize;
    (0..ROUNDS).map(|_| work * count as f64 / time(count) * 1e-9).collect()
}
