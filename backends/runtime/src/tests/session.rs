//! Sessions: sizes, threads, state, memory, and what is said when a call is wrong.

use std::sync::Arc;

use super::{SCALE, allocations, bytes_of, floats, model, plan, session};
use crate::{
    AlignedBytes, Model, Pool, Profile, RunError, Session, Size, TensorRef, Weights,
    plan::{DType, Space},
};

fn tensor<'a>(dims: &'a [i64], data: &'a [u8]) -> TensorRef<'a> {
    TensorRef { dtype: DType::F32, dims, data }
}

/// The rows of a test input, and what `run` makes of them in its first run, plus `count`.
fn case(rows: usize, count: f32) -> (Vec<u8>, Vec<f32>) {
    let x: Vec<f32> = (0..rows * 4).map(|i| i as f32 - 3.0).collect();
    let y = x.iter().enumerate().map(|(i, x)| x * SCALE[i % 4] + count).collect();
    (bytes_of(&x), y)
}

#[test]
fn one_session_runs_several_batch_sizes() {
    let mut session = session("run", 2);
    for (run, rows) in [3_usize, 1, 100, 0, 7].into_iter().enumerate() {
        let (x, expected) = case(rows, run as f32);
        let outputs = session.run_tensors(&[tensor(&[rows as i64, 4], &x)]).unwrap();
        assert_eq!(outputs[0].dims, [rows as i64, 4]);
        assert_eq!(floats(&outputs[0].data), expected);
        assert_eq!(outputs[0].to_string(), format!("y: f32[{rows}, 4]"));
    }
    assert_eq!(session.memory_bytes(), 100 * 16 + 16, "the arena of the largest, and the state");
}

#[test]
fn two_threads_run_one_model_at_once() {
    let (model, pool) = (model(), Pool::new(2));
    std::thread::scope(|scope| {
        for rows in [5_usize, 9] {
            let (model, pool) = (Arc::clone(&model), Arc::clone(&pool));
            scope.spawn(move || {
                let mut session = Session::new(model, 0, pool).unwrap();
                for run in 0..200 {
                    let (x, expected) = case(rows, run as f32);
                    let outputs = session.run_tensors(&[tensor(&[rows as i64, 4], &x)]).unwrap();
                    assert_eq!(floats(&outputs[0].data), expected);
                }
            });
        }
    });
}

#[test]
fn a_bound_run_allocates_nothing() {
    let mut session = session("run", 1);
    let x = AlignedBytes::copy_of(&case(8, 0.0).0, "x").unwrap();
    let mut y = AlignedBytes::zeroed(128, "y").unwrap();
    session.bind(&[&[8_i64, 4]]).unwrap();
    let before = allocations::count();
    for _ in 0..3 {
        session.bind(&[&[8_i64, 4]]).unwrap();
        // SAFETY: both have the 128 bytes of an f32[8, 4].
        unsafe { session.run(&[x.as_ptr()], &[y.as_mut_ptr()]) }.unwrap();
    }
    assert_eq!(allocations::count(), before);
    assert_eq!(floats(&y), case(8, 2.0).1);
}

#[test]
fn a_profiled_run_gives_the_same_and_allocates_nothing() {
    let mut session = session("run", 1);
    let x = AlignedBytes::copy_of(&case(8, 0.0).0, "x").unwrap();
    let mut y = AlignedBytes::zeroed(128, "y").unwrap();
    session.bind(&[&[8_i64, 4]]).unwrap();
    for (run, room) in [2, 1, 0].into_iter().enumerate() {
        let mut profile = Profile::with_room(room);
        let before = allocations::count();
        // SAFETY: both have the 128 bytes of an f32[8, 4].
        unsafe { session.run_profiled(&[x.as_ptr()], &[y.as_mut_ptr()], &mut profile) }.unwrap();
        assert_eq!(allocations::count(), before);
        assert_eq!(floats(&y), case(8, run as f32).1, "as a run without records gives");
        assert_eq!(profile.calls(), 2);
        let records = profile.records();
        assert_eq!(records.iter().map(|record| record.call).collect::<Vec<_>>(), [0, 1][..room]);
        let moments: Vec<_> = records.iter().flat_map(|record| [record.start, record.end]).collect();
        assert!(moments.is_sorted() && moments.iter().all(|moment| *moment <= profile.total()));
    }
    assert_eq!((session.size("n"), session.size("m")), (Some(8), None));
    assert_eq!(session.entry().kernels(), [0, 1]);
}

#[test]
fn inputs_that_are_not_aligned_are_copied() {
    let (x, expected) = case(2, 0.0);
    let mut shifted = AlignedBytes::zeroed(33, "x").unwrap();
    shifted[1..].copy_from_slice(&x);
    let outputs = session("run", 1).run_tensors(&[tensor(&[2, 4], &shifted[1..])]).unwrap();
    assert_eq!(floats(&outputs[0].data), expected);
}

