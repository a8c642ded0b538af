//! What makes a plan consistent: indices, names, what may depend on which sizes, what steps may do.
//!
//! Deliberately absent: whether a buffer is large enough for a kernel, or written before it is read.
//! Places are checked against their memory when sizes are known.

use super::{Arg, Call, Entry, MAX_DEPTH, MAX_NESTING, Phase, Plan, Space, Step};
use crate::{error::PlanError, size::Size};

impl Plan {
    /// Checks that every index is in range, every symbol is decided and by whom it may be, memory depends
    /// on what is known when it is laid out, names are unique and hold no NUL, neither sizes nor steps
    /// nest too deep, and weights are aligned.
    ///
    /// # Errors
    /// The first contradiction, with its place.
    pub fn validate(&self) -> Result<(), PlanError> {
        names(self.entries.iter().map(|entry| &entry.name), || "the entries".into())?;
        names_without_nul(self.kernels.iter().map(|kernel| &kernel.name), || "the kernels".into())?;
        names_without_nul(self.weights.iter().map(|weight| &weight.name), || "the weights".into())?;
        for weight in &self.weights {
            let place = || format!("weight `{}`", weight.name);
            require(weight.offset % 64 == 0, place, || {
                format!("its offset {} is not a multiple of 64", weight.offset)
            })?;
            require(weight.offset.checked_add(weight.bytes).is_some(), place, || "its end overflows".into())?;
        }
        for entry in &self.entries {
            let phases = entry.phases();
            let decided = phases.iter().map(|phase| *phase == Phase::Bind).collect();
            Check { plan: self, entry, phases, decided, host: false, number: 0 }.all()?;
        }
        Ok(())
    }
}

/// The check of one entry.
struct Check<'a> {
    plan: &'a Plan,
    entry: &'a Entry,
    /// When each symbol is known.
    phases: Vec<Phase>,
    /// Whether something decides it.
    decided: Vec<bool>,
    /// Whether `number` counts steps of `host`.
    host: bool,
    /// Number of the step that is looked at.
    number: usize,
}

impl<'a> Check<'a> {
    fn all(mut self) -> Result<(), PlanError> {
        let entry = self.entry;
        names(entry.symbols.iter(), || self.at("symbols"))?;
        names(entry.inputs.iter().map(|port| &port.name), || self.at("inputs"))?;
        names(entry.outputs.iter().map(|port| &port.name), || self.at("outputs"))?;
        names(entry.states.iter().map(|port| &port.name), || self.at("states"))?;
        self.binds()?;
        let ports =
            [(&entry.inputs, Phase::Bind), (&entry.outputs, Phase::Steps), (&entry.states, Phase::Bind)];
        for (ports, phase) in ports {
            for port in ports {
                let place = || self.at(&format!("port `{}`", port.name));
                port.dims.iter().try_for_each(|dim| self.size(dim, phase, place))?;
            }
        }
        self.size(&entry.host_bytes, Phase::Bind, || self.at("host memory"))?;
        self.size(&entry.arena_bytes, Phase::Host, || self.at("arena"))?;
        for (i, buffer) in entry.buffers.iter().enumerate() {
            let place = || self.at(&format!("buffer {i}"));
            let phase = match buffer.space {
                Space::Host | Space::State => Phase::Bind,
                Space::Arena | Space::Grow(_) => Phase::Steps,
            };
            self.size(&buffer.offset, phase, place)?;
            self.size(&buffer.bytes, phase, place)?;
            if let Space::Grow(number) = buffer.space {
                let known = (number as usize) < entry.buffers.len();
                require(known, place, || format!("growing memory {number} of {}", entry.buffers.len()))?;
            }
        }
        let states = entry.buffers.iter().filter(|buffer| buffer.space == Space::State).count();
        require(
            entry.states.len() <= states,
            || self.at("states"),
            || format!("{} names for {states} buffers", entry.states.len()),
        )?;
        self.host = true;
        self.block(&entry.host, MAX_NESTING)?;
        (self.host, self.number) = (false, 0);
        self.block(&entry.steps, MAX_NESTING)?;
        match self.decided.iter().position(|decided| !decided) {
            Some(free) => Err(inconsistent(
                || self.at("symbols"),
                format!("`{}` is never decided", entry.symbols[free]),
            )),
            None => Ok(()),
        }
    }

    fn at(&self, what: &str) -> String {
        format!("entry `{}`, {what}", self.entry.name)
    }

