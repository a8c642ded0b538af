//! Valid models with fields changed: well-formed, mostly wrong. A failure or a graph, never a panic.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use onnx::{ImportOptions, NoFiles, import};
use onnx_protobuf::tensor_shape_proto::dimension::Value as DimValue;
use onnx_protobuf::type_proto::Value as TypeValue;
use onnx_protobuf::{AttributeProto, Message, ModelProto, NodeProto, ValueInfoProto};

/// Changed models for each valid one.
const ROUNDS: usize = 30;

/// Integers that break things.
const INTS: [i64; 16] =
    [0, 1, 2, 3, 4, 7, -1, -2, -3, 100, 1 << 31, 1 << 32, 1 << 40, i64::MAX, i64::MIN, i64::MIN + 1];

/// Numbers that look random and are the same every time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    fn int(&mut self) -> i64 {
        INTS[self.below(INTS.len())]
    }

    fn pick<'a, T>(&mut self, items: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(items.len());
        items.get_mut(at)
    }
}

fn change_input(numbers: &mut Numbers, info: &mut ValueInfoProto) {
    let Some(TypeValue::TensorType(tensor)) = &mut info.type_.mut_or_insert_default().value else { return };
    if numbers.below(4) == 0 {
        tensor.elem_type = numbers.below(18) as i32;
        return;
    }
    let dims = &mut tensor.shape.mut_or_insert_default().dim;
    match numbers.below(4) {
        0 => {
            dims.pop();
        }
        1 => dims.push(dims.first().cloned().unwrap_or_default()),
        2 => {
            if let Some(dim) = numbers.pick(dims) {
                dim.value = Some(DimValue::DimParam("q".to_owned()));
            }
        }
        _ => {
            let size = numbers.int();
            if let Some(dim) = numbers.pick(dims) {
                dim.value = Some(DimValue::DimValue(size));
            }
        }
    }
}

fn change_attribute(numbers: &mut Numbers, attribute: &mut AttributeProto) {
    match numbers.below(5) {
        0 => attribute.type_ = protobuf::EnumOrUnknown::from_i32(numbers.below(16) as i32),
        1 => attribute.ints.push(numbers.int()),
        2 => {
            attribute.ints.pop();
        }
        3 => attribute.f = f32::NAN,
        _ => {
            attribute.i = numbers.int();
            let value = numbers.int();
            if let Some(int) = numbers.pick(&mut attribute.ints) {
                *int = value;
            }
        }
    }
}

fn change_node(numbers: &mut Numbers, node: &mut NodeProto, ops: &[String]) {
    match numbers.below(7) {
        0 => node.op_type = ops[numbers.below(ops.len())].clone(),
        1 => {
            node.input.pop();
        }
        2 => node.input.extend(node.input.first().cloned()),
        3 => node.input.reverse(),
        4 => node.output.push("more".to_owned()),
        5 => {
            node.attribute.pop();
        }
        _ => {
            if let Some(attribute) = numbers.pick(&mut node.attribute) {
                change_attribute(numbers, attribute);
            }
        }
    }
}

fn change(numbers: &mut Numbers, model: &mut ModelProto, ops: &[String]) {
    let graph = model.graph.mut_or_insert_default();
    match numbers.below(8) {
        0..=1 => {
            if let Some(input) = numbers.pick(&mut graph.input) {
                change_input(numbers, input);
            }
        }
        2..=5 => {
            if let Some(node) = numbers.pick(&mut graph.node) {
                change_node(numbers, node, ops);
            }
        }
        6 => {
            let value = numbers.int();
            if let Some(tensor) = numbers.pick(&mut graph.initializer) {
                // Weights that are shapes, axes, bounds.
                if tensor.data_type == 7 && tensor.raw_data.len() >= 8 {
                    let at = 8 * numbers.below(tensor.raw_data.len() / 8);
                    tensor.raw_data[at..at + 8].copy_from_slice(&value.to_le_bytes());
                } else if tensor.dims.len() > 1 {
                    tensor.dims.reverse();
                } else {
                    tensor.dims.insert(0, 1);
                }
            }
        }
        _ => {
            if let Some(import) = numbers.pick(&mut model.opset_import) {
                import.version = 7 + numbers.below(22) as i64;
            }
        }
    }
}

#[test]
fn models_with_fields_changed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/onnx/valid");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("models").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let models: Vec<ModelProto> = paths
        .iter()
        .filter_map(|path| fs::read(path.join("model.onnx")).ok())
        .map(|bytes| ModelProto::parse_from_bytes(&bytes).expect("a valid model"))
        .collect();
    let mut ops: Vec<String> =
        models.iter().flat_map(|model| &model.graph.node).map(|node| node.op_type.clone()).collect();
    ops.sort();
    ops.dedup();
    assert!(models.len() > 10 && ops.len() > 10);
    let mut numbers = Numbers(3);
    for (model, path) in models.iter().zip(&paths) {
        for _ in 0..ROUNDS {
            let mut changed = model.clone();
            for _ in 0..=numbers.below(3) {
                change(&mut numbers, &mut changed, &ops);
            }
            let bytes = changed.write_to_bytes().expect("a model is written");
            let imported = catch_unwind(AssertUnwindSafe(|| {
                let _ = import(&bytes, &NoFiles, &ImportOptions::default());
            }));
            assert!(imported.is_ok(), "{} with changes panics: {changed:?}", path.display());
        }
    }
}
