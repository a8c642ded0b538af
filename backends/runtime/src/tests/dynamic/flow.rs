//! Conditions and loops.

use super::{super::floats, *};

/// `y = 10 limit + (v > limit)` for `v`, an integer.
pub(crate) fn choice() -> Entry {
    let digit = |digit: i64| call(DIGITS, vec![Arg::Output(0)], vec![2.into(), digit.into()]);
    Entry {
        name: "choice".into(),
        inputs: vec![integers("v", vec![1.into()])],
        outputs: vec![integers("y", vec![1.into()])],
        arena_bytes: 1.into(),
        buffers: vec![buffer(0, 1.into(), Space::Arena)],
        steps: vec![
            call(ABOVE, vec![Arg::Input(0), Arg::Buffer(0)], vec![2.into()]),
            Step::If { cond: Arg::Buffer(0), then: vec![digit(1)], otherwise: vec![digit(0), digit(0)] },
        ],
        ..Entry::default()
    }
}

#[test]
fn one_of_two() {
    let mut session = session(choice());
    for (v, expected) in [(3, 21), (2, 20), (7, 21), (-1, 20)] {
        assert_eq!(integers_of(&answer(&mut session, v).unwrap().data), [expected]);
    }
}

/// Calls are numbered as they are written: those of the branch that is not taken count, and those of a loop come
/// again.
#[test]
fn records_name_the_calls_of_branches_and_loops() {
    let calls = |entry, v: i64| {
        let (mut session, mut profile) = (session(entry), Profile::with_room(16));
        let data = AlignedBytes::copy_of(&bytes_of(&[v]), "v").unwrap();
        let mut y = AlignedBytes::zeroed(8, "y").unwrap();
        session.bind(&[[1_i64]]).unwrap();
        let y = if session.entry().is_dynamic(0) { std::ptr::null_mut() } else { y.as_mut_ptr() };
        // SAFETY: both have the eight bytes of an integer, or are in the session.
        unsafe { session.run_profiled(&[data.as_ptr()], &[y], &mut profile) }.unwrap();
        profile.records().iter().map(|record| record.call).collect::<Vec<_>>()
    };
    assert_eq!((calls(choice(), 3), calls(choice(), 2)), (vec![0, 1], vec![0, 2, 3]));
    assert_eq!(calls(sequence(3), 6), [0, 1, 1, 1]);
}

/// The values of the Collatz sequence before it reaches 1, at most `count` of them, in a stack.
pub(crate) fn sequence(count: i64) -> Entry {
    let (i, t) = (0, 1);
    Entry {
        name: "collatz".into(),
        symbols: ["i", "t"].map(String::from).into(),
        inputs: vec![integers("v", vec![1.into()])],
        outputs: vec![integers("y", vec![symbol(t)])],
        arena_bytes: 65.into(),
        buffers: vec![buffer(0, 8.into(), Space::Arena), buffer(64, 1.into(), Space::Arena)],
        steps: vec![
            Step::Copy { from: Arg::Input(0), to: Arg::Buffer(0), bytes: 8.into(), at: None },
            call(ABOVE, vec![Arg::Buffer(0), Arg::Buffer(1)], vec![1.into()]),
            Step::Loop {
                index: i,
                count: count.into(),
                cond: Some(Arg::Buffer(1)),
                trips: Some(t),
                body: vec![
                    Step::Copy {
                        from: Arg::Buffer(0),
                        to: Arg::Output(0),
                        bytes: 8.into(),
                        at: Some(symbol(i)),
                    },
                    call(COLLATZ, vec![Arg::Buffer(0), Arg::Buffer(1)], vec![]),
                ],
            },
        ],
        ..Entry::default()
    }
}

#[test]
fn as_long_as_a_condition_holds_into_a_stack() {
    let mut long = session(sequence(1000));
    for (v, expected) in [
        (6, vec![6, 3, 10, 5, 16, 8, 4, 2]),
        (1, vec![]),
        (7, vec![7, 22, 11, 34, 17, 52, 26, 13, 40, 20, 10, 5, 16, 8, 4, 2]),
        (2, vec![2]),
    ] {
        let y = answer(&mut long, v).unwrap();
        assert_eq!((integers_of(&y.data), y.dims), (expected.clone(), vec![expected.len() as i64]));
    }
    assert_eq!(answer(&mut long, 27).unwrap().dims, [111]);
    let mut short = session(sequence(3));
    assert_eq!(integers_of(&answer(&mut short, 6).unwrap().data), [6, 3, 10]);
    assert_eq!(answer(&mut session(sequence(-5)), 6).unwrap().dims, [0]);
}

