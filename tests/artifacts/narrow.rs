//! Types that files of tensors lack, in and out of an artifact.

use std::fs;
use std::path::Path;

use harness::program::{call, run};
use ir::{DType, Scalar, Tensor};
use runner::files;

use crate::{alone, compile, folder, save};

const MODEL: &str = "\
graph @narrow(%a: i4[n], %f: f8e4m3fn[n], %p: f4e2m1[n]) -> f32[n], i4[n], f8e4m3fn[n], u2[n] {
  %0 = cast %a {to=f32} : f32[n]
  %1 = cast %f {to=f32} : f32[n]
  %2 = cast %p {to=f32} : f32[n]
  %3 = add %0, %1       : f32[n]
  %4 = add %3, %2       : f32[n]
  %5 = cast %4 {to=i4}  : i4[n]
  %6 = cast %4 {to=f8e4m3fn} : f8e4m3fn[n]
  %7 = cast %4 {to=u2}  : u2[n]
  return %4 as \"sum\", %5 as \"whole\", %6 as \"rounded\", %7 as \"rest\"
}
";

fn numbers(dtype: DType, values: [f64; 3]) -> Tensor {
    Tensor::from_fn(dtype, &[3], |at| Scalar::from_f64(dtype, values[at[0]]))
}

fn model(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("narrow.ir");
    fs::write(&path, MODEL).expect("the folder is writable");
    path
}

#[test]
fn types_that_files_lack_are_bytes_in_them() {
    let folder = folder();
    let (model, program) = (model(folder.path()), folder.path().join("narrow"));
    compile(&model, &program, &[]).succeeds();
    let given = [
        ("a", numbers(DType::I4, [-8.0, 7.0, 1.0])),
        ("f", numbers(DType::F8E4M3FN, [448.0, -0.5, 0.25])),
        ("p", numbers(DType::F4E2M1, [6.0, -1.5, 0.5])),
    ]
    .map(|(name, tensor)| (name, egraft::tensors::to_file(&tensor).expect("it is small")));
    let named: Vec<(&str, &runner::tensor::Tensor)> =
        given.iter().map(|(name, tensor)| (*name, tensor)).collect();
    for (kind, own) in [("npz", DType::U8), ("safetensors", DType::F8E4M3FN)] {
        let at = |name: &str| folder.path().join(format!("{name}.{kind}"));
        files::write_all(&at("in"), &named).expect("the folder is writable");
        let mut command = alone(&program);
        command.arg("--inputs").arg(at("in")).arg("--outputs").arg(at("out"));
        run(&mut command).succeeds();
        let made = files::read_all(&at("out")).expect("it was written");
        let of = |name: &str| {
            let found = made.iter().find(|(known, _)| known == name).expect("every output is there");
            egraft::tensors::from_file(&found.1)
        };
        assert_eq!(of("sum").to_f64(), [446.0, 5.0, 1.75]);
        // 446 is 0 in its last four bits but for 14; 446 rounds to 448.
        assert_eq!((of("whole").dtype(), of("whole").to_i64()), (DType::I8, vec![-2, 5, 1]));
        assert_eq!((of("rest").dtype(), of("rest").to_i64()), (DType::U8, vec![2, 1, 1]));
        let rounded = of("rounded");
        assert_eq!((rounded.dtype(), rounded.bytes()), (own, [0x7e, 0x4a, 0x3e].as_slice()), "{kind}");
    }
}

#[test]
fn bytes_that_are_no_elements_are_refused() {
    let folder = folder();
    let model = model(folder.path());
    let input = |values: &Tensor| {
        let path = folder.path().join("a.npy");
        save(&path, values);
        call([
            "run".as_ref(),
            model.as_os_str(),
            "--input".as_ref(),
            format!("a={}", path.display()).as_ref(),
        ])
    };
    let done = input(&numbers(DType::I8, [7.0, -8.0, -9.0])).exits(2);
    assert!(done.err.contains("element 2 of input `a` is the byte 247, which is no i4"), "{done}");
    assert!(done.err.contains("bytes of -8 to 7 stand for it"), "{done}");
    let done = input(&numbers(DType::F32, [7.0, -8.0, -9.0])).exits(2);
    assert!(done.err.contains("elements are f32, expected i4"), "{done}");
    assert!(done.err.contains("write the elements of i4 as i8"), "{done}");
}

#[test]
fn every_way_to_run_a_model_agrees() {
    let folder = folder();
    let model = model(folder.path());
    for through in ["jit", "exe", "lib"] {
        let args =
            ["verify".as_ref(), model.as_os_str(), "--through".as_ref(), through.as_ref(), "--dim".as_ref()];
        call(args.into_iter().chain(["n=37".as_ref()])).succeeds();
    }
}
