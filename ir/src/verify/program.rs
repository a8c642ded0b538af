//! Rules of a valid program:
//!
//! - its kernels are valid, and kernels, weights and entries have names of their own;
//! - the layout of a weight stays inside the weight;
//! - steps name kernels, weights, buffers and ports that there are;
//! - each step passes an argument for every parameter, of its element type and as many bytes, and a size for every
//!   size; nothing that is only read (an input, a weight) is written;
//! - a buffer is written before it is read, and every output is written;
//! - an output that is kept has the type of the input that it is in the next run, and no other is;
//! - sizes are those of the inputs, or decided by a step before; what a kernel takes for given is proved or required
//!   by a step before; truth values and sizes are read from buffers of their type;
//! - the steps that run before the arena is laid out are calls and what decides sizes, on buffers of their own and states;
//! - in a planned entry, each buffer has a place inside the arena;
//! - in a planned entry, buffers that live at the same time don't overlap, as far as that can be told.

use std::collections::{BTreeMap, BTreeSet};

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::Access;
use crate::program::{Arg, Call, Entry, Keep, Layout, Program, Space, Step};
use crate::verify::kernel::{KernelViolation, verify_kernel};

/// What is wrong with a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramViolation {
    /// A kernel is not valid.
    #[error(transparent)]
    Kernel(#[from] KernelViolation),
    /// Two things of one kind with one name.
    #[error("two {what} are called `@{name}`")]
    Twice {
        /// Kernels, weights or entries.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A layout that reaches outside of its weight.
    #[error("the layout of weight `@{weight}` reaches outside of it")]
    Layout {
        /// The weight.
        weight: String,
    },
    /// A step that names something that there is not.
    #[error("step {step} names {what} {index}, and there are {count}")]
    Nothing {
        /// The step.
        step: usize,
        /// Kernel, input, output, weight or buffer.
        what: &'static str,
        /// The position that it names.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// An output that no step writes.
    #[error("no step writes the output \"{output}\"")]
    NoOutput {
        /// The output.
        output: String,
    },
    /// An output that is kept for an input that there is not, that has another type, or for which another is kept.
    #[error("the output at position {output} cannot be kept for the input at position {input}")]
    Kept {
        /// The output.
        output: usize,
        /// The input.
        input: usize,
    },
    /// A buffer of a planned entry without a place, or with one that ends beyond the arena.
    #[error("`%{buffer}` has no place in the arena")]
    NoPlace {
        /// The buffer.
        buffer: String,
    },
    /// Another number of arguments or sizes than the kernel takes.
    #[error("step {step} passes {found} {what} to `{kernel}`, which takes {expected}")]
    Count {
        /// The step.
        step: usize,
        /// Arguments or sizes.
        what: &'static str,
        /// The kernel.
        kernel: String,
        /// What it takes.
        expected: usize,
        /// What it gets.
        found: usize,
    },
    /// An argument of another type than the parameter.
    #[error("step {step} passes {found} for `%{param}` of `{kernel}`, which is {expected}")]
    Type {
        /// The step.
        step: usize,
        /// The kernel.
        kernel: String,
        /// The parameter.
        param: String,
        /// Its type.
        expected: String,
        /// The argument's type.
        found: String,
    },
    /// An input or a weight is written.
    #[error("step {step} lets `{kernel}` write an input or a weight")]
    WritesInput {
        /// The step.
        step: usize,
        /// The kernel.
        kernel: String,
    },
    /// A buffer is read before anything was written to it.
    #[error("step {step} reads `%{buffer}` before it is written")]
    Unwritten {
        /// The step.
        step: usize,
        /// The buffer.
        buffer: String,
    },
    /// A size that nothing before this step decides.
    #[error("step {step} uses the size `{symbol}`, which nothing decides before it")]
    Undecided {
        /// The step.
        step: usize,
        /// The size.
        symbol: String,
    },
    /// What a kernel takes for given is neither proved nor required before.
    #[error(
        "step {step} calls `{kernel}`, which takes `{condition}` for given, and nothing requires it before"
    )]
    NotGiven {
        /// The step.
        step: usize,
        /// The kernel.
        kernel: String,
        /// The condition, in the sizes of the entry.
        condition: String,
    },
    /// A step reads a truth value or a size from something else.
    #[error("step {step} reads {expected} from {found}")]
    Value {
        /// The step.
        step: usize,
        /// What it reads.
        expected: &'static str,
        /// The type of what it reads from.
        found: String,
    },
    /// A step or a buffer that has no place before the arena is laid out.
    #[error("step {step} cannot run before the arena is laid out: {why}")]
    Host {
        /// The step.
        step: usize,
        /// Why not.
        why: &'static str,
    },
    /// Two buffers share memory while both are needed.
    #[error("`%{left}` and `%{right}` overlap while both are needed")]
    Overlap {
        /// One buffer.
        left: String,
        /// The other.
        right: String,
    },
}

