//! Index arithmetic.

use ir::Dim;
use ir::dim::{Atom, Symbol};
use ir::kernel::Expr;
use ir::types::strides;

use super::Emitter;
use super::interval::interval;
use super::types::{ADD, ATOM, Code, MUL};
use crate::error::EmitError;

impl Emitter<'_> {
    /// A size or an index.
    pub(super) fn index(&mut self, dim: &Dim) -> Code {
        let dim = dim.simplify(&self.scope.ranges);
        self.is_too_narrow |= self.int == "int" && interval(&dim, &self.scope.ranges).is_none();
        let mut text = String::new();
        let (mut terms, mut level) = (0, ATOM);
        // What is added comes before what is subtracted.
        let all: Vec<(&[Atom], i64)> = dim.terms().collect();
        let (plus, minus): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, factor)| *factor > 0);
        for (atoms, factor) in plus.into_iter().chain(minus) {
            let term = self.term(atoms, factor.unsigned_abs());
            text += match (terms, factor < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            text += &term.within(MUL);
            level = if terms > 0 || factor < 0 {
                ADD
            } else if term.within(ATOM) == term.text {
                ATOM
            } else {
                MUL
            };
            terms += 1;
        }
        if terms == 0 { Code::atom("0") } else { Code::new(text, level) }
    }

    fn term(&mut self, atoms: &[Atom], factor: u64) -> Code {
        let mut factors: Vec<String> = Vec::new();
        if factor != 1 || atoms.is_empty() {
            factors.push(if factor > i32::MAX as u64 { format!("{factor}ll") } else { factor.to_string() });
        }
        let several = atoms.len() + factors.len() > 1;
        for atom in atoms {
            let code = self.atom(atom);
            factors.push(if several { code.within(ATOM) } else { return code });
        }
        if several { Code::new(factors.join(" * "), MUL) } else { Code::atom(factors.remove(0)) }
    }

    fn atom(&mut self, atom: &Atom) -> Code {
        match atom {
            Atom::Symbol(symbol) => Code::atom(self.axis(symbol)),
            Atom::Floor(value, by) => {
                let positive = self.scope.ranges.is_nonnegative(value);
                let (value, by) = (self.index(value), self.index(by));
                if positive {
                    return Code::infix("/", MUL, &value, &by);
                }
                self.on_indices("floor_div", &value, &by)
            }
            Atom::Min(all) => self.extremum("min_int", all),
            Atom::Max(all) => self.extremum("max_int", all),
        }
    }

    fn extremum(&mut self, function: &'static str, all: &[Dim]) -> Code {
        let all: Vec<Code> = all.iter().map(|dim| self.index(dim)).collect();
        let most = all.into_iter().reduce(|a, b| self.on_indices(function, &a, &b));
        most.unwrap_or_else(|| Code::atom("0"))
    }

    /// A call of a function that is one for each type of numbers.
    fn on_indices(&mut self, function: &'static str, a: &Code, b: &Code) -> Code {
        self.prelude.need(function);
        Code::call(&format!("{function}<{}>", self.int), &[a, b])
    }

    fn axis(&self, symbol: &Symbol) -> String {
        // The verifier has seen that everything is bound.
        self.scope.axes.get(symbol).cloned().unwrap_or_else(|| super::scope::identifier(symbol.name()))
    }

    /// An element of an array, as it is stored.
    pub(super) fn element(&mut self, array: &Symbol, at: &[Expr]) -> Result<String, EmitError> {
        if let Some(element) = self.of_vector(array, at) {
            return Ok(element.text);
        }
        let position = self.position(array, at)?;
        Ok(format!("{}[{}]", self.scope.arrays[array].name, position.text))
    }

    /// The row-major position of an index in an array.
    pub(super) fn position(&mut self, array: &Symbol, at: &[Expr]) -> Result<Code, EmitError> {
        let shape = self.scope.arrays.get(array).ok_or_else(|| self.unbound(array))?.shape.clone();
        let mut whole = Dim::constant(0);
        let mut rest: Vec<Code> = Vec::new();
        for (index, stride) in at.iter().zip(strides(&shape)) {
            if let Some(dim) = index.as_index() {
                whole = whole + dim.clone() * stride;
                continue;
            }
            let index = self.expr(index)?;
            let stride = (!stride.is(1)).then(|| self.index(&stride));
            rest.push(match stride {
                Some(stride) => Code::infix("*", MUL, &index, &Code::atom(stride.within(ATOM))),
                None => index,
            });
        }
        let first = (!whole.is(0) || rest.is_empty()).then(|| self.index(&whole));
        let sum = rest.into_iter().chain(first).reduce(|a, b| Code::infix("+", ADD, &a, &b));
        Ok(sum.unwrap_or_else(|| Code::atom("0")))
    }
}
