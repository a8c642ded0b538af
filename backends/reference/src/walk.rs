//! Walks a kernel, in the stage form or the loop form, over host tensors.
//!
//! Every access is checked: an index out of range is an error that names the array and the index, not a wild read.

use std::collections::BTreeMap;

use ir::dim::Symbol;
use ir::kernel::eval::{Names, eval, indices};
use ir::kernel::{Body, Expr, Gemm, Kernel, LaneFold, Sort, Stage, Stmt};
use ir::scalar::{Binary, fma};
use ir::{DType, Dim, Scalar, Tensor};

/// Why a kernel or a program cannot be walked. All but sizes that do not suit the program are bugs in whatever made it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// An index outside of its array.
    #[error("`{array}[{index:?}]` is out of range for {shape:?}")]
    OutOfRange {
        /// The array.
        array: String,
        /// The index.
        index: Vec<i64>,
        /// The array's sizes.
        shape: Vec<usize>,
    },
    /// A name that nothing defines.
    #[error("`{name}` is not defined here")]
    Undefined {
        /// The name.
        name: String,
    },
    /// A size without a value.
    #[error("the size `{dim}` has no value")]
    Unbound {
        /// The size.
        dim: String,
    },
    /// A store of another element type than the array has.
    #[error("`{array}` holds {expected}, stored {found}")]
    DType {
        /// The array.
        array: String,
        /// Its element type.
        expected: DType,
        /// What was stored.
        found: DType,
    },
    /// A size that is negative or above its bound.
    #[error("the size `{size}` cannot be {found}")]
    Size {
        /// The size.
        size: String,
        /// Its value.
        found: i64,
    },
    /// A condition on sizes does not hold.
    #[error("`{condition}` does not hold: {what}")]
    NotGiven {
        /// The condition.
        condition: String,
        /// What it means.
        what: String,
    },
    /// What runs the kernels instead cannot.
    #[error("{why}")]
    Elsewhere {
        /// Why.
        why: String,
    },
    /// Inputs that do not fit the program.
    #[error(transparent)]
    Op(#[from] ir::op::OpError),
}

/// Runs a kernel on `arrays`, one for each of its parameters, with a value for each of its sizes.
///
/// # Errors
/// An access out of range, or a kernel that the verifier would refuse.
pub fn walk(kernel: &Kernel, sizes: &[i64], arrays: &mut [Tensor]) -> Result<(), WalkError> {
    let mut state = Walk { axes: BTreeMap::new(), scalars: BTreeMap::new(), arrays: BTreeMap::new() };
    for (name, &value) in kernel.sizes.iter().zip(sizes) {
        state.axes.insert(name.clone(), value);
    }
    for (param, array) in kernel.params.iter().zip(arrays.iter_mut()) {
        // A parameter may see its argument in another shape.
        let shape = state.shape(&param.ty.shape)?;
        let view = array.reshaped(&shape).ok_or_else(|| WalkError::OutOfRange {
            array: param.name.to_string(),
            index: shape.iter().map(|&d| d as i64).collect(),
            shape: array.shape().to_vec(),
        })?;
        state.arrays.insert(param.name.clone(), view);
    }
    match &kernel.body {
        Body::Stages(stages) => stages.iter().try_for_each(|stage| state.stage(stage))?,
        Body::Loops(body) => state.block(body)?,
    }
    for (param, array) in kernel.params.iter().zip(arrays) {
        let shape = array.shape().to_vec();
        let result = state.arrays.remove(&param.name).and_then(|view| view.reshaped(&shape));
        *array = result.expect("the view was made from this shape");
    }
    Ok(())
}

struct Walk {
    /// Values of sizes and of the loop axes around.
    axes: BTreeMap<Symbol, i64>,
    scalars: BTreeMap<Symbol, Scalar>,
    arrays: BTreeMap<Symbol, Tensor>,
}

impl Walk {
    fn dim(&self, dim: &Dim) -> Result<i64, WalkError> {
        let value = dim.eval(&|symbol| self.axes.get(symbol).copied());
        value.ok_or_else(|| WalkError::Unbound { dim: dim.to_string() })
    }

    fn shape(&self, shape: &[Dim]) -> Result<Vec<usize>, WalkError> {
        shape
            .iter()
            .map(|dim| {
                let value = self.dim(dim)?;
                usize::try_from(value).map_err(|_| WalkError::Unbound { dim: format!("{dim} = {value}") })
            })
            .collect()
    }

