//! The functions that a library exports: the runtime's C interface under the model's own prefix.
//!
//! `<prefix>_model_open(sidecar_dir, out)` opens the embedded container with the embedded code; every other
//! `<prefix>_x` passes its arguments on to `egraft_x`. Linked into one library with the runtime, these are the only
//! names it needs to show.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{self as clif, InstBuilder, Type, types};
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, FinalizedRelocTarget};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use crate::emit::signature;
use crate::error::EmitError;

/// Pointers, `size_t` and handles.
const WORD: Type = types::I64;
/// `int` and `uint32_t`.
const INT: Type = types::I32;

/// What `egraft_model_open` is called with: container, length, code, length, folder, result.
const OPEN: [Type; 6] = [WORD; 6];

/// Functions that are passed on: name after the prefix, parameters, result.
const FORWARDED: [(&str, &[Type], Option<Type>); 32] = [
    ("abi_version", &[], Some(INT)),
    ("last_error", &[], Some(WORD)),
    ("model_close", &[WORD], None),
    ("entry_count", &[WORD], Some(WORD)),
    ("entry_name", &[WORD, WORD], Some(WORD)),
    ("input_count", &[WORD, WORD], Some(WORD)),
    ("input_name", &[WORD, WORD, WORD], Some(WORD)),
    ("input_dtype", &[WORD, WORD, WORD], Some(INT)),
    ("input_rank", &[WORD, WORD, WORD], Some(WORD)),
    ("output_count", &[WORD, WORD], Some(WORD)),
    ("output_name", &[WORD, WORD, WORD], Some(WORD)),
    ("output_dtype", &[WORD, WORD, WORD], Some(INT)),
    ("output_rank", &[WORD, WORD, WORD], Some(WORD)),
    ("output_is_dynamic", &[WORD, WORD, WORD], Some(INT)),
    ("session_new", &[WORD, WORD, INT, WORD], Some(INT)),
    ("session_free", &[WORD], None),
    ("session_set_input", &[WORD, WORD, INT, WORD, WORD, WORD], Some(INT)),
    ("session_bind", &[WORD], Some(INT)),
    ("session_output_shape", &[WORD, WORD, WORD, WORD, WORD], Some(INT)),
    ("session_set_output", &[WORD, WORD, WORD, WORD], Some(INT)),
    ("session_output_data", &[WORD, WORD, WORD, WORD], Some(INT)),
    ("session_run", &[WORD], Some(INT)),
    ("session_reset_state", &[WORD], Some(INT)),
    ("session_beside", &[WORD, WORD, WORD], Some(INT)),
    ("session_state_bytes", &[WORD, WORD, WORD], Some(INT)),
    ("session_read_state", &[WORD, WORD, WORD, WORD], Some(INT)),
    ("session_write_state", &[WORD, WORD, WORD, WORD], Some(INT)),
    ("state_count", &[WORD, WORD], Some(WORD)),
    ("state_name", &[WORD, WORD, WORD], Some(WORD)),
    ("state_dtype", &[WORD, WORD, WORD], Some(INT)),
    ("state_rank", &[WORD, WORD, WORD], Some(WORD)),
    ("model_open", &[WORD, WORD], Some(INT)),
];

/// What a forwarder refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Referent {
    /// A function of the runtime.
    Runtime(String),
    /// The code image.
    Code,
    /// The container.
    Container,
}

/// A reference of a forwarder, for the linker.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    /// Where it stands in the forwarder.
    pub(crate) offset: u64,
    /// How it is written.
    pub(crate) kind: Reloc,
    /// What it means.
    pub(crate) to: Referent,
    /// Added to it.
    pub(crate) addend: i64,
}

/// A compiled forwarder.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder {
    /// Its name without prefix.
    pub(crate) name: &'static str,
    /// Its code.
    pub(crate) code: Vec<u8>,
    /// Its references.
    pub(crate) references: Vec<Reference>,
}

/// All forwarders, for code and container of these lengths.
pub(crate) fn forwarders(
    isa: &dyn TargetIsa,
    code: u64,
    container: u64,
) -> Result<Vec<Forwarder>, EmitError> {
    FORWARDED
        .iter()
        .map(|&(name, params, result)| forwarder(isa, name, params, result, [container, code]))
        .collect()
}

fn forwarder(
    isa: &dyn TargetIsa,
    name: &'static str,
    params: &[Type],
    result: Option<Type>,
    lengths: [u64; 2],
) -> Result<Forwarder, EmitError> {
    let opens = name == "model_open";
    let results: Vec<Type> = result.into_iter().collect();
    let convention = isa.default_call_conv();
    let mut referents = vec![Referent::Runtime(format!("egraft_{name}"))];
    let mut function = clif::Function::new();
    function.signature = signature(convention, params, &results);
    let mut builders = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut function, &mut builders);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let mut args = b.block_params(entry).to_vec();
    if opens {
        let mut embedded = Vec::new();
        for (referent, length) in [Referent::Container, Referent::Code].into_iter().zip(lengths) {
            let name = external(&mut b, referents.len());
            referents.push(referent);
            let data = clif::GlobalValueData::Symbol { name, offset: 0.into(), colocated: true, tls: false };
            let symbol = b.create_global_value(data);
            embedded.push(b.ins().symbol_value(WORD, symbol));
            embedded.push(b.ins().iconst(WORD, length as i64));
        }
        args.splice(0..0, embedded);
    }
    let callee = if opens { &OPEN } else { params };
    let callee = b.import_signature(signature(convention, callee, &results));
    let name_of_callee = external(&mut b, 0);
    // Near: the runtime is linked into the same library.
    let data =
        clif::ExtFuncData { name: name_of_callee, signature: callee, colocated: true, patchable: false };
    let callee = b.import_function(data);
    let call = b.ins().call(callee, &args);
    let values = b.inst_results(call).to_vec();
    b.ins().return_(&values);
    b.finalize(isa.frontend_config());

    let mut context = Context::for_function(function);
    let refused = |why: String| EmitError::Codegen { function: name.to_owned(), why };
    context
        .compile(isa, &mut ControlPlane::default())
        .map_err(|e| refused(cranelift_codegen::print_errors::pretty_error(e.func, e.inner)))?;
    let compiled = context.compiled_code().expect("it was just compiled");
    let references = compiled.buffer.relocs().iter().map(|reloc| {
        let FinalizedRelocTarget::ExternalName(clif::ExternalName::User(to)) = &reloc.target else {
            return Err(EmitError::Relocation {
                function: name.to_owned(),
                name: reloc.target.display(Some(&context.func.params)),
                kind: format!("{:?}", reloc.kind),
            });
        };
        let index = context.func.params.user_named_funcs()[*to].index as usize;
        let (offset, kind) = (u64::from(reloc.offset), reloc.kind);
        Ok(Reference { offset, kind, to: referents[index].clone(), addend: reloc.addend })
    });
    Ok(Forwarder {
        name,
        code: compiled.code_buffer().to_vec(),
        references: references.collect::<Result<_, _>>()?,
    })
}

fn external(b: &mut FunctionBuilder<'_>, index: usize) -> clif::ExternalName {
    let name = clif::UserExternalName { namespace: 0, index: index as u32 };
    clif::ExternalName::user(b.func.declare_imported_user_function(name))
}
