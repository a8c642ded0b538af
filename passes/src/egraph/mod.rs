//! Rewrites graphs with e-graphs: every spelling that the rules know is kept, and the cheapest is chosen at the end.
//!
//! The graph is taken apart into regions (`region`); each becomes an e-graph (`language`, `facts`), to which the rules
//! are applied set by set until nothing is new or a limit on nodes or rounds is reached (`rules`, `rewrite`); then one
//! node is chosen for each class so that the whole costs least (`cost`, `extract`), and the region is replaced by that.
//! Where the first set, which folds constants into weights, finds something, that is done for it alone first. Regions of
//! equal text are rewritten once.
//!
//! Nothing here depends on time or on hash order: limits are counts, classes and nodes are walked in the order of their
//! numbers.

mod cost;
mod extract;
mod facts;
mod language;
mod pattern;
mod region;
mod rewrite;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use egg::{Id, Language};
use ir::graph::{Kind, Value};
use ir::{At, Graph, NodeId, Origin, Weight};

use crate::error::PassError;
use crate::graph::fold_constants::MAX_RESIDENT;
use crate::pass::{About, Changed, Cx, GraphPass};
use cost::Model;
use facts::{Classes, Facts, Input};
use language::{Head, Node};
use region::Part;
use rewrite::Made;
pub use rewrite::Missed;
use rules::{Outcome, Rule, Set};

/// Times that a set of rules is tried on everything.
const ROUNDS: usize = 8;

/// Nodes that an e-graph may have for each that it started with, and in any case.
const GROWTH: usize = 16;
const ROOM: usize = 4096;

/// See the [module](self).
pub struct Saturate;

impl GraphPass for Saturate {
    fn about(&self) -> About {
        About::new("saturate", "rewrite with rules until the cheapest spelling is found")
    }

    fn run(&self, graph: &mut Graph, cx: &Cx) -> Result<Changed, At<PassError>> {
        Ok(Changed(rewrite(graph, cx).changed))
    }
}

/// What the rules did to a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Did anything change?
    pub changed: bool,
    /// How many regions there were, and how many of them were rewritten: one of those that are equal.
    pub regions: usize,
    /// See [`Report::regions`].
    pub distinct: usize,
    /// How often each rule found something new.
    pub applied: BTreeMap<&'static str, usize>,
    /// Anchors at which a rule found what it is for, but could not be applied.
    pub missed: Vec<MissedAt>,
}

/// An anchor that did not become what its rule makes.
#[derive(Debug, Clone, PartialEq)]
pub struct MissedAt {
    /// The rule.
    pub rule: &'static str,
    /// The op at which it was tried.
    pub anchor: &'static str,
    /// The nodes of the model behind it.
    pub origin: Origin,
    /// The first obligation that failed.
    pub why: Missed,
}

/// Rewrites a graph, and says what the rules did.
pub fn rewrite(graph: &mut Graph, cx: &Cx) -> Report {
    let rules: Vec<&'static Rule> = cx.rules().filter(|rule| cx.allows(rule)).collect();
    let weights = graph.order().into_iter().filter_map(|id| graph.node(id).weight().map(Weight::size));
    let crowded = weights.sum::<usize>() > MAX_RESIDENT;
    let mut report = Report::default();
    let mut known: HashMap<String, Rewritten> = HashMap::new();
    for region in region::split(graph) {
        report.regions += 1;
        let part = Part::of(graph, &region);
        let rewritten = known.entry(part.key()).or_insert_with(|| Rewritten::of(&part, &rules, crowded));
        for (rule, times) in &rewritten.applied {
            *report.applied.entry(rule).or_insert(0) += times;
        }
        report.missed.extend(rewritten.missed.iter().map(|missed| MissedAt {
            origin: region::outside_origin(graph, &region, &missed.origin),
            ..missed.clone()
        }));
        if let Some(new) = &rewritten.graph {
            region::splice(graph, &region, &part, new);
            report.changed = true;
        }
    }
    report.distinct = known.len();
    if report.changed {
        let needed = graph.needed(graph.roots());
        graph.retain(|id| needed.contains(&id));
    }
    report
}

/// What became of a region.
struct Rewritten {
    /// The graph, if it is another one.
    graph: Option<Graph>,
    applied: BTreeMap<&'static str, usize>,
    missed: Vec<MissedAt>,
}

