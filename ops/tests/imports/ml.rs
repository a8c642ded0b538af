//! Classic models of `ai.onnx.ml`.

use super::*;

fn ml(version: i64, op: &str, inputs: &[Tensor], attrs: &[(&str, NodeAttr)], results: usize) -> Vec<Tensor> {
    run(version, &format!("ai.onnx.ml.{op}"), inputs, attrs, results)
}

fn refused(op: &str, attrs: &[(&str, NodeAttr)]) -> String {
    let mut m = Model::new(5);
    let x = m.input(DType::F32, &["n", "2"]);
    m.convert(&format!("ai.onnx.ml.{op}"), &[x], attrs).expect_err("it is refused").to_string()
}

/// Two trees: `x₀ ≤ 1 ? (x₁ < −1 ? a : b) : c`, and `x₁ ≥ 0 ? d : e`, where NaN goes the first way in the second tree only.
fn trees(what: &str, weights: &[f64], ids: &[i64]) -> Vec<(&'static str, NodeAttr)> {
    let list = |name: &str| match (what, name) {
        ("target", "treeids") => "target_treeids",
        ("target", "nodeids") => "target_nodeids",
        ("target", "ids") => "target_ids",
        ("target", _) => "target_weights",
        (_, "treeids") => "class_treeids",
        (_, "nodeids") => "class_nodeids",
        (_, "ids") => "class_ids",
        _ => "class_weights",
    };
    vec![
        ("nodes_treeids", ints(&[0, 0, 0, 0, 0, 1, 1, 1])),
        ("nodes_nodeids", ints(&[0, 1, 2, 3, 4, 0, 1, 2])),
        ("nodes_featureids", ints(&[0, 1, 0, 0, 0, 1, 0, 0])),
        ("nodes_values", numbers(&[1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])),
        (
            "nodes_modes",
            strs(&["BRANCH_LEQ", "BRANCH_LT", "LEAF", "LEAF", "LEAF", "BRANCH_GTE", "LEAF", "LEAF"]),
        ),
        ("nodes_truenodeids", ints(&[1, 3, 0, 0, 0, 1, 0, 0])),
        ("nodes_falsenodeids", ints(&[2, 4, 0, 0, 0, 2, 0, 0])),
        ("nodes_missing_value_tracks_true", ints(&[0, 0, 0, 0, 0, 1, 0, 0])),
        (list("treeids"), ints(&[0, 0, 0, 1, 1])),
        (list("nodeids"), ints(&[3, 4, 2, 1, 2])),
        (list("ids"), ints(ids)),
        (list("weights"), numbers(weights)),
    ]
}

fn rows() -> Tensor {
    floats(&[5, 2], &[1.0, -2.0, 0.0, -1.0, 2.0, 5.0, f32::NAN, f32::NAN, 3.0, -3.0])
}

#[test]
fn rows_find_their_leaves() {
    let regress = |aggregate: &str| {
        let mut attrs = trees("target", &[1.0, 2.0, 4.0, 8.0, 16.0], &[0; 5]);
        attrs.extend([
            ("n_targets", int(1)),
            ("aggregate_function", str(aggregate)),
            ("base_values", numbers(&[0.5])),
        ]);
        ml(3, "TreeEnsembleRegressor", &[rows()], &attrs, 1).remove(0).to_f64()
    };
    // a + e, b + e, c + d, c + d, c + e
    assert_eq!(regress("SUM"), [17.5, 18.5, 12.5, 12.5, 20.5]);
    assert_eq!(regress("AVERAGE"), [9.0, 9.5, 6.5, 6.5, 10.5]);
    assert_eq!(regress("MIN"), [1.5, 2.5, 4.5, 4.5, 4.5]);
    assert_eq!(regress("MAX"), [16.5, 16.5, 8.5, 8.5, 16.5]);
}

