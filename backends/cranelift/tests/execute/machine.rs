//! Code mapped into memory and called, with a table of services written by hand.

use std::ffi::c_void;
use std::slice;

use cranelift::{Image, Target, Vectors, emit};
use ir::dtype::DType;
use ir::program::Program;
use ir::scalar::{Binary, Scalar, Unary};
use ir::service::{GEMM_F32_FIELDS, GEMM_I8_FIELDS, SORT_FIELDS, Service};
use memmap2::{Mmap, MmapMut};

type KernelFn = unsafe extern "C" fn(*const c_void, *const *mut u8, *const i64);
type Body = unsafe extern "C" fn(*const c_void, *const u8, i64, i64);
type Epilogue = unsafe extern "C" fn(*const c_void, *const u8, *const f32, i64, i64, i64, i64, i64);

/// An emitted program, ready to run.
pub(crate) struct Machine {
    pub(crate) image: Image,
    code: Mmap,
    services: Vec<usize>,
}

/// An array in memory as the runtime gives it.
pub(crate) struct Memory {
    words: Vec<u64>,
    start: usize,
    dtype: DType,
    len: usize,
}

impl Memory {
    pub(crate) fn new(values: &[Scalar], dtype: DType) -> Memory {
        // A margin on both sides shows what is written outside.
        let bytes = values.len() * dtype.bytes();
        let words = vec![0xabab_abab_abab_abab; bytes.div_ceil(8) + 16];
        let mut memory = Memory { words, start: 64, dtype, len: values.len() };
        let size = dtype.bytes();
        let start = memory.start;
        for (at, value) in values.iter().enumerate() {
            value.write(&mut memory.bytes()[start + at * size..start + (at + 1) * size]);
        }
        memory
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: words are eight bytes each.
        unsafe { slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.words.len() * 8) }
    }

    pub(crate) fn values(&mut self) -> Vec<Scalar> {
        let (dtype, start, size) = (self.dtype, self.start, self.dtype.bytes());
        let end = start + self.len * size;
        let bytes = self.bytes();
        assert!(
            bytes[..start].iter().chain(&bytes[end..]).all(|b| *b == 0xab),
            "written outside of the array"
        );
        bytes[start..end].chunks(size).map(|bytes| Scalar::read(dtype, bytes)).collect()
    }

    fn pointer(&mut self) -> *mut u8 {
        let start = self.start;
        self.bytes()[start..].as_mut_ptr()
    }
}

impl Machine {
    /// The program with vectors of each width, and with a choice of those that this processor has. A width that it does
    /// not have is the next narrower.
    pub(crate) fn all(program: &Program) -> Vec<Machine> {
        let mut all: Vec<Machine> =
            [Vectors::Bits128, Vectors::Bits256, Vectors::Bits512].map(|v| Machine::new(program, v)).into();
        let host = Target::host();
        let has = |features: &[&str]| features.iter().all(|feature| host.has(feature));
        let wide = has(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]);
        for lanes in
            [8, 16].into_iter().filter(|&lanes| if lanes == 8 { has(&["avx2", "fma"]) } else { wide })
        {
            all.push(Machine::of(program, &Target { chooses: true, ..Target::portable() }, lanes));
        }
        all
    }

    pub(crate) fn new(program: &Program, vectors: Vectors) -> Machine {
        Machine::of(program, &Target { vectors, ..Target::host() }, 0)
    }

    /// On a processor whose vectors have so many lanes of 32 bits.
    fn of(program: &Program, target: &Target, lanes: usize) -> Machine {
        let image = emit(program, target).expect("the program can be emitted");
        assert_eq!(image, emit(program, target).expect("again"), "the same program gives the same bytes");
        let mut code = MmapMut::map_anon(image.code.len().max(1)).expect("memory");
        code[..image.code.len()].copy_from_slice(&image.code);
        let code = code.make_exec().expect("executable memory");
        let services = Service::all().into_iter().map(address).chain([lanes]).collect();
        Machine { image, code, services }
    }

    /// Calls kernel `at` of the program.
    pub(crate) fn run(&self, at: usize, buffers: &mut [Memory], sizes: &[i64]) {
        let args: Vec<*mut u8> = buffers.iter_mut().map(Memory::pointer).collect();
        self.call(at, &args, sizes);
    }

    /// Calls kernel `at` of the program with arrays at these addresses.
    pub(crate) fn call(&self, at: usize, args: &[*mut u8], sizes: &[i64]) {
        let offset = self.image.kernels[at].1 as usize;
        // SAFETY: the code is of a kernel with these parameters, which are as large as it says.
        unsafe {
            let kernel: KernelFn = std::mem::transmute(self.code.as_ptr().add(offset));
            kernel(self.services.as_ptr().cast(), args.as_ptr(), sizes.as_ptr());
        }
    }
}

