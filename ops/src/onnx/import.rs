//! Which ONNX ops become what: the entries of the ops' files, and how one is found.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpDef;

use super::{ImportError, NodeView};
use crate::math::elementwise::aligned;

/// A conversion: the results of the node, at least as many as it has outputs with names.
pub type Convert = fn(&NodeView, &mut Build) -> Result<Vec<Value>, ImportError>;

/// How a node becomes ours.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// The op with the same operands and no attributes.
    Same(&'static OpDef),
    /// The op with the same two operands, which broadcast; before opset 7, as attributes say.
    Zip(&'static OpDef),
    /// By a function.
    By(Convert),
}

/// An ONNX op from some version on.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// Its name.
    pub op_type: &'static str,
    /// Its domain; `""` for `ai.onnx`.
    pub domain: &'static str,
    /// The first version that this is for.
    pub since: i64,
    /// How it becomes ours.
    pub how: How,
}

/// `op_type` is `op` with the same operands, at every version.
pub const fn same(op_type: &'static str, op: &'static OpDef) -> Import {
    Import { op_type, domain: "", since: 1, how: How::Same(op) }
}

/// `op_type` is `op` with the same two operands, which broadcast as each version says.
pub const fn zip(op_type: &'static str, op: &'static OpDef) -> Import {
    Import { op_type, domain: "", since: 1, how: How::Zip(op) }
}

/// `op_type` is what `convert` makes of it, at every version.
pub const fn by(op_type: &'static str, convert: Convert) -> Import {
    since(op_type, 1, convert)
}

/// `op_type` is what `convert` makes of it, from this version on.
pub const fn since(op_type: &'static str, since: i64, convert: Convert) -> Import {
    Import { op_type, domain: "", since, how: How::By(convert) }
}

impl Import {
    /// The same in another domain.
    pub const fn in_domain(self, domain: &'static str) -> Import {
        Import { domain, ..self }
    }

    /// Adds the nodes that `node` becomes. There may be more results than it has outputs, never fewer named
    /// ones.
    ///
    /// # Errors
    /// Why the node can't be imported; also an attribute that nothing here reads.
    pub fn convert(&self, node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
        if node.domain.is_empty() && node.opset < 6 {
            // Which inputs may be overwritten.
            node.ignore(&["consumed_inputs"]);
        }
        let results = match self.how {
            How::Same(op) => b.ops_with(op, &node.inputs()?, [])?,
            How::Zip(op) => {
                let operands = aligned(node, b)?;
                b.ops_with(op, &operands, [])?
            }
            How::By(convert) => convert(node, b)?,
        };
        if let Some(name) = node.unread() {
            let why = format!("{} has no such attribute at version {}", node.op_type, node.opset);
            return Err(ImportError::Attribute { name: name.to_owned(), why });
        }
        if let Some(index) = (results.len()..node.output_count()).find(|&index| node.output_used(index)) {
            return Err(ImportError::Unsupported {
                what: format!("output {index} of {}", node.op_type),
                help: "export the model without it".to_owned(),
            });
        }
        Ok(results)
    }
}

/// What [`find_import`] finds.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// The import for this version.
    Import(&'static Import),
    /// No version of this op is known.
    UnknownOp,
    /// The op is known from this version on only.
    UnknownVersion {
        /// That version.
        since: i64,
    },
}

/// The import of `op_type` at version `opset` of `domain` (`""` for `ai.onnx`): the latest that is not newer.
pub fn find_import(domain: &str, op_type: &str, opset: i64) -> Found {
    let versions = || {
        let entries = crate::ALL.iter().flat_map(|entry| entry.onnx);
        let others = crate::IMPORTS.iter().copied().flatten();
        entries.chain(others).filter(|import| import.op_type == op_type && import.domain == domain)
    };
    match versions().filter(|import| import.since <= opset).max_by_key(|import| import.since) {
        Some(import) => Found::Import(import),
        None => match versions().map(|import| import.since).min() {
            Some(since) => Found::UnknownVersion { since },
            None => Found::UnknownOp,
        },
    }
}
