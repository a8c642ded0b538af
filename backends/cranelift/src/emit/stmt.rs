//! Statements to machine code. The arms stand in the order of [`Stmt`].

use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use ir::dim::{Dim, Symbol};
use ir::dtype::{Class, DType};
use ir::kernel::{Expr, LoopKind, Stmt};

use super::function::{Array, Emitter, Local, element_flags};
use super::value::{GROUP, Value, lane_type, scalar_type};
use crate::error::EmitError;

/// Longest loop that is written out.
const UNROLL_LIMIT: i64 = 64;

impl Emitter<'_, '_> {
    /// Statements in order; what they bind ends with them.
    pub(crate) fn block(&mut self, stmts: &[Stmt]) -> Result<(), EmitError> {
        let outer = self.scope.clone();
        for stmt in stmts {
            self.stmt(stmt)?;
        }
        self.scope = outer;
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), EmitError> {
        match stmt {
            Stmt::For { axis, extent, kind, body } => match *kind {
                LoopKind::Serial => self.serial_for(axis, extent, body),
                LoopKind::Parallel(grain) => self.parallel_for(axis, extent, grain, body),
                LoopKind::Vector(width) => self.vector_for(axis, extent, width, body),
                LoopKind::Unroll => self.unrolled_for(axis, extent, body),
                LoopKind::Blocks(_) | LoopKind::Grid { .. } | LoopKind::Threads(_) => {
                    let way_out = "schedule the kernel for a CPU".to_owned();
                    Err(self.unsupported("a loop over blocks or threads of a GPU".to_owned(), way_out))
                }
            },
            Stmt::If { cond, then } => {
                if cond.dtype() != DType::Bool {
                    let what = format!("a condition of {}", cond.dtype());
                    return Err(
                        self.unsupported(what, "it must be a truth value; compare it, or cast it to bool")
                    );
                }
                let cond = self.evaluate(cond)?.scalar();
                let then = |this: &mut Self| this.block(then).map(|()| vec![]);
                self.branch(cond, then, |_| Ok(vec![])).map(drop)
            }
            Stmt::Let { name, value } => {
                let bound = self.evaluate(value)?;
                let bound = self.as_bound(name, value.dtype(), bound);
                let depth = self.scope.depth;
                self.scope.bind(name, Local::Scalar { dtype: value.dtype(), value: bound, depth });
                Ok(())
            }
            Stmt::Var { name, init } => {
                let dtype = init.dtype();
                let value = self.evaluate(init)?;
                let value = self.as_bound(name, dtype, value);
                let (ty, values, lanes) = match value {
                    Value::Uniform(value) => (scalar_type(dtype), vec![value], false),
                    Value::Lanes(groups) => {
                        (lane_type(dtype).expect("bug: lanes without lane form"), groups, true)
                    }
                };
                let slots = values.into_iter().map(|value| {
                    let slot = self.b.declare_var(ty);
                    self.b.def_var(slot, value);
                    slot
                });
                let slots = slots.collect();
                self.scope.bind(name, Local::Variable { dtype, slots, lanes });
                Ok(())
            }
            Stmt::Set { name, value } => {
                let next = self.evaluate(value)?;
                let Some(Local::Variable { dtype, slots, lanes }) = self.scope.scalar(name).cloned() else {
                    return Err(self.unbound("variable", name));
                };
                if dtype != value.dtype() {
                    let what = format!("a value of {} for the variable `{name}`", value.dtype());
                    return Err(self.unsupported(what, format!("it is {dtype}; cast the value")));
                }
                let values = if lanes { self.spread(dtype, &next) } else { vec![next.scalar()] };
                for (slot, value) in slots.into_iter().zip(values) {
                    self.b.def_var(slot, value);
                }
                Ok(())
            }
            Stmt::Store { target, at, value } => {
                let element = self.evaluate(value)?;
                self.store(target, at, value.dtype(), &element)
            }
            Stmt::Alloc { name, dtype, shape } => self.alloc(name, *dtype, shape),
            Stmt::Fold(fold) => self.fold(fold),
            Stmt::Gemm(gemm) => self.gemm(gemm),
            Stmt::Sort(sort) => self.sort(sort),
        }
    }

    /// A loop that runs one iteration after the other.
    pub(crate) fn serial_for(&mut self, axis: &Symbol, extent: &Dim, body: &[Stmt]) -> Result<(), EmitError> {
        self.in_vector_function(axis, extent, LoopKind::Serial, body, |this| {
            let count = this.index(extent)?;
            let zero = this.b.ins().iconst(types::I64, 0);
            this.counted(zero, count, 1, |this, at| this.iteration(axis, extent, at, body))
        })
    }

    /// The body, with the axis at `at`.
    pub(crate) fn iteration(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        at: clif::Value,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let outer = self.scope.clone();
        self.scope.depth += 1;
        self.scope.ranges.enter(axis.clone(), extent.clone());
        self.bind_scalar(axis.clone(), DType::I64, Value::Uniform(at));
        self.block(body)?;
        self.scope = outer;
        Ok(())
    }