#[test]
fn a_target_of_which_no_leaf_says_anything_is_0() {
    for aggregate in ["SUM", "MIN", "MAX"] {
        let mut attrs = trees("target", &[1.0, 2.0, 4.0, 8.0, 16.0], &[0, 1, 0, 0, 0]);
        attrs.extend([("n_targets", int(2)), ("aggregate_function", str(aggregate))]);
        let y = ml(1, "TreeEnsembleRegressor", &[rows()], &attrs, 1).remove(0).to_f64();
        assert_eq!([y[1], y[3], y[5]], [0.0, 2.0, 0.0], "{aggregate}");
    }
}

#[test]
fn trees_vote_for_classes() {
    let classify = |ids: &[i64], weights: &[f64], labels: &[i64], transform: &str| {
        let mut attrs = trees("class", weights, ids);
        attrs.extend([("classlabels_int64s", ints(labels)), ("post_transform", str(transform))]);
        let results = ml(3, "TreeEnsembleClassifier", &[rows()], &attrs, 2);
        (results[0].to_i64(), results[1].clone())
    };
    let (label, scores) = classify(&[0, 1, 2, 1, 0], &[0.5, 0.5, 0.5, 0.25, 0.125], &[10, 20, 30], "NONE");
    assert_eq!(label, [10, 20, 30, 30, 30]);
    assert_eq!(scores.to_f64()[..6], [0.625, 0.0, 0.0, 0.125, 0.5, 0.0]);
    // One of two classes is scored: the second.
    let (label, scores) = classify(&[0; 5], &[0.5, 0.25, 0.125, 0.25, 0.125], &[7, 9], "NONE");
    assert_eq!(label, [9, 7, 7, 7, 7]);
    assert_eq!(scores.to_f64()[..4], [0.375, 0.625, 0.625, 0.375]);
    let (label, scores) = classify(&[0; 5], &[-1.0, 1.0, 0.0, 0.0, 0.0], &[7, 9], "LOGISTIC");
    assert_eq!(label[..2], [7, 9]);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert_near(
        &part(&scores, 0, 0, 2),
        &[sigmoid(1.0), sigmoid(-1.0), sigmoid(-1.0), sigmoid(1.0)],
        "scores",
    );
    let mut attrs = trees("class", &[0.5; 5], &[0; 5]);
    attrs.push(("classlabels_strings", strs(&["a", "b"])));
    assert!(refused("TreeEnsembleClassifier", &attrs).starts_with("a classifier whose labels are strings"));
}

#[test]
fn broken_trees_are_refused() {
    let with = |name: &'static str, value: NodeAttr| {
        let mut attrs = trees("target", &[1.0; 5], &[0; 5]);
        attrs.push(("n_targets", int(1)));
        let place = attrs.iter().position(|(other, _)| *other == name).expect("it is there");
        attrs[place].1 = value;
        refused("TreeEnsembleRegressor", &attrs)
    };
    assert!(with("nodes_truenodeids", ints(&[1, 0, 0, 0, 0, 1, 0, 0])).contains("a node is below itself"));
    assert!(with("nodes_falsenodeids", ints(&[9, 4, 0, 0, 0, 2, 0, 0])).contains("tree 0 has no node 9"));
    assert!(with("nodes_nodeids", ints(&[0, 1, 2, 3, 3, 0, 1, 2])).contains("tree 0 has node 3 twice"));
    assert!(with("nodes_featureids", ints(&[0])).contains("none for node 1"));
    assert!(with("target_ids", ints(&[0, 0, 1, 0, 0])).contains("1 is none of 1 targets"));
    let mut many = trees("target", &[1.0; 5], &[0; 5]);
    many.push(("n_targets", int(i64::MAX)));
    assert!(refused("TreeEnsembleRegressor", &many).starts_with("a table of 8 leaves and nodes"));
    assert!(with("target_nodeids", ints(&[3, 4, 1, 1, 2])).contains("tree 0 has no leaf 1"));
}

fn weight(tensor: &Tensor) -> NodeAttr {
    let ir::graph::Kind::Weight(weight) = ({
        let mut b = Build::new("weight");
        let value = b.constant(tensor);
        b.graph().node(value.node).kind.clone()
    }) else {
        panic!("a constant is a weight")
    };
    NodeAttr::Tensor(weight)
}

