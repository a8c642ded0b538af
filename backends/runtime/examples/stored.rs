//! Measures products whose right operand is stored in fewer bits: for each way of storing it milliseconds, the fastest
//! and the median of the rounds, and how many times as fast the median is as with floats. The matrices, read in turn,
//! are more than caches hold.
//!
//! `cargo run --release -p egraft-runtime --example stored -- [THREADS]`

#![allow(unsafe_code, reason = "the product is called as compiled code calls it")]
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::ffi::c_void;
use std::time::Instant;

use runtime::Pool;
use runtime::gemm::{GemmF32, Scales, Stored, gemm};

/// Rows and columns of B.
const SIZE: usize = 4096;

/// Rows that share a row of scales.
const BLOCK: usize = 32;

/// So many bytes of matrices are read in turn.
const BYTES: usize = 160 << 20;

const ROUNDS: usize = 15;

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().expect("THREADS is a number"));
    let pool = Pool::new(threads);
    println!("{} threads, B of {SIZE} x {SIZE}", pool.threads());
    println!("{:>5} {:>6} {:>10} {:>10} {:>6}", "rows", "B", "fastest", "median", "times");
    let kinds = [Stored::F32, Stored::F16, Stored::BF16, Stored::I8, Stored::U4];
    for m in [1, 2, 4, 8, 32, 256] {
        let mut floats = 0.0;
        for stored in kinds {
            let mut times = times(&pool, m, stored);
            times.sort_by(f64::total_cmp);
            let (fastest, median) = (times[0], times[ROUNDS / 2]);
            if stored == Stored::F32 {
                floats = median;
            }
            let name = format!("{stored:?}").to_lowercase();
            println!("{m:>5} {name:>6} {fastest:>7.3} ms {median:>7.3} ms {:>6.2}", floats / median);
        }
    }
}

/// Milliseconds of the product, round by round.
fn times(pool: &Pool, m: usize, stored: Stored) -> Vec<f64> {
    let bits = match stored {
        Stored::F32 => 32,
        Stored::F16 | Stored::BF16 => 16,
        Stored::I8 | Stored::U8 => 8,
        Stored::U4 => 4,
    };
    let size = SIZE * SIZE * bits / 8;
    let count = BYTES.div_ceil(size);
    // Bytes that are small numbers in any type.
    let data: Vec<u8> = (0..count * size).map(|at| if at % 4 == 3 { 0x3c } else { 0x30 }).collect();
    let scales = vec![0.125f32; SIZE / BLOCK * SIZE];
    let table = Scales {
        scales: scales.as_ptr(),
        zeros: std::ptr::null(),
        zeros_type: 0,
        zero: i64::from(8f32.to_bits()),
        block: BLOCK as i64,
        blocks: (SIZE / BLOCK) as i64,
    };
    let a: Vec<f32> = (0..m * SIZE).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect();
    let mut c = vec![0.0; m * SIZE];
    let frame = Frame { c: c.as_mut_ptr() };
    let call = |which: usize| GemmF32 {
        m: m as i64,
        n: SIZE as i64,
        k: SIZE as i64,
        a: a.as_ptr(),
        a_row: SIZE as i64,
        a_col: 1,
        a_type: 0,
        window: std::ptr::null(),
        b: data[which * size..].as_ptr().cast(),
        b_row: 0,
        b_col: 0,
        packed: 1,
        b_type: stored as i64,
        scales: if bits <= 8 { &raw const table } else { std::ptr::null() },
        transposed: 0,
        groups: std::ptr::null(),
        epilogue: store,
        frame: (&raw const frame).cast(),
    };
    let rounds = (0..ROUNDS + 1).map(|_| {
        let start = Instant::now();
        for which in 0..count {
            // SAFETY: the operands, the scales and C outlive the calls and have the sizes that `call` says.
            unsafe { gemm(pool, std::ptr::null(), &call(which)) };
        }
        start.elapsed().as_secs_f64() * 1e3 / count as f64
    });
    rounds.skip(1).collect()
}

/// What the epilogue stores to.
struct Frame {
    c: *mut f32,
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
    // SAFETY: `times` passes a `Frame` whose C holds every tile.
    unsafe {
        let frame = &*frame.cast::<Frame>();
        for r in 0..rows {
            let to = frame.c.add((row + r) as usize * SIZE + col as usize);
            to.copy_from_nonoverlapping(tile.add((r * ld) as usize), cols as usize);
        }
    }
}
