//! A small graph through the whole compiler, up to machine code, which is not run: every pass leaves something valid or
//! says why it gives up.

#![no_main]

use cranelift::Target;
use fuzz::{MAX_TEXT, weights_of, words};
use ir::Graph;
use ir::text::{NoWeights, parse_graph};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use passes::PassError;
use passes::pipeline::{self, Run, State};

/// Larger graphs take too long.
const MAX_NODES: usize = 40;

/// So many elements a result may have: constants are evaluated.
const MAX_ELEMENTS: i64 = 1 << 16;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    words::mutate(data, size, max_size, seed)
});

/// Is it so small that compiling it takes no time worth telling?
fn is_small(graph: &Graph) -> bool {
    let mut nodes = 0;
    let mut small = true;
    graph.walk(&mut |graph| {
        nodes += graph.len();
        for id in graph.order() {
            for ty in &graph.node(id).types {
                let sizes = ty.shape.iter().map(|size| size.as_const().unwrap_or(1).max(1));
                let elements = sizes.fold(1, i64::saturating_mul);
                small &= elements <= MAX_ELEMENTS;
            }
        }
    });
    let weights: usize = weights_of(graph).iter().map(|weight| weight.size()).sum();
    small && nodes <= MAX_NODES && weights as i64 <= 8 * MAX_ELEMENTS
}

fuzz_target!(|text: &str| {
    if text.len() > MAX_TEXT {
        return;
    }
    let Ok(graph) = parse_graph(text, &ops::find, &NoWeights) else { return };
    if !ir::verify::verify(&graph).is_empty() || !is_small(&graph) {
        return;
    }
    passes::check::check(&graph);
    passes::lint::lint(&graph, &[]);
    let run = Run { verify: true, ..Run::default() };
    let state = match pipeline::run(State::Graph(graph), pipeline::DEFAULT, &run, &mut ()) {
        Ok(state) => state,
        Err(errors) => {
            for at in errors {
                assert!(!matches!(at.error, PassError::Invalid { .. }), "{at}\n{text}");
            }
            return;
        }
    };
    let State::Program(program) = state else { unreachable!("bug: the pipeline ends in a program") };
    if let Err(error) = cranelift::emit(&program, &Target::portable()) {
        panic!("a program that passes made cannot be compiled: {error}\n{program}");
    }
});
