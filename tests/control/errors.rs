//! Values and sizes that do not do: refused by every backend, and by the program with its message, without results.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use egraft::tensors::to_file;
use harness::program::{Done, call, run};
use harness::{Everywhere, root};
use ir::{DType, Scalar, Tensor};
use runner::files;

use super::models::graph;
use super::{compiled, floats, gives, integer, integers, row, truth};

fn model(case: &str) -> PathBuf {
    root().join("tests/data/onnx/valid").join(case).join("model.onnx")
}

/// `f32` ones.
fn ones(shape: &[usize]) -> Tensor {
    Tensor::splat(Scalar::from_f64(DType::F32, 1.0), shape)
}

/// Each set of inputs is refused everywhere, for a reason with these words.
fn refused(case: &str, sets: &[(Vec<Tensor>, &[&str])]) {
    let mut everywhere = Everywhere::new(case, &graph(&model(case)));
    for (inputs, words) in sets {
        everywhere.refuse(inputs, words);
    }
}

#[test]
fn a_shape_that_does_not_fit() {
    let shapes: [(&[i64], &[&str]); 7] = [
        (&[4, 4, 1], &["Reshape_0", "24", "16", "axis 0 of `x`"]),
        (&[5, -1, 1], &["Reshape_0", "24", "20"]),
        (&[-1, -1, 2], &["Reshape_0", "24"]),
        (&[-2, 3, 4], &["Reshape_0", "-2", "must not be negative"]),
        (&[0, -1, 0], &["Reshape_0", "24"]),
        (&[1 << 40, 1 << 40, 1], &["Reshape_0", "too large"]),
        (&[1 << 62, 4, 6], &["Reshape_0", "too large"]),
    ];
    let sets = shapes.map(|(shape, words)| (vec![ones(&[4, 6]), row(shape)], words));
    refused("run_time_reshape", &sets);
}

#[test]
fn sizes_that_operands_do_not_have_in_common() {
    let image = |h: usize, w: usize| vec![ones(&[1, 2, h, w])];
    refused(
        "skip_connection_of_symbolic_size",
        &[
            (image(5, 8), &["Add_3", "4", "3", "must equal", "h = 5"]),
            (image(8, 6), &["Add_3", "w = 6"]),
            // ONNX would stretch the operand whose size happens to be 1.
            (image(1, 4), &["Add_3", "2", "1", "only one that is known to be 1 is stretched"]),
        ],
    );
}

#[test]
fn counts_that_are_negative_or_do_not_add_up() {
    let set = |repeats: [i64; 2], pads: [i64; 4], shape: [i64; 2], parts: [i64; 2]| {
        vec![ones(&[2, 3]), ones(&[1, 3]), row(&repeats), row(&pads), row(&shape), row(&parts)]
    };
    refused(
        "run_time_counts",
        &[
            (set([1, 1], [0; 4], [2, 3], [1, 1]), &["Split_4", "2", "n = 3"]),
            (set([1, 1], [0; 4], [2, 3], [4, -1]), &["Split_4", "-1"]),
            (set([-1, 1], [0; 4], [2, 3], [1, 2]), &["Tile_0", "-1"]),
            (set([1, 1], [0; 4], [2, 5], [1, 2]), &["Expand_2", "5", "n = 3"]),
            (set([1, 1], [0; 4], [-2, 3], [1, 2]), &["-2"]),
        ],
    );
}

#[test]
fn more_than_there_is() {
    let set = |delta: i64, k: i64| vec![integer(1), integer(3), integer(delta), ones(&[2, 5]), row(&[k])];
    refused(
        "run_time_range_and_topk",
        &[
            (set(1, 6), &["TopK_1", "6", "at most n = 5"]),
            (set(1, -1), &["TopK_1", "-1"]),
            (set(0, 2), &["Range_0", "delta", "0"]),
        ],
    );
    refused("positions_cropped", &[(vec![ones(&[1, 9, 2])], &["Add_2", "t = 9", "axis 1 of `x`"])]);
}

#[test]
fn axes_that_there_are_not() {
    for axes in [[0, 5], [0, 0], [-4, 1], [2, -1]] {
        refused("run_time_axes", &[(vec![ones(&[4, 3, 2]), row(&axes)], &["Reduce"])]);
    }
    refused("run_time_axes_any", &[(vec![ones(&[4, 3]), row(&[7])], &["ReduceSum_0", "axes_in_range"])]);
    let bounds = |axis: i64| vec![ones(&[4, 5]), row(&[0]), row(&[2]), row(&[axis])];
    refused("run_time_slice_axis", &[(bounds(2), &["Slice_0", "axes_in_range"]), (bounds(-3), &["Slice_0"])]);
}

