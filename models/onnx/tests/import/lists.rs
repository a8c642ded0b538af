//! Sequences and optionals: how many tensors there are is known when a model is imported.

use onnx_protobuf::{AttributeProto, attribute_proto};

use super::*;

/// A value of a type around that of `element`.
fn around(element: ValueInfoProto, wrap: impl FnOnce(TypeProto) -> type_proto::Value) -> ValueInfoProto {
    let ty = element.type_.into_option().expect("it has a type");
    let ty = TypeProto { value: Some(wrap(ty)), ..TypeProto::default() };
    ValueInfoProto { type_: Some(ty).into(), ..element }
}

fn sequence(element: ValueInfoProto) -> ValueInfoProto {
    around(element, |ty| {
        let elem_type = Some(ty).into();
        type_proto::Value::SequenceType(type_proto::Sequence { elem_type, ..Default::default() })
    })
}

fn optional(element: ValueInfoProto) -> ValueInfoProto {
    around(element, |ty| {
        let elem_type = Some(ty).into();
        type_proto::Value::OptionalType(type_proto::Optional { elem_type, ..Default::default() })
    })
}

fn with_graph(node: NodeProto, name: &str, graph: GraphProto) -> NodeProto {
    let attribute = AttributeProto {
        name: name.to_owned(),
        type_: attribute_proto::AttributeType::GRAPH.into(),
        g: Some(graph).into(),
        ..AttributeProto::default()
    };
    let attribute_list = [node.attribute.clone(), vec![attribute]].concat();
    NodeProto { attribute: attribute_list, ..node }
}

fn with_int(node: NodeProto, name: &str, value: i64) -> NodeProto {
    let attribute = AttributeProto {
        name: name.to_owned(),
        type_: attribute_proto::AttributeType::INT.into(),
        i: value,
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![attribute], ..node }
}

fn body(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    let output = outputs.iter().map(|name| untyped(name)).collect();
    GraphProto { input: inputs, node: nodes, output, ..GraphProto::default() }
}

/// A scalar of this element type.
fn scalar(name: &str, elem_type: i32) -> ValueInfoProto {
    array(name, &[], elem_type)
}

fn array(name: &str, sizes: &[&str], elem_type: i32) -> ValueInfoProto {
    let mut info = value(name, sizes);
    let ty = info.type_.as_mut().and_then(|ty| ty.value.as_mut());
    let Some(type_proto::Value::TensorType(tensor)) = ty else { panic!("it is a tensor") };
    tensor.elem_type = elem_type;
    info
}

const BOOL: i32 = 9;
const I64: i32 = 7;

fn lengths(lengths: &[(&str, usize)]) -> ImportOptions {
    let lengths = lengths.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
    ImportOptions { lengths, ..ImportOptions::default() }
}

fn values(values: &[(&str, &[i64])]) -> ImportOptions {
    let values = values.iter().map(|(name, numbers)| ((*name).to_owned(), numbers.to_vec())).collect();
    ImportOptions { values, ..ImportOptions::default() }
}

fn row(values: &[f32]) -> Tensor {
    Tensor::from_f32(&[values.len()], values)
}

fn number(value: i64) -> Tensor {
    Tensor::from_i64(&[], &[value])
}

fn input_names(model: &Model) -> Vec<&str> {
    model.graph.inputs().iter().map(|&id| model.graph.input_name(id)).collect()
}

fn run(model: &Model, inputs: &[Tensor]) -> Vec<Tensor> {
    ir::graph::eval(&model.graph, inputs).expect("the inputs fit")
}

