//! Typed attributes: a sorted bag, checked against what the op declares when a node is made.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::graph::Graph;
use crate::op::OpError;
use crate::region::Region;

/// The value of an attribute.
#[derive(Debug, Clone)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A number; compared and hashed by its bits.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A word.
    Str(Arc<str>),
    /// An element type.
    DType(DType),
    /// A size that is not a plain integer (those are [`Attr::Int`]; see [`Attr::dim`]).
    Dim(Dim),
    /// Several values.
    List(Vec<Attr>),
    /// A function of one number.
    Region(Region),
    /// A nested graph: the body of a control-flow op. Its captures are operands of the node.
    Graph(Arc<Graph>),
}

impl Attr {
    /// A size in canonical form: [`Attr::Int`] for a number, [`Attr::Dim`] else.
    pub fn dim(dim: Dim) -> Attr {
        dim.as_const().map_or(Attr::Dim(dim), Attr::Int)
    }
}

impl PartialEq for Attr {
    fn eq(&self, other: &Attr) -> bool {
        match (self, other) {
            (Attr::Int(a), Attr::Int(b)) => a == b,
            (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
            (Attr::Bool(a), Attr::Bool(b)) => a == b,
            (Attr::Str(a), Attr::Str(b)) => a == b,
            (Attr::DType(a), Attr::DType(b)) => a == b,
            (Attr::Dim(a), Attr::Dim(b)) => a == b,
            (Attr::List(a), Attr::List(b)) => a == b,
            (Attr::Region(a), Attr::Region(b)) => a == b,
            // Text is the graph's identity: printing is canonical and total.
            (Attr::Graph(a), Attr::Graph(b)) => Arc::ptr_eq(a, b) || a.to_string() == b.to_string(),
            _ => false,
        }
    }
}

impl Eq for Attr {}

impl Hash for Attr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Attr::Int(v) => v.hash(state),
            Attr::Float(v) => v.to_bits().hash(state),
            Attr::Bool(v) => v.hash(state),
            Attr::Str(v) => v.hash(state),
            Attr::DType(v) => v.hash(state),
            Attr::Dim(v) => v.hash(state),
            Attr::List(v) => v.hash(state),
            Attr::Region(v) => v.hash(state),
            Attr::Graph(v) => v.to_string().hash(state),
        }
    }
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::text::print_graph::attr(f, self)
    }
}

/// What an attribute's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttrKind {
    /// [`Attr::Int`].
    Int,
    /// [`Attr::Float`].
    Float,
    /// [`Attr::Bool`].
    Bool,
    /// [`Attr::Str`].
    Str,
    /// [`Attr::DType`].
    DType,
    /// [`Attr::Int`] or [`Attr::Dim`].
    Dim,
    /// A list of [`Attr::Int`].
    Ints,
    /// A list of sizes.
    Dims,
    /// A list of [`Attr::Float`].
    Floats,
    /// A list of [`Attr::Str`].
    Strs,
    /// [`Attr::Region`].
    Region,
    /// [`Attr::Graph`].
    Graph,
}

impl AttrKind {
    /// Is `attr` of this kind?
    pub fn admits(self, attr: &Attr) -> bool {
        let all = |list: &Attr, kind: AttrKind| matches!(list, Attr::List(items) if items.iter().all(|i| kind.admits(i)));
        match self {
            AttrKind::Int => matches!(attr, Attr::Int(_)),
            AttrKind::Float => matches!(attr, Attr::Float(_)),
            AttrKind::Bool => matches!(attr, Attr::Bool(_)),
            AttrKind::Str => matches!(attr, Attr::Str(_)),
            AttrKind::DType => matches!(attr, Attr::DType(_)),
            AttrKind::Dim => matches!(attr, Attr::Int(_) | Attr::Dim(_)),
            AttrKind::Region => matches!(attr, Attr::Region(_)),
            AttrKind::Graph => matches!(attr, Attr::Graph(_)),
            AttrKind::Ints => all(attr, AttrKind::Int),
            AttrKind::Dims => all(attr, AttrKind::Dim),
            AttrKind::Floats => all(attr, AttrKind::Float),
            AttrKind::Strs => all(attr, AttrKind::Str),
        }
    }

    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            AttrKind::Int => "an integer",
            AttrKind::Float => "a number",
            AttrKind::Bool => "true or false",
            AttrKind::Str => "a string",
            AttrKind::DType => "an element type",
            AttrKind::Dim => "a size",
            AttrKind::Ints => "a list of integers",
            AttrKind::Dims => "a list of sizes",
            AttrKind::Floats => "a list of numbers",
            AttrKind::Strs => "a list of strings",
            AttrKind::Region => "a function of a number",
            AttrKind::Graph => "a graph",
        }
    }
}

