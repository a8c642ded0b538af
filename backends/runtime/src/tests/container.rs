//! Containers: written, read, damaged, cut, stripped; and models with real machine code from files.

use std::{
    fs,
    io::{Cursor, Write},
    path::Path,
};

use super::{SCALE, bytes_of, plan};
use crate::{
    CodePart, Container, Contents, LoadError, Model, Plan, SidecarWriter, WeightsPart, append,
    container::{FOOTER, Footer, SECTION_ALIGN, SectionKind},
};

/// One instruction per architecture: return.
pub(crate) const RETURN: &[u8] =
    if cfg!(target_arch = "aarch64") { &[0xc0, 0x03, 0x5f, 0xd6] } else { &[0xc3] };

pub(crate) fn contents<'a>(plan: &'a Plan, code: CodePart<'a>, weights: WeightsPart<'a>) -> Contents<'a> {
    let arch = std::env::consts::ARCH;
    Contents { compiler: "0.1.0", arch, features: &[], meta: "{\"model\":\"test\"}", plan, code, weights }
}

fn bytes() -> Vec<u8> {
    let weights = bytes_of(&SCALE);
    contents(&plan(), CodePart::Embedded(RETURN), WeightsPart::Embedded(&weights)).to_bytes()
}

fn message(bytes: &[u8]) -> String {
    Container::parse(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read() {
    let bytes = bytes();
    let container = Container::parse(&bytes).unwrap();
    assert_eq!(container.meta(), Ok("{\"model\":\"test\"}"));
    assert_eq!(container.plan(), Ok(plan()));
    assert_eq!(container.section(SectionKind::Code), Some(RETURN));
    assert_eq!(container.section(SectionKind::Weights), Some(bytes_of(&SCALE).as_slice()));
    assert_eq!(container.header().compiler, "0.1.0");
    assert_eq!(container.header().check_host(), Ok(()));
    for kind in [SectionKind::Code, SectionKind::Weights] {
        assert_eq!(container.header().section(kind).unwrap().offset % SECTION_ALIGN, 0);
    }
    assert_eq!(bytes, self::bytes(), "equal contents, equal bytes");
}

#[test]
fn every_changed_byte_is_found() {
    let bytes = bytes();
    let container = Container::parse(&bytes).unwrap();
    let mut interesting: Vec<usize> = (0..bytes.len()).step_by(4999).collect();
    interesting.extend(0..800);
    interesting.extend(bytes.len() - FOOTER - 20..bytes.len());
    for section in &container.header().sections {
        let (start, end) = (section.offset as usize, (section.offset + section.bytes) as usize);
        interesting.extend((start.saturating_sub(1)..start + 1).chain(end - 1..end + 1));
    }
    for at in interesting {
        for bit in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            assert!(Container::parse(&damaged).is_err(), "byte {at} of {}", bytes.len());
        }
    }
}

#[test]
fn every_missing_end_is_found() {
    let bytes = bytes();
    let mut lengths: Vec<usize> = (0..bytes.len()).step_by(1777).collect();
    lengths.extend((0..200).chain(bytes.len() - 200..bytes.len()));
    for len in lengths {
        let error = Container::parse(&bytes[..len]).unwrap_err();
        assert!(matches!(error, LoadError::Truncated { .. }), "{len}: {error}");
    }
    assert_eq!(
        message(&[&bytes[..], b"x"].concat()),
        LoadError::Corrupted { section: "its length" }.to_string()
    );
}

#[test]
fn the_damaged_part_is_named() {
    let bytes = bytes();
    let header = Container::parse(&bytes).unwrap().header().clone();
    let damaged = |at: usize| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        message(&damaged)
    };
    let place = |kind| header.section(kind).unwrap().offset as usize;
    let said = |part: &str| {
        format!("the model is corrupted: {part} does not match what was written; copy or compile it again")
    };
    assert_eq!(damaged(0), said("the magic number"));
    assert_eq!(damaged(30), said("the header"));
    assert_eq!(damaged(place(SectionKind::Meta)), said("the description"));
    assert_eq!(damaged(place(SectionKind::Plan)), said("the plan"));
    assert_eq!(damaged(place(SectionKind::Code)), said("the code"));
    assert_eq!(damaged(place(SectionKind::Weights)), said("the section of weights"));
    assert_eq!(damaged(place(SectionKind::Code) - 1), said("the space between sections"));
    assert_eq!(damaged(bytes.len() - 1), said("the footer"));
}

/// The container with its header changed and the footer made to fit.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes();
    change(&mut bytes);
    let len = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    let header_hash = *blake3::hash(&bytes[..len]).as_bytes();
    let footer = Footer { offset: 0, bytes: bytes.len() as u64, header_hash }.encode();
    let at = bytes.len() - FOOTER;
    bytes[at..].copy_from_slice(&footer);
    bytes
}

