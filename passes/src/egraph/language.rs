//! The e-node: an op applied to classes, over whatever ops there are.
//!
//! Attributes are a leaf of their own and an op's last child, so that a pattern binds all of them with one variable. An
//! op with several results is one node; each result is a node that takes it apart.

use std::fmt;

use egg::{FromOp, FromOpError, Id, Language};
use ir::OpDef;

/// What an e-node is, its children aside.
#[derive(Clone, Copy)]
pub(super) enum Head {
    /// An op; its children are its operands and, where the op declares attributes, those.
    Op(&'static OpDef),
    /// Attributes, by their number in [`Facts`](super::facts::Facts).
    Attrs(u32),
    /// A value from outside of the region, by its number.
    Input(u32),
    /// A constant, by its number in [`Facts`](super::facts::Facts).
    Constant(u32),
    /// A result of the only child, an op with several.
    Result(u32),
}

impl Head {
    /// What heads are ordered by. Numbers are given in the order in which things are met, so equal graphs are ordered
    /// equally.
    fn key(&self) -> (u8, u32, &'static str) {
        match self {
            Head::Op(def) => (0, 0, def.name),
            Head::Attrs(number) => (1, *number, ""),
            Head::Input(number) => (2, *number, ""),
            Head::Constant(number) => (3, *number, ""),
            Head::Result(number) => (4, *number, ""),
        }
    }
}

/// An e-node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    head: OrderedHead,
    children: Vec<Id>,
}

/// [`Head`], compared by its key.
#[derive(Clone, Copy)]
struct OrderedHead(Head);

impl PartialEq for OrderedHead {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for OrderedHead {}

impl PartialOrd for OrderedHead {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedHead {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key().cmp(&other.0.key())
    }
}

impl std::hash::Hash for OrderedHead {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl Node {
    /// A node with these children.
    pub(super) fn new(head: Head, children: Vec<Id>) -> Node {
        Node { head: OrderedHead(head), children }
    }

    /// What it is.
    pub(super) fn head(&self) -> Head {
        self.head.0
    }

    /// The op, if it is one.
    pub(super) fn op(&self) -> Option<&'static OpDef> {
        match self.head.0 {
            Head::Op(def) => Some(def),
            _ => None,
        }
    }

    /// The operands of an op.
    pub(super) fn operands(&self) -> &[Id] {
        match self.head.0 {
            Head::Op(def) => &self.children[..self.children.len() - attrs_children(def)],
            _ => &self.children,
        }
    }

    /// The attributes of an op, if it declares any.
    pub(super) fn attrs(&self) -> Option<Id> {
        match self.head.0 {
            Head::Op(def) if attrs_children(def) == 1 => self.children.last().copied(),
            _ => None,
        }
    }
}

/// How many children of an op's node are attributes.
fn attrs_children(def: &OpDef) -> usize {
    usize::from(!def.attrs.is_empty())
}

impl Language for Node {
    type Discriminant = (u8, u32, &'static str);

    fn discriminant(&self) -> Self::Discriminant {
        self.head.0.key()
    }

    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.head.0 {
            Head::Op(def) => f.write_str(def.name),
            Head::Attrs(number) => write!(f, "#{number}"),
            Head::Input(number) => write!(f, "%{number}"),
            Head::Constant(number) => write!(f, "@{number}"),
            Head::Result(number) => write!(f, ".{number}"),
        }
    }
}

/// Patterns name ops: `(softmax ?x ?attrs)`.
impl FromOp for Node {
    type Error = FromOpError;

    fn from_op(op: &str, children: Vec<Id>) -> Result<Self, Self::Error> {
        let found = ops::find(op);
        let admits = |def: &&'static OpDef| {
            children.len().checked_sub(attrs_children(def)).is_some_and(|count| def.arity.admits(count))
        };
        match found.filter(admits) {
            Some(def) => Ok(Node::new(Head::Op(def), children)),
            None => Err(FromOpError::new(op, children)),
        }
    }
}
