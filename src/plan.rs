//! From a program to the plan that the runtime interprets: the same facts, in the runtime's terms.
//!
//! Symbols become numbers, and each gets its value from one axis of one input. Deliberately absent: decisions; a
//! program says all there is to say.

use std::collections::BTreeMap;

use ir::dim::Atom;
use ir::program::{self, Program};
use ir::{Dim, Graph, NodeId, Symbol, TensorType};
use runtime::Size;
use runtime::plan::{
    Arg, Bind, Buffer, Call, Entry, KernelSlot, Plan, Port, Relation, Space, Step, WeightSlot,
};

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
    let entries = program.entries.iter().map(|one| entry(program, one)).collect::<Result<_, _>>()?;
    let plan = Plan { entries, weights, kernels };
    plan.validate().map_err(|error| Error::Load(error.into()))?;
    Ok(plan)
}

fn entry(program: &Program, entry: &program::Entry) -> Result<Entry, Error> {
    let symbols = Symbols::of(entry);
    let cx = Steps { program, entry, symbols: &symbols };
    let unplanned = || Error::Unplanned { entry: entry.name.clone() };
    let port = |name: &str, ty: &TensorType| -> Result<Port, Error> {
        let TensorType { dtype, shape } = ty;
        Ok(Port { name: name.to_owned(), dtype: to_runtime(*dtype), dims: symbols.sizes(shape)? })
    };
    let ports = |ports: &[program::Port]| -> Result<Vec<Port>, Error> {
        ports.iter().map(|one| port(&one.name, &one.ty)).collect()
    };
    let states = entry.buffers.iter().filter(|buffer| buffer.space == program::Space::State);
    let states = states.map(|buffer| (buffer.name.name(), &buffer.ty));
    let room = passes::lower::room(entry);
    let buffer = |(buffer, room): (&program::Buffer, &Dim)| -> Result<Buffer, Error> {
        let place = || buffer.offset.as_ref().ok_or_else(unplanned);
        let (space, offset) = match buffer.space {
            program::Space::Arena => (Space::Arena, symbols.size(place()?)?),
            program::Space::State => (Space::State, symbols.size(place()?)?),
            program::Space::Host => (Space::Host, symbols.size(place()?)?),
            program::Space::Growing(slot) => (Space::Grow(number(slot)), Size::Const(0)),
        };
        Ok(Buffer { offset, bytes: symbols.size(room)?, space })
    };
    Ok(Entry {
        name: entry.name.clone(),
        symbols: symbols.names.iter().map(Symbol::to_string).collect(),
        inputs: ports(&entry.inputs)?,
        outputs: ports(&entry.outputs)?,
        binds: binds(entry)?,
        host: cx.list(&entry.host)?,
        host_bytes: symbols.size(&passes::lower::host_bytes(entry))?,
        arena_bytes: symbols.size(entry.arena.as_ref().ok_or_else(unplanned)?)?,
        buffers: entry.buffers.iter().zip(&room).map(buffer).collect::<Result<_, _>>()?,
        states: states.map(|(name, ty)| port(name, ty)).collect::<Result<_, _>>()?,
        steps: cx.list(&entry.steps)?,
    })
}

/// The steps of an entry in the runtime's terms.
struct Steps<'a> {
    program: &'a Program,
    entry: &'a program::Entry,
    symbols: &'a Symbols<'a>,
}

