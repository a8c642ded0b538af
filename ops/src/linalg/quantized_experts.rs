//! onnxruntime's QMoE: a [mixture of experts](super::mixture_of_experts) whose matrices are quantized.
//!
//! - `int`: `(q − zero) · scale`, integers of 2, 4 or 8 bits packed along each row, with one scale and zero for each row,
//!   `[E, N]`, or for each block of it, `[E, N, K / block_size]`; zeros are packed likewise.
//! - `fp8`: `f8e4m3fn[E, N, K]` times a scale for each square of `block_size` rows and columns, or for each expert.
//! - `fp4`, `nvfp4`: `f4e2m1` packed along each row, times a scale for each 32 or 16 of its elements and one for each expert.
//!   `nvfp4` is packed along the columns, unless `weights_prepacked` is 1.
//! - `router_weights: [T, E]`, if they are there, are the gates: the scores say only which experts a token goes to. Without
//!   them, gates add up to 1 whatever `normalize_routing_weights` says, as onnxruntime computes it on a CPU.
//!
//! Integers may be packed for GPUs instead (`math/block_quantized.rs`), in bytes `[E, K, N / …]`.
//! Where `weights_prepacked` does not say which it is, the shape does; where both shapes are the same, the caller has to say
//! it. Source: onnxruntime, contrib operators, QMoE.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::mixture_of_experts::{Gates, Layers, Weights, mixture, unsupported};
use crate::math::block_quantized::{Packing, import_bits, import_block, split};
use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::math::quantize::along_blocks;
use crate::onnx::{ExpertLayout, Import, ImportError, NodeView, by};
use crate::shape::reshape::reshape;
use crate::shape::transpose::swap_last_two;

/// The op.
pub static ONNX: &[Import] = &[by("QMoE", import).in_domain("com.microsoft")];

/// For `fc1`, `fc2` and `fc3`, which inputs are the matrices, scales, biases, zeros, and scales of experts.
const INPUTS: [[usize; 5]; 3] = [[2, 3, 4, 11, 15], [5, 6, 7, 12, 16], [8, 9, 10, 13, usize::MAX]];

/// A layer of all experts, as the node has it.
struct Layer {
    /// Which of the three.
    at: usize,
    matrices: Value,
    scales: Option<Value>,
    zeros: Option<Value>,
    /// One for each expert.
    global: Option<Value>,
    /// `[E, N, K]`.
    shape: [Dim; 3],
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // How exact it is at least.
    node.ignore(&["accuracy_level"]);
    if (17..=20).any(|index| node.optional_input(index).is_some()) {
        return Err(unsupported(
            "QMoE with scales of activations",
            "export it with activations that are floats",
        ));
    }
    let kind = node.str_or("quant_type", "int")?;
    let packings = packings(node, kind)?;
    let prepacked = node.int_or("weights_prepacked", -1)?;
    let layers = layers(node, b, kind)?;
    let layout = match (kind, prepacked) {
        ("int", 1) => ExpertLayout::Sm80,
        ("int", -1) => layout_of(node, b, &layers, packings)?,
        (_, -1..=1) => ExpertLayout::Raw,
        _ => return Err(ImportError::value("weights_prepacked", prepacked, "-1, 0 and 1")),
    };
    let mut weights = |layer: &Layer| -> Result<Weights, ImportError> {
        let matrices = match kind {
            "int" => layer.integers(b, packings[layer.at], layout)?,
            "fp8" => layer.bytes(b, node.int("block_size")?.filter(|&block| block > 0))?,
            "fp4" => layer.nibbles(b, packings[layer.at], true)?,
            "nvfp4" => layer.nibbles(b, packings[layer.at], prepacked == 1)?,
            other => return Err(ImportError::value("quant_type", other, "int, fp8, fp4 and nvfp4")),
        };
        Ok(Weights { matrices, bias: node.optional_input(INPUTS[layer.at][2]) })
    };
    let (first, second) = (weights(&layers[0])?, weights(&layers[1])?);
    let layers = Layers { first, second, third: layers.get(2).map(weights).transpose()? };
    let (given, normalizes) = (node.optional_input(14), node.flag("normalize_routing_weights", false)?);
    let gates = Gates { given, normalized: normalizes || given.is_none() };
    mixture(node, b, layers, gates)
}

