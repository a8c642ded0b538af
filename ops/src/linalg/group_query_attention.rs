//! onnxruntime's GroupQueryAttention: attention by heads, several of which share keys and values that are kept in a
//! cache; queries and new keys are turned by their places.
//!
//! - `query: [N, L, heads · H]`, `key` and `value: [N, L, kv_heads · H]`, or all beside each other as `query`. The cache
//!   is `[N, kv_heads, P, H]`; what it becomes has `max(P, total_sequence_length)` keys.
//! - Member `n` of the batch has `seqlens_k[n] + 1` keys when the new ones are there. Of those, `query_seqlens[n]` are
//!   new; without it as many as there are queries, and all of them if those are more.
//! - A query sees its own key and earlier ones, `local_window_size` of them if that is given; without `causal` all that
//!   there are. `attention_bias` is added behind the softcap. `head_sink`, or 0 with `smooth_softmax`, is the score of a
//!   further key, whose value is 0.
//! - Results in rows that are padding, and what the cache has behind its last key, are not specified.
//!
//! Source: onnxruntime, contrib operators, GroupQueryAttention.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::by_heads::{self, Mask, Scoring};
use crate::linalg::rotary_embedding::{INTERLEAVED, ROTARY_EMBEDDING, at_places};
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::gt::GT;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::norm::rms_norm::RMS_NORM;
use crate::norm::{AXES, EPSILON};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;
use crate::shape::tensor_scatter::written;

