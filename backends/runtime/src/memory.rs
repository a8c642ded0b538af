//! Memory aligned to a cache line, zeroed, and with failure as a value.
//!
//! Arenas, state, weights, growing buffers and result tensors live in it. Deliberately absent: growing in
//! place; what must grow is allocated anew.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use memmap2::MmapMut;

/// Alignment of arenas and weights: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// From so many bytes on, memory is pages by themselves, large ones if the system has them: kernels walk through
/// many rows at once, each on a page of its own.
const MAPPED: usize = 4 << 20;

/// The system did not give the memory that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of memory for {what} are not available")]
pub struct OutOfMemory {
    /// What it was for.
    pub what: &'static str,
    /// How much.
    pub bytes: u64,
}

/// Owned bytes, aligned to 64, zero when made.
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    /// The pages, where it has pages by itself.
    map: Option<MmapMut>,
}

// SAFETY: it owns its bytes as a `Vec<u8>` does; shared access only reads.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zero bytes; `what` names their purpose in the error.
    ///
    /// # Errors
    /// The system does not have them.
    pub fn zeroed(len: usize, what: &'static str) -> Result<AlignedBytes, OutOfMemory> {
        if len == 0 {
            return Ok(AlignedBytes::default());
        }
        let failed = || OutOfMemory { what, bytes: len as u64 };
        if len >= MAPPED {
            let mut map = MmapMut::map_anon(len).map_err(|_| failed())?;
            // Small pages do as well, but slower.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            let start = NonNull::new(map.as_mut_ptr()).ok_or_else(failed)?;
            return Ok(AlignedBytes { start, len, map: Some(map) });
        }
        let layout = Layout::from_size_align(len, ALIGN).map_err(|_| failed())?;
        // SAFETY: the layout has a size above 0.
        let start = unsafe { alloc_zeroed(layout) };
        Ok(AlignedBytes { start: NonNull::new(start).ok_or_else(failed)?, len, map: None })
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// The system does not have the memory.
    pub fn copy_of(bytes: &[u8], what: &'static str) -> Result<AlignedBytes, OutOfMemory> {
        let mut copy = AlignedBytes::zeroed(bytes.len(), what)?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }

    /// Makes it `len` bytes long at least. If it was shorter, what it held is lost.
    ///
    /// # Errors
    /// The system does not have the memory. It is empty then.
    pub(crate) fn reserve(&mut self, len: usize, what: &'static str) -> Result<(), OutOfMemory> {
        if len > self.len {
            // The old one first, so that both are never there at once.
            *self = AlignedBytes::default();
            *self = AlignedBytes::zeroed(len, what)?;
        }
        Ok(())
    }

    /// Makes it `len` bytes long at least and keeps what it holds. It doubles, so that many small steps
    /// copy little.
    ///
    /// # Errors
    /// The system does not have the memory. It is as before then.
    pub(crate) fn extend(&mut self, len: usize, what: &'static str) -> Result<(), OutOfMemory> {
        if len > self.len {
            let mut longer = AlignedBytes::zeroed(len.max(self.len.saturating_mul(2)), what)?;
            longer[..self.len].copy_from_slice(self);
            *self = longer;
        }
        Ok(())
    }

    /// The first byte, for kernels.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Default for AlignedBytes {
    /// No bytes, at an aligned address.
    fn default() -> AlignedBytes {
        AlignedBytes { start: dangling(), len: 0, map: None }
    }
}

/// An aligned address for what has no bytes.
pub(crate) const fn dangling() -> NonNull<u8> {
    // `without_provenance` of the alignment itself: never null, never read.
    match NonNull::new(std::ptr::without_provenance_mut(ALIGN)) {
        Some(address) => address,
        None => unreachable!(),
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.len > 0 && self.map.is_none() {
            let layout = Layout::from_size_align(self.len, ALIGN).expect("it was allocated with this layout");
            // SAFETY: allocated by `zeroed` with the same layout, and not freed before.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that we own start here.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}
