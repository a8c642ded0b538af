//! Inputs and outputs of a model that are more or less than one tensor.
//!
//! A sequence of n tensors called `x` is n inputs or outputs of the graph, `x.0` to `x.(n-1)`; an optional is what it
//! holds, or nothing. How many tensors an input holds, and whether it holds any, is given with the options of the
//! import: the graph is made for that. The sizes of a sequence's elements are each their own, whatever the model calls
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ir::Dim;
use onnx_protobuf::tensor_shape_proto::Dimension;
use onnx_protobuf::tensor_shape_proto::dimension::Value as DimValue;
use onnx_protobuf::type_proto::Value as TypeValue;
use onnx_protobuf::{ModelProto, TensorShapeProto, TypeProto, ValueInfoProto};

use crate::error::ImportProblem;
use crate::{ImportOptions, parse_in_place};

/// A sequence holds so many tensors at most.
pub const MAX_LENGTH: usize = 1 << 16;

/// What an input or an output is declared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tensor, or something that is none of the others.
    Tensor,
    /// A sequence of tensors.
    Sequence,
    /// A tensor or nothing.
    Optional,
    /// A sequence of tensors or nothing.
    OptionalSequence,
}

impl Kind {
    /// May it hold nothing at all?
    pub fn is_optional(self) -> bool {
        matches!(self, Kind::Optional | Kind::OptionalSequence)
    }

    /// Can what is declared so be something that is computed as `other`?
    pub(crate) fn may_be(self, other: Kind) -> bool {
        match other {
            Kind::Tensor => matches!(self, Kind::Tensor | Kind::Optional),
            Kind::Sequence => self.is_sequence(),
            Kind::Optional | Kind::OptionalSequence => self.is_optional(),
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Kind::Tensor => "a tensor",
            Kind::Sequence => "a sequence of tensors",
            Kind::Optional => "an optional",
            Kind::OptionalSequence => "an optional sequence",
        }
    }

    /// Does it hold several tensors, if it holds anything?
    pub fn is_sequence(self) -> bool {
        matches!(self, Kind::Sequence | Kind::OptionalSequence)
    }
}

/// An input or an output as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

impl Port {
    /// What the tensor at position `index` of a sequence is called.
    pub fn element(name: &str, index: usize) -> String {
        format!("{name}.{index}")
    }
}

/// The inputs that are no initializers, and the outputs, that a model declares; nothing else of it is looked at.
///
/// # Errors
/// What is wrong with the bytes.
pub fn ports(model: &[u8]) -> Result<(Vec<Port>, Vec<Port>), ImportProblem> {
    let proto: ModelProto = parse_in_place(model)?;
    let graph = proto.graph.as_ref().ok_or(ImportProblem::NoGraph)?;
    let port =
        |info: &ValueInfoProto| Port { name: info.name.clone(), kind: declared(info.type_.as_ref()).0 };
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|info| !constants.contains(info.name.as_str())).map(port);
    Ok((inputs.collect(), graph.output.iter().map(port).collect()))
}

/// What a type says, and the type of the tensor or tensors in it.
pub(crate) fn declared(ty: Option<&TypeProto>) -> (Kind, Option<&TypeProto>) {
    let kind = match ty.and_then(|ty| ty.value.as_ref()) {
        Some(TypeValue::SequenceType(sequence)) => (Kind::Sequence, sequence.elem_type.as_ref()),
        Some(TypeValue::OptionalType(optional)) => match declared(optional.elem_type.as_ref()) {
            (Kind::Tensor, element) => (Kind::Optional, element),
            (Kind::Sequence, element) => (Kind::OptionalSequence, element),
            _ => (Kind::Tensor, ty),
        },
        _ => (Kind::Tensor, ty),
    };
    match kind {
        (kind, Some(element)) if kind.is_sequence() && !is_tensor(element) => (Kind::Tensor, ty),
        kind => kind,
    }
}

fn is_tensor(ty: &TypeProto) -> bool {
    matches!(ty.value, Some(TypeValue::TensorType(_)))
}

/// What a name among the inputs of the model stands for.
pub(crate) enum Part {
    /// The input of the graph at this position.
    Tensor(usize),
    /// Those at these.
    Sequence(Range<usize>),
    /// An optional without an element.
    Nothing,
    /// It was reported.
    Unknown,
}

/// The inputs of the graph that a model's inputs become.
pub(crate) struct Inputs {
    pub(crate) infos: Vec<ValueInfoProto>,
    /// For each input of the model.
    pub(crate) parts: Vec<Part>,
    /// Shapes that the options give, those of a sequence for each of its elements.
    pub(crate) shapes: Vec<(String, Vec<Dim>)>,
    pub(crate) problems: Vec<ImportProblem>,
}

/// Takes sequences and optionals among the inputs apart, as the options say.
pub(crate) fn inputs(declarations: &[&ValueInfoProto], options: &ImportOptions) -> Inputs {
    let mut made = Inputs { infos: Vec::new(), parts: Vec::new(), shapes: Vec::new(), problems: Vec::new() };
    let mut shapes: BTreeMap<&str, &Vec<Dim>> =
        options.shapes.iter().map(|(name, shape)| (name.as_str(), shape)).collect();
    for info in declarations {
        let part = made.add(info, options, shapes.remove(info.name.as_str()));
        made.parts.push(part);
    }
    // Those of single elements, and of inputs that there are not.
    made.shapes.extend(shapes.into_iter().map(|(name, shape)| (name.to_owned(), shape.clone())));
    made.check_options(declarations, options);
    made
}

