//! The types of inputs and outputs, and the sizes that their dimensions stand for.
//!
//! A dimension is a number, a text, or nothing. A text is read as an expression over symbols (`2*s70*s72`). Where
//! it is none, or where no input would ever tell the value of a symbol in it (`batch-size`: of a difference one
//! learns neither part), the text itself is one opaque symbol. A dimension without a value is a symbol of its own,
//! called `<input>.<axis>`; so is one with a number below zero or the text `?`, which exporters write for what they do
//! not know.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Dim, Symbol, TensorType};
use onnx_protobuf::tensor_shape_proto::dimension::Value as DimValue;
use onnx_protobuf::type_proto::Value as TypeValue;
use onnx_protobuf::{TensorShapeProto, TypeProto, ValueInfoProto};
use ops::onnx::{dtype_name, dtype_of};

use crate::error::ImportProblem;
use crate::tensor::MAX_BYTES;

/// Why the type of an input or output does not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// It states no type.
    #[error("it has no type")]
    NoType,
    /// Something other than a tensor.
    #[error(
        "it is {what}, which is not supported: only tensors, sequences of tensors and optionals of these are"
    )]
    NotATensor {
        /// What it is.
        what: &'static str,
    },
    /// An element type that we don't have.
    #[error("element type {name} is not supported")]
    DType {
        /// Its name.
        name: String,
    },
    /// Not even the number of axes is known.
    #[error("its number of axes is unknown")]
    NoShape,
    /// A size that is given is below zero.
    #[error("axis {axis} has the negative size {size}")]
    NegativeDim {
        /// The axis.
        axis: usize,
        /// Its size.
        size: i64,
    },
    /// More bytes than any tensor may have.
    #[error("of type {ty} it is larger than 1 TiB, the limit of any tensor")]
    TooLarge {
        /// The type.
        ty: TensorType,
    },
    /// A shape is given that the declared one does not admit.
    #[error("the given shape {} does not suit the declared {}", dims(given), dims(declared))]
    GivenShape {
        /// What is given.
        given: Vec<Dim>,
        /// What the model declares.
        declared: Vec<Dim>,
    },
}

impl TypeError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            TypeError::NoType | TypeError::NotATensor { .. } | TypeError::DType { .. } => {
                "egraft::onnx::type"
            }
            TypeError::NoShape => "egraft::onnx::no_shape",
            TypeError::NegativeDim { .. } => "egraft::onnx::negative_dim",
            TypeError::TooLarge { .. } => "egraft::onnx::too_large",
            TypeError::GivenShape { .. } => "egraft::onnx::option",
        }
    }

    /// Is it legal, and just not supported?
    pub fn is_unsupported(&self) -> bool {
        match self {
            TypeError::NotATensor { .. } | TypeError::NoShape => true,
            TypeError::DType { name } => !name.starts_with("number "),
            _ => false,
        }
    }
}

