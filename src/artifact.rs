//! Artifacts: executables, libraries and objects, with their headers and weights.
//!
//! An executable is the runner with the model appended: no linker, no compiler. A shared library is linked by the
//! system's `cc`, a static one made by its `ar`. Weights of 16 MiB and more go to a file beside the artifact. All files
//! appear complete or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime::capi::c_header;
use runtime::container::{SECTION_ALIGN, Sidecar};
use runtime::{CodePart, Contents, SidecarWriter, WeightsPart};

use crate::compile::{Code, Compiled};
use crate::disk;
use crate::embed;
use crate::error::Error;
use crate::output::{self, Pending};

/// Weights of fewer bytes than this are embedded.
const EMBEDDED_BELOW: u64 = 16 << 20;

/// The files that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The artifact itself.
    pub artifact: PathBuf,
    /// The C header of a library or an object.
    pub header: Option<PathBuf>,
    /// The file of weights.
    pub sidecar: Option<PathBuf>,
}

impl Compiled {
    /// The room that an artifact and the file of its weights take at most.
    pub fn disk_bytes(&self) -> u64 {
        let program = self.runner().len().max(embed::RUNTIME_LIB.len());
        let parts = [program, self.code.bytes(), self.meta.len(), self.plan.encode().len()];
        // Each part is rounded up to the size that can be mapped, and so are the weights.
        parts.iter().map(|&part| (part as u64).next_multiple_of(SECTION_ALIGN)).sum::<u64>()
            + 2 * SECTION_ALIGN
            + self.weights.bytes
    }

    /// Do the weights go to a file beside the artifact?
    pub fn has_sidecar(&self) -> bool {
        self.weights.bytes >= EMBEDDED_BELOW
    }

    /// Whether an artifact may be made at `out`.
    fn check(&self, out: &Path) -> Result<(), Error> {
        output::check(out)?;
        disk::check(out, self.disk_bytes())
    }

    /// Writes an executable.
    ///
    /// # Errors
    /// The folder does not exist or has no room, or the system refuses; then nothing is left behind.
    pub fn write_executable(&self, out: &Path) -> Result<Written, Error> {
        self.check(out)?;
        let sidecar = self.sidecar(out)?;
        let embedded = self.embedded(&sidecar)?;
        let gpu = self.gpu_kernels();
        let code = match &self.code {
            Code::Processor(image) => CodePart::Embedded(&image.code),
            Code::Gpu(_) => CodePart::Gpu(&gpu),
        };
        let contents = self.contents(code, &sidecar, &embedded);
        let (artifact, ()) =
            Pending::create(out, true, |file| runtime::append(self.runner(), &contents.borrowed(), file))?;
        self.commit(out, artifact, None, sidecar)
    }

    /// Writes a shared library and its C header. Its functions begin with the model's name: that of the file,
    /// without `lib` and the extension.
    ///
    /// # Errors
    /// As [`Compiled::write_executable`]; there is no C compiler, or it fails.
    pub fn write_library(&self, out: &Path) -> Result<Written, Error> {
        self.with_object(out, |name, object| {
            output::with_folder(|folder| {
                let place = |file: &str, content: &[u8]| -> Result<PathBuf, Error> {
                    let path = folder.join(file);
                    output::write(&path, content)?;
                    Ok(path)
                };
                let object = place("model.o", object)?;
                let runtime = place("libegraft.a", embed::RUNTIME_LIB)?;
                // Only the model's own functions are seen: two models fit into one program.
                let exports = format!("{{\n  global: {name}_*;\n  local: *;\n}};\n");
                let script = place("exports", exports.as_bytes())?;
                let linked = folder.join("linked");
                let mut soname = std::ffi::OsString::from("-Wl,-soname,");
                soname.push(out.file_name().unwrap_or_default());
                let mut version_script = std::ffi::OsString::from("-Wl,--version-script=");
                version_script.push(&script);
                let mut cc = Command::new("cc");
                cc.args([
                    "-shared",
                    "-fPIC",
                    "-s",
                    "-Wl,--gc-sections",
                    "-Wl,--build-id=none",
                    "-Wl,-z,defs",
                ])
                .arg(soname)
                .arg(version_script)
                .arg("-o")
                .arg(&linked)
                .args([object, runtime])
                .args(["-lpthread", "-ldl", "-lm"]);
                run("cc", cc)?;
                copy(&linked, out, true)
            })
        })
    }