#[test]
fn a_sequence_is_as_many_inputs_as_it_has_tensors() {
    let inputs = vec![sequence(value("x", &["n", "3"])), value("y", &["n"])];
    let nodes = vec![with_int(node("join", "ConcatFromSequence", &["x"], &["z"]), "axis", 0)];
    let proto = model(inputs, nodes, &["z"]);
    let model = load_with(&proto, &lengths(&[("x", 2)])).expect("two matrices");
    assert_eq!(input_names(&model), ["x.0", "x.1", "y"]);
    // What the model calls the size of an element is another size in each.
    let types: Vec<String> =
        model.graph.inputs().iter().map(|&id| model.graph.node(id).types[0].to_string()).collect();
    assert_eq!(types, ["f32[x.0.0, 3]", "f32[x.1.0, 3]", "f32[n]"]);
    let failure = refused(&proto);
    assert_eq!((codes(&failure), failure.kind()), (vec!["egraft::onnx::length"], FailureKind::Unsupported));
    assert!(failure.to_string().contains("`x`"), "{failure}");
    // A shape of the sequence is that of each element.
    let shapes = vec![("x".to_owned(), vec![Dim::symbol("k"), Dim::constant(3)])];
    let options = ImportOptions { shapes, ..lengths(&[("x", 2)]) };
    let same = load_with(&proto, &options).expect("it suits").graph;
    assert_eq!(same.ty(same.outputs()[0]).to_string(), "f32[2*k, 3]");
}

#[test]
fn joining_makes_sizes_equal() {
    let nodes = vec![with_int(node("stack", "ConcatFromSequence", &["x"], &["z"]), "axis", 0)];
    let mut proto = model(vec![sequence(value("x", &["2", "n"]))], nodes, &["z"]);
    let joined = load_with(&proto, &lengths(&[("x", 3)])).expect("their sizes agree").graph;
    assert_eq!(joined.ty(joined.outputs()[0]).to_string(), "f32[6, x.0.1]");
    proto.graph.mut_or_insert_default().input =
        vec![sequence(value("x", &["2", "3"])), value("y", &["2", "4"])];
    proto.graph.mut_or_insert_default().node.insert(0, node("add", "SequenceInsert", &["x", "y"], &["all"]));
    proto.graph.mut_or_insert_default().node[1].input = strings(&["all"]);
    let failure = load_with(&proto, &lengths(&[("x", 1)])).expect_err("3 is not 4");
    assert_eq!(codes(&failure), ["egraft::op::size"]);
}

#[test]
fn options_must_suit_the_inputs() {
    let inputs = vec![sequence(value("x", &["n"])), value("y", &["n"]), optional(value("o", &["2"]))];
    let proto = model(inputs, vec![node("count", "SequenceLength", &["x"], &["z"])], &["z"]);
    let refused = |options: ImportOptions| {
        let options =
            ImportOptions { lengths: [lengths(&[("x", 1)]).lengths, options.lengths].concat(), ..options };
        let failure = load_with(&proto, &options).expect_err("it does not suit");
        assert_eq!(codes(&failure), ["egraft::onnx::option"], "{failure}");
        failure.to_string()
    };
    let absent = |name: &str| ImportOptions { absent: vec![name.to_owned()], ..ImportOptions::default() };
    for (options, word) in [
        (lengths(&[("y", 1)]), "no sequence"),
        (lengths(&[("o", 1)]), "no sequence"),
        (lengths(&[("w", 1)]), "no input `w`"),
        (absent("y"), "no optional"),
        (absent("w"), "no input `w`"),
        (values(&[("y", &[1])]), "floats"),
        (values(&[("w", &[1])]), "no input `w`"),
    ] {
        let message = refused(options);
        assert!(message.contains(word), "{message}");
    }
    let failure = load_with(&proto, &lengths(&[("x", 1 << 20)])).expect_err("too many");
    assert_eq!(codes(&failure), ["egraft::onnx::option"]);
}

#[test]
fn names_of_elements_are_free() {
    let inputs = vec![sequence(value("x", &["2"])), value("x.1", &["2"])];
    let proto = model(inputs, vec![node("count", "SequenceLength", &["x"], &["z"])], &["z"]);
    assert!(load_with(&proto, &lengths(&[("x", 1)])).is_ok());
    let failure = load_with(&proto, &lengths(&[("x", 2)])).expect_err("x.1 is another input");
    assert_eq!(codes(&failure), ["egraft::onnx::duplicate"]);
    let nodes = vec![node("", "Relu", &["x"], &["z.0"]), node("", "SequenceConstruct", &["x"], &["z"])];
    let failure = refused(&model(vec![value("x", &["2"])], nodes, &["z.0", "z"]));
    assert_eq!(codes(&failure), ["egraft::onnx::duplicate"]);
}

