//! Sizes that an operand needs: nodes that compute them from the shapes of values, each once.

use ir::dim::{Atom, Ranges};
use ir::{Dim, Tensor};
use ops::onnx::NodeAttr;
use ops::onnx::export::Sink;

use super::ExportProblem;
use super::scope::{Source, Writer};

impl Writer {
    /// A size as a vector of one number.
    pub(super) fn size_of(&mut self, size: &Dim) -> String {
        if let Some(number) = size.as_const() {
            return self.constant(&Tensor::from_i64(&[1], &[number]));
        }
        if let Some(known) = self.visible().find_map(|scope| scope.sizes.get(size)) {
            return known.clone();
        }
        let label = std::mem::replace(&mut self.label, format!("size {size}"));
        let origin = self.origin.take();
        let name = self.computed(size);
        (self.label, self.origin) = (label, origin);
        self.scope().sizes.insert(size.clone(), name.clone());
        name
    }

    fn computed(&mut self, size: &Dim) -> String {
        if let Some(symbol) = size.as_symbol() {
            let source = self.visible().find_map(|scope| scope.symbols.get(symbol)).cloned();
            return match source {
                Some(source) => self.told(&source),
                None => {
                    let symbol = symbol.to_string();
                    self.problem.get_or_insert(ExportProblem::NoSize { symbol });
                    String::new()
                }
            };
        }
        let axis = self.visible().find_map(|scope| scope.axes.get(size)).cloned();
        if let Some((value, axis)) = axis {
            return self.axis(&value, axis);
        }
        self.polynomial(size)
    }

    fn axis(&mut self, value: &str, axis: usize) -> String {
        let range = vec![("start", NodeAttr::Int(axis as i64)), ("end", NodeAttr::Int(axis as i64 + 1))];
        self.one("Shape", &[value], range)
    }

    fn told(&mut self, source: &Source) -> String {
        match source {
            Source::Number(name) => {
                let first = self.number(0);
                self.one("Unsqueeze", &[name, &first], vec![])
            }
            Source::Axis { value, axis, factor, offset } => {
                let mut size = self.axis(value, *axis);
                if *offset != 0 {
                    let offset = self.number(*offset);
                    size = self.one("Sub", &[&size, &offset], vec![]);
                }
                if *factor != 1 {
                    let factor = self.number(*factor);
                    size = self.one("Div", &[&size, &factor], vec![]);
                }
                size
            }
        }
    }

    fn polynomial(&mut self, size: &Dim) -> String {
        let mut sum: Option<String> = None;
        // What is added comes first, so that little is below 0 on the way.
        let mut terms: Vec<(&[Atom], i64)> = size.terms().collect();
        terms.sort_by_key(|(_, factor)| *factor < 0);
        for (atoms, factor) in terms {
            let mut term: Option<String> = None;
            for atom in atoms {
                let atom = self.atom(atom);
                term = Some(match term {
                    None => atom,
                    Some(term) => self.one("Mul", &[&term, &atom], vec![]),
                });
            }
            let size = factor.saturating_abs();
            let term = match term {
                Some(term) if size == 1 => term,
                Some(term) => {
                    let size = self.number(size);
                    self.one("Mul", &[&term, &size], vec![])
                }
                None => self.number(size),
            };
            sum = Some(match sum {
                None if factor >= 0 => term,
                None => self.one("Neg", &[&term], vec![]),
                Some(sum) => self.one(if factor < 0 { "Sub" } else { "Add" }, &[&sum, &term], vec![]),
            });
        }
        sum.unwrap_or_else(|| self.number(0))
    }

    fn atom(&mut self, atom: &Atom) -> String {
        match atom {
            Atom::Symbol(symbol) => self.size_of(&Dim::from(symbol)),
            Atom::Floor(a, by) => self.quotient(a, by),
            Atom::Min(dims) => self.extremum("Min", dims),
            Atom::Max(dims) => self.extremum("Max", dims),
        }
    }

    /// `⌊a / by⌋`: division truncates, which is the same for what is not negative.
    fn quotient(&mut self, a: &Dim, by: &Dim) -> String {
        let whole = a.floor_div(by);
        let known = self.visible().find_map(|scope| scope.sizes.get(&whole)).cloned();
        if let Some(known) = known {
            return known;
        }
        let axis = self.visible().find_map(|scope| scope.axes.get(&whole)).cloned();
        if let Some((value, axis)) = axis {
            return self.axis(&value, axis);
        }
        let (mut left, right) = (self.size_of(a), self.size_of(by));
        if !Ranges::new().is_nonnegative(a) {
            let rest = self.one("Mod", &[&left, &right], vec![]);
            left = self.one("Sub", &[&left, &rest], vec![]);
        }
        self.one("Div", &[&left, &right], vec![])
    }

    fn extremum(&mut self, op_type: &str, dims: &[Dim]) -> String {
        let dims: Vec<String> = dims.iter().map(|dim| self.size_of(dim)).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        self.one(op_type, &dims, vec![])
    }

    fn number(&mut self, number: i64) -> String {
        self.constant(&Tensor::from_i64(&[1], &[number]))
    }

    fn one(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<(&'static str, NodeAttr)>) -> String {
        self.node(op_type, inputs, 1, attributes).remove(0)
    }
}
