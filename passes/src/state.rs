//! States: inputs that are outputs of the run before, and stay with the model.
//!
//! A model that decodes takes what it has computed of all tokens before (`past_key_values.0.key`), and gives the same with
//! the rows of new tokens behind (`present.0.key`). [`keep`] makes such a pair a state: neither input nor output any
//! more for who runs the model. One that grows has room for a number of rows; its first rows are the input, new
//! ones are put behind them ([`put`](ops::shape::put)), and its length is a state, too. Nothing is copied then but the
//! new rows: the pass `place_states` has them written where the others are. All states begin as zeros, lengths too.

use std::fmt;
use std::str::FromStr;

use ir::build::Build;
use ir::graph::{Kind, Value};
use ir::op::OpError;
use ir::{DType, Dim, Graph, NodeId, Symbol, TensorType};
use ops::flow::as_size::{AS_SIZE, BOUND, as_size, check_size};
use ops::flow::{NAMES, SIZES};
use ops::math::sub::SUB;
use ops::shape::concat::{self, CONCAT};
use ops::shape::put::put;
use ops::shape::restate::RESTATE;
use ops::shape::size::size;
use ops::shape::slice::slice_axis;

/// The length of states that grow, as a state.
pub const LENGTH: &str = "length";

/// Which inputs are which outputs of the run before: names, in which one `*` stands for any text, the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The input.
    pub past: String,
    /// The output.
    pub present: String,
    /// The axis along which it grows, where no input tells: of a model that begins a state.
    pub axis: Option<usize>,
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.past, self.present)?;
        self.axis.map_or(Ok(()), |axis| write!(f, "@{axis}"))
    }
}

impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Keep, &'static str> {
        const FORM: &str = "it must be PAST=PRESENT or PAST=PRESENT@AXIS";
        let (past, rest) = text.split_once('=').ok_or(FORM)?;
        let number = rest.rsplit_once('@').and_then(|(name, axis)| Some((name, axis.parse().ok()?)));
        let (present, axis) = number.map_or((rest, None), |(name, axis)| (name, Some(axis)));
        let stars = [past, present].map(|pattern| pattern.matches('*').count());
        match stars {
            _ if past.is_empty() || present.is_empty() => Err(FORM),
            [0, 0] | [1, 1] => Ok(Keep { past: past.to_owned(), present: present.to_owned(), axis }),
            _ => Err("one `*` may stand in both names, or in none"),
        }
    }
}

/// What can be said against a state.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The input has no such output.
    #[error("the input `{input}` has no output `{output}` that is kept for it")]
    NoOutput {
        /// The input.
        input: String,
        /// The output that there is not.
        output: String,
    },
    /// One input or output is to be part of two states.
    #[error("`{name}` is part of two states")]
    Twice {
        /// The input or output.
        name: String,
    },
    /// The output is not the input in the next run.
    #[error("`{output}` is no state that begins as `{input}`: {why}")]
    Shape {
        /// The input.
        input: String,
        /// The output.
        output: String,
        /// Why not.
        why: String,
    },
    /// A state that grows, and no number of rows for which there is room.
    #[error("`{output}` has more rows after each run, and nothing says how many there can be")]
    NoCapacity {
        /// The output.
        output: String,
    },
    /// Along which axis a state begins to grow is not known.
    #[error(
        "along which axis `{output}` grows is not known: no input is called `{input}`, and its sizes do not tell"
    )]
    NoAxis {
        /// The input that there is not.
        input: String,
        /// The output.
        output: String,
    },
    /// An op does not accept what was made of the state.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl StateError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            StateError::Op(error) => error.code(),
            _ => "egraft::passes::state",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            StateError::NoOutput { .. } | StateError::Twice { .. } => "a state is one input and one output",
            StateError::Shape { .. } => {
                "a state has the type of its input, or is that input with rows behind it, and a symbolic length"
            }
            StateError::NoCapacity { .. } => "say it with `--capacity ROWS`",
            StateError::NoAxis { .. } => "say it behind the names: PAST=PRESENT@AXIS",
            StateError::Op(_) => "leave this input and this output as they are",
        }
    }
}

/// An input and an output that are one state.
struct Pair {
    input: Option<NodeId>,
    past: String,
    /// The position of the output.
    output: usize,
    axis: Option<usize>,
}

/// How long a state is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Length {
    /// Before the run, as a size of its own; none where it begins.
    before: Option<Symbol>,
    /// After the run.
    after: Dim,
}

/// A state that grows.
struct Grown {
    /// Its input.
    state: NodeId,
    /// What it is in the next run.
    next: Value,
    length: Length,
}

/// Makes the inputs and outputs that `keeps` names states, those that grow with room for `capacity` rows. Says for each
/// how many there are.
///
/// # Errors
/// What is no state.
pub fn keep(graph: &mut Graph, keeps: &[Keep], capacity: Option<i64>) -> Result<Vec<usize>, StateError> {
    let (pairs, counts) = pairs(graph, keeps)?;
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    let done = keep_all(&mut b, pairs, capacity);
    *graph = b.into_graph();
    done.map(|()| counts)
}

