//! Sorts: keys of every type, rows along every axis, and what of them is asked for.

use ir::dim::Dim;
use ir::dtype::DType;
use ir::kernel::{Access, Kernel, LoopKind, Param, Sort, Stmt};
use ir::scalar::Scalar;
use ir::types::TensorType;

use crate::build::*;
use crate::walk::check;

/// Sorts `x[a, b, c]` along an axis, within a loop that runs twice, and gives the first `k` of each row.
fn sorting(dtype: DType, axis: usize, descending: bool, results: [bool; 2]) -> Kernel {
    let shape = ["a", "b", "c"].map(dim);
    let mut first = shape.clone();
    first[axis] = dim("k");
    let scratch = Sort::scratch_type(&TensorType::new(dtype, shape.clone()), axis);
    let [values, positions] = results;
    let mut params = vec![read("x", dtype, &shape)];
    params.extend(values.then(|| write("v", dtype, &first)));
    params.extend(positions.then(|| write("p", DType::I64, &first)));
    params.push(Param { name: sym("t"), ty: scratch, access: Access::Scratch });
    let sort = Sort {
        keys: sym("x"),
        axis,
        descending,
        values: values.then(|| sym("v")),
        positions: positions.then(|| sym("p")),
        scratch: sym("t"),
    };
    let body = vec![for_each("twice", dim("2"), LoopKind::Serial, vec![Stmt::Sort(Box::new(sort))])];
    kernel("sorting", &["a", "b", "c", "k"], params, body)
}

/// Keys of which some are equal, and what the results held before.
fn buffers(kernel: &Kernel, sizes: &[i64]) -> Vec<Vec<Scalar>> {
    let lookup = |symbol: &_| kernel.sizes.iter().position(|s| s == symbol).map(|at| sizes[at]);
    let count =
        |dims: &[Dim]| dims.iter().map(|d| d.eval(&lookup).expect("a size")).product::<i64>() as usize;
    let some = |param: &Param| {
        let edges = edges(param.ty.dtype);
        values(DType::U64, count(&param.ty.shape), 3)
            .into_iter()
            .map(|at| edges[at.bits() as usize % edges.len()])
            .collect()
    };
    kernel.params.iter().map(some).collect()
}

#[test]
fn keys_of_every_type() {
    let told_apart = |dtype: &DType| !dtype.is_narrow() && !matches!(dtype, DType::I64 | DType::U64);
    for dtype in DType::ALL.into_iter().filter(told_apart) {
        for descending in [false, true] {
            let kernel = sorting(dtype, 1, descending, [true, true]);
            let sizes = [2, 40, 3, 40];
            check(&kernel, &sizes, &buffers(&kernel, &sizes));
        }
    }
}

#[test]
fn rows_along_every_axis() {
    for axis in 0..3 {
        for results in [[true, true], [true, false], [false, true]] {
            let kernel = sorting(DType::F32, axis, axis == 1, results);
            for sizes in [[3, 4, 5, 2], [1, 1, 1, 1], [2, 3, 2, 7], [0, 3, 2, 1], [2, 0, 3, 2], [3, 3, 3, 0]]
            {
                check(&kernel, &sizes, &buffers(&kernel, &sizes));
            }
        }
    }
}
