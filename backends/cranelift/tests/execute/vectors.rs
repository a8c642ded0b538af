//! Vector functions of 512 and 256 bits: whatever they are made of, they compute what the walk computes.

use std::fs::File;

use cranelift::{Target, Vectors};
use ir::dim::Dim;
use ir::dtype::DType::{self, BF16, Bool, F16, F32, I8, I32, U8, U32};
use ir::kernel::{Expr, Kernel, LoopKind, Stmt};
use ir::scalar::{Binary, Scalar, Unary};
use memmap2::MmapOptions;

use crate::build::*;
use crate::machine::Machine;
use crate::walk::{check, compare};

const SERIAL: LoopKind = LoopKind::Serial;
const VECTOR: LoopKind = LoopKind::Vector(16);

fn number(value: f64) -> Expr {
    Expr::number(F32, value)
}

fn integer(value: i64) -> Expr {
    Expr::constant(Scalar::from_i64(I32, value))
}

/// Numbers that look random but are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick(&mut self, functions: &[Binary]) -> Binary {
        functions[self.roll(functions.len() as u64) as usize]
    }

    /// An expression of at most so many levels, over the arrays of [`params`] and the axis `i` in `0..n`.
    fn expr(&mut self, dtype: DType, depth: u32) -> Expr {
        match dtype {
            F32 => self.float(depth),
            Bool => self.truth(depth),
            _ => self.integer(dtype, depth),
        }
    }

    fn float(&mut self, depth: u32) -> Expr {
        if depth == 0 {
            let next: Expr = (dim("i") + dim("1")).into();
            return match self.roll(13) {
                11 => self.half(F16).cast(F32),
                12 => self.half(BF16).cast(F32),
                0 | 1 => load("x", F32, vec![at("i")]),
                2 => load("w", F32, vec![at("i")]),
                3 => load("s", F32, vec![at("0")]),
                4 => number(self.roll(9) as f64 / 2.0 - 2.0),
                5 => load("z", F32, vec![(dim("i") * dim("2") + dim("1")).into()]),
                6 => load("x", F32, vec![(dim("n") - dim("1") - dim("i")).into()]),
                8 => self.byte(U8).cast(F32),
                9 => self.byte(I8).cast(F32),
                7 => next.clone().less(at("n")).select(load("x", F32, vec![next]), number(0.0)),
                _ => {
                    let inside = at("2").at_most(at("i"));
                    inside.select(load("w", F32, vec![(dim("i") - dim("2")).into()]), number(-3.0))
                }
            };
        }
        let functions = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];
        let unary = [Unary::Neg, Unary::Abs, Unary::Floor, Unary::Ceil, Unary::Round, Unary::Trunc];
        let less = depth - 1;
        match self.roll(14) {
            0..=4 => Expr::binary(self.pick(&functions), self.float(less), self.float(less)),
            12 => self.float(less).cast(F16).cast(F32),
            13 => self.float(less).cast(BF16).cast(F32),
            5 => Expr::fma(self.float(less), self.float(less), self.float(less)),
            6 => Expr::unary(unary[self.roll(6) as usize], self.float(less)),
            7 => Expr::unary(Unary::Sqrt, Expr::unary(Unary::Abs, self.float(less))),
            8 => self.truth(less).select(self.float(less), self.float(less)),
            9 => self.integer(I32, less).cast(F32),
            10 => self.truth(less).cast(F32),
            _ => load("k", I32, vec![at("i")]).bitcast(F32),
        }
    }

    fn integer(&mut self, dtype: DType, depth: u32) -> Expr {
        if depth == 0 {
            let of_index = Expr::from(dim("i") * dim("3") - dim("n"));
            return match self.roll(7) {
                5 => self.byte(U8).cast(dtype),
                6 => self.byte(I8).cast(dtype),
                0 | 1 => load("k", I32, vec![at("i")]).cast(dtype),
                2 => integer(self.roll(40) as i64 - 4).cast(dtype),
                3 => of_index.cast(dtype),
                _ => load("x", F32, vec![at("i")]).bitcast(dtype),
            };
        }
        let functions = [
            Binary::Add,
            Binary::Sub,
            Binary::Mul,
            Binary::Min,
            Binary::Max,
            Binary::And,
            Binary::Or,
            Binary::Xor,
            Binary::Shl,
            Binary::Shr,
        ];
        let less = depth - 1;
        match self.roll(11) {
            0..=4 => {
                Expr::binary(self.pick(&functions), self.integer(dtype, less), self.integer(dtype, less))
            }
            9 => self.bytes(less).cast(dtype),
            10 => self.integer(dtype, less).cast(if self.roll(2) == 0 { U8 } else { I8 }).cast(dtype),
            5 => {
                let f = if self.roll(2) == 0 { Unary::Neg } else { Unary::Not };
                Expr::unary(f, self.integer(dtype, less))
            }
            6 => {
                let low = Expr::binary(Binary::Max, self.float(less), number(-104.0));
                let value =
                    if self.roll(2) == 0 { low } else { Expr::binary(Binary::Min, low, number(89.0)) };
                Expr::unary(Unary::Round, value * number(1.4375)).cast(I32).cast(dtype)
            }
            7 => self.truth(less).cast(dtype),
            _ => self.truth(less).select(self.integer(dtype, less), self.integer(dtype, less)),
        }
    }

    /// A byte of memory: in each lane another one, the same in all, or none beyond the end.
    fn byte(&mut self, dtype: DType) -> Expr {
        let from = if dtype == U8 { "p" } else { "q" };
        let next: Expr = (dim("i") + dim("1")).into();
        match self.roll(4) {
            0 => load(from, dtype, vec![at("0")]),
            1 => next.clone().less(at("n")).select(load(from, dtype, vec![next]), Expr::number(dtype, 3.0)),
            _ => load(from, dtype, vec![at("i")]),
        }
    }

    /// A 16-bit float of memory: in each lane another one, the same in all, or none beyond the end.
    fn half(&mut self, dtype: DType) -> Expr {
        let from = if dtype == F16 { "h" } else { "g" };
        let next: Expr = (dim("i") + dim("1")).into();
        match self.roll(4) {
            0 => load(from, dtype, vec![at("0")]),
            1 => next.clone().less(at("n")).select(load(from, dtype, vec![next]), Expr::number(dtype, 3.0)),
            _ => load(from, dtype, vec![at("i")]),
        }
    }

    /// A byte that is computed.
    fn bytes(&mut self, depth: u32) -> Expr {
        let dtype = if self.roll(2) == 0 { U8 } else { I8 };
        let functions = [Binary::And, Binary::Or, Binary::Xor, Binary::Min, Binary::Max];
        match self.roll(4) {
            0 => self.float(depth).cast(dtype),
            1 => {
                let (least, most) = if dtype == U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
                let inside = Expr::binary(Binary::Max, self.float(depth), number(least));
                Expr::binary(Binary::Min, inside, number(most)).cast(dtype)
            }
            2 => Expr::binary(self.pick(&functions), self.byte(dtype), self.byte(dtype)),
            _ => self.truth(depth).cast(dtype),
        }
    }

    fn truth(&mut self, depth: u32) -> Expr {
        let functions = [Binary::Eq, Binary::Ne, Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge];
        let compared = self.pick(&functions);
        if depth == 0 {
            let bound = [dim("5"), dim("n") - dim("3"), dim("2") * dim("i") - dim("7")];
            let bound = bound[self.roll(3) as usize].clone();
            return Expr::binary(compared, at("i"), bound.into());
        }
        let less = depth - 1;
        match self.roll(7) {
            0 | 1 => Expr::binary(compared, self.float(less), self.float(less)),
            2 => {
                let dtype = if self.roll(2) == 0 { I32 } else { U32 };
                Expr::binary(compared, self.integer(dtype, less), self.integer(dtype, less))
            }
            3 => {
                let functions = [Binary::And, Binary::Or, Binary::Xor, Binary::Lt, Binary::Ge, Binary::Eq];
                Expr::binary(self.pick(&functions), self.truth(less), self.truth(less))
            }
            4 => Expr::unary(Unary::Not, self.truth(less)),
            5 => Expr::unary(Unary::IsNan, self.float(less)),
            _ => self.float(less).cast(Bool),
        }
    }
}

