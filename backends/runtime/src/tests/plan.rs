//! Plans: bytes there and back, damaged bytes, contradictions.

use super::{Numbers, add, dynamic, plan, symbol};
use crate::{
    Plan, PlanError, Size,
    plan::{Arg, Call, DType, Entry, MAX_DEPTH, MAX_NESTING, Relation, Space, Step},
};

/// A plan with every kind of step and of memory.
fn every_step() -> Plan {
    let mut plan = plan();
    plan.entries.extend(dynamic::entries());
    plan.kernels = dynamic::plan_of(Entry::default()).kernels;
    plan
}

#[test]
fn round_trip() {
    let mut plan = plan();
    plan.entries[1].arena_bytes = Size::Max(
        Box::new(Size::Min(Box::new(symbol(0)), Box::new(i64::MIN.into()))),
        Box::new(Size::FloorDiv(Box::new(i64::MAX.into()), Box::new(symbol(0)))),
    );
    assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    assert_eq!(Plan::decode(&every_step().encode()), Ok(every_step()));
    assert_eq!(Plan::decode(&Plan::default().encode()), Ok(Plan::default()));
}

#[test]
fn every_dtype_has_its_code() {
    for dtype in DType::ALL {
        assert_eq!(DType::from_code(dtype.code()), Some(*dtype));
    }
    assert_eq!(DType::from_code(0), None);
    assert_eq!(DType::from_code(24), None);
}