macro_rules! unary {
    ($f:expr, $dtype:expr, $($name:ident)*) => {
        match $f {
            $(Unary::$name => {
                extern "C" fn double(x: f64) -> f64 {
                    from_double(Unary::$name.apply(Scalar::from_f64(DType::F64, x)))
                }
                extern "C" fn single(x: f32) -> f32 {
                    f32::from_bits(Unary::$name.apply(Scalar::f32(x)).bits() as u32)
                }
                if $dtype == DType::F64 { double as *const () as usize } else { single as *const () as usize }
            })*
            _ => unreachable!(),
        }
    };
}

fn from_double(value: Scalar) -> f64 {
    f64::from_bits(value.bits())
}

fn address(service: Service) -> usize {
    match service {
        Service::ParallelFor => parallel_for as *const () as usize,
        Service::GemmF32 => gemm_f32 as *const () as usize,
        Service::GemmI8 => gemm_i8 as *const () as usize,
        Service::Sort => sort as *const () as usize,
        Service::Unary(f, dtype) => unary!(
            f, dtype,
            Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf
        ),
        Service::Binary(Binary::Pow, DType::F64) => pow_f64 as *const () as usize,
        Service::Binary(Binary::Pow, _) => pow_f32 as *const () as usize,
        Service::Binary(_, DType::F64) => fmod_f64 as *const () as usize,
        Service::Binary(..) => fmod_f32 as *const () as usize,
        // Kernels convert 16-bit floats themselves.
        Service::F16ToF32 | Service::F32ToF16 => unexpected as *const () as usize,
    }
}

