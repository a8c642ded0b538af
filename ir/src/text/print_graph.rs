//! Graphs as text.
//!
//! Nodes come in [`Graph::order`], values are numbered in that order, weights stand before the graph (a nested
//! graph's inside its block). An invalid graph prints, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write;

use crate::attr::{Attr, Attrs};
use crate::dtype::{Class, DType};
use crate::graph::{Graph, Kind, NodeId, Value};
use crate::op::OpDef;
use crate::origin::{Origin, Place};
use crate::scalar::Scalar;
use crate::text::lex::{Quoted, Sigil, quote};
use crate::types::TensorType;
use crate::weight::Weight;

/// Weights of at most so many elements are written out.
const INLINE: usize = 32;

/// Weights of at most so many elements are written as one element, if all are equal.
pub(crate) const SPLAT: usize = 1 << 24;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        graph(f, self, 0, false)?;
        f.write_char('\n')
    }
}

/// Writes `  ` for each level.
pub(super) fn indent(f: &mut fmt::Formatter<'_>, level: usize) -> fmt::Result {
    (0..level).try_for_each(|_| f.write_str("  "))
}

/// Writes items with commas between them.
pub(super) fn commas<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (i, x) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        item(f, x)?;
    }
    Ok(())
}

/// The name of a weight that a graph's text calls so: `c0`, `c1`, … are those without one.
pub(super) fn implied_name(shown: &str) -> &str {
    let number = shown.strip_prefix('c').unwrap_or("");
    if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) { "" } else { shown }
}

/// What the values of one graph are called.
struct Names {
    weights: BTreeMap<NodeId, String>,
    numbers: BTreeMap<Value, usize>,
}

impl Names {
    fn new(graph: &Graph, order: &[NodeId]) -> Names {
        let mut used = BTreeSet::new();
        let mut weights = BTreeMap::new();
        let mut nameless = Vec::new();
        let mut numbers = BTreeMap::new();
        for &id in order {
            match &graph.node(id).kind {
                Kind::Input(_) => {}
                Kind::Weight(weight) if weight.name().is_empty() || !used.insert(weight.name()) => {
                    nameless.push(id)
                }
                Kind::Weight(weight) => {
                    weights.insert(id, weight.name().to_owned());
                }
                Kind::Op { .. } => {
                    for result in 0..graph.node(id).types.len() {
                        let number = numbers.len();
                        numbers.insert(Value { node: id, result }, number);
                    }
                }
            }
        }
        let mut free = (0..).map(|i| format!("c{i}")).filter(|name| !used.contains(name.as_str()));
        for id in nameless {
            weights.insert(id, free.next().expect("there are enough numbers"));
        }
        Names { weights, numbers }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, graph: &Graph, value: Value) -> fmt::Result {
        if let Some(name) = self.weights.get(&value.node).filter(|_| value.result == 0) {
            return write!(f, "{}", Sigil('@', name));
        }
        if let Some(number) = self.numbers.get(&value) {
            return write!(f, "%{number}");
        }
        match graph.contains(value.node).then(|| &graph.node(value.node).kind) {
            Some(Kind::Input(name)) if value.result == 0 => write!(f, "{}", Sigil('%', name)),
            // No such value: the graph is invalid, and this is how it looks.
            _ => f.write_str("%?"),
        }
    }
}

fn graph(f: &mut fmt::Formatter<'_>, graph: &Graph, level: usize, nested: bool) -> fmt::Result {
    let order: Vec<NodeId> = graph.order().into_iter().filter(|id| graph.contains(*id)).collect();
    let names = Names::new(graph, &order);
    let weights = |f: &mut fmt::Formatter<'_>, level: usize| {
        for &id in &order {
            let node = graph.node(id);
            if let Kind::Weight(w) = &node.kind {
                indent(f, level)?;
                let shown = &names.weights[&id];
                write!(f, "weights {} : ", Sigil('@', shown))?;
                weight(f, w)?;
                if w.name() != implied_name(shown) {
                    write!(f, " named {}", Quoted(w.name()))?;
                }
                origin(f, &node.origin)?;
                f.write_char('\n')?;
            }
        }
        Ok(())
    };
    if !nested {
        weights(f, level)?;
    }
    write!(f, "graph {}(", Sigil('@', graph.name()))?;
    commas(f, graph.inputs(), |f, &input| {
        let node = graph.node(input);
        write!(f, "{}: {}", Sigil('%', graph.input_name(input)), node.types[0])?;
        origin(f, &node.origin)
    })?;
    f.write_str(") -> ")?;
    let outputs = graph.outputs();
    let ty = |value: Value| {
        graph.contains(value.node).then(|| graph.node(value.node).types.get(value.result)).flatten()
    };
    types(f, outputs.iter().map(|value| ty(*value)))?;
    f.write_str(" {\n")?;
    if nested {
        weights(f, level + 1)?;
    }
    for &id in &order {
        let node = graph.node(id);
        let Kind::Op { def, attrs: given } = &node.kind else { continue };
        indent(f, level + 1)?;
        match node.types.len() {
            0 => f.write_str("()")?,
            n => commas(f, 0..n, |f, result| names.write(f, graph, Value { node: id, result }))?,
        }
        write!(f, " = {}", def.name)?;
        for (i, operand) in graph.operands(id).into_iter().enumerate() {
            f.write_str(if i == 0 { " " } else { ", " })?;
            names.write(f, graph, operand)?;
        }
        attrs(f, def, given, level + 1)?;
        f.write_str(" : ")?;
        types(f, node.types.iter().map(Some))?;
        origin(f, &node.origin)?;
        f.write_char('\n')?;
    }
    indent(f, level + 1)?;
    f.write_str("return")?;
    for (i, ((value, name), kept)) in outputs.iter().zip(graph.output_names()).zip(graph.kept()).enumerate() {
        f.write_str(if i == 0 { " " } else { ", " })?;
        names.write(f, graph, *value)?;
        if name != format!("y{i}") {
            write!(f, " as {}", Quoted(name))?;
        }
        if let Some(input) = kept {
            match graph.inputs().get(input) {
                Some(&input) => write!(f, " for {}", Sigil('%', graph.input_name(input)))?,
                None => f.write_str(" for %?")?,
            }
        }
    }
    f.write_char('\n')?;
    indent(f, level)?;
    f.write_char('}')
}

