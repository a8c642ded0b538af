//! Experts whose inputs are scaled by gates, most of them 0, and which have nothing to say of zeros.
//!
//! `Σₑ yₑ(g[t, e] · x[t])` has only terms for the experts that a token chooses, if `g` is 0 for all others and
//! `yₑ(0) = 0`: products without biases, activations that go through 0. The gates are found on the way from the sum to
//! what experts are given; `slots` then gives what they say at the chosen ones alone, where it knows the gates. What is
//! multiplied by 0 in the model is taken to be finite.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;
use ir::graph::SizeValues;
use ir::op::{Eval, normalize_axis};
use ir::{DType, Dim, OpDef, Scalar, Tensor};
use ops::linalg::einsum::EINSUM;
use ops::linalg::matmul::MATMUL;
use ops::math::mul::MUL;
use ops::reduce::along::{AXES, KEEP_DIMS};
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::{self, CONCAT};
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::{SLICE, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::super::axes::{Name, Product};
use super::super::{Equal, Exactness, Rule, Set, Stop};
use super::alike::ALIKE;
use super::dense::{IN_F32, in_order};
use super::ids::are_distinct;
use super::roles::{Role, aligned, before_reshape, split, varies};
use super::routing::{DISTINCT, Experts, IN_RANGE, Routing, stretched, transposed_roles};
use super::slots::{BY_ROW, Scale, Slots};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "scaled-inputs",
    summary: "Σₑ yₑ(g[t, e] · x[t]), where g is 0 but for a few experts and yₑ(0) is 0, is the sum over these alone",
    set: Set::Raise,
    exactness: Exactness::Reassociating,
    anchor: &[&REDUCE_SUM],
    obligations: &[IN_RANGE, DISTINCT, IN_F32, ZERO, ALIKE, BY_ROW],
    apply: scaled,
}];

const ZERO: &str = "experts whose inputs are scaled by 0 give 0";

/// So many values may be looked at between what experts give and their gates.
const MOST: usize = 64;

/// Gates that scale what experts are given.
struct Gates {
    value: Id,
    /// What its own axes are.
    roles: Vec<Role>,
    /// Which axes of the experts' results are of tokens.
    rows: Vec<usize>,
    sizes: Vec<Dim>,
    routing: Routing,
}

fn scaled(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let outputs = node.operands()[0];
    let shape = m.shape(outputs);
    let [axis] = m.attrs(node).get(AXES)[..] else { return Err(Stop::Other) };
    let axis = normalize_axis(axis, shape.len())?;
    let mut search = Search { seen: BTreeSet::new(), stop: Stop::Other };
    let by_axis = (0..shape.len()).map(|at| if at == axis { Role::Expert } else { Role::Feature(at) });
    let Some(gates) = search.gates(m, outputs, &by_axis.collect::<Vec<_>>(), false) else {
        return Err(search.stop);
    };
    let ids = gates.routing.ids;
    if !m.shape(ids).last().is_some_and(|choices| choices.is(1)) && !are_distinct(m, ids, gates.rows.len(), 0)
    {
        return Err(Missed::new(DISTINCT, m.describe(ids)).into());
    }
    if m.ty(outputs).dtype != DType::F32 {
        return Err(Missed::new(IN_F32, m.ty(outputs).dtype.to_string()).into());
    }
    let roles = roles(&gates.rows, axis, shape.len());
    let value = gates.routing.gates(m)?;
    let scale = Scale { weights: gates.value, roles: gates.roles, gates: value };
    if !(Zeros { of: &scale, known: BTreeMap::new() }).is_zero(m, outputs, &roles) {
        return Err(Missed::new(ZERO, m.describe(outputs)).into());
    }
    let features = roles.iter().filter(|role| role.is_feature()).count();
    let chosen = Slots::new(m, ids).scaled_by(scale).of(m, outputs, &roles, features)?;
    let slots = m.shape(ids);
    let width = m.shape(chosen).split_off(slots.len());
    let whole = stretched(m, chosen, [slots, width.clone()].concat())?;
    let along = [AXES.is(vec![gates.rows.len() as i64]), KEEP_DIMS.is(false)];
    let sum = m.op_with(&REDUCE_SUM, &[whole], along)?;
    let result: Vec<Role> = roles.into_iter().filter(|&role| role != Role::Expert).collect();
    let sum = in_order(m, sum, &gates.sizes, &width, class, &result)?;
    m.covers(outputs);
    if m.ty(sum) == m.ty(class) { Ok(vec![(class, sum)]) } else { Err(Stop::Other) }
}

