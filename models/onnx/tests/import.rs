//! Models made here, to ask of the importer what no model file can: options, unified sizes, several problems at once.

#[path = "import/lists.rs"]
mod lists;

use onnx::{FailureKind, ImportFailure, ImportOptions, ImportProblem, Model, NoFiles, import};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use ir::{Dim, Symbol, Tensor};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `name: Op(inputs) => outputs`; the op may have a domain (`local.Twice`).
fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
    NodeProto {
        name: name.to_owned(),
        op_type: op.to_owned(),
        domain: domain.to_owned(),
        input: strings(inputs),
        output: strings(outputs),
        ..NodeProto::default()
    }
}

/// An f32 value; a size is a number or a text.
fn value(name: &str, sizes: &[&str]) -> ValueInfoProto {
    let dim = |text: &&str| Dimension {
        value: Some(match text.parse() {
            Ok(number) => dimension::Value::DimValue(number),
            Err(_) => dimension::Value::DimParam((*text).to_owned()),
        }),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: sizes.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let tensor =
        type_proto::Tensor { elem_type: 1, shape: Some(shape).into(), ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

/// The same of integers.
fn int_value(name: &str, sizes: &[&str]) -> ValueInfoProto {
    let mut info = value(name, sizes);
    let ty = info.type_.as_mut().and_then(|ty| ty.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = ty else { panic!("it is a tensor") };
    tensor.elem_type = 7;
    info
}

fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() }
}

fn weight(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: 1,
        dims: dims.to_vec(),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.to_owned(), version, ..OperatorSetIdProto::default() }
}

fn model(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> ModelProto {
    let graph = GraphProto {
        name: "test".to_owned(),
        input: inputs,
        node: nodes,
        output: outputs.iter().map(|name| untyped(name)).collect(),
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 10,
        opset_import: vec![opset("", 21), opset("local", 1)],
        graph: Some(graph).into(),
        ..ModelProto::default()
    }
}

fn load_with(model: &ModelProto, options: &ImportOptions) -> Result<Model, ImportFailure> {
    import(&model.write_to_bytes().expect("a model is written"), &NoFiles, options)
}

fn load(model: &ModelProto) -> Result<Model, ImportFailure> {
    load_with(model, &ImportOptions::default())
}

fn codes(failure: &ImportFailure) -> Vec<&'static str> {
    failure.problems().iter().map(|at| at.error.code()).collect()
}

fn refused(model: &ModelProto) -> ImportFailure {
    load(model).expect_err("it must be refused")
}

#[test]
fn nodes_need_not_be_sorted() {
    let nodes = vec![node("second", "Relu", &["a"], &["y"]), node("first", "Add", &["x", "x"], &["a"])];
    let model = load(&model(vec![value("x", &["n"])], nodes, &["y"])).expect("a chain");
    let y = ir::graph::eval(&model.graph, &[Tensor::from_f32(&[2], &[1.0, -1.0])]).expect("two numbers");
    assert_eq!(y, [Tensor::from_f32(&[2], &[2.0, 0.0])]);
    assert_eq!(model.graph.output_names(), ["y"]);
    assert_eq!(model.graph.name(), "test");
}

#[test]
fn only_what_the_outputs_need_stays_and_inputs_do() {
    let nodes = vec![node("used", "Add", &["x", "w"], &["y"]), node("dead", "Relu", &["x"], &["z"])];
    let mut proto = model(vec![value("x", &["2"]), value("unread", &["3"])], nodes, &["y"]);
    let graph = proto.graph.mut_or_insert_default();
    graph.initializer = vec![weight("w", &[2], &[1.0, 2.0]), weight("unused", &[1], &[0.0])];
    let graph = load(&proto).expect("a sum").graph;
    let weights: Vec<&str> = graph
        .order()
        .into_iter()
        .filter_map(|id| graph.node(id).weight())
        .map(|weight| weight.name())
        .collect();
    assert_eq!(weights, ["w"]);
    assert_eq!(graph.inputs().iter().map(|&id| graph.input_name(id)).collect::<Vec<_>>(), ["x", "unread"]);
    assert!(
        graph.order().iter().all(|&id| graph
            .node(id)
            .origin
            .places()
            .iter()
            .all(|place| place.name != "dead"))
    );
}

#[test]
fn sizes_that_an_op_needs_equal_are_unified() {
    let nodes = vec![node("add", "Add", &["x", "t"], &["s"]), node("mul", "Mul", &["s", "u"], &["y"])];
    let inputs = vec![value("x", &["n", "4"]), value("t", &["m", "4"]), value("u", &["k", "c"])];
    let model = load(&model(inputs, nodes, &["y"])).expect("all sizes can agree");
    let types: Vec<String> =
        model.graph.inputs().iter().map(|&id| model.graph.ty(id.into()).to_string()).collect();
    assert_eq!(types, ["f32[n, 4]", "f32[n, 4]", "f32[n, 4]"]);
    let reasons: Vec<String> = model.unified.iter().map(|unified| unified.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "m = n, because node \"add\" (Add) needs n = m",
            "k = n, because node \"mul\" (Mul) needs n = k",
            "c = 4, because node \"mul\" (Mul) needs 4 = c"
        ]
    );
}

