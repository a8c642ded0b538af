//! The C interface, called as C calls it.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr::{null, null_mut},
};

use super::{SCALE, bytes_of, dynamic, model, plan};
use crate::{
    AlignedBytes, CodePart, WeightsPart,
    capi::*,
    plan::DType,
    services::ABI_VERSION,
    tests::container::{RETURN, contents},
};

const F32: c_int = DType::F32 as c_int;

fn last_error() -> String {
    text(egraft_last_error())
}

fn text(text: *const c_char) -> String {
    // SAFETY: the interface returned it, not null, and its owner still lives.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}

/// The container as a part of the program: aligned, and never freed.
fn embedded(bytes: &[u8]) -> &'static [u8] {
    Box::leak(Box::new(AlignedBytes::copy_of(bytes, "container").unwrap()))
}

#[test]
fn a_model_says_what_it_is() {
    let weights = bytes_of(&SCALE);
    let plan = plan();
    let bytes = contents(&plan, CodePart::Embedded(RETURN), WeightsPart::Embedded(&weights)).to_bytes();
    let bytes = embedded(&bytes);
    let mut model = null_mut();
    // SAFETY: pointers are valid, or null to see that refused.
    unsafe {
        assert_eq!(egraft_abi_version(), ABI_VERSION);
        let status = egraft_model_open(bytes.as_ptr(), bytes.len(), null(), 0, null(), &mut model);
        assert_eq!((status, model.is_null()), (0, false), "{}", last_error());
        assert_eq!(egraft_entry_count(model), 3);
        assert_eq!(text(egraft_entry_name(model, 1)), "pair");
        assert_eq!((egraft_input_count(model, 1), egraft_output_count(model, 1)), (2, 1));
        assert_eq!(text(egraft_input_name(model, 1, 1)), "b");
        assert_eq!(text(egraft_output_name(model, 1, 0)), "y");
        assert_eq!((egraft_input_dtype(model, 1, 1), egraft_output_dtype(model, 1, 0)), (F32, F32));
        assert_eq!((egraft_input_rank(model, 1, 1), egraft_output_rank(model, 1, 0)), (2, 1));
        assert!(egraft_entry_name(model, 3).is_null());
        assert_eq!(last_error(), "there is no entry 3; there are 3");
        assert!(egraft_input_name(model, 1, 2).is_null());
        assert_eq!(last_error(), "there is no input 2; there are 2");
        assert_eq!(egraft_output_rank(null(), 0, 0), 0);
        assert_eq!(last_error(), "`model` is null");
        egraft_model_close(model);
        egraft_model_close(null_mut());
    }
}

/// A C model over the kernels in Rust, which no container can hold.
fn c_model() -> *mut CModel {
    Box::into_raw(Box::new(CModel::new(model())))
}

#[test]
fn a_session_runs_in_place_and_outlives_its_model() {
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let mut y = [0.0_f32; 12];
    // SAFETY: pointers are valid, and the buffers have the sizes that are set.
    unsafe {
        let model = c_model();
        let mut session = null_mut();
        assert_eq!(egraft_session_new(model, 0, 2, &mut session), 0);
        egraft_model_close(model);
        for (run, rows) in [3_i64, 2, 3, 0].into_iter().enumerate() {
            let (data, dims) = (x.as_ptr().cast(), [rows, 4]);
            assert_eq!(egraft_session_set_input(session, 0, F32, 2, dims.as_ptr(), data), 0);
            assert_eq!(egraft_session_bind(session), 0);
            let (mut rank, mut shape) = (0, [0; 2]);
            let status = egraft_session_output_shape(session, 0, 2, &mut rank, shape.as_mut_ptr());
            assert_eq!((status, rank, shape), (0, 2, [rows, 4]));
            assert_eq!(egraft_session_set_output(session, 0, y.as_mut_ptr().cast(), size_of_val(&y)), 0);
            assert_eq!(egraft_session_run(session), 0, "{}", last_error());
            for i in 0..rows as usize * 4 {
                assert_eq!(y[i], x[i] * SCALE[i % 4] + run as f32);
            }
        }
        assert_eq!(egraft_session_reset_state(session), 0);
        let dims = [1, 4];
        egraft_session_set_input(session, 0, F32, 2, dims.as_ptr(), x.as_ptr().cast());
        assert_eq!(egraft_session_run(session), 0);
        assert_eq!(y[..4], [0.0, 2.0, 6.0, 12.0]);
        egraft_session_free(session);
        egraft_session_free(null_mut());
    }
}

