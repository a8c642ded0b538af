//! Measures products of bytes beside those of floats of the same sizes: G multiply-adds a second (fastest round) and their
//! ratio.
//!
//! `cargo run --release -p egraft-runtime --example gemm_int8 -- [THREADS]`

#![allow(unsafe_code, reason = "the product is called as compiled code calls it")]
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::ffi::c_void;
use std::time::Instant;

use runtime::Pool;
use runtime::gemm::{self, GemmF32, int8};

/// A round lasts about this long.
const ROUND_SECONDS: f64 = 0.02;
const ROUNDS: usize = 15;

/// m, n, k.
const SIZES: [[usize; 3]; 9] = [
    [512, 512, 512],
    [1024, 1024, 1024],
    [128, 768, 768],
    [128, 3072, 768],
    [128, 768, 3072],
    [128, 384, 384],
    [1, 512, 512],
    [1, 3072, 768],
    [1, 4096, 4096],
];

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().expect("THREADS is a number"));
    let pool = Pool::new(threads);
    println!("{:>20} {:>10} {:>10} {:>8}", "m x n x k", "i8, G/s", "f32, G/s", "ratio");
    for size in SIZES {
        let (bytes, floats) = (bytes(&pool, size), floats(&pool, size));
        let [m, n, k] = size;
        let size = format!("{m} x {n} x {k}");
        println!("{size:>20} {bytes:>10.1} {floats:>10.1} {:>8.2}", bytes / floats);
    }
}

/// Products of bytes whose B is in panels.
fn bytes(pool: &Pool, [m, n, k]: [usize; 3]) -> f64 {
    let numbers = |len: usize| (0..len).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0i32; m * n]);
    let mut panels = vec![0; int8::packed_len(k, n)];
    int8::pack_panels(&b, k, n, n, 1, &mut panels);
    let frame = Frame { c: c.as_mut_ptr().cast(), n };
    let call = int8::GemmI8 {
        m: m as i64,
        n: n as i64,
        k: k as i64,
        a: a.as_ptr(),
        a_row: k as i64,
        a_col: 1,
        window: std::ptr::null(),
        a_signed: 0,
        a_zero: 120,
        b: panels.as_ptr(),
        b_row: n as i64,
        b_col: 1,
        packed: 1,
        b_signed: 1,
        b_zero: 0,
        b_zeros: std::ptr::null(),
        b_zeros_step: 0,
        transposed: 0,
        epilogue: store_i32,
        frame: (&raw const frame).cast(),
    };
    // SAFETY: the operands, the panels and C outlive the calls and have the sizes that `call` says.
    fastest((m * n * k) as f64, || unsafe { int8::gemm(pool, std::ptr::null(), &call) })
}

/// The same of floats.
fn floats(pool: &Pool, [m, n, k]: [usize; 3]) -> f64 {
    let numbers = |len: usize| (0..len).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0f32; m * n]);
    let mut panels = vec![0.0; gemm::packed_len(k, n)];
    gemm::pack_panels(&b, k, n, n, 1, &mut panels);
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
        b: panels.as_ptr(),
        b_row: n as i64,
        b_col: 1,
        packed: 1,
        b_type: 0,
        scales: std::ptr::null(),
        transposed: 0,
        groups: std::ptr::null(),
        epilogue: store,
        frame: (&raw const frame).cast(),
    };
    // SAFETY: the operands, the panels and C outlive the calls and have the sizes that `call` says.
    fastest((m * n * k) as f64, || unsafe { gemm::gemm(pool, std::ptr::null(), &call) })
}

/// What an epilogue stores to: elements of 32 bits, whatever they are.
struct Frame {
    c: *mut f32,
    n: usize,
}

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
    // SAFETY: the frame's C holds every tile.
    unsafe {
        let frame = &*frame.cast::<Frame>();
        for r in 0..rows {
            let to = frame.c.add((row + r) as usize * frame.n + col as usize);
            to.copy_from_nonoverlapping(tile.add((r * ld) as usize), cols as usize);
        }
    }
}

unsafe extern "C" fn store_i32(
    services: *const c_void,
    frame: *const u8,
    tile: *const i32,
    ld: i64,
    row: i64,
    rows: i64,
    col: i64,
    cols: i64,
) {
    // SAFETY: as above.
    unsafe { store(services, frame, tile.cast(), ld, row, rows, col, cols) }
}

/// Work per nanosecond of the fastest round.
fn fastest(work: f64, mut run: impl FnMut()) -> f64 {
    let mut time = |count: usize| {
        let start = Instant::now();
        (0..count).for_each(|_| run());
        start.elapsed().as_secs_f64()
    };
    let count = (ROUND_SECONDS / time(3).max(1e-9) * 3.0).max(1.0) as usize;
    let round = |_| work * count as f64 / time(count) * 1e-9;
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}
