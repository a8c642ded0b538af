//! Weighted sums over the experts of a token.

use egg::Id;
use ir::Dim;
use ir::op::normalize_axis;
use ops::linalg::combine::{COMBINE, MOST_TERMS};
use ops::linalg::einsum::EINSUM;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::mul::MUL;
use ops::reduce::along::AXES;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::BROADCAST;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;
use ops::shape::transpose::TRANSPOSE;

use super::super::axes::{Name, Named, Product, reshaped, stretched, unshaped};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};
use crate::egraph::rules::{Equal, Exactness, Rule, Set, Stop};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "weighted-sum-of-experts",
    summary: "Σₖ gate · y over the experts of a token, as a product or as a sum of products, is one op",
    set: Set::Raise,
    exactness: Exactness::Reassociating,
    anchor: &[&MATMUL, &EINSUM, &REDUCE_SUM],
    obligations: &[FEW],
    apply: weighted_sum,
}];

pub(super) const FEW: &str = "a token goes to a number of experts that is known, and at most 64";

/// So many values are looked at between a sum and the products with experts.
const FARTHEST: usize = 64;

/// `Σ gates · y` along one axis.
struct WeightedSum {
    y: Named,
    gates: Named,
    result: Named,
    along: Name,
}

fn weighted_sum(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let sums = if node.op() == Some(&REDUCE_SUM) {
        sums_of_products(m, class, node)?
    } else {
        either_way(m, Product::of(m, class, node).ok_or(Stop::Other)?)
    };
    let sum = sums.into_iter().find(|sum| sum.is_by_rows(m) && is_of_experts(m, sum.y.value));
    let sum = sum.ok_or(Stop::Other)?;
    let along = sum.along;
    let terms = sum.y.size(m, along);
    if terms.as_const().is_none_or(|terms| terms > MOST_TERMS) {
        return Err(Missed::new(FEW, terms.to_string()).into());
    }
    let is_gated =
        |name: &Name| sum.gates.axes.contains(name) && sum.gates.size(m, *name) == sum.y.size(m, *name);
    let own = sum.result.axes.iter().copied().filter(|name| sum.y.axes.contains(name) && *name != along);
    let (rows, features): (Vec<Name>, Vec<Name>) = own.partition(is_gated);
    let sizes =
        |m: &Match, axes: &[Name]| -> Vec<Dim> { axes.iter().map(|&name| sum.y.size(m, name)).collect() };
    let gates = sum.gates.ordered(m, &[&rows[..], &[along]].concat())?;
    let y = sum.y.ordered(m, &[&rows[..], &[along], &features].concat())?;
    let width = sizes(m, &features).into_iter().product();
    let shape = [sizes(m, &rows), vec![terms, width]].concat();
    let y = reshaped(m, y, shape)?;
    let combined = m.op(&COMBINE, &[y, gates])?;
    let axes = [rows, features].concat();
    let shape = sizes(m, &axes);
    let combined = Named { value: reshaped(m, combined, shape)?, axes };
    let combined = combined.ordered(m, &sum.result.axes)?;
    let shape = m.shape(class);
    Ok(vec![(class, reshaped(m, combined, shape)?)])
}

impl WeightedSum {
    /// Is what is left rows with a gate for each term, and features?
    fn is_by_rows(&self, m: &Match) -> bool {
        let [y, gates, made] = [&self.y, &self.gates, &self.result].map(|x| {
            let long = x.long(m).into_iter();
            long.filter(|&name| name != self.along).collect::<Vec<Name>>()
        });
        let all = y.len() == made.len() && y.iter().all(|name| made.contains(name));
        // Along the last axis of all rows it is a matrix that meets a vector.
        let by_rows = !gates.is_empty() || self.y.axes.last() != Some(&self.along);
        all && by_rows && gates.len() < y.len() && gates.iter().all(|name| y.contains(name))
    }
}

