//! The code image: all functions of a program, laid out one after the other, every reference between them resolved.
//!
//! The image is position independent and refers to nothing outside: the runtime is reached through the table that
//! each kernel is given. It may be placed anywhere that is aligned to [`ALIGN`] bytes.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir as clif;
use cranelift_codegen::{Context, FinalizedRelocTarget};
use ir::program::Program;

use crate::emit::{self, Body, Module};
use crate::error::EmitError;
use crate::target::Target;
use crate::vector;

/// Alignment of an image in memory: addresses of functions may be computed from pages.
pub const ALIGN: u64 = 4096;

/// Machine code of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The code.
    pub code: Vec<u8>,
    /// Each kernel of the program, in its order: name and first byte in the code.
    pub kernels: Vec<(String, u64)>,
    /// Every function, in the code's order: name, first byte, number of bytes.
    pub functions: Vec<(String, u64, u64)>,
    /// The architecture that it is for.
    pub arch: String,
    /// What the processor must have.
    pub features: Vec<String>,
}

impl Image {
    /// No code, for a processor such as this.
    pub fn none() -> Image {
        let Target { arch, .. } = Target::portable();
        Image { code: Vec::new(), kernels: Vec::new(), functions: Vec::new(), arch, features: Vec::new() }
    }
}

/// Machine code of every kernel of a program.
///
/// # Errors
/// Where a kernel is not in loop form, or asks for what the target or this backend does not have.
pub fn emit(program: &Program, target: &Target) -> Result<Image, EmitError> {
    let isa = target.isa()?;
    let mut module = Module { target, isa: &*isa, functions: Vec::new() };
    let places = kernels(&mut module, program)?;
    let mut image = Layout::default();
    let mut context = Context::new();
    for (name, body) in module.functions {
        context.func = match body {
            Body::Clif(function) => *function,
            Body::Bytes(code) => {
                image.append(&name, &code, vector::ALIGN as u64);
                continue;
            }
        };
        let fail = |why: String| EmitError::Codegen { function: name.clone(), why };
        context
            .compile(&*isa, &mut ControlPlane::default())
            .map_err(|e| fail(cranelift_codegen::print_errors::pretty_error(e.func, e.inner)))?;
        let compiled = context.compiled_code().expect("it was just compiled");
        let start = image.append(&name, compiled.code_buffer(), u64::from(compiled.buffer.alignment));
        for reloc in compiled.buffer.relocs() {
            let target = callee(&context.func, &reloc.target);
            let place = target.ok_or_else(|| EmitError::Relocation {
                function: name.clone(),
                name: reloc.target.display(Some(&context.func.params)),
                kind: format!("{:?}", reloc.kind),
            })?;
            image.fixups.push(Fixup {
                function: name.clone(),
                at: start + u64::from(reloc.offset),
                kind: reloc.kind,
                place,
                addend: reloc.addend,
            });
        }
        context.clear();
    }
    let (code, functions) = image.finish()?;
    let offsets = places.iter().map(|&place| functions[place as usize].1);
    let names = program.kernels.iter().map(|kernel| kernel.name.to_string());
    Ok(Image {
        kernels: names.zip(offsets).collect(),
        code,
        functions,
        arch: target.arch.clone(),
        features: target.features.clone(),
    })
}

/// The functions of a program in the code generator's language, before it optimises them.
///
/// # Errors
/// As [`emit`].
pub fn clif(program: &Program, target: &Target) -> Result<String, EmitError> {
    let isa = target.isa()?;
    let mut module = Module { target, isa: &*isa, functions: Vec::new() };
    kernels(&mut module, program)?;
    let texts = module.functions.iter().map(|(name, body)| match body {
        Body::Clif(function) => format!("; {name}\n{function}\n"),
        Body::Bytes(code) => format!("; {name}\n; {} bytes of vector code\n", code.len()),
    });
    Ok(texts.collect())
}

/// The machine code of a program as text.
///
/// # Errors
/// As [`emit`].
pub fn disassembly(program: &Program, target: &Target) -> Result<String, EmitError> {
    let isa = target.isa()?;
    let mut module = Module { target, isa: &*isa, functions: Vec::new() };
    kernels(&mut module, program)?;
    let mut text = String::new();
    let mut context = Context::new();
    for (name, body) in module.functions {
        context.func = match body {
            Body::Clif(function) => *function,
            Body::Bytes(code) => {
                text += &format!("{name}:\n  {} bytes of vector code\n", code.len());
                continue;
            }
        };
        context.set_disasm(true);
        let compiled =
            context.compile(&*isa, &mut ControlPlane::default()).map_err(|e| EmitError::Codegen {
                function: name.clone(),
                why: cranelift_codegen::print_errors::pretty_error(e.func, e.inner),
            })?;
        text += &format!("{name}:\n{}\n", compiled.vcode.as_deref().unwrap_or_default());
        context.clear();
    }
    Ok(text)
}

fn kernels(module: &mut Module<'_>, program: &Program) -> Result<Vec<u32>, EmitError> {
    program.kernels.iter().map(|kernel| emit::kernel(module, kernel)).collect()
}

