//! Stages evaluated by the letter, and graphs through their stages: the plainest reading of what `lower`
//! says. Ops that lower to loops are verified and walked.
//!
//! Every load is checked against the array's bounds: a missing guard is a failure here, not a wrong number.

use std::collections::BTreeMap;

use ir::build::Build;
use ir::graph::{Graph, Kind, bind};
use ir::kernel::lower::{Compute, Loops, Lower};
use ir::kernel::{Access, Body, Expr, ExprKind, Kernel, Param, Stage};
use ir::{Dim, Scalar, Symbol, Tensor, TensorType, Value};

type SizeOf = BTreeMap<Symbol, i64>;

struct Naive {
    arrays: BTreeMap<Symbol, Tensor>,
    axes: SizeOf,
}

impl Naive {
    fn index(&self, dim: &Dim) -> i64 {
        dim.eval(&|symbol| self.axes.get(symbol).copied()).unwrap_or_else(|| panic!("`{dim}` has no value"))
    }

    fn eval(&mut self, e: &Expr) -> Scalar {
        match e.kind() {
            ExprKind::Const(value) => *value,
            ExprKind::Index(dim) => Scalar::from_i64(ir::DType::I64, self.index(dim)),
            ExprKind::Load { source, at, dtype } => {
                let at: Vec<i64> = at.iter().map(|e| self.eval(e).to_i64()).collect();
                let array = &self.arrays[source];
                assert_eq!(array.dtype(), *dtype, "load of {source}");
                assert_eq!(array.shape().len(), at.len(), "rank of a load of {source}");
                let inside = at.iter().zip(array.shape()).all(|(&i, &size)| (0..size as i64).contains(&i));
                assert!(inside, "load of {source} at {at:?} outside {:?}", array.shape());
                array.at(&at.iter().map(|&i| i as usize).collect::<Vec<_>>())
            }
            ExprKind::Var { name, .. } => panic!("variable {name} in a stage"),
            ExprKind::Unary(f, x) => {
                let x = self.eval(x);
                assert!(f.accepts(x.dtype()), "{} of {}", f.name(), x.dtype());
                f.apply(x)
            }
            ExprKind::Binary(f, a, b) => {
                let (a, b) = (self.eval(a), self.eval(b));
                assert_eq!(a.dtype(), b.dtype(), "{} of two types", f.name());
                assert!(f.accepts(a.dtype()), "{} of {}", f.name(), a.dtype());
                f.apply(a, b)
            }
            ExprKind::Fma(a, b, c) => ir::scalar::fma(self.eval(a), self.eval(b), self.eval(c)),
            ExprKind::Select(c, a, b) => {
                assert_eq!(a.dtype(), b.dtype(), "sides of a select");
                if self.eval(c).to_bool() { self.eval(a) } else { self.eval(b) }
            }
            ExprKind::Cast(dtype, x) => self.eval(x).cast(*dtype),
            ExprKind::Bitcast(dtype, x) => Scalar::from_bits(*dtype, self.eval(x).bits()),
            ExprKind::Fold(fold) => {
                let mut sum = fold.op.neutral(fold.body.dtype());
                for i in 0..self.index(&fold.extent) {
                    self.axes.insert(fold.axis.clone(), i);
                    sum = fold.op.function().apply(sum, self.eval(&fold.body));
                }
                self.axes.remove(&fold.axis);
                sum
            }
        }
    }
}

/// The results of loops over operands and results of these types, where `sizes` gives every symbol.
fn run_loops(
    loops: Loops,
    types: &[&TensorType],
    results: &[TensorType],
    operands: &[&Tensor],
    sizes: &SizeOf,
) -> Vec<Tensor> {
    let param = |name: Symbol, ty: &TensorType, access| Param { name, ty: ty.clone(), access };
    let read = types.iter().enumerate().map(|(i, ty)| param(Lower::operand_name(i), ty, Access::Read));
    let written = results.iter().enumerate().map(|(i, ty)| param(Lower::result_name(i), ty, Access::Write));
    let scratch = loops.scratch.iter().map(|(name, ty)| param(name.clone(), ty, Access::Scratch));
    let params: Vec<Param> = read.chain(written).chain(scratch).collect();
    // Memory that was used before, and is not zero.
    let fresh = |ty: &TensorType| {
        let size = |dim: &Dim| dim.eval(&|s| sizes.get(s).copied()).expect("bound") as usize;
        Tensor::splat(
            Scalar::from_bits(ty.dtype, 0x0101_0101_0101_0101),
            &ty.shape.iter().map(size).collect::<Vec<_>>(),
        )
    };
    let others = params[operands.len()..].iter().map(|param| fresh(&param.ty));
    let mut arrays: Vec<Tensor> = operands.iter().map(|&x| x.clone()).chain(others).collect();
    let (name, body) = (Symbol::new("loops"), Body::Loops(loops.body));
    let kernel = Kernel {
        name,
        kind: loops.kind,
        sizes: sizes.keys().cloned().collect(),
        given: vec![],
        params,
        body,
    };
    assert_eq!(ir::verify::verify_kernel(&kernel), [], "{kernel}");
    let values: Vec<i64> = sizes.values().copied().collect();
    reference::walk(&kernel, &values, &mut arrays).unwrap_or_else(|error| panic!("{error}\n{kernel}"));
    arrays.into_iter().skip(operands.len()).take(results.len()).collect()
}