fn keep_all(b: &mut Build, pairs: Vec<Pair>, capacity: Option<i64>) -> Result<(), StateError> {
    let mut outputs: Vec<(String, Value, Option<usize>)> = {
        let (names, values) = (b.graph().output_names(), b.graph().outputs());
        names.into_iter().map(str::to_owned).zip(values).map(|(name, value)| (name, value, None)).collect()
    };
    let mut lengths: Vec<Length> = Vec::new();
    for pair in &pairs {
        if let Some(input) = pair.input {
            fit(b, input, outputs[pair.output].1)?;
        }
    }
    for pair in pairs {
        let (name, value, _) = outputs[pair.output].clone();
        let ty = b.ty(value).clone();
        if let Some(input) = pair.input
            && *b.ty(input.into()) == ty
        {
            outputs[pair.output].2 = Some(position(b, input));
            continue;
        }
        let rows = capacity.ok_or_else(|| StateError::NoCapacity { output: name.clone() })?;
        let Grown { state, next, length } = match pair.input {
            Some(input) => grow(b, input, value, &name, rows)?,
            None => begin(b, &pair, value, &name, rows)?,
        };
        outputs[pair.output].1 = next;
        outputs[pair.output].2 = Some(position(b, state));
        if !lengths.contains(&length) {
            if length.before.is_none() && !lengths.is_empty() {
                // Another model could not tell them apart.
                let why = format!("{} rows are not as many as those of others", length.after);
                return Err(StateError::Shape { input: pair.past, output: name, why });
            }
            lengths.push(length);
        }
    }
    let several = lengths.len() > 1;
    for Length { before, after } in lengths {
        let mut name = match &before {
            Some(symbol) if several => format!("{LENGTH}.{symbol}"),
            _ => LENGTH.to_owned(),
        };
        let graph = b.graph();
        while graph.inputs().iter().any(|&input| graph.input_name(input) == name) {
            name.push('_');
        }
        let length = b.input(&name, TensorType::scalar(DType::I64));
        if let Some(symbol) = before {
            decide(b, length, &symbol)?;
        }
        let next = size(b, DType::I64, &after)?;
        outputs.push((format!("{name}.next"), next, Some(position(b, length.node))));
    }
    let graph = b.graph_mut();
    graph.set_outputs([]);
    for (name, value, kept) in outputs {
        match kept {
            Some(input) => graph.keep(name, value, input),
            None => graph.add_output(name, value),
        }
    }
    Ok(())
}

/// An output that has as many rows as its input has room for, or more if a size that the run decides is larger, gets that many:
/// a larger size is an error then.
fn fit(b: &mut Build, input: NodeId, output: Value) -> Result<(), OpError> {
    let rooms = b.ty(input.into()).shape.clone();
    let found = b.ty(output).shape.clone();
    for (room, found) in rooms.into_iter().zip(found) {
        let Some((symbol, decider)) = larger_of(b, &room, &found) else { continue };
        // Never more than there is room for: what is left of it is a size.
        let wanted = b.graph().operands(decider)[0];
        let all = size(b, DType::I64, &room)?;
        let left = b.op(&SUB, &[all, wanted])?;
        let left = as_size(b, left, "room", None)?;
        let with = |other: &Symbol| (*other == symbol).then(|| room.clone() - left.clone());
        b.graph_mut().substitute(&with).map_err(|at| at.error)?;
    }
    Ok(())
}

/// The symbol, and the node that decides it, if `found` is the larger of it and `room`.
fn larger_of(b: &Build, room: &Dim, found: &Dim) -> Option<(Symbol, NodeId)> {
    let deciders = b.graph().deciders();
    let mut symbols = Vec::new();
    found.for_each_symbol(&mut |symbol| symbols.push(symbol.clone()));
    symbols.into_iter().find_map(|symbol| {
        let decider = *deciders.get(&symbol)?;
        let is_size = *b.graph().node(decider).op()?.0 == AS_SIZE;
        let larger = room != found && *found == Dim::larger(room, &Dim::from(&symbol));
        (is_size && larger).then_some((symbol, decider))
    })
}

/// The position of an input.
fn position(b: &Build, input: NodeId) -> usize {
    b.graph().inputs().iter().position(|&other| other == input).expect("it was just made an input")
}

/// Gives a symbol the value of `length`; if other inputs give it one, both must agree.
fn decide(b: &mut Build, length: Value, symbol: &Symbol) -> Result<(), OpError> {
    if b.graph().symbols().contains(symbol) {
        return check_size(b, length, LENGTH, Dim::from(symbol));
    }
    let attrs =
        [NAMES.is(vec![symbol.to_string()]), SIZES.is(vec![Dim::from(symbol)]), BOUND.is(Dim::constant(-1))];
    b.op_with(&AS_SIZE, &[length], attrs).map(|_| ())
}

