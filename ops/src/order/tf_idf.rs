//! How often sequences of numbers from a list occur in rows.
//!
//! A sequence `g` of `n` numbers occurs at `i` with distance `d` where `x[i + j·d] = g[j]` for all `j`; distances go from 1 to
//! `max_skip_count + 1`, and for single numbers there is but one. Each sequence is looked for at each place. `TF` counts,
//! `IDF` gives the weight (or 1) where the count is not 0, `TFIDF` weight times count; weights belong to places of the
//! result. Source: ONNX TfIdfVectorizer, opset 9. Not imported: strings.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::gt::GT;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::broadcast::broadcast;
use crate::shape::concat::{self, CONCAT};
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("TfIdfVectorizer", import)];

/// So many distances are looked at.
const MAX_DISTANCES: i64 = 1 << 12;

/// A row of the result has at most so many elements.
const MAX_COLUMNS: usize = 1 << 28;

/// Sequences of one length, and where the result has each of them.
struct Grams {
    length: usize,
    numbers: Vec<i64>,
    places: Vec<usize>,
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    if node.has("pool_strings") {
        return Err(ImportError::Unsupported {
            what: "TfIdfVectorizer of strings".to_owned(),
            help: "map strings to numbers before, and use `pool_int64s`".to_owned(),
        });
    }
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let (batch, length) = match ty.shape.as_slice() {
        [length] => (None, length.clone()),
        [batch, length] => (Some(batch.clone()), length.clone()),
        _ => return Err(OpError::Rank { operand: "X", expected: 2, found: ty.rank() }.into()),
    };
    let skips = node.int("max_skip_count")?;
    let distances = node.required("max_skip_count", skips)?.saturating_add(1);
    // Nothing is farther apart than a row is long.
    let distances = length.as_const().map_or(distances, |length| distances.min(length.max(1)));
    if !(1..=MAX_DISTANCES).contains(&distances) {
        return Err(ImportError::value(
            "max_skip_count",
            distances.saturating_sub(1),
            "numbers from 0 to 4095",
        ));
    }
    let (grams, columns) = grams(node)?;
    let row_count = batch.clone().unwrap_or(Dim::constant(1));
    let rows = reshape(b, x, vec![row_count.clone(), length])?;
    let rows = convert(b, rows, DType::I64)?;
    // A column of zeros stands for places of the result that no sequence has.
    let zero = b.scalar(DType::F32, 0.0);
    let mut counts = vec![broadcast(b, zero, vec![row_count, Dim::constant(1)])?];
    let mut sources = vec![0; columns];
    let mut next = 1;
    for gram in &grams {
        let mut sum = None;
        for distance in 1..=if gram.length == 1 { 1 } else { distances } {
            let found = occurrences(b, rows, gram, distance)?;
            sum = Some(match sum {
                None => found,
                Some(sum) => b.op(&ADD, &[sum, found])?,
            });
        }
        counts.extend(sum);
        for &place in &gram.places {
            if std::mem::replace(&mut sources[place], next) != 0 {
                return Err(ImportError::value("ngram_indexes", place, "indices that differ"));
            }
            next += 1;
        }
    }
    let counts = b.op_with(&CONCAT, &counts, [concat::AXIS.is(1)])?;
    let sources = b.constant(&Tensor::from_i64(&[columns], &sources));
    let mut y = b.op_with(&GATHER, &[counts, sources], [AXIS.is(1)])?;
    let weights = weights(node, b, columns)?;
    let mode = node.str("mode")?;
    y = match node.required("mode", mode)? {
        "TF" => y,
        "IDF" => {
            let occurs = b.op(&GT, &[y, zero])?;
            b.op(&WHERE, &[occurs, weights, zero])?
        }
        "TFIDF" => b.op(&MUL, &[y, weights])?,
        other => return Err(ImportError::value("mode", other, "TF, IDF and TFIDF")),
    };
    Ok(vec![match batch {
        None => reshape(b, y, vec![columns.into()])?,
        Some(_) => y,
    }])
}

