//! Writes `exp`, `log`, `tanh` and `erf` of `f32` as polynomials in plain arithmetic.
//!
//! Every emitter and the walker then compute the same bits, in lanes or one by one. Errors against `f64`, measured by
//! a test over the whole range: `exp` 2 ulp, `log` 2 ulp, `tanh` 3 ulp, `erf` 6 ulp. Special values are those of
//! IEEE 754: NaN stays NaN, `exp(−∞) = 0`, `log(0) = −∞`, `log(x < 0) = NaN`. Coefficients are near-minimax fits.
//!
//! Arguments get names (`let`), so that nothing is computed twice. A function that stands in an arm of `select` is
//! computed before it, on an argument that is 0 where the arm is not chosen: a guarded load stays guarded.

use ir::dim::Symbol;
use ir::kernel::{Body, Expr, ExprKind, Stmt};
use ir::program::Program;
use ir::scalar::{Binary, Scalar, Unary};
use ir::{At, DType};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, ProgramPass};
use crate::target::Target;

/// See the [module](self).
pub struct ExpandMath;

impl ProgramPass for ExpandMath {
    fn about(&self) -> About {
        About::new("expand_math", "write exp, log, tanh and erf as polynomials")
    }

    fn run(&self, program: &mut Program, cx: &Cx) -> Result<Changed, At<PassError>> {
        // A GPU has functions of its own.
        if cx.target == Target::Gpu {
            return Ok(Changed(false));
        }
        let mut changed = false;
        for kernel in &mut program.kernels {
            let Body::Loops(body) = &kernel.body else { continue };
            let mut names = 0;
            let expanded = block(body, &mut names);
            changed |= names > 0;
            kernel.body = Body::Loops(expanded);
        }
        Ok(Changed(changed))
    }
}

fn block(stmts: &[Stmt], names: &mut usize) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(stmts.len());
    for stmt in stmts {
        let mut cx = Expansion { lets: Vec::new(), names };
        let stmt = match stmt {
            Stmt::For { axis, extent, kind, body } => Stmt::For {
                axis: axis.clone(),
                extent: extent.clone(),
                kind: *kind,
                body: block(body, cx.names),
            },
            Stmt::If { cond, then } => {
                let cond = cx.expr(cond, &always());
                Stmt::If { cond, then: block(then, cx.names) }
            }
            Stmt::Let { name, value } => Stmt::Let { name: name.clone(), value: cx.expr(value, &always()) },
            Stmt::Var { name, init } => Stmt::Var { name: name.clone(), init: cx.expr(init, &always()) },
            Stmt::Set { name, value } => Stmt::Set { name: name.clone(), value: cx.expr(value, &always()) },
            Stmt::Store { target, at, value } => Stmt::Store {
                target: target.clone(),
                at: at.iter().map(|i| cx.expr(i, &always())).collect(),
                value: cx.expr(value, &always()),
            },
            Stmt::Alloc { .. } | Stmt::Sort(_) => stmt.clone(),
            Stmt::Fold(fold) => {
                let mut fold = (**fold).clone();
                fold.body = block(&fold.body, cx.names);
                Stmt::Fold(Box::new(fold))
            }
            Stmt::Gemm(gemm) => {
                let mut gemm = (**gemm).clone();
                gemm.body = block(&gemm.body, cx.names);
                Stmt::Gemm(Box::new(gemm))
            }
        };
        out.append(&mut cx.lets);
        out.push(stmt);
    }
    out
}

fn always() -> Expr {
    Expr::constant(Scalar::bool(true))
}

/// Expands the expressions of one statement.
struct Expansion<'a> {
    /// What comes before the statement.
    lets: Vec<Stmt>,
    /// Names given so far in the kernel.
    names: &'a mut usize,
}

fn f(value: f32) -> Expr {
    Expr::constant(Scalar::f32(value))
}

fn i(value: i32) -> Expr {
    Expr::constant(Scalar::from_i64(DType::I32, i64::from(value)))
}