fn params() -> Vec<ir::kernel::Param> {
    vec![
        read("x", F32, &[dim("n")]),
        read("w", F32, &[dim("n")]),
        read("z", F32, &[dim("2") * dim("n")]),
        read("k", I32, &[dim("n")]),
        read("s", F32, &[dim("1")]),
        write("y", F32, &[dim("n")]),
        write("t", I32, &[dim("n")]),
        read("p", U8, &[dim("n")]),
        read("q", I8, &[dim("n")]),
        write("u", U8, &[dim("n")]),
        write("b", I8, &[dim("n")]),
        read("h", F16, &[dim("n")]),
        read("g", BF16, &[dim("n")]),
        write("yh", F16, &[dim("n")]),
        write("yg", BF16, &[dim("n")]),
    ]
}

fn buffers(n: usize, seed: u64) -> Vec<Vec<Scalar>> {
    let some = |dtype, count, seed| {
        let mut values = values(dtype, count, seed);
        // A few edges between moderate numbers.
        let edges = edges(dtype);
        values.iter_mut().enumerate().filter(|(at, _)| at % 3 == 1).for_each(|(at, value)| {
            *value = edges[(at + seed as usize) % edges.len()];
        });
        values
    };
    vec![
        some(F32, n, seed),
        some(F32, n, seed + 1),
        some(F32, 2 * n, seed + 2),
        some(I32, n, seed + 3),
        vec![Scalar::f32(1.75)],
        vec![Scalar::f32(0.0); n],
        vec![Scalar::from_i64(I32, 0); n],
        some(U8, n, seed + 4),
        some(I8, n, seed + 5),
        vec![Scalar::from_i64(U8, 0); n],
        vec![Scalar::from_i64(I8, 0); n],
        some(F16, n, seed + 6),
        some(BF16, n, seed + 7),
        vec![Scalar::from_i64(F16, 0); n],
        vec![Scalar::from_i64(BF16, 0); n],
    ]
}