/// A Rust type that an attribute's value converts to and from.
pub trait AttrValue: Sized {
    /// The kind of attribute that holds one.
    const KIND: AttrKind;
    /// Into an attribute.
    fn into_attr(self) -> Attr;
    /// Out of an attribute of that kind.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! attr_value {
    ($ty:ty, $kind:ident, $into:expr, $from:expr) => {
        impl AttrValue for $ty {
            const KIND: AttrKind = AttrKind::$kind;
            fn into_attr(self) -> Attr {
                let into: fn($ty) -> Attr = $into;
                into(self)
            }
            fn from_attr(attr: &Attr) -> Option<Self> {
                let from: fn(&Attr) -> Option<$ty> = $from;
                from(attr)
            }
        }
    };
}

attr_value!(i64, Int, Attr::Int, |a| if let Attr::Int(v) = a { Some(*v) } else { None });
attr_value!(f64, Float, Attr::Float, |a| if let Attr::Float(v) = a { Some(*v) } else { None });
attr_value!(bool, Bool, Attr::Bool, |a| if let Attr::Bool(v) = a { Some(*v) } else { None });
attr_value!(DType, DType, Attr::DType, |a| if let Attr::DType(v) = a { Some(*v) } else { None });
attr_value!(String, Str, |v| Attr::Str(v.into()), |a| if let Attr::Str(v) = a {
    Some(v.to_string())
} else {
    None
});
attr_value!(Region, Region, Attr::Region, |a| if let Attr::Region(v) = a { Some(v.clone()) } else { None });
attr_value!(Arc<Graph>, Graph, Attr::Graph, |a| if let Attr::Graph(v) = a { Some(v.clone()) } else { None });
attr_value!(Dim, Dim, Attr::dim, |a| match a {
    Attr::Int(v) => Some(Dim::constant(*v)),
    Attr::Dim(v) => Some(v.clone()),
    _ => None,
});
attr_value!(Vec<i64>, Ints, |v| Attr::List(v.into_iter().map(Attr::Int).collect()), list);
attr_value!(Vec<f64>, Floats, |v| Attr::List(v.into_iter().map(Attr::Float).collect()), list);
attr_value!(Vec<String>, Strs, |v| Attr::List(v.into_iter().map(|s| Attr::Str(s.into())).collect()), list);
attr_value!(Vec<Dim>, Dims, |v| Attr::List(v.into_iter().map(Attr::dim).collect()), list);

fn list<T: AttrValue>(attr: &Attr) -> Option<Vec<T>> {
    match attr {
        Attr::List(items) => items.iter().map(T::from_attr).collect(),
        _ => None,
    }
}

/// The name of an attribute, with the type of its value.
#[derive(Debug)]
pub struct Key<T> {
    /// The name.
    pub name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

/// The key called `name`.
pub const fn key<T>(name: &'static str) -> Key<T> {
    Key { name, value: PhantomData }
}

impl<T: AttrValue> Key<T> {
    /// The declaration of this attribute as required.
    pub const fn spec(self) -> AttrSpec {
        AttrSpec { name: self.name, kind: T::KIND, default: None }
    }

    /// The declaration of this attribute with a default, which printing leaves out.
    pub const fn or(self, default: fn() -> Attr) -> AttrSpec {
        AttrSpec { name: self.name, kind: T::KIND, default: Some(default) }
    }

    /// The attribute with a value: what building a node takes.
    pub fn is(self, value: T) -> (&'static str, Attr) {
        (self.name, value.into_attr())
    }
}

/// An attribute as an op declares it.
#[derive(Debug, Clone, Copy)]
pub struct AttrSpec {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: AttrKind,
    /// Its value where none is given; required if there is none.
    pub default: Option<fn() -> Attr>,
}

/// Why attributes do not fit an op's declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttrError {
    /// An attribute that the op does not declare.
    #[error("`{op}` has no attribute `{key}`")]
    Unknown {
        /// The op.
        op: &'static str,
        /// The attribute.
        key: String,
    },
    /// A required attribute is absent.
    #[error("`{op}` needs the attribute `{key}`, {kind}")]
    Missing {
        /// The op.
        op: &'static str,
        /// The attribute.
        key: &'static str,
        /// What it should be.
        kind: &'static str,
    },
    /// A value of another kind than declared.
    #[error("attribute `{key}` of `{op}` should be {kind}, found {found}")]
    Kind {
        /// The op.
        op: &'static str,
        /// The attribute.
        key: &'static str,
        /// What it should be.
        kind: &'static str,
        /// What it is.
        found: Attr,
    },
}

