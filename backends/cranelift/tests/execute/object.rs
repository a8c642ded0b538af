//! Object files: sections, exported names, references.

use cranelift::{EmitError, ModelSymbols, Target, emit, object};
use ir::dtype::DType::F32;
use ir::kernel::LoopKind;
use object_reader::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use crate::build::*;

use ::object as object_reader;

fn image() -> cranelift::Image {
    let n = [dim("n")];
    let body = vec![for_each(
        "i",
        dim("n"),
        LoopKind::Parallel(1),
        vec![store("y", vec![at("i")], load("x", F32, vec![at("i")]))],
    )];
    let kernel = kernel("copy", &["n"], vec![read("x", F32, &n), write("y", F32, &n)], body);
    emit(&program(vec![kernel]), &Target::portable()).expect("emitted")
}

#[test]
fn holds_code_container_and_functions() {
    let image = image();
    let container: Vec<u8> = (0..200).collect();
    let model = ModelSymbols { prefix: "mlp".to_owned() };
    let bytes = object(&image, &model, &container).expect("written");
    assert_eq!(bytes, object(&image, &model, &container).expect("again"));

    let file = object_reader::File::parse(&*bytes).expect("an object file");
    let text = file.section_by_name(".text").expect("code");
    assert_eq!(text.data().expect("bytes")[..image.code.len()], image.code);
    assert!(text.align() >= 16);
    let data = file.section_by_name(".rodata").expect("data");
    assert_eq!(data.data().expect("bytes"), container);
    assert!(data.align() >= 64);
    assert!(file.section_by_name(".note.GNU-stack").is_some());

    let exported: Vec<&str> = file
        .symbols()
        .filter(|s| s.is_global() && s.is_definition())
        .map(|s| s.name().expect("utf-8"))
        .collect();
    assert_eq!(exported.len(), 32);
    assert!(exported.iter().all(|name| name.starts_with("mlp_")), "{exported:?}");
    let wanted: Vec<String> = file
        .symbols()
        .filter(|s| s.is_undefined())
        .map(|s| s.name().expect("utf-8").to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(wanted.len(), 32);
    for name in &wanted {
        let own = name.replacen("egraft_", "mlp_", 1);
        assert!(name.starts_with("egraft_") && exported.contains(&own.as_str()), "{name}");
    }
    // Only the forwarders refer to anything: the kernels are resolved.
    let mut targets: Vec<String> = Vec::new();
    for (offset, relocation) in text.relocations() {
        assert!(offset >= image.code.len() as u64);
        let RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("a symbol") };
        targets.push(file.symbol_by_index(symbol).expect("known").name().expect("utf-8").to_owned());
    }
    assert!(targets.iter().any(|name| name == "egraft.code"));
    assert!(targets.iter().any(|name| name == "egraft.container"));
    assert_eq!(targets.len(), 34);
}

#[test]
fn refuses_names_that_c_does_not_know() {
    for prefix in ["", "1st", "a-b", "é"] {
        let model = ModelSymbols { prefix: prefix.to_owned() };
        assert!(matches!(object(&image(), &model, &[]), Err(EmitError::Object(_))), "{prefix}");
    }
}
