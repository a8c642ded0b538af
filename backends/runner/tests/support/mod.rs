//! A small model whose kernels are functions of the test, and a way to call the command line on it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use runner::tensor::Tensor;
use runtime::plan::{Arg, Bind, Buffer, Call, Entry, KernelSlot, Port, Space, Step};
use runtime::{DType, Model, Plan, Services, Size, Weights};

fn symbol() -> Size {
    Size::Symbol(0)
}

fn plus(size: Size, constant: i64) -> Size {
    Size::Add(Box::new(size), Box::new(Size::Const(constant)))
}

fn port(name: &str, dtype: DType, dims: Vec<Size>) -> Port {
    Port { name: name.into(), dtype, dims }
}

/// Four entries:
/// `classify(x: f32[n, 3]) -> (p: f32[n, 3])`: `p = 2x`;
/// `pair(a: f32[n], b: i64[n + 1]) -> (sum: f32[n], any: bool[1])`: `sum_i = a_i + b_i`, `any = n > 0`;
/// `count(x: f32[1]) -> (total: f32[1])`: `total += x` over all calls of a session;
/// `positive(x: f32[n]) -> (y: f32[k], any: bool[1])`: the positive elements of `x`, which are 2 at most.
pub(crate) fn model() -> Arc<Model> {
    let bind = Bind { symbol: 0, input: 0, axis: 0, scale: 1, offset: 0.into() };
    let entry = |name: &str| Entry { name: name.into(), arena_bytes: Size::Const(0), ..Entry::default() };
    let classify = Entry {
        symbols: vec!["n".into()],
        inputs: vec![port("x", DType::F32, vec![symbol(), Size::Const(3)])],
        outputs: vec![port("p", DType::F32, vec![symbol(), Size::Const(3)])],
        binds: vec![bind.clone()],
        steps: vec![Step::Call(Call {
            kernel: 0,
            args: vec![Arg::Input(0), Arg::Output(0)],
            sizes: vec![symbol()],
        })],
        ..entry("classify")
    };
    let pair = Entry {
        symbols: vec!["n".into()],
        inputs: vec![port("a", DType::F32, vec![symbol()]), port("b", DType::I64, vec![plus(symbol(), 1)])],
        outputs: vec![
            port("sum", DType::F32, vec![symbol()]),
            port("any", DType::Bool, vec![Size::Const(1)]),
        ],
        binds: vec![bind.clone()],
        steps: vec![Step::Call(Call {
            kernel: 1,
            args: vec![Arg::Input(0), Arg::Input(1), Arg::Output(0), Arg::Output(1)],
            sizes: vec![symbol()],
        })],
        ..entry("pair")
    };
    let count = Entry {
        inputs: vec![port("x", DType::F32, vec![Size::Const(1)])],
        outputs: vec![port("total", DType::F32, vec![Size::Const(1)])],
        buffers: vec![Buffer { offset: Size::Const(0), bytes: Size::Const(4), space: Space::State }],
        steps: vec![Step::Call(Call {
            kernel: 2,
            args: vec![Arg::Input(0), Arg::Buffer(0), Arg::Output(0)],
            sizes: vec![],
        })],
        ..entry("count")
    };
    let k = || Size::Symbol(1);
    let bytes = || Size::Mul(Box::new(k()), Box::new(Size::Const(4)));
    let positive = Entry {
        symbols: vec!["n".into(), "k".into()],
        inputs: vec![port("x", DType::F32, vec![symbol()])],
        outputs: vec![port("y", DType::F32, vec![k()]), port("any", DType::Bool, vec![Size::Const(1)])],
        binds: vec![bind.clone()],
        arena_bytes: plus(Size::Mul(Box::new(symbol()), Box::new(Size::Const(4))), 64),
        buffers: vec![
            Buffer { offset: Size::Const(0), bytes: Size::Const(8), space: Space::Arena },
            Buffer { offset: Size::Const(64), bytes: bytes(), space: Space::Arena },
        ],
        steps: vec![
            Step::Call(Call {
                kernel: 3,
                args: vec![Arg::Input(0), Arg::Buffer(0), Arg::Buffer(1), Arg::Output(1)],
                sizes: vec![symbol()],
            }),
            Step::Measure {
                symbol: 1,
                source: Arg::Buffer(0),
                bound: Some(Size::Const(2)),
                what: "the size `k` of node `/Compress`".into(),
            },
            Step::Copy { from: Arg::Buffer(1), to: Arg::Output(0), bytes: bytes(), at: None },
        ],
        ..entry("positive")
    };
    let kernel = |name: &str| KernelSlot { name: name.into(), offset: 0 };
    let plan = Plan {
        entries: vec![classify, pair, count, positive],
        weights: Vec::new(),
        kernels: vec![kernel("double"), kernel("add"), kernel("count"), kernel("positive")],
    };
    let meta = r#"{"model": "test"}"#.to_owned();
    // SAFETY: each function uses the buffers and sizes that the steps above give it, within their bounds.
    unsafe { Model::from_functions(plan, vec![double, add, total, positives], Weights::none(), meta) }
        .expect("the plan is valid")
}