#[test]
fn a_loop_as_before_allocates_nothing() {
    let mut session = session(sequence(1000));
    session.bind(&[[1_i64]]).unwrap();
    let mut runs = |v: i64| {
        // SAFETY: an i64[1].
        unsafe { session.run(&[(&raw const v).cast()], &[std::ptr::null_mut()]) }.unwrap();
        session.output_shape(0).unwrap()[0]
    };
    let first = allocations::count();
    assert_eq!(runs(27), 111);
    assert_eq!(allocations::count() - first, 8, "the stack doubled: 1, 2, 4, …, 128 elements");
    let before = allocations::count();
    assert_eq!((runs(27), runs(6)), (111, 8));
    assert_eq!(allocations::count(), before);
}

/// Row `v` of Pascal's triangle: a value that is carried from one iteration to the next, one longer each time.
fn row() -> Entry {
    let (n, i, s) = (0, 1, 2);
    let (carried, next) = (Arg::Buffer(0), Arg::Buffer(1));
    let copy = |from, to, bytes| Step::Copy { from, to, bytes, at: None };
    Entry {
        name: "row".into(),
        symbols: ["n", "i", "s"].map(String::from).into(),
        inputs: vec![integers("v", vec![1.into()])],
        outputs: vec![port("y", vec![symbol(s)])],
        buffers: vec![
            buffer(0, mul(4.into(), symbol(s)), Space::Grow(0)),
            buffer(0, add(mul(4.into(), symbol(s)), 4.into()), Space::Grow(1)),
        ],
        steps: vec![
            measure(n, Arg::Input(0), None),
            Step::Set(vec![(s, 1.into())]),
            copy(Arg::Weight(0), carried, 4.into()),
            Step::Loop {
                index: i,
                count: symbol(n),
                cond: None,
                trips: None,
                body: vec![
                    Step::Reserve(next),
                    call(PASCAL, vec![carried, next], vec![symbol(s)]),
                    Step::Set(vec![(s, add(symbol(s), 1.into()))]),
                    copy(next, carried, mul(4.into(), symbol(s))),
                ],
            },
            copy(carried, Arg::Output(0), mul(4.into(), symbol(s))),
        ],
        ..Entry::default()
    }
}

/// A session of [`row`], whose first row is a weight.
fn row_session() -> Session {
    let one = super::super::bytes_of(&[1.0]);
    let mut plan = plan_of(row());
    plan.weights.push(crate::plan::WeightSlot {
        name: "one".into(),
        dtype: DType::F32,
        dims: vec![1],
        offset: 0,
        bytes: 4,
        hash: *blake3::hash(&one).as_bytes(),
    });
    let kernels: Vec<KernelFn> = vec![positives, pick, tile, collatz, above, pascal, digits];
    // SAFETY: `row` gives each kernel what it takes.
    let model =
        unsafe { Model::from_functions(plan, kernels, Weights::copy_of(&one).unwrap(), String::new()) };
    Session::new(model.unwrap(), 0, Pool::new(1)).unwrap()
}

#[test]
fn what_is_carried_may_change_its_size() {
    let mut session = row_session();
    for (v, expected) in [(0, vec![1.0]), (4, vec![1.0, 4.0, 6.0, 4.0, 1.0]), (1, vec![1.0, 1.0])] {
        let y = answer(&mut session, v).unwrap();
        assert_eq!((floats(&y.data), y.dims), (expected.clone(), vec![expected.len() as i64]));
    }
    let sum: f32 = floats(&answer(&mut session, 20).unwrap().data).iter().sum();
    assert_eq!(sum, 1_048_576.0);
}

