//! Weights in pieces, in every layout, are what their elements one by one are.

use ir::pieces::PIECE;
use ir::program::{Layout, PackedWeight};
use ir::weight::{Bytes, Hash};
use ir::{DType, Scalar, Tensor, Weight};

fn tensor(dtype: DType, shape: &[usize]) -> Tensor {
    let mut next = 0;
    Tensor::from_fn(dtype, shape, |_| {
        next += 1;
        Scalar::from_i64(dtype, next % 251)
    })
}

/// `tensor` with its axes permuted.
fn permuted(tensor: &Tensor, perm: &[usize]) -> Tensor {
    let shape: Vec<usize> = perm.iter().map(|&axis| tensor.shape()[axis]).collect();
    Tensor::from_fn(tensor.dtype(), &shape, |index| {
        let mut at = vec![0; perm.len()];
        perm.iter().zip(index).for_each(|(&axis, &i)| at[axis] = i);
        tensor.at(&at)
    })
}

/// The packed weight, whose pieces are no larger than they may be and have its hash.
fn packed(weight: &Weight, layout: Layout) -> Tensor {
    let packed = PackedWeight { name: "w".into(), weight: weight.clone(), layout };
    let mut pieces = Vec::new();
    let done: Result<(), ()> = packed.for_each_piece(&mut |piece| {
        assert!(piece.len() <= PIECE);
        pieces.extend_from_slice(piece);
        Ok(())
    });
    assert_eq!((done, pieces.len()), (Ok(()), packed.size()));
    assert_eq!(packed.hash(), Hash::of(&pieces));
    assert_eq!(packed.pack().bytes(), pieces);
    packed.pack()
}

#[test]
fn permuted_weights_are_their_elements_in_order() {
    for dtype in [DType::U8, DType::F16, DType::F32, DType::I64] {
        let source = tensor(dtype, &[5, 3, 4]);
        let plain = Weight::from_tensor("w", &source);
        for perm in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]] {
            let expected = permuted(&source, &perm);
            let seen = plain.permuted("v", &perm);
            assert_eq!(seen, Weight::from_tensor("other", &expected), "{perm:?}");
            assert_eq!(seen.tensor(), expected);
            assert_eq!(seen.values().collect::<Vec<_>>(), expected.values().collect::<Vec<_>>());
            assert_eq!(packed(&plain, Layout::Permuted(perm.to_vec())), expected);
            // Twice, once by the weight and once by its layout.
            let again = permuted(&expected, &[2, 0, 1]);
            assert_eq!(packed(&seen, Layout::Permuted(vec![2, 0, 1])), again);
            assert_eq!(seen.permuted("u", &[2, 0, 1]).tensor(), again);
        }
    }
}

#[test]
fn panels_are_the_columns_of_a_matrix() {
    let source = tensor(DType::F32, &[7, 70]);
    let turned = Weight::from_tensor("w", &permuted(&source, &[1, 0]));
    let weight = Weight::from_tensor("w", &source);
    let expected = Tensor::from_fn(DType::F32, &[3, 7, 32], |at| {
        let column = at[0] * 32 + at[2];
        if column < 70 { source.at(&[at[1], column]) } else { Scalar::f32(0.0) }
    });
    let rows = Layout::Panels { outer: vec![], depth: 7, cols: 70, row: 70, col: 1, offset: 0 };
    let columns = Layout::Panels { outer: vec![], depth: 7, cols: 70, row: 1, col: 7, offset: 0 };
    assert_eq!(packed(&weight, rows.clone()), expected);
    assert_eq!(packed(&turned, columns.clone()), expected);
    assert_eq!(packed(&turned.permuted("v", &[1, 0]), rows), expected);
    assert_eq!(packed(&weight.permuted("v", &[1, 0]), columns), expected);
    // A vector as every column.
    let same = Layout::Panels { outer: vec![], depth: 7, cols: 2, row: 70, col: 0, offset: 5 };
    let found = packed(&weight, same);
    assert_eq!(found.at(&[0, 3, 1]), source.at(&[3, 5]));
    assert_eq!(found.at(&[0, 3, 2]), Scalar::f32(0.0));
}