/// The attributes of a node: every declared key, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Attrs(Vec<(&'static str, Attr)>);

impl Attrs {
    /// Checks `given` against `specs`, and fills in defaults.
    pub fn check(
        op: &'static str,
        specs: &'static [AttrSpec],
        given: impl IntoIterator<Item = (String, Attr)>,
    ) -> Result<Attrs, AttrError> {
        let mut values: Vec<(&'static str, Attr)> = Vec::with_capacity(specs.len());
        for (name, attr) in given {
            let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                return Err(AttrError::Unknown { op, key: name });
            };
            if !spec.kind.admits(&attr) {
                return Err(AttrError::Kind { op, key: spec.name, kind: spec.kind.name(), found: attr });
            }
            values.retain(|(key, _)| *key != spec.name);
            values.push((spec.name, attr));
        }
        for spec in specs {
            if !values.iter().any(|(key, _)| *key == spec.name) {
                let Some(default) = spec.default else {
                    return Err(AttrError::Missing { op, key: spec.name, kind: spec.kind.name() });
                };
                values.push((spec.name, default()));
            }
        }
        values.sort_by_key(|(key, _)| *key);
        Ok(Attrs(values))
    }

    /// The value of `key`, which the op declares: a missing one is a bug at construction.
    pub fn get<T: AttrValue>(&self, key: Key<T>) -> T {
        self.0
            .iter()
            .find(|(name, _)| *name == key.name)
            .and_then(|(_, attr)| T::from_attr(attr))
            .unwrap_or_else(|| unreachable!("bug: attribute `{}` was not checked at construction", key.name))
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Attr)> {
        self.0.iter().map(|(name, attr)| (*name, attr))
    }

    /// Is there a size in them that is no number? Those of nested graphs count.
    pub fn has_symbols(&self) -> bool {
        let mut found = false;
        self.for_each_symbol(&mut |_| found = true);
        found
    }

    /// Calls `visit` with each symbol in them, nested graphs included.
    pub fn for_each_symbol(&self, visit: &mut dyn FnMut(&Symbol)) {
        fn each(attr: &Attr, visit: &mut dyn FnMut(&Symbol)) {
            match attr {
                Attr::Dim(dim) => dim.for_each_symbol(visit),
                Attr::List(items) => items.iter().for_each(|item| each(item, visit)),
                Attr::Region(region) => region.for_each_symbol(visit),
                Attr::Graph(graph) => graph.for_each_symbol(visit),
                _ => {}
            }
        }
        self.0.iter().for_each(|(_, attr)| each(attr, visit));
    }

    /// Every size in them replaced through `with`, in nested graphs, too.
    ///
    /// # Errors
    /// What a node of a nested graph says of the new sizes.
    pub fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Result<Attrs, OpError> {
        fn attr(a: &Attr, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Result<Attr, OpError> {
            Ok(match a {
                Attr::Dim(dim) => Attr::dim(dim.substitute(with)),
                Attr::List(items) => {
                    Attr::List(items.iter().map(|item| attr(item, with)).collect::<Result<_, _>>()?)
                }
                Attr::Region(region) => Attr::Region(region.substitute(with)),
                Attr::Graph(graph) => {
                    let mut graph = Graph::clone(graph);
                    graph.substitute(with).map_err(|at| at.error)?;
                    Attr::Graph(Arc::new(graph))
                }
                other => other.clone(),
            })
        }
        let each = self.0.iter().map(|(name, a)| Ok((*name, attr(a, with)?)));
        Ok(Attrs(each.collect::<Result<_, OpError>>()?))
    }

    /// The nested graphs, also those in lists.
    pub fn graphs(&self) -> Vec<&Graph> {
        fn each<'a>(attr: &'a Attr, found: &mut Vec<&'a Graph>) {
            match attr {
                Attr::Graph(graph) => found.push(graph),
                Attr::List(items) => items.iter().for_each(|item| each(item, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        self.0.iter().for_each(|(_, attr)| each(attr, &mut found));
        found
    }

    /// Every nested graph changed by `change`; says whether one was.
    ///
    /// # Errors
    /// The first that `change` gives.
    pub fn change_graphs<E>(
        &mut self,
        change: &mut dyn FnMut(&mut Graph) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut changed = false;
        for (_, attr) in &mut self.0 {
            if let Attr::Graph(graph) = attr {
                let mut new = Graph::clone(graph);
                if change(&mut new)? {
                    *graph = Arc::new(new);
                    changed = true;
                }
            }
        }
        Ok(changed)
    }
}
