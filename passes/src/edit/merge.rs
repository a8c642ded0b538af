//! Fewer experts: groups of them become one.
//!
//! The router stays as it is; the number of an expert that it chooses is that of the expert's group then. So a token that
//! chooses two experts of one group meets it with the sum of both gates, and merging experts that are equal changes nothing.
//! Groups come from agglomerative clustering ([`Cluster`]): those two that are nearest become one, until there are as many as
//! wanted. Source: SMEAR (Muqeeth et al. 2023, arXiv 2306.03745) for the uniform mean; MC-SMoE (Li et al. 2024, arXiv 2310.01334)
//! for means weighted by how often an expert is chosen, which with clusters of outputs are those of HC-SMoE; TIES (Yadav et al.
//! 2023, arXiv 2306.01708) for signs that are elected, here of the differences to the group's mean; Matena, Raffel 2022 (arXiv
//! 2111.09832) for Fisher information, and Yu et al. 2024 (DARE, arXiv 2311.03099) for differences that are dropped, both as in
//! CAMEx, (C7) and (C9); CAMEx for [curvatures](super::curvature).

use ir::attr::Attr;
use ir::graph::Value;
use ir::{Graph, Origin, Scalar, Tensor, Weight};
use ops::shape::gather::{self, GATHER};

use super::calibrate::{Calibration, Wanted};
use super::cluster::Cluster;
use super::layer::{Layer, constant};
use super::random::Random;
use super::{EditError, curvature, rebuild};

/// What one expert is made of several by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// `mean = Σ W_e / n`.
    #[default]
    Average,
    /// `Σ f_e · W_e / Σ f_e`, where `f_e` is how often the expert is chosen.
    Frequency,
    /// `mean + Σ τ_e / n` over those differences `τ_e = W_e − mean` whose sign is that of their sum, of which the
    /// smaller half is left out before.
    Ties,
    /// `Σ F_e ∘ W_e / Σ F_e` with the diagonal `F_e` of the Fisher information: of `x W_e` with normal noise in its results, that is
    /// `Σ xᵢ²` over the rows `x` that meet the expert, for each row `i` of `W_e`. Biases as with `Frequency`, of which it is 1 a row.
    Fisher,
    /// `mean + Σ m_e ∘ τ_e / n / (1 − p)`, where `m_e` drops a difference with probability `p` = 0.1, drawn from the seed.
    Dare,
    /// `mean + Σ M_e τ_e`, with curvatures `M_e` of what matrices read; biases as with `Frequency`.
    Camex,
}

impl Method {
    /// Every method with its name.
    pub const ALL: [(&'static str, Method); 6] = [
        ("average", Method::Average),
        ("frequency", Method::Frequency),
        ("ties", Method::Ties),
        ("fisher", Method::Fisher),
        ("dare", Method::Dare),
        ("camex", Method::Camex),
    ];
}

/// How experts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merging {
    /// Which experts become one.
    pub cluster: Cluster,
    /// What it is made of them by.
    pub method: Method,
    /// What [`Method::Dare`] draws from.
    pub seed: u64,
}

/// The share of differences that [`Method::Dare`] drops.
const DROPPED: f64 = 0.1;

impl Merging {
    /// What must be measured for it.
    pub fn wants(self) -> Wanted {
        let moments = matches!(self.method, Method::Camex | Method::Fisher);
        Wanted { outputs: self.cluster == Cluster::Outputs, moments }
    }
}

/// Merges the experts of a layer to `count` groups, by what was measured of it. Gives the group of each expert.
///
/// # Errors
/// There are not as many experts; matrices that are no constants.
pub fn merge(
    graph: &mut Graph,
    layer: &Layer,
    count: usize,
    merging: Merging,
    calibration: &Calibration,
) -> Result<Vec<usize>, EditError> {
    layer.want_no_folded()?;
    if !(1..=layer.experts).contains(&count) {
        let why = format!("{} experts cannot become {count}", layer.experts);
        return Err(EditError::Unfit { what: layer.name.clone(), why });
    }
    let wants = merging.wants();
    let has_outputs = !wants.outputs || calibration.outputs.len() == layer.experts;
    let has_moments = !wants.moments || calibration.moments.len() == layer.products.len();
    if calibration.chosen.len() != layer.experts || !has_outputs || !has_moments {
        let why = "what merging goes by was not measured".to_owned();
        return Err(EditError::Unfit { what: layer.name.clone(), why });
    }
    let mut stacks = Vec::new();
    for (user, operand, _) in layer.stacks() {
        let value = graph.operands(user)[operand];
        let why = "the experts' weights are computed when the model runs";
        stacks.push(constant(graph, value).ok_or_else(|| layer.refuse(graph, user, why))?);
    }
    let all = |expert: usize| stacks.iter().flat_map(|stack| own(stack, expert)).collect();
    let weights: Vec<Vec<f64>> = (0..layer.experts).map(all).collect();
    let groups = merging.cluster.groups(&weights, calibration, count);
    let origin = graph.node(layer.router).origin.clone();
    let mut random = Random::new(merging.seed);
    for (number, ((user, operand, by), stack)) in layer.stacks().zip(stacks).enumerate() {
        // Products come first; only they have moments.
        let measured = (&calibration.chosen[..], calibration.moments.get(number).map(Vec::as_slice));
        let merged = merged(&stack, &groups, count, merging.method, measured, &mut random);
        let mut operands = graph.operands(user);
        operands[operand] = graph.add_weight(Weight::from_tensor("merged", &merged), origin.clone());
        operands[by] = renumbered(graph, operands[by], &groups, &origin)?;
        rebuild::replace(graph, user, &operands)?;
    }
    Ok(groups)
}

