//! The thread pool: a fixed set of workers that share one loop at a time.
//!
//! Promises: `run` calls the body over disjoint chunks that cover `0..extent` exactly once, returns when
//! all are done, takes part itself, allocates nothing, and never waits for anything but its own chunks.
//! Workers park when idle. How the range is split depends on the moment, so a body's results must not.
//!
//! Deliberately absent: task graphs, work stealing, priorities. A call from inside a body, or while
//! another thread's loop holds the workers, runs serially in its caller.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

use crate::gemm::scratch;

/// How often a thread looks again before it parks: some hundred microseconds at most, so that the loops of one run,
/// with the short serial steps between them, do not pay a wake-up each, and an idle pool costs nothing.
const SPINS: usize = 4096;

/// Chunks per thread that `run` aims at: enough that a slow thread does not hold up the rest.
const CHUNKS_PER_THREAD: i64 = 8;

thread_local! {
    /// Whether this thread is inside a body that a pool runs.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A body over the half-open range `begin..end`.
type Body<'a> = dyn Fn(i64, i64) + Sync + 'a;

/// A fixed set of threads that share one loop at a time; see [`Pool::run`].
pub struct Pool {
    shared: Arc<Shared>,
    /// Held by the caller whose loop the workers are at.
    owner: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when a loop is published, or the pool is dropped.
    wake: Condvar,
    /// Signalled when the last worker leaves a loop.
    left: Condvar,
    /// Number of loops published so far. Written under `state`; read outside it only to spin.
    generation: AtomicU64,
    /// Number of workers inside the current loop. Written under `state`; read outside it only to spin.
    active: AtomicUsize,
}

struct State {
    job: Option<Job>,
    stop: bool,
}

/// One loop. Its parts live on the stack of `run`, which outlasts every use by a worker.
struct Loop<'a> {
    body: &'a Body<'a>,
    extent: i64,
    chunk: i64,
    /// Index of the next chunk nobody has claimed.
    next: AtomicI64,
    chunks: i64,
    /// What the first body that panicked panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A `Loop` whose lifetime is erased, so that it can stand in the shared state.
#[derive(Clone, Copy)]
struct Job(*const Loop<'static>);

// SAFETY: the pointer leads to a `Loop`, all of whose fields may be shared between threads (`body` is
// `Sync`), and `run` keeps the `Loop` alive until no worker can reach it.
unsafe impl Send for Job {}

impl Pool {
    /// A pool of `threads` threads, the caller of `run` being one of them: `1` spawns nothing and `0`
    /// takes as many as the system says can run at once. Where the system refuses further threads the
    /// pool is smaller; [`Pool::threads`] tells its true size, and no result depends on it.
    pub fn new(threads: usize) -> Arc<Pool> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State { job: None, stop: false }),
            wake: Condvar::new(),
            left: Condvar::new(),
            generation: AtomicU64::new(0),
            active: AtomicUsize::new(0),
        });
        let workers = (1..threads)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("egraft-{i}"))
                    .spawn(move || {
                        scratch::reserve();
                        shared.serve();
                    })
                    .ok()
            })
            .collect();
        Arc::new(Pool { shared, owner: Mutex::new(()), workers })
    }

    /// Number of threads that share a loop, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Number of threads that would share a loop of this thread now: inside of a body, only itself.
    pub(crate) fn available(&self) -> usize {
        if INSIDE.get() { 1 } else { self.threads() }
    }

    /// Calls `body(begin, end)` over disjoint ranges of at least `grain` elements (the last may be
    /// shorter) that cover `0..extent`, on all threads, and returns when every call has returned.
    ///
    /// # Panics
    /// When a body panics: with what it panicked with, after the other threads have left the loop.
    pub fn run(&self, extent: i64, grain: i64, body: &(dyn Fn(i64, i64) + Sync)) {
        if extent <= 0 {
            return;
        }
        let threads = i64::try_from(self.threads()).unwrap_or(i64::MAX);
        let chunk = grain.max(1).max(ceil_div(extent, threads.saturating_mul(CHUNKS_PER_THREAD)));
        let chunks = ceil_div(extent, chunk);
        if threads == 1 || chunks == 1 || INSIDE.get() {
            return body(0, extent);
        }
        let owner = match self.owner.try_lock() {
            Ok(owner) => owner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return body(0, extent),
        };
        let work = Loop { body, extent, chunk, next: AtomicI64::new(0), chunks, panic: Mutex::new(None) };
        self.shared.publish(Job((&raw const work).cast()), chunks - 1, self.workers.len());
        work.take_part();
        self.shared.retire();
        drop(owner);
        let panic = work.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker ends only by `stop`: bodies' panics are caught, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic between two writes, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            spin_until(|| self.generation.load(Ordering::Acquire) != seen);
            let mut state = self.lock();
            while self.generation.load(Ordering::Relaxed) == seen && !state.stop {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            seen = self.generation.load(Ordering::Relaxed);
            let Some(job) = state.job else { continue };
            self.active.fetch_add(1, Ordering::Relaxed);
            drop(state);
            // SAFETY: `active` was raised under the lock while `job` was published, so `run` stays in
            // `retire`, and its `Loop` alive, until this worker lowers it again.
            unsafe { &*job.0 }.take_part();
            let state = self.lock();
            let last = self.active.fetch_sub(1, Ordering::Release) == 1;
            drop(state);
            if last {
                self.left.notify_one();
            }
        }
    }

    /// Shows `job` to the workers and wakes as many as there are chunks to claim.
    fn publish(&self, job: Job, wanted: i64, workers: usize) {
        let mut state = self.lock();
        state.job = Some(job);
        self.generation.fetch_add(1, Ordering::Release);
        drop(state);
        match usize::try_from(wanted) {
            Ok(wanted) if wanted < workers => (0..wanted).for_each(|_| self.wake.notify_one()),
            _ => self.wake.notify_all(),
        }
    }

    /// Hides the job, so that no further worker enters it, and waits until those inside have left.
    fn retire(&self) {
        self.lock().job = None;
        spin_until(|| self.active.load(Ordering::Acquire) == 0);
        let mut state = self.lock();
        while self.active.load(Ordering::Acquire) != 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Loop<'_> {
    /// Claims chunks and runs the body on them until none is left. Never unwinds.
    fn take_part(&self) {
        INSIDE.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, Ordering::Relaxed);
                if index >= self.chunks {
                    break;
                }
                let begin = index * self.chunk;
                (self.body)(begin, begin.saturating_add(self.chunk).min(self.extent));
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = outcome {
            self.next.store(self.chunks, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
    }
}

fn spin_until(done: impl Fn() -> bool) {
    for _ in 0..SPINS {
        if done() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// `ceil(a / b)` of positive numbers, without overflow.
fn ceil_div(a: i64, b: i64) -> i64 {
    (a - 1) / b + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    fn counts(pool: &Pool, extent: i64, grain: i64) -> Vec<u32> {
        let hits: Vec<AtomicU32> = (0..extent).map(|_| AtomicU32::new(0)).collect();
        pool.run(extent, grain, &|begin, end| {
            assert!(begin < end && end <= extent);
            assert!(end - begin >= grain.min(extent) || end == extent, "chunk {begin}..{end} below {grain}");
            for i in begin..end {
                hits[i as usize].fetch_add(1, Ordering::Relaxed);
            }
        });
        hits.into_iter().map(AtomicU32::into_inner).collect()
    }

    #[test]
    fn every_element_is_visited_once() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for extent in [0, 1, 2, 3, 7, 64, 1000] {
                for grain in [0, 1, 3, 64, 5000] {
                    assert!(
                        counts(&pool, extent, grain).iter().all(|&n| n == 1),
                        "{threads} {extent} {grain}"
                    );
                }
            }
        }
    }

    #[test]
    fn many_short_loops_in_a_row() {
        let pool = Pool::new(3);
        let total = AtomicI64::new(0);
        for _ in 0..5000 {
            pool.run(40, 1, &|begin, end| {
                total.fetch_add(end - begin, Ordering::Relaxed);
            });
        }
        assert_eq!(total.into_inner(), 5000 * 40);
    }

    #[test]
    fn huge_extents_do_not_overflow() {
        let pool = Pool::new(2);
        let total = AtomicI64::new(0);
        for extent in [i64::MAX, i64::MAX - 1] {
            total.store(0, Ordering::Relaxed);
            pool.run(extent, 1, &|begin, end| {
                total.fetch_add(end - begin, Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), extent);
        }
    }

    #[test]
    fn workers_share_the_loop() {
        let pool = Pool::new(2);
        let caller = std::thread::current().id();
        let helped = AtomicU32::new(0);
        // The caller stays in its first chunk until the worker has run one.
        pool.run(16, 1, &|_, _| {
            if std::thread::current().id() == caller {
                while helped.load(Ordering::Relaxed) == 0 {
                    std::thread::yield_now();
                }
            } else {
                helped.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(helped.into_inner() > 0);
    }

    #[test]
    fn nested_loops_run_in_their_caller() {
        let pool = Pool::new(3);
        let total = AtomicI64::new(0);
        pool.run(20, 1, &|begin, end| {
            let outer = std::thread::current().id();
            pool.run(100, 1, &|b, e| {
                assert_eq!(std::thread::current().id(), outer);
                total.fetch_add((e - b) * (end - begin), Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 2000);
    }

    #[test]
    fn two_callers_share_one_pool() {
        let pool = Pool::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        assert!(counts(&pool, 33, 1).iter().all(|&n| n == 1));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for culprit in [0, 17, 39] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(40, 1, &|begin, end| assert!(!(begin..end).contains(&culprit), "element {culprit}"));
            }));
            let payload = outcome.expect_err("the body panicked");
            let message = payload.downcast_ref::<String>().expect("assert! panics with a String");
            assert_eq!(*message, format!("element {culprit}"));
            assert!(counts(&pool, 100, 1).iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn workers_wake_from_sleep_and_end_with_the_pool() {
        let pool = Pool::new(2);
        std::thread::sleep(Duration::from_millis(20));
        assert!(counts(&pool, 10, 1).iter().all(|&n| n == 1));
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        assert!(shared.upgrade().is_none(), "a worker outlived the pool");
    }
}
