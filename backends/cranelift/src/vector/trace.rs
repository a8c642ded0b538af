//! A region as one list of steps over virtual registers.
//!
//! The body of a vector loop appears twice: for several vectors at once, with their instructions side by side, and
//! for one vector of which some lanes may not exist. An outermost loop whose iterations are free, and that folds,
//! runs several iterations at once: their folds have accumulators of their own, so that none waits for another.

use std::ops::Range;

use ir::kernel::stmt::FOLD_LANES;

use super::region::{Advance, Class, Id, Item, Kind, Loop, Number, Place, Region};

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
        /// How its lanes lie there.
        lanes: Lanes,
        /// Which of the vectors of an iteration.
        part: usize,
    },
    /// A loop begins.
    Enter(usize, Mode),
    /// A loop ends.
    Leave(usize, Mode),
}

/// How lanes lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lanes {
    /// Side by side.
    Beside,
    /// So many elements apart, and the distances of the lanes.
    Apart(i32, Virtual),
    /// There is one.
    One,
}

/// How a loop is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One iteration after the other.
    Serial,
    /// So many iterations in one.
    Several(usize),
    /// One iteration after the other, of those that are left after so many in one.
    Left(usize),
    /// So many whole vectors in one iteration.
    Whole(usize),
    /// One vector, of which some lanes may not exist.
    Rest {
        /// Does it begin at the first iteration, with no whole vectors before?
        first: bool,
        /// Is there another one if lanes are left?
        again: bool,
    },
}

/// The steps of a region.
pub(crate) struct Trace {
    /// The steps.
    pub(crate) steps: Vec<Step>,
    /// Where each virtual register lives.
    pub(crate) classes: Vec<Class>,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Lanes of a vector.
    pub(crate) lanes: usize,
    /// Vectors in one iteration of a loop over lanes.
    pub(crate) parts: usize,
    /// Iterations of an outermost loop that is free.
    pub(crate) rows: usize,
}

/// The steps of a region.
pub(crate) fn trace(region: &Region, shape: Shape) -> Trace {
    let names = vec![Vec::new(); region.values.len()];
    let trace = Trace { steps: Vec::new(), classes: Vec::new() };
    let further = vec![0; region.slots];
    let mut tracer = Tracer { region, shape, rest: false, names, rows: 0..1, further, trace };
    tracer.block(&region.body, 1);
    tracer.trace
}