#[test]
fn one_stretches_and_is_not_unified() {
    let inputs = vec![value("x", &["n", "4"]), value("t", &["1", "4"])];
    let model =
        load(&model(inputs, vec![node("add", "Add", &["x", "t"], &["y"])], &["y"])).expect("a broadcast");
    assert!(model.unified.is_empty());
    assert_eq!(model.graph.ty(model.graph.outputs()[0]).to_string(), "f32[n, 4]");
}

#[test]
fn unifying_must_suit_earlier_nodes() {
    // x + w fixes n = 4; then y + v would need n = 5.
    let nodes = vec![node("first", "Add", &["x", "w"], &["a"]), node("second", "Add", &["a", "v"], &["y"])];
    let mut proto = model(vec![value("x", &["n"])], nodes, &["y"]);
    proto.graph.mut_or_insert_default().initializer =
        vec![weight("w", &[4], &[0.0; 4]), weight("v", &[5], &[0.0; 5])];
    let failure = refused(&proto);
    assert_eq!(codes(&failure), ["egraft::op::size"]);
    assert!(failure.to_string().contains("\"second\""), "{failure}");
}

#[test]
fn shapes_of_outputs_may_be_those_that_are_computed() {
    let mut proto = model(vec![value("x", &["2", "3"])], vec![node("act", "Relu", &["x"], &["y"])], &["y"]);
    let computed = ImportOptions { computed_shapes: true, ..ImportOptions::default() };
    for wrong in [value("y", &["2", "4"]), value("y", &["6"])] {
        proto.graph.mut_or_insert_default().output = vec![wrong];
        assert_eq!(codes(&load(&proto).expect_err("it contradicts itself")), ["egraft::onnx::output_type"]);
        let graph = load_with(&proto, &computed).expect("it is what is computed").graph;
        assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[2, 3]");
    }
    let mut whole = value("y", &["2", "3"]);
    if let Some(type_proto::Value::TensorType(tensor)) = whole.type_.mut_or_insert_default().value.as_mut() {
        tensor.elem_type = 7;
    }
    proto.graph.mut_or_insert_default().output = vec![whole];
    let failure = load_with(&proto, &computed).expect_err("no value has two element types");
    assert_eq!(codes(&failure), ["egraft::onnx::output_type"]);
}

#[test]
fn identities_in_a_circle_are_no_label() {
    let nodes = vec![node("one", "Identity", &["b"], &["a"]), node("other", "Identity", &["a"], &["b"])];
    let proto = model(vec![value("x", &["2"])], nodes, &["a"]);
    let numbers = ImportOptions { numbers: true, ..ImportOptions::default() };
    assert_eq!(codes(&load_with(&proto, &numbers).expect_err("it goes in circles")), ["egraft::onnx::cycle"]);
}

#[test]
fn options_fix_sizes_and_the_name() {
    let proto = model(vec![value("x", &["n", "3"])], vec![node("relu", "Relu", &["x"], &["y"])], &["y"]);
    let options = ImportOptions {
        dims: vec![(Symbol::from("n"), 7)],
        entry: Some("forward".to_owned()),
        ..ImportOptions::default()
    };
    let graph = load_with(&proto, &options).expect("n is known").graph;
    assert_eq!(graph.name(), "forward");
    assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[7, 3]");

    let shapes = vec![("x".to_owned(), vec![Dim::constant(2), Dim::constant(3)])];
    let graph =
        load_with(&proto, &ImportOptions { shapes, ..ImportOptions::default() }).expect("it suits").graph;
    assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[2, 3]");

    let options = ImportOptions { dims: vec![(Symbol::from("batch"), 7)], ..ImportOptions::default() };
    let failure = load_with(&proto, &options).expect_err("there is no such symbol");
    assert_eq!((codes(&failure), failure.kind()), (vec!["egraft::onnx::option"], FailureKind::BadInput));
}