fn dims(shape: &[Dim]) -> String {
    format!("[{}]", shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}

/// A dimension as the file has it.
#[derive(Debug, Clone, PartialEq)]
enum Declared {
    Number(i64),
    Text(String),
    Nothing,
}

/// The number of axes that is stated; 0 if none is.
pub(crate) fn declared_rank(info: &ValueInfoProto) -> usize {
    match info.type_.as_ref().and_then(|ty| ty.value.as_ref()) {
        Some(TypeValue::TensorType(tensor)) => tensor.shape.as_ref().map_or(0, |shape| shape.dim.len()),
        _ => 0,
    }
}

/// For each axis the size that is stated as a number; `None` without a shape.
pub(crate) fn declared_numbers(info: &ValueInfoProto) -> Option<Vec<Option<i64>>> {
    let TypeValue::TensorType(tensor) = info.type_.as_ref()?.value.as_ref()? else { return None };
    let number = |declared: Declared| match declared {
        Declared::Number(size) => Some(size),
        _ => None,
    };
    Some(declared(tensor.shape.as_ref()?).into_iter().map(number).collect())
}

fn declared(shape: &TensorShapeProto) -> Vec<Declared> {
    let dim = |dim: &onnx_protobuf::tensor_shape_proto::Dimension| match &dim.value {
        Some(DimValue::DimValue(size)) if *size >= 0 => Declared::Number(*size),
        Some(DimValue::DimParam(text)) if !["", "?"].contains(&text.trim()) => {
            Declared::Text(text.trim().to_owned())
        }
        _ => Declared::Nothing,
    };
    shape.dim.iter().map(dim).collect()
}

/// The element type, and the shape if one is stated.
fn tensor_parts(ty: Option<&TypeProto>) -> Result<(ir::DType, Option<Vec<Declared>>), TypeError> {
    let tensor = match ty.and_then(|ty| ty.value.as_ref()) {
        None => return Err(TypeError::NoType),
        Some(TypeValue::TensorType(tensor)) => tensor,
        Some(TypeValue::SequenceType(_)) => {
            return Err(TypeError::NotATensor { what: "a sequence of no tensors" });
        }
        Some(TypeValue::MapType(_)) => return Err(TypeError::NotATensor { what: "a map" }),
        Some(TypeValue::OptionalType(_)) => {
            return Err(TypeError::NotATensor { what: "an optional of another kind" });
        }
        Some(TypeValue::SparseTensorType(_)) => {
            return Err(TypeError::NotATensor { what: "a sparse tensor" });
        }
        Some(_) => return Err(TypeError::NotATensor { what: "of an unknown kind" }),
    };
    let code = i64::from(tensor.elem_type);
    if code == 0 {
        return Err(TypeError::NoType);
    }
    let dtype = dtype_of(code).ok_or_else(|| TypeError::DType { name: dtype_name(code) })?;
    Ok((dtype, tensor.shape.as_ref().map(declared)))
}

/// What the caller fixes about the inputs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given<'a> {
    pub(crate) dims: &'a [(Symbol, i64)],
    pub(crate) shapes: &'a [(String, Vec<Dim>)],
}

/// The types of the inputs, each by its own or with what is wrong with it.
///
/// `Err` for an option that suits no input.
pub(crate) fn inputs(
    infos: &[&ValueInfoProto],
    given: &Given,
) -> (Vec<Result<TensorType, TypeError>>, Vec<ImportProblem>) {
    let mut problems = Vec::new();
    let parts: Vec<_> = infos.iter().map(|info| tensor_parts(info.type_.as_ref())).collect();
    let mut opaque = BTreeSet::new();
    let mut types = loop {
        let types: Vec<_> = infos
            .iter()
            .zip(&parts)
            .map(|(info, parts)| {
                let (dtype, shape) = parts.clone()?;
                let given = given.shapes.iter().find(|(name, _)| *name == info.name).map(|(_, shape)| shape);
                let shape = match (shape, given) {
                    (Some(shape), _) => read_shape(&info.name, &shape, &opaque),
                    (None, Some(shape)) => shape.clone(),
                    (None, None) => return Err(TypeError::NoShape),
                };
                Ok(TensorType { dtype, shape })
            })
            .collect();
        // Texts in which a symbol can't be learned become symbols themselves; then others may be unsolvable, too.
        let shapes: Vec<&[Dim]> = types.iter().flatten().map(|ty| ty.shape.as_slice()).collect();
        let unsolved = unsolved(&shapes);
        let texts = parts.iter().flatten().filter_map(|(_, shape)| shape.as_ref()).flatten();
        let more: Vec<String> = texts
            .filter_map(|dim| match dim {
                Declared::Text(text) => Some(text),
                _ => None,
            })
            .filter(|text| !opaque.contains(*text))
            .filter(|text| {
                let dim = read_text(text);
                dim.as_symbol().is_none() && unsolved.iter().any(|symbol| dim.mentions(symbol))
            })
            .cloned()
            .collect();
        if more.is_empty() {
            break types;
        }
        opaque.extend(more);
    };

    // Sizes that the options fix.
    let known: Vec<Symbol> = symbols(types.iter().flatten().flat_map(|ty| &ty.shape));
    let mut fixed: BTreeMap<Symbol, Dim> = BTreeMap::new();
    for (symbol, size) in given.dims {
        if !known.contains(symbol) {
            problems.push(ImportProblem::UnknownSymbol { symbol: symbol.clone(), known: known.clone() });
        }
        fixed.insert(symbol.clone(), Dim::constant(*size));
    }
    for (name, shape) in given.shapes {
        match infos.iter().position(|info| info.name == *name) {
            None => {
                let known = infos.iter().map(|info| info.name.clone()).collect();
                problems.push(ImportProblem::UnknownInput { name: name.clone(), known });
            }
            Some(at) => {
                if let Ok(ty) = &types[at]
                    && let Err(error) = fix_shape(&ty.shape, shape, &mut fixed)
                {
                    types[at] = Err(error);
                }
            }
        }
    }
    let types = types.into_iter().map(|ty| {
        let ty = ty?.substitute(&|symbol| fixed.get(symbol).cloned());
        if let Some(axis) = ty.shape.iter().position(|dim| dim.as_const().is_some_and(|size| size < 0)) {
            let size = ty.shape[axis].as_const().expect("just seen");
            return Err(TypeError::NegativeDim { axis, size });
        }
        if is_too_large(&ty) { Err(TypeError::TooLarge { ty }) } else { Ok(ty) }
    });
    (types.collect(), problems)
}

