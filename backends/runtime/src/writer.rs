//! Writing containers and sidecars: the compiler's side of `container.rs`.
//!
//! Promises: equal contents give equal bytes; nothing is buffered that is already in memory.

use std::io::{self, Seek, SeekFrom, Write};

use crate::{
    container::{
        FOOTER, FORMAT_VERSION, Footer, Header, SECTION_ALIGN, Section, SectionKind, Sidecar, is_file_name,
    },
    plan::Plan,
    services::ABI_VERSION,
    weights::{SIDECAR_HEADER, SIDECAR_MAGIC, SIDECAR_VERSION},
};

/// Where the code image is.
#[derive(Debug, Clone, Copy)]
pub enum CodePart<'a> {
    /// In the container.
    Embedded(&'a [u8]),
    /// Elsewhere in the program: the container records its length and hash, and whoever opens the
    /// container passes the address.
    External(&'a [u8]),
    /// None: the kernels are for GPUs, as [`crate::cuda::encode`] writes them.
    Gpu(&'a [u8]),
}

/// Where the weights are.
#[derive(Debug, Clone)]
pub enum WeightsPart<'a> {
    /// In the container.
    Embedded(&'a [u8]),
    /// In a file of their own, as [`SidecarWriter::finish`] describes it.
    Sidecar(Sidecar),
}

/// What goes into a container.
#[derive(Debug, Clone)]
pub struct Contents<'a> {
    /// Version of the compiler.
    pub compiler: &'a str,
    /// Architecture of the code, such as `x86_64`.
    pub arch: &'a str,
    /// CPU features that the code needs.
    pub features: &'a [&'a str],
    /// JSON about the model.
    pub meta: &'a str,
    /// The plan, which must be valid.
    pub plan: &'a Plan,
    /// The code image.
    pub code: CodePart<'a>,
    /// The weights.
    pub weights: WeightsPart<'a>,
}

impl Contents<'_> {
    /// The container as bytes that start a file or stand alone in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(0, &mut out).expect("writing to memory does not fail");
        out
    }

    /// Writes the container, which will start at `base` in its file; returns its length.
    ///
    /// # Panics
    /// `base` is not a multiple of [`SECTION_ALIGN`], or the sidecar's name is no file name.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, base: u64, out: &mut impl Write) -> io::Result<u64> {
        assert!(base.is_multiple_of(SECTION_ALIGN), "bug: a container at an offset that cannot be mapped");
        let plan = self.plan.encode();
        let mut parts: Vec<(SectionKind, &[u8])> =
            vec![(SectionKind::Meta, self.meta.as_bytes()), (SectionKind::Plan, &plan)];
        match self.code {
            CodePart::Embedded(code) => parts.push((SectionKind::Code, code)),
            CodePart::External(code) => parts.push((SectionKind::ExternalCode, code)),
            CodePart::Gpu(kernels) => parts.push((SectionKind::GpuKernels, kernels)),
        }
        let sidecar = match &self.weights {
            WeightsPart::Embedded(weights) => {
                parts.push((SectionKind::Weights, weights));
                None
            }
            WeightsPart::Sidecar(sidecar) => {
                assert!(is_file_name(&sidecar.name), "bug: a sidecar outside the artifact's folder");
                Some(sidecar.clone())
            }
        };
        let mut header = Header {
            format: FORMAT_VERSION,
            abi: ABI_VERSION,
            compiler: self.compiler.to_owned(),
            arch: self.arch.to_owned(),
            features: self.features.iter().map(|name| (*name).to_owned()).collect(),
            sidecar,
            sections: parts.iter().map(|(kind, bytes)| unplaced(*kind, bytes)).collect(),
        };
        // The header's length does not depend on the numbers in it.
        let mut end = header.encode(0).len() as u64;
        for section in header.sections.iter_mut().filter(|section| section.kind != SectionKind::ExternalCode)
        {
            section.offset = if section.kind.is_mapped() { end.next_multiple_of(SECTION_ALIGN) } else { end };
            end = section.offset + section.bytes;
        }
        let bytes = end + FOOTER as u64;

        let encoded = header.encode(bytes);
        out.write_all(&encoded)?;
        let mut at = encoded.len() as u64;
        for (section, (kind, part)) in header.sections.iter().zip(&parts) {
            if *kind != SectionKind::ExternalCode {
                write_zeros(section.offset - at, out)?;
                out.write_all(part)?;
                at = section.offset + section.bytes;
            }
        }
        let header_hash = *blake3::hash(&encoded).as_bytes();
        out.write_all(&Footer { offset: base, bytes, header_hash }.encode())?;
        Ok(bytes)
    }
}

fn unplaced(kind: SectionKind, bytes: &[u8]) -> Section {
    Section { kind, offset: 0, bytes: bytes.len() as u64, hash: *blake3::hash(bytes).as_bytes() }
}

fn write_zeros(count: u64, out: &mut impl Write) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(|_| ())
}

/// Writes an executable: the runner's bytes, zeros up to a multiple of 64 KiB, the container.
///
/// # Errors
/// Those of `out`.
pub fn append(runner: &[u8], contents: &Contents<'_>, out: &mut impl Write) -> io::Result<()> {
    let base = (runner.len() as u64).next_multiple_of(SECTION_ALIGN);
    out.write_all(runner)?;
    write_zeros(base - runner.len() as u64, out)?;
    contents.write(base, out).map(|_| ())
}

/// Writes a sidecar: weights go in through [`Write`], in order; [`finish`](SidecarWriter::finish) completes it.
///
/// Long stretches of zeros are passed over: where the system has files with holes, they take no room.
pub struct SidecarWriter<W: Write + Seek> {
    out: W,
    hasher: blake3::Hasher,
    bytes: u64,
    /// Does what was passed over reach the end?
    ends_in_hole: bool,
}

/// What is passed over if it is zero.
const BLOCK: usize = 1 << 16;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

impl<W: Write + Seek> SidecarWriter<W> {
    /// Starts at the beginning of an empty file, which must hold nothing beyond, either.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<SidecarWriter<W>> {
        write_zeros(SECTION_ALIGN, &mut out)?;
        Ok(SidecarWriter { out, hasher: blake3::Hasher::new(), bytes: 0, ends_in_hole: false })
    }

    /// Bytes of weights written so far.
    pub fn position(&self) -> u64 {
        self.bytes
    }

    /// Writes the header; `name` is the file's name, under which the artifact will look for it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self, name: &str) -> io::Result<Sidecar> {
        let mut header = [0; SIDECAR_HEADER];
        header[..8].copy_from_slice(SIDECAR_MAGIC);
        header[8..12].copy_from_slice(&SIDECAR_VERSION.to_le_bytes());
        header[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        header[24..56].copy_from_slice(self.hasher.finalize().as_bytes());
        if self.ends_in_hole {
            self.out.seek(SeekFrom::Current(-1))?;
            self.out.write_all(&[0])?;
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header)?;
        self.out.flush()?;
        Ok(Sidecar {
            name: name.to_owned(),
            bytes: SECTION_ALIGN + self.bytes,
            header_hash: *blake3::hash(&header).as_bytes(),
        })
    }
}

impl<W: Write + Seek> Write for SidecarWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = &bytes[..bytes.len().min(BLOCK)];
        self.ends_in_hole = block == &ZEROS[..];
        let written = if self.ends_in_hole {
            self.out.seek(SeekFrom::Current(BLOCK as i64))?;
            BLOCK
        } else {
            self.out.write(block)?
        };
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
