//! From a program to the plan that the runtime interprets: the same facts, in the runtime's terms.
//!
//! Symbols become numbers, and each gets its value from one axis of one input. Deliberately absent: decisions; a
//! program says all there is to say.

use std::collections::BTreeMap;

use ir::dim::Atom;
use ir::program::{self, Program};
use ir::{Dim, Symbol, TensorType};
use runtime::Size;
use runtime::plan::{Arg, Bind, Buffer, Entry, KernelSlot, Plan, Port, Space, Step, WeightSlot};

use crate::error::Error;
use crate::tensors::to_runtime;

/// The plan of a program whose kernels start at `kernels` in the code image and whose weights lie at `weights`.
///
/// # Errors
/// [`Error::Unsolvable`] for a symbol that no input's shape fixes, [`Error::Unplanned`] before the memory plan.
pub(crate) fn plan(
    program: &Program,
    kernels: &[(String, u64)],
    weights: Vec<WeightSlot>,
) -> Result<Plan, Error> {
    let kernels =
        kernels.iter().map(|(name, offset)| KernelSlot { name: name.clone(), offset: *offset }).collect();
    let entries = program.entries.iter().map(entry).collect::<Result<_, _>>()?;
    let plan = Plan { entries, weights, kernels };
    plan.validate().map_err(|error| Error::Load(error.into()))?;
    Ok(plan)
}

fn entry(entry: &program::Entry) -> Result<Entry, Error> {
    let symbols = Symbols::of(entry);
    let unplanned = || Error::Unplanned { entry: entry.name.clone() };
    let port = |port: &program::Port| -> Result<Port, Error> {
        let TensorType { dtype, shape } = &port.ty;
        Ok(Port { name: port.name.clone(), dtype: to_runtime(*dtype), dims: symbols.sizes(shape)? })
    };
    let buffer = |buffer: &program::Buffer| -> Result<Buffer, Error> {
        let offset = buffer.offset.as_ref().ok_or_else(unplanned)?;
        Ok(Buffer {
            offset: symbols.size(offset)?,
            bytes: symbols.size(&buffer.ty.bytes())?,
            space: match buffer.space {
                program::Space::Arena => Space::Arena,
                program::Space::State => Space::State,
            },
        })
    };
    let step = |step: &program::Step| -> Result<Step, Error> {
        Ok(Step {
            kernel: number(step.kernel),
            args: step.args.iter().map(|&a| arg(a)).collect(),
            sizes: symbols.sizes(&step.sizes)?,
        })
    };
    Ok(Entry {
        name: entry.name.clone(),
        symbols: symbols.names.iter().map(Symbol::to_string).collect(),
        inputs: entry.inputs.iter().map(port).collect::<Result<_, _>>()?,
        outputs: entry.outputs.iter().map(port).collect::<Result<_, _>>()?,
        binds: binds(entry, &symbols)?,
        arena_bytes: symbols.size(entry.arena.as_ref().ok_or_else(unplanned)?)?,
        buffers: entry.buffers.iter().map(buffer).collect::<Result<_, _>>()?,
        steps: entry.steps.iter().map(step).collect::<Result<_, _>>()?,
    })
}

fn arg(arg: program::Arg) -> Arg {
    match arg {
        program::Arg::Input(i) => Arg::Input(number(i)),
        program::Arg::Output(i) => Arg::Output(number(i)),
        program::Arg::Weight(i) => Arg::Weight(number(i)),
        program::Arg::Buffer(i) => Arg::Buffer(number(i)),
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a program with 2^32 of anything does not fit memory")
}

/// The symbols of an entry, numbered.
struct Symbols<'a> {
    entry: &'a str,
    names: Vec<Symbol>,
    numbers: BTreeMap<Symbol, u32>,
}

