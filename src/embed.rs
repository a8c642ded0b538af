//! What `build.rs` built: the runners that executables begin with, and the runtime that libraries link.
//!
//! They are bytes of this program, so that compiling a model needs neither cargo nor any other file.

/// The program that a compiled model is appended to.
pub(crate) static RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/egraft-runner"));

/// The same for models on GPUs. It needs the system's C library.
pub(crate) static CUDA_RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/egraft-runner-cuda"));

/// The runtime as a static library, for shared and static libraries of models.
pub(crate) static RUNTIME_LIB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libegraft-runtime.a"));

/// Whether [`RUNNER`] needs nothing of the system it runs on but its kernel, so that it runs in an empty
/// container.
pub(crate) const RUNNER_IS_STATIC: bool = matches!(env!("EGRAFT_RUNNER_STATIC").as_bytes(), b"true");
