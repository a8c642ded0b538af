//! What this backend cannot emit, and what NVRTC does not compile.

use std::path::PathBuf;

/// Why a kernel has no form as CUDA C++.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// A kernel that is still stages.
    #[error("the kernel `{kernel}` is in the stage form: run `to_loops` and `schedule` first")]
    StageForm {
        /// The kernel.
        kernel: String,
    },
    /// Something that a GPU kernel has no form for.
    #[error("the kernel `{kernel}` has {what}: {way_out}")]
    Unsupported {
        /// The kernel.
        kernel: String,
        /// What is not supported.
        what: String,
        /// What to do instead.
        way_out: String,
    },
    /// A name that nothing defines: a bug in whatever made the kernel.
    #[error("the kernel `{kernel}` names `{name}`, which nothing defines")]
    Unbound {
        /// The kernel.
        kernel: String,
        /// The name.
        name: String,
    },
}

/// Why a source is not compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NvrtcError {
    /// NVRTC is not there.
    #[error("NVRTC, the library that compiles CUDA sources, is not there{}", refused.iter().map(|(path, why)| format!("; {}: {why}", path.display())).collect::<String>())]
    Missing {
        /// Files that are there and cannot be loaded, and why not.
        refused: Vec<(PathBuf, String)>,
    },
    /// It does not take a source, or not for this architecture.
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

impl NvrtcError {
    /// A stable name, for programs and for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            NvrtcError::Missing { .. } => "egraft::cuda::no_nvrtc",
            NvrtcError::Compile { .. } => "egraft::cuda::compile",
        }
    }

    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            NvrtcError::Missing { .. } => {
                "`pip install nvidia-cuda-nvrtc` installs it for the python3 that is called, or for the one that \
                 EGRAFT_PYTHON names; CUDA sources need none: write them with `--emit cu`"
            }
            NvrtcError::Compile { .. } => {
                "an architecture such as sm_90a needs an NVRTC that knows it: a newer one may; of a source that egraft \
                 wrote, please report it with the model"
            }
        }
    }
}