#[test]
fn quads_are_bytes_by_fours_with_the_sums_of_columns() {
    for dtype in [DType::I8, DType::U8] {
        let source = tensor(dtype, &[7, 35]);
        let layout = Layout::Quads { depth: 7, cols: 35, row: 35, col: 1, offset: 0 };
        let weight = Weight::from_tensor("w", &source);
        let turned = Weight::from_tensor("w", &permuted(&source, &[1, 0]));
        let of_turned = Layout::Quads { depth: 7, cols: 35, row: 1, col: 7, offset: 0 };
        let found = packed(&weight, layout.clone());
        assert_eq!(packed(&turned, of_turned), found);
        let less = if dtype == DType::U8 { 128 } else { 0 };
        let byte = |k: usize, j: usize| {
            if k < 7 && j < 35 { source.at(&[k, j]).to_i64() - less } else { 0 }
        };
        assert_eq!((found.dtype(), found.shape()), (DType::I8, &[2, 3, 32, 4][..]));
        for j in 0..64 {
            for k in 0..8 {
                let at = [j / 32, k / 4, j % 32, k % 4];
                assert_eq!(found.at(&at).to_i64(), byte(k, j), "{dtype} {at:?}");
            }
            let sum = (0..4).map(|at| found.at(&[j / 32, 2, j % 32, at]).to_i64() as u8);
            let sum = i32::from_le_bytes(sum.collect::<Vec<u8>>().try_into().expect("four bytes"));
            assert_eq!(i64::from(sum), (0..7).map(|k| byte(k, j)).sum::<i64>(), "{dtype} column {j}");
        }
    }
}

#[test]
fn large_weights_come_in_several_pieces() {
    let source = tensor(DType::F32, &[700, 1001]);
    let weight = Weight::from_tensor("w", &source);
    assert_eq!(packed(&weight, Layout::Plain), source);
    let expected = permuted(&source, &[1, 0]);
    assert_eq!(packed(&weight, Layout::Permuted(vec![1, 0])), expected);
    assert_eq!(packed(&weight.permuted("v", &[1, 0]), Layout::Plain), expected);
}

#[test]
fn other_shapes_share_the_elements() {
    let weight = Weight::from_tensor("w", &tensor(DType::I32, &[4, 6]));
    let flat = weight.reshaped("v", &[24]).expect("as many");
    assert_eq!((flat.hash(), flat.shape()), (weight.hash(), &[24][..]));
    assert_eq!(weight.reshaped("v", &[25]), None);
    assert_eq!(weight.permuted("v", &[1, 0]).reshaped("u", &[24]), None);
    assert!(weight.permuted("v", &[0, 1]).reshaped("u", &[24]).is_some());
    let empty = Weight::from_tensor("e", &tensor(DType::F32, &[0, 3])).permuted("t", &[1, 0]);
    assert_eq!((empty.shape(), empty.tensor().elements()), (&[3, 0][..], 0));
}

/// `parts` one after the other along a new axis.
fn stacked(parts: &[Tensor]) -> Tensor {
    let shape = [&[parts.len()], parts[0].shape()].concat();
    Tensor::from_fn(parts[0].dtype(), &shape, |at| parts[at[0]].at(&at[1..]))
}