impl ProgramViolation {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            ProgramViolation::Kernel(_) => "egraft::verify::kernel",
            _ => "egraft::verify::program",
        }
    }
}

/// Every violation in a program.
pub fn verify_program(program: &Program) -> Vec<ProgramViolation> {
    let mut report: Vec<ProgramViolation> =
        program.kernels.iter().flat_map(verify_kernel).map(ProgramViolation::from).collect();
    names_are_unique(program, &mut report);
    layouts_stay_inside(program, &mut report);
    if report.iter().any(|violation| matches!(violation, ProgramViolation::Layout { .. })) {
        // The types of such weights are unknown.
        return report;
    }
    for entry in &program.entries {
        let steps = numbered(entry);
        let before = report.len();
        for &(at, step) in &steps {
            references_exist(program, entry, at, step, &mut report);
        }
        if report.len() > before {
            continue;
        }
        for &(at, step) in &steps {
            if let Step::Call(call) = step {
                arguments_fit(program, entry, at, call, &mut report);
            }
        }
        written_before_read(program, entry, &steps, &mut report);
        outputs_are_written(program, entry, &steps, &mut report);
        kept_outputs_fit(entry, &mut report);
        super::places::buffers_have_places(entry, &mut report);
        super::sizes::sizes_are_decided(program, entry, &mut report);
    }
    report
}

/// Every step with its number in the order of the text, those of `host` first.
pub(super) fn numbered(entry: &Entry) -> Vec<(usize, &Step)> {
    let mut steps = Vec::new();
    for list in [&entry.host, &entry.steps] {
        Step::walk(list, &mut |step| steps.push((steps.len(), step)));
    }
    steps
}

/// What a step reads, and what it writes.
fn reads_and_writes(program: &Program, step: &Step) -> (Vec<Arg>, Vec<Arg>) {
    match step {
        Step::Call(Call { kernel, args, .. }) => {
            let with = |access: Access| {
                let params = program.kernels[*kernel].params.iter().zip(args);
                params.filter(|(param, _)| param.access == access).map(|(_, arg)| *arg).collect()
            };
            (with(Access::Read), with(Access::Write))
        }
        Step::Copy(copy) => (vec![copy.from], vec![copy.to]),
        Step::Reserve(_) => (vec![], vec![]),
        other => (other.args(), vec![]),
    }
}

fn names_are_unique(program: &Program, report: &mut Vec<ProgramViolation>) {
    let kernels = program.kernels.iter().map(|kernel| kernel.name.name()).collect::<Vec<_>>();
    let weights = program.weights.iter().map(|weight| weight.name.name()).collect();
    let entries = program.entries.iter().map(|entry| entry.name.as_str()).collect();
    for (what, names) in [("kernels", kernels), ("weights", weights), ("entries", entries)] {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                report.push(ProgramViolation::Twice { what, name: name.to_owned() });
            }
        }
    }
}

fn layouts_stay_inside(program: &Program, report: &mut Vec<ProgramViolation>) {
    for packed in &program.weights {
        let inside = match &packed.layout {
            Layout::Plain => true,
            Layout::Permuted(perm) => {
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                sorted.into_iter().eq(0..packed.weight.shape().len())
            }
            Layout::Panels { outer, depth, cols, row, col, offset }
            | Layout::Nibbles { outer, depth, cols, row, col, offset } => {
                let axes = outer.iter().copied().chain([(*depth, *row), (*cols, *col)]).collect();
                stays_inside(axes, *offset, packed.weight.elements())
            }
            Layout::Quads { depth, cols, row, col, offset } => {
                matches!(packed.weight.dtype(), DType::I8 | DType::U8)
                    && stays_inside(vec![(*depth, *row), (*cols, *col)], *offset, packed.weight.elements())
            }
        };
        let halves = matches!(packed.layout, Layout::Nibbles { .. });
        if !inside || halves && !matches!(packed.weight.dtype(), DType::U4 | DType::I4) {
            report.push(ProgramViolation::Layout { weight: packed.name.to_string() });
        }
    }
}

/// Is the last element along axes with these extents and strides one of so many? There may be nothing to read.
fn stays_inside(axes: Vec<(usize, usize)>, offset: usize, elements: usize) -> bool {
    let last = axes.iter().try_fold(offset, |last, (count, stride)| {
        last.checked_add(count.saturating_sub(1).checked_mul(*stride)?)
    });
    axes.iter().any(|(count, _)| *count == 0) || last.is_some_and(|last| last < elements)
}

