//! Bytes as a compiled model: the loader checks them and gives a plan, or says why not. No code is run.
//!
//! Hashes keep nearly all changed bytes from ever being looked at, so the first byte says what the others are: 0, a
//! container; 1, a plan; 2, a container whose lengths and whose header's hash are put right first.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::container::SectionKind;
use runtime::{CodePart, Container, Contents, Plan, WeightsPart};

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, rest)) = bytes.split_first() else { return };
    match mode {
        0 => read(rest),
        1 => plan(rest),
        2 => read(&mended(rest)),
        _ => {}
    }
});

/// What the loader does with a container, up to where it would map the code.
fn read(bytes: &[u8]) {
    let Ok(container) = Container::parse(bytes) else { return };
    let _ = (container.header().check_host(), container.meta());
    for kind in [SectionKind::Code, SectionKind::Weights, SectionKind::ExternalCode] {
        let _ = container.section(kind).map(<[u8]>::len);
    }
    let _ = container.plan();
}

/// A plan that is read is written as it was, and found in a container.
fn plan(bytes: &[u8]) {
    let Ok(plan) = Plan::decode(bytes) else { return };
    let encoded = plan.encode();
    assert_eq!(encoded, bytes, "a plan has one form");
    let contents = Contents {
        compiler: "0",
        arch: "none",
        features: &[],
        meta: "{}",
        plan: &plan,
        code: CodePart::External(b""),
        weights: WeightsPart::Embedded(b""),
    };
    let bytes = contents.to_bytes();
    let container = Container::parse(&bytes).expect("it was just written");
    assert_eq!(container.plan().expect("it was just written"), plan);
}

/// The same container with the lengths and the hash of the header that it should have.
fn mended(bytes: &[u8]) -> Vec<u8> {
    const FIXED: usize = 28;
    const FOOTER: usize = 64;
    let mut bytes = bytes.to_vec();
    if bytes.len() < FIXED + FOOTER {
        return bytes;
    }
    let (total, footer) = (bytes.len() as u64, bytes.len() - FOOTER);
    bytes[16..24].copy_from_slice(&total.to_le_bytes());
    let header = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]) as usize;
    let hash = *blake3::hash(&bytes[..header.min(footer)]).as_bytes();
    let magic: [u8; 8] = *bytes.first_chunk().expect("it is longer");
    bytes[footer..footer + 8].copy_from_slice(&magic);
    bytes[footer + 8..footer + 16].fill(0);
    bytes[footer + 16..footer + 24].copy_from_slice(&total.to_le_bytes());
    bytes[footer + 24..footer + 56].copy_from_slice(&hash);
    bytes[footer + 56..].fill(0);
    bytes
}