#[test]
fn outputs_as_large_as_the_run_decides_are_the_sessions() {
    let run = Status::Run as c_int;
    let (x, mut z) = ([1.0_f32, -2.0, 3.0, 4.0], [0.0_f32; 4]);
    // SAFETY: pointers are valid, or null to see that refused, and the buffers have the sizes that are set.
    unsafe {
        let model = Box::into_raw(Box::new(CModel::new(dynamic::model(dynamic::measured::entry()))));
        let is_dynamic = |index| egraft_output_is_dynamic(model, 0, index);
        assert_eq!((is_dynamic(0), is_dynamic(1), is_dynamic(2)), (1, 0, 0));
        assert_eq!(last_error(), "there is no output 2; there are 2");
        let mut session = null_mut();
        assert_eq!(egraft_session_new(model, 0, 1, &mut session), 0);
        let set = |n: i64| egraft_session_set_input(session, 0, F32, 1, &n, x.as_ptr().cast());
        let shape = |index| {
            let (mut rank, mut dims) = (9, [-1]);
            (egraft_session_output_shape(session, index, 1, &mut rank, dims.as_mut_ptr()), rank, dims[0])
        };
        let data = |index| {
            let (mut data, mut bytes) = (null(), 9);
            let status = egraft_session_output_data(session, index, &mut data, &mut bytes);
            let floats = if status == 0 { bytes / 4 } else { 0 };
            assert_eq!(data.is_null(), status != 0);
            (status, (0..floats).map(|i| *data.cast::<f32>().add(i)).collect::<Vec<_>>())
        };
        assert_eq!(set(4), 0);
        assert_eq!(egraft_session_bind(session), 0);
        assert_eq!((shape(0), shape(1)), ((run, 1, -1), (0, 1, 4)));
        assert_eq!(data(0), (run, vec![]));
        assert!(last_error().ends_with("and it has not run [egraft::runtime::not_run]"), "{}", last_error());
        assert_eq!(egraft_session_set_output(session, 0, z.as_mut_ptr().cast(), 16), run);
        assert!(last_error().ends_with("[egraft::runtime::dynamic_output]"), "{}", last_error());
        assert_eq!(egraft_session_set_output(session, 1, z.as_mut_ptr().cast(), 16), 0);
        assert_eq!(egraft_session_run(session), 0, "{}", last_error());
        assert_eq!((shape(0), data(0)), ((0, 1, 3), (0, vec![1.0, 3.0, 4.0])));
        assert_eq!((data(1).0, data(2).0), (run, Status::Argument as c_int));
        assert_eq!(set(2), 0);
        assert_eq!((shape(0), data(0)), ((run, 1, -1), (run, vec![])), "other sizes, not bound yet");
        assert_eq!(egraft_session_run(session), 0, "{}", last_error());
        assert_eq!((shape(0), data(0)), ((0, 1, 1), (0, vec![1.0])));
        assert_eq!(set(0), 0);
        assert_eq!(egraft_session_run(session), 0, "{}", last_error());
        assert_eq!((shape(0), data(0)), ((0, 1, 0), (0, vec![])));
        let status = egraft_session_output_data(session, 0, null_mut(), null_mut());
        assert_eq!(status, Status::Argument as c_int);
        egraft_session_free(session);
        egraft_model_close(model);
    }
    assert_eq!(z, [1.0, -2.0, 3.0, 4.0]);
}

