//! The container: a compiled model as bytes, appended to the runner, embedded in a library, or in memory.
//!
//! ```text
//! header    magic, format version, ABI version, length of the container, length of the header,
//!           compiler, architecture, CPU features, sidecar, table of sections
//! sections  META, PLAN, GPU KERNELS of a model for GPUs, then at multiples of 64 KiB CODE and WEIGHTS; zeros between them
//! footer    64 bytes: magic, offset of the container in its file, its length, BLAKE3 of the header, zeros
//! ```
//!
//! Promises: every byte of a container is checked (header by the footer, sections by the header, the rest
//! is zero), so that a changed or missing byte is an error, never a wrong result; reading never panics.
//! Offsets are relative to the container's start, which lies at a multiple of 64 KiB of its file.
//!
//! Deliberately absent: compression (code and weights are mapped), and signatures: hashes find accidents.

use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};

use crate::{
    bytes::{Reader, put_count, put_str},
    error::{LoadError, PlanError},
    features,
    plan::Plan,
    services::ABI_VERSION,
};

/// First bytes of a container, and of its footer.
pub(crate) const MAGIC: &[u8; 8] = b"egraft\0\x01";
/// Version of the layout.
pub const FORMAT_VERSION: u32 = 3;
/// Code and weights start at multiples of this: the largest page size in use.
pub const SECTION_ALIGN: u64 = 1 << 16;
/// Bytes of the footer.
pub(crate) const FOOTER: usize = 64;
/// Bytes of the header up to the strings.
pub(crate) const FIXED: usize = 28;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SectionKind {
    /// JSON that the compiler wrote, for people and tools.
    Meta = 1,
    /// The [`Plan`].
    Plan = 2,
    /// The code image.
    Code = 3,
    /// The weights.
    Weights = 4,
    /// The code image lies elsewhere in the program; only its length and hash are here.
    ExternalCode = 5,
    /// Kernels for GPUs ([`crate::cuda`]), and no code image.
    GpuKernels = 6,
}

impl SectionKind {
    const ALL: [SectionKind; 6] =
        [Self::Meta, Self::Plan, Self::Code, Self::Weights, Self::ExternalCode, Self::GpuKernels];

    fn name(self) -> &'static str {
        match self {
            SectionKind::Meta => "the description",
            SectionKind::Plan => "the plan",
            SectionKind::Code | SectionKind::ExternalCode => "the code",
            SectionKind::Weights => "the section of weights",
            SectionKind::GpuKernels => "the kernels",
        }
    }

    /// Whether it is mapped, and so starts at a multiple of [`SECTION_ALIGN`].
    pub(crate) fn is_mapped(self) -> bool {
        matches!(self, SectionKind::Code | SectionKind::Weights)
    }
}

/// A row of the table of sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Its first byte, from the start of the container.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

/// The weights file beside an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Its file name, without a folder.
    pub name: String,
    /// Length of the whole file.
    pub bytes: u64,
    /// BLAKE3 of its first 64 bytes, which hold the hash of its data.
    pub header_hash: [u8; 32],
}

/// What an artifact says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Version of the layout.
    pub format: u32,
    /// Version of the interface between kernels and runtime.
    pub abi: u32,
    /// Version of the compiler, for people: it need not be ours.
    pub compiler: String,
    /// Architecture of the code, such as `x86_64`.
    pub arch: String,
    /// CPU features that the code needs, such as `avx2`.
    pub features: Vec<String>,
    /// The weights file, if the weights are in one.
    pub sidecar: Option<Sidecar>,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

impl Header {
    /// The header of a model that was never in a container.
    pub(crate) fn in_memory() -> Header {
        Header {
            format: FORMAT_VERSION,
            abi: ABI_VERSION,
            compiler: env!("CARGO_PKG_VERSION").to_owned(),
            arch: features::HOST.to_owned(),
            features: Vec::new(),
            sidecar: None,
            sections: Vec::new(),
        }
    }

