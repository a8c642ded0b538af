//! What an entry does, step by step: calls of kernels, and the control flow and the sizes around them.
//!
//! A symbol that a step decides has a value from there on, and may get another one later: a loop changes the size of
//! what it carries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Arg;
use crate::dim::{Condition, Dim, Symbol};
use crate::origin::Origin;

/// One thing that an entry does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A kernel runs.
    Call(Call),
    /// A size is read from memory.
    Measure(Measure),
    /// Sizes become those of expressions, which are evaluated first.
    Set(Vec<(Symbol, Dim)>),
    /// A condition on sizes is checked.
    Require(Require),
    /// A growing buffer, or an output of a size that steps decide, gets its memory; what it held is lost.
    Reserve(Arg),
    /// Elements move as they are.
    Copy(Copy),
    /// One of two lists of steps runs.
    If(Branch),
    /// Steps run repeatedly.
    Loop(Loop),
}

/// One launch of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which kernel.
    pub kernel: usize,
    /// What it gets for each of its parameters. Sizes of a parameter and of what is passed agree in bytes; the
    /// shapes may differ (a reshape is a view).
    pub args: Vec<Arg>,
    /// What it gets for each of its sizes.
    pub sizes: Vec<Dim>,
    /// The nodes of the model that it computes.
    pub origin: Origin,
}

/// `symbol` becomes the `i64` in `source`, which must not be negative.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// What gets the value.
    pub symbol: Symbol,
    /// An `i64` without axes.
    pub source: Arg,
    /// It is at most this.
    pub bound: Option<Dim>,
    /// The nodes of the model that need it.
    pub origin: Origin,
}

/// A condition that must hold; the run fails else.
#[derive(Debug, Clone, PartialEq)]
pub struct Require {
    /// The condition.
    pub condition: Condition,
    /// What it means: `a slice stays inside its operand`.
    pub what: Arc<str>,
    /// The nodes of the model that need it.
    pub origin: Origin,
}

/// All bytes of `from` go to `to`: to its start, or behind `at` times as many bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// The source.
    pub from: Arg,
    /// The destination; one that grows makes room.
    pub to: Arg,
    /// The position in a stack of equal elements.
    pub at: Option<Dim>,
    /// The nodes of the model that it belongs to.
    pub origin: Origin,
}

/// `then` runs if the truth value in `cond` holds, else `otherwise`.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// A truth value without axes.
    pub cond: Arg,
    /// What runs if it holds.
    pub then: Vec<Step>,
    /// What runs if it does not.
    pub otherwise: Vec<Step>,
    /// The node of the model.
    pub origin: Origin,
}

/// `body` runs for `index` = 0, 1, … below `count`, as long as the truth value in `cond` holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// The number of the iteration.
    pub index: Symbol,
    /// Evaluated once, before the first iteration; `None` for no limit.
    pub count: Option<Dim>,
    /// A truth value without axes, read before each iteration.
    pub cond: Option<Arg>,
    /// Becomes the number of iterations that ran.
    pub trips: Option<Symbol>,
    /// What runs.
    pub body: Vec<Step>,
    /// The node of the model.
    pub origin: Origin,
}

impl Step {
    /// The lists of steps directly inside.
    pub fn blocks(&self) -> Vec<&[Step]> {
        match self {
            Step::If(branch) => vec![&branch.then, &branch.otherwise],
            Step::Loop(each) => vec![&each.body],
            _ => vec![],
        }
    }

    /// The same, to change.
    pub fn blocks_mut(&mut self) -> Vec<&mut Vec<Step>> {
        match self {
            Step::If(branch) => vec![&mut branch.then, &mut branch.otherwise],
            Step::Loop(each) => vec![&mut each.body],
            _ => vec![],
        }
    }