#[test]
fn mistakes_are_statuses_with_messages() {
    let argument = Status::Argument as c_int;
    let run = Status::Run as c_int;
    // SAFETY: pointers are valid, or null to see that refused.
    unsafe {
        let model = c_model();
        let mut session = null_mut();
        assert_eq!(egraft_session_new(null_mut(), 0, 1, &mut session), argument);
        assert_eq!(egraft_session_new(model, 0, 1, null_mut()), argument);
        assert_eq!(egraft_session_new(model, 9, 1, &mut session), argument);
        assert_eq!(egraft_session_new(model, 0, -1, &mut session), argument);
        assert_eq!(last_error(), "`threads` is not in 0..=1024");
        assert_eq!(egraft_session_new(model, 0, 1, &mut session), 0);

        let (x, dims) = ([0.0_f32; 8], [2_i64, 4]);
        let data: *const c_void = x.as_ptr().cast();
        let set =
            |index, dtype, rank, dims| egraft_session_set_input(session, index, dtype, rank, dims, data);
        assert_eq!(egraft_session_run(session), run);
        assert_eq!(last_error(), "input `x` is not given [egraft::runtime::missing]");
        assert_eq!(set(1, F32, 2, dims.as_ptr()), argument);
        assert_eq!(set(0, 77, 2, dims.as_ptr()), argument);
        assert_eq!(last_error(), "77 is no element type");
        assert_eq!(set(0, F32, 2, null()), argument);
        assert_eq!(set(0, DType::I8 as c_int, 2, dims.as_ptr()), run);
        assert_eq!(last_error(), "input `x`: elements are i8, expected f32 [egraft::runtime::dtype]");
        assert_eq!(set(0, F32, usize::MAX, dims.as_ptr()), run);
        assert_eq!(set(0, F32, 2, dims.as_ptr()), 0);

        let (mut rank, mut shape) = (0, [0; 2]);
        let mut ask =
            |capacity| egraft_session_output_shape(session, 0, capacity, &mut rank, shape.as_mut_ptr());
        assert_eq!(ask(2), run, "not bound yet");
        assert_eq!(egraft_session_bind(session), 0);
        assert_eq!(ask(1), argument);
        assert_eq!(last_error(), "output 0 has rank 2, room for 1");
        assert_eq!(ask(2), 0);
        assert_eq!(egraft_session_run(session), run);
        assert_eq!(last_error(), "output `y` is not given [egraft::runtime::missing]");
        let mut y = [0.0_f32; 8];
        assert_eq!(egraft_session_set_output(session, 1, y.as_mut_ptr().cast(), 32), argument);
        assert_eq!(egraft_session_set_output(session, 0, y.as_mut_ptr().cast(), 31), 0);
        assert_eq!(egraft_session_run(session), run);
        assert_eq!(last_error(), "output `y`: 31 bytes given, 32 expected [egraft::runtime::bytes]");
        assert_eq!(egraft_session_set_output(session, 0, null_mut(), 32), 0);
        assert_eq!(egraft_session_run(session), run);
        assert_eq!(last_error(), "output `y`: the pointer is null [egraft::runtime::null]");
        let null_session = [egraft_session_run, egraft_session_bind, egraft_session_reset_state];
        assert!(null_session.iter().all(|function| function(null_mut()) == argument));
        egraft_session_free(session);
        egraft_model_close(model);
    }
}

#[test]
fn states_are_shared_read_and_written() {
    let argument = Status::Argument as c_int;
    let (x, mut y) = ([1.0_f32, 2.0], [0.0_f32; 2]);
    // SAFETY: pointers are null or valid, and the buffers have the sizes that are set.
    unsafe {
        let model = c_model();
        let sum =
            (0..egraft_entry_count(model)).find(|entry| egraft_state_count(model, *entry) == 1).unwrap();
        assert_eq!(CStr::from_ptr(egraft_state_name(model, sum, 0)), c"kept");
        assert_eq!((egraft_state_dtype(model, sum, 0), egraft_state_rank(model, sum, 0)), (F32, 1));
        assert!(egraft_state_name(model, sum, 1).is_null());
        let (mut first, mut second) = (null_mut(), null_mut());
        assert_eq!(egraft_session_new(model, sum, 1, &mut first), 0);
        assert_eq!(egraft_session_beside(null_mut(), sum, &mut second), argument);
        assert_eq!(egraft_session_beside(first, 99, &mut second), Status::Run as c_int);
        assert!(second.is_null());
        assert_eq!(egraft_session_beside(first, sum, &mut second), 0);
        egraft_model_close(model);
        let mut bytes = 1;
        assert_eq!(egraft_session_state_bytes(first, 0, &mut bytes), Status::Run as c_int, "it is not bound");
        for session in [first, second] {
            egraft_session_set_input(session, 0, F32, 1, [2_i64].as_ptr(), x.as_ptr().cast());
            egraft_session_set_output(session, 0, y.as_mut_ptr().cast(), size_of_val(&y));
            assert_eq!(egraft_session_run(session), 0, "{}", last_error());
        }
        assert_eq!(y, [2.0, 4.0], "the second goes on from the first");
        egraft_session_free(second);
        assert_eq!((egraft_session_state_bytes(first, 0, &mut bytes), bytes), (0, 8));
        let mut kept = [0.0_f32; 2];
        let data = kept.as_mut_ptr().cast();
        assert_eq!(egraft_session_read_state(first, 0, data, 7), Status::Run as c_int);
        assert_eq!(egraft_session_read_state(first, 0, null_mut(), 8), argument);
        assert_eq!((egraft_session_read_state(first, 0, data, 8), kept), (0, [2.0, 4.0]));
        let other = [10.0_f32, 20.0];
        assert_eq!(egraft_session_write_state(first, 0, null(), 8), argument);
        assert_eq!(egraft_session_write_state(first, 0, other.as_ptr().cast(), 8), 0);
        assert_eq!((egraft_session_run(first), y), (0, [11.0, 22.0]));
        egraft_session_free(first);
    }
}

