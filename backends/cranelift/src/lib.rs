//! egraft's native backend: kernels to machine code by Cranelift.
//!
//! [`emit`] turns the kernels of a program, in loop form, into one position-independent [`Image`] that the runtime maps
//! and calls; [`object`] wraps an image and a container into an object file for linkers; [`clif`] and [`disassembly`]
//! show what was made.
//!
//! Promises
//! - the same program and target give the same bytes;
//! - a scalar computes what `ir::scalar` says, to the bit (but for the payload of a NaN that arithmetic makes), and
//!   the same in a lane of a vector loop as outside;
//! - nothing traps: indices are in range by the kernel's meaning, and divisions by zero are defined;
//! - what cannot be emitted is an [`EmitError`] with the way out, never another kernel.
//!
//! Loops over lanes become functions of 512-bit or 256-bit vectors where the target has them, encoded here; the code
//! generator makes everything else, and 128-bit vectors of what has no wider form.
//!
//! Deliberately absent: matrix products (the runtime's micro-kernels compute them), unwinding (kernels call only
//! functions that return), and mapping code into memory (the runtime does).

mod emit;
mod error;
mod forward;
mod image;
mod object;
mod target;
mod vector;

pub use error::EmitError;
pub use image::{ALIGN, Image, clif, disassembly, emit};
pub use object::{ModelSymbols, object};
pub use target::{Target, Vectors};
