//! Kernels for GPUs as bytes, and which of their images a GPU runs.

use crate::{
    bytes::{Reader, put_count, put_str},
    error::{GpuError, PlanError},
    plan_bytes::{put_list, put_size, size},
    size::Size,
};

/// A kernel for GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What it is called in messages.
    pub name: String,
    /// What its sizes are called in messages.
    pub sizes: Vec<String>,
    /// What runs, in order.
    pub launches: Vec<Launch>,
    /// Its code, for one architecture after the other.
    pub images: Vec<Image>,
}

/// A launch of a function, which takes a pointer for each of the kernel's arrays and an `i64` for each of its sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The function.
    pub function: String,
    /// How many blocks, over the kernel's sizes; with none, nothing is launched.
    pub blocks: Size,
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of memory that a block's threads share.
    pub shared: u64,
}

/// Code for an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sm_90a` for machine code, `compute_90` for PTX.
    pub arch: String,
    /// A cubin, or the text of PTX.
    pub bytes: Vec<u8>,
}

impl Kernel {
    /// The image that suits a GPU of this compute capability best: machine code for the very GPU, machine code for an
    /// older one of its generation, PTX of the newest version that it knows.
    ///
    /// # Errors
    /// [`GpuError::NoImage`].
    pub fn image_for(&self, gpu: (u32, u32)) -> Result<&Image, GpuError> {
        let best = self.images.iter().filter_map(|image| Some((suits(&image.arch, gpu)?, image)));
        best.max_by_key(|(rank, _)| *rank).map(|(_, image)| image).ok_or_else(|| GpuError::NoImage {
            gpu: format!("sm_{}{}", gpu.0, gpu.1),
            found: self.images.iter().map(|image| image.arch.clone()).collect(),
        })
    }
}

/// How well code for an architecture suits a GPU, the larger the better; `None` if it does not run there.
fn suits(arch: &str, gpu: (u32, u32)) -> Option<(bool, u32, bool)> {
    let (is_code, rest) = match arch.strip_prefix("sm_") {
        Some(rest) => (true, rest),
        None => (false, arch.strip_prefix("compute_")?),
    };
    let digits = rest.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u32 = digits.parse().ok()?;
    let (of, here) = ((number / 10, number % 10), gpu.0 * 10 + gpu.1);
    let runs = match &rest[digits.len()..] {
        // What is for one GPU alone.
        "a" => of == gpu,
        "f" => of.0 == gpu.0 && of.1 <= gpu.1,
        "" if is_code => of.0 == gpu.0 && of.1 <= gpu.1,
        "" => number <= here,
        _ => false,
    };
    runs.then_some((is_code, number, rest.len() > digits.len()))
}

/// The section of a container with these kernels, which are those of its plan, in order.
pub fn encode(kernels: &[Kernel]) -> Vec<u8> {
    let mut out = Vec::new();
    put_list(&mut out, kernels, |out, kernel| {
        put_str(out, &kernel.name);
        put_list(out, &kernel.sizes, |out, name| put_str(out, name));
        put_list(out, &kernel.launches, |out, launch| {
            put_str(out, &launch.function);
            put_size(out, &launch.blocks);
            out.extend_from_slice(&launch.threads.to_le_bytes());
            out.extend_from_slice(&launch.shared.to_le_bytes());
        });
        put_list(out, &kernel.images, |out, image| {
            put_str(out, &image.arch);
            put_count(out, image.bytes.len());
            out.extend_from_slice(&image.bytes);
        });
    });
    out
}

/// The kernels of a section.
///
/// # Errors
/// The bytes are no such section.
pub fn decode(bytes: &[u8]) -> Result<Vec<Kernel>, PlanError> {
    let mut r = Reader::new(bytes);
    let kernels = r.list("kernels", |r| {
        Ok(Kernel {
            name: r.string("a kernel's name")?,
            sizes: r.list("sizes", |r| r.string("a size's name"))?,
            launches: r.list("launches", launch)?,
            images: r.list("images", image)?,
        })
    })?;
    r.end()?;
    Ok(kernels)
}

fn launch(r: &mut Reader<'_>) -> Result<Launch, PlanError> {
    Ok(Launch {
        function: r.string("a function's name")?,
        blocks: size(r)?,
        threads: r.u32("a launch")?,
        shared: r.u64("a launch")?,
    })
}

fn image(r: &mut Reader<'_>) -> Result<Image, PlanError> {
    let arch = r.string("an architecture")?;
    let count = r.u32("an image")? as usize;
    Ok(Image { arch, bytes: r.take(count, "an image")?.to_vec() })
}
