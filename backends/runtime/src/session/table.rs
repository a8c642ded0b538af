//! Calls of kernels, ready to be made: function, pointers, sizes.
//!
//! What does not depend on anything that steps decide is resolved once, in [`Table::resolve`]. All else
//! has its room in the table and is filled in just before the call.

use super::memory::{Memory, Span};
use crate::{
    bind,
    error::RunError,
    model::Model,
    plan::{Arg, Call, Entry, Phase, Step},
};

/// The lines of a list of steps, in the order in which they are written, nested ones included.
#[derive(Default)]
pub(super) struct Table {
    pub(super) lines: Vec<Line>,
    pub(super) args: Vec<*mut u8>,
    pub(super) sizes: Vec<i64>,
    /// Which arguments of fixed calls are inputs and outputs, to be filled in by each run.
    ports: Vec<(usize, Arg)>,
    /// The number of the call that comes after its last.
    pub(super) calls: usize,
}

/// What is kept of a step.
#[derive(Clone, Copy)]
pub(super) enum Line {
    Call(Ready),
    /// Lines of `then` follow; where those of `otherwise` start, and where the step ends.
    If {
        otherwise: usize,
        end: usize,
    },
    /// Lines of the body follow; where the step ends.
    Loop {
        end: usize,
    },
    Other,
}

/// A call: where its arguments and sizes start in the table.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    /// The number of the kernel.
    pub(super) kernel: u32,
    /// The number of the call in the entry.
    pub(super) number: usize,
    pub(super) args: usize,
    pub(super) sizes: usize,
    /// Whether the table has them; else they are resolved before each call.
    pub(super) fixed: bool,
}

impl Table {
    /// Makes the lines of `steps` and resolves the calls that depend only on what is known in `phase`. Their numbers
    /// start at `first`.
    pub(super) fn resolve(
        &mut self,
        model: &Model,
        entry: &Entry,
        steps: &[Step],
        memory: &Memory,
        (phase, first): (Phase, usize),
    ) -> Result<(), RunError> {
        self.lines.clear();
        self.args.clear();
        self.sizes.clear();
        self.ports.clear();
        self.calls = first;
        self.block(model, entry, steps, memory, phase)
    }

    fn block(
        &mut self,
        model: &Model,
        entry: &Entry,
        steps: &[Step],
        memory: &Memory,
        phase: Phase,
    ) -> Result<(), RunError> {
        for step in steps {
            let at = self.lines.len();
            self.lines.push(Line::Other);
            self.lines[at] = match step {
                Step::Call(call) => Line::Call(self.call(model, entry, call, memory, phase)?),
                Step::If { then, otherwise, .. } => {
                    self.block(model, entry, then, memory, phase)?;
                    let second = self.lines.len();
                    self.block(model, entry, otherwise, memory, phase)?;
                    Line::If { otherwise: second, end: self.lines.len() }
                }
                Step::Loop { body, .. } => {
                    self.block(model, entry, body, memory, phase)?;
                    Line::Loop { end: self.lines.len() }
                }
                _ => Line::Other,
            };
        }
        Ok(())
    }

    fn call(
        &mut self,
        model: &Model,
        entry: &Entry,
        call: &Call,
        memory: &Memory,
        phase: Phase,
    ) -> Result<Ready, RunError> {
        let fixed = call.args.iter().all(|arg| memory.is_fixed(*arg))
            && call.sizes.iter().all(|size| size.phase(&memory.phases) <= phase);
        let kernel = call.kernel;
        let (args, sizes) = (self.args.len(), self.sizes.len());
        let ready = Ready { kernel, number: self.calls, args, sizes, fixed };
        self.calls += 1;
        let number = self.lines.len() - 1;
        for arg in &call.args {
            let port = matches!(arg, Arg::Input(_) | Arg::Output(_));
            let span = if fixed && !port { memory.span(entry, *arg)? } else { Span::without_pointer(0) };
            if fixed && port {
                self.ports.push((self.args.len(), *arg));
            }
            self.args.push(span.start);
        }
        for size in &call.sizes {
            self.sizes.push(if fixed {
                bind::eval(entry, size, &memory.symbols, || describe(model, call, number))?
            } else {
                0
            });
        }
        Ok(ready)
    }

    /// Fills in the inputs and outputs of this run.
    pub(super) fn set_ports(&mut self, memory: &Memory) {
        for (at, arg) in &self.ports {
            self.args[*at] = match *arg {
                Arg::Input(index) => memory.inputs[index as usize].start,
                Arg::Output(index) => memory.outputs[index as usize].given.start,
                Arg::Weight(_) | Arg::Buffer(_) => continue,
            };
        }
    }
}

/// What a call is called.
pub(super) fn describe(model: &Model, call: &Call, number: usize) -> String {
    format!("step {number}, kernel `{}`", model.plan().kernels[call.kernel as usize].name)
}
