//! Sizes that the values of small inputs decide before the arena is laid out.

use super::{super::floats, *};
use crate::RunError;

/// `y = x, repeats[0] times`, with the result in the arena first.
pub(crate) fn entry() -> Entry {
    let (n, r, m) = (|| symbol(0), || symbol(1), || symbol(2));
    let bytes = || mul(4.into(), m());
    Entry {
        name: "repeat".into(),
        symbols: ["n", "r", "m"].map(String::from).into(),
        inputs: vec![port("x", vec![n()]), integers("repeats", vec![1.into()])],
        outputs: vec![port("y", vec![m()])],
        binds: bind(),
        host: vec![
            call(TILE, vec![Arg::Input(1), Arg::Buffer(0)], vec![2.into(), 2.into()]),
            measure(1, Arg::Buffer(0), None),
            Step::Set(vec![(2, mul(n(), r()))]),
            Step::Require {
                left: m(),
                relation: Relation::AtMost,
                right: add(n(), 90.into()),
                what: "the room of node `/Tile`".into(),
            },
        ],
        host_bytes: 8.into(),
        arena_bytes: bytes(),
        buffers: vec![buffer(0, 8.into(), Space::Host), buffer(0, bytes(), Space::Arena)],
        steps: vec![
            call(TILE, vec![Arg::Input(0), Arg::Buffer(1)], vec![n(), m()]),
            Step::Copy { from: Arg::Buffer(1), to: Arg::Output(0), bytes: bytes(), at: None },
        ],
        ..Entry::default()
    }
}

fn run(session: &mut Session, x: &[f32], repeats: i64) -> Result<Vec<f32>, RunError> {
    let (data, repeats) = (super::super::bytes_of(x), bytes_of(&[repeats]));
    let outputs = session.run_tensors(&[
        TensorRef { dtype: DType::F32, dims: &[x.len() as i64], data: &data },
        TensorRef { dtype: DType::I64, dims: &[1], data: &repeats },
    ])?;
    Ok(floats(&outputs[0].data))
}

#[test]
fn the_arena_is_laid_out_for_them() {
    let mut session = session(entry());
    assert_eq!(run(&mut session, &[1.0, 2.0], 2), Ok(vec![1.0, 2.0, 1.0, 2.0]));
    assert_eq!(session.memory_bytes(), 8 + 16 + 16, "sizes, arena, output");
    assert_eq!(run(&mut session, &[3.0, 4.0], 3), Ok(vec![3.0, 4.0, 3.0, 4.0, 3.0, 4.0]));
    assert_eq!(session.memory_bytes(), 8 + 24 + 24);
    assert_eq!(run(&mut session, &[3.0, 4.0], 0), Ok(vec![]));
    assert_eq!(run(&mut session, &[5.0], 2), Ok(vec![5.0, 5.0]));
    let before = (session.memory_bytes(), allocations::count());
    assert_eq!((before.0, run(&mut session, &[6.0], 6)), (8 + 24 + 24, Ok(vec![6.0; 6])));
}

#[test]
fn a_new_layout_that_fits_allocates_nothing() {
    let mut session = session(entry());
    session.bind(&[&[2_i64][..], &[1]]).unwrap();
    let x = [1.0_f32, 2.0];
    let mut runs = |repeats: i64| {
        // SAFETY: an f32[2] and an i64[1].
        unsafe { session.run(&[x.as_ptr().cast(), (&raw const repeats).cast()], &[std::ptr::null_mut()]) }
            .unwrap();
        assert_eq!(session.output_shape(0), Ok(&[2 * repeats][..]));
    };
    runs(9);
    let before = allocations::count();
    [9, 1, 0, 7, 9].into_iter().for_each(runs);
    assert_eq!(allocations::count(), before);
}

#[test]
fn what_they_must_fulfil_is_explained() {
    let mut session = session(entry());
    let error = run(&mut session, &[1.0, 2.0], 50).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the room of node `/Tile`: m = 100 must be at most n + 90 = 92, where m = 100 (decided while the \
         model runs), n = 2 (axis 0 of `x`)"
    );
    assert_eq!(error.code(), "egraft::runtime::requirement");
    let error = run(&mut session, &[1.0, 2.0], -1).unwrap_err();
    assert_eq!(error.to_string(), "the size of node `/1` is -1; it must not be negative");
    assert_eq!(error.code(), "egraft::runtime::measured");
    assert_eq!(run(&mut session, &[1.0], 2), Ok(vec![1.0, 1.0]), "the session is as good as new");
}

#[test]
fn an_arena_that_cannot_be_had_is_laid_out_again_next_time() {
    let mut entry = entry();
    entry.host.pop();
    let mut session = session(entry);
    let error = run(&mut session, &[1.0], 1 << 60).unwrap_err();
    assert_eq!(error.to_string(), format!("{} bytes of memory for the arena are not available", 1_u64 << 62));
    let error = run(&mut session, &[1.0, 2.0], i64::MAX).unwrap_err();
    assert_eq!(error.to_string(), "`m`: the size `n*r` is too large");
    assert_eq!(run(&mut session, &[1.0], 3), Ok(vec![1.0; 3]));
}

/// State would be lost with the next value.
#[test]
fn state_cannot_be_of_such_a_size() {
    let mut entry = entry();
    entry.buffers[1].space = Space::State;
    let plan = Plan { entries: vec![entry], ..Plan::default() };
    let message = plan.validate().unwrap_err().to_string();
    assert!(message.ends_with("buffer 1: `m` is decided later than this must be known"), "{message}");
}

/// What is kept decides sizes: `y = x, as often as it has run before`.
#[test]
fn state_decides_sizes() {
    let mut entry = entry();
    entry.inputs.pop();
    entry.buffers.push(buffer(0, 8.into(), Space::State));
    entry.states.push(integers("runs", vec![]));
    entry.host[0] = call(TILE, vec![Arg::Buffer(2), Arg::Buffer(0)], vec![2.into(), 2.into()]);
    let mut session = session(entry);
    let x = super::super::bytes_of(&[1.0, 2.0]);
    let run = |session: &mut Session| {
        let x = TensorRef { dtype: DType::F32, dims: &[2], data: &x };
        session.run_tensors(&[x]).map(|outputs| floats(&outputs[0].data))
    };
    assert_eq!(run(&mut session), Ok(vec![]));
    session.write_state(0, &bytes_of(&[2_i64])).unwrap();
    assert_eq!(run(&mut session), Ok(vec![1.0, 2.0, 1.0, 2.0]));
    let mut runs = [0; 8];
    session.read_state(0, &mut runs).unwrap();
    assert_eq!(i64::from_ne_bytes(runs), 2);
    session.write_state(0, &bytes_of(&[-1_i64])).unwrap();
    assert_eq!(run(&mut session).unwrap_err().code(), "egraft::runtime::measured");
    let short = session.write_state(0, &[0; 4]).unwrap_err().to_string();
    assert_eq!(short, "state `runs`: 4 bytes given, 8 expected");
    assert_eq!(session.state_bytes(1).unwrap_err().to_string(), "1 states expected, 2 given");
}