/// A product of gates and values, whichever is which.
fn either_way(m: &Match, product: Product) -> Vec<WeightedSum> {
    let Product { operands: [left, right], result } = product;
    let summed = |name: &Name| right.axes.contains(name) && !result.axes.contains(name);
    let summed: Vec<Name> = left.axes.iter().copied().filter(summed).collect();
    let [along] = summed[..] else { return Vec::new() };
    let sum = |gates: &Named, y: &Named| {
        let [gates, y, result] = [gates, y, &result].map(Named::clone);
        WeightedSum { y, gates, result, along }
    };
    // An axis that the other one stretches along is none that both have.
    let same = left.size(m, along) == right.size(m, along);
    if same { vec![sum(&left, &right), sum(&right, &left)] } else { Vec::new() }
}

/// Sums along one axis of products, element by element: also of products that stood in another shape, in which slots
/// are one axis.
fn sums_of_products(m: &mut Match, class: Id, node: &Node) -> Result<Vec<WeightedSum>, Stop> {
    let whole = node.operands()[0];
    let shape = m.shape(whole);
    let [axis] = m.attrs(node).get(AXES)[..] else { return Err(Stop::Other) };
    let axis = normalize_axis(axis, shape.len())?;
    let stays = m.ty(class).rank() == shape.len();
    let axes: Vec<Name> = (0..shape.len()).filter(|&name| stays || name != axis).collect();
    let mut sums = Vec::new();
    for known in unshaped(m, whole) {
        for (operands, _) in m.uses_of(&MUL, known) {
            for (y, gates) in [(operands[0], operands[1]), (operands[1], operands[0])] {
                let result = Named { value: class, axes: axes.clone() };
                let gates = m.find(&BROADCAST, gates).map_or(gates, |(of, _)| of[0]);
                if m.ty(y) == m.ty(known)
                    && let Some(gates) = in_shape(m, gates, known, &shape)?
                {
                    let y = Named { value: reshaped(m, y, shape.clone())?, axes: (0..shape.len()).collect() };
                    sums.push(WeightedSum { y, gates, result, along: axis });
                }
            }
        }
    }
    Ok(sums)
}

/// Gates that broadcast to `known`, as they broadcast to a reshape of that.
fn in_shape(m: &mut Match, gates: Id, known: Id, shape: &[Dim]) -> Result<Option<Named>, Stop> {
    let (own, before) = (m.shape(gates), m.shape(known));
    if before == shape {
        return Ok(Some(Named { value: gates, axes: (shape.len() - own.len()..shape.len()).collect() }));
    }
    // All but the features may be grouped otherwise, where the gates have nothing but those.
    let ([.., width], [rows @ .., features]) = (&before[..], shape) else { return Ok(None) };
    if width != features || own.last().is_none_or(|size| !size.is(1)) {
        return Ok(None);
    }
    let one = Dim::constant(1);
    let all = before[..before.len() - 1].iter().chain([&one]).cloned().collect();
    let gates = stretched(m, gates, all)?;
    let gates = reshaped(m, gates, rows.iter().chain([&one]).cloned().collect())?;
    Ok(Some(Named { value: gates, axes: (0..shape.len()).collect() }))
}

/// Is the value made, slot by slot, of products with experts?
fn is_of_experts(m: &Match, value: Id) -> bool {
    let (mut seen, mut todo) = (Vec::new(), vec![value]);
    while let Some(value) = todo.pop() {
        if seen.len() == FARTHEST || seen.iter().any(|&id| m.same(id, value)) {
            continue;
        }
        seen.push(value);
        for node in m.nodes(value) {
            let Some(def) = node.op() else { continue };
            if def == &GROUPED_MATMUL {
                return true;
            }
            if def.semantics.is_elementwise() || [&RESHAPE, &TRANSPOSE, &SLICE].contains(&def) {
                todo.extend(node.operands());
            }
        }
    }
    false
}
