//! A loaded model: plan, kernels as function pointers, weights. Immutable, shared by its sessions.
//!
//! Loading a model means trusting its code as one trusts a program: its hashes tell a damaged artifact
//! from a whole one, not a bad one from a good one. Deliberately absent: anything that changes after
//! loading; that is a [`crate::Session`].

use std::{path::Path, sync::Arc};

use crate::{
    code::Code,
    container::{Artifact, Container, Header, SectionKind},
    cuda,
    device::{Device, Region},
    error::{LoadError, PlanError, RunError},
    plan::Plan,
    services::KernelFn,
    weights::Weights,
};

/// A loaded model.
pub struct Model {
    plan: Plan,
    meta: String,
    header: Header,
    kernels: Vec<KernelFn>,
    weights: Weights,
    /// What runs its kernels, if it is not the processor, and its weights there.
    device: Option<(Arc<dyn Device>, Region)>,
    /// Keeps the kernels' pages; `None` where they are functions of the program, or on a device.
    _code: Option<Code>,
}

/// Where the code of a container in memory is.
#[derive(Clone, Copy)]
pub(crate) enum CodeSource {
    /// In its CODE section, to be copied to executable pages.
    Section,
    /// In executable memory of the program.
    Program { start: *const u8, len: usize },
}

/// The kernels of a container.
enum Kernels {
    Code(Code),
    Gpu(Vec<cuda::Kernel>),
}

