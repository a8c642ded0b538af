//! Outputs that are maps or texts, as the numbers that tell them: classifiers of classic models give maps from labels to
//! scores (`ZipMap`), and labels that are texts.
//!
//! Promises: a `ZipMap` that makes an output is left out, and the output is its operand, scores in the order of the
//! labels; a label that is an output is its place among the labels of the classifier. Whoever knows the labels, which a
//! model's declaration says, can make the maps and texts of them.
//!
//! Deliberately absent: maps and texts anywhere else in a model. They are refused as ever.

use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, attribute_proto};

const DOMAIN: &str = "ai.onnx.ml";

/// The op that makes maps of scores.
const ZIP_MAP: &str = "ZipMap";

/// The ops that choose a label, which is their first output.
const CLASSIFIERS: [&str; 3] = ["LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"];

/// The attribute with labels that are texts.
const STRINGS: &str = "classlabels_strings";

/// What an output is that is told by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// A map from each of the labels, or one of them?
    pub is_map: bool,
    /// The labels.
    pub labels: Labels,
}

/// Labels of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Numbers.
    Numbers(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

/// What the output of this name is, if it is told by numbers.
pub(crate) fn told(graph: &GraphProto, output: &str) -> Option<Told> {
    if let Some(node) = maker(graph, output).filter(|node| is_zip_map(node)) {
        let texts = texts(node, STRINGS);
        let numbers =
            || attribute(node, "classlabels_int64s").map(|found| Labels::Numbers(found.ints.clone()));
        let labels = texts.map(Labels::Texts).or_else(numbers)?;
        return Some(Told { is_map: true, labels });
    }
    let texts = texts(&graph.node[chooser(graph, output)?], STRINGS)?;
    Some(Told { is_map: false, labels: Labels::Texts(texts) })
}

/// Puts numbers in the place of maps and texts among the outputs.
pub(crate) fn instead(graph: &mut GraphProto) {
    let outputs: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    for name in &outputs {
        if told(graph, name).is_none() {
            continue;
        }
        if let Some(at) = graph.node.iter().position(|node| is_zip_map(node) && node.output.contains(name)) {
            let Some(scores) = graph.node[at].input.first().cloned() else { continue };
            // What is no node's result, or an output itself, keeps its name.
            if maker(graph, &scores).is_none() || outputs.contains(&scores) {
                continue;
            }
            graph.node.remove(at);
            for node in &mut graph.node {
                let names = node.input.iter_mut().chain(&mut node.output);
                names.filter(|value| **value == scores).for_each(|value| value.clone_from(name));
            }
        } else if let Some(at) = chooser(graph, name) {
            let node = &mut graph.node[at];
            let count = texts(node, STRINGS).map_or(0, |texts| texts.len() as i64);
            let numbers =
                if node.op_type == "LinearClassifier" { "classlabels_ints" } else { "classlabels_int64s" };
            node.attribute.retain(|attribute| attribute.name != STRINGS && attribute.name != numbers);
            node.attribute.push(AttributeProto {
                name: numbers.to_owned(),
                type_: attribute_proto::AttributeType::INTS.into(),
                ints: (0..count).collect(),
                ..AttributeProto::default()
            });
        }
        let declared = graph.output.iter_mut().filter(|output| output.name == *name);
        declared.for_each(|output| output.type_ = None.into());
    }
}

fn maker<'a>(graph: &'a GraphProto, value: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|node| node.output.iter().any(|output| output == value))
}

fn is_zip_map(node: &NodeProto) -> bool {
    node.domain == DOMAIN && node.op_type == ZIP_MAP
}

/// The classifier whose label is an output, if it chooses among texts and nothing else reads its label.
fn chooser(graph: &GraphProto, output: &str) -> Option<usize> {
    let mut value = output;
    // Each node is passed once, also where a model goes in circles.
    for _ in &graph.node {
        let mut readers = graph.node.iter().filter(|node| node.input.iter().any(|input| input == value));
        if !readers.all(is_identity) {
            return None;
        }
        let at = graph.node.iter().position(|node| node.output.iter().any(|output| output == value))?;
        let node = &graph.node[at];
        if !is_identity(node) {
            let is_classifier = node.domain == DOMAIN && CLASSIFIERS.contains(&node.op_type.as_str());
            let is_label = node.output.first().is_some_and(|first| first == value);
            return (is_classifier && is_label && texts(node, STRINGS).is_some()).then_some(at);
        }
        value = node.input.first()?;
    }
    None
}

fn is_identity(node: &NodeProto) -> bool {
    node.op_type == "Identity" && node.domain.is_empty()
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The texts that an attribute holds, if it holds some.
fn texts(node: &NodeProto, name: &str) -> Option<Vec<String>> {
    let found = &attribute(node, name)?.strings;
    let texts = found.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    (!found.is_empty()).then_some(texts)
}
