//! Vector loops at 512 or 256 bits: functions of machine code beside the code generator's.
//!
//! The code generator has vectors of 128 bits. A loop over lanes, the serial loops inside it, and serial loops around
//! it are made a *region* ([`region`]) if everything in them has a form over lanes ([`lower`], [`express`], [`math`]): 32-bit
//! floats and integers, 16-bit floats and bytes as these, truth values, and indices that are affine in the loops' axes.
//! Folds ([`fold`]) and scalars between them belong to it: they are values that are the same in all lanes. Of a parallel
//! loop, each range of iterations is one call. The region becomes a list of
//! steps ([`trace`]), gets registers ([`allocate`]), and is encoded ([`function`], [`encode`], [`access`], [`select`], [`code`]).
//! It is called with a frame that the code generator's code fills ([`frame`]).
//!
//! Promise: a region computes what the code generator's lanes compute, to the bit. What has no form here stays there.

mod access;
mod allocate;
mod code;
mod encode;
mod express;
mod fold;
mod frame;
mod function;
mod lower;
mod math;
mod region;
mod select;
mod trace;

pub(crate) use code::ALIGN;
