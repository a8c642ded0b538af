//! ONNX Constant: it becomes a weight.
//!
//! Source: ONNX Constant, opset 25. Not imported: strings, and sparse tensors.

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Scalar, Tensor};

use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX ops that become weights.
pub static ONNX: &[Import] = &[by("Constant", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let vector =
        |dtype: DType, values: Vec<Scalar>| Tensor::from_fn(dtype, &[values.len()], |at| values[at[0]]);
    let float = |value: f64| Scalar::from_f64(DType::F32, value);
    let int = |value: i64| Scalar::from_i64(DType::I64, value);
    let tensor = if let Some(tensor) = node.tensor("value")? {
        return Ok(vec![b.weight(tensor.clone())]);
    } else if let Some(value) = node.float("value_float")? {
        Tensor::scalar(float(value))
    } else if let Some(values) = node.floats("value_floats")? {
        vector(DType::F32, values.into_iter().map(float).collect())
    } else if let Some(value) = node.int("value_int")? {
        Tensor::scalar(int(value))
    } else if let Some(values) = node.ints("value_ints")? {
        vector(DType::I64, values.into_iter().map(int).collect())
    } else {
        let what = "a constant that is a string or a sparse tensor".to_owned();
        return Err(ImportError::Unsupported { what, help: "use a dense tensor of numbers".to_owned() });
    };
    Ok(vec![b.constant(&tensor)])
}
