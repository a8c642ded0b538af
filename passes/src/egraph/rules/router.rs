//! The router of a mixture of experts: the choice of experts in a form that joins what stands around it.

use egg::Id;
use ir::{DType, Dim, OpDef};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::order::route::{self, LONGEST, MOST_TAKEN, ROUTE};
use ops::order::topk::{AXIS, K, LARGEST, TOPK};
use ops::shape::gather_elements::GATHER_ELEMENTS;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::{Head, Node};
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "router",
    summary: "the largest scores of each row, whose places name matrices of a grouped product, are found by a route",
    set: Set::Raise,
    exactness: Exactness::Exact,
    anchor: &[&TOPK],
    obligations: &[LARGEST_OF_ROW, FEW],
    apply: router,
}];

const LARGEST_OF_ROW: &str = "what is taken are the largest f32 scores along the last axis";
const FEW: &str = "at most 16 scores are taken, of at most 4096, both known numbers";

/// So many ops may stand between the places and the product, and between scores and choices.
const DEEPEST: usize = 4;

fn router(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let (scores, attrs) = (node.operands()[0], m.attrs(node));
    let ids = m.result(class, 1).ok_or(Stop::Other)?;
    if !names_matrices(m, ids, DEEPEST) {
        return Err(Stop::Other);
    }
    let last = m.ty(scores).rank() as i64 - 1;
    let along_row = [-1, last].contains(&attrs.get(AXIS)) && attrs.get(LARGEST);
    if !along_row || m.ty(scores).dtype != DType::F32 {
        return Err(Missed::new(LARGEST_OF_ROW, m.describe(scores)).into());
    }
    let k = attrs.get(K);
    let few = k.as_const().filter(|taken| (1..=MOST_TAKEN).contains(taken));
    let experts = m.ty(scores).shape.last().and_then(Dim::as_const);
    let (Some(taken), Some(..=LONGEST)) = (few, experts) else {
        return Err(Missed::new(FEW, format!("{k} of {}", m.describe(scores))).into());
    };
    let route = m.op_with(&ROUTE, &[scores], [route::K.is(taken)])?;
    // Counted alone it does more work than a sort; but a sort stays a kernel of its own.
    m.replaces(node);
    Ok(vec![(class, route)])
}

/// Do these ids, perhaps in another shape or counted from the end, choose the matrices of a grouped product?
fn names_matrices(m: &Match, ids: Id, deepest: usize) -> bool {
    let takes = |(_, product): &(Id, Node)| product.operands().get(2).is_some_and(|&own| m.same(own, ids));
    let counted = |(_, node): &(Id, Node)| m.is_constant(node.operands()[0]);
    let users = m.users(&RESHAPE, ids).into_iter().chain(m.users(&SUB, ids).into_iter().filter(counted));
    m.users(&GROUPED_MATMUL, ids).iter().any(takes)
        || deepest > 0 && users.into_iter().any(|(seen, _)| names_matrices(m, seen, deepest - 1))
}

/// Is this softmax of a router? Then it is of scores that a top-k chooses from, before or after the softmax, or of what
/// one has chosen; and no values are weighed with it.
pub(super) fn is_routers(m: &Match, softmax: Id, scores: Id) -> bool {
    let of_router = is_chosen_from(m, softmax, DEEPEST)
        || is_chosen_from(m, scores, DEEPEST)
        || was_chosen(m, scores, DEEPEST);
    of_router && m.users(&MATMUL, softmax).is_empty()
}

/// Does a top-k or a route choose from this, perhaps with a bias and in another shape?
fn is_chosen_from(m: &Match, scores: Id, deepest: usize) -> bool {
    let on = |def| m.users(def, scores).into_iter().any(|(made, _)| is_chosen_from(m, made, deepest - 1));
    [&TOPK, &ROUTE].into_iter().any(|def| !m.users(def, scores).is_empty())
        || deepest > 0 && [&RESHAPE, &SLICE, &ADD, &MUL].into_iter().any(on)
}

/// Is it made, element by element, of what a top-k or a route gave?
fn was_chosen(m: &Match, value: Id, deepest: usize) -> bool {
    m.nodes(value).iter().any(|node| {
        let moves = |def: &OpDef| {
            def.semantics.is_elementwise() || [&RESHAPE, &GATHER_ELEMENTS].into_iter().any(|own| own == def)
        };
        let by = match node.head() {
            Head::Op(def) if *def == TOPK || *def == ROUTE => return true,
            Head::Op(def) => deepest > 0 && moves(def),
            Head::Result(_) => deepest > 0,
            _ => false,
        };
        by && node.operands().iter().any(|&operand| was_chosen(m, operand, deepest - 1))
    })
}
