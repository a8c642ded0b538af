//! Left operands that are windows: against the same matrix written out, bit for bit.

use super::*;

/// A convolution's image: one for each of its channels.
struct Image {
    channels: i64,
    height: i64,
    width: i64,
    kernel: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
    pad: [i64; 2],
}

impl Image {
    fn windows(&self) -> [i64; 2] {
        let along = |axis: usize, size: i64| {
            (size + 2 * self.pad[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1)
                / self.stride[axis]
                + 1
        };
        [along(0, self.height), along(1, self.width)]
    }

    /// The table of the window: rows are places of the kernel's window, columns channels and elements of it.
    fn table(&self) -> Vec<i64> {
        let ([oh, ow], [kh, kw]) = (self.windows(), self.kernel);
        let ([sy, sx], [dy, dx], [py, px]) = (self.stride, self.dilation, self.pad);
        let plane = self.height * self.width;
        let axes = [[oh, sy * self.width], [ow, sx], [self.channels, plane], [kh, dy * self.width], [kw, dx]];
        let guards = [[self.height, -py, sy, 0, 0, dy, 0], [self.width, -px, 0, sx, 0, 0, dx]];
        let padded = if self.pad == [0, 0] { &guards[..0] } else { &guards[..] };
        let head = [2, 3, padded.len() as i64];
        head.into_iter().chain(axes.into_iter().flatten()).chain(padded.iter().flatten().copied()).collect()
    }

    /// The matrix written out.
    fn matrix(&self, image: &[f32]) -> Vec<f32> {
        let ([oh, ow], [kh, kw]) = (self.windows(), self.kernel);
        let mut out = Vec::new();
        for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            for c in 0..self.channels {
                for (i, j) in (0..kh).flat_map(|i| (0..kw).map(move |j| (i, j))) {
                    let at_y = y * self.stride[0] + i * self.dilation[0] - self.pad[0];
                    let at_x = x * self.stride[1] + j * self.dilation[1] - self.pad[1];
                    let inside = (0..self.height).contains(&at_y) && (0..self.width).contains(&at_x);
                    let at = (c * self.height + at_y) * self.width + at_x;
                    out.push(if inside { image[at as usize] } else { 0.0 });
                }
            }
        }
        out
    }
}

fn images() -> Vec<Image> {
    let image = |channels, [height, width]: [i64; 2], kernel, stride, dilation, pad| Image {
        channels,
        height,
        width,
        kernel,
        stride,
        dilation,
        pad,
    };
    vec![
        image(3, [9, 9], [3, 3], [1, 1], [1, 1], [1, 1]),
        image(40, [14, 14], [3, 3], [1, 1], [1, 1], [1, 1]),
        image(5, [17, 13], [3, 3], [2, 2], [1, 1], [1, 1]),
        image(3, [20, 31], [7, 7], [2, 2], [1, 1], [3, 3]),
        image(7, [11, 12], [1, 1], [2, 2], [1, 1], [0, 0]),
        image(4, [12, 10], [3, 2], [1, 1], [2, 3], [2, 0]),
        image(300, [1, 40], [1, 5], [1, 1], [1, 1], [0, 2]),
        image(6, [8, 8], [3, 3], [1, 1], [1, 1], [0, 0]),
        // Lines of which strips of 14 rows, or of 6, are whole parts.
        image(90, [6, 28], [3, 3], [1, 1], [1, 1], [1, 1]),
        image(30, [9, 30], [3, 3], [1, 1], [1, 1], [0, 0]),
        image(7, [5, 12], [2, 3], [1, 1], [1, 1], [1, 1]),
        // Several blocks that are computed transposed: lines that end anywhere in a panel, every second pixel, every
        // third one, a last panel that is half empty, lines shorter than a vector.
        image(6, [30, 31], [3, 3], [1, 1], [1, 1], [1, 1]),
        image(5, [40, 43], [3, 3], [2, 2], [1, 1], [1, 1]),
        image(2, [50, 61], [3, 3], [3, 3], [1, 2], [1, 1]),
        image(9, [31, 36], [1, 1], [2, 2], [1, 1], [0, 0]),
        image(256, [12, 12], [1, 1], [1, 1], [1, 1], [0, 0]),
        image(64, [21, 21], [1, 1], [1, 1], [1, 1], [0, 0]),
        image(3, [90, 3], [2, 2], [1, 1], [1, 1], [1, 1]),
    ]
}

