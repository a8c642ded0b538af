//! A size that a kernel finds: buffers and an output of that size, its bound, and the memory for it.

use super::{super::floats, *};
use crate::{AlignedBytes, RunError};

/// `y = the positive elements of x`, through a growing buffer; and `z = x`, of a size known before.
pub(crate) fn entry() -> Entry {
    let (n, k) = (|| symbol(0), || symbol(1));
    Entry {
        name: "positive".into(),
        symbols: vec!["n".into(), "k".into()],
        inputs: vec![port("x", vec![n()])],
        outputs: vec![port("y", vec![k()]), port("z", vec![n()])],
        binds: bind(),
        arena_bytes: add(64.into(), mul(8.into(), n())),
        buffers: vec![
            buffer(0, 8.into(), Space::Arena),
            buffer(64, mul(8.into(), n()), Space::Arena),
            buffer(0, mul(4.into(), k()), Space::Grow(2)),
        ],
        steps: vec![
            call(POSITIVES, vec![Arg::Input(0), Arg::Buffer(0), Arg::Buffer(1)], vec![n()]),
            measure(1, Arg::Buffer(0), Some(n())),
            Step::Reserve(Arg::Buffer(2)),
            call(PICK, vec![Arg::Input(0), Arg::Buffer(1), Arg::Buffer(2)], vec![k()]),
            Step::Copy { from: Arg::Buffer(2), to: Arg::Output(0), bytes: mul(4.into(), k()), at: None },
            Step::Copy { from: Arg::Input(0), to: Arg::Output(1), bytes: mul(4.into(), n()), at: None },
        ],
        ..Entry::default()
    }
}

fn run(session: &mut Session, x: &[f32]) -> Vec<TensorBuf> {
    let data = super::super::bytes_of(x);
    session.run_tensors(&[TensorRef { dtype: DType::F32, dims: &[x.len() as i64], data: &data }]).unwrap()
}

#[test]
fn it_sizes_buffers_and_outputs() {
    let mut session = session(entry());
    let cases: &[&[f32]] = &[&[1.0, -2.0, 3.0], &[-1.0, -2.0, -3.0], &[4.0, 5.0, 6.0], &[], &[7.0; 100]];
    for x in cases.iter().chain(cases) {
        let outputs = run(&mut session, x);
        let expected: Vec<f32> = x.iter().copied().filter(|x| *x > 0.0).collect();
        assert_eq!(floats(&outputs[0].data), expected);
        assert_eq!(outputs[0].to_string(), format!("y: f32[{}]", expected.len()));
        assert_eq!(outputs[0].data.len(), 4 * expected.len(), "what the session has grown to is not shown");
        assert_eq!(floats(&outputs[1].data), *x);
    }
}

#[test]
fn the_session_has_the_memory_and_allocates_only_where_it_is_too_small() {
    let mut session = session(entry());
    session.bind(&[&[4_i64]]).unwrap();
    let mut x = AlignedBytes::copy_of(&super::super::bytes_of(&[1.0, 2.0, 0.0, 4.0]), "x").unwrap();
    let mut z = AlignedBytes::zeroed(16, "z").unwrap();
    let mut run = |session: &mut Session, x: &AlignedBytes| {
        // SAFETY: both have the 16 bytes of an f32[4].
        unsafe { session.run(&[x.as_ptr()], &[std::ptr::null_mut(), z.as_mut_ptr()]) }
    };
    let not_run = Err(RunError::NotRun { name: "y".into() });
    assert_eq!((session.output_shape(0), session.output_shape(1)), (not_run.clone(), Ok(&[4][..])));
    assert_eq!(session.output_data(0), Err(RunError::NotRun { name: "y".into() }));
    run(&mut session, &x).unwrap();
    assert_eq!((session.output_shape(0), session.output_bytes(0)), (Ok(&[3][..]), Ok(12)));
    assert_eq!(floats(session.output_data(0).unwrap()), [1.0, 2.0, 4.0]);
    let (before, bytes) = (allocations::count(), session.memory_bytes());
    for _ in 0..3 {
        run(&mut session, &x).unwrap();
        session.bind(&[&[4_i64]]).unwrap();
    }
    x[..4].copy_from_slice(&(-1.0_f32).to_ne_bytes());
    run(&mut session, &x).unwrap();
    assert_eq!((allocations::count(), session.memory_bytes()), (before, bytes));
    assert_eq!(floats(session.output_data(0).unwrap()), [2.0, 4.0]);
    session.bind(&[&[5_i64]]).unwrap();
    assert_eq!(session.output_shape(0), not_run, "the outputs of other inputs are gone");
}

#[test]
fn memory_that_the_caller_has_and_memory_that_the_session_has() {
    let mut session = session(entry());
    session.bind(&[&[0_i64]]).unwrap();
    let mut y = AlignedBytes::zeroed(64, "y").unwrap();
    let null = std::ptr::null_mut();
    // SAFETY: nothing has elements, and what is not null is refused.
    let wrong = unsafe { session.run(&[null], &[y.as_mut_ptr(), null]) }.unwrap_err();
    assert_eq!(wrong.code(), "egraft::runtime::dynamic_output");
    // SAFETY: as above.
    unsafe { session.run(&[null], &[null, null]) }.unwrap();
    assert_eq!(session.output_data(0), Ok(&[][..]));
    assert_eq!(session.output_data(1), Err(RunError::FixedOutput { name: "z".into() }));
    assert!(matches!(session.output_data(2), Err(RunError::Count { .. })));
}