#[test]
fn other_versions_and_machines_are_told_apart() {
    assert_eq!(
        message(&forged(|bytes| bytes[8] = 9)),
        "the model has format version 9, this runtime reads version 3; compile it again with this version of egraft"
    );
    let load = |bytes: &[u8]| Model::from_container(bytes, None).err().unwrap();
    let abi = load(&forged(|bytes| bytes[12] = 7));
    assert_eq!(
        (abi.code(), &abi),
        ("egraft::runtime::abi_version", &LoadError::Abi { found: 7, expected: crate::ABI_VERSION })
    );
    let plan = plan();
    let with = |arch, features| {
        let contents = contents(&plan, CodePart::Embedded(RETURN), WeightsPart::Embedded(&[]));
        load(&Contents { arch, features, ..contents }.to_bytes())
    };
    let host = std::env::consts::ARCH;
    assert_eq!(with("pdp11", &[]), LoadError::Architecture { found: "pdp11".into(), host });
    assert_eq!(
        with(host, &["warp", "flux"]).to_string(),
        "this processor lacks warp, flux, which the model was compiled for; compile it with an `--mcpu` that this processor has"
    );
}

#[test]
fn random_headers_never_panic() {
    let mut numbers = super::Numbers::new();
    for _ in 0..300 {
        let forged = forged(|bytes| {
            for _ in 0..3 {
                let at = 28 + numbers.below(300);
                bytes[at] = numbers.below(256) as u8;
            }
        });
        // Whatever it says, it says it; a header that happens to be right is right.
        if let Ok(container) = Container::parse(&forged) {
            let _ = (container.plan(), container.meta(), container.header().check_host());
        }
    }
}

#[test]
fn programs_without_a_model_and_cut_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m");
    let mut whole = Vec::new();
    let (plan, weights) = (plan(), bytes_of(&SCALE));
    let contents = contents(&plan, CodePart::Embedded(RETURN), WeightsPart::Embedded(&weights));
    append(&[0x7f; 70_000], &contents, &mut whole).unwrap();
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Model::from_file(&path).map(|model| model.meta().to_owned())
    };
    assert_eq!(load(&whole), Ok("{\"model\":\"test\"}".into()));
    let stripped = LoadError::Stripped { what: path.display().to_string() };
    assert_eq!(load(&whole[..70_000]), Err(stripped.clone()));
    assert_eq!(load(&[]), Err(stripped.clone()));
    let (expected, found) = (whole.len() as u64 - (2 << 16), 2 << 16);
    assert_eq!(load(&whole[..4 << 16]), Err(LoadError::Truncated { expected, found }));
    whole.push(0);
    assert_eq!(load(&whole), Err(LoadError::Corrupted { section: "its length" }));
    let error = Model::from_file(Path::new("/nonexistent/m")).err().unwrap();
    assert_eq!(error.code(), "egraft::runtime::io");
    // The tests' own executable carries no model.
    let error = Model::own_executable().err().unwrap();
    assert_eq!(error.code(), "egraft::runtime::stripped");
}

#[test]
fn kernels_outside_the_code_are_refused() {
    let mut plan = plan();
    plan.kernels[2].offset = 9;
    let weights = crate::Weights::copy_of(&bytes_of(&SCALE)).unwrap();
    let error = Model::from_parts(plan, RETURN, weights, String::new()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "the model's plan is broken: kernel `add`: its offset 9 lies outside the code"
    );
}

#[test]
fn zeros_of_a_sidecar_are_passed_over_and_there() {
    const BLOCK: usize = 1 << 16;
    let mut data = vec![0; 5 * BLOCK + 100];
    for (ends_in, at) in [("data", 5 * BLOCK + 99), ("a hole", 3 * BLOCK - 1)] {
        data.truncate(if ends_in == "a hole" { 5 * BLOCK } else { data.len() });
        data[at] = 1;
        let mut file = Cursor::new(Vec::new());
        let mut writer = SidecarWriter::new(&mut file).unwrap();
        writer.write_all(&data).unwrap();
        assert_eq!(writer.position(), data.len() as u64);
        let recorded = writer.finish("m.weights").unwrap();
        let file = file.into_inner();
        assert_eq!(file.len() as u64, recorded.bytes, "{ends_in}");
        assert_eq!(file[BLOCK..], data, "{ends_in}");
        assert_eq!(file[24..56], *blake3::hash(&data).as_bytes(), "{ends_in}");
    }
}

