//! Mixtures of experts: each token meets only the experts that it chooses.
//!
//! However a model spells one, it becomes the *slot form*: a slot is one choice of a token, rows of tokens meet the
//! matrices of their choices (`grouped_matmul`), everything between is ordinary work on slots, in the order of the
//! tokens, and `combine` adds what the choices of a token say. Nothing is sorted or permuted in the graph; kernels see to
//! that.

mod alike;
mod capacity;
mod chosen;
mod combine;
mod dense;
mod gathered;
mod ids;
mod order;
mod products;
mod roles;
mod routing;
mod scaled;
mod slots;
mod sorted;

use super::Rule;

/// Of this subject, in the order in which they are tried.
pub(super) static RULES: &[&[Rule]] = &[
    dense::RULES,
    gathered::RULES,
    scaled::RULES,
    sorted::RULES,
    chosen::RULES,
    combine::RULES,
    capacity::RULES,
];
