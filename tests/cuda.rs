//! GPU kernels without a GPU: the sources of all golden cases run on a CPU (`harness::shim`).

use std::fs;

use egraft::Options;
use harness::golden::{Case, cases, check_each};
use harness::shim::{self, Shim};
use harness::{Random, header, root};
use ir::kernel::{Access, Body, Expr, ExprKind, Kernel, KernelKind, LoopKind, Param, Stmt};
use ir::program::Program;
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, Scalar, Symbol, Tensor, TensorType};
use passes::pipeline::{self, State, Step};
use passes::{Cx, Target};
use reference::{Kernels, States};

fn for_gpu() -> Cx {
    Cx { target: Target::Gpu, ..Cx::default() }
}

/// The program of a case for a GPU.
fn program(case: &Case) -> Result<Program, String> {
    let source = egraft::load(&case.folder.join("model.onnx"), &Options::default());
    let state = source.map_err(|error| error.to_string())?.state;
    let run = pipeline::Run { cx: for_gpu(), verify: true, ..pipeline::Run::default() };
    match pipeline::run(state, pipeline::DEFAULT, &run, &mut ()) {
        Ok(State::Program(program)) => Ok(program),
        Ok(State::Graph(_)) => unreachable!("bug: the pipeline ends in a program"),
        Err(errors) => Err(format!("{errors:?}")),
    }
}

fn run(case: &Case) -> Result<(), String> {
    let program = program(case)?;
    let mut shim = Shim::of(&program)?;
    for set in case.sets()? {
        let found = reference::run_program_by(&program, 0, &set.inputs, &mut States::new(), &mut shim);
        case.check(&set, &found.map_err(|error| error.to_string())?, "shim")?;
    }
    Ok(())
}

#[test]
fn golden_cases_give_their_outputs() {
    if !shim::is_there() {
        return;
    }
    check_each(&cases().iter().collect::<Vec<_>>(), run);
}

/// The sources of filetests, as they are read.
#[test]
fn sources_are_readable() {
    let folder = root().join("tests");
    for name in ["elements_on_a_gpu", "layer_norm_on_a_gpu", "attention_on_a_gpu", "router_on_a_gpu"] {
        let text =
            fs::read_to_string(folder.join(format!("filetests/schedule/{name}.ir"))).expect("readable");
        let passes = header(&text)["passes"].clone();
        let steps: Vec<Step> =
            passes.split(',').map(|pass| Step::find(pass).expect("a pass of that name")).collect();
        let run = pipeline::Run { cx: for_gpu(), verify: true, ..pipeline::Run::default() };
        let state = pipeline::run(State::Graph(harness::graph(&text)), &steps, &run, &mut ());
        let Ok(State::Program(program)) = state else { panic!("{name}: it becomes a program") };
        let sources = cuda::emit(&program).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text: Vec<String> = sources.into_iter().map(|source| source.text).collect();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder.join("cuda"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(format!("{name}.cu"), text.join("\n")));
    }
}

/// A kernel `y = f(x…)` for each of some functions, over all elements.
fn elementwise(inputs: &[DType], count: usize, results: Vec<Expr>) -> Program {
    let shape = TensorType::fixed(DType::F32, &[count]).shape;
    let param = |name: String, dtype, access| Param {
        name: Symbol::new(name),
        ty: TensorType::new(dtype, shape.clone()),
        access,
    };
    let axis = Symbol::new("a2");
    let mut params: Vec<Param> =
        inputs.iter().enumerate().map(|(i, &dtype)| param(format!("x{i}"), dtype, Access::Read)).collect();
    let mut body = Vec::new();
    for (number, value) in results.into_iter().enumerate() {
        let result = param(format!("y{number}"), value.dtype(), Access::Write);
        let at = vec![Dim::from(&axis).into()];
        body.push(Stmt::Store { target: result.name.clone(), at, value });
        params.push(result);
    }
    let extent = Dim::constant(count as i64);
    let each = Stmt::For { axis, extent, kind: LoopKind::Grid(256), body };
    let kernel = Kernel {
        name: "each".into(),
        kind: KernelKind::Fused,
        sizes: vec![],
        given: vec![],
        params,
        body: Body::Loops(vec![each]),
    };
    Program { name: "functions".into(), weights: vec![], kernels: vec![kernel], entries: vec![] }
}

