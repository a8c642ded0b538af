//! Registers for virtual registers, by linear scan.
//!
//! A virtual register is live from its first value to its last use, and to the end of every loop that it is brought
//! into. Where registers run out, the one that is used least goes to the stack for all its life; a constant has its
//! place in the pool, and a scalar of the caller in the frame, so that they cost no store.

use super::region::{Class, Kind, Slot};
use super::trace::{Lanes, Step, Trace, Virtual};

/// Where a virtual register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// In a register of its file, by number.
    Register(u8),
    /// On the stack, by number of vectors.
    Stack(u32),
    /// In the pool of constants.
    Pool(Kind),
    /// In the frame.
    Frame(Slot),
}

/// Registers that may be given out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files {
    /// For vectors, from 0.
    pub(crate) vectors: u8,
    /// For masks, from 2; none if masks are vectors.
    pub(crate) masks: u8,
}

/// Homes, and room on the stack.
pub(crate) struct Allocation {
    /// The home of each virtual register.
    pub(crate) homes: Vec<Home>,
    /// Vectors on the stack.
    pub(crate) spilled: u32,
}

/// What is known of a virtual register.
#[derive(Debug, Clone)]
struct Life {
    start: usize,
    end: usize,
    /// Uses, each counted by the loops around it.
    weight: u64,
    /// What it is, if it need not be in a register.
    elsewhere: Option<Home>,
    /// A register whose own virtual register may die where this one begins.
    hint: Option<Virtual>,
}

/// Gives every virtual register a home.
pub(crate) fn allocate(trace: &Trace, files: Files) -> Allocation {
    let lives = lives(trace);
    let mut order: Vec<Virtual> = (0..lives.len()).filter(|&v| lives[v].end > 0).collect();
    order.sort_by_key(|&v| (lives[v].start, v));
    let mut homes = vec![Home::Stack(0); lives.len()];
    let mut spilled = 0;
    // Live virtual registers in registers, in the order of their beginning.
    let mut active: Vec<Virtual> = Vec::new();
    for at in order {
        active.retain(|&v| lives[v].end >= lives[at].start);
        let masks = trace.classes[at] == Class::Mask && files.masks > 0;
        let mine = |v: Virtual| (trace.classes[v] == Class::Mask && files.masks > 0) == masks;
        let (first, count) = if masks { (2, files.masks) } else { (0, files.vectors) };
        let taken: Vec<Home> = active.iter().filter(|&&v| mine(v)).map(|&v| homes[v]).collect();
        let free = |home: &Home| !taken.contains(home);
        let hinted = lives[at].hint.map(|v| homes[v]).filter(|home| {
            matches!(home, Home::Register(_)) && lives[at].hint.is_some_and(mine) && free(home)
        });
        let any = || (first..first + count).map(Home::Register).find(free);
        if let Some(home) = hinted.or_else(any) {
            homes[at] = home;
            active.push(at);
            continue;
        }
        let cost = |v: Virtual| (lives[v].elsewhere.is_none(), lives[v].weight, v);
        let candidates = active.iter().copied().filter(|&v| mine(v)).chain([at]);
        let victim = candidates.min_by_key(|&v| cost(v)).expect("the current one is a candidate");
        let register = homes[victim];
        homes[victim] = lives[victim].elsewhere.unwrap_or_else(|| {
            spilled += 1;
            Home::Stack(spilled - 1)
        });
        if victim != at {
            homes[at] = register;
            active.retain(|&v| v != victim);
            active.push(at);
        }
    }
    Allocation { homes, spilled }
}

/// Positions are even for what a step reads and odd for what it writes.
fn lives(trace: &Trace) -> Vec<Life> {
    let none = Life { start: usize::MAX, end: 0, weight: 0, elsewhere: None, hint: None };
    let mut lives = vec![none; trace.classes.len()];
    let ends = loop_ends(trace);
    // Loops around the current step: first and last position.
    let mut around: Vec<(usize, usize)> = Vec::new();
    for (at, step) in trace.steps.iter().enumerate() {
        let mut mention = |v: Virtual, position: usize| {
            let life: &mut Life = &mut lives[v];
            life.start = life.start.min(position);
            let brought = around.iter().find(|(begin, _)| *begin > life.start).map(|(_, end)| *end);
            life.end = life.end.max(position).max(brought.unwrap_or(0));
            life.weight = life.weight.saturating_add(10u64.pow(around.len().min(6) as u32));
        };
        match step {
            Step::Compute { to, kind, args, .. } => {
                // A gather needs its operands until it is through.
                let late = usize::from(matches!(kind, Kind::Gather(..)));
                args.iter().for_each(|&arg| mention(arg, 2 * at + late));
                mention(*to, 2 * at + 1);
                let life = &mut lives[*to];
                life.elsewhere = match kind {
                    Kind::Splat(_) | Kind::Count(_) => Some(Home::Pool(*kind)),
                    Kind::Uniform(slot) => Some(Home::Frame(*slot)),
                    _ => None,
                };
                life.hint = match kind {
                    Kind::Fma | Kind::Copy => args.first().copied(),
                    _ => None,
                };
            }
            Step::Store { value, lanes, .. } => {
                mention(*value, 2 * at);
                if let Lanes::Apart(_, index) = lanes {
                    mention(*index, 2 * at);
                }
            }
            Step::Enter(..) => around.push((2 * at, 2 * ends[at])),
            Step::Leave(..) => {
                around.pop();
            }
        }
    }
    lives
}

/// For each step that begins a loop, the one that ends it.
fn loop_ends(trace: &Trace) -> Vec<usize> {
    let mut ends = vec![0; trace.steps.len()];
    let mut open = Vec::new();
    for (at, step) in trace.steps.iter().enumerate() {
        match step {
            Step::Enter(..) => open.push(at),
            Step::Leave(..) => ends[open.pop().expect("bug: a loop ends that did not begin")] = at,
            _ => {}
        }
    }
    ends
}