    /// The section of this kind.
    pub fn section(&self, kind: SectionKind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// Whether this machine and this runtime can run the code.
    ///
    /// # Errors
    /// Another ABI version or architecture, or missing CPU features, all of them named.
    pub fn check_host(&self) -> Result<(), LoadError> {
        if self.abi != ABI_VERSION {
            return Err(LoadError::Abi { found: self.abi, expected: ABI_VERSION });
        }
        if self.arch != features::HOST {
            return Err(LoadError::Architecture { found: self.arch.clone(), host: features::HOST });
        }
        let missing: Vec<String> =
            self.features.iter().filter(|name| !features::has(name)).cloned().collect();
        if missing.is_empty() { Ok(()) } else { Err(LoadError::Features { missing }) }
    }

    /// The bytes up to the table of sections have this length, whatever the sections are.
    pub(crate) fn encode(&self, container_bytes: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&self.abi.to_le_bytes());
        out.extend_from_slice(&container_bytes.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        put_str(&mut out, &self.compiler);
        put_str(&mut out, &self.arch);
        put_count(&mut out, self.features.len());
        self.features.iter().for_each(|name| put_str(&mut out, name));
        match &self.sidecar {
            None => out.push(0),
            Some(sidecar) => {
                out.push(1);
                put_str(&mut out, &sidecar.name);
                out.extend_from_slice(&sidecar.bytes.to_le_bytes());
                out.extend_from_slice(&sidecar.header_hash);
            }
        }
        put_count(&mut out, self.sections.len());
        for section in &self.sections {
            out.extend_from_slice(&(section.kind as u32).to_le_bytes());
            out.extend_from_slice(&section.offset.to_le_bytes());
            out.extend_from_slice(&section.bytes.to_le_bytes());
            out.extend_from_slice(&section.hash);
        }
        let len = u32::try_from(out.len()).expect("bug: a header of more than 4 GiB");
        out[FIXED - 4..FIXED].copy_from_slice(&len.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Header, PlanError> {
        let mut r = Reader::new(bytes);
        r.take(8, "the magic")?;
        let (format, abi) = (r.u32("a version")?, r.u32("a version")?);
        r.take(FIXED - 16, "the lengths")?;
        let header = Header {
            format,
            abi,
            compiler: r.string("the compiler")?,
            arch: r.string("the architecture")?,
            features: r.list("features", |r| r.string("a feature"))?,
            sidecar: match r.u8("the sidecar")? {
                0 => None,
                1 => Some(Sidecar {
                    name: r.string("the sidecar")?,
                    bytes: r.u64("the sidecar")?,
                    header_hash: r.array("the sidecar")?,
                }),
                value => {
                    return Err(PlanError::Value { at: r.at() - 1, what: "flag", value: value.into() });
                }
            },
            sections: r.list("sections", |r| {
                let (at, code) = (r.at(), r.u32("a section")?);
                let kind = SectionKind::ALL.into_iter().find(|kind| *kind as u32 == code);
                Ok(Section {
                    kind: kind.ok_or(PlanError::Value { at, what: "kind of section", value: code.into() })?,
                    offset: r.u64("a section")?,
                    bytes: r.u64("a section")?,
                    hash: r.array("a section")?,
                })
            })?,
        };
        r.end()?;
        Ok(header)
    }
}

/// A container that has been checked, over the bytes it lies in.
#[derive(Debug, Clone)]
pub struct Container<'a> {
    header: Header,
    bytes: &'a [u8],
}

impl<'a> Container<'a> {
    /// Checks `bytes`, which are a container for memory (base 0) and nothing else: versions, lengths, every
    /// hash, every gap. Whether this machine can run it is asked of [`Header::check_host`].
    ///
    /// # Errors
    /// Everything of [`LoadError`] that bytes alone can show.
    pub fn parse(bytes: &'a [u8]) -> Result<Container<'a>, LoadError> {
        Container::parse_at(bytes, 0)
    }

    /// As [`Container::parse`], for a container that starts at `base` in its file.
    fn parse_at(bytes: &'a [u8], base: u64) -> Result<Container<'a>, LoadError> {
        let found = bytes.len() as u64;
        let corrupted = |section| LoadError::Corrupted { section };
        let fixed: &[u8; FIXED] =
            bytes.first_chunk().ok_or(LoadError::Truncated { expected: (FIXED + FOOTER) as u64, found })?;
        if !fixed.starts_with(MAGIC) {
            return Err(corrupted("the magic number"));
        }
        let u32_at = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let format = u32_at(8);
        if format != FORMAT_VERSION {
            return Err(LoadError::Format { found: format, expected: FORMAT_VERSION });
        }
        let expected = u64::from(u32_at(16)) | u64::from(u32_at(20)) << 32;
        let header_len = u32_at(24) as usize;
        if expected > found {
            return Err(LoadError::Truncated { expected, found });
        }
        if expected < found {
            return Err(corrupted("its length"));
        }
        let footer_at = bytes.len().checked_sub(FOOTER).ok_or(corrupted("the footer"))?;
        let footer = Footer::read(&bytes[footer_at..]).ok_or(corrupted("the footer"))?;
        if footer.bytes != found || footer.offset != base {
            return Err(corrupted("the footer"));
        }
        let header_bytes = bytes[..footer_at].get(..header_len).ok_or(corrupted("the header"))?;
        if *blake3::hash(header_bytes).as_bytes() != footer.header_hash {
            return Err(corrupted("the header"));
        }
        let header = Header::decode(header_bytes).map_err(|_| corrupted("the header"))?;
        if header.sidecar.as_ref().is_some_and(|sidecar| !is_file_name(&sidecar.name)) {
            return Err(corrupted("the name of the weights file"));
        }
        let container = Container { header, bytes };
        container.check_sections(header_len, footer_at)?;
        Ok(container)
    }

    /// Sections stand in order, in bounds and once, have their hashes, and nothing lies between them.
    fn check_sections(&self, header_len: usize, footer_at: usize) -> Result<(), LoadError> {
        let mut end = header_len;
        for (i, section) in self.header.sections.iter().enumerate() {
            let corrupted = LoadError::Corrupted { section: section.kind.name() };
            if self.header.sections[..i].iter().any(|earlier| earlier.kind == section.kind) {
                return Err(corrupted);
            }
            if section.kind == SectionKind::ExternalCode {
                continue;
            }
            let range = range(section).filter(|range| range.start >= end && range.end <= footer_at);
            let Some(range) = range else { return Err(corrupted) };
            if section.kind.is_mapped() && !section.offset.is_multiple_of(SECTION_ALIGN) {
                return Err(corrupted);
            }
            if *blake3::hash(&self.bytes[range.clone()]).as_bytes() != section.hash {
                return Err(corrupted);
            }
            self.check_gap(end..range.start)?;
            end = range.end;
        }
        self.check_gap(end..footer_at)
    }

    fn check_gap(&self, gap: Range<usize>) -> Result<(), LoadError> {
        // A gap is zero, and never longer than an alignment asks for.
        if gap.len() < SECTION_ALIGN as usize && self.bytes[gap].iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(LoadError::Corrupted { section: "the space between sections" })
    }

    /// What the artifact says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of a section, if there is one of this kind here.
    pub fn section(&self, kind: SectionKind) -> Option<&'a [u8]> {
        if kind == SectionKind::ExternalCode {
            return None;
        }
        self.header.section(kind).and_then(range).map(|range| &self.bytes[range])
    }

    /// The compiler's description of the model: JSON, or nothing.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn meta(&self) -> Result<&'a str, LoadError> {
        let bytes = self.section(SectionKind::Meta).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| LoadError::Corrupted { section: SectionKind::Meta.name() })
    }

    /// The plan.
    ///
    /// # Errors
    /// There is none, or it makes no sense.
    pub fn plan(&self) -> Result<Plan, LoadError> {
        let bytes = self.section(SectionKind::Plan).ok_or(LoadError::Corrupted { section: "the plan" })?;
        Ok(Plan::decode(bytes)?)
    }
}

fn range(section: &Section) -> Option<Range<usize>> {
    let start = usize::try_from(section.offset).ok()?;
    Some(start..start.checked_add(usize::try_from(section.bytes).ok()?)?)
}

/// Whether the name stays in its folder.
pub(crate) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0', ':'])
}

