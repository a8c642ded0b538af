//! egraft's vocabulary: one op, one file.
//!
//! An op's file holds, in this order: what it computes (formula, shapes, errors, source), the [`OpDef`], the
//! ONNX ops that become it, attribute keys, and the meaning. Adding an op is its file, its `mod` line and its
//! entry in [`ALL`].
//!
//! *Core* ops give types, reference values and index expressions (or loops, where no expression says what one
//! element is); *composite* ops give an expansion and
//! derive the rest. Families share one meaning: elementwise functions ([`math::elementwise`]), reductions
//! ([`reduce::along`]), positions of extrema ([`reduce::position`]), pools ([`pool::slide`]) and folds of prefixes
//! ([`order::prefix`]).
//!
//! Deliberately absent: file formats (see [`onnx`] for what an importer sees), passes, machines.

pub mod composite;
pub mod flow;
mod index;
pub mod linalg;
pub mod math;
pub mod ml;
pub mod norm;
pub mod onnx;
pub mod order;
pub mod pool;
pub mod recurrent;
pub mod reduce;
mod reference;
pub mod shape;
mod table;
pub mod train;
pub mod window;

use ir::OpDef;

use crate::onnx::Import;
use crate::onnx::export::{DERIVED, ToOnnx};

pub use table::markdown;

/// An op, the ONNX ops that become it, and those that it becomes.
#[derive(Debug)]
pub struct Entry {
    /// The op.
    pub op: &'static OpDef,
    /// What becomes it.
    pub onnx: &'static [Import],
    /// What it becomes.
    pub to_onnx: ToOnnx,
}

