//! Sizes that are computed, and control flow.

pub mod as_size;
pub mod r#if;
pub mod r#loop;

use ir::attr::Key;
use ir::attr::{Attr, key};
use ir::op::{Decided, OpError};
use ir::{Dim, Symbol, TensorType};

/// The names of the sizes that a node decides.
pub const NAMES: Key<Vec<String>> = key("names");

/// What stands for these sizes by now: each for itself, or an expression that it turned out to be.
pub const SIZES: Key<Vec<Dim>> = key("sizes");

fn none() -> Attr {
    Attr::List(Vec::new())
}

/// The sizes that a node decides.
fn decided(attrs: &ir::attr::Attrs) -> Vec<Decided> {
    let names = attrs.get(NAMES).into_iter();
    names.zip(attrs.get(SIZES)).map(|(name, size)| Decided { name: Symbol::new(name), size }).collect()
}

/// As many sizes as names, and no name that kernels give to axes.
fn check_names(attrs: &ir::attr::Attrs) -> Result<(), OpError> {
    let names = attrs.get(NAMES);
    if names.len() != attrs.get(SIZES).len() {
        return Err(OpError::Attribute { key: SIZES.name, why: "one for each name is needed" });
    }
    if names.iter().any(|name| !ir::dim::Symbol::new(name).is_free_for_sizes()) {
        return Err(OpError::Attribute { key: NAMES.name, why: "kernels call their axes so" });
    }
    Ok(())
}

/// Do `given` and `wanted` agree, but for sizes in `free`?
fn agree(what: &'static str, given: &TensorType, wanted: &TensorType, free: &[Dim]) -> Result<(), OpError> {
    if given.dtype != wanted.dtype {
        return Err(OpError::DTypes { left: given.dtype, right: wanted.dtype });
    }
    if given.rank() != wanted.rank() {
        return Err(OpError::Rank { operand: "body", expected: wanted.rank(), found: given.rank() });
    }
    match given.shape.iter().zip(&wanted.shape).find(|(a, b)| a != b && !free.contains(b)) {
        None => Ok(()),
        Some((left, right)) => Err(OpError::Size { what, left: left.clone(), right: right.clone() }),
    }
}
