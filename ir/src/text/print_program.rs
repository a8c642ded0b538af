//! Programs as text: weights with their layouts, kernels, entries with buffers and calls.
//!
//! One grammar before and after the memory plan: `at …` and `arena …` are there once they are known. What a call
//! passes goes by name; where a name stands for two things, by its kind and position (`buffer 2`).

use std::fmt;
use std::fmt::Write;

use crate::program::{Arg, Buffer, Entry, Layout, Port, Program, Space, Step};
use crate::text::lex::{Bare, Quoted, Sigil};
use crate::text::print_graph::{commas, origin, weight};
use crate::text::print_kernel;

/// Is exactly one of `names` equal to `name`?
fn is_unique<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> bool {
    names.filter(|other| *other == name).count() == 1
}

/// Every name of an entry that a call may use.
pub(super) fn local_names(entry: &Entry) -> impl Iterator<Item = &str> {
    let ports = entry.inputs.iter().chain(&entry.outputs).map(|port| port.name.as_str());
    ports.chain(entry.buffers.iter().map(|buffer| buffer.name.name()))
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {} {{", Sigil('@', &self.name))?;
        for packed in &self.weights {
            write!(f, "  weights {} : ", Sigil('@', packed.name.name()))?;
            weight(f, &packed.weight)?;
            match &packed.layout {
                Layout::Plain => {}
                Layout::Permuted(perm) => {
                    f.write_str(" permuted [")?;
                    commas(f, perm, |f, axis| write!(f, "{axis}"))?;
                    f.write_char(']')?;
                }
                Layout::Panels { depth, cols, row, col, offset } => {
                    write!(f, " panels depth={depth} cols={cols} row={row} col={col} offset={offset}")?;
                }
            }
            if packed.weight.name() != packed.name.name() {
                write!(f, " named {}", Quoted(packed.weight.name()))?;
            }
            f.write_char('\n')?;
        }
        for kernel in &self.kernels {
            f.write_str("  ")?;
            print_kernel::kernel(f, kernel, 1)?;
            f.write_char('\n')?;
        }
        for entry in &self.entries {
            self.entry(f, entry)?;
        }
        f.write_str("}\n")
    }
}

impl Program {
    fn entry(&self, f: &mut fmt::Formatter<'_>, entry: &Entry) -> fmt::Result {
        let ports = |f: &mut fmt::Formatter<'_>, ports: &[Port]| {
            commas(f, ports, |f, port| write!(f, "{}: {}", Sigil('%', &port.name), port.ty))
        };
        write!(f, "  entry {}(", Sigil('@', &entry.name))?;
        ports(f, &entry.inputs)?;
        f.write_str(") -> (")?;
        ports(f, &entry.outputs)?;
        f.write_str(") {\n")?;
        for Buffer { name, ty, space, offset } in &entry.buffers {
            let word = match space {
                Space::Arena => "buffer",
                Space::State => "state",
            };
            write!(f, "    {word} {} : {ty}", Sigil('%', name.name()))?;
            if let Some(offset) = offset {
                write!(f, " at {offset}")?;
            }
            f.write_char('\n')?;
        }
        if let Some(arena) = &entry.arena {
            writeln!(f, "    arena {arena} bytes")?;
        }
        for step in &entry.steps {
            self.step(f, entry, step)?;
        }
        f.write_str("  }\n")
    }

    fn step(&self, f: &mut fmt::Formatter<'_>, entry: &Entry, step: &Step) -> fmt::Result {
        let kernel = self.kernels.get(step.kernel);
        let unique = |name: &str| is_unique(name, self.kernels.iter().map(|kernel| kernel.name.name()));
        match kernel.filter(|kernel| unique(kernel.name.name())) {
            Some(kernel) => write!(f, "    call {}(", Sigil('@', kernel.name.name()))?,
            None => write!(f, "    call {}(", step.kernel)?,
        }
        commas(f, &step.args, |f, &arg| {
            let (word, i, sigil, name) = match arg {
                Arg::Input(i) => ("input", i, '%', entry.inputs.get(i).map(|port| port.name.as_str())),
                Arg::Output(i) => ("output", i, '%', entry.outputs.get(i).map(|port| port.name.as_str())),
                Arg::Weight(i) => ("weight", i, '@', self.weights.get(i).map(|packed| packed.name.name())),
                Arg::Buffer(i) => ("buffer", i, '%', entry.buffers.get(i).map(|buffer| buffer.name.name())),
            };
            let unique = |name: &&str| match sigil {
                '@' => is_unique(name, self.weights.iter().map(|packed| packed.name.name())),
                _ => is_unique(name, local_names(entry)),
            };
            match name.filter(unique) {
                Some(name) => write!(f, "{}", Sigil(sigil, name)),
                None => write!(f, "{word} {i}"),
            }
        })?;
        f.write_char(')')?;
        if !step.sizes.is_empty() {
            f.write_str(" [")?;
            commas(f, step.sizes.iter().enumerate(), |f, (i, size)| {
                if let Some(name) = kernel.and_then(|kernel| kernel.sizes.get(i)) {
                    write!(f, "{}=", Bare(name.name()))?;
                }
                write!(f, "{size}")
            })?;
            f.write_char(']')?;
        }
        origin(f, &step.origin)?;
        f.write_char('\n')
    }
}
