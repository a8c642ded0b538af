//! When each kernel of a run was called, for how long: records in room that was made before the run.
//!
//! What looks at a run is a parameter of the code that runs it, so looking costs nothing where nobody looks. On a device,
//! moments are those of its own clock: nobody waits between calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::device::{DeviceError, Queue, Stopwatch};

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
pub struct Profile {
    origin: Instant,
    records: Vec<Record>,
    calls: usize,
    total: Duration,
    /// The clock of the device that runs the kernels: a mark before each call that is recorded, and one behind it.
    watch: Option<Box<dyn Stopwatch>>,
}

impl Profile {
    /// Room for the records of `calls` calls.
    pub fn with_room(calls: usize) -> Profile {
        let origin = Instant::now();
        let records = Vec::with_capacity(calls);
        Profile { origin, records, calls: 0, total: Duration::ZERO, watch: None }
    }

    /// The calls of the last run in their order, as far as there was room for them.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn has_room(&self) -> bool {
        self.records.len() < self.records.capacity()
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

    /// A call on a device is about to be asked for, or was just asked for.
    fn mark(&mut self, queue: &Arc<dyn Queue>) -> Result<(), DeviceError>;

    /// A call has returned.
    fn called(&mut self, call: usize, start: Self::Moment);

    /// The run has ended.
    fn end(&mut self) -> Result<(), DeviceError>;
}

/// Nobody looks.
impl Look for () {
    const LOOKS: bool = false;

    type Moment = ();

    fn begin(&mut self) {}

    fn now(&self) {}

    fn mark(&mut self, _: &Arc<dyn Queue>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn called(&mut self, _: usize, (): ()) {}

    fn end(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Look for Profile {
    const LOOKS: bool = true;

    type Moment = Duration;

    fn begin(&mut self) {
        self.records.clear();
        (self.calls, self.watch) = (0, None);
        self.origin = Instant::now();
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn mark(&mut self, queue: &Arc<dyn Queue>) -> Result<(), DeviceError> {
        if !self.has_room() {
            return Ok(());
        }
        match &mut self.watch {
            Some(watch) => watch.mark(),
            None => self.watch.insert(queue.stopwatch()?).mark(),
        }
    }

    fn called(&mut self, call: usize, start: Duration) {
        let end = self.now();
        self.calls += 1;
        if self.has_room() {
            self.records.push(Record { call, start, end });
        }
    }

    fn end(&mut self) -> Result<(), DeviceError> {
        self.total = self.now();
        if let Some(watch) = self.watch.take() {
            let first = self.records.first().map_or(Duration::ZERO, |record| record.start);
            for (record, moments) in self.records.iter_mut().zip(watch.times()?.chunks_exact(2)) {
                (record.start, record.end) = (first + moments[0], first + moments[1]);
            }
        }
        Ok(())
    }
}
