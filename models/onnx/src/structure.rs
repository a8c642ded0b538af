//! The shape of a graph or of a function's body, before any node is looked into: names and order.
//!
//! Values are known by name. Each is given once and before it is used, in some order: ONNX demands that the nodes
//! come sorted, old files are not always, and an order is found for any graph without a cycle.
//!
//! All problems are found at once. What nested graphs read from outside counts as read by the node that holds them.

use std::collections::{BTreeMap, BTreeSet};

use ir::At;
use ir::origin::Origin;
use onnx_protobuf::{GraphProto, NodeProto};

use crate::error::ImportProblem;
use crate::metadata;

/// A graph's or a function's names.
pub(crate) struct Body<'a> {
    /// The names that are given from outside, each with what gives it (`the input`).
    pub(crate) given: Vec<(&'a str, &'static str)>,
    pub(crate) nodes: &'a [NodeProto],
    pub(crate) outputs: Vec<&'a str>,
    /// What the messages put before a node's name: the function's.
    pub(crate) prefix: &'a str,
}

/// What the names say.
pub(crate) struct Structure {
    /// The nodes, those that give a value before those that use it, else in the order of the file.
    pub(crate) order: Vec<usize>,
    /// What is wrong.
    pub(crate) problems: Vec<At<ImportProblem>>,
    /// There is no sense in going on: an order or a name means nothing.
    pub(crate) is_fatal: bool,
}

/// Who gives a value.
#[derive(Clone, Copy)]
enum Source {
    Outside(&'static str),
    Node(usize),
}

/// Looks at the names of `body`.
pub(crate) fn check(body: &Body) -> Structure {
    check_inside(body, &|_| false)
}

/// Looks at the names of a nested graph; `outer` knows those of the graphs around.
pub(crate) fn check_nested(graph: &GraphProto, prefix: &str, outer: &dyn Fn(&str) -> bool) -> Structure {
    let inputs = graph.input.iter().map(|input| (input.name.as_str(), "the input"));
    let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph.sparse_initializer.iter().map(|sparse| sparse.values.name.as_str());
    let constants = constants.chain(sparse).map(|name| (name, "the initializer"));
    let given = inputs.chain(constants).collect();
    let outputs = graph.output.iter().map(|output| output.name.as_str()).collect();
    check_inside(&Body { given, nodes: &graph.node, outputs, prefix }, outer)
}

/// What a node reads: its inputs, and what the graphs in its attributes read from outside.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let own = names.len();
    for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        read_from_outside(graph, &mut names);
    }
    let mut seen = BTreeSet::new();
    let mut position = 0;
    names.retain(|name| {
        position += 1;
        seen.insert(*name) || position <= own
    });
    names
}

fn read_from_outside<'a>(graph: &'a GraphProto, names: &mut Vec<&'a str>) {
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let constants = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    let inside: BTreeSet<&str> = inputs.chain(constants).chain(made).collect();
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    let read = graph.node.iter().flat_map(reads).chain(outputs);
    names.extend(read.filter(|name| !name.is_empty() && !inside.contains(name)));
}

