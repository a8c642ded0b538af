//! Models in 16 bits: the golden cases once more, with `bf16` for each `f32`.
//!
//! They become the kernels that they become in `f32` (`golden/kernels.tsv`), and give what they would in `f32` with the same
//! weights and inputs, rounded: between ops nothing is. With `--fp strict` it is.

use std::collections::BTreeMap;

use egraft::source::Source;
use egraft::{Compiled, Options};
use harness::golden::{Case, Set, cases, check_each};
use harness::{Tolerance, graph};
use ir::graph::{Kind, Value};
use ir::op::OpError;
use ir::{DType, Graph, NodeId, Tensor, TensorType, Weight};
use ops::math::cast::{self, CAST, TO};
use passes::FpMode;

const HALF: DType = DType::BF16;

/// What there may be more of: inputs are cast for several others.
const MORE: [&str; 3] = ["all", "data", "fused"];

/// The last place of a `bf16`, and what sums in another order make of it.
const LAST_PLACE: f64 = 1.0 / 128.0;

/// A graph with other types for `f32`: of weights, whose values become those of `bf16`, of inputs, and so of all results.
/// `None` if it has others in it, or counts in floats, which no model does in 16 bits.
fn rounded(graph: &Graph, to: DType) -> Result<Option<Graph>, OpError> {
    let with = |ty: &TensorType| if ty.dtype == DType::F32 { ty.with_dtype(to) } else { ty.clone() };
    let mut new = Graph::new(graph.name());
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    for &id in graph.inputs() {
        let node = graph.node(id);
        values.insert(
            id.into(),
            new.add_input(graph.input_name(id), with(&node.types[0]), node.origin.clone()),
        );
    }
    for id in graph.order() {
        let node = graph.node(id);
        let origin = node.origin.clone();
        match &node.kind {
            Kind::Input(_) => {}
            Kind::Weight(weight) if weight.dtype() == DType::F32 => {
                let weight = Weight::of(weight.name(), in_type(&in_type(&weight.tensor(), HALF), to));
                values.insert(id.into(), new.add_weight(weight, origin));
            }
            Kind::Weight(weight) => {
                values.insert(id.into(), new.add_weight(weight.clone(), origin));
            }
            Kind::Op { attrs, .. } if !attrs.graphs().is_empty() => return Ok(None),
            Kind::Op { def, .. } if *def == &CAST && counts(graph, id) => return Ok(None),
            Kind::Op { def, attrs } => {
                let casts = *def == &CAST && attrs.get(TO) == DType::F32;
                let attrs = if casts { cast::to(to) } else { attrs.clone() };
                let operands: Vec<Value> = graph.operands(id).iter().map(|x| values[x]).collect();
                let made = new.add_op(def, &operands, attrs, origin.clone())?;
                for result in 0..node.types.len() {
                    let mut value = Value { node: made, result };
                    // Its type is an attribute.
                    if new.ty(value).dtype == DType::F32 && to != DType::F32 {
                        value = new.add_op(&CAST, &[value], cast::to(to), origin.clone())?.into();
                    }
                    values.insert(Value { node: id, result }, value);
                }
            }
        }
    }
    let names = graph.output_names().into_iter().map(str::to_owned);
    let outputs: Vec<_> = names.zip(graph.outputs().iter().map(|value| values[value])).collect();
    new.set_outputs(outputs);
    Ok(Some(new))
}

/// Does a cast make whole numbers of floats?
fn counts(graph: &Graph, cast: NodeId) -> bool {
    graph.node(cast).types[0].dtype.is_int() && graph.ty(graph.operands(cast)[0]).dtype.is_float()
}

fn in_type(tensor: &Tensor, dtype: DType) -> Tensor {
    Tensor::from_fn(dtype, tensor.shape(), |at| tensor.at(at).cast(dtype))
}

fn compiled(graph: &Graph, fp: FpMode) -> Result<Compiled, String> {
    let options = Options { fp: Some(fp), ..Options::default() };
    let source = Source::of_graph(graph.clone(), &options);
    egraft::compile(source, &options, &mut ()).map_err(|error| error.to_string())
}

fn run(graph: &Graph, fp: FpMode, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    compiled(graph, fp)?.run(inputs, 2).map_err(|error| error.to_string())
}

fn check(case: &Case) -> Result<(), String> {
    let model = harness::model(&case.folder.join("model.onnx"));
    let [half, single] =
        [HALF, DType::F32].map(|dtype| rounded(&model, dtype).map_err(|error| error.to_string()));
    let (Some(half), Some(single)) = (half?, single?) else { return Ok(()) };
    let found = compiled(&half, FpMode::default())?;
    let mut miscounted = case.miscounted(&found).into_iter().filter(|(kind, ..)| !MORE.contains(kind));
    if let Some((kind, expected, found)) = miscounted.next() {
        return Err(format!("{found} kernels of {kind}, {expected} in f32"));
    }
    for Set { inputs, .. } in case.sets()? {
        let is_float = |x: &Tensor| x.dtype() == DType::F32;
        let narrow = |x: &Tensor| if is_float(x) { in_type(x, HALF) } else { x.clone() };
        let halves: Vec<Tensor> = inputs.iter().map(narrow).collect();
        let same = |(x, half): (&Tensor, &Tensor)| in_type(half, x.dtype());
        let singles: Vec<Tensor> = inputs.iter().zip(&halves).map(same).collect();
        let expected = run(&single, FpMode::default(), &singles)?;
        let found = found.run(&halves, 2).map_err(|error| error.to_string())?;
        for (name, (expected, found)) in case.outputs.iter().zip(expected.iter().zip(&found)) {
            let largest =
                expected.values().map(|x| x.to_f64().abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
            let tolerance = Tolerance { atol: LAST_PLACE * largest / 16.0, rtol: LAST_PLACE };
            tolerance
                .check(expected, &in_type(found, expected.dtype()))
                .map_err(|why| format!("`{name}`: {why}"))?;
        }
    }
    Ok(())
}

#[test]
fn golden_cases_become_the_same_kernels_and_round_once() {
    let cases = cases();
    check_each(&cases.iter().collect::<Vec<_>>(), check);
}

/// `(x + 1) − x` is 1 in `f32`, whatever `bf16` has of `x + 1`.
#[test]
fn strict_arithmetic_rounds_as_the_model_says() {
    let graph = graph(
        "graph @g(%x: bf16[4], %one: bf16[4]) -> bf16[4] {\n  %0 = add %x, %one : bf16[4]\n  %1 = sub %0, %x : bf16[4]\n  \
         return %1\n}\n",
    );
    let inputs = [
        in_type(&Tensor::from_f32(&[4], &[1.0, 256.0, 512.0, 3.0]), HALF),
        in_type(&Tensor::from_f32(&[4], &[1.0; 4]), HALF),
    ];
    for (fp, expected) in [(FpMode::Strict, [1.0, 0.0, 0.0, 1.0]), (FpMode::Reassoc, [1.0; 4])] {
        let found = run(&graph, fp, &inputs).expect("it runs");
        assert_eq!(found[0].to_f64(), expected, "{fp:?}");
    }
}
