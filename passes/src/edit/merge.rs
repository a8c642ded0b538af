//! Fewer experts: groups of them become one.
//!
//! The router stays as it is; the number of an expert that it chooses is that of the expert's group then. So a token that
//! chooses two experts of one group meets it with the sum of both gates, and merging experts that are equal changes nothing.
//! Groups come from agglomerative clustering: those two that are nearest (mean squared distance of all their weights,
//! between means) become one, until there are as many as wanted. Source: SMEAR (Muqeeth et al. 2023, arXiv 2306.03745) for
//! the uniform mean; MC-SMoE (Li et al. 2024, arXiv 2310.01334) for means weighted by how often an expert is
//! chosen; TIES (Yadav et al. 2023, arXiv 2306.01708) for signs that are elected, here of the differences to the group's mean.

use ir::attr::Attr;
use ir::graph::Value;
use ir::{Graph, Origin, Scalar, Tensor, Weight};
use ops::shape::gather::{self, GATHER};

use super::layer::{Layer, constant, name_of};
use super::{EditError, rebuild};

/// What one expert is made of several by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `mean = Σ W_e / n`.
    Average,
    /// `Σ f_e · W_e / Σ f_e`, where `f_e` is how often the expert is chosen.
    Frequency,
    /// `mean + Σ τ_e / n` over those differences `τ_e = W_e − mean` whose sign is that of their sum, of which the
    /// smaller half is left out before.
    Ties,
}

impl Method {
    /// Every method with its name.
    pub const ALL: [(&'static str, Method); 3] =
        [("average", Method::Average), ("frequency", Method::Frequency), ("ties", Method::Ties)];
}

/// Merges the experts of a layer to `count` groups. `frequencies` says how often each is chosen. Gives the group of each
/// expert.
///
/// # Errors
/// There are not as many experts; matrices that are no constants.
pub fn merge(
    graph: &mut Graph,
    layer: &Layer,
    count: usize,
    method: Method,
    frequencies: &[f64],
) -> Result<Vec<usize>, EditError> {
    if !(1..=layer.experts).contains(&count) {
        let why = format!("{} experts cannot become {count}", layer.experts);
        return Err(EditError::Unfit { what: layer.name.clone(), why });
    }
    let mut stacks = Vec::new();
    for (user, operand, _) in layer.stacks() {
        let value = graph.operands(user)[operand];
        let stack = constant(graph, value).ok_or_else(|| EditError::Node {
            what: layer.name.clone(),
            why: "the experts' weights are computed when the model runs",
            node: name_of(graph, user),
        })?;
        stacks.push(stack);
    }
    let groups = groups(&stacks.iter().collect::<Vec<_>>(), layer.experts, count);
    let origin = graph.node(layer.router).origin.clone();
    for ((user, operand, by), stack) in layer.stacks().zip(stacks) {
        let merged = merged(&stack, &groups, count, method, frequencies);
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

/// The group of each expert: clusters of what is nearest.
fn groups(stacks: &[&Tensor], experts: usize, count: usize) -> Vec<usize> {
    let mut clusters: Vec<Vec<usize>> = (0..experts).map(|expert| vec![expert]).collect();
    let rows: Vec<Vec<f64>> = (0..experts).map(|expert| row(stacks, expert)).collect();
    let mut means = rows.clone();
    while clusters.len() > count {
        let mut nearest = (0, 1, f64::INFINITY);
        for a in 0..clusters.len() {
            for b in a + 1..clusters.len() {
                let apart: f64 = means[a].iter().zip(&means[b]).map(|(x, y)| (x - y) * (x - y)).sum();
                if apart < nearest.2 {
                    nearest = (a, b, apart);
                }
            }
        }
        let (a, b, _) = nearest;
        let other = clusters.remove(b);
        clusters[a].extend(other);
        means.remove(b);
        let members = clusters[a].clone();
        let mean =
            |at: usize| members.iter().map(|&expert| rows[expert][at]).sum::<f64>() / members.len() as f64;
        means[a] = (0..rows[0].len()).map(mean).collect();
    }
    let mut group = vec![0; experts];
    for (number, members) in clusters.iter().enumerate() {
        members.iter().for_each(|&expert| group[expert] = number);
    }
    group
}

/// All weights of an expert.
fn row(stacks: &[&Tensor], expert: usize) -> Vec<f64> {
    let mut row = Vec::new();
    for stack in stacks {
        let size = stack.elements() / stack.shape()[0].max(1);
        row.extend((0..size).map(|at| stack.get(expert * size + at).to_f64()));
    }
    row
}

/// The stack of the groups.
fn merged(stack: &Tensor, groups: &[usize], count: usize, method: Method, frequencies: &[f64]) -> Tensor {
    let size = stack.elements() / stack.shape()[0].max(1);
    let members = |group: usize| (0..groups.len()).filter(move |&expert| groups[expert] == group);
    let mut shape = stack.shape().to_vec();
    shape[0] = count;
    let mut at = 0..;
    let element = |_: &[usize]| {
        let place = at.next().expect("there are enough numbers");
        let (group, place) = (place / size, place % size);
        let values: Vec<f64> =
            members(group).map(|expert| stack.get(expert * size + place).to_f64()).collect();
        let weights: Vec<f64> = match method {
            Method::Frequency => {
                members(group).map(|expert| frequencies.get(expert).copied().unwrap_or(1.0)).collect()
            }
            Method::Average | Method::Ties => vec![1.0; values.len()],
        };
        // Experts that nobody chooses count as much as each other.
        let weights = if weights.iter().sum::<f64>() > 0.0 { weights } else { vec![1.0; values.len()] };
        let mean = values.iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f64>()
            / weights.iter().sum::<f64>();
        let value = if method == Method::Ties { mean + elected(&values, mean) } else { mean };
        Scalar::from_f64(stack.dtype(), value)
    };
    Tensor::from_fn(stack.dtype(), &shape, element)
}

/// The mean of the larger differences to `mean` whose sign is that of their sum.
fn elected(values: &[f64], mean: f64) -> f64 {
    let mut apart: Vec<f64> = values.iter().map(|value| value - mean).collect();
    apart.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    apart.truncate(values.len().div_ceil(2));
    let sign = apart.iter().sum::<f64>();
    let agree: Vec<f64> = apart.into_iter().filter(|apart| apart * sign > 0.0).collect();
    if agree.is_empty() { 0.0 } else { agree.iter().sum::<f64>() / agree.len() as f64 }
}
