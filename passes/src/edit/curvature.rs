//! Experts that are merged along curved directions: CAMEx (Nguyen et al. 2025, arXiv 2502.18821), equation
//! `W = Wₘ + α Σᵢ Mᵢ (sᵢ τᵢ)` with `τᵢ = Wᵢ − Wₘ`.
//!
//! CAMEx learns the base `Wₘ`, the curvatures `Mᵢ` and the gates `sᵢ`; a model that was not trained so has none. Here the base is the
//! mean of the group, `α = 1`, and curvatures with gates come from data: `Mᵢ sᵢ = (Σⱼ Sⱼ + ρ)⁻¹ Sᵢ`, which acts on the features that a
//! matrix reads, where `Sᵢ = Σ xᵀx` over the rows `x` that meet expert `i`. This is our reconstruction: `Sᵢ` is the curvature of the error
//! `½ Σ ‖x W − x Wᵢ‖²`, and `W` its minimum (RegMean, Jin et al. 2023, arXiv 2212.09849). `ρ` is a thousandth of the mean of the diagonal: of
//! features that data say nothing of, `W` has the mean.

/// Of the mean diagonal of a curvature, what is added to the diagonal.
const RIDGE: f64 = 1e-3;

/// The matrix `[I, O]` of a group, from those of its members and their curvatures `[I, I]`.
pub(super) fn merged(matrices: &[Vec<f64>], curvatures: &[&[f64]], rows: usize) -> Vec<f64> {
    let columns = matrices[0].len() / rows.max(1);
    let count = matrices.len() as f64;
    let base: Vec<f64> =
        (0..rows * columns).map(|at| matrices.iter().map(|matrix| matrix[at]).sum::<f64>() / count).collect();
    let mut whole = vec![0.0; rows * rows];
    let mut step = vec![0.0; rows * columns];
    for (matrix, curvature) in matrices.iter().zip(curvatures) {
        whole.iter_mut().zip(*curvature).for_each(|(sum, s)| *sum += s);
        for i in 0..rows {
            for k in 0..rows {
                let s = curvature[i * rows + k];
                let tau = k * columns..(k + 1) * columns;
                let tau = matrix[tau.clone()].iter().zip(&base[tau]).map(|(own, base)| own - base);
                step[i * columns..][..columns].iter_mut().zip(tau).for_each(|(sum, tau)| *sum += s * tau);
            }
        }
    }
    let trace: f64 = (0..rows).map(|i| whole[i * rows + i]).sum();
    // Without any data there is no step.
    let ridge = if trace > 0.0 { RIDGE * trace / rows as f64 } else { 1.0 };
    (0..rows).for_each(|i| whole[i * rows + i] += ridge);
    solve(&mut whole, &mut step, rows);
    base.iter().zip(step).map(|(base, step)| base + step).collect()
}

/// `A⁻¹ B` in the place of `B: [n, m]`, of a symmetric positive definite `A: [n, n]`: by Cholesky, `A = L Lᵀ`.
fn solve(a: &mut [f64], b: &mut [f64], n: usize) {
    let m = b.len() / n.max(1);
    for i in 0..n {
        for j in 0..=i {
            let (row, other) = (&a[i * n..][..j], &a[j * n..][..j]);
            let rest = a[i * n + j] - row.iter().zip(other).map(|(x, y)| x * y).sum::<f64>();
            a[i * n + j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / a[j * n + j] };
        }
    }
    // A row of `B` less a multiple of another one.
    let subtract = |b: &mut [f64], from: usize, other: usize, times: f64| {
        for at in 0..m {
            b[from * m + at] -= times * b[other * m + at];
        }
    };
    for i in 0..n {
        (0..i).for_each(|k| subtract(b, i, k, a[i * n + k]));
        b[i * m..][..m].iter_mut().for_each(|x| *x /= a[i * n + i]);
    }
    for i in (0..n).rev() {
        (i + 1..n).for_each(|k| subtract(b, i, k, a[k * n + i]));
        b[i * m..][..m].iter_mut().for_each(|x| *x /= a[i * n + i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let mut a = vec![4.0, 2.0, 0.0, 2.0, 5.0, 1.0, 0.0, 1.0, 3.0];
        let x = [1.0, -2.0, 0.5, 4.0, -3.0, 2.0];
        let product = |i: usize, j: usize| (0..3).map(|k| a[i * 3 + k] * x[k * 2 + j]).sum::<f64>();
        let mut b: Vec<f64> = (0..6).map(|at| product(at / 2, at % 2)).collect();
        solve(&mut a, &mut b, 3);
        assert!(b.iter().zip(x).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{b:?}");
    }

    #[test]
    fn what_data_say_nothing_of_has_the_mean() {
        let matrices = [vec![1.0, 2.0], vec![3.0, 6.0]];
        let (first, none) = ([2.0, 0.0, 0.0, 0.0], [0.0; 4]);
        // Only the first expert reads the first feature; none reads the second.
        let merged = merged(&matrices, &[&first, &none], 2);
        assert!((merged[0] - 1.0).abs() < 1e-3 && (merged[1] - 4.0).abs() < 1e-12, "{merged:?}");
    }
}
