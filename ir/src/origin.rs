//! Where a node came from, through every rewrite, up to the error message.

use std::fmt;
use std::sync::Arc;

use crate::graph::NodeId;

/// One node of the imported model.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// The node's name in the model.
    pub name: String,
    /// Its op type there, with the domain if it is not the default one (`com.microsoft.MoE`).
    pub op: String,
    /// The path of the module that the exporter noted (`encoder.layer.0.attention`); empty if unknown.
    pub module: String,
    /// Source file and line that the exporter noted (`model.py:12`); empty if unknown.
    pub source: String,
}

/// The nodes of the imported model that a node stands for, oldest first, and the rewrite rules that made it of them.
/// Empty for what has no model behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    places: Arc<[Arc<Place>]>,
    rules: Arc<[Arc<str>]>,
}

/// An origin keeps at most so many places: enough for any fused kernel that a person reads.
const MAX_PLACES: usize = 64;

impl Origin {
    /// No origin.
    pub fn none() -> Origin {
        Origin::default()
    }

    /// A single node of the model.
    pub fn place(place: Place) -> Origin {
        Origin::places_from([Arc::new(place)])
    }

    /// Several nodes of the model.
    pub fn places_from(places: impl IntoIterator<Item = Arc<Place>>) -> Origin {
        Origin { places: places.into_iter().take(MAX_PLACES).collect(), rules: Arc::default() }
    }

    /// The places, oldest first.
    pub fn places(&self) -> &[Arc<Place>] {
        &self.places
    }

    /// The rules, in the order in which they were applied.
    pub fn rules(&self) -> &[Arc<str>] {
        &self.rules
    }

    /// Is there neither a place nor a rule?
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.rules.is_empty()
    }

    /// The places and rules of both, without repetition, `self`'s first.
    pub fn join(&self, other: &Origin) -> Origin {
        if other.is_empty() || self == other {
            return self.clone();
        }
        let mut places = self.places.to_vec();
        places.extend(other.places.iter().filter(|place| !self.places.contains(place)).cloned());
        let joined = Origin { rules: self.rules.clone(), ..Origin::places_from(places) };
        other.rules.iter().fold(joined, |origin, rule| origin.by(rule))
    }

    /// The same places, and one more rule that was applied to them.
    pub fn by(&self, rule: &str) -> Origin {
        if self.rules.iter().any(|known| **known == *rule) {
            return self.clone();
        }
        let rules = self.rules.iter().cloned().chain([Arc::from(rule)]).collect();
        Origin { places: self.places.clone(), rules }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, place) in self.places.iter().enumerate() {
            write!(f, "{}\"{}\"", if i == 0 { "" } else { ", " }, place.name)?;
        }
        Ok(())
    }
}

/// An error and the node it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct At<E> {
    /// The node, if the error is about one.
    pub node: Option<NodeId>,
    /// Where that node came from.
    pub origin: Origin,
    /// What is wrong.
    pub error: E,
}

impl<E> At<E> {
    /// The same place with a converted error.
    pub fn map<F>(self, convert: impl FnOnce(E) -> F) -> At<F> {
        At { node: self.node, origin: self.origin, error: convert(self.error) }
    }
}

impl<E: fmt::Display> fmt::Display for At<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin.places() {
            [] => write!(f, "{}", self.error),
            [place, ..] if place.op.is_empty() => write!(f, "node \"{}\": {}", place.name, self.error),
            [place, ..] => write!(f, "node \"{}\" ({}): {}", place.name, place.op, self.error),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for At<E> {}