fn references_exist(
    program: &Program,
    entry: &Entry,
    step: usize,
    given: &Step,
    report: &mut Vec<ProgramViolation>,
) {
    let args = given.args().into_iter().map(|arg| match arg {
        Arg::Input(index) => ("input", index, entry.inputs.len()),
        Arg::Output(index) => ("output", index, entry.outputs.len()),
        Arg::Weight(index) => ("weight", index, program.weights.len()),
        Arg::Buffer(index) => ("buffer", index, entry.buffers.len()),
    });
    let kernel = match given {
        Step::Call(call) => Some(("kernel", call.kernel, program.kernels.len())),
        _ => None,
    };
    report.extend(
        kernel
            .into_iter()
            .chain(args)
            .filter(|(_, index, count)| index >= count)
            .map(|(what, index, count)| ProgramViolation::Nothing { step, what, index, count }),
    );
}

fn outputs_are_written(
    program: &Program,
    entry: &Entry,
    steps: &[(usize, &Step)],
    report: &mut Vec<ProgramViolation>,
) {
    let written: BTreeSet<Arg> =
        steps.iter().flat_map(|(_, step)| reads_and_writes(program, step).1).collect();
    for (index, port) in entry.outputs.iter().enumerate() {
        // A stack of elements may be of none.
        let reserved = || steps.iter().any(|(_, step)| **step == Step::Reserve(Arg::Output(index)));
        if !written.contains(&Arg::Output(index)) && !reserved() {
            report.push(ProgramViolation::NoOutput { output: port.name.clone() });
        }
    }
}

fn kept_outputs_fit(entry: &Entry, report: &mut Vec<ProgramViolation>) {
    let mut taken = BTreeSet::new();
    for &Keep { output, input } in &entry.keeps {
        let fits = match (entry.outputs.get(output), entry.inputs.get(input)) {
            (Some(output), Some(input)) => output.ty == input.ty,
            _ => false,
        };
        if !fits || !taken.insert(input) {
            report.push(ProgramViolation::Kept { output, input });
        }
    }
}

fn arguments_fit(
    program: &Program,
    entry: &Entry,
    at: usize,
    step: &Call,
    report: &mut Vec<ProgramViolation>,
) {
    let kernel = &program.kernels[step.kernel];
    let name = kernel.name.to_string();
    for (what, expected, found) in
        [("arguments", kernel.params.len(), step.args.len()), ("sizes", kernel.sizes.len(), step.sizes.len())]
    {
        if expected != found {
            report.push(ProgramViolation::Count { step: at, what, kernel: name.clone(), expected, found });
            return;
        }
    }
    let sizes: BTreeMap<&Symbol, &Dim> = kernel.sizes.iter().zip(&step.sizes).collect();
    for (param, &arg) in kernel.params.iter().zip(&step.args) {
        let expected = param.ty.substitute(&|symbol| sizes.get(symbol).map(|&dim| dim.clone()));
        let found = program.arg_type(entry, arg);
        if expected.dtype != found.dtype || expected.elements() != found.elements() {
            let (param, expected, found) = (param.name.to_string(), expected.to_string(), found.to_string());
            report.push(ProgramViolation::Type { step: at, kernel: name.clone(), param, expected, found });
        }
        if param.access != Access::Read && matches!(arg, Arg::Input(_) | Arg::Weight(_)) {
            report.push(ProgramViolation::WritesInput { step: at, kernel: name.clone() });
        }
    }
}

/// In the order of the text: a loop that reads what a later step of it writes finds nothing there at first.
fn written_before_read(
    program: &Program,
    entry: &Entry,
    steps: &[(usize, &Step)],
    report: &mut Vec<ProgramViolation>,
) {
    let mut written = BTreeSet::new();
    for &(at, step) in steps {
        let (reads, writes) = reads_and_writes(program, step);
        for arg in reads {
            let Arg::Buffer(buffer) = arg else { continue };
            if entry.buffers[buffer].space != Space::State && !written.contains(&buffer) {
                let buffer = entry.buffers[buffer].name.to_string();
                report.push(ProgramViolation::Unwritten { step: at, buffer });
            }
        }
        let reserved = if let Step::Reserve(arg) = step { Some(*arg) } else { None };
        for arg in writes.into_iter().chain(reserved) {
            match arg {
                Arg::Buffer(buffer) => {
                    written.insert(buffer);
                }
                Arg::Input(_) | Arg::Weight(_) if matches!(step, Step::Copy(_) | Step::Reserve(_)) => {
                    report.push(ProgramViolation::WritesInput { step: at, kernel: "copy".to_owned() });
                }
                _ => {}
            }
        }
    }
}
