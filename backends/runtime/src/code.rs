//! The code image in executable memory: mapped from a file, copied and sealed, or used where it lies.
//!
//! Promises: no page is ever writable and executable at once; pages of a file are mapped executable from
//! the start. Deliberately absent: relocation (a code image has none) and unwinding through kernels.

use std::{fs::File, io};

use memmap2::{Mmap, MmapMut, MmapOptions};

use crate::{error::LoadError, services::KernelFn};

/// Executable memory that holds a code image.
pub(crate) enum Code {
    /// Pages of its own, freed with it.
    Pages(Mmap),
    /// Part of the program, there as long as it is.
    Program { start: *const u8, len: usize },
    /// No instructions.
    Empty,
}

// SAFETY: the memory is never written while a `Code` refers to it.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Code {
    /// Maps `len` bytes of `file` from `offset`, a multiple of 64 KiB, readable and executable.
    pub(crate) fn map(file: &File, offset: u64, len: usize) -> Result<Code, LoadError> {
        if len == 0 {
            return Ok(Code::Empty);
        }
        // SAFETY: the file is an artifact, which nobody may change while it runs, as for any program.
        let pages = unsafe { MmapOptions::new().offset(offset).len(len).map_exec(file) };
        pages.map(Code::Pages).map_err(denied)
    }

    /// Copies `image` to fresh pages, then makes them read-only and executable in one step.
    pub(crate) fn copy(image: &[u8]) -> Result<Code, LoadError> {
        if image.is_empty() {
            return Ok(Code::Empty);
        }
        let mut pages = MmapMut::map_anon(image.len()).map_err(denied)?;
        pages.copy_from_slice(image);
        let pages = pages.make_exec().map_err(denied)?;
        flush_instructions(&pages);
        Ok(Code::Pages(pages))
    }

    /// Uses the image where it lies.
    ///
    /// # Safety
    /// `len` bytes at `start` are executable and stay so as long as the `Code` lives.
    pub(crate) unsafe fn in_place(start: *const u8, len: usize) -> Code {
        Code::Program { start, len }
    }

    /// The kernel at `offset`; `None` outside the image.
    pub(crate) fn kernel(&self, offset: u64) -> Option<KernelFn> {
        let (start, len) = match self {
            Code::Pages(pages) => (pages.as_ptr(), pages.len()),
            Code::Program { start, len } => (*start, *len),
            Code::Empty => return None,
        };
        let offset = usize::try_from(offset).ok().filter(|offset| *offset < len)?;
        // SAFETY: in bounds, so inside one mapping; executable; a kernel starts here, says the plan that
        // came with the image. Calling it is unsafe, making the pointer is not.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFn>(start.add(offset)) })
    }
}

fn denied(error: io::Error) -> LoadError {
    LoadError::ExecutableDenied { why: error.to_string() }
}

/// Makes freshly written instructions visible to the processor. x86-64 does so by itself.
#[cfg(not(target_arch = "aarch64"))]
fn flush_instructions(_: &[u8]) {}

/// Makes freshly written instructions visible to the processor: clean the data lines, drop the
/// instruction lines (Arm ARM, B2.4.4).
#[cfg(target_arch = "aarch64")]
fn flush_instructions(code: &[u8]) {
    use std::arch::asm;
    let (start, end) = (code.as_ptr() as usize, code.as_ptr() as usize + code.len());
    let types: usize;
    // SAFETY: reads the register that tells the cache line sizes, which programs may read.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) types) };
    let line = |log2_words: usize| 4usize << (log2_words & 0xf);
    let (data, instruction) = (line(types >> 16), line(types));
    // SAFETY: cache maintenance of addresses that are mapped; it changes no memory.
    unsafe {
        for address in (start & !(data - 1)..end).step_by(data) {
            asm!("dc cvau, {}", in(reg) address);
        }
        asm!("dsb ish");
        for address in (start & !(instruction - 1)..end).step_by(instruction) {
            asm!("ic ivau, {}", in(reg) address);
        }
        asm!("dsb ish", "isb");
    }
}
