//! Weights of many bytes: they lie in a file beside the artifact, which it finds, and only takes if it is its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use harness::program::{call, run};
use ir::{DType, Tensor, TensorType};

use crate::{alone, compile, folder, is_refused, read, save};

/// `y[i] = Σ_j w[i, j]·x[j]` with 17 MB of weights that depend on a seed, as a file of text in `folder`.
pub(crate) fn heavy(folder: &Path, seed: u32) -> PathBuf {
    const ROWS: usize = 4200;
    const COLUMNS: usize = 1024;
    let weight =
        |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed << 24) >> 20) as f32 / 4096.0 - 0.5;
    let bytes = (0..(ROWS * COLUMNS) as u32).flat_map(|i| weight(i).to_le_bytes()).collect();
    let weights = Tensor::new(DType::F32, vec![ROWS, COLUMNS], bytes).expect("as many as it needs");
    let mut build = ir::build::Build::new("heavy");
    let x = build.input("x", TensorType::fixed(DType::F32, &[COLUMNS]));
    let w = build.weight(ir::Weight::from_tensor("w", &weights));
    let op = |name: &str| ops::find(name).unwrap_or_else(|| panic!("there is no op `{name}`"));
    let product = build.op(op("mul"), &[w, x]).expect("they broadcast");
    let axes = ir::attr::Attr::List(vec![ir::attr::Attr::Int(1)]);
    let y = build.op_with(op("reduce_sum"), &[product], vec![("axes", axes)]).expect("it has two axes");
    let graph = build.finish(vec![y]);
    let path = folder.join("heavy.ir");
    let text = graph.to_string();
    egraft::write_text(&path, &text, &passes::pipeline::State::Graph(graph)).expect("the folder is writable");
    path
}

#[test]
fn many_weights_lie_beside_the_artifact() {
    let folder = folder();
    let source = heavy(folder.path(), 1);
    let program = folder.path().join("heavy");
    let report = compile(&source, &program, &["--json"]).succeeds().json();
    let sidecar = folder.path().join("heavy.weights");
    assert_eq!(report["weights_file"], sidecar.to_str().expect("a plain path"));
    let size = |path: &Path| fs::metadata(path).expect("it is there").len();
    let weights = 4200 * 1024 * 4;
    assert!(report["weight_bytes"].as_u64() >= Some(weights) && size(&sidecar) >= weights);
    assert!(size(&program) < 6 << 20, "{} bytes", size(&program));
    assert!(size(&source) < 1 << 20, "weights are not in the text");

    // Both files move together; a link to the program does.
    let home = folder.path().join("home");
    fs::create_dir(&home).expect("the folder is writable");
    let (moved, beside) = (home.join("heavy"), home.join("heavy.weights"));
    fs::rename(&program, &moved).expect("the folder is writable");
    fs::rename(&sidecar, &beside).expect("the folder is writable");
    let ones = folder.path().join("x.npy");
    save(&ones, &Tensor::from_f32(&[1024], &[1.0; 1024]));
    let results = folder.path().join("y.npz");
    run(alone(&moved).arg(&ones).arg("--outputs").arg(&results)).succeeds();
    let found = runner::files::read_all(&results).unwrap_or_else(|error| panic!("{error}"));
    let found = egraft::tensors::from_file(&found[0].1).to_f64();
    let stored = egraft::load(&source, &egraft::Options::default()).expect("it was written");
    let passes::pipeline::State::Graph(graph) = &stored.state else { panic!("it is a graph") };
    let stored = graph.order().iter().find_map(|&id| graph.node(id).weight()).expect("it has one").clone();
    for (row, bytes) in stored.row_major().expect("as it was written").chunks(4096).enumerate().step_by(97) {
        let value = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let expected: f64 = bytes.chunks(4).map(value).sum();
        assert!((found[row] - expected).abs() < 1e-3, "row {row}: {} for {expected}", found[row]);
    }
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&moved, &link).expect("the folder is writable");
        run(alone(&link).arg(&ones)).succeeds();
        call([OsStr::new("run"), link.as_os_str(), ones.as_os_str()]).succeeds();
    }
    let seen = call([OsStr::new("inspect"), moved.as_os_str(), OsStr::new("--json")]).succeeds().json();
    assert_eq!(seen["header"]["sidecar"], "heavy.weights");

    // Missing, cut, changed, another model's.
    let bytes = read(&beside);
    fs::remove_file(&beside).expect("it is there");
    is_refused(&moved, "sidecar_missing", &["heavy.weights", "beside"]);
    fs::write(&beside, &bytes[..bytes.len() - 1]).expect("the folder is writable");
    is_refused(&moved, "sidecar_wrong", &["heavy.weights"]);
    fs::write(&beside, [&[0; 64], &bytes[64..]].concat()).expect("the folder is writable");
    is_refused(&moved, "sidecar_wrong", &["no weights file of egraft"]);
    let other = folder.path().join("other");
    fs::create_dir(&other).expect("the folder is writable");
    let another = heavy(&other, 2);
    compile(&another, &other.join("heavy"), &[]).succeeds();
    fs::copy(other.join("heavy.weights"), &beside).expect("the folder is writable");
    is_refused(&moved, "sidecar_wrong", &["another hash"]);
    fs::write(&beside, &bytes).expect("the folder is writable");
    run(alone(&moved).arg(&ones)).succeeds();
}