/// The element of an input.
fn operand(number: usize, dtype: DType) -> Expr {
    Expr::load(Symbol::new(format!("x{number}")), dtype, [Dim::symbol("a2").into()])
}

/// Elements of a type: all of them, or those at the ends and in between.
fn elements(dtype: DType) -> Vec<Scalar> {
    if dtype == DType::Bool {
        return [false, true].map(Scalar::bool).into();
    }
    if dtype.bits() <= 8 {
        return (0..1 << dtype.bits()).map(|bits| Scalar::from_bits(dtype, bits)).collect();
    }
    let mut random = Random::new(7);
    let numbers = [
        0.0,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        7.0,
        127.5,
        128.0,
        255.0,
        256.0,
        448.0,
        464.0,
        465.0,
        480.0,
        1e4,
        65504.0,
        65520.0,
        1e9,
        2147483648.0,
        4294967296.0,
        9.3e18,
        1.9e19,
        1e30,
        f64::INFINITY,
        f64::NAN,
        1e-3,
        1e-5,
        6e-8,
        2e-8,
        1e-20,
        1e-40,
    ];
    let mut all: Vec<Scalar> =
        numbers.iter().flat_map(|&x| [x, -x]).map(|x| Scalar::from_f64(dtype, x)).collect();
    all.extend((0..2000).map(|_| Scalar::from_f64(dtype, random.number(20.0))));
    all.extend((0..2000).map(|_| Scalar::from_bits(dtype, random.bits())));
    all
}

fn tensor_of(dtype: DType, elements: &[Scalar]) -> Tensor {
    let mut elements = elements.iter();
    let count = elements.len();
    Tensor::from_fn(dtype, &[count], |_| *elements.next().expect("one for each"))
}

/// Runs a kernel of functions, and compares each of its results.
fn check_functions(
    what: &str,
    program: &Program,
    inputs: &[Tensor],
    expected: &[Tensor],
    same: &dyn Fn(Scalar, Scalar) -> bool,
) {
    let mut shim = Shim::of(program).unwrap_or_else(|error| panic!("{what}: {error}"));
    let zeros = |t: &Tensor| Tensor::splat(Scalar::from_i64(t.dtype(), 0), t.shape());
    let mut arrays: Vec<Tensor> = inputs.iter().cloned().chain(expected.iter().map(zeros)).collect();
    shim.call(program, 0, &[], &mut arrays).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (number, (want, found)) in expected.iter().zip(&arrays[inputs.len()..]).enumerate() {
        for (at, (want, found)) in want.values().zip(found.values()).enumerate() {
            let given: Vec<Scalar> = inputs.iter().map(|input| input.get(at)).collect();
            assert!(
                same(want, found),
                "{what}, result {number} of {given:?}: expected {want:?}, found {found:?}"
            );
        }
    }
}

/// Equal, or no number both.
fn equal(want: Scalar, found: Scalar) -> bool {
    want == found || want.dtype().is_float() && want.to_f64().is_nan() && found.to_f64().is_nan()
}

#[test]
fn casts_are_those_of_scalars() {
    if !shim::is_there() {
        return;
    }
    for from in DType::ALL {
        let given = elements(from);
        let to: Vec<DType> = DType::ALL.into_iter().filter(|&to| to != from).collect();
        let results = to.iter().map(|&to| ExprKind::Cast(to, operand(0, from)).into()).collect();
        let program = elementwise(&[from], given.len(), results);
        let expected: Vec<Tensor> = to
            .iter()
            .map(|&to| tensor_of(to, &given.iter().map(|x| x.cast(to)).collect::<Vec<_>>()))
            .collect();
        check_functions(&format!("casts of {from}"), &program, &[tensor_of(from, &given)], &expected, &equal);
    }
}