/// How each layer is packed.
fn packings(node: &NodeView, kind: &str) -> Result<[Packing; 3], ImportError> {
    let all = import_bits(node, "expert_weight_bits", 4)?;
    let own = |name: &str| import_bits(node, name, all);
    let bits =
        [own("fc1_expert_weight_bits")?, own("fc2_expert_weight_bits")?, own("fc3_expert_weight_bits")?];
    let fixed = |block: i64| match node.int("block_size")? {
        Some(given) if given != block => {
            Err(ImportError::value("block_size", given, &format!("{block} for `{kind}`")))
        }
        _ => Ok([Packing { bits: 4, block: Some(block) }; 3]),
    };
    match kind {
        "int" => {
            let block = import_block(node)?;
            Ok(bits.map(|bits| Packing { bits, block }))
        }
        "fp4" => fixed(32),
        "nvfp4" => fixed(16),
        _ => Ok([Packing { bits: 8, block: None }; 3]),
    }
}

/// The layers that there are, with the sizes that tokens, scores and scales say.
fn layers(node: &NodeView, b: &Build, kind: &str) -> Result<Vec<Layer>, ImportError> {
    let (x, scores) = (node.ty(b, 0)?, node.ty(b, 1)?);
    let (Some(width), Some(experts)) = (x.shape.last(), scores.shape.last()) else {
        let found = x.rank().min(scores.rank());
        return Err(OpError::RankAtLeast { operand: "input and router_probs", least: 1, found }.into());
    };
    let mut all = Vec::new();
    for (at, [index, scales, _, zeros, global]) in INPUTS.into_iter().enumerate() {
        // The third may be left out.
        if at == 2 && node.optional_input(index).is_none() {
            break;
        }
        let matrices = node.input(index)?;
        let found = b.ty(matrices).rank();
        if found != 3 {
            return Err(OpError::Rank { operand: "matrices of experts", expected: 3, found }.into());
        }
        let [scales, zeros, global] = [scales, zeros, global].map(|index| node.optional_input(index));
        // Integers that are packed for GPUs have rows and columns exchanged, and their scales have not.
        let rows = match scales.map(|scales| &b.ty(scales).shape) {
            Some(shape) if kind != "fp8" && shape.len() > 1 => shape[1].clone(),
            _ => b.ty(matrices).shape[1].clone(),
        };
        let shape = [experts.clone(), rows, width.clone()];
        all.push(Layer { at, matrices, scales, zeros, global, shape });
    }
    let is_double = ["swiglu", "geglu"].contains(&node.str_or("activation_type", "relu")?)
        && node.int_or("swiglu_fusion", 0)? > 0;
    let parts = Dim::constant(if is_double { 2 } else { 1 });
    let rows = all[0].shape[1].clone();
    all[1].shape[2] = rows.exact_div(&parts).ok_or(OpError::Size {
        what: "rows of fc1, which are two for each element",
        left: rows,
        right: parts,
    })?;
    Ok(all)
}

/// How integers lie, where no attribute says so.
fn layout_of(
    node: &NodeView,
    b: &Build,
    layers: &[Layer],
    packings: [Packing; 3],
) -> Result<ExpertLayout, ImportError> {
    let mut may_be = [true, true];
    for layer in layers {
        let packing = packings[layer.at];
        let [experts, rows, columns] = &layer.shape;
        let found = &b.ty(layer.matrices).shape;
        let is =
            |rows: &Dim, columns: &Dim| *found == [experts.clone(), rows.clone(), packing.bytes(columns)];
        may_be[0] &= is(rows, columns);
        may_be[1] &= is(columns, rows);
    }
    match (may_be, node.experts()) {
        ([false, true], _) => Ok(ExpertLayout::Sm80),
        ([true, true], Some(layout)) => Ok(layout),
        ([true, true], None) => Err(unsupported(
            "QMoE with matrices that are square, without the attribute `weights_prepacked`,",
            "say with `--qmoe-layout raw` that rows of integers lie one after the other, or with `--qmoe-layout sm80` that \
             they are packed for GPUs",
        )),
        // What does not fit is said where the integers are read.
        ([_, false], _) => Ok(ExpertLayout::Raw),
    }
}

impl Layer {
    fn scales(&self) -> Result<Value, ImportError> {
        self.scales.ok_or(ImportError::MissingInput { index: INPUTS[self.at][1] })
    }

