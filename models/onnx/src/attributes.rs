//! The attributes of a node, with references to those of a function followed.

use std::collections::BTreeMap;

use onnx_protobuf::AttributeProto;
use ops::onnx::NodeAttr;

use crate::Files;
use crate::error::ImportProblem;

/// The attributes of a call of a function, defaults filled in; `None` outside of functions.
pub(crate) type Arguments<'a> = Option<BTreeMap<&'a str, &'a AttributeProto>>;

/// What a node's attributes say.
pub(crate) struct Resolved<'a> {
    /// By name, references followed.
    pub(crate) given: BTreeMap<&'a str, &'a AttributeProto>,
    /// References that lead nowhere: `(attribute, attribute of the function)`. ONNX takes such an attribute as
    /// absent.
    pub(crate) dropped: Vec<(&'a str, &'a str)>,
}

/// The attributes of a node in a body with these arguments.
///
/// # Errors
/// An attribute that is given twice, and a reference outside of a function.
pub(crate) fn resolve<'a>(
    attributes: &'a [AttributeProto],
    arguments: &Arguments<'a>,
) -> Result<Resolved<'a>, ImportProblem> {
    let mut resolved = Resolved { given: BTreeMap::new(), dropped: Vec::new() };
    for attribute in attributes {
        let name = attribute.name.as_str();
        let broken = |why| ImportProblem::Attribute { name: name.to_owned(), why };
        let value = match (attribute.ref_attr_name.as_str(), arguments) {
            ("", _) => attribute,
            (_, None) => return Err(broken("refers to an attribute of a function, and is in none")),
            (reference, Some(arguments)) => match arguments.get(reference) {
                Some(value) => *value,
                None => {
                    resolved.dropped.push((name, reference));
                    continue;
                }
            },
        };
        if resolved.given.insert(name, value).is_some() {
            return Err(broken("is given twice"));
        }
    }
    Ok(resolved)
}

/// The attributes as conversions see them.
///
/// # Errors
/// The first that can't be read.
pub(crate) fn values(
    given: &BTreeMap<&str, &AttributeProto>,
    files: &dyn Files,
) -> Result<BTreeMap<String, NodeAttr>, ImportProblem> {
    given.iter().map(|(name, attribute)| Ok(((*name).to_owned(), value(name, attribute, files)?))).collect()
}

/// The kinds of `AttributeProto.type`, by number.
fn value(name: &str, attribute: &AttributeProto, files: &dyn Files) -> Result<NodeAttr, ImportProblem> {
    let broken = |why| ImportProblem::Attribute { name: name.to_owned(), why };
    let unsupported = |kind| ImportProblem::AttributeKind { name: name.to_owned(), kind };
    let text =
        |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).map_err(|_| broken("is text that is no UTF-8"));
    Ok(match attribute.type_.value() {
        1 => NodeAttr::Float(f64::from(attribute.f)),
        2 => NodeAttr::Int(attribute.i),
        3 => NodeAttr::Str(text(&attribute.s)?),
        4 => {
            let proto = attribute.t.as_ref().ok_or_else(|| broken("is a tensor, but holds none"))?;
            let tensor = crate::tensor::weight("", proto.clone(), files);
            NodeAttr::Tensor(tensor.map_err(|error| ImportProblem::Tensor { name: name.to_owned(), error })?)
        }
        5 => NodeAttr::Graph(attribute.g.as_ref().map_or_else(String::new, |graph| graph.name.clone())),
        6 => NodeAttr::Floats(attribute.floats.iter().map(|&v| f64::from(v)).collect()),
        7 => NodeAttr::Ints(attribute.ints.clone()),
        8 => NodeAttr::Strs(attribute.strings.iter().map(text).collect::<Result<_, _>>()?),
        9 => return Err(unsupported("a list of tensors")),
        10 => return Err(unsupported("a list of graphs")),
        11 | 12 => return Err(unsupported("a sparse tensor")),
        13 | 14 => return Err(unsupported("a type")),
        0 => return Err(broken("does not state its type")),
        _ => return Err(broken("is of an unknown type")),
    })
}
