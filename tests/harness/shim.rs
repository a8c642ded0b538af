//! CUDA sources on a CPU: compiled by a C++ compiler with `tests/cuda/shim.h` in front, and run in a process of its own.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cuda::{Source, Sums};
use ir::program::Program;
use ir::{Dim, Tensor};
use reference::{Kernels, WalkError};

/// The C++ compiler.
pub(crate) fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned())
}

/// Is there a C++ compiler? Says so if not: nothing else in the tests needs one.
#[allow(clippy::print_stderr, reason = "who reads the tests should know what was not run")]
pub fn is_there() -> bool {
    let there = Command::new(compiler()).arg("--version").output().is_ok_and(|done| done.status.success());
    if !there {
        eprintln!("there is no C++ compiler (`{}`): GPU kernels were not run", compiler());
    }
    there
}

/// The kernels of a program as a process.
pub struct Shim {
    sources: Vec<Source>,
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Shim {
    /// The kernels of a program that was scheduled for a GPU, as they are by default.
    ///
    /// # Errors
    /// What the emitter or the compiler says.
    pub fn of(program: &Program) -> Result<Shim, String> {
        Shim::with(program, Sums::Regrouped)
    }

    /// The same with sums that are made so.
    ///
    /// # Errors
    /// As [`Shim::of`].
    pub fn with(program: &Program, sums: Sums) -> Result<Shim, String> {
        Shim::of_sources(cuda::emit(program, sums).map_err(|error| error.to_string())?)
    }

    /// Sources as they are.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn of_sources(sources: Vec<Source>) -> Result<Shim, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let [text, program] = ["kernels.cpp", "kernels"].map(|file| folder.path().join(file));
        std::fs::write(&text, whole(&sources)).map_err(|e| e.to_string())?;
        let mut command = Command::new(compiler());
        command.args([
            "-std=c++17",
            "-O1",
            "-fwrapv",
            "-fno-strict-aliasing",
            "-ffp-contract=off",
            // Its checks of jumps know one stack only.
            "-U_FORTIFY_SOURCE",
            "-w",
            "-o",
        ]);
        let made = command.arg(&program).arg(&text).output().map_err(|e| format!("the C++ compiler: {e}"))?;
        if !made.status.success() {
            return Err(format!("the C++ compiler: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| e.to_string())?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = (to.ok_or("no input")?, from.ok_or("no output")?);
        Ok(Shim { sources, child, to, from })
    }

    /// Runs a launch of a kernel.
    fn launch(
        &mut self,
        number: usize,
        [blocks, threads, shared]: [u64; 3],
        sizes: &[i64],
        arrays: &mut [Tensor],
    ) -> Result<(), String> {
        let mut request = Vec::new();
        request.extend((number as u32).to_le_bytes());
        request.extend(blocks.to_le_bytes());
        request.extend((threads as u32).to_le_bytes());
        request.extend(shared.to_le_bytes());
        request.extend((arrays.len() as u32).to_le_bytes());
        for array in arrays.iter() {
            request.extend((array.bytes().len() as u64).to_le_bytes());
            request.extend(array.bytes());
        }
        request.extend((sizes.len() as u32).to_le_bytes());
        sizes.iter().for_each(|size| request.extend(size.to_le_bytes()));
        let lost = |e: std::io::Error| format!("the process is gone: {e}");
        self.to.write_all(&request).and_then(|()| self.to.flush()).map_err(lost)?;
        let mut length = [0; 4];
        self.from.read_exact(&mut length).map_err(lost)?;
        let mut message = vec![0; u32::from_le_bytes(length) as usize];
        self.from.read_exact(&mut message).map_err(lost)?;
        for array in arrays {
            let mut bytes = vec![0; array.bytes().len()];
            self.from.read_exact(&mut bytes).map_err(lost)?;
            *array = Tensor::new(array.dtype(), array.shape().to_vec(), bytes)
                .ok_or("bug: as many bytes as before")?;
        }
        if message.is_empty() { Ok(()) } else { Err(String::from_utf8_lossy(&message).into_owned()) }
    }
}

impl Kernels for Shim {
    fn call(
        &mut self,
        program: &Program,
        kernel: usize,
        sizes: &[i64],
        arrays: &mut [Tensor],
    ) -> Result<(), WalkError> {
        let names = &program.kernels[kernel].sizes;
        let before: usize = self.sources[..kernel].iter().map(|source| source.launches.len()).sum();
        for (number, launch) in self.sources[kernel].launches.clone().into_iter().enumerate() {
            let value = |dim: &Dim| {
                dim.eval(&|symbol| names.iter().position(|name| name == symbol).map(|at| sizes[at]))
            };
            let blocks =
                value(&launch.blocks).ok_or(WalkError::Unbound { dim: launch.blocks.to_string() })?;
            if blocks > 0 {
                let shape = [blocks as u64, u64::from(launch.threads), launch.shared];
                let done = self.launch(before + number, shape, sizes, arrays);
                done.map_err(|why| WalkError::Elsewhere { why })?;
            }
        }
        Ok(())
    }
}

/// All sources as one program.
fn whole(sources: &[Source]) -> String {
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda/shim.h");
    let mut text = format!("#include \"{}\"\n", shim.display());
    for (number, source) in sources.iter().enumerate() {
        let _ = write!(text, "namespace source_{number} {{\n{}\n}}\n", source.text);
    }
    text += "const shim::Function functions[] = {\n";
    for (number, source) in sources.iter().enumerate() {
        for launch in &source.launches {
            let name = &launch.function;
            let _ = writeln!(
                text,
                "  {{\"{name}\", [](void** arrays, long long* sizes) {{ shim::invoke(source_{number}::{name}, arrays, sizes); }}}},"
            );
        }
    }
    text + "  {nullptr, nullptr}};\nint main() { return shim::serve(functions); }\n"
}