struct Tracer<'a> {
    region: &'a Region,
    shape: Shape,
    /// May lanes not exist at this place?
    rest: bool,
    /// The virtual registers of each value: those of each row, or of all; one for each part, or one.
    names: Vec<Vec<Vec<Virtual>>>,
    /// The iterations of the outermost loop that run at once here.
    rows: Range<usize>,
    /// How much larger each slot is in the next row.
    further: Vec<i32>,
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
                    let of_row = |row| (0..parts).map(|part| self.name(arg, row, part)).collect();
                    self.names[*id] = self.rows.clone().map(of_row).collect();
                }
                Item::Compute(id) => {
                    self.declare(*id, parts);
                    self.compute(*id, *id);
                }
                Item::Declare(cell) => self.declare(*cell, parts),
                Item::Set(cell, value) => self.set(*cell, *value),
                Item::Into(cell, value) => self.compute(*cell, *value),
                Item::Store(place, value) => self.store(*place, *value, None, parts),
                Item::Scatter(place, stride, [index, value]) => {
                    self.store(*place, *value, Some((*stride, *index)), parts);
                }
                Item::StoreOne(place, value) => {
                    for row in self.rows.clone() {
                        let (place, value) = (self.moved(*place, row), self.name(*value, row, 0));
                        self.trace.steps.push(Step::Store { place, value, lanes: Lanes::One, part: 0 });
                    }
                }
                Item::Loop(at) => self.run(*at, parts),
                Item::Fold { at, acc, first, halves } => self.fold(*at, *acc, *first, *halves),
            }
        }
    }

    fn run(&mut self, at: usize, parts: usize) {
        let inner: &Loop = &self.region.loops[at];
        if inner.counter.is_some() && self.several(at) {
            return;
        }
        // Rows that run at once take turns.
        for row in self.rows.clone() {
            let rows = std::mem::replace(&mut self.rows, row..row + 1);
            if inner.counter.is_some() {
                self.mode(at, Mode::Serial, parts);
            } else {
                self.lanes(at);
            }
            self.rows = rows;
        }
    }

    fn lanes(&mut self, at: usize) {
        let Shape { lanes, parts, .. } = self.shape;
        let count = self.known(at);
        let parts = count.map_or(parts, |count| parts.min(count / lanes));
        if parts > 0 {
            self.mode(at, Mode::Whole(parts), parts);
        }
        if count.is_none_or(|count| parts == 0 || count % (parts * lanes) > 0) {
            self.mode(at, Mode::Rest { first: parts == 0, again: true }, 1);
        }
    }

    /// Several iterations in one, if that is of use: all that differs between them are addresses.
    fn several(&mut self, at: usize) -> bool {
        let inner: &Loop = &self.region.loops[at];
        let rows = self.shape.rows;
        let folds = inner.body.iter().any(|item| matches!(item, Item::Fold { .. }));
        if rows == 1 || !inner.free || !folds || self.rows != (0..1) {
            return false;
        }
        let mut further = vec![0; self.region.slots];
        for advance in &inner.advances {
            match *advance {
                Advance { slot, step: Number::Const(step), rewind: None } if step.abs() < 1 << 24 => {
                    further[slot] = step as i32;
                }
                _ => return false,
            }
        }
        let counts = |kind: &Kind| matches!(kind, Kind::First { slot, .. } if further[*slot] != 0);
        if self.region.values.iter().any(|value| counts(&value.kind)) {
            return false;
        }
        (self.rows, self.further) = (0..rows, further);
        self.mode(at, Mode::Several(rows), 1);
        (self.rows, self.further) = (0..1, vec![0; self.region.slots]);
        self.mode(at, Mode::Left(rows), 1);
        true
    }

    fn fold(&mut self, at: usize, acc: Id, first: Id, halves: [Id; 2]) {
        let lanes = self.shape.lanes;
        let parts = FOLD_LANES / lanes;
        self.declare(acc, parts);
        self.set(acc, first);
        let count = self.known(at);
        let rows = self.rows.clone();
        let whole = count.is_none_or(|count| count >= FOLD_LANES);
        if whole {
            self.trace.steps.push(Step::Enter(at, Mode::Whole(parts)));
            self.each_row(at, parts);
            self.trace.steps.push(Step::Leave(at, Mode::Whole(parts)));
        }
        for part in 0..parts {
            if count.is_some_and(|count| count % FOLD_LANES <= part * lanes) {
                break;
            }
            let mode = Mode::Rest { first: !whole && part == 0, again: false };
            self.trace.steps.push(Step::Enter(at, mode));
            let all = self.names[acc].clone();
            // The body changes a copy, of which the lanes that exist are kept.
            self.declare(acc, 1);
            for row in rows.clone() {
                let (from, to) = (all[row - rows.start][part], self.name(acc, row, 0));
                self.trace.steps.push(Step::Compute { to, kind: Kind::Copy, args: vec![from], part: 0 });
            }
            self.rest = true;
            self.each_row(at, 1);
            self.rest = false;
            for row in rows.clone() {
                let to = all[row - rows.start][part];
                let args = vec![self.name(acc, row, 0), to];
                self.trace.steps.push(Step::Compute { to, kind: Kind::Keep, args, part: 0 });
            }
            self.names[acc] = all;
            self.trace.steps.push(Step::Leave(at, mode));
        }
        halves.iter().for_each(|half| self.declare(*half, 1));
        for row in rows {
            for (half, id) in halves.into_iter().enumerate() {
                let kind = if half > 0 && parts == 1 { Kind::Down(8) } else { Kind::Copy };
                let args = vec![self.name(acc, row, half.min(parts - 1))];
                let to = self.name(id, row, 0);
                self.trace.steps.push(Step::Compute { to, kind, args, part: 0 });
            }
        }
    }

    /// The body of a loop for one row after the other.
    fn each_row(&mut self, at: usize, parts: usize) {
        let region = self.region;
        let rows = self.rows.clone();
        for row in rows.clone() {
            self.rows = row..row + 1;
            self.block(&region.loops[at].body, parts);
        }
        self.rows = rows;
    }

    /// How often a loop runs, if that is known.
    fn known(&self, at: usize) -> Option<usize> {
        match self.region.loops[at].count {
            Number::Const(count) => Some(count as usize),
            Number::Slot(_) => None,
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
        let count = if value.varying { parts } else { 1 };
        let of_rows = self.rows.clone().map(|_| {
            let first = self.trace.classes.len();
            self.trace.classes.resize(first + count, value.class);
            (first..first + count).collect()
        });
        self.names[id] = of_rows.collect();
    }

    fn set(&mut self, cell: Id, value: Id) {
        for row in self.rows.clone() {
            for (part, to) in self.all(cell, row).into_iter().enumerate() {
                let args = vec![self.name(value, row, part)];
                self.trace.steps.push(Step::Compute { to, kind: Kind::Copy, args, part });
            }
        }
    }

    fn compute(&mut self, to: Id, id: Id) {
        let value = &self.region.values[id];
        for row in self.rows.clone() {
            for (part, to) in self.all(to, row).into_iter().enumerate() {
                let args = value.args.iter().map(|arg| self.name(*arg, row, part)).collect();
                let kind = match value.kind {
                    Kind::Load(place) => Kind::Load(self.moved(place, row)),
                    Kind::Spread(place) => Kind::Spread(self.moved(place, row)),
                    Kind::Gather(place, stride) => Kind::Gather(self.moved(place, row), stride),
                    kind => kind,
                };
                self.trace.steps.push(Step::Compute { to, kind, args, part });
            }
        }
    }

    fn store(&mut self, place: Place, value: Id, apart: Option<(i32, Id)>, parts: usize) {
        for row in self.rows.clone() {
            let place = self.moved(place, row);
            for part in 0..parts {
                let lanes = match apart {
                    Some((stride, index)) => Lanes::Apart(stride, self.name(index, row, part)),
                    None => Lanes::Beside,
                };
                let value = self.name(value, row, part);
                self.trace.steps.push(Step::Store { place, value, lanes, part });
            }
        }
    }

    /// The place in this row.
    fn moved(&self, place: Place, row: usize) -> Place {
        Place { distance: place.distance + row as i32 * self.further[place.slot], ..place }
    }

    /// The virtual registers of a value in a row.
    fn all(&self, id: Id, row: usize) -> Vec<Virtual> {
        let names = &self.names[id];
        names[if names.len() > 1 { row } else { 0 }].clone()
    }

    fn name(&self, id: Id, row: usize, part: usize) -> Virtual {
        let names = &self.names[id];
        let names = &names[if names.len() > 1 { row } else { 0 }];
        if self.region.values[id].varying { names[part] } else { names[0] }
    }
}
