//! What is known of a class: its types, whether it is constant, what it stands for.

use std::collections::HashMap;

use egg::{Analysis, DidMerge, EGraph, Id};
use ir::attr::Attrs;
use ir::op::Infer;
use ir::{Origin, TensorType, Weight};

use super::language::{Head, Node};

/// The e-graph of a region.
pub(super) type Classes = EGraph<Node, Facts>;

/// What nodes name by numbers.
#[derive(Debug, Default)]
pub(super) struct Facts {
    attrs: Vec<Attrs>,
    numbers: HashMap<Attrs, u32>,
    constants: Vec<Constant>,
    inputs: Vec<Input>,
    replaced: Vec<Node>,
    crowded: bool,
}

/// A constant, and the number that all its elements are, if they are one float.
#[derive(Debug)]
struct Constant {
    weight: Weight,
    number: Option<f64>,
}

/// A value from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Input {
    /// Its type.
    pub ty: TensorType,
    /// Is it a weight, too large to be looked at?
    pub constant: bool,
    /// Is that known to have no element below 0?
    pub not_negative: bool,
}

/// What is known of a class.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    /// The types of the op's results; none for attributes.
    pub types: Vec<TensorType>,
    /// The value, if it is a constant that may be looked at.
    pub value: Option<u32>,
    /// Does it depend on constants alone?
    pub constant: bool,
    /// Is it known to be finite and to have no element below 0?
    pub not_negative: bool,
    /// The attributes, if the class is some.
    pub attrs: Option<u32>,
    /// The nodes of the region that the class stands for.
    pub origin: Origin,
}

impl Facts {
    /// Of a graph whose weights, all computed anew, would take more memory than there is for that.
    pub(super) fn crowded(crowded: bool) -> Facts {
        Facts { crowded, ..Facts::default() }
    }

    /// See [`Facts::crowded`].
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// The number of these attributes.
    pub(super) fn number(&mut self, attrs: &Attrs) -> u32 {
        if let Some(&number) = self.numbers.get(attrs) {
            return number;
        }
        let number = self.attrs.len() as u32;
        self.attrs.push(attrs.clone());
        self.numbers.insert(attrs.clone(), number);
        number
    }

    /// The attributes with this number.
    pub(super) fn attrs(&self, number: u32) -> &Attrs {
        &self.attrs[number as usize]
    }

    /// The number of a constant.
    pub(super) fn constant(&mut self, weight: &Weight) -> u32 {
        let known = self.constants.iter().position(|constant| constant.weight == *weight);
        known.unwrap_or_else(|| {
            self.constants.push(Constant { weight: weight.clone(), number: uniform(weight) });
            self.constants.len() - 1
        }) as u32
    }

    /// The constant with this number.
    pub(super) fn weight(&self, number: u32) -> &Weight {
        &self.constants[number as usize].weight
    }

    /// What all elements of this constant are, if they are one float.
    pub(super) fn uniform(&self, number: u32) -> Option<f64> {
        self.constants[number as usize].number
    }

    /// Nodes that are not to be chosen where there is another.
    pub(super) fn replace(&mut self, nodes: impl IntoIterator<Item = Node>) {
        for node in nodes {
            if !self.replaced.contains(&node) {
                self.replaced.push(node);
            }
        }
    }

    /// The nodes given to [`Facts::replace`].
    pub(super) fn replaced(&self) -> &[Node] {
        &self.replaced
    }

    /// One more value from outside. Gives its number.
    pub(super) fn input(&mut self, input: Input) -> u32 {
        self.inputs.push(input);
        self.inputs.len() as u32 - 1
    }
}

/// What all elements of a constant are, if they are one float.
fn uniform(weight: &Weight) -> Option<f64> {
    if !weight.dtype().is_float() || weight.elements() == 0 {
        return None;
    }
    let first = weight.get(0);
    let mut elements = weight.stored();
    let known = elements.next()?;
    elements.all(|element| element == known).then(|| first.to_f64())
}

/// Are all elements floats of 0 or more, and finite?
pub(super) fn is_not_negative(weight: &Weight) -> bool {
    weight.dtype().is_float() && weight.values().all(|value| (0.0..f64::INFINITY).contains(&value.to_f64()))
}

/// The attributes and operand types of an op's node.
pub(super) fn signature(classes: &Classes, node: &Node) -> (Attrs, Vec<TensorType>) {
    let attrs = node.attrs().and_then(|id| classes[id].data.attrs);
    let attrs = attrs.map_or_else(Attrs::default, |number| classes.analysis.attrs(number).clone());
    let types = node.operands().iter().map(|&id| classes[id].data.types[0].clone()).collect();
    (attrs, types)
}

impl Analysis<Node> for Facts {
    type Data = Fact;

    fn make(classes: &mut Classes, node: &Node, _: Id) -> Fact {
        let mut fact = Fact {
            types: Vec::new(),
            value: None,
            constant: false,
            not_negative: false,
            attrs: None,
            origin: Origin::none(),
        };
        match node.head() {
            Head::Attrs(number) => fact.attrs = Some(number),
            Head::Input(number) => {
                let Input { ty, constant, not_negative } = classes.analysis.inputs[number as usize].clone();
                fact.types = vec![ty];
                fact.constant = constant;
                fact.not_negative = not_negative;
            }
            Head::Constant(number) => {
                fact.types = vec![classes.analysis.weight(number).ty()];
                fact.value = Some(number);
                fact.constant = true;
                fact.not_negative = is_not_negative(classes.analysis.weight(number));
            }
            Head::Result(number) => {
                let data = &classes[node.operands()[0]].data;
                fact.types = vec![data.types[number as usize].clone()];
                fact.constant = data.constant;
            }
            Head::Op(def) => {
                let (attrs, types) = signature(classes, node);
                let operands: Vec<&TensorType> = types.iter().collect();
                let types = def.result_types(&Infer { operands: &operands, attrs: &attrs });
                fact.types = types.expect("bug: a node was added whose types were not inferred before");
                let operands = node.operands();
                fact.constant = !operands.is_empty() && operands.iter().all(|&id| classes[id].data.constant);
            }
        }
        fact
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        debug_assert_eq!(a.types, b.types, "bug: a rule made values of different types equal");
        let origin = a.origin.join(&b.origin);
        let value = a.value.or(b.value);
        let constant = a.constant || b.constant;
        let not_negative = a.not_negative || b.not_negative;
        let differs = |fact: &Fact| {
            origin != fact.origin
                || (value, constant, not_negative) != (fact.value, fact.constant, fact.not_negative)
        };
        let (here, there) = (differs(a), differs(&b));
        (a.origin, a.value, a.constant, a.not_negative) = (origin, value, constant, not_negative);
        DidMerge(here, there)
    }
}