/// A kernel over `i` in `0..n` of which each iteration does this.
fn over_i(name: &str, body: Vec<Stmt>) -> Kernel {
    kernel(name, &["n"], params(), vec![for_each("i", dim("n"), VECTOR, body)])
}

/// Machines of which the wide ones must have made all loops vector functions.
fn machines(kernel: &Kernel) -> Vec<Machine> {
    let machines = Machine::all(&program(vec![kernel.clone()]));
    if Target::host().has("avx2") {
        for machine in &machines[1..] {
            assert!(machine.image.functions.len() > 1, "{} has no vector function", kernel.name);
        }
    }
    machines
}

#[test]
fn random_bodies() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..60 {
        let depth = 2 + round % 4;
        let mut body = vec![bind("a", dice.expr(F32, depth)), variable("v", dice.expr(F32, 1))];
        let a = var("a", F32);
        body.push(set("v", var("v", F32) + a.clone()));
        body.push(bind("old", var("v", F32)));
        let next = Expr::fma(var("v", F32), dice.expr(F32, depth), a.clone());
        body.push(set("v", next));
        let chosen = dice.truth(depth).select(var("v", F32), var("old", F32));
        body.push(store("y", vec![at("i")], chosen));
        body.push(store("t", vec![at("i")], dice.expr(I32, depth)));
        body.push(store("u", vec![at("i")], dice.bytes(depth - 1).cast(U8)));
        body.push(store("b", vec![at("i")], dice.bytes(depth - 1).cast(I8)));
        body.push(store("yh", vec![at("i")], dice.expr(F32, depth - 1).cast(F16)));
        body.push(store("yg", vec![at("i")], dice.expr(F32, depth - 1).cast(BF16)));
        let kernel = over_i(&format!("random_{round}"), body);
        let machines = machines(&kernel);
        for n in 0..=70 {
            let buffers = buffers(n, round as u64 * 97 + n as u64 + 5);
            machines.iter().for_each(|machine| compare(machine, 0, &kernel, &[n as i64], &buffers));
        }
    }
}

#[test]
fn an_axis_is_compared_with_what_is_fixed_for_its_loop() {
    let parse = |text: &str| Dim::parse(text).expect("an index");
    let index = |text: &str| -> Expr { parse(text).into() };
    // Both ways round, from the left and from the right, also in steps; the last has room for 2047 iterations alone.
    for (step, limits) in
        [(1, ["3", "n - 2"]), (-1, ["-4", "2 - n"]), (3, ["7", "3*n - 5"]), (1 << 19, ["8", "n"])]
    {
        for (at, limit) in limits.iter().enumerate() {
            for f in [Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge, Binary::Eq] {
                let axis = index(&format!("{step}*i"));
                let limit = index(&format!("{limit} + q"));
                let holds = match at {
                    0 => Expr::binary(f, axis, limit),
                    _ => Expr::binary(f, limit, axis),
                };
                let x = load("x", F32, vec![(dim("i") + dim("q")).into()]);
                let body = vec![store("y", vec![index("q"), index("i")], holds.select(x, number(0.5)))];
                let lanes = for_each("i", dim("n"), VECTOR, body);
                let params = vec![read("x", F32, &[parse("n + 2")]), write("y", F32, &[dim("2"), dim("n")])];
                let nest = vec![for_each("q", dim("2"), SERIAL, vec![lanes])];
                let kernel = kernel(&format!("limit_{step}_{at}_{f:?}"), &["n"], params, nest);
                let machines = machines(&kernel);
                for n in [0, 1, 9, 40, 2047, 2048, 5000] {
                    let y = vec![Scalar::f32(0.0); 2 * n];
                    let buffers = [values(F32, n + 2, 7), y];
                    machines.iter().for_each(|machine| compare(machine, 0, &kernel, &[n as i64], &buffers));
                }
            }
        }
    }
}