/// The roles of axes, of which these are of tokens.
fn roles(rows: &[usize], axis: usize, rank: usize) -> Vec<Role> {
    let mut features = 0;
    let role = |at: usize| {
        if at == axis {
            return Role::Expert;
        }
        let row = rows.iter().position(|&row| row == at);
        row.map_or_else(
            || {
                features += 1;
                Role::Feature(features - 1)
            },
            Role::Row,
        )
    };
    (0..rank).map(role).collect()
}

/// Looks for gates, from what experts give on. All axes but that of experts count as features, by their number in the
/// result.
struct Search {
    /// Also whether a product was on the way: what scales the results themselves is no matter of inputs.
    seen: BTreeSet<(Id, Vec<Role>, bool)>,
    /// Why the last that might have been gates are none.
    stop: Stop,
}

impl Search {
    fn gates(&mut self, m: &mut Match, x: Id, roles: &[Role], given: bool) -> Option<Gates> {
        let by_expert = varies(m, x, roles, |role| role == Role::Expert);
        if !by_expert || self.seen.len() == MOST || !self.seen.insert((x, roles.to_vec(), given)) {
            return None;
        }
        m.nodes(x).iter().find_map(|node| self.node(m, x, node, roles, given))
    }

    fn node(&mut self, m: &mut Match, x: Id, node: &Node, roles: &[Role], given: bool) -> Option<Gates> {
        let def = node.op()?;
        if def == &MUL
            && given
            && let Some(gates) = node.operands().iter().find_map(|&factor| self.factor(m, x, factor, roles))
        {
            return Some(gates);
        }
        let operands = operands(m, x, node, roles)?;
        let given = given || def == &MATMUL || def == &EINSUM;
        operands.iter().find_map(|(operand, roles)| self.gates(m, *operand, roles, given))
    }

    /// Gates are a factor that is one number for each token and expert.
    fn factor(&mut self, m: &mut Match, x: Id, factor: Id, roles: &[Role]) -> Option<Gates> {
        let own = aligned(m, factor, roles)?;
        let sizes = m.shape(factor);
        let row = |(&role, size): (&Role, &Dim)| match role {
            Role::Feature(at) if !size.is(1) => Some((at, size.clone())),
            _ => None,
        };
        let mut rows: Vec<(usize, Dim)> = own.iter().zip(&sizes).filter_map(row).collect();
        rows.sort_by_key(|&(at, _)| at);
        let (rows, each): (Vec<usize>, Vec<Dim>) = rows.into_iter().unzip();
        let is_wide = |role| !matches!(role, Role::Feature(at) if rows.contains(&at)) && role != Role::Expert;
        let count = own.iter().position(|&role| role == Role::Expert).map(|at| sizes[at].clone())?;
        if count.is(1) || rows.is_empty() || !varies(m, x, roles, is_wide) || varies(m, factor, &own, is_wide)
        {
            return None;
        }
        let known = |role: &Role| match role {
            Role::Feature(at) => rows.iter().position(|row| row == at).map_or(Role::Unit, Role::Row),
            role => *role,
        };
        let roles: Vec<Role> = own.iter().map(known).collect();
        match Experts::new(count, each.clone()).routing(m, factor, &roles) {
            Ok(routing) => Some(Gates { value: factor, roles, rows, sizes: each, routing }),
            Err(stop) => {
                self.stop = stop;
                None
            }
        }
    }
}

