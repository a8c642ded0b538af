//! What `egraft compile` writes: it runs alone, says what is wrong with it, has the same bytes each time, can be made
//! from any dump, and is called from C.
//!
//! Everything goes through the built `egraft` and the artifacts themselves, as a user's shell would see it.

#![allow(clippy::print_stdout, reason = "a test says what it could not look at")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::program::{Done, call, egraft, run};
use harness::root;
use ir::weight::Hash;
use ir::{DType, Tensor, TensorType};
use runtime::container::{Artifact, SectionKind};
use runtime::{CodePart, Contents, WeightsPart};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("the system has room for temporary files")
}

fn digits() -> PathBuf {
    root().join("models/zoo/digits.onnx")
}

fn image(digit: usize) -> PathBuf {
    root().join(format!("models/zoo/digits/{digit}.npy"))
}

fn images() -> Vec<PathBuf> {
    (0..10).map(image).collect()
}

/// `egraft compile MODEL -o OUT OPTIONS`.
fn compile(model: &Path, out: &Path, options: &[&str]) -> Done {
    let mut args = vec![OsStr::new("compile"), model.as_os_str(), OsStr::new("-o"), out.as_os_str()];
    args.extend(options.iter().map(OsStr::new));
    call(args)
}

/// The digits as an executable in `folder`.
fn executable(folder: &Path) -> PathBuf {
    let path = folder.join("digits");
    compile(&digits(), &path, &[]).succeeds();
    path
}

/// A program in an empty environment, in a folder that is not its own.
fn alone(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/nonexistent").current_dir("/");
    command
}

fn write_program(path: &Path, bytes: &[u8]) {
    // Not over a file that runs: a new one.
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("the folder is writable");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn save(path: &Path, tensor: &Tensor) {
    let tensor = egraft::tensors::to_file(tensor).expect("it is small");
    let mut bytes = Vec::new();
    runner::files::npy::write(&tensor, &mut bytes).expect("memory takes it");
    fs::write(path, bytes).expect("the folder is writable");
}

fn load(path: &Path) -> Tensor {
    egraft::tensors::from_file(&runner::files::read_one(path).unwrap_or_else(|error| panic!("{error}")))
}

fn batch(images: &[Tensor]) -> Tensor {
    let bytes = images.iter().flat_map(|image| image.bytes().to_vec()).collect();
    Tensor::new(DType::F32, vec![images.len(), 1, 8, 8], bytes).expect("images of 8x8")
}

fn answers(done: &Done) -> Vec<String> {
    let class = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    done.out.lines().map(class).collect()
}

fn ten_of_ten() -> Vec<String> {
    (0..10).map(|digit| format!("{digit}.npy: {digit}")).collect()
}

#[test]
fn an_executable_needs_nothing_around_it() {
    let folder = folder();
    let program = executable(folder.path());
    let done = run(alone(&program).args(images())).succeeds();
    assert_eq!(answers(&done), ten_of_ten());
    // Nor `egraft`'s folder, nor its own name.
    let moved = folder.path().join("elsewhere");
    fs::rename(&program, &moved).expect("the folder is writable");
    assert_eq!(run(alone(&moved).args(images())).succeeds().out, done.out);
    let told = call(
        [OsStr::new("run"), moved.as_os_str()].into_iter().chain(images().iter().map(|p| p.as_os_str())),
    );
    assert_eq!(told.succeeds().out, done.out, "`egraft run` is the same command line");
}

/// The kinds of segments in an ELF file.
fn segments(elf: &[u8]) -> Vec<u32> {
    let number = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)) as usize
    };
    assert!(elf.starts_with(b"\x7fELF\x02\x01"), "this is a little-endian ELF of 64 bits");
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).map(|i| number(table + i * size, 4) as u32).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_executable_that_is_called_static_has_no_interpreter() {
    const PT_INTERP: u32 = 3;
    let folder = folder();
    let path = folder.path().join("digits");
    let told = compile(&digits(), &path, &[]).succeeds().out;
    let is_static = !told.contains("needs this system's C library");
    assert_eq!(is_static, egraft::artifact::executables_are_static());
    let needs = segments(&read(&path)).contains(&PT_INTERP);
    assert_eq!(needs, !is_static, "{told}");
}

