//! Scales and shifts by constants: batch normalisation, also where a graph spells it out.

use egg::Id;
use ir::{DType, Dim};
use ops::math::add::ADD;
use ops::math::div::DIV;
use ops::math::mul::MUL;
use ops::math::neg::NEG;
use ops::math::reciprocal::RECIPROCAL;
use ops::math::sqrt::SQRT;
use ops::math::sub::SUB;
use ops::norm::EPSILON;
use ops::norm::batch_norm::BATCH_NORM;
use ops::shape::reshape::{RESHAPE, SHAPE};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "scale-and-shift",
    summary: "a batch norm, and any chain of products and sums with constant vectors, is x · a + b",
    set: Set::Fold,
    exactness: Exactness::Reassociating,
    anchor: &[&ADD, &SUB, &MUL, &DIV, &BATCH_NORM],
    obligations: &[CONSTANT, WIDE],
    apply: scale_and_shift,
}];

const CONSTANT: &str = "scale, bias, mean and variance of the norm are constants";
const WIDE: &str = "all values are f32, or all are f64";

/// So many links of a chain are read.
const LINKS: usize = 16;

/// A value as `x · scale + shift`, with constants.
pub(super) struct Affine {
    /// What is scaled and shifted; it has the type of the value.
    pub x: Id,
    /// Absent where it is 1.
    pub scale: Option<Id>,
    /// Absent where it is 0.
    pub shift: Option<Id>,
}

/// What is done with a constant.
enum Link {
    Times(Id),
    Over(Id),
    Plus(Id),
    Minus(Id),
    /// Scale, bias, mean, variance, epsilon.
    Norm([Id; 4], f64),
}

fn scale_and_shift(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    if node.op() == Some(&BATCH_NORM) && !m.is_constant(node.operands()[0]) {
        suits(m, class, &node.operands()[1..])?;
    }
    let (x, links) = read(m, class);
    let scaled = links.iter().any(|link| match link {
        Link::Times(by) | Link::Over(by) => is_vector(m, *by),
        Link::Norm(of, _) => is_vector(m, of[0]),
        Link::Plus(_) | Link::Minus(_) => false,
    });
    let shifts = links.iter().filter(|link| match link {
        Link::Plus(by) | Link::Minus(by) => is_vector(m, *by),
        _ => false,
    });
    let done = match &links[..] {
        [] | [Link::Times(_)] | [Link::Times(_), Link::Plus(_) | Link::Minus(_)] => true,
        // Numbers stay where they are.
        _ => !scaled && shifts.count() < 2,
    };
    if done {
        return Err(Stop::Other);
    }
    let affine = compose(m, x, links)?;
    let mut y = affine.x;
    for (op, operand) in [(&MUL, affine.scale), (&ADD, affine.shift)] {
        if let Some(operand) = operand {
            y = m.op(op, &[y, operand])?;
        }
    }
    if m.ty(y) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, y)])
}

/// A value as `x · scale + shift`; `None` where nothing is scaled or shifted by constants.
pub(super) fn affine(m: &mut Match, class: Id) -> Result<Option<Affine>, Stop> {
    let (x, links) = read(m, class);
    if links.is_empty() { Ok(None) } else { compose(m, x, links).map(Some) }
}

/// Is it a constant that varies along just one axis?
pub(super) fn is_vector(m: &Match, id: Id) -> bool {
    is_fixed(m, id) && wide_axes(m, id, m.ty(id).rank()).len() == 1
}

/// The axes, of so many, along which a value has more than one element.
pub(super) fn wide_axes(m: &Match, id: Id, rank: usize) -> Vec<usize> {
    let shape = &m.ty(id).shape;
    let before = rank - shape.len();
    (0..shape.len()).filter(|&axis| !shape[axis].is(1)).map(|axis| before + axis).collect()
}

fn is_fixed(m: &Match, id: Id) -> bool {
    m.is_constant(id) && m.ty(id).fixed_shape().is_some()
}

/// May a norm with these parameters be folded?
fn suits(m: &Match, class: Id, parameters: &[Id]) -> Result<(), Missed> {
    if let Some(&other) = parameters.iter().find(|&&id| !is_fixed(m, id)) {
        return Err(Missed::new(CONSTANT, m.describe(other)));
    }
    let dtype = m.ty(class).dtype;
    match parameters.iter().find(|&&id| m.ty(id).dtype != dtype) {
        Some(&other) => Err(Missed::new(WIDE, m.describe(other))),
        None if !is_wide(dtype) => Err(Missed::new(WIDE, m.describe(class))),
        None => Ok(()),
    }
}

/// 16-bit floats would be rounded once more.
pub(super) fn is_wide(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64)
}

