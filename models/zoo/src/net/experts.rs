//! Mixtures of experts in slots: a slot is one choice of a token, and its row meets the matrix that its id names.
//!
//! - (G1) `v, ids = topk(z)`, `g = softmax(v)`: gates of a token add up to 1;
//! - (G2) `p = softmax(z)`, `g, ids = topk(p)`: they do not, unless they are divided by their sum;
//! - `FFNₑ(x) = W2ₑ act(W1ₑ x + b1ₑ) + b2ₑ`, `SMoE(x) = Σⱼ gⱼ FFN_idsⱼ(x)`;
//! - (G4), (D5) an expert of limited capacity `c` takes the first `c` selections, first choices of all tokens before second
//!   ones; a later one counts for nothing.
//!
//! Shapes: `x: […, D]`, `z: […, E]`, `ids, g: […, K]`. Equal scores: the lower index comes first.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::linalg::combine::combine;
use ops::linalg::grouped_matmul::grouped_matmul;
use ops::math::lt::LT;
use ops::order::seat::{self, SEAT};
use ops::order::topk::topk;

use super::{Activation, Built, Net};
use crate::init::Start;
use crate::setting::{Config, Setting, choice, integer, real};

/// How gates are made of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// (G1).
    Chosen,
    /// (G2), gates as they are.
    All,
    /// (G2), gates divided by their sum, which is taken to be no smaller than the step of an `f32` at 1.
    AllScaled,
}

/// Which experts a token goes to, and what they weigh.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routing {
    /// `i64[…, K]`.
    pub(crate) ids: Value,
    /// `f32[…, K]`.
    pub(crate) gates: Value,
}

/// Two-layer perceptrons, one for each expert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Experts {
    /// `W1ᵀ: [E, D, H]`.
    first: Value,
    /// `b1: [E, H]`.
    first_bias: Value,
    /// `W2ᵀ: [E, H, D]`.
    second: Value,
    /// `b2: [E, D]`.
    second_bias: Value,
    activation: Activation,
}

/// Gated perceptrons without biases, one for each expert: `W2ₑ (silu(W1ₑ x) ∘ W3ₑ x)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GatedExperts {
    /// `W1ᵀ: [E, D, H]`.
    gate: Value,
    /// `W3ᵀ: [E, D, H]`.
    up: Value,
    /// `W2ᵀ: [E, H, D]`.
    down: Value,
}

/// Which of the tokens that come to an expert are seated first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Those at lower positions.
    Position,
    /// Those with a larger first gate: batch priority routing.
    Gate,
}

/// (G4) how many tokens an expert takes: `⌈N K factor / E⌉`, rounded up to a multiple.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// A fraction, so that sizes are whole numbers throughout.
    factor: (i64, i64),
    /// 0 does not round.
    multiple: usize,
    priority: Priority,
}

/// The setting of [`Order`].
pub(crate) const ORDER: Setting = choice(
    "order",
    &["topk-softmax", "softmax-topk", "softmax-topk-scaled"],
    "gates are the softmax of the chosen scores (G1), or chosen from that of all (G2), as they are or divided by their sum",
);

/// The settings of [`Capacity`].
pub(crate) const CAPACITY: Setting =
    real("capacity", 0.0, "capacity factor of experts (G4), with at most 6 decimals; 0: no token is dropped");
/// See [`CAPACITY`].
pub(crate) const MULTIPLE: Setting =
    integer("multiple", 4, 0, "capacities are rounded up to a multiple of this; 0: they are not");
/// See [`CAPACITY`].
pub(crate) const PRIORITY: Setting =
    choice("priority", &["position", "gate"], "which tokens an expert takes first, where it has a capacity");

impl Order {
    /// What [`ORDER`] says.
    pub(crate) fn of(config: &Config) -> Order {
        match config.word("order") {
            "topk-softmax" => Order::Chosen,
            "softmax-topk" => Order::All,
            _ => Order::AllScaled,
        }
    }
}

