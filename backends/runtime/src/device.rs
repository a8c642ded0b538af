//! Machines besides the processor: where a model's memory lies, and what runs its kernels.
//!
//! A session has a [`Queue`] of its own. It asks for memory, copies and calls, which are done in that order, maybe later;
//! only reading waits. A call reads and writes memory of the device alone, so what a session does again and again can be
//! recorded once, and repeated as a whole.
//!
//! Deliberately absent: sizes and steps, which are the session's, and any device: other crates bring them.

use std::{sync::Arc, time::Duration};

use crate::{
    error::RunError,
    guard::Guards,
    memory::{AlignedBytes, dangling},
};

/// A device did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {why}")]
pub struct DeviceError {
    /// What it was asked for.
    pub call: String,
    /// What it says.
    pub why: String,
}

/// A machine with the kernels of a model.
pub trait Device: Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// A new queue.
    ///
    /// # Errors
    /// What the device says.
    fn queue(&self) -> Result<Arc<dyn Queue>, DeviceError>;
}

/// What a session asks a device for. Pointers are addresses of the device's memory where nothing else is said.
pub trait Queue: Send + Sync {
    /// The guards beside its memory, if it keeps any.
    fn guards(&self) -> Option<&Guards> {
        None
    }

    /// Zero bytes, at least one, aligned to 64.
    ///
    /// # Errors
    /// There are not so many.
    fn allocate(&self, bytes: usize) -> Result<*mut u8, DeviceError>;

    /// Gives memory back, after all that was asked for before.
    ///
    /// # Safety
    /// It was allocated by this device and not freed since.
    unsafe fn free(&self, start: *mut u8);

    /// Makes bytes zero.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Safety
    /// They lie in one allocation.
    unsafe fn clear(&self, start: *mut u8, bytes: usize) -> Result<(), DeviceError>;

