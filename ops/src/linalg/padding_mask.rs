//! What the attention ops of onnxruntime have in common besides attention itself: masks of integers, which say what
//! keys are padding, and queries that see no later key.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::by_heads::{self, Attended, Mask, Scoring};
use crate::math::and::AND;
use crate::math::ge::GE;
use crate::math::gt::GT;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::r#where::WHERE;
use crate::onnx::{ImportError, NodeView};
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;

/// What is added to the score of a key that is padding, without the attribute `mask_filter_value`.
const FILTER: f64 = -10000.0;

/// Attention as the node describes it, with a mask and what is added to scores, if they are there. So many of the keys
/// come before the first query.
///
/// # Errors
/// [`OpError::Size`], [`OpError::Rank`] where sizes do not agree, and what the attributes say.
pub(super) fn attend(
    node: &NodeView,
    b: &mut Build,
    [q, k, v]: [Value; 3],
    past: Dim,
    [mask, bias]: [Option<Value>; 2],
) -> Result<Attended, ImportError> {
    let of = Scores::new(b, q, k, past);
    let mut all = Mask::default();
    let filter = node.float_or("mask_filter_value", FILTER)?;
    if let Some(given) = mask {
        all.add(of.padding(b, given, filter)?);
    }
    if let Some(bias) = bias {
        all.add(bias);
    }
    if node.flag("unidirectional", false)? {
        of.hide_later_keys(b, &mut all)?;
    }
    let how = Scoring::by_scale(node, b, q)?;
    Ok(by_heads::attend(b, [q, k, v], &how, &all)?)
}

/// The sizes of scores.
struct Scores {
    images: Dim,
    queries: Dim,
    keys: Dim,
    /// So many of the keys come before the first query.
    past: Dim,
}

impl Scores {
    /// Of queries and keys by heads.
    fn new(b: &Build, q: Value, k: Value, past: Dim) -> Scores {
        let (q, k) = (&b.ty(q).shape, &b.ty(k).shape);
        Scores { images: q[0].clone(), queries: q[2].clone(), keys: k[2].clone(), past }
    }

    /// A query sees no key that is later than itself.
    ///
    /// # Errors
    /// [`OpError::Size`] if keys and queries are not those of one sequence.
    fn hide_later_keys(&self, b: &mut Build, mask: &mut Mask) -> Result<(), OpError> {
        let new = self.keys.clone() - self.past.clone();
        if new != self.queries {
            let what = "queries and new keys, of which none is later";
            return Err(OpError::Size { what, left: self.queries.clone(), right: new });
        }
        let past = size(b, DType::I64, &self.past)?;
        let query = by_heads::query_places(b, &self.queries, past)?;
        let key = by_heads::key_places(b, &self.keys)?;
        let seen = b.op(&LE, &[key, query])?;
        mask.allow(b, seen)
    }

    /// What a mask adds to scores: 0 where a query may see, else `elsewhere`. The mask is one of
    /// - `[N]`: where the keys of each member of the batch end;
    /// - `[2 · N]`: where they end, and then where they start;
    /// - `[3 · N + 2]`: where they end; what follows says where rows lie, which is the same for all here;
    /// - `[N, keys]`, `[N, queries, keys]`, `[N, 1, M, M]`: 0 for a key that is padding, in the last form for the queries
    ///   of the past, too.
    ///
    /// # Errors
    /// [`OpError::Size`], [`OpError::Rank`] for other masks.
    fn padding(&self, b: &mut Build, mask: Value, elsewhere: f64) -> Result<Value, OpError> {
        let seen = self.seen(b, mask)?;
        let [none, elsewhere] = [0.0, elsewhere].map(|number| b.scalar(DType::F32, number));
        b.op(&WHERE, &[seen, none, elsewhere])
    }

    fn seen(&self, b: &mut Build, mask: Value) -> Result<Value, OpError> {
        let ty = b.ty(mask).clone();
        let (one, mut mask) = (Dim::constant(1), mask);
        let [images, queries, keys] = [&self.images, &self.queries, &self.keys].map(Dim::clone);
        let expected = match ty.rank() {
            1 => return self.between(b, mask),
            2 => vec![images.clone(), keys.clone()],
            3 => vec![images.clone(), queries.clone(), keys.clone()],
            4 => {
                mask = slice_axis(b, mask, 2, self.past.clone(), queries.clone())?;
                mask = slice_axis(b, mask, 3, Dim::constant(0), keys.clone())?;
                vec![images.clone(), one.clone(), queries.clone(), keys.clone()]
            }
            found => return Err(OpError::Rank { operand: "mask", expected: 2, found }),
        };
        if let Some((left, right)) = b.ty(mask).shape.iter().zip(&expected).find(|(a, b)| a != b) {
            let (left, right) = (left.clone(), right.clone());
            return Err(OpError::Size { what: "sizes of the mask, and of scores", left, right });
        }
        let queries = if ty.rank() == 2 { one.clone() } else { queries };
        let mask = reshape(b, mask, vec![images, one, queries, keys])?;
        let zero = b.scalar(ty.dtype, 0.0);
        b.op(&GT, &[mask, zero])
    }

    /// Keys before an end, and from a start on.
    fn between(&self, b: &mut Build, mask: Value) -> Result<Value, OpError> {
        let (images, length) = (self.images.clone(), b.ty(mask).shape[0].clone());
        let twice = images.clone() * Dim::constant(2);
        let placed = images.clone() * Dim::constant(3) + Dim::constant(2);
        if ![&images, &twice, &placed].contains(&&length) {
            return Err(OpError::Size {
                what: "elements of the mask, and of the batch",
                left: length,
                right: images,
            });
        }
        let ends = slice_axis(b, mask, 0, Dim::constant(0), images.clone())?;
        let (end, key) = (by_heads::for_each_image(b, ends)?, by_heads::key_places(b, &self.keys)?);
        let before = b.op(&LT, &[key, end])?;
        if length != twice {
            return Ok(before);
        }
        let starts = slice_axis(b, mask, 0, images.clone(), images)?;
        let start = by_heads::for_each_image(b, starts)?;
        let from = b.op(&GE, &[key, start])?;
        b.op(&AND, &[before, from])
    }
}
