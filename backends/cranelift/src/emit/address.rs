//! Index arithmetic and addresses.
//!
//! An index is a polynomial, and the offset of an element is one, too: `Σ indexᵢ · strideᵢ`, normalised over all axes
//! of the array together, plus what is read from memory (a gather's rows). Terms are added from the outermost
//! loop inwards, so that the code generator can hoist every partial sum that an inner loop does not change.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use ir::dim::{Atom, Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::Binary;

use super::function::{Emitter, Local};
use super::value::Value;
use crate::error::EmitError;

/// The place of an element in elements from the start: a polynomial plus products of read values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offset {
    /// The part that is index arithmetic, in terms of names in scope.
    pub(crate) dim: Dim,
    /// Values that are computed, each with its stride.
    pub(crate) computed: Vec<(Expr, Dim)>,
}

impl Emitter<'_, '_> {
    /// The index arithmetic in terms of scalars in scope: simplified by the loops' ranges, and names that stand for
    /// indices replaced. In the lane `k` of a vector loop its axis is `axis + k`.
    pub(crate) fn resolve(&self, dim: &Dim) -> Dim {
        let dim = dim.simplify(&self.scope.ranges);
        let dim = dim.substitute(&|symbol| match self.scope.locals.get(symbol) {
            Some(Local::Index(dim)) => Some(dim.clone()),
            _ => None,
        });
        match (&self.vector, self.lane) {
            (Some(vector), Some(lane)) => dim
                .substitute(&|symbol| (*symbol == vector.axis).then(|| Dim::from(symbol) + Dim::from(lane))),
            _ => dim,
        }
    }

    /// The value of an index that is the same in all lanes, or of the current lane.
    pub(crate) fn index(&mut self, dim: &Dim) -> Result<clif::Value, EmitError> {
        let dim = self.resolve(dim);
        self.polynomial(&dim)
    }

    /// The value of a resolved polynomial.
    pub(crate) fn polynomial(&mut self, dim: &Dim) -> Result<clif::Value, EmitError> {
        let mut sum = None;
        for (_, group) in self.by_depth(dim)? {
            for (atoms, c) in group {
                sum = Some(self.add_term(sum, &atoms, c)?);
            }
        }
        Ok(match (sum, dim.constant_term()) {
            (None, c) => self.b.ins().iconst(types::I64, c),
            (Some(sum), 0) => sum,
            (Some(sum), c) => self.b.ins().iadd_imm_s(sum, c),
        })
    }

    /// The terms with names, by the deepest loop that changes them.
    #[allow(clippy::type_complexity, reason = "a list of groups of terms as `Dim::terms` gives them")]
    fn by_depth(&self, dim: &Dim) -> Result<Vec<(usize, Vec<(Vec<Atom>, i64)>)>, EmitError> {
        let mut groups: std::collections::BTreeMap<usize, Vec<(Vec<Atom>, i64)>> = Default::default();
        for (atoms, c) in dim.terms().filter(|(atoms, _)| !atoms.is_empty()) {
            let mut atoms: Vec<(usize, Atom)> = atoms
                .iter()
                .map(|atom| Ok((self.depth(atom)?, atom.clone())))
                .collect::<Result<_, EmitError>>()?;
            atoms.sort();
            let depth = atoms.last().map_or(0, |(depth, _)| *depth);
            let atoms = atoms.into_iter().map(|(_, atom)| atom).collect();
            groups.entry(depth).or_default().push((atoms, c));
        }
        Ok(groups.into_iter().collect())
    }

    fn depth(&self, atom: &Atom) -> Result<usize, EmitError> {
        let of = |dims: &[&Dim]| {
            let mut deepest = Ok(0);
            for dim in dims {
                dim.for_each_symbol(&mut |symbol| {
                    if let Ok(so_far) = deepest {
                        deepest = self.symbol_depth(symbol).map(|depth| depth.max(so_far));
                    }
                });
            }
            deepest
        };
        match atom {
            Atom::Symbol(symbol) => self.symbol_depth(symbol),
            Atom::Floor(a, b) => of(&[a, b]),
            Atom::Min(dims) | Atom::Max(dims) => of(&dims.iter().collect::<Vec<_>>()),
        }
    }

