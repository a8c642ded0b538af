//! Emitted kernels run on this machine and are compared, to the bit, with a walk over the same statements.
#![allow(unsafe_code, reason = "machine code is mapped and called")]

mod build;
mod fold;
mod functions;
mod gemm;
mod loops;
mod machine;
mod object;
mod refused;
mod rows;
mod sort;
mod vectors;
mod walk;
