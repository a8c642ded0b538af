//! Why a pass gives up.

use ir::op::OpError;

/// What is wrong. [`ir::At`] says where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// An op does not accept what it was given.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The op has no native form yet: it can be evaluated, but not compiled.
    #[error("`{op}` cannot be compiled yet")]
    NoLowering {
        /// The op.
        op: &'static str,
    },
    /// A pass produced something that the verifier refuses: our bug.
    #[error("bug: after `{pass}`: {violation}")]
    Invalid {
        /// The pass.
        pass: &'static str,
        /// What the verifier says.
        violation: String,
    },
    /// A size of a result that depends on values, not on the inputs' shapes.
    #[error("the size `{size}` depends on no input's shape")]
    UnboundSize {
        /// The size.
        size: String,
    },
    /// A pass was named that does not exist.
    #[error("there is no pass `{name}`; `egraft passes` lists them")]
    UnknownPass {
        /// What was asked for.
        name: String,
    },
    /// A pass was asked to work on the wrong noun.
    #[error("`{pass}` works on {wants}, but there is {found} at this point")]
    WrongNoun {
        /// The pass.
        pass: &'static str,
        /// What it works on.
        wants: &'static str,
        /// What there is.
        found: &'static str,
    },
}

impl PassError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            PassError::Op(error) => error.code(),
            PassError::NoLowering { .. } => "egraft::passes::no_lowering",
            PassError::Invalid { .. } => "egraft::passes::bug",
            PassError::UnboundSize { .. } => "egraft::passes::unbound_size",
            PassError::UnknownPass { .. } => "egraft::passes::unknown_pass",
            PassError::WrongNoun { .. } => "egraft::passes::wrong_noun",
        }
    }
}