#[test]
fn outputs_are_what_they_are_declared_as() {
    let nodes = || vec![node("make", "SequenceConstruct", &["x", "x"], &["y"])];
    let inputs = || vec![value("x", &["2"])];
    let mut proto = model(inputs(), nodes(), &["y"]);
    assert_eq!(load(&proto).expect("a pair").graph.output_names(), ["y.0", "y.1"]);
    let mut declare = |output: ValueInfoProto| {
        proto.graph.mut_or_insert_default().output = vec![output];
        load(&proto).map_err(|failure| codes(&failure).join(" "))
    };
    assert!(declare(optional(sequence(value("y", &["n"])))).is_ok());
    for wrong in [value("y", &["2"]), optional(value("y", &["2"])), sequence(value("y", &["3"]))] {
        assert!(declare(wrong).is_err_and(|codes| codes.starts_with("egraft::onnx::output_type")));
    }
    // A sequence of sequences is no list of tensors.
    let nested = declare(sequence(sequence(value("y", &["2"]))));
    assert_eq!(nested.expect_err("not supported"), "egraft::onnx::type");
}

#[test]
fn an_optional_is_what_it_holds_or_nothing() {
    let nodes = vec![
        node("has", "OptionalHasElement", &["o"], &["has"]),
        node("hand", "Identity", &["o"], &["same"]),
        with_graph(
            with_graph(
                node("choose", "If", &["has"], &["y"]),
                "then_branch",
                body(vec![], vec![node("get", "OptionalGetElement", &["same"], &["a"])], &["a"]),
            ),
            "else_branch",
            body(vec![], vec![node("zero", "Sub", &["x", "x"], &["b"])], &["b"]),
        ),
    ];
    let proto = model(vec![value("x", &["2"]), optional(value("o", &["2"]))], nodes, &["has", "y"]);
    let there = load(&proto).expect("it is there");
    assert_eq!(input_names(&there), ["x", "o"]);
    assert_eq!(run(&there, &[row(&[1.0, 2.0]), row(&[3.0, 4.0])])[1], row(&[3.0, 4.0]));
    let absent = ImportOptions { absent: vec!["o".to_owned()], ..ImportOptions::default() };
    let absent = load_with(&proto, &absent).expect("the other side is taken");
    assert_eq!(input_names(&absent), ["x"]);
    assert_eq!(run(&absent, &[row(&[1.0, 2.0])])[1], row(&[0.0, 0.0]));
}

#[test]
fn nothing_has_no_element_and_is_no_tensor() {
    let nothing = node("nothing", "Optional", &[], &["o"]);
    let given = || vec![value("x", &["2"])];
    let nodes = vec![nothing.clone(), node("get", "OptionalGetElement", &["o"], &["y"])];
    assert_eq!(codes(&refused(&model(given(), nodes, &["y"]))), ["egraft::onnx::unsupported"]);
    let nodes = vec![nothing.clone(), node("use", "Add", &["x", "o"], &["y"])];
    assert_eq!(codes(&refused(&model(given(), nodes, &["y"]))), ["egraft::onnx::sequence"]);
    // As an output it is none.
    let mut proto = model(given(), vec![nothing, node("", "Relu", &["x"], &["y"])], &["y", "o"]);
    assert_eq!(load(&proto).expect("one output").graph.output_names(), ["y"]);
    proto.opset_import[0].version = 14;
    assert_eq!(codes(&refused(&proto)), ["egraft::onnx::opset"]);
}

