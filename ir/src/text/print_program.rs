//! Programs as text: weights with their layouts, kernels, entries with buffers and calls.
//!
//! One grammar before and after the memory plan: `at …` and `arena …` are there once they are known. What a call
//! passes goes by name; where a name stands for two things, by its kind and position (`buffer 2`).

use std::fmt;
use std::fmt::Write;

use crate::program::{
    Arg, Branch, Buffer, Call, Copy, Entry, Layout, Loop, Measure, Port, Program, Require, Space, Step,
};
use crate::text::lex::{Bare, Quoted, Sigil};
use crate::text::print_graph::{commas, indent, origin, weight};
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
                Layout::Panels { outer, depth, cols, row, col, offset }
                | Layout::Nibbles { outer, depth, cols, row, col, offset } => {
                    let halves = matches!(packed.layout, Layout::Nibbles { .. });
                    f.write_str(if halves { " nibbles" } else { " panels" })?;
                    for (extent, stride) in outer {
                        write!(f, " outer={extent} by={stride}")?;
                    }
                    write!(f, " depth={depth} cols={cols} row={row} col={col} offset={offset}")?;
                }
                Layout::Quads { depth, cols, row, col, offset } => {
                    write!(f, " quads depth={depth} cols={cols} row={row} col={col} offset={offset}")?;
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
        let port =
            |f: &mut fmt::Formatter<'_>, port: &Port| write!(f, "{}: {}", Sigil('%', &port.name), port.ty);
        write!(f, "  entry {}(", Sigil('@', &entry.name))?;
        commas(f, &entry.inputs, port)?;
        f.write_str(") -> (")?;
        commas(f, entry.outputs.iter().enumerate(), |f, (at, output)| {
            port(f, output)?;
            let kept = entry.keeps.iter().find(|keep| keep.output == at);
            match kept.map(|keep| entry.inputs.get(keep.input)) {
                Some(Some(input)) => write!(f, " for {}", Sigil('%', &input.name)),
                Some(None) => f.write_str(" for %?"),
                None => Ok(()),
            }
        })?;
        f.write_str(") {\n")?;
        for Buffer { name, ty, space, offset } in &entry.buffers {
            let word = match space {
                Space::Arena => "buffer",
                Space::State => "state",
                Space::Host => "host",
                Space::Growing(_) => "growing",
            };
            write!(f, "    {word} {} : {ty}", Sigil('%', name.name()))?;
            match (offset, space) {
                (_, Space::Growing(slot)) => write!(f, " in {slot}")?,
                (Some(offset), _) => write!(f, " at {offset}")?,
                (None, _) => {}
            }
            f.write_char('\n')?;
        }
        if let Some(arena) = &entry.arena {
            writeln!(f, "    arena {arena} bytes")?;
        }
        if !entry.host.is_empty() {
            f.write_str("    host ")?;
            self.block(f, entry, &entry.host, 2)?;
            f.write_char('\n')?;
        }
        self.steps(f, entry, &entry.steps, 2)?;
        f.write_str("  }\n")
    }

    /// Steps in braces.
    fn block(&self, f: &mut fmt::Formatter<'_>, entry: &Entry, steps: &[Step], level: usize) -> fmt::Result {
        f.write_str("{\n")?;
        self.steps(f, entry, steps, level + 1)?;
        indent(f, level)?;
        f.write_char('}')
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>, entry: &Entry, steps: &[Step], level: usize) -> fmt::Result {
        for step in steps {
            indent(f, level)?;
            self.step(f, entry, step, level)?;
            f.write_char('\n')?;
        }
        Ok(())
    }

    fn step(&self, f: &mut fmt::Formatter<'_>, entry: &Entry, step: &Step, level: usize) -> fmt::Result {
        match step {
            Step::Call(call) => self.call(f, entry, call),
            Step::Measure(Measure { symbol, source, bound, origin: from }) => {
                write!(f, "size {} = ", Bare(symbol.name()))?;
                self.arg(f, entry, *source)?;
                if let Some(bound) = bound {
                    write!(f, " <= {bound}")?;
                }
                origin(f, from)
            }
            Step::Set(sizes) => {
                f.write_str("set ")?;
                commas(f, sizes, |f, (symbol, size)| write!(f, "{} = {size}", Bare(symbol.name())))
            }
            Step::Require(Require { condition, what, origin: from }) => {
                write!(f, "require {condition} {}", Quoted(what))?;
                origin(f, from)
            }
            Step::Reserve(arg) => {
                f.write_str("reserve ")?;
                self.arg(f, entry, *arg)
            }
            Step::Copy(Copy { from, to, at, origin: place }) => {
                f.write_str("copy ")?;
                self.arg(f, entry, *from)?;
                f.write_str(" to ")?;
                self.arg(f, entry, *to)?;
                if let Some(at) = at {
                    write!(f, " at {at}")?;
                }
                origin(f, place)
            }
            Step::If(Branch { cond, then, otherwise, origin: from }) => {
                f.write_str("if ")?;
                self.arg(f, entry, *cond)?;
                origin(f, from)?;
                f.write_char(' ')?;
                self.block(f, entry, then, level)?;
                f.write_str(" else ")?;
                self.block(f, entry, otherwise, level)
            }
            Step::Loop(Loop { index, count, cond, trips, body, origin: from }) => {
                write!(f, "loop {}", Bare(index.name()))?;
                if let Some(count) = count {
                    write!(f, " below {count}")?;
                }
                if let Some(cond) = cond {
                    f.write_str(" while ")?;
                    self.arg(f, entry, *cond)?;
                }
                if let Some(trips) = trips {
                    write!(f, " counted {}", Bare(trips.name()))?;
                }
                origin(f, from)?;
                f.write_char(' ')?;
                self.block(f, entry, body, level)
            }
        }
    }

    fn arg(&self, f: &mut fmt::Formatter<'_>, entry: &Entry, arg: Arg) -> fmt::Result {
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
    }

    fn call(&self, f: &mut fmt::Formatter<'_>, entry: &Entry, call: &Call) -> fmt::Result {
        let kernel = self.kernels.get(call.kernel);
        let unique = |name: &str| is_unique(name, self.kernels.iter().map(|kernel| kernel.name.name()));
        match kernel.filter(|kernel| unique(kernel.name.name())) {
            Some(kernel) => write!(f, "call {}(", Sigil('@', kernel.name.name()))?,
            None => write!(f, "call {}(", call.kernel)?,
        }
        commas(f, &call.args, |f, &arg| self.arg(f, entry, arg))?;
        f.write_char(')')?;
        if !call.sizes.is_empty() {
            f.write_str(" [")?;
            commas(f, call.sizes.iter().enumerate(), |f, (i, size)| {
                if let Some(name) = kernel.and_then(|kernel| kernel.sizes.get(i)) {
                    write!(f, "{}=", Bare(name.name()))?;
                }
                write!(f, "{size}")
            })?;
            f.write_char(']')?;
        }
        origin(f, &call.origin)
    }
}
