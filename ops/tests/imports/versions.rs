//! What the first opsets say otherwise than those since.

use super::*;

#[test]
fn before_opset_7_attributes_say_what_is_broadcast() {
    let (x, row) = (counting(&[2, 3, 2]), floats(&[3], &[10.0, 20.0, 30.0]));
    let along = [("broadcast", int(1)), ("axis", int(1))];
    let sum = run(6, "Add", &[x.clone(), row.clone()], &along, 1).remove(0);
    assert_eq!(sum.to_f64(), [10.0, 11.0, 22.0, 23.0, 34.0, 35.0, 16.0, 17.0, 28.0, 29.0, 40.0, 41.0]);
    let from_end = run(6, "Add", &[x.clone(), row], &[("broadcast", int(1)), ("axis", int(-2))], 1).remove(0);
    assert_eq!(from_end.to_f64(), sum.to_f64());
    let last = floats(&[2], &[1.0, 0.0]);
    for op in ["Sub", "Mul", "Div", "Pow"] {
        let old = run(6, op, &[x.clone(), last.clone()], &[("broadcast", int(1))], 1).remove(0);
        let new = run(7, op, &[x.clone(), last.clone()], &[], 1).remove(0);
        assert_eq!(old.to_f64(), new.to_f64(), "{op}");
    }
    for op in ["Less", "Greater", "Equal"] {
        let old = run(6, op, &[x.clone(), last.clone()], &[("broadcast", int(1))], 1).remove(0);
        assert_eq!((old.dtype(), old.shape()), (DType::Bool, &[2, 3, 2][..]), "{op}");
    }
}

#[test]
fn before_opset_7_nothing_is_broadcast_unasked() {
    let mut m = Model::new(6);
    let (x, y) = (m.input(DType::F32, &["2", "3"]), m.input(DType::F32, &["1", "3"]));
    let error = m.convert("Add", &[x, y], &[]).unwrap_err();
    assert_eq!(error.to_string(), "operands without broadcasting: 2 against 1");
    let row = m.input(DType::F32, &["3"]);
    let error = m.convert("And", &[x, row], &[]).unwrap_err();
    assert_eq!(error.to_string(), "operand `B` has rank 1, expected 2");
    let attrs = [("broadcast", int(1)), ("axis", int(0))];
    let error = m.convert("Mul", &[x, row], &attrs).unwrap_err();
    assert_eq!(error.to_string(), "operands do not broadcast: 2 against 3");
    // The first operand never stretches.
    let error = m.convert("Mul", &[y, x], &[("broadcast", int(1))]).unwrap_err();
    assert_eq!(error.to_string(), "operands do not broadcast: 1 against 2");
    let square = m.input(DType::F32, &["3", "3"]);
    let error = m.convert("Gemm", &[x, square, y], &[]).unwrap_err();
    assert_eq!(error.to_string(), "operands without broadcasting: 2 against 1");
    let y = m.add("Gemm", &[x, square, y], &[("broadcast", int(1))]);
    assert_eq!(m.shape(y), "f32[2, 3]");
}

#[test]
fn before_opset_6_inputs_may_be_consumed() {
    let mut m = Model::new(5);
    let x = m.input(DType::F32, &["3"]);
    let y = m.add("Relu", &[x], &[("consumed_inputs", ints(&[0]))]);
    assert_eq!(m.shape(y), "f32[3]");
    m.opset = 6;
    assert!(m.convert("Relu", &[x], &[("consumed_inputs", ints(&[0]))]).is_err());
}

#[test]
fn slopes_were_one_for_each_channel() {
    let x = Tensor::from_fn(DType::F32, &[1, 2, 2], |_| Scalar::f32(-1.0));
    let y = run(6, "PRelu", &[x.clone(), floats(&[2], &[2.0, 3.0])], &[], 1).remove(0);
    assert_eq!(y.to_f64(), [-2.0, -2.0, -3.0, -3.0]);
    let y = run(7, "PRelu", &[x.clone(), floats(&[2], &[2.0, 3.0])], &[], 1).remove(0);
    assert_eq!(y.to_f64(), [-2.0, -3.0, -2.0, -3.0]);
    let y = run(6, "PRelu", &[x, floats(&[1], &[5.0])], &[], 1).remove(0);
    assert_eq!(y.to_f64(), [-5.0; 4]);
}

/// Two samples of two channels of two places, with one and the same in each.
#[test]
fn batch_norm_shares_nothing_over_the_image_if_told_so() {
    let x = counting(&[2, 2, 2]);
    let parameters = [[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 2.0, 3.0], [1.0; 4]]
        .map(|v| floats(&[2, 2], &v));
    let operands = [vec![x], parameters.to_vec()].concat();
    let attrs = [("spatial", int(0)), ("epsilon", number(0.0))];
    let y = run(7, "BatchNormalization", &operands, &attrs, 1).remove(0);
    assert_eq!(y.to_f64(), [0.0, 0.0, 0.0, 1.0, 4.0, 8.0, 12.0, 17.0]);
    let tested = [&attrs[..], &[("is_test", int(1))]].concat();
    assert_eq!(run(6, "BatchNormalization", &operands, &tested, 1).remove(0).to_f64(), y.to_f64());
    // By the moments of the two samples, which are 4 apart.
    let trained = run(6, "BatchNormalization", &operands, &attrs, 1).remove(0);
    assert_eq!(trained.to_f64(), [-1.0, -2.0, -3.0, -3.0, 1.0, 2.0, 3.0, 5.0]);
}

