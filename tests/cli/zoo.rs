//! `egraft zoo`, and built-in models in other commands: what they are built of, and what is refused.

use std::fs;

use harness::root;
use ir::Tensor;

use super::{folder, save, say};

/// A golden case with weights of its own.
const CASE: &str = "tests/golden/attention/elliptical_layer_dynamic";

/// What its model is, as options of a command.
const SET: &str = "--set form=layer --set dim=32 --set heads=4";

#[test]
fn models_are_listed_with_their_papers_and_shown_with_their_weights() {
    let folder = folder();
    let list = say(folder.path(), "zoo list").succeeds().out;
    for part in ["digits: ", "elliptical: ", "2406.13770", "status: verified"] {
        assert!(list.contains(part), "{part}:\n{list}");
    }
    let all = say(folder.path(), "zoo list --json").succeeds().json();
    let models = all["models"].as_array().expect("a list");
    for model in models {
        for key in ["name", "about", "paper", "status", "forms", "settings"] {
            assert!(!model[key].is_null(), "{key}: {model}");
        }
    }
    let settings =
        say(folder.path(), "zoo show attention-sh --set heads=4 --set ratios=1,1,2,4 --json").succeeds();
    let settings = settings.json()["settings"].clone();
    let ratios = settings.as_array().and_then(|all| all.iter().find(|setting| setting["name"] == "ratios"));
    let ratios = ratios.expect("it is shown");
    assert_eq!(ratios["value"], serde_json::json!([1, 1, 2, 4]), "{ratios}");
    assert_eq!(ratios["default"], serde_json::json!([1, 2, 4]), "{ratios}");
    let shown = say(folder.path(), &format!("zoo show elliptical {SET}")).succeeds().out;
    for part in [
        "--set form=vit: ",
        "--set dim=32: ",
        "--set scaling=max: ",
        "(max or mean or none)",
        "--set seed=0: ",
        "input v_prev: f32[B, 4, N, 8]",
        "output y: f32[B, N, 32]",
        "weight qkv.weight: f32[96, 32]",
    ] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert!(!shown.contains("--set image="), "a layer sees no image:\n{shown}");
    say(folder.path(), "zoo show nothing").refused("egraft::cli::zoo_model", &["nothing"]);
}

#[test]
fn settings_are_checked_with_all_that_is_possible() {
    let folder = folder();
    for (set, parts) in [
        ("scaling=most", &["`elliptical`", "`scaling`", "`most`", "max or mean"][..]),
        ("form=net", &["`elliptical`", "`form`", "`net`", "vit or lm or layer"]),
        ("heads=0", &["`heads`", "`0`", "an integer from 1 to"]),
        ("heads=5", &["`dim` = 192", "`heads` = 5"]),
        ("causal=yes", &["`causal`", "`yes`", "true or false"]),
        ("experts=4", &["`experts`", "`scaling`", "`seed`"]),
        // There is such a setting, but a vision transformer has no vocabulary.
        ("words=100", &["`elliptical`", "`words`", "`image`"]),
    ] {
        for verb in ["zoo build elliptical -o {D}/m.ir", "zoo show elliptical", "check zoo:elliptical"] {
            say(folder.path(), &format!("{verb} --set {set}")).refused("egraft::cli::settings", parts);
        }
    }
}

#[test]
fn weights_are_taken_from_a_file() {
    let folder = folder();
    let params = root().join(CASE).join("weights.safetensors");
    let params = format!("--params {}", params.display());
    say(folder.path(), &format!("zoo build elliptical -o {{D}}/m.ir {SET} {params}")).succeeds();
    let tensors = root().join(CASE).join("tensors.safetensors");
    let all = runner::files::read_all(&tensors).expect("it is a golden case");
    let find = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
    let given: Vec<_> =
        ["x", "v_prev"].map(|name| (name, find(&format!("in.{name}")).expect("an input"))).into();
    runner::files::write_all(&folder.path().join("in.safetensors"), &given).expect("writable");
    let expected = egraft::tensors::from_file(find("out.y").expect("an output"));
    for model in [format!("zoo:elliptical {SET} {params}"), "{D}/m.ir".to_owned()] {
        let line = format!("run {model} --inputs {{D}}/in.safetensors --outputs {{D}}/out.safetensors");
        say(folder.path(), &line).succeeds();
        let made = runner::files::read_all(&folder.path().join("out.safetensors")).expect("it was written");
        let (_, y) = made.iter().find(|(name, _)| name == "y").expect("an output");
        let found: Tensor = egraft::tensors::from_file(y);
        harness::Tolerance::F32.check(&expected, &found).unwrap_or_else(|why| panic!("{model}: {why}"));
    }
}

#[test]
fn the_distance_of_the_readme_is_one() {
    const LINE: &str = "run zoo:db-tsw --set block=4 --input X=x.npy --input Y=y.npy";
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    assert!(readme.contains(&format!("egraft {LINE}\n")), "README.md has another example");
    let folder = folder();
    for (name, count) in [("x", 40), ("y", 25)] {
        let points = harness::Random::new(0).tensor(ir::DType::F32, &[count, 3]);
        save(&folder.path().join(format!("{name}.npy")), &points);
    }
    let line = LINE.replace("=x.npy", "={D}/x.npy").replace("=y.npy", "={D}/y.npy");
    let printed = say(folder.path(), &line).succeeds().out;
    assert!(printed.contains("value"), "{printed}");
}

#[test]
fn weights_that_do_not_suit_are_all_named() {
    let folder = folder();
    let params = root().join(CASE).join("weights.safetensors");
    let line = format!("zoo build elliptical -o {{D}}/m.ir --set form=layer --params {}", params.display());
    say(folder.path(), &line).refused(
        "egraft::cli::params",
        &["`qkv.weight` is f32[96, 32]", "wants f32[576, 192]", "`proj.bias` is f32[32]", "zoo show"],
    );
    let line = format!("check zoo:digits --params {}", params.display());
    say(folder.path(), &line).refused(
        "egraft::cli::params",
        &["`conv1.weight` is missing: f32[16, 1, 3, 3]", "`qkv.bias` is given"],
    );
    for (line, code) in [
        (format!("check {{M}} --params {}", params.display()), "egraft::cli::settings"),
        ("check zoo:digits --params {D}/none.safetensors".to_owned(), "egraft::cli::read"),
        ("check zoo:digits --params {I}".to_owned(), "egraft::runner::format"),
    ] {
        say(folder.path(), &line).refused(code, &[]);
    }
}
