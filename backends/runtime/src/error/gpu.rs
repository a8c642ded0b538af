//! What can be wrong with GPUs and their driver.

use crate::device::DeviceError;

/// Why a model cannot be loaded to a GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// This program was built without CUDA.
    #[error("the model is for a GPU, and this program was built without the code that drives one")]
    NotBuilt,
    /// There is no driver for GPUs.
    #[error("there is no CUDA driver on this machine, so no GPU that a model could run on")]
    NoDriver,
    /// The driver is of an old version.
    #[error("the CUDA driver is of version {found}, at least {oldest} is needed")]
    OldDriver {
        /// Its version of CUDA.
        found: String,
        /// The first that will do.
        oldest: String,
    },
    /// There is a driver, and no GPU that it works with.
    #[error("the CUDA driver finds no GPU: {why}")]
    NoGpu {
        /// What it says.
        why: String,
    },
    /// A kernel has no code that the GPU runs.
    #[error("the GPU is of {gpu}, and the model has code for {} alone", found.join(", "))]
    NoImage {
        /// The architecture of the GPU.
        gpu: String,
        /// Those of the model.
        found: Vec<String>,
    },
    /// The driver does not take a kernel.
    #[error("the CUDA driver does not take the kernel `{kernel}`: {why}")]
    Module {
        /// The kernel.
        kernel: String,
        /// What it says.
        why: String,
    },
    /// The driver did not do something.
    #[error("the CUDA driver failed at {0}")]
    Failed(#[from] DeviceError),
}

impl GpuError {
    /// A stable name, for programs and for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            GpuError::NotBuilt => "egraft::device::not_built",
            GpuError::NoDriver => "egraft::device::no_driver",
            GpuError::OldDriver { .. } => "egraft::device::old_driver",
            GpuError::NoGpu { .. } => "egraft::device::no_gpu",
            GpuError::NoImage { .. } => "egraft::device::no_image",
            GpuError::Module { .. } => "egraft::device::module",
            GpuError::Failed(_) => "egraft::device::driver",
        }
    }

    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            GpuError::NotBuilt => {
                "an executable or a library that `egraft compile --target cuda` writes has that code"
            }
            GpuError::NoDriver => {
                "install NVIDIA's driver where there is a GPU; without one, write the kernels with \
                 `egraft compile --target cuda --emit cu`, or compile the model with `--target cpu`"
            }
            GpuError::OldDriver { .. } => "install a newer driver, or compile the model with `--target cpu`",
            GpuError::NoGpu { .. } => {
                "`nvidia-smi` shows which GPUs there are; without one, compile the model with `--target cpu`"
            }
            GpuError::NoImage { .. } => "compile the model again, with this architecture as `--arch`",
            GpuError::Module { .. } => {
                "a driver takes nothing that a newer CUDA has made, and `nvidia-smi` tells of which one it is: for one of \
                 CUDA 12, `pip install nvidia-cuda-nvrtc-cu12`; else please report this with the model and the GPU"
            }
            GpuError::Failed(_) => {
                "`nvidia-smi` shows whether the GPU works and has memory; `--target cpu` needs none"
            }
        }
    }
}