/// The sequences that are looked for, and the size of a row of the result.
fn grams(node: &NodeView) -> Result<(Vec<Grams>, usize), ImportError> {
    let required = |name: &'static str| node.required(name, node.ints(name)?);
    let (pool, starts, indices) =
        (required("pool_int64s")?, required("ngram_counts")?, required("ngram_indexes")?);
    let bound = |name: &'static str| node.required(name, node.int(name)?);
    let wanted = bound("min_gram_length")?..=bound("max_gram_length")?;
    let wrong = |why: &str| ImportError::Attribute { name: "ngram_counts".to_owned(), why: why.to_owned() };
    let places: Option<Vec<usize>> = indices.iter().map(|&index| usize::try_from(index).ok()).collect();
    let places = places.ok_or_else(|| ImportError::value("ngram_indexes", "less than 0", "0 and more"))?;
    let columns = places.iter().max().map_or(0, |last| last.saturating_add(1));
    if columns > MAX_COLUMNS {
        return Err(ImportError::value("ngram_indexes", columns - 1, "numbers below 2²⁸"));
    }
    let (mut grams, mut next) = (Vec::new(), 0);
    for (i, &start) in starts.iter().enumerate() {
        let (length, end) = (i + 1, starts.get(i + 1).map_or(pool.len(), |&end| end.max(0) as usize));
        let numbers = usize::try_from(start).ok().and_then(|start| pool.get(start..end));
        let numbers = numbers.ok_or_else(|| wrong("they are no positions in `pool_int64s`, in order"))?;
        let count = numbers.len() / length;
        if count * length != numbers.len() {
            return Err(wrong("a part of `pool_int64s` is no whole number of sequences"));
        }
        let own = places.get(next..next + count);
        let own = own.ok_or_else(|| wrong("there are more sequences than `ngram_indexes`"))?;
        next += count;
        if count > 0 && wanted.contains(&(length as i64)) {
            grams.push(Grams { length, numbers: numbers.to_vec(), places: own.to_vec() });
        }
    }
    Ok((grams, columns))
}

/// One for each place of the result; 1 if none are given.
fn weights(node: &NodeView, b: &mut Build, columns: usize) -> Result<Value, ImportError> {
    let given = node.floats("weights")?;
    let weights = given.filter(|weights| !weights.is_empty()).unwrap_or_else(|| vec![1.0; columns]);
    if weights.len() != columns {
        let why = format!("{columns} are needed, there are {}", weights.len());
        return Err(ImportError::Attribute { name: "weights".to_owned(), why });
    }
    Ok(b.constant(&Tensor::from_fn(DType::F32, &[columns], |at| {
        Scalar::from_f64(DType::F32, weights[at[0]])
    })))
}

/// How often each sequence occurs in each of the rows `[N, C]`.
fn occurrences(b: &mut Build, rows: Value, grams: &Grams, distance: i64) -> Result<Value, OpError> {
    let [batch, length] = [0, 1].map(|axis| b.ty(rows).shape[axis].clone());
    let (one, count) = (Dim::constant(1), grams.places.len());
    let start = iota(b, length.clone(), DType::I64)?;
    let extent = size(b, DType::I64, &length)?;
    let mut all: Option<Value> = None;
    for j in 0..grams.length {
        let ahead = b.scalar(DType::I64, (j as i64 * distance) as f64);
        let place = b.op(&ADD, &[start, ahead])?;
        let taken = b.op_with(&GATHER, &[rows, place], [AXIS.is(1)])?;
        let taken = reshape(b, taken, vec![batch.clone(), length.clone(), one.clone()])?;
        let wanted: Vec<i64> = grams.numbers.chunks(grams.length).map(|gram| gram[j]).collect();
        let wanted = b.constant(&Tensor::from_i64(&[count], &wanted));
        let mut same = b.op(&EQ, &[taken, wanted])?;
        if j > 0 {
            let exists = b.op(&LT, &[place, extent])?;
            let exists = reshape(b, exists, vec![length.clone(), one.clone()])?;
            same = b.op(&AND, &[same, exists])?;
        }
        all = Some(match all {
            None => same,
            Some(all) => b.op(&AND, &[all, same])?,
        });
    }
    let all = all.expect("a sequence has at least one number");
    let found = convert(b, all, DType::F32)?;
    reduce(b, &REDUCE_SUM, found, &[1], false)
}