#[test]
fn truncated_anywhere_is_an_error() {
    let bytes = every_step().encode();
    for len in 0..bytes.len() {
        let error = Plan::decode(&bytes[..len]).unwrap_err();
        assert!(matches!(error, PlanError::Truncated { .. }), "{len}: {error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Plan::decode(&longer), Err(PlanError::Trailing { count: 1 }));
}

#[test]
fn mutated_bytes_never_panic_and_what_is_read_is_valid() {
    let bytes = every_step().encode();
    let mut numbers = Numbers::new();
    let mut refused = 0;
    for round in 0..20_000 {
        let mut mutant = bytes.clone();
        for _ in 0..=round % 4 {
            let at = numbers.below(mutant.len());
            mutant[at] = numbers.below(256) as u8;
        }
        match Plan::decode(&mutant) {
            Ok(plan) => {
                assert_eq!(plan.validate(), Ok(()));
                assert_eq!(plan.encode(), mutant, "every byte means something");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn deep_steps_are_refused_not_recursed_into() {
    let nested = |levels: u32| {
        let cond = Arg::Input(0);
        let mut plan = plan();
        plan.entries[0].steps =
            (0..levels).fold(Vec::new(), |steps, _| vec![Step::If { cond, then: vec![], otherwise: steps }]);
        plan
    };
    // The innermost list is one level more.
    let deepest = nested(MAX_NESTING - 1);
    let mut bytes = deepest.encode();
    assert_eq!(Plan::decode(&bytes), Ok(deepest));
    let deep = nested(MAX_NESTING);
    assert_eq!(deep.validate(), Err(PlanError::Nesting { limit: MAX_NESTING }));
    assert_eq!(Plan::decode(&deep.encode()), Err(PlanError::Nesting { limit: MAX_NESTING }));
    // A hundred thousand conditions in the first branch of each other.
    let one = [6, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let at = bytes.windows(6).position(|window| *window == one[..6]).unwrap();
    bytes.splice(at..at, one.repeat(100_000));
    assert_eq!(Plan::decode(&bytes), Err(PlanError::Nesting { limit: MAX_NESTING }));
}

#[test]
fn deep_sizes_are_refused_not_recursed_into() {
    let mut plan = plan();
    plan.entries[0].arena_bytes = (0..MAX_DEPTH).fold(symbol(0), |size, _| add(size, 1.into()));
    assert_eq!(plan.validate(), Err(PlanError::Depth { limit: MAX_DEPTH }));
    assert_eq!(Plan::decode(&plan.encode()), Err(PlanError::Depth { limit: MAX_DEPTH }));
    // A million additions in a row: the tag of `Add` again and again.
    let mut bytes = plan.encode();
    let at = bytes.windows(8).position(|window| window == [2; 8]).unwrap();
    bytes.splice(at..at, std::iter::repeat_n(2, 1_000_000));
    assert_eq!(Plan::decode(&bytes), Err(PlanError::Depth { limit: MAX_DEPTH }));
}

/// A call of the first entry.
fn call_of(plan: &mut Plan, step: usize) -> &mut Call {
    match &mut plan.entries[0].steps[step] {
        Step::Call(call) => call,
        other => panic!("{other:?} is no call"),
    }
}

#[test]
fn contradictions_are_named() {
    let message = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        plan.validate().unwrap_err().to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut Plan);
    let cases: &[(Change<'_>, &str)] = &[
        (&|plan| call_of(plan, 1).kernel = 4, "entry `run`, step 1: kernel 4 does not exist"),
        (&|plan| call_of(plan, 0).args[1] = Arg::Weight(1), "entry `run`, step 0: Weight(1) does not exist"),
        (&|plan| call_of(plan, 0).sizes[0] = symbol(1), "entry `run`, step 0: symbol 1 does not exist"),
        (
            &|plan| plan.entries[0].inputs[0].dims[1] = symbol(7),
            "entry `run`, port `x`: symbol 7 does not exist",
        ),
        (
            &|plan| plan.entries[0].binds.clear(),
            "entry `run`, port `x`: `n` is decided later than this must be known",
        ),
        (&|plan| plan.entries[0].binds[0].axis = 2, "entry `run`, bind 0: axis 2 does not exist"),
        (&|plan| plan.entries[0].binds[0].input = 1, "entry `run`, bind 0: input 1 does not exist"),
        (&|plan| plan.entries[0].binds[0].scale = 0, "entry `run`, bind 0: the scale is 0"),
        (
            &|plan| plan.entries[0].binds[0].offset = crate::Size::Symbol(0),
            "entry `run`, bind 0: the offset has a symbol that no bind before decides",
        ),
        (
            &|plan| {
                let more = plan.entries[0].outputs[0].clone();
                plan.entries[2].states.push(more);
            },
            "entry `sum`, states: 2 names for 1 buffers",
        ),
        (
            &|plan| {
                let bind = plan.entries[0].binds[0].clone();
                plan.entries[0].binds.push(bind);
            },
            "entry `run`, bind 1: symbol 0 is bound already",
        ),
        (&|plan| plan.entries[1].name = "run".into(), "the entries: the name `run` is used twice"),
        (
            &|plan| plan.entries[1].inputs[1].name = "a".into(),
            "entry `pair`, inputs: the name `a` is used twice",
        ),
        (&|plan| plan.kernels[0].name = "a\0".into(), "the kernels: a name contains NUL"),
        (&|plan| plan.weights[0].offset = 32, "weight `scale`: its offset 32 is not a multiple of 64"),
    ];
    for (change, expected) in cases {
        assert_eq!(message(change), *expected);
    }
    let mut plan = plan();
    (plan.weights[0].offset, plan.weights[0].bytes) = (u64::MAX - 63, 64);
    assert_eq!(plan.validate().unwrap_err().to_string(), "weight `scale`: its end overflows");
}

#[test]
fn steps_that_may_not_be_are_named() {
    let message = |entry: fn() -> Entry, change: &dyn Fn(&mut Entry)| {
        let mut entry = entry();
        change(&mut entry);
        dynamic::plan_of(entry).validate().unwrap_err().to_string()
    };
    let measure = |symbol| Step::Measure { symbol, source: Arg::Input(1), bound: None, what: String::new() };
    let copy = |from, to| Step::Copy { from, to, bytes: 8.into(), at: None };
    type Change<'a> = &'a dyn Fn(&mut Entry);
    // Symbols: `n` by inputs, `r` and `m` by `host`. Buffers: one of `host`, one in the arena.
    let cases: &[(Change<'_>, &str)] = &[
        (
            &|entry| entry.host.push(Step::Reserve(Arg::Output(0))),
            "host step 4: it is neither a call nor does it decide or require sizes",
        ),
        (&|entry| entry.host.push(measure(3)), "host step 4: symbol 3 does not exist"),
        (&|entry| entry.host.push(measure(0)), "host step 4: `n` is decided by inputs"),
        (&|entry| entry.steps.push(measure(0)), "step 2: `n` is decided by inputs"),
        (&|entry| entry.steps.push(measure(1)), "step 2: `r` is decided by `host`"),
        (
            &|entry| entry.host.push(Step::Set(vec![(1, 1.into()), (2, 1.into()), (1, 1.into())])),
            "host step 4: symbol 1 is decided twice",
        ),
        (
            &|entry| {
                entry.host.insert(
                    0,
                    Step::Measure { symbol: 1, source: Arg::Buffer(1), bound: None, what: String::new() },
                );
            },
            "host step 0: Buffer(1) is not there yet",
        ),
        (
            &|entry| {
                entry.host[0] = Step::Call(Call { kernel: 0, args: vec![Arg::Output(0)], sizes: vec![] });
            },
            "host step 0: Output(0) is not there yet",
        ),
        (&|entry| entry.host_bytes = symbol(1), "host memory: `r` is decided later than this must be known"),
        (
            &|entry| entry.buffers[0].bytes = symbol(2),
            "buffer 0: `m` is decided later than this must be known",
        ),
        (
            &|entry| {
                entry.host.truncate(1);
                entry.steps.push(Step::Set(vec![(1, 1.into()), (2, 1.into())]));
            },
            "arena: `m` is decided later than this must be known",
        ),
        (&|entry| entry.symbols.push("k".into()), "symbols: `k` is never decided"),
        (&|entry| entry.binds[0].symbol = 1, "bind 0: symbol 1 comes after those that inputs decide"),
        (&|entry| entry.buffers[1].space = Space::Grow(2), "buffer 1: growing memory 2 of 2"),
        (&|entry| entry.steps.push(Step::Reserve(Arg::Buffer(1))), "step 2: Buffer(1) does not grow"),
        (&|entry| entry.steps.push(Step::Reserve(Arg::Input(0))), "step 2: Input(0) does not grow"),
        (
            &|entry| entry.steps.push(copy(Arg::Buffer(1), Arg::Input(0))),
            "step 2: Input(0) is not written to",
        ),
        (
            &|entry| entry.steps.push(copy(Arg::Output(0), Arg::Output(0))),
            "step 2: Output(0) lies in the memory that grows for Output(0)",
        ),
        (
            &|entry| {
                entry.steps.push(Step::If {
                    cond: Arg::Input(0),
                    then: vec![copy(Arg::Input(0), Arg::Output(0))],
                    otherwise: vec![copy(Arg::Input(2), Arg::Output(0))],
                });
            },
            "step 4: Input(2) does not exist",
        ),
        (
            &|entry| {
                let (left, right) = (symbol(0), symbol(9));
                let relation = Relation::Equal;
                entry.steps.push(Step::Require { left, relation, right, what: String::new() });
            },
            "step 2: symbol 9 does not exist",
        ),
    ];
    for (change, expected) in cases {
        let expected = format!("entry `repeat`, {expected}");
        assert_eq!(message(dynamic::host::entry, change), expected);
    }
    let looped = message(dynamic::flow::triangle, &|entry| match &mut entry.steps[1] {
        Step::Loop { trips, .. } => *trips = Some(1),
        other => panic!("{other:?} is no loop"),
    });
    assert_eq!(looped, "entry `triangle`, step 1: symbol 1 is decided twice");
}
