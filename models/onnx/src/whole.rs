//! Functions that stand for ops of ours: what the exporter wrote is taken back whole.
//!
//! Such a function says in its metadata which op it is, on operands of which types, and what the hash of its body is (see
//! [`crate::export`]). A call becomes that op where the body is still what was written, the operands are of these types, and
//! the op takes them. Everywhere else the body is opened, like that of any function: it means the same.

use ir::attr::{Attr, Attrs};
use ir::graph::Kind;
use ir::op::Flow;
use ir::origin::{Origin, Place};
use ir::text::NoWeights;
use ir::{DType, Dim, OpDef, Symbol, TensorType, Value};
use onnx_protobuf::{FunctionProto, NodeProto};
use ops::flow::as_size::{as_size, check_size};
use ops::shape::reshape::reshape;

use crate::export::{BODY, DOMAIN, OP, body_hash};
use crate::nodes::{Binding, Importer};

/// The op that a function stands for.
pub(crate) struct Whole {
    def: &'static OpDef,
    attrs: Attrs,
    /// The types of the operands, over symbols of its own.
    types: Vec<TensorType>,
    /// The symbols that further inputs give.
    further: Vec<Symbol>,
}

/// The op that a function stands for, if it does; `find` gives the functions of our domain.
pub(crate) fn read<'a>(
    proto: &FunctionProto,
    find: &dyn Fn(&str) -> Option<&'a FunctionProto>,
) -> Option<Whole> {
    if proto.domain != DOMAIN || !proto.attribute.is_empty() || !proto.attribute_proto.is_empty() {
        return None;
    }
    let property = |key: &str| proto.metadata_props.iter().find(|entry| entry.key == key);
    let (text, hash) = (&property(OP)?.value, &property(BODY)?.value);
    if body_hash(proto, find).to_string() != *hash {
        return None;
    }
    let graph = ir::text::parse_graph(text, &ops::find, &NoWeights).ok()?;
    let mut ops = graph.order().into_iter().filter(|&id| graph.node(id).op().is_some());
    let (id, None) = (ops.next()?, ops.next()) else { return None };
    let (def, attrs) = graph.node(id).op()?;
    let operands = graph.operands(id);
    let are_inputs = operands.iter().map(|value| value.node).eq(graph.inputs().iter().copied());
    let is_input = |value: &Value| matches!(graph.node(value.node).kind, Kind::Input(_));
    if !are_inputs || !operands.iter().all(is_input) || proto.output.len() != graph.node(id).types.len() {
        return None;
    }
    let types: Vec<TensorType> = operands.iter().map(|&value| graph.ty(value).clone()).collect();
    let further = proto.input.get(types.len()..)?.iter().map(Symbol::new).collect();
    Some(Whole { def, attrs: attrs.clone(), types, further })
}

impl<'a> Importer<'a> {
    /// The op in place of a call; `None` if it does not fit, and nothing was changed that counts.
    pub(crate) fn add_whole(&mut self, node: &'a NodeProto, whole: &Whole, place: &Place) -> Option<()> {
        let given: Vec<Value> = self
            .bindings(node)?
            .into_iter()
            .map(|binding| if let Binding::Value(value) = binding { Some(value) } else { None })
            .collect::<Option<_>>()?;
        if given.len() != whole.types.len() + whole.further.len() {
            return None;
        }
        let (operands, numbers) = given.split_at(whole.types.len());
        let types: Vec<TensorType> = operands.iter().map(|&value| self.graph().ty(value).clone()).collect();
        let mut sizes = fit(&whole.types, &types)?;
        self.build().set_origin(Origin::place(place.clone()));
        for (symbol, &number) in whole.further.iter().zip(numbers) {
            let size = match self.known(number) {
                Some(size) => size,
                None if self.graph().ty(number) == &TensorType::scalar(DType::I64) => {
                    as_size(self.build(), number, &node.op_type, None).ok()?
                }
                None => return None,
            };
            sizes.push((symbol.clone(), size));
        }
        let with =
            |symbol: &Symbol| sizes.iter().find(|(own, _)| own == symbol).map(|(_, size)| size.clone());
        // Sizes of operands that are expressions are what they say only now.
        let agree = whole.types.iter().map(|ty| ty.substitute(&with)).eq(types);
        let results = match whole.def.semantics.flow(&whole.attrs) {
            _ if !agree => return None,
            Some(Flow::Size { name, size, .. }) if size.as_symbol() != Some(&name) => {
                check_size(self.build(), operands[0], &place.name, size.substitute(&with)).ok()?;
                vec![operands[0]]
            }
            Some(Flow::Size { bound, .. }) => {
                let x = reshape(self.build(), operands[0], vec![]).ok()?;
                let bound = bound.map(|bound| bound.substitute(&with));
                let size = as_size(self.build(), x, &place.name, bound).ok()?;
                vec![self.size_value(&size)?]
            }
            Some(_) => return None,
            None => {
                let attrs = whole.attrs.substitute(&with).ok()?;
                let attrs: Vec<(&'static str, Attr)> =
                    attrs.iter().map(|(key, attr)| (key, attr.clone())).collect();
                self.build().ops_with(whole.def, operands, attrs).ok()?
            }
        };
        if results.len() < node.output.len() {
            return None;
        }
        for (output, result) in node.output.iter().zip(results) {
            self.bind(output, Binding::Value(result));
        }
        Some(())
    }

    fn size_value(&mut self, size: &Dim) -> Option<Value> {
        ops::shape::size::size(self.build(), DType::I64, size).ok()
    }
}

/// What the symbols of the first types are in the second; `None` if they are other types.
fn fit(own: &[TensorType], given: &[TensorType]) -> Option<Vec<(Symbol, Dim)>> {
    let mut sizes: Vec<(Symbol, Dim)> = Vec::new();
    for (own, given) in own.iter().zip(given) {
        if own.dtype != given.dtype || own.rank() != given.rank() {
            return None;
        }
        for (own, given) in own.shape.iter().zip(&given.shape) {
            let Some(symbol) = own.as_symbol() else { continue };
            match sizes.iter().find(|(known, _)| known == symbol) {
                Some((_, size)) if size != given => return None,
                Some(_) => {}
                None => sizes.push((symbol.clone(), given.clone())),
            }
        }
    }
    Some(sizes)
}