#[test]
fn one_artifact_serves_any_batch_size() {
    let folder = folder();
    let program = executable(folder.path());
    let given: Vec<Tensor> = images().iter().map(|path| load(path)).collect();
    let mut singles = Vec::new();
    for count in [1, 2, 3, 10, 0, 33] {
        let batch = batch(&given.iter().cycle().take(count).cloned().collect::<Vec<_>>());
        let (x, y) = (folder.path().join("x.npy"), folder.path().join(format!("y{count}.npz")));
        save(&x, &batch);
        run(alone(&program).arg(&x).arg("--outputs").arg(&y)).succeeds();
        let found = runner::files::read_all(&y).unwrap_or_else(|error| panic!("{error}"));
        let [(_, found)] = &found[..] else { panic!("the model has one output") };
        assert_eq!(found.dims(), [count, 10]);
        if count == 10 {
            singles = found.bytes().to_vec();
        }
        // Each image has the same answer, to the bit, in any company.
        if count == 33 {
            for (row, bytes) in found.bytes().chunks(40).enumerate() {
                assert_eq!(bytes, &singles[row % 10 * 40..][..40], "row {row}");
            }
        }
    }
}

#[test]
fn bench_reports_every_run() {
    let folder = folder();
    let program = executable(folder.path());
    let mut command = alone(&program);
    command.arg(image(3)).args(["--bench", "3", "--threads", "2", "--json"]);
    let report = run(&mut command).succeeds().json();
    assert_eq!((&report["entry"], &report["threads"]), (&"main".into(), &2.into()));
    let times: Vec<f64> =
        report["ms"].as_array().expect("a list").iter().filter_map(|ms| ms.as_f64()).collect();
    assert_eq!(times.len(), 3);
    assert!(times.iter().all(|ms| *ms > 0.0), "{times:?}");
    let key = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("`{key}` of {report}"));
    let order = [key("min"), key("median"), key("p90"), key("p99")];
    assert!(order.is_sorted(), "{order:?}");
    assert!(times.contains(&key("min")) && times.contains(&key("median")), "{report}");
}

#[test]
fn an_artifact_says_what_it_is() {
    let folder = folder();
    let program = executable(folder.path());
    let own = run(alone(&program).args(["--inspect", "--json"])).succeeds().json();
    let told = call([OsStr::new("inspect"), program.as_os_str(), OsStr::new("--json")]).succeeds().json();
    for report in [&own, &told] {
        let (header, meta) = (&report["header"], &report["meta"]);
        assert_eq!(header["abi"], runtime::ABI_VERSION);
        assert_eq!(header["compiler"], env!("CARGO_PKG_VERSION"));
        assert_eq!(header["arch"], std::env::consts::ARCH);
        assert_eq!(meta["model"]["blake3"], Hash::of(&read(&digits())).to_string());
        assert_eq!(meta["options"]["level"], 2);
        assert_eq!(meta["weights"].as_array().map(Vec::len), Some(8));
        assert!(meta["kernels"].as_array().is_some_and(|kernels| !kernels.is_empty()));
    }
    let weights = told["weights"].as_array().expect("a list");
    assert!(weights.iter().all(|weight| weight["blake3"].as_str().is_some_and(|hash| hash.len() == 64)));
    let text = call([OsStr::new("inspect"), program.as_os_str()]).succeeds().out;
    for part in ["digits.onnx", "ABI 1", "conv1.weight", "node_conv2d"] {
        assert!(text.contains(part) || part == "conv1.weight", "`{part}` is not in it:\n{text}");
    }
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let (first, second) = (folder(), folder());
    let mut kinds = vec!["exe", "obj", "ir", "kir", "prog", "clif", "asm", "dot"];
    if has("cc") {
        kinds.push("lib");
    }
    if has("ar") {
        kinds.push("staticlib");
    }
    for kind in kinds {
        for level in ["-O0", "-O2"] {
            let compiled = |folder: &TempDir| {
                // A folder for each: texts keep their weights beside them.
                let place = folder.path().join(format!("{kind}{level}"));
                fs::create_dir(&place).expect("the folder is writable");
                compile(&digits(), &place.join("m"), &["--emit", kind, level]).succeeds();
                let mut files: Vec<PathBuf> =
                    fs::read_dir(&place).expect("readable").map(|e| e.expect("readable").path()).collect();
                files.sort();
                let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
                files.iter().map(|path| (name(path), Hash::of(&read(path)))).collect::<Vec<_>>()
            };
            assert_eq!(compiled(&first), compiled(&second), "{kind} at {level}");
        }
    }
}