#[test]
fn a_stack_is_its_parts_in_order() {
    for dtype in [DType::U8, DType::F32, DType::I64] {
        let whole = tensor(dtype, &[4, 35, 3]);
        let part = |e: usize| Tensor::from_fn(dtype, &[35, 3], |at| whole.at(&[e, at[0], at[1]]));
        let parts: Vec<Tensor> = (0..4).map(part).collect();
        let plain: Vec<Weight> = parts.iter().map(|part| Weight::from_tensor("w", part)).collect();
        let stack = Weight::stack("all", &plain).expect("they have one type");
        assert_eq!(stack, Weight::from_tensor("other", &whole));
        assert_eq!((stack.tensor(), stack.size()), (whole.clone(), whole.bytes().len()));
        assert_eq!(stack.values().collect::<Vec<_>>(), whole.values().collect::<Vec<_>>());
        assert_eq!(stack.stored().collect::<Vec<_>>().concat(), whole.bytes());
        // Its axes in another order, by the weight and by its layout.
        for perm in [[1, 0, 2], [2, 1, 0], [0, 2, 1], [1, 2, 0]] {
            let expected = permuted(&whole, &perm);
            assert_eq!(stack.permuted("v", &perm).tensor(), expected, "{perm:?}");
            assert_eq!(packed(&stack, Layout::Permuted(perm.to_vec())), expected, "{perm:?}");
        }
        assert_eq!(
            stack.reshaped("flat", &[140, 3]).expect("it is row-major").tensor().bytes(),
            whole.bytes()
        );
        let columns = Layout::Panels { outer: vec![], depth: 35, cols: 3, row: 3, col: 1, offset: 2 * 105 };
        let one = Layout::Panels { outer: vec![], depth: 35, cols: 3, row: 3, col: 1, offset: 0 };
        assert_eq!(packed(&stack, columns).bytes(), packed(&plain[2], one).bytes());
        // Parts that are seen in another order than they are stored, and a stack of stacks.
        let turned: Vec<Weight> = plain.iter().map(|part| part.permuted("t", &[1, 0])).collect();
        let expected = permuted(&whole, &[0, 2, 1]);
        assert_eq!(Weight::stack("t", &turned).expect("they have one type").tensor(), expected);
        let twice = Weight::stack("s", &[stack.clone(), stack]).expect("they have one type");
        assert_eq!(twice.tensor(), stacked(&[whole.clone(), whole]));
    }
}

#[test]
fn weights_are_put_together_along_any_axis() {
    let whole = tensor(DType::F32, &[3, 9, 4]);
    let plain = Weight::from_tensor("w", &whole);
    for axis in 0..3 {
        let size = whole.shape()[axis];
        // Parts of different sizes, the last as it is seen in another order than it is stored.
        let part = |range: std::ops::Range<usize>| {
            let mut shape = whole.shape().to_vec();
            shape[axis] = range.len();
            Tensor::from_fn(DType::F32, &shape, |at| {
                let mut at = at.to_vec();
                at[axis] += range.start;
                whole.at(&at)
            })
        };
        let last = Weight::from_tensor("c", &permuted(&part(2..size), &[2, 0, 1])).permuted("c", &[1, 2, 0]);
        let parts =
            [Weight::from_tensor("a", &part(0..1)), Weight::from_tensor("b", &part(1..2)), last.clone()];
        let parts: Vec<&Weight> = parts.iter().collect();
        let all = Weight::concat("all", &parts, axis).expect("they fit");
        assert_eq!((&all, all.tensor()), (&plain, whole.clone()), "along {axis}");
        assert_eq!(all.values().collect::<Vec<_>>(), whole.values().collect::<Vec<_>>());
        let columns = |weight: &Weight| {
            let layout =
                Layout::Panels { outer: vec![(3, 36)], depth: 9, cols: 4, row: 4, col: 1, offset: 0 };
            packed(weight, layout)
        };
        assert_eq!(columns(&all), columns(&plain));
        assert_eq!(all.permuted("v", &[2, 1, 0]).tensor(), permuted(&whole, &[2, 1, 0]));
        assert!(Weight::concat("no", &[&all, &last], (axis + 1) % 3).is_none());
    }
    assert!(Weight::concat("no", &[&plain], 3).is_none());
}

#[test]
fn parts_that_were_one_weight_are_one_again() {
    let whole = tensor(DType::F32, &[6, 4]);
    let bytes = Bytes::from(whole.bytes().to_vec());
    let part = |at: usize| {
        let bytes = bytes.part(at * 32, 32).expect("it is that long");
        Weight::new("part", DType::F32, vec![2, 4], bytes).expect("it has the bytes that it needs")
    };
    let stack = Weight::stack("all", &[part(0), part(1), part(2)]).expect("they have one type");
    assert_eq!(stack.row_major(), Some(whole.bytes()), "one after the other");
    let other = Weight::stack("all", &[part(2), part(0)]).expect("they have one type");
    assert_eq!(other.row_major(), None, "in another order");
    assert_eq!(
        other.stored().collect::<Vec<_>>().concat(),
        [&whole.bytes()[64..], &whole.bytes()[..32]].concat()
    );
}

