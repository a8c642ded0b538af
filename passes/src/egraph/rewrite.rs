//! What a rule sees when it has found its anchor: classes to look at, and nodes to make.

use std::collections::BTreeMap;

use egg::{Id, Language};
use ir::attr::{Attr, Attrs};
use ir::op::{Infer, OpError};
use ir::{DType, Dim, OpDef, Origin, Scalar, Tensor, TensorType, Weight};

use super::facts::{Classes, signature};
use super::language::{Head, Node};

/// Which rule made a node, and what the node stands for.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// The rule.
    pub rule: &'static str,
    /// The nodes of the region that it replaced.
    pub origin: Origin,
}

/// Why an anchor did not become what its rule makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The obligation that failed, in the rule's words.
    pub obligation: &'static str,
    /// What there is instead.
    pub found: String,
}

impl Missed {
    /// An obligation that does not hold.
    pub(super) fn new(obligation: &'static str, found: impl Into<String>) -> Missed {
        Missed { obligation, found: found.into() }
    }
}

/// An application of a rule.
pub(super) struct Match<'a> {
    classes: &'a mut Classes,
    made: &'a mut BTreeMap<Node, Made>,
    rule: &'static str,
    origin: Origin,
    new: Vec<Node>,
    replaced: Vec<Node>,
}

impl<'a> Match<'a> {
    /// Of this rule, at a node. If a rule made that, it had its part in whatever comes of it.
    pub(super) fn new(
        classes: &'a mut Classes,
        made: &'a mut BTreeMap<Node, Made>,
        rule: &'static str,
        anchor: &Node,
    ) -> Self {
        let now = |node: &Node| node.clone().map_children(|id| classes.find(id));
        let anchor = now(anchor);
        let before = made.iter().find(|(node, _)| node.op() == anchor.op() && now(node) == anchor);
        let origin = before.map_or(Origin::none(), |(_, made)| made.origin.by(made.rule));
        Match { classes, made, rule, origin, new: Vec::new(), replaced: Vec::new() }
    }

    /// The e-graph.
    pub(super) fn classes(&self) -> &Classes {
        self.classes
    }

    /// The type of a value.
    pub(super) fn ty(&self, id: Id) -> &TensorType {
        &self.classes[id].data.types[0]
    }

    /// Its sizes.
    pub(super) fn shape(&self, id: Id) -> Vec<Dim> {
        self.ty(id).shape.clone()
    }

    /// Every node of a class, in a fixed order.
    pub(super) fn nodes(&self, id: Id) -> Vec<Node> {
        let mut nodes = self.classes[id].nodes.clone();
        nodes.sort_unstable();
        nodes
    }

    /// The applications of an op that give this value: operands and attributes.
    pub(super) fn uses_of(&self, def: &'static OpDef, id: Id) -> Vec<(Vec<Id>, Attrs)> {
        let of = |node: &Node| (node.operands().to_vec(), self.attrs(node));
        self.nodes(id).iter().filter(|node| node.op() == Some(def)).map(of).collect()
    }

    /// The first application of an op that gives this value.
    pub(super) fn find(&self, def: &'static OpDef, id: Id) -> Option<(Vec<Id>, Attrs)> {
        self.uses_of(def, id).into_iter().next()
    }

    /// The attributes of an op's node.
    pub(super) fn attrs(&self, node: &Node) -> Attrs {
        signature(self.classes, node).0
    }

    /// The attributes that a class is, if it is some.
    pub(super) fn attributes(&self, id: Id) -> Option<&Attrs> {
        self.classes[id].data.attrs.map(|number| self.classes.analysis.attrs(number))
    }