    /// Calls `visit` with every step and those inside, in the order of the text.
    pub fn walk<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Step)) {
        for step in steps {
            visit(step);
            step.blocks().into_iter().for_each(|block| Step::walk(block, visit));
        }
    }

    /// Changes what these steps, and those inside, read and write.
    pub fn walk_args_mut(steps: &mut [Step], change: &mut dyn FnMut(&mut Arg)) {
        for step in steps {
            step.args_mut().into_iter().for_each(&mut *change);
            step.blocks_mut().into_iter().for_each(|block| Step::walk_args_mut(block, change));
        }
    }

    /// Every size in these steps replaced through `with`, but for those that they decide themselves.
    pub fn substitute(steps: &mut [Step], with: &dyn Fn(&Symbol) -> Option<Dim>) {
        let each = |dim: &mut Dim| *dim = dim.substitute(with);
        for step in steps {
            match step {
                Step::Call(call) => call.sizes.iter_mut().for_each(each),
                Step::Measure(measure) => measure.bound.iter_mut().for_each(each),
                Step::Set(sizes) => sizes.iter_mut().for_each(|(_, size)| each(size)),
                Step::Require(require) => require.condition = require.condition.substitute(with),
                Step::Copy(copy) => copy.at.iter_mut().for_each(each),
                Step::Loop(repeated) => repeated.count.iter_mut().for_each(each),
                Step::Reserve(_) | Step::If(_) => {}
            }
            step.blocks_mut().into_iter().for_each(|block| Step::substitute(block, with));
        }
    }

    /// The symbols that this step itself gives values.
    pub fn decides(&self) -> Vec<&Symbol> {
        match self {
            Step::Measure(measure) => vec![&measure.symbol],
            Step::Set(sizes) => sizes.iter().map(|(symbol, _)| symbol).collect(),
            Step::Loop(each) => std::iter::once(&each.index).chain(&each.trips).collect(),
            _ => vec![],
        }
    }

    /// What this step itself reads or writes.
    pub fn args(&self) -> Vec<Arg> {
        match self {
            Step::Call(call) => call.args.clone(),
            Step::Measure(measure) => vec![measure.source],
            Step::Reserve(arg) => vec![*arg],
            Step::Copy(copy) => vec![copy.from, copy.to],
            Step::If(branch) => vec![branch.cond],
            Step::Loop(each) => each.cond.into_iter().collect(),
            Step::Set(_) | Step::Require(_) => vec![],
        }
    }

    /// The same, to change.
    pub fn args_mut(&mut self) -> Vec<&mut Arg> {
        match self {
            Step::Call(call) => call.args.iter_mut().collect(),
            Step::Measure(measure) => vec![&mut measure.source],
            Step::Reserve(arg) => vec![arg],
            Step::Copy(copy) => vec![&mut copy.from, &mut copy.to],
            Step::If(branch) => vec![&mut branch.cond],
            Step::Loop(each) => each.cond.iter_mut().collect(),
            Step::Set(_) | Step::Require(_) => vec![],
        }
    }
}

/// Calls `visit` with every call in these steps, in the order of the text.
pub fn for_each_call<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Call)) {
    Step::walk(steps, &mut |step| {
        if let Step::Call(call) = step {
            visit(call);
        }
    });
}

/// Changes every call in these steps.
pub fn for_each_call_mut(steps: &mut [Step], change: &mut dyn FnMut(&mut Call)) {
    for step in steps {
        if let Step::Call(call) = step {
            change(call);
        }
        step.blocks_mut().into_iter().for_each(|block| for_each_call_mut(block, change));
    }
}

/// The first and the last step that needs a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Life {
    /// Is there a step that needs both?
    pub fn meets(self, other: Life) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// When each buffer is needed, by the numbers of the steps in the order of the text, one list after the other. What is
/// used in a loop and outside of it is needed in the whole loop.
pub(super) fn lives(lists: [&[Step]; 2]) -> BTreeMap<usize, Life> {
    let mut walk = Lives::default();
    for steps in lists {
        walk.steps(steps);
    }
    for (span, buffers) in walk.loops {
        for buffer in buffers {
            let life = walk.lives.get_mut(&buffer).expect("every use was noted");
            if life.first <= span.first || life.last > span.last {
                life.first = life.first.min(span.first);
                life.last = life.last.max(span.last);
            }
        }
    }
    walk.lives
}

#[derive(Default)]
struct Lives {
    next: usize,
    lives: BTreeMap<usize, Life>,
    /// Every loop with the buffers that its body uses.
    loops: Vec<(Life, BTreeSet<usize>)>,
}

impl Lives {
    /// The buffers that these steps use.
    fn steps(&mut self, steps: &[Step]) -> BTreeSet<usize> {
        let mut used = BTreeSet::new();
        for step in steps {
            let at = self.next;
            self.next += 1;
            let mut own: BTreeSet<usize> = step
                .args()
                .into_iter()
                .filter_map(|arg| if let Arg::Buffer(buffer) = arg { Some(buffer) } else { None })
                .collect();
            own.iter().for_each(|buffer| self.note(*buffer, at));
            for block in step.blocks() {
                own.extend(self.steps(block));
            }
            if let Step::Loop(_) = step {
                self.loops.push((Life { first: at, last: self.next - 1 }, own.clone()));
            }
            used.extend(own);
        }
        used
    }

    fn note(&mut self, buffer: usize, at: usize) {
        let life = self.lives.entry(buffer).or_insert(Life { first: at, last: at });
        life.last = life.last.max(at);
    }
}
