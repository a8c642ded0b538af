//! Sorts: one call of the runtime, which takes the rows apart.
//!
//! The call is a structure on the stack, 8 bytes for each of `ir::service::SORT_FIELDS`. Keys are described by their
//! width, their class (0 unsigned, 1 signed, 2 float) and, for floats, the bits of their infinity.

use cranelift_codegen::ir::{self as clif, InstBuilder, MemFlagsData, types};
use ir::Scalar;
use ir::dim::{Dim, Symbol};
use ir::dtype::Class;
use ir::kernel::Sort;
use ir::service::{SORT_FIELDS, Service};

use super::function::{Array, Emitter};
use crate::error::EmitError;

impl Emitter<'_, '_> {
    /// Rows put in order.
    pub(crate) fn sort(&mut self, sort: &Sort) -> Result<(), EmitError> {
        self.forget();
        let axis = sort.axis;
        let keys = self.sorted(&sort.keys, axis)?;
        if keys.dtype.is_narrow() {
            let what = format!("a sort of {}", keys.dtype);
            return Err(self.unsupported(what, "there is no arithmetic on it; cast it first"));
        }
        let scratch = self.sorted(&sort.scratch, 0)?;
        let (values, values_len) = self.sort_result(sort.values.as_ref(), axis)?;
        let (positions, positions_len) = self.sort_result(sort.positions.as_ref(), axis)?;
        let product = |sizes: &[Dim]| sizes.iter().cloned().product::<Dim>();
        let outer = self.index(&product(&keys.shape[..axis]))?;
        let n = self.index(&keys.shape[axis])?;
        let inner = self.index(&product(&keys.shape[axis + 1..]))?;
        let tasks = self.index(&scratch.shape[0])?;
        let (class, infinity) = match keys.dtype.class() {
            Class::Unsigned | Class::Bool => (0, 0),
            Class::Signed => (1, 0),
            Class::Float => (2, Scalar::from_f64(keys.dtype, f64::INFINITY).bits() as i64),
        };
        let numbers = [keys.dtype.bytes() as i64, class, infinity, i64::from(sort.descending)];
        let [bytes, class, infinity, descending] = numbers.map(|n| self.b.ins().iconst(types::I64, n));
        let fields = [
            ("outer", outer),
            ("n", n),
            ("inner", inner),
            ("keys", keys.base),
            ("bytes", bytes),
            ("class", class),
            ("infinity", infinity),
            ("descending", descending),
            ("values", values),
            ("values_len", values_len),
            ("positions", positions),
            ("positions_len", positions_len),
            ("scratch", scratch.base),
            ("tasks", tasks),
        ];
        let call = self.stack_bytes(8 * fields.len() as u64, 3)?;
        for (at, (name, value)) in fields.into_iter().enumerate() {
            debug_assert_eq!(name, SORT_FIELDS[at], "bug: the fields stand in another order");
            self.b.ins().store(MemFlagsData::trusted(), value, call, 8 * at as i32);
        }
        self.call(Service::Sort, &[self.services, call], None);
        Ok(())
    }

    /// An array of a sort, which has this axis.
    fn sorted(&self, name: &Symbol, axis: usize) -> Result<Array, EmitError> {
        let array = self.scope.arrays.get(name).ok_or_else(|| self.unbound("array", name))?;
        if axis < array.shape.len() {
            return Ok(array.clone());
        }
        let why = format!("it has {} axes; give it the shape of the keys", array.shape.len());
        Err(self.unsupported(format!("a sort of `{name}` along axis {axis}"), why))
    }

    /// Address and length of the rows that a sort writes; an address of 0 where it writes none.
    fn sort_result(
        &mut self,
        name: Option<&Symbol>,
        axis: usize,
    ) -> Result<(clif::Value, clif::Value), EmitError> {
        let Some(name) = name else {
            let zero = self.b.ins().iconst(types::I64, 0);
            return Ok((zero, zero));
        };
        let array = self.sorted(name, axis)?;
        let len = self.index(&array.shape[axis])?;
        Ok((array.base, len))
    }
}