/// Fixes the symbols that make `declared` the given shape.
fn fix_shape(declared: &[Dim], given: &[Dim], fixed: &mut BTreeMap<Symbol, Dim>) -> Result<(), TypeError> {
    let error = || TypeError::GivenShape { given: given.to_vec(), declared: declared.to_vec() };
    if declared.len() != given.len() {
        return Err(error());
    }
    for (declared, given) in declared.iter().zip(given) {
        let declared = declared.substitute(&|symbol| fixed.get(symbol).cloned());
        if declared == *given {
            continue;
        }
        let mut solution = None;
        declared.for_each_symbol(&mut |symbol| {
            if solution.is_none() && !given.mentions(symbol) {
                let parts = declared.linear_in(symbol);
                solution = parts
                    .and_then(|(scale, offset)| (given.clone() - offset).exact_div(&scale))
                    .filter(|size| size.as_const().is_none_or(|size| size >= 0))
                    .map(|size| (symbol.clone(), size));
            }
        });
        let (symbol, size) = solution.ok_or_else(error)?;
        for dim in fixed.values_mut() {
            *dim = dim.substitute(&|s| (*s == symbol).then(|| size.clone()));
        }
        fixed.insert(symbol, size);
    }
    Ok(())
}

/// A shape as sizes. `opaque` texts are symbols whatever they look like.
fn read_shape(input: &str, shape: &[Declared], opaque: &BTreeSet<String>) -> Vec<Dim> {
    let read = |(axis, dim): (usize, &Declared)| match dim {
        Declared::Number(size) => Dim::constant(*size),
        Declared::Text(text) if opaque.contains(text) => Dim::symbol(text),
        Declared::Text(text) => read_text(text),
        Declared::Nothing => Dim::symbol(format!("{input}.{axis}")),
    };
    shape.iter().enumerate().map(read).collect()
}

/// An expression, or a name. Long texts are names whatever they look like, and so are those with signs that mean
/// something else in our own text form.
fn read_text(text: &str) -> Dim {
    let is_expression = text.len() <= MAX_TEXT && !text.contains(['`', '"', ';', '\n']);
    let dim = if is_expression { Dim::parse(text).ok() } else { None };
    dim.unwrap_or_else(|| Dim::symbol(text))
}

/// No exporter writes longer expressions, in bytes.
const MAX_TEXT: usize = 256;

/// The symbols that sizes at run time don't determine: each needs a dimension that is linear in it and holds no
/// other symbol that is not determined yet.
fn unsolved(shapes: &[&[Dim]]) -> Vec<Symbol> {
    let mut unsolved = symbols(shapes.iter().copied().flatten());
    loop {
        let before = unsolved.len();
        for dim in shapes.iter().copied().flatten() {
            let unknown: Vec<&Symbol> = unsolved.iter().filter(|symbol| dim.mentions(symbol)).collect();
            if let [symbol] = unknown.as_slice()
                && dim.linear_in(symbol).is_some()
            {
                let symbol = (*symbol).clone();
                unsolved.retain(|s| *s != symbol);
            }
        }
        if unsolved.len() == before {
            return unsolved;
        }
    }
}

/// Every symbol, in order of appearance.
fn symbols<'a>(dims: impl Iterator<Item = &'a Dim>) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    for dim in dims {
        dim.for_each_symbol(&mut |symbol| {
            if !symbols.contains(symbol) {
                symbols.push(symbol.clone());
            }
        });
    }
    symbols
}

