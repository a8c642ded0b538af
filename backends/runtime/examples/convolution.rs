//! Measures convolutions as compiled code calls them, those of a ResNet-50: GF/s, and the share of the machine's fused
//! multiply-add peak. Weights and images are others in each run, as in a network. Prints the fastest and the median of
//! the rounds, and what all of them take together, each as often as the network has it.
//!
//! `cargo run --release -p egraft-runtime --example convolution -- [THREADS]`

#![allow(unsafe_code, reason = "the product is called as compiled code calls it")]
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::ffi::c_void;
use std::time::Instant;

use runtime::gemm::{GemmF32, gemm, pack_panels, packed_len};
use runtime::{Pool, peak};

const ROUNDS: usize = 15;

/// Runs in a round.
const RUNS: usize = 2;

/// Images that take turns.
const IMAGES: usize = 4;

/// Floats of weights that take turns.
const WEIGHTS: usize = 16 << 20;

/// A square convolution.
struct Shape {
    /// How often the network has it.
    times: usize,
    channels: usize,
    filters: usize,
    /// Side of the result.
    side: usize,
    kernel: usize,
    stride: usize,
    residual: bool,
}

const fn shape(
    times: usize,
    [channels, filters]: [usize; 2],
    side: usize,
    kernel: usize,
    stride: usize,
) -> Shape {
    Shape { times, channels, filters, side, kernel, stride, residual: false }
}

const fn residual(times: usize, [channels, filters]: [usize; 2], side: usize) -> Shape {
    Shape { times, channels, filters, side, kernel: 1, stride: 1, residual: true }
}

const SHAPES: [Shape; 24] = [
    shape(1, [3, 64], 112, 7, 2),
    shape(1, [64, 64], 56, 1, 1),
    shape(3, [64, 64], 56, 3, 1),
    shape(1, [64, 256], 56, 1, 1),
    residual(3, [64, 256], 56),
    shape(2, [256, 64], 56, 1, 1),
    shape(1, [256, 128], 56, 1, 1),
    shape(1, [128, 128], 28, 3, 2),
    shape(1, [256, 512], 28, 1, 2),
    residual(4, [128, 512], 28),
    shape(3, [512, 128], 28, 1, 1),
    shape(3, [128, 128], 28, 3, 1),
    shape(1, [512, 256], 28, 1, 1),
    shape(1, [256, 256], 14, 3, 2),
    shape(1, [512, 1024], 14, 1, 2),
    residual(6, [256, 1024], 14),
    shape(5, [1024, 256], 14, 1, 1),
    shape(5, [256, 256], 14, 3, 1),
    shape(1, [1024, 512], 14, 1, 1),
    shape(1, [512, 512], 7, 3, 2),
    shape(1, [1024, 2048], 7, 1, 2),
    residual(3, [512, 2048], 7),
    shape(2, [2048, 512], 7, 1, 1),
    shape(2, [512, 512], 7, 3, 1),
];

fn main() {
    let threads = std::env::args().nth(1).map_or(1, |text| text.parse().expect("THREADS is a number"));
    let pool = Pool::new(threads);
    let peak = peak::flops_per_second() * pool.threads() as f64 * 1e-9;
    println!(
        "{} threads, fused multiply-add peak {peak:.1} GF/s, {}",
        pool.threads(),
        runtime::gemm::instruction_set()
    );
    let (mut work, mut time, mut best) = (0.0, 0.0, 0.0);
    for shape in &SHAPES {
        let mut times = shape.times(&pool);
        times.sort_by(f64::total_cmp);
        let flops = shape.flops();
        let cell = |time: f64| {
            let rate = flops / time * 1e-9;
            format!("{:.3} ms {rate:.1} GF/s {:3.0} %", time * 1e3, rate / peak * 100.0)
        };
        let Shape { channels, filters, side, kernel, stride, .. } = shape;
        let name = format!("{channels} to {filters}, {side}x{side}, {kernel}x{kernel} by {stride}");
        let fused = if shape.residual { " + residual" } else { "" };
        println!("{name:>32}{fused:<11} {:>28} {:>28}", cell(times[0]), cell(times[ROUNDS / 2]));
        let count = shape.times as f64;
        work += count * flops;
        time += count * times[ROUNDS / 2];
        best += count * times[0];
    }
    let share = |time: f64| work / time * 1e-9 / peak * 100.0;
    println!(
        "{:.2} ms, {:.1} %; fastest {:.2} ms, {:.1} %",
        time * 1e3,
        share(time),
        best * 1e3,
        share(best)
    );
}

