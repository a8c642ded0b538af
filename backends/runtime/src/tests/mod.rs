//! Tests of the crate, and the small models they share.

mod allocations;
mod bind;
mod capi;
mod container;
mod cuda;
mod device;
pub(crate) mod dynamic;
mod plan;
mod services;
mod session;
mod size;

use std::sync::Arc;

use crate::{
    Model, Plan, Pool, Session, Size, Weights,
    plan::{Arg, Bind, Buffer, Call, DType, Entry, KernelSlot, Port, Space, Step, WeightSlot},
    services::{KernelFn, ParallelBody, Services},
};

pub(crate) fn symbol(index: u32) -> Size {
    Size::Symbol(index)
}

pub(crate) fn add(a: Size, b: Size) -> Size {
    Size::Add(Box::new(a), Box::new(b))
}

pub(crate) fn mul(a: Size, b: Size) -> Size {
    Size::Mul(Box::new(a), Box::new(b))
}

pub(crate) fn div(a: Size, b: Size) -> Size {
    Size::FloorDiv(Box::new(a), Box::new(b))
}

pub(crate) fn call(kernel: u32, args: Vec<Arg>, sizes: Vec<Size>) -> Step {
    Step::Call(Call { kernel, args, sizes })
}

pub(crate) fn port(name: &str, dims: Vec<Size>) -> Port {
    Port { name: name.to_owned(), dtype: DType::F32, dims }
}

/// A number that is a multiple of 64 and at least `size`.
pub(crate) fn aligned(size: Size) -> Size {
    mul(div(add(size, 63.into()), 64.into()), 64.into())
}

/// Pseudo-random numbers that are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new() -> Numbers {
        Numbers(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

pub(crate) const SCALE: [f32; 4] = [1.0, 2.0, 3.0, 4.0];

/// Three entries over kernels in Rust:
/// `run`: `y[i, j] = x[i, j] scale[j] + c[j]`, where `c` is state that starts at 0 and grows by 1 per run;
/// `pair`: `y[i] = a[i] + b[i]` for `a: [n]`, `b: [n, 1]`;
/// `sum`: `s[i] += x[i]`, `y = s`, where the state `s: [n]` has the size of the input.
pub(crate) fn plan() -> Plan {
    let n = || symbol(0);
    let bind = Bind { symbol: 0, input: 0, axis: 0, scale: 1, offset: 0.into() };
    let run = Entry {
        name: "run".into(),
        symbols: vec!["n".into()],
        inputs: vec![port("x", vec![n(), 4.into()])],
        outputs: vec![port("y", vec![n(), 4.into()])],
        binds: vec![bind.clone()],
        arena_bytes: aligned(mul(n(), 16.into())),
        buffers: vec![
            Buffer { offset: 0.into(), bytes: mul(n(), 16.into()), space: Space::Arena },
            Buffer { offset: 0.into(), bytes: 16.into(), space: Space::State },
        ],
        steps: vec![
            call(0, vec![Arg::Input(0), Arg::Weight(0), Arg::Buffer(0)], vec![n()]),
            call(1, vec![Arg::Buffer(0), Arg::Buffer(1), Arg::Output(0)], vec![n()]),
        ],
        ..Entry::default()
    };
    let pair = Entry {
        name: "pair".into(),
        symbols: vec!["n".into()],
        inputs: vec![port("a", vec![n()]), port("b", vec![n(), 1.into()])],
        outputs: vec![port("y", vec![n()])],
        binds: vec![bind.clone()],
        steps: vec![call(2, vec![Arg::Input(0), Arg::Input(1), Arg::Output(0)], vec![n()])],
        ..Entry::default()
    };
    let sum = Entry {
        name: "sum".into(),
        symbols: vec!["n".into()],
        inputs: vec![port("x", vec![n()])],
        outputs: vec![port("y", vec![n()])],
        binds: vec![bind.clone()],
        buffers: vec![Buffer { offset: 0.into(), bytes: mul(n(), 4.into()), space: Space::State }],
        states: vec![port("kept", vec![n()])],
        steps: vec![
            call(2, vec![Arg::Input(0), Arg::Buffer(0), Arg::Buffer(0)], vec![n()]),
            call(3, vec![Arg::Buffer(0), Arg::Output(0)], vec![n()]),
        ],
        ..Entry::default()
    };
    let kernel = |name: &str| KernelSlot { name: name.into(), offset: 0 };
    let scale = WeightSlot {
        name: "scale".into(),
        dtype: DType::F32,
        dims: vec![4],
        offset: 0,
        bytes: 16,
        hash: *blake3::hash(&bytes_of(&SCALE)).as_bytes(),
    };
    Plan {
        entries: vec![run, pair, sum],
        weights: vec![scale],
        kernels: ["scale", "count", "add", "copy"].map(kernel).into(),
    }
}

pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_ne_bytes(four.try_into().unwrap())).collect()
}

