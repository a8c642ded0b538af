//! Decision trees, whose leaves add up (or are averaged, or the smallest or largest counts) to scores.
//!
//! Each row goes down each tree; a feature that is NaN goes where the node says. A classifier of two classes may score one of
//! them alone. Source: ONNX ai.onnx.ml.TreeEnsemble, version 5; TreeEnsembleRegressor and TreeEnsembleClassifier,
//! version 3.

use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Dim, Scalar, Tensor};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::neg::NEG;
use crate::math::sub::SUB;
use crate::ml::DOMAIN;
use crate::ml::linear_model::{best, labels};
use crate::ml::post_transform::PostTransform;
use crate::ml::trees::{Aggregate, MODES, Mode, Next, Split, Trees};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::shape::concat::{AXIS, CONCAT};
use crate::shape::slice::slice_axis;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    since("TreeEnsemble", 5, import).in_domain(DOMAIN),
    by("TreeEnsembleRegressor", import_regressor).in_domain(DOMAIN),
    by("TreeEnsembleClassifier", import_classifier).in_domain(DOMAIN),
];

fn wrong(name: &str, why: impl Into<String>) -> ImportError {
    ImportError::Attribute { name: name.to_owned(), why: why.into() }
}

/// A list of numbers, which may be a tensor; `None` if it is left out.
fn floats(node: &NodeView, name: &str) -> Result<Option<Vec<f64>>, ImportError> {
    if let Some(tensor) = node.tensor(&format!("{name}_as_tensor"))? {
        return Ok(Some(tensor.tensor().to_f64()));
    }
    node.floats(name)
}

fn ints(node: &NodeView, name: &str) -> Result<Vec<i64>, ImportError> {
    let list = node.ints(name)?;
    node.required(name, list)
}

/// Element `i` of a list that has one for each node.
fn at<T: Clone>(list: &[T], i: usize, name: &str) -> Result<T, ImportError> {
    list.get(i)
        .cloned()
        .ok_or_else(|| wrong(name, format!("there are {}, and none for node {i}", list.len())))
}

/// The features as floats: those of `f64` stay.
fn features(node: &NodeView, b: &mut Build) -> Result<Value, ImportError> {
    let x = node.input(0)?;
    let dtype = if b.ty(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(convert(b, x, dtype)?)
}

/// Since version 5: leaves have numbers of their own, and one target each.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["nodes_hitrates"]);
    let tensor = |name: &str| Ok::<_, ImportError>(node.tensor(name)?.map(|tensor| tensor.tensor().to_f64()));
    let (modes, numbers) = (tensor("nodes_modes")?, tensor("nodes_splits")?);
    let (modes, numbers) = (node.required("nodes_modes", modes)?, node.required("nodes_splits", numbers)?);
    let mut members = tensor("membership_values")?.unwrap_or_default().into_iter();
    let tracks = node.ints("nodes_missing_value_tracks_true")?.unwrap_or_default();
    let features_of = ints(node, "nodes_featureids")?;
    let weights = tensor("leaf_weights")?;
    let (weights, ids) = (node.required("leaf_weights", weights)?, ints(node, "leaf_targetids")?);
    let mut ways = Vec::new();
    for (nodes, leaves) in
        [("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs")]
    {
        ways.push((nodes, ints(node, nodes)?, leaves, ints(node, leaves)?));
    }
    let next = |way: usize, i: usize| -> Result<Next, ImportError> {
        let (nodes, ids, leaves, are_leaves) = &ways[way];
        let is_leaf = at(are_leaves, i, leaves)? != 0;
        let count = if is_leaf { weights.len() } else { modes.len() };
        let id = usize::try_from(at(ids, i, nodes)?).ok().filter(|&id| id < count);
        let id = id.ok_or_else(|| wrong(nodes, format!("node {i} leads nowhere")))?;
        Ok(if is_leaf { Next::Leaf(id) } else { Next::Node(id) })
    };
    let mut splits = Vec::new();
    for (i, &mode) in modes.iter().enumerate() {
        let (_, mode) =
            *MODES.get(mode as usize).ok_or_else(|| ImportError::value("nodes_modes", mode, "0 to 6"))?;
        let is_set = mode == Mode::Member;
        splits.push(Split {
            feature: at(&features_of, i, "nodes_featureids")?,
            mode,
            number: at(&numbers, i, "nodes_splits")?,
            members: if is_set { members.by_ref().take_while(|m| !m.is_nan()).collect() } else { Vec::new() },
            nan_is_true: tracks.get(i).is_some_and(|&tracks| tracks != 0),
            yes: next(0, i)?,
            no: next(1, i)?,
        });
    }
    let targets = node.int("n_targets")?;
    let targets = node.required("n_targets", targets)?.max(0) as usize;
    let mut leaves = Vec::new();
    for (i, &weight) in weights.iter().enumerate() {
        leaves.push(vec![(target(at(&ids, i, "leaf_targetids")?, targets, "leaf_targetids")?, weight)]);
    }
    let mut roots = Vec::new();
    for root in ints(node, "tree_roots")? {
        let root = usize::try_from(root).ok().filter(|&root| root < splits.len());
        let root = root.ok_or_else(|| wrong("tree_roots", "a root is no node"))?;
        // A tree that is a leaf: a node with that leaf on both sides.
        roots.push(Next::Node(root));
    }
    let aggregate = match node.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(ImportError::value("aggregate_function", other, "0 to 3")),
    };
    let transform = PostTransform::numbered(node.int_or("post_transform", 0)?)?;
    let x = features(node, b)?;
    let y = Trees { splits, leaves, roots, targets }.of(b, x, aggregate)?;
    let y = transform.of(b, y)?;
    let dtype = node.ty(b, 0)?.dtype;
    Ok(vec![convert(b, y, dtype)?])
}

