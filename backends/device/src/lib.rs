//! GPUs that egraft's models run on.
//!
//! [`Nvrtc`] compiles CUDA C++ to PTX or to machine code; it needs neither a GPU nor a driver. [`Gpu`] takes the
//! kernels of a model, and is then what the runtime's sessions run on ([`runtime::device::Device`]).
//!
//! Promises
//! - the program starts without CUDA: its libraries are looked for when they are needed, and one that is not there is an
//!   [`Error`] with the way out;
//! - everything of a session goes through one stream, in order: results do not depend on timing;
//! - a call that CUDA refuses is an error that names the call, with what CUDA says.
//!
//! Deliberately absent: kernels, schedules, sizes of buffers. What runs, and in how many blocks, the compiler says.

#![allow(unsafe_code, reason = "this crate calls CUDA's libraries")]

mod driver;
mod error;
mod nvrtc;

pub use driver::{Gpu, Kernel, Launch};
pub use error::Error;
pub use nvrtc::{Form, Nvrtc};
