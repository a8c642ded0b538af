//! Products of bytes by every body that this CPU can run, against sums in `i64`.

use std::sync::atomic::{AtomicI32, Ordering};

use super::*;

/// Bytes that depend on the seed alone.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        })
        .collect()
}

/// A byte as the number that it is.
fn number(byte: u8, signed: bool) -> i64 {
    if signed { i64::from(byte.cast_signed()) } else { i64::from(byte) }
}

/// Where the test's epilogue puts what it is given; nothing may come twice.
struct Sink {
    n: usize,
    values: Vec<AtomicI32>,
    hits: Vec<AtomicI32>,
}

unsafe extern "C" fn collect(
    _: *const c_void,
    frame: *const u8,
    tile: *const i32,
    ld: i64,
    row: i64,
    rows: i64,
    col: i64,
    cols: i64,
) {
    // SAFETY: `run` passes a `Sink` as the frame.
    let sink = unsafe { &*frame.cast::<Sink>() };
    assert!(rows > 0 && cols > 0 && cols <= ld);
    for r in 0..rows {
        for c in 0..cols {
            // SAFETY: the tile has `rows` rows of `cols` numbers.
            let value = unsafe { *tile.add((r * ld + c) as usize) };
            let place = (row + r) as usize * sink.n + (col + c) as usize;
            sink.values[place].store(value, Ordering::Relaxed);
            sink.hits[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The result of a call, which is `rows`×`cols` as the epilogue sees it.
fn run(kernels: &'static Kernels, threads: usize, call: GemmI8, [rows, cols]: [usize; 2]) -> Vec<i32> {
    let count = || (0..rows * cols).map(|_| AtomicI32::new(0)).collect();
    let sink = Sink { n: cols, values: count(), hits: count() };
    let call = GemmI8 { epilogue: collect, frame: (&raw const sink).cast(), ..call };
    // SAFETY: the operands and the sink outlive the call and fit it.
    unsafe { product::multiply(kernels, &Pool::new(threads), std::ptr::null(), &call) };
    assert!(sink.hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1), "{} {call:?}", kernels.name);
    sink.values.into_iter().map(AtomicI32::into_inner).collect()
}

/// A product that each test changes.
fn plain(size: [usize; 3], a: &[u8], b: &[u8]) -> GemmI8 {
    let [m, n, k] = size.map(|size| size as i64);
    GemmI8 {
        m,
        n,
        k,
        a: a.as_ptr(),
        a_row: k,
        a_col: 1,
        window: std::ptr::null(),
        a_signed: 0,
        a_zero: 0,
        b: b.as_ptr(),
        b_row: n,
        b_col: 1,
        packed: 0,
        b_signed: 1,
        b_zero: 0,
        b_zeros: std::ptr::null(),
        b_zeros_step: 0,
        transposed: 0,
        epilogue: collect,
        frame: std::ptr::null(),
    }
}

/// What `plain`, with zeros and signs, gives.
fn expected(size: [usize; 3], a: &[u8], b: &[u8], call: &GemmI8, zeros: &[u8]) -> Vec<i32> {
    let [m, n, k] = size;
    let mut sums = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let zero = zeros.get(j).map_or(call.b_zero, |&zero| number(zero, call.b_signed != 0));
            let term = |k: usize| {
                let x = number(a[i * call.a_row as usize + k], call.a_signed != 0) - call.a_zero;
                x * (number(b[k * n + j], call.b_signed != 0) - zero)
            };
            sums.push((0..k).map(term).sum::<i64>() as i32);
        }
    }
    sums
}

#[test]
fn products_of_all_signs_zeros_and_sizes() {
    let sizes = [
        [1, 1, 1],
        [1, 64, 7],
        [3, 33, 4],
        [5, 40, 130],
        [14, 32, 64],
        [16, 31, 256],
        [45, 70, 259],
        [4, 65, 0],
        [1, 33, 4200],
        [2, 3, 16400],
    ];
    for kernels in Kernels::available() {
        for (case, size) in sizes.into_iter().enumerate() {
            let [m, n, k] = size;
            let (a, b) = (random(1 + case as u64, m * k), random(50 + case as u64, k * n));
            let zeros = random(99, n);
            for signs in 0..4 {
                let signed = [signs & 1, signs >> 1];
                for columns in [false, true] {
                    let call = GemmI8 {
                        a_signed: signed[0],
                        b_signed: signed[1],
                        a_zero: if signed[0] == 1 { -5 } else { 77 },
                        b_zero: if signed[1] == 1 { 0 } else { 128 },
                        b_zeros: if columns { zeros.as_ptr() } else { std::ptr::null() },
                        b_zeros_step: 1,
                        ..plain(size, &a, &b)
                    };
                    let zeros = if columns { &zeros[..] } else { &[] };
                    let wanted = expected(size, &a, &b, &call, zeros);
                    let context = format!("{} {size:?} {signed:?} {columns}", kernels.name);
                    for threads in [1, 3] {
                        assert_eq!(run(kernels, threads, call, [m, n]), wanted, "{context}");
                    }
                    if signed[1] == 1 {
                        let mut panels = vec![0xaa; packed_len(k, n)];
                        pack_panels(&b, k, n, n, 1, &mut panels);
                        let call = GemmI8 { b: panels.as_ptr(), packed: 1, ..call };
                        assert_eq!(run(kernels, 1, call, [m, n]), wanted, "panels, {context}");
                    }
                }
            }
        }
    }
}

#[test]
fn operands_may_lie_anyhow_and_results_transposed() {
    let size @ [m, n, k] = [37, 45, 70];
    let (a, b) = (random(1, m * k), random(2, k * n));
    let call = GemmI8 { a_zero: 3, ..plain(size, &a, &b) };
    let wanted = expected(size, &a, &b, &call, &[]);
    let turned = |of: &[u8], rows: usize, cols: usize| -> Vec<u8> {
        (0..rows * cols).map(|at| of[at % rows * cols + at / rows]).collect()
    };
    let (a_turned, b_turned) = (turned(&a, m, k), turned(&b, k, n));
    for kernels in Kernels::available() {
        let columns = GemmI8 {
            a: a_turned.as_ptr(),
            a_row: 1,
            a_col: m as i64,
            b: b_turned.as_ptr(),
            b_row: 1,
            b_col: k as i64,
            ..call
        };
        assert_eq!(run(kernels, 2, columns, [m, n]), wanted, "{}", kernels.name);
        let transposed = run(kernels, 2, GemmI8 { transposed: 1, ..columns }, [n, m]);
        let back: Vec<i32> = (0..m * n).map(|at| transposed[at % n * m + at / n]).collect();
        assert_eq!(back, wanted, "{} transposed", kernels.name);
    }
}

/// A padded convolution of an image of `channels`×`size`×`size`, with steps between its windows.
fn convolution(kernels: &'static Kernels, channels: usize, size: usize, step: usize, signed: bool) {
    let (out, taps, filters) = (size.div_ceil(step), 3, 34);
    let (image, weights) = (random(3, channels * size * size), random(4, filters * channels * taps * taps));
    let zero: i64 = if signed { -7 } else { 120 };
    let [c, s, t, o, step] = [channels, size, taps, out, step].map(|n| n as i64);
    // Rows: y, x of the result. Columns: channel, y, x in the window. Guards: y and x of the image.
    let table = [
        [2, 3, 2].to_vec(),
        [o, step * s, o, step, c, s * s, t, s, t, 1].to_vec(),
        [s, -1, step, 0, 0, 1, 0].to_vec(),
        [s, -1, 0, step, 0, 0, 1].to_vec(),
    ]
    .concat();
    let sizes = [out * out, filters, channels * taps * taps];
    let call = GemmI8 {
        a: image.as_ptr().wrapping_sub(size + 1),
        a_signed: i64::from(signed),
        a_zero: zero,
        window: table.as_ptr(),
        b_row: 1,
        b_col: sizes[2] as i64,
        transposed: 1,
        ..plain(sizes, &image, &weights)
    };
    let found = run(kernels, 2, call, [filters, out * out]);
    for f in 0..filters {
        for (y, x) in (0..out).flat_map(|y| (0..out).map(move |x| (y, x))) {
            let mut sum = 0;
            for (at, &weight) in weights[f * sizes[2]..(f + 1) * sizes[2]].iter().enumerate() {
                let (c, v, u) = (at / (taps * taps), at / taps % taps, at % taps);
                let (v, u) =
                    ((y * step as usize + v).wrapping_sub(1), (x * step as usize + u).wrapping_sub(1));
                if v < size && u < size {
                    let pixel = number(image[(c * size + v) * size + u], signed) - zero;
                    sum += pixel * number(weight, true);
                }
            }
            let at = f * out * out + y * out + x;
            assert_eq!(
                i64::from(found[at]),
                sum,
                "{} {channels} {size} {step} at {f}, {y}, {x}",
                kernels.name
            );
        }
    }
}

#[test]
fn what_lies_outside_of_an_image_is_its_zero() {
    for kernels in Kernels::available() {
        for (channels, size, step) in [(5, 9, 1), (3, 16, 1), (30, 12, 1), (4, 14, 2), (2, 19, 3)] {
            for signed in [false, true] {
                convolution(kernels, channels, size, step, signed);
            }
        }
    }
}
