//! Ops whose elements depend on how others are ordered: sorts, prefixes, and those that close gaps.
//!
//! What they do is stated as loops: no expression says what one element is. `route` alone takes so few elements that
//! expressions do.

pub mod cumprod;
pub mod cumsum;
pub mod non_max_suppression;
pub mod nonzero;
pub mod prefix;
pub mod route;
pub mod seat;
pub mod tf_idf;
pub mod topk;
pub mod unique;
