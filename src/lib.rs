//! egraft compiles neural networks to native artifacts, ahead of time.
//!
//! ```no_run
//! # fn main() -> Result<(), egraft::Error> {
//! use std::path::Path;
//!
//! let options = egraft::Options::default();
//! let model = egraft::load(Path::new("digits.onnx"), &options)?;
//! let compiled = egraft::compile(model, &options, &mut ())?;
//! compiled.write_executable(Path::new("digits"))?;
//! # Ok(())
//! # }
//! ```
//!
//! This crate is the driver: the only one that touches files, terminal and other programs. What a model means is in
//! the crates `ir` and `ops`, what is done to it in `passes`, and machine code is made by the backends.
//!
//! The command line is here, too ([`cli`]): whoever embeds the compiler, such as the Python package, asks it for the same
//! reports.
//!
//! Promises: equal models and options give equal bytes; what is not supported is an [`Error`] that names it; files
//! appear complete or not at all. Nothing is evaluated instead of compiled: there is no fallback.

// The verbs of the command line call the library by its name, as other programs do.
extern crate self as egraft;

pub mod artifact;
pub mod bisect;
pub mod cli;
mod codes;
mod commands;
mod compile;
pub mod disk;
mod dump;
mod embed;
mod error;
pub mod explain;
#[cfg(feature = "onnx")]
mod external;
pub mod gpu;
mod map;
mod near;
mod neighbourhood;
pub mod options;
pub mod output;
mod packed;
mod params_file;
pub mod picture;
mod plan;
mod provenance;
mod python;
mod report;
pub mod source;
pub mod summary;
pub mod tensors;
mod watch;
mod weights_file;
pub mod write;

pub use artifact::Written;
pub use compile::{
    Checked, Compiled, EMIT, check, compile, compile_all, compile_program, link, optimize, remaining, run,
    run_again, run_passes,
};
pub use dump::Dump;
pub use error::{Error, ErrorKind, TextProblem};
pub use explain::{Explained, explain};
pub use options::{Options, Recorded};
pub use provenance::Provenance;
pub use source::{Source, load, load_all, load_bytes};
pub use weights_file::write_text;
pub use write::write_model;