/// Takes a chain apart, all of it along one axis: what it starts with, and its links from there.
fn read(m: &Match, class: Id) -> (Id, Vec<Link>) {
    let (mut x, mut links, mut axis) = (class, Vec::new(), None);
    while is_wide(m.ty(x).dtype) && links.len() < LINKS && !m.is_constant(x) {
        let found = m.nodes(x).iter().find_map(|node| {
            let (inner, link) = link(m, x, node)?;
            let own = link.axes(m, m.ty(x).rank());
            let fits = own.len() <= 1 && own.iter().all(|own| axis.is_none_or(|axis| axis == *own));
            fits.then(|| (inner, link, own.first().copied()))
        });
        let Some((inner, link, own)) = found else { break };
        (x, axis) = (inner, axis.or(own));
        links.push(link);
    }
    links.reverse();
    (x, links)
}

impl Link {
    /// The axes, of so many, along which its constant varies.
    fn axes(&self, m: &Match, rank: usize) -> Vec<usize> {
        match self {
            Link::Times(by) | Link::Over(by) | Link::Plus(by) | Link::Minus(by) => wide_axes(m, *by, rank),
            Link::Norm(..) => vec![1],
        }
    }
}

/// A node as a link of a chain, and what it is applied to.
fn link(m: &Match, class: Id, node: &Node) -> Option<(Id, Link)> {
    let op = node.op()?;
    let operands = node.operands();
    if op == &BATCH_NORM {
        suits(m, class, &operands[1..]).ok()?;
        let parameters = [operands[1], operands[2], operands[3], operands[4]];
        return Some((operands[0], Link::Norm(parameters, m.attrs(node).get(EPSILON))));
    }
    let of = |x: Id, by: Id, link: fn(Id) -> Link| {
        (is_fixed(m, by) && m.ty(x) == m.ty(class)).then(|| (x, link(by)))
    };
    let [a, b] = operands[..] else { return None };
    if op == &MUL {
        of(a, b, Link::Times).or_else(|| of(b, a, Link::Times))
    } else if op == &ADD {
        of(a, b, Link::Plus).or_else(|| of(b, a, Link::Plus))
    } else if op == &SUB {
        of(a, b, Link::Minus)
    } else if op == &DIV {
        of(a, b, Link::Over)
    } else {
        None
    }
}

/// The chain as one scale and one shift, computed from its constants.
fn compose(m: &mut Match, x: Id, links: Vec<Link>) -> Result<Affine, Stop> {
    let rank = m.ty(x).rank();
    let (mut scale, mut shift): (Option<Id>, Option<Id>) = (None, None);
    for link in links {
        match link {
            Link::Times(by) => (scale, shift) = times(m, scale, shift, by)?,
            Link::Over(by) => {
                let inverse = m.op(&RECIPROCAL, &[by])?;
                (scale, shift) = times(m, scale, shift, inverse)?;
            }
            Link::Plus(by) => shift = Some(sum(m, shift, by)?),
            Link::Minus(by) => {
                shift = Some(match shift {
                    Some(shift) => m.op(&SUB, &[shift, by])?,
                    None => m.op(&NEG, &[by])?,
                });
            }
            Link::Norm([gain, bias, mean, variance], epsilon) => {
                let epsilon = m.scalar(m.ty(variance).dtype, epsilon);
                let above = m.op(&ADD, &[variance, epsilon])?;
                let deviation = m.op(&SQRT, &[above])?;
                let factor = m.op(&DIV, &[gain, deviation])?;
                let centre = m.op(&MUL, &[mean, factor])?;
                let rest = m.op(&SUB, &[bias, centre])?;
                let factor = along_axis(m, factor, rank, 1)?;
                let rest = along_axis(m, rest, rank, 1)?;
                (scale, shift) = times(m, scale, shift, factor)?;
                shift = Some(sum(m, shift, rest)?);
            }
        }
    }
    Ok(Affine { x, scale, shift })
}

fn times(
    m: &mut Match,
    scale: Option<Id>,
    shift: Option<Id>,
    by: Id,
) -> Result<(Option<Id>, Option<Id>), Stop> {
    let scale = match scale {
        Some(scale) => m.op(&MUL, &[scale, by])?,
        None => by,
    };
    let shift = shift.map(|shift| m.op(&MUL, &[shift, by])).transpose()?;
    Ok((Some(scale), shift))
}

fn sum(m: &mut Match, shift: Option<Id>, by: Id) -> Result<Id, Stop> {
    Ok(match shift {
        Some(shift) => m.op(&ADD, &[shift, by])?,
        None => by,
    })
}

/// A vector in a shape that broadcasts along this axis of so many.
pub(super) fn along_axis(m: &mut Match, vector: Id, rank: usize, axis: usize) -> Result<Id, Stop> {
    let mut shape = m.shape(vector);
    shape.resize(rank - axis, Dim::constant(1));
    if shape == m.shape(vector) {
        return Ok(vector);
    }
    Ok(m.op_with(&RESHAPE, &[vector], [SHAPE.is(shape)])?)
}
