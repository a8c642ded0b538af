//! Scales and shifts move into the constant weights of products and convolutions.

use egg::Id;
use ir::{Dim, OpDef};
use ops::linalg::conv::{CONV, GROUPS};
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::norm::group_norm::GROUP_NORM;
use ops::norm::instance_norm::INSTANCE_NORM;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::rms_norm::RMS_NORM;
use ops::reduce::along::{AXES, KEEP_DIMS};
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::{self, BROADCAST};
use ops::shape::reshape::{RESHAPE, SHAPE};
use ops::shape::transpose::{PERM, TRANSPOSE};
use ops::window::{HIGH, LOW};

use super::affine::{affine, along_axis, is_vector, is_wide, wide_axes};
use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "scale-into-weights",
        summary: "a product or convolution, times a constant for each output, is one with scaled weights and bias",
        set: Set::Fold,
        exactness: Exactness::Reassociating,
        anchor: &[&MUL],
        obligations: &[CONSTANT, OUTPUTS],
        apply: after,
    },
    Rule {
        name: "scale-before-weights",
        summary: "a product or convolution of x · a + b, with constants for each input, is one of x, with other weights and a bias",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL, &CONV],
        obligations: &[ONE_GROUP, UNPADDED],
        apply: before,
    },
];

const CONSTANT: &str = "the weights of the convolution are constants";
const OUTPUTS: &str = "the scale is one number for each output channel";
const ONE_GROUP: &str = "the convolution has one group";
const UNPADDED: &str = "a convolution of something shifted has no padding, which is not shifted";

/// The scale of a norm over its own elements stays beside it: they are one kernel.
const NORMS: [&OpDef; 4] = [&LAYER_NORM, &RMS_NORM, &GROUP_NORM, &INSTANCE_NORM];

/// So many sums, reshapes and transpositions may lie between a product and its scale.
const BETWEEN: usize = 4;

fn after(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [a, b] = node.operands()[..] else { return Err(Stop::Other) };
    let (y, scale) = if is_vector(m, b) { (a, b) } else { (b, a) };
    let fits = is_wide(m.ty(y).dtype) && !m.is_constant(y) && m.ty(y) == m.ty(class);
    let convolved = m.find(&CONV, y);
    if !fits || !m.is_constant(scale) || m.ty(scale).elements().is(1) {
        return Err(Stop::Other);
    }
    let axis = its_axis(m, scale, m.ty(y).rank());
    if let Some((of, _)) = convolved {
        if !m.is_constant(of[1]) {
            return Err(Missed::new(CONSTANT, m.describe(of[1])).into());
        }
        if axis != Some(1) {
            return Err(Missed::new(OUTPUTS, m.describe(scale)).into());
        }
    }
    let scaled = scaled(m, y, axis.ok_or(Stop::Other)?, scale, BETWEEN)?;
    if m.ty(scaled) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, scaled)])
}

/// The only axis, of so many, along which a constant varies.
fn its_axis(m: &Match, constant: Id, rank: usize) -> Option<usize> {
    match wide_axes(m, constant, rank)[..] {
        [axis] => Some(axis),
        _ => None,
    }
}

/// A constant that varies along one axis, without the others.
fn as_vector(m: &mut Match, constant: Id) -> Result<Id, Stop> {
    if m.ty(constant).rank() == 1 {
        return Ok(constant);
    }
    let size = m.ty(constant).elements();
    Ok(m.op_with(&RESHAPE, &[constant], [SHAPE.is(vec![size])])?)
}

/// A value times a constant that varies along an axis, where that reaches the weights of what gives the value.
fn scaled(m: &mut Match, y: Id, axis: usize, by: Id, depth: usize) -> Result<Id, Stop> {
    let rank = m.ty(y).rank();
    if let Some((of, attrs)) = m.find(&CONV, y).filter(|(of, _)| axis == 1 && m.is_constant(of[1])) {
        let by = as_vector(m, by)?;
        let column = along_axis(m, by, rank, 0)?;
        let weights = m.op(&MUL, &[of[1], column])?;
        m.covers(y);
        return Ok(m.op_as(&CONV, &[of[0], weights], &attrs)?);
    }
    let is_product = |m: &Match, of: &[Id]| m.is_constant(of[1]) && m.ty(of[1]).rank() == 2;
    let product = m.uses_of(&MATMUL, y).into_iter().find(|(of, _)| axis + 1 == rank && is_product(m, of));
    if let Some((of, _)) = product {
        let by = as_vector(m, by)?;
        let weights = m.op(&MUL, &[of[1], by])?;
        m.covers(y);
        return Ok(m.op(&MATMUL, &[of[0], weights])?);
    }
    let depth = depth.checked_sub(1).ok_or(Stop::Other)?;
    if let Some((x, bias)) = biased(m, y) {
        let inner = scaled(m, x, axis, by, depth)?;
        let by = as_vector(m, by)?;
        let by = along_axis(m, by, rank, axis)?;
        let bias = m.op(&MUL, &[bias, by])?;
        m.covers(y);
        return Ok(m.op(&ADD, &[inner, bias])?);
    }
    if let Some((of, attrs)) = m.find(&TRANSPOSE, y) {
        let from = *attrs.get(PERM).get(axis).ok_or(Stop::Other)?;
        let inner = scaled(m, of[0], from as usize, by, depth)?;
        return Ok(m.op_as(&TRANSPOSE, &[inner], &attrs)?);
    }
    let (of, attrs) = m.find(&RESHAPE, y).ok_or(Stop::Other)?;
    let from = same_place(&m.shape(y), axis, &m.shape(of[0])).ok_or(Stop::Other)?;
    let inner = scaled(m, of[0], from, by, depth)?;
    Ok(m.op_as(&RESHAPE, &[inner], &attrs)?)
}

