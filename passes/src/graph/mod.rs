//! Passes from graphs to better graphs.

mod canonicalize;
mod cse;
mod dce;
mod expand;
mod fold_constants;

pub use canonicalize::Canonicalize;
pub use cse::Cse;
pub use dce::Dce;
pub use expand::Expand;
pub use fold_constants::FoldConstants;