/// The op.
pub static ONNX: &[Import] = &[by("GroupQueryAttention", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    refuse(node)?;
    let [q, k, mut v] = operands(node, b)?;
    let queries = b.ty(q).shape[2].clone();
    let lengths = Lengths::of(node, b, &queries)?;
    let [q, k] = normalized(node, b, [q, k])?;
    let [q, mut k] = turned(node, b, [q, k], &lengths)?;
    match (node.optional_input(3), node.optional_input(4)) {
        (Some(past_key), Some(past_value)) => {
            k = lengths.kept(b, past_key, "past_key", k)?;
            v = lengths.kept(b, past_value, "past_value", v)?;
        }
        (None, None) => {}
        (Some(_), None) => return Err(ImportError::MissingInput { index: 4 }),
        (None, Some(_)) => return Err(ImportError::MissingInput { index: 3 }),
    }
    let present = [k, v];
    let (sink, mut keys) = (sink(node, b)?, b.ty(k).shape[2].clone());
    if sink.is_some() {
        keys = keys + Dim::constant(1);
        for x in [&mut k, &mut v] {
            *x = by_heads::lengthened(b, *x, 2, &keys, (0.0, "keys and a sink"))?;
        }
    }
    let mut mask = lengths.mask(node, b, &keys)?;
    mask.last = sink;
    if let Some(bias) = node.optional_input(10) {
        let found = b.ty(bias).rank();
        if found != 4 {
            return Err(OpError::Rank { operand: "attention_bias", expected: 4, found }.into());
        }
        let bias = by_heads::lengthened(b, bias, 3, &keys, (0.0, "last axis of `attention_bias`, and keys"))?;
        mask.add(bias);
    }
    let softcap = node.float_or("softcap", 0.0)?;
    let how = Scoring { softcap, ..Scoring::by_scale(node, b, q)? };
    let done = by_heads::attend(b, [q, k, v], &how, &mask)?;
    let mut results = vec![by_heads::together(b, done.y)?, present[0], present[1]];
    let shown = match node.int_or("qk_output", 0)? {
        0 => return Ok(results),
        1 => mask.seen(b, done.masked, 0.0)?,
        2 => done.weights,
        other => return Err(ImportError::value("qk_output", other, "0 to 2")),
    };
    let shown = slice_axis(b, shown, 3, Dim::constant(0), lengths.total)?;
    results.push(convert(b, shown, b.ty(q).dtype)?);
    Ok(results)
}

/// What is not supported.
fn refuse(node: &NodeView) -> Result<(), ImportError> {
    node.ignore(&["kv_cache_bit_width"]);
    let unsupported = |what: &str, help: &str| {
        let what = format!("GroupQueryAttention with {what}");
        Err(ImportError::Unsupported { what, help: help.to_owned() })
    };
    for name in ["k_quant_type", "v_quant_type"] {
        if node.str_or(name, "NONE")? != "NONE" {
            return unsupported(name, "export the model with a cache of floats");
        }
    }
    if node.flag("sliding_window_cache", false)? {
        return unsupported("sliding_window_cache", "export the model with a cache of the whole sequence");
    }
    Ok(())
}

/// Queries, keys and values, `[N, heads, L, H]`.
fn operands(node: &NodeView, b: &mut Build) -> Result<[Value; 3], ImportError> {
    let [heads, kv_heads] = [node.int("num_heads")?, node.int("kv_num_heads")?];
    let heads = node.required("num_heads", heads)?;
    let kv_heads = node.required("kv_num_heads", kv_heads)?;
    let query = node.input(0)?;
    if let Some(key) = node.optional_input(1) {
        let q = by_heads::apart(b, query, heads, ("query", "num_heads"))?;
        let k = by_heads::apart(b, key, kv_heads, ("key", "kv_num_heads"))?;
        let v = by_heads::apart(b, node.input(2)?, kv_heads, ("value", "kv_num_heads"))?;
        let [left, right] = [q, k].map(|x| b.ty(x).shape[2].clone());
        if left != right {
            return Err(OpError::Size { what: "rows of `query` and `key`", left, right }.into());
        }
        return Ok([q, k, v]);
    }
    let all = by_heads::apart(b, query, heads + 2 * kv_heads, ("query", "num_heads"))?;
    Ok([
        slice_axis(b, all, 1, Dim::constant(0), heads.into())?,
        slice_axis(b, all, 1, heads.into(), kv_heads.into())?,
        slice_axis(b, all, 1, (heads + kv_heads).into(), kv_heads.into())?,
    ])
}

/// Queries and keys, each row with root mean square 1 and then scaled, if there are scales.
fn normalized(node: &NodeView, b: &mut Build, both: [Value; 2]) -> Result<[Value; 2], ImportError> {
    let epsilon = node.float_or("qk_norm_epsilon", 1e-6)?;
    let mut results = both;
    for ((x, index), name) in results.iter_mut().zip([14, 15]).zip(["q_norm_epsilon", "k_norm_epsilon"]) {
        let epsilon = node.float_or(name, epsilon)?;
        if let Some(weight) = node.optional_input(index) {
            let unit = b.op_with(&RMS_NORM, &[*x], [AXES.is(vec![-1]), EPSILON.is(epsilon)])?;
            *x = b.op(&MUL, &[unit, weight])?;
        }
    }
    Ok(results)
}

/// Queries and keys, turned by their places with `do_rotary`.
fn turned(
    node: &NodeView,
    b: &mut Build,
    [q, k]: [Value; 2],
    lengths: &Lengths,
) -> Result<[Value; 2], ImportError> {
    let interleaved = INTERLEAVED.is(node.flag("rotary_interleaved", false)?);
    if !node.flag("do_rotary", false)? {
        return Ok([q, k]);
    }
    let places = lengths.rotary_places(node, b)?;
    let cos = at_places(b, node.input(7)?, places, 1)?;
    let sin = at_places(b, node.input(8)?, places, 1)?;
    Ok([
        b.op_with(&ROTARY_EMBEDDING, &[q, cos, sin], [interleaved.clone()])?,
        b.op_with(&ROTARY_EMBEDDING, &[k, cos, sin], [interleaved])?,
    ])
}

/// The score of the further key, for each head.
fn sink(node: &NodeView, b: &mut Build) -> Result<Option<Value>, ImportError> {
    let smooth = node.int_or("smooth_softmax", 0)? == 1;
    let Some(sink) = node.optional_input(11) else {
        return Ok(smooth.then(|| b.scalar(DType::F32, 0.0)));
    };
    let shape = vec![b.ty(sink).elements(), Dim::constant(1), Dim::constant(1)];
    Ok(Some(reshape(b, sink, shape)?))
}

/// How many keys there are.
struct Lengths {
    queries: Dim,
    /// For each member of the batch, the new ones included.
    ends: Value,
    /// For each member of the batch, before the first query; `None` without a cache.
    past: Option<Value>,
    /// At most.
    total: Dim,
}

impl Lengths {
    fn of(node: &NodeView, b: &mut Build, queries: &Dim) -> Result<Lengths, ImportError> {
        let last = by_heads::for_each_image(b, node.input(5)?)?;
        let one = b.scalar(DType::I64, 1.0);
        let ends = b.op(&ADD, &[last, one])?;
        let queries = queries.clone();
        if node.optional_input(3).is_none() {
            return Ok(Lengths { total: queries.clone(), queries, ends, past: None });
        }
        let new = match node.optional_input(16) {
            Some(counts) => by_heads::for_each_image(b, counts)?,
            None => {
                let queries = size(b, DType::I64, &queries)?;
                b.op(&MIN, &[queries, ends])?
            }
        };
        let past = Some(b.op(&SUB, &[ends, new])?);
        let index = 6;
        let total = node.sizes(b, index, "total_sequence_length")?;
        let [total] = &total.ok_or(ImportError::MissingInput { index })?[..] else {
            return Err(OpError::Rank { operand: "total_sequence_length", expected: 0, found: 1 }.into());
        };
        Ok(Lengths { queries, ends, past, total: total.clone() })
    }

    /// The place of each query among the keys, as a column.
    fn places(&self, b: &mut Build) -> Result<Value, OpError> {
        let before = match self.past {
            Some(past) => past,
            None => b.scalar(DType::I64, 0.0),
        };
        by_heads::query_places(b, &self.queries, before)
    }

    /// A cache with the new keys, from their place on.
    fn kept(&self, b: &mut Build, cache: Value, name: &'static str, new: Value) -> Result<Value, OpError> {
        let shape = b.ty(cache).shape.clone();
        if shape.len() != 4 {
            return Err(OpError::Rank { operand: name, expected: 4, found: shape.len() });
        }
        let to = shape[2].larger(&self.total);
        let cache = by_heads::lengthened(b, cache, 2, &to, (0.0, "keys of the cache"))?;
        let places = self.places(b)?;
        written(b, cache, new, 2, places)
    }

    /// What queries see of `keys`.
    fn mask(&self, node: &NodeView, b: &mut Build, keys: &Dim) -> Result<Mask, ImportError> {
        let mut mask = Mask::default();
        let (key, window) = (by_heads::key_places(b, keys)?, node.int_or("local_window_size", -1)?);
        if !node.flag("causal", true)? {
            if window > 0 {
                let why = "queries that see later keys have no window".to_owned();
                return Err(ImportError::Attribute { name: "local_window_size".to_owned(), why });
            }
            let seen = b.op(&LT, &[key, self.ends])?;
            mask.allow(b, seen)?;
            return Ok(mask);
        }
        let query = self.places(b)?;
        let seen = b.op(&LE, &[key, query])?;
        mask.allow(b, seen)?;
        if window > 0 {
            let width = size(b, DType::I64, &window.into())?;
            let border = b.op(&SUB, &[query, width])?;
            let seen = b.op(&GT, &[key, border])?;
            mask.allow(b, seen)?;
        }
        Ok(mask)
    }

    /// The rows of the caches of angles, `[L]` or `[N, L]`: places among the keys, or what `position_ids` says. Of that,
    /// the first number counts where no key comes before the queries: the others follow.
    fn rotary_places(&self, node: &NodeView, b: &mut Build) -> Result<Value, ImportError> {
        let places = iota(b, self.queries.clone(), DType::I64)?;
        let Some(given) = node.optional_input(9) else {
            let Some(past) = self.past else { return Ok(places) };
            let images = b.ty(past).elements();
            let past = reshape(b, past, vec![images, Dim::constant(1)])?;
            return Ok(b.op(&ADD, &[places, past])?);
        };
        let found = b.ty(given).rank();
        if found != 2 {
            return Err(OpError::Rank { operand: "position_ids", expected: 2, found }.into());
        }
        let given = convert(b, given, DType::I64)?;
        if node.optional_input(16).is_some() {
            return Ok(given);
        }
        let (zero, one) = (Dim::constant(0), Dim::constant(1));
        let first = slice_axis(b, given, 0, zero.clone(), one.clone())?;
        let first = slice_axis(b, first, 1, zero, one)?;
        let following = b.op(&ADD, &[places, first])?;
        if self.total == self.queries {
            return Ok(reshape(b, following, vec![self.queries.clone()])?);
        }
        let (total, queries) = (size(b, DType::I64, &self.total)?, size(b, DType::I64, &self.queries)?);
        let is_first = b.op(&EQ, &[total, queries])?;
        Ok(b.op(&WHERE, &[is_first, following, given])?)
    }
}
