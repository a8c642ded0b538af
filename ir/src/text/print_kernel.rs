//! Expressions, statements and kernels as text.
//!
//! Bare names are sizes and axes; `%name` is a bound scalar, `%name[…]` an element of an array. Infix signs are
//! `+ - * /` (`/` truncates for integers), comparisons, and `&& ||` on truth values; every other function is a call
//! by its name. Parentheses stand only where they change the meaning.

use std::fmt;
use std::fmt::Write;

use crate::dim::{Dim, Symbol};
use crate::dtype::{Class, DType};
use crate::kernel::stmt::FOLD_LANES;
use crate::kernel::{
    Access, Body, Expr, ExprKind, Gemm, Group, Kernel, LaneFold, LoopKind, Sort, Stage, Stmt,
};
use crate::region::Region;
use crate::scalar::{Binary, Scalar, Unary};
use crate::text::lex::{Bare, Sigil};
use crate::text::print_graph::{commas, element, indent};

/// How tightly the outermost sign of an expression binds; a call or a name binds tightest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bind {
    Or,
    And,
    Compare,
    Add,
    Mul,
    Sign,
    Atom,
}

impl Bind {
    /// One step tighter.
    pub(super) fn tighter(self) -> Bind {
        match self {
            Bind::Or => Bind::And,
            Bind::And => Bind::Compare,
            Bind::Compare => Bind::Add,
            Bind::Add => Bind::Mul,
            Bind::Mul => Bind::Sign,
            Bind::Sign | Bind::Atom => Bind::Atom,
        }
    }
}

/// The infix signs with what they mean.
pub(super) const INFIX: [(&str, Binary, Bind); 12] = [
    ("||", Binary::Or, Bind::Or),
    ("&&", Binary::And, Bind::And),
    ("==", Binary::Eq, Bind::Compare),
    ("!=", Binary::Ne, Bind::Compare),
    ("<=", Binary::Le, Bind::Compare),
    (">=", Binary::Ge, Bind::Compare),
    ("<", Binary::Lt, Bind::Compare),
    (">", Binary::Gt, Bind::Compare),
    ("+", Binary::Add, Bind::Add),
    ("-", Binary::Sub, Bind::Add),
    ("*", Binary::Mul, Bind::Mul),
    ("/", Binary::Div, Bind::Mul),
];

fn infix(f: Binary, operand: DType) -> Option<(&'static str, Bind)> {
    let logical = matches!(f, Binary::And | Binary::Or);
    let (sign, _, bind) = INFIX.into_iter().find(|(_, function, _)| *function == f)?;
    (!logical || operand == DType::Bool).then_some((sign, bind))
}

fn bind(expr: &Expr) -> Bind {
    match expr.kind() {
        ExprKind::Index(dim) => bind_dim(dim),
        ExprKind::Const(value) if value.dtype().is_float() && value.to_f64().is_sign_negative() => Bind::Sign,
        ExprKind::Const(value) if value.dtype().class() == Class::Signed && value.to_i64() < 0 => Bind::Sign,
        ExprKind::Binary(f, a, _) => infix(*f, a.dtype()).map_or(Bind::Atom, |(_, bind)| bind),
        ExprKind::Unary(Unary::Neg, x) if is_signed(x) => Bind::Sign,
        _ => Bind::Atom,
    }
}

/// Is `−x` written with a sign? A sign before an index or a number belongs to that.
fn is_signed(x: &Expr) -> bool {
    !matches!(x.kind(), ExprKind::Index(_) | ExprKind::Const(_))
}

fn bind_dim(dim: &Dim) -> Bind {
    let mut terms = dim.terms();
    match (terms.next(), terms.next()) {
        (None, _) => Bind::Atom,
        (Some(_), Some(_)) => Bind::Add,
        (Some((atoms, c)), None) => match (atoms.len(), c) {
            (0, c) if c >= 0 => Bind::Atom,
            (0, _) | (1, -1) => Bind::Sign,
            (1, 1) => Bind::Atom,
            _ => Bind::Mul,
        },
    }
}

/// Writes `expr`, in parentheses if it binds less tightly than `least`.
fn operand(f: &mut fmt::Formatter<'_>, expr: &Expr, least: Bind) -> fmt::Result {
    if bind(expr) < least { write!(f, "({expr})") } else { write!(f, "{expr}") }
}

