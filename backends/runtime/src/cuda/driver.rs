//! CUDA's driver: a context, its memory, modules, streams and graphs.

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::sys;

use super::kernels::{Kernel, Launch};
use crate::{
    device::{Device, DeviceError, Queue, Recording, Stopwatch},
    error::GpuError,
};

/// The oldest driver that is used: of CUDA 12.0.
const OLDEST: i32 = 12_000;

/// More shared memory than this a function must ask for.
const SHARED_WITHOUT_ASKING: u64 = 48 << 10;

/// The first GPU of this machine.
pub struct Gpu {
    context: Arc<Context>,
    name: String,
    capability: (u32, u32),
    driver: i32,
}

impl Gpu {
    /// Looks for the driver and a GPU.
    ///
    /// # Errors
    /// [`GpuError::NoDriver`], [`GpuError::OldDriver`], [`GpuError::NoGpu`]; what the driver says.
    pub fn find() -> Result<Gpu, GpuError> {
        // SAFETY: loading a library runs its constructors; those of CUDA's driver are for that.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver);
        }
        let mut driver = 0;
        // SAFETY: the pointer leads to an integer.
        check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut driver) })?;
        if driver < OLDEST {
            return Err(GpuError::OldDriver { found: version(driver), oldest: version(OLDEST) });
        }
        let none = |error: DeviceError| GpuError::NoGpu { why: error.why };
        // SAFETY: no flags are defined, so there are none.
        check("cuInit", unsafe { sys::cuInit(0) }).map_err(none)?;
        let mut device = 0;
        // SAFETY: the pointer leads to a device.
        check("cuDeviceGet", unsafe { sys::cuDeviceGet(&mut device, 0) }).map_err(none)?;
        let mut name = [0_u8; 256];
        // SAFETY: there is room for as many bytes as are said, the last of which is a zero.
        check("cuDeviceGetName", unsafe {
            sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device)
        })?;
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned();
        let attribute = |attribute| {
            let mut value = 0;
            // SAFETY: the pointer leads to an integer.
            let result = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) };
            check("cuDeviceGetAttribute", result).map(|()| value)
        };
        use sys::CUdevice_attribute as Attribute;
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let mut context = ptr::null_mut();
        // SAFETY: the pointer leads to a context.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) })?;
        let context = Arc::new(Context { context, device });
        let capability = (major.unsigned_abs(), minor.unsigned_abs());
        Ok(Gpu { context, name, capability, driver })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its architecture, such as `sm_90`.
    pub fn arch(&self) -> String {
        let (major, minor) = self.capability;
        format!("sm_{major}{minor}")
    }

    /// The version of CUDA that its driver is for, such as 13 and 0.
    pub fn driver(&self) -> (u32, u32) {
        (self.driver.unsigned_abs() / 1000, self.driver.unsigned_abs() % 1000 / 10)
    }

    /// The GPU with these kernels.
    ///
    /// # Errors
    /// [`GpuError::NoImage`], or [`GpuError::Module`], for the first that the GPU or its driver does not take.
    pub fn load(&self, kernels: &[Kernel]) -> Result<Arc<dyn Device>, GpuError> {
        let modules = kernels.iter().map(|kernel| {
            let image = kernel.image_for(self.capability)?;
            Module::load(&self.context, kernel, &image.bytes)
                .map_err(|error| GpuError::Module { kernel: kernel.name.clone(), why: error.to_string() })
        });
        let modules = modules.collect::<Result<Vec<_>, _>>()?;
        let kernels = Arc::new(Kernels { context: Arc::clone(&self.context), modules });
        Ok(Arc::new(Loaded { name: self.name.clone(), kernels }))
    }
}

/// A version of CUDA as people write it.
fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// What a call of the driver comes to.
fn check(call: &str, result: sys::CUresult) -> Result<(), DeviceError> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = ptr::null();
    // SAFETY: the pointer leads to one of a text that ends in a zero and is there for good, or null for an unknown code.
    let said = unsafe {
        let known =
            sys::cuGetErrorString(result, &mut text) == sys::CUresult::CUDA_SUCCESS && !text.is_null();
        known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    Err(DeviceError { call: call.to_owned(), why: said.unwrap_or_else(|| format!("{result:?}")) })
}

/// The context that all programs of this process share on a GPU.
struct Context {
    context: sys::CUcontext,
    device: sys::CUdevice,
}

// SAFETY: the driver may be called by any thread, once the context is made current there.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// The thread's calls are about this context from here on.
    fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: it is retained as long as this is there.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was retained once, and is released once.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// The functions of a kernel.
struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
    launches: Vec<(sys::CUfunction, Launch)>,
    name: String,
    sizes: Vec<String>,
}