/// Every op, by shelf and name.
#[rustfmt::skip]
pub static ALL: &[Entry] = &[
    Entry { op: &math::abs::ABS, onnx: math::abs::ONNX, to_onnx: DERIVED },
    Entry { op: &math::acos::ACOS, onnx: math::acos::ONNX, to_onnx: DERIVED },
    Entry { op: &math::acosh::ACOSH, onnx: math::acosh::ONNX, to_onnx: DERIVED },
    Entry { op: &math::add::ADD, onnx: math::add::ONNX, to_onnx: DERIVED },
    Entry { op: &math::and::AND, onnx: math::and::ONNX, to_onnx: math::and::TO_ONNX },
    Entry { op: &math::asin::ASIN, onnx: math::asin::ONNX, to_onnx: DERIVED },
    Entry { op: &math::asinh::ASINH, onnx: math::asinh::ONNX, to_onnx: DERIVED },
    Entry { op: &math::atan::ATAN, onnx: math::atan::ONNX, to_onnx: DERIVED },
    Entry { op: &math::atanh::ATANH, onnx: math::atanh::ONNX, to_onnx: DERIVED },
    Entry { op: &math::bitcast::BITCAST, onnx: math::bitcast::ONNX, to_onnx: math::bitcast::TO_ONNX },
    Entry { op: &math::cast::CAST, onnx: math::cast::ONNX, to_onnx: math::cast::TO_ONNX },
    Entry { op: &math::ceil::CEIL, onnx: math::ceil::ONNX, to_onnx: DERIVED },
    Entry { op: &math::celu::CELU, onnx: math::celu::ONNX, to_onnx: math::celu::TO_ONNX },
    Entry { op: &math::clip::CLIP, onnx: math::clip::ONNX, to_onnx: math::clip::TO_ONNX },
    Entry { op: &math::cos::COS, onnx: math::cos::ONNX, to_onnx: DERIVED },
    Entry { op: &math::cosh::COSH, onnx: math::cosh::ONNX, to_onnx: DERIVED },
    Entry { op: &math::div::DIV, onnx: math::div::ONNX, to_onnx: DERIVED },
    Entry { op: &math::elu::ELU, onnx: math::elu::ONNX, to_onnx: math::elu::TO_ONNX },
    Entry { op: &math::eq::EQ, onnx: math::eq::ONNX, to_onnx: DERIVED },
    Entry { op: &math::erf::ERF, onnx: math::erf::ONNX, to_onnx: DERIVED },
    Entry { op: &math::exp::EXP, onnx: math::exp::ONNX, to_onnx: DERIVED },
    Entry { op: &math::floor::FLOOR, onnx: math::floor::ONNX, to_onnx: DERIVED },
    Entry { op: &math::ge::GE, onnx: math::ge::ONNX, to_onnx: math::ge::TO_ONNX },
    Entry { op: &math::gelu::GELU, onnx: math::gelu::ONNX, to_onnx: math::gelu::TO_ONNX },
    Entry { op: &math::gt::GT, onnx: math::gt::ONNX, to_onnx: math::gt::TO_ONNX },
    Entry { op: &math::hard_sigmoid::HARD_SIGMOID, onnx: math::hard_sigmoid::ONNX, to_onnx: math::hard_sigmoid::TO_ONNX },
    Entry { op: &math::hard_swish::HARD_SWISH, onnx: math::hard_swish::ONNX, to_onnx: DERIVED },
    Entry { op: &math::is_inf::IS_INF, onnx: math::is_inf::ONNX, to_onnx: math::is_inf::TO_ONNX },
    Entry { op: &math::is_nan::IS_NAN, onnx: math::is_nan::ONNX, to_onnx: DERIVED },
    Entry { op: &math::le::LE, onnx: math::le::ONNX, to_onnx: math::le::TO_ONNX },
    Entry { op: &math::leaky_relu::LEAKY_RELU, onnx: math::leaky_relu::ONNX, to_onnx: math::leaky_relu::TO_ONNX },
    Entry { op: &math::log::LOG, onnx: math::log::ONNX, to_onnx: DERIVED },
    Entry { op: &math::lt::LT, onnx: math::lt::ONNX, to_onnx: math::lt::TO_ONNX },
    Entry { op: &math::max::MAX, onnx: math::max::ONNX, to_onnx: math::max::TO_ONNX },
    Entry { op: &math::min::MIN, onnx: math::min::ONNX, to_onnx: math::min::TO_ONNX },
    Entry { op: &math::mish::MISH, onnx: math::mish::ONNX, to_onnx: DERIVED },
    Entry { op: &math::modulo::MODULO, onnx: math::modulo::ONNX, to_onnx: math::modulo::TO_ONNX },
    Entry { op: &math::mul::MUL, onnx: math::mul::ONNX, to_onnx: DERIVED },
    Entry { op: &math::ne::NE, onnx: math::ne::ONNX, to_onnx: math::ne::TO_ONNX },
    Entry { op: &math::neg::NEG, onnx: math::neg::ONNX, to_onnx: math::neg::TO_ONNX },
    Entry { op: &math::not::NOT, onnx: math::not::ONNX, to_onnx: math::not::TO_ONNX },
    Entry { op: &math::or::OR, onnx: math::or::ONNX, to_onnx: math::or::TO_ONNX },
    Entry { op: &math::pow::POW, onnx: math::pow::ONNX, to_onnx: math::pow::TO_ONNX },
    Entry { op: &math::prelu::PRELU, onnx: math::prelu::ONNX, to_onnx: math::prelu::TO_ONNX },
    Entry { op: &math::reciprocal::RECIPROCAL, onnx: math::reciprocal::ONNX, to_onnx: DERIVED },
    Entry { op: &math::relu::RELU, onnx: math::relu::ONNX, to_onnx: DERIVED },
    Entry { op: &math::rem::REM, onnx: math::rem::ONNX, to_onnx: math::rem::TO_ONNX },
    Entry { op: &math::round::ROUND, onnx: math::round::ONNX, to_onnx: DERIVED },
    Entry { op: &math::selu::SELU, onnx: math::selu::ONNX, to_onnx: math::selu::TO_ONNX },
    Entry { op: &math::shl::SHL, onnx: math::shl::ONNX, to_onnx: math::shl::TO_ONNX },
    Entry { op: &math::shr::SHR, onnx: math::shr::ONNX, to_onnx: math::shr::TO_ONNX },
    Entry { op: &math::shrink::SHRINK, onnx: math::shrink::ONNX, to_onnx: math::shrink::TO_ONNX },
    Entry { op: &math::sigmoid::SIGMOID, onnx: math::sigmoid::ONNX, to_onnx: DERIVED },
    Entry { op: &math::sign::SIGN, onnx: math::sign::ONNX, to_onnx: DERIVED },
    Entry { op: &math::silu::SILU, onnx: math::silu::ONNX, to_onnx: DERIVED },
    Entry { op: &math::sin::SIN, onnx: math::sin::ONNX, to_onnx: DERIVED },
    Entry { op: &math::sinh::SINH, onnx: math::sinh::ONNX, to_onnx: DERIVED },
    Entry { op: &math::softplus::SOFTPLUS, onnx: math::softplus::ONNX, to_onnx: DERIVED },
    Entry { op: &math::softsign::SOFTSIGN, onnx: math::softsign::ONNX, to_onnx: DERIVED },
    Entry { op: &math::sqrt::SQRT, onnx: math::sqrt::ONNX, to_onnx: DERIVED },
    Entry { op: &math::sub::SUB, onnx: math::sub::ONNX, to_onnx: DERIVED },
    Entry { op: &math::tan::TAN, onnx: math::tan::ONNX, to_onnx: DERIVED },
    Entry { op: &math::tanh::TANH, onnx: math::tanh::ONNX, to_onnx: DERIVED },
    Entry { op: &math::thresholded_relu::THRESHOLDED_RELU, onnx: math::thresholded_relu::ONNX, to_onnx: math::thresholded_relu::TO_ONNX },
    Entry { op: &math::trunc::TRUNC, onnx: math::trunc::ONNX, to_onnx: math::trunc::TO_ONNX },
    Entry { op: &math::r#where::WHERE, onnx: math::r#where::ONNX, to_onnx: math::r#where::TO_ONNX },
    Entry { op: &math::xor::XOR, onnx: math::xor::ONNX, to_onnx: math::xor::TO_ONNX },
    Entry { op: &flow::as_size::AS_SIZE, onnx: flow::as_size::ONNX, to_onnx: DERIVED },
    Entry { op: &flow::r#if::IF, onnx: flow::r#if::ONNX, to_onnx: DERIVED },
    Entry { op: &flow::r#loop::LOOP, onnx: flow::r#loop::ONNX, to_onnx: DERIVED },
    Entry { op: &linalg::attention::ATTENTION, onnx: &[], to_onnx: linalg::attention::TO_ONNX },
    Entry { op: &linalg::combine::COMBINE, onnx: &[], to_onnx: linalg::combine::TO_ONNX },
    Entry { op: &linalg::conv::CONV, onnx: linalg::conv::ONNX, to_onnx: linalg::conv::TO_ONNX },
    Entry { op: &linalg::einsum::EINSUM, onnx: linalg::einsum::ONNX, to_onnx: linalg::einsum::TO_ONNX },
    Entry { op: &linalg::grouped_matmul::GROUPED_MATMUL, onnx: &[], to_onnx: linalg::grouped_matmul::TO_ONNX },
    Entry { op: &linalg::matmul::MATMUL, onnx: linalg::matmul::ONNX, to_onnx: linalg::matmul::TO_ONNX },
    Entry { op: &linalg::rotary_embedding::ROTARY_EMBEDDING, onnx: linalg::rotary_embedding::ONNX, to_onnx: DERIVED },
    Entry { op: &reduce::arg_max::ARG_MAX, onnx: reduce::arg_max::ONNX, to_onnx: reduce::arg_max::TO_ONNX },
    Entry { op: &reduce::arg_min::ARG_MIN, onnx: reduce::arg_min::ONNX, to_onnx: reduce::arg_min::TO_ONNX },
    Entry { op: &reduce::reduce_max::REDUCE_MAX, onnx: reduce::reduce_max::ONNX, to_onnx: reduce::reduce_max::TO_ONNX },
    Entry { op: &reduce::reduce_mean::REDUCE_MEAN, onnx: reduce::reduce_mean::ONNX, to_onnx: reduce::reduce_mean::TO_ONNX },
    Entry { op: &reduce::reduce_min::REDUCE_MIN, onnx: reduce::reduce_min::ONNX, to_onnx: reduce::reduce_min::TO_ONNX },
    Entry { op: &reduce::reduce_prod::REDUCE_PROD, onnx: reduce::reduce_prod::ONNX, to_onnx: reduce::reduce_prod::TO_ONNX },
    Entry { op: &reduce::reduce_sum::REDUCE_SUM, onnx: reduce::reduce_sum::ONNX, to_onnx: reduce::reduce_sum::TO_ONNX },
    Entry { op: &shape::broadcast::BROADCAST, onnx: shape::broadcast::ONNX, to_onnx: shape::broadcast::TO_ONNX },
    Entry { op: &shape::concat::CONCAT, onnx: shape::concat::ONNX, to_onnx: shape::concat::TO_ONNX },
    Entry { op: &shape::extend::EXTEND, onnx: shape::extend::ONNX, to_onnx: shape::extend::TO_ONNX },
    Entry { op: &shape::gather::GATHER, onnx: shape::gather::ONNX, to_onnx: shape::gather::TO_ONNX },
    Entry { op: &shape::gather_elements::GATHER_ELEMENTS, onnx: shape::gather_elements::ONNX, to_onnx: shape::gather_elements::TO_ONNX },
    Entry { op: &shape::gather_nd::GATHER_ND, onnx: shape::gather_nd::ONNX, to_onnx: shape::gather_nd::TO_ONNX },
    Entry { op: &shape::iota::IOTA, onnx: shape::iota::ONNX, to_onnx: shape::iota::TO_ONNX },
    Entry { op: &shape::pad::PAD, onnx: shape::pad::ONNX, to_onnx: shape::pad::TO_ONNX },
    Entry { op: &shape::put::PUT, onnx: shape::put::ONNX, to_onnx: shape::put::TO_ONNX },
    Entry { op: &shape::reshape::RESHAPE, onnx: shape::reshape::ONNX, to_onnx: shape::reshape::TO_ONNX },
    Entry { op: &shape::restate::RESTATE, onnx: shape::restate::ONNX, to_onnx: shape::restate::TO_ONNX },
    Entry { op: &shape::scatter_elements::SCATTER_ELEMENTS, onnx: shape::scatter_elements::ONNX, to_onnx: shape::scatter_elements::TO_ONNX },
    Entry { op: &shape::scatter_nd::SCATTER_ND, onnx: shape::scatter_nd::ONNX, to_onnx: shape::scatter_nd::TO_ONNX },
    Entry { op: &shape::shape::SHAPE, onnx: shape::shape::ONNX, to_onnx: shape::shape::TO_ONNX },
    Entry { op: &shape::size::SIZE, onnx: shape::size::ONNX, to_onnx: shape::size::TO_ONNX },
    Entry { op: &shape::slice::SLICE, onnx: shape::slice::ONNX, to_onnx: shape::slice::TO_ONNX },
    Entry { op: &shape::transpose::TRANSPOSE, onnx: shape::transpose::ONNX, to_onnx: shape::transpose::TO_ONNX },
    Entry { op: &order::cumprod::CUMPROD, onnx: order::cumprod::ONNX, to_onnx: order::cumprod::TO_ONNX },
    Entry { op: &order::cumsum::CUMSUM, onnx: order::cumsum::ONNX, to_onnx: order::cumsum::TO_ONNX },
    Entry { op: &order::nonzero::NONZERO, onnx: order::nonzero::ONNX, to_onnx: order::nonzero::TO_ONNX },
    Entry { op: &order::route::ROUTE, onnx: &[], to_onnx: order::route::TO_ONNX },
    Entry { op: &order::seat::SEAT, onnx: &[], to_onnx: order::seat::TO_ONNX },
    Entry { op: &order::topk::TOPK, onnx: order::topk::ONNX, to_onnx: order::topk::TO_ONNX },
    Entry { op: &order::unique::UNIQUE, onnx: order::unique::ONNX, to_onnx: order::unique::TO_ONNX },
    Entry { op: &norm::batch_norm::BATCH_NORM, onnx: norm::batch_norm::ONNX, to_onnx: norm::batch_norm::TO_ONNX },
    Entry { op: &norm::group_norm::GROUP_NORM, onnx: norm::group_norm::ONNX, to_onnx: DERIVED },
    Entry { op: &norm::instance_norm::INSTANCE_NORM, onnx: norm::instance_norm::ONNX, to_onnx: norm::instance_norm::TO_ONNX },
    Entry { op: &norm::layer_norm::LAYER_NORM, onnx: norm::layer_norm::ONNX, to_onnx: norm::layer_norm::TO_ONNX },
    Entry { op: &norm::local_response_norm::LOCAL_RESPONSE_NORM, onnx: norm::local_response_norm::ONNX, to_onnx: norm::local_response_norm::TO_ONNX },
    Entry { op: &norm::log_softmax::LOG_SOFTMAX, onnx: norm::log_softmax::ONNX, to_onnx: norm::log_softmax::TO_ONNX },
    Entry { op: &norm::lp_norm::LP_NORM, onnx: norm::lp_norm::ONNX, to_onnx: norm::lp_norm::TO_ONNX },
    Entry { op: &norm::mean_variance_norm::MEAN_VARIANCE_NORM, onnx: norm::mean_variance_norm::ONNX, to_onnx: norm::mean_variance_norm::TO_ONNX },
    Entry { op: &norm::rms_norm::RMS_NORM, onnx: norm::rms_norm::ONNX, to_onnx: DERIVED },
    Entry { op: &norm::softmax::SOFTMAX, onnx: norm::softmax::ONNX, to_onnx: norm::softmax::TO_ONNX },
    Entry { op: &pool::avg_pool::AVG_POOL, onnx: pool::avg_pool::ONNX, to_onnx: pool::avg_pool::TO_ONNX },
    Entry { op: &pool::max_pool::MAX_POOL, onnx: pool::max_pool::ONNX, to_onnx: pool::max_pool::TO_ONNX },
    Entry { op: &pool::sum_pool::SUM_POOL, onnx: pool::sum_pool::ONNX, to_onnx: pool::sum_pool::TO_ONNX },
];

/// ONNX ops that are no op of ours: nothing, a constant, or several ops.
pub static IMPORTS: &[&[Import]] = &[
    math::identity::ONNX,
    math::qlinear::ONNX,
    math::quantize::ONNX,
    linalg::causal_conv::ONNX,
    linalg::cdist::ONNX,
    linalg::conv_transpose::ONNX,
    linalg::deform_conv::ONNX,
    linalg::det::ONNX,
    linalg::dft::ONNX,
    linalg::flex_attention::ONNX,
    linalg::group_query_attention::ONNX,
    linalg::inverse::ONNX,
    linalg::linear_attention::ONNX,
    linalg::matmul_nbits::ONNX,
    linalg::mixture_of_experts::ONNX,
    linalg::multi_head_attention::ONNX,
    linalg::projected_attention::ONNX,
    linalg::quantized::ONNX,
    linalg::quantized_experts::ONNX,
    linalg::scaled_dot_product::ONNX,
    ml::array_feature_extractor::ONNX,
    ml::binarizer::ONNX,
    ml::feature_vectorizer::ONNX,
    ml::imputer::ONNX,
    ml::label_encoder::ONNX,
    ml::linear_model::ONNX,
    ml::normalizer::ONNX,
    ml::one_hot_encoder::ONNX,
    ml::scaler::ONNX,
    ml::support_vectors::ONNX,
    ml::tree_ensemble::ONNX,
    norm::embed_layer_norm::ONNX,
    order::non_max_suppression::ONNX,
    order::tf_idf::ONNX,
    pool::max_unpool::ONNX,
    pool::roi_align::ONNX,
    recurrent::gru::ONNX,
    recurrent::lstm::ONNX,
    recurrent::rnn::ONNX,
    reduce::cross_entropy::ONNX,
    shape::affine_grid::ONNX,
    shape::col2im::ONNX,
    shape::constant::ONNX,
    shape::cosine_window::ONNX,
    shape::gather_quantized::ONNX,
    shape::grid_sample::ONNX,
    shape::mel_weights::ONNX,
    shape::one_hot::ONNX,
    shape::random::ONNX,
    shape::resize::ONNX,
    shape::reverse_sequence::ONNX,
    shape::tensor_scatter::ONNX,
    train::adagrad::ONNX,
    train::adam::ONNX,
    train::momentum::ONNX,
];

/// The op called `name`.
pub fn find(name: &str) -> Option<&'static OpDef> {
    ALL.iter().map(|entry| entry.op).find(|op| op.name == name)
}