/// The function of the module that a reference means.
fn callee(function: &clif::Function, target: &FinalizedRelocTarget) -> Option<u32> {
    match target {
        FinalizedRelocTarget::ExternalName(clif::ExternalName::User(name)) => {
            Some(function.params.user_named_funcs()[*name].index)
        }
        _ => None,
    }
}

/// A reference from one function to another.
struct Fixup {
    function: String,
    at: u64,
    kind: Reloc,
    place: u32,
    addend: i64,
}

/// Functions laid out so far.
#[derive(Default)]
struct Layout {
    code: Vec<u8>,
    functions: Vec<(String, u64, u64)>,
    fixups: Vec<Fixup>,
}

impl Layout {
    fn append(&mut self, name: &str, code: &[u8], align: u64) -> u64 {
        let start = (self.code.len() as u64).next_multiple_of(align.max(16));
        self.code.resize(start as usize, 0);
        self.code.extend_from_slice(code);
        self.functions.push((name.to_owned(), start, code.len() as u64));
        start
    }

    #[allow(clippy::type_complexity, reason = "code and functions, as they go into the image")]
    fn finish(mut self) -> Result<(Vec<u8>, Vec<(String, u64, u64)>), EmitError> {
        for fixup in self.fixups {
            let target = self.functions[fixup.place as usize].1;
            let patched = patch(&mut self.code, fixup.at, fixup.kind, target as i64 + fixup.addend);
            patched.ok_or_else(|| EmitError::Relocation {
                function: fixup.function,
                name: self.functions[fixup.place as usize].0.clone(),
                kind: format!("{:?}", fixup.kind),
            })?;
        }
        Ok((self.code, self.functions))
    }
}

/// Writes the reference at `at` to `value`, both positions in the image. `None` for references of another kind or
/// over too large a distance.
fn patch(code: &mut [u8], at: u64, kind: Reloc, value: i64) -> Option<()> {
    let field: &mut [u8; 4] = code.get_mut(at as usize..at as usize + 4)?.try_into().ok()?;
    let distance = value - at as i64;
    let word = u32::from_le_bytes(*field);
    let word = match kind {
        Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => i32::try_from(distance).ok()? as u32,
        Reloc::Arm64Call => word | immediate(distance, 2, 26)?,
        Reloc::Aarch64AdrPrelPgHi21 => {
            let page = |position: i64| position & !0xfff;
            let pages = immediate(page(value) - page(at as i64), 12, 21)?;
            word | (pages & 3) << 29 | (pages >> 2) << 5
        }
        Reloc::Aarch64AddAbsLo12Nc => word | (value as u32 & 0xfff) << 10,
        _ => return None,
    };
    *field = word.to_le_bytes();
    Some(())
}

/// `distance >> shift` as a signed field of so many bits.
fn immediate(distance: i64, shift: u32, bits: u32) -> Option<u32> {
    let scaled = distance >> shift;
    let limit = 1i64 << (bits - 1);
    let fits = distance & ((1 << shift) - 1) == 0 && (-limit..limit).contains(&scaled);
    fits.then_some(scaled as u32 & ((1u32 << bits) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_references_are_relative() {
        let mut code = vec![0; 32];
        patch(&mut code, 8, Reloc::X86PCRel4, 20 - 4).expect("in range");
        assert_eq!(code[8..12], 8i32.to_le_bytes());
        patch(&mut code, 16, Reloc::X86CallPCRel4, -4).expect("in range");
        assert_eq!(code[16..20], (-20i32).to_le_bytes());
    }

    #[test]
    fn arm_references_are_scaled() {
        // bl #0x100
        let mut code = 0x9400_0000u32.to_le_bytes().to_vec();
        patch(&mut code, 0, Reloc::Arm64Call, 0x100).expect("in range");
        assert_eq!(code, 0x9400_0040u32.to_le_bytes());
        // adrp x0, +5 pages: the low two bits of the number stand apart
        let mut code = 0x9000_0000u32.to_le_bytes().to_vec();
        patch(&mut code, 0, Reloc::Aarch64AdrPrelPgHi21, 0x5123).expect("in range");
        assert_eq!(code, (0x9000_0000u32 | 1 << 29 | 1 << 5).to_le_bytes());
        // add x0, x0, #0x123
        let mut code = 0x9100_0000u32.to_le_bytes().to_vec();
        patch(&mut code, 0, Reloc::Aarch64AddAbsLo12Nc, 0x5123).expect("in range");
        assert_eq!(code, (0x9100_0000u32 | 0x123 << 10).to_le_bytes());
    }

    #[test]
    fn foreign_references_are_refused() {
        let mut code = vec![0; 16];
        assert_eq!(patch(&mut code, 0, Reloc::Abs8, 0), None);
        assert_eq!(patch(&mut code, 14, Reloc::X86PCRel4, 0), None);
        assert_eq!(patch(&mut code, 0, Reloc::X86PCRel4, 1 << 40), None);
        assert_eq!(immediate(2, 2, 26), None);
    }
}
