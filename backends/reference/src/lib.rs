//! The second opinion: graphs by evaluation, kernels by walking.
//!
//! Slow and plain. It promises that what it computes is what the text says: the graph's meaning is that of its ops,
//! the kernel's that of its stages or loops, in either form. It is never a fallback for a backend.

mod run;
mod walk;

pub use run::{Kernels, States, Walked, run_graph, run_program, run_program_by, run_program_on};
pub use walk::{WalkError, walk};