/// The numbers of the groups of these experts.
fn renumbered(graph: &mut Graph, ids: Value, groups: &[usize], origin: &Origin) -> Result<Value, EditError> {
    let dtype = graph.ty(ids).dtype;
    let number = |at: &[usize]| Scalar::from_i64(dtype, groups[at[0]] as i64);
    let numbers = Tensor::from_fn(dtype, &[groups.len()], number);
    let numbers = graph.add_weight(Weight::from_tensor("groups", &numbers), origin.clone());
    let attrs = GATHER.check_attrs([(gather::AXIS.name.to_owned(), Attr::Int(0))]);
    let attrs = attrs.expect("bug: an axis is what it takes");
    Ok(graph.add_op(&GATHER, &[numbers, ids], attrs, origin.clone())?.into())
}

/// The elements of a stack that belong to an expert.
fn own(stack: &Tensor, expert: usize) -> impl Iterator<Item = f64> {
    let size = stack.elements() / stack.shape()[0].max(1);
    (expert * size..(expert + 1) * size).map(|at| stack.get(at).to_f64())
}

/// The stack of the groups. `moments` are those of a product, one for each expert.
fn merged(
    stack: &Tensor,
    groups: &[usize],
    count: usize,
    method: Method,
    (chosen, moments): (&[f64], Option<&[Vec<f64>]>),
    random: &mut Random,
) -> Tensor {
    let mut elements = Vec::new();
    for group in 0..count {
        let members: Vec<usize> = (0..groups.len()).filter(|&expert| groups[expert] == group).collect();
        let rows: Vec<Vec<f64>> = members.iter().map(|&expert| own(stack, expert).collect()).collect();
        elements.extend(match (&rows[..], method, moments) {
            ([one], ..) => one.clone(),
            (rows, Method::Average, _) => mean(rows, |_| 1.0),
            (rows, Method::Ties, _) => {
                let mut mean = mean(rows, |_| 1.0);
                for (at, mean) in mean.iter_mut().enumerate() {
                    *mean += elected(rows.iter().map(|row| row[at] - *mean).collect());
                }
                mean
            }
            (rows, Method::Dare, _) => {
                let mut mean = mean(rows, |_| 1.0);
                let share = 1.0 / (rows.len() as f64 * (1.0 - DROPPED));
                for (at, mean) in mean.iter_mut().enumerate() {
                    let kept = rows.iter().filter(|_| random.unit() >= DROPPED);
                    *mean += kept.map(|row| row[at] - *mean).sum::<f64>() * share;
                }
                mean
            }
            (rows, Method::Fisher, Some(moments)) => {
                let features = stack.shape()[1];
                let of = |i: usize| {
                    let columns = rows[0].len() / features;
                    let rows: Vec<&[f64]> = rows.iter().map(|row| &row[i * columns..][..columns]).collect();
                    mean(&rows, |member| moments[members[member]][i * features + i])
                };
                (0..features).flat_map(of).collect()
            }
            (rows, Method::Camex, Some(moments)) => {
                let moments: Vec<&[f64]> = members.iter().map(|&expert| &moments[expert][..]).collect();
                curvature::merged(rows, &moments, stack.shape()[1])
            }
            // What no features are read by, such as a bias, has no curvature.
            (rows, Method::Frequency | Method::Fisher | Method::Camex, _) => {
                mean(rows, |member| chosen[members[member]])
            }
        });
    }
    let shape: Vec<usize> = [count].iter().chain(&stack.shape()[1..]).copied().collect();
    let mut elements = elements.into_iter();
    let next = |_: &[usize]| Scalar::from_f64(stack.dtype(), elements.next().expect("one for each place"));
    Tensor::from_fn(stack.dtype(), &shape, next)
}

/// `Σ wₑ · Wₑ / Σ wₑ`; experts that all weigh nothing count as much as each other.
fn mean(rows: &[impl AsRef<[f64]>], weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut weights: Vec<f64> = (0..rows.len()).map(weight).collect();
    if weights.iter().all(|&weight| weight == 0.0) {
        weights.fill(1.0);
    }
    let total: f64 = weights.iter().sum();
    let at = |at: usize| {
        rows.iter().zip(&weights).map(|(row, weight)| row.as_ref()[at] * weight).sum::<f64>() / total
    };
    (0..rows[0].as_ref().len()).map(at).collect()
}

/// The mean of the larger half of differences, of those whose sign is that of their sum.
fn elected(mut apart: Vec<f64>) -> f64 {
    let half = apart.len().div_ceil(2);
    apart.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    apart.truncate(half);
    let sign = apart.iter().sum::<f64>();
    let agree: Vec<f64> = apart.into_iter().filter(|apart| apart * sign > 0.0).collect();
    if agree.is_empty() { 0.0 } else { agree.iter().sum::<f64>() / agree.len() as f64 }
}
