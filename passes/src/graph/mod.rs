//! Passes from graphs to better graphs.

pub mod canonicalize;
pub mod cse;
pub mod dce;
pub mod excess_precision;
pub mod expand;
pub mod fold_constants;
pub mod reroll;
pub mod stored;

pub use canonicalize::Canonicalize;
pub use cse::Cse;
pub use dce::Dce;
pub use excess_precision::ExcessPrecision;
pub use expand::Expand;
pub use fold_constants::FoldConstants;
pub use reroll::Reroll;
pub use stored::ReadStored;