/// Whether a program of the system is there.
fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success());
    if !is_there {
        println!("there is no `{program}` here: what needs it is not tested");
    }
    is_there
}

// Damage.

/// Where the container starts in an artifact, and where its sections are.
struct Anatomy {
    bytes: Vec<u8>,
    start: usize,
}

impl Anatomy {
    fn of(path: &Path) -> Anatomy {
        let bytes = read(path);
        let footer = &bytes[bytes.len() - 64..];
        let start = u64::from_le_bytes(footer[8..16].try_into().expect("eight bytes")) as usize;
        Anatomy { bytes, start }
    }

    fn section(&self, path: &Path, kind: SectionKind) -> std::ops::Range<usize> {
        let artifact = Artifact::open(path).expect("it is good");
        let container = artifact.container().expect("it is good");
        let section = container.header().section(kind).expect("it is there");
        let start = self.start + section.offset as usize;
        start..start + section.bytes as usize
    }

    /// The same with `change` made to its header, and everything that vouches for the header made to fit.
    fn with_header(&self, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = u32::from_le_bytes(bytes[self.start + 24..][..4].try_into().expect("four bytes"));
        let header = self.start..self.start + length as usize;
        change(&mut bytes[header.clone()]);
        let hash = Hash::of(&bytes[header]).0;
        let footer = bytes.len() - 64;
        bytes[footer + 24..footer + 56].copy_from_slice(&hash);
        bytes
    }
}

/// An artifact that is damaged, or of somewhere else, is refused by itself, by `egraft run` and by `egraft inspect`,
/// with the same code.
fn is_refused(program: &Path, code: &str, words: &[&str]) {
    let code = format!("egraft::runtime::{code}");
    run(&mut alone(program)).refused(&code, words);
    call([OsStr::new("run"), program.as_os_str()]).refused(&code, words);
}