fn types<'a>(
    f: &mut fmt::Formatter<'_>,
    types: impl ExactSizeIterator<Item = Option<&'a TensorType>>,
) -> fmt::Result {
    if types.len() == 0 {
        return f.write_str("()");
    }
    commas(f, types, |f, ty| match ty {
        Some(ty) => write!(f, "{ty}"),
        None => f.write_char('?'),
    })
}

fn attrs(f: &mut fmt::Formatter<'_>, def: &OpDef, attrs: &Attrs, level: usize) -> fmt::Result {
    let default = |name: &str| def.attrs.iter().find(|spec| spec.name == name).and_then(|spec| spec.default);
    let shown: Vec<_> =
        attrs.iter().filter(|(name, attr)| default(name).is_none_or(|d| d() != **attr)).collect();
    if shown.is_empty() {
        return Ok(());
    }
    f.write_str(" {")?;
    commas(f, shown, |f, (name, attr)| {
        write!(f, "{name}=")?;
        attr_at(f, attr, level)
    })?;
    f.write_char('}')
}

/// Writes an attribute.
pub(crate) fn attr(f: &mut fmt::Formatter<'_>, attr: &Attr) -> fmt::Result {
    attr_at(f, attr, 0)
}

fn attr_at(f: &mut fmt::Formatter<'_>, attr: &Attr, level: usize) -> fmt::Result {
    match attr {
        Attr::Int(value) => write!(f, "{value}"),
        Attr::Float(value) => element(f, Scalar::from_bits(DType::F64, value.to_bits())),
        Attr::Bool(value) => write!(f, "{value}"),
        Attr::Str(text) => write!(f, "{}", Quoted(text)),
        Attr::DType(dtype) => write!(f, "{dtype}"),
        // A size that is a word like an element type's name.
        Attr::Dim(dim) => match dim.as_symbol().filter(|symbol| symbol.name().parse::<DType>().is_ok()) {
            Some(symbol) => quote(f, symbol.name(), '`'),
            None => write!(f, "{dim}"),
        },
        Attr::List(items) => {
            f.write_char('[')?;
            commas(f, items, |f, item| attr_at(f, item, level))?;
            f.write_char(']')
        }
        Attr::Region(region) => write!(f, "{region}"),
        Attr::Graph(nested) => graph(f, nested, level, true),
    }
}

/// Writes ` from "…"("op", "module", "source"), … by "rule", …`; nothing without an origin.
pub(super) fn origin(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    if !origin.places().is_empty() {
        f.write_str(" from ")?;
    }
    places(f, origin)?;
    if !origin.rules().is_empty() {
        f.write_str(" by ")?;
    }
    commas(f, origin.rules(), |f, rule| write!(f, "{}", Quoted(rule)))
}

fn places(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    commas(f, origin.places(), |f, place| {
        let Place { name, op, module, source } = &**place;
        write!(f, "{}", Quoted(name))?;
        let notes = [op, module, source];
        let shown = notes.iter().rposition(|note| !note.is_empty()).map_or(0, |last| last + 1);
        if shown > 0 {
            f.write_char('(')?;
            commas(f, &notes[..shown], |f, note| write!(f, "{}", Quoted(note)))?;
            f.write_char(')')?;
        }
        Ok(())
    })
}

/// How text gives the contents of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One element that all are equal to.
    Splat,
    /// Every element.
    Inline,
    /// The hash.
    Data,
}

/// How text gives the contents of `weight`.
pub(super) fn form(weight: &Weight) -> Form {
    let elements = weight.elements();
    // Truth values other than 0 and 1 have no text.
    let writable = weight.dtype() != DType::Bool || weight.stored().all(|element| element[0] <= 1);
    let mut each = weight.stored();
    let mut equal = || each.next().is_none_or(|first| each.all(|element| element == first));
    if writable && (1..=SPLAT).contains(&elements) && equal() {
        Form::Splat
    } else if writable && elements <= INLINE {
        Form::Inline
    } else {
        Form::Data
    }
}

/// Writes the type and the contents of a weight.
pub(super) fn weight(f: &mut fmt::Formatter<'_>, weight: &Weight) -> fmt::Result {
    write!(f, "{} = ", weight.ty())?;
    match form(weight) {
        Form::Splat => {
            f.write_str("splat ")?;
            element(f, weight.get(0))
        }
        Form::Inline => {
            f.write_char('[')?;
            commas(f, 0..weight.elements(), |f, at| element(f, weight.get(at)))?;
            f.write_char(']')
        }
        Form::Data => write!(f, "data \"{}\"", weight.hash()),
    }
}

/// Writes an element whose type is known: `1.5`, `-3`, `inf`, `nan`, `nan(0x7fc00001)`, `true`.
pub(super) fn element(f: &mut fmt::Formatter<'_>, value: Scalar) -> fmt::Result {
    let other_nan = value.dtype().class() == Class::Float
        && value.to_f64().is_nan()
        && value != Scalar::from_f64(value.dtype(), f64::NAN);
    if other_nan { write!(f, "nan({:#x})", value.bits()) } else { write!(f, "{value}") }
}