pub(crate) fn model() -> Arc<Model> {
    let kernels: Vec<KernelFn> = vec![scale, count, add_rows, copy];
    let weights = Weights::copy_of(&bytes_of(&SCALE)).unwrap();
    // SAFETY: the functions below keep within the buffers of `plan`.
    unsafe { Model::from_functions(plan(), kernels, weights, "{}".into()) }.unwrap()
}

pub(crate) fn session(entry: &str, threads: usize) -> Session {
    let model = model();
    let entry = model.plan().entry(entry).unwrap();
    Session::new(model, entry, Pool::new(threads)).unwrap()
}

/// `t[i, j] = x[i, j] scale[j]`, rows in parallel, through the table of services as compiled code sees it.
unsafe extern "C" fn scale(services: *const Services, args: *const *mut u8, sizes: *const i64) {
    unsafe extern "C" fn rows(_: *const Services, frame: *const u8, begin: i64, end: i64) {
        // SAFETY: `frame` is the argument table that `scale` passes, and the plan says how large its buffers are.
        unsafe {
            let args = frame.cast::<*mut f32>();
            for i in begin as usize..end as usize {
                for j in 0..4 {
                    *(*args.add(2)).add(4 * i + j) = *(*args).add(4 * i + j) * *(*args.add(1)).add(j);
                }
            }
        }
    }
    type ParallelFor = unsafe extern "C" fn(*const Services, i64, i64, ParallelBody, *const u8);
    // SAFETY: the runtime passes its table of services, whose first entry this is, and one size.
    unsafe {
        let parallel_for = *services.cast::<ParallelFor>();
        parallel_for(services, *sizes, 1, rows, args.cast());
    }
}

/// `y[i, j] = t[i, j] + c[j]`, then `c[j] += 1`.
unsafe extern "C" fn count(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: the plan passes these buffers, each of as many elements as the size says.
    unsafe {
        let [t, c, y] = *args.cast::<[*mut f32; 3]>();
        for i in 0..*sizes as usize * 4 {
            *y.add(i) = *t.add(i) + *c.add(i % 4);
        }
        (0..4).for_each(|j| *c.add(j) += 1.0);
    }
}

/// `y[i] = a[i] + b[i]`.
unsafe extern "C" fn add_rows(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: the plan passes these buffers, each of as many elements as the size says.
    unsafe {
        let [a, b, y] = *args.cast::<[*mut f32; 3]>();
        (0..*sizes as usize).for_each(|i| *y.add(i) = *a.add(i) + *b.add(i));
    }
}

/// `y[i] = x[i]`.
unsafe extern "C" fn copy(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: the plan passes these buffers, each of as many elements as the size says.
    unsafe {
        let [x, y] = *args.cast::<[*mut f32; 2]>();
        (0..*sizes as usize).for_each(|i| *y.add(i) = *x.add(i));
    }
}
