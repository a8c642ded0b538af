//! Which experts a token chooses, and what they weigh: found from a weight for every expert, most of them 0.

use std::collections::BTreeMap;

use egg::Id;
use ir::op::normalize_axis;
use ir::{DType, Dim};
use ops::math::add::ADD;
use ops::math::cast::CAST;
use ops::math::div::DIV;
use ops::math::eq::EQ;
use ops::math::mul::MUL;
use ops::math::sigmoid::SIGMOID;
use ops::math::r#where::WHERE;
use ops::norm::{self, softmax::SOFTMAX};
use ops::reduce::along::AXES;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::{self, BROADCAST};
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::{self, GATHER};
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use ops::shape::iota::{self, IOTA};
use ops::shape::reshape::RESHAPE;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::{self, SCATTER_ELEMENTS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::super::Stop;
use super::super::axes::{Name, Product, reshaped};
use super::ids::{are_distinct, are_in_range, is_never_below_zero};
use super::roles::{Role, aligned, before_reshape, placed, varies};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

pub(super) const IN_RANGE: &str =
    "the ids of experts are places in an axis of all experts, as topk and arg_max give them";
pub(super) const DISTINCT: &str =
    "gates that are put at their experts are of different experts, as topk gives them";

/// So many values may be looked at between the weights and the ids.
const MOST: usize = 64;

/// So many transpositions may stand between scores and what gives them.
const DEEPEST: usize = 4;

/// What tokens choose: ids of experts and their gates, both with the axes of tokens and one of choices.
#[derive(Clone, Copy)]
pub(super) struct Routing {
    pub ids: Id,
    /// All 1 if there are none.
    gates: Option<Id>,
}

/// The experts and the tokens of a mixture.
pub(super) struct Experts {
    /// How many there are.
    pub count: Dim,
    /// The sizes of the axes of tokens.
    pub rows: Vec<Dim>,
    /// What was found before; nothing while it is being looked for, or if there is none.
    known: BTreeMap<(Id, Vec<Role>), Option<Routing>>,
}

impl Routing {
    /// The gates.
    pub(super) fn gates(self, m: &mut Match) -> Result<Id, Stop> {
        match self.gates {
            Some(gates) => Ok(gates),
            None => {
                let one = m.scalar(DType::F32, 1.0);
                let shape = m.shape(self.ids);
                Ok(m.op_with(&BROADCAST, &[one], [broadcast::SHAPE.is(shape)])?)
            }
        }
    }

    /// With gates multiplied by, or divided by, a factor for each choice.
    fn scaled(self, m: &mut Match, def: &'static ir::OpDef, factor: Id) -> Result<Routing, Stop> {
        let gates = match self.gates {
            None if def == &MUL => factor,
            _ => {
                let gates = self.gates(m)?;
                m.op(def, &[gates, factor])?
            }
        };
        let shape = m.shape(self.ids);
        let gates = stretched(m, gates, shape)?;
        Ok(Routing { ids: self.ids, gates: Some(gates) })
    }
}

/// A value in a shape that it broadcasts to.
pub(super) fn stretched(m: &mut Match, x: Id, shape: Vec<Dim>) -> Result<Id, Stop> {
    if m.ty(x).shape == shape {
        return Ok(x);
    }
    Ok(m.op_with(&BROADCAST, &[x], [broadcast::SHAPE.is(shape)])?)
}

impl Experts {
    /// So many, of tokens with such axes.
    pub(super) fn new(count: Dim, rows: Vec<Dim>) -> Experts {
        Experts { count, rows, known: BTreeMap::new() }
    }

    /// What is chosen where these are the weights.
    pub(super) fn routing(&mut self, m: &mut Match, weights: Id, roles: &[Role]) -> Result<Routing, Stop> {
        let key = (weights, roles.to_vec());
        if let Some(known) = self.known.get(&key) {
            return known.ok_or(Stop::Other);
        }
        self.known.insert(key.clone(), None);
        if self.known.len() > MOST {
            return Err(Stop::Other);
        }
        let mut stop = Stop::Other;
        for node in m.nodes(weights) {
            let Some(def) = node.op() else { continue };
            let found = if def == &EQ {
                self.one_hot(m, &node, roles)
            } else if def == &CAST && !m.ty(weights).dtype.is_narrow() {
                self.cast(m, weights, node.operands()[0], roles)
            } else if def == &WHERE {
                self.where_chosen(m, &node, roles, 0.0)
            } else if def == &MUL || def == &DIV {
                self.scaled(m, &node, roles)
            } else if def == &TRANSPOSE {
                let perm: Vec<i64> = m.attrs(&node).get(PERM);
                let before = transposed_roles(roles, &perm);
                self.routing(m, node.operands()[0], &before)
            } else if def == &RESHAPE {
                self.regrouped(m, weights, node.operands()[0], roles)
            } else if def == &REDUCE_SUM {
                self.sum(m, &node, roles)
            } else if def == &ADD {
                self.one_and_another(m, &node, roles)
            } else if def == &SCATTER_ELEMENTS {
                self.scattered(m, &node, roles, 0.0)
            } else if def == &SOFTMAX {
                self.softmax(m, &node, roles)
            } else if def == &SIGMOID {
                self.sigmoid(m, &node, roles)
            } else {
                self.product(m, weights, &node, roles)
            };
            match found {
                Ok(routing) => {
                    self.known.insert(key, Some(routing));
                    m.covers(weights);
                    return Ok(routing);
                }
                Err(Stop::Missed(missed)) => stop = Stop::Missed(missed),
                Err(Stop::Other) => {}
            }
        }
        Err(stop)
    }

    /// In another shape: tokens may have other axes.
    fn regrouped(&mut self, m: &mut Match, x: Id, inner: Id, roles: &[Role]) -> Result<Routing, Stop> {
        let before = before_reshape(&m.shape(inner), &m.shape(x), roles).ok_or(Stop::Other)?;
        match before.rows {
            None => self.routing(m, inner, &before.roles),
            Some(rows) => {
                let routing = Experts::new(self.count.clone(), rows).routing(m, inner, &before.roles)?;
                let choices = m.shape(routing.ids).pop();
                let shape: Vec<Dim> = self.rows.iter().cloned().chain(choices).collect();
                let gates = match routing.gates {
                    Some(gates) => Some(reshaped(m, gates, shape.clone())?),
                    None => None,
                };
                Ok(Routing { ids: reshaped(m, routing.ids, shape)?, gates })
            }
        }
    }

    /// `id = 0, 1, 2, …`: 1 at the expert of that id, or true.
    fn one_hot(&mut self, m: &mut Match, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        let [a, b] = node.operands()[..] else { return Err(Stop::Other) };
        for (ids, all) in [(a, b), (b, a)] {
            let (Some(own), Some(theirs)) = (aligned(m, ids, roles), aligned(m, all, roles)) else {
                continue;
            };
            if varies(m, ids, &own, |role| role == Role::Expert) || !self.counts(m, all, &theirs) {
                continue;
            }
            return self.chosen(m, ids, &own);
        }
        Err(Stop::Other)
    }

    /// These ids, if they are in range.
    fn chosen(&self, m: &mut Match, ids: Id, roles: &[Role]) -> Result<Routing, Stop> {
        if !are_in_range(m, ids, &self.count, 0) {
            return Err(Missed::new(IN_RANGE, m.describe(ids)).into());
        }
        let counted =
            m.nodes(ids).into_iter().find(|node| node.op() == Some(&WHERE) && is_never_below_zero(m, node));
        let ids = counted.map_or(ids, |node| node.operands()[2]);
        let whole = match m.ty(ids).dtype {
            DType::I32 | DType::I64 => Some(ids),
            _ => m.find(&CAST, ids).map(|(of, _)| of[0]),
        };
        let whole = whole.filter(|&ids| matches!(m.ty(ids).dtype, DType::I32 | DType::I64));
        let own = roles[roles.len() - m.ty(ids).rank().min(roles.len())..].to_vec();
        let ids = placed(m, whole.ok_or(Stop::Other)?, &own, self.rows.len(), 0)?;
        let choices = m.shape(ids).pop().ok_or(Stop::Other)?;
        let ids = stretched(m, ids, self.rows.iter().cloned().chain([choices]).collect())?;
        Ok(Routing { ids, gates: None })
    }

    /// Is a value `0, 1, 2, …` along the experts, and the same everywhere else?
    fn counts(&self, m: &Match, x: Id, roles: &[Role]) -> bool {
        let along = |role| role == Role::Expert;
        if varies(m, x, roles, |role| !along(role)) || !varies(m, x, roles, along) {
            return false;
        }
        // Narrow numbers begin anew after few.
        if m.ty(x).dtype.is_narrow() {
            return false;
        }
        if let Some(weight) = m.value(x) {
            return weight.values().enumerate().all(|(at, value)| value.to_f64() == at as f64);
        }
        let counting = |(_, attrs): (Vec<Id>, ir::attr::Attrs)| {
            let axis = normalize_axis(attrs.get(iota::AXIS), roles.len());
            axis.is_ok_and(|axis| along(roles[axis]))
        };
        m.uses_of(&IOTA, x).into_iter().any(counting)
            || m.uses_of(&CAST, x).into_iter().any(|(of, _)| self.counts(m, of[0], roles))
    }

    /// Ones in another type of numbers.
    fn cast(&mut self, m: &mut Match, to: Id, x: Id, roles: &[Role]) -> Result<Routing, Stop> {
        let routing = self.routing(m, x, roles)?;
        let counts = m.ty(to).dtype != DType::Bool || m.ty(x).dtype == DType::Bool;
        if counts && routing.gates.is_none() { Ok(routing) } else { Err(Stop::Other) }
    }

    /// `where(chosen, gate, other)`.
    fn where_chosen(
        &mut self,
        m: &mut Match,
        node: &Node,
        roles: &[Role],
        number: f64,
    ) -> Result<Routing, Stop> {
        let [condition, gate, other] = node.operands()[..] else { return Err(Stop::Other) };
        if !is_all(m, other, number) {
            return Err(Stop::Other);
        }
        let own = aligned(m, condition, roles).ok_or(Stop::Other)?;
        let routing = self.routing(m, condition, &own)?;
        if is_all(m, gate, 1.0) {
            return Ok(routing);
        }
        let factor = self.factor(m, gate, roles, routing.ids)?;
        routing.scaled(m, &MUL, factor)
    }

    /// Weights times, or divided by, a factor.
    fn scaled(&mut self, m: &mut Match, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        let ([a, b], Some(def)) = (node.operands(), node.op()) else { return Err(Stop::Other) };
        let mut stop = Stop::Other;
        let orders = if def == &MUL { &[(*a, *b), (*b, *a)][..] } else { &[(*a, *b)] };
        for &(weights, factor) in orders {
            let Some(own) = aligned(m, weights, roles) else { continue };
            if !varies(m, weights, &own, |role| role == Role::Expert) {
                continue;
            }
            match self.routing(m, weights, &own) {
                Ok(routing) => {
                    let factor = self.factor(m, factor, roles, routing.ids)?;
                    return routing.scaled(m, def, factor);
                }
                Err(Stop::Missed(missed)) => stop = Stop::Missed(missed),
                Err(Stop::Other) => {}
            }
        }
        Err(stop)
    }

    /// What a factor of weights is at the chosen experts.
    fn factor(&self, m: &mut Match, x: Id, roles: &[Role], ids: Id) -> Result<Id, Stop> {
        let roles = aligned(m, x, roles).ok_or(Stop::Other)?;
        let has = |m: &Match, of: Role| varies(m, x, &roles, |role| role == of);
        let rows = self.rows.len();
        if has(m, Role::Expert) && has(m, Role::Slot) {
            return Err(Stop::Other);
        }
        let value = placed(m, x, &roles, rows, 0)?;
        if !has(m, Role::Expert) {
            return Ok(value);
        }
        if !varies(m, x, &roles, Role::is_row) {
            let each = reshaped(m, value, vec![self.count.clone()])?;
            return Ok(m.op_with(&GATHER, &[each, ids], [gather::AXIS.is(0)])?);
        }
        let all = stretched(m, value, self.rows.iter().cloned().chain([self.count.clone()]).collect())?;
        Ok(m.op_with(&GATHER_ELEMENTS, &[all, ids], [gather_elements::AXIS.is(rows as i64)])?)
    }

    /// The sum over the choices.
    fn sum(&mut self, m: &mut Match, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        let x = node.operands()[0];
        let rank = m.ty(x).rank();
        let [axis] = m.attrs(node).get(AXES)[..] else { return Err(Stop::Other) };
        let axis = normalize_axis(axis, rank)?;
        if roles.contains(&Role::Slot) {
            return Err(Stop::Other);
        }
        let mut before = roles.to_vec();
        if roles.len() == rank {
            before[axis] = Role::Slot;
        } else {
            before.insert(axis, Role::Slot);
        }
        self.routing(m, x, &before)
    }

    /// The sum over the choices of gates and ones at their experts.
    fn product(&mut self, m: &mut Match, x: Id, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        let product = Product::of(m, x, node).ok_or(Stop::Other)?;
        let depth = product.depth(m).ok_or(Stop::Other)?;
        if roles.contains(&Role::Slot) || depth.len() != 1 {
            return Err(Stop::Other);
        }
        let role = |&name: &Name| product.place(name).map_or(Role::Slot, |axis| roles[axis]);
        let [left, right] = &product.operands;
        for (weights, gates) in [(left, right), (right, left)] {
            let [theirs, own] = [weights, gates].map(|x| x.axes.iter().map(role).collect::<Vec<_>>());
            if varies(m, gates.value, &own, |role| role == Role::Expert) {
                continue;
            }
            let routing = self.routing(m, weights.value, &theirs)?;
            let factor = placed(m, gates.value, &own, self.rows.len(), 0)?;
            return routing.scaled(m, &MUL, factor);
        }
        Err(Stop::Other)
    }

    /// The sum of weights of some choices and of others.
    fn one_and_another(&mut self, m: &mut Match, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        if roles.contains(&Role::Slot) {
            return Err(Stop::Other);
        }
        let (mut ids, mut gates) = (Vec::new(), Vec::new());
        for &addend in node.operands() {
            let own = aligned(m, addend, roles).ok_or(Stop::Other)?;
            let routing = self.routing(m, addend, &own)?;
            ids.push(routing.ids);
            gates.push(routing.gates(m)?);
        }
        let ids = m.op_with(&CONCAT, &ids, [concat::AXIS.is(-1)])?;
        Ok(Routing { ids, gates: Some(m.op_with(&CONCAT, &gates, [concat::AXIS.is(-1)])?) })
    }

    /// A softmax over the scores of the chosen experts, those of all others being −∞.
    fn softmax(&mut self, m: &mut Match, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        let axis = normalize_axis(m.attrs(node).get(norm::AXIS), roles.len())?;
        if roles[axis] != Role::Expert || roles.contains(&Role::Slot) {
            return Err(Stop::Other);
        }
        let routing = self.scores(m, node.operands()[0], roles, 0)?;
        let scores = routing.gates(m)?;
        let gates = m.op_with(&SOFTMAX, &[scores], [norm::AXIS.is(-1)])?;
        Ok(Routing { gates: Some(gates), ..routing })
    }

    /// The logistic function of such scores: of −∞ it is 0.
    fn sigmoid(&mut self, m: &mut Match, node: &Node, roles: &[Role]) -> Result<Routing, Stop> {
        if roles.contains(&Role::Slot) {
            return Err(Stop::Other);
        }
        let routing = self.scores(m, node.operands()[0], roles, 0)?;
        let scores = routing.gates(m)?;
        Ok(Routing { gates: Some(m.op(&SIGMOID, &[scores])?), ..routing })
    }

    /// The scores of the chosen experts, those of all others being −∞.
    fn scores(&mut self, m: &mut Match, scores: Id, roles: &[Role], depth: usize) -> Result<Routing, Stop> {
        let mut stop = Stop::Other;
        for node in m.nodes(scores) {
            let found = match node.op() {
                Some(def) if def == &SCATTER_ELEMENTS => self.scattered(m, &node, roles, f64::NEG_INFINITY),
                Some(def) if def == &WHERE => self.where_chosen(m, &node, roles, f64::NEG_INFINITY),
                Some(def) if def == &TRANSPOSE && depth < DEEPEST => {
                    let before = transposed_roles(roles, &m.attrs(&node).get(PERM));
                    self.scores(m, node.operands()[0], &before, depth + 1)
                }
                _ => continue,
            };
            match found {
                Ok(routing) => {
                    m.covers(scores);
                    return Ok(routing);
                }
                Err(Stop::Missed(missed)) => stop = Stop::Missed(missed),
                Err(Stop::Other) => {}
            }
        }
        Err(stop)
    }

    /// Gates that are put at their experts, everywhere else being one number.
    fn scattered(
        &mut self,
        m: &mut Match,
        node: &Node,
        roles: &[Role],
        number: f64,
    ) -> Result<Routing, Stop> {
        let [others, ids, gates] = node.operands()[..] else { return Err(Stop::Other) };
        let attrs = m.attrs(node);
        let axis = normalize_axis(attrs.get(scatter_elements::AXIS), roles.len())?;
        let (sizes, all) = (m.shape(ids), m.shape(others));
        let every_row = (0..all.len()).all(|other| other == axis || sizes[other] == all[other]);
        if roles[axis] != Role::Expert || !is_all(m, others, number) || !every_row {
            return Err(Stop::Other);
        }
        match attrs.get(REDUCTION).as_str() {
            "add" if number == 0.0 => {}
            "none" if sizes[axis].is(1) || are_distinct(m, ids, axis, 0) => {}
            "none" => return Err(Missed::new(DISTINCT, m.describe(ids)).into()),
            _ => return Err(Stop::Other),
        }
        let routing = self.chosen(m, ids, roles)?;
        if is_all(m, gates, 1.0) {
            return Ok(routing);
        }
        let gates = placed(m, gates, roles, self.rows.len(), 0)?;
        routing.scaled(m, &MUL, gates)
    }
}

/// Are all elements this number?
pub(super) fn is_all(m: &Match, id: Id, number: f64) -> bool {
    let is_it = |id: Id| match m.value(id) {
        Some(weight) if !weight.dtype().is_float() => weight.values().all(|value| value.to_f64() == number),
        _ => m.number(id) == Some(number),
    };
    is_it(id) || m.find(&BROADCAST, id).is_some_and(|(of, _)| is_it(of[0]))
}

/// The roles before a transposition.
pub(super) fn transposed_roles(roles: &[Role], perm: &[i64]) -> Vec<Role> {
    let mut before = vec![Role::Unit; roles.len()];
    for (&role, &axis) in roles.iter().zip(perm) {
        before[axis as usize] = role;
    }
    before
}
