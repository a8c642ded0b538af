//! What the targets share: changes that keep a text or a message nearly what it was, and weights by their hashes.
//!
//! Bytes changed at random rarely get past a parser's first line. [`wire`] changes fields of a protobuf message, [`words`]
//! words and lines of a text; in each second case the fuzzer's own changes are made instead.

pub mod random;
pub mod wire;
pub mod words;

use std::sync::Arc;

use ir::text::{WeightFile, is_stored, write_weights};
use ir::{Graph, Weight};

/// Text beyond this says nothing new.
pub const MAX_TEXT: usize = 1 << 14;

/// The weights of a graph and of those nested in it.
pub fn weights_of(graph: &Graph) -> Vec<Weight> {
    let mut weights = Vec::new();
    graph.walk(&mut |graph| {
        weights.extend(graph.order().into_iter().filter_map(|id| graph.node(id).weight().cloned()));
    });
    weights
}

/// The file that a text names weights of by their hashes.
pub fn stored(weights: Vec<Weight>) -> WeightFile {
    let stored: Vec<Weight> = weights.into_iter().filter(is_stored).collect();
    let mut file = Vec::new();
    write_weights(&stored, &mut file).expect("memory takes it");
    WeightFile::open(Arc::new(file)).expect("it was just written")
}
