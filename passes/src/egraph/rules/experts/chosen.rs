//! Products with gathered matrices: `W[ids] · x`, a matrix for each row.

use egg::Id;
use ir::Dim;
use ir::op::normalize_axis;
use ops::linalg::einsum::EINSUM;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::shape::broadcast::BROADCAST;
use ops::shape::gather::{self, GATHER};
use ops::shape::gather_nd::{BATCH_DIMS, GATHER_ND};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::super::axes::{Name, Named, Product, reshaped, transposed, unshaped};
use super::order;
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};
use crate::egraph::rules::linear::swapped;
use crate::egraph::rules::{Equal, Exactness, Rule, Set, Stop};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "routed-product",
        summary: "x · W[ids], a gathered matrix for each row, is one product that reads each matrix where it is",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&MATMUL, &EINSUM],
        obligations: &[MATRIX_BY_MATRIX, APART],
        apply: routed,
    },
    Rule {
        name: "shared-rows",
        summary: "a product of rows with the matrices of their ids takes rows that repeat once",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&GROUPED_MATMUL],
        obligations: &[],
        apply: shared,
    },
];

const MATRIX_BY_MATRIX: &str = "matrices are gathered whole: along the first axis of three";
const APART: &str = "the matrices do not depend on the rows that they meet";

/// Gathered matrices: `w[ids]`, all sizes those of the value.
struct Choice {
    w: Id,
    ids: Id,
}

fn routed(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let Product { operands: [left, right], result } = Product::of(m, class, node).ok_or(Stop::Other)?;
    let mut missed = Stop::Other;
    for (x, matrices) in [(&left, &right), (&right, &left)] {
        let product = choice(m, matrices.value).and_then(|choice| grouped(m, x, matrices, &result, &choice));
        match product {
            Ok(product) => {
                m.covers(matrices.value);
                return Ok(vec![(class, product)]);
            }
            Err(Stop::Missed(other)) => missed = Stop::Missed(other),
            Err(Stop::Other) => {}
        }
    }
    Err(missed)
}

/// What a value gathers, if it is a matrix for each of several rows.
fn choice(m: &mut Match, value: Id) -> Result<Choice, Stop> {
    let shape = m.shape(value);
    let [rows @ .., height, width] = &shape[..] else { return Err(Stop::Other) };
    if rows.iter().all(|size| size.is(1)) || height.is(1) || width.is(1) {
        return Err(Stop::Other);
    }
    if let Some((of, _)) =
        m.find(&TRANSPOSE, value).filter(|(_, attrs)| attrs.get(PERM) == swapped(shape.len()))
    {
        let Choice { w, ids } = choice(m, of[0])?;
        return Ok(Choice { w: transposed(m, w, swapped(3))?, ids });
    }
    for known in unshaped(m, value) {
        let Some((x, ids, axis)) = gathered(m, known) else { continue };
        let each: Dim = m.ty(x).shape.iter().skip(1).cloned().product();
        let count: Dim = m.ty(ids).shape.iter().cloned().product();
        if axis != 0 && m.ty(x).rank() == 3 && !count.is(1) {
            let found = format!("along axis {axis} of {}", m.describe(x));
            return Err(Missed::new(MATRIX_BY_MATRIX, found).into());
        }
        let fits = each == height.clone() * width.clone() && count == rows.iter().cloned().product();
        if axis == 0 && fits {
            let experts = m.ty(x).shape[0].clone();
            let w = reshaped(m, x, vec![experts, height.clone(), width.clone()])?;
            return Ok(Choice { w, ids: reshaped(m, ids, rows.to_vec())? });
        }
    }
    Err(Stop::Other)
}

/// What is gathered by which indices along which axis, a number for each.
pub(super) fn gathered(m: &Match, value: Id) -> Option<(Id, Id, usize)> {
    if let Some((operands, attrs)) = m.find(&GATHER, value) {
        let axis = normalize_axis(attrs.get(gather::AXIS), m.ty(operands[0]).rank()).ok()?;
        return Some((operands[0], operands[1], axis));
    }
    let (operands, attrs) = m.find(&GATHER_ND, value)?;
    let single = m.ty(operands[1]).shape.last()?.is(1) && attrs.get(BATCH_DIMS) == 0;
    single.then_some((operands[0], operands[1], 0))
}