    fn symbol_depth(&self, symbol: &Symbol) -> Result<usize, EmitError> {
        match self.scope.index(symbol) {
            Some(Local::Scalar { dtype: DType::I64, depth, .. }) => Ok(*depth),
            // It changes wherever it is set.
            Some(Local::Variable { dtype: DType::I64, .. }) => Ok(self.scope.depth),
            _ => Err(self.unbound("size or axis", symbol)),
        }
    }

    fn add_term(
        &mut self,
        sum: Option<clif::Value>,
        atoms: &[Atom],
        c: i64,
    ) -> Result<clif::Value, EmitError> {
        let mut product = None;
        for atom in atoms {
            let value = self.atom(atom)?;
            product = Some(match product {
                None => value,
                Some(so_far) => self.b.ins().imul(so_far, value),
            });
        }
        let product = product.expect("bug: a term without names");
        Ok(match (sum, c) {
            (None, 1) => product,
            (None, c) => self.times(product, c),
            (Some(sum), c) if c < 0 && c != i64::MIN => {
                let size = self.times(product, -c);
                self.b.ins().isub(sum, size)
            }
            (Some(sum), c) => {
                let size = self.times(product, c);
                self.b.ins().iadd(sum, size)
            }
        })
    }

    fn times(&mut self, value: clif::Value, factor: i64) -> clif::Value {
        if factor == 1 { value } else { self.b.ins().imul_imm_s(value, factor) }
    }

    fn atom(&mut self, atom: &Atom) -> Result<clif::Value, EmitError> {
        Ok(match atom {
            Atom::Symbol(symbol) => match self.scope.index(symbol) {
                Some(Local::Scalar { dtype: DType::I64, value: Value::Uniform(value), .. }) => *value,
                Some(Local::Variable { dtype: DType::I64, slots, .. }) => {
                    let slot = slots[0];
                    self.b.use_var(slot)
                }
                _ => return Err(self.unbound("size or axis", symbol)),
            },
            Atom::Floor(a, b) => self.floor(a, b)?,
            Atom::Min(dims) => self.extremum(dims, IntCC::SignedLessThan)?,
            Atom::Max(dims) => self.extremum(dims, IntCC::SignedGreaterThan)?,
        })
    }

    /// `⌊a / b⌋` for positive `b`.
    fn floor(&mut self, a: &Dim, b: &Dim) -> Result<clif::Value, EmitError> {
        let nonnegative = self.scope.ranges.is_nonnegative(a);
        let value = self.polynomial(a)?;
        let divisor = match b.as_const() {
            Some(d) if d > 0 && d.count_ones() == 1 => {
                return Ok(self.b.ins().sshr_imm_u(value, i64::from(d.trailing_zeros())));
            }
            Some(d) if d > 0 => self.b.ins().iconst(types::I64, d),
            Some(d) => {
                return Err(
                    self.unsupported(format!("floor({a}, {b})"), format!("the divisor {d} is not positive"))
                );
            }
            None => {
                // Divisors are positive where they are used; code is reached before that is known.
                let divisor = self.polynomial(b)?;
                let one = self.b.ins().iconst(types::I64, 1);
                let positive = self.b.ins().icmp(IntCC::SignedGreaterThan, divisor, one);
                self.b.ins().select(positive, divisor, one)
            }
        };
        if nonnegative {
            return Ok(self.b.ins().udiv(value, divisor));
        }
        let quotient = self.b.ins().sdiv(value, divisor);
        let product = self.b.ins().imul(quotient, divisor);
        let above = self.b.ins().icmp(IntCC::SignedGreaterThan, product, value);
        let above = self.b.ins().uextend(types::I64, above);
        Ok(self.b.ins().isub(quotient, above))
    }

    fn extremum(&mut self, dims: &[Dim], better: IntCC) -> Result<clif::Value, EmitError> {
        let mut best = self.polynomial(&dims[0])?;
        for dim in &dims[1..] {
            let value = self.polynomial(dim)?;
            let wins = self.b.ins().icmp(better, value, best);
            best = self.b.ins().select(wins, value, best);
        }
        Ok(best)
    }