/// `c₀ + x·(c₁ + x·(…))`, one rounding for each step.
fn polynomial(x: &Expr, coefficients: &[f32]) -> Expr {
    let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
    rest.iter().rev().fold(f(*last), |sum, &c| Expr::fma(sum, x.clone(), f(c)))
}

fn binary(function: Binary, a: &Expr, b: &Expr) -> Expr {
    Expr::binary(function, a.clone(), b.clone())
}

/// `2ⁿ` for an `i32` between −126 and 127, by its exponent field.
fn power_of_two(n: Expr) -> Expr {
    Expr::binary(Binary::Shl, n + i(127), i(23)).bitcast(DType::F32)
}

impl Expansion<'_> {
    /// `e` with functions expanded. It is evaluated only where `guard` holds.
    fn expr(&mut self, e: &Expr, guard: &Expr) -> Expr {
        match e.kind() {
            ExprKind::Select(cond, yes, no) => {
                let cond = self.expr(cond, guard);
                let yes = self.expr(yes, &guard.clone().and(cond.clone()));
                let not = Expr::unary(Unary::Not, cond.clone());
                let no = self.expr(no, &guard.clone().and(not));
                cond.select(yes, no)
            }
            ExprKind::Unary(function, x)
                if x.dtype() == DType::F32
                    && matches!(function, Unary::Exp | Unary::Log | Unary::Tanh | Unary::Erf) =>
            {
                let x = self.expr(x, guard);
                let x = self.bind(guard.clone().select(x, f(0.0)));
                match function {
                    Unary::Exp => self.exp(&x),
                    Unary::Log => self.log(&x),
                    Unary::Tanh => self.tanh(&x),
                    _ => self.erf(&x),
                }
            }
            _ => e.map_children(&mut |child| self.expr(child, guard)),
        }
    }

    /// Gives the value a name.
    fn bind(&mut self, value: Expr) -> Expr {
        if matches!(value.kind(), ExprKind::Var { .. } | ExprKind::Const(_)) {
            return value;
        }
        let name = Symbol::new(format!("m{}", self.names));
        *self.names += 1;
        let dtype = value.dtype();
        self.lets.push(Stmt::Let { name: name.clone(), value });
        Expr::var(name, dtype)
    }

    /// `eˣ = 2ⁿ·eʳ` with `n = ⌊x/ln 2⌉` and `|r| ≤ ln 2 / 2`. The power of two is applied in two halves, so that
    /// results down to the smallest denormal come out right.
    fn exp(&mut self, x: &Expr) -> Expr {
        // Beyond these, the result is 0 or ∞ in any case. NaN passes.
        let low = self.bind(binary(Binary::Max, x, &f(-104.0)));
        let x = self.bind(binary(Binary::Min, &low, &f(89.0)));
        let n = self.bind(Expr::unary(Unary::Round, x.clone() * f(std::f32::consts::LOG2_E)));
        let r = Expr::fma(n.clone(), f(-0.693_359_4), x);
        let r = self.bind(Expr::fma(n.clone(), f(2.121_944_4e-4), r));
        let q = polynomial(&r, &[0.5, 0.166_665_18, 0.041_666_206, 0.008_368_908, 0.001_395_052_2]);
        let p = self.bind(Expr::fma(r.clone() * r.clone(), q, r) + f(1.0));
        let n = self.bind(n.cast(DType::I32));
        let half = self.bind(Expr::binary(Binary::Shr, n.clone(), i(1)));
        let rest = n - half.clone();
        p * power_of_two(half) * power_of_two(rest)
    }

    /// `log x = e·ln 2 + log m` with `√½ ≤ m < √2`, and `log(1 + t) = t − t²/2 + t³·P(t)`.
    fn log(&mut self, x: &Expr) -> Expr {
        // Denormals are scaled up first.
        let tiny = self.bind(x.clone().less(f(f32::MIN_POSITIVE)));
        let scaled = self.bind(tiny.clone().select(x.clone() * f(8_388_608.0), x.clone()));
        let bits = self.bind(scaled.bitcast(DType::I32));
        // The exponent of x/√½, so that the mantissa comes to lie around 1.
        let shifted = self.bind(bits.clone() - i(0x3f35_04f3));
        let e = self.bind(Expr::binary(Binary::Shr, shifted, i(23)));
        let m = (bits - Expr::binary(Binary::Shl, e.clone(), i(23))).bitcast(DType::F32);
        let t = self.bind(m - f(1.0));
        let e = self.bind(e.cast(DType::F32) - tiny.select(f(23.0), f(0.0)));
        let p = polynomial(
            &t,
            &[
                0.333_333_1,
                -0.249_999_87,
                0.200_021_52,
                -0.166_691_97,
                0.142_199_19,
                -0.123_857_98,
                0.118_660_35,
                -0.117_796_67,
                0.069_179_84,
            ],
        );
        let square = self.bind(t.clone() * t.clone());
        let tail = Expr::fma(e.clone(), f(-2.121_944_4e-4), square.clone() * t.clone() * p);
        let tail = self.bind(Expr::fma(f(-0.5), square, tail));
        let value = self.bind(Expr::fma(e, f(0.693_359_4), t + tail));
        // ±0, negative numbers, ∞ and NaN.
        let zero = x.clone().equals(f(0.0));
        let negative = x.clone().less(f(0.0));
        let finite = x.clone().less(f(f32::INFINITY));
        let special = negative.clone().select(f(f32::NAN), x.clone());
        let special = zero.clone().select(f(f32::NEG_INFINITY), special);
        let ordinary = finite.and(Expr::unary(Unary::Not, zero)).and(Expr::unary(Unary::Not, negative));
        self.bind(ordinary.select(value, special))
    }

    /// `tanh x = x + x³·P(x²)` near 0, and `sign(x)·(1 − 2/(e^{2|x|} + 1))` elsewhere.
    fn tanh(&mut self, x: &Expr) -> Expr {
        let size = self.bind(Expr::unary(Unary::Abs, x.clone()));
        let twice = self.bind(size.clone() + size.clone());
        let e = self.exp(&twice);
        let far = self.bind(f(1.0) - f(2.0) / (e + f(1.0)));
        let square = self.bind(x.clone() * x.clone());
        let p = polynomial(
            &square,
            &[-0.333_332_84, 0.133_314_91, -0.053_743_497, 0.020_650_579, -0.005_717_037],
        );
        let near = self.bind(Expr::fma(x.clone() * square, p, x.clone()));
        let signed = with_sign(&far, x);
        self.bind(size.clone().less(f(0.625)).select(near, signed))
    }

    /// `erf x = x·P(x²)/Q(x²)`. Beyond 3.9 the result rounds to 1.
    fn erf(&mut self, x: &Expr) -> Expr {
        // NaN passes.
        let low = binary(Binary::Max, x, &f(-3.9));
        let x = self.bind(binary(Binary::Min, &low, &f(3.9)));
        let square = self.bind(x.clone() * x.clone());
        let p = polynomial(
            &square,
            &[
                std::f32::consts::FRAC_2_SQRT_PI,
                0.189_666_26,
                0.052_668_005,
                0.003_738_325_8,
                0.000_285_062_5,
                2.066_488_2e-6,
            ],
        );
        let q = polynomial(
            &square,
            &[1.0, 0.501_420_2, 0.113_818_71, 0.014_914_229, 0.001_157_373, 3.827_018_7e-5],
        );
        let quotient = x * p / q;
        let low = binary(Binary::Max, &quotient, &f(-1.0));
        self.bind(binary(Binary::Min, &low, &f(1.0)))
    }
}

/// `|magnitude|` with the sign bit of `sign`.
fn with_sign(magnitude: &Expr, sign: &Expr) -> Expr {
    let bits = |e: &Expr| e.clone().bitcast(DType::I32);
    let sign = Expr::binary(Binary::And, bits(sign), i(i32::MIN));
    let size = Expr::binary(Binary::And, bits(magnitude), i(i32::MAX));
    Expr::binary(Binary::Or, size, sign).bitcast(DType::F32)
}