#[test]
fn more_values_than_registers() {
    // All of these live until the last statement.
    for count in [10, 40, 100] {
        let name = |at: usize| format!("v{at}");
        let mut body = Vec::new();
        let mut mask = Expr::constant(Scalar::bool(true));
        for at in 0..count {
            let x = load("x", F32, vec![Dim::symbol("i").into()]);
            let value =
                Expr::fma(x.clone(), number(at as f64 + 0.5), load("w", F32, vec![Dim::symbol("i").into()]));
            body.push(bind(&name(at), value));
            if at % 4 == 0 {
                body.push(bind(&format!("m{at}"), x.less(number(at as f64 / 8.0))));
            }
        }
        body.push(variable("sum", number(0.0)));
        let sum = || var("sum", F32);
        for at in (0..count).rev() {
            let other = var(&name(count - 1 - at), F32);
            body.push(set("sum", Expr::fma(sum(), number(0.5), var(&name(at), F32) * other)));
            if at % 4 == 0 {
                let here = var(&format!("m{at}"), Bool);
                mask = mask.and(here.clone());
                body.push(set("sum", here.select(sum() + number(1.0), sum())));
            }
        }
        body.push(store("y", vec![at("i")], mask.select(number(-1.0), sum())));
        let kernel = over_i(&format!("live_{count}"), body);
        let machines = machines(&kernel);
        for n in [0, 1, 7, 8, 16, 17, 33, 64, 70] {
            let buffers = buffers(n, n as u64 + 3);
            machines.iter().for_each(|machine| compare(machine, 0, &kernel, &[n as i64], &buffers));
        }
    }
}

#[test]
fn windows_inside_lanes() {
    // A depthwise convolution with a border, and the largest element of each window.
    let (c, p, q) = (dim("c"), dim("p"), dim("q"));
    let inside = |index: &Dim, size: &str| {
        let low = Expr::from(Dim::constant(0)).at_most(index.clone().into());
        low.and(Expr::from(index.clone()).less(at(size)))
    };
    let (row, col) = (dim("y") + p.clone() - dim("1"), dim("x") + q.clone() - dim("1"));
    for lanes_along_rows in [false, true] {
        let element = load("a", F32, vec![c.clone().into(), row.clone().into(), col.clone().into()]);
        let here = inside(&row, "h").and(inside(&col, "w"));
        let weight = load("k", F32, vec![c.clone().into(), p.clone().into(), q.clone().into()]);
        let value = here.clone().select(element.clone(), number(0.0));
        let sum = Expr::fma(value, weight, var("sum", F32));
        let most = here.select(element, number(f64::NEG_INFINITY));
        let most = Expr::binary(Binary::Max, var("most", F32), most);
        let window = vec![set("sum", sum), set("most", most)];
        let window = for_each("p", dim("3"), SERIAL, vec![for_each("q", dim("r"), SERIAL, window)]);
        let body = vec![
            variable("sum", load("bias", F32, vec![at("c")])),
            variable("most", number(f64::NEG_INFINITY)),
            window,
            store("s", vec![at("c"), at("y"), at("x")], var("sum", F32)),
            store("m", vec![at("c"), at("y"), at("x")], var("most", F32)),
        ];
        let kind = |vector| if vector { VECTOR } else { SERIAL };
        let nest = for_each("x", dim("w"), kind(!lanes_along_rows), body);
        let nest = for_each("y", dim("h"), kind(lanes_along_rows), vec![nest]);
        let params = vec![
            read("a", F32, &[dim("n"), dim("h"), dim("w")]),
            read("k", F32, &[dim("n"), dim("3"), dim("r")]),
            read("bias", F32, &[dim("n")]),
            write("s", F32, &[dim("n"), dim("h"), dim("w")]),
            write("m", F32, &[dim("n"), dim("h"), dim("w")]),
        ];
        let body = vec![for_each("c", dim("n"), SERIAL, vec![nest])];
        let kernel = kernel("window", &["n", "h", "w", "r"], params, body);
        for sizes in [[2, 5, 19, 3], [1, 1, 1, 3], [3, 4, 70, 2], [1, 20, 3, 0], [0, 3, 3, 3], [2, 0, 3, 3]] {
            let [n, h, w, r] = sizes.map(|size: i64| size as usize);
            let zeros = vec![Scalar::f32(0.0); n * h * w];
            let a = values(F32, n * h * w, 3);
            let buffers = vec![a, values(F32, n * 3 * r, 4), values(F32, n, 5), zeros.clone(), zeros];
            check(&kernel, &sizes, &buffers);
        }
    }
}

