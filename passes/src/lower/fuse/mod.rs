//! Fuses kernels in the stage form.
//!
//! All kernels are first laid open as one list of stages (`flat`). Then
//! - an array that is another one in a different shape becomes a view of it, and moves no data (`flat`);
//! - an array computed element by element is put into the expressions that load it, where that repeats no work
//!   (`inline`);
//! - what is left is grouped: stages that run over a common iteration space and hand elements to each other
//!   become one kernel, a matrix product or convolution with what follows it, a row reduction with the elements
//!   that it normalises (`group`);
//! - groups become kernels again, in canonical names, so that equal ones are equal (`emit`).
//!
//! All of it keeps every bit: expressions are moved, never regrouped.

mod emit;
mod flat;
mod group;
mod inline;

use ir::kernel::Body;
use ir::program::Program;
use ir::{At, Origin};

use crate::error::PassError;
use crate::lower::Names;
use crate::pass::{About, Changed, Cx, ProgramPass};

/// See the [module](self).
pub struct Fuse;

impl ProgramPass for Fuse {
    fn about(&self) -> About {
        About::new("fuse", "put what hands over elements into one kernel")
    }

    fn run(&self, program: &mut Program, _: &Cx) -> Result<Changed, At<PassError>> {
        if program.kernels.iter().any(|kernel| matches!(kernel.body, Body::Loops(_))) {
            let error =
                PassError::WrongNoun { pass: "fuse", wants: "kernels in the stage form", found: "loops" };
            return Err(At { node: None, origin: Origin::none(), error });
        }
        let before = program.clone();
        let entries = std::mem::take(&mut program.entries);
        let (mut kernels, mut names) = (Vec::new(), Names::default());
        for entry in entries {
            let mut flat = flat::Flat::open(program, &entry);
            flat.resolve_views();
            inline::inline(&mut flat);
            let groups = group::group(&flat);
            program.entries.push(emit::emit(&flat, &groups, entry, &mut kernels, &mut names));
        }
        program.kernels = kernels;
        crate::lower::drop_unused_weights(program);
        Ok(Changed(*program != before))
    }
}
