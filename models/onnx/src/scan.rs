//! `Scan`: a loop that takes one element of each of several arrays.
//!
//! In opset 8, everything had a batch axis in front, and the body did not see it: a loop over the batch around the scan.

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::origin::Place;
use ir::{Dim, Symbol};
use onnx_protobuf::{GraphProto, NodeProto};
use ops::flow::r#loop::{Repeat, repeat};
use ops::onnx::ImportError;
use ops::shape::reshape::reshape;
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS, slice_axis};
use ops::shape::transpose::transpose;

use crate::control::{Element, LoopBody, LoopParts};
use crate::error::ImportProblem;
use crate::nodes::{Binding, Importer};

/// Which axes are scanned and stacked, and from which end.
struct Ways {
    axes: Vec<i64>,
    backwards: Vec<i64>,
    out_axes: Vec<i64>,
    out_backwards: Vec<i64>,
}

impl<'a> Importer<'a> {
    pub(crate) fn add_scan(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let opset = self.opset(node, place)?;
        let mut operands = self.operands(node, place)?;
        if opset < 9 && !operands.is_empty() && operands.remove(0).is_some() {
            self.unsupported(place, "Scan with `sequence_lens`", "export the model with opset 9 or later");
            return None;
        }
        let inputs: Option<Vec<Value>> = operands.into_iter().collect();
        let Some(inputs) = inputs else {
            self.report_op(place, ImportError::MissingInput { index: 0 });
            return None;
        };
        let graph = self.graph_attribute(node, "body", place)?;
        self.build().set_origin(ir::Origin::place(place.clone()));
        let ints = |name: &str| {
            node.attribute.iter().find(|a| a.name == name).map(|a| a.ints.clone()).unwrap_or_default()
        };
        let scanned = node.attribute.iter().find(|a| a.name == "num_scan_inputs").map_or(0, |a| a.i);
        let fits = usize::try_from(scanned).ok().filter(|&n| n > 0 && n <= inputs.len());
        let Some(carried) = fits.map(|scanned| inputs.len() - scanned) else {
            let why = "is no number of the inputs";
            self.report(place, ImportProblem::Attribute { name: "num_scan_inputs".to_owned(), why });
            return None;
        };
        if graph.input.len() != inputs.len() || graph.output.len() < carried {
            let why = "takes or gives another number of values than the scan asks for";
            self.report(place, ImportProblem::Attribute { name: "body".to_owned(), why });
            return None;
        }
        let results = if opset < 9 {
            let ways =
                Ways { axes: vec![], backwards: ints("directions"), out_axes: vec![], out_backwards: vec![] };
            self.scan_batch(place, graph, &inputs, carried, &ways)?
        } else {
            let ways = Ways {
                axes: ints("scan_input_axes"),
                backwards: ints("scan_input_directions"),
                out_axes: ints("scan_output_axes"),
                out_backwards: ints("scan_output_directions"),
            };
            self.scan(place, graph, &inputs, carried, &ways)?
        };
        self.bind_all(node, place, results.into_iter().map(Binding::Value).collect())
    }

    /// What a scan of values of the current graph gives: what it carries last, and stacks.
    fn scan(
        &mut self,
        place: &Place,
        graph: &'a GraphProto,
        inputs: &[Value],
        carried: usize,
        ways: &Ways,
    ) -> Option<Vec<Value>> {
        let mut count: Option<Dim> = None;
        let mut elements = Vec::new();
        for (i, &source) in inputs[carried..].iter().enumerate() {
            let ty = self.graph().ty(source).clone();
            let axis = normalize_axis(ways.axes.get(i).copied().unwrap_or(0), ty.rank());
            let axis = self.made(place, axis)?;
            let extent = ty.shape[axis].clone();
            if let Some(count) = count.as_ref().filter(|count| **count != extent) {
                let (left, right) = (count.clone(), extent);
                self.report_op(place, OpError::Size { what: "axes that are scanned together", left, right });
                return None;
            }
            count = Some(extent.clone());
            let (name, frame) = (graph.input[carried + i].name.as_str(), self.frames.len() - 1);
            let backwards = ways.backwards.get(i) == Some(&1);
            elements.push(Element { name, source, frame, axis, count: extent, backwards });
        }
        let names: Vec<&'a str> = graph.input[..carried].iter().map(|input| input.name.as_str()).collect();
        let parts = LoopParts {
            graph,
            given: &inputs[..carried],
            index_name: None,
            cond_name: None,
            names: &names,
            elements: &elements,
        };
        let LoopBody { graph: body, captures, index, changing, given, .. } =
            self.loop_body(&parts, place, false)?;
        let repeated = Repeat { body, index, count, cond: None, carried: given, captures, changing };
        let results = repeat(self.build(), repeated, "scan");
        let mut results = self.made(place, results)?;
        for (i, stack) in results[carried..].iter_mut().enumerate() {
            let axis = ways.out_axes.get(i).copied().unwrap_or(0);
            let turned = turned(self.build(), *stack, axis, ways.out_backwards.get(i) == Some(&1));
            *stack = self.made(place, turned)?;
        }
        Some(results)
    }

