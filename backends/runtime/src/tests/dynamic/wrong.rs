//! Plans that would use memory they do not have, and sizes that make no sense: found before any harm.

use super::*;
use crate::RunError;

/// `y = [v]`, an integer, by steps of the test's choice; `v` is symbol `n` once they begin.
fn entry(steps: Vec<Step>) -> Entry {
    Entry {
        name: "wrong".into(),
        symbols: vec!["n".into()],
        inputs: vec![integers("v", vec![1.into()])],
        outputs: vec![integers("y", vec![symbol(0)]), integers("z", vec![1.into()])],
        arena_bytes: 128.into(),
        buffers: vec![
            buffer(0, mul(8.into(), symbol(0)), Space::Grow(0)),
            buffer(64, mul(8.into(), symbol(0)), Space::Arena),
            buffer(64, 8.into(), Space::Arena),
        ],
        steps: [vec![measure(0, Arg::Input(0), None)], steps].concat(),
        ..Entry::default()
    }
}

fn message(steps: Vec<Step>, v: i64) -> String {
    answer(&mut session(entry(steps)), v).map(|y| y.to_string()).unwrap_or_else(|error| error)
}

fn copy(from: Arg, to: Arg, bytes: i64, at: Option<i64>) -> Step {
    Step::Copy { from, to, bytes: bytes.into(), at: at.map(Size::from) }
}

const SUFFIX: &str = "this is a bug in the compiler that made the model";

fn room(what: &str, needed: i64, room: usize) -> String {
    format!("{what}: {needed} bytes are used, there is room for {room}; {SUFFIX}")
}

#[test]
fn memory_that_was_never_made() {
    let (grows, arena, y) = (Arg::Buffer(0), Arg::Buffer(2), Arg::Output(0));
    let digits = |arg| call(DIGITS, vec![arg], vec![0.into(), 0.into()]);
    assert_eq!(message(vec![digits(grows), Step::Reserve(y)], 1), room("buffer 0", 8, 0));
    assert_eq!(message(vec![digits(y)], 1), room("output `y`", 8, 0));
    assert_eq!(message(vec![], 1), room("output `y`", 8, 0), "nobody has written it");
    assert_eq!(message(vec![], 0), "y: i64[0]");
    assert_eq!(message(vec![copy(grows, arena, 8, None)], 1), room("buffer 0", 8, 0));
    assert_eq!(message(vec![measure(0, grows, None)], 1), room("buffer 0", 8, 0));
    let cond = Step::If { cond: grows, then: vec![], otherwise: vec![] };
    assert_eq!(message(vec![cond], 1), room("buffer 0", 1, 0));
}

#[test]
fn memory_that_is_too_small() {
    let (grows, late, arena, y, z) =
        (Arg::Buffer(0), Arg::Buffer(1), Arg::Buffer(2), Arg::Output(0), Arg::Output(1));
    let more = Step::Set(vec![(0, add(symbol(0), 1.into()))]);
    let digits = |arg| call(DIGITS, vec![arg], vec![0.into(), 0.into()]);
    assert_eq!(message(vec![Step::Reserve(grows), more.clone(), digits(grows)], 1), room("buffer 0", 16, 8));
    assert_eq!(message(vec![Step::Reserve(y), more], 1), room("output `y`", 16, 8));
    assert_eq!(message(vec![digits(late), Step::Reserve(y)], 8), "y: i64[8]");
    assert_eq!(message(vec![digits(late)], 9), room("buffer 1", 72, 64));
    assert_eq!(message(vec![copy(arena, z, 9, None)], 1), room("buffer 2", 9, 8));
    assert_eq!(message(vec![copy(arena, z, 8, Some(1))], 1), room("output `z`", 16, 8));
    assert_eq!(message(vec![copy(Arg::Input(0), late, 8, Some(8))], 1), room("buffer 1", 72, 64));
    assert_eq!(message(vec![copy(arena, y, 8, Some(i64::MAX))], 1), {
        "output `y` is too large: its bytes do not fit a 63-bit number"
    });
    assert_eq!(
        message(vec![copy(arena, y, -8, None)], 1),
        "step 1, a copy: the size `-8` is -8; it must not be negative"
    );
}

#[test]
fn memory_that_the_system_does_not_have() {
    let reserve = |arg| vec![Step::Reserve(arg)];
    let large = format!("{} bytes of memory for", 1_u64 << 62);
    assert_eq!(
        message(reserve(Arg::Buffer(0)), 1 << 59),
        format!("{large} a growing buffer are not available")
    );
    assert_eq!(message(reserve(Arg::Output(0)), 1 << 59), format!("{large} an output are not available"));
    assert_eq!(message(reserve(Arg::Buffer(0)), i64::MAX), "buffer 0: the size `8*n` is too large");
    assert_eq!(
        message(reserve(Arg::Output(0)), i64::MAX),
        "output `y` is too large: its bytes do not fit a 63-bit number"
    );
}

#[test]
fn a_session_survives_all_of_it() {
    let mut session = session(entry(vec![Step::Reserve(Arg::Output(0))]));
    for v in [2, 1 << 59, 3, -1, 1, i64::MAX, 0] {
        match answer(&mut session, v) {
            Ok(y) => assert_eq!(y.dims, [v]),
            Err(_) => {
                assert!(!(0..4).contains(&v), "{v}");
                assert_eq!(session.output_data(0), Err(RunError::NotRun { name: "y".into() }));
            }
        }
    }
}

#[test]
fn sizes_that_are_set_are_sizes() {
    let less = Step::Set(vec![(0, add(symbol(0), (-4).into()))]);
    assert_eq!(message(vec![less], 1), "`n`: the size `n - 4` is -3; it must not be negative");
    let square = Step::Set(vec![(0, mul(symbol(0), symbol(0)))]);
    assert_eq!(message(vec![square], 1 << 40), "`n`: the size `n*n` is too large");
    let equal = |right: Size| Step::Require {
        left: symbol(0),
        relation: Relation::Equal,
        right,
        what: "the sizes of node `/Add`".into(),
    };
    assert_eq!(
        message(vec![equal(3.into())], 2),
        "the sizes of node `/Add`: n = 2 must equal 3, where n = 2 (decided while the model runs)"
    );
    assert_eq!(message(vec![equal(2.into()), Step::Reserve(Arg::Output(0))], 2), "y: i64[2]");
}
