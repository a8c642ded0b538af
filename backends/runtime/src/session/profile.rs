//! When each kernel of a run was called, for how long: records in room that was made before the run.
//!
//! What looks at a run is a parameter of the code that runs it, so looking costs nothing where nobody looks.

use std::time::{Duration, Instant};

/// One call of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The number of the call in [`crate::plan::Entry::kernels`]. One in a loop is made several times.
    pub call: usize,
    /// When the kernel was called, since the start of the run.
    pub start: Duration,
    /// When it returned.
    pub end: Duration,
}

/// What a run recorded.
#[derive(Debug, Clone)]
pub struct Profile {
    origin: Instant,
    records: Vec<Record>,
    calls: usize,
    total: Duration,
}

impl Profile {
    /// Room for the records of `calls` calls.
    pub fn with_room(calls: usize) -> Profile {
        let origin = Instant::now();
        Profile { origin, records: Vec::with_capacity(calls), calls: 0, total: Duration::ZERO }
    }

    /// The calls of the last run in their order, as far as there was room for them.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many calls the last run made.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// How long the last run took.
    pub fn total(&self) -> Duration {
        self.total
    }
}

/// What looks at a run.
pub(super) trait Look {
    /// Whether anybody looks.
    const LOOKS: bool;

    /// A moment.
    type Moment: Copy;

    /// The run starts.
    fn begin(&mut self);

    /// What time it is.
    fn now(&self) -> Self::Moment;

    /// A call has returned.
    fn called(&mut self, call: usize, start: Self::Moment);

    /// The run has ended.
    fn end(&mut self);
}

/// Nobody looks.
impl Look for () {
    const LOOKS: bool = false;

    type Moment = ();

    fn begin(&mut self) {}

    fn now(&self) {}

    fn called(&mut self, _: usize, (): ()) {}

    fn end(&mut self) {}
}

impl Look for Profile {
    const LOOKS: bool = true;

    type Moment = Duration;

    fn begin(&mut self) {
        self.records.clear();
        self.calls = 0;
        self.origin = Instant::now();
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn called(&mut self, call: usize, start: Duration) {
        let end = self.now();
        self.calls += 1;
        if self.records.len() < self.records.capacity() {
            self.records.push(Record { call, start, end });
        }
    }

    fn end(&mut self) {
        self.total = self.now();
    }
}