    /// The applications of an op to this value: their classes and nodes, in a fixed order.
    pub(super) fn users(&self, def: &'static OpDef, id: Id) -> Vec<(Id, Node)> {
        let id = self.classes.find(id);
        let mut users: Vec<(Id, Node)> = Vec::new();
        for parent in self.classes[id].parents() {
            let class = self.classes.find(parent);
            for node in &self.classes[class].nodes {
                let takes = node.operands().iter().any(|&operand| self.classes.find(operand) == id);
                if node.op() == Some(def) && takes {
                    users.push((class, node.clone()));
                }
            }
        }
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The value that is this result of an op with several, if anything takes it.
    pub(super) fn result(&self, class: Id, number: u32) -> Option<Id> {
        let class = self.classes.find(class);
        let taken = Node::new(Head::Result(number), vec![class]);
        self.classes.lookup(taken)
    }

    /// Do two ids name one value?
    pub(super) fn same(&self, a: Id, b: Id) -> bool {
        self.classes.find(a) == self.classes.find(b)
    }

    /// The value, if it is a constant that may be looked at.
    pub(super) fn value(&self, id: Id) -> Option<&Weight> {
        self.classes[id].data.value.map(|number| self.classes.analysis.weight(number))
    }

    /// Does the value depend on constants alone?
    pub(super) fn is_constant(&self, id: Id) -> bool {
        self.classes[id].data.constant
    }

    /// Is it known to be a finite constant without elements below 0?
    pub(super) fn is_not_negative(&self, id: Id) -> bool {
        self.classes[id].data.not_negative
    }

    /// The number, if the value is a constant whose elements are all equal.
    pub(super) fn number(&self, id: Id) -> Option<f64> {
        self.classes[id].data.value.and_then(|number| self.classes.analysis.uniform(number))
    }

    /// Does a value depend on `on`, through any of the nodes that give it?
    pub(super) fn depends(&self, value: Id, on: Id) -> bool {
        let on = self.classes.find(on);
        let (mut seen, mut todo) = (std::collections::BTreeSet::new(), vec![self.classes.find(value)]);
        while let Some(id) = todo.pop() {
            if id == on {
                return true;
            }
            if seen.insert(id) {
                let children = self.classes[id].nodes.iter().flat_map(|node| node.children());
                todo.extend(children.map(|&child| self.classes.find(child)));
            }
        }
        false
    }

    /// The match stands for this value, too.
    pub(super) fn covers(&mut self, id: Id) {
        let origin = self.classes[id].data.origin.clone();
        self.origin = self.origin.join(&origin);
    }

    /// What the rule makes is to be chosen instead of this node, whatever it costs: the node may overflow, or it keeps
    /// apart what would be one kernel.
    pub(super) fn replaces(&mut self, node: &Node) {
        self.replaced.push(node.clone());
    }

    /// How values are called in messages: by the nodes of the model behind them.
    pub(super) fn describe(&self, id: Id) -> String {
        let data = &self.classes[id].data;
        let ops: Vec<&str> = self.nodes(id).iter().filter_map(|node| Some(node.op()?.name)).collect();
        let op = ops.first().copied().unwrap_or(if data.constant { "a constant" } else { "an input" });
        match data.types.first() {
            Some(ty) => format!("{op}: {ty}"),
            None => op.to_owned(),
        }
    }

    /// Applies an op with all its attributes.
    ///
    /// # Errors
    /// What the op says of these operands.
    pub(super) fn op_as(
        &mut self,
        def: &'static OpDef,
        operands: &[Id],
        attrs: &Attrs,
    ) -> Result<Id, OpError> {
        let types: Vec<&TensorType> = operands.iter().map(|&id| self.ty(id)).collect();
        def.result_types(&Infer { operands: &types, attrs })?;
        let mut children = operands.to_vec();
        if !def.attrs.is_empty() {
            let number = self.classes.analysis.number(attrs);
            children.push(self.classes.add(Node::new(Head::Attrs(number), Vec::new())));
        }
        Ok(self.add(Node::new(Head::Op(def), children)))
    }

    /// Applies an op with some attributes, the others being defaults.
    ///
    /// # Errors
    /// What the op says of these operands.
    pub(super) fn op_with(
        &mut self,
        def: &'static OpDef,
        operands: &[Id],
        attrs: impl IntoIterator<Item = (&'static str, Attr)>,
    ) -> Result<Id, OpError> {
        let attrs = def.check_attrs(attrs.into_iter().map(|(key, attr)| (key.to_owned(), attr)))?;
        self.op_as(def, operands, &attrs)
    }

    /// Applies an op without attributes other than defaults.
    ///
    /// # Errors
    /// What the op says of these operands.
    pub(super) fn op(&mut self, def: &'static OpDef, operands: &[Id]) -> Result<Id, OpError> {
        self.op_with(def, operands, [])
    }

    /// A constant.
    pub(super) fn constant(&mut self, tensor: &Tensor) -> Id {
        let number = self.classes.analysis.constant(&Weight::from_tensor("", tensor));
        self.add(Node::new(Head::Constant(number), Vec::new()))
    }

    /// A constant without axes.
    pub(super) fn scalar(&mut self, dtype: DType, value: f64) -> Id {
        self.constant(&Tensor::scalar(Scalar::from_f64(dtype, value)))
    }

    fn add(&mut self, mut node: Node) -> Id {
        node.update_children(|id| self.classes.find(id));
        if let Some(known) = self.classes.lookup(node.clone()) {
            return known;
        }
        self.new.push(node.clone());
        self.classes.add(node)
    }

    /// The rule has made equal values. Says whether that is news.
    pub(super) fn finish(self, equal: &[(Id, Id)]) -> bool {
        let Match { classes, made, rule, mut origin, new, replaced, .. } = self;
        classes.analysis.replace(replaced);
        for (old, _) in equal {
            origin = origin.join(&classes[*old].data.origin);
        }
        let mut news = false;
        for (old, new) in equal {
            news |= classes.union(*old, *new);
        }
        for node in new {
            if let Some(id) = classes.lookup(node.clone())
                && classes[id].data.origin.is_empty()
            {
                classes[id].data.origin = origin.clone();
            }
            made.entry(node).or_insert_with(|| Made { rule, origin: origin.clone() });
        }
        news
    }
}
