//! The C header of a library.

use std::fmt::Write;

use crate::{plan::DType, services::ABI_VERSION};

/// A function of the interface; `model` in types and names stands for the model's name.
struct Function {
    doc: &'static str,
    returns: &'static str,
    /// Without the prefix.
    name: &'static str,
    params: &'static [&'static str],
}

/// Rows of [`FUNCTIONS`]: `"doc" "returns" name [params]`.
macro_rules! functions {
    ($($doc:literal $returns:literal $name:ident [$($param:literal),*];)*) => {
        &[$(Function {
            doc: $doc,
            returns: $returns,
            name: stringify!($name),
            params: &[$($param),*],
        }),*]
    };
}

/// The interface, in the order of the header.
const FUNCTIONS: &[Function] = functions! {
    "Version of the interface that the library was built with: compare it with the macro."
    "uint32_t" abi_version [];
    "The message of the last failing call in this thread; valid until the next one fails."
    "const char*" last_error [];
    "Opens the model. sidecar_dir is the folder of its weights file: NULL for the working directory,\n   \
     not used by a model that has its weights inside. *out is NULL on failure."
    "int" model_open ["const char* sidecar_dir", "$_model** out"];
    "Gives the model back. Sessions that are open keep what they need. NULL is ignored."
    "void" model_close ["$_model* model"];
    "Number of entries: functions that can be called."
    "size_t" entry_count ["const $_model* model"];
    "Name of an entry, or NULL. Names are valid as long as the model is open."
    "const char*" entry_name ["const $_model* model", "size_t entry"];
    "Number of inputs of an entry."
    "size_t" input_count ["const $_model* model", "size_t entry"];
    "Name of an input, or NULL."
    "const char*" input_name ["const $_model* model", "size_t entry", "size_t index"];
    "Element type of an input, or 0."
    "int" input_dtype ["const $_model* model", "size_t entry", "size_t index"];
    "Number of axes of an input."
    "size_t" input_rank ["const $_model* model", "size_t entry", "size_t index"];
    "Number of outputs of an entry."
    "size_t" output_count ["const $_model* model", "size_t entry"];
    "Name of an output, or NULL."
    "const char*" output_name ["const $_model* model", "size_t entry", "size_t index"];
    "Element type of an output, or 0."
    "int" output_dtype ["const $_model* model", "size_t entry", "size_t index"];
    "Number of axes of an output."
    "size_t" output_rank ["const $_model* model", "size_t entry", "size_t index"];
    "1 if the sizes of an output are decided while the model runs, else 0. The session has the memory of such\n   \
     an output: it is not set, and its shape and data can be asked for after a run."
    "int" output_is_dynamic ["const $_model* model", "size_t entry", "size_t index"];
    "Number of states of an entry: what it keeps from run to run."
    "size_t" state_count ["const $_model* model", "size_t entry"];
    "Name of a state, or NULL."
    "const char*" state_name ["const $_model* model", "size_t entry", "size_t index"];
    "Element type of a state, or 0."
    "int" state_dtype ["const $_model* model", "size_t entry", "size_t index"];
    "Number of axes of a state."
    "size_t" state_rank ["const $_model* model", "size_t entry", "size_t index"];
    "Makes a session: one entry with its memory and its own threads; 0 threads takes one per processor.\n   \
     One thread at a time may use a session; sessions of one model may run at the same time."
    "int" session_new ["$_model* model", "size_t entry", "int threads", "$_session** out"];
    "Makes a session of another entry that goes on from this one: both have the same state and threads, and\n   \
     while one runs, the other waits. Either may end first."
    "int" session_beside ["$_session* session", "size_t entry", "$_session** out"];
    "Ends a session. NULL is ignored."
    "void" session_free ["$_session* session"];
    "Sets an input, row-major. The buffer stays the caller's and is read by each run until it is replaced."
    "int" session_set_input ["$_session* session", "size_t index", "int dtype", "size_t rank",
        "const int64_t* dims", "const void* data"];
    "Fixes all sizes, once every input is set, so that the shapes of outputs can be asked for."
    "int" session_bind ["$_session* session"];
    "Shape of an output of a bound session; if it is decided while the model runs, that of the last run.\n   \
     *rank is always set; dims only if rank_capacity suffices."
    "int" session_output_shape ["$_session* session", "size_t index", "size_t rank_capacity", "size_t* rank",
        "int64_t* dims"];
    "Sets an output: room for the whole tensor, row-major, apart from all other tensors. Written by each\n   \
     run until it is replaced. Not for outputs whose sizes are decided while the model runs."
    "int" session_set_output ["$_session* session", "size_t index", "void* data", "size_t bytes"];
    "Data of an output whose sizes were decided by the last run: row-major, aligned to 64 bytes, and its\n   \
     length. It stays the session's, and is valid until the next run, or bind, or input of other sizes."
    "int" session_output_data ["$_session* session", "size_t index", "const void** data", "size_t* bytes"];
    "Runs. Binds first if sizes have changed; all inputs and outputs must be set, but for outputs whose sizes\n   \
     are decided while the model runs. If sizes have not changed, only what is too small for sizes of that\n   \
     kind is allocated."
    "int" session_run ["$_session* session"];
    "Makes the state that is kept between runs zero, as in a new session."
    "int" session_reset_state ["$_session* session"];
    "Bytes of a state of a bound session."
    "int" session_state_bytes ["$_session* session", "size_t index", "size_t* bytes"];
    "Copies a state of a bound session, row-major, to go on from it another time; bytes are all that it has."
    "int" session_read_state ["$_session* session", "size_t index", "void* data", "size_t bytes"];
    "Gives a state of a bound session these elements, row-major."
    "int" session_write_state ["$_session* session", "size_t index", "const void* data", "size_t bytes"];
};

