//! What a compiled egraft model runs on: sizes, arena, threads, micro-kernels, the C interface.
//!
//! A compiled model is a [`plan`] (data), a code image (position-independent machine code) and
//! weights. The same crate runs it in an executable, in a shared library and in process. It
//! interprets no ops: it binds sizes, lays out an arena and runs steps. A step calls one kernel of the
//! code image, decides a size from what a kernel found, makes room, or chooses and repeats other steps.
//!
//! Promises
//! - nothing is allocated during a run of a bound session, except growing memory that is too small;
//! - results are the same bits for any number of threads;
//! - no input makes it panic: what is wrong with an artifact is a [`LoadError`], what is wrong with
//!   a call is a [`RunError`], each with a stable code;
//! - code pages are never writable and executable at once; code in a file is mapped, never copied.
//!
//! Deliberately absent: ops, graphs, compilation, and any way to run a model without kernels. What a
//! kernel does with the pointers it is given is the compiler's responsibility: a model is trusted as
//! far as a program is, and its hashes detect accidents, not forgery.

#![allow(unsafe_code, reason = "this crate calls machine code, maps files and speaks C")]

mod bind;
mod bytes;
pub mod capi;
mod code;
pub mod container;
pub mod cuda;
pub mod device;
mod error;
mod features;
pub mod gemm;
mod guard;
mod math;
mod memory;
mod model;
pub mod peak;
pub mod plan;
mod plan_bytes;
mod pool;
pub mod services;
mod session;
pub mod size;
pub mod sort;
mod tensor;
mod weights;
mod writer;

pub use container::{Artifact, Container, Header};
pub use error::{GpuError, LoadError, PlanError, RunError, SizeError};
pub use gemm::{pack_panels, packed_len};
pub use guard::Guarded;
pub use memory::{AlignedBytes, OutOfMemory};
pub use model::Model;
pub use plan::{DType, Plan};
pub use pool::Pool;
pub use services::{ABI_VERSION, KernelFn, SERVICES, Services};
pub use session::{Profile, Record, Session};
pub use size::Size;
pub use tensor::{TensorBuf, TensorRef};
pub use weights::Weights;
pub use writer::{CodePart, Contents, SidecarWriter, WeightsPart, append};

#[cfg(test)]
mod tests;