impl Capacity {
    /// What [`CAPACITY`], [`MULTIPLE`] and [`PRIORITY`] say.
    ///
    /// # Errors
    /// The factor is negative, or has more than 6 decimals.
    pub(crate) fn of(config: &Config) -> Built<Option<Capacity>> {
        let factor = config.real("capacity");
        if factor == 0.0 {
            return Ok(None);
        }
        let one = 1_000_000;
        let scaled = (factor * f64::from(one)).round();
        if factor < 0.0 || scaled > 1e12 || scaled / f64::from(one) != factor {
            let why = format!("`capacity` = {factor} is no number from 0 to 1000000 with at most 6 decimals");
            return Err(config.unfit(why));
        }
        let priority = match config.word("priority") {
            "position" => Priority::Position,
            _ => Priority::Gate,
        };
        let multiple = config.integer("multiple");
        Ok(Some(Capacity { factor: (scaled as i64, i64::from(one)), multiple, priority }))
    }

    /// The number of seats where so many tokens choose `k` of `experts` each.
    fn seats(&self, tokens: &Dim, k: usize, experts: usize) -> Dim {
        let (above, below) = self.factor;
        let selections = tokens.clone() * Dim::from(k) * Dim::constant(above);
        let seats = selections.ceil_div(&(Dim::from(experts) * Dim::constant(below)));
        match self.multiple {
            0 => seats,
            multiple => seats.ceil_div(&multiple.into()) * Dim::from(multiple),
        }
    }
}

