//! Gives every buffer a place in one arena.
//!
//! Buffers that live at the same time don't overlap; others share memory. Sizes may be symbolic: where all are
//! multiples of one expression (the batch, say), places are chosen as for numbers; otherwise buffers share slots as
//! large as the largest of them. Offsets are multiples of 64 bytes.

use std::collections::BTreeMap;

use ir::dim::Ranges;
use ir::program::{Arg, Entry, Program, Space};
use ir::{At, Dim};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, ProgramPass};

/// Offsets are multiples of so many bytes: a cache line, and the widest vector.
const ALIGN: i64 = 64;

/// See the [module](self).
pub struct PlanMemory;

impl ProgramPass for PlanMemory {
    fn about(&self) -> About {
        About::new("plan_memory", "give every buffer a place in the arena")
    }

    fn run(&self, program: &mut Program, _: &Cx) -> Result<Changed, At<PassError>> {
        for entry in &mut program.entries {
            plan(entry);
        }
        Ok(Changed(true))
    }
}

/// A buffer's first and last step.
#[derive(Debug, Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

impl Life {
    fn meets(self, other: Life) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

fn lives(entry: &Entry) -> BTreeMap<usize, Life> {
    let mut lives: BTreeMap<usize, Life> = BTreeMap::new();
    for (at, step) in entry.steps.iter().enumerate() {
        for arg in &step.args {
            if let Arg::Buffer(buffer) = arg
                && entry.buffers[*buffer].space == Space::Arena
            {
                lives.entry(*buffer).or_insert(Life { first: at, last: at }).last = at;
            }
        }
    }
    lives
}

/// The size of a buffer, rounded up to whole cache lines.
fn padded(bytes: &Dim) -> Dim {
    let align = Dim::constant(ALIGN);
    bytes.ceil_div(&align) * align
}

/// `(c, unit)` with `bytes ≤ c·unit` for all buffers, one unit for all, and `c` a multiple of 64; `None` if their
/// sizes are not multiples of one expression.
fn common_unit(sizes: &[Dim]) -> Option<(Dim, Vec<i64>)> {
    let mut unit = None;
    let mut factors = Vec::with_capacity(sizes.len());
    for size in sizes {
        let mut terms = size.terms();
        let (atoms, factor) = terms.next()?;
        if terms.next().is_some() || factor < 0 {
            return None;
        }
        if *unit.get_or_insert_with(|| atoms.to_vec()) != atoms {
            return None;
        }
        factors.push(factor.checked_add(ALIGN - 1)? / ALIGN * ALIGN);
    }
    let atoms = unit.unwrap_or_default();
    let size = sizes.first()?;
    let unit = match atoms.is_empty() {
        true => Dim::constant(1),
        false => size.exact_div(&Dim::constant(size.terms().next()?.1))?,
    };
    Some((unit, factors))
}

fn plan(entry: &mut Entry) {
    let lives = lives(entry);
    let order: Vec<usize> = lives.keys().copied().collect();
    let sizes: Vec<Dim> = order.iter().map(|&b| entry.buffers[b].ty.bytes()).collect();
    let arena = match common_unit(&sizes) {
        Some((unit, factors)) => {
            let spans: Vec<Life> = order.iter().map(|b| lives[b]).collect();
            let (offsets, total) = place(&spans, &factors);
            for (&buffer, offset) in order.iter().zip(offsets) {
                entry.buffers[buffer].offset = Some(Dim::constant(offset) * unit.clone());
            }
            Dim::constant(total) * unit
        }
        None => share_slots(entry, &lives),
    };
    let mut state = Dim::constant(0);
    for buffer in &mut entry.buffers {
        match buffer.space {
            Space::State => {
                buffer.offset = Some(state.clone());
                state = state + padded(&buffer.ty.bytes());
            }
            // Nobody uses it: it takes no room.
            Space::Arena => {
                buffer.offset.get_or_insert_with(|| Dim::constant(0));
            }
        }
    }
    entry.arena = Some(arena);
}

/// Offsets for spans of numeric sizes: the largest first, each at the lowest gap among those that it meets.
fn place(spans: &[Life], sizes: &[i64]) -> (Vec<i64>, i64) {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&i| (-sizes[i], spans[i].first, i));
    let mut offsets = vec![0; spans.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for at in order {
        let mut rivals: Vec<usize> = placed.iter().copied().filter(|&p| spans[p].meets(spans[at])).collect();
        rivals.sort_by_key(|&p| offsets[p]);
        let mut offset = 0;
        for rival in rivals {
            if offset + sizes[at] <= offsets[rival] {
                break;
            }
            offset = offset.max(offsets[rival] + sizes[rival]);
        }
        offsets[at] = offset;
        total = total.max(offset + sizes[at]);
        placed.push(at);
    }
    (offsets, total)
}

/// Slots for sizes that cannot be compared as numbers: each as large as the largest buffer that it holds.
fn share_slots(entry: &mut Entry, lives: &BTreeMap<usize, Life>) -> Dim {
    struct Slot {
        size: Dim,
        free_after: usize,
        buffers: Vec<usize>,
    }
    let ranges = Ranges::new();
    let mut slots: Vec<Slot> = Vec::new();
    let mut order: Vec<(usize, Life)> = lives.iter().map(|(&b, &life)| (b, life)).collect();
    order.sort_by_key(|(buffer, life)| (life.first, *buffer));
    for (buffer, life) in order {
        let size = padded(&entry.buffers[buffer].ty.bytes());
        let free: Vec<usize> = (0..slots.len()).filter(|&s| slots[s].free_after < life.first).collect();
        let at_least = |a: &Dim, b: &Dim| ranges.is_nonnegative(&(a.clone() - b.clone()));
        // One that is large enough, or else one that is known to be smaller, or else any.
        let chosen = free
            .iter()
            .copied()
            .find(|&s| at_least(&slots[s].size, &size))
            .or_else(|| free.iter().copied().find(|&s| at_least(&size, &slots[s].size)))
            .or_else(|| free.first().copied());
        match chosen {
            Some(s) => {
                let slot = &mut slots[s];
                slot.size = if at_least(&slot.size, &size) {
                    slot.size.clone()
                } else if at_least(&size, &slot.size) {
                    size
                } else {
                    Dim::larger(&slot.size, &size)
                };
                slot.free_after = life.last;
                slot.buffers.push(buffer);
            }
            None => slots.push(Slot { size, free_after: life.last, buffers: vec![buffer] }),
        }
    }
    let mut offset = Dim::constant(0);
    for slot in slots {
        for buffer in slot.buffers {
            entry.buffers[buffer].offset = Some(offset.clone());
        }
        offset = offset + slot.size;
    }
    offset
}

/// The largest sum of sizes of buffers that live at the same time, in bytes, for given values of the symbols: what
/// no plan can go below. `None` where a size has no value.
pub fn live_peak(entry: &Entry, lookup: &dyn Fn(&ir::Symbol) -> Option<i64>) -> Option<i64> {
    let lives = lives(entry);
    let mut peak = 0;
    for at in 0..entry.steps.len() {
        let mut live = 0;
        for (&buffer, life) in &lives {
            if life.first <= at && at <= life.last {
                live += entry.buffers[buffer].ty.bytes().eval(lookup)?;
            }
        }
        peak = peak.max(live);
    }
    Some(peak)
}
