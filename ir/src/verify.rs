//! What a valid graph, kernel and program is. All violations are reported, never the first only.
//!
//! Graphs: [`verify()`]. Kernels: [`verify_kernel`]. Programs: [`verify_program`]. One function is one rule.

mod graph;
mod guard;
mod kernel;
mod places;
mod program;
mod refute;
mod sizes;

pub use graph::{Violation, verify};
pub use kernel::{KernelViolation, verify_kernel};
pub use program::{ProgramViolation, verify_program};
