//! Chooses one node for each class so that what the outputs need costs least, each class counted once.
//!
//! egg's own extractor prices trees: at each residual connection it counts everything before twice. Here a first choice
//! is made greedily, a class being priced by the *set* of classes that its choice needs; then choices are changed one at
//! a time, and for all users of a node together, as long as the whole becomes cheaper. So a node that serves several users
//! (one product for queries, keys and values) is found although no user alone would pay for it.

use std::collections::{BTreeMap, BTreeSet};

use egg::{Id, Language};

use super::facts::Classes;
use super::language::Node;

/// The chosen node of each class.
pub(super) type Choice = BTreeMap<Id, Node>;

/// Rounds of improvement: each changes every choice at most once.
const ROUNDS: usize = 4;

/// So many changes are also made two at a time.
const PAIRED: usize = 40;

/// The cheapest nodes found for the classes that `roots` need.
pub(super) fn extract(classes: &Classes, roots: &[Id], cost: &dyn Fn(&Node) -> f64) -> Choice {
    let roots: Vec<Id> = roots.iter().map(|&id| classes.find(id)).collect();
    let nodes = Nodes::of(classes, cost);
    let mut choice = nodes.greedy();
    nodes.climb(&roots, &mut choice);
    let needed = nodes.needed(&roots, &choice).expect("bug: the greedy choice has a circle");
    choice
        .into_iter()
        .filter(|(id, _)| needed.contains(id))
        .map(|(id, at)| (id, nodes.of[&id][at].0.clone()))
        .collect()
}

#[cfg(test)]
/// What a choice costs: every needed class once. `None` if it has a circle.
pub(super) fn price(
    classes: &Classes,
    roots: &[Id],
    choice: &Choice,
    cost: &dyn Fn(&Node) -> f64,
) -> Option<f64> {
    let nodes = Nodes::of(classes, cost);
    let of = |(id, node): (&Id, &Node)| Some((*id, nodes.of.get(id)?.iter().position(|(n, _)| n == node)?));
    let choice: BTreeMap<Id, usize> = choice.iter().map(of).collect::<Option<_>>()?;
    let roots: Vec<Id> = roots.iter().map(|&id| classes.find(id)).collect();
    nodes.total(&roots, &choice)
}

/// Every node of every class with its own cost, children canonical.
struct Nodes {
    of: BTreeMap<Id, Vec<(Node, f64)>>,
}

/// The price of a class: what it needs, itself included, and the sum of that.
#[derive(Clone)]
struct Price {
    needs: BTreeMap<Id, f64>,
    total: f64,
}

impl Nodes {
    fn of(classes: &Classes, cost: &dyn Fn(&Node) -> f64) -> Nodes {
        let mut of = BTreeMap::new();
        for class in classes.classes() {
            let mut nodes: Vec<Node> = class.nodes.clone();
            nodes.iter_mut().for_each(|node| node.update_children(|id| classes.find(id)));
            nodes.sort_unstable();
            nodes.dedup();
            let priced = nodes.into_iter().map(|node| (node.clone(), cost(&node))).collect();
            of.insert(class.id, priced);
        }
        Nodes { of }
    }

    /// For each class the node whose needs cost least, from the leaves up until nothing changes.
    fn greedy(&self) -> BTreeMap<Id, usize> {
        let mut best: BTreeMap<Id, (usize, Price)> = BTreeMap::new();
        let mut changed = true;
        while changed {
            changed = false;
            for (&id, nodes) in &self.of {
                for (at, (node, own)) in nodes.iter().enumerate() {
                    let Some(price) = self.price_of(id, node, *own, &best) else { continue };
                    if best.get(&id).is_none_or(|(_, known)| price.total < known.total) {
                        best.insert(id, (at, price));
                        changed = true;
                    }
                }
            }
        }
        best.into_iter().map(|(id, (at, _))| (id, at)).collect()
    }

