//! Scalar regions: what an op does to one number, as an attribute.
//!
//! A region is a closed term over kernel expressions: the number is `%s`, an element of operand 3 is `%x3[…]`, and the
//! place of the number among all that the op computes is `i0`, `i1`, …, outermost axis first. Other bare names are
//! sizes, so that sizes must not be called like axes where regions speak of them.
//!
//! Its text says what types its names have, and reads back to the same region:
//! `(%s: f32, %x3: f32) -> %s * 0.125 + %x3[i2, i3]`.
//!
//! Regions are simplified by the constructors of [`Expr`], and by nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::lower::Lower;
use crate::kernel::{Expr, ExprKind, Stage};
use crate::text::ParseError;

/// The name of the number in a region.
const NUMBER: &str = "s";

/// A function of one `f32` number, of its place, and of elements of operands. See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Region {
    body: Expr,
}

impl Region {
    /// What gives back the number.
    pub fn identity() -> Region {
        Region { body: Region::number() }
    }

    /// The region with this body, over [`Region::number`], [`Region::axis`] and loads of operands by
    /// [`Lower::operand_name`].
    pub fn new(body: Expr) -> Region {
        Region { body }
    }

    /// The number, in bodies.
    pub fn number() -> Expr {
        Expr::var(Symbol::new(NUMBER), DType::F32)
    }

    /// The index of the number along axis `at`, in bodies.
    pub fn axis(at: usize) -> Symbol {
        Symbol::new(format!("i{at}"))
    }

    /// The number of the axis, if it is one.
    pub fn axis_number(symbol: &Symbol) -> Option<usize> {
        decimal(symbol.name().strip_prefix('i')?)
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn parse(text: &str) -> Result<Region, Vec<ParseError>> {
        crate::text::parse_region::parse(text)
    }

    /// What it gives.
    pub fn body(&self) -> &Expr {
        &self.body
    }

    /// Does it give back the number?
    pub fn is_identity(&self) -> bool {
        self.body == Region::number()
    }

    /// The arrays that it loads, by name with their element type, in ascending order of numbers.
    pub fn arrays(&self) -> Vec<(Symbol, DType)> {
        let mut found = BTreeMap::new();
        self.body.walk(&mut |e| {
            if let ExprKind::Load { source, dtype, .. } = e.kind() {
                found.entry((source.name().len(), source.clone())).or_insert(*dtype);
            }
        });
        found.into_iter().map(|((_, name), dtype)| (name, dtype)).collect()
    }

    /// The numbers of the operands that it loads, ascending.
    pub fn operands(&self) -> Vec<usize> {
        self.arrays().iter().filter_map(|(name, _)| operand_number(name)).collect()
    }

    /// The axes that it speaks of, ascending, and the sizes.
    pub fn symbols(&self) -> (BTreeSet<usize>, BTreeSet<Symbol>) {
        let (mut axes, mut sizes) = (BTreeSet::new(), BTreeSet::new());
        self.for_each_name(&mut |symbol| match Region::axis_number(symbol) {
            Some(axis) => {
                axes.insert(axis);
            }
            None => {
                sizes.insert(symbol.clone());
            }
        });
        (axes, sizes)
    }

    /// Calls `visit` with each size in it.
    pub fn for_each_symbol(&self, visit: &mut dyn FnMut(&Symbol)) {
        self.for_each_name(&mut |symbol| {
            if Region::axis_number(symbol).is_none() {
                visit(symbol);
            }
        });
    }

    fn for_each_name(&self, visit: &mut dyn FnMut(&Symbol)) {
        self.body.walk(&mut |e| match e.kind() {
            ExprKind::Index(dim) => dim.for_each_symbol(visit),
            ExprKind::Fold(fold) => fold.extent.for_each_symbol(visit),
            _ => {}
        });
    }

    /// Every size in it replaced through `with`; axes stay.
    pub fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Region {
        let sizes = |symbol: &Symbol| Region::axis_number(symbol).map_or_else(|| with(symbol), |_| None);
        Region { body: self.body.substitute(&sizes) }
    }

    /// The operands that it loads called by other numbers.
    pub fn renumbered(&self, number: &dyn Fn(usize) -> usize) -> Region {
        Region { body: renumbered(&self.body, number) }
    }

    /// Its body with `number` for the number, at the place `at`.
    pub fn apply(&self, number: &Expr, at: &[Dim]) -> Expr {
        let placed = self.body.substitute(&|symbol| at.get(Region::axis_number(symbol)?).cloned());
        put(&placed, number)
    }

    /// First this region, then an elementwise op, given by the one stage that it is lowered to. The op's operands
    /// `score` are what this region gives; operand `n` of the others is `numbers[n]` of the op that carries the region.
    /// `None` if the stage takes the number from another place than it gives one, or if it folds.
    pub fn then(&self, stage: &Stage, score: &[usize], numbers: &[usize]) -> Option<Region> {
        let own: Vec<Symbol> = (0..stage.axes.len()).map(Region::axis).collect();
        if !stage.axes.iter().map(|(axis, _)| axis).eq(&own) {
            return None;
        }
        // Along an axis of size 1, an element is loaded at 0.
        let place = |at: &[Expr]| {
            let same = |(index, (axis, extent)): (&Expr, &(Symbol, Dim))| match index.as_index() {
                Some(index) => *index == Dim::from(axis) || (extent.is(1) && index.is(0)),
                None => false,
            };
            at.len() == stage.axes.len() && at.iter().zip(&stage.axes).all(same)
        };
        let is_score = |source: &Symbol| operand_number(source).is_some_and(|n| score.contains(&n));
        let mut fits = true;
        stage.body.walk(&mut |e| match e.kind() {
            ExprKind::Load { source, at, .. } if is_score(source) => fits &= place(at),
            ExprKind::Load { source, .. } => {
                fits &= operand_number(source).is_some_and(|n| n < numbers.len());
            }
            ExprKind::Fold(_) | ExprKind::Var { .. } => fits = false,
            _ => {}
        });
        let number = Symbol::new("score");
        let marked = stage
            .body
            .replace_loads(&mut |source, _| is_score(source).then(|| Expr::var(number.clone(), DType::F32)));
        let renamed = renumbered(&marked, &|n| numbers.get(n).copied().unwrap_or(n));
        fits.then(|| Region { body: put(&renamed, &self.body) })
    }
}

/// `e` with `number` for each bound scalar.
fn put(e: &Expr, number: &Expr) -> Expr {
    match e.kind() {
        ExprKind::Var { .. } => number.clone(),
        _ => e.map_children(&mut |child| put(child, number)),
    }
}

fn renumbered(e: &Expr, number: &dyn Fn(usize) -> usize) -> Expr {
    let inside = e.map_children(&mut |child| renumbered(child, number));
    match (e.kind(), inside.kind()) {
        (ExprKind::Load { .. }, ExprKind::Load { source, dtype, at }) => match operand_number(source) {
            Some(n) => Expr::load(Lower::operand_name(number(n)), *dtype, at.clone()),
            None => inside,
        },
        // A choice between what is now the same load is that load.
        _ => inside,
    }
}

/// The number of the operand that a load calls so.
pub fn operand_number(source: &Symbol) -> Option<usize> {
    decimal(source.name().strip_prefix('x')?)
}

fn decimal(digits: &str) -> Option<usize> {
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::text::print_kernel::region(f, self)
    }
}