#[test]
fn every_unsupported_node_is_reported_and_nothing_that_follows_from_it() {
    let nodes = vec![
        node("one", "com.example.Magic", &["x"], &["a"]),
        node("sum", "Add", &["a", "x"], &["b"]),
        node("two", "NoSuchOperator", &["b"], &["c"]),
        node("three", "NoSuchOperator", &["x"], &["y"]),
    ];
    let mut proto = model(vec![value("x", &["n"])], nodes, &["c", "y"]);
    proto.opset_import.push(opset("com.example", 3));
    let failure = refused(&proto);
    assert_eq!(failure.kind(), FailureKind::Unsupported);
    assert_eq!(codes(&failure), ["egraft::onnx::unsupported_op"; 3]);
    let places: Vec<(&str, &str)> = failure
        .problems()
        .iter()
        .map(|at| (at.origin.places()[0].name.as_str(), at.origin.places()[0].op.as_str()))
        .collect();
    assert_eq!(
        places,
        [("one", "com.example.Magic"), ("two", "NoSuchOperator"), ("three", "NoSuchOperator")]
    );
    assert!(failure.problems().iter().all(|at| at.error.help().is_some()));
    assert!(failure.to_string().contains("opset 3"), "{failure}");
}

#[test]
fn a_broken_part_makes_it_bad_input() {
    let nodes = vec![
        node("unknown", "NoSuchOperator", &["x"], &["a"]),
        node("add", "Add", &["a", "w"], &["y"]),
        node("lost", "Relu", &["nowhere"], &["z"]),
    ];
    let mut proto = model(vec![value("x", &["n"])], nodes, &["y", "z"]);
    proto.graph.mut_or_insert_default().initializer = vec![weight("w", &[4], &[0.0; 3])];
    let failure = refused(&proto);
    assert_eq!(failure.kind(), FailureKind::BadInput);
    assert_eq!(
        codes(&failure),
        ["egraft::onnx::undefined", "egraft::onnx::tensor_data", "egraft::onnx::unsupported_op"]
    );
}

#[test]
fn sparse_initializers_are_named() {
    let mut proto = model(vec![value("x", &["4"])], vec![node("add", "Add", &["x", "w"], &["y"])], &["y"]);
    proto.graph.mut_or_insert_default().sparse_initializer = vec![SparseTensorProto {
        values: Some(weight("w", &[1], &[1.0])).into(),
        dims: vec![4],
        ..SparseTensorProto::default()
    }];
    let failure = refused(&proto);
    assert_eq!((codes(&failure), failure.kind()), (vec!["egraft::onnx::sparse"], FailureKind::Unsupported));
    assert!(failure.to_string().contains("`w`"));
}

fn function(name: &str, inputs: &[&str], nodes: Vec<NodeProto>, outputs: &[&str]) -> FunctionProto {
    FunctionProto {
        name: name.to_owned(),
        domain: "local".to_owned(),
        input: strings(inputs),
        output: strings(outputs),
        node: nodes,
        opset_import: vec![opset("", 21), opset("local", 1)],
        ..FunctionProto::default()
    }
}

#[test]
fn calls_are_opened_and_their_nodes_say_so() {
    let mut proto =
        model(vec![value("x", &["n"])], vec![node("call", "local.Twice", &["x"], &["y"])], &["y"]);
    proto.functions = vec![function("Twice", &["a"], vec![node("add", "Add", &["a", "a"], &["b"])], &["b"])];
    let graph = load(&proto).expect("a sum").graph;
    let origin = &graph.node(graph.outputs()[0].node).origin;
    assert_eq!(origin.places()[0].name, "call/add");
    let y = ir::graph::eval(&graph, &[Tensor::from_f32(&[1], &[1.5])]).expect("one number");
    assert_eq!(y, [Tensor::from_f32(&[1], &[3.0])]);
}

#[test]
fn a_function_takes_precedence_over_an_operator() {
    let mut proto = model(vec![value("x", &["n"])], vec![node("relu", "Relu", &["x"], &["y"])], &["y"]);
    let mut relu = function("Relu", &["a"], vec![node("add", "Add", &["a", "a"], &["b"])], &["b"]);
    relu.domain = "ai.onnx".to_owned();
    proto.functions = vec![relu];
    let graph = load(&proto).expect("a sum").graph;
    let y = ir::graph::eval(&graph, &[Tensor::from_f32(&[1], &[-1.0])]).expect("one number");
    assert_eq!(y, [Tensor::from_f32(&[1], &[-2.0])]);
}