#[test]
fn state_is_kept_reset_and_never_lost_silently() {
    let mut session = session("sum", 1);
    let run = |session: &mut Session, x: &[f32]| {
        let data = bytes_of(x);
        session.run_tensors(&[tensor(&[x.len() as i64], &data)]).map(|outputs| floats(&outputs[0].data))
    };
    assert_eq!(run(&mut session, &[1.0, 2.0]), Ok(vec![1.0, 2.0]));
    assert_eq!(run(&mut session, &[1.0, 2.0]), Ok(vec![2.0, 4.0]));
    assert_eq!(run(&mut session, &[1.0]), Err(RunError::State));
    assert_eq!(run(&mut session, &[1.0, 2.0]), Ok(vec![3.0, 6.0]));
    session.reset_state();
    assert_eq!(run(&mut session, &[1.0]), Ok(vec![1.0]));
    session.reset_state();
    assert_eq!(run(&mut session, &[1.0]), Ok(vec![1.0]));
}

#[test]
fn sessions_beside_each_other_have_one_state() {
    let mut first = session("sum", 1);
    let mut second = first.beside(first.model().plan().entry("sum").unwrap()).unwrap();
    let run = |session: &mut Session, x: &[f32]| {
        let data = bytes_of(x);
        session.run_tensors(&[tensor(&[x.len() as i64], &data)]).map(|outputs| floats(&outputs[0].data))
    };
    assert_eq!(run(&mut first, &[1.0]), Ok(vec![1.0]));
    assert_eq!(run(&mut second, &[2.0]), Ok(vec![3.0]));
    assert_eq!(run(&mut first, &[3.0]), Ok(vec![6.0]));
    assert_eq!(run(&mut second, &[1.0, 1.0]), Err(RunError::State));
    second.reset_state();
    // The state is made anew for other inputs, and the first session finds it where it is now.
    assert_eq!(run(&mut second, &[1.0, 1.0]), Ok(vec![1.0, 1.0]));
    assert_eq!(run(&mut first, &[3.0]), Err(RunError::State));
    assert_eq!(run(&mut first, &[3.0, 4.0]), Ok(vec![4.0, 5.0]));
    drop(first);
    assert_eq!(run(&mut second, &[1.0, 1.0]), Ok(vec![5.0, 6.0]));
    assert_eq!(second.beside(99).err().map(|error| error.code()), Some("egraft::runtime::no_entry"));
}

