//! Gives states memory that stays from run to run: an output that is kept, and the input that it is in the next run,
//! become one buffer.
//!
//! The kernel that computes the output then writes over the input. It may if nobody reads the input afterwards, and if it
//! reads no element itself but the one that it writes; what it would only copy stays where it is. So rows that are put into a
//! cache are all that is written of it. A kernel whose results nobody waits for runs last, after those that read the
//! input. Where the output cannot be in place of the input, it has a buffer of its own, and is copied at the end.

use std::collections::{BTreeMap, BTreeSet};

use ir::kernel::{Access, Body, Expr, ExprKind, Kernel, Stmt};
use ir::program::{Arg, Buffer, Copy, Entry, Keep, Program, Space, Step};
use ir::{At, Origin, Symbol};

use crate::error::PassError;
use crate::lower::Names;
use crate::pass::{About, Changed, Cx, ProgramPass};

/// See the [module](self).
pub struct PlaceStates;

impl ProgramPass for PlaceStates {
    fn about(&self) -> About {
        About::new("place_states", "write states where they are kept")
    }

    fn run(&self, program: &mut Program, _: &Cx) -> Result<Changed, At<PassError>> {
        let changed = program.entries.iter().any(|entry| !entry.keeps.is_empty());
        let taken: Vec<String> = program.kernels.iter().map(|kernel| kernel.name.to_string()).collect();
        let mut names = Names::of(taken.iter().map(String::as_str));
        for entry in &mut program.entries {
            place(entry, &mut program.kernels, &mut names);
        }
        Ok(Changed(changed))
    }
}

fn place(entry: &mut Entry, kernels: &mut Vec<Kernel>, names: &mut Names) {
    let keeps = std::mem::take(&mut entry.keeps);
    for keep in &keeps {
        write_last(entry, kernels, keep);
    }
    let mut memory = BTreeMap::new();
    let mut copies = Vec::new();
    for &Keep { output, input } in &keeps {
        let port = &entry.inputs[input];
        let state = entry.buffers.len();
        let name = Symbol::new(port.name.clone());
        entry.buffers.push(Buffer { name, ty: port.ty.clone(), space: Space::State, offset: None });
        memory.insert(Arg::Input(input), Arg::Buffer(state));
        if write_in_place(entry, kernels, names, output, input) {
            memory.insert(Arg::Output(output), Arg::Buffer(state));
            continue;
        }
        let next = entry.buffers.len();
        let port = &entry.outputs[output];
        let name = Symbol::new(format!("b{next}"));
        entry.buffers.push(Buffer { name, ty: port.ty.clone(), space: Space::Arena, offset: None });
        memory.insert(Arg::Output(output), Arg::Buffer(next));
        let (from, to) = (Arg::Buffer(next), Arg::Buffer(state));
        copies.push(Step::Copy(Copy { from, to, at: None, origin: Origin::none() }));
    }
    without_ports(entry, &keeps, &memory);
    entry.steps.extend(copies);
}

/// The step that writes an output, if one alone does, in no branch and no loop.
fn writer(entry: &Entry, kernels: &[Kernel], output: usize) -> Option<usize> {
    let mut all = 0;
    for list in [&entry.host, &entry.steps] {
        Step::walk(list, &mut |step| {
            all += usize::from(writes(step, kernels).contains(&Arg::Output(output)))
        });
    }
    let at = entry.steps.iter().position(|step| {
        matches!(step, Step::Call(_)) && writes(step, kernels).contains(&Arg::Output(output))
    });
    at.filter(|_| all == 1)
}

/// What a step itself writes.
fn writes(step: &Step, kernels: &[Kernel]) -> Vec<Arg> {
    match step {
        Step::Call(call) => {
            let params = kernels[call.kernel].params.iter().zip(&call.args);
            params.filter(|(param, _)| param.access == Access::Write).map(|(_, arg)| *arg).collect()
        }
        Step::Copy(copy) => vec![copy.to],
        Step::Reserve(arg) => vec![*arg],
        _ => Vec::new(),
    }
}

/// Whether a step, or one inside it, names one of these.
fn names_any(steps: &[Step], args: &[Arg]) -> bool {
    let mut found = false;
    Step::walk(steps, &mut |step| found |= step.args().iter().any(|arg| args.contains(arg)));
    found
}

/// Moves the step that writes a kept output to the end, where it stands before one that reads the input, and nobody needs
/// what it writes.
fn write_last(entry: &mut Entry, kernels: &[Kernel], keep: &Keep) {
    let Some(at) = writer(entry, kernels, keep.output) else { return };
    let later = &entry.steps[at + 1..];
    let written = writes(&entry.steps[at], kernels);
    if names_any(later, &[Arg::Input(keep.input)]) && !names_any(later, &written) {
        let step = entry.steps.remove(at);
        entry.steps.push(step);
    }
}