    /// The same for each element of a batch.
    fn scan_batch(
        &mut self,
        place: &Place,
        graph: &'a GraphProto,
        inputs: &[Value],
        carried: usize,
        ways: &Ways,
    ) -> Option<Vec<Value>> {
        let outside = self.frames.len() - 1;
        let batch = self.graph().ty(inputs[0]).shape.first().cloned();
        let batch = batch.ok_or(OpError::RankAtLeast { operand: "batch", least: 1, found: 0 });
        let batch = self.made(place, batch)?;
        let index = self.build().fresh_symbol("batch");
        let mut frame = self.frame().body("batch");
        frame.fixed.insert(index.clone());
        self.frames.push(frame);
        self.push_scope(place);
        let results = self.scan_element(place, graph, inputs, carried, ways, (outside, &batch, &index));
        self.scopes.pop();
        let frame = self.frames.pop().expect("it was pushed above");
        let finished = frame.finish(results?, self.frame_mut());
        let (body, captures) = self.made(place, finished)?;
        let repeated = Repeat {
            body,
            index,
            count: Some(batch),
            cond: None,
            carried: vec![],
            captures,
            changing: vec![],
        };
        let results = repeat(self.build(), repeated, "batch");
        self.made(place, results)
    }

    /// The scan of the element of a batch that `index` counts, in a frame of its own.
    fn scan_element(
        &mut self,
        place: &Place,
        graph: &'a GraphProto,
        inputs: &[Value],
        carried: usize,
        ways: &Ways,
        (outside, batch, index): (usize, &Dim, &Symbol),
    ) -> Option<Vec<Value>> {
        let mut own = Vec::new();
        for &input in inputs {
            let whole = self.inward(input, outside);
            let ty = self.graph().ty(whole).clone();
            let Some((_, shape)) = ty.shape.split_first().filter(|(extent, _)| *extent == batch) else {
                let (left, right) = (batch.clone(), ty.shape.first().cloned().unwrap_or(Dim::constant(0)));
                self.report_op(place, OpError::Size { what: "elements of a batch", left, right });
                return None;
            };
            let element = slice_axis(self.build(), whole, 0, Dim::from(index), Dim::constant(1))
                .and_then(|element| reshape(self.build(), element, shape.to_vec()));
            own.push(self.made(place, element)?);
        }
        self.scan(place, graph, &own, carried, ways)
    }
}

/// A stack with its first axis at `axis`, maybe backwards.
fn turned(b: &mut Build, stack: Value, axis: i64, backwards: bool) -> Result<Value, OpError> {
    let ty = b.ty(stack).clone();
    let mut stack = stack;
    if backwards {
        let mut starts = vec![Dim::constant(0); ty.rank()];
        starts[0] = ty.shape[0].clone() - Dim::constant(1);
        let mut steps = vec![1; ty.rank()];
        steps[0] = -1;
        stack =
            b.op_with(&SLICE, &[stack], [STARTS.is(starts), SIZES.is(ty.shape.clone()), STEPS.is(steps)])?;
    }
    let axis = ir::op::normalize_axis(axis, ty.rank())?;
    let mut perm: Vec<i64> = (1..ty.rank() as i64).collect();
    perm.insert(axis, 0);
    transpose(b, stack, perm)
}