/// A constant with its type: `1.0` is `f32`, `1.0f64` is not; `inf<f64>`.
fn constant(f: &mut fmt::Formatter<'_>, value: Scalar) -> fmt::Result {
    let dtype = value.dtype();
    match dtype {
        DType::F32 | DType::Bool => element(f, value),
        _ if dtype.is_float() && value.to_f64().is_nan() && value != Scalar::from_f64(dtype, f64::NAN) => {
            write!(f, "nan<{dtype}>({:#x})", value.bits())
        }
        _ if dtype.is_float() && !value.to_f64().is_finite() => write!(f, "{value}<{dtype}>"),
        _ => write!(f, "{value}{dtype}"),
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = |f: &mut fmt::Formatter<'_>, name: &str, args: &[&Expr]| {
            write!(f, "{name}(")?;
            commas(f, args, |f, arg| write!(f, "{arg}"))?;
            f.write_char(')')
        };
        match self.kind() {
            ExprKind::Const(value) => constant(f, *value),
            ExprKind::Index(dim) => write!(f, "{dim}"),
            ExprKind::Load { source, at, .. } => {
                write!(f, "{}[", Sigil('%', source.name()))?;
                commas(f, at, |f, i| write!(f, "{i}"))?;
                f.write_char(']')
            }
            ExprKind::Var { name, .. } => write!(f, "{}", Sigil('%', name.name())),
            ExprKind::Unary(Unary::Neg, x) if is_signed(x) => {
                f.write_char('-')?;
                operand(f, x, Bind::Atom)
            }
            ExprKind::Unary(function, x) => call(f, function.name(), &[x]),
            ExprKind::Binary(function, a, b) => match infix(*function, a.dtype()) {
                Some((sign, bind)) => {
                    // Comparisons don't chain; the others lean to the left.
                    operand(f, a, if bind == Bind::Compare { Bind::Add } else { bind })?;
                    write!(f, " {sign} ")?;
                    operand(f, b, bind.tighter())
                }
                None => call(f, function.name(), &[a, b]),
            },
            ExprKind::Fma(a, b, c) => call(f, "fma", &[a, b, c]),
            ExprKind::Select(c, a, b) => call(f, "select", &[c, a, b]),
            ExprKind::Cast(dtype, x) => write!(f, "cast<{dtype}>({x})"),
            ExprKind::Bitcast(dtype, x) => write!(f, "bitcast<{dtype}>({x})"),
            ExprKind::Fold(fold) => {
                let axis = Bare(fold.axis.name());
                write!(f, "{} {axis} in 0..{} {{ {} }}", fold.op.name(), fold.extent, fold.body)
            }
        }
    }
}

/// Writes a region: the types of its names, then its body.
pub(crate) fn region(f: &mut fmt::Formatter<'_>, region: &Region) -> fmt::Result {
    f.write_str("(%s: f32")?;
    for (name, dtype) in region.arrays() {
        write!(f, ", {}: {dtype}", Sigil('%', name.name()))?;
    }
    write!(f, ") -> {}", region.body())
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}[", Sigil('%', self.name.name()))?;
        commas(f, &self.axes, |f, (axis, extent)| write!(f, "{} in {extent}", Bare(axis.name())))?;
        write!(f, "] : {} = {}", self.body.dtype(), self.body)
    }
}

fn block(f: &mut fmt::Formatter<'_>, body: &[Stmt], level: usize) -> fmt::Result {
    f.write_str(" {\n")?;
    for inner in body {
        indent(f, level + 1)?;
        stmt(f, inner, level + 1)?;
        f.write_char('\n')?;
    }
    indent(f, level)?;
    f.write_char('}')
}