#[test]
fn numbers_that_the_range_of_an_axis_fixes() {
    // With `j` below 2 it is 2; who calls for all `j` at once knows of no `j`.
    let two = Dim::smaller(&(dim("4") - dim("j")), &dim("2"));
    assert!(two.as_const().is_none(), "{two}");
    let here = vec![at("j"), at("i")];
    let value = load("x", F32, here.clone()) * Expr::from(two).cast(F32);
    let nest = for_each("i", dim("n"), VECTOR, vec![store("y", here, value)]);
    let params = vec![read("x", F32, &[dim("2"), dim("n")]), write("y", F32, &[dim("2"), dim("n")])];
    let kernel = kernel("fixed", &["n"], params, vec![for_each("j", dim("2"), SERIAL, vec![nest])]);
    for n in [0, 1, 16, 37] {
        let zeros = vec![Scalar::f32(0.0); 2 * n];
        check(&kernel, &[n as i64], &[values(F32, 2 * n, 7), zeros]);
    }
}

#[test]
fn lanes_along_channels() {
    // Inputs are the same in all lanes, behind guards that are, too; results lie apart.
    for channels in [1, 7, 16, 40, 70] {
        let (row, col) = (dim("y") + dim("p") - dim("1"), dim("x") + dim("q") - dim("1"));
        let inside = |index: &Dim, size: &str| {
            let low = Expr::from(Dim::constant(0)).at_most(index.clone().into());
            low.and(Expr::from(index.clone()).less(at(size)))
        };
        let element = load("a", F32, vec![at("d"), row.clone().into(), col.clone().into()]);
        let value = inside(&row, "6").and(inside(&col, "w")).select(element, number(0.0));
        let weight = load("k", F32, vec![at("d"), at("p"), at("q"), at("c")]);
        let mut window = vec![set("sum", Expr::fma(value, weight, var("sum", F32)))];
        for axis in ["q", "p"] {
            window = vec![for_each(axis, dim("3"), SERIAL, window)];
        }
        let body = vec![
            variable("sum", load("bias", F32, vec![at("c")])),
            for_each("d", dim("2"), SERIAL, window),
            store("s", vec![at("c"), at("y"), at("x")], var("sum", F32)),
        ];
        let mut nest = for_each("c", dim(&channels.to_string()), VECTOR, body);
        for (axis, extent) in [("x", "5"), ("y", "6")] {
            nest = for_each(axis, dim(extent), SERIAL, vec![nest]);
        }
        let shape = [dim(&channels.to_string()), dim("6"), dim("5")];
        let params = vec![
            read("a", F32, &[dim("2"), dim("6"), dim("w")]),
            read("k", F32, &[dim("2"), dim("3"), dim("3"), shape[0].clone()]),
            read("bias", F32, &shape[..1]),
            write("s", F32, &shape),
        ];
        let kernel = kernel("channels", &["w"], params, vec![nest]);
        let count = channels as usize;
        let buffers = vec![
            values(F32, 60, 3),
            values(F32, 18 * count, 4),
            values(F32, count, 5),
            vec![Scalar::f32(0.0); 30 * count],
        ];
        machines(&kernel).iter().for_each(|machine| compare(machine, 0, &kernel, &[5], &buffers));
    }
}