    /// The matrices as bytes of this shape.
    ///
    /// # Errors
    /// [`OpError::Size`] if they have another one.
    fn of_shape(&self, b: &Build, shape: [Dim; 3]) -> Result<Value, ImportError> {
        let found = &b.ty(self.matrices).shape;
        let clash = found.iter().zip(&shape).find(|(left, right)| left != right);
        match clash {
            None => Ok(self.matrices),
            Some((left, right)) => {
                let what = "sizes of the matrices of experts, and what scales and tokens say";
                Err(OpError::Size { what, left: left.clone(), right: right.clone() }.into())
            }
        }
    }

    fn integers(&self, b: &mut Build, packing: Packing, layout: ExpertLayout) -> Result<Value, ImportError> {
        let [experts, rows, columns] = self.shape.clone();
        let w = match layout {
            ExpertLayout::Raw => {
                let packed = self.of_shape(b, [experts.clone(), rows.clone(), packing.bytes(&columns)])?;
                packing.unpacked(b, packed)?
            }
            ExpertLayout::Sm80 => packing.unpacked_from_tiles(b, self.matrices, self.shape.clone())?,
        };
        let each = match packing.block {
            Some(_) => vec![experts, rows, packing.blocks(&columns)],
            None => vec![experts, rows],
        };
        let scale = reshape(b, self.scales()?, each.clone())?;
        let zero = packing.zeros(b, self.zeros, &each)?;
        Ok(packing.dequantized(b, w, [zero, scale], DType::F32)?)
    }

    /// Floats of 8 bits, with a scale for each square of `block` rows and columns, or for each expert.
    fn bytes(&self, b: &mut Build, block: Option<i64>) -> Result<Value, ImportError> {
        let matrices = self.of_shape(b, self.shape.clone())?;
        let w = convert(b, matrices, DType::F32)?;
        let scales = match block {
            Some(block) => {
                let [experts, rows, columns] = self.shape.clone();
                let partly = [experts, rows, columns.ceil_div(&Dim::constant(block))];
                let down = along_blocks(b, self.scales()?, &partly, 1, block)?;
                along_blocks(b, down, &self.shape, 2, block)?
            }
            None => self.for_experts(b)?,
        };
        let scales = convert(b, scales, DType::F32)?;
        Ok(b.op(&MUL, &[w, scales])?)
    }

    /// Floats of 4 bits, packed along rows or along columns.
    fn nibbles(&self, b: &mut Build, packing: Packing, along_rows: bool) -> Result<Value, ImportError> {
        let [experts, rows, columns] = self.shape.clone();
        let packed = if along_rows {
            reshape(b, self.matrices, vec![experts.clone(), rows.clone(), packing.bytes(&columns)])?
        } else {
            self.of_shape(b, [experts.clone(), columns.clone(), packing.bytes(&rows)])?
        };
        let Some(w) = known_nibbles(b, self.matrices, packed) else {
            return Err(unsupported(
                "QMoE with floats of 4 bits that the model computes",
                "export it with weights that are constants",
            ));
        };
        let w = if along_rows { w } else { swap_last_two(b, w)? };
        let each = vec![experts, rows, packing.blocks(&columns)];
        let scale = reshape(b, self.scales()?, each)?;
        let (w, scale) = (convert(b, w, DType::F32)?, convert(b, scale, DType::F32)?);
        let scale = along_blocks(b, scale, &self.shape, 2, packing.block.unwrap_or(1))?;
        let w = b.op(&MUL, &[w, scale])?;
        let global = self.for_experts(b)?;
        Ok(b.op(&MUL, &[w, global])?)
    }

    /// The scale of each expert, which broadcasts to the matrices.
    fn for_experts(&self, b: &mut Build) -> Result<Value, ImportError> {
        let Some(global) = self.global else {
            let index = INPUTS[self.at][4];
            return Err(match index {
                usize::MAX => {
                    unsupported("QMoE with fc3 and scales of experts", "export it with fc1 and fc3 as one")
                }
                index => ImportError::MissingInput { index },
            });
        };
        let one = Dim::constant(1);
        let column = reshape(b, global, vec![self.shape[0].clone(), one.clone(), one])?;
        Ok(convert(b, column, DType::F32)?)
    }
}

/// The floats of 4 bits in bytes that are known, in the shape that `packed` gives these.
fn known_nibbles(b: &mut Build, bytes: Value, packed: Value) -> Option<Value> {
    let weight = b.graph().node(bytes.node).weight()?.clone();
    let shape = b.ty(packed).fixed_shape()?;
    let weight = weight.reshaped(weight.name(), &shape)?;
    let value = b.weight(weight);
    split(b, value, DType::F4E2M1)
}
