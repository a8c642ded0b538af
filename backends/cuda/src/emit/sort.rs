//! Rows in order: a block sorts one row after the other.

use ir::Dim;
use ir::dtype::DType;
use ir::kernel::Sort;

use super::Emitter;
use super::types::{SHIFT, storage};
use crate::error::EmitError;

impl Emitter<'_> {
    pub(super) fn sort_launch(&mut self, sort: &Sort) -> Result<(Dim, u32), EmitError> {
        self.threads = 256;
        let keys = self.scope.arrays.get(&sort.keys).ok_or_else(|| self.unbound(&sort.keys))?.clone();
        let scratch =
            self.scope.arrays.get(&sort.scratch).ok_or_else(|| self.unbound(&sort.scratch))?.clone();
        let inner: Dim = keys.shape[sort.axis + 1..].iter().cloned().product();
        let rows = keys.shape[..sort.axis].iter().cloned().product::<Dim>() * inner.clone();
        let ty = storage(self.prelude, keys.dtype);
        let key = match keys.dtype {
            DType::F16 => "KeyF16",
            DType::BF16 => "KeyBF16",
            narrow if narrow.is_narrow() && narrow.is_float() => {
                return Err(
                    self.unsupported(format!("a sort of {narrow}"), "cast the keys to f32 first".to_owned())
                );
            }
            _ => "Key",
        };
        self.prelude.need("sort_rows");
        match keys.dtype {
            DType::F16 => self.prelude.need("KeyF16"),
            DType::BF16 => self.prelude.need("KeyBF16"),
            _ => {}
        }
        let mut pieces = Vec::new();
        for (name, null) in [(&sort.values, format!("({ty}*)0")), (&sort.positions, "(i64*)0".to_owned())] {
            let Some(name) = name else {
                pieces.extend([null, "0".to_owned()]);
                continue;
            };
            let array = self.scope.arrays.get(name).ok_or_else(|| self.unbound(name))?.clone();
            let kept = self.index(&array.shape[sort.axis]).within(SHIFT);
            pieces.extend([array.name, kept]);
        }
        let [all, inner, length] =
            [&rows, &inner, &keys.shape[sort.axis]].map(|dim| self.index(dim).within(SHIFT));
        let order = if sort.descending { "true" } else { "false" };
        self.line(&format!("sort_rows<{order}>({}, {all}, {inner}, {length},", keys.name));
        self.line(&format!("  {}, {}, {key}{{}});", pieces.join(", "), scratch.name));
        Ok((scratch.shape[0].clone(), self.threads))
    }
}