/// `x₀ in {1, 2} ? 10 : (x₀ > 5 ? 20 : 30)`.
#[test]
fn a_node_may_ask_for_members_of_a_set() {
    let modes = Tensor::from_fn(DType::U8, &[2], |at| Scalar::from_i64(DType::U8, [6, 3][at[0]]));
    let attrs = [
        ("nodes_modes", weight(&modes)),
        ("nodes_splits", weight(&floats(&[2], &[0.0, 5.0]))),
        ("nodes_featureids", ints(&[0, 0])),
        ("nodes_truenodeids", ints(&[0, 1])),
        ("nodes_falsenodeids", ints(&[1, 2])),
        ("nodes_trueleafs", ints(&[1, 1])),
        ("nodes_falseleafs", ints(&[0, 1])),
        ("leaf_weights", weight(&floats(&[3], &[10.0, 20.0, 30.0]))),
        ("leaf_targetids", ints(&[0, 1, 0])),
        ("membership_values", weight(&floats(&[3], &[1.0, 2.0, f32::NAN]))),
        ("tree_roots", ints(&[0])),
        ("n_targets", int(2)),
    ];
    let y = ml(5, "TreeEnsemble", &[floats(&[4, 1], &[1.0, 2.0, 6.0, 3.0])], &attrs, 1).remove(0);
    assert_eq!(y.to_f64(), [10.0, 0.0, 10.0, 0.0, 0.0, 20.0, 30.0, 0.0]);
}

#[test]
fn linear_models_score_rows() {
    let x = floats(&[2, 2], &[1.0, 2.0, -1.0, 0.5]);
    let given = [("coefficients", numbers(&[1.0, 2.0, 0.0, -1.0])), ("intercepts", numbers(&[0.5, 0.0]))];
    let attrs = [&given[..], &[("targets", int(2))]].concat();
    let y = ml(1, "LinearRegressor", std::slice::from_ref(&x), &attrs, 1).remove(0);
    assert_eq!(y.to_f64(), [5.5, -2.0, 0.5, -0.5]);
    let attrs =
        [&given[..], &[("classlabels_ints", ints(&[4, 6])), ("post_transform", str("SOFTMAX"))]].concat();
    let results = ml(1, "LinearClassifier", std::slice::from_ref(&x), &attrs, 2);
    assert_eq!(results[0].to_i64(), [4, 4]);
    let first = |a: f64, b: f64| 1.0 / (1.0 + (b - a).exp());
    assert_near(
        &results[1],
        &[first(5.5, -2.0), first(-2.0, 5.5), first(0.5, -0.5), first(-0.5, 0.5)],
        "scores",
    );
    // One row of coefficients for two classes.
    let attrs = [("coefficients", numbers(&[1.0, 2.0])), ("classlabels_ints", ints(&[4, 6]))];
    let results = ml(1, "LinearClassifier", &[x], &attrs, 2);
    assert_eq!((results[0].to_i64(), results[1].to_f64()), (vec![6, 4], vec![-5.0, 5.0, 0.0, 0.0]));
    let uneven = [("coefficients", numbers(&[1.0, 2.0, 3.0])), ("targets", int(2))];
    assert!(refused("LinearRegressor", &uneven).contains("no 2 rows of 1"));
}

