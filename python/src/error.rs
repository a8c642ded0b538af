//! Errors as Python's exceptions: the classes of `egraft/_errors.py`, with code, node and way out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use egraft::cli::{self, BUG, FAILED, Problem, Refusal};
use pyo3::prelude::*;
use runner::cli::CliError;

/// Which class it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unsupported,
    Model,
    Input,
    Internal,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Unsupported => "UnsupportedError",
            Kind::Model => "ModelError",
            Kind::Input => "InputError",
            Kind::Internal => "InternalError",
        }
    }

    /// The class of what stopped a command or a compilation.
    fn of(exit: u8, code: &str) -> Kind {
        const OF_MODELS: &[&str] = &[
            "egraft::onnx::",
            "egraft::op::",
            "egraft::passes::",
            "egraft::text::",
            "egraft::runtime::",
            "egraft::cli::read",
            "egraft::cli::not_text",
            "egraft::cli::unknown_format",
            "egraft::cli::invalid",
            "egraft::cli::weights_file",
            "egraft::cli::zoo_model",
        ];
        match exit {
            FAILED => Kind::Unsupported,
            BUG => Kind::Internal,
            // It is no fault of the model what an option says of it.
            _ if code == "egraft::onnx::option" => Kind::Input,
            _ if OF_MODELS.iter().any(|start| code.starts_with(start)) => Kind::Model,
            _ => Kind::Input,
        }
    }
}

/// Why a command or a compilation did not succeed, as an exception. Several problems are one, which lists them.
pub(crate) fn raise(py: Python<'_>, refusal: Refusal) -> PyErr {
    let Refusal { problems, exit } = refusal;
    let Some(first) = problems.first() else {
        return exception(py, Kind::Internal, "egraft::cli::bug", "nothing is said to be wrong", None, "");
    };
    let message = problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n");
    let help = first.help.as_deref().unwrap_or_else(|| cli::remedy(first.code));
    exception(py, Kind::of(exit, first.code), first.code, &message, first.node.as_deref(), help)
}

/// What is wrong with a call of a model.
pub(crate) fn of_run(py: Python<'_>, error: runtime::RunError) -> PyErr {
    let error = CliError::from(error);
    let kind = if error.exit_code() == runner::cli::BUG { Kind::Internal } else { Kind::Input };
    let help = match error.help() {
        help if help.is_empty() => cli::remedy(error.code()).to_owned(),
        help => help,
    };
    exception(py, kind, error.code(), &error.to_string(), None, &help)
}

/// What is wrong with what was given.
pub(crate) fn input(py: Python<'_>, code: &str, message: &str) -> PyErr {
    exception(py, Kind::Input, code, message, None, cli::remedy(code))
}

/// What cannot be done.
pub(crate) fn unsupported(py: Python<'_>, code: &str, message: &str) -> PyErr {
    exception(py, Kind::Unsupported, code, message, None, cli::remedy(code))
}

fn exception(py: Python<'_>, kind: Kind, code: &str, message: &str, node: Option<&str>, help: &str) -> PyErr {
    let made = py
        .import("egraft._errors")
        .and_then(|errors| errors.getattr(kind.name())?.call1((message, code, node, help)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Does what may fail or, if we have a bug, panic.
pub(crate) fn guarded<T, E: Into<Refusal>>(does: impl FnOnce() -> Result<T, E>) -> Result<T, Refusal> {
    match catch_unwind(AssertUnwindSafe(does)) {
        Ok(done) => done.map_err(E::into),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            let code = "egraft::python::panic";
            let problem = Problem::new(code, format!("bug: {text}"), cli::remedy(code));
            Err(Refusal { problems: vec![problem], exit: BUG })
        }
    }
}