/// Has the writer of an output write over an input, if it can. The step keeps its arguments, but for the input.
fn write_in_place(
    entry: &mut Entry,
    kernels: &mut Vec<Kernel>,
    names: &mut Names,
    output: usize,
    input: usize,
) -> bool {
    let Some(at) = writer(entry, kernels, output) else { return false };
    if names_any(&entry.steps[at + 1..], &[Arg::Input(input)]) {
        return false;
    }
    let Step::Call(call) = &mut entry.steps[at] else { return false };
    let position = |arg: Arg| call.args.iter().position(|&other| other == arg);
    let Some(target) = position(Arg::Output(output)) else { return false };
    let Some(source) = position(Arg::Input(input)) else { return true };
    let Some(mut kernel) = over(&kernels[call.kernel], source, target) else { return false };
    call.args.remove(source);
    let of = std::mem::replace(&mut call.kernel, kernels.len());
    if entry.calls().iter().any(|call| call.kernel == of) {
        kernel.name = Symbol::new(names.fresh(kernel.name.name(), "k"));
        kernels.push(kernel);
        return true;
    }
    kernels[of] = kernel;
    entry.for_each_call_mut(&mut |call| {
        call.kernel = if call.kernel == kernels.len() { of } else { call.kernel }
    });
    true
}

/// The kernel without its parameter `source`, which is read from `target`; `None` if it would read what it has written.
fn over(kernel: &Kernel, source: usize, target: usize) -> Option<Kernel> {
    let Body::Loops(body) = &kernel.body else { return None };
    let [from, to] = [source, target].map(|at| &kernel.params[at]);
    if from.ty != to.ty {
        return None;
    }
    let (from, to) = (&from.name, &to.name);
    let body = without_copies(body, from, to);
    let mut stores = 0;
    let mut alone = true;
    for stmt in &body {
        stmt.walk(&mut |stmt| {
            let own = match stmt {
                Stmt::Store { target, at, .. } if target == to => {
                    stores += 1;
                    Some(at)
                }
                _ => None,
            };
            alone &= stmt.exprs().into_iter().all(|expr| reads_only(expr, from, own));
        });
    }
    let reads =
        crate::lower::any_expr(&body, &mut |e| matches!(e, ExprKind::Load { source, .. } if source == from));
    if !alone || reads && stores > 1 || named_whole(&body, from) {
        return None;
    }
    let renamed = crate::lower::map_block(
        &body,
        &|e| {
            e.replace_loads(&mut |name, at| {
                (name == from).then(|| Expr::load(to.clone(), kernel.params[source].ty.dtype, at.to_vec()))
            })
        },
        &|dim| dim.clone(),
    );
    let mut kernel = Kernel { body: Body::Loops(renamed), ..kernel.clone() };
    kernel.params.remove(source);
    Some(kernel)
}

/// The block without statements that copy an element of `from` to the same place of `to`.
fn without_copies(block: &[Stmt], from: &Symbol, to: &Symbol) -> Vec<Stmt> {
    let copies = |stmt: &Stmt| match stmt {
        Stmt::Store { target, at, value } => {
            target == to
                && matches!(value.kind(), ExprKind::Load { source, at: there, .. } if source == from && there == at)
        }
        _ => false,
    };
    let mut kept = Vec::new();
    for stmt in block.iter().filter(|stmt| !copies(stmt)) {
        match stmt {
            Stmt::For { axis, extent, kind, body } => {
                let inner = without_copies(body, from, to);
                if !inner.is_empty() || body.is_empty() {
                    let (axis, extent) = (axis.clone(), extent.clone());
                    kept.push(Stmt::For { axis, extent, kind: *kind, body: inner });
                }
            }
            other => kept.push(other.clone()),
        }
    }
    kept
}

/// Whether an expression reads `from` at `own` at most.
fn reads_only(expr: &Expr, from: &Symbol, own: Option<&Vec<Expr>>) -> bool {
    !expr.any(&mut |e| match e.kind() {
        ExprKind::Load { source, at, .. } => source == from && own != Some(at),
        _ => false,
    })
}

/// Whether a statement takes all of an array by its name.
fn named_whole(body: &[Stmt], name: &Symbol) -> bool {
    let mut found = false;
    for stmt in body {
        stmt.walk(&mut |stmt| found |= matches!(stmt, Stmt::Sort(sort) if sort.keys == *name));
    }
    found
}

/// Removes the ports of states, and names their memory instead.
fn without_ports(entry: &mut Entry, keeps: &[Keep], memory: &BTreeMap<Arg, Arg>) {
    let inputs: BTreeSet<usize> = keeps.iter().map(|keep| keep.input).collect();
    let outputs: BTreeSet<usize> = keeps.iter().map(|keep| keep.output).collect();
    let before = |gone: &BTreeSet<usize>, at: usize| at - gone.range(..at).count();
    let mut change = |arg: &mut Arg| {
        *arg = match *arg {
            there if memory.contains_key(&there) => memory[&there],
            Arg::Input(at) => Arg::Input(before(&inputs, at)),
            Arg::Output(at) => Arg::Output(before(&outputs, at)),
            other => other,
        }
    };
    Step::walk_args_mut(&mut entry.host, &mut change);
    Step::walk_args_mut(&mut entry.steps, &mut change);
    let mut at = 0..;
    entry.inputs.retain(|_| !inputs.contains(&at.next().expect("there are enough numbers")));
    let mut at = 0..;
    entry.outputs.retain(|_| !outputs.contains(&at.next().expect("there are enough numbers")));
}
