//! A region as one list of steps over virtual registers.
//!
//! The body of a vector loop appears twice: for several vectors at once, with their instructions side by side, and
//! for one vector of which some lanes may not exist.

use super::region::{Class, Id, Item, Kind, Loop, Number, Place, Region};

/// A virtual register, by its place in [`Trace::classes`].
pub(crate) type Virtual = usize;

/// One step.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Computes a value.
    Compute {
        /// Where it goes.
        to: Virtual,
        /// How it comes about.
        kind: Kind,
        /// Its operands.
        args: Vec<Virtual>,
        /// Which of the vectors of an iteration.
        part: usize,
    },
    /// Writes lanes.
    Store {
        /// Where to.
        place: Place,
        /// What.
        value: Virtual,
        /// How many elements apart, and the distances of the lanes, if they are not side by side.
        apart: Option<(i32, Virtual)>,
        /// Which of the vectors of an iteration.
        part: usize,
    },
    /// A loop begins.
    Enter(usize, Mode),
    /// A loop ends.
    Leave(usize, Mode),
}

/// How a loop is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One iteration after the other.
    Serial,
    /// So many whole vectors in one iteration.
    Whole(usize),
    /// One vector, of which some lanes may not exist.
    Rest {
        /// Does it begin at the first iteration, with no whole vectors before?
        first: bool,
    },
}

/// The steps of a region.
pub(crate) struct Trace {
    /// The steps.
    pub(crate) steps: Vec<Step>,
    /// Where each virtual register lives.
    pub(crate) classes: Vec<Class>,
}

/// The steps of a region, with so many vectors of so many lanes in one iteration.
pub(crate) fn trace(region: &Region, parts: usize, lanes: usize) -> Trace {
    let names = vec![Vec::new(); region.values.len()];
    let trace = Trace { steps: Vec::new(), classes: Vec::new() };
    let mut tracer = Tracer { region, parts, lanes, rest: false, names, trace };
    tracer.block(&region.body, 1);
    tracer.trace
}

struct Tracer<'a> {
    region: &'a Region,
    parts: usize,
    lanes: usize,
    /// May lanes not exist at this place?
    rest: bool,
    /// The virtual registers of each value: one for each part, or one.
    names: Vec<Vec<Virtual>>,
    trace: Trace,
}

impl Tracer<'_> {
    fn block(&mut self, items: &[Item], parts: usize) {
        for item in items {
            match item {
                // All lanes exist: the mask is its operand.
                Item::Compute(id) if self.region.values[*id].kind == Kind::Existing && !self.rest => {
                    let arg = self.region.values[*id].args[0];
                    let parts = if self.region.values[*id].varying { parts } else { 1 };
                    self.names[*id] = (0..parts).map(|part| self.name(arg, part)).collect();
                }
                Item::Compute(id) => {
                    self.declare(*id, parts);
                    self.compute(*id, *id);
                }
                Item::Declare(cell) => self.declare(*cell, parts),
                Item::Set(cell, value) => {
                    for part in 0..self.names[*cell].len() {
                        let args = vec![self.name(*value, part)];
                        let to = self.names[*cell][part];
                        self.trace.steps.push(Step::Compute { to, kind: Kind::Copy, args, part });
                    }
                }
                Item::Into(cell, value) => self.compute(*cell, *value),
                Item::Store(place, value) => {
                    for part in 0..parts {
                        let value = self.name(*value, part);
                        self.trace.steps.push(Step::Store { place: *place, value, apart: None, part });
                    }
                }
                Item::Scatter(place, stride, [index, value]) => {
                    for part in 0..parts {
                        let apart = Some((*stride, self.name(*index, part)));
                        let value = self.name(*value, part);
                        self.trace.steps.push(Step::Store { place: *place, value, apart, part });
                    }
                }
                Item::Loop(at) => self.run(*at, parts),
            }
        }
    }

    fn run(&mut self, at: usize, parts: usize) {
        let inner: &Loop = &self.region.loops[at];
        if inner.counter.is_some() {
            return self.mode(at, Mode::Serial, parts);
        }
        let count = match inner.count {
            Number::Const(count) => Some(count as usize),
            Number::Slot(_) => None,
        };
        let parts = count.map_or(self.parts, |count| self.parts.min(count / self.lanes));
        if parts > 0 {
            self.mode(at, Mode::Whole(parts), parts);
        }
        if count.is_none_or(|count| parts == 0 || count % (parts * self.lanes) > 0) {
            self.mode(at, Mode::Rest { first: parts == 0 }, 1);
        }
    }

    fn mode(&mut self, at: usize, mode: Mode, parts: usize) {
        let region = self.region;
        self.trace.steps.push(Step::Enter(at, mode));
        let rest = self.rest;
        self.rest |= matches!(mode, Mode::Rest { .. });
        self.block(&region.loops[at].body, parts);
        self.rest = rest;
        self.trace.steps.push(Step::Leave(at, mode));
    }

    fn declare(&mut self, id: Id, parts: usize) {
        let value = &self.region.values[id];
        let first = self.trace.classes.len();
        let count = if value.varying { parts } else { 1 };
        self.trace.classes.resize(first + count, value.class);
        self.names[id] = (first..first + count).collect();
    }

    fn compute(&mut self, to: Id, id: Id) {
        let value = &self.region.values[id];
        for part in 0..self.names[to].len() {
            let args = value.args.iter().map(|arg| self.name(*arg, part)).collect();
            let to = self.names[to][part];
            self.trace.steps.push(Step::Compute { to, kind: value.kind, args, part });
        }
    }

    fn name(&self, id: Id, part: usize) -> Virtual {
        let names = &self.names[id];
        if self.region.values[id].varying { names[part] } else { names[0] }
    }
}