    fn binds(&self) -> Result<(), PlanError> {
        let entry = self.entry;
        let mut bound = vec![false; entry.binds.len().min(entry.symbols.len())];
        for (i, bind) in entry.binds.iter().enumerate() {
            let place = || self.at(&format!("bind {i}"));
            let rank = entry.inputs.get(bind.input as usize).map(|port| port.dims.len());
            require(rank.is_some(), place, || format!("input {} does not exist", bind.input))?;
            require(rank > Some(bind.axis as usize), place, || format!("axis {} does not exist", bind.axis))?;
            require(bind.scale != 0, place, || "the scale is 0".into())?;
            self.size(&bind.offset, Phase::Bind, place)?;
            let mut open = false;
            bind.offset.symbols(&mut |symbol| open |= bound.get(symbol as usize) != Some(&true));
            require(!open, place, || "the offset has a symbol that no bind before decides".into())?;
            let symbol = bind.symbol;
            let known = (symbol as usize) < entry.symbols.len();
            require(known, place, || format!("symbol {symbol} does not exist"))?;
            match bound.get_mut(symbol as usize) {
                None => {
                    let why = format!("symbol {symbol} comes after those that inputs decide");
                    return Err(inconsistent(place, why));
                }
                Some(true) => return Err(inconsistent(place, format!("symbol {symbol} is bound already"))),
                Some(bound) => *bound = true,
            }
        }
        Ok(())
    }

    /// The size is in bounds, its symbols exist and are known in `phase`.
    fn size(&self, size: &Size, phase: Phase, place: impl Fn() -> String) -> Result<(), PlanError> {
        size.depth().ok_or(PlanError::Depth { limit: MAX_DEPTH })?;
        let (mut unknown, mut late) = (None, None);
        size.symbols(&mut |symbol| match self.phases.get(symbol as usize) {
            None => unknown = Some(symbol),
            Some(known) if *known > phase => late = Some(symbol),
            Some(_) => {}
        });
        require(unknown.is_none(), &place, || format!("symbol {} does not exist", unknown.unwrap_or(0)))?;
        require(late.is_none(), place, || {
            let name = &self.entry.symbols[late.unwrap_or(0) as usize];
            format!("`{name}` is decided later than this must be known")
        })
    }

