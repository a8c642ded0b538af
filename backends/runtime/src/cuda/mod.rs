//! NVIDIA's GPUs: the kernels of a model as a container holds them, and the driver that runs them.
//!
//! The driver stands behind the feature `cuda`. A program without it starts smaller, may be linked statically, and
//! says so of a model for GPUs. With it, CUDA is looked for when such a model is loaded: the program starts without.
//!
//! Promises
//! - everything of a session goes through one stream, in order: results do not depend on timing;
//! - a call that CUDA refuses is an error that names the call, with what CUDA says.
//!
//! Deliberately absent: sources and their compilation. What runs, and in how many blocks, the compiler says.

use std::sync::Arc;

use crate::{device::Device, error::GpuError};

#[cfg(feature = "cuda")]
mod driver;
mod kernels;

#[cfg(feature = "cuda")]
pub use driver::Gpu;
pub use kernels::{Image, Kernel, Launch, decode, encode};

/// The first GPU of this machine with these kernels.
///
/// # Errors
/// There is none, or it does not take them.
#[cfg(feature = "cuda")]
pub fn load(kernels: &[Kernel]) -> Result<Arc<dyn Device>, GpuError> {
    Gpu::find()?.load(kernels)
}

/// As with the feature `cuda`, which is not there.
///
/// # Errors
/// [`GpuError::NotBuilt`].
#[cfg(not(feature = "cuda"))]
pub fn load(_: &[Kernel]) -> Result<Arc<dyn Device>, GpuError> {
    Err(GpuError::NotBuilt)
}