#[test]
fn a_weight_that_was_split_is_whole_again() {
    let whole = tensor(DType::F32, &[4, 5, 3]);
    let plain = Weight::from_tensor("w", &whole);
    for perm in [[0, 1, 2], [0, 2, 1]] {
        let seen = plain.permuted("v", &perm);
        let expected = permuted(&whole, &perm);
        let own: Vec<usize> = expected.shape()[1..].to_vec();
        let part = |at: usize| {
            let part = seen.leading("part", at, 1).expect("an index lies together");
            let part = part.reshaped("part", &own).expect("an axis of size 1 goes");
            assert_eq!(part.tensor(), Tensor::from_fn(DType::F32, &own, |i| expected.at(&[at, i[0], i[1]])));
            part
        };
        let parts: Vec<Weight> = (0..4).map(part).collect();
        let stack = Weight::stack("all", &parts).expect("they have one type");
        assert_eq!((&stack, stack.tensor()), (&seen, expected));
        assert!(
            stack.stored().next().map(|element| element.as_ptr())
                == plain.stored().next().map(|element| element.as_ptr()),
            "nothing is copied"
        );
    }
    let inner = plain.permuted("v", &[1, 0, 2]);
    assert!(inner.leading("part", 0, 1).is_none(), "an index does not lie together");
    assert!(plain.leading("part", 3, 2).is_none(), "there are fewer");
    let stack = Weight::stack("all", &[inner.clone(), inner]).expect("they have one type");
    assert_eq!(stack.leading("part", 1, 1).expect("a part is whole").size(), whole.bytes().len());
}

#[test]
fn parts_of_different_types_make_no_stack() {
    let [a, b, c] = [(DType::F32, 2), (DType::F32, 3), (DType::I32, 2)]
        .map(|(dtype, size)| Weight::from_tensor("w", &tensor(dtype, &[size])));
    assert_eq!(Weight::stack("s", &[a.clone(), b]), None);
    assert_eq!(Weight::stack("s", &[a, c]), None);
    assert_eq!(Weight::stack("s", &[]), None);
}

#[test]
fn several_elements_in_a_byte_are_seen_one_by_one() {
    for dtype in [DType::I4, DType::U4, DType::F4E2M1, DType::I2, DType::U2] {
        let whole = Tensor::from_fn(dtype, &[6, 5], |at| {
            Scalar::from_bits(dtype, (at[0] * 5 + at[1]) as u64 * 7 + 1)
        });
        let each = 8 / dtype.bits();
        let codes: Vec<u64> = whole.values().map(Scalar::bits).collect();
        let byte = |some: &[u64]| {
            some.iter().enumerate().fold(0u8, |byte, (at, code)| byte | (*code as u8) << (at * dtype.bits()))
        };
        let bytes: Vec<u8> = codes.chunks(each).map(byte).collect();
        let held = bytes.len();
        let weight = Weight::packed("w", dtype, vec![6, 5], bytes.into()).expect("as many as it needs");
        let plain = Weight::from_tensor("w", &whole);
        assert_eq!((&weight, weight.tensor()), (&plain, whole.clone()));
        assert_eq!((weight.size(), weight.resident(), weight.row_major()), (30, held, None));
        assert_eq!(weight.values().collect::<Vec<_>>(), whole.values().collect::<Vec<_>>());
        assert_eq!(weight.stored().collect::<Vec<_>>().concat(), whole.bytes());
        assert_eq!(weight.permuted("t", &[1, 0]).tensor(), permuted(&whole, &[1, 0]));
        let stack = Weight::stack("s", &[weight.clone(), plain]).expect("they have one type");
        assert_eq!(stack.get(30 + 7), whole.get(7));
        // Rows of five begin within bytes, but for every fourth.
        let rows = weight.leading("r", 4, 2).expect("it begins a byte");
        assert_eq!(rows.values().collect::<Vec<_>>(), whole.values().skip(20).collect::<Vec<_>>());
        assert!(weight.leading("r", 1, 2).is_none());
    }
    assert!(Weight::packed("w", DType::I4, vec![3], vec![0].into()).is_err());
}