    fn block(&mut self, steps: &'a [Step], nesting: u32) -> Result<(), PlanError> {
        let nesting = nesting.checked_sub(1).ok_or(PlanError::Nesting { limit: MAX_NESTING })?;
        for step in steps {
            self.step(step)?;
            self.number += 1;
            match step {
                Step::If { then, otherwise, .. } => {
                    self.block(then, nesting)?;
                    self.block(otherwise, nesting)?;
                }
                Step::Loop { body, .. } => self.block(body, nesting)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn place(&self) -> String {
        self.at(&format!("{}step {}", if self.host { "host " } else { "" }, self.number))
    }

    /// The step itself, without what is nested in it.
    fn step(&mut self, step: &Step) -> Result<(), PlanError> {
        match step {
            Step::Call(Call { kernel, args, sizes }) => {
                let known = (*kernel as usize) < self.plan.kernels.len();
                self.require(known, || format!("kernel {kernel} does not exist"))?;
                args.iter().try_for_each(|arg| self.arg(*arg))?;
                sizes.iter().try_for_each(|size| self.step_size(size))?;
            }
            Step::Measure { source, bound, .. } => {
                self.arg(*source)?;
                bound.iter().try_for_each(|bound| self.step_size(bound))?;
            }
            Step::Set(values) => values.iter().try_for_each(|(_, size)| self.step_size(size))?,
            Step::Require { left, right, .. } => {
                self.step_size(left)?;
                self.step_size(right)?;
            }
            Step::Reserve(_) | Step::Copy { .. } | Step::If { .. } | Step::Loop { .. } if self.host => {
                let why = "it is neither a call nor does it decide or require sizes".to_owned();
                return Err(inconsistent(|| self.place(), why));
            }
            Step::Reserve(arg) => {
                self.arg(*arg)?;
                self.require(self.grown(*arg).is_some(), || format!("{arg:?} does not grow"))?;
            }
            Step::Copy { from, to, bytes, at } => {
                self.arg(*from)?;
                self.arg(*to)?;
                let written = matches!(to, Arg::Output(_) | Arg::Buffer(_));
                self.require(written, || format!("{to:?} is not written to"))?;
                let moved = self.grown(*to).is_some_and(|to| self.grown(*from) == Some(to));
                self.require(!moved, || format!("{from:?} lies in the memory that grows for {to:?}"))?;
                self.step_size(bytes)?;
                at.iter().try_for_each(|at| self.step_size(at))?;
            }
            Step::If { cond, .. } => self.arg(*cond)?,
            Step::Loop { count, cond, .. } => {
                self.step_size(count)?;
                cond.iter().try_for_each(|cond| self.arg(*cond))?;
            }
        }
        self.decides(step)
    }

    /// The symbols that the step decides are its to decide, each once.
    fn decides(&mut self, step: &Step) -> Result<(), PlanError> {
        let mut symbols = Vec::new();
        step.decides(&mut |symbol| symbols.push(symbol));
        symbols.sort_unstable();
        let twice = symbols.windows(2).find(|pair| pair[0] == pair[1]);
        self.require(twice.is_none(), || {
            format!("symbol {} is decided twice", twice.map_or(0, |pair| pair[0]))
        })?;
        for symbol in symbols {
            let decider = if self.host { Phase::Host } else { Phase::Steps };
            match self.phases.get(symbol as usize) {
                None => return Err(inconsistent(|| self.place(), format!("symbol {symbol} does not exist"))),
                Some(phase) if *phase != decider => {
                    let by = if *phase == Phase::Bind { "inputs" } else { "`host`" };
                    let why = format!("`{}` is decided by {by}", self.entry.symbols[symbol as usize]);
                    return Err(inconsistent(|| self.place(), why));
                }
                Some(_) => self.decided[symbol as usize] = true,
            }
        }
        Ok(())
    }

    fn require(&self, holds: bool, why: impl Fn() -> String) -> Result<(), PlanError> {
        require(holds, || self.place(), why)
    }

    fn step_size(&self, size: &Size) -> Result<(), PlanError> {
        let phase = if self.host { Phase::Host } else { Phase::Steps };
        self.size(size, phase, || self.place())
    }

    /// The argument exists; one of `host` is there before the arena is.
    fn arg(&self, arg: Arg) -> Result<(), PlanError> {
        let entry = self.entry;
        let (index, count) = match arg {
            Arg::Input(index) => (index, entry.inputs.len()),
            Arg::Output(index) => (index, entry.outputs.len()),
            Arg::Weight(index) => (index, self.plan.weights.len()),
            Arg::Buffer(index) => (index, entry.buffers.len()),
        };
        self.require((index as usize) < count, || format!("{arg:?} does not exist"))?;
        let early = match arg {
            Arg::Input(_) | Arg::Weight(_) => true,
            Arg::Output(_) => false,
            Arg::Buffer(index) => matches!(entry.buffers[index as usize].space, Space::Host | Space::State),
        };
        self.require(early || !self.host, || format!("{arg:?} is not there yet"))
    }

    /// The growing memory that it lies in: an output's own, or one of the entry's.
    fn grown(&self, arg: Arg) -> Option<Arg> {
        match arg {
            Arg::Output(index) if self.entry.is_dynamic(index as usize) => Some(arg),
            Arg::Buffer(index) => match self.entry.buffers[index as usize].space {
                Space::Grow(number) => Some(Arg::Buffer(number)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn inconsistent(place: impl Fn() -> String, why: String) -> PlanError {
    PlanError::Inconsistent { place: place(), why }
}

fn require(holds: bool, place: impl Fn() -> String, why: impl Fn() -> String) -> Result<(), PlanError> {
    if holds { Ok(()) } else { Err(inconsistent(place, why())) }
}

/// Names are unique, and hold no NUL because C reads them.
fn names<'a>(
    names: impl Iterator<Item = &'a String> + Clone,
    place: impl Fn() -> String,
) -> Result<(), PlanError> {
    names_without_nul(names.clone(), &place)?;
    let mut sorted: Vec<&String> = names.collect();
    sorted.sort();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    require(twice.is_none(), place, || {
        format!("the name `{}` is used twice", twice.map_or("", |pair| pair[0]))
    })
}

fn names_without_nul<'a>(
    mut names: impl Iterator<Item = &'a String>,
    place: impl Fn() -> String,
) -> Result<(), PlanError> {
    require(!names.any(|name| name.contains('\0')), place, || "a name contains NUL".into())
}
