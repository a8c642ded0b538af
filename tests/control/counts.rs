//! How many steps of which kind there are: none more than values need.

use harness::root;
use ir::program::{Program, Space, Step};
use passes::FpMode;

use super::models::{count, program, program_with};

/// Steps that only values need.
const DYNAMIC: fn(&Step) -> bool = |step| {
    matches!(
        step,
        Step::Measure(_)
            | Step::Set(_)
            | Step::Require(_)
            | Step::Reserve(_)
            | Step::Copy(_)
            | Step::If(_)
            | Step::Loop(_)
    )
};

/// Where what values decide would show besides.
fn has_other_memory(program: &Program) -> bool {
    let buffers = program.entries.iter().flat_map(|entry| &entry.buffers);
    let mut spaces = buffers.map(|buffer| buffer.space);
    spaces.any(|space| matches!(space, Space::Host | Space::Growing(_)))
}

#[test]
fn a_model_without_sizes_from_values_pays_nothing() {
    let digits = program(&root().join("models/zoo/digits.onnx"));
    assert_eq!(count(&digits, DYNAMIC), 0, "{digits}");
    assert!(!has_other_memory(&digits) && digits.entries.iter().all(|entry| entry.host.is_empty()));
    let names: Vec<String> = digits.kernels.iter().map(|kernel| kernel.name.to_string()).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for case in ["cnn_small", "mlp_gelu", "shape_split_heads", "shape_arithmetic", "dims_unified_by_add"] {
        let model = program(&root().join("tests/data/onnx/valid").join(case).join("model.onnx"));
        assert_eq!(count(&model, DYNAMIC), 0, "{case}\n{model}");
        assert!(!has_other_memory(&model), "{case}\n{model}");
    }
}

/// One count of tokens for each of eight experts, each at most the number of tokens: nothing has to grow. That is where
/// the loop over experts stays; rolled up, it counts nothing.
#[test]
fn experts_measure_their_tokens_once() {
    let path = root().join("tests/golden/moe/smoe_loop_dynamic/model.onnx");
    assert_eq!(count(&program(&path), DYNAMIC), 0);
    let model = program_with(&path, FpMode::Strict);
    assert_eq!(count(&model, |step| matches!(step, Step::Measure(_))), 8, "{model}");
    let is_unbounded = |step: &Step| matches!(step, Step::Measure(measure) if measure.bound.is_none());
    assert_eq!(count(&model, is_unbounded), 0, "{model}");
    // Neither a check, since what is taken lies within the bound, nor anything that moves data or steps around.
    let moves = |step: &Step| !matches!(step, Step::Call(_) | Step::Measure(_));
    assert_eq!(count(&model, moves), 0, "{model}");
    assert!(!has_other_memory(&model), "{model}");
}

/// What grows is only what nothing bounds.
#[test]
fn only_what_nothing_bounds_grows() {
    let growing = |case: &str| {
        let model = program(&root().join("tests/data/onnx/valid").join(case).join("model.onnx"));
        let buffers = model.entries[0].buffers.iter();
        buffers.filter(|buffer| matches!(buffer.space, Space::Growing(_))).count()
    };
    for (case, expected) in [
        ("nonzero_and_back", 0),
        ("compress_rows", 0),
        ("unique_values", 0),
        ("run_time_slice", 0),
        ("loop_count_and_condition", 0),
        ("loop_swap", 0),
        ("loop_grows", 2),
        ("if_in_loop", 3),
    ] {
        assert_eq!(growing(case), expected, "{case}");
    }
}