/// The sides differ in rank, and only one fits what follows: whether it is taken, values decide.
#[test]
fn a_branch_with_only_one_possible_side() {
    let case = "if_one_side_fits";
    let mut everywhere = Everywhere::new(case, &graph(&model(case)));
    let x = ones(&[1, 3, 2]);
    everywhere.run(&[truth(true), x.clone()]);
    everywhere.refuse(&[truth(false), x.clone()], &["If_0"]);
    everywhere.run(&[truth(true), x]);
    refused("squeeze_or_not", &[(vec![ones(&[2, 3, 2])], &["input `x`", "axis 0 is 2"])]);
}

#[test]
fn a_size_that_two_values_must_share() {
    let mut model = compiled("shared_size");
    let x = [1.0, -1.0, 2.0];
    let expected = [floats(&[2], &[10.0, 22.0])];
    gives(&mut model, &[floats(&[3], &x), floats(&[2], &[9.0, 20.0])], &expected);
    for m in [0, 1, 3] {
        model.refuse(&[floats(&[3], &x), ones(&[m])], &["axis 0 of `z`", "2"]);
    }
    gives(&mut model, &[floats(&[3], &x), floats(&[2], &[9.0, 20.0])], &expected);
}

/// Runs a model, or an artifact, with these inputs. Whatever happens, there are results only if it succeeds.
fn say(program: Option<&Path>, source: &Path, inputs: &[(&str, Tensor)]) -> Done {
    let folder = tempfile::tempdir().expect("a folder");
    let [given, made] = ["in.safetensors", "out.safetensors"].map(|file| folder.path().join(file));
    let tensors: Vec<_> = inputs.iter().map(|(_, tensor)| to_file(tensor).expect("memory")).collect();
    let named: Vec<_> = inputs.iter().map(|(name, _)| *name).zip(&tensors).collect();
    files::write_all(&given, &named).expect("writable");
    let options = ["--inputs".as_ref(), given.as_os_str(), "--outputs".as_ref(), made.as_os_str()];
    let done = match program {
        Some(program) => run(Command::new(program).args(options)),
        None => call([&["run".as_ref(), source.as_os_str()], &options[..]].concat()),
    };
    let left: Vec<_> = fs::read_dir(folder.path()).expect("readable").collect();
    assert_eq!(left.len(), if done.code == Some(0) { 2 } else { 1 }, "{done}\n{left:?}");
    done
}

#[test]
fn the_program_and_its_artifacts_say_what_is_wrong() {
    type Case<'a> = (&'a str, Vec<(&'a str, Tensor)>, &'a str, &'a [&'a str]);
    let cases: [Case<'_>; 4] = [
        (
            "run_time_reshape",
            vec![("x", ones(&[4, 6])), ("s", row(&[4, 4, 1]))],
            "egraft::runtime::requirement",
            &["Reshape_0", "n = 4", "axis 0 of `x`", "= 16"],
        ),
        (
            "run_time_reshape",
            vec![("x", ones(&[4, 6])), ("s", row(&[-2, 3, 4]))],
            "egraft::runtime::measured",
            &["Reshape_0", "-2", "it must not be negative"],
        ),
        (
            "positions_cropped",
            vec![("x", ones(&[1, 9, 2]))],
            "egraft::runtime::requirement",
            &["Add_2", "t = 9"],
        ),
        (
            "compress_rows",
            vec![("x", ones(&[3, 3])), ("keep", Tensor::splat(Scalar::bool(true), &[2]))],
            "egraft::runtime::dim",
            &["input `keep`", "axis 0 is 2, expected n = 3"],
        ),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (case, inputs, code, words) in cases {
        let (source, program) = (model(case), folder.path().join(case));
        let compile = ["compile".as_ref(), source.as_os_str(), "-o".as_ref(), program.as_os_str()];
        call(compile).exits(0);
        for program in [None, Some(&*program)] {
            say(program, &source, &inputs).refused(code, words);
        }
    }
    let inputs = [("x", ones(&[4, 6])), ("s", integers(&[3], &[2, -1, 3]))];
    say(None, &model("run_time_reshape"), &inputs).exits(0);
}
