//! Why a model is not built.

use std::fmt;

use ir::TensorType;
use ir::op::OpError;

/// Why a model is not built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// A setting that the model does not have.
    #[error("`{model}` has no setting `{key}`, which is to be `{value}`; it has {known}")]
    Unknown {
        /// The model.
        model: &'static str,
        /// What was set.
        key: String,
        /// To what.
        value: String,
        /// What there is.
        known: String,
    },
    /// A value that a setting cannot have.
    #[error("`{model}`: `{key}` cannot be `{value}`; it is {possible}")]
    Value {
        /// The model.
        model: &'static str,
        /// What was set.
        key: String,
        /// To what.
        value: String,
        /// What it can be.
        possible: String,
    },
    /// A setting that the model has no use for, as its other settings are.
    #[error("`{model}` has no use for `{key}` = {value} as it is built here, of {read}")]
    Unused {
        /// The model.
        model: &'static str,
        /// What was set.
        key: String,
        /// To what.
        value: String,
        /// The settings that it is built of.
        read: String,
    },
    /// Settings that do not go together.
    #[error("`{model}` cannot be built: {why}")]
    Unfit {
        /// The model.
        model: &'static str,
        /// Why not.
        why: String,
    },
    /// Weights that do not suit the model.
    #[error("the weights do not suit `{model}`:{}", list(problems))]
    Params {
        /// The model.
        model: &'static str,
        /// What is wrong with each of them, in the order in which the model has them.
        problems: Vec<ParamProblem>,
    },
    /// Weights that would take more memory than any model of the papers.
    #[error("`{model}` would have more than {limit} bytes of weights")]
    TooLarge {
        /// The model.
        model: &'static str,
        /// How many it may have.
        limit: u64,
    },
    /// An op that does not take these operands.
    #[error("`{model}`, {place}: {error}")]
    Op {
        /// The model.
        model: &'static str,
        /// Where in it.
        place: String,
        /// What the op says.
        error: OpError,
    },
}

/// What is wrong with one of the weights that are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParamProblem {
    /// It is not there.
    Missing {
        /// Its name.
        name: String,
        /// What the model wants.
        wanted: TensorType,
    },
    /// It has another shape or element type.
    Type {
        /// Its name.
        name: String,
        /// What the model wants.
        wanted: TensorType,
        /// What there is.
        found: TensorType,
    },
    /// The model has none of that name.
    Unused {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for ParamProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamProblem::Missing { name, wanted } => write!(f, "`{name}` is missing: {wanted}"),
            ParamProblem::Type { name, wanted, found } => {
                write!(f, "`{name}` is {found}, and the model wants {wanted}")
            }
            ParamProblem::Unused { name } => write!(f, "`{name}` is given, and the model has none"),
        }
    }
}

fn list(problems: &[ParamProblem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl ZooError {
    pub(crate) fn value(
        model: &'static str,
        key: impl Into<String>,
        value: impl Into<String>,
        possible: String,
    ) -> ZooError {
        ZooError::Value { model, key: key.into(), value: value.into(), possible }
    }
}