    fn stage(&mut self, stage: &Stage) -> Result<(), WalkError> {
        let shape = self.shape(&stage.axes.iter().map(|(_, extent)| extent.clone()).collect::<Vec<_>>())?;
        let zero = Scalar::from_i64(stage.body.dtype(), 0);
        let array = Tensor::splat(zero, &shape);
        // A written parameter has the stage's elements in its own shape.
        self.arrays.entry(stage.name.clone()).or_insert(array);
        let mut position = 0;
        let mut result = Ok(());
        ir::tensor::for_each_index(&shape, |index| {
            if result.is_err() {
                return;
            }
            for ((axis, _), &i) in stage.axes.iter().zip(index) {
                self.axes.insert(axis.clone(), i as i64);
            }
            result = match self.expr(&stage.body) {
                Ok(value) => self.put(&stage.name, position, value),
                Err(error) => Err(error),
            };
            position += 1;
        });
        result
    }

    fn put(&mut self, array: &Symbol, position: usize, value: Scalar) -> Result<(), WalkError> {
        let target = self.arrays.get_mut(array).ok_or_else(|| undefined(array))?;
        if target.dtype() != value.dtype() {
            let (expected, found) = (target.dtype(), value.dtype());
            return Err(WalkError::DType { array: array.to_string(), expected, found });
        }
        if position >= target.elements() {
            let shape = target.shape().to_vec();
            return Err(WalkError::OutOfRange {
                array: array.to_string(),
                index: vec![position as i64],
                shape,
            });
        }
        target.set(position, value);
        Ok(())
    }

    fn position(&self, array: &Symbol, index: &[i64]) -> Result<usize, WalkError> {
        let tensor = self.arrays.get(array).ok_or_else(|| undefined(array))?;
        let shape = tensor.shape();
        let inside = index.len() == shape.len()
            && index.iter().zip(shape).all(|(&i, &size)| usize::try_from(i).is_ok_and(|i| i < size));
        if !inside {
            let (array, shape) = (array.to_string(), shape.to_vec());
            return Err(WalkError::OutOfRange { array, index: index.to_vec(), shape });
        }
        Ok(tensor.position(&index.iter().map(|&i| i as usize).collect::<Vec<_>>()))
    }

    fn expr(&mut self, e: &Expr) -> Result<Scalar, WalkError> {
        eval(e, self)
    }

    fn block(&mut self, block: &[Stmt]) -> Result<(), WalkError> {
        block.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), WalkError> {
        match stmt {
            Stmt::For { axis, extent, body, .. } => {
                for i in 0..self.dim(extent)? {
                    self.axes.insert(axis.clone(), i);
                    self.block(body)?;
                }
            }
            Stmt::If { cond, then } => {
                if self.expr(cond)?.to_bool() {
                    self.block(then)?;
                }
            }
            Stmt::Let { name, value } | Stmt::Var { name, init: value } | Stmt::Set { name, value } => {
                let value = self.expr(value)?;
                self.scalars.insert(name.clone(), value);
            }
            Stmt::Store { target, at, value } => {
                let at = indices(at, self)?;
                let position = self.position(target, &at)?;
                let value = self.expr(value)?;
                self.put(target, position, value)?;
            }
            Stmt::Alloc { name, dtype, shape } => {
                let shape: Vec<usize> = shape.iter().map(|&d| d.max(0) as usize).collect();
                self.arrays.insert(name.clone(), Tensor::splat(Scalar::from_i64(*dtype, 0), &shape));
            }
            Stmt::Fold(fold) => self.fold(fold)?,
            Stmt::Gemm(gemm) => self.gemm(gemm)?,
            Stmt::Sort(sort) => self.sort(sort)?,
        }
        Ok(())
    }

    /// Iteration `k` with the accumulator of lane `k mod 16`; then halves of the lanes together.
    fn fold(&mut self, fold: &LaneFold) -> Result<(), WalkError> {
        let LaneFold { acc, dtype, op, lanes, axis, extent, body } = fold;
        let mut lanes = vec![op.neutral(*dtype); *lanes as usize];
        for k in 0..self.dim(extent)? {
            let lane = k as usize % lanes.len();
            self.axes.insert(axis.clone(), k);
            self.scalars.insert(acc.clone(), lanes[lane]);
            self.block(body)?;
            lanes[lane] = self.scalars[acc];
        }
        let value = fold.combine(lanes, |a, b| Ok::<_, WalkError>(op.function().apply(a, b)))?;
        self.scalars.insert(acc.clone(), value);
        Ok(())
    }