impl<'a> Symbols<'a> {
    fn of(entry: &'a program::Entry) -> Symbols<'a> {
        let names = entry.symbols();
        let numbers = names.iter().enumerate().map(|(i, symbol)| (symbol.clone(), number(i))).collect();
        Symbols { entry: &entry.name, names, numbers }
    }

    fn sizes(&self, dims: &[Dim]) -> Result<Vec<Size>, Error> {
        dims.iter().map(|dim| self.size(dim)).collect()
    }

    /// The same expression in the runtime's terms.
    fn size(&self, dim: &Dim) -> Result<Size, Error> {
        let terms = dim.terms().map(|(atoms, factor)| {
            let mut factors = Vec::with_capacity(atoms.len() + 1);
            if factor != 1 || atoms.is_empty() {
                factors.push(Size::Const(factor));
            }
            for atom in atoms {
                factors.push(self.atom(atom)?);
            }
            Ok(tree(factors, Size::Mul))
        });
        // The constant comes last, as people write it.
        let mut terms = terms.collect::<Result<Vec<Size>, Error>>()?;
        if matches!(terms.first(), Some(Size::Const(_))) {
            terms.rotate_left(1);
        }
        Ok(if terms.is_empty() { Size::Const(0) } else { tree(terms, Size::Add) })
    }

    fn atom(&self, atom: &Atom) -> Result<Size, Error> {
        Ok(match atom {
            Atom::Symbol(symbol) => Size::Symbol(*self.numbers.get(symbol).ok_or_else(|| {
                Error::Unsolvable { entry: self.entry.to_owned(), symbol: symbol.clone(), seen: Vec::new() }
            })?),
            Atom::Floor(a, b) => Size::FloorDiv(Box::new(self.size(a)?), Box::new(self.size(b)?)),
            Atom::Min(dims) => tree(self.sizes(dims)?, Size::Min),
            Atom::Max(dims) => tree(self.sizes(dims)?, Size::Max),
        })
    }
}

/// All of `items` joined, pairwise, so that long lists don't nest deep.
fn tree(mut items: Vec<Size>, join: impl Fn(Box<Size>, Box<Size>) -> Size) -> Size {
    while items.len() > 1 {
        let mut rest = items.into_iter();
        items = Vec::new();
        while let Some(a) = rest.next() {
            items.push(match rest.next() {
                Some(b) => join(Box::new(a), Box::new(b)),
                None => a,
            });
        }
    }
    items.pop().expect("an expression has at least one operand")
}

/// One axis for each symbol, from which its value follows: one that is the symbol itself where there is one, else the
/// first that is `scale·symbol + offset`.
fn binds(entry: &program::Entry, symbols: &Symbols) -> Result<Vec<Bind>, Error> {
    let axes = || {
        entry.inputs.iter().enumerate().flat_map(|(input, port)| {
            port.ty.shape.iter().enumerate().map(move |(axis, dim)| (input, axis, dim))
        })
    };
    let mut binds = Vec::with_capacity(symbols.names.len());
    for (number_of, symbol) in symbols.names.iter().enumerate() {
        let itself = axes().find(|(_, _, dim)| dim.as_symbol() == Some(symbol)).map(|(i, a, _)| (i, a, 1, 0));
        let linear = || {
            axes().find_map(|(input, axis, dim)| {
                let (scale, offset) = dim.linear_in(symbol)?;
                let (scale, offset) = (scale.as_const()?, offset.as_const()?);
                (scale != 0).then_some((input, axis, scale, offset))
            })
        };
        let Some((input, axis, scale, offset)) = itself.or_else(linear) else {
            let seen = axes().filter(|(_, _, dim)| dim.mentions(symbol));
            let seen = seen.map(|(input, axis, dim)| (entry.inputs[input].name.clone(), axis, dim.clone()));
            let entry = entry.name.clone();
            return Err(Error::Unsolvable { entry, symbol: symbol.clone(), seen: seen.collect() });
        };
        binds.push(Bind {
            symbol: number(number_of),
            input: number(input),
            axis: number(axis),
            scale,
            offset,
        });
    }
    Ok(binds)
}

#[cfg(test)]
mod tests {
    use ir::DType;

    use super::*;

    fn inputs(shapes: &[&[Dim]]) -> program::Entry {
        let port = |(i, shape): (usize, &&[Dim])| program::Port {
            name: format!("x{i}"),
            ty: TensorType::new(DType::F32, shape.iter().cloned()),
        };
        program::Entry {
            name: "main".to_owned(),
            inputs: shapes.iter().enumerate().map(port).collect(),
            outputs: Vec::new(),
            buffers: Vec::new(),
            steps: Vec::new(),
            arena: Some(Dim::constant(0)),
        }
    }

    fn s(name: &str) -> Dim {
        Dim::symbol(name)
    }

    fn n(value: i64) -> Dim {
        Dim::constant(value)
    }

    #[test]
    fn sizes_keep_their_values() {
        let entry = inputs(&[&[s("n"), s("m")]]);
        let symbols = Symbols::of(&entry);
        let names: Vec<String> = symbols.names.iter().map(Symbol::to_string).collect();
        let dims = [
            n(0),
            n(-7),
            s("n"),
            s("n") * n(2) * s("m") + n(1),
            (s("n") + n(3)).floor_div(&n(2)) * s("m"),
            s("n").ceil_div(&s("m")),
            Dim::larger(&(s("n") * n(2)), &(s("m") + n(5))),
            Dim::smaller(&s("n"), &n(4)) - s("m"),
        ];
        for dim in &dims {
            let size = symbols.size(dim).expect("all symbols are the entry's");
            for (a, b) in [(1, 1), (5, 2), (6, 9), (1000, 3)] {
                let expected = dim.eval(&|symbol| Some(if symbol.name() == "n" { a } else { b }));
                assert_eq!(size.eval(&[a, b], &names).ok(), expected, "{dim} at {a}, {b}");
            }
        }
        assert_eq!(symbols.size(&dims[3]).expect("known symbols").print(&names), "2*m*n + 1");
    }

    #[test]
    fn long_sums_stay_shallow() {
        let entry = inputs(&[&(0..600).map(|i| s(&format!("n{i}"))).collect::<Vec<_>>()]);
        let sum: Dim = (0..600).map(|i| s(&format!("n{i}"))).sum();
        let mut plan = Plan { entries: vec![super::entry(&entry).expect("bare symbols")], ..Plan::default() };
        plan.entries[0].arena_bytes = Symbols::of(&entry).size(&sum).expect("known symbols");
        plan.validate().expect("the runtime bounds how deep sizes nest");
    }

    #[test]
    fn a_bare_symbol_is_preferred() {
        let entry = inputs(&[&[s("n") * n(2) + n(1)], &[n(3), s("n")], &[s("m") * n(4)]]);
        let binds = binds(&entry, &Symbols::of(&entry)).expect("both are linear somewhere");
        assert_eq!(
            binds,
            [
                Bind { symbol: 0, input: 1, axis: 1, scale: 1, offset: 0 },
                Bind { symbol: 1, input: 2, axis: 0, scale: 4, offset: 0 },
            ]
        );
    }

    #[test]
    fn what_no_axis_fixes_is_named() {
        let entry = inputs(&[&[s("n") * s("m"), s("m")]]);
        let error = super::entry(&entry).expect_err("n only occurs in a product");
        assert_eq!(error.code(), "egraft::cli::unsolvable_size");
        assert!(error.to_string().contains("`n`") && error.to_string().contains("axis 0 of `x0`"), "{error}");
    }
}
