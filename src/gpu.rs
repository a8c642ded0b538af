//! Models for GPUs: the sources of their kernels, what NVRTC makes of those, and models that run on a GPU.

use std::sync::Arc;

use device::{Form, Gpu, Kernel, Launch, Nvrtc};
use ir::program::Program;
use passes::pipeline::{Observer, State};
use runtime::Model;
use serde_json::json;

use crate::compile::{EMIT, optimize};
use crate::error::Error;
use crate::options::Options;
use crate::packed::Packed;
use crate::plan::{plan, size_in_kernel};
use crate::source::Source;
use crate::summary;

/// The kernels of a model as CUDA C++, one source for each.
///
/// # Errors
/// What passes or the GPU backend cannot go on with.
pub fn sources(
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Vec<cuda::Source>, Error> {
    let Source { state, .. } = optimize(source, options, observer)?;
    let State::Program(program) = &state else { return Err(Error::NotLowered) };
    Ok(cuda::emit(program)?)
}

/// What NVRTC makes of each source, for an architecture such as `sm_90a`.
///
/// # Errors
/// What NVRTC refuses.
pub fn images(sources: &[cuda::Source], nvrtc: Nvrtc, arch: &str, form: Form) -> Result<Vec<Vec<u8>>, Error> {
    let image = |source: &cuda::Source| nvrtc.compile(&source.text, &source.name, arch, form);
    Ok(sources.iter().map(image).collect::<Result<_, _>>()?)
}

/// A model on a GPU, ready to run.
///
/// # Errors
/// What passes, the GPU backend, NVRTC or the driver cannot go on with.
pub fn model(
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
    gpu: &Gpu,
    nvrtc: Nvrtc,
) -> Result<Arc<Model>, Error> {
    let Source { state, provenance, .. } = optimize(source, options, observer)?;
    observer.before(EMIT);
    let State::Program(program) = &state else { return Err(Error::NotLowered) };
    let kernels = kernels(program, gpu, nvrtc)?;
    observer.after(EMIT, &state, passes::Changed(true));
    let State::Program(program) = &state else { return Err(Error::NotLowered) };
    let weights = Packed::new(program);
    let names: Vec<(String, u64)> = kernels.iter().map(|kernel| (kernel.name.clone(), 0)).collect();
    let plan = plan(program, &names, weights.slots.clone())?;
    let target = json!({"arch": gpu.arch(), "features": [], "device": gpu.name()});
    let meta = summary::meta(program, target, &provenance).to_string();
    let weights = weights.in_memory(program).map_err(runtime::LoadError::from)?;
    Ok(Model::on_device(plan, gpu.load(&kernels)?, &weights, meta)?)
}

/// The kernels of a program as the driver takes them.
fn kernels(program: &Program, gpu: &Gpu, nvrtc: Nvrtc) -> Result<Vec<Kernel>, Error> {
    let sources = cuda::emit(program)?;
    let images = images(&sources, nvrtc, gpu.arch(), Form::Cubin)?;
    let kernel = |((source, image), kernel): ((cuda::Source, Vec<u8>), &ir::kernel::Kernel)| {
        let launch = |launch: cuda::Launch| {
            let blocks = size_in_kernel(kernel, &launch.blocks)?;
            let cuda::Launch { function, threads, shared, .. } = launch;
            Ok(Launch { function, blocks, threads, shared })
        };
        Ok(Kernel {
            name: source.name,
            image,
            sizes: kernel.sizes.iter().map(ToString::to_string).collect(),
            launches: source.launches.into_iter().map(launch).collect::<Result<_, Error>>()?,
        })
    };
    sources.into_iter().zip(images).zip(&program.kernels).map(kernel).collect()
}
