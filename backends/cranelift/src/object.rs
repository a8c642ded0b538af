//! An object file for linkers: the code image, the container, and the exported functions.
//!
//! ELF, relocatable. `.text` holds the code image and the forwarders, `.rodata` the container (without code: that is run
//! where it stands). The same image, prefix and container give the same bytes. What the forwarders call (`egraft_*`) is in
//! the runtime's static library.

use cranelift_codegen::binemit::Reloc;
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationEncoding, RelocationFlags, RelocationKind, SectionKind,
    SymbolFlags, SymbolKind, SymbolScope, elf,
};

use crate::error::EmitError;
use crate::forward::{Reference, Referent, forwarders};
use crate::image::{ALIGN, Image};
use crate::target::Target;

/// Alignment of the container, as the runtime demands it.
const CONTAINER_ALIGN: u64 = 64;

/// The names that a library exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSymbols {
    /// What the functions' names start with: `mlp` gives `mlp_model_open` and so on. A C identifier.
    pub prefix: String,
}

/// An object file with the image, the container and the functions that open them.
///
/// # Errors
/// If the prefix is no C identifier, or the architecture has no object format here.
pub fn object(image: &Image, model: &ModelSymbols, container: &[u8]) -> Result<Vec<u8>, EmitError> {
    let prefix = &model.prefix;
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !prefix.starts_with(first) || !prefix.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Err(EmitError::Object(format!("`{prefix}` is no C identifier")));
    }
    let architecture = match image.arch.as_str() {
        "x86_64" => Architecture::X86_64,
        "aarch64" => Architecture::Aarch64,
        other => return Err(EmitError::Object(format!("there is no object format for `{other}`"))),
    };
    let isa =
        Target { arch: image.arch.clone(), features: image.features.clone(), ..Target::default() }.isa()?;

    let mut file = Object::new(BinaryFormat::Elf, architecture, Endianness::Little);
    let text = file.section_id(StandardSection::Text);
    let rodata = file.section_id(StandardSection::ReadOnlyData);
    let place = file.append_section_data(text, &image.code, ALIGN);
    let code = add_symbol(&mut file, "egraft.code", SymbolSection::Section(text), place, image.code.len());
    for (name, start, size) in &image.functions {
        let name = format!("egraft.kernel.{name}");
        add_symbol(&mut file, &name, SymbolSection::Section(text), place + start, *size as usize);
    }
    let place = file.append_section_data(rodata, container, CONTAINER_ALIGN);
    let data =
        add_symbol(&mut file, "egraft.container", SymbolSection::Section(rodata), place, container.len());
    file.symbol_mut(data).kind = SymbolKind::Data;

    for forwarder in forwarders(&*isa, image.code.len() as u64, container.len() as u64)? {
        let place = file.append_section_data(text, &forwarder.code, 16);
        let name = format!("{prefix}_{}", forwarder.name);
        let symbol = add_symbol(&mut file, &name, SymbolSection::Section(text), place, forwarder.code.len());
        file.symbol_mut(symbol).scope = SymbolScope::Dynamic;
        for Reference { offset, kind, to, addend } in forwarder.references {
            let calls = matches!(to, Referent::Runtime(_));
            let symbol = match to {
                Referent::Code => code,
                Referent::Container => data,
                Referent::Runtime(name) => match file.symbol_id(name.as_bytes()) {
                    Some(known) => known,
                    None => {
                        let symbol = add_symbol(&mut file, &name, SymbolSection::Undefined, 0, 0);
                        file.symbol_mut(symbol).scope = SymbolScope::Unknown;
                        symbol
                    }
                },
            };
            let flags = reloc_flags(kind, calls).ok_or_else(|| EmitError::Relocation {
                function: name.clone(),
                name: forwarder.name.to_owned(),
                kind: format!("{kind:?}"),
            })?;
            let relocation = Relocation { offset: place + offset, symbol, addend, flags };
            file.add_relocation(text, relocation).map_err(|e| EmitError::Object(e.to_string()))?;
        }
    }
    // Without it, linkers make the stack executable.
    file.add_section(vec![], b".note.GNU-stack".to_vec(), SectionKind::Other);
    file.write().map_err(|e| EmitError::Object(e.to_string()))
}

fn add_symbol(
    file: &mut Object<'_>,
    name: &str,
    section: SymbolSection,
    value: u64,
    size: usize,
) -> SymbolId {
    file.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value,
        size: size as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Compilation,
        weak: false,
        section,
        flags: SymbolFlags::None,
    })
}

fn reloc_flags(kind: Reloc, calls: bool) -> Option<RelocationFlags> {
    let generic = |kind, encoding, size| Some(RelocationFlags::Generic { kind, encoding, size });
    match kind {
        Reloc::X86CallPCRel4 if calls => {
            generic(RelocationKind::PltRelative, RelocationEncoding::X86Branch, 32)
        }
        Reloc::X86CallPCRel4 | Reloc::X86PCRel4 => {
            generic(RelocationKind::Relative, RelocationEncoding::Generic, 32)
        }
        Reloc::Arm64Call => generic(RelocationKind::PltRelative, RelocationEncoding::AArch64Call, 26),
        Reloc::Aarch64AdrPrelPgHi21 => Some(RelocationFlags::Elf { r_type: elf::R_AARCH64_ADR_PREL_PG_HI21 }),
        Reloc::Aarch64AddAbsLo12Nc => Some(RelocationFlags::Elf { r_type: elf::R_AARCH64_ADD_ABS_LO12_NC }),
        _ => None,
    }
}
