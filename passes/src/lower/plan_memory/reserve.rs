//! Steps that make room for what grows, before it is written. A copy makes room itself.

use std::collections::BTreeSet;

use ir::Symbol;
use ir::kernel::{Access, Kernel};
use ir::program::{Arg, Entry, Space, Step};

/// Whatever a call writes that grows gets its room before the call.
pub(super) fn reserve(entry: &mut Entry, kernels: &[Kernel]) {
    let known: BTreeSet<Symbol> = entry.symbols().into_iter().collect();
    let growing: BTreeSet<Arg> = (0..entry.buffers.len())
        .filter(|&buffer| matches!(entry.buffers[buffer].space, Space::Growing(_)))
        .map(Arg::Buffer)
        .chain((0..entry.outputs.len()).filter(|&output| is_decided(entry, output, &known)).map(Arg::Output))
        .collect();
    if !growing.is_empty() {
        let steps = std::mem::take(&mut entry.steps);
        entry.steps = with_room(steps, &growing, kernels);
    }
}

/// Is the size of an output decided by steps?
fn is_decided(entry: &Entry, output: usize, known: &BTreeSet<Symbol>) -> bool {
    let mut found = false;
    for size in &entry.outputs[output].ty.shape {
        size.for_each_symbol(&mut |symbol| found |= !known.contains(symbol));
    }
    found
}

fn with_room(steps: Vec<Step>, growing: &BTreeSet<Arg>, kernels: &[Kernel]) -> Vec<Step> {
    let mut all = Vec::with_capacity(steps.len());
    for mut step in steps {
        for block in step.blocks_mut() {
            *block = with_room(std::mem::take(block), growing, kernels);
        }
        if let Step::Call(call) = &step {
            let params = kernels[call.kernel].params.iter().zip(&call.args);
            let written = params.filter(|(param, arg)| param.access != Access::Read && growing.contains(arg));
            all.extend(written.map(|(_, arg)| Step::Reserve(*arg)));
        }
        all.push(step);
    }
    all
}
