//! What is measured of a layer on data: a graph that shows it, and what its results say.

use std::collections::BTreeMap;

use ir::build::Build;
use ir::graph::Value;
use ir::tensor::for_each_index;
use ir::{Graph, Scalar, Tensor};
use ops::reduce::along::reduce;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::broadcast;

use super::EditError;
use super::body::{Apply, Body};
use super::layer::Layer;

/// What is measured besides how often experts are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// What each expert says.
    pub outputs: bool,
    /// How the features that experts read go together.
    pub moments: bool,
}

/// What was measured of a layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// How often each expert is chosen.
    pub chosen: Vec<f64>,
    /// What each expert says of every token, chosen or not, added up.
    pub outputs: Vec<Vec<f64>>,
    /// For each product and each expert, `Σ xᵀx` over the rows `x` that meet the expert there: `[I, I]`, by rows.
    pub moments: Vec<Vec<Vec<f64>>>,
    wanted: Wanted,
}

/// The graph whose results show what is wanted of a layer: [`Calibration::add`] reads them.
///
/// # Errors
/// Experts that cannot be applied to tokens that do not choose them.
pub fn probe(graph: &Graph, layer: &Layer, wanted: Wanted) -> Result<Graph, EditError> {
    let mut shown = graph.clone();
    let mut outputs = vec![("ids".to_owned(), layer.ids)];
    if wanted.outputs {
        outputs.push(("said".to_owned(), said(&mut shown, layer)?));
    }
    if wanted.moments {
        for (number, &product) in layer.products.iter().enumerate() {
            let operands = shown.operands(product);
            outputs.push((format!("rows.{number}"), operands[0]));
            outputs.push((format!("ids.{number}"), operands[2]));
        }
    }
    shown.set_outputs(outputs);
    Ok(shown)
}

/// The sum over tokens of what each expert says: `[E, D]`.
fn said(graph: &mut Graph, layer: &Layer) -> Result<Value, EditError> {
    let body = Body::of(graph, layer)?;
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    let every_expert = |b: &mut Build, ids: Value| {
        let dtype = b.ty(ids).dtype;
        let all = Tensor::from_fn(dtype, &[layer.experts], |at| Scalar::from_i64(dtype, at[0] as i64));
        let all = b.constant(&all);
        broadcast(b, all, body.slots(layer.experts))
    };
    let made = body.row_of_tokens(&mut b).map_err(EditError::from).and_then(|tokens| {
        let results = body.apply(&mut b, &Apply { tokens, ids: &every_expert, stacks: &BTreeMap::new() })?;
        let axes: Vec<i64> = (0..body.rows.len() as i64).collect();
        Ok(reduce(&mut b, &REDUCE_SUM, results, &axes, false)?)
    });
    *graph = b.into_graph();
    made
}

impl Calibration {
    /// Nothing yet, of a layer.
    pub fn new(layer: &Layer, wanted: Wanted) -> Calibration {
        Calibration { chosen: vec![0.0; layer.experts], wanted, ..Calibration::default() }
    }

    /// What a run of the [`probe`] says.
    pub fn add(&mut self, results: &[Tensor]) {
        let experts = self.chosen.len();
        let (ids, mut rest) = results.split_first().expect("bug: a probe shows the ids");
        for id in ids.to_i64() {
            if let Some(count) = usize::try_from(id).ok().and_then(|id| self.chosen.get_mut(id)) {
                *count += 1.0;
            }
        }
        if self.wanted.outputs {
            let said = rest.split_off_first().expect("bug: the probe shows what experts say");
            let said = said.to_f64();
            let width = said.len() / experts.max(1);
            self.outputs.resize(experts, vec![0.0; width]);
            for (sum, said) in self.outputs.iter_mut().flatten().zip(said) {
                *sum += said;
            }
        }
        if self.wanted.moments {
            self.moments.resize(rest.len() / 2, vec![Vec::new(); experts]);
            for (moments, shown) in self.moments.iter_mut().zip(rest.chunks(2)) {
                add_moments(moments, &shown[0], &shown[1]);
            }
        }
    }
}

/// Adds `xᵀx` of each row to what there is of the expert that its id names; rows and ids broadcast.
fn add_moments(moments: &mut [Vec<f64>], rows: &Tensor, ids: &Tensor) {
    let (&width, outer) = rows.shape().split_last().expect("bug: a row has features");
    let (values, numbers) = (rows.to_f64(), ids.to_i64());
    moments.iter_mut().for_each(|sum| sum.resize(width * width, 0.0));
    let rank = outer.len().max(ids.shape().len());
    let size =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let slots: Vec<usize> = (0..rank).map(|axis| size(outer, axis).max(size(ids.shape(), axis))).collect();
    let place = |shape: &[usize], at: &[usize]| {
        let axes = shape.iter().zip(&at[rank - shape.len()..]);
        axes.fold(0, |place, (&size, &at)| place * size + if size == 1 { 0 } else { at })
    };
    for_each_index(&slots, |at| {
        let id = usize::try_from(numbers[place(ids.shape(), at)]).ok();
        let Some(sum) = id.and_then(|id| moments.get_mut(id)) else { return };
        let x = &values[place(outer, at) * width..][..width];
        for (row, &a) in sum.chunks_mut(width).zip(x) {
            row.iter_mut().zip(x).for_each(|(sum, b)| *sum += a * b);
        }
    });
}