    /// Writes a static library (the model and all it needs but the system's libraries) and its C header.
    ///
    /// # Errors
    /// As [`Compiled::write_library`], of `ar` instead of `cc`.
    pub fn write_static_library(&self, out: &Path) -> Result<Written, Error> {
        self.with_object(out, |name, object| {
            output::with_folder(|folder| {
                let path = folder.join(format!("{name}.o"));
                output::write(&path, object)?;
                let archive = folder.join("archive.a");
                output::write(&archive, embed::RUNTIME_LIB)?;
                let mut ar = Command::new("ar");
                // Deterministic, with an index, replacing what has the name.
                ar.arg("rsD").args([&archive, &path]);
                run("ar", ar)?;
                copy(&archive, out, false)
            })
        })
    }

    /// Writes an object file and its C header. It needs the runtime, which a static library includes.
    ///
    /// # Errors
    /// As [`Compiled::write_executable`].
    pub fn write_object(&self, out: &Path) -> Result<Written, Error> {
        self.with_object(out, |_, object| Ok(Pending::create(out, false, |file| file.write_all(object))?.0))
    }

    /// Makes the object with the model's code and container, and the header; `artifact` makes the file of them.
    fn with_object(
        &self,
        out: &Path,
        artifact: impl FnOnce(&str, &[u8]) -> Result<Pending, Error>,
    ) -> Result<Written, Error> {
        self.check(out)?;
        let name = c_name(out);
        let header_path = out.with_file_name(format!("{name}.h"));
        if header_path == out {
            return Err(Error::SameFile {
                path: out.to_owned(),
                what: "the name of the artifact's C header",
            });
        }
        let sidecar = self.sidecar(out)?;
        let embedded = self.embedded(&sidecar)?;
        let gpu = self.gpu_kernels();
        let none = cranelift::Image::none();
        let (image, code) = match &self.code {
            Code::Processor(image) => (image, CodePart::External(&image.code)),
            Code::Gpu(_) => (&none, CodePart::Gpu(&gpu)),
        };
        let contents = self.contents(code, &sidecar, &embedded);
        let symbols = cranelift::ModelSymbols { prefix: name.clone() };
        let object = cranelift::object(image, &symbols, &contents.borrowed().to_bytes())?;
        let (header, ()) =
            Pending::create(&header_path, false, |file| file.write_all(c_header(&name).as_bytes()))?;
        let artifact = artifact(&name, &object)?;
        self.commit(out, artifact, Some((header_path, header)), sidecar)
    }

    /// The program that the model is appended to.
    fn runner(&self) -> &'static [u8] {
        match &self.code {
            Code::Processor(_) => embed::RUNNER,
            Code::Gpu(_) => embed::CUDA_RUNNER,
        }
    }

    /// Its executable needs nothing of the system that it runs on but its kernel.
    pub fn executable_is_static(&self) -> bool {
        matches!(self.code, Code::Processor(_)) && embed::RUNNER_IS_STATIC
    }

    /// The section of its kernels, if they are for GPUs.
    fn gpu_kernels(&self) -> Vec<u8> {
        match &self.code {
            Code::Processor(_) => Vec::new(),
            Code::Gpu(kernels) => runtime::cuda::encode(kernels),
        }
    }

    /// The file of weights beside `out`, if they are many.
    fn sidecar(&self, out: &Path) -> Result<Option<(PathBuf, Pending, Sidecar)>, Error> {
        if !self.has_sidecar() {
            return Ok(None);
        }
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".weights");
        let shown = name.to_string_lossy().into_owned();
        let path = out.with_file_name(name);
        let (pending, sidecar) = Pending::create(&path, false, |file| {
            let mut sidecar = SidecarWriter::new(file)?;
            self.weights.write(&self.program, &mut sidecar)?;
            sidecar.finish(&shown)
        })?;
        Ok(Some((path, pending, sidecar)))
    }

    /// The weights, if they are embedded.
    fn embedded(&self, sidecar: &Option<(PathBuf, Pending, Sidecar)>) -> Result<Vec<u8>, Error> {
        let mut section = Vec::new();
        if sidecar.is_none() {
            self.weights.write(&self.program, &mut section).expect("memory takes what is written to it");
        }
        Ok(section)
    }

    fn contents<'a>(
        &'a self,
        code: CodePart<'a>,
        sidecar: &Option<(PathBuf, Pending, Sidecar)>,
        embedded: &'a [u8],
    ) -> Parts<'a> {
        let weights = match sidecar {
            None => WeightsPart::Embedded(embedded),
            Some((_, _, sidecar)) => WeightsPart::Sidecar(sidecar.clone()),
        };
        let (arch, features) = match &self.code {
            Code::Processor(image) => (image.arch.as_str(), image.features.as_slice()),
            // What drives a GPU runs on any processor like this.
            Code::Gpu(_) => (std::env::consts::ARCH, &[][..]),
        };
        let features = features.iter().map(String::as_str).collect();
        Parts { compiled: self, arch, features, code, weights }
    }

    fn commit(
        &self,
        out: &Path,
        artifact: Pending,
        header: Option<(PathBuf, Pending)>,
        sidecar: Option<(PathBuf, Pending, Sidecar)>,
    ) -> Result<Written, Error> {
        let mut written = Written { artifact: out.to_owned(), header: None, sidecar: None };
        // The artifact comes last: once it is there, all that it needs is.
        if let Some((path, pending, _)) = sidecar {
            pending.commit()?;
            written.sidecar = Some(path);
        }
        if let Some((path, pending)) = header {
            pending.commit()?;
            written.header = Some(path);
        }
        artifact.commit()?;
        Ok(written)
    }
}