/// `x` and a constant of which the value is the sum.
fn biased(m: &Match, y: Id) -> Option<(Id, Id)> {
    m.uses_of(&ADD, y).into_iter().find_map(|(of, _)| {
        let (x, bias) = if m.is_constant(of[1]) { (of[0], of[1]) } else { (of[1], of[0]) };
        (m.is_constant(bias) && m.ty(x) == m.ty(y)).then_some((x, bias))
    })
}

/// The axis of `to` that runs through the same elements as this axis of `from`, which has another shape.
fn same_place(from: &[Dim], axis: usize, to: &[Dim]) -> Option<usize> {
    let inside: Dim = from[axis + 1..].iter().cloned().product();
    let fits = |at: &usize| to[*at] == from[axis] && to[at + 1..].iter().cloned().product::<Dim>() == inside;
    (0..to.len()).find(fits)
}

fn before(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [y, weights] = node.operands()[..] else { return Err(Stop::Other) };
    let convolves = node.op() == Some(&CONV);
    let fits = is_wide(m.ty(y).dtype) && !m.is_constant(y) && m.is_constant(weights);
    if !fits || !convolves && m.ty(weights).rank() != 2 {
        return Err(Stop::Other);
    }
    let rank = m.ty(y).rank();
    let axis = if convolves { 1 } else { rank - 1 };
    let Some(affine) = affine(m, y)? else { return Err(Stop::Other) };
    let normalised = m.nodes(affine.x).iter().any(|node| node.op().is_some_and(|op| NORMS.contains(&op)));
    let Some(scale) = affine.scale.filter(|&scale| !normalised && is_vector(m, scale)) else {
        return Err(Stop::Other);
    };
    let attrs = m.attrs(node);
    if convolves {
        if attrs.get(GROUPS) != 1 {
            return Err(Missed::new(ONE_GROUP, format!("{} groups", attrs.get(GROUPS))).into());
        }
        let padded = attrs.get(LOW).iter().chain(&attrs.get(HIGH)).any(|size| !size.is(0));
        if padded && affine.shift.is_some() {
            return Err(Missed::new(UNPADDED, m.describe(y)).into());
        }
    }
    let fits = |id: Id| wide_axes(m, id, rank).iter().all(|&wide| wide == axis);
    if !fits(scale) || !affine.shift.is_none_or(fits) {
        return Err(Stop::Other);
    }
    let size = m.shape(y)[axis].clone();
    let scale = as_vector(m, scale)?;
    let shift = affine.shift.map(|shift| spread(m, shift, &size)).transpose()?;
    m.covers(y);
    let op = if convolves { &CONV } else { &MATMUL };
    // The inputs of a convolution are the second axis of its weights, those of a product the first.
    let inputs = if convolves { 1 } else { 0 };
    let weights_rank = m.ty(weights).rank();
    let scale = along_axis(m, scale, weights_rank, inputs)?;
    let scaled = m.op(&MUL, &[weights, scale])?;
    let mut product = m.op_as(op, &[affine.x, scaled], &attrs)?;
    if let Some(shift) = shift {
        let shift = along_axis(m, shift, weights_rank, inputs)?;
        let each = m.op(&MUL, &[weights, shift])?;
        let axes: Vec<i64> = (0..weights_rank as i64).filter(|&axis| (axis == 0) != convolves).collect();
        let bias = m.op_with(&REDUCE_SUM, &[each], [AXES.is(axes), KEEP_DIMS.is(false)])?;
        let rank = m.ty(product).rank();
        let bias = along_axis(m, bias, rank, axis)?;
        product = m.op(&ADD, &[product, bias])?;
    }
    if m.ty(product) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, product)])
}

/// A constant that varies along one axis at most, as a vector of this size.
fn spread(m: &mut Match, constant: Id, size: &Dim) -> Result<Id, Stop> {
    let vector = as_vector(m, constant)?;
    if m.shape(vector) == [size.clone()] {
        return Ok(vector);
    }
    Ok(m.op_with(&BROADCAST, &[vector], [broadcast::SHAPE.is(vec![size.clone()])])?)
}
