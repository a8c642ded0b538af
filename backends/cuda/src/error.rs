//! What this backend cannot emit.

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