    /// Copies bytes of this process, which stay as they are until the next wait.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Safety
    /// There are as many at `from`, and at `to` in one allocation.
    unsafe fn write(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError>;

    /// Copies bytes to this process, and waits for that and all that was asked for before.
    ///
    /// # Errors
    /// What the device says of this, or of what came before.
    ///
    /// # Safety
    /// There are as many in one allocation at `from`, and at `to`.
    unsafe fn read(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError>;

    /// Copies bytes on the device.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Safety
    /// Both lie in an allocation, and do not overlap.
    unsafe fn copy(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError>;

    /// Calls the kernel with this number.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Safety
    /// Arguments and sizes are those that the plan gives it.
    unsafe fn call(&self, kernel: u32, args: &[*mut u8], sizes: &[i64]) -> Result<(), DeviceError>;

    /// Waits for all that was asked for.
    ///
    /// # Errors
    /// What the device says of it.
    fn wait(&self) -> Result<(), DeviceError>;

    /// What tells when work of this queue is done, by the device's clock.
    ///
    /// # Errors
    /// What the device says.
    fn stopwatch(&self) -> Result<Box<dyn Stopwatch>, DeviceError>;

    /// From here on calls and copies on the device are noted, not done.
    ///
    /// # Errors
    /// What the device says.
    fn begin_recording(&self) -> Result<(), DeviceError>;

    /// Ends the recording: what was noted since it began, and is still to be done.
    ///
    /// # Errors
    /// What the device says.
    fn end_recording(&self) -> Result<Box<dyn Recording>, DeviceError>;
}

/// Calls and copies that are repeated as a whole, on the queue that noted them.
pub trait Recording: Send {
    /// Asks for all of them again.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Safety
    /// All memory that they use is still there.
    unsafe fn replay(&self) -> Result<(), DeviceError>;
}

/// Moments of a queue, which is there as long as this is used.
pub trait Stopwatch: Send {
    /// Marks the moment when all is done that was asked for before.
    ///
    /// # Errors
    /// What the device says.
    fn mark(&mut self) -> Result<(), DeviceError>;

    /// Waits for the last mark; the time from the first mark to each.
    ///
    /// # Errors
    /// What the device says of this, or of what came before.
    fn times(&self) -> Result<Vec<Duration>, DeviceError>;
}

/// Bytes that a session owns: of this process, or of a device. Zero when made.
pub(crate) enum Region {
    Process(AlignedBytes),
    Device { queue: Arc<dyn Queue>, start: *mut u8, len: usize },
}

// SAFETY: it owns its bytes, and queues may be used by any thread.
unsafe impl Send for Region {}
// SAFETY: as above; shared access only tells where they are.
unsafe impl Sync for Region {}

impl Region {
    /// No bytes, which come from the queue if there is one.
    pub(crate) fn none(queue: Option<&Arc<dyn Queue>>) -> Region {
        match queue {
            None => Region::Process(AlignedBytes::default()),
            Some(queue) => Region::Device { queue: Arc::clone(queue), start: dangling().as_ptr(), len: 0 },
        }
    }

    /// The first byte, for kernels.
    pub(crate) fn start(&self) -> *mut u8 {
        match self {
            Region::Process(bytes) => bytes.start(),
            Region::Device { start, .. } => *start,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Region::Process(bytes) => bytes.len(),
            Region::Device { len, .. } => *len,
        }
    }

    /// Makes it `wanted` bytes long at least. If it was shorter, what it held is lost.
    ///
    /// # Errors
    /// There are not so many. It is empty then.
    pub(crate) fn reserve(&mut self, wanted: usize, what: &'static str) -> Result<(), RunError> {
        match self {
            Region::Process(bytes) => bytes.reserve(wanted, what)?,
            Region::Device { queue, len, .. } if wanted > *len => {
                let queue = Arc::clone(queue);
                // The old one first, so that both are never there at once.
                *self = Region::none(Some(&queue));
                let start = queue.allocate(wanted)?;
                *self = Region::Device { queue, start, len: wanted };
            }
            Region::Device { .. } => {}
        }
        Ok(())
    }

    /// Makes it `wanted` bytes long at least and keeps what it holds; it doubles, as [`AlignedBytes`] does.
    ///
    /// # Errors
    /// There are not so many. It is as before then.
    pub(crate) fn extend(&mut self, wanted: usize, what: &'static str) -> Result<(), RunError> {
        match self {
            Region::Process(bytes) => bytes.extend(wanted, what)?,
            Region::Device { queue, start, len } if wanted > *len => {
                let mut longer = Region::none(Some(queue));
                longer.reserve(wanted.max(len.saturating_mul(2)), what)?;
                if *len > 0 {
                    // SAFETY: the longer one has more bytes than this.
                    unsafe { queue.copy(*start, longer.start(), *len) }?;
                }
                *self = longer;
            }
            Region::Device { .. } => {}
        }
        Ok(())
    }

    /// Makes all bytes zero, and is done with that.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn clear(&mut self) -> Result<(), RunError> {
        match self {
            Region::Process(bytes) => bytes.fill(0),
            Region::Device { len: 0, .. } => {}
            Region::Device { queue, start, len } => {
                // SAFETY: they are all of this allocation.
                unsafe { queue.clear(*start, *len) }?;
                queue.wait()?;
            }
        }
        Ok(())
    }

    /// Copies bytes to it, from `offset` on, and is done with them. `None` if they do not fit.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn write(&mut self, offset: usize, from: &[u8]) -> Result<Option<()>, RunError> {
        if offset.checked_add(from.len()).is_none_or(|end| end > self.len()) {
            return Ok(None);
        }
        match self {
            Region::Process(bytes) => bytes[offset..offset + from.len()].copy_from_slice(from),
            Region::Device { .. } if from.is_empty() => {}
            Region::Device { queue, start, .. } => {
                // SAFETY: that they fit was checked.
                unsafe { queue.write(from.as_ptr(), start.wrapping_add(offset), from.len()) }?;
                queue.wait()?;
            }
        }
        Ok(Some(()))
    }

    /// Copies bytes from it, from `offset` on. `None` if there are not so many.
    ///
    /// # Errors
    /// What the device says.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) -> Result<Option<()>, RunError> {
        if offset.checked_add(to.len()).is_none_or(|end| end > self.len()) {
            return Ok(None);
        }
        match self {
            Region::Process(bytes) => to.copy_from_slice(&bytes[offset..offset + to.len()]),
            Region::Device { .. } if to.is_empty() => {}
            // SAFETY: that there are as many was checked.
            Region::Device { queue, start, .. } => {
                unsafe { queue.read(start.wrapping_add(offset), to.as_mut_ptr(), to.len()) }?
            }
        }
        Ok(Some(()))
    }
}

impl Default for Region {
    fn default() -> Region {
        Region::none(None)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Region::Device { queue, start, len } = self
            && *len > 0
        {
            // SAFETY: it is this region's, which is gone now.
            unsafe { queue.free(*start) };
        }
    }
}