unsafe extern "C" fn double(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: two tensors of `3 * sizes[0]` floats.
    unsafe {
        let (x, p) = ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>());
        for i in 0..3 * *sizes as usize {
            *p.add(i) = 2.0 * *x.add(i);
        }
    }
}

unsafe extern "C" fn add(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: `a` and `sum` have `sizes[0]` elements, `b` has one more, `any` is one byte.
    unsafe {
        let (a, b) = ((*args).cast::<f32>(), (*args.add(1)).cast::<i64>());
        let (sum, any) = ((*args.add(2)).cast::<f32>(), *args.add(3));
        for i in 0..*sizes as usize {
            *sum.add(i) = *a.add(i) + *b.add(i) as f32;
        }
        *any = u8::from(*sizes > 0);
    }
}

unsafe extern "C" fn total(_: *const Services, args: *const *mut u8, _: *const i64) {
    // SAFETY: three tensors of one float.
    unsafe {
        let (x, state, total) =
            ((*args).cast::<f32>(), (*args.add(1)).cast::<f32>(), (*args.add(2)).cast::<f32>());
        *state += *x;
        *total = *state;
    }
}

unsafe extern "C" fn positives(_: *const Services, args: *const *mut u8, sizes: *const i64) {
    // SAFETY: `sizes[0]` floats, one integer, room for as many floats, one byte.
    unsafe {
        let (x, count, y) =
            ((*args).cast::<f32>(), (*args.add(1)).cast::<i64>(), (*args.add(2)).cast::<f32>());
        *count = 0;
        for i in 0..*sizes as usize {
            if *x.add(i) > 0.0 {
                *y.add(*count as usize) = *x.add(i);
                *count += 1;
            }
        }
        **args.add(3) = u8::from(*count > 0);
    }
}

/// What a call of the command line gave.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Calls the command line on [`model`]. `{}` in arguments stands for `dir`.
pub(crate) fn call(dir: &Path, line: &str) -> Done {
    let args =
        line.split_whitespace().map(|arg| OsString::from(arg.replace("{}", &dir.display().to_string())));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code =
        runner::cli::run(&model(), [OsString::from("./m")].into_iter().chain(args), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    Done { code, out: text(out), err: text(err) }
}

pub(crate) fn floats(dims: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::from_bytes(DType::F32, dims, &bytes).expect("small")
}

pub(crate) fn integers(values: &[i64]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::from_bytes(DType::I64, &[values.len()], &bytes).expect("small")
}

pub(crate) fn save(path: &Path, tensor: &Tensor) {
    let mut bytes = Vec::new();
    runner::files::npy::write(tensor, &mut bytes).expect("a vector takes everything");
    std::fs::write(path, bytes).expect("the folder is writable");
}