    fn unrolled_for(&mut self, axis: &Symbol, extent: &Dim, body: &[Stmt]) -> Result<(), EmitError> {
        let Some(count) = self.resolve(extent).as_const().filter(|n| *n <= UNROLL_LIMIT) else {
            return self.serial_for(axis, extent, body);
        };
        let outer = self.scope.clone();
        self.scope.ranges.enter(axis.clone(), extent.clone());
        for at in 0..count {
            self.scope.locals.insert(axis.clone(), Local::Index(Dim::constant(at)));
            self.block(body)?;
        }
        self.scope = outer;
        Ok(())
    }

    /// The value in the form that `name` has: lanes, if the vector loop says that it varies.
    fn as_bound(&mut self, name: &Symbol, dtype: DType, value: Value) -> Value {
        let varies = self.in_lanes() && self.vector.as_ref().is_some_and(|v| v.varying.contains(name));
        if varies { Value::Lanes(self.spread(dtype, &value)) } else { value }
    }

    fn store(&mut self, target: &Symbol, at: &[Expr], dtype: DType, value: &Value) -> Result<(), EmitError> {
        let declared = self.scope.arrays.get(target).ok_or_else(|| self.unbound("array", target))?.dtype;
        if declared != dtype {
            return Err(self.unsupported(
                format!("a store to `{target}`"),
                format!("it holds {declared} and the element is {dtype}; cast it"),
            ));
        }
        let indices_vary = at.iter().any(|index| self.varies(index));
        if !indices_vary && let Value::Uniform(value) = value {
            let offset = self.offset(target, at)?;
            let (address, distance) = self.address(target, &offset)?;
            self.b.ins().store(element_flags(), *value, address, distance);
            return Ok(());
        }
        let bytes = dtype.bytes();
        if let Some((1, offset)) = self.along_lanes(target, at)? {
            let (address, distance) = self.address(target, &offset)?;
            if lane_type(dtype).is_some() {
                let groups = self.spread(dtype, value);
                self.store_lanes(dtype, groups, address, distance);
                return Ok(());
            }
            for lane in 0..self.groups() * GROUP {
                let element = self.lane(dtype, value, lane);
                self.b.ins().store(element_flags(), element, address, distance + (lane * bytes) as i32);
            }
            return Ok(());
        }
        for lane in 0..self.groups() * GROUP {
            self.lane = Some(lane);
            let offset = self.offset(target, at)?;
            let (address, distance) = self.address(target, &offset)?;
            self.lane = None;
            let element = self.lane(dtype, value, lane);
            self.b.ins().store(element_flags(), element, address, distance);
        }
        Ok(())
    }

    /// Stores all lanes one after the other, narrow ones closely packed. Lanes are in the range of their type, so
    /// that the saturation of the narrowing instructions changes nothing.
    fn store_lanes(&mut self, dtype: DType, groups: Vec<clif::Value>, address: clif::Value, distance: i32) {
        let signed = dtype.class() == Class::Signed;
        let mut bytes = groups.len() * GROUP * dtype.bytes();
        let mut vectors = groups;
        if dtype == DType::Bool {
            vectors = vectors.into_iter().map(|mask| self.b.ins().ineg(mask)).collect();
        }
        for _ in dtype.bytes().ilog2()..4u32.ilog2() {
            let halves = vectors.chunks(2).map(|pair| {
                let (low, high) = (pair[0], pair[pair.len() - 1]);
                if signed { self.b.ins().snarrow(low, high) } else { self.b.ins().unarrow(low, high) }
            });
            vectors = halves.collect();
        }
        let mut distance = distance;
        for vector in vectors {
            let part = match bytes {
                4 => {
                    let words = self.bits_as(types::I32X4, vector);
                    self.b.ins().extractlane(words, 0)
                }
                8 => {
                    let words = self.bits_as(types::I64X2, vector);
                    self.b.ins().extractlane(words, 0)
                }
                _ => vector,
            };
            self.b.ins().store(element_flags(), part, address, distance);
            distance += 16;
            bytes = bytes.saturating_sub(16);
        }
    }

    fn alloc(&mut self, name: &Symbol, dtype: DType, shape: &[i64]) -> Result<(), EmitError> {
        let bytes = shape.iter().try_fold(dtype.bytes() as u64, |product, &size| {
            u64::try_from(size).ok().and_then(|size| product.checked_mul(size))
        });
        let bytes =
            bytes.ok_or_else(|| self.unsupported(format!("the array `{name}`"), "its sizes are no sizes"))?;
        let base = self.stack_bytes(bytes, 6)?;
        let shape = shape.iter().map(|&size| Dim::constant(size)).collect();
        self.scope.arrays.insert(name.clone(), Array { base, shape, param: false, dtype });
        Ok(())
    }
}