#[test]
fn what_outputs_of_batch_norm_there_are_said_whether_it_is_training() {
    let x = counting(&[2, 1, 2]);
    let parameters = [1.0, 0.0, 0.0, 1.0].map(|value| floats(&[1], &[value]));
    let operands = [vec![x], parameters.to_vec()].concat();
    let attrs = [("epsilon", number(0.0)), ("momentum", number(0.5))];
    let known = run(9, "BatchNormalization", &operands, &attrs, 1);
    assert_eq!(known[0].to_f64(), [0.0, 1.0, 2.0, 3.0]);
    let trained = run(9, "BatchNormalization", &operands, &attrs, 3);
    assert_eq!(trained[1].to_f64(), [0.75]);
    assert_eq!(trained[2].to_f64(), [1.125]);
    assert!((trained[0].to_f64()[0] + 1.5 / 1.25_f64.sqrt()).abs() < 1e-6);
}

#[test]
fn dropout_was_in_training_unless_it_was_a_test() {
    let mut m = Model::new(6);
    let x = m.input(DType::F32, &["3"]);
    assert_eq!(m.add("Dropout", &[x], &[("is_test", int(1))]), x);
    assert_eq!(m.add("Dropout", &[x], &[("ratio", number(0.0))]), x);
    let error = m.convert("Dropout", &[x], &[]).unwrap_err();
    assert!(error.to_string().starts_with("dropout in training mode is not supported"), "{error}");
}

#[test]
fn shapes_were_attributes() {
    let x = counting(&[2, 3]);
    let y = run(1, "Reshape", std::slice::from_ref(&x), &[("shape", ints(&[0, -1, 1]))], 1).remove(0);
    assert_eq!(y.shape(), [2, 3, 1]);
    let y = run(1, "Pad", std::slice::from_ref(&x), &[("paddings", ints(&[0, 1, 0, 0]))], 1).remove(0);
    assert_eq!(y.to_f64(), [0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0]);
    let nothing = [("paddings", ints(&[0; 4])), ("mode", str("edge")), ("value", number(0.0))];
    assert_eq!(run(1, "Pad", std::slice::from_ref(&x), &nothing, 1).remove(0).to_f64(), x.to_f64());
    let parts = run(2, "Split", std::slice::from_ref(&x), &[("axis", int(1)), ("split", ints(&[1, 2]))], 2);
    assert_eq!(parts[1].to_f64(), [1.0, 2.0, 4.0, 5.0]);
    let both = run(3, "Concat", &[x.clone(), x], &[], 1).remove(0);
    assert_eq!(both.shape(), [2, 6]);
}

/// Counts came in the type of the data.
#[test]
fn in_opset_1_a_split_and_a_tile_took_floats() {
    let mut m = Model::new(1);
    let (x, parts) = (m.input(DType::F32, &["2", "3"]), m.floats(&[1.0, 2.0]));
    let made = m.convert_to("Split", &[x, parts], &[("axis", int(1))], &[true, true]).expect("two parts");
    assert_eq!(m.shape(Some(made[1])), "f32[2, 2]");
    let (tiles, axis) = (m.floats(&[2.0]), m.floats(&[1.0]));
    let y = m.add("Tile", &[x, tiles, axis], &[]);
    assert_eq!(m.eval(y, &[counting(&[2, 3])]).to_f64()[..6], [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
}

#[test]
fn in_opset_1_images_were_enlarged_by_two_attributes() {
    let scales = [("height_scale", number(2.0)), ("width_scale", number(1.0))];
    let y = run(1, "Upsample", &[counting(&[1, 1, 2, 2])], &scales, 1).remove(0);
    assert_eq!(y.to_f64(), [0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0]);
}

#[test]
fn before_opset_6_element_types_had_names() {
    let mut m = Model::new(5);
    let x = m.input(DType::F32, &["3"]);
    let y = m.add("Cast", &[x], &[("to", str("INT64"))]);
    assert_eq!(m.shape(y), "i64[3]");
    let error = m.convert("Cast", &[x], &[("to", str("COMPLEX64"))]).unwrap_err();
    assert!(error.to_string().starts_with("element type COMPLEX64 is not supported"), "{error}");
}

/// The default that the specification of RNN lists is that of both directions.
#[test]
fn a_recurrent_layer_may_name_activations_of_directions_that_it_has_not() {
    let mut m = Model::new(7);
    let operands =
        [["4", "1", "2"], ["1", "3", "2"], ["1", "3", "3"]].map(|shape| m.input(DType::F32, &shape));
    let y = m.add("RNN", &operands, &[("activations", strs(&["Tanh", "Tanh"])), ("hidden_size", int(3))]);
    assert_eq!(m.shape(y), "f32[4, 1, 1, 3]");
    let error = m.convert("RNN", &operands, &[("activations", strs(&["Tanh", "Tanh", "Tanh"]))]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `activations`: 1 are needed");
}
