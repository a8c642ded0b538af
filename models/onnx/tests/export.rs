//! What is written: bytes that are the same every time, names that stay, weights in the model or in a file beside it.

use ir::build::Build;
use ir::weight::Bytes;
use ir::{DType, Graph, Scalar, Tensor, TensorType, Weight};
use onnx::{
    ExportOptions, ExportProblem, Exported, FileError, Files, ImportOptions, NoFiles, export, import,
};
use ops::math::add::ADD;
use ops::math::cast::{CAST, TO};

/// A large weight, a small one and one of two elements to a byte, of odd number.
fn model() -> Graph {
    let mut b = Build::new("g");
    let large =
        Tensor::from_fn(DType::F32, &[3, 700], |at| Scalar::from_i64(DType::F32, (at[0] * 7 + at[1]) as i64));
    let nibbles = Tensor::from_fn(DType::I4, &[3, 1], |at| Scalar::from_i64(DType::I4, at[0] as i64 - 2));
    // In another order than it is stored.
    let turned = Tensor::from_fn(DType::F32, &[700, 3], |at| large.at(&[at[1], at[0]]));
    let large = b.weight(Weight::from_tensor("", &turned).permuted("a/large", &[1, 0]));
    let nibbles = b.weight(Weight::from_tensor("nibbles", &nibbles));
    let small = b.weight(Weight::from_tensor("small", &Tensor::from_f32(&[3, 1], &[0.5, 1.5, 2.5])));
    let x = b.input("x", TensorType::fixed(DType::F32, &[3, 700]));
    let wide = b.op_with(&CAST, &[nibbles], [TO.is(DType::F32)]).expect("a cast");
    let sum = b.op(&ADD, &[x, large]).expect("equal shapes");
    let sum = b.op(&ADD, &[sum, small]).expect("it broadcasts");
    let sum = b.op(&ADD, &[sum, wide]).expect("it broadcasts");
    b.finish(vec![sum])
}

struct Beside(Vec<u8>);

impl Files for Beside {
    fn external(&self, location: &str, offset: u64, length: u64) -> Result<Bytes, FileError> {
        assert_eq!(location, "m.onnx.data");
        let range =
            || FileError::Range { location: location.to_owned(), offset, length, size: self.0.len() as u64 };
        let bytes = self.0.get(offset as usize..(offset + length) as usize).ok_or_else(range)?;
        Ok(bytes.to_vec().into())
    }
}

fn written(external: bool) -> (Exported, Vec<u8>) {
    let options = ExportOptions { data_file: "m.onnx.data".to_owned(), external };
    let exported = export(&model(), &options).unwrap_or_else(|at| panic!("{at}"));
    let mut data = Vec::new();
    exported.write_data(&mut data).expect("memory takes it");
    (exported, data)
}

fn result(graph: &Graph) -> Tensor {
    let x = Tensor::from_f32(&[3, 700], &vec![0.25; 2100]);
    ir::graph::eval(graph, &[x]).expect("it evaluates").remove(0)
}

#[test]
fn weights_may_lie_beside_the_model() {
    let (inline, nothing) = written(false);
    assert!(!inline.has_data() && nothing.is_empty());
    let (external, data) = written(true);
    assert!(external.has_data());
    // The large one alone is worth a file.
    assert_eq!(data.len(), 3 * 700 * 4);
    assert!(inline.to_bytes().len() > data.len() && external.to_bytes().len() < 2000);
    for (bytes, files) in
        [(inline.to_bytes(), &NoFiles as &dyn Files), (external.to_bytes(), &Beside(data.clone()))]
    {
        let read = import(&bytes, files, &ImportOptions::default()).expect("it was just written").graph;
        assert_eq!(result(&read), result(&model()));
        let mut names: Vec<String> = read
            .order()
            .into_iter()
            .filter_map(|id| Some(read.node(id).weight()?.name().to_owned()))
            .collect();
        names.sort();
        assert_eq!(names, ["a/large", "nibbles", "small"]);
        assert_eq!((read.input_name(read.inputs()[0]), read.output_names()), ("x", vec!["y0"]));
    }
}

#[test]
fn equal_graphs_give_equal_bytes() {
    assert_eq!(written(false).0.to_bytes(), written(false).0.to_bytes());
}

#[test]
fn a_file_for_weights_must_have_a_name() {
    let error = export(&model(), &ExportOptions { data_file: String::new(), external: true }).err();
    assert!(matches!(error.map(|at| at.error), Some(ExportProblem::NoDataFile { .. })));
}

#[test]
fn what_the_model_was_read_from_is_noted() {
    let place = ir::origin::Place {
        name: "node_add".to_owned(),
        op: "Add".to_owned(),
        module: "layers.0".to_owned(),
        source: "model.py:12".to_owned(),
    };
    let mut b = Build::new("g");
    let x = b.input("x", TensorType::fixed(DType::F32, &[2]));
    b.set_origin(ir::Origin::place(place.clone()));
    let y = b.op(&ADD, &[x, x]).expect("equal shapes");
    let bytes = export(&b.finish(vec![y]), &ExportOptions::default()).expect("it can be written").to_bytes();
    let read = import(&bytes, &NoFiles, &ImportOptions::default()).expect("it was just written").graph;
    let origin = &read.node(read.outputs()[0].node).origin;
    let found = &origin.places()[0];
    assert_eq!((&found.module, &found.source), (&place.module, &place.source));
}
