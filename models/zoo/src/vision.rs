//! What vision transformers begin and end with.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::linalg::conv::CONV;
use ops::window::{DILATIONS, HIGH, LOW, STRIDES};

use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::Config;

/// The deviation of what is learned for places, in ViT and DeiT.
const PLACES: Start<'static> = Start::Normal { deviation: 0.02 };

/// `image: f32[B, 3, S, S]` → `[B, 1 + (S/P)², C]`: patches of `P×P`, each projected (`patch_embed`), after a learned class
/// token (`cls_token: [1, 1, C]`), plus what is learned for each place (`pos_embed: [1, 1 + (S/P)², C]`).
///
/// Source: Dosovitskiy et al. 2021, equation 1. Settings: `image` (S), `patch` (P), `dim` (C).
pub(crate) fn patches(config: &Config, net: &mut Net) -> Built<Value> {
    let (size, patch, width) = (config.integer("image"), config.integer("patch"), config.integer("dim"));
    let count = config.part("image", "patch")?.pow(2);
    let batch = symbol("B");
    let image = net.input("image", DType::F32, [batch.clone(), 3i64.into(), size.into(), size.into()]);
    let x = net.within("patch_embed", |net| {
        let weight =
            net.weight("weight", &[width, 3, patch, patch], Start::He { fan_in: 3 * patch * patch })?;
        let bias = net.weight("bias", &[width], Start::Zeros)?;
        let none = || vec![Dim::constant(0); 2];
        let apart =
            [STRIDES.is(vec![patch as i64; 2]), DILATIONS.is(vec![1, 1]), LOW.is(none()), HIGH.is(none())];
        let x = net.op(&CONV, &[image, weight], apart)?;
        let x = net.reshape(x, [batch.clone(), width.into(), count.into()])?;
        let x = net.transposed(x)?;
        net.add(x, bias)
    })?;
    let class = net.weight("cls_token", &[1, 1, width], PLACES)?;
    let class = net.broadcast(class, [batch, 1i64.into(), width.into()])?;
    let x = net.concat(&[class, x], 1)?;
    let places = net.weight("pos_embed", &[1, count + 1, width], PLACES)?;
    net.add(x, places)
}

/// `[B, N, C]` → `[B, classes]`: layer norm (`norm`), and of the class token a linear layer (`head`). Setting: `classes`.
pub(crate) fn classify(config: &Config, net: &mut Net, x: Value, epsilon: f64) -> Built<Value> {
    let x = net.layer_norm(x, "norm", epsilon)?;
    let x = net.slice(x, 1, 0i64, 1i64)?;
    let x = net.squeeze(x, 1)?;
    net.linear(x, "head", config.integer("classes"))
}
