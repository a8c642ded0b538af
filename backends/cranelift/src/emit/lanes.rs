//! Vector loops: which bodies run side by side, and how their iterations are counted.
//!
//! A body is *vectorisable* if what differs between iterations has a lane form: values of at most 32 bits, and
//! control flow that is the same for all. 64-bit values may only be index arithmetic that ends in an address, a
//! comparison or a conversion. Every other body runs as a serial loop; both compute the same bits, since a lane does
//! what the scalar code does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use cranelift_codegen::ir::{InstBuilder, types};

use ir::dim::{Dim, Symbol};
use ir::kernel::{Expr, ExprKind, LoopKind, Stmt};
use ir::scalar::{Binary, Unary};

use super::function::{Emitter, Local};
use super::value::{GROUP, lane_type};
use crate::error::EmitError;

/// The most lanes that run side by side.
const LANES: usize = 16;

/// The vector loop around a place.
#[derive(Debug, Clone)]
pub(crate) struct VectorLoop {
    /// Its axis, in scope as the first lane's value.
    pub(crate) axis: Symbol,
    /// Lanes, a multiple of four.
    pub(crate) lanes: usize,
    /// Scalars of the body that differ between lanes.
    pub(crate) varying: BTreeSet<Symbol>,
}

impl Emitter<'_, '_> {
    /// Vectors of four lanes in the current vector loop.
    pub(crate) fn groups(&self) -> usize {
        self.vector.as_ref().map_or(1, |vector| vector.lanes / GROUP)
    }

    /// Is this place in a vector loop, with all lanes side by side?
    pub(crate) fn in_lanes(&self) -> bool {
        self.vector.is_some() && self.lane.is_none()
    }

    /// A loop whose iterations run side by side if the body allows it.
    pub(crate) fn vector_for(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        width: u32,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        self.in_vector_function(axis, extent, LoopKind::Vector(width), body, |this| {
            this.groups_for(axis, extent, width, body)
        })
    }

    /// A vector loop in the code generator's vectors.
    fn groups_for(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        width: u32,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let width = (width as usize).min(LANES) / GROUP * GROUP;
        let varying = match self.vector {
            None if width >= GROUP && !self.scalar => self.vectorisable(axis, body, None),
            _ => None,
        };
        let Some(varying) = varying else { return self.serial_for(axis, extent, body) };
        let count = self.index(extent)?;
        let known = self.resolve(extent).as_const();
        let mut from = self.b.ins().iconst(types::I64, 0);
        let mut done = Some(0);
        for lanes in [width, GROUP, 1] {
            // Nothing is left for this step, or for none after it.
            let rest = known.zip(done).map(|(n, done)| n - done);
            if rest.is_some_and(|rest| rest < lanes as i64) || (lanes == GROUP && width == GROUP) {
                continue;
            }
            let to = match lanes {
                1 => count,
                _ => self.b.ins().band_imm_s(count, -(lanes as i64)),
            };
            let vector = VectorLoop { axis: axis.clone(), lanes, varying: varying.clone() };
            self.vector = (lanes > 1).then_some(vector);
            self.counted(from, to, lanes as i64, |this, at| this.iteration(axis, extent, at, body))?;
            self.vector = None;
            from = to;
            done = known.map(|n| n / lanes as i64 * lanes as i64);
        }
        Ok(())
    }

    /// Scalars of the body that differ between iterations, if the body is vectorisable. Of an accumulator, each lane
    /// has its own.
    pub(crate) fn vectorisable(
        &self,
        axis: &Symbol,
        body: &[Stmt],
        accumulator: Option<&Symbol>,
    ) -> Option<BTreeSet<Symbol>> {
        let variables: BTreeSet<Symbol> = accumulator.into_iter().cloned().collect();
        let mut check = Check {
            locals: &self.scope.locals,
            axis,
            varying: variables.clone(),
            varies: HashMap::new(),
            good: HashSet::new(),
        };
        // A scalar that is set later may make an earlier one vary: the set grows until it stays.
        loop {
            let before = check.varying.len();
            check.varies.clear();
            check.good.clear();
            if !check.block(body, &mut variables.clone()) {
                return None;
            }
            if check.varying.len() == before {
                return Some(check.varying);
            }
        }
    }

    /// Does the expression differ between the lanes of the current vector loop?
    pub(crate) fn varies(&mut self, e: &Expr) -> bool {
        let Some(vector) = &self.vector else { return false };
        let key = std::ptr::from_ref(e.kind());
        if let Some(&known) = self.memo.varies.get(&key) {
            return known;
        }
        let varies = match e.kind() {
            ExprKind::Index(dim) => mentions(&self.scope.locals, dim, &vector.axis),
            ExprKind::Var { name, .. } => vector.varying.contains(name),
            _ => e.children().into_iter().any(|child| self.varies(child)),
        };
        self.memo.varies.insert(key, varies);
        varies
    }