impl Steps<'_> {
    fn list(&self, steps: &[program::Step]) -> Result<Vec<Step>, Error> {
        steps.iter().map(|step| self.step(step)).collect()
    }

    fn step(&self, step: &program::Step) -> Result<Step, Error> {
        Ok(match step {
            program::Step::Call(call) => Step::Call(Call {
                kernel: number(call.kernel),
                args: call.args.iter().map(|&a| arg(a)).collect(),
                sizes: self.symbols.sizes(&call.sizes)?,
            }),
            program::Step::Measure(measure) => Step::Measure {
                symbol: self.symbols.number(&measure.symbol)?,
                source: arg(measure.source),
                bound: measure.bound.as_ref().map(|bound| self.symbols.size(bound)).transpose()?,
                what: format!("the size `{}`{}", measure.symbol, of_node(&measure.origin)),
            },
            program::Step::Set(sizes) => {
                let each = sizes
                    .iter()
                    .map(|(symbol, size)| Ok((self.symbols.number(symbol)?, self.symbols.size(size)?)));
                Step::Set(each.collect::<Result<_, Error>>()?)
            }
            program::Step::Require(require) => Step::Require {
                left: self.symbols.size(&require.condition.left)?,
                relation: match require.condition.relation {
                    ir::dim::Relation::Equal => Relation::Equal,
                    ir::dim::Relation::AtMost => Relation::AtMost,
                },
                right: self.symbols.size(&require.condition.right)?,
                what: format!("{}{}", require.what, of_node(&require.origin)),
            },
            program::Step::Reserve(place) => Step::Reserve(arg(*place)),
            program::Step::Copy(copy) => Step::Copy {
                from: arg(copy.from),
                to: arg(copy.to),
                bytes: self.symbols.size(&self.program.arg_type(self.entry, copy.from).bytes())?,
                at: copy.at.as_ref().map(|at| self.symbols.size(at)).transpose()?,
            },
            program::Step::If(branch) => Step::If {
                cond: arg(branch.cond),
                then: self.list(&branch.then)?,
                otherwise: self.list(&branch.otherwise)?,
            },
            program::Step::Loop(each) => Step::Loop {
                index: self.symbols.number(&each.index)?,
                count: match &each.count {
                    Some(count) => self.symbols.size(count)?,
                    None => Size::Const(i64::MAX),
                },
                cond: each.cond.map(arg),
                trips: each.trips.as_ref().map(|trips| self.symbols.number(trips)).transpose()?,
                body: self.list(&each.body)?,
            },
        })
    }
}

/// ` (node "name", Op)`, if a node of the model is known.
fn of_node(origin: &ir::Origin) -> String {
    origin
        .places()
        .first()
        .map_or_else(String::new, |place| format!(" (node \"{}\", {})", place.name, place.op))
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
        let names = entry.all_symbols();
        let numbers = names.iter().enumerate().map(|(i, symbol)| (symbol.clone(), number(i))).collect();
        Symbols { entry: &entry.name, names, numbers }
    }

    fn number(&self, symbol: &Symbol) -> Result<u32, Error> {
        self.numbers.get(symbol).copied().ok_or_else(|| Error::Unsolvable {
            entry: self.entry.to_owned(),
            symbol: symbol.clone(),
            seen: Vec::new(),
        })
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
            Atom::Symbol(symbol) => Size::Symbol(self.number(symbol)?),
            Atom::Floor(a, b) => Size::FloorDiv(Box::new(self.size(a)?), Box::new(self.size(b)?)),
            Atom::Min(dims) => tree(self.sizes(dims)?, Size::Min),
            Atom::Max(dims) => tree(self.sizes(dims)?, Size::Max),
        })
    }
}