impl Shape {
    fn depth(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    fn pixels(&self) -> usize {
        self.side * self.side
    }

    fn flops(&self) -> f64 {
        2.0 * (self.pixels() * self.filters * self.depth()) as f64
    }

    /// The table of the image's window, padded so that the result has an image's side divided by the stride.
    fn table(&self) -> Vec<i64> {
        let Shape { channels, side, kernel, stride, .. } = *self;
        let [channels, side, kernel, stride] = [channels, side, kernel, stride].map(|n| n as i64);
        let (image, pad) = (side * stride, kernel / 2);
        let axes =
            [[side, stride * image], [side, stride], [channels, image * image], [kernel, image], [kernel, 1]];
        let guards = [[image, -pad, stride, 0, 0, 1, 0], [image, -pad, 0, stride, 0, 0, 1]];
        let (axes, guards) = if kernel == 1 { (&axes[..3], &guards[..0]) } else { (&axes[..], &guards[..]) };
        let head = [2, axes.len() as i64 - 2, guards.len() as i64];
        head.into_iter()
            .chain(axes.iter().flatten().copied())
            .chain(guards.iter().flatten().copied())
            .collect()
    }

    /// Seconds of a run, round by round.
    fn times(&self, pool: &Pool) -> Vec<f64> {
        let numbers = |len: usize| (0..len).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect::<Vec<_>>();
        let (m, n, k) = (self.pixels(), self.filters, self.depth());
        let image = self.side * self.stride;
        let images: Vec<Vec<f32>> = (0..IMAGES).map(|_| numbers(self.channels * image * image)).collect();
        let results: Vec<Vec<f32>> = (0..IMAGES + 1).map(|_| vec![0.0; m * n]).collect();
        let panels: Vec<Vec<f32>> = (0..(WEIGHTS / packed_len(k, n)).clamp(1, 64))
            .map(|_| {
                let mut panels = vec![0.0; packed_len(k, n)];
                pack_panels(&numbers(k * n), k, n, n, 1, &mut panels);
                panels
            })
            .collect();
        let (table, pad) = (self.table(), self.kernel / 2);
        let plain = self.kernel == 1 && self.stride == 1;
        let mut at = 0;
        let mut run = || {
            let c = results[at % results.len()].as_ptr().cast_mut();
            let before = results[(at + 2) % results.len()].as_ptr();
            let frame = Frame { c, n: m, before: if self.residual { before } else { std::ptr::null() } };
            let call = GemmF32 {
                m: m as i64,
                n: n as i64,
                k: k as i64,
                a: images[at % IMAGES].as_ptr().wrapping_sub(pad * image + pad),
                a_row: i64::from(plain),
                a_col: if plain { m as i64 } else { 0 },
                a_type: 0,
                window: if plain { std::ptr::null() } else { table.as_ptr() },
                b: panels[at % panels.len()].as_ptr(),
                b_row: 0,
                b_col: 0,
                packed: 1,
                b_type: 0,
                scales: std::ptr::null(),
                transposed: 1,
                groups: std::ptr::null(),
                epilogue: store,
                frame: (&raw const frame).cast(),
            };
            // SAFETY: the image, the table, the panels and C outlive the calls and have the sizes that `call` says.
            unsafe { gemm(pool, std::ptr::null(), &call) };
            at += 1;
        };
        (0..8).for_each(|_| run());
        let round = |_| {
            let start = Instant::now();
            (0..RUNS).for_each(|_| run());
            start.elapsed().as_secs_f64() / RUNS as f64
        };
        (0..ROUNDS).map(round).collect()
    }
}

/// What the epilogue stores to, and what it adds.
struct Frame {
    c: *mut f32,
    n: usize,
    before: *const f32,
}

/// An epilogue that ends in a rectifier.
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
    // SAFETY: `times` passes a `Frame` whose matrices hold every tile.
    unsafe {
        let frame = &*frame.cast::<Frame>();
        for r in 0..rows {
            let place = (row + r) as usize * frame.n + col as usize;
            let from = std::slice::from_raw_parts(tile.add((r * ld) as usize), cols as usize);
            let to = std::slice::from_raw_parts_mut(frame.c.add(place), cols as usize);
            if frame.before.is_null() {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = (from + 0.5).max(0.0);
                }
            } else {
                let before = std::slice::from_raw_parts(frame.before.add(place), cols as usize);
                for ((to, from), before) in to.iter_mut().zip(from).zip(before) {
                    *to = (from + 0.5 + before).max(0.0);
                }
            }
        }
    }
}
