//! Why a program does not become machine code.

/// Why machine code cannot be made. Each variant names the kernel, what it asks for, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The code generator knows no such processor.
    #[error("no machine code for `{arch}`: {why}")]
    Target {
        /// The architecture asked for.
        arch: String,
        /// What the code generator says.
        why: String,
    },
    /// A kernel that still is what is computed, not how.
    #[error("kernel `{kernel}` is in stage form; the schedule (`to_loops`) must run before code is made")]
    StageForm {
        /// The kernel.
        kernel: String,
    },
    /// A feature of the processor that the kernel's arithmetic needs.
    #[error(
        "kernel `{kernel}` uses fused multiply-add, and the target has no `{feature}`; choose a target with it \
         (`--mcpu x86-64-v3` or newer)"
    )]
    Feature {
        /// The kernel.
        kernel: String,
        /// The missing feature.
        feature: &'static str,
    },
    /// A name that nothing in scope binds.
    #[error("kernel `{kernel}`: {what} `{name}` is not bound here")]
    Unbound {
        /// The kernel.
        kernel: String,
        /// What kind of name it is.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A form that this backend does not make code for.
    #[error("kernel `{kernel}`: {what}: {why}")]
    Unsupported {
        /// The kernel.
        kernel: String,
        /// The construct.
        what: String,
        /// Why it is not, and what is instead.
        why: String,
    },
    /// More memory on the stack than a thread can give.
    #[error(
        "kernel `{kernel}`: its small arrays take {bytes} bytes of stack, more than {limit}; make the larger ones \
         scratch parameters"
    )]
    Stack {
        /// The kernel.
        kernel: String,
        /// What it asks for.
        bytes: u64,
        /// The most it may.
        limit: u64,
    },
    /// The code generator refuses a function: an error of this crate.
    #[error("function `{function}` was refused by the code generator: {why}")]
    Codegen {
        /// The function.
        function: String,
        /// What the code generator says.
        why: String,
    },
    /// Code that needs something outside the image.
    #[error(
        "function `{function}` refers to `{name}` outside the code image ({kind}); kernels must be self-contained"
    )]
    Relocation {
        /// The function.
        function: String,
        /// What it refers to.
        name: String,
        /// How.
        kind: String,
    },
    /// The object file cannot be written.
    #[error("the object file cannot be written: {0}")]
    Object(String),
}