impl Function {
    /// Its declaration under `prefix`, without the semicolon.
    fn declare(&self, prefix: &str) -> String {
        let params = match self.params {
            [] => "void".to_owned(),
            params => params.join(", ").replace('$', prefix),
        };
        format!("{} {prefix}_{}({params})", self.returns, self.name)
    }
}

/// The header of the library of a model; `model_name` is a C identifier.
///
/// # Panics
/// `model_name` is no C identifier.
pub fn c_header(model_name: &str) -> String {
    require_identifier(model_name);
    let upper = model_name.to_uppercase();
    let mut out = format!(
        "/* The model `{model_name}`, compiled by egraft.

   Functions that return int return {upper}_OK or another status; {model_name}_last_error() says more.
   Pointers must be valid, or NULL where that is allowed; a NULL that is not is a status, not a crash.
   Buffers must be aligned to their elements. Nothing here writes to the terminal or exits. */
#ifndef {upper}_H
#define {upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern \"C\" {{
#endif

/* Version of this interface. */
#define {upper}_ABI_VERSION {ABI_VERSION}

/* Status: what a function returns. */
enum {{
  {upper}_OK = 0,
  {upper}_ERROR_ARGUMENT = 1, /* NULL, an index out of range, a value without meaning */
  {upper}_ERROR_LOAD = 2,     /* the model cannot be loaded */
  {upper}_ERROR_RUN = 3,      /* the session cannot be bound or run with these tensors */
  {upper}_ERROR_INTERNAL = 4  /* a bug */
}};

/* Element types. A bool is one byte, 0 or 1. A float of 16 or 8 bits is a uint16_t or uint8_t with its bits. An element
   of fewer than 8 bits is a byte of its own: an i4 or i2 is an int8_t, a u4 or u2 a uint8_t with the value, an f4e2m1 a
   uint8_t with its bits, zeros above. */
enum {{
"
    );
    for dtype in DType::ALL {
        put(&mut out, format_args!("  {upper}_{} = {},\n", dtype.name().to_uppercase(), dtype.code()));
    }
    // C89 has no comma after the last one.
    out.truncate(out.len() - 2);
    put(
        &mut out,
        format_args!(
            "\n}};\n\ntypedef struct {model_name}_model {model_name}_model;\n\
             typedef struct {model_name}_session {model_name}_session;\n"
        ),
    );
    for function in FUNCTIONS {
        put(&mut out, format_args!("\n/* {} */\n{};\n", function.doc, function.declare(model_name)));
    }
    out.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

fn require_identifier(name: &str) {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(starts && goes_on, "bug: `{name}` is no C identifier");
}