#[test]
fn a_window_is_the_matrix_written_out() {
    let pools = [1, 2].map(Pool::new);
    for (at, shape) in images().iter().enumerate() {
        let image = random(at as u64, (shape.channels * shape.height * shape.width) as usize);
        let (matrix, table) = (shape.matrix(&image), shape.table());
        let k = (shape.channels * shape.kernel[0] * shape.kernel[1]) as usize;
        let m = matrix.len() / k;
        for n in [1, 20, 70] {
            let case = Case { size: [m, n, k], a: matrix.clone(), b: random(9 + n as u64, k * n) };
            let want = case.in_order();
            let mut panels = vec![f32::NAN; packed_len(k, n)];
            pack_panels(&case.b, k, n, n, 1, &mut panels);
            for (kernels, pool) in Kernels::available().flat_map(|k| pools.iter().map(move |p| (k, p))) {
                // A kernel of one pixel sees a matrix that lies transposed in the image.
                let pixel = shape.kernel == [1, 1] && shape.stride == [1, 1];
                for (transposed, plain) in [(false, false), (true, false), (true, true)]
                    .into_iter()
                    .filter(|(_, plain)| !plain || pixel)
                {
                    let count = || (0..m * n).map(|_| AtomicU32::new(0)).collect();
                    let sink = Sink { n: if transposed { m } else { n }, bits: count(), hits: count() };
                    let call = GemmF32 {
                        m: m as i64,
                        n: n as i64,
                        k: k as i64,
                        // The first element of the first window lies in the padding.
                        a: image.as_ptr().wrapping_sub((shape.pad[0] * shape.width + shape.pad[1]) as usize),
                        a_row: i64::from(plain),
                        a_col: if plain { m as i64 } else { 0 },
                        a_type: 0,
                        window: if plain { std::ptr::null() } else { table.as_ptr() },
                        b: panels.as_ptr(),
                        b_row: 0,
                        b_col: 0,
                        packed: 1,
                        b_type: 0,
                        scales: std::ptr::null(),
                        transposed: i64::from(transposed),
                        groups: std::ptr::null(),
                        epilogue: collect,
                        frame: (&raw const sink).cast(),
                    };
                    // SAFETY: the image, the table, the panels and the sink outlive the call and fit it.
                    unsafe { product::multiply(kernels, pool, SERVICES, &call) };
                    assert!(sink.hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1));
                    for (place, bits) in sink.bits.iter().enumerate() {
                        let place = if transposed { place % m * n + place / m } else { place };
                        let context = format!("image {at}, {n} columns, {}, {transposed}", kernels.name);
                        assert_eq!(bits.load(Ordering::Relaxed), want[place], "{context}, element {place}");
                    }
                }
            }
        }
    }
}

#[test]
fn transposing_fills_up_with_zeros() {
    for kernels in Kernels::available() {
        for (rows, cols) in [(1usize, 1), (16, 16), (14, 32), (33, 17), (5, 40)] {
            let (from_ld, ld) = (cols + 3, rows.next_multiple_of(16) + 2);
            let from = random(3, rows * from_ld);
            let mut out = vec![f32::NAN; cols * ld];
            // SAFETY: both have the sizes that are stated.
            unsafe { (kernels.transpose)(from.as_ptr(), from_ld, rows, cols, out.as_mut_ptr(), ld) };
            for (c, r) in (0..cols).flat_map(|c| (0..rows.next_multiple_of(16)).map(move |r| (c, r))) {
                let want = if r < rows { from[r * from_ld + c] } else { 0.0 };
                assert_eq!(out[c * ld + r], want, "{} {rows}x{cols} {r} {c}", kernels.name);
            }
        }
    }
}