/// The product of `x` with these matrices.
fn grouped(m: &mut Match, x: &Named, matrices: &Named, result: &Named, choice: &Choice) -> Result<Id, Stop> {
    let [chosen @ .., height, width] = &matrices.axes[..] else { return Err(Stop::Other) };
    let (from_x, made) = (x.long(m), result.long(m));
    let is_depth = |name: &Name| from_x.contains(name) && !made.contains(name);
    let is_column = |name: &Name| made.contains(name) && !from_x.contains(name);
    let (w, depth, column) = if is_depth(height) && is_column(width) {
        (choice.w, *height, *width)
    } else if is_column(height) && is_depth(width) {
        (transposed(m, choice.w, swapped(3))?, *width, *height)
    } else {
        return Err(Stop::Other);
    };
    let own = unshaped(m, x.value).last().copied().unwrap_or(x.value);
    if m.depends(choice.w, own) {
        return Err(Missed::new(APART, m.describe(choice.w)).into());
    }
    let is_row = |name: &Name| *name != column && (chosen.contains(name) || made.contains(name));
    let rows: Vec<Name> = result.axes.iter().copied().filter(is_row).collect();
    let long: Vec<Name> = rows.iter().copied().filter(|name| made.contains(name)).collect();
    let ids = Named { value: choice.ids, axes: chosen.to_vec() };
    let (x, ids) = if from_x == [&long[..], &[depth]].concat() && ids.long(m) == long {
        let size = x.size(m, depth);
        match before_broadcast(m, x.value, ids.value, &size)? {
            Some(found) => found,
            None => {
                let ids = unshaped(m, ids.value).last().copied().unwrap_or(ids.value);
                let shape = m.shape(ids).into_iter().chain([size]).collect();
                (reshaped(m, x.value, shape)?, ids)
            }
        }
    } else {
        (x.ordered(m, &[&rows[..], &[depth]].concat())?, ids.ordered(m, &rows)?)
    };
    let product = m.op(&GROUPED_MATMUL, &[x, w, ids])?;
    let sizes: Vec<Dim> = rows.iter().chain([&column]).map(|&name| result.size(m, name)).collect();
    let product =
        Named { value: reshaped(m, product, sizes)?, axes: rows.iter().copied().chain([column]).collect() };
    let ordered = product.ordered(m, &result.axes)?;
    let shape = m.shape(result.value);
    reshaped(m, ordered, shape)
}

fn shared(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [x, w, ids] = node.operands()[..] else { return Err(Stop::Other) };
    let shape = m.shape(x);
    let (depth, rows) = shape.split_last().ok_or(Stop::Other)?;
    if rows != m.shape(ids) {
        return Err(Stop::Other);
    }
    let (x, ids) = before_broadcast(m, x, ids, depth)?.ok_or(Stop::Other)?;
    let product = m.op(&GROUPED_MATMUL, &[x, w, ids])?;
    let shape = m.shape(class);
    Ok(vec![(class, reshaped(m, product, shape)?)])
}

/// Rows that repeat, each with an id: the rows as they were before, and ids that they broadcast to.
fn before_broadcast(m: &mut Match, x: Id, ids: Id, depth: &Dim) -> Result<Option<(Id, Id)>, Stop> {
    for known in unshaped(m, x) {
        let Some((of, from, to)) = repeated(m, known) else { continue };
        if [from.last(), to.last()] != [Some(depth); 2] {
            continue;
        }
        let long: Vec<usize> = (0..to.len() - 1).filter(|&at| !to[at].is(1)).collect();
        let rows: Vec<Dim> = long.iter().map(|&at| to[at].clone()).collect();
        // Ids may stand as they do in the model, which has a token's side by side.
        let is_same = |ids: &Id| m.ty(*ids).shape.iter().filter(|size| !size.is(1)).eq(&rows);
        let shape = unshaped(m, ids).into_iter().rfind(is_same).map_or(rows, |ids| m.shape(ids));
        let mut each = long.into_iter().map(|at| from[at].clone());
        let once = |size: &Dim| if size.is(1) { None } else { each.next() }.unwrap_or(Dim::constant(1));
        let before = shape.iter().map(once).chain([depth.clone()]).collect();
        m.covers(known);
        return Ok(Some((reshaped(m, of, before)?, reshaped(m, ids, shape)?)));
    }
    Ok(None)
}

/// What a value repeats along some axes, and the sizes before, 1 there, and after.
fn repeated(m: &Match, value: Id) -> Option<(Id, Vec<Dim>, Vec<Dim>)> {
    if let Some((of, _)) = m.find(&BROADCAST, value) {
        let (from, to) = (m.shape(of[0]), m.shape(value));
        let from = std::iter::repeat_n(Dim::constant(1), to.len() - from.len()).chain(from).collect();
        return Some((of[0], from, to));
    }
    let (tokens, indices, axis) = gathered(m, value)?;
    let (count, rest) = m.ty(tokens).shape.split_first()?;
    let each = order::repeats(m, indices).filter(|_| axis == 0)?;
    let by_tokens = |each: i64| [&[count.clone(), Dim::constant(each)], rest].concat();
    let all = count.clone() * Dim::constant(each) == m.ty(indices).elements();
    all.then(|| (tokens, by_tokens(1), by_tokens(each)))
}
