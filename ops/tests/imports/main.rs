//! ONNX nodes become what their version says: attributes that became inputs, defaults that changed, bounds
//! that count from the end, sizes that are symbols; and what can't be imported says so.

mod attention;
mod experts;
mod images;
mod layers;
mod ml;
mod narrow;
mod random;
mod signal;
mod sizes;
mod tensors;
mod versions;

use std::cell::RefCell;
use std::collections::BTreeMap;

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Dim, Scalar, Tensor, TensorType};
use ops::onnx::{Found, ImportError, Known, NodeAttr, NodeView, find_import};

/// A graph under construction, as an importer has it.
struct Model {
    b: Build,
    sizes: RefCell<Known>,
    opset: i64,
}

impl Model {
    fn new(opset: i64) -> Model {
        Model { b: Build::new("model"), sizes: RefCell::default(), opset }
    }

    fn input(&mut self, dtype: DType, shape: &[&str]) -> Option<Value> {
        let size = |text: &&str| text.parse::<i64>().map_or_else(|_| Dim::symbol(text), Dim::constant);
        let name = format!("x{}", self.b.graph().inputs().len());
        Some(self.b.input(&name, TensorType::new(dtype, shape.iter().map(size))))
    }

    fn ints(&mut self, values: &[i64]) -> Option<Value> {
        Some(self.b.constant(&Tensor::from_i64(&[values.len()], values)))
    }

    fn floats(&mut self, values: &[f32]) -> Option<Value> {
        Some(self.b.constant(&Tensor::from_f32(&[values.len()], values)))
    }

    fn scalar(&mut self, dtype: DType, value: f64) -> Option<Value> {
        Some(self.b.scalar(dtype, value))
    }

    fn convert_to(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: &[(&str, NodeAttr)],
        outputs: &[bool],
    ) -> Result<Vec<Value>, ImportError> {
        let attributes: BTreeMap<String, NodeAttr> =
            attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        let node = NodeView::new(op, self.opset, &attributes, &self.sizes)
            .in_domain(domain)
            .with_inputs(inputs.to_vec())
            .with_outputs(outputs.to_vec());
        let Found::Import(import) = find_import(domain, op, self.opset) else { panic!("{op} is unknown") };
        import.convert(&node, &mut self.b)
    }

    fn convert(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: &[(&str, NodeAttr)],
    ) -> Result<Option<Value>, ImportError> {
        Ok(Some(self.convert_to(op, inputs, attrs, &[true])?[0]))
    }

    fn add(&mut self, op: &str, inputs: &[Option<Value>], attrs: &[(&str, NodeAttr)]) -> Option<Value> {
        self.convert(op, inputs, attrs).unwrap_or_else(|error| panic!("{op}: {error}"))
    }

    fn shape(&self, value: Option<Value>) -> String {
        self.b.ty(value.expect("a value")).to_string()
    }

    fn eval(self, output: Option<Value>, inputs: &[Tensor]) -> Tensor {
        let graph = self.b.finish(vec![output.expect("a value")]);
        ir::graph::eval(&graph, inputs).unwrap_or_else(|at| panic!("{}", at.error)).remove(0)
    }
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values)
}

fn number(value: f64) -> NodeAttr {
    NodeAttr::Float(value)
}

fn numbers(values: &[f64]) -> NodeAttr {
    NodeAttr::Floats(values.to_vec())
}

fn strs(values: &[&str]) -> NodeAttr {
    NodeAttr::Strs(values.iter().map(|&value| value.to_owned()).collect())
}

/// Numbers from −1 to 1 that look random, the same each time.
fn noise(shape: &[usize]) -> Tensor {
    let mut state = 1_u32;
    Tensor::from_fn(DType::F32, shape, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Scalar::f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    })
}

fn assert_near(found: &Tensor, expected: &[f64], what: &str) {
    assert_eq!(found.elements(), expected.len(), "{what}");
    for (i, (found, expected)) in found.to_f64().into_iter().zip(expected).enumerate() {
        let tolerance = 1e-4 * (1.0 + expected.abs());
        assert!((found - expected).abs() <= tolerance, "{what}, element {i}: {found}, expected {expected}");
    }
}