fn target(id: i64, targets: usize, name: &str) -> Result<usize, ImportError> {
    let found = usize::try_from(id).ok().filter(|&id| id < targets);
    found.ok_or_else(|| wrong(name, format!("{id} is none of {targets} targets")))
}

/// Before version 5: nodes are named by the number of their tree and one of their own, some of them are leaves, and what
/// leaves give is listed apart (`target` or `class` in the names of attributes).
fn trees_by_name(node: &NodeView, what: &str, targets: usize) -> Result<Trees, ImportError> {
    node.ignore(&["nodes_hitrates", "nodes_hitrates_as_tensor"]);
    let (tree_ids, node_ids) = (ints(node, "nodes_treeids")?, ints(node, "nodes_nodeids")?);
    let modes = node.strs("nodes_modes")?;
    let modes = node.required("nodes_modes", modes)?;
    let numbers = floats(node, "nodes_values")?;
    let numbers = node.required("nodes_values", numbers)?;
    let features_of = ints(node, "nodes_featureids")?;
    let (yes, no) = (ints(node, "nodes_truenodeids")?, ints(node, "nodes_falsenodeids")?);
    let tracks = node.ints("nodes_missing_value_tracks_true")?.unwrap_or_default();
    let mut places: BTreeMap<(i64, i64), Next> = BTreeMap::new();
    let (mut split_count, mut leaf_count, mut roots, mut seen) = (0, 0, Vec::new(), BTreeSet::new());
    for (i, mode) in modes.iter().enumerate() {
        let name = (at(&tree_ids, i, "nodes_treeids")?, at(&node_ids, i, "nodes_nodeids")?);
        let place = if mode == "LEAF" {
            leaf_count += 1;
            Next::Leaf(leaf_count - 1)
        } else {
            split_count += 1;
            Next::Node(split_count - 1)
        };
        if places.insert(name, place).is_some() {
            return Err(wrong("nodes_nodeids", format!("tree {} has node {} twice", name.0, name.1)));
        }
        // The first node of a tree is its root.
        if seen.insert(name.0) {
            roots.push(place);
        }
    }
    let mut splits = Vec::new();
    for (i, mode) in modes.iter().enumerate().filter(|(_, mode)| *mode != "LEAF") {
        let known = MODES.iter().find(|(name, _)| name == mode).filter(|(_, mode)| *mode != Mode::Member);
        let (_, mode) = *known.ok_or_else(|| {
            let known = "BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, BRANCH_EQ, BRANCH_NEQ and LEAF";
            ImportError::value("nodes_modes", mode, known)
        })?;
        let next = |ids: &[i64], name: &str| -> Result<Next, ImportError> {
            let named = (tree_ids[i], at(ids, i, name)?);
            let place = places.get(&named).copied();
            place.ok_or_else(|| wrong(name, format!("tree {} has no node {}", named.0, named.1)))
        };
        splits.push(Split {
            feature: at(&features_of, i, "nodes_featureids")?,
            mode,
            number: at(&numbers, i, "nodes_values")?,
            members: Vec::new(),
            nan_is_true: tracks.get(i).is_some_and(|&tracks| tracks != 0),
            yes: next(&yes, "nodes_truenodeids")?,
            no: next(&no, "nodes_falsenodeids")?,
        });
    }
    let mut leaves = vec![Vec::new(); leaf_count];
    let list = |part: &str| ints(node, &format!("{what}_{part}"));
    let (of_trees, of_nodes, ids) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let name = format!("{what}_weights");
    let weights = floats(node, &name)?;
    let weights = node.required(&name, weights)?;
    for (i, &weight) in weights.iter().enumerate() {
        let named = (at(&of_trees, i, &name)?, at(&of_nodes, i, &name)?);
        let Some(Next::Leaf(leaf)) = places.get(&named).copied() else {
            return Err(wrong(&name, format!("tree {} has no leaf {}", named.0, named.1)));
        };
        leaves[leaf].push((target(at(&ids, i, &name)?, targets, &name)?, weight));
    }
    Ok(Trees { splits, leaves, roots, targets })
}

