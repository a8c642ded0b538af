//! A table of numbers: each element that is a key becomes its value, any other a default.
//!
//! Since version 4, NaN is a key like any other. Each element is compared with each key. Source: ONNX ai.onnx.ml.LabelEncoder, version 4. Not imported: strings.

use std::collections::BTreeSet;

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Dim, Scalar, Tensor};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::is_nan::IS_NAN;
use crate::math::mul::MUL;
use crate::math::or::OR;
use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, since};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;

/// The ONNX op.
pub static ONNX: &[Import] = &[since("LabelEncoder", 2, import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let strings = ["keys_strings", "values_strings"].into_iter().find(|name| node.has(name));
    if let Some(name) = strings {
        return Err(ImportError::Unsupported {
            what: format!("LabelEncoder with `{name}`"),
            help: "encode strings as numbers before they come to the model".to_owned(),
        });
    }
    // Defaults of the other types mean nothing.
    node.ignore(&["default_string", "default_float", "default_int64"]);
    let x = node.input(0)?;
    let keys = numbers(node, "keys")?;
    let values = numbers(node, "values")?;
    if keys.elements() != values.elements() {
        let why = format!("there are {} keys and {} values", keys.elements(), values.elements());
        return Err(ImportError::Attribute { name: "values".to_owned(), why });
    }
    let of_type = keys.dtype();
    let mut seen = BTreeSet::new();
    if let Some(i) = (0..keys.elements()).find(|&i| !seen.insert(identity(keys.get(i)))) {
        return Err(ImportError::value("keys", keys.get(i), "keys that differ"));
    }
    let default = default(node, values.dtype())?;
    let count = keys.elements();
    let has_nan = node.opset >= 4 && (0..count).any(|i| is_nan(keys.get(i)));
    let nan = Tensor::from_fn(DType::Bool, &[count], |at| Scalar::bool(is_nan(keys.get(at[0]))));
    let flat = Tensor::from_fn(of_type, &[count], |at| keys.get(at[0]));
    let table = Tensor::from_fn(values.dtype(), &[count + 1], |at| match at[0] {
        0 => default,
        i => values.get(i - 1),
    });
    let (keys, table) = (b.constant(&flat), b.constant(&table));
    let column = [b.ty(x).shape.clone(), vec![Dim::constant(1)]].concat();
    let x = convert(b, x, of_type)?;
    let x = reshape(b, x, column)?;
    let mut found = b.op(&EQ, &[x, keys])?;
    if has_nan {
        let (nan, is_nan) = (b.constant(&nan), b.op(&IS_NAN, &[x])?);
        let both = b.op(&AND, &[nan, is_nan])?;
        found = b.op(&OR, &[found, both])?;
    }
    // The place of the only key that it is, counted from 1, or 0.
    let found = convert(b, found, DType::I64)?;
    let (places, one) = (iota(b, count.into(), DType::I64)?, b.scalar(DType::I64, 1.0));
    let places = b.op(&ADD, &[places, one])?;
    let place = b.op(&MUL, &[found, places])?;
    let place = reduce(b, &REDUCE_SUM, place, &[-1], false)?;
    Ok(vec![b.op_with(&GATHER, &[table, place], [AXIS.is(0)])?])
}

/// The same for numbers that are one key: zeros of both signs are, and so are all NaNs.
fn identity(number: Scalar) -> u64 {
    match (number.dtype().is_float(), number.to_f64()) {
        (true, value) if value.is_nan() => f64::NAN.to_bits(),
        (true, value) => (value + 0.0).to_bits(),
        (false, _) => number.to_i64() as u64,
    }
}

fn is_nan(number: Scalar) -> bool {
    number.dtype().is_float() && number.to_f64().is_nan()
}

/// The elements of `keys` or `values`, whatever their type.
fn numbers(node: &NodeView, which: &str) -> Result<Tensor, ImportError> {
    if let Some(tensor) = node.tensor(&format!("{which}_tensor"))? {
        return Ok(tensor.tensor());
    }
    if let Some(numbers) = node.ints(&format!("{which}_int64s"))? {
        return Ok(Tensor::from_i64(&[numbers.len()], &numbers));
    }
    let name = format!("{which}_floats");
    let numbers = node.required(&name, node.floats(&name)?)?;
    Ok(Tensor::from_fn(DType::F32, &[numbers.len()], |at| Scalar::from_f64(DType::F32, numbers[at[0]])))
}

/// What any other element becomes.
fn default(node: &NodeView, dtype: DType) -> Result<Scalar, ImportError> {
    if let Some(tensor) = node.tensor("default_tensor")? {
        if tensor.elements() != 1 || tensor.dtype() != dtype {
            let why = "it must be one element of the type of the values".to_owned();
            return Err(ImportError::Attribute { name: "default_tensor".to_owned(), why });
        }
        return Ok(tensor.get(0));
    }
    Ok(match dtype {
        DType::I64 => Scalar::from_i64(dtype, node.int_or("default_int64", -1)?),
        _ if dtype.is_float() => Scalar::from_f64(dtype, node.float_or("default_float", -0.0)?),
        _ => Scalar::from_i64(dtype, -1),
    })
}