extern "C" fn pow_f64(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

extern "C" fn pow_f32(x: f32, y: f32) -> f32 {
    libm::powf(x, y)
}

extern "C" fn fmod_f64(x: f64, y: f64) -> f64 {
    libm::fmod(x, y)
}

extern "C" fn fmod_f32(x: f32, y: f32) -> f32 {
    libm::fmodf(x, y)
}

extern "C" fn unexpected() {
    std::process::abort();
}

/// Chunks in descending order and of odd sizes: the order must not matter.
extern "C" fn parallel_for(services: *const c_void, extent: i64, grain: i64, body: Body, frame: *const u8) {
    let size = grain.max(3);
    for chunk in (0..(extent + size - 1) / size).rev() {
        // SAFETY: the kernel's body, with its frame.
        unsafe { body(services, frame, chunk * size, extent.min((chunk + 1) * size)) };
    }
}

/// Parts of odd sizes with a leading dimension larger than their width.
extern "C" fn gemm_f32(services: *const c_void, call: *const [u64; GEMM_F32_FIELDS.len()]) {
    // SAFETY: the kernel passes the structure that the field names describe.
    let call = unsafe { *call };
    let field = |name: &str| {
        let at = GEMM_F32_FIELDS.iter().position(|field| *field == name).expect("a field");
        call[at] as i64
    };
    let [m, n, k] = ["m", "n", "k"].map(field);
    let element = |name: &str, index: i64| {
        // SAFETY: the operands are as large as the strides say.
        unsafe { *((field(name) + 4 * index) as *const f32) }
    };
    let left = |i: i64, l: i64| match field("window") {
        0 => element("a", i * field("a_row") + l * field("a_col")),
        table => windowed(table as *const i64, i, l).map_or(0.0, |index| element("a", index)),
    };
    let sum = |i: i64, j: i64| {
        (0..k).fold(0.0f32, |sum, l| {
            let b = match field("packed") {
                0 => element("b", l * field("b_row") + j * field("b_col")),
                _ => element("b", (j / 32 * k + l) * 32 + j % 32),
            };
            libm::fmaf(left(i, l), b, sum)
        })
    };
    deliver(services, &field, [m, n], &|i, j| sum(i, j).to_bits());
}

/// The same of bytes.
extern "C" fn gemm_i8(services: *const c_void, call: *const [u64; GEMM_I8_FIELDS.len()]) {
    // SAFETY: the kernel passes the structure that the field names describe.
    let call = unsafe { *call };
    let field = |name: &str| {
        let at = GEMM_I8_FIELDS.iter().position(|field| *field == name).expect("a field");
        call[at] as i64
    };
    let [m, n, k] = ["m", "n", "k"].map(field);
    let byte = |start: i64, index: i64, signed: bool| {
        // SAFETY: the operands are as large as the strides say.
        let byte = unsafe { *((start + index) as *const u8) };
        if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) }
    };
    let [left_signed, right_signed] = ["a_signed", "b_signed"].map(|name| field(name) != 0);
    let left = |i: i64, l: i64| {
        let at = match field("window") {
            0 => Some(i * field("a_row") + l * field("a_col")),
            table => windowed(table as *const i64, i, l),
        };
        at.map_or(0, |at| byte(field("a"), at, left_signed) - field("a_zero") as i32)
    };
    let right = |l: i64, j: i64| {
        let zero = match field("b_zeros") {
            0 => field("b_zero") as i32,
            zeros => byte(zeros, j * field("b_zeros_step"), right_signed),
        };
        let at = match field("packed") {
            0 => l * field("b_row") + j * field("b_col"),
            _ => ((j / 32 * ((k + 3) / 4 + 1) + l / 4) * 32 + j % 32) * 4 + l % 4,
        };
        byte(field("b"), at, right_signed) - zero
    };
    let sum = |i: i64, j: i64| (0..k).fold(0i32, |sum, l| sum.wrapping_add(left(i, l) * right(l, j)));
    deliver(services, &field, [m, n], &|i, j| sum(i, j).cast_unsigned());
}

/// Gives the elements of a result, by their bits, to the epilogue.
fn deliver(
    services: *const c_void,
    field: &dyn Fn(&str) -> i64,
    [m, n]: [i64; 2],
    sum: &dyn Fn(i64, i64) -> u32,
) {
    let (height, width, ld) = (3, 21, 40);
    // SAFETY: the kernel's function for parts of the result.
    let epilogue: Epilogue = unsafe { std::mem::transmute(field("epilogue") as usize) };
    let turned = field("transposed") != 0;
    let (m, n) = if turned { (n, m) } else { (m, n) };
    for row in (0..m).step_by(height) {
        for col in (0..n).step_by(width) {
            let (rows, cols) = ((m - row).min(height as i64), (n - col).min(width as i64));
            let mut tile = vec![f32::NAN.to_bits(); height * ld];
            for r in 0..rows {
                for c in 0..cols {
                    let (i, j) = if turned { (col + c, row + r) } else { (row + r, col + c) };
                    tile[r as usize * ld + c as usize] = sum(i, j);
                }
            }
            // SAFETY: the tile has the stated size.
            unsafe {
                epilogue(
                    services,
                    field("frame") as *const u8,
                    tile.as_ptr().cast(),
                    ld as i64,
                    row,
                    rows,
                    col,
                    cols,
                );
            }
        }
    }
}