// SAFETY: as for contexts.
unsafe impl Send for Module {}
// SAFETY: as for contexts.
unsafe impl Sync for Module {}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: it was loaded into this context and is unloaded once; nothing runs any more.
            unsafe { sys::cuModuleUnload(self.module) };
        }
    }
}

impl Module {
    fn load(context: &Arc<Context>, kernel: &Kernel, image: &[u8]) -> Result<Module, DeviceError> {
        context.enter()?;
        // PTX is a text, which ends in a zero.
        let image = [image, &[0]].concat();
        let mut module = ptr::null_mut();
        // SAFETY: the image tells its own end, and is copied.
        check("cuModuleLoadData", unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) })?;
        let mut loaded = Module {
            context: Arc::clone(context),
            module,
            launches: Vec::with_capacity(kernel.launches.len()),
            name: kernel.name.clone(),
            sizes: kernel.sizes.clone(),
        };
        for launch in &kernel.launches {
            let name = CString::new(launch.function.as_str()).unwrap_or_default();
            let mut function = ptr::null_mut();
            // SAFETY: the module is loaded, and the name ends in a zero.
            check("cuModuleGetFunction", unsafe {
                sys::cuModuleGetFunction(&mut function, module, name.as_ptr())
            })?;
            if launch.shared > SHARED_WITHOUT_ASKING {
                let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                // SAFETY: the function is of a loaded module.
                check("cuFuncSetAttribute", unsafe {
                    sys::cuFuncSetAttribute(function, most, launch.shared as i32)
                })?;
            }
            loaded.launches.push((function, launch.clone()));
        }
        Ok(loaded)
    }
}

/// A GPU with the kernels of a model.
struct Kernels {
    context: Arc<Context>,
    modules: Vec<Module>,
}

/// The same as a device.
struct Loaded {
    name: String,
    kernels: Arc<Kernels>,
}

impl Device for Loaded {
    fn name(&self) -> &str {
        &self.name
    }

    fn queue(&self) -> Result<Arc<dyn Queue>, DeviceError> {
        self.kernels.context.enter()?;
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointer leads to a stream.
        check("cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        Ok(Arc::new(Stream { kernels: Arc::clone(&self.kernels), stream }))
    }
}

/// A stream: what is asked for runs in that order.
struct Stream {
    kernels: Arc<Kernels>,
    stream: sys::CUstream,
}

// SAFETY: as for contexts.
unsafe impl Send for Stream {}
// SAFETY: as for contexts.
unsafe impl Sync for Stream {}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.kernels.context.enter().is_ok() {
            // SAFETY: it was created once, and is destroyed once.
            unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}

/// An address as the driver wants it.
fn address(pointer: *const u8) -> sys::CUdeviceptr {
    pointer.addr() as sys::CUdeviceptr
}

impl Queue for Stream {
    fn allocate(&self, bytes: usize) -> Result<*mut u8, DeviceError> {
        self.kernels.context.enter()?;
        let mut start = 0;
        // SAFETY: the pointer leads to an address.
        check(&format!("cuMemAlloc of {bytes} bytes"), unsafe { sys::cuMemAlloc_v2(&mut start, bytes) })?;
        let start = ptr::without_provenance_mut(start as usize);
        // SAFETY: it has so many bytes.
        unsafe { self.clear(start, bytes) }.map(|()| start)
    }

    unsafe fn free(&self, start: *mut u8) {
        if self.kernels.context.enter().is_ok() {
            // SAFETY: as the caller vouches. The driver waits for what uses it.
            unsafe { sys::cuMemFree_v2(address(start)) };
        }
    }