/// `y` plus what each target has before any tree.
fn plus_base(node: &NodeView, b: &mut Build, y: Value, targets: usize) -> Result<Value, ImportError> {
    let Some(base) = floats(node, "base_values")?.filter(|base| !base.is_empty()) else { return Ok(y) };
    if base.len() != 1 && base.len() != targets {
        return Err(wrong("base_values", format!("{targets} are needed, there are {}", base.len())));
    }
    let dtype = b.ty(y).dtype;
    let base = Tensor::from_fn(dtype, &[base.len()], |at| Scalar::from_f64(dtype, base[at[0]]));
    let base = b.constant(&base);
    Ok(b.op(&ADD, &[y, base])?)
}

fn import_regressor(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let targets = node.int("n_targets")?;
    let targets = node.required("n_targets", targets)?.max(0) as usize;
    let aggregate = match node.str_or("aggregate_function", "SUM")? {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(ImportError::value("aggregate_function", other, "AVERAGE, SUM, MIN and MAX")),
    };
    let transform = PostTransform::named(node.str_or("post_transform", "NONE")?)?;
    let x = features(node, b)?;
    let y = trees_by_name(node, "target", targets)?.of(b, x, aggregate)?;
    let y = plus_base(node, b, y, targets)?;
    let y = transform.of(b, y)?;
    Ok(vec![convert(b, y, DType::F32)?])
}

fn import_classifier(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let labels = labels(node, "classlabels_int64s", "classlabels_strings")?;
    if labels.len() < 2 {
        return Err(ImportError::Unsupported {
            what: format!("a classifier of {} classes", labels.len()),
            help: "export the model with a label for each of two classes or more".to_owned(),
        });
    }
    let transform = PostTransform::named(node.str_or("post_transform", "NONE")?)?;
    let x = features(node, b)?;
    let trees = trees_by_name(node, "class", labels.len())?;
    let given = || trees.leaves.iter().flatten();
    let scored: BTreeSet<usize> = given().map(|(class, _)| *class).collect();
    let all_positive = given().all(|(_, weight)| *weight >= 0.0);
    let mut y = trees.of(b, x, Aggregate::Sum)?;
    y = plus_base(node, b, y, labels.len())?;
    if labels.len() == 2 && scored.len() == 1 {
        y = second_class(b, y, *scored.first().expect("there is one"), all_positive, transform)?;
    }
    let y = transform.of(b, y)?;
    let y = convert(b, y, DType::F32)?;
    Ok(vec![best(b, y, &labels)?, y])
}

/// Where one of two classes is scored, that is the second: the first gets what is left to 1, or, before a softmax or a
/// sigmoid and where leaves take away, the negative.
fn second_class(
    b: &mut Build,
    y: Value,
    scored: usize,
    all_positive: bool,
    transform: PostTransform,
) -> Result<Value, ImportError> {
    let own = slice_axis(b, y, 1, scored.into(), Dim::constant(1))?;
    let adds_up = all_positive && matches!(transform, PostTransform::None | PostTransform::Probit);
    let other = if adds_up {
        let one = b.scalar(b.ty(own).dtype, 1.0);
        b.op(&SUB, &[one, own])?
    } else {
        b.op(&NEG, &[own])?
    };
    Ok(b.op_with(&CONCAT, &[other, own], [AXIS.is(1)])?)
}