fn check_inside(body: &Body, outer: &dyn Fn(&str) -> bool) -> Structure {
    let mut problems = Vec::new();
    let mut is_fatal = false;
    let nowhere = |error| At { node: None, origin: Origin::none(), error };
    let at = |node: usize, error| {
        let mut place = metadata::place(&body.nodes[node], node);
        place.name.insert_str(0, body.prefix);
        At { node: None, origin: Origin::place(place), error }
    };
    let describe = |source: Source| match source {
        Source::Outside(what) => what.to_owned(),
        Source::Node(node) => format!("node \"{}{}\"", body.prefix, metadata::name(&body.nodes[node], node)),
    };

    let mut sources: BTreeMap<&str, Source> = BTreeMap::new();
    for &(value, what) in &body.given {
        match sources.get(value) {
            // Before IR version 4 every initializer was an input, too.
            Some(Source::Outside(first)) if *first != what => {
                sources.insert(value, Source::Outside(what));
            }
            Some(&first) => {
                let (first, second) =
                    (describe(first), format!("another {}", what.trim_start_matches("the ")));
                problems.push(nowhere(ImportProblem::Duplicate { value: value.to_owned(), first, second }));
                is_fatal = true;
            }
            None => {
                sources.insert(value, Source::Outside(what));
            }
        }
    }
    for (index, node) in body.nodes.iter().enumerate() {
        if node.op_type.is_empty() {
            problems.push(at(index, ImportProblem::NoOpType));
            is_fatal = true;
        }
        for value in node.output.iter().filter(|name| !name.is_empty()) {
            let second = Source::Node(index);
            if let Some(&first) = sources.get(value.as_str()) {
                let (first, second) = (describe(first), describe(second));
                problems.push(at(index, ImportProblem::Duplicate { value: value.clone(), first, second }));
                is_fatal = true;
            } else {
                sources.insert(value, second);
            }
        }
    }

    // Who waits for whom. A value that nobody gives is reported once, at its first reader.
    let mut undefined = BTreeSet::new();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); body.nodes.len()];
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); body.nodes.len()];
    for (index, node) in body.nodes.iter().enumerate() {
        for value in reads(node) {
            match sources.get(value) {
                Some(&Source::Node(giver)) => {
                    before[index].push(giver);
                    after[giver].push(index);
                }
                Some(Source::Outside(_)) => {}
                None if outer(value) => {}
                None => {
                    if undefined.insert(value) {
                        problems.push(at(index, ImportProblem::Undefined { value: value.to_owned() }));
                    }
                }
            }
        }
    }
    let mut outputs = BTreeSet::new();
    for value in &body.outputs {
        if !outputs.insert(value) {
            let (first, second) = ("an output".to_owned(), "another output".to_owned());
            problems.push(nowhere(ImportProblem::Duplicate { value: (*value).to_owned(), first, second }));
        }
        if !sources.contains_key(value) && !outer(value) {
            problems.push(nowhere(ImportProblem::NoOutput { value: (*value).to_owned() }));
        }
    }

    let order = sorted(&before, &after);
    if order.len() < body.nodes.len() {
        is_fatal = true;
        for cycle in cycles(&before, &order) {
            let nodes =
                cycle.iter().map(|&n| format!("{}{}", body.prefix, metadata::name(&body.nodes[n], n)));
            problems.push(at(cycle[0], ImportProblem::Cycle { nodes: nodes.collect() }));
        }
    }
    Structure { order, problems, is_fatal }
}

/// The nodes that are not on or behind a cycle, each after those it waits for, the earliest first.
fn sorted(before: &[Vec<usize>], after: &[Vec<usize>]) -> Vec<usize> {
    let mut waiting: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<usize> = (0..before.len()).filter(|&node| waiting[node] == 0).collect();
    let mut order = Vec::with_capacity(before.len());
    while let Some(node) = ready.pop_first() {
        order.push(node);
        for &user in &after[node] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                ready.insert(user);
            }
        }
    }
    order
}