impl Net<'_> {
    /// Experts whose weights are `experts.w1: [E, H, D]`, `experts.b1: [E, H]`, `experts.w2: [E, D, H]` and
    /// `experts.b2: [E, D]`.
    pub(crate) fn experts(
        &mut self,
        count: usize,
        [width, hidden]: [usize; 2],
        activation: Activation,
    ) -> Built<Experts> {
        self.within("experts", |net| {
            let start = Start::Xavier { fan_in: width, fan_out: hidden };
            let first = net.weight("w1", &[count, hidden, width], start)?;
            let first_bias = net.weight("b1", &[count, hidden], Start::Zeros)?;
            let second = net.weight("w2", &[count, width, hidden], start)?;
            let second_bias = net.weight("b2", &[count, width], Start::Zeros)?;
            let [first, second] = [net.transposed(first)?, net.transposed(second)?];
            Ok(Experts { first, first_bias, second, second_bias, activation })
        })
    }

    /// `Σⱼ gⱼ FFN_idsⱼ(x)`: `x: […, D]` → `[…, D]`.
    pub(crate) fn mixed(&mut self, x: Value, experts: &Experts, routing: Routing) -> Built<Value> {
        let Routing { ids, gates } = routing;
        let x = self.unsqueeze(x, -2)?;
        let h = self.on_slots(x, experts.first, Some(experts.first_bias), ids)?;
        let h = self.activated(h, experts.activation)?;
        let y = self.on_slots(h, experts.second, Some(experts.second_bias), ids)?;
        self.combined(y, gates)
    }

    /// Experts whose weights are `experts.w1` and `experts.w3: [E, H, D]`, and `experts.w2: [E, D, H]`.
    pub(crate) fn gated_experts(&mut self, count: usize, [width, hidden]: [usize; 2]) -> Built<GatedExperts> {
        self.within("experts", |net| {
            let start = Start::Xavier { fan_in: width, fan_out: hidden };
            let gate = net.weight("w1", &[count, hidden, width], start)?;
            let up = net.weight("w3", &[count, hidden, width], start)?;
            let down = net.weight("w2", &[count, width, hidden], start)?;
            let [gate, up, down] = [net.transposed(gate)?, net.transposed(up)?, net.transposed(down)?];
            Ok(GatedExperts { gate, up, down })
        })
    }

    /// `Σⱼ gⱼ FFN_idsⱼ(x)` of gated experts: `x: […, D]` → `[…, D]`.
    pub(crate) fn gated_mixed(&mut self, x: Value, experts: &GatedExperts, routing: Routing) -> Built<Value> {
        let Routing { ids, gates } = routing;
        let x = self.unsqueeze(x, -2)?;
        let gate = self.on_slots(x, experts.gate, None, ids)?;
        let gate = self.activated(gate, Activation::Silu)?;
        let up = self.on_slots(x, experts.up, None, ids)?;
        let h = self.mul(gate, up)?;
        let y = self.on_slots(h, experts.down, None, ids)?;
        self.combined(y, gates)
    }

    /// The weight `name: [to, from]`, transposed.
    pub(crate) fn matrix(&mut self, name: &str, to: usize, from: usize) -> Built<Value> {
        let weight = self.weight(name, &[to, from], Start::Xavier { fan_in: from, fan_out: to })?;
        self.transposed(weight)
    }

    /// The row of each slot times the matrix `[in, out]` that its id names, plus that row of a bias `[E, out]`:
    /// `x: […, K or 1, in]` → `[…, K, out]`.
    pub(crate) fn on_slots(
        &mut self,
        x: Value,
        matrices: Value,
        bias: Option<Value>,
        ids: Value,
    ) -> Built<Value> {
        let y = self.make("grouped_matmul", |b| grouped_matmul(b, x, matrices, ids))?;
        let Some(bias) = bias else { return Ok(y) };
        let bias = self.gather(bias, ids)?;
        self.add(y, bias)
    }

    /// `Σₖ gates[…, k] y[…, k, d]`.
    pub(crate) fn combined(&mut self, y: Value, gates: Value) -> Built<Value> {
        self.make("combine", |b| combine(b, y, gates))
    }

    /// The `k` experts of each row of scores, and their gates.
    pub(crate) fn routed(&mut self, scores: Value, k: usize, order: Order) -> Built<Routing> {
        if order == Order::Chosen {
            let [values, ids] = self.topk(scores, k)?;
            return Ok(Routing { ids, gates: self.softmax(values, -1)? });
        }
        let shares = self.softmax(scores, -1)?;
        let [gates, ids] = self.topk(shares, k)?;
        if order == Order::All {
            return Ok(Routing { ids, gates });
        }
        let sum = self.sum(gates, -1)?;
        let least = self.scalar(f64::from(f32::EPSILON));
        let sum = self.max(sum, least)?;
        Ok(Routing { ids, gates: self.div(gates, sum)? })
    }

    /// (D5) the gates of selections that find a seat among those of their expert; 0 for the others.
    pub(crate) fn seated(&mut self, routing: Routing, experts: usize, capacity: Capacity) -> Built<Routing> {
        let Routing { ids, gates } = routing;
        let (rank, k) = (self.ty(ids).rank(), self.width(ids, -1));
        let rows = self.ty(ids).shape[..rank - 1].to_vec();
        let tokens: Dim = rows.iter().cloned().product();
        let seats = self.count(&capacity.seats(&tokens, k, experts))?;
        let number = match capacity.priority {
            Priority::Position => self.numbered(ids, experts)?,
            Priority::Gate => {
                let flat = self.reshape(ids, [tokens.clone(), k.into()])?;
                let first = self.slice(gates, -1, 0i64, 1i64)?;
                let first = self.reshape(first, [tokens.clone()])?;
                let [_, order] = self.topk(first, tokens.clone())?;
                let sorted = self.gather(flat, order)?;
                let number = self.numbered(sorted, experts)?;
                // Where each token stands in the order: the order of the order.
                let [_, place] = self.make("topk", |b| topk(b, order, -1, tokens, false))?;
                let number = self.gather(number, place)?;
                self.reshape(number, rows.into_iter().chain([k.into()]))?
            }
        };
        let zero = self.scalar(0.0);
        let finds = self.op(&LT, &[number, seats], [])?;
        Ok(Routing { ids, gates: self.select(finds, gates, zero)? })
    }

    /// How many selections of the same expert come before each one: `ids: […, K]`, by choices and then by tokens.
    fn numbered(&mut self, ids: Value, experts: usize) -> Built<Value> {
        let last = self.ty(ids).rank() as i64 - 1;
        let by: Vec<i64> = [last].into_iter().chain(0..last).collect();
        self.op(&SEAT, &[ids], [seat::COUNT.is(experts.into()), seat::BY.is(by)])
    }

    /// `0, 1, …, E − 1` at the end of `ids: […]`: 1 where they are equal, else 0, as `f32[…, E]`.
    pub(crate) fn one_hot(&mut self, ids: Value, count: usize) -> Built<Value> {
        let ids = self.unsqueeze(ids, -1)?;
        let all = self.iota([count.into()], 0, DType::I64)?;
        let hot = self.eq(ids, all)?;
        self.cast(hot, DType::F32)
    }
}