impl Inputs {
    fn add(&mut self, info: &ValueInfoProto, options: &ImportOptions, shape: Option<&Vec<Dim>>) -> Part {
        let name = &info.name;
        let (kind, element) = declared(info.type_.as_ref());
        let length = options.lengths.iter().find(|(given, _)| given == name).map(|(_, length)| *length);
        if length.is_some() && !kind.is_sequence() {
            let why = "a number of tensors is given, and it is no sequence";
            self.problems.push(ImportProblem::GivenInput { name: name.clone(), why });
        }
        if options.absent.contains(name) {
            if kind.is_optional() {
                return Part::Nothing;
            }
            let why = "it is said to be absent, and it is no optional";
            self.problems.push(ImportProblem::GivenInput { name: name.clone(), why });
        }
        let count = match (kind.is_sequence(), length) {
            (false, _) => {
                let mut info = (*info).clone();
                if kind == Kind::Optional {
                    info.type_ = element.cloned().into();
                }
                self.push(info, options, shape);
                return Part::Tensor(self.infos.len() - 1);
            }
            (true, Some(length)) if length <= MAX_LENGTH => length,
            (true, Some(_)) => {
                let why = "more tensors are given for a sequence than 65536";
                self.problems.push(ImportProblem::GivenInput { name: name.clone(), why });
                return Part::Unknown;
            }
            (true, None) => {
                self.problems.push(ImportProblem::NoLength { name: name.clone() });
                return Part::Unknown;
            }
        };
        let mut element = element.cloned().unwrap_or_default();
        forget_names(&mut element);
        let first = self.infos.len();
        for index in 0..count {
            let name = Port::element(name, index);
            let info =
                ValueInfoProto { name, type_: Some(element.clone()).into(), ..ValueInfoProto::default() };
            self.push(info, options, shape);
        }
        Part::Sequence(first..self.infos.len())
    }

    fn push(&mut self, mut info: ValueInfoProto, options: &ImportOptions, shape: Option<&Vec<Dim>>) {
        let rank = options.ranks.iter().find(|(name, _)| *name == info.name).map(|(_, rank)| *rank);
        let tensor = info.type_.as_mut().and_then(|ty| ty.value.as_mut());
        if let (Some(rank), Some(TypeValue::TensorType(tensor))) = (rank, tensor)
            && tensor.shape.is_none()
        {
            let dim = vec![Dimension::default(); rank];
            tensor.shape = Some(TensorShapeProto { dim, ..TensorShapeProto::default() }).into();
        }
        let values = options.values.iter().find(|(name, _)| *name == info.name);
        if let Some(shape) = shape {
            self.shapes.push((info.name.clone(), shape.clone()));
        } else if let Some((_, values)) = values
            && crate::types::declared_rank(&info) == 1
        {
            self.shapes.push((info.name.clone(), vec![Dim::from(values.len())]));
        }
        self.infos.push(info);
    }

    /// Every option names an input, and every input of the graph has a name of its own.
    fn check_options(&mut self, declarations: &[&ValueInfoProto], options: &ImportOptions) {
        let named = options.lengths.iter().map(|(name, _)| name).chain(&options.absent);
        let unknown = |name: &&String| !declarations.iter().any(|info| info.name == **name);
        let unknown: BTreeSet<&String> = named.filter(unknown).collect();
        let values = options.values.iter().map(|(name, _)| name);
        let values = values.filter(|name| !self.infos.iter().any(|info| info.name == **name));
        for name in unknown.into_iter().chain(values) {
            let known = declarations.iter().map(|info| info.name.clone()).collect();
            self.problems.push(ImportProblem::UnknownInput { name: name.clone(), known });
        }
        let names = self.infos.iter().map(|info| info.name.as_str());
        self.problems.extend(twice(names, "an input"));
    }
}

/// Names that elements of sequences have, and something else, too.
pub(crate) fn twice<'a>(names: impl Iterator<Item = &'a str>, what: &'static str) -> Vec<ImportProblem> {
    let mut seen = BTreeSet::new();
    let again: BTreeSet<&str> = names.filter(|name| !seen.insert(*name)).collect();
    let problem = |name: &str| ImportProblem::Duplicate {
        value: name.to_owned(),
        first: "an element of a sequence".to_owned(),
        second: what.to_owned(),
    };
    again.into_iter().map(problem).collect()
}

/// Takes the names of sizes out of the type of a sequence's elements.
fn forget_names(element: &mut TypeProto) {
    let Some(TypeValue::TensorType(tensor)) = &mut element.value else { return };
    for dim in tensor.shape.as_mut().map(|shape| &mut shape.dim).into_iter().flatten() {
        if matches!(dim.value, Some(DimValue::DimParam(_))) {
            dim.value = None;
        }
    }
}

/// What an output is declared as, and what of the tensor or tensors that it is.
pub(crate) fn output(info: &ValueInfoProto) -> (Kind, ValueInfoProto) {
    let (kind, element) = declared(info.type_.as_ref());
    let (name, type_) = (info.name.clone(), element.cloned().into());
    (kind, ValueInfoProto { name, type_, ..ValueInfoProto::default() })
}