/// Cycles among the nodes that `order` lacks; each lists givers before readers. Those that share a node are
/// reported as one.
fn cycles(before: &[Vec<usize>], order: &[usize]) -> Vec<Vec<usize>> {
    let mut done: Vec<bool> = vec![false; before.len()];
    for &node in order {
        done[node] = true;
    }
    let mut found = Vec::new();
    for start in 0..before.len() {
        let mut path: Vec<usize> = Vec::new();
        let mut position: BTreeMap<usize, usize> = BTreeMap::new();
        let mut node = start;
        while !done[node] {
            if let Some(&from) = position.get(&node) {
                let mut cycle = path[from..].to_vec();
                cycle.reverse();
                // Begin with the node that comes first in the file.
                let first = (0..cycle.len()).min_by_key(|&i| cycle[i]).expect("a cycle has a node");
                cycle.rotate_left(first);
                found.push(cycle);
                break;
            }
            position.insert(node, path.len());
            path.push(node);
            match before[node].iter().find(|&&giver| !done[giver]) {
                Some(&giver) => node = giver,
                None => break,
            }
        }
        for node in path {
            done[node] = true;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            name: name.to_owned(),
            op_type: "Op".to_owned(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: outputs.iter().map(|s| (*s).to_owned()).collect(),
            ..NodeProto::default()
        }
    }

    fn check_nodes(nodes: &[NodeProto], outputs: &[&str]) -> Structure {
        check(&Body { given: vec![("x", "the input")], nodes, outputs: outputs.to_vec(), prefix: "" })
    }

    fn messages(structure: &Structure) -> Vec<String> {
        structure.problems.iter().map(|at| at.error.to_string()).collect()
    }

    #[test]
    fn unsorted_nodes_are_sorted_and_ties_keep_their_order() {
        let nodes = [
            node("c", &["b"], &["y"]),
            node("b", &["a", ""], &["b"]),
            node("z", &["x"], &["z"]),
            node("a", &["x", "x"], &["a"]),
        ];
        let structure = check_nodes(&nodes, &["y"]);
        assert!(structure.problems.is_empty());
        assert_eq!(structure.order, [2, 3, 1, 0]);
    }

    #[test]
    fn every_cycle_is_named_and_nodes_behind_it_are_not() {
        let nodes = [
            node("behind", &["q"], &["y"]),
            node("p", &["x", "q"], &["p"]),
            node("q", &["p"], &["q"]),
            node("self", &["s"], &["s"]),
        ];
        let structure = check_nodes(&nodes, &["y"]);
        assert!(structure.is_fatal);
        assert_eq!(
            messages(&structure),
            ["the graph has a cycle: \"p\" → \"q\" → \"p\"", "the graph has a cycle: \"self\" → \"self\""]
        );
    }

    #[test]
    fn names_are_checked_all_at_once() {
        let nodes = [node("a", &["w", "w"], &["x"]), node("b", &["w", "v"], &["c", "c"])];
        let structure = check_nodes(&nodes, &["c", "d"]);
        assert!(structure.is_fatal);
        assert_eq!(
            messages(&structure),
            [
                "`x` is given twice: by the input and by node \"a\"",
                "`c` is given twice: by node \"b\" and by node \"b\"",
                "`w` is read, but no input, initializer or node gives it",
                "`v` is read, but no input, initializer or node gives it",
                "output `d` is promised, but nothing gives it",
            ]
        );
    }

    #[test]
    fn an_initializer_may_also_be_an_input() {
        let mut given = vec![("x", "the input"), ("w", "the input"), ("w", "the initializer")];
        let structure = check(&Body { given: given.clone(), nodes: &[], outputs: vec!["w"], prefix: "" });
        assert!(structure.problems.is_empty());
        given.push(("w", "the initializer"));
        let structure = check(&Body { given, nodes: &[], outputs: vec!["w", "w"], prefix: "" });
        assert_eq!(
            messages(&structure),
            [
                "`w` is given twice: by the initializer and by another initializer",
                "`w` is given twice: by an output and by another output",
            ]
        );
        let given = vec![("x", "the input"), ("x", "the input")];
        let structure = check(&Body { given, nodes: &[], outputs: vec![], prefix: "" });
        assert_eq!(messages(&structure), ["`x` is given twice: by the input and by another input"]);
    }

    #[test]
    fn long_chains_need_no_stack() {
        let nodes: Vec<NodeProto> =
            (0..20_000).rev().map(|i| node("", &[&format!("v{i}")], &[&format!("v{}", i + 1)])).collect();
        let structure =
            check(&Body { given: vec![("v0", "the input")], nodes: &nodes, outputs: vec![], prefix: "" });
        assert_eq!(structure.order.len(), 20_000);
    }
}