    /// Can all lanes compute the function at once, given operands in lane form?
    pub(crate) fn side_by_side(&mut self, e: &Expr) -> bool {
        use ir::dtype::DType::{BF16, Bool, F16, F32, F64, I32, I64, U32, U64};
        let dtype = |e: &Expr| e.dtype();
        match e.kind() {
            ExprKind::Unary(f, x) => match f {
                Unary::Neg => matches!(dtype(x), F32 | I32 | U32),
                Unary::Abs => matches!(dtype(x), F32 | I32),
                Unary::Not => matches!(dtype(x), I32 | U32 | Bool),
                Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => dtype(x) == F32,
                Unary::Sqrt | Unary::IsNan | Unary::IsInf => dtype(x) == F32,
                _ => false,
            },
            ExprKind::Binary(f, a, b) => match (f, dtype(a)) {
                (_, F64 | I64 | U64 | F16 | BF16) => false,
                (Binary::Add | Binary::Sub | Binary::Mul, ty) => matches!(ty, F32 | I32 | U32),
                (Binary::Div, ty) => ty == F32,
                (Binary::Rem | Binary::Mod | Binary::Pow, _) => false,
                // A vector shifts all its lanes by one amount.
                (Binary::Shl | Binary::Shr, ty) => matches!(ty, I32 | U32) && !self.varies(b),
                _ => true,
            },
            ExprKind::Fma(a, ..) => dtype(a) == F32,
            ExprKind::Cast(to, x) => match (dtype(x), *to) {
                (F64 | I64 | U64, _) | (_, F64 | I64 | U64) => false,
                (from, to) if to.is_float() && to.bits() <= 16 => from == F32,
                _ => true,
            },
            ExprKind::Bitcast(to, x) => dtype(x).bits() == 32 && to.bits() == 32,
            _ => false,
        }
    }
}

/// Does an index depend on `axis`, also through names that stand for indices?
fn mentions(locals: &BTreeMap<Symbol, Local>, dim: &Dim, axis: &Symbol) -> bool {
    let mut found = false;
    dim.for_each_symbol(&mut |symbol| {
        found |=
            symbol == axis || matches!(locals.get(symbol), Some(Local::Index(dim)) if dim.mentions(axis));
    });
    found
}

/// The walk that decides whether a body is vectorisable.
struct Check<'a> {
    locals: &'a BTreeMap<Symbol, Local>,
    axis: &'a Symbol,
    varying: BTreeSet<Symbol>,
    /// What is known of expressions, by address.
    varies: HashMap<*const ExprKind, bool>,
    good: HashSet<*const ExprKind>,
}

impl Check<'_> {
    fn block(&mut self, body: &[Stmt], variables: &mut BTreeSet<Symbol>) -> bool {
        body.iter().all(|stmt| self.stmt(stmt, variables))
    }

    fn stmt(&mut self, stmt: &Stmt, variables: &mut BTreeSet<Symbol>) -> bool {
        match stmt {
            Stmt::For { axis, extent, body, .. } => {
                axis != self.axis
                    && !mentions(self.locals, extent, self.axis)
                    && self.block(body, &mut variables.clone())
            }
            Stmt::If { cond, then } => !self.varies(cond) && self.block(then, &mut variables.clone()),
            Stmt::Let { name, value } => {
                if self.varies(value) {
                    self.varying.insert(name.clone());
                }
                (!self.varying.contains(name) || lane_type(value.dtype()).is_some()) && self.good(value)
            }
            Stmt::Var { name, init } => {
                self.varying.insert(name.clone());
                variables.insert(name.clone());
                lane_type(init.dtype()).is_some() && self.good(init)
            }
            // A scalar from outside the loop carries a value between iterations.
            Stmt::Set { name, value } => variables.contains(name) && self.good(value),
            Stmt::Store { value, .. } => self.good(value),
            Stmt::Alloc { .. } | Stmt::Fold(_) | Stmt::Gemm(_) | Stmt::Sort(_) => false,
        }
    }

    fn varies(&mut self, e: &Expr) -> bool {
        let key = std::ptr::from_ref(e.kind());
        if let Some(&known) = self.varies.get(&key) {
            return known;
        }
        let varies = match e.kind() {
            ExprKind::Index(dim) => mentions(self.locals, dim, self.axis),
            ExprKind::Var { name, .. } => self.varying.contains(name),
            _ => e.children().into_iter().any(|child| self.varies(child)),
        };
        self.varies.insert(key, varies);
        varies
    }

    /// Is it the same for all lanes, or made of values with a lane form?
    fn good(&mut self, e: &Expr) -> bool {
        if !self.varies(e) || self.good.contains(&std::ptr::from_ref(e.kind())) {
            return true;
        }
        let index_or_same = |this: &mut Self, e: &Expr| e.as_index().is_some() || !this.varies(e);
        let good = lane_type(e.dtype()).is_some()
            && match e.kind() {
                ExprKind::Load { .. } | ExprKind::Var { .. } => true,
                ExprKind::Binary(f, a, b)
                    if f.is_comparison() && index_or_same(self, a) && index_or_same(self, b) =>
                {
                    true
                }
                ExprKind::Cast(_, x) if x.as_index().is_some() => true,
                _ => e.children().into_iter().all(|child| self.good(child)),
            };
        if good {
            self.good.insert(std::ptr::from_ref(e.kind()));
        }
        good
    }
}
