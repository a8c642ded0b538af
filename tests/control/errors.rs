//! Values and sizes that do not do: refused by every backend, and by the program with its message, without results.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use egraft::tensors::to_file;
use harness::program::{Done, call, run};
use harness::{Everywhere, root};
use ir::{DType, Scalar, Tensor};
use runner::files;

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
    let mut everywhere = Everywhere::new(case, &harness::model(&model(case)));
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
    let mut everywhere = Everywhere::new(case, &harness::model(&model(case)));
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

/// A window on a vector of any length: as text, where the results have `windows` elements.
fn window(op: &str, attributes: &str, windows: &str) -> Everywhere {
    let weights = if op == "conv" { "weights @w : f32[1, 1, 3] = splat 1.0\n" } else { "" };
    let operands = if op == "conv" { "%x, @w" } else { "%x" };
    let text = format!(
        "{weights}graph @g(%x: f32[1, 1, n]) -> f32[1, 1, {windows}] {{\n  \
         %0 = {op} {operands} {{{attributes}}} : f32[1, 1, {windows}]   from \"/window\"\n  return %0 as \"y\"\n}}\n"
    );
    Everywhere::new(op, &harness::graph(&text))
}

/// A window that is larger than the image is refused, at every size alike: no result has elements that nothing gave.
#[test]
fn windows_larger_than_the_image() {
    let vector = |n: usize| [floats(&[1, 1, n], &(0..n).map(|i| i as f64).collect::<Vec<_>>())];
    let down = "dilations=[1], high=[0], kernel=[2], low=[0], strides=[2]";
    let mut pool = window("max_pool", down, "floor(n, 2)");
    for (n, expected) in [(0, &[][..]), (2, &[1.0]), (3, &[1.0]), (5, &[1.0, 3.0])] {
        gives(&mut pool, &vector(n), &[floats(&[1, 1, n / 2], expected)]);
    }
    pool.refuse(&vector(1), &["/window", "a window is no larger than the padded image", "n = 1"]);
    // Where the number of windows is rounded up, the last one may end beyond the image.
    let up = "ceil=true, dilations=[1], high=[0], kernel=[3], low=[0], strides=[2]";
    let mut pool = window("avg_pool", up, "min(floor(n + 1, 2), floor(n, 2))");
    for (n, expected) in [(2, &[0.5][..]), (3, &[1.0]), (4, &[1.0, 2.5])] {
        gives(&mut pool, &vector(n), &[floats(&[1, 1, n / 2], expected)]);
    }
    pool.refuse(&vector(1), &["/window", "n = 1"]);
    let mut conv = window("conv", "dilations=[1], high=[0], low=[0], strides=[1]", "n - 2");
    gives(&mut conv, &vector(3), &[floats(&[1, 1, 1], &[3.0])]);
    for n in [0, 1, 2] {
        // Not that its result would have a negative size.
        conv.refuse(&vector(n), &["/window", &format!("3 must be at most n = {n}")]);
    }
    // With as much padding, there is nothing to be checked.
    let mut conv = window("conv", "dilations=[1], high=[1], low=[1], strides=[1]", "n");
    gives(&mut conv, &vector(1), &[floats(&[1, 1, 1], &[0.0])]);
    gives(&mut conv, &vector(0), &[floats(&[1, 1, 0], &[])]);
    assert!(!conv.program().to_string().contains("require"), "{}", conv.program());
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

/// A size that is compared with one that there is not was found by fuzzing.
#[test]
fn a_size_to_compare_with_that_nobody_decides_is_named() {
    let text = "graph @g(%z: f32[2*n]) -> f32[2*n] {
      %0 = size {value=2*n} : i64[]
      %1 = as_size %0 {names=[\"l\"], sizes=[2*size]} : i64[]
      %2 = exp %z : f32[2*n]
      return %2
    }";
    let source = egraft::Source::of_graph(harness::graph(text), &egraft::Options::default());
    let error = egraft::compile(source, &egraft::Options::default(), &mut ()).expect_err("what is size?");
    assert_eq!(
        (error.code(), error.to_string().contains("`size`")),
        ("egraft::passes::unbound_size", true),
        "{error}"
    );
}
