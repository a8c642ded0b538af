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
//! Deliberately absent: matrix products (the runtime's micro-kernels compute them), vectors of more than 128 bits
//! (the code generator has none), unwinding (kernels call only functions that return), and mapping code into memory
//! (the runtime does).

mod emit;
mod error;
mod forward;
mod image;
mod object;
mod target;

pub use error::EmitError;
pub use image::{ALIGN, Image, clif, disassembly, emit};
pub use object::{ModelSymbols, object};
pub use target::Target;