#[test]
fn nothing_beyond_an_array_is_touched() {
    // Pages of a file end where the file does: what lies beyond cannot be read or written.
    const PAGE: usize = 4096;
    let next: Expr = (dim("i") + dim("1")).into();
    let guarded = next.clone().less(at("n")).select(load("x", F32, vec![next]), number(7.0));
    let strided = load("z", F32, vec![(dim("i") * dim("2")).into()]);
    // The last element, and two behind it that do not exist.
    let last = dim("n") - dim("1") + dim("p");
    let same = Expr::from(last.clone()).less(at("n")).select(load("x", F32, vec![last.into()]), number(0.0));
    let next: Expr = (dim("i") + dim("1")).into();
    let byte = next.clone().less(at("n")).select(load("q", I8, vec![next.clone()]), Expr::number(I8, -1.0));
    let half = next.clone().less(at("n")).select(load("h", F16, vec![next]), Expr::number(F16, -1.0));
    let body = vec![
        variable("v", number(0.0)),
        for_each("p", dim("3"), SERIAL, vec![set("v", var("v", F32) + same)]),
        store("y", vec![at("i")], guarded + load("w", F32, vec![at("i")]) * strided + var("v", F32)),
        store("t", vec![at("i")], load("k", I32, vec![at("i")]) + integer(1)),
        store("u", vec![at("i")], load("p", U8, vec![at("i")])),
        store("b", vec![at("i")], byte.cast(I8)),
        store("yh", vec![at("i")], half.cast(F16)),
        store("yg", vec![at("i")], load("g", BF16, vec![at("i")])),
    ];
    let kernel = over_i("edge", body);
    let path = std::env::temp_dir().join(format!("egraft-page-{}", std::process::id()));
    for machine in machines(&kernel) {
        for n in 1..=70usize {
            let sizes = [n, n, 2 * n, n, 1, n, n, n, n, n, n, n, n, n, n];
            let mut at = 0;
            let pages = sizes.map(|count| {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(&path)
                    .expect("a file can be made");
                file.set_len(PAGE as u64).expect("it has a page");
                // SAFETY: the file is this test's alone.
                let mut page = unsafe { MmapOptions::new().len(2 * PAGE).map_mut(&file) }.expect("mapped");
                std::fs::remove_file(&path).expect("it can go: the mapping stays");
                at += 1;
                if at > 11 {
                    let start = PAGE - 2 * count;
                    let value = |at: usize| Scalar::from_i64(F16, at as i64).bits().to_le_bytes();
                    (0..count).for_each(|at| page[start + 2 * at..][..2].copy_from_slice(&value(at)[..2]));
                    return (page, start);
                }
                if at > 7 {
                    let start = PAGE - count;
                    page[start..PAGE].iter_mut().zip(0..).for_each(|(byte, at)| *byte = at);
                    return (page, start);
                }
                let start = PAGE - 4 * count;
                for at in 0..count {
                    page[start + 4 * at..][..4].copy_from_slice(&(at as f32).to_le_bytes());
                }
                (page, start)
            });
            let mut pages = pages;
            let args: Vec<*mut u8> =
                pages.iter_mut().map(|(page, start)| page[*start..PAGE].as_mut_ptr()).collect();
            machine.call(0, &args, &[n as i64]);
            for at in 0..n {
                let (page, start) = &pages[5];
                let bytes = page[start + 4 * at..][..4].try_into().expect("four bytes");
                let expected = if at + 1 < n { at + 1 } else { 7 } + at * 2 * at + (n - 1);
                assert_eq!(f32::from_le_bytes(bytes), expected as f32, "element {at} of {n}");
                let byte = |page: usize| pages[page].0[pages[page].1 + at];
                let next = if at + 1 < n { at as u8 + 1 } else { 0xff };
                assert_eq!([byte(9), byte(10)], [at as u8, next], "byte {at} of {n}");
                let half = |page: usize| {
                    let (page, start) = &pages[page];
                    u64::from(u16::from_le_bytes(page[start + 2 * at..][..2].try_into().expect("two bytes")))
                };
                let next = Scalar::from_i64(F16, if at + 1 < n { at as i64 + 1 } else { -1 });
                assert_eq!([half(13), half(14)], [next.bits(), half(12)], "half {at} of {n}");
            }
        }
    }
}

#[test]
fn narrower_vectors_can_be_asked_for() {
    let kernel = over_i("copy", vec![store("y", vec![at("i")], load("x", F32, vec![at("i")]))]);
    let functions = |vectors| {
        let target = Target { vectors, ..Target::portable() };
        let image = cranelift::emit(&program(vec![kernel.clone()]), &target).expect("emitted");
        image.functions.len()
    };
    assert_eq!(functions(Vectors::Bits128), 1);
    if Target::portable().has("avx2") {
        assert_eq!(functions(Vectors::Bits256), 2);
        // One for each width, of which the kernel chooses.
        assert_eq!(functions(Vectors::Bits512), 3);
    }
}