#[test]
fn sidecars() {
    let folder = tempfile::tempdir().unwrap();
    let (model, side) = (folder.path().join("m"), folder.path().join("m.weights"));
    let write_sidecar = |values: &[f32]| {
        let mut file = Cursor::new(Vec::new());
        let mut writer = SidecarWriter::new(&mut file).unwrap();
        writer.write_all(&bytes_of(values)).unwrap();
        assert_eq!(writer.position(), 4 * values.len() as u64);
        (writer.finish("m.weights").unwrap(), file.into_inner())
    };
    let (recorded, whole) = write_sidecar(&SCALE);
    let plan = plan();
    let contents = contents(&plan, CodePart::Embedded(RETURN), WeightsPart::Sidecar(recorded));
    fs::write(&model, contents.to_bytes()).unwrap();
    let load = || Model::from_file(&model);

    assert_eq!(load().err().unwrap().code(), "egraft::runtime::sidecar_missing");
    let wrong = |bytes: &[u8]| {
        fs::write(&side, bytes).unwrap();
        match load().err().unwrap() {
            LoadError::SidecarWrong { why, .. } => why,
            other => panic!("{other}"),
        }
    };
    assert_eq!(wrong(&whole[1..]), "it has 65551 bytes, 65552 were written");
    let other = write_sidecar(&[0.0; 4]).1;
    assert_eq!(wrong(&other), "its header has another hash than the one the model was compiled with");
    assert_eq!(wrong(&[0; 65552]), "it is no weights file of egraft");

    fs::write(&side, &whole).unwrap();
    let loaded = load().unwrap();
    assert_eq!(loaded.weights(), bytes_of(&SCALE));
    assert_eq!(loaded.weights().as_ptr().addr() % 64, 0);
    assert_eq!(loaded.verify_weights(), Ok(()));
    let mut damaged = whole.clone();
    damaged[65536] ^= 1;
    // A new file, since the old one is mapped.
    fs::remove_file(&side).unwrap();
    fs::write(&side, &damaged).unwrap();
    assert_eq!(load().unwrap().verify_weights(), Err(LoadError::Weight { name: "scale".into() }));
    let in_memory = Model::from_container(&fs::read(&model).unwrap(), Some(folder.path())).unwrap();
    assert_eq!(in_memory.header().sidecar.as_ref().unwrap().name, "m.weights");
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    for name in ["../m.weights", "/m", "a/b", "", "..", "c:m"] {
        assert!(!crate::container::is_file_name(name), "{name}");
    }
}

/// Machine code: `y[0] = x[0] + x[0]`.
#[cfg(target_arch = "x86_64")]
pub(crate) const DOUBLE: &[u8] = &[
    0x48, 0x8b, 0x06, // mov rax, [rsi]
    0x48, 0x8b, 0x4e, 0x08, // mov rcx, [rsi + 8]
    0xf3, 0x0f, 0x10, 0x00, // movss xmm0, [rax]
    0xf3, 0x0f, 0x58, 0xc0, // addss xmm0, xmm0
    0xf3, 0x0f, 0x11, 0x01, // movss [rcx], xmm0
    0xc3, // ret
];

/// A plan with [`DOUBLE`] as its kernel, behind 16 bytes of nothing.
#[cfg(target_arch = "x86_64")]
pub(crate) fn double() -> (Plan, Vec<u8>) {
    use crate::plan::{Arg, Entry, KernelSlot};
    let entry = Entry {
        name: "double".into(),
        inputs: vec![super::port("x", vec![1.into()])],
        outputs: vec![super::port("y", vec![1.into()])],
        steps: vec![super::call(0, vec![Arg::Input(0), Arg::Output(0)], vec![])],
        ..Entry::default()
    };
    let kernels = vec![KernelSlot { name: "double".into(), offset: 16 }];
    (Plan { entries: vec![entry], weights: vec![], kernels }, [&[0xcc; 16], DOUBLE].concat())
}

#[test]
#[cfg(target_arch = "x86_64")]
fn machine_code_runs_from_memory_and_from_a_file() {
    let (plan, code) = double();
    let contents = contents(&plan, CodePart::Embedded(&code), WeightsPart::Embedded(&[]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m");
    let mut file = fs::File::create(&path).unwrap();
    append(b"the runner", &contents, &mut file).unwrap();
    drop(file);
    let models = [
        Model::from_parts(plan.clone(), &code, crate::Weights::none(), String::new()),
        Model::from_container(&contents.to_bytes(), None),
        Model::from_file(&path),
    ];
    for model in models {
        let mut session = crate::Session::new(model.unwrap(), 0, crate::Pool::new(1)).unwrap();
        let x = bytes_of(&[21.0]);
        let input = crate::TensorRef { dtype: crate::DType::F32, dims: &[1], data: &x };
        let outputs = session.run_tensors(&[input]).unwrap();
        assert_eq!(super::floats(&outputs[0].data), [42.0]);
    }
}