/// Does the known part of the sizes alone exceed the limit?
pub(crate) fn is_too_large(ty: &TensorType) -> bool {
    let mut sizes = ty.shape.iter().filter_map(Dim::as_const).filter(|&size| size > 0);
    let bytes = sizes.try_fold(ty.dtype.bytes() as i64, i64::checked_mul);
    bytes.is_none_or(|bytes| bytes > MAX_BYTES)
}

/// The declared type of an output, as far as it binds: the element type, and numbers where there are numbers.
#[derive(Debug, Clone)]
pub(crate) struct OutputType {
    declared: TensorType,
    has_shape: bool,
}

/// What an output declares.
pub(crate) fn output(info: &ValueInfoProto) -> Result<Option<OutputType>, TypeError> {
    // Outputs without a type are no rare thing, and nothing is lost: it follows from the inputs.
    if info.type_.as_ref().is_none_or(|ty| ty.value.is_none()) {
        return Ok(None);
    }
    let (dtype, shape) = tensor_parts(info.type_.as_ref())?;
    let has_shape = shape.is_some();
    let shape = read_shape(&info.name, &shape.unwrap_or_default(), &BTreeSet::new());
    Ok(Some(OutputType { declared: TensorType { dtype, shape }, has_shape }))
}

impl OutputType {
    /// The element type alone.
    pub(crate) fn without_shape(self) -> OutputType {
        OutputType { has_shape: false, ..self }
    }

    /// The declared type, if the computed one contradicts it. A symbol contradicts nothing: exporters name the
    /// sizes of outputs as they like.
    pub(crate) fn contradicts(&self, computed: &TensorType) -> Option<&TensorType> {
        let sizes = || {
            self.declared.shape.iter().zip(&computed.shape).any(|(declared, computed)| {
                declared
                    .as_const()
                    .zip(computed.as_const())
                    .is_some_and(|(declared, computed)| declared != computed)
            })
        };
        let differs = self.declared.dtype != computed.dtype
            || self.has_shape && (self.declared.rank() != computed.rank() || sizes());
        differs.then_some(&self.declared)
    }
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::tensor_shape_proto::Dimension;
    use onnx_protobuf::type_proto;

    use super::*;

