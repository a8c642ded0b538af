//! A small convolutional network for 8×8 images of handwritten digits.
//!
//! `image: f32[batch, 1, 8, 8]` in 0..1 → `probabilities: f32[batch, 10]`. Two convolutions of 3×3 with ReLU and
//! pooling by 2 after each, a hidden layer, a layer of classes, softmax. Source: the network that
//! `python/train_digits.py` trains.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Graph, TensorType};
use ops::linalg::conv::CONV;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::relu::RELU;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::pool::max_pool::MAX_POOL;
use ops::shape::reshape::reshape;
use ops::window::{DILATIONS, HIGH, KERNEL, LOW, STRIDES};

use crate::init::Init;
use crate::{Config, Entry, Setting};

/// The network.
pub const DIGITS: Entry = Entry {
    name: "digits",
    about: "convolutional network for 8x8 images of handwritten digits",
    settings: &[
        Setting {
            name: "channels",
            default: 16,
            about: "channels of the first convolution; the second has twice as many",
        },
        Setting { name: "hidden", default: 64, about: "width of the hidden layer" },
        Setting { name: "classes", default: 10, about: "number of classes" },
    ],
    build,
};

fn build(config: &Config) -> Result<Graph, OpError> {
    let [channels, hidden, classes] = ["channels", "hidden", "classes"].map(|name| config.get(name));
    let mut init = Init::new(config.seed);
    let mut b = Build::new("digits");
    let batch = Dim::symbol("batch");
    let image = [batch.clone(), 1i64.into(), 8i64.into(), 8i64.into()];
    let mut x = b.input("image", TensorType::new(DType::F32, image));
    x = block(&mut b, &mut init, x, "conv1", [1, channels])?;
    x = block(&mut b, &mut init, x, "conv2", [channels, 2 * channels])?;
    let features = 2 * channels * 2 * 2;
    x = reshape(&mut b, x, vec![batch, features.into()])?;
    x = linear(&mut b, &mut init, x, "hidden", [features, hidden])?;
    x = b.op(&RELU, &[x])?;
    x = linear(&mut b, &mut init, x, "classes", [hidden, classes])?;
    let y = b.op_with(&SOFTMAX, &[x], [AXIS.is(1)])?;
    let mut graph = b.into_graph();
    graph.set_outputs([("probabilities".to_owned(), y)]);
    Ok(graph)
}

/// Convolution of 3×3 with bias, ReLU, and the largest of each 2×2.
fn block(
    b: &mut Build,
    init: &mut Init,
    x: Value,
    name: &str,
    [from, to]: [usize; 2],
) -> Result<Value, OpError> {
    let weight = b.weight(init.weight(&format!("{name}.weight"), &[to, from, 3, 3], from * 9));
    let bias = b.weight(Init::bias(&format!("{name}.bias"), &[to, 1, 1]));
    let dims = |size: i64| vec![Dim::constant(size); 2];
    let same = [STRIDES.is(vec![1, 1]), DILATIONS.is(vec![1, 1]), LOW.is(dims(1)), HIGH.is(dims(1))];
    let x = b.op_with(&CONV, &[x, weight], same)?;
    let x = b.op(&ADD, &[x, bias])?;
    let x = b.op(&RELU, &[x])?;
    let halve = [
        KERNEL.is(vec![2, 2]),
        STRIDES.is(vec![2, 2]),
        DILATIONS.is(vec![1, 1]),
        LOW.is(dims(0)),
        HIGH.is(dims(0)),
    ];
    b.op_with(&MAX_POOL, &[x], halve)
}

fn linear(
    b: &mut Build,
    init: &mut Init,
    x: Value,
    name: &str,
    [from, to]: [usize; 2],
) -> Result<Value, OpError> {
    let weight = b.weight(init.weight(&format!("{name}.weight"), &[from, to], from));
    let bias = b.weight(Init::bias(&format!("{name}.bias"), &[to]));
    let x = b.op(&MATMUL, &[x, weight])?;
    b.op(&ADD, &[x, bias])
}
