//! Guards: a device whose memory has a band of known bytes on both sides of everything that it gives, to find kernels that
//! write beside their arrays.
//!
//! A session on such a device gives each buffer memory of its own, looks at all bands after each call of a kernel, and
//! stops at the first that has changed. That takes a wait for each call: it is for tests of a compiler and of a GPU.
//!
//! Deliberately absent: reads. A kernel that reads beside its arrays shows by its results, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{Device, DeviceError, Queue, Recording, Stopwatch};

/// Bytes of a band: memory keeps the alignment that the device gives it.
const BAND: usize = 256;

/// What stands in a band.
static BYTES: [u8; BAND] = [0xA5; BAND];

/// First byte and length of what was given.
type Given = Arc<Mutex<BTreeMap<usize, (*mut u8, usize)>>>;

/// A device with guards.
pub struct Guarded {
    device: Arc<dyn Device>,
    given: Shared,
}

/// All memory that a device has given by its queues.
#[derive(Clone, Default)]
struct Shared(Given);

// SAFETY: the pointers are addresses of the device's memory, which queues may use on any thread.
unsafe impl Send for Shared {}
// SAFETY: as above; the map is locked.
unsafe impl Sync for Shared {}

impl Guarded {
    /// This device with guards from now on.
    pub fn new(device: Arc<dyn Device>) -> Guarded {
        Guarded { device, given: Shared::default() }
    }
}

impl Device for Guarded {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn queue(&self) -> Result<Arc<dyn Queue>, DeviceError> {
        Ok(Arc::new(Guards { queue: self.device.queue()?, given: self.given.clone() }))
    }
}

/// A queue that keeps guards.
pub struct Guards {
    queue: Arc<dyn Queue>,
    given: Shared,
}

/// What was written beside some memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trespass {
    /// The first byte of that memory.
    pub(crate) start: *mut u8,
    /// How many it has.
    pub(crate) len: usize,
    /// The first byte that was written, from the first of that memory on.
    pub(crate) at: isize,
    /// How many bytes of one band have changed.
    pub(crate) bytes: usize,
}

impl Guards {
    /// The first band that is not as it was; it is mended.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn trespass(&self) -> Result<Option<Trespass>, DeviceError> {
        let given: Vec<(*mut u8, usize)> = self.lock(|given| given.values().copied().collect());
        for (start, len) in given {
            for band in [start.wrapping_sub(BAND), start.wrapping_add(len)] {
                let mut found = [0; BAND];
                // SAFETY: the band was allocated with the memory, which is not given back yet.
                unsafe { self.queue.read(band, found.as_mut_ptr(), BAND) }?;
                let changed = || (0..BAND).filter(|&i| found[i] != BYTES[i]);
                if let Some(first) = changed().next() {
                    // SAFETY: as above; what is copied lives forever.
                    unsafe { self.queue.write(BYTES.as_ptr(), band, BAND) }?;
                    let at = band.addr().wrapping_sub(start.addr()) as isize + first as isize;
                    return Ok(Some(Trespass { start, len, at, bytes: changed().count() }));
                }
            }
        }
        Ok(None)
    }

    fn lock<T>(&self, with: impl FnOnce(&mut BTreeMap<usize, (*mut u8, usize)>) -> T) -> T {
        with(&mut self.given.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Queue for Guards {
    fn guards(&self) -> Option<&Guards> {
        Some(self)
    }

    fn allocate(&self, bytes: usize) -> Result<*mut u8, DeviceError> {
        let too_many = || DeviceError { call: "an allocation".to_owned(), why: "it is too large".to_owned() };
        let whole = bytes.checked_add(2 * BAND).ok_or_else(too_many)?;
        let band = self.queue.allocate(whole)?;
        let start = band.wrapping_add(BAND);
        // SAFETY: both bands lie in what was just allocated, and what is copied lives forever.
        unsafe {
            self.queue.write(BYTES.as_ptr(), band, BAND)?;
            self.queue.write(BYTES.as_ptr(), start.wrapping_add(bytes), BAND)?;
        }
        self.lock(|given| given.insert(start.addr(), (start, bytes)));
        Ok(start)
    }

    unsafe fn free(&self, start: *mut u8) {
        self.lock(|given| given.remove(&start.addr()));
        // SAFETY: as the caller vouches; the band before it is the first byte of the allocation.
        unsafe { self.queue.free(start.wrapping_sub(BAND)) };
    }

    unsafe fn clear(&self, start: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: as the caller vouches.
        unsafe { self.queue.clear(start, bytes) }
    }

    unsafe fn write(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: as the caller vouches.
        unsafe { self.queue.write(from, to, bytes) }
    }

    unsafe fn read(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: as the caller vouches.
        unsafe { self.queue.read(from, to, bytes) }
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: as the caller vouches.
        unsafe { self.queue.copy(from, to, bytes) }
    }

    unsafe fn call(&self, kernel: u32, args: &[*mut u8], sizes: &[i64]) -> Result<(), DeviceError> {
        // SAFETY: as the caller vouches.
        unsafe { self.queue.call(kernel, args, sizes) }
    }

    fn wait(&self) -> Result<(), DeviceError> {
        self.queue.wait()
    }

    fn stopwatch(&self) -> Result<Box<dyn Stopwatch>, DeviceError> {
        self.queue.stopwatch()
    }

    fn begin_recording(&self) -> Result<(), DeviceError> {
        self.queue.begin_recording()
    }

    fn end_recording(&self) -> Result<Box<dyn Recording>, DeviceError> {
        self.queue.end_recording()
    }
}
