//! What rewrite rules did to a model on its way to a program, and why not more.

use ir::origin::Place;
use ir::{Graph, Origin};
use passes::GraphPass;
use passes::egraph::Saturate;
use passes::graph::Reroll;
use passes::pipeline::{self, Observer, State};

use crate::compile::{cx, optimize, remaining, run_passes};
use crate::error::Error;
use crate::options::Options;
use crate::source::Source;

/// A model with all passes behind it, and what the rules did.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The program.
    pub source: Source,
    /// What the rules did to the graph; `None` if they had no part: the level does not apply them, or the model was
    /// past them.
    pub rules: Option<passes::explain::Explained>,
}

/// Runs the passes that `source` has not been through yet, and says what the rules did.
///
/// # Errors
/// As [`optimize`].
pub fn explain(source: Source, options: &Options, observer: &mut dyn Observer) -> Result<Explained, Error> {
    let steps = pipeline::of_level(source.provenance.options.level);
    let rest = remaining(steps, &source);
    let Some((before, after)) = pipeline::around(rest, Saturate.about().name) else {
        return Ok(Explained { source: optimize(source, options, observer)?, rules: None });
    };
    // The pass right before the rules tells with them what it found.
    let (before, unrolled) = match pipeline::around(before, Reroll.about().name) {
        Some((before, [])) => (before, true),
        _ => (before, false),
    };
    let mut source = run_passes(source, before, None, options, observer)?;
    let cx = cx(&source.provenance, options);
    let rules = match &mut source.state {
        State::Graph(graph) => Some(passes::explain::explain(graph, &cx, unrolled)),
        State::Program(_) => None,
    };
    Ok(Explained { source: run_passes(source, after, None, options, observer)?, rules })
}

/// Gives the nodes that have no name a model their numbers in the text as names: what a text form does not say of its
/// origin can still be spoken of. Nested graphs count from the start again, so their nodes stay nameless.
pub fn name_nodes(graph: &mut Graph) {
    let mut number = 0;
    for id in graph.order() {
        let node = graph.node(id);
        let Some((def, _)) = node.op() else { continue };
        let place = Place { name: format!("%{number}"), op: def.name.to_owned(), ..Place::default() };
        number += node.types.len();
        if node.origin.places().is_empty() {
            graph.join_origin(id, &Origin::place(place));
        }
    }
}
