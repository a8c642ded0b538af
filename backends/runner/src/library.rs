//! A compiled library, loaded into this process and called through its C interface, as a program in C calls it.
//!
//! Promises: what the library says is wrong is an error with its message; buffers that it is given are as large as
//! it says. A library stays loaded until the process ends: nothing in it is ever called after it is gone.
//!
//! Deliberately absent: several entries, state, and systems without `dlopen`.

#![allow(unsafe_code, reason = "functions of a library are called as its C header declares them")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use runtime::DType;

use crate::tensor::{Tensor, byte_len};

/// Why a library can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// The system refuses to load it.
    #[error("{} cannot be loaded: {why}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// It lacks a function of the interface.
    #[error("{} has no function `{name}`", path.display())]
    Function {
        /// The file.
        path: PathBuf,
        /// The function.
        name: String,
    },
    /// One of its functions fails.
    #[error("the compiled library refuses to run: {message}")]
    Call {
        /// What it says.
        message: String,
    },
    /// There is no room for its results.
    #[error("there is not enough memory for the outputs")]
    Memory,
}

impl LibraryError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            LibraryError::Memory => "egraft::runtime::out_of_memory",
            _ => "egraft::cli::library",
        }
    }
}

/// Declares the functions of the interface that are called here, as the header does, and finds them in a library.
macro_rules! interface {
    ($($name:ident($($param:ty),*) -> $returns:ty;)*) => {
        struct Interface {
            $($name: unsafe extern "C" fn($($param),*) -> $returns,)*
        }

        impl Interface {
            fn find(library: &system::Loaded, prefix: &str) -> Result<Interface, String> {
                Ok(Interface {
                    $($name: {
                        let name = format!("{prefix}_{}", stringify!($name));
                        let address = library.find(&name).ok_or(name)?;
                        // SAFETY: the header declares it so, and `address` is that of the function of this name.
                        unsafe {
                            std::mem::transmute::<
                                std::ptr::NonNull<c_void>,
                                unsafe extern "C" fn($($param),*) -> $returns,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

interface! {
    last_error() -> *const c_char;
    model_open(*const c_char, *mut *mut c_void) -> c_int;
    model_close(*mut c_void) -> ();
    output_count(*const c_void, usize) -> usize;
    output_dtype(*const c_void, usize, usize) -> c_int;
    output_rank(*const c_void, usize, usize) -> usize;
    output_is_dynamic(*const c_void, usize, usize) -> c_int;
    session_new(*mut c_void, usize, c_int, *mut *mut c_void) -> c_int;
    session_free(*mut c_void) -> ();
    session_set_input(*mut c_void, usize, c_int, usize, *const i64, *const c_void) -> c_int;
    session_bind(*mut c_void) -> c_int;
    session_output_shape(*mut c_void, usize, usize, *mut usize, *mut i64) -> c_int;
    session_set_output(*mut c_void, usize, *mut c_void, usize) -> c_int;
    session_output_data(*mut c_void, usize, *mut *const c_void, *mut usize) -> c_int;
    session_run(*mut c_void) -> c_int;
}

/// A loaded library, with its model open.
pub struct Library {
    interface: Interface,
    model: *mut c_void,
}

impl Library {
    /// Loads the library at `path`, whose functions begin with `prefix`; a file of weights lies beside it.
    ///
    /// # Errors
    /// The system refuses, it is no such library, or its model can't be opened.
    pub fn open(path: &Path, prefix: &str) -> Result<Library, LibraryError> {
        let failed = |why: String| LibraryError::Load { path: path.to_owned(), why };
        // A name without a slash would be searched for elsewhere.
        let absolute = path.canonicalize().map_err(|error| failed(error.to_string()))?;
        let loaded = system::Loaded::open(&absolute).map_err(failed)?;
        let interface = Interface::find(&loaded, prefix)
            .map_err(|name| LibraryError::Function { path: path.to_owned(), name })?;
        let folder = system::c_path(absolute.parent().unwrap_or(&absolute)).map_err(failed)?;
        let mut library = Library { interface, model: std::ptr::null_mut() };
        // SAFETY: a C string, and a place for a pointer.
        let status = unsafe { (library.interface.model_open)(folder.as_ptr(), &mut library.model) };
        library.check(status)?;
        Ok(library)
    }

    /// Runs the first entry, with this many threads.
    ///
    /// # Errors
    /// What the library says of these inputs, or no room for the outputs.
    pub fn run(&self, inputs: &[Tensor], threads: usize) -> Result<Vec<Tensor>, LibraryError> {
        let mut session = Session { interface: &self.interface, session: std::ptr::null_mut() };
        let threads = c_int::try_from(threads).unwrap_or(c_int::MAX);
        // SAFETY: the model is open, and there is a place for a pointer.
        let status = unsafe { (self.interface.session_new)(self.model, 0, threads, &mut session.session) };
        self.check(status)?;
        for (index, input) in inputs.iter().enumerate() {
            let (dims, data) = (input.signed_dims(), input.bytes());
            let dtype = c_int::from(input.dtype().code());
            let set = self.interface.session_set_input;
            // SAFETY: `dims` and `data` live until the session ends, and are as long as they say.
            let status = unsafe {
                set(session.session, index, dtype, dims.len(), dims.as_ptr(), data.as_ptr().cast())
            };
            self.check(status)?;
        }
        // SAFETY: the session is open.
        self.check(unsafe { (self.interface.session_bind)(session.session) })?;
        // SAFETY: the model is open.
        let count = unsafe { (self.interface.output_count)(self.model, 0) };
        // Outputs whose sizes the run decides are asked for afterwards.
        // SAFETY: the model is open.
        let is_dynamic = |index| unsafe { (self.interface.output_is_dynamic)(self.model, 0, index) } != 0;
        let mut outputs = Vec::with_capacity(count);
        for index in 0..count {
            outputs.push(if is_dynamic(index) { None } else { Some(self.output(&session, index)?) });
        }
        for (index, output) in outputs.iter_mut().enumerate() {
            let Some(output) = output else { continue };
            let data = output.bytes_mut();
            let set = self.interface.session_set_output;
            // SAFETY: `data` lives until the session ends, and nothing else uses it.
            let status = unsafe { set(session.session, index, data.as_mut_ptr().cast(), data.len()) };
            self.check(status)?;
        }
        // SAFETY: all that was set still lives.
        self.check(unsafe { (self.interface.session_run)(session.session) })?;
        let found = outputs.into_iter().enumerate();
        found.map(|(index, output)| output.map_or_else(|| self.found(&session, index), Ok)).collect()
    }

    /// An output whose sizes the last run has decided.
    fn found(&self, session: &Session, index: usize) -> Result<Tensor, LibraryError> {
        let mut output = self.output(session, index)?;
        let (mut data, mut bytes) = (std::ptr::null(), 0);
        let get = self.interface.session_output_data;
        // SAFETY: places for a pointer and a number.
        self.check(unsafe { get(session.session, index, &mut data, &mut bytes) })?;
        let room = output.bytes_mut();
        if room.len() != bytes || (data.is_null() && bytes > 0) {
            let message = format!("output {index} has {bytes} bytes, and its shape needs {}", room.len());
            return Err(LibraryError::Call { message });
        }
        if bytes > 0 {
            // SAFETY: the library says that there are `bytes` bytes, until the session runs again.
            room.copy_from_slice(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) });
        }
        Ok(output)
    }

    /// Room for an output of a session that is bound, or has run if the run decides sizes.
    fn output(&self, session: &Session, index: usize) -> Result<Tensor, LibraryError> {
        // SAFETY (both): the model is open.
        let rank = unsafe { (self.interface.output_rank)(self.model, 0, index) };
        let dtype = unsafe { (self.interface.output_dtype)(self.model, 0, index) };
        let mut dims = vec![0i64; rank];
        let mut found = 0;
        let shape = self.interface.session_output_shape;
        // SAFETY: `dims` has room for `rank` sizes.
        let status = unsafe { shape(session.session, index, rank, &mut found, dims.as_mut_ptr()) };
        self.check(status)?;
        let dtype = u8::try_from(dtype).ok().and_then(DType::from_code);
        let dtype =
            dtype.ok_or_else(|| LibraryError::Call { message: format!("output {index} has no type") })?;
        let dims: Option<Vec<usize>> = dims.iter().map(|&size| usize::try_from(size).ok()).collect();
        let dims = dims.filter(|dims| byte_len(dtype, dims).is_some()).ok_or(LibraryError::Memory)?;
        Tensor::zeroed(dtype, &dims).ok_or(LibraryError::Memory)
    }

    fn check(&self, status: c_int) -> Result<(), LibraryError> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: a C string that is valid until the next call.
        let message = unsafe { CStr::from_ptr((self.interface.last_error)()) };
        Err(LibraryError::Call { message: message.to_string_lossy().into_owned() })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: `model_open` made it, or it is null; it is closed once.
        unsafe { (self.interface.model_close)(self.model) }
    }
}

/// A session, which ends with this value.
struct Session<'a> {
    interface: &'a Interface,
    session: *mut c_void,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: `session_new` made it, or it is null; it is freed once.
        unsafe { (self.interface.session_free)(self.session) }
    }
}

/// Where there is `dlopen`.
#[cfg(unix)]
mod system {
    use std::ffi::{CStr, CString, c_char, c_int, c_void};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::ptr::NonNull;

    unsafe extern "C" {
        fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
        fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
        fn dlerror() -> *const c_char;
    }

    /// All names are resolved at once, so that a library that lacks something is refused when it is loaded.
    const RTLD_NOW: c_int = 2;

    pub(super) struct Loaded(NonNull<c_void>);

    impl Loaded {
        pub(super) fn open(path: &Path) -> Result<Loaded, String> {
            let path = c_path(path)?;
            // SAFETY: a C string. The library's initialisers are those of the runtime: there are none.
            let library = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
            NonNull::new(library).map(Loaded).ok_or_else(|| {
                // SAFETY: after a failure it is a C string, valid until the next call of this thread.
                let message = unsafe { CStr::from_ptr(dlerror()) };
                message.to_string_lossy().into_owned()
            })
        }

        pub(super) fn find(&self, name: &str) -> Option<NonNull<c_void>> {
            let name = CString::new(name).ok()?;
            // SAFETY: an open library and a C string.
            NonNull::new(unsafe { dlsym(self.0.as_ptr(), name.as_ptr()) })
        }
    }

    pub(super) fn c_path(path: &Path) -> Result<CString, String> {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| "its path holds a NUL".to_owned())
    }
}

/// Elsewhere, nothing is loaded.
#[cfg(not(unix))]
mod system {
    use std::ffi::{CString, c_void};
    use std::path::Path;
    use std::ptr::NonNull;

    pub(super) struct Loaded;

    impl Loaded {
        pub(super) fn open(_: &Path) -> Result<Loaded, String> {
            Err("libraries are not loaded on this system".to_owned())
        }

        pub(super) fn find(&self, _: &str) -> Option<NonNull<c_void>> {
            None
        }
    }

    pub(super) fn c_path(_: &Path) -> Result<CString, String> {
        Ok(CString::default())
    }
}