#[test]
fn bad_containers_are_refused() {
    let plan = plan();
    let weights = bytes_of(&SCALE);
    let bytes = contents(&plan, CodePart::Embedded(RETURN), WeightsPart::Embedded(&weights)).to_bytes();
    let external = contents(&plan, CodePart::External(RETURN), WeightsPart::Embedded(&weights)).to_bytes();
    let open = |bytes: &'static [u8], code: Option<&'static [u8]>| {
        let mut model = null_mut();
        let (code, code_len) = code.map_or((null(), 0), |code| (code.as_ptr(), code.len()));
        // SAFETY: everything is part of the program; the code is never called.
        let status = unsafe {
            let status = egraft_model_open(bytes.as_ptr(), bytes.len(), code, code_len, null(), &mut model);
            egraft_model_close(model);
            status
        };
        (status, if status == 0 { String::new() } else { last_error() })
    };
    let load = Status::Load as c_int;
    assert_eq!(open(embedded(&external), Some(RETURN)), (0, String::new()));
    let (status, message) = open(embedded(&external), Some(&[0x90]));
    assert_eq!(status, load);
    assert!(message.starts_with("the model is corrupted: the code does not match"), "{message}");
    let (status, message) = open(embedded(&external), None);
    assert_eq!(status, load);
    assert_eq!(message, "the container has no code, and no code was passed with it [egraft::runtime::code]");
    assert_eq!(open(embedded(&bytes), Some(RETURN)).0, load);
    let shifted = &embedded(&[&[0; 8], bytes.as_slice()].concat())[8..];
    let message = "the container must be aligned to 64 bytes [egraft::runtime::misaligned]".to_owned();
    assert_eq!(open(shifted, None), (load, message));
    assert_eq!(open(&embedded(&bytes)[..500], None).0, load);
    // SAFETY: nulls are refused.
    unsafe {
        assert_eq!(
            egraft_model_open(null(), 9, null(), 0, null(), &mut null_mut()),
            Status::Argument as c_int
        );
        assert_eq!(
            egraft_model_open(bytes.as_ptr(), 9, null(), 0, null(), null_mut()),
            Status::Argument as c_int
        );
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn code_in_the_program_runs_in_place() {
    let (plan, code) = crate::tests::container::double();
    let bytes = contents(&plan, CodePart::External(&code), WeightsPart::Embedded(&[])).to_bytes();
    let bytes = embedded(&bytes);
    let pages = crate::code::Code::copy(&code).unwrap();
    let start = pages.kernel(0).unwrap() as *const u8;
    let (x, mut y, dims) = ([21.0_f32], [0.0_f32], [1_i64]);
    // SAFETY: pointers are valid, and the pages outlive the session.
    unsafe {
        let (mut model, mut session) = (null_mut(), null_mut());
        let status = egraft_model_open(bytes.as_ptr(), bytes.len(), start, code.len(), null(), &mut model);
        assert_eq!(status, 0, "{}", last_error());
        assert_eq!(egraft_session_new(model, 0, 1, &mut session), 0);
        egraft_session_set_input(session, 0, F32, 1, dims.as_ptr(), x.as_ptr().cast());
        egraft_session_set_output(session, 0, y.as_mut_ptr().cast(), 4);
        assert_eq!(egraft_session_run(session), 0, "{}", last_error());
        egraft_session_free(session);
        egraft_model_close(model);
    }
    assert_eq!(y, [42.0]);
}

#[test]
fn the_header_names_every_function() {
    let header = c_header("mlp");
    assert!(header.contains(&format!("#define MLP_ABI_VERSION {ABI_VERSION}\n")));
    assert!(header.contains("  MLP_BOOL = 13,\n  MLP_F8E4M3FN = 14,\n"));
    assert!(header.contains("  MLP_U2 = 23\n};"));
    assert!(header.contains("\nint mlp_model_open(const char* sidecar_dir, mlp_model** out);\n"));
    assert!(header.contains("\nuint32_t mlp_abi_version(void);\n"));
    assert!(!header.contains('$'));
    // Every function of the source is in the header, and nothing else is.
    let source = [include_str!("../capi.rs"), include_str!("../capi/session.rs")].concat();
    let mut names: Vec<&str> = source
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter_map(|word| word.strip_prefix("egraft_"))
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 32);
    for name in &names {
        assert!(header.contains(&format!(" mlp_{name}(")), "{name}");
    }
    assert_eq!(header.matches(");\n").count(), names.len());
}
