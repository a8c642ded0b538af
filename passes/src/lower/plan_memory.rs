//! Gives every buffer a place in one arena.
//!
//! Buffers that live at the same time don't overlap; others share memory. Sizes may be symbolic: where all are
//! multiples of one expression (the batch, say), places are chosen as for numbers; otherwise buffers share slots as
//! large as the largest of them. Offsets are multiples of 64 bytes.

mod reserve;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::dim::Ranges;
use ir::kernel::Kernel;
use ir::program::{Buffer, Entry, Life, Program, Space, Step};
use ir::{At, Dim, Symbol};

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
            plan(entry, &program.kernels);
        }
        Ok(Changed(true))
    }
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

fn plan(entry: &mut Entry, kernels: &[Kernel]) {
    let lives = entry.lives();
    let late = Late::of(entry);
    let mut growing = Vec::new();
    let mut arena_buffers = BTreeMap::new();
    for (&buffer, &life) in &lives {
        let Buffer { ty, space, .. } = &entry.buffers[buffer];
        if *space != Space::Arena {
            continue;
        }
        match late.bound(&ty.bytes()) {
            Some(bytes) => {
                arena_buffers.insert(buffer, (life, bytes));
            }
            None => growing.push((buffer, life)),
        }
    }
    let order: Vec<usize> = arena_buffers.keys().copied().collect();
    let sizes: Vec<Dim> = arena_buffers.values().map(|(_, bytes)| bytes.clone()).collect();
    let arena = match common_unit(&sizes) {
        Some((unit, factors)) => {
            let spans: Vec<Life> = arena_buffers.values().map(|(life, _)| *life).collect();
            let (offsets, total) = place(&spans, &factors);
            for (&buffer, offset) in order.iter().zip(offsets) {
                entry.buffers[buffer].offset = Some(Dim::constant(offset) * unit.clone());
            }
            Dim::constant(total) * unit
        }
        None => share_slots(entry, &arena_buffers),
    };
    share_growing(entry, growing);
    let (mut state, mut host) = (Dim::constant(0), Dim::constant(0));
    for buffer in &mut entry.buffers {
        let end = match buffer.space {
            Space::State => &mut state,
            Space::Host => &mut host,
            // Nobody uses it: it takes no room.
            Space::Arena => {
                buffer.offset.get_or_insert_with(|| Dim::constant(0));
                continue;
            }
            Space::Growing(_) => continue,
        };
        buffer.offset = Some(end.clone());
        *end = end.clone() + padded(&buffer.ty.bytes());
    }
    entry.arena = Some(arena);
    reserve::reserve(entry, kernels);
}

/// The room that each buffer needs, in sizes that are known before the steps run; that of one that grows in all sizes.
pub fn room(entry: &Entry) -> Vec<Dim> {
    let late = Late::of(entry);
    let bytes = entry.buffers.iter().map(|buffer| buffer.ty.bytes());
    bytes.map(|bytes| late.bound(&bytes).unwrap_or(bytes)).collect()
}

/// Bytes of the memory for the steps that run before the arena is laid out.
pub fn host_bytes(entry: &Entry) -> Dim {
    let own = entry.buffers.iter().filter(|buffer| buffer.space == Space::Host);
    own.map(|buffer| padded(&buffer.ty.bytes())).sum()
}

/// Sizes that are decided while the steps run, after the arena was laid out.
struct Late {
    symbols: BTreeSet<Symbol>,
    /// What some of them do not exceed, in sizes that are known before.
    bounds: BTreeMap<Symbol, Dim>,
}