fn stmt(f: &mut fmt::Formatter<'_>, stmt: &Stmt, level: usize) -> fmt::Result {
    match stmt {
        Stmt::For { axis, extent, kind, body } => {
            let word = match kind {
                LoopKind::Serial => "for",
                LoopKind::Parallel(_) => "parallel",
                LoopKind::Vector(_) => "vector",
                LoopKind::Unroll => "unroll",
                LoopKind::Blocks(_) => "blocks",
                LoopKind::Grid { .. } => "grid",
                LoopKind::Threads(_) => "threads",
            };
            write!(f, "{word} {} in 0..{extent}", Bare(axis.name()))?;
            match kind {
                LoopKind::Parallel(grain) if *grain != 1 => write!(f, " grain {grain}")?,
                LoopKind::Vector(lanes) => write!(f, " by {lanes}")?,
                LoopKind::Blocks(threads) | LoopKind::Grid { threads, .. } => write!(f, " of {threads}")?,
                LoopKind::Serial | LoopKind::Unroll | LoopKind::Parallel(_) | LoopKind::Threads(_) => {}
            }
            match kind {
                LoopKind::Grid { lanes, .. } | LoopKind::Threads(lanes) if *lanes != 1 => {
                    write!(f, " by {lanes}")?;
                }
                _ => {}
            }
            block(f, body, level)
        }
        Stmt::If { cond, then } => {
            write!(f, "if {cond}")?;
            block(f, then, level)
        }
        Stmt::Let { name, value } => write!(f, "let {} = {value}", Sigil('%', name.name())),
        Stmt::Var { name, init } => write!(f, "var {} = {init}", Sigil('%', name.name())),
        Stmt::Set { name, value } => write!(f, "set {} = {value}", Sigil('%', name.name())),
        Stmt::Store { target, at, value } => {
            write!(f, "{}[", Sigil('%', target.name()))?;
            commas(f, at, |f, i| write!(f, "{i}"))?;
            write!(f, "] = {value}")
        }
        Stmt::Alloc { name, dtype, shape } => {
            write!(f, "alloc {} : {dtype}[", Sigil('%', name.name()))?;
            commas(f, shape, |f, size| write!(f, "{size}"))?;
            f.write_char(']')
        }
        Stmt::Fold(fold) => {
            let LaneFold { acc, dtype, op, lanes, axis, extent, body } = &**fold;
            let (acc, axis) = (Sigil('%', acc.name()), Bare(axis.name()));
            write!(f, "fold {acc}")?;
            if *dtype != DType::F32 {
                write!(f, " : {dtype}")?;
            }
            write!(f, " = {} {axis} in 0..{extent}", op.name())?;
            if *lanes != FOLD_LANES as u32 {
                write!(f, " by {lanes}")?;
            }
            block(f, body, level)
        }
        Stmt::Gemm(gemm) => {
            let Gemm { row, col, depth, group, a, b, acc, body } = &**gemm;
            let range = |f: &mut fmt::Formatter<'_>, (axis, extent): &(Symbol, Dim)| {
                write!(f, "{} in 0..{extent}", Bare(axis.name()))
            };
            f.write_str("gemm ")?;
            commas(f, [row, col, depth], |f, axes| match &axes[..] {
                [axis] => range(f, axis),
                several => {
                    f.write_char('(')?;
                    commas(f, several, range)?;
                    f.write_char(')')
                }
            })?;
            if let Some(Group { axis, extent, order, starts }) = group {
                let [order, starts] = [order, starts].map(|array| Sigil('%', array.name()));
                write!(f, " for {} in 0..{extent} order {order} starts {starts}", Bare(axis.name()))?;
            }
            f.write_str(" { ")?;
            operand(f, a, Bind::Sign)?;
            f.write_str(" * ")?;
            operand(f, b, Bind::Sign)?;
            f.write_str(" }")?;
            write!(f, " as {}", Sigil('%', acc.name()))?;
            block(f, body, level)
        }
        Stmt::Sort(sort) => {
            let Sort { keys, axis, descending, values, positions, scratch } = &**sort;
            let order = if *descending { "descending" } else { "ascending" };
            write!(f, "sort {} along {axis} {order}", Sigil('%', keys.name()))?;
            for (word, array) in
                [("values", values), ("positions", positions), ("scratch", &Some(scratch.clone()))]
            {
                if let Some(array) = array {
                    write!(f, " {word} {}", Sigil('%', array.name()))?;
                }
            }
            Ok(())
        }
    }
}

impl fmt::Display for Stmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        stmt(f, self, 0)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        kernel(f, self, 0)?;
        f.write_char('\n')
    }
}

/// Writes a kernel.
pub(super) fn kernel(f: &mut fmt::Formatter<'_>, kernel: &Kernel, level: usize) -> fmt::Result {
    write!(f, "kernel {} kind={} ", Sigil('@', kernel.name.name()), kernel.kind.name())?;
    if !kernel.sizes.is_empty() {
        f.write_char('[')?;
        commas(f, &kernel.sizes, |f, size| write!(f, "{}", Bare(size.name())))?;
        f.write_char(']')?;
    }
    f.write_char('(')?;
    commas(f, &kernel.params, |f, param| {
        let access = match param.access {
            Access::Read => "",
            Access::Write => "write ",
            Access::Scratch => "scratch ",
        };
        write!(f, "{}: {access}{}", Sigil('%', param.name.name()), param.ty)
    })?;
    f.write_char(')')?;
    if !kernel.given.is_empty() {
        f.write_str(" given ")?;
        commas(f, &kernel.given, |f, condition| write!(f, "{condition}"))?;
    }
    match &kernel.body {
        Body::Stages(stages) => {
            f.write_str(" stages {\n")?;
            for stage in stages {
                indent(f, level + 1)?;
                writeln!(f, "{stage}")?;
            }
            indent(f, level)?;
            f.write_char('}')
        }
        Body::Loops(body) => {
            f.write_str(" loops")?;
            block(f, body, level)
        }
    }
}
