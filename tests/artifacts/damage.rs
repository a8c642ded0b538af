//! Damaged artifacts, and those of other versions and machines: each is refused with a code and words of its own.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use harness::program::{call, run};
use ir::weight::Hash;
use runtime::container::{Artifact, SectionKind};
use runtime::{CodePart, Contents, WeightsPart};

use crate::{alone, executable, folder, has, images, is_refused, read, write_program};

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
    is_refused(&bad, "format_version", &["version 7", "version 3"]);
    write_program(&bad, &number(12, 9));
    let own = format!("version {}", runtime::ABI_VERSION);
    is_refused(&bad, "abi_version", &["ABI version 9", &own]);

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
