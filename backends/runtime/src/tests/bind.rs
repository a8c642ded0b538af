//! Binding: symbols from sizes, and what is said when sizes are wrong.

use super::{add, mul, port, session, symbol};
use crate::{
    RunError, Size, bind,
    plan::{Bind, Entry},
};

/// `x: [2 n + 1, m]`, `y: [m + n, 3]`, with `n` from `x` and `m` from `x`.
fn entry() -> Entry {
    let (n, m) = (|| symbol(0), || symbol(1));
    Entry {
        name: "main".into(),
        symbols: vec!["n".into(), "m".into()],
        inputs: vec![
            port("x", vec![add(mul(2.into(), n()), 1.into()), m()]),
            port("y", vec![add(m(), n()), 3.into()]),
        ],
        binds: vec![
            Bind { symbol: 0, input: 0, axis: 0, scale: 2, offset: 1.into() },
            Bind { symbol: 1, input: 0, axis: 1, scale: 1, offset: 0.into() },
        ],
        ..Entry::default()
    }
}

fn message(dims: &[&[i64]]) -> String {
    bind::symbols(&entry(), dims).unwrap_err().to_string()
}

#[test]
fn symbols_are_solved_for() {
    assert_eq!(bind::symbols(&entry(), &[&[7, 5], &[8, 3]]), Ok(vec![3, 5]));
    assert_eq!(bind::symbols(&entry(), &[&[1, 0], &[0, 3]]), Ok(vec![0, 0]));
}

#[test]
fn wrong_sizes_are_explained() {
    let cases: &[(&[&[i64]], &str)] = &[
        (&[&[7, 5]], "2 inputs expected, 1 given"),
        (&[&[7], &[8, 3]], "input `x`: rank 1, expected 2"),
        (&[&[6, 5], &[8, 3]], "input `x`: axis 0 is 6, expected 2*n + 1 for some n >= 0"),
        (&[&[0, 5], &[8, 3]], "input `x`: axis 0 is 0, expected 2*n + 1 for some n >= 0"),
        (&[&[7, -1], &[8, 3]], "input `x`: axis 1 is -1, expected a size >= 0"),
        (&[&[7, 5], &[8, 4]], "input `y`: axis 1 is 4, expected 3"),
        (
            &[&[7, 5], &[9, 3]],
            "input `y`: axis 0 is 9, expected m + n = 8, where m = 5 (axis 1 of `x`), n = 3 (axis 0 of `x`)",
        ),
        (&[&[i64::MAX, i64::MAX], &[9, 3]], "input `y`, axis 0: the size `m + n` is too large"),
    ];
    for (dims, expected) in cases {
        assert_eq!(message(dims), *expected);
    }
}

#[test]
fn one_symbol_on_two_axes() {
    let error = session("pair", 1).bind(&[&[4_i64][..], &[5, 1]]).unwrap_err();
    assert_eq!(error.to_string(), "input `b`: axis 0 is 5, expected n = 4 (axis 0 of `a`)");
    assert_eq!(error.code(), "egraft::runtime::dim");
}

#[test]
fn negative_and_huge_outputs() {
    let mut entry = entry();
    entry.outputs = vec![port("z", vec![add(symbol(0), (-4).into())])];
    let error = bind::dims(&entry, &entry.outputs[0], &[3, 0], &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "`z`, axis 0: the size `n - 4` is -1; it must not be negative");
    let bytes = |dims: &[i64]| bind::tensor_bytes(crate::DType::F32, dims, || "output `z`".into());
    assert_eq!(bytes(&[]), Ok(4));
    assert_eq!(bytes(&[1 << 40, 1 << 40, 0]), Ok(0));
    assert_eq!(bytes(&[1 << 40, 1 << 20, 8]), Err(RunError::TooLarge { what: "output `z`".into() }));
}

#[test]
fn a_size_that_is_a_number_needs_no_origin() {
    let mut entry = entry();
    entry.inputs[1].dims[1] = Size::Min(Box::new(3.into()), Box::new(4.into()));
    let error = bind::symbols(&entry, &[&[7, 5], &[8, 4]]).unwrap_err();
    assert_eq!(error.to_string(), "input `y`: axis 1 is 4, expected min(3, 4) = 3");
}
