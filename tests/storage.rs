//! Weights of products in the types in which they are stored, on every backend: no kernel converts them, the program
//! holds as many bytes as are stored, and results are the bits of a product with floats.

use harness::{Everywhere, Random, run_native};
use ir::build::Build;
use ir::kernel::{Body, Stmt};
use ir::program::Program;
use ir::{DType, Dim, Graph, Scalar, Tensor, TensorType, Value};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::cast::convert;
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::shape::broadcast::broadcast;
use ops::shape::reshape::reshape;
use ops::shape::transpose::transpose;

/// Rows and columns of the weights: neither is a multiple of what is stored together.
const K: usize = 96;
const N: usize = 70;

/// How a matrix is stored.
#[derive(Clone, Copy, Debug)]
enum Scaled {
    /// It is only converted.
    Plain,
    /// One scale for all.
    Tensor,
    /// A zero and a scale for each column.
    Columns,
    /// A zero and a scale for each column of a block of rows.
    Blocks(usize),
}

/// A matrix that is stored in a type.
#[derive(Clone, Copy, Debug)]
struct Storage {
    dtype: DType,
    scaled: Scaled,
    /// Is it stored by columns?
    turned: bool,
    /// One of so many, or one for all.
    experts: Option<usize>,
}

impl Storage {
    fn new(dtype: DType, scaled: Scaled) -> Storage {
        Storage { dtype, scaled, turned: false, experts: None }
    }

    /// The sizes around the matrix.
    fn outer(&self) -> Vec<usize> {
        self.experts.into_iter().collect()
    }

