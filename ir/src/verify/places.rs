//! Places of buffers in a planned entry: inside the arena, and apart from each other.
//!
//! Offsets are expressions, and whether they overlap for some sizes is tried at a few of them: a plan is right for all
//! sizes or shows it there. What depends on sizes that are known only while the steps run is left to the runtime, which
//! checks each use.

use std::collections::BTreeMap;

use crate::dim::{Dim, Symbol};
use crate::program::{Buffer, Entry, Life, Space, Step};
use crate::verify::program::ProgramViolation;

/// What every size is tried as; then all together as different ones.
const SIZES: [i64; 4] = [1, 2, 3, 17];

/// A buffer with its place where all sizes are known.
struct Placed<'a> {
    buffer: &'a Buffer,
    life: Life,
    start: i64,
    end: i64,
}

/// Each buffer has a place inside the arena, and those that live at the same time have no byte in common.
pub(super) fn buffers_have_places(entry: &Entry, report: &mut Vec<ProgramViolation>) {
    let Some(arena) = &entry.arena else { return };
    let buffers = || entry.buffers.iter().filter(|buffer| buffer.space == Space::Arena);
    for buffer in buffers().filter(|buffer| buffer.offset.is_none()) {
        report.push(ProgramViolation::NoPlace { buffer: buffer.name.to_string() });
    }
    let lives = entry.lives();
    for sizes in samples(entry) {
        let value = |dim: &Dim| dim.eval(&|symbol| sizes.get(symbol).copied());
        let before = report.len();
        if let Some(arena) = value(arena) {
            for buffer in buffers() {
                let end =
                    buffer.offset.as_ref().and_then(|offset| value(&(offset.clone() + buffer.ty.bytes())));
                if end.is_some_and(|end| end > arena) {
                    report.push(ProgramViolation::NoPlace { buffer: buffer.name.to_string() });
                }
            }
        }
        let placed = lives.iter().filter_map(|(&at, &life)| {
            let buffer = entry.buffers.get(at).filter(|buffer| buffer.space == Space::Arena)?;
            let (start, bytes) = (value(buffer.offset.as_ref()?)?, value(&buffer.ty.bytes())?);
            (bytes > 0).then_some(Placed { buffer, life, start, end: start + bytes })
        });
        lie_apart(&placed.collect::<Vec<_>>(), report);
        if report.len() > before {
            return;
        }
    }
}

fn lie_apart(placed: &[Placed], report: &mut Vec<ProgramViolation>) {
    for (i, a) in placed.iter().enumerate() {
        for b in &placed[i + 1..] {
            if a.life.meets(b.life) && a.start < b.end && b.start < a.end {
                let (left, right) = (a.buffer.name.to_string(), b.buffer.name.to_string());
                report.push(ProgramViolation::Overlap { left, right });
            }
        }
    }
}

/// Values of the sizes that are known before the steps run.
fn samples(entry: &Entry) -> Vec<BTreeMap<Symbol, i64>> {
    let mut symbols = entry.symbols();
    Step::walk(&entry.host, &mut |step| symbols.extend(step.decides().into_iter().cloned()));
    let equal = SIZES.map(|size| symbols.iter().map(|symbol| (symbol.clone(), size)).collect());
    let different = symbols.iter().zip([3, 1, 5, 2, 9, 4].into_iter().cycle());
    let different = different.map(|(symbol, size)| (symbol.clone(), size)).collect();
    equal.into_iter().chain([different]).collect()
}