#[test]
fn inputs_by_name() {
    let mut session = session("pair", 1);
    let (a, b) = (bytes_of(&[1.0, 2.0]), bytes_of(&[10.0, 20.0]));
    let (a, b) = (tensor(&[2], &a), tensor(&[2, 1], &b));
    let outputs = session.run_named(&[("b", b), ("a", a)]).unwrap();
    assert_eq!(floats(&outputs[0].data), [11.0, 22.0]);
    let mut message = |inputs: &[(&str, TensorRef<'_>)]| session.run_named(inputs).unwrap_err().to_string();
    assert_eq!(message(&[("a", a), ("c", b)]), "there is no input `c`; the inputs are `a`, `b`");
    assert_eq!(message(&[("a", a), ("a", a)]), "input `a` is given twice");
    assert_eq!(message(&[("a", a)]), "input `b` is not given");
}

#[test]
fn wrong_calls_are_explained() {
    let mut session = session("run", 1);
    let x = bytes_of(&[0.0; 8]);
    let ints = TensorRef { dtype: DType::I32, dims: &[2, 4], data: &x };
    let mut message = |inputs: &[TensorRef<'_>]| session.run_tensors(inputs).unwrap_err().to_string();
    assert_eq!(message(&[]), "1 inputs expected, 0 given");
    assert_eq!(message(&[ints]), "input `x`: elements are i32, expected f32");
    assert_eq!(message(&[tensor(&[8], &x)]), "input `x`: rank 1, expected 2");
    assert_eq!(message(&[tensor(&[1, 8], &x)]), "input `x`: axis 1 is 8, expected 4");
    assert_eq!(message(&[tensor(&[3, 4], &x)]), "input `x`: 32 bytes given, 48 expected");
    let huge = message(&[tensor(&[1 << 61, 4], &x)]);
    assert_eq!(huge, "input `x` is too large: its bytes do not fit a 63-bit number");
    let large = message(&[tensor(&[1 << 55, 4], &x)]);
    assert_eq!(large, format!("{} bytes of memory for the arena are not available", 1_u64 << 59));
    let error = Session::new(model(), 3, Pool::new(1)).err().unwrap();
    assert_eq!(error.to_string(), "the model has 3 entries, there is no entry 3");
}

#[test]
fn wrong_pointers_are_refused() {
    let mut session = session("run", 1);
    let mut bytes = AlignedBytes::zeroed(64, "both").unwrap();
    let (x, y) = (bytes.as_mut_ptr(), bytes.as_mut_ptr().wrapping_add(32));
    let mut run = |inputs: &[*const u8], outputs: &[*mut u8], dims: Option<[i64; 2]>| {
        if let Some(dims) = dims {
            session.bind(&[dims]).unwrap();
        }
        // SAFETY: pointers that are not refused lead to the 16 bytes of an f32[1, 4].
        unsafe { session.run(inputs, outputs) }.map_err(|error| error.to_string())
    };
    let failed = |text: &str| Err(text.to_owned());
    let unbound = failed("the session is not bound: the sizes of its inputs are not known yet");
    assert_eq!(run(&[x], &[y], None), unbound);
    assert_eq!(run(&[x], &[], Some([1, 4])), failed("1 outputs expected, 0 given"));
    let null = std::ptr::null_mut();
    assert_eq!(run(&[null], &[y], Some([1, 4])), failed("input `x`: the pointer is null"));
    assert_eq!(run(&[x], &[null], Some([1, 4])), failed("output `y`: the pointer is null"));
    let odd = failed("output `y`: the pointer is not aligned to 4 bytes");
    assert_eq!(run(&[x], &[y.wrapping_add(2)], Some([1, 4])), odd);
    assert_eq!(run(&[x], &[y], Some([1, 4])), Ok(()));
    assert_eq!(run(&[null], &[null], Some([0, 4])), Ok(()), "nothing to point to");
}

#[test]
fn a_failed_bind_leaves_the_session_unbound() {
    let mut session = session("run", 1);
    session.bind(&[[2_i64, 4]]).unwrap();
    assert_eq!(session.output_shape(0), Ok(&[2, 4][..]));
    assert_eq!(session.output_bytes(0), Ok(32));
    assert!(matches!(session.output_shape(1), Err(RunError::Count { .. })));
    session.bind(&[[2_i64, 5]]).unwrap_err();
    assert_eq!(session.output_shape(0), Err(RunError::Unbound));
    session.bind(&[[2_i64, 4]]).unwrap();
    assert!(session.is_bound());
}

#[test]
fn buffers_outside_the_arena_are_found_before_a_run() {
    let bound = |change: &dyn Fn(&mut crate::Plan)| {
        let mut plan = plan();
        change(&mut plan);
        let weights = Weights::copy_of(&bytes_of(&SCALE)).unwrap();
        let kernels = vec![super::scale as crate::KernelFn, super::count, super::add_rows, super::copy];
        // SAFETY: it is never run.
        let model = unsafe { Model::from_functions(plan, kernels, weights, String::new()) }.unwrap();
        Session::new(model, 0, Pool::new(1)).unwrap().bind(&[[4_i64, 4]]).map_err(|error| error.to_string())
    };
    let suffix = "this is a bug in the compiler that made the model";
    let small = bound(&|plan| plan.entries[0].arena_bytes = 63.into());
    assert_eq!(small, Err(format!("buffer 0: it ends at byte 64 of an arena of 63; {suffix}")));
    let odd = bound(&|plan| plan.entries[0].buffers[1].offset = 8.into());
    assert_eq!(odd, Err(format!("buffer 1: its offset 8 is not a multiple of 64; {suffix}")));
    let below = bound(&|plan| plan.entries[0].buffers[0].offset = Size::Const(-64));
    assert_eq!(below, Err("buffer 0: the size `-64` is -64; it must not be negative".to_owned()));
    let end = bound(&|plan| plan.entries[0].buffers[0].offset = Size::Const(i64::MAX - 63));
    assert_eq!(end, Err("buffer 0 is too large: its bytes do not fit a 63-bit number".to_owned()));
    let state = bound(&|plan| {
        plan.entries[0].buffers[0].space = Space::State;
    });
    assert_eq!(state, Ok(()));
}

#[test]
fn weights_and_kernels_must_be_there() {
    // SAFETY: never run.
    let short =
        unsafe { Model::from_functions(plan(), vec![super::copy; 4], Weights::none(), String::new()) };
    let message = short.err().unwrap().to_string();
    assert_eq!(message, "the model's plan is broken: weight `scale`: it ends at byte 16 of 0");
    let few = unsafe { Model::from_functions(plan(), vec![super::copy; 3], Weights::none(), String::new()) };
    let message = few.err().unwrap().to_string();
    assert_eq!(message, "the model's plan is broken: the kernels: 3 functions for 4 kernels");
    assert_eq!(model().verify_weights(), Ok(()));
}