/// `10 i + j` for `j <= i < v`, with how many there are so far in a symbol of its own.
pub(crate) fn triangle() -> Entry {
    let (n, i, j, t) = (0, 1, 2, 3);
    let element =
        Step::Copy { from: Arg::Buffer(0), to: Arg::Output(0), bytes: 8.into(), at: Some(symbol(t)) };
    let inner = Step::Loop {
        index: j,
        count: add(symbol(i), 1.into()),
        cond: None,
        trips: None,
        body: vec![
            call(DIGITS, vec![Arg::Buffer(0)], vec![symbol(i), symbol(j)]),
            element,
            Step::Set(vec![(t, add(symbol(t), 1.into()))]),
        ],
    };
    let (index, count, body) = (i, symbol(n), vec![inner]);
    Entry {
        name: "triangle".into(),
        symbols: ["n", "i", "j", "t"].map(String::from).into(),
        inputs: vec![integers("v", vec![1.into()])],
        outputs: vec![integers("y", vec![symbol(t)])],
        arena_bytes: 8.into(),
        buffers: vec![buffer(0, 8.into(), Space::Arena)],
        steps: vec![
            measure(n, Arg::Input(0), Some(9.into())),
            Step::Loop { index, count, cond: None, trips: None, body },
        ],
        ..Entry::default()
    }
}

#[test]
fn loops_in_loops() {
    let mut session = session(triangle());
    assert_eq!(integers_of(&answer(&mut session, 3).unwrap().data), [0, 10, 11, 20, 21, 22]);
    assert_eq!(integers_of(&answer(&mut session, 1).unwrap().data), [0], "symbols start at 0 again");
    assert_eq!(answer(&mut session, 9).unwrap().dims, [45]);
    assert_eq!(answer(&mut session, 10).unwrap_err(), "the size of node `/0` is 10; it must be at most 9");
    assert_eq!(answer(&mut session, 0).unwrap().dims, [0]);
}

/// For each `i < v`: `i`, `i` times, or 99 where `i` is 0; then `50 + i`. Branches of several steps, a loop in a
/// branch, and calls after both.
fn branches() -> Entry {
    let (n, i, j, t) = (0, 1, 2, 3);
    let digits = |a: i64, b: Size| call(DIGITS, vec![Arg::Buffer(0)], vec![a.into(), b]);
    let keep = || {
        vec![
            Step::Copy { from: Arg::Buffer(0), to: Arg::Output(0), bytes: 8.into(), at: Some(symbol(t)) },
            Step::Set(vec![(t, add(symbol(t), 1.into()))]),
        ]
    };
    let repeat = Step::Loop { index: j, count: symbol(i), cond: None, trips: None, body: keep() };
    let branch = Step::If {
        cond: Arg::Buffer(0),
        then: vec![repeat],
        otherwise: [vec![digits(9, 9.into())], keep()].concat(),
    };
    let body = [vec![digits(0, symbol(i)), branch, digits(5, symbol(i))], keep()].concat();
    Entry {
        name: "branches".into(),
        steps: vec![
            measure(n, Arg::Input(0), Some(255.into())),
            Step::Loop { index: i, count: symbol(n), cond: None, trips: None, body },
        ],
        ..triangle()
    }
}

#[test]
fn branches_in_loops_and_loops_in_branches() {
    let mut session = session(branches());
    assert_eq!(integers_of(&answer(&mut session, 3).unwrap().data), [99, 50, 1, 51, 2, 2, 52]);
    assert_eq!(integers_of(&answer(&mut session, 0).unwrap().data), []);
    assert_eq!(answer(&mut session, 20).unwrap().dims, [1 + 19 * 10 + 20]);
}

#[test]
fn all_values_of_a_set_are_the_old_ones() {
    // Fibonacci: (a, b) = (b, a + b).
    let (a, b, i) = (0, 1, 2);
    let entry = Entry {
        name: "fibonacci".into(),
        symbols: ["a", "b", "i", "n"].map(String::from).into(),
        inputs: vec![integers("v", vec![1.into()])],
        outputs: vec![integers("y", vec![1.into()])],
        steps: vec![
            Step::Set(vec![(b, 1.into())]),
            measure(3, Arg::Input(0), None),
            Step::Loop {
                index: i,
                count: symbol(3),
                cond: None,
                trips: None,
                body: vec![Step::Set(vec![(a, symbol(b)), (b, add(symbol(a), symbol(b)))])],
            },
            call(DIGITS, vec![Arg::Output(0)], vec![0.into(), symbol(a)]),
        ],
        ..Entry::default()
    };
    let mut session = session(entry);
    assert_eq!(integers_of(&answer(&mut session, 50).unwrap().data), [12_586_269_025]);
    assert_eq!(answer(&mut session, 1000).unwrap_err(), "`b`: the size `a + b` is too large");
    assert_eq!(integers_of(&answer(&mut session, 1).unwrap().data), [1]);
}
