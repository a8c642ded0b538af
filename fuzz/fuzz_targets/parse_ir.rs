//! Text as a graph: the parser gives one or says why not; the verifier says what is wrong with it; if nothing is, it parses
//! to the same after it was printed.

#![no_main]

use fuzz::{MAX_TEXT, stored, weights_of, words};
use ir::text::{NoWeights, parse_graph};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    words::mutate(data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    if text.len() > MAX_TEXT {
        return;
    }
    let Ok(graph) = parse_graph(text, &ops::find, &NoWeights) else { return };
    if !ir::verify::verify(&graph).is_empty() {
        return;
    }
    let printed = graph.to_string();
    let again = parse_graph(&printed, &ops::find, &stored(weights_of(&graph)));
    let again = again.unwrap_or_else(|errors| panic!("printed, it does not parse: {errors:?}\n{printed}"));
    assert_eq!(again.to_string(), printed, "printed and parsed");
    assert!(ir::verify::verify(&again).is_empty(), "{printed}");
});
