//! Reductions along axes.

pub mod along;
pub mod arg_max;
pub mod arg_min;
pub mod cross_entropy;
pub mod position;
pub mod reduce_max;
pub mod reduce_mean;
pub mod reduce_min;
pub mod reduce_prod;
pub mod reduce_sum;
