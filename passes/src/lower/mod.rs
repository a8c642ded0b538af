//! From graph to program, and from what kernels compute to how.

pub(crate) mod attention;
pub(crate) mod boundaries;
pub mod fuse;
pub mod link;
mod names;
pub mod place_states;
pub mod plan_memory;
pub(crate) mod running;
pub mod share_kernels;
mod simplify;
pub mod to_loops;
pub mod to_stages;

pub use fuse::Fuse;
pub use link::{LinkError, link};
pub use place_states::PlaceStates;
pub use plan_memory::{PlanMemory, host_bytes, live_peak, room};
pub use share_kernels::ShareKernels;
pub use to_loops::ToLoops;
pub use to_stages::ToStages;

pub(crate) use names::Names;
pub(crate) use share_kernels::{any_expr, map_block, substitute_block};
pub(crate) use simplify::simplify;
pub(crate) use to_loops::add_scratch;

pub(crate) use to_stages::drop_unused_weights;