    unsafe fn clear(&self, start: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // SAFETY: as the caller vouches.
        check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(address(start), 0, bytes, self.stream) })
    }

    unsafe fn write(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // SAFETY: as the caller vouches.
        check("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(address(to), from.cast(), bytes, self.stream)
        })
    }

    unsafe fn read(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // SAFETY: as the caller vouches.
        check("cuMemcpyDtoHAsync", unsafe {
            sys::cuMemcpyDtoHAsync_v2(to.cast(), address(from), bytes, self.stream)
        })?;
        self.wait()
    }

    unsafe fn copy(&self, from: *const u8, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // SAFETY: as the caller vouches.
        check("cuMemcpyDtoDAsync", unsafe {
            sys::cuMemcpyDtoDAsync_v2(address(to), address(from), bytes, self.stream)
        })
    }

    unsafe fn call(&self, kernel: u32, args: &[*mut u8], sizes: &[i64]) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        let module = &self.kernels.modules[kernel as usize];
        // The driver copies what these lead to, before it returns.
        let arrays = args.iter().map(|arg| ptr::from_ref(arg).cast_mut().cast::<c_void>());
        let values = sizes.iter().map(|size| ptr::from_ref(size).cast_mut().cast::<c_void>());
        let mut params: Vec<*mut c_void> = arrays.chain(values).collect();
        for (function, launch) in &module.launches {
            let failed = |why: String| DeviceError { call: format!("a launch of `{}`", module.name), why };
            let blocks =
                launch.blocks.eval(sizes, &module.sizes).map_err(|error| failed(error.to_string()))?;
            if blocks <= 0 {
                continue;
            }
            let blocks = i32::try_from(blocks)
                .map_err(|_| failed(format!("it has {blocks} blocks, more than a GPU launches")))?;
            // SAFETY: the function takes these arrays and sizes, as the caller vouches.
            let result = unsafe {
                sys::cuLaunchKernel(
                    *function,
                    blocks as u32,
                    1,
                    1,
                    launch.threads,
                    1,
                    1,
                    launch.shared as u32,
                    self.stream,
                    params.as_mut_ptr(),
                    ptr::null_mut(),
                )
            };
            check("cuLaunchKernel", result).map_err(|error| failed(error.why))?;
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // SAFETY: the stream is there.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    fn stopwatch(&self) -> Result<Box<dyn Stopwatch>, DeviceError> {
        let (kernels, stream) = (Arc::clone(&self.kernels), self.stream);
        Ok(Box::new(Events { kernels, stream, events: Vec::new() }))
    }

    fn begin_recording(&self) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // Other threads may allocate meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is there.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(self.stream, mode) })
    }

    fn end_recording(&self) -> Result<Box<dyn Recording>, DeviceError> {
        self.kernels.context.enter()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is there, and the pointer leads to a graph.
        check("cuStreamEndCapture", unsafe { sys::cuStreamEndCapture(self.stream, &mut graph) })?;
        let mut exec = ptr::null_mut();
        // SAFETY: the graph is there, and the pointer leads to an executable graph, which holds all that it needs.
        let made = unsafe {
            let made = sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0);
            sys::cuGraphDestroy(graph);
            made
        };
        check("cuGraphInstantiate", made)?;
        let (kernels, stream) = (Arc::clone(&self.kernels), self.stream);
        Ok(Box::new(Graph { kernels, exec, stream }))
    }
}

/// Events of a stream, which is that of the session that they belong to.
struct Events {
    kernels: Arc<Kernels>,
    stream: sys::CUstream,
    events: Vec<sys::CUevent>,
}

// SAFETY: as for contexts.
unsafe impl Send for Events {}

impl Drop for Events {
    fn drop(&mut self) {
        if self.kernels.context.enter().is_ok() {
            for event in self.events.drain(..) {
                // SAFETY: each was created once, and is destroyed once.
                unsafe { sys::cuEventDestroy_v2(event) };
            }
        }
    }
}

impl Stopwatch for Events {
    fn mark(&mut self) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        let mut event = ptr::null_mut();
        // SAFETY: the pointer leads to an event; by default it is timed.
        check("cuEventCreate", unsafe { sys::cuEventCreate(&mut event, 0) })?;
        self.events.push(event);
        // SAFETY: both are there: the stream as long as its queue, which the caller has.
        check("cuEventRecord", unsafe { sys::cuEventRecord(event, self.stream) })
    }

    fn times(&self) -> Result<Vec<Duration>, DeviceError> {
        self.kernels.context.enter()?;
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else {
            return Ok(Vec::new());
        };
        // SAFETY: the event was recorded.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(*last) })?;
        // The function of every driver; that of this name in later headers is missing in those before 12.8.
        type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
        // SAFETY: the driver's library is loaded, and declares the function so.
        let elapsed = unsafe { sys::culib().get::<Elapsed>(b"cuEventElapsedTime\0") }
            .map_err(|error| DeviceError { call: "cuEventElapsedTime".to_owned(), why: error.to_string() })?;
        let since_first = |event: &sys::CUevent| {
            let mut milliseconds = 0.0;
            // SAFETY: both were recorded and have passed; the pointer leads to a number.
            check("cuEventElapsedTime", unsafe { elapsed(&mut milliseconds, *first, *event) })?;
            Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
        };
        self.events.iter().map(since_first).collect()
    }
}

/// A graph that is ready to run. The stream is that of the session that it belongs to.
struct Graph {
    kernels: Arc<Kernels>,
    exec: sys::CUgraphExec,
    stream: sys::CUstream,
}

// SAFETY: as for contexts.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.kernels.context.enter().is_ok() {
            // SAFETY: it was instantiated once, and is destroyed once.
            unsafe { sys::cuGraphExecDestroy(self.exec) };
        }
    }
}

impl Recording for Graph {
    unsafe fn replay(&self) -> Result<(), DeviceError> {
        self.kernels.context.enter()?;
        // SAFETY: as the caller vouches; the stream is there as long as its queue, which the caller has.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.exec, self.stream) })
    }
}