/// What a value is made of, row by row: the operands of a node and the roles of their axes.
fn operands(m: &mut Match, x: Id, node: &Node, roles: &[Role]) -> Option<Vec<(Id, Vec<Role>)>> {
    let (def, all) = (node.op()?, node.operands());
    let attrs = m.attrs(node);
    let inner = *all.first()?;
    let is_own = |axis: usize| matches!(roles[axis], Role::Row(_) | Role::Expert);
    if def.semantics.is_elementwise() || def == &BROADCAST {
        return all.iter().map(|&operand| Some((operand, aligned(m, operand, roles)?))).collect();
    }
    if def == &MATMUL || def == &EINSUM {
        let product = Product::of(m, x, node)?;
        product.depth(m)?;
        let role = |&name: &Name| product.place(name).map_or(Role::Unit, |at| roles[at]);
        let sides = product.operands.iter();
        return Some(sides.map(|side| (side.value, side.axes.iter().map(role).collect())).collect());
    }
    if def == &TRANSPOSE {
        return Some(vec![(inner, transposed_roles(roles, &attrs.get(PERM)))]);
    }
    if def == &SLICE {
        let (from, to, steps) = (m.shape(inner), m.shape(x), attrs.get(STEPS));
        let whole = |axis: usize| from[axis] == to[axis] && steps[axis] == 1;
        return (0..roles.len())
            .all(|axis| !is_own(axis) || whole(axis))
            .then(|| vec![(inner, roles.to_vec())]);
    }
    if def == &CONCAT {
        let axis = normalize_axis(attrs.get(concat::AXIS), roles.len()).ok()?;
        return (!is_own(axis)).then(|| all.iter().map(|&part| (part, roles.to_vec())).collect());
    }
    if def != &RESHAPE {
        return None;
    }
    let (from, to) = (m.shape(inner), m.shape(x));
    match before_reshape(&from, &to, roles) {
        Some(before) => {
            let same = before.rows.is_none() && before.features.is_none();
            same.then(|| vec![(inner, before.roles)])
        }
        None => Some(vec![(split(m, inner, &to)?, roles.to_vec())]),
    }
}

/// What is 0 for a token and an expert wherever their gate is.
struct Zeros<'a> {
    of: &'a Scale,
    /// What was found before; not zero while it is being looked at.
    known: BTreeMap<(Id, Vec<Role>), bool>,
}

impl Zeros<'_> {
    fn is_zero(&mut self, m: &mut Match, x: Id, roles: &[Role]) -> bool {
        if self.of.is(m, x, roles) || m.number(x) == Some(0.0) {
            return true;
        }
        let key = (x, roles.to_vec());
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        if self.known.len() == MOST {
            return false;
        }
        self.known.insert(key.clone(), false);
        let found = m.nodes(x).iter().any(|node| self.node(m, x, node, roles));
        self.known.insert(key, found);
        found
    }

    fn node(&mut self, m: &mut Match, x: Id, node: &Node, roles: &[Role]) -> bool {
        let (Some(def), Some(operands)) = (node.op(), operands(m, x, node, roles)) else { return false };
        if [&MUL, &MATMUL, &EINSUM].contains(&def) {
            return operands.iter().any(|(operand, roles)| self.is_zero(m, *operand, roles));
        }
        let mut numbers = Vec::new();
        for (operand, roles) in &operands {
            let number = m.number(*operand).or_else(|| self.is_zero(m, *operand, roles).then_some(0.0));
            let Some(number) = number else { return false };
            numbers.push(Tensor::scalar(Scalar::from_f64(m.ty(*operand).dtype, number)));
        }
        let moves = !def.semantics.is_elementwise();
        moves && numbers.iter().all(is_zero) || !moves && is_zero_of(m, def, node, &numbers)
    }
}

/// Does an elementwise op give 0 of these numbers?
fn is_zero_of(m: &Match, def: &OpDef, node: &Node, numbers: &[Tensor]) -> bool {
    let (attrs, sizes) = (m.attrs(node), SizeValues::new());
    let operands: Vec<&Tensor> = numbers.iter().collect();
    let result = def.semantics.eval(&Eval { operands: &operands, attrs: &attrs, sizes: &sizes });
    result.is_ok_and(|result| result.iter().all(is_zero))
}

fn is_zero(value: &Tensor) -> bool {
    value.values().all(|x| x.to_f64() == 0.0)
}
