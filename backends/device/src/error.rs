//! What can be wrong with CUDA's libraries, and with what they are asked for.

use std::path::PathBuf;

use runtime::device::DeviceError;

/// Why nothing can be compiled for a GPU, or run on one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// NVRTC is not there.
    #[error("NVRTC, the library that compiles CUDA sources, is not there{}", refused.iter().map(|(path, why)| format!("; {}: {why}", path.display())).collect::<String>())]
    NoNvrtc {
        /// Files that are there and cannot be loaded, and why not.
        refused: Vec<(PathBuf, String)>,
    },
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
    /// NVRTC does not take a source, or not for this architecture.
    #[error("NVRTC {version} does not compile {name} for {arch}: {}", log.trim())]
    Compile {
        /// The library's version.
        version: String,
        /// The source.
        name: String,
        /// The architecture.
        arch: String,
        /// What it says.
        log: String,
    },
}

impl Error {
    /// A stable name, for programs and for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NoNvrtc { .. } => "egraft::device::no_nvrtc",
            Error::NoDriver => "egraft::device::no_driver",
            Error::OldDriver { .. } => "egraft::device::old_driver",
            Error::NoGpu { .. } => "egraft::device::no_gpu",
            Error::Module { .. } => "egraft::device::module",
            Error::Failed(_) => "egraft::device::driver",
            Error::Compile { .. } => "egraft::device::compile",
        }
    }

    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            Error::NoNvrtc { .. } => {
                "`pip install nvidia-cuda-nvrtc` installs it for the python3 that is called, or for the one that \
                 EGRAFT_PYTHON names; CUDA sources need none: write them with `--emit cu`"
            }
            Error::NoDriver => {
                "install NVIDIA's driver where there is a GPU; without one, write the kernels with \
                 `egraft compile --target cuda --emit cu`, or run the model with `--target cpu`"
            }
            Error::OldDriver { .. } => "install a newer driver, or run the model with `--target cpu`",
            Error::NoGpu { .. } => {
                "`nvidia-smi` shows which GPUs there are; without one, run the model with `--target cpu`"
            }
            Error::Module { .. } => {
                "a driver takes nothing that a newer CUDA has made, and `nvidia-smi` tells of which one it is: for one of \
                 CUDA 12, `pip install nvidia-cuda-nvrtc-cu12`; else please report this with the model and the GPU"
            }
            Error::Failed(_) => {
                "`nvidia-smi` shows whether the GPU works and has memory; `--target cpu` needs none"
            }
            Error::Compile { .. } => {
                "an architecture such as sm_90a needs an NVRTC that knows it: a newer one may; of a source that egraft \
                 wrote, please report it with the model"
            }
        }
    }
}
