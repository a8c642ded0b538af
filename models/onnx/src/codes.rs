//! What the codes of this crate's problems mean, for `egraft explain CODE`.
//!
//! A code is stable; messages are not. Those that start with `egraft::op::` belong to the crate `ir`.

/// Every code that a problem of this crate may have, with what it means and what to do. Sorted.
pub const CODES: &[(&str, &str)] = &[
    (
        "egraft::onnx::attribute",
        "A node's attribute is missing, is given twice, has another type than its operator declares, or a value that \
         makes no sense. An attribute that the operator does not have at the model's opset is reported, too: what a \
         node asks for is done or refused, never skipped.",
    ),
    (
        "egraft::onnx::cycle",
        "Nodes wait for each other's results, so none can run first. The message lists one circle; each node in it \
         reads a result of the one before.",
    ),
    (
        "egraft::onnx::data",
        "A file of test data holds a sequence or an optional of something other than tensors.",
    ),
    (
        "egraft::onnx::duplicate",
        "Two inputs, initializers or nodes give a value of the same name. In an ONNX graph each name is given once. \
         (An initializer may repeat the name of an input: it is then a constant.)",
    ),
    (
        "egraft::onnx::export",
        "A graph has a part that cannot be written as ONNX: an op without nodes, body or expansion for its operands, or a \
         size that no input tells. Other forms of the model, such as .ir, hold it.",
    ),
    (
        "egraft::onnx::external_file",
        "A tensor's values lie in a file beside the model, and that file can't be read, or is no file. Weights must \
         be copied along with the model.",
    ),
    (
        "egraft::onnx::external_path",
        "A tensor names a file outside of the model's folder. Paths must be relative, must not climb out by `..`, and \
         a link is followed only if it leads below the model's folder, or below the folder in which the model's own \
         link ends (the layout of model hubs).",
    ),
    (
        "egraft::onnx::external_range",
        "The range of bytes that a tensor names in a file does not exist there, or has another length than the \
         tensor's type needs. Often the file is truncated or belongs to another version of the model.",
    ),
    (
        "egraft::onnx::function",
        "A model-local function is defined twice, or called with more inputs or outputs than it has.",
    ),
    (
        "egraft::onnx::function_attribute",
        "A function's body needs an attribute of the function that has no default and that the call leaves out.",
    ),
    ("egraft::onnx::input", "An input that the operator requires is missing, or left empty."),
    (
        "egraft::onnx::input_value",
        "The length of a sequence, a position in one, or the side of a branch that gives another sequence than the other \
         must be known when the model is compiled, and follows from an input. Give that input's value with --value: the \
         model is compiled for it, and refuses others when it runs.",
    ),
    (
        "egraft::onnx::ir_version",
        "The version of the file format is missing, or outside of those that egraft reads (3 to 14).",
    ),
    (
        "egraft::onnx::length",
        "An input is a sequence of tensors. A compiled model takes a fixed number of them, as inputs NAME.0, NAME.1 and \
         so on: give it with --length NAME=N.",
    ),
    (
        "egraft::onnx::malformed",
        "The bytes are no ONNX file, or not all of one. Compare the file's size with the original's; a file of a few \
         lines may be a pointer that git-lfs left in place of the model.",
    ),
    (
        "egraft::onnx::negative_dim",
        "An input is given a size below zero, or one from which such a size follows.",
    ),
    ("egraft::onnx::no_graph", "The file is an ONNX model without a graph: there is nothing to compile."),
    (
        "egraft::onnx::no_output",
        "The graph or a function promises an output that no input, initializer or node gives.",
    ),
    (
        "egraft::onnx::no_shape",
        "Of an input not even the number of axes is known. State its shape with --input-shape NAME:1x3x224x224.",
    ),
    ("egraft::onnx::op_type", "A node names no operator."),
    (
        "egraft::onnx::opset",
        "The version of an operator set is missing, given twice, outside of those that egraft reads (1 to 28 for \
         ai.onnx), or older than an operator that the model uses.",
    ),
    (
        "egraft::onnx::option",
        "A size, shape, length or value given on the command line is for a symbol or an input that the model does not have, or \
         contradicts what it declares. `egraft inspect MODEL` lists inputs and symbols.",
    ),
    (
        "egraft::onnx::output_type",
        "The element type, rank or a fixed size of an output, or whether it is a tensor, a sequence or nothing, as the \
         model declares it, differs from what follows from its inputs. The model contradicts itself.",
    ),
    (
        "egraft::onnx::recursion",
        "A model-local function calls itself, directly or through others, so opening the call would never end.",
    ),
    (
        "egraft::onnx::run_time_value",
        "An input that decides shapes (axes, a target shape, bounds of a slice) is computed from data at run time. It \
         must be a constant, or follow from the shapes of inputs.",
    ),
    (
        "egraft::onnx::sequence",
        "An operator that takes tensors is given a sequence of tensors, or an optional without an element. Sequences are known to the operators that make, \
         change and read them (SequenceConstruct, SplitToSequence, SequenceAt, …); take the tensor out first.",
    ),
    ("egraft::onnx::sparse", "An initializer is stored in sparse form. Store it as a dense tensor."),
    (
        "egraft::onnx::tensor_data",
        "A tensor's values are more or fewer than its dims say, stand in a field that does not belong to its element \
         type, or don't fit that type.",
    ),
    ("egraft::onnx::tensor_dims", "A tensor has a negative size, or more than 1 TiB."),
    ("egraft::onnx::tensor_dtype", "A tensor states no element type, or one that egraft does not have."),
    (
        "egraft::onnx::too_large",
        "A value is larger than 1 TiB, which no machine holds: its sizes are surely wrong.",
    ),
    (
        "egraft::onnx::too_many_nodes",
        "Calls of model-local functions are opened in place. Opened, they would be more nodes, or nested deeper, than \
         any exporter writes.",
    ),
    (
        "egraft::onnx::type",
        "An input or output states no type, or is a map, a sequence or an optional of something other than tensors, or a \
         tensor of an element type that egraft does not have.",
    ),
    (
        "egraft::onnx::undefined",
        "A node reads a value that no input, initializer or node gives. A weight may be missing.",
    ),
    (
        "egraft::onnx::unsupported",
        "Legal ONNX that egraft does not support, for example a rare attribute. The message says what, and the way out.",
    ),
    (
        "egraft::onnx::unsupported_op",
        "An operator that egraft does not have, neither as an op nor as a combination of ops. All nodes with such \
         operators are reported at once. `egraft ops` lists the operators that there are.",
    ),
];

#[cfg(test)]
mod tests {
    use super::CODES;

    const SOURCES: [&str; 5] = [
        include_str!("export/mod.rs"),
        include_str!("error.rs"),
        include_str!("tensor.rs"),
        include_str!("types.rs"),
        include_str!("external.rs"),
    ];

    #[test]
    fn every_code_is_explained_once_and_in_order() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
        let mut used: Vec<&str> = SOURCES
            .iter()
            .flat_map(|source| source.split('"').filter(|text| text.starts_with("egraft::onnx::")))
            .collect();
        // The crate `ops` has codes of its own for what conversions say.
        used.extend(["egraft::onnx::input", "egraft::onnx::input_value", "egraft::onnx::run_time_value"]);
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, CODES.iter().map(|(code, _)| *code).collect::<Vec<_>>());
    }
}
