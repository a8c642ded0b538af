//! Graphs out: [`ir::Graph`] to an ONNX model.
//!
//! [`export`] writes any graph: an op becomes the nodes that its file names, or a call of a model-local function of the
//! domain `egraft`, one for each op with its attributes and the types that its body is written for. Bodies are standard
//! nodes, so that any engine runs them. A function says in its metadata which op it is, and [`crate::import`] takes a call of one
//! back as that op, unless its body was changed.
//!
//! Promises
//! - equal graphs give equal bytes; inputs, outputs and weights keep their names;
//! - symbolic sizes stay symbolic: where an operand needs one, nodes compute it, once;
//! - weights are written piece by piece, and never copied whole;
//! - what cannot be written is an error that names the node.
//!
//! Deliberately absent: files (the caller's), and any knowledge of a particular operator but control flow. What ops require of
//! sizes is not written: an engine says it when it runs, or not at all.

mod flow;
mod functions;
mod names;
mod nodes;
mod proto;
mod scope;
mod sizes;
mod stream;

use ir::{At, Graph, Origin};
use onnx_protobuf::{GraphProto, ModelProto, OperatorSetIdProto};
use ops::onnx::export::OPSET;

pub use stream::Exported;

pub(crate) use functions::{BODY, DOMAIN, OP, body_hash};
pub(crate) use scope::{MODULE, SOURCE};

use scope::Writer;

/// Models with more bytes of weights have these in a file of their own: no protobuf is larger than twice that.
pub const MOST_INLINE: u64 = 1 << 30;

/// How a model is written.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// The name of the file for weights, beside the model; needed for more than [`MOST_INLINE`] bytes of them.
    pub data_file: String,
    /// Do weights go to that file, however few they are?
    pub external: bool,
}

/// Why a graph cannot be written as ONNX. Says what; [`At`] says where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportProblem {
    /// An op without nodes, body or expansion for these operands.
    #[error("`{op}` has no form in ONNX for operands of these types: {types}")]
    NoForm {
        /// The op.
        op: String,
        /// The types.
        types: String,
    },
    /// A size that no input of the graph tells.
    #[error("nothing tells the size `{symbol}`, which an operand needs")]
    NoSize {
        /// The symbol.
        symbol: String,
    },
    /// What the body of a function says of its operands.
    #[error("the function for `{op}`: {error}")]
    Body {
        /// The op.
        op: String,
        /// What it says.
        error: Box<ir::op::OpError>,
    },
    /// Bodies inside bodies without end.
    #[error("functions or bodies are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A weight whose bytes do not fit a file.
    #[error("the weights take more than {limit} bytes, and no file for them is named")]
    NoDataFile {
        /// The limit.
        limit: u64,
    },
}

impl ExportProblem {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        "egraft::onnx::export"
    }
}

/// The graph as a model.
///
/// # Errors
/// The first node that cannot be written.
pub fn export(graph: &Graph, options: &ExportOptions) -> Result<Exported, At<ExportProblem>> {
    let mut writer = Writer::new(graph);
    let mut proto = writer.model(graph)?;
    proto.name = graph.name().to_owned();
    let weights = writer.take_weights();
    let model = header(&writer.opsets(), writer.take_functions());
    stream::Exported::new(&model, &proto, weights, options).map_err(nowhere)
}

fn nowhere(error: ExportProblem) -> At<ExportProblem> {
    At { node: None, origin: Origin::none(), error }
}

/// The version of the file format that came with a version of the default domain; none before 10 has metadata of nodes.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=22 => 10,
        23 => 11,
        24 => 12,
        _ => 13,
    }
}

/// The model without its graph.
fn header(opsets: &[OperatorSetIdProto], functions: Vec<onnx_protobuf::FunctionProto>) -> ModelProto {
    let default =
        opsets.iter().find(|import| import.domain.is_empty()).map_or(OPSET, |import| import.version);
    ModelProto {
        ir_version: ir_version(default),
        producer_name: "egraft".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        opset_import: opsets.to_vec(),
        functions,
        ..ModelProto::default()
    }
}

/// A graph of these parts.
fn graph_proto(nodes: Vec<onnx_protobuf::NodeProto>) -> GraphProto {
    GraphProto { node: nodes, ..GraphProto::default() }
}
