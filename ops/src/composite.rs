//! Ops that are small graphs of simpler ones: everything about them follows from one function.
//!
//! They stay whole while rules can use them; the compiler opens what is left.

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::{ARITHMETIC, OpError, Semantics};

use crate::math::cast::convert;

/// Builds the result from the operands.
pub type Expand = fn(&mut Build, &[Value], &Attrs) -> Result<Value, OpError>;

/// An op given by its expansion.
pub struct Composite(pub Expand);

impl Semantics for Composite {
    fn expand(&self, b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Option<Vec<Value>>, OpError> {
        Ok(Some(vec![self.0(b, x, attrs)?]))
    }
}

/// An op given by its expansion into elementwise ops.
pub struct Pointwise(pub Expand);

impl Semantics for Pointwise {
    fn expand(&self, b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Option<Vec<Value>>, OpError> {
        Ok(Some(vec![self.0(b, x, attrs)?]))
    }

    fn is_elementwise(&self) -> bool {
        true
    }
}

/// `f(x…)` with 16-bit floats widened to `f32`, and the result rounded back to the type of the first operand:
/// one rounding, not one for each step.
///
/// # Errors
/// [`OpError::DType`] for narrow types, and those of `f`.
pub(crate) fn in_arithmetic(
    b: &mut Build,
    x: &[Value],
    f: impl FnOnce(&mut Build, &[Value]) -> Result<Value, OpError>,
) -> Result<Value, OpError> {
    let dtype = b.ty(x[0]).dtype;
    if dtype.is_narrow() {
        return Err(OpError::DType { operand: "x", expected: ARITHMETIC, found: dtype });
    }
    let wide: Vec<Value> = x
        .iter()
        .map(|&value| {
            let to = b.ty(value).dtype.arithmetic();
            convert(b, value, to)
        })
        .collect::<Result<_, _>>()?;
    let y = f(b, &wide)?;
    convert(b, y, dtype)
}
