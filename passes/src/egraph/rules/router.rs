//! The router of a mixture of experts: the choice of experts in a form that joins what stands around it.

use egg::Id;
use ir::{DType, Dim};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::math::sub::SUB;
use ops::order::route::{self, LONGEST, MOST_TAKEN, ROUTE};
use ops::order::topk::{AXIS, K, LARGEST, TOPK};
use ops::shape::reshape::RESHAPE;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
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

/// So many ops may stand between the places and the product.
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
