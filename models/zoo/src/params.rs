//! Weights by name: what a caller gives, and what a model asks for.

use std::collections::BTreeMap;

use ir::{TensorType, Weight};

/// Trained weights, by the names that a model's formula sheet and its authors' code give them.
///
/// Where they lie is the caller's: this crate reads no file.
pub trait Params {
    /// All names, sorted.
    fn names(&self) -> Vec<&str>;

    /// Element type and shape of one.
    fn ty(&self, name: &str) -> Option<TensorType>;

    /// One of them. It is asked for once, if its type is the one that the model wants.
    fn weight(&self, name: &str) -> Option<Weight>;
}

impl Params for BTreeMap<String, Weight> {
    fn names(&self) -> Vec<&str> {
        self.keys().map(String::as_str).collect()
    }

    fn ty(&self, name: &str) -> Option<TensorType> {
        self.get(name).map(|weight| TensorType::fixed(weight.dtype(), weight.shape()))
    }

    fn weight(&self, name: &str) -> Option<Weight> {
        self.get(name).cloned()
    }
}
