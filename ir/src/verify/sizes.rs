//! Sizes of an entry: what decides them, and what is required of them.
//!
//! Steps are walked in the order in which they run. A branch decides only what both of its sides decide; a loop decides
//! nothing that its body alone decides, but its number of iterations.

use std::collections::BTreeSet;

use crate::dim::{Condition, Dim, Ranges, Symbol};
use crate::dtype::DType;
use crate::program::{Arg, Entry, Program, Space, Step};
use crate::verify::guard::nonnegative;
use crate::verify::program::ProgramViolation;

/// Every size is decided before it is used, and what kernels take for given is required before.
pub(super) fn sizes_are_decided(program: &Program, entry: &Entry, report: &mut Vec<ProgramViolation>) {
    let mut walk = Walk {
        program,
        entry,
        at: 0,
        decided: entry.symbols().into_iter().collect(),
        facts: Vec::new(),
        report,
    };
    walk.host();
    walk.steps(&entry.steps);
}

struct Walk<'a> {
    program: &'a Program,
    entry: &'a Entry,
    at: usize,
    decided: BTreeSet<Symbol>,
    /// What was required so far: these are not negative.
    facts: Vec<Dim>,
    report: &'a mut Vec<ProgramViolation>,
}

impl Walk<'_> {
    fn host(&mut self) {
        let step = self.at;
        for inner in &self.entry.host {
            if matches!(inner, Step::Reserve(_) | Step::Copy(_) | Step::If(_) | Step::Loop(_)) {
                let why = "only calls and what decides sizes can";
                self.report.push(ProgramViolation::Host { step, why });
            }
            let elsewhere = |arg: &Arg| match arg {
                Arg::Buffer(buffer) => {
                    !matches!(self.entry.buffers[*buffer].space, Space::Host | Space::State)
                }
                Arg::Output(_) => true,
                Arg::Input(_) | Arg::Weight(_) => false,
            };
            if inner.args().iter().any(elsewhere) {
                let why = "what it reads or writes has no memory yet";
                self.report.push(ProgramViolation::Host { step, why });
            }
        }
        self.steps(&self.entry.host);
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn uses(&mut self, dim: &Dim) {
        dim.for_each_symbol(&mut |symbol| {
            if !self.decided.contains(symbol) {
                let (step, symbol) = (self.at, symbol.to_string());
                self.report.push(ProgramViolation::Undecided { step, symbol });
            }
        });
    }

    fn decide(&mut self, symbol: &Symbol) {
        // What was known of an earlier value is not known of this one.
        self.facts.retain(|fact| !fact.mentions(symbol));
        self.decided.insert(symbol.clone());
    }

    fn reads(&mut self, arg: Arg, dtype: DType, expected: &'static str) {
        let ty = self.program.arg_type(self.entry, arg);
        if ty.dtype != dtype || !ty.elements().is(1) {
            let (step, found) = (self.at, ty.to_string());
            self.report.push(ProgramViolation::Value { step, expected, found });
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Call(call) => {
                call.sizes.iter().for_each(|size| self.uses(size));
                let Some(kernel) = self.program.kernels.get(call.kernel) else { return };
                let with = |symbol: &Symbol| {
                    kernel.sizes.iter().position(|s| s == symbol).and_then(|i| call.sizes.get(i).cloned())
                };
                for condition in kernel.given.iter().map(|condition| condition.substitute(&with)) {
                    if !self.holds(&condition) {
                        let (step, condition) = (self.at, condition.to_string());
                        let kernel = kernel.name.to_string();
                        self.report.push(ProgramViolation::NotGiven { step, kernel, condition });
                    }
                }
            }
            Step::Measure(measure) => {
                measure.bound.iter().for_each(|bound| self.uses(bound));
                self.reads(measure.source, DType::I64, "a size");
                self.decide(&measure.symbol);
                let below = measure.bound.iter().map(|bound| bound.clone() - Dim::from(&measure.symbol));
                self.facts.extend(below);
            }
            Step::Set(sizes) => {
                sizes.iter().for_each(|(_, size)| self.uses(size));
                sizes.iter().for_each(|(symbol, _)| self.decide(symbol));
            }
            Step::Require(require) => {
                require.condition.facts().iter().for_each(|fact| self.uses(fact));
                self.facts.extend(require.condition.facts());
            }
            Step::Reserve(arg) => {
                let ty = self.program.arg_type(self.entry, *arg);
                ty.shape.iter().for_each(|size| self.uses(size));
            }
            Step::Copy(copy) => copy.at.iter().for_each(|at| self.uses(at)),
            Step::If(branch) => {
                self.reads(branch.cond, DType::Bool, "a truth value");
                let (before, facts) = (self.decided.clone(), self.facts.clone());
                self.at += 1;
                self.steps(&branch.then);
                let then = std::mem::replace(&mut self.decided, before);
                self.facts.clone_from(&facts);
                self.steps(&branch.otherwise);
                self.decided = self.decided.intersection(&then).cloned().collect();
                self.facts = facts;
                self.forget(step);
                return;
            }
            Step::Loop(each) => {
                each.count.iter().for_each(|count| self.uses(count));
                each.cond.iter().for_each(|cond| self.reads(*cond, DType::Bool, "a truth value"));
                let before = self.decided.clone();
                // From the second iteration on, sizes have the values that the body gave them.
                self.forget(step);
                let facts = self.facts.clone();
                self.decide(&each.index);
                let below = each.count.iter().map(|n| n.clone() - Dim::from(&each.index) - Dim::constant(1));
                self.facts.extend(below);
                self.at += 1;
                self.steps(&each.body);
                self.decided = before;
                self.facts = facts;
                if let Some(trips) = &each.trips {
                    self.decide(trips);
                    let below = each.count.iter().map(|count| count.clone() - Dim::from(trips));
                    self.facts.extend(below);
                }
                return;
            }
        }
        self.at += 1;
    }

    /// Drops what is known of the sizes that `step` decides inside.
    fn forget(&mut self, step: &Step) {
        let mut inside = BTreeSet::new();
        step.blocks().into_iter().for_each(|block| {
            Step::walk(block, &mut |step| inside.extend(step.decides().into_iter().cloned()));
        });
        self.facts.retain(|fact| !inside.iter().any(|symbol| fact.mentions(symbol)));
    }

    fn holds(&self, condition: &Condition) -> bool {
        let ranges = Ranges::new();
        condition.facts().iter().all(|fact| nonnegative(&ranges, &self.facts, fact, 2))
    }
}
