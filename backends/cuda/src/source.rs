//! A kernel's source.

use std::collections::BTreeSet;

use ir::Dim;
use ir::kernel::Kernel;
use ir::program::Program;

use crate::emit::{Names, kernel as functions_of};
use crate::error::EmitError;

/// A kernel as CUDA C++.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The kernel's name in the program.
    pub name: String,
    /// The text: the kernel's own form as a comment, what it needs, and a function for each launch.
    pub text: String,
    /// What runs, in order.
    pub launches: Vec<Launch>,
}

/// A launch of a function of a [`Source`]: `function<<<blocks, threads, shared>>>(arrays…, sizes…)`, with the arrays and
/// sizes of the kernel in its order, pointers and `long long`. Arrays start at multiples of 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The function, which has C linkage.
    pub function: String,
    /// How many blocks, over the kernel's sizes; with none, nothing is launched.
    pub blocks: Dim,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of memory that a block's threads share.
    pub shared: u64,
}

/// How the sums of products are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// Ascending, with one rounding a step.
    InOrder,
    /// As tensor cores make them, where both operands are 16-bit floats without a loss; else ascending.
    Regrouped,
    /// As tensor cores make them; other operands of 32 bits are rounded to TF32, which has 11 binary digits.
    Rounded,
}

/// The source of each kernel of a program, in its order.
///
/// # Errors
/// Where a kernel is not in loop form, or has something for which there is no form here.
pub fn emit(program: &Program, sums: Sums) -> Result<Vec<Source>, EmitError> {
    let mut names = Names::default();
    (0..program.kernels.len()).map(|at| source(program, at, &mut names, sums)).collect()
}

fn source(program: &Program, at: usize, names: &mut Names, sums: Sums) -> Result<Source, EmitError> {
    let kernel = &program.kernels[at];
    let functions = functions_of(kernel, names, sums)?;
    let mut text = header(program, at);
    text += &functions.prelude;
    text += &functions.text;
    Ok(Source { name: kernel.name.to_string(), text, launches: functions.launches })
}

/// The kernel's own text, and where it comes from.
fn header(program: &Program, at: usize) -> String {
    let kernel: &Kernel = &program.kernels[at];
    let mut text = format!("// {}: {}\n", kernel.name, kernel.kind.name());
    let calls = program.entries.iter().flat_map(|entry| entry.calls()).filter(|call| call.kernel == at);
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    for call in calls {
        nodes.extend(call.origin.places().iter().map(|place| format!("{} ({})", place.name, place.op)));
        rules.extend(call.origin.rules().iter().map(ToString::to_string));
    }
    for (what, names) in [("of", nodes), ("by the rules", rules)] {
        let mut seen = BTreeSet::new();
        let names: Vec<String> = names.into_iter().filter(|name| seen.insert(name.clone())).collect();
        if !names.is_empty() {
            text += &format!("// {what} {}\n", names.join(", ").replace('\n', " "));
        }
    }
    text += "//\n";
    for line in kernel.to_string().lines() {
        text += &format!("//   {line}\n");
    }
    text + "\n"
}