/// A state whose first rows are the input.
fn grow(b: &mut Build, input: NodeId, output: Value, name: &str, rows: i64) -> Result<Grown, StateError> {
    let past = b.ty(input.into()).clone();
    let wrong = |b: &Build, why: &str| StateError::Shape {
        input: b.graph().input_name(input).to_owned(),
        output: name.to_owned(),
        why: why.to_owned(),
    };
    let Some((axis, new)) = appended(b, input, output) else {
        let why = "it is neither of the input's type nor the input with rows behind it";
        return Err(wrong(b, why));
    };
    let Some(symbol) = past.shape[axis].as_symbol().cloned() else {
        return Err(wrong(b, "the number of its rows is no size of its own"));
    };
    let after = b.ty(output).shape[axis].clone();
    let state = b.graph_mut().replace_input(input, with_rows(&past, axis, rows));
    let first = slice_axis(b, state, axis, Dim::constant(0), Dim::from(&symbol))?;
    b.graph_mut().replace_uses(input.into(), first);
    b.graph_mut().remove(input);
    let new = b.op_with(&CONCAT, &new, [concat::AXIS.is(axis as i64)])?;
    let next = put(b, state, new, axis, Dim::from(&symbol))?;
    Ok(Grown { state: state.node, next, length: Length { before: Some(symbol), after } })
}

/// A state whose first rows a model makes that takes none.
fn begin(b: &mut Build, pair: &Pair, output: Value, name: &str, rows: i64) -> Result<Grown, StateError> {
    let ty = b.ty(output).clone();
    let mut open = (1..ty.rank()).filter(|&axis| ty.shape[axis].as_const().is_none());
    let axis = match (pair.axis, open.next(), open.next()) {
        (Some(axis), ..) if axis < ty.rank() => axis,
        (None, Some(axis), None) => axis,
        _ => return Err(StateError::NoAxis { input: pair.past.clone(), output: name.to_owned() }),
    };
    let state = b.input(&pair.past, with_rows(&ty, axis, rows));
    let next = put(b, state, output, axis, Dim::constant(0))?;
    Ok(Grown { state: state.node, next, length: Length { before: None, after: ty.shape[axis].clone() } })
}

fn with_rows(ty: &TensorType, axis: usize, rows: i64) -> TensorType {
    let mut shape = ty.shape.clone();
    shape[axis] = Dim::constant(rows);
    ty.with_shape(shape)
}

/// The axis along which `output` is `input` with more behind it, and what that is.
fn appended(b: &Build, input: NodeId, output: Value) -> Option<(usize, Vec<Value>)> {
    let graph = b.graph();
    let (def, attrs) = graph.node(source(graph, output).node).op().filter(|(def, _)| **def == CONCAT)?;
    debug_assert!(*def == CONCAT);
    let parts = graph.operands(source(graph, output).node);
    let (first, rest) = parts.split_first()?;
    if source(graph, *first).node != input || rest.is_empty() {
        return None;
    }
    let axis = ir::op::normalize_axis(attrs.get(concat::AXIS), graph.ty(output).rank()).ok()?;
    let shapes = [graph.ty(input.into()), graph.ty(output)].map(|ty| ty.shape.iter().enumerate());
    let [before, after] = shapes;
    // Only the number of rows is another.
    before.zip(after).all(|((at, a), (_, b))| at == axis || a == b).then(|| (axis, rest.to_vec()))
}

/// What a value is another name for.
fn source(graph: &Graph, mut value: Value) -> Value {
    loop {
        let Some((def, attrs)) = graph.node(value.node).op() else { return value };
        let [operand] = graph.operands(value.node)[..] else { return value };
        let same =
            *def == RESTATE || def.semantics.is_identity(attrs) && graph.ty(operand) == graph.ty(value);
        if !same {
            return value;
        }
        value = operand;
    }
}

/// The text that a `*` in `pattern` stands for; empty where there is none.
fn matched<'a>(pattern: &str, name: &'a str) -> Option<&'a str> {
    match pattern.split_once('*') {
        Some((before, after)) => name.strip_prefix(before)?.strip_suffix(after),
        None => (pattern == name).then_some(""),
    }
}

fn pairs(graph: &Graph, keeps: &[Keep]) -> Result<(Vec<Pair>, Vec<usize>), StateError> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut counts = Vec::with_capacity(keeps.len());
    for Keep { past, present, axis } in keeps {
        let outputs = graph.output_names();
        let before = pairs.len();
        for (output, name) in outputs.iter().enumerate() {
            let Some(text) = matched(present, name) else { continue };
            let past = past.replace('*', text);
            let input = graph.inputs().iter().copied().find(|&input| graph.input_name(input) == past);
            pairs.push(Pair { input, past, output, axis: *axis });
        }
        for &input in graph.inputs() {
            let Kind::Input(name) = &graph.node(input).kind else { continue };
            if let Some(text) = matched(past, name)
                && !outputs.contains(&present.replace('*', text).as_str())
            {
                let output = present.replace('*', text);
                return Err(StateError::NoOutput { input: name.clone(), output });
            }
        }
        counts.push(pairs.len() - before);
    }
    for (at, pair) in pairs.iter().enumerate() {
        if pairs[..at].iter().any(|other| other.output == pair.output || other.past == pair.past) {
            return Err(StateError::Twice { name: graph.output_names()[pair.output].to_owned() });
        }
    }
    Ok((pairs, counts))
}
