//! What a compiled model needs to be a program: files of tensors, an option parser, printing and timing.
//!
//! The binary `egraft-runner` is this library and the model appended to its own file; `egraft run` is this
//! library and a model that was just compiled. Both therefore take the same options and print the same.
//!
//! Promises: every mistake in options, files and artifacts is one line with a code and one with the way out;
//! nothing panics on any input; result files appear complete or not at all.
//!
//! Deliberately absent: compilation, ONNX, and casts between dtypes.

pub mod cli;
pub mod files;
pub mod library;
pub mod narrow;
pub mod program;
pub mod random;
pub mod tensor;
pub mod timing;
pub mod values;