    /// An f32 input; `""` is a dimension without a value.
    fn info(name: &str, dims: &[&str]) -> ValueInfoProto {
        let dim = |text: &&str| Dimension {
            value: match text.parse() {
                Ok(number) => Some(DimValue::DimValue(number)),
                Err(_) if text.is_empty() => None,
                Err(_) => Some(DimValue::DimParam((*text).trim_start_matches('=').to_owned())),
            },
            ..Dimension::default()
        };
        let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..TensorShapeProto::default() };
        let tensor =
            type_proto::Tensor { elem_type: 1, shape: Some(shape).into(), ..type_proto::Tensor::default() };
        let ty = TypeProto { value: Some(TypeValue::TensorType(tensor)), ..TypeProto::default() };
        ValueInfoProto { name: name.to_owned(), type_: Some(ty).into(), ..ValueInfoProto::default() }
    }

    fn read(infos: &[ValueInfoProto], given: &Given) -> Vec<String> {
        let infos: Vec<&ValueInfoProto> = infos.iter().collect();
        let (types, problems) = inputs(&infos, given);
        let show = |ty: Result<TensorType, TypeError>| {
            ty.map_or_else(|error| error.to_string(), |ty| ty.to_string())
        };
        types.into_iter().map(show).chain(problems.iter().map(ImportProblem::to_string)).collect()
    }

    #[test]
    fn dimensions_are_expressions() {
        let infos =
            [info("x", &["=2", "s36 + 1", "4"]), info("p", &["s70", "s72"]), info("q", &["2*s70*s72"])];
        assert_eq!(
            read(&infos, &Given::default()),
            ["f32[2, s36 + 1, 4]", "f32[s70, s72]", "f32[2*s70*s72]"]
        );
    }

    #[test]
    fn dimensions_without_a_value_are_symbols_of_their_own() {
        let infos = [info("x", &["n", "", ""]), info("y", &[""]), info("z", &["-1", "3", "?", "?", "-7"])];
        assert_eq!(
            read(&infos, &Given::default()),
            ["f32[n, x.1, x.2]", "f32[y.0]", "f32[z.0, 3, z.2, z.3, z.4]"]
        );
    }

    #[test]
    fn what_is_no_expression_is_a_symbol() {
        // The first does not parse; of the second no part is ever known; the third is known from the fourth.
        let infos = [info("x", &["onnx::Add 0", "batch-size", "past + now"]), info("y", &["past"])];
        let infos: Vec<&ValueInfoProto> = infos.iter().collect();
        let (types, _) = inputs(&infos, &Given::default());
        let shape = types[0].clone().expect("three sizes").shape;
        assert_eq!(shape[0], Dim::symbol("onnx::Add 0"));
        assert_eq!(shape[1], Dim::symbol("batch-size"));
        assert_eq!(shape[2], Dim::symbol("past") + Dim::symbol("now"));
    }

    #[test]
    fn hostile_texts_are_names() {
        let product = (0..20).map(|i| format!("(a{i}+b{i})")).collect::<Vec<_>>().join("*");
        let nested = "(".repeat(100_000);
        let power = format!("({})**255", ["a", "b", "c", "d"].join(" + "));
        for text in
            [product.as_str(), nested.as_str(), power.as_str(), "s**1000000000", "n; n", "`n`", "a//0"]
        {
            assert_eq!(read_text(text), Dim::symbol(text));
        }
        assert_eq!(
            read_text("(a + b)*2"),
            Dim::symbol("a") * Dim::constant(2) + Dim::symbol("b") * Dim::constant(2)
        );
    }

    #[test]
    fn given_sizes_hold_everywhere() {
        let infos = [info("x", &["n", "3"]), info("y", &["2*n"])];
        let dims = [(Symbol::from("n"), 4)];
        assert_eq!(read(&infos, &Given { dims: &dims, shapes: &[] }), ["f32[4, 3]", "f32[8]"]);
        let dims = [(Symbol::from("m"), 4)];
        assert_eq!(
            read(&infos, &Given { dims: &dims, shapes: &[] })[2],
            "no input has a dimension called `m`; there are: `n`"
        );
        let dims = [(Symbol::from("n"), -4)];
        assert_eq!(read(&infos, &Given { dims: &dims, shapes: &[] })[0], "axis 0 has the negative size -4");
    }

    #[test]
    fn given_shapes_solve_for_symbols() {
        let infos = [info("x", &["n", "3"]), info("y", &["2*n + 1"])];
        let shape =
            |name: &str, sizes: &[i64]| (name.to_owned(), sizes.iter().map(|&s| Dim::constant(s)).collect());
        let read_with = |shapes: &[(String, Vec<Dim>)]| read(&infos, &Given { dims: &[], shapes });
        assert_eq!(read_with(&[shape("x", &[5, 3])]), ["f32[5, 3]", "f32[11]"]);
        assert_eq!(read_with(&[shape("y", &[7])]), ["f32[3, 3]", "f32[7]"]);
        assert_eq!(
            read_with(&[shape("x", &[5, 4])])[0],
            "the given shape [5, 4] does not suit the declared [n, 3]"
        );
        assert_eq!(
            read_with(&[shape("x", &[5])])[0],
            "the given shape [5] does not suit the declared [n, 3]"
        );
        assert_eq!(
            read_with(&[shape("y", &[8])])[1],
            "the given shape [8] does not suit the declared [2*n + 1]"
        );
        assert_eq!(read_with(&[shape("z", &[8])])[2], "there is no input `z`; there are: `x`, `y`");
    }

    #[test]
    fn an_unknown_rank_must_be_given() {
        let mut unknown = info("x", &[]);
        let Some(TypeValue::TensorType(tensor)) = &mut unknown.type_.mut_or_insert_default().value else {
            panic!("just made")
        };
        tensor.shape = None.into();
        let infos = [unknown];
        assert_eq!(read(&infos, &Given::default()), ["its number of axes is unknown"]);
        let shapes = [("x".to_owned(), vec![Dim::symbol("n"), Dim::constant(2)])];
        assert_eq!(read(&infos, &Given { dims: &[], shapes: &shapes }), ["f32[n, 2]"]);
    }

    #[test]
    fn sizes_have_a_limit() {
        assert_eq!(
            read(&[info("x", &["1099511627776", "n"])], &Given::default()),
            ["of type f32[1099511627776, n] it is larger than 1 TiB, the limit of any tensor"]
        );
    }
}
