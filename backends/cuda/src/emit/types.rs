//! Element types as those of C, and text with how tightly it binds.

use ir::DType;

use crate::prelude::Prelude;

/// How tightly text binds, as C has it: what is less binds tighter.
pub(super) const ATOM: u8 = 0;
pub(super) const PREFIX: u8 = 1;
pub(super) const MUL: u8 = 2;
pub(super) const ADD: u8 = 3;
pub(super) const SHIFT: u8 = 4;
pub(super) const ORDER: u8 = 5;
pub(super) const EQUAL: u8 = 6;
pub(super) const BITS: u8 = 7;
pub(super) const AND: u8 = 8;
pub(super) const OR: u8 = 9;
pub(super) const CHOICE: u8 = 10;

/// An expression of C.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) text: String,
    level: u8,
}

impl Code {
    pub(super) fn atom(text: impl Into<String>) -> Code {
        Code { text: text.into(), level: ATOM }
    }

    pub(super) fn new(text: impl Into<String>, level: u8) -> Code {
        Code { text: text.into(), level }
    }

    /// A call of a function.
    pub(super) fn call(function: &str, args: &[&Code]) -> Code {
        let args: Vec<&str> = args.iter().map(|arg| arg.text.as_str()).collect();
        Code::atom(format!("{function}({})", args.join(", ")))
    }

    /// `a op b`, where the operator has this level and groups from the left.
    pub(super) fn infix(op: &str, level: u8, a: &Code, b: &Code) -> Code {
        // Mixed bits, comparisons and truth values are easier to read in parentheses.
        let left = if level >= ORDER { level - 1 } else { level };
        Code::new(format!("{} {op} {}", a.within(left), b.within(level - 1)), level)
    }

    /// The text, in parentheses if it binds less tightly than this.
    pub(super) fn within(&self, level: u8) -> String {
        if self.level <= level { self.text.clone() } else { format!("({})", self.text) }
    }
}

/// The type of an element in memory.
pub(super) fn storage(prelude: &mut Prelude, dtype: DType) -> &'static str {
    prelude.need("integers");
    match dtype {
        DType::F16 => {
            prelude.need("f16");
            "f16"
        }
        DType::BF16 => {
            prelude.need("bf16");
            "bf16"
        }
        _ => value(dtype),
    }
}

/// The type of an element as functions compute with it: floats of 16 bits as `float` whose value is one of theirs,
/// narrow floats as their codes.
pub(super) fn value(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => "float",
        DType::F64 => "double",
        DType::I8 | DType::I4 | DType::I2 => "i8",
        DType::I16 => "i16",
        DType::I32 => "i32",
        DType::I64 => "i64",
        DType::U8 | DType::U4 | DType::U2 => "u8",
        DType::U16 => "u16",
        DType::U32 => "u32",
        DType::U64 => "u64",
        DType::Bool => "bool",
        DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F8E8M0
        | DType::F4E2M1 => "u8",
    }
}