impl Late {
    fn of(entry: &Entry) -> Late {
        let mut late = Late { symbols: BTreeSet::new(), bounds: BTreeMap::new() };
        Step::walk(&entry.steps, &mut |step| late.symbols.extend(step.decides().into_iter().cloned()));
        let mut loose = BTreeSet::new();
        Step::walk(&entry.steps, &mut |step| {
            let mut bounded = |symbol: &Symbol, bound: Option<Dim>| match bound.and_then(|b| late.bound(&b)) {
                Some(bound) if !late.bounds.contains_key(symbol) => {
                    late.bounds.insert(symbol.clone(), bound);
                }
                _ => {
                    loose.insert(symbol.clone());
                }
            };
            match step {
                Step::Measure(measure) => bounded(&measure.symbol, measure.bound.clone()),
                Step::Set(sizes) => sizes.iter().for_each(|(symbol, _)| bounded(symbol, None)),
                Step::Loop(each) => {
                    bounded(&each.index, each.count.clone());
                    each.trips.iter().for_each(|trips| bounded(trips, each.count.clone()));
                }
                _ => {}
            }
        });
        // What is decided in several places is bounded by none of them.
        late.bounds.retain(|symbol, _| !loose.contains(symbol));
        late
    }

    /// Is it known only while the steps run?
    fn is_late(&self, dim: &Dim) -> bool {
        let mut found = false;
        dim.for_each_symbol(&mut |symbol| found |= self.symbols.contains(symbol));
        found
    }

    /// Something that `dim` does not exceed, in sizes that are known before the steps run; `dim` itself, if it is.
    fn bound(&self, dim: &Dim) -> Option<Dim> {
        if !self.is_late(dim) {
            return Some(dim.clone());
        }
        let mut known = true;
        dim.for_each_symbol(&mut |symbol| {
            known &= !self.symbols.contains(symbol) || self.bounds.contains_key(symbol);
        });
        (known && dim.grows_with_all()).then(|| dim.substitute(&|symbol| self.bounds.get(symbol).cloned()))
    }
}

/// Memory for what nothing bounds: one after the other in the same.
fn share_growing(entry: &mut Entry, mut growing: Vec<(usize, Life)>) {
    growing.sort_by_key(|(buffer, life)| (life.first, *buffer));
    let mut free_after: Vec<usize> = Vec::new();
    for (buffer, life) in growing {
        let slot = match free_after.iter().position(|&last| last < life.first) {
            Some(slot) => slot,
            None => {
                free_after.push(0);
                free_after.len() - 1
            }
        };
        free_after[slot] = life.last;
        entry.buffers[buffer].space = Space::Growing(slot);
    }
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
fn share_slots(entry: &mut Entry, buffers: &BTreeMap<usize, (Life, Dim)>) -> Dim {
    struct Slot {
        size: Dim,
        free_after: usize,
        buffers: Vec<usize>,
    }
    // Many buffers have equal sizes, and proofs about them take time.
    let (ranges, proved) = (Ranges::new(), RefCell::new(HashMap::new()));
    let at_least = |a: &Dim, b: &Dim| {
        let difference = a.clone() - b.clone();
        *proved
            .borrow_mut()
            .entry(difference)
            .or_insert_with_key(|difference| ranges.is_nonnegative(difference))
    };
    let mut slots: Vec<Slot> = Vec::new();
    let mut order: Vec<(usize, &(Life, Dim))> = buffers.iter().map(|(&b, of)| (b, of)).collect();
    order.sort_by_key(|(buffer, (life, _))| (life.first, *buffer));
    for (buffer, (life, bytes)) in order {
        let size = padded(bytes);
        let free: Vec<usize> = (0..slots.len()).filter(|&s| slots[s].free_after < life.first).collect();
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
    let lives = entry.lives();
    let late = Late::of(entry);
    let end = lives.values().map(|life| life.last + 1).max().unwrap_or(0);
    let mut peak = 0;
    for at in 0..end {
        let mut live = 0;
        for (&buffer, life) in &lives {
            let Buffer { ty, space, .. } = &entry.buffers[buffer];
            let bytes = late.bound(&ty.bytes()).filter(|_| *space == Space::Arena);
            if let Some(bytes) = bytes
                && life.first <= at
                && at <= life.last
            {
                live += bytes.eval(lookup)?;
            }
        }
        peak = peak.max(live);
    }
    Some(peak)
}
