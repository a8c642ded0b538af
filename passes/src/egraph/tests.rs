//! Extraction against every choice there is, and regions.

use std::collections::BTreeMap;

use egg::{Id, Language};
use ir::{DType, TensorType};
use ops::math::add::ADD;
use ops::math::mul::MUL;

use super::extract::{Choice, extract, price};
use super::facts::{Classes, Facts, Input};
use super::language::{Head, Node};
use super::region;

/// A generator of small numbers (an LCG's upper bits): the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Classes with two nodes each, over three inputs, and what nodes cost.
fn random_classes(seed: u64) -> (Classes, Vec<Id>, BTreeMap<Node, f64>) {
    let mut numbers = Numbers(seed);
    let mut classes = Classes::new(Facts::default());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let input = Input { ty: TensorType::fixed(DType::F32, &[4]), constant: false, not_negative: false };
        let number = classes.analysis.input(input);
        ids.push(classes.add(Node::new(Head::Input(number), vec![])));
    }
    for _ in 0..7 {
        let mut node = |classes: &mut Classes, ids: &[Id]| {
            let def = [&ADD, &MUL][numbers.below(2)];
            let children = [numbers.below(ids.len()), numbers.below(ids.len())].map(|at| ids[at]);
            classes.add(Node::new(Head::Op(def), children.to_vec()))
        };
        let (a, b) = (node(&mut classes, &ids), node(&mut classes, &ids));
        classes.union(a, b);
        ids.push(a);
    }
    classes.rebuild();
    let roots = ids[ids.len() - 2..].iter().map(|&id| classes.find(id)).collect();
    let mut costs = BTreeMap::new();
    for class in classes.classes() {
        for node in &class.nodes {
            let mut node = node.clone();
            node.update_children(|id| classes.find(id));
            let cost = if node.op().is_some() { 1 + numbers.below(20) } else { 0 };
            costs.entry(node).or_insert(cost as f64);
        }
    }
    (classes, roots, costs)
}

/// The least price of all choices.
fn least(classes: &Classes, roots: &[Id], cost: &dyn Fn(&Node) -> f64) -> f64 {
    let mut choices: Vec<Choice> = vec![Choice::new()];
    for class in classes.classes() {
        let mut nodes: Vec<Node> = class.nodes.clone();
        nodes.iter_mut().for_each(|node| node.update_children(|id| classes.find(id)));
        nodes.sort_unstable();
        nodes.dedup();
        let with = |choice: &Choice| {
            let choice = choice.clone();
            nodes.clone().into_iter().map(move |node| {
                let mut choice = choice.clone();
                choice.insert(class.id, node);
                choice
            })
        };
        choices = choices.iter().flat_map(with).collect();
    }
    let prices = choices.iter().filter_map(|choice| price(classes, roots, choice, cost));
    prices.fold(f64::INFINITY, f64::min)
}

#[test]
fn extraction_is_close_to_the_best_choice() {
    let (mut best, mut total) = (0, 0);
    for seed in 0..120 {
        let (classes, roots, costs) = random_classes(seed);
        let cost = |node: &Node| costs[node];
        let choice = extract(&classes, &roots, &cost);
        let found = price(&classes, &roots, &choice, &cost).expect("the choice has no circle");
        let least = least(&classes, &roots, &cost);
        assert!(found >= least && found <= 1.25 * least, "seed {seed}: {found}, and {least} is possible");
        best += usize::from(found == least);
        total += 1;
    }
    assert!(10 * best >= 9 * total, "the best choice is found {best} times of {total}");
}

#[test]
fn a_node_for_several_users_is_found_though_none_would_pay_alone() {
    let mut classes = Classes::new(Facts::default());
    let input = Input { ty: TensorType::fixed(DType::F32, &[4]), constant: false, not_negative: false };
    let number = classes.analysis.input(input);
    let x = classes.add(Node::new(Head::Input(number), vec![]));
    // Three values cost 4 each by themselves, or 1 each from a shared one that costs 7.
    let shared = classes.add(Node::new(Head::Op(&MUL), vec![x, x]));
    let mut operand = x;
    let mut roots = Vec::new();
    for _ in 0..3 {
        operand = classes.add(Node::new(Head::Op(&ADD), vec![x, operand]));
        let own = classes.add(Node::new(Head::Op(&MUL), vec![x, operand]));
        let other = classes.add(Node::new(Head::Op(&ADD), vec![shared, operand]));
        classes.union(own, other);
        roots.push(own);
    }
    classes.rebuild();
    let (x, shared) = (classes.find(x), classes.find(shared));
    let cost = |node: &Node| match (node.op(), node.children()) {
        (None, _) => 0.0,
        (Some(_), [a, b]) if *a == x && *b == x && node.op() == Some(&MUL) => 7.0,
        (Some(_), [a, _]) if *a == shared => 1.0,
        (Some(op), _) if op == &MUL => 4.0,
        _ => 0.0,
    };
    let choice = extract(&classes, &roots, &cost);
    assert_eq!(price(&classes, &roots, &choice, &cost), Some(10.0));
}

#[test]
fn layers_are_cut_after_their_first_norm() {
    let mut text =
        String::from("weights @w : f32[4, 4] = splat 0.5\ngraph @g(%x: f32[n, 4]) -> f32[n, 4] {\n");
    let (mut x, mut value) = ("%x".to_owned(), 0);
    let ops_of_a_layer = 30;
    for _ in 0..12 {
        let residual = x.clone();
        text += &format!("  %{value} = layer_norm {x} {{axes=[1]}} : f32[n, 4]\n");
        text += &format!("  %{} = matmul %{value}, @w : f32[n, 4]\n", value + 1);
        value += 2;
        for _ in 3..ops_of_a_layer {
            text += &format!("  %{value} = tanh %{} : f32[n, 4]\n", value - 1);
            value += 1;
        }
        text += &format!("  %{value} = add {residual}, %{} : f32[n, 4]\n", value - 1);
        x = format!("%{value}");
        value += 1;
    }
    text += &format!("  return {x}\n}}\n");
    struct Inline;
    impl ir::text::WeightSource for Inline {
        fn find(&self, _: &ir::weight::Hash) -> Option<ir::weight::Bytes> {
            None
        }
    }
    let graph = ir::text::parse_graph(&text, &ops::find, &Inline).expect("it parses");
    let sizes: Vec<usize> = region::split(&graph).iter().map(Vec::len).collect();
    // The first norm, then twelve layers from a product to the norm of the next one; the last one has none.
    assert_eq!(sizes[0], 1);
    assert_eq!(sizes.len(), 13);
    assert!(sizes[1..12].iter().all(|&size| size == ops_of_a_layer), "{sizes:?}");
}
