//! NVRTC: CUDA C++ to PTX or to machine code. It needs neither a GPU nor a driver, and is looked for when it is needed.

#![allow(unsafe_code, reason = "NVRTC is a C library")]

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr;

use cudarc::nvrtc::sys;

use crate::error::NvrtcError;

/// What a source is compiled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The driver's assembly language, which it compiles for the GPU at hand.
    Ptx,
    /// Machine code of one architecture.
    Cubin,
}

impl Form {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Form::Ptx => "ptx",
            Form::Cubin => "cubin",
        }
    }

    /// What NVRTC calls an architecture such as `sm_90a`: machine code is of a real one, PTX of a virtual one.
    pub fn architecture(self, arch: &str) -> String {
        match self {
            Form::Cubin => arch.to_owned(),
            Form::Ptx => arch.replacen("sm_", "compute_", 1),
        }
    }
}

/// NVRTC, which is loaded once and for all.
#[derive(Debug, Clone, Copy)]
pub struct Nvrtc {
    version: (i32, i32),
}

impl Nvrtc {
    /// The system's NVRTC, or else the first of these files that can be loaded.
    ///
    /// # Errors
    /// [`NvrtcError::Missing`].
    pub fn load(files: &[PathBuf]) -> Result<Nvrtc, NvrtcError> {
        let mut refused = Vec::new();
        let mut files = files.iter();
        // SAFETY: loading a library runs its constructors; those of CUDA's are for that.
        while !unsafe { sys::is_culib_present() } {
            let Some(file) = files.next() else { return Err(NvrtcError::Missing { refused }) };
            if let Err(why) = keep(file) {
                refused.push((file.clone(), why));
            }
        }
        let mut version = (0, 0);
        // SAFETY: the library is there, and both pointers lead to integers.
        unsafe { sys::nvrtcVersion(&mut version.0, &mut version.1) };
        Ok(Nvrtc { version })
    }

    /// Its version, such as 13.0.
    pub fn version(self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// A source, which is called `name` in messages, for an architecture such as `sm_90a`.
    ///
    /// # Errors
    /// [`NvrtcError::Compile`].
    pub fn compile(self, text: &str, name: &str, arch: &str, form: Form) -> Result<Vec<u8>, NvrtcError> {
        let failed = |log: String| NvrtcError::Compile {
            version: self.version(),
            name: name.to_owned(),
            arch: arch.to_owned(),
            log,
        };
        let c =
            |text: &str| CString::new(text).map_err(|_| failed("a text has a zero byte in it".to_owned()));
        let arch = form.architecture(arch);
        let program = Program::new(&c(text)?, &c(name)?).map_err(&failed)?;
        let options = [c(&format!("--gpu-architecture={arch}"))?, c("--std=c++17")?, c("--fmad=false")?];
        program.compile(&options).map_err(failed)?;
        match form {
            Form::Ptx => program.read(sys::nvrtcGetPTXSize, sys::nvrtcGetPTX),
            Form::Cubin => program.read(sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN),
        }
        .map_err(|result| failed(format!("{result:?}")))
    }
}

/// Loads a library for good, so that who asks for it by name alone finds it.
fn keep(file: &Path) -> Result<(), String> {
    #[cfg(unix)]
    // SAFETY: as in `Nvrtc::load`.
    let library = unsafe {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL)
    };
    #[cfg(not(unix))]
    // SAFETY: as in `Nvrtc::load`.
    let library = unsafe { libloading::Library::new(file) };
    library.map(std::mem::forget).map_err(|error| error.to_string())
}

/// A source on its way.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once.
        unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

impl Program {
    fn new(text: &CString, name: &CString) -> Result<Program, String> {
        let mut program = ptr::null_mut();
        // SAFETY: both texts end in a zero and are copied; there are no headers.
        let result = unsafe {
            sys::nvrtcCreateProgram(&mut program, text.as_ptr(), name.as_ptr(), 0, ptr::null(), ptr::null())
        };
        if result == sys::nvrtcResult::NVRTC_SUCCESS {
            Ok(Program(program))
        } else {
            Err(format!("{result:?}"))
        }
    }

    /// The error is what it prints.
    fn compile(&self, options: &[CString]) -> Result<(), String> {
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program is there, and so are all options until it returns.
        let result = unsafe { sys::nvrtcCompileProgram(self.0, pointers.len() as i32, pointers.as_ptr()) };
        if result == sys::nvrtcResult::NVRTC_SUCCESS {
            return Ok(());
        }
        let log = self.read(sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
        Err(if log.is_empty() { format!("{result:?}") } else { log })
    }

    /// One of its results, by the functions that tell its length and copy it.
    fn read(
        &self,
        length: unsafe fn(sys::nvrtcProgram, *mut usize) -> sys::nvrtcResult,
        copy: unsafe fn(sys::nvrtcProgram, *mut c_char) -> sys::nvrtcResult,
    ) -> Result<Vec<u8>, sys::nvrtcResult> {
        let check = |result| if result == sys::nvrtcResult::NVRTC_SUCCESS { Ok(()) } else { Err(result) };
        let mut bytes = 0;
        // SAFETY: the program is there, and the pointer leads to a length.
        check(unsafe { length(self.0, &mut bytes) })?;
        let mut result = vec![0_u8; bytes];
        // SAFETY: there is room for as many bytes as it has said.
        check(unsafe { copy(self.0, result.as_mut_ptr().cast()) })?;
        Ok(result)
    }
}
