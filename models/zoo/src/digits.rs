//! A small convolutional network for 8×8 images of handwritten digits.
//!
//! `image: f32[batch, 1, 8, 8]` in 0..1 → `probabilities: f32[batch, 10]`. Two convolutions of 3×3 with ReLU and
//! pooling by 2 after each, a hidden layer, a layer of classes, softmax. Source: the network that
//! `python/train_digits.py` trains; matrices are `[in, out]` here, and biases of convolutions `[out, 1, 1]`.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::linalg::conv::CONV;
use ops::pool::max_pool::MAX_POOL;
use ops::window::{DILATIONS, HIGH, KERNEL, LOW, STRIDES};

use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, integer};

/// The network.
pub const DIGITS: Entry = Entry {
    name: "digits",
    about: "convolutional network for 8x8 images of handwritten digits",
    paper: "",
    status: "our own: the network that the README runs",
    forms: &[],
    settings: &[
        integer("channels", 16, 1, "channels of the first convolution; the second has twice as many"),
        integer("hidden", 64, 1, "width of the hidden layer"),
        integer("classes", 10, 1, "number of classes"),
    ],
    small: &[],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [channels, hidden, classes] = ["channels", "hidden", "classes"].map(|name| config.integer(name));
    let batch = symbol("batch");
    let image = [batch.clone(), 1i64.into(), 8i64.into(), 8i64.into()];
    let mut x = net.input("image", DType::F32, image);
    x = block(net, x, "conv1", [1, channels])?;
    x = block(net, x, "conv2", [channels, 2 * channels])?;
    let features = 2 * channels * 2 * 2;
    x = net.reshape(x, [batch, features.into()])?;
    x = dense(net, x, "hidden", [features, hidden])?;
    x = net.relu(x)?;
    x = dense(net, x, "classes", [hidden, classes])?;
    let y = net.softmax(x, 1)?;
    net.output("probabilities", y);
    Ok(())
}

/// Convolution of 3×3 with bias, ReLU, and the largest of each 2×2.
fn block(net: &mut Net, x: Value, name: &str, [from, to]: [usize; 2]) -> Built<Value> {
    net.within(name, |net| {
        let weight = net.weight("weight", &[to, from, 3, 3], Start::He { fan_in: from * 9 })?;
        let bias = net.weight("bias", &[to, 1, 1], Start::Zeros)?;
        let dims = |size: i64| vec![Dim::constant(size); 2];
        let same = [STRIDES.is(vec![1, 1]), DILATIONS.is(vec![1, 1]), LOW.is(dims(1)), HIGH.is(dims(1))];
        let x = net.op(&CONV, &[x, weight], same)?;
        let x = net.add(x, bias)?;
        let x = net.relu(x)?;
        let halve = [
            KERNEL.is(vec![2, 2]),
            STRIDES.is(vec![2, 2]),
            DILATIONS.is(vec![1, 1]),
            LOW.is(dims(0)),
            HIGH.is(dims(0)),
        ];
        net.op(&MAX_POOL, &[x], halve)
    })
}

fn dense(net: &mut Net, x: Value, name: &str, [from, to]: [usize; 2]) -> Built<Value> {
    net.within(name, |net| {
        let weight = net.weight("weight", &[from, to], Start::He { fan_in: from })?;
        let bias = net.weight("bias", &[to], Start::Zeros)?;
        let x = net.matmul(x, weight)?;
        net.add(x, bias)
    })
}