/// The last bytes of a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footer {
    /// Where the container starts in its file.
    pub(crate) offset: u64,
    /// Its length, with the footer.
    pub(crate) bytes: u64,
    pub(crate) header_hash: [u8; 32],
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER] {
        let mut out = [0; FOOTER];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        out[24..56].copy_from_slice(&self.header_hash);
        out
    }

    /// `None` where these are no footer.
    fn read(bytes: &[u8]) -> Option<Footer> {
        let mut r = Reader::new(bytes);
        let magic = r.take(8, "the magic").ok()?;
        let footer = Footer {
            offset: r.u64("the offset").ok()?,
            bytes: r.u64("the length").ok()?,
            header_hash: r.array("the hash").ok()?,
        };
        let zeros = r.take(8, "zeros").ok()?;
        (magic == MAGIC && zeros == [0; 8]).then_some(footer)
    }
}

/// A file that holds a container, mapped and checked.
pub struct Artifact {
    file: File,
    path: PathBuf,
    pages: Mmap,
    range: Range<usize>,
}

impl Artifact {
    /// Opens the file at `path`. The file must not change while it is open.
    ///
    /// # Errors
    /// It can't be read, carries no model, or carries one that is damaged.
    pub fn open(path: &Path) -> Result<Artifact, LoadError> {
        let io = |error: std::io::Error| LoadError::Io {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        let file = File::open(path).map_err(io)?;
        // A sidecar lies beside the file itself, not beside a link to it, as for a running program.
        let path = path.canonicalize().map_err(io)?;
        Artifact::of_file(file, &path)
    }

    /// The file of the running program.
    pub(crate) fn own_executable() -> Result<Artifact, LoadError> {
        let lost = |error: std::io::Error| LoadError::OwnExecutable { why: error.to_string() };
        let path = std::env::current_exe().map_err(lost)?;
        // On Linux the link itself still leads to the file when its name no longer does.
        let file = if cfg!(target_os = "linux") { File::open("/proc/self/exe") } else { File::open(&path) };
        Artifact::of_file(file.map_err(lost)?, &path)
    }

    fn of_file(file: File, path: &Path) -> Result<Artifact, LoadError> {
        let io = |error: std::io::Error| LoadError::Io {
            path: path.display().to_string(),
            why: error.to_string(),
        };
        let stripped = || LoadError::Stripped { what: path.display().to_string() };
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(stripped());
        }
        // SAFETY: read-only; nobody may change an artifact while it is used, as for any program.
        let pages = unsafe { MmapOptions::new().map(&file) }.map_err(io)?;
        let range = locate(&pages, stripped)?;
        Ok(Artifact { file, path: path.to_owned(), pages, range })
    }