impl Rewritten {
    fn of(part: &Part, rules: &[&'static Rule], crowded: bool) -> Rewritten {
        let mut saturation = Saturation::of(part, crowded);
        saturation.run(rules, &[Set::Fold]);
        let (mut applied, mut missed) = (BTreeMap::new(), Vec::new());
        let mut folded = None;
        if !saturation.applied.is_empty() {
            let part = folded.insert(part.with(saturation.extract(part)));
            missed = saturation.still_missed(&part.graph);
            applied = saturation.applied;
            saturation = Saturation::of(part, crowded);
        }
        saturation.run(rules, &[Set::Explore, Set::Raise]);
        let chosen = saturation.extract(folded.as_ref().unwrap_or(part));
        missed.extend(saturation.still_missed(&chosen));
        for (rule, times) in saturation.applied {
            *applied.entry(rule).or_insert(0) += times;
        }
        let made = chosen.order().iter().any(|&id| !chosen.node(id).origin.rules().is_empty());
        Rewritten { graph: made.then_some(chosen), applied, missed }
    }
}

/// The e-graph of a region, while rules are applied.
struct Saturation {
    classes: Classes,
    /// The class of each value of the region.
    values: BTreeMap<Value, Id>,
    made: BTreeMap<Node, Made>,
    applied: BTreeMap<&'static str, usize>,
    /// By rule and anchor: the obligation that failed last.
    missed: BTreeMap<(&'static str, Id), (Node, Missed)>,
}

impl Saturation {
    fn of(part: &Part, crowded: bool) -> Saturation {
        let mut classes = Classes::new(Facts::crowded(crowded));
        let mut values = BTreeMap::new();
        let graph = &part.graph;
        for (number, &input) in graph.inputs().iter().enumerate() {
            let ty = graph.node(input).types[0].clone();
            let number = classes.analysis.input(Input {
                ty,
                constant: part.constant[number],
                not_negative: part.not_negative[number],
            });
            values.insert(Value::from(input), classes.add(Node::new(Head::Input(number), Vec::new())));
        }
        for id in graph.order() {
            let node = graph.node(id);
            match &node.kind {
                Kind::Input(_) => {}
                Kind::Weight(weight) => {
                    let number = classes.analysis.constant(weight);
                    values.insert(id.into(), classes.add(Node::new(Head::Constant(number), Vec::new())));
                }
                Kind::Op { def, attrs } => {
                    let mut children: Vec<Id> =
                        graph.operands(id).iter().map(|value| values[value]).collect();
                    if !def.attrs.is_empty() {
                        let number = classes.analysis.number(attrs);
                        children.push(classes.add(Node::new(Head::Attrs(number), Vec::new())));
                    }
                    let class = classes.add(Node::new(Head::Op(def), children));
                    let origin = classes[class].data.origin.join(&node.origin);
                    classes[class].data.origin = origin.clone();
                    for result in 0..node.types.len() {
                        let value = Value { node: id, result };
                        if node.types.len() == 1 {
                            values.insert(value, class);
                            continue;
                        }
                        let taken = classes.add(Node::new(Head::Result(result as u32), vec![class]));
                        classes[taken].data.origin = origin.clone();
                        values.insert(value, taken);
                    }
                }
            }
        }
        classes.rebuild();
        Saturation {
            classes,
            values,
            made: BTreeMap::new(),
            applied: BTreeMap::new(),
            missed: BTreeMap::new(),
        }
    }

