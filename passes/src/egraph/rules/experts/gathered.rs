//! Experts that all see every token, of whose results each token takes those of its choices.
//!
//! `gather_elements(y, ids)`, where `y` has an axis of experts and `ids` are the same for all features, is what `slots`
//! gives of `y` at these ids. What no token takes is not computed.

use egg::Id;
use ir::op::normalize_axis;
use ir::{DType, Dim};
use ops::shape::broadcast::BROADCAST;
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};

use super::super::axes::transposed;
use super::super::{Equal, Exactness, Rule, Set, Stop};
use super::alike::ALIKE;
use super::dense::{IN_F32, counted};
use super::ids::are_in_range;
use super::roles::{Role, aligned, placed, varies};
use super::routing::{IN_RANGE, stretched};
use super::slots::{BY_ROW, Slots};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "gathered-experts",
    summary: "yₑ(x[t]) of all experts, of which those that ids name are gathered, is computed for these alone",
    set: Set::Raise,
    exactness: Exactness::Exact,
    anchor: &[&GATHER_ELEMENTS],
    obligations: &[IN_RANGE, IN_F32, ALIKE, BY_ROW],
    apply: gathered,
}];

fn gathered(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [outputs, all_ids] = node.operands()[..] else { return Err(Stop::Other) };
    let shape = m.shape(outputs);
    let axis = normalize_axis(m.attrs(node).get(gather_elements::AXIS), shape.len())?;
    let ids = m.find(&BROADCAST, all_ids).map_or(all_ids, |(of, _)| of[0]);
    let roles = roles(m, ids, axis, shape.len()).ok_or(Stop::Other)?;
    let (sizes, is_expert) = (m.shape(class), |role| role == Role::Expert);
    // Each row and each feature is asked for where it is.
    let aligned_rows = (0..shape.len()).all(|at| at == axis || sizes[at] == shape[at]);
    let of_experts =
        [is_expert, Role::is_row, Role::is_feature].iter().all(|of| varies(m, outputs, &roles, of));
    if !aligned_rows || !of_experts || m.is_constant(outputs) {
        return Err(Stop::Other);
    }
    if !are_in_range(m, ids, &shape[axis], 0) {
        return Err(Missed::new(IN_RANGE, m.describe(ids)).into());
    }
    if m.ty(outputs).dtype != DType::F32 {
        return Err(Missed::new(IN_F32, m.ty(outputs).dtype.to_string()).into());
    }
    let own = aligned(m, ids, &roles).ok_or(Stop::Other)?;
    let rows = roles.iter().filter(|role| role.is_row()).count();
    let ids = placed(m, ids, &own, rows, 0)?;
    let features = roles.len() - rows - 1;
    let chosen = Slots::new(m, ids).of(m, outputs, &roles, features)?;
    let mut order: Vec<usize> = (0..roles.len()).collect();
    order.sort_by_key(|&at| roles[at]);
    let slots: Vec<Dim> = order.iter().map(|&at| sizes[at].clone()).collect();
    let chosen = stretched(m, chosen, slots)?;
    let back = (0..roles.len()).filter_map(|at| order.iter().position(|&from| from == at));
    let chosen = transposed(m, chosen, back.map(|at| at as i64).collect())?;
    m.covers(outputs);
    Ok(vec![(class, chosen)])
}

/// What the axes of the experts' results are: tokens where the ids differ from one to the next, and else features.
fn roles(m: &Match, ids: Id, axis: usize, rank: usize) -> Option<Vec<Role>> {
    let sizes = m.shape(ids);
    let skip = rank.checked_sub(sizes.len())?;
    let long = |at: usize| at >= skip && !sizes[at - skip].is(1);
    let mut roles = counted((0..rank).filter(|&at| at != axis).map(long));
    roles.insert(axis, Role::Expert);
    Some(roles)
}