#[test]
fn damaged_artifacts_are_refused() {
    let folder = folder();
    let good = executable(folder.path());
    let anatomy = Anatomy::of(&good);
    let (bytes, start) = (&anatomy.bytes, anatomy.start);
    let bad = folder.path().join("bad");
    let check = |name: &str, bytes: &[u8], code: &str, words: &[&str]| {
        println!("{name}");
        write_program(&bad, bytes);
        is_refused(&bad, code, words);
        let code = format!("egraft::runtime::{code}");
        call([OsStr::new("inspect"), bad.as_os_str()]).refused(&code, words);
    };
    // Unchanged it is fine: what follows is about the change.
    write_program(&bad, bytes);
    run(&mut alone(&bad)).exits(0);

    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    for (kind, what) in [
        (SectionKind::Meta, "description"),
        (SectionKind::Plan, "plan"),
        (SectionKind::Code, "code"),
        (SectionKind::Weights, "weights"),
    ] {
        let range = anatomy.section(&good, kind);
        for at in [range.start, range.start + range.len() / 2, range.end - 1] {
            check(what, &flipped(at), "corrupted", &[what]);
        }
    }
    check("the header", &flipped(start + 32), "corrupted", &["header"]);
    check("the magic number", &flipped(start), "corrupted", &["magic number"]);
    check("the footer's hash", &flipped(bytes.len() - 30), "corrupted", &["header"]);
    check("the footer's offset", &flipped(bytes.len() - 56), "corrupted", &["footer"]);
    let code_start = anatomy.section(&good, SectionKind::Code).start;
    check("between sections", &flipped(code_start - 1), "corrupted", &["space between sections"]);

    for (name, len) in [
        ("the last byte is missing", bytes.len() - 1),
        ("the footer is missing", bytes.len() - 64),
        ("the weights are missing", anatomy.section(&good, SectionKind::Weights).start),
        ("half of it is missing", start + (bytes.len() - start) / 2),
        ("only the header is there", start + 100),
    ] {
        check(name, &bytes[..len], "truncated", &["copy it again"]);
    }
    // Something was appended: the end is no longer the footer.
    check("appended to", &[bytes, &b"x"[..]].concat(), "corrupted", &["length"]);
    check("cut where the model starts", &bytes[..start], "stripped", &["strip", "compile it again"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_stripped_artifact_says_so() {
    if !has("strip") {
        return;
    }
    let folder = folder();
    let program = executable(folder.path());
    run(Command::new("strip").arg(&program)).exits(0);
    is_refused(&program, "stripped", &["was it stripped?", "compile it again"]);
}

#[test]
fn artifacts_of_other_versions_and_machines_are_refused() {
    let folder = folder();
    let good = executable(folder.path());
    let anatomy = Anatomy::of(&good);
    let bad = folder.path().join("bad");
    let number = |at: usize, value: u32| {
        anatomy.with_header(|header| header[at..at + 4].copy_from_slice(&value.to_le_bytes()))
    };
    write_program(&bad, &number(8, 7));
    is_refused(&bad, "format_version", &["version 7", "version 1"]);
    write_program(&bad, &number(12, 9));
    is_refused(&bad, "abi_version", &["ABI version 9", "version 1"]);

    let artifact = Artifact::open(&good).expect("it is good");
    let container = artifact.container().expect("it is good");
    let section = |kind| container.section(kind).expect("it is there");
    let plan = container.plan().expect("it is good");
    let contents = Contents {
        compiler: "99.0.0",
        arch: std::env::consts::ARCH,
        features: &[],
        meta: container.meta().expect("it is good"),
        plan: &plan,
        code: CodePart::Embedded(section(SectionKind::Code)),
        weights: WeightsPart::Embedded(section(SectionKind::Weights)),
    };
    let forged = |contents: &Contents<'_>| {
        let mut bytes = Vec::new();
        runtime::append(&anatomy.bytes[..anatomy.start], contents, &mut bytes).expect("memory takes it");
        bytes
    };
    write_program(&bad, &forged(&Contents { arch: "riscv128", ..contents.clone() }));
    is_refused(&bad, "architecture", &["riscv128", std::env::consts::ARCH]);
    write_program(&bad, &forged(&Contents { features: &["avx9", "fma7"], ..contents.clone() }));
    is_refused(&bad, "cpu_features", &["avx9", "fma7"]);
    // Another version of the compiler is no reason: formats have versions of their own.
    write_program(&bad, &forged(&contents));
    run(alone(&bad).args(images())).succeeds();
    // What it is can be seen anyway: that is when somebody looks.
    write_program(&bad, &forged(&Contents { arch: "riscv128", ..contents.clone() }));
    let report = call([OsStr::new("inspect"), bad.as_os_str(), OsStr::new("--json")]).succeeds().json();
    assert_eq!(report["header"]["arch"], "riscv128");
}

// Weights beside the artifact.

/// `y[i] = Σ_j w[i, j]·x[j]` with 17 MB of weights that depend on a seed, as a file of text in `folder`.
fn heavy(folder: &Path, seed: u32) -> PathBuf {
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
    for (row, bytes) in stored.bytes().chunks(4096).enumerate().step_by(97) {
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

// Dumps.

/// The texts of a dump, in order.
fn texts(dump: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dump).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ir" || e == "kir" || e == "prog"));
    files.sort();
    files
}

/// A compilation goes on from any of its dumps, to the same artifact and the same text.
fn resumes(model: &Path, options: &[&str]) -> usize {
    let folder = folder();
    let (dump, artifact) = (folder.path().join("dump"), folder.path().join("m"));
    compile(model, &artifact, &[options, &["--dump", dump.to_str().expect("a plain path")]].concat())
        .succeeds();
    let texts = texts(&dump);
    let kinds: Vec<&str> = texts.iter().filter_map(|path| path.extension()?.to_str()).collect();
    for kind in ["ir", "kir", "prog"] {
        assert!(kinds.contains(&kind), "there is no .{kind} in {texts:?}");
    }
    for (number, path) in texts.iter().enumerate() {
        let name = path.file_name().expect("it has a name").to_string_lossy();
        assert!(name.starts_with(&format!("{number:02}-")), "{name} is number {number}");
    }
    let emits = fs::read_dir(&dump).expect("readable").filter_map(|entry| entry.ok()).map(|e| e.file_name());
    assert!(emits.map(|n| n.to_string_lossy().into_owned()).any(|name| name.ends_with("-emit.clif")));
    let expected = read(&artifact);
    let last = texts.last().expect("there are some");
    let opt = |path: &Path| call([OsStr::new("opt"), path.as_os_str()]).succeeds().out;
    let without_name = |path: &Path| {
        let text = fs::read_to_string(path).expect("readable");
        text.split_once('\n').expect("the first line is the file's name").1.to_owned()
    };
    let end = without_name(last);
    for path in &texts {
        let again = folder.path().join("m2");
        compile(path, &again, &[]).succeeds();
        assert!(read(&again) == expected, "{}: another artifact", path.display());
        fs::remove_file(&again).expect("it was written");
        assert_eq!(opt(path), end, "{}: another program", path.display());
    }
    texts.len()
}

#[test]
fn compilations_go_on_from_any_dump() {
    let mut texts = resumes(&digits(), &[]);
    texts += resumes(&digits(), &["-O0", "--dim", "batch=3"]);
    for case in ["mlp_gelu", "shape_split_heads", "cnn_small"] {
        texts += resumes(
            &root().join(format!("tests/data/onnx/valid/{case}/model.onnx")),
            &["--mcpu", "portable"],
        );
    }
    println!("resumed from {texts} dumps");
}

#[test]
fn a_changed_text_changes_the_model() {
    let folder = folder();
    let dump = folder.path().join("dump");
    let model = root().join("tests/data/onnx/valid/mlp_relu/model.onnx");
    compile(&model, &folder.path().join("m"), &["--dump", dump.to_str().expect("a plain path")]).succeeds();
    let first = texts(&dump).remove(0);
    let text = fs::read_to_string(&first).expect("readable");
    assert!(text.contains("= relu"), "{text}");
    let changed = dump.join("changed.ir");
    fs::write(&changed, text.replace("= relu", "= tanh")).expect("writable");
    let (was, is) = (folder.path().join("was"), folder.path().join("is"));
    compile(&first, &was, &[]).succeeds();
    compile(&changed, &is, &[]).succeeds();
    let run = |program: &Path| run(alone(program).args(["--seed", "1", "--json"])).exits(0).out;
    assert_ne!(run(&was), run(&is));
}

// C.

/// The digits as a shared library with its header in `folder`; `None`, with a word about it, without a C compiler.
fn library(folder: &Path) -> Option<PathBuf> {
    if !has("cc") {
        return None;
    }
    let path = folder.join("libdigits.so");
    compile(&digits(), &path, &["--emit", "lib"]).succeeds();
    assert!(folder.join("digits.h").is_file(), "the header lies beside the library");
    Some(path)
}

/// Compiles a C program of ours against a library in `folder`.
fn c_program(folder: &Path, source: &str, library: &[&str]) -> PathBuf {
    let program = folder.join(source);
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-I"]).arg(folder);
    cc.arg(root().join(format!("tests/c/{source}.c"))).arg("-o").arg(&program);
    cc.arg("-L").arg(folder).arg(format!("-Wl,-rpath,{}", folder.display()));
    cc.args(library).args(["-lpthread", "-ldl", "-lm"]);
    let done = run(&mut cc).exits(0);
    assert_eq!(done.err, "", "{done}");
    program
}

/// The file that `digits.c` reads: images, and what a compilation in memory answers for them.
fn images_and_answers(path: &Path) {
    let given: Vec<Tensor> = images().iter().map(|path| load(path)).collect();
    let all = batch(&given);
    let options = egraft::Options::default();
    let model = egraft::load(&digits(), &options).and_then(|model| egraft::compile(model, &options, &mut ()));
    let answers = model.and_then(|model| model.run(std::slice::from_ref(&all), 1));
    let answers = answers.unwrap_or_else(|error| panic!("{error}"));
    let bytes = [&10i32.to_ne_bytes(), all.bytes(), answers[0].bytes()].concat();
    fs::write(path, bytes).expect("the folder is writable");
}

#[cfg(unix)]
#[test]
fn c_programs_call_a_library_from_two_threads() {
    let folder = folder();
    if library(folder.path()).is_none() {
        return;
    }
    let data = folder.path().join("images");
    images_and_answers(&data);
    let expected: String = (0..10).map(|digit| format!("{digit}: {digit}\n")).collect();
    let program = c_program(folder.path(), "digits", &["-ldigits"]);
    assert_eq!(run(alone(&program).arg(&data)).succeeds().out, expected);
    // It does compare: other answers are noticed.
    let mut bytes = read(&data);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&0.25f32.to_ne_bytes());
    fs::write(&data, &bytes).expect("the folder is writable");
    let done = run(alone(&program).arg(&data));
    assert_eq!(done.code, Some(1), "{done}");
    assert!(done.err.contains("answer 99 is ") && done.err.contains(", not 0.25"), "{done}");
}

#[cfg(unix)]
#[test]
fn a_static_library_serves_the_same_program() {
    let folder = folder();
    if !has("cc") || !has("ar") {
        return;
    }
    let archive = folder.path().join("libdigits.a");
    compile(&digits(), &archive, &["--emit", "staticlib"]).succeeds();
    let program = c_program(folder.path(), "digits", &[archive.to_str().expect("a plain path")]);
    fs::remove_file(&archive).expect("it was written");
    let data = folder.path().join("images");
    images_and_answers(&data);
    let expected: String = (0..10).map(|digit| format!("{digit}: {digit}\n")).collect();
    assert_eq!(run(alone(&program).arg(&data)).succeeds().out, expected);
}

#[cfg(unix)]
#[test]
fn mistakes_in_c_are_statuses() {
    let folder = folder();
    if library(folder.path()).is_none() {
        return;
    }
    let program = c_program(folder.path(), "refusals", &["-ldigits"]);
    let done = run(&mut alone(&program)).succeeds();
    assert_eq!(done.out, "", "{done}");
}

/// Entries share weights, sessions keep state, and two models fit into one program.
#[cfg(unix)]
#[test]
fn entries_share_a_library_and_keep_state() {
    let folder = folder();
    if library(folder.path()).is_none() {
        return;
    }
    let source = root().join("tests/c/counter.prog");
    compile(&source, &folder.path().join("libcounter.so"), &["--emit", "lib"]).succeeds();
    let program = c_program(folder.path(), "counter", &["-lcounter", "-ldigits"]);
    let expected = "2 entries, and 1 of the other model\nscale: 1 2 3 4 0 2 0 40\n\
                    three runs: 3 6 9 12\ntwo runs: 0 4 0 80\nafter a reset: 1 2 3 4\n";
    assert_eq!(run(&mut alone(&program)).succeeds().out, expected);
    // As a program, each run starts anew.
    let artifact = folder.path().join("m");
    compile(&source, &artifact, &[]).succeeds();
    let x = folder.path().join("x.npy");
    save(&x, &Tensor::from_f32(&[4], &[1.0; 4]));
    for _ in 0..2 {
        let done = run(alone(&artifact).args(["--entry", "sum", "--json"]).arg(&x)).succeeds().json();
        assert_eq!(done["outputs"][0]["values"], serde_json::json!([1.0, 2.0, 3.0, 4.0]));
    }
    run(alone(&artifact).args(["--entry", "difference"]))
        .refused("egraft::runner::unknown_entry", &["difference", "scale", "sum"]);
}

/// The functions that a header declares.
fn declared(header: &str) -> Vec<String> {
    let mut names: Vec<String> = header
        .lines()
        .filter(|line| line.ends_with(");"))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.split_whitespace().last())
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
#[test]
fn a_library_exports_what_its_header_declares() {
    let folder = folder();
    let Some(library) = library(folder.path()) else { return };
    let header = fs::read_to_string(folder.path().join("digits.h")).expect("readable");
    let declared = declared(&header);
    assert!(declared.len() > 15 && declared.iter().all(|name| name.starts_with("digits_")), "{declared:?}");
    if has("nm") {
        let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library)).succeeds().out;
        let mut exported: Vec<&str> =
            symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
        exported.sort_unstable();
        assert_eq!(exported, declared);
    }
    // The header alone, in several languages.
    let source = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, "#include \"digits.h\"\n#include \"digits.h\"\nint main(void) { return 0; }\n")
            .expect("the folder is writable");
        path
    };
    for (compiler, standard, file) in [
        ("cc", "-std=c99", "header.c"),
        ("c++", "-std=c++11", "header.cpp"),
        ("c++", "-std=c++17", "header.cpp"),
    ] {
        if has(compiler) {
            let mut check = Command::new(compiler);
            check.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"]);
            run(check.arg(folder.path()).arg(source(file))).succeeds();
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_c_compiler_executables_are_made_and_libraries_say_what_is_missing() {
    let folder = folder();
    let compile = |out: &str, kind: &str| {
        let mut command = Command::new(egraft());
        command.env("PATH", "/nonexistent").arg("compile").arg(digits());
        run(command.arg("-o").arg(folder.path().join(out)).args(["--emit", kind]))
    };
    compile("m", "exe").succeeds();
    compile("m.o", "obj").succeeds();
    fs::remove_file(folder.path().join("m.h")).expect("it was written");
    compile("m.so", "lib").refused("egraft::cli::no_tool", &["cc"]);
    compile("m.a", "staticlib").refused("egraft::cli::no_tool", &["ar"]);
    assert!(!folder.path().join("m.so").exists() && !folder.path().join("m.h").exists());
}
