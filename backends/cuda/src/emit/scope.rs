//! What names mean in the function that is being written, and how they are spelled.

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::{Ranges, Symbol};
use ir::{DType, Dim};

use super::vector::Vector;

#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<Dim>,
}

/// Names of C that are taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// A name like this one that nothing else has.
    pub(crate) fn fresh(&mut self, like: &str) -> String {
        let base = identifier(like);
        let mut name = base.clone();
        let mut number = 1;
        while RESERVED.contains(&name.as_str()) || !self.0.insert(name.clone()) {
            name = format!("{base}_{number}");
            number += 1;
        }
        name
    }
}

/// What bound names stand for.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) names: Names,
    pub(super) arrays: BTreeMap<Symbol, Array>,
    pub(super) scalars: BTreeMap<Symbol, String>,
    pub(super) axes: BTreeMap<Symbol, String>,
    pub(super) vectors: Vec<Vector>,
    pub(super) ranges: Ranges,
}

impl Scope {
    pub(super) fn new() -> Scope {
        Scope {
            names: Names::default(),
            arrays: BTreeMap::new(),
            scalars: BTreeMap::new(),
            axes: BTreeMap::new(),
            vectors: Vec::new(),
            ranges: Ranges::new(),
        }
    }

    pub(super) fn name_axis(&mut self, axis: &Symbol) -> String {
        let name = self.names.fresh(axis.name());
        self.axes.insert(axis.clone(), name.clone());
        name
    }

    pub(super) fn name_scalar(&mut self, scalar: &Symbol) -> String {
        let name = self.names.fresh(scalar.name());
        self.scalars.insert(scalar.clone(), name.clone());
        name
    }
}

/// The name with everything that C does not take replaced.
pub(super) fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let text: String = name.chars().map(plain).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) || text.is_empty() { format!("_{text}") } else { text }
}

/// Words of the language and of what stands before the functions, and CUDA's functions, beside which no kernel can have its name.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "MmaBF16", "MmaF16", "Pack", "Part", "Stretch", "abs", "acos", "acosh", "alignas", "and", "asin", "asinh",
    "asm", "atan", "atan2", "atanh", "auto", "bf16", "bool", "break", "case", "catch", "cbrt", "ceil", "char",
    "class", "const", "continue", "copysign", "cos", "cosh", "default", "delete", "do", "double", "else",
    "enum", "erf", "erfc", "erfcinv", "erfinv", "exp", "exp10", "exp2", "explicit", "expm1", "export", "extern",
    "f16", "fabs", "false", "fdim", "float", "floor", "fma", "fmax", "fmin", "fmod", "for", "frexp", "friend",
    "goto", "hypot", "i16", "i32", "i64", "i8", "if", "ilogb", "inline", "int", "isfinite", "isinf", "isnan",
    "ldexp", "lgamma", "log", "log10", "log1p", "log2", "logb", "long", "max", "min", "modf", "nan",
    "nearbyint", "new", "nextafter", "norm", "normcdf", "not", "operator", "or", "pow", "private", "protected",
    "public", "register", "remainder", "return", "rint", "round", "rsqrt", "scalbn", "shared", "short",
    "signbit", "signed", "sin", "sincos", "sinh", "sinpi", "sizeof", "sqrt", "static", "struct", "switch",
    "tan", "tanh", "template", "tgamma", "this", "throw", "true", "trunc", "try", "typedef", "typeid",
    "typename", "u16", "u32", "u64", "u8", "union", "unsigned", "using", "virtual", "void", "volatile", "while",
    "xor",
];