fn int(value: i64) -> NodeAttr {
    NodeAttr::Int(value)
}

fn ints(values: &[i64]) -> NodeAttr {
    NodeAttr::Ints(values.to_vec())
}

fn str(value: &str) -> NodeAttr {
    NodeAttr::Str(value.to_owned())
}

fn counting(shape: &[usize]) -> Tensor {
    let mut next = 0.0;
    Tensor::from_fn(DType::F32, shape, |_| {
        next += 1.0;
        Scalar::f32(next - 1.0)
    })
}

/// All results of a node on these operands, which are inputs.
fn run(opset: i64, op: &str, inputs: &[Tensor], attrs: &[(&str, NodeAttr)], results: usize) -> Vec<Tensor> {
    let mut m = Model::new(opset);
    let operands: Vec<_> =
        inputs.iter().enumerate().map(|(i, x)| Some(m.b.input(&format!("x{i}"), x.ty()))).collect();
    let made = m.convert_to(op, &operands, attrs, &vec![true; results]);
    let made = made.unwrap_or_else(|error| panic!("{op} {opset}: {error}"));
    let graph = m.b.finish(made);
    ir::graph::eval(&graph, inputs).unwrap_or_else(|at| panic!("{}", at.error))
}

/// A part of `x` along an axis.
fn part(x: &Tensor, axis: usize, from: usize, count: usize) -> Tensor {
    let mut shape = x.shape().to_vec();
    shape[axis] = count;
    Tensor::from_fn(DType::F32, &shape, |at| {
        let mut at = at.to_vec();
        at[axis] += from;
        x.at(&at)
    })
}

fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64(shape, values)
}

#[test]
fn the_latest_version_that_is_not_newer_is_found() {
    let since = |opset| match find_import("", "Squeeze", opset) {
        Found::Import(import) => import.since,
        _ => panic!("Squeeze is known"),
    };
    assert_eq!([since(7), since(12), since(13), since(28)], [1, 1, 13, 13]);
    assert!(matches!(find_import("", "NoSuchOp", 20), Found::UnknownOp));
    assert!(matches!(find_import("com.microsoft", "FusedMatMul", 1), Found::Import(_)));
    assert!(matches!(find_import("com.microsoft", "Relu", 1), Found::UnknownOp));
}

#[test]
fn imports_are_unambiguous() {
    let mut all: Vec<_> = ops::ALL
        .iter()
        .flat_map(|entry| entry.onnx)
        .chain(ops::IMPORTS.iter().copied().flatten())
        .map(|import| (import.domain, import.op_type, import.since))
        .collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "two imports of one op at one version");
    assert!(count > 130);
}

#[test]
fn an_attribute_that_nothing_reads_is_an_error() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n"]);
    let error = m.convert("Relu", &[x], &[("slope", int(1))]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `slope`: Relu has no such attribute at version 13");
    let error = m.convert("Softmax", &[x], &[("axis", str("last"))]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `axis`: expected an integer, found a string");
}

#[test]
fn a_missing_input_and_an_unknown_output_are_errors() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["1", "1", "4"]);
    assert_eq!(m.convert("Add", &[x, None], &[]), Err(ImportError::MissingInput { index: 1 }));
    let error = m.convert_to("Relu", &[x], &[], &[true, true]).unwrap_err();
    assert!(error.to_string().starts_with("output 1 of Relu is not supported"), "{error}");
    assert!(m.convert_to("Relu", &[x], &[], &[true, false]).is_ok());
}

#[test]
fn element_types_that_we_lack_are_named() {
    let mut m = Model::new(19);
    let x = m.input(DType::F32, &["n"]);
    let error = m.convert("Cast", &[x], &[("to", int(27))]).unwrap_err();
    assert!(error.to_string().starts_with("element type float6e2m3 is not supported"), "{error}");
}

#[test]
fn the_reference_page_lists_every_op_once() {
    let page = ops::markdown();
    for entry in ops::ALL {
        assert_eq!(page.matches(&format!("\n| `{}` |", entry.op.name)).count(), 1, "{}", entry.op.name);
    }
    assert!(
        page.contains("| `softmax` | x | `axis`: an integer | Softmax, Softmax 13, Hardmax, Hardmax 13 |")
    );
}
