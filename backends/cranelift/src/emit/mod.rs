//! Kernels in loop form to functions of the code generator.

mod address;
mod cast;
mod expr;
mod fold;
mod function;
mod gemm;
mod int;
mod lanes;
mod math;
mod narrow;
mod parallel;
mod sort;
mod stmt;
mod value;

use cranelift_codegen::ir::types;
use ir::kernel::{self, Kernel};

pub(crate) use address::Offset;
pub(crate) use function::{Body, Emitter, Module, signature};
pub(crate) use value::Value;

use crate::error::EmitError;

/// Makes the functions of a kernel; gives the place of the one that the runtime calls, `(services, args, sizes)`.
pub(crate) fn kernel(module: &mut Module<'_>, kernel: &Kernel) -> Result<u32, EmitError> {
    let kernel::Body::Loops(stmts) = &kernel.body else {
        return Err(EmitError::StageForm { kernel: kernel.name.to_string() });
    };
    let name = kernel.name.to_string();
    function::define(module, kernel, name, &[types::I64; 3], false, |emitter, given| {
        emitter.bind_kernel(given[1], given[2]);
        emitter.block(stmts)
    })
}
