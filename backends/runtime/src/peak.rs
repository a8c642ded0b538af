//! What the machine could do at most, measured: multiply-adds in registers, and reads of memory.
//!
//! A figure next to these, of the same minute, says more than one alone. Promises: nothing but time decides the
//! result. Deliberately absent: caches, and other element types than `f32`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::device::{Device, Region};
use crate::error::RunError;
use crate::memory::{AlignedBytes, OutOfMemory};
use crate::pool::Pool;

/// Each measurement takes at least this long. It consists of many short rounds, of which the fastest counts: that one
/// had the machine for itself.
const LASTS: Duration = Duration::from_millis(300);

/// Bytes that [`bytes_per_second`] reads: more than the caches of most machines hold.
pub const READ_BYTES: usize = 256 << 20;

/// Copies of as many bytes that are timed together.
const COPIES: usize = 4;

/// Bytes per second that a device reads and writes where it copies within its memory.
///
/// # Errors
/// What the device says.
pub fn copied_bytes_per_second(device: &dyn Device) -> Result<f64, RunError> {
    let queue = device.queue()?;
    let [mut from, mut to] = [(); 2].map(|()| Region::none(Some(&queue)));
    from.reserve(READ_BYTES, "a measurement")?;
    to.reserve(READ_BYTES, "a measurement")?;
    let mut failed = Ok(());
    let best = fastest((2 * COPIES * READ_BYTES) as f64, || {
        // SAFETY: both have so many bytes.
        let copies =
            (0..COPIES).try_for_each(|_| unsafe { queue.copy(from.start(), to.start(), READ_BYTES) });
        if let Err(error) = copies.and_then(|()| queue.wait()) {
            failed = Err(error);
        }
    });
    failed?;
    Ok(best)
}

/// The fastest of the rounds, at least three, in work per second.
fn fastest(work: f64, mut round: impl FnMut()) -> f64 {
    let (begin, mut rounds, mut best) = (Instant::now(), 0, 0_f64);
    while rounds < 3 || begin.elapsed() < LASTS {
        let start = Instant::now();
        round();
        best = best.max(work / start.elapsed().as_secs_f64());
        rounds += 1;
    }
    best
}

/// Floating-point operations per second of independent multiply-adds in registers, two for each lane, in one thread
/// and with the widest vectors of this CPU.
pub fn flops_per_second() -> f64 {
    const STEPS: usize = 1 << 16;
    let (lanes, body): (usize, fn(usize) -> f32) = fastest_chain();
    let flops = (2 * CHAINS * lanes * STEPS) as f64;
    let mut total = 0.0;
    let best = fastest(flops, || total += body(black_box(STEPS)));
    black_box(total);
    best
}

/// Bytes per second that the threads of `pool` read together from three streams, `Σ (x[i] & y[i]) ^ z[i]`, of
/// [`READ_BYTES`] in all. Nothing is written, so no cache line is fetched only to be replaced.
///
/// # Errors
/// The memory is not there.
pub fn bytes_per_second(pool: &Pool) -> Result<f64, OutOfMemory> {
    const BLOCK: usize = 1 << 15;
    const BLOCKS: usize = READ_BYTES / (3 * 8 * BLOCK);
    let mut memory = AlignedBytes::zeroed(3 * 8 * BLOCK * BLOCKS, "a measurement")?;
    // Zero pages may all be one page until they are written.
    memory.fill(1);
    // SAFETY: any bytes are numbers, and the memory is aligned to 64 bytes.
    let (_, numbers, _) = unsafe { memory.align_to::<u64>() };
    let (x, rest) = numbers.split_at(BLOCK * BLOCKS);
    let (y, z) = rest.split_at(BLOCK * BLOCKS);
    let total = AtomicU64::new(0);
    let best = fastest(memory.len() as f64, || {
        pool.run(BLOCKS as i64, 1, &|begin, end| {
            let range = begin as usize * BLOCK..end as usize * BLOCK;
            let sum = triad(&x[range.clone()], &y[range.clone()], &z[range]);
            total.fetch_add(sum, Ordering::Relaxed);
        });
    });
    black_box(total);
    Ok(best)
}

/// `Σ (x[i] & y[i]) ^ z[i]`. Sums of integers need no order, so compilers make vectors of it.
fn triad(x: &[u64], y: &[u64], z: &[u64]) -> u64 {
    let terms = x.iter().zip(y).zip(z).map(|((x, y), z)| (x & y) ^ z);
    terms.fold(0, u64::wrapping_add)
}

/// Independent sums: latency times ports, and some to spare, within 16 vector registers.
const CHAINS: usize = 12;

/// What the sums are multiplied by and raised by: they stay near 1. Hidden from the optimiser, which would see
/// where they end.
const FACTORS: [f32; 2] = [0.999, 1e-3];

/// The lanes of the widest vector and a loop of multiply-adds over it.
fn fastest_chain() -> (usize, fn(usize) -> f32) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has the feature.
            return (16, |steps| unsafe { chain_avx512(steps) });
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: the CPU has the features.
            return (8, |steps| unsafe { chain_avx2(steps) });
        }
    }
    (4, chain)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn chain_avx512(steps: usize) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let [x, y] = FACTORS.map(|factor| _mm512_set1_ps(black_box(factor)));
    let mut sums = [_mm512_set1_ps(1.0); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, y);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += _mm512_reduce_add_ps(sum);
    }
    total
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn chain_avx2(steps: usize) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let [x, y] = FACTORS.map(|factor| _mm256_set1_ps(black_box(factor)));
    let mut sums = [_mm256_set1_ps(1.0); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, y);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += _mm256_cvtss_f32(sum);
    }
    total
}

/// For CPUs without the features above: four lanes, which compilers make one vector.
fn chain(steps: usize) -> f32 {
    let mut sums = [[1f32; 4]; CHAINS];
    let [x, y] = black_box(FACTORS);
    for _ in 0..steps {
        for lane in sums.as_flattened_mut() {
            *lane = lane.mul_add(x, y);
        }
    }
    sums.as_flattened().iter().sum()
}
