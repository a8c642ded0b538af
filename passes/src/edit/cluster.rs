//! Which experts are alike: clusters from the bottom up, each step joining those two that are nearest.

use super::calibrate::Calibration;

/// What experts are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cluster {
    /// All their weights: squared distances between the means of clusters.
    #[default]
    Weights,
    /// What they say of the tokens of the calibration data, chosen or not, on average: mean distances between members of
    /// clusters. Source: HC-SMoE (Chen et al. 2024, arXiv 2410.08589); its means are sums here, which is the same.
    Outputs,
}

impl Cluster {
    /// Everything that experts can be compared by, with its name.
    pub const ALL: [(&'static str, Cluster); 2] =
        [("weights", Cluster::Weights), ("outputs", Cluster::Outputs)];

    /// The cluster of each expert, if there are to be `count`; clusters are numbered by their first members.
    pub(super) fn groups(self, weights: &[Vec<f64>], calibration: &Calibration, count: usize) -> Vec<usize> {
        match self {
            Cluster::Weights => {
                joined(weights.len(), count, |a, b| squared(&mean(weights, a), &mean(weights, b)))
            }
            Cluster::Outputs => {
                let said = &calibration.outputs;
                joined(said.len(), count, |a, b| {
                    let pairs = a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b)));
                    let sum: f64 = pairs.map(|(a, b)| squared(&said[a], &said[b]).sqrt()).sum();
                    sum / (a.len() * b.len()) as f64
                })
            }
        }
    }
}

/// Joins the two clusters that are nearest, the first of equals, until there are `count`.
fn joined(experts: usize, count: usize, distance: impl Fn(&[usize], &[usize]) -> f64) -> Vec<usize> {
    let mut clusters: Vec<Vec<usize>> = (0..experts).map(|expert| vec![expert]).collect();
    let apart = |a: &[usize], b: &[usize]| distance(a, b);
    let mut distances: Vec<Vec<f64>> =
        clusters.iter().map(|a| clusters.iter().map(|b| apart(a, b)).collect()).collect();
    while clusters.len() > count {
        let pairs = (0..clusters.len()).flat_map(|a| (a + 1..clusters.len()).map(move |b| (a, b)));
        let nearest = pairs.min_by(|&(a, b), &(c, d)| distances[a][b].total_cmp(&distances[c][d]));
        let (a, b) = nearest.expect("bug: there are more clusters than one");
        let other = clusters.remove(b);
        clusters[a].extend(other);
        distances.remove(b);
        for row in &mut distances {
            row.remove(b);
        }
        for c in 0..clusters.len() {
            let apart = apart(&clusters[a], &clusters[c]);
            (distances[a][c], distances[c][a]) = (apart, apart);
        }
    }
    let mut group = vec![0; experts];
    for (number, members) in clusters.iter().enumerate() {
        members.iter().for_each(|&expert| group[expert] = number);
    }
    group
}

fn mean(rows: &[Vec<f64>], members: &[usize]) -> Vec<f64> {
    let mut mean = vec![0.0; rows[members[0]].len()];
    for &member in members {
        mean.iter_mut().zip(&rows[member]).for_each(|(sum, x)| *sum += x);
    }
    mean.iter_mut().for_each(|sum| *sum /= members.len() as f64);
    mean
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}
