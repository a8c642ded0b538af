//! Fuses kernels in the stage form.
//!
//! Kernels that follow each other are first laid open as one list of stages (`flat`). Then
//! - an array that is another one in a different shape becomes a view of it, and moves no data (`views`);
//! - an array computed element by element is put into the expressions that load it, where that repeats no work
//!   (`inline`);
//! - what is left is grouped: stages that run over a common iteration space and hand elements to each other
//!   become one kernel, a matrix product or convolution with what follows it, a row reduction with the elements
//!   that it normalises (`group`), both where rows are narrow, and a router with what leads to its scores, from a
//!   projection on (`rows`);
//! - groups become kernels again, in canonical names, so that equal ones are equal (`emit`).
//!
//! A kernel in the loop form stays as it is, and what it reads and writes stays in memory.
//!
//! All of it keeps every bit: expressions are moved, never regrouped.

mod emit;
mod flat;
mod group;
mod inline;
mod rows;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use ir::kernel::Kernel;
use ir::program::{Arg, Call, Entry, Program, Space, Step};
use ir::{At, Symbol};

use crate::error::PassError;
use crate::lower::Names;
use crate::pass::{About, Changed, Cx, ProgramPass};
use crate::target::Target;

/// See the [module](self).
pub struct Fuse;

impl ProgramPass for Fuse {
    fn about(&self) -> About {
        About::new("fuse", "put what hands over elements into one kernel")
    }

    fn run(&self, program: &mut Program, cx: &Cx) -> Result<Changed, At<PassError>> {
        let before = program.clone();
        let entries = std::mem::take(&mut program.entries);
        let mut fusion = Fusion { program, target: cx.target, kernels: Vec::new(), names: Names::default() };
        let entries = entries.into_iter().map(|entry| fusion.entry(entry)).collect();
        let kernels = fusion.kernels;
        program.kernels = kernels;
        program.entries = entries;
        crate::lower::drop_unused_weights(program);
        Ok(Changed(*program != before))
    }
}

/// Kernels that follow each other in one list of steps become fewer. What stands between them keeps its place.
struct Fusion<'a> {
    program: &'a Program,
    target: Target,
    kernels: Vec<Kernel>,
    names: Names,
}

impl Fusion<'_> {
    fn entry(&mut self, mut entry: Entry) -> Entry {
        let mut uses: BTreeMap<Arg, usize> = BTreeMap::new();
        for list in [&entry.host, &entry.steps] {
            Step::walk(list, &mut |step| {
                step.args().into_iter().for_each(|arg| *uses.entry(arg).or_insert(0) += 1)
            });
        }
        let symbols: BTreeSet<Symbol> = entry.all_symbols().into_iter().collect();
        let (host, steps) = (std::mem::take(&mut entry.host), std::mem::take(&mut entry.steps));
        entry.host = self.list(host, Space::Host, &mut entry, &uses, &symbols);
        entry.steps = self.list(steps, Space::Arena, &mut entry, &uses, &symbols);
        drop_unused_buffers(&mut entry);
        Entry { arena: None, ..entry }
    }

    fn list(
        &mut self,
        steps: Vec<Step>,
        space: Space,
        entry: &mut Entry,
        uses: &BTreeMap<Arg, usize>,
        symbols: &BTreeSet<Symbol>,
    ) -> Vec<Step> {
        let (mut all, mut run) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Call(call) => run.push(call),
                mut step => {
                    all.extend(self.fuse(std::mem::take(&mut run), space, entry, uses, symbols));
                    for block in step.blocks_mut() {
                        *block = self.list(std::mem::take(block), space, entry, uses, symbols);
                    }
                    all.push(step);
                }
            }
        }
        all.extend(self.fuse(run, space, entry, uses, symbols));
        all
    }

    /// Calls that follow each other.
    fn fuse(
        &mut self,
        calls: Vec<Call>,
        space: Space,
        entry: &mut Entry,
        uses: &BTreeMap<Arg, usize>,
        symbols: &BTreeSet<Symbol>,
    ) -> Vec<Step> {
        let mut here: BTreeMap<Arg, usize> = BTreeMap::new();
        calls.iter().flat_map(|call| &call.args).for_each(|arg| *here.entry(*arg).or_insert(0) += 1);
        let kept: BTreeSet<Arg> = here
            .into_iter()
            .filter(|(arg, count)| matches!(arg, Arg::Output(_)) || uses[arg] > *count)
            .map(|(arg, _)| arg)
            .collect();
        let mut flat = flat::Flat::open(self.program, entry, &calls, &kept);
        flat.resolve_views();
        flat.follow_products();
        inline::inline(&mut flat, self.target);
        let groups = group::group(&mut flat);
        let mut made = emit::Emit {
            symbols,
            space,
            buffers: &mut entry.buffers,
            kernels: &mut self.kernels,
            names: &mut self.names,
        };
        made.calls(&flat, &groups)
    }
}

/// Removes the buffers that no step uses, and numbers the rest.
fn drop_unused_buffers(entry: &mut Entry) {
    let mut used = BTreeSet::new();
    for list in [&entry.host, &entry.steps] {
        Step::walk(list, &mut |step| {
            used.extend(
                step.args().iter().filter_map(|arg| if let Arg::Buffer(i) = arg { Some(*i) } else { None }),
            );
        });
    }
    let place: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, &old)| (old, new)).collect();
    let old = std::mem::take(&mut entry.buffers);
    for (at, mut buffer) in old.into_iter().enumerate().filter(|(at, _)| used.contains(at)) {
        buffer.name = Symbol::new(format!("b{}", place[&at]));
        entry.buffers.push(buffer);
    }
    let mut renumber = |arg: &mut Arg| {
        if let Arg::Buffer(i) = arg {
            *i = place[i];
        }
    };
    Step::walk_args_mut(&mut entry.host, &mut renumber);
    Step::walk_args_mut(&mut entry.steps, &mut renumber);
}
