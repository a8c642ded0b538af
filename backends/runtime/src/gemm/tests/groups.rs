//! Products of groups: against one product for each row, bit for bit.

use super::*;

/// Rows of A that meet one of several matrices each.
struct Experts {
    /// Rows, columns and depth of each product.
    size: [usize; 3],
    /// Which matrix each row meets.
    which: Vec<usize>,
    count: usize,
}

impl Experts {
    fn new(size: [usize; 3], count: usize, which: impl Fn(usize) -> usize) -> Experts {
        Experts { size, which: (0..size[0]).map(which).collect(), count }
    }

    /// The order of rows, and where the matrices' rows begin.
    fn order(&self) -> (Vec<i64>, Vec<i64>) {
        let (mut order, mut starts) = (Vec::new(), vec![0]);
        for matrix in 0..self.count {
            order.extend((0..self.size[0]).filter(|&row| self.which[row] == matrix).map(|row| row as i64));
            starts.push(order.len() as i64);
        }
        (order, starts)
    }

    fn matrix(&self, which: usize) -> Vec<f32> {
        random(500 + which as u64, self.size[1] * self.size[2])
    }

    /// The bits that are due, in the order of the rows.
    fn expected(&self, a: &[f32]) -> Vec<u32> {
        let [_, n, k] = self.size;
        let rows = self.order().0;
        let each = rows.iter().map(|&row| {
            let row = row as usize;
            let case = Case {
                size: [1, n, k],
                a: a[row * k..(row + 1) * k].to_vec(),
                b: self.matrix(self.which[row]),
            };
            case.in_order()
        });
        each.flatten().collect()
    }

    fn check(&self, pool: &Pool, layout: Layout) {
        let [m, n, k] = self.size;
        let a = random(3, m * k);
        let rows = Operand::new(m, k, &a, Rows);
        let matrices: Vec<Operand> =
            (0..self.count).map(|which| Operand::new(k, n, &self.matrix(which), layout)).collect();
        let all: Vec<f32> = matrices.iter().flat_map(|matrix| matrix.data.iter().copied()).collect();
        let (order, starts) = self.order();
        let groups = Groups {
            order: order.as_ptr(),
            starts: starts.as_ptr(),
            count: self.count as i64,
            step: matrices[0].data.len() as i64,
        };
        for kernels in Kernels::available() {
            let count = || (0..m * n).map(|_| AtomicU32::new(0)).collect();
            let sink = Sink { n, bits: count(), hits: count() };
            let call = GemmF32 {
                m: m as i64,
                n: n as i64,
                k: k as i64,
                a: rows.pointer(),
                a_row: rows.row,
                a_col: rows.col,
                a_type: 0,
                window: std::ptr::null(),
                b: all[matrices[0].origin..].as_ptr(),
                b_row: matrices[0].row,
                b_col: matrices[0].col,
                packed: i64::from(layout == Panels),
                b_type: 0,
                scales: std::ptr::null(),
                transposed: 0,
                groups: &raw const groups,
                epilogue: collect,
                frame: (&raw const sink).cast(),
            };
            // SAFETY: the operands, the groups and the sink outlive the call and fit it.
            unsafe { product::multiply(kernels, pool, SERVICES, &call) };
            let context = format!("{:?} {} {layout:?}", self.size, kernels.name);
            assert!(sink.hits.iter().all(|hits| hits.load(Ordering::Relaxed) == 1), "{context}");
            let found: Vec<u32> = sink.bits.into_iter().map(AtomicU32::into_inner).collect();
            assert!(found == self.expected(&a), "{context}");
        }
    }
}

#[test]
fn each_row_meets_the_matrix_that_it_names() {
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads);
        for layout in [Panels, Rows, Columns] {
            // Few rows, many, several stretches of k, one matrix for all, and most matrices for nobody.
            Experts::new([1, 70, 40], 3, |_| 2).check(&pool, layout);
            Experts::new([9, 33, 20], 4, |row| row * 3 % 4).check(&pool, layout);
            Experts::new([90, 100, 300], 3, |row| usize::from(row % 7 == 0)).check(&pool, layout);
            Experts::new([60, 70, 33], 5, |_| 4).check(&pool, layout);
            Experts::new([500, 70, 16], 2, |row| row / 3 % 2).check(&pool, layout);
            Experts::new([0, 40, 16], 2, |_| 0).check(&pool, layout);
        }
    }
}
