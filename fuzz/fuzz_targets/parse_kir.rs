//! Text as a program, with kernels in both forms: the parser gives one or says why not; the verifier says what is wrong
//! with it; printed, it parses to the same.

#![no_main]

use fuzz::{MAX_TEXT, stored, words};
use ir::text::{NoWeights, parse_program};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    words::mutate(data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    if text.len() > MAX_TEXT {
        return;
    }
    let Ok(program) = parse_program(text, &NoWeights) else { return };
    ir::verify::verify_program(&program);
    let printed = program.to_string();
    let weights = program.weights.iter().map(|packed| packed.weight.clone()).collect();
    let again = parse_program(&printed, &stored(weights));
    let again = again.unwrap_or_else(|errors| panic!("printed, it does not parse: {errors:?}\n{printed}"));
    assert_eq!(again.to_string(), printed, "printed and parsed");
});