    /// Where in its array the element at `at` is.
    pub(crate) fn offset(&self, source: &Symbol, at: &[Expr]) -> Result<Offset, EmitError> {
        let array = self.scope.arrays.get(source).ok_or_else(|| self.unbound("array", source))?;
        if array.shape.len() != at.len() {
            let (found, expected) = (at.len(), array.shape.len());
            return Err(self.unsupported(
                format!("an access to `{source}`"),
                format!("it has {expected} axes and is indexed by {found}"),
            ));
        }
        if let Some(index) = at.iter().find(|index| index.dtype() != DType::I64) {
            let what = format!("an index of {} into `{source}`", index.dtype());
            return Err(self.unsupported(what, "indices are i64; cast it"));
        }
        let mut offset = Offset { dim: Dim::constant(0), computed: Vec::new() };
        let mut stride = Dim::constant(1);
        for (index, size) in at.iter().zip(&array.shape).rev() {
            split(index, &stride, &mut offset);
            stride = stride * size.clone();
        }
        offset.dim = self.resolve(&offset.dim);
        for (_, stride) in &mut offset.computed {
            *stride = self.resolve(stride);
        }
        Ok(offset)
    }

    /// The address of an element: a value and a constant number of bytes.
    pub(crate) fn address(
        &mut self,
        source: &Symbol,
        offset: &Offset,
    ) -> Result<(clif::Value, i32), EmitError> {
        let array = &self.scope.arrays[source];
        let (mut address, dtype) = (array.base, array.dtype);
        let bytes = dtype.bytes() as i64;
        let mut groups = self.by_depth(&offset.dim)?.into_iter().peekable();
        while let Some((_, group)) = groups.next() {
            // What is computed comes before the innermost axis, which alone changes in most inner loops.
            if groups.peek().is_none() {
                address = self.add_computed(address, offset, bytes)?;
            }
            let mut sum = None;
            for (atoms, c) in group {
                sum = Some(self.add_term(sum, &atoms, c)?);
            }
            let sum = sum.expect("bug: an empty group of terms");
            address = self.add_bytes(address, sum, bytes);
        }
        if offset.dim.as_const().is_some() {
            address = self.add_computed(address, offset, bytes)?;
        }
        let constant = offset.dim.constant_term().saturating_mul(bytes);
        Ok(match i32::try_from(constant) {
            // Room is left for the other vectors of a vector loop.
            Ok(small) if small < i32::MAX - 4096 => (address, small),
            _ => (self.b.ins().iadd_imm_s(address, constant), 0),
        })
    }

    fn add_computed(
        &mut self,
        mut address: clif::Value,
        offset: &Offset,
        bytes: i64,
    ) -> Result<clif::Value, EmitError> {
        for (index, stride) in &offset.computed {
            let value = self.expr(index)?.scalar();
            let stride = self.polynomial(stride)?;
            let product = self.b.ins().imul(value, stride);
            address = self.add_bytes(address, product, bytes);
        }
        Ok(address)
    }

    fn add_bytes(&mut self, address: clif::Value, elements: clif::Value, bytes: i64) -> clif::Value {
        let distance = match bytes {
            1 => elements,
            _ => self.b.ins().ishl_imm_u(elements, i64::from(bytes.trailing_zeros())),
        };
        self.b.ins().iadd(address, distance)
    }
}

/// Adds `index · stride` to an offset: what is index arithmetic, and the rest.
fn split(index: &Expr, stride: &Dim, offset: &mut Offset) {
    match index.kind() {
        ExprKind::Index(dim) => offset.dim = offset.dim.clone() + dim.clone() * stride.clone(),
        ExprKind::Binary(Binary::Add, a, b) => {
            split(a, stride, offset);
            split(b, stride, offset);
        }
        ExprKind::Binary(Binary::Sub, a, b) => {
            split(a, stride, offset);
            split(b, &-stride.clone(), offset);
        }
        ExprKind::Binary(Binary::Mul, a, b) => match (a.as_index(), b.as_index()) {
            (Some(scale), _) => split(b, &(stride.clone() * scale.clone()), offset),
            (_, Some(scale)) => split(a, &(stride.clone() * scale.clone()), offset),
            _ => offset.computed.push((index.clone(), stride.clone())),
        },
        _ => offset.computed.push((index.clone(), stride.clone())),
    }
}