#[test]
fn functions_are_those_of_scalars() {
    if !shim::is_there() {
        return;
    }
    for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
        let unary: Vec<Unary> = Unary::ALL.iter().copied().filter(|f| f.accepts(dtype)).collect();
        let binary: Vec<Binary> = Binary::ALL.iter().copied().filter(|f| f.accepts(dtype)).collect();
        let (mut a, mut random) = (elements(dtype), Random::new(3));
        let mut b: Vec<Scalar> = a.iter().map(|_| a[random.bits() as usize % a.len()]).collect();
        // Equal operands, and small ones beside each other.
        let first = a.len().min(10);
        b[..first].copy_from_slice(&a[..first]);
        for _ in 0..500 {
            a.push(Scalar::from_i64(dtype, (random.bits() % 9) as i64 - 4));
            b.push(Scalar::from_i64(dtype, (random.bits() % 9) as i64 - 4));
        }
        let (x, y) = (operand(0, dtype), operand(1, dtype));
        let of_one = unary.iter().map(|&f| ExprKind::Unary(f, x.clone()).into());
        let of_two = binary.iter().map(|&f| ExprKind::Binary(f, x.clone(), y.clone()).into());
        let program = elementwise(&[dtype, dtype], a.len(), of_one.chain(of_two).collect());
        let of_one = unary.iter().map(|f| a.iter().map(|&x| f.apply(x)).collect::<Vec<_>>());
        let of_two = binary.iter().map(|f| a.iter().zip(&b).map(|(&x, &y)| f.apply(x, y)).collect());
        let expected: Vec<Tensor> =
            of_one.chain(of_two).map(|values| tensor_of(values[0].dtype(), &values)).collect();
        let near = |want: Scalar, found: Scalar| {
            let (x, y) = (want.to_f64(), found.to_f64());
            let last = match want.dtype() {
                DType::F16 => 1e-3,
                DType::BF16 => 8e-3,
                DType::F32 => 1e-5,
                _ => 1e-12,
            };
            // Subnormal results may be one step apart.
            let least = if want.dtype() == DType::F16 { 6e-8 } else { 1e-37 };
            equal(want, found)
                || want.dtype().is_float() && (x == y || (x - y).abs() <= last * x.abs() + least)
        };
        let inputs = [tensor_of(dtype, &a), tensor_of(dtype, &b)];
        check_functions(&format!("functions of {dtype}"), &program, &inputs, &expected, &near);
    }
}

/// What the shim says of a function that writes 64 numbers in shared memory and reads its neighbour's.
fn neighbours(body: &str) -> Result<Tensor, String> {
    let program = elementwise(&[], 64, vec![Expr::number(DType::F32, 0.0)]);
    let mut sources = cuda::emit(&program).expect("it has a form");
    let text = "extern \"C\" __global__ void __launch_bounds__(64) neighbours(float* y) {\n  \
                const auto lanes = shared<float>(0);\n  const int lane = threadIdx.x;\n";
    sources[0].text = format!("{text}{body}}}\n");
    sources[0].launches[0].function = "neighbours".to_owned();
    sources[0].launches[0].threads = 64;
    sources[0].launches[0].shared = 256;
    let mut arrays = [Tensor::splat(Scalar::f32(0.0), &[64])];
    let mut shim = Shim::of_sources(sources)?;
    shim.call(&program, 0, &[], &mut arrays).map_err(|error| error.to_string())?;
    let [result] = arrays;
    Ok(result)
}

#[test]
fn races_are_reported() {
    if !shim::is_there() {
        return;
    }
    let write = "  lanes[lane] = lane;\n";
    let read = "  y[lane] = lanes[(lane + 1) % 64];\n";
    let found = neighbours(&format!("{write}  __syncthreads();\n{read}")).expect("no race");
    assert_eq!(found.get(63).to_f64(), 0.0);
    assert_eq!(found.get(5).to_f64(), 6.0);
    let race = neighbours(&format!("{write}{read}")).expect_err("a race");
    assert!(
        race.starts_with("neighbours: race: thread ") && race.contains("since the last barrier"),
        "{race}"
    );
    let again = neighbours(&format!("{write}  __syncthreads();\n{read}{write}")).expect_err("a race");
    assert!(again.contains(" writes byte "), "{again}");
    let alone = neighbours("  if (lane < 32) __syncthreads();\n").expect_err("half of them wait");
    assert!(alone.contains("a barrier that only some threads of a block reach"), "{alone}");
    let beside = neighbours("  y[64] = 1;\n").expect_err("out of range");
    assert!(beside.contains("a write beside array 0"), "{beside}");
}