/// A size of a kernel, over its own sizes in their order.
///
/// # Errors
/// [`Error::Unsolvable`] for a symbol that is none of them.
pub(crate) fn size_in_kernel(kernel: &ir::kernel::Kernel, dim: &Dim) -> Result<Size, Error> {
    let names = kernel.sizes.clone();
    let numbers = names.iter().enumerate().map(|(i, symbol)| (symbol.clone(), number(i))).collect();
    Symbols { entry: kernel.name.name(), names, numbers }.size(dim)
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

/// Does the shape of an input tell each size of a graph's inputs?
///
/// # Errors
/// [`Error::Unsolvable`].
pub(crate) fn check_inputs(graph: &Graph) -> Result<(), Error> {
    let port = |&id: &NodeId| program::Port {
        name: graph.input_name(id).to_owned(),
        ty: graph.node(id).types[0].clone(),
    };
    let entry = program::Entry {
        name: "main".to_owned(),
        inputs: graph.inputs().iter().map(port).collect(),
        outputs: Vec::new(),
        keeps: Vec::new(),
        buffers: Vec::new(),
        host: Vec::new(),
        steps: Vec::new(),
        arena: None,
    };
    binds(&entry).map(|_| ())
}

/// One axis for each symbol, from which its value follows: one that is the symbol itself where there is one, else the
/// first that is `scale·symbol + offset`, with symbols in the offset that are known before.
fn binds(entry: &program::Entry) -> Result<Vec<Bind>, Error> {
    let symbols = Symbols::of(entry);
    let mut open = entry.symbols();
    let mut binds = Vec::with_capacity(open.len());
    while !open.is_empty() {
        let known = |dim: &Dim| !open.iter().any(|symbol| dim.mentions(symbol));
        let solved =
            open.iter().enumerate().find_map(|(at, symbol)| Some((at, solve(entry, symbol, &known)?)));
        let Some((at, (input, axis, scale, offset))) = solved else {
            return Err(unsolvable(entry, &open[0]));
        };
        let symbol = open.remove(at);
        binds.push(Bind {
            symbol: symbols.number(&symbol)?,
            input: number(input),
            axis: number(axis),
            scale,
            offset: symbols.size(&offset)?,
        });
    }
    Ok(binds)
}

/// Every axis of every input.
fn axes(entry: &program::Entry) -> impl Iterator<Item = (usize, usize, &Dim)> {
    entry
        .inputs
        .iter()
        .enumerate()
        .flat_map(|(input, port)| port.ty.shape.iter().enumerate().map(move |(axis, dim)| (input, axis, dim)))
}

/// The input and the axis that tell a symbol, and the scale and the offset there.
fn solve(
    entry: &program::Entry,
    symbol: &Symbol,
    known: &dyn Fn(&Dim) -> bool,
) -> Option<(usize, usize, i64, Dim)> {
    let itself = axes(entry).find(|(_, _, dim)| dim.as_symbol() == Some(symbol));
    let linear = || {
        axes(entry).find_map(|(input, axis, dim)| {
            let (scale, offset) = dim.linear_in(symbol)?;
            let scale = scale.as_const().filter(|scale| *scale != 0 && known(&offset))?;
            Some((input, axis, scale, offset))
        })
    };
    itself.map(|(input, axis, _)| (input, axis, 1, Dim::constant(0))).or_else(linear)
}

fn unsolvable(entry: &program::Entry, symbol: &Symbol) -> Error {
    let seen = axes(entry).filter(|(_, _, dim)| dim.mentions(symbol));
    let seen = seen.map(|(input, axis, dim)| (entry.inputs[input].name.clone(), axis, dim.clone()));
    Error::Unsolvable { entry: entry.name.clone(), symbol: symbol.clone(), seen: seen.collect() }
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
            keeps: Vec::new(),
            buffers: Vec::new(),
            host: Vec::new(),
            steps: Vec::new(),
            arena: Some(Dim::constant(0)),
        }
    }

    /// A program to which an entry without steps belongs.
    fn nothing() -> Program {
        Program { name: String::new(), weights: Vec::new(), kernels: Vec::new(), entries: Vec::new() }
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
        let mut plan = Plan {
            entries: vec![super::entry(&nothing(), &entry).expect("bare symbols")],
            ..Plan::default()
        };
        plan.entries[0].arena_bytes = Symbols::of(&entry).size(&sum).expect("known symbols");
        plan.validate().expect("the runtime bounds how deep sizes nest");
    }

    #[test]
    fn a_bare_symbol_is_preferred() {
        let entry = inputs(&[&[s("n") * n(2) + n(1)], &[n(3), s("n")], &[s("m") * n(4)]]);
        let binds = binds(&entry).expect("both are linear somewhere");
        assert_eq!(
            binds,
            [
                Bind { symbol: 0, input: 1, axis: 1, scale: 1, offset: 0.into() },
                Bind { symbol: 1, input: 2, axis: 0, scale: 4, offset: 0.into() },
            ]
        );
    }

    #[test]
    fn what_no_axis_fixes_is_named() {
        let entry = inputs(&[&[s("n") * s("m"), s("m")]]);
        let error = super::entry(&nothing(), &entry).expect_err("n only occurs in a product");
        assert_eq!(error.code(), "egraft::cli::unsolvable_size");
        assert!(error.to_string().contains("`n`") && error.to_string().contains("axis 0 of `x0`"), "{error}");
    }
}