#[test]
fn calls_with_too_much_and_bodies_with_too_little() {
    let call = node("call", "local.F", &["x", "x"], &["y"]);
    let mut proto = model(vec![value("x", &["n"])], vec![call], &["y"]);
    proto.functions = vec![function("F", &["a"], vec![node("relu", "Relu", &["a"], &["b"])], &["b"])];
    assert_eq!(codes(&refused(&proto)), ["egraft::onnx::function"]);
    proto.functions = vec![function("F", &["a", "b"], vec![node("relu", "Relu", &["lost"], &["c"])], &["d"])];
    let failure = refused(&proto);
    assert_eq!(codes(&failure), ["egraft::onnx::undefined", "egraft::onnx::no_output"]);
    assert!(failure.to_string().contains("\"local.F/relu\""), "{failure}");
}

#[test]
fn chains_of_functions_have_a_limit() {
    for leaf_first in [false, true] {
        let mut functions: Vec<FunctionProto> = (0..20_000)
            .map(|i| {
                let callee = if i == 19_999 { "Neg".to_owned() } else { format!("local.F{}", i + 1) };
                function(&format!("F{i}"), &["a"], vec![node("n", &callee, &["a"], &["b"])], &["b"])
            })
            .collect();
        if leaf_first {
            functions.reverse();
        }
        let mut proto =
            model(vec![value("x", &["n"])], vec![node("call", "local.F0", &["x"], &["y"])], &["y"]);
        proto.functions = functions;
        let failure = refused(&proto);
        assert!(
            matches!(failure.problems()[0].error, ImportProblem::CallDepth { limit: 100, .. }),
            "{failure}"
        );
    }
}

#[test]
fn calls_nested_as_deep_as_allowed() {
    let functions = (0..100).map(|i| {
        let callee = if i == 99 { "Neg".to_owned() } else { format!("local.F{}", i + 1) };
        function(&format!("F{i}"), &["a"], vec![node("n", &callee, &["a"], &["b"])], &["b"])
    });
    let mut proto = model(vec![value("x", &["n"])], vec![node("call", "local.F0", &["x"], &["y"])], &["y"]);
    proto.functions = functions.collect();
    let graph = load(&proto).expect("100 calls").graph;
    let y = ir::graph::eval(&graph, &[Tensor::from_f32(&[1], &[1.0])]).expect("one number");
    assert_eq!(y, [Tensor::from_f32(&[1], &[-1.0])]);
}

#[test]
fn an_output_that_is_an_absent_input_is_reported() {
    let call = node("call", "local.Pick", &["x"], &["y", "z"]);
    let mut proto = model(vec![value("x", &["n"])], vec![call], &["y", "z"]);
    proto.functions = vec![function("Pick", &["a", "b"], vec![], &["a", "b"])];
    let failure = refused(&proto);
    assert_eq!(codes(&failure), ["egraft::onnx::no_output"]);
    assert!(failure.to_string().contains("`z`"), "{failure}");
}

#[test]
fn nameless_nodes_get_names_by_position() {
    let nodes = vec![node("", "Relu", &["x"], &["a"]), node("", "NoSuchOperator", &["a"], &["y"])];
    let failure = refused(&model(vec![value("x", &["n"])], nodes, &["y"]));
    assert_eq!(failure.problems()[0].origin.places()[0].name, "NoSuchOperator_1");
}

#[test]
fn versions_are_stated() {
    let mut proto = model(vec![value("x", &["n"])], vec![node("relu", "Relu", &["x"], &["y"])], &["y"]);
    proto.producer_name = "pytorch".to_owned();
    proto.producer_version = "2.15.0".to_owned();
    let model = load(&proto).expect("one node");
    assert_eq!(model.producer, "pytorch 2.15.0");
    assert_eq!(model.ir_version, 10);
    assert_eq!(model.opsets, [("ai.onnx".to_owned(), 21), ("local".to_owned(), 1)]);
    for ir_version in [1, 2, 15] {
        proto.ir_version = ir_version;
        let failure = refused(&proto);
        assert_eq!(
            (codes(&failure), failure.kind()),
            (vec!["egraft::onnx::ir_version"], FailureKind::Unsupported)
        );
    }
    proto.ir_version = 3;
    proto.opset_import = vec![opset("ai.onnx", 1)];
    assert_eq!(load(&proto).expect("the oldest").opsets, [("ai.onnx".to_owned(), 1)]);
    proto.opset_import = vec![opset("com.example", 1)];
    assert_eq!(codes(&refused(&proto)), ["egraft::onnx::opset"]);
}