/// What [`Contents`] borrows from.
struct Parts<'a> {
    compiled: &'a Compiled,
    arch: &'a str,
    features: Vec<&'a str>,
    code: CodePart<'a>,
    weights: WeightsPart<'a>,
}

impl Parts<'_> {
    fn borrowed(&self) -> Contents<'_> {
        Contents {
            compiler: env!("CARGO_PKG_VERSION"),
            arch: self.arch,
            features: &self.features,
            meta: &self.compiled.meta,
            plan: &self.compiled.plan,
            code: self.code,
            weights: self.weights.clone(),
        }
    }
}

/// Runs a program of the system; what it prints is only shown if it fails.
fn run(program: &'static str, mut command: Command) -> Result<(), Error> {
    let done = command.output().map_err(|source| Error::NoTool { program, source })?;
    if done.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(Error::Tool { program, status: done.status.to_string(), output })
}

/// What another program made, as a file on its way to `out`.
fn copy(from: &Path, out: &Path, executable: bool) -> Result<Pending, Error> {
    let read = |source| Error::Read { path: from.to_owned(), source };
    let mut made = std::fs::File::open(from).map_err(read)?;
    Ok(Pending::create(out, executable, |file| std::io::copy(&mut made, file))?.0)
}

/// The model's name as a C identifier, from the name of a file: `libmlp-2.so` is `mlp_2`.
pub fn c_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(stem);
    let mut identifier: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if identifier.is_empty() {
        identifier.push_str("model");
    }
    if identifier.starts_with(|c: char| c.is_ascii_digit()) {
        identifier.insert(0, '_');
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        for (file, name) in [
            ("d/libmlp.so", "mlp"),
            ("mlp.so.1", "mlp"),
            ("lib.a", "lib"),
            ("lib", "lib"),
            ("my-model v2.o", "my_model_v2"),
            ("2layers.so", "_2layers"),
            ("größe.so", "gr__e"),
            (".so", "model"),
        ] {
            assert_eq!(c_name(Path::new(file)), name, "{file}");
        }
    }

    #[test]
    fn missing_programs_are_named() {
        let error = run("cc", Command::new("/nonexistent/cc")).expect_err("no such program");
        assert_eq!(error.code(), "egraft::cli::no_tool");
        assert!(error.help().is_some_and(|help| help.contains("C compiler")));
    }

    #[cfg(unix)]
    #[test]
    fn failures_show_what_was_printed() {
        let mut sh = Command::new("sh");
        sh.args(["-c", "echo some reason >&2; exit 3"]);
        let error = run("cc", sh).expect_err("it exits with 3").to_string();
        assert!(error.contains("some reason") && error.contains('3'), "{error}");
    }
}
