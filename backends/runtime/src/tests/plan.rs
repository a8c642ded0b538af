//! Plans: bytes there and back, damaged bytes, contradictions.

use super::{Numbers, add, plan, symbol};
use crate::{
    Plan, PlanError, Size,
    plan::{Arg, Bind, DType, MAX_DEPTH},
};

#[test]
fn round_trip() {
    let mut plan = plan();
    plan.entries[1].arena_bytes = Size::Max(
        Box::new(Size::Min(Box::new(symbol(0)), Box::new(i64::MIN.into()))),
        Box::new(Size::FloorDiv(Box::new(i64::MAX.into()), Box::new(symbol(0)))),
    );
    assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    assert_eq!(Plan::decode(&Plan::default().encode()), Ok(Plan::default()));
}

#[test]
fn every_dtype_has_its_code() {
    for dtype in DType::ALL {
        assert_eq!(DType::from_code(dtype.code()), Some(*dtype));
    }
    assert_eq!(DType::from_code(0), None);
    assert_eq!(DType::from_code(14), None);
}

#[test]
fn truncated_anywhere_is_an_error() {
    let bytes = plan().encode();
    for len in 0..bytes.len() {
        let error = Plan::decode(&bytes[..len]).unwrap_err();
        assert!(matches!(error, PlanError::Truncated { .. }), "{len}: {error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Plan::decode(&longer), Err(PlanError::Trailing { count: 1 }));
}

#[test]
fn mutated_bytes_never_panic_and_what_is_read_is_valid() {
    let bytes = plan().encode();
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

#[test]
fn contradictions_are_named() {
    let message = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        plan.validate().unwrap_err().to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut Plan);
    let cases: &[(Change<'_>, &str)] = &[
        (&|plan| plan.entries[0].steps[1].kernel = 4, "entry `run`, step 1: kernel 4 does not exist"),
        (
            &|plan| plan.entries[0].steps[0].args[1] = Arg::Weight(1),
            "entry `run`, step 0: Weight(1) does not exist",
        ),
        (
            &|plan| plan.entries[0].steps[0].sizes[0] = symbol(1),
            "entry `run`, step 0: symbol 1 does not exist",
        ),
        (
            &|plan| plan.entries[0].inputs[0].dims[1] = symbol(7),
            "entry `run`, port `x`: symbol 7 does not exist",
        ),
        (&|plan| plan.entries[0].binds.clear(), "entry `run`, symbols: `n` is never bound"),
        (&|plan| plan.entries[0].binds[0].axis = 2, "entry `run`, bind 0: axis 2 does not exist"),
        (&|plan| plan.entries[0].binds[0].input = 1, "entry `run`, bind 0: input 1 does not exist"),
        (&|plan| plan.entries[0].binds[0].scale = 0, "entry `run`, bind 0: the scale is 0"),
        (
            &|plan| {
                let bind = Bind { ..plan.entries[0].binds[0] };
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