/// `y = y + x[i : i + 1]` has a size that follows from `i`; that it is 1 is what the body declares.
#[test]
fn elements_of_stacks_have_the_sizes_that_are_declared() {
    let axes = TensorProto { data_type: 7, int64_data: vec![0], ..weight("axes", &[1], &[]) };
    let one = TensorProto { data_type: 7, int64_data: vec![1], ..weight("one", &[], &[]) };
    let body = |declared: &str| GraphProto {
        name: "body".to_owned(),
        input: vec![int_value("i", &[]), untyped("c"), value("y", &["1"])],
        node: vec![
            node("end", "Add", &["i", "one"], &["next"]),
            node("from", "Unsqueeze", &["i", "axes"], &["start"]),
            node("to", "Unsqueeze", &["next", "axes"], &["stop"]),
            node("part", "Slice", &["x", "start", "stop"], &["part_out"]),
            node("sum", "Add", &["y", "part_out"], &["y_next"]),
            node("copy", "Identity", &["y_next"], &["element"]),
            node("keep", "Identity", &["c"], &["c_next"]),
        ],
        output: vec![untyped("c_next"), untyped("y_next"), value("element", &[declared])],
        initializer: vec![axes.clone(), one.clone()],
        ..GraphProto::default()
    };
    let with = |declared: &str| {
        let mut each = node("loop", "Loop", &["count", "", "first"], &["last", "all"]);
        each.attribute = vec![onnx_protobuf::AttributeProto {
            name: "body".to_owned(),
            g: Some(body(declared)).into(),
            ..onnx_protobuf::AttributeProto::default()
        }];
        model(
            vec![value("x", &["5"]), value("first", &["1"]), int_value("count", &[])],
            vec![each],
            &["last", "all"],
        )
    };
    let loaded = load(&with("1")).expect("the element has a size");
    let graph = &loaded.graph;
    let inputs = [Tensor::from_f32(&[5], &[1.0, 2.0, 3.0, 4.0, 5.0]), Tensor::from_f32(&[1], &[0.5])];
    let run = |count: i64| {
        let inputs = [&inputs[..], &[Tensor::from_i64(&[], &[count])]].concat();
        ir::graph::eval(graph, &inputs)
    };
    let results = run(3).unwrap_or_else(|at| panic!("{}", at.error));
    assert_eq!(results[1].to_f64(), [1.5, 3.5, 6.5]);
    assert!(run(7).is_err(), "the sixth part is empty");
    assert_eq!(codes(&refused(&with("k"))), ["egraft::op::size"]);
}

/// Where one node makes two computed sizes equal to known ones, both are checked when the model runs.
#[test]
fn every_computed_size_that_is_unified_is_checked() {
    let mut shape = node("c", "Concat", &["rows", "columns"], &["shape"]);
    shape.attribute = vec![onnx_protobuf::AttributeProto {
        name: "axis".to_owned(),
        type_: onnx_protobuf::attribute_proto::AttributeType::INT.into(),
        ..onnx_protobuf::AttributeProto::default()
    }];
    let inputs = vec![value("x", &["n", "m"]), int_value("rows", &["1"]), int_value("columns", &["1"])];
    let nodes = vec![shape, node("e", "Expand", &["x", "shape"], &["y"])];
    let loaded = load(&model(inputs, nodes, &["y"])).expect("sizes are computed");
    let run = |rows: i64, columns: i64| {
        let x = Tensor::splat(ir::Scalar::f32(1.0), &[2, 3]);
        let size = |size: i64| Tensor::from_i64(&[1], &[size]);
        ir::graph::eval(&loaded.graph, &[x, size(rows), size(columns)])
    };
    assert_eq!(run(2, 3).unwrap_or_else(|at| panic!("{}", at.error))[0].to_f64(), [1.0; 6]);
    for (rows, columns) in [(2, 4), (4, 3), (3, 2)] {
        assert!(run(rows, columns).is_err(), "{rows}, {columns}");
    }
}