    fn run(&mut self, rules: &[&'static Rule], sets: &[Set]) {
        let limit = self.classes.total_size() * GROWTH + ROOM;
        for &set in sets {
            for _ in 0..ROUNDS {
                let mut news = false;
                for rule in rules.iter().filter(|rule| rule.set == set) {
                    news |= self.apply(rule, limit);
                }
                if !news || self.classes.total_size() > limit {
                    break;
                }
            }
        }
    }

    /// Tries a rule at each of its anchors. Says whether anything is new.
    fn apply(&mut self, rule: &'static Rule, limit: usize) -> bool {
        let mut anchors: Vec<(Id, Node)> = Vec::new();
        for class in self.classes.classes() {
            let at = |node: &&Node| node.op().is_some_and(|op| rule.anchor.contains(&op));
            anchors.extend(class.nodes.iter().filter(at).map(|node| (class.id, node.clone())));
        }
        anchors.sort_unstable();
        let mut news = false;
        for (class, node) in anchors {
            if self.classes.total_size() > limit {
                break;
            }
            // Patterns are only found in a graph whose equalities are complete.
            self.classes.rebuild();
            let class = self.classes.find(class);
            match rule.try_at(&mut self.classes, &mut self.made, class, &node) {
                Outcome::New => {
                    *self.applied.entry(rule.name).or_insert(0) += 1;
                    self.missed.remove(&(rule.name, class));
                    news = true;
                }
                Outcome::Known => {
                    self.missed.remove(&(rule.name, class));
                }
                Outcome::Other => {}
                Outcome::Missed(why) => {
                    self.missed.insert((rule.name, class), (node, why));
                }
            }
        }
        self.classes.rebuild();
        news
    }

    /// The cheapest graph for the region's outputs.
    fn extract(&self, part: &Part) -> Graph {
        let outputs: Vec<Id> =
            part.graph.outputs().iter().map(|value| self.classes.find(self.values[value])).collect();
        let model = Model::new(&self.classes, cost::CPU);
        let choice = extract::extract(&self.classes, &outputs, &|node| model.node(node));
        let mut made: BTreeMap<Node, &Made> = BTreeMap::new();
        for (node, by) in &self.made {
            let mut node = node.clone();
            node.update_children(|id| self.classes.find(id));
            made.entry(node).or_insert(by);
        }
        let mut chosen =
            Chosen { saturation: self, made, choice, graph: Graph::new("region"), values: BTreeMap::new() };
        for &input in part.graph.inputs() {
            let ty = part.graph.node(input).types[0].clone();
            let value = chosen.graph.add_input(part.graph.input_name(input), ty, Origin::none());
            chosen.values.insert(self.classes.find(self.values[&Value::from(input)]), vec![value]);
        }
        for &output in &outputs {
            chosen.add(output);
        }
        let named = outputs.iter().enumerate().map(|(i, id)| (format!("y{i}"), chosen.values[id][0]));
        let named: Vec<_> = named.collect();
        chosen.graph.set_outputs(named);
        chosen.graph
    }

    /// What was missed at anchors that are still there.
    fn still_missed(&self, chosen: &Graph) -> Vec<MissedAt> {
        let left = |anchor: &Node, origin: &Origin| {
            chosen.order().into_iter().any(|id| {
                let node = chosen.node(id);
                node.op().map(|(def, _)| def) == anchor.op()
                    && node.origin.places().iter().any(|place| origin.places().contains(place))
            })
        };
        let each = self.missed.iter().filter_map(|((rule, class), (node, why))| {
            let origin = self.classes[*class].data.origin.clone();
            let anchor = node.op()?.name;
            left(node, &origin).then(|| MissedAt { rule, anchor, origin, why: why.clone() })
        });
        each.collect()
    }
}

/// A graph that comes to be from chosen nodes.
struct Chosen<'a> {
    saturation: &'a Saturation,
    made: BTreeMap<Node, &'a Made>,
    choice: extract::Choice,
    graph: Graph,
    /// The results of each class that is there already.
    values: BTreeMap<Id, Vec<Value>>,
}

impl Chosen<'_> {
    /// Adds what gives this class, operands first.
    fn add(&mut self, root: Id) {
        let mut todo = vec![root];
        while let Some(&id) = todo.last() {
            if self.values.contains_key(&id) {
                todo.pop();
                continue;
            }
            let node = self.choice[&id].clone();
            let open: Vec<Id> =
                node.operands().iter().copied().filter(|id| !self.values.contains_key(id)).collect();
            if !open.is_empty() {
                todo.extend(open.into_iter().rev());
                continue;
            }
            let values = self.node(id, &node);
            self.values.insert(id, values);
            todo.pop();
        }
    }

    fn node(&mut self, id: Id, node: &Node) -> Vec<Value> {
        let classes = &self.saturation.classes;
        let first = |id: &Id| self.values[id][0];
        match node.head() {
            Head::Attrs(_) | Head::Input(_) => {
                unreachable!("bug: no value, or one that was there from the start")
            }
            Head::Constant(number) => {
                vec![self.graph.add_weight(classes.analysis.weight(number).clone(), Origin::none())]
            }
            Head::Result(number) => vec![self.values[&node.operands()[0]][number as usize]],
            Head::Op(def) => {
                let (attrs, _) = facts::signature(classes, node);
                let operands: Vec<Value> = node.operands().iter().map(first).collect();
                let origin = match self.made.get(node) {
                    Some(made) => made.origin.by(made.rule),
                    None => classes[id].data.origin.clone(),
                };
                let added: NodeId = self
                    .graph
                    .add_op(def, &operands, attrs, origin)
                    .expect("bug: a chosen node does not suit its operands");
                (0..self.graph.node(added).types.len()).map(|result| Value { node: added, result }).collect()
            }
        }
    }
}
