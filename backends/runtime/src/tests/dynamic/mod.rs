//! Sizes that are decided while a model runs, and control flow: small entries over kernels in Rust.

pub(crate) mod flow;
pub(crate) mod host;
pub(crate) mod measured;
mod wrong;

use super::{add, allocations, call, mul, port, symbol};
use crate::{
    AlignedBytes, Model, Plan, Pool, Profile, Session, Size, TensorBuf, TensorRef, Weights,
    plan::{Arg, Bind, Buffer, DType, Entry, KernelSlot, Port, Relation, Space, Step},
    services::{KernelFn, Services},
};

/// `count = number of x[i] > 0`, `indices = where`. Arguments: x, count, indices. Sizes: n.
pub(crate) const POSITIVES: u32 = 0;
/// `y[i] = x[indices[i]]`. Arguments: x, indices, y. Sizes: k.
pub(crate) const PICK: u32 = 1;
/// `y[i] = x[i mod n]`. Arguments: x, y. Sizes: n, m.
pub(crate) const TILE: u32 = 2;
/// `v = v / 2`, or `3 v + 1` where it is odd; `more = v != 1` after it. Arguments: v, more. Sizes: none.
pub(crate) const COLLATZ: u32 = 3;
/// `more = v > limit`. Arguments: v, more. Sizes: limit.
pub(crate) const ABOVE: u32 = 4;
/// `y[i] = x[i - 1] + x[i]`, where x is 0 outside. Arguments: x, y. Sizes: n, of y one more.
pub(crate) const PASCAL: u32 = 5;
/// `y = 10 a + b`. Arguments: y. Sizes: a, b.
pub(crate) const DIGITS: u32 = 6;

/// A session of an entry over the kernels above. It is the entry's plan that keeps them in their buffers.
pub(crate) fn session(entry: Entry) -> Session {
    Session::new(model(entry), 0, Pool::new(1)).unwrap()
}

pub(crate) fn model(entry: Entry) -> std::sync::Arc<Model> {
    let kernels: Vec<KernelFn> = vec![positives, pick, tile, collatz, above, pascal, digits];
    // SAFETY: the entries of these tests give each kernel what it takes.
    unsafe { Model::from_functions(plan_of(entry), kernels, Weights::none(), String::new()) }.unwrap()
}

/// Entries that have every kind of step and of memory between them.
pub(crate) fn entries() -> Vec<Entry> {
    vec![measured::entry(), host::entry(), flow::choice(), flow::sequence(9), flow::triangle()]
}

pub(crate) fn plan_of(entry: Entry) -> Plan {
    let names = ["positives", "pick", "tile", "collatz", "above", "pascal", "digits"];
    let kernel = |name: &str| KernelSlot { name: name.into(), offset: 0 };
    Plan { entries: vec![entry], weights: vec![], kernels: names.map(kernel).into() }
}

pub(crate) fn buffer(offset: i64, bytes: Size, space: Space) -> Buffer {
    Buffer { offset: offset.into(), bytes, space }
}

fn integers(name: &str, dims: Vec<Size>) -> Port {
    Port { dtype: DType::I64, ..port(name, dims) }
}

fn measure(symbol: u32, source: Arg, bound: Option<Size>) -> Step {
    Step::Measure { symbol, source, bound, what: format!("the size of node `/{symbol}`") }
}

/// The first symbol is the size of the first axis of the first input.
fn bind() -> Vec<Bind> {
    vec![Bind { symbol: 0, input: 0, axis: 0, scale: 1, offset: 0.into() }]
}

fn bytes_of(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn integers_of(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|eight| i64::from_ne_bytes(eight.try_into().unwrap())).collect()
}

/// The only output for one integer.
fn answer(session: &mut Session, value: i64) -> Result<TensorBuf, String> {
    let data = bytes_of(&[value]);
    let input = TensorRef { dtype: DType::I64, dims: &[1], data: &data };
    let outputs = session.run_tensors(&[input]).map_err(|error| error.to_string());
    outputs.map(|mut outputs| outputs.remove(0))
}

unsafe extern "C" fn positives(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: `n` floats, one integer, room for `n` integers.
    unsafe {
        let (x, count, indices) = ((*args).cast::<f32>(), (*args.add(1)).cast::<i64>(), *args.add(2));
        *count = 0;
        for i in 0..*sizes {
            if *x.add(i as usize) > 0.0 {
                *indices.cast::<i64>().add(*count as usize) = i;
                *count += 1;
            }
        }
    }
}

unsafe extern "C" fn pick(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: `k` integers that are positions in `x`, and room for `k` floats.
    unsafe {
        let (x, indices, y) =
            ((*args).cast::<f32>(), (*args.add(1)).cast::<i64>(), (*args.add(2)).cast::<f32>());
        (0..*sizes as usize).for_each(|i| *y.add(i) = *x.add(*indices.add(i) as usize));
    }
}

unsafe extern "C" fn tile(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: `n` floats and room for `m`.
    unsafe {
        let (x, y) = ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>());
        (0..*sizes.add(1) as usize).for_each(|i| *y.add(i) = *x.add(i % *sizes as usize));
    }
}

unsafe extern "C" fn collatz(_: *const Services, args: *const *mut u8, _: *const i64) {
    // SAFETY: an integer and a bool.
    unsafe {
        let v = (*args).cast::<i64>();
        *v = if *v % 2 == 0 { *v / 2 } else { 3 * *v + 1 };
        **args.add(1) = u8::from(*v != 1);
    }
}

unsafe extern "C" fn above(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: an integer and a bool.
    unsafe { **args.add(1) = u8::from(*(*args).cast::<i64>() > *sizes) }
}

unsafe extern "C" fn pascal(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: `n` floats and room for one more.
    unsafe {
        let (x, y, n) = ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>(), *sizes as usize);
        for i in 0..=n {
            let before = if i > 0 { *x.add(i - 1) } else { 0.0 };
            *y.add(i) = before + if i < n { *x.add(i) } else { 0.0 };
        }
    }
}

unsafe extern "C" fn digits(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: room for an integer.
    unsafe { *(*args).cast::<i64>() = 10 * *sizes + *sizes.add(1) }
}