/// Of elements of one type, any may be taken when the model runs.
#[test]
fn a_position_of_the_run_chooses_among_equals() {
    let nodes = || {
        vec![
            node("pair", "SequenceConstruct", &["x", "y"], &["both"]),
            node("take", "SequenceAt", &["both", "i"], &["z"]),
        ]
    };
    let inputs = |size: &str| vec![value("x", &["2"]), value("y", &[size]), int_value("i", &[])];
    let choosing = load(&model(inputs("2"), nodes(), &["z"])).expect("both are alike");
    for (at, expected) in [(0, [1.0, 2.0]), (1, [3.0, 4.0]), (-1, [3.0, 4.0])] {
        let given = [row(&[1.0, 2.0]), row(&[3.0, 4.0]), number(at)];
        assert_eq!(run(&choosing, &given), [row(&expected)]);
    }
    // Others must be known.
    let proto = model(inputs("3"), nodes(), &["z"]);
    let failure = refused(&proto);
    assert_eq!(codes(&failure), ["egraft::onnx::input_value"]);
    assert_eq!(failure.wanted_values().into_iter().collect::<Vec<_>>(), ["i"]);
    let fixed = load_with(&proto, &values(&[("i", &[1])])).expect("it is known");
    let given = |at| [row(&[1.0, 2.0]), row(&[3.0, 4.0, 5.0]), number(at)];
    assert_eq!(run(&fixed, &given(1)), [row(&[3.0, 4.0, 5.0])]);
    assert!(ir::graph::eval(&fixed.graph, &given(0)).is_err(), "it was made for another value");
}

/// A loop that inserts into a sequence as often as `n` says.
fn growing() -> ModelProto {
    let inner = body(
        vec![scalar("i", I64), scalar("go", BOOL), sequence(value("in", &["m"]))],
        vec![
            node("keep", "Identity", &["go"], &["again"]),
            with_int(node("float", "Cast", &["i"], &["f"]), "to", 1),
            node("scale", "Mul", &["x", "f"], &["scaled"]),
            node("insert", "SequenceInsert", &["in", "scaled"], &["out"]),
        ],
        &["again", "out", "scaled"],
    );
    let nodes = vec![
        node("empty", "SequenceEmpty", &[], &["none"]),
        with_graph(node("repeat", "Loop", &["n", "", "none"], &["all", "stack"]), "body", inner),
    ];
    model(vec![value("x", &["m"]), scalar("n", I64)], nodes, &["all", "stack"])
}

#[test]
fn a_loop_that_carries_a_sequence_is_opened() {
    let failure = refused(&growing());
    assert_eq!(
        (codes(&failure), failure.kind()),
        (vec!["egraft::onnx::input_value"], FailureKind::Unsupported)
    );
    let model = load_with(&growing(), &values(&[("n", &[3])])).expect("three iterations");
    assert_eq!(model.graph.output_names(), ["all.0", "all.1", "all.2", "stack"]);
    let results = run(&model, &[row(&[1.0, 2.0]), number(3)]);
    assert_eq!(results[2], row(&[2.0, 4.0]));
    assert_eq!(results[3], Tensor::from_f32(&[3, 2], &[0.0, 0.0, 1.0, 2.0, 2.0, 4.0]));
    // It never ends within reason.
    let failure = load_with(&growing(), &values(&[("n", &[1 << 40])])).expect_err("too many iterations");
    assert_eq!(codes(&failure), ["egraft::onnx::unsupported"]);
}

/// The loop carries a tensor, and takes elements of different shapes: each iteration is another.
#[test]
fn a_loop_over_unequal_elements_is_opened() {
    let inner = body(
        vec![scalar("i", I64), scalar("go", BOOL), value("sum", &[])],
        vec![
            node("take", "SequenceAt", &["x", "i"], &["element"]),
            with_int(node("fold", "ReduceSum", &["element"], &["part"]), "keepdims", 0),
            node("add", "Add", &["sum", "part"], &["next"]),
        ],
        &["go", "next"],
    );
    let nodes = vec![
        node("count", "SequenceLength", &["x"], &["n"]),
        with_graph(node("repeat", "Loop", &["n", "", "start"], &["total"]), "body", inner),
    ];
    let mut proto = model(vec![sequence(value("x", &["m"]))], nodes, &["total"]);
    proto.graph.mut_or_insert_default().initializer = vec![weight("start", &[], &[0.5])];
    let opened = load_with(&proto, &lengths(&[("x", 3)])).expect("three iterations");
    let total = run(&opened, &[row(&[1.0, 2.0]), row(&[4.0]), row(&[8.0, 16.0, 32.0])]);
    assert_eq!(total, [Tensor::from_f32(&[], &[63.5])]);
}