/// The results of these stages, where `sizes` gives every symbol.
fn run_stages(stages: &[Stage], results: usize, operands: &[&Tensor], sizes: &SizeOf) -> Vec<Tensor> {
    let named = operands.iter().enumerate().map(|(i, &x)| (Lower::operand_name(i), x.clone()));
    let mut naive = Naive { arrays: named.collect(), axes: sizes.clone() };
    for stage in stages {
        let shape: Vec<usize> = stage.axes.iter().map(|(_, extent)| naive.index(extent) as usize).collect();
        let tensor = Tensor::from_fn(stage.body.dtype(), &shape, |at| {
            for ((axis, _), &i) in stage.axes.iter().zip(at) {
                naive.axes.insert(axis.clone(), i as i64);
            }
            naive.eval(&stage.body)
        });
        naive.arrays.insert(stage.name.clone(), tensor);
    }
    let last = &stages[stages.len() - results..];
    last.iter().map(|stage| naive.arrays[&stage.name].clone()).collect()
}

/// The outputs of `graph`: every core op through its stages, every composite one through its expansion.
pub(crate) fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    run_with(graph, inputs, &bind(graph, inputs).expect("the inputs fit"))
}

fn run_with(graph: &Graph, inputs: &[Tensor], sizes: &SizeOf) -> Vec<Tensor> {
    let mut values: BTreeMap<Value, Tensor> = BTreeMap::new();
    let mut inputs = graph.inputs().iter().zip(inputs).collect::<BTreeMap<_, _>>();
    for id in graph.order() {
        let node = graph.node(id);
        let results = match &node.kind {
            Kind::Input(_) => vec![inputs.remove(&id).expect("one tensor for each input").clone()],
            Kind::Weight(weight) => vec![weight.tensor()],
            Kind::Op { def, attrs } => {
                let operands = graph.operands(id);
                let types: Vec<&TensorType> = operands.iter().map(|&v| graph.ty(v)).collect();
                let tensors: Vec<&Tensor> = operands.iter().map(|v| &values[v]).collect();
                let mut b = Build::new("expansion");
                let x: Vec<Value> = types
                    .iter()
                    .enumerate()
                    .map(|(i, ty)| b.input(&format!("x{i}"), (*ty).clone()))
                    .collect();
                match def.semantics.expand(&mut b, &x, attrs).expect("its types were inferred") {
                    Some(results) => {
                        let expansion = b.finish(results);
                        for (value, ty) in expansion.outputs().into_iter().zip(&node.types) {
                            assert_eq!(
                                expansion.ty(value),
                                ty,
                                "the expansion of `{}` has another type",
                                def.name
                            );
                        }
                        let tensors: Vec<Tensor> = tensors.into_iter().cloned().collect();
                        run_with(&expansion, &tensors, sizes)
                    }
                    None => {
                        let mut cx = Lower::new(&types, attrs, &node.types);
                        let compute = def.semantics.lower(&mut cx);
                        let compute = compute.unwrap_or_else(|| panic!("`{}` has no lowering", def.name));
                        match compute {
                            Compute::Stages(stages) => {
                                for (stage, ty) in stages.iter().rev().zip(node.types.iter().rev()) {
                                    assert_eq!(
                                        &stage.ty(),
                                        ty,
                                        "the stages of `{}` have another type",
                                        def.name
                                    );
                                }
                                run_stages(&stages, node.types.len(), &tensors, sizes)
                            }
                            Compute::Loops(loops) => run_loops(loops, &types, &node.types, &tensors, sizes),
                        }
                    }
                }
            }
        };
        for (result, tensor) in results.into_iter().enumerate() {
            values.insert(Value { node: id, result }, tensor);
        }
    }
    graph.outputs().into_iter().map(|v| values[&v].clone()).collect()
}

/// Fails unless both are the same but for rounding.
pub(crate) fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.ty(), expected.ty(), "{what}");
    let tolerance = match found.dtype() {
        ir::DType::F64 => 1e-12,
        ir::DType::F32 => 2e-5,
        ir::DType::F16 => 4e-3,
        ir::DType::BF16 => 3e-2,
        _ => 0.0,
    };
    for (position, (f, e)) in found.values().zip(expected.values()).enumerate() {
        let (x, y) = (f.to_f64(), e.to_f64());
        let same = f == e || x == y || (x.is_nan() && y.is_nan());
        let near = x.is_finite() && y.is_finite() && (x - y).abs() <= tolerance * y.abs().max(1.0);
        assert!(same || near, "{what}: element {position} is {f}, expected {e}\n{found:?}\n{expected:?}");
    }
}