impl Model {
    /// Loads the model in the file at `path`: an executable that egraft wrote, or a bare container. Code
    /// and weights are mapped from the file, which must not change as long as the model lives. A sidecar
    /// is looked for in the same folder.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_file(path: &Path) -> Result<Arc<Model>, LoadError> {
        Model::from_artifact(Artifact::open(path)?)
    }

    /// Loads the model that is appended to the running program.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn own_executable() -> Result<Arc<Model>, LoadError> {
        Model::from_artifact(Artifact::own_executable()?)
    }

    /// Loads an opened artifact, checking it first.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_artifact(artifact: Artifact) -> Result<Arc<Model>, LoadError> {
        let container = artifact.container()?;
        container.header().check_host()?;
        let (plan, meta) = (container.plan()?, container.meta()?.to_owned());
        let header = container.header().clone();
        let place = |kind| header.section(kind).and_then(|section| artifact.range_of(section));
        let kernels = match (container.section(SectionKind::GpuKernels), place(SectionKind::Code)) {
            (Some(section), _) => Kernels::Gpu(cuda::decode(section)?),
            (None, Some(code)) => Kernels::Code(Code::map(artifact.file(), code.start as u64, code.len())?),
            (None, None) => {
                return Err(LoadError::Code {
                    why: "the file holds a model without its code: it belongs to a library",
                });
            }
        };
        let weights = match (&header.sidecar, place(SectionKind::Weights)) {
            (Some(sidecar), _) => Weights::of_sidecar(artifact.folder(), sidecar)?,
            (None, Some(range)) => Weights::of_artifact(artifact.into_pages(), range.start, range.end),
            (None, None) => Weights::none(),
        };
        Model::assemble(plan, kernels, weights, meta, header)
    }

    /// Loads a container in memory; code and weights are copied. `folder` is where a sidecar lies.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn from_container(bytes: &[u8], folder: Option<&Path>) -> Result<Arc<Model>, LoadError> {
        Model::from_memory(bytes, CodeSource::Section, folder, |weights| Ok(Weights::copy_of(weights)?))
    }

    /// Loads a container that is part of the program; only code in a CODE section is copied.
    pub(crate) fn from_program(
        bytes: &'static [u8],
        code: CodeSource,
        folder: Option<&Path>,
    ) -> Result<Arc<Model>, LoadError> {
        Model::from_memory(bytes, code, folder, Weights::of_program)
    }

    fn from_memory<'a>(
        bytes: &'a [u8],
        code: CodeSource,
        folder: Option<&Path>,
        embedded: impl Fn(&'a [u8]) -> Result<Weights, LoadError>,
    ) -> Result<Arc<Model>, LoadError> {
        let container = Container::parse(bytes)?;
        container.header().check_host()?;
        let header = container.header().clone();
        let kernels = match container.section(SectionKind::GpuKernels) {
            Some(section) => Kernels::Gpu(cuda::decode(section)?),
            None => Kernels::Code(Model::code_from_memory(&container, code)?),
        };
        let weights = match (&header.sidecar, container.section(SectionKind::Weights)) {
            (Some(sidecar), _) => Weights::of_sidecar(folder.unwrap_or(Path::new("")), sidecar)?,
            (None, Some(section)) => embedded(section)?,
            (None, None) => Weights::none(),
        };
        Model::assemble(container.plan()?, kernels, weights, container.meta()?.to_owned(), header)
    }

    fn code_from_memory(container: &Container<'_>, code: CodeSource) -> Result<Code, LoadError> {
        let recorded = container.header().section(SectionKind::ExternalCode);
        match (code, container.section(SectionKind::Code), recorded) {
            (CodeSource::Section, Some(image), _) => Code::copy(image),
            (CodeSource::Program { start, len }, None, Some(recorded)) => {
                let corrupted = LoadError::Corrupted { section: "the code" };
                if len as u64 != recorded.bytes {
                    return Err(corrupted);
                }
                // SAFETY: the caller of `from_program` vouches for `len` readable bytes.
                let image = unsafe { std::slice::from_raw_parts(start, len) };
                if *blake3::hash(image).as_bytes() != recorded.hash {
                    return Err(corrupted);
                }
                // SAFETY: as above; it is executable, and part of the program.
                Ok(unsafe { Code::in_place(start, len) })
            }
            (CodeSource::Section, None, _) => {
                Err(LoadError::Code { why: "the container has no code, and no code was passed with it" })
            }
            (CodeSource::Program { .. }, _, _) => {
                Err(LoadError::Code { why: "code was passed with a container that has its own" })
            }
        }
    }

    /// A model from its parts: `code` is copied to executable pages.
    ///
    /// # Errors
    /// The plan is not consistent, does not fit the code or the weights, or the system denies executable
    /// memory.
    pub fn from_parts(
        plan: Plan,
        code: &[u8],
        weights: Weights,
        meta: String,
    ) -> Result<Arc<Model>, LoadError> {
        plan.validate()?;
        Model::assemble(plan, Kernels::Code(Code::copy(code)?), weights, meta, Header::in_memory())
    }

    /// A model whose kernels are functions of this program, in the order of the plan's kernels: the way to
    /// link kernels statically. The offsets in the plan are not used.
    ///
    /// # Errors
    /// The plan is not consistent, or does not fit the functions or the weights.
    ///
    /// # Safety
    /// Each function may be called with the buffers and sizes of every step that names it, on the sizes
    /// that the plan allows; it keeps within the buffers.
    pub unsafe fn from_functions(
        plan: Plan,
        kernels: Vec<KernelFn>,
        weights: Weights,
        meta: String,
    ) -> Result<Arc<Model>, LoadError> {
        plan.validate()?;
        if kernels.len() != plan.kernels.len() {
            let why = format!("{} functions for {} kernels", kernels.len(), plan.kernels.len());
            return Err(PlanError::Inconsistent { place: "the kernels".to_owned(), why }.into());
        }
        check_weights(&plan, weights.bytes())?;
        let header = Header::in_memory();
        Ok(Arc::new(Model { plan, meta, header, kernels, weights, device: None, _code: None }))
    }

    /// A model whose kernels, in the order of the plan's, and memory are on a device. The weights are copied there.
    ///
    /// # Errors
    /// The plan is not consistent, or does not fit the weights; the device has not enough memory.
    pub fn on_device(
        plan: Plan,
        device: Arc<dyn Device>,
        weights: &[u8],
        meta: String,
    ) -> Result<Arc<Model>, LoadError> {
        plan.validate()?;
        Model::placed(plan, device, weights, meta, Header::in_memory())
    }

    fn placed(
        plan: Plan,
        device: Arc<dyn Device>,
        weights: &[u8],
        meta: String,
        header: Header,
    ) -> Result<Arc<Model>, LoadError> {
        check_weights(&plan, weights)?;
        let copied = || -> Result<Region, RunError> {
            let mut region = Region::none(Some(&device.queue()?));
            region.reserve(weights.len(), "the weights")?;
            region.write(0, weights)?;
            Ok(region)
        };
        let region = copied().map_err(|error| LoadError::Device { why: error.to_string() })?;
        Ok(Arc::new(Model {
            plan,
            meta,
            header,
            kernels: Vec::new(),
            weights: Weights::none(),
            device: Some((device, region)),
            _code: None,
        }))
    }

    fn assemble(
        plan: Plan,
        kernels: Kernels,
        weights: Weights,
        meta: String,
        header: Header,
    ) -> Result<Arc<Model>, LoadError> {
        let code = match kernels {
            Kernels::Code(code) => code,
            Kernels::Gpu(kernels) => {
                if kernels.len() != plan.kernels.len() {
                    let why = format!("{} for GPUs where the plan has {}", kernels.len(), plan.kernels.len());
                    return Err(PlanError::Inconsistent { place: "the kernels".to_owned(), why }.into());
                }
                return Model::placed(plan, cuda::load(&kernels)?, weights.bytes(), meta, header);
            }
        };
        check_weights(&plan, weights.bytes())?;
        let kernel = |slot: &crate::plan::KernelSlot| {
            code.kernel(slot.offset).ok_or_else(|| PlanError::Inconsistent {
                place: format!("kernel `{}`", slot.name),
                why: format!("its offset {} lies outside the code", slot.offset),
            })
        };
        let kernels = plan.kernels.iter().map(kernel).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Model { plan, meta, header, kernels, weights, device: None, _code: Some(code) }))
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The compiler's description of the model: JSON.
    pub fn meta(&self) -> &str {
        &self.meta
    }

    /// What the artifact says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The weights section; none if they are on a device.
    pub fn weights(&self) -> &[u8] {
        self.weights.bytes()
    }

    /// What runs its kernels, if it is not the processor.
    pub fn device(&self) -> Option<&Arc<dyn Device>> {
        self.device.as_ref().map(|(device, _)| device)
    }

    /// The first byte of the weights where kernels read them, and how many there are.
    pub(crate) fn weights_start(&self) -> (*mut u8, usize) {
        match &self.device {
            None => (self.weights().as_ptr().cast_mut(), self.weights().len()),
            Some((_, region)) => (region.start(), region.len()),
        }
    }

    /// Compares every weight with its recorded hash. Loading does this for embedded weights as a whole;
    /// for a sidecar only this does. Of those on a device nothing is said.
    ///
    /// # Errors
    /// The first weight that differs.
    pub fn verify_weights(&self) -> Result<(), LoadError> {
        let here = if self.device.is_some() { &[][..] } else { &self.plan.weights };
        for slot in here {
            let bytes = &self.weights()[slot.offset as usize..(slot.offset + slot.bytes) as usize];
            if *blake3::hash(bytes).as_bytes() != slot.hash {
                return Err(LoadError::Weight { name: slot.name.clone() });
            }
        }
        Ok(())
    }

    pub(crate) fn kernel(&self, index: u32) -> KernelFn {
        self.kernels[index as usize]
    }
}

/// Every weight lies in the section.
fn check_weights(plan: &Plan, weights: &[u8]) -> Result<(), LoadError> {
    let len = weights.len() as u64;
    match plan.weights.iter().find(|slot| slot.offset + slot.bytes > len) {
        None => Ok(()),
        Some(slot) => Err(PlanError::Inconsistent {
            place: format!("weight `{}`", slot.name),
            why: format!("it ends at byte {} of {len}", slot.offset + slot.bytes),
        }
        .into()),
    }
}
