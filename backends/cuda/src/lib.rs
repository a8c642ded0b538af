//! egraft's GPU backend: kernels to CUDA C++.
//!
//! [`emit`] writes one source for each kernel of a program in loop form: readable, without a header, with the kernel's
//! own text and the nodes of the model that it computes on top. A kernel is one launch after the other
//! ([`Launch`]), each a function over the kernel's arrays and sizes.
//!
//! Promises
//! - the same program gives the same text;
//! - a scalar computes what `ir::scalar` says; elementary functions are those of CUDA, to a few units in the last place;
//! - results do not depend on how blocks are scheduled: no atomics on floats, and sums in an order that sizes decide,
//!   or tensor cores where [`Sums`] leave it to them;
//! - what cannot be emitted is an [`EmitError`] with the way out, never another kernel.
//!
//! A block's threads run its statements together. Scalars there are the same in all of them, a store is made by one,
//! loops over threads share their iterations out, and a barrier stands wherever somebody reads or overwrites what
//! another thread may have touched since the last one (`emit/sync.rs`).

mod emit;
mod error;
mod nvrtc;
mod prelude;
mod source;

pub use error::{EmitError, NvrtcError};
pub use nvrtc::{Form, Nvrtc};
pub use source::{Launch, Source, Sums, emit};