/// Where a window's element in row `i` and column `l` lies, if its guards hold.
fn windowed(table: *const i64, i: i64, l: i64) -> Option<i64> {
    // SAFETY: the table is as long as its numbers say.
    let number = |at: usize| unsafe { *table.add(at) };
    let [rows, columns, guards] = [0, 1, 2].map(|at| number(at) as usize);
    let mut at = vec![0; rows + columns];
    for (mut rest, range) in [(i, 0..rows), (l, rows..rows + columns)] {
        for axis in range.rev() {
            at[axis] = rest % number(3 + 2 * axis);
            rest /= number(3 + 2 * axis);
        }
    }
    let first = 3 + 2 * at.len();
    let inside = (0..guards).all(|g| {
        let guard = first + g * (2 + at.len());
        let value: i64 = at.iter().enumerate().map(|(axis, at)| at * number(guard + 2 + axis)).sum();
        (0..number(guard)).contains(&(value + number(guard + 1)))
    });
    inside.then(|| at.iter().enumerate().map(|(axis, at)| at * number(4 + 2 * axis)).sum())
}

/// By counting, for each element, those that come before it.
extern "C" fn sort(_: *const c_void, call: *const [i64; SORT_FIELDS.len()]) {
    // SAFETY: the kernel passes the structure that the field names describe.
    let call = unsafe { *call };
    let field = |name: &str| call[SORT_FIELDS.iter().position(|field| *field == name).expect("a field")];
    let [outer, n, inner, bytes] = ["outer", "n", "inner", "bytes"].map(field);
    let rows = outer * inner;
    assert_eq!(field("tasks"), rows.min(64));
    if field("tasks") * n > 0 {
        // SAFETY: the scratch memory has this room.
        unsafe { *(field("scratch") as *mut i64).offset((2 * field("tasks") * n - 1) as isize) = -1 };
    }
    let bits = |name: &str, at: i64| {
        let mut bits = [0; 8];
        // SAFETY: the array is as large as the sizes say.
        unsafe {
            std::ptr::copy_nonoverlapping(
                ((field(name)) + bytes * at) as *const u8,
                bits.as_mut_ptr(),
                bytes as usize,
            );
        }
        u64::from_le_bytes(bits)
    };
    let number = |bits: u64| match (field("class"), bytes, field("infinity")) {
        (0, ..) => bits as f64,
        (1, ..) => ((bits << (64 - 8 * bytes)) as i64 >> (64 - 8 * bytes)) as f64,
        (_, 2, 0x7c00) => Scalar::from_bits(DType::F16, bits).to_f64(),
        (_, 2, 0x7f80) => Scalar::from_bits(DType::BF16, bits).to_f64(),
        (_, 4, 0x7f80_0000) => f64::from(f32::from_bits(bits as u32)),
        (_, 8, 0x7ff0_0000_0000_0000) => f64::from_bits(bits),
        other => panic!("no such keys: {other:?}"),
    };
    for row in 0..rows {
        let place = |len: i64, at: i64| (row / inner * len + at) * inner + row % inner;
        let key = |at: i64| number(bits("keys", place(n, at)));
        for (name, len, width) in
            [("values", field("values_len"), bytes), ("positions", field("positions_len"), 8)]
        {
            let put = |at: i64, value: u64| {
                let to = (field(name) + width * place(len, at)) as *mut u8;
                // SAFETY: the array is as large as the sizes say.
                unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), to, width as usize) };
            };
            (n..len).for_each(|at| put(at, 0));
            for from in 0..n {
                let before = |other: &i64| {
                    let (a, b) = (key(*other), key(from));
                    let order = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
                    let order = if field("descending") == 1 { order.reverse() } else { order };
                    order.is_lt() || order.is_eq() && *other < from
                };
                let to = (0..n).filter(before).count() as i64;
                if to < len {
                    put(to, if name == "values" { bits("keys", place(n, from)) } else { from as u64 });
                }
            }
        }
    }
}