#[test]
fn a_map_makes_sizes_equal_element_by_element() {
    let inner = body(
        vec![value("a", &["n"]), value("b", &["n"]), value("c", &[])],
        vec![node("add", "Add", &["a", "b"], &["s"]), node("scale", "Mul", &["s", "c"], &["t"])],
        &["t", "s"],
    );
    let inputs = vec![sequence(value("x", &["n"])), sequence(value("y", &["n"])), value("c", &[])];
    let nodes = vec![with_graph(node("map", "SequenceMap", &["x", "y", "c"], &["z", "s"]), "body", inner)];
    let proto = model(inputs, nodes, &["z", "s"]);
    let mapped = load_with(&proto, &lengths(&[("x", 2), ("y", 2)])).expect("two sums");
    assert_eq!(mapped.graph.output_names(), ["z.0", "z.1", "s.0", "s.1"]);
    let given = [row(&[1.0]), row(&[2.0, 3.0]), row(&[4.0]), row(&[5.0, 6.0]), Tensor::from_f32(&[], &[2.0])];
    let results = run(&mapped, &given);
    assert_eq!(results, [row(&[10.0]), row(&[14.0, 18.0]), row(&[5.0]), row(&[7.0, 9.0])]);
    let failure = load_with(&proto, &lengths(&[("x", 2), ("y", 1)])).expect_err("no pairs");
    assert_eq!(codes(&failure), ["egraft::op::size"]);
}

#[test]
fn branches_give_sequences() {
    let side =
        |values: &[&str]| body(vec![], vec![node("", "SequenceConstruct", values, &["list"])], &["list"]);
    let choose = |otherwise: &[&str]| {
        let chosen = with_graph(node("choose", "If", &["c"], &["y"]), "then_branch", side(&["x", "z"]));
        let nodes = vec![with_graph(chosen, "else_branch", side(otherwise))];
        model(vec![scalar("c", BOOL), value("x", &["2"]), value("z", &["1"])], nodes, &["y"])
    };
    let swapped = load(&choose(&["x", "x"])).expect("pairs");
    let given = |c| [Tensor::scalar(ir::Scalar::bool(c)), row(&[1.0, 2.0]), row(&[3.0])];
    assert_eq!(run(&swapped, &given(true)), [row(&[1.0, 2.0]), row(&[3.0])]);
    assert_eq!(run(&swapped, &given(false)), [row(&[1.0, 2.0]), row(&[1.0, 2.0])]);
    // How long the result is, the condition decides.
    let failure = refused(&choose(&["z"]));
    assert_eq!(codes(&failure), ["egraft::onnx::input_value"]);
    let short = load_with(&choose(&["z"]), &values(&[("c", &[0])])).expect("it is known");
    assert_eq!(run(&short, &given(false)), [row(&[3.0])]);
    assert!(ir::graph::eval(&short.graph, &given(true)).is_err(), "it was made for the other side");
}

#[test]
fn sequences_have_a_limit() {
    let many = "68719476736";
    let into_elements = vec![node("split", "SplitToSequence", &["x"], &["y"])];
    let into_given = vec![node("split", "SplitToSequence", &["x", "parts"], &["y"])];
    let parts = array("parts", &[many], I64);
    for (parts, nodes) in [(None, into_elements), (Some(parts), into_given)] {
        let inputs = std::iter::once(value("x", &[many])).chain(parts).collect();
        let failure = refused(&model(inputs, nodes, &["y"]));
        assert_eq!(codes(&failure), ["egraft::onnx::unsupported"]);
    }
}
