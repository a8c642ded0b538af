//! Folds in lanes as loops of a region.
//!
//! The sixteen accumulators are one vector of 512 bits or two of 256, whatever the rest of the region runs at. They
//! come together as [`LaneFold::combine`] says, and what comes out stands in all lanes.

use ir::dtype::DType;
use ir::kernel::{Expr, LaneFold};

use super::lower::Lowering;
use super::region::{Class, Item, Kind};

impl Lowering<'_, '_, '_> {
    pub(crate) fn fold(&mut self, fold: &LaneFold) -> Option<()> {
        if !fold.is_of_cpu() {
            return None;
        }
        if self.vector_level().is_some() {
            return None;
        }
        let first = self.constant(Kind::Splat(fold.op.neutral(DType::F32).bits() as u32));
        let acc = self.given(Kind::Cell, Class::Vector, true);
        self.names.insert(fold.acc.clone(), (acc, DType::F32));
        let at = self.nest(&fold.axis, &fold.extent, true, &fold.body, false)?;
        let halves = [(); 2].map(|()| self.given(Kind::Half, Class::Vector, false));
        self.append(Item::Fold { at, acc, first, halves });
        let (function, right) = (fold.op.function(), Expr::var(fold.acc.clone(), DType::F32));
        let mut value = self.floats(function, halves[0], halves[1], &right)?;
        for distance in [4, 2, 1] {
            let other = self.vector(Kind::Down(distance), vec![value]);
            value = self.floats(function, value, other, &right)?;
        }
        let value = self.vector(Kind::Lowest, vec![value]);
        self.names.insert(fold.acc.clone(), (value, DType::F32));
        Some(())
    }
}