    /// `None` while a child has no price, or where the node needs its own class.
    fn price_of(&self, id: Id, node: &Node, own: f64, best: &BTreeMap<Id, (usize, Price)>) -> Option<Price> {
        let mut needs: BTreeMap<Id, f64> = BTreeMap::new();
        for child in node.children() {
            let (_, price) = best.get(child)?;
            if price.needs.contains_key(&id) {
                return None;
            }
            needs.extend(price.needs.iter().map(|(id, cost)| (*id, *cost)));
        }
        needs.insert(id, own);
        let total = needs.values().sum();
        Some(Price { needs, total })
    }

    /// Changes choices while that makes the whole cheaper: one class at a time, all users of a node together, and, where
    /// there are few of these, two at once.
    fn climb(&self, roots: &[Id], choice: &mut BTreeMap<Id, usize>) {
        let Some(mut total) = self.total(roots, choice) else { return };
        let mut moves = self.moves();
        if moves.len() <= PAIRED {
            for at in 1..moves.len() {
                moves.extend(
                    (0..at).map(|before| [&moves[before][..], &moves[at]].concat()).collect::<Vec<_>>(),
                );
            }
        }
        for _ in 0..ROUNDS {
            let before = total;
            for changes in &moves {
                let complete = |(id, at): &(Id, usize)| {
                    self.of[id][*at].0.children().iter().all(|child| choice.contains_key(child))
                };
                if !changes.iter().all(complete) {
                    continue;
                }
                let kept: Vec<(Id, usize)> = changes.iter().map(|(id, _)| (*id, choice[id])).collect();
                choice.extend(changes.iter().copied());
                match self.total(roots, choice) {
                    Some(other) if other < total => total = other,
                    _ => choice.extend(kept),
                }
            }
            if total >= before {
                break;
            }
        }
    }

    /// What may be changed at once: a node for a class; and, for each class, every node that takes it.
    fn moves(&self) -> Vec<Vec<(Id, usize)>> {
        let open = || self.of.iter().filter(|(_, nodes)| nodes.len() > 1);
        let mut moves: Vec<Vec<(Id, usize)>> =
            open().flat_map(|(&id, nodes)| (0..nodes.len()).map(move |at| vec![(id, at)])).collect();
        let mut takers: BTreeMap<Id, BTreeMap<Id, usize>> = BTreeMap::new();
        for (&id, nodes) in open() {
            for (at, (node, _)) in nodes.iter().enumerate() {
                for child in node.children() {
                    takers.entry(*child).or_default().entry(id).or_insert(at);
                }
            }
        }
        moves.extend(
            takers.into_values().filter(|users| users.len() > 1).map(|users| users.into_iter().collect()),
        );
        moves
    }

    fn total(&self, roots: &[Id], choice: &BTreeMap<Id, usize>) -> Option<f64> {
        Some(self.needed(roots, choice)?.iter().map(|id| self.of[id][choice[id]].1).sum())
    }

    /// The classes that the roots need. `None` if a class needs itself.
    fn needed(&self, roots: &[Id], choice: &BTreeMap<Id, usize>) -> Option<BTreeSet<Id>> {
        let mut done = BTreeSet::new();
        let mut open: BTreeSet<Id> = BTreeSet::new();
        let mut stack: Vec<(Id, usize)> = Vec::new();
        for &root in roots {
            stack.push((root, 0));
            while let Some((id, next)) = stack.pop() {
                if done.contains(&id) {
                    continue;
                }
                if next == 0 && !open.insert(id) {
                    return None;
                }
                let children = self.of[&id][choice[&id]].0.children();
                match children.get(next) {
                    Some(&child) => {
                        stack.push((id, next + 1));
                        if open.contains(&child) {
                            return None;
                        }
                        if !done.contains(&child) {
                            stack.push((child, 0));
                        }
                    }
                    None => {
                        open.remove(&id);
                        done.insert(id);
                    }
                }
            }
        }
        Some(done)
    }
}