    /// Checks the container and gives access to it.
    ///
    /// # Errors
    /// As [`Container::parse`].
    pub fn container(&self) -> Result<Container<'_>, LoadError> {
        Container::parse_at(&self.pages[self.range.clone()], self.range.start as u64)
    }

    /// The folder in which a sidecar lies.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where a section of the container lies in the file.
    pub(crate) fn range_of(&self, section: &Section) -> Option<Range<usize>> {
        range(section).map(|range| self.range.start + range.start..self.range.start + range.end)
    }

    pub(crate) fn into_pages(self) -> Mmap {
        self.pages
    }
}

/// Finds the container in a file, by the footer; where that is missing, looks for a header to tell a
/// truncated model from none.
fn locate(file: &[u8], stripped: impl Fn() -> LoadError) -> Result<Range<usize>, LoadError> {
    let footer = file.len().checked_sub(FOOTER).and_then(|at| Footer::read(&file[at..]));
    if let Some(footer) = footer {
        let fits = footer.offset.checked_add(footer.bytes) == Some(file.len() as u64);
        let start = usize::try_from(footer.offset).ok().filter(|_| fits);
        let start = start.filter(|start| start.is_multiple_of(SECTION_ALIGN as usize));
        let start = start.ok_or(LoadError::Corrupted { section: "the footer" })?;
        return Ok(start..file.len());
    }
    let starts = (0..file.len()).step_by(SECTION_ALIGN as usize);
    let start = starts.into_iter().find(|start| file[*start..].starts_with(MAGIC)).ok_or_else(stripped)?;
    // Parsing says what is wrong with it: most likely its end is missing.
    Ok(start..file.len())
}