/// The inverse of the normal distribution to four digits; a softmax in which zeros stay.
#[test]
fn scores_are_transformed_in_the_end() {
    let scored = |transform: &str, x: &[f32]| {
        let count = x.len();
        let identity: Vec<f64> =
            (0..count * count).map(|i| if i % (count + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let attrs = [
            ("coefficients", numbers(&identity)),
            ("targets", int(count as i64)),
            ("post_transform", str(transform)),
        ];
        ml(1, "LinearRegressor", &[floats(&[1, count], x)], &attrs, 1).remove(0)
    };
    for (found, expected) in
        scored("PROBIT", &[0.1, 0.5, 0.975]).to_f64().into_iter().zip([-1.2816, 0.0, 1.96])
    {
        assert!((found - expected).abs() < 0.01, "{found} {expected}");
    }
    let sum = 1.0 + 1_f64.exp().recip();
    assert_near(&scored("SOFTMAX_ZERO", &[2.0, 0.0, 1.0]), &[1.0 / sum, 0.0, 1.0 - 1.0 / sum], "zeros stay");
    assert_eq!(scored("SOFTMAX_ZERO", &[0.0, 0.0]).to_f64(), [0.5, 0.5]);
    assert!(
        refused("LinearRegressor", &[("coefficients", numbers(&[1.0; 2])), ("post_transform", str("CUBE"))])
            .contains("CUBE")
    );
}

#[test]
fn labels_are_looked_up() {
    let x = i64s(&[2, 2], &[3, 1, 7, 2]);
    let attrs = [
        ("keys_int64s", ints(&[1, 2, 3])),
        ("values_floats", numbers(&[0.5, 1.5, 2.5])),
        ("default_float", number(-1.0)),
    ];
    let y = ml(2, "LabelEncoder", std::slice::from_ref(&x), &attrs, 1).remove(0);
    assert_eq!((y.dtype(), y.shape(), y.to_f64()), (DType::F32, &[2, 2][..], vec![2.5, 0.5, -1.0, 1.5]));
    let with_nan = [("keys_floats", numbers(&[1.5, f64::NAN])), ("values_int64s", ints(&[4, 5]))];
    let x = floats(&[3], &[f32::NAN, 1.5, 2.0]);
    let found =
        |version: i64| ml(version, "LabelEncoder", std::slice::from_ref(&x), &with_nan, 1).remove(0).to_i64();
    assert_eq!((found(4), found(2)), (vec![5, 4, -1], vec![-1, 4, -1]));
    let tensors = [
        ("keys_tensor", weight(&floats(&[2], &[1.5, 2.0]))),
        ("values_tensor", weight(&i64s(&[2], &[8, 9]))),
        ("default_tensor", weight(&i64s(&[1], &[6]))),
    ];
    assert_eq!(ml(4, "LabelEncoder", &[x], &tensors, 1).remove(0).to_i64(), [6, 8, 9]);
    let twice = [("keys_int64s", ints(&[1, 1])), ("values_int64s", ints(&[1, 2]))];
    assert!(refused("LabelEncoder", &twice).contains("keys that differ"));
    let zeros = [("keys_floats", numbers(&[0.0, -0.0])), ("values_int64s", ints(&[1, 2]))];
    assert!(refused("LabelEncoder", &zeros).contains("keys that differ"));
    assert!(
        refused("LabelEncoder", &[("keys_strings", strs(&["a"]))])
            .starts_with("LabelEncoder with `keys_strings`")
    );
}

#[test]
fn features_are_chosen_scaled_and_normalised() {
    let x = floats(&[2, 3], &[3.0, -4.0, 0.0, 0.0, 0.0, 0.0]);
    let chosen = ml(1, "ArrayFeatureExtractor", &[x.clone(), i64s(&[1, 2], &[2, 0])], &[], 1).remove(0);
    assert_eq!((chosen.shape(), chosen.to_f64()), (&[2, 2][..], vec![0.0, 3.0, 0.0, 0.0]));
    let vector =
        ml(1, "ArrayFeatureExtractor", &[floats(&[3], &[5.0, 6.0, 7.0]), i64s(&[1], &[1])], &[], 1).remove(0);
    assert_eq!((vector.shape(), vector.to_f64()), (&[1, 1][..], vec![6.0]));
    let attrs = [("offset", numbers(&[1.0, 0.0, 2.0])), ("scale", numbers(&[2.0]))];
    let scaled = ml(1, "Scaler", &[i64s(&[1, 3], &[1, 2, 3])], &attrs, 1).remove(0);
    assert_eq!((scaled.dtype(), scaled.to_f64()), (DType::F32, vec![0.0, 4.0, 2.0]));
    for (norm, size) in [("MAX", 4.0), ("L1", 7.0), ("L2", 5.0)] {
        let y = ml(1, "Normalizer", std::slice::from_ref(&x), &[("norm", str(norm))], 1).remove(0);
        assert_near(&y, &[3.0 / size, -4.0 / size, 0.0, 0.0, 0.0, 0.0], norm);
    }
    let binary = ml(1, "Binarizer", &[x], &[("threshold", number(-1.0))], 1).remove(0);
    assert_eq!(binary.to_f64(), [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    // 1 is not larger than 1.5, and 2 is.
    let whole = ml(1, "Binarizer", &[i64s(&[3], &[1, 2, -2])], &[("threshold", number(1.5))], 1).remove(0);
    assert_eq!(whole.to_i64(), [0, 1, 0]);
}

/// `σ(−(a·s + b))` of the first class, `s = Σ coefficient · x·v + rho`; what is chosen are votes all the same.
#[test]
fn machines_of_two_classes_have_probabilities() {
    let x = floats(&[2, 2], &[1.0, 2.0, -1.0, 0.5]);
    let given = [
        ("kernel_type", str("LINEAR")),
        ("classlabels_ints", ints(&[5, 3])),
        ("vectors_per_class", ints(&[1, 1])),
        ("support_vectors", numbers(&[1.0, 0.0, 0.0, 1.0])),
        ("coefficients", numbers(&[1.0, -2.0])),
        ("rho", numbers(&[0.5])),
        ("prob_a", numbers(&[-1.5])),
        ("prob_b", numbers(&[0.25])),
    ];
    let results = ml(1, "SVMClassifier", std::slice::from_ref(&x), &given, 2);
    let first = |s: f64| 1.0 / (1.0 + (-1.5 * s + 0.25).exp());
    let chances = [first(-2.5), first(-1.5)].into_iter().flat_map(|p| [p, 1.0 - p]).collect::<Vec<_>>();
    assert_near(&results[1], &chances, "chances");
    assert_eq!(results[0].to_i64(), [3, 3]);
    let with = |name: &'static str, value: NodeAttr| {
        let mut attrs = given.to_vec();
        let place = attrs.iter().position(|(other, _)| *other == name).expect("it is there");
        attrs[place].1 = value;
        refused("SVMClassifier", &attrs)
    };
    assert!(with("kernel_type", str("CUBE")).contains("LINEAR, POLY, RBF and SIGMOID"));
    assert!(with("rho", numbers(&[])).contains("1 are needed, there are 0"));
    assert!(with("coefficients", numbers(&[1.0])).contains("1 numbers for 2 vectors of 2 classes"));
    assert!(with("support_vectors", numbers(&[1.0])).contains("1 numbers for 2 vectors"));
    assert!(with("vectors_per_class", ints(&[])).contains("without support vectors"));
    let softmax = [&given[..6], &[("post_transform", str("SOFTMAX"))]].concat();
    assert!(refused("SVMClassifier", &softmax).contains("another transform than LOGISTIC"));
    let mut strings = given.to_vec();
    strings.push(("classlabels_strings", strs(&["a", "b"])));
    assert!(refused("SVMClassifier", &strings).starts_with("a classifier whose labels are strings"));
}

#[test]
fn features_that_do_not_fit_are_refused() {
    assert!(
        refused("OneHotEncoder", &[("cats_strings", strs(&["a"]))])
            .starts_with("OneHotEncoder with categories that are strings")
    );
    let fails = [("cats_int64s", ints(&[1, 2])), ("zeros", int(0))];
    assert!(refused("OneHotEncoder", &fails).contains("fails at run time"));
    assert!(refused("Imputer", &[("imputed_value_floats", numbers(&[1.0; 7]))]).contains("7 numbers for"));
    assert!(refused("Imputer", &[]).contains("0 numbers for"));
    assert!(refused("FeatureVectorizer", &[("inputdimensions", ints(&[9]))]).contains("columns"));
    assert!(
        refused("FeatureVectorizer", &[("inputdimensions", ints(&[1, 1]))]).contains("2 sizes for 1 inputs")
    );
}
