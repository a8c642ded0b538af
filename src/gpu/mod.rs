//! Models for GPUs: the sources of their kernels, and what NVRTC makes of those.

mod cache;
mod nvrtc;

use cuda::{Form, Nvrtc, Sums};
use ir::program::Program;
use passes::FpMode;
use passes::pipeline::{Observer, State};
use runtime::cuda::{Gpu, Image, Kernel, Launch};

use crate::compile::{self, Code, Compiled, optimize};
use crate::error::Error;
use crate::options::{Options, Recorded};
use crate::plan::size_in_kernel;
use crate::source::Source;
use cache::Cache;

/// The architectures of GPUs that code is made for where nobody says.
pub const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90a", "sm_100a"];

/// The kernels of a model as CUDA C++, one source for each.
///
/// # Errors
/// What passes or the GPU backend cannot go on with.
pub fn sources(
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Vec<cuda::Source>, Error> {
    let Source { state, provenance, .. } = optimize(source, options, observer)?;
    let State::Program(program) = &state else { return Err(Error::NotLowered) };
    Ok(cuda::emit(program, sums(provenance.options.cx().fp))?)
}

/// How sums of products may be made.
pub fn sums(fp: FpMode) -> Sums {
    match fp {
        FpMode::Strict => Sums::InOrder,
        FpMode::Reassoc => Sums::Regrouped,
        FpMode::Fast => Sums::Rounded,
    }
}

/// A model compiled for the GPU of this machine: there is code for no other.
///
/// # Errors
/// There is no GPU, or no NVRTC that its driver goes with; what passes, the GPU backend, NVRTC or the driver cannot go on
/// with.
pub fn compile_here(
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Compiled, Error> {
    // What is not there is told before any work.
    let gpu = Gpu::find().map_err(runtime::LoadError::from)?;
    let compiler = Compiler::find(Some(gpu.driver().0))?;
    let targets = [(gpu.arch(), Form::Cubin)];
    let emit =
        |program: &Program, options: &Recorded| Ok(Code::Gpu(compiler.kernels(program, options, &targets)?));
    compile::with(emit, source, options, observer)
}

/// NVRTC, and what it has made before.
pub struct Compiler {
    nvrtc: Nvrtc,
    cache: Cache,
}

impl Compiler {
    /// NVRTC: the system's, or else that of the package `nvidia-cuda-nvrtc` of $EGRAFT_PYTHON or `python3`. A driver takes
    /// nothing of a newer CUDA: of several packages one of no later version than `newest` comes first.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(newest: Option<u32>) -> Result<Compiler, Error> {
        Ok(Compiler { nvrtc: nvrtc::load(newest)?, cache: Cache::of_user() })
    }

    /// The version of NVRTC, such as 13.0.
    pub fn version(&self) -> String {
        self.nvrtc.version()
    }

    /// What becomes of each source, for an architecture such as `sm_90a`.
    ///
    /// # Errors
    /// What NVRTC refuses.
    pub fn images(&self, sources: &[cuda::Source], arch: &str, form: Form) -> Result<Vec<Vec<u8>>, Error> {
        sources.iter().map(|source| self.image(source, arch, form)).collect()
    }

    fn image(&self, source: &cuda::Source, arch: &str, form: Form) -> Result<Vec<u8>, Error> {
        let entry = self.cache.entry(&[&self.version(), arch, form.name(), &source.text]);
        if let Some(image) = entry.read() {
            return Ok(image);
        }
        let image = self.nvrtc.compile(&source.text, &source.name, arch, form)?;
        entry.write(&image);
        Ok(image)
    }

    /// The kernels of a program with code for each of these.
    pub(crate) fn kernels(
        &self,
        program: &Program,
        options: &Recorded,
        targets: &[(String, Form)],
    ) -> Result<Vec<Kernel>, Error> {
        let sources = cuda::emit(program, sums(options.cx().fp))?;
        let kernel = |(source, kernel): (cuda::Source, &ir::kernel::Kernel)| {
            let image = |(arch, form): &(String, Form)| {
                let bytes = self.image(&source, arch, *form)?;
                Ok(Image { arch: form.architecture(arch), bytes })
            };
            let images = targets.iter().map(image).collect::<Result<_, Error>>()?;
            let launch = |launch: cuda::Launch| {
                let blocks = size_in_kernel(kernel, &launch.blocks)?;
                let cuda::Launch { function, threads, shared, .. } = launch;
                Ok(Launch { function, blocks, threads, shared })
            };
            Ok(Kernel {
                name: source.name,
                sizes: kernel.sizes.iter().map(ToString::to_string).collect(),
                launches: source.launches.into_iter().map(launch).collect::<Result<_, Error>>()?,
                images,
            })
        };
        sources.into_iter().zip(&program.kernels).map(kernel).collect()
    }
}

/// What the kernels of an artifact are compiled to: machine code for each architecture, and PTX of the oldest of them for
/// GPUs that are newer than all.
pub(crate) fn targets(options: &Options) -> Vec<(String, Form)> {
    let common = || ARCHITECTURES.map(str::to_owned).to_vec();
    let architectures = if options.arch.is_empty() { common() } else { options.arch.clone() };
    let plain = |arch: &String| arch.trim_end_matches(['a', 'f']).to_owned();
    let oldest = architectures.iter().map(plain).min_by_key(|arch| (arch.len(), arch.clone()));
    let ptx = oldest.map(|arch| (arch, Form::Ptx));
    architectures.into_iter().map(|arch| (arch, Form::Cubin)).chain(ptx).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_have_machine_code_and_ptx_of_the_oldest() {
        let of = |arch: &[&str]| {
            let arch = arch.iter().map(|arch| (*arch).to_owned()).collect();
            targets(&Options { arch, ..Options::default() })
        };
        let named = |arch: &str, form| (arch.to_owned(), form);
        assert_eq!(of(&["sm_90a"]), [named("sm_90a", Form::Cubin), named("sm_90", Form::Ptx)]);
        let common = of(&[]);
        assert_eq!(common.len(), 4);
        assert_eq!(common[3], named("sm_80", Form::Ptx));
        assert_eq!(
            of(&["sm_100a", "sm_90a"])[2],
            named("sm_90", Form::Ptx),
            "numbers, not texts, are compared"
        );
    }
}