    /// Sums of one rounding a step, in ascending order, or of whole numbers: as the micro-kernels do it.
    fn gemm(&mut self, gemm: &Gemm) -> Result<(), WalkError> {
        let outer: Vec<(Symbol, Dim)> = gemm.outer().cloned().collect();
        let Some(group) = &gemm.group else { return self.nest(&outer, &mut |walk| walk.element(gemm)) };
        for number in 0..self.dim(&group.extent)? {
            self.axes.insert(group.axis.clone(), number);
            for place in self.number(&group.starts, number)?..self.number(&group.starts, number + 1)? {
                let row = self.number(&group.order, place)?;
                self.enter(&gemm.row, row)?;
                self.nest(&gemm.col, &mut |walk| walk.element(gemm))?;
            }
        }
        Ok(())
    }

    /// One element of a product.
    fn element(&mut self, gemm: &Gemm) -> Result<(), WalkError> {
        let mut sum = Scalar::from_i64(gemm.dtype(), 0);
        self.nest(&gemm.depth, &mut |walk| {
            let (a, b) = (walk.expr(&gemm.a)?, walk.expr(&gemm.b)?);
            sum = match gemm.dtype() {
                DType::F32 => fma(a, b, sum),
                _ => Binary::Add.apply(Binary::Mul.apply(a, b), sum),
            };
            Ok(())
        })?;
        self.scalars.insert(gemm.acc.clone(), sum);
        self.block(&gemm.body)
    }

    /// Element `at` of an array of numbers.
    fn number(&mut self, array: &Symbol, at: i64) -> Result<i64, WalkError> {
        let at = Expr::from(Dim::constant(at));
        Ok(self.expr(&Expr::load(array.clone(), DType::I64, [at]))?.to_i64())
    }

    /// Binds nested axes to the iteration with this number.
    fn enter(&mut self, axes: &[(Symbol, Dim)], mut number: i64) -> Result<(), WalkError> {
        for (axis, extent) in axes.iter().rev() {
            let extent = self.dim(extent)?.max(1);
            self.axes.insert(axis.clone(), number % extent);
            number /= extent;
        }
        Ok(())
    }

    /// Runs `inside` for each value of the axes, as nested loops do.
    fn nest(
        &mut self,
        axes: &[(Symbol, Dim)],
        inside: &mut dyn FnMut(&mut Self) -> Result<(), WalkError>,
    ) -> Result<(), WalkError> {
        let [(axis, extent), rest @ ..] = axes else { return inside(self) };
        for i in 0..self.dim(extent)? {
            self.axes.insert(axis.clone(), i);
            self.nest(rest, inside)?;
        }
        Ok(())
    }

    /// Each row by itself: a stable sort of its indices.
    fn sort(&mut self, sort: &Sort) -> Result<(), WalkError> {
        let keys = self.arrays.get(&sort.keys).ok_or_else(|| undefined(&sort.keys))?.clone();
        let (outer, inner) = (&keys.shape()[..sort.axis], &keys.shape()[sort.axis + 1..]);
        let (rows, inner) = (outer.iter().product::<usize>(), inner.iter().product::<usize>());
        let n = keys.shape()[sort.axis];
        for row in 0..rows * inner {
            let place = |len: usize, at: usize| (row / inner * len + at) * inner + row % inner;
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| {
                let ascending = keys.get(place(n, a)).order(keys.get(place(n, b)));
                if sort.descending { ascending.reverse() } else { ascending }
            });
            for (array, is_value) in [(&sort.values, true), (&sort.positions, false)] {
                let Some(name) = array else { continue };
                let target = self.arrays.get(name).ok_or_else(|| undefined(name))?;
                let (len, dtype) = (target.shape().get(sort.axis).copied().unwrap_or(0), target.dtype());
                for at in 0..len {
                    let value = match order.get(at) {
                        Some(&from) if is_value => keys.get(place(n, from)),
                        Some(&from) => Scalar::from_i64(DType::I64, from as i64),
                        None => Scalar::from_i64(dtype, 0),
                    };
                    self.put(name, place(len, at), value)?;
                }
            }
        }
        Ok(())
    }
}

impl Names for Walk {
    type Error = WalkError;

    fn index(&mut self, dim: &Dim) -> Result<i64, WalkError> {
        self.dim(dim)
    }

    fn load(&mut self, source: &Symbol, at: &[i64]) -> Result<Scalar, WalkError> {
        let position = self.position(source, at)?;
        Ok(self.arrays[source].get(position))
    }

    fn scalar(&mut self, name: &Symbol) -> Result<Scalar, WalkError> {
        self.scalars.get(name).copied().ok_or_else(|| undefined(name))
    }

    fn enter(&mut self, axis: &Symbol, value: i64) {
        self.axes.insert(axis.clone(), value);
    }
}

fn undefined(name: &Symbol) -> WalkError {
    WalkError::Undefined { name: name.to_string() }
}
