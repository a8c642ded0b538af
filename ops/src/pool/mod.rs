//! Windows that slide over an image.

pub mod avg_pool;
pub mod max_pool;
pub mod max_unpool;
pub mod roi_align;
pub mod slide;
pub mod sum_pool;
