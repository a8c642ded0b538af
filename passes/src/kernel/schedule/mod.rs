//! Chooses how the plain loops of a kernel run.
//!
//! From the inside out: a matrix product becomes one [`Gemm`](ir::kernel::Gemm) statement for the micro-kernels
//! (`gemm`); the best axis of every other nest becomes the vector loop, weights being laid out for it
//! (`vectorize`); the outermost loop is spread over threads (`parallelize`). Choices depend on the loops and
//! their sizes alone.

mod access;
mod gemm;
mod parallelize;
mod vectorize;

use ir::kernel::{Body, Stmt};
use ir::program::{Arg, Layout, PackedWeight, Program};
use ir::{At, Symbol};

use crate::error::PassError;
use crate::lower::{Names, drop_unused_weights};
use crate::pass::{About, Changed, Cx, ProgramPass};

/// See the [module](self).
pub struct Schedule;

impl ProgramPass for Schedule {
    fn about(&self) -> About {
        About::new("schedule", "choose micro-kernels, vector loops and parallel loops")
    }

    fn run(&self, program: &mut Program, _: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        for at in 0..program.kernels.len() {
            let Body::Loops(body) = &program.kernels[at].body else { continue };
            let before = body.clone();
            let mut body = gemm::use_gemm(program, at, before.clone());
            body = vectorize::vectorize(program, at, body);
            body = parallelize::parallelize(body);
            changed |= body != before;
            program.kernels[at].body = Body::Loops(body);
        }
        drop_unused_weights(program);
        Ok(Changed(changed))
    }
}

/// The loop axes that are spread over nothing yet and whose iterations don't depend on each other: no scalar from
/// outside is changed in the body.
fn is_independent(body: &[Stmt]) -> bool {
    fn sets(block: &[Stmt], bound: &mut Vec<Symbol>) -> bool {
        let depth = bound.len();
        let mut found = false;
        for stmt in block {
            match stmt {
                Stmt::Var { name, .. } => bound.push(name.clone()),
                Stmt::Set { name, .. } => found |= !bound.contains(name),
                _ => {}
            }
            for inner in stmt.blocks() {
                found |= sets(inner, bound);
            }
        }
        bound.truncate(depth);
        found
    }
    !sets(body, &mut Vec::new())
}

/// The weight behind a parameter at every step of the kernel, if it is one everywhere, as it is stored now.
fn weights_behind(program: &Program, kernel: usize, param: &Symbol) -> Option<Vec<usize>> {
    let position = program.kernels[kernel].params.iter().position(|p| p.name == *param)?;
    let steps = program.entries.iter().flat_map(|entry| &entry.steps).filter(|step| step.kernel == kernel);
    steps
        .map(|step| match step.args[position] {
            Arg::Weight(weight) => Some(weight),
            _ => None,
        })
        .collect::<Option<Vec<usize>>>()
        .filter(|weights| !weights.is_empty())
}

/// Gives the kernel's parameter its weights in another layout. The caller changes the loads.
fn lay_out(program: &mut Program, kernel: usize, param: &Symbol, layout: &dyn Fn(&PackedWeight) -> Layout) {
    let position = program.kernels[kernel]
        .params
        .iter()
        .position(|p| p.name == *param)
        .expect("bug: the parameter was just looked up");
    let mut ty = None;
    for entry in 0..program.entries.len() {
        for step in 0..program.entries[entry].steps.len() {
            let Arg::Weight(old) = program.entries[entry].steps[step].args[position] else { continue };
            if program.entries[entry].steps[step].kernel != kernel {
                continue;
            }
            let source = &program.weights[old];
            let new = PackedWeight { layout: layout(source), ..source.clone() };
            let there = program.weights.iter().position(|w| w.weight == new.weight && w.layout == new.layout);
            let at = there.unwrap_or_else(|| {
                let mut names = Names::of(program.weights.iter().map(|w| w.name.name()));
                let name = names.fresh(&format!("{}.packed", new.name), "w");
                program.weights.push(PackedWeight { name: Symbol::new(name), ..new });
                program.weights.len() - 1
            });
            ty = Some(program.weights[at].ty());
            program.entries[entry].steps[step].args[position] = Arg::Weight(at);
        }
    }
    if let Some(ty) = ty {
        program.kernels[kernel].params[position].ty = ty;
    }
}
