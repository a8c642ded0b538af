//! Sizes: values, overflow, text.

use super::{add, div, mul, symbol};
use crate::{Size, SizeError, plan::MAX_DEPTH};

fn eval(size: &Size, values: &[i64]) -> Result<i64, SizeError> {
    size.eval(values, &["n".into(), "m".into()])
}

#[test]
fn values() {
    let (n, m) = (|| symbol(0), || symbol(1));
    let min = |a, b| Size::Min(Box::new(a), Box::new(b));
    let max = |a, b| Size::Max(Box::new(a), Box::new(b));
    let cases = [
        (add(mul(2.into(), n()), m()), 17),
        (div(n(), 2.into()), 3),
        (div(mul(n(), (-1).into()), 2.into()), -4),
        (div(mul(n(), (-1).into()), (-2).into()), 3),
        (div(n(), (-2).into()), -4),
        (div((-8).into(), 4.into()), -2),
        (min(n(), m()), 3),
        (max(n(), m()), 7),
    ];
    for (size, expected) in cases {
        assert_eq!(eval(&size, &[7, 3]), Ok(expected), "{size:?}");
    }
}

#[test]
fn text() {
    let n = || symbol(0);
    let names = ["n".to_owned()];
    let cases = [
        (add(mul(2.into(), n()), 1.into()), "2*n + 1"),
        (mul(add(n(), 1.into()), 4.into()), "(n + 1)*4"),
        (add(n(), (-1).into()), "n - 1"),
        (add(8.into(), mul((-2).into(), n())), "8 - 2*n"),
        (add(8.into(), mul((-1).into(), n())), "8 - n"),
        (add(8.into(), mul((-1).into(), add(n(), 1.into()))), "8 - 1*(n + 1)"),
        (div(add(n(), 3.into()), mul(2.into(), n())), "floor((n + 3) / (2*n))"),
        (Size::Min(Box::new(n()), Box::new(8.into())), "min(n, 8)"),
        (Size::Max(Box::new(add(n(), 1.into())), Box::new(symbol(5))), "max(n + 1, ?5)"),
    ];
    for (size, expected) in cases {
        assert_eq!(size.print(&names), expected);
    }
}

#[test]
fn what_has_no_value_is_named() {
    let n = || symbol(0);
    let big = || mul(n(), n());
    let message = |size: Size, n: i64| eval(&size, &[n, 0]).unwrap_err().to_string();
    assert_eq!(message(big(), 1 << 40), "the size `n*n` is too large");
    assert_eq!(message(mul(big(), big()), i64::MAX), "the size `n*n*n*n` is too large");
    assert_eq!(message(div(n(), symbol(1)), 4), "the size `floor(n / m)` divides by zero");
    assert_eq!(message(symbol(2), 4), "a size uses symbol number 2, which does not exist");
    // Only the result must be small.
    assert_eq!(eval(&div(big(), n()), &[i64::MAX, 0]), Ok(i64::MAX));
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: u32| (1..levels).fold(symbol(0), |size, _| add(size, 1.into()));
    assert_eq!(nested(3).depth(), Some(3));
    assert_eq!(nested(MAX_DEPTH).depth(), Some(MAX_DEPTH));
    assert_eq!(nested(MAX_DEPTH + 1).depth(), None);
}