    /// A value of `f32`, computed from what is stored, as importers write it.
    fn value(&self, b: &mut Build) -> Value {
        let mut random = Random::new(5);
        let sizes = if self.turned { [N, K] } else { [K, N] };
        let shape = [&self.outer()[..], &sizes].concat();
        let all = Tensor::from_fn(self.dtype, &shape, |_| match self.dtype.is_float() {
            true => Scalar::from_f64(self.dtype, random.number(1.0)),
            false => Scalar::from_bits(self.dtype, random.bits()),
        });
        let stored = b.constant(&all);
        let value = self.dequantized(b, stored, &mut random).expect("shapes fit");
        let swap = |rank: i64| (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        if self.turned { transpose(b, value, swap(shape.len() as i64)).expect("two axes") } else { value }
    }

    fn dequantized(
        &self,
        b: &mut Build,
        stored: Value,
        random: &mut Random,
    ) -> Result<Value, ir::op::OpError> {
        let axis = self.outer().len() + usize::from(self.turned);
        let mut shape: Vec<usize> = b.ty(stored).fixed_shape().expect("a weight");
        let whole = b.ty(stored).shape.clone();
        match self.scaled {
            Scaled::Plain => return convert(b, stored, DType::F32),
            Scaled::Tensor => shape = vec![],
            Scaled::Columns => shape[axis] = 1,
            Scaled::Blocks(rows) => shape[axis] /= rows,
        }
        let scale =
            Tensor::from_fn(DType::F32, &shape, |_| Scalar::from_f64(DType::F32, random.number(0.001)));
        let zero = Tensor::from_fn(self.dtype, &shape, |_| Scalar::from_bits(self.dtype, random.bits()));
        let (mut scale, mut zero) = (b.constant(&scale), b.constant(&zero));
        if let Scaled::Blocks(rows) = self.scaled {
            let dims = |shape: &[usize]| shape.iter().map(|&size| Dim::from(size)).collect::<Vec<_>>();
            let mut column = shape.clone();
            column.insert(axis + 1, 1);
            let mut wide = column.clone();
            wide[axis + 1] = rows;
            for part in [&mut scale, &mut zero] {
                *part = reshape(b, *part, dims(&column))?;
                *part = broadcast(b, *part, dims(&wide))?;
                *part = reshape(b, *part, whole.clone())?;
            }
        }
        if matches!(self.scaled, Scaled::Tensor) {
            let values = convert(b, stored, DType::F32)?;
            return b.op(&MUL, &[values, scale]);
        }
        let (values, zero) = (convert(b, stored, DType::I32)?, convert(b, zero, DType::I32)?);
        let centred = b.op(&SUB, &[values, zero])?;
        let centred = convert(b, centred, DType::F32)?;
        b.op(&MUL, &[centred, scale])
    }

    /// `x · w`, where `w` is what is stored or, as floats, what is computed from it.
    fn graph(&self, floats: bool) -> Graph {
        let mut b = Build::new("product");
        let rows = Dim::symbol("n");
        let x = b.input("x", TensorType::new(DType::F32, [rows.clone(), Dim::from(K)]));
        let w = match floats {
            false => self.value(&mut b),
            true => {
                let mut alone = Build::new("weights");
                let value = self.value(&mut alone);
                let all = reference::run_graph(&alone.finish(vec![value]), &[]).expect("constants");
                b.constant(&all[0])
            }
        };
        let y = match self.experts {
            None => b.op(&MATMUL, &[x, w]),
            Some(_) => {
                let ids = b.input("ids", TensorType::new(DType::I64, [rows]));
                b.op(&GROUPED_MATMUL, &[x, w, ids])
            }
        };
        b.finish(vec![y.expect("shapes fit")])
    }

    fn inputs(&self, rows: usize) -> Vec<Tensor> {
        let x = Random::new(rows as u64).tensor(DType::F32, &[rows, K]);
        let ids = |experts: usize| {
            Tensor::from_fn(DType::I64, &[rows], |at| {
                Scalar::from_i64(DType::I64, (at[0] * 5 % experts) as i64)
            })
        };
        [x].into_iter().chain(self.experts.map(ids)).collect()
    }

    /// The most bytes that panels take: of values, and of 4 bytes for each scale and one for each zero.
    fn bytes(&self) -> usize {
        let (columns, count) = (N.next_multiple_of(32), self.experts.unwrap_or(1));
        let values = columns * K * self.dtype.bits() / 8;
        let shared = match self.scaled {
            Scaled::Plain => 0,
            Scaled::Tensor => 4 * columns,
            Scaled::Columns => 5 * columns,
            Scaled::Blocks(rows) => 5 * columns * (K / rows),
        };
        count * (values + shared)
    }

    fn check(&self) {
        let name = format!("{self:?}");
        let mut everywhere = Everywhere::new(&name, &self.graph(false));
        is_one_product(everywhere.program(), &name);
        let held: usize = everywhere.program().weights.iter().map(|packed| packed.size()).sum();
        assert!(held <= self.bytes(), "{name}: {held} bytes, not {}\n{}", self.bytes(), everywhere.program());
        let floats = Everywhere::new(&name, &self.graph(true)).program().clone();
        for rows in [1, 3, 18] {
            let inputs = self.inputs(rows);
            everywhere.run(&inputs);
            let [found, expected] = [everywhere.program(), &floats]
                .map(|program| run_native(program, &inputs, 2).unwrap_or_else(|why| panic!("{name}: {why}")));
            assert_eq!(found[0].bytes(), expected[0].bytes(), "{name}, {rows} rows");
        }
    }
}

/// The program is one kernel, in which the micro-kernels compute the product.
fn is_one_product(program: &Program, name: &str) {
    let [kernel] = &program.kernels[..] else {
        panic!("{name}: {} kernels\n{program}", program.kernels.len())
    };
    let Body::Loops(body) = &kernel.body else { panic!("{name}: no loops") };
    let mut products = 0;
    body.iter()
        .for_each(|stmt| stmt.walk(&mut |stmt| products += usize::from(matches!(stmt, Stmt::Gemm(_)))));
    assert_eq!(products, 1, "{name}:\n{program}");
}

const INTEGERS: [DType; 4] = [DType::I8, DType::U8, DType::I4, DType::U4];

#[test]
fn floats_of_16_bits_are_read_as_they_are() {
    for dtype in [DType::F16, DType::BF16] {
        for turned in [false, true] {
            Storage { turned, ..Storage::new(dtype, Scaled::Plain) }.check();
        }
    }
}

#[test]
fn integers_are_dequantized_in_the_product() {
    for dtype in INTEGERS {
        let turned = dtype.class() == ir::dtype::Class::Signed;
        Storage { turned, ..Storage::new(dtype, Scaled::Blocks(if turned { 16 } else { 48 })) }.check();
    }
    for scaled in [Scaled::Tensor, Scaled::Columns] {
        Storage::new(DType::U8, scaled).check();
        Storage::new(DType::I4, scaled).check();
    }
}

#[test]
fn experts_are_read_as_they_are_stored() {
    for (dtype, scaled) in
        [(DType::BF16, Scaled::Plain), (DType::I8, Scaled::Columns), (DType::U4, Scaled::Blocks(32))]
    {
        Storage { experts: Some(3), ..Storage::new(dtype, scaled) }.check();
    }
}
