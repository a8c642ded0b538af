//! Elements side by side: a thread loads and stores several at once.

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Stmt};
use ir::types::strides;

use super::Emitter;
use super::types::{Code, SHIFT, storage};
use crate::error::EmitError;

/// Elements of an array that a thread has at once.
#[derive(Debug, Clone)]
pub(super) struct Vector {
    array: Symbol,
    /// Their number among such vectors of the array.
    number: Dim,
    /// What they are called, and the axis that tells them apart.
    name: String,
    axis: Symbol,
}

impl Emitter<'_> {
    /// Iterations that are written out, with what is read and written side by side loaded before and stored after them.
    pub(super) fn vector_for(&mut self, axis: &Symbol, lanes: u32, body: &[Stmt]) -> Result<(), EmitError> {
        let outer = self.scope.clone();
        let lane = self.scope.name_axis(axis);
        self.scope.ranges.enter(axis.clone(), Dim::constant(i64::from(lanes)));
        let mut after = Vec::new();
        for (array, at, is_stored) in side_by_side(body) {
            let Some(number) = self.number(array, at, axis, lanes) else { continue };
            if self.scope.vectors.iter().any(|known| known.array == *array && known.number == number) {
                continue;
            }
            let dtype = self.scope.arrays[array].dtype;
            let ty = format!("Vector<{}, {lanes}>", storage(self.prelude, dtype));
            self.prelude.need("Vector");
            let source = self.scope.arrays[array].name.clone();
            let name = self.scope.names.fresh(&format!("{source}_{lanes}"));
            let place = self.index(&number).within(SHIFT);
            if is_stored {
                self.line(&format!("{ty} {name};"));
                after.push(format!("(({ty}*){source})[{place}] = {name};"));
            } else {
                self.line(&format!("const {ty} {name} = ((const {ty}*){source})[{place}];"));
            }
            let (array, axis) = (array.clone(), axis.clone());
            self.scope.vectors.push(Vector { array, number, name, axis });
        }
        self.line("#pragma unroll");
        self.braces(&format!("for (int {lane} = 0; {lane} < {lanes}; {lane} += 1)"), |this| {
            this.block(body)
        })?;
        after.into_iter().for_each(|store| self.line(&store));
        self.scope = outer;
        Ok(())
    }

    /// The element, if it is one of several that the thread has.
    pub(super) fn of_vector(&self, array: &Symbol, at: &[Expr]) -> Option<Code> {
        self.scope.vectors.iter().find_map(|vector| {
            let lanes = self.scope.ranges.extent(&vector.axis)?.as_const()?;
            let number = self.number(array, at, &vector.axis, lanes as u32)?;
            let is_this = *array == vector.array && number == vector.number;
            is_this.then(|| Code::atom(format!("{}.at[{}]", vector.name, self.scope.axes[&vector.axis])))
        })
    }

    /// The number of the vector that the elements along the axis are.
    fn number(&self, array: &Symbol, at: &[Expr], axis: &Symbol, lanes: u32) -> Option<Dim> {
        let shape = &self.scope.arrays.get(array)?.shape;
        let mut position = Dim::constant(0);
        for (index, stride) in at.iter().zip(strides(shape)) {
            position = position + index.as_index()?.clone() * stride;
        }
        let (stride, first) = position.simplify(&self.scope.ranges).linear_in(axis)?;
        if stride.is(1) { first.exact_div(&Dim::constant(i64::from(lanes))) } else { None }
    }
}

/// What every iteration loads, and what it stores.
fn side_by_side(body: &[Stmt]) -> Vec<(&Symbol, &[Expr], bool)> {
    fn loads<'a>(e: &'a Expr, found: &mut Vec<(&'a Symbol, &'a [Expr], bool)>) {
        match e.kind() {
            ExprKind::Load { source, at, .. } => found.push((source, at, false)),
            // Only one side is evaluated.
            ExprKind::Select(cond, ..) => return loads(cond, found),
            _ => {}
        }
        e.children().into_iter().for_each(|child| loads(child, found));
    }
    let mut found = Vec::new();
    for stmt in body {
        stmt.exprs().into_iter().for_each(|e| loads(e, &mut found));
        if let Stmt::Store { target, at, .. } = stmt {
            found.push((target, at, true));
        }
    }
    found
}
