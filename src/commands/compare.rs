//! Comparing results with what they must be: `|found − expected| ≤ atol + rtol·|expected|`.
//!
//! Infinities and NaNs must be where they are expected. Integers and truth values must be equal.

use egraft::tensors;
use ir::{DType, Tensor};
use serde_json::{Value, json};

/// How far floats may be apart. What is not chosen suits the element type.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Tolerance {
    /// The absolute part.
    pub atol: Option<f64>,
    /// The relative part.
    pub rtol: Option<f64>,
}

impl Tolerance {
    /// `(atol, rtol)` for an element type. 16-bit floats keep 8 to 11 bits; of 32-bit ones, sums of thousands of
    /// products in another order keep about 17. What is rounded to fewer bits is not computed with.
    fn of(self, dtype: DType) -> (f64, f64) {
        let (atol, rtol) = match dtype {
            DType::F16 | DType::BF16 => (2e-2, 2e-2),
            DType::F32 | DType::F64 => (1e-5, 1e-3),
            _ if dtype.is_float() => (0.0, 0.0),
            _ => return (0.0, 0.0),
        };
        (self.atol.unwrap_or(atol), self.rtol.unwrap_or(rtol))
    }
}

/// How a tensor compares with another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    /// What it is called.
    pub name: String,
    /// Types that differ: found, expected. Then nothing else is compared.
    pub types: Option<(String, String)>,
    /// The number of elements.
    pub elements: usize,
    /// How many of them are too far apart.
    pub wrong: usize,
    /// The largest distance of finite elements.
    pub max_distance: f64,
    /// The element that is furthest from being allowed.
    pub worst: Option<Worst>,
}

/// An element that is too far from what is expected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Worst {
    /// Where it is.
    pub index: Vec<usize>,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub expected: String,
}

impl Comparison {
    /// Are they the same, as far as is asked?
    pub(super) fn is_good(&self) -> bool {
        self.types.is_none() && self.wrong == 0
    }

    /// What is wrong, in a line.
    pub(super) fn describe(&self) -> String {
        if let Some((found, expected)) = &self.types {
            return format!("`{}` is {found}, expected {expected}", self.name);
        }
        match &self.worst {
            None => format!("`{}` agrees, largest distance {:.3e}", self.name, self.max_distance),
            Some(Worst { index, found, expected }) => format!(
                "`{}` differs in {} of {} elements, most at {index:?}: found {found}, expected {expected}",
                self.name, self.wrong, self.elements
            ),
        }
    }

    /// The same as JSON.
    pub(super) fn json(&self) -> Value {
        let worst = self
            .worst
            .as_ref()
            .map(|worst| json!({"index": worst.index, "found": worst.found, "expected": worst.expected}));
        json!({
            "name": self.name, "ok": self.is_good(), "elements": self.elements, "wrong": self.wrong,
            "max_abs": self.max_distance, "worst": worst,
            "types": self.types.as_ref().map(|(found, expected)| json!({"found": found, "expected": expected})),
        })
    }
}

/// Compares a result with what it must be.
pub(super) fn compare(name: &str, found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Comparison {
    let mut comparison = Comparison {
        name: name.to_owned(),
        types: None,
        elements: expected.elements(),
        wrong: 0,
        max_distance: 0.0,
        worst: None,
    };
    // Of types that files lack, one side may have what they hold in their place.
    let (as_expected, as_found) =
        (tensors::read_as(found, expected.dtype()), tensors::read_as(expected, found.dtype()));
    let (found, expected) = (as_expected.as_ref().unwrap_or(found), as_found.as_ref().unwrap_or(expected));
    if found.ty() != expected.ty() {
        comparison.types = Some((found.ty().to_string(), expected.ty().to_string()));
        return comparison;
    }
    let (atol, rtol) = tolerance.of(expected.dtype());
    let mut worst: Option<(f64, usize)> = None;
    for (position, (a, b)) in found.values().zip(expected.values()).enumerate() {
        if a == b {
            continue;
        }
        let excess = match expected.dtype().is_float() {
            true => {
                let (a, b) = (a.to_f64(), b.to_f64());
                let distance = (a - b).abs();
                if distance.is_finite() {
                    comparison.max_distance = comparison.max_distance.max(distance);
                }
                excess(a, b, atol, rtol)
            }
            false => f64::INFINITY,
        };
        if excess > 0.0 {
            comparison.wrong += 1;
            if worst.is_none_or(|(most, _)| excess > most) {
                worst = Some((excess, position));
            }
        }
    }
    comparison.worst = worst.map(|(_, position)| Worst {
        index: index(expected.shape(), position),
        found: found.get(position).to_string(),
        expected: expected.get(position).to_string(),
    });
    comparison
}

/// By how much the distance is larger than allowed; 0 if it is allowed.
fn excess(found: f64, expected: f64, atol: f64, rtol: f64) -> f64 {
    if found == expected || found.is_nan() && expected.is_nan() {
        return 0.0;
    }
    if !found.is_finite() || !expected.is_finite() {
        return f64::INFINITY;
    }
    ((found - expected).abs() - (atol + rtol * expected.abs())).max(0.0)
}

/// The index of a row-major position.
fn index(shape: &[usize], position: usize) -> Vec<usize> {
    let mut rest = position;
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let at = rest % size;
            rest /= size;
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> Tensor {
        Tensor::from_f32(&[1, values.len()], values)
    }

    fn compared(found: &[f32], expected: &[f32]) -> Comparison {
        compare("y", &row(found), &row(expected), Tolerance { atol: Some(0.1), rtol: Some(0.0) })
    }

    #[test]
    fn the_worst_element_is_named() {
        let comparison = compared(&[1.0, 2.3, 9.0], &[1.05, 2.0, 3.0]);
        assert_eq!((comparison.wrong, comparison.elements), (2, 3));
        assert_eq!(comparison.worst.as_ref().map(|worst| worst.index.clone()), Some(vec![0, 2]));
        assert!(comparison.describe().contains("found 9"), "{}", comparison.describe());
        assert!(!comparison.is_good());
    }

    #[test]
    fn what_is_not_finite_must_be_the_same() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert!(compared(&[nan, inf, -inf], &[nan, inf, -inf]).is_good());
        for (found, expected) in [(nan, 1.0), (1.0, nan), (inf, -inf), (inf, 3e38), (3e38, inf)] {
            assert!(!compared(&[found], &[expected]).is_good(), "{found} {expected}");
        }
    }

    #[test]
    fn integers_are_exact() {
        let tolerance = Tolerance { atol: Some(5.0), rtol: Some(5.0) };
        let of = |value| Tensor::from_i64(&[1], &[value]);
        assert!(compare("y", &of(1), &of(1), tolerance).is_good());
        assert!(!compare("y", &of(1), &of(2), tolerance).is_good());
    }

    #[test]
    fn types_come_first() {
        let comparison = compare("y", &row(&[1.0]), &Tensor::from_f32(&[1], &[1.0]), Tolerance::default());
        assert_eq!(comparison.describe(), "`y` is f32[1, 1], expected f32[1]");
        assert!(compare("y", &row(&[]), &row(&[]), Tolerance::default()).is_good());
    }

    #[test]
    fn positions_become_indices() {
        assert_eq!(index(&[2, 3, 4], 23), [1, 2, 3]);
        assert_eq!(index(&[2, 3, 4], 4), [0, 1, 0]);
        assert_eq!(index(&[], 0), [0; 0]);
    }
}
