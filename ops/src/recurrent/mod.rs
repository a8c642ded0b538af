//! Recurrent layers of ONNX: each becomes a loop over time whose body is one cell.
//!
//! `X: [T, batch, input]` (`layout = 1`: `[batch, T, input]`), `W: [directions, gates·H, input]`,
//! `R: [directions, gates·H, H]`, `B: [directions, 2·gates·H]`. What depends on `X` alone is one matrix product before
//! the loop. A sequence that is shorter than `T` keeps its states beyond its length, and gives zeros there; backwards, it
//! starts at its own end. Source: ONNX LSTM, GRU and RNN, opset 22; onnxruntime, contrib operators, DynamicQuantizeLSTM.

pub mod gru;
pub mod lstm;
pub mod rnn;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Symbol};

use crate::flow::r#loop::{Repeat, repeat};
use crate::linalg::matmul::MATMUL;
use crate::math::activation::Activation;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::clip::CLIP;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::quantize::{centred, dynamically};
use crate::math::r#where::WHERE;
use crate::onnx::{ImportError, NodeView};
use crate::shape::broadcast::broadcast;
use crate::shape::concat::{self, CONCAT};
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::{SIZES, SLICE, STARTS, STEPS, slice_axis};
use crate::shape::transpose::transpose;

/// The activations of all directions, in order.
fn activations(
    node: &NodeView,
    defaults: &[&str],
    directions: usize,
) -> Result<Vec<Activation>, ImportError> {
    let mut names: Vec<String> = match node.strs("activations")? {
        Some(names) => names.iter().map(|name| name.to_lowercase()).collect(),
        None => defaults
            .iter()
            .cycle()
            .take(defaults.len() * directions)
            .map(|name| name.to_lowercase())
            .collect(),
    };
    if directions == 1 && names.len() == 2 * defaults.len() {
        // The specification's default is that of both.
        names.truncate(defaults.len());
    }
    if names.len() != defaults.len() * directions {
        let why = format!("{} are needed", defaults.len() * directions);
        return Err(ImportError::Attribute { name: "activations".to_owned(), why });
    }
    let mut alphas = node.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = node.floats("activation_beta")?.unwrap_or_default().into_iter();
    let mut all = Vec::new();
    for name in names {
        let Some([takes_alpha, takes_beta]) = Activation::takes(&name) else {
            return Err(ImportError::value("activations", name, "those of the ONNX specification"));
        };
        let alpha = if takes_alpha { alphas.next() } else { None };
        all.push(Activation { name, alpha, beta: if takes_beta { betas.next() } else { None } });
    }
    Ok(all)
}

/// What a layer is, whatever its cell.
struct Layer {
    hidden: Dim,
    directions: usize,
    /// Does direction `i` run from the end?
    backwards: Vec<bool>,
    activations: Vec<Activation>,
    clip: Option<f64>,
    /// `[T, batch, input]`.
    x: Value,
    batch_first: bool,
    /// The length of each sequence, where that is not `T`: `i64[batch, 1]`.
    lengths: Option<Value>,
}

/// One step of a cell: what it sees of the input, and its states.
struct Step<'a> {
    /// `X·Wᵀ` and the biases that were added to it: `[batch, gates·H]`.
    input: Value,
    /// `[batch, H]` each, the hidden one first.
    states: Vec<Value>,
    /// `Rᵀ`.
    recurrence: Matrix,
    /// What else it captures, in the order in which it was given.
    extra: Vec<Value>,
    activations: &'a [Activation],
    clip: Option<f64>,
    hidden: Dim,
}

impl Step<'_> {
    /// Gate number `index` of `gates`.
    fn gate(&self, b: &mut Build, gates: Value, index: i64) -> Result<Value, OpError> {
        slice_axis(b, gates, 1, self.hidden.clone() * index.into(), self.hidden.clone())
    }

    /// Activation number `index` of `x`, which is clipped first.
    fn activate(&self, b: &mut Build, index: usize, x: Value) -> Result<Value, OpError> {
        let x = match self.clip {
            None => x,
            Some(limit) => {
                let dtype = b.ty(x).dtype;
                let (low, high) = (b.scalar(dtype, -limit), b.scalar(dtype, limit));
                b.op(&CLIP, &[x, low, high])?
            }
        };
        self.activations[index].apply(b, x)
    }
}

/// A matrix that rows are multiplied with: `[K, gates·H]`.
#[derive(Clone, Copy)]
struct Matrix {
    /// The numbers; integers without their zero, if there are scales.
    value: Value,
    /// The scale of all, or one for each column. Then rows are quantized before the product.
    scale: Option<Value>,
}

impl Matrix {
    fn product(self, b: &mut Build, x: Value) -> Result<Value, ImportError> {
        let Some(own) = self.scale else { return Ok(b.op(&MATMUL, &[x, self.value])?) };
        let [x, scale, zero] = dynamically(b, x)?;
        let x = centred(b, x, Some(zero), DType::I32)?;
        let product = b.op(&MATMUL, &[x, self.value])?;
        let product = convert(b, product, DType::F32)?;
        let factor = b.op(&MUL, &[scale, own])?;
        Ok(b.op(&MUL, &[product, factor])?)
    }

    /// The same of other values.
    fn mapped(self, mut f: impl FnMut(Value) -> Value) -> Matrix {
        Matrix { value: f(self.value), scale: self.scale.map(f) }
    }
}

/// The next states.
type Cell<'c> = dyn Fn(&mut Build, &Step) -> Result<Vec<Value>, ImportError> + 'c;

impl Layer {
    /// The hidden states have the size of axis `hidden` of the recurrence.
    fn of(node: &NodeView, b: &mut Build, defaults: &[&str], hidden: usize) -> Result<Layer, ImportError> {
        let direction = node.str_or("direction", "forward")?;
        let backwards = match direction {
            "forward" => vec![false],
            "reverse" => vec![true],
            "bidirectional" => vec![false, true],
            other => return Err(ImportError::value("direction", other, "forward, reverse, bidirectional")),
        };
        let batch_first = node.flag("layout", false)?;
        let x = node.input(0)?;
        let found = b.ty(x).rank();
        if found != 3 {
            return Err(OpError::Rank { operand: "X", expected: 3, found }.into());
        }
        let x = if batch_first { transpose(b, x, vec![1, 0, 2])? } else { x };
        let recurrence = node.ty(b, 2)?;
        if recurrence.rank() != 3 {
            return Err(OpError::Rank { operand: "R", expected: 3, found: recurrence.rank() }.into());
        }
        node.ignore(&["hidden_size"]);
        if node.opset < 7 {
            // Whether anybody asks for `Y`.
            node.ignore(&["output_sequence"]);
        }
        let steps = b.ty(x).shape[0].clone();
        let lengths = match node.optional_input(4).filter(|_| !all_are(node, b, 4, &steps)) {
            None => None,
            Some(lengths) => {
                let column = vec![b.ty(x).shape[1].clone(), Dim::constant(1)];
                let lengths = reshape(b, lengths, column)?;
                Some(convert(b, lengths, DType::I64)?)
            }
        };
        let activations = activations(node, defaults, backwards.len())?;
        let clip = node.float("clip")?;
        let hidden = recurrence.shape[hidden].clone();
        Ok(Layer {
            hidden,
            directions: backwards.len(),
            backwards,
            activations,
            clip,
            x,
            batch_first,
            lengths,
        })
    }

    /// A weight of one direction: without the first axis.
    fn part(&self, b: &mut Build, weight: Value, direction: usize) -> Result<Value, OpError> {
        let part = slice_axis(b, weight, 0, direction.into(), Dim::constant(1))?;
        let shape = b.ty(part).shape[1..].to_vec();
        reshape(b, part, shape)
    }

    /// A weight of one direction, `[gates·H, K]`, as rows are multiplied with it.
    fn matrix(&self, b: &mut Build, weight: Value, direction: usize) -> Result<Matrix, OpError> {
        let part = self.part(b, weight, direction)?;
        Ok(Matrix { value: transpose(b, part, vec![1, 0])?, scale: None })
    }

    /// The bias of one direction, where that of the input and that of the recurrence are added alike.
    fn bias(&self, b: &mut Build, given: Option<Value>, direction: usize) -> Result<Option<Value>, OpError> {
        let Some(given) = given else { return Ok(None) };
        let bias = self.part(b, given, direction)?;
        let (input, own) = halves(b, bias)?;
        b.op(&ADD, &[input, own]).map(Some)
    }

    /// The first value of a state in one direction: `[batch, H]`, zero if none is given.
    fn state(&self, b: &mut Build, given: Option<Value>, direction: usize) -> Result<Value, OpError> {
        let batch = b.ty(self.x).shape[1].clone();
        let shape = vec![batch.clone(), self.hidden.clone()];
        let Some(given) = given else {
            let zero = b.scalar(b.ty(self.x).dtype, 0.0);
            return broadcast(b, zero, shape);
        };
        let given = if self.batch_first { transpose(b, given, vec![1, 0, 2])? } else { given };
        let part = self.part(b, given, direction)?;
        let found = b.ty(part).shape.clone();
        match found.iter().zip(&shape).find(|(left, right)| left != right) {
            None => Ok(part),
            Some((left, right)) => {
                let (left, right) = (left.clone(), right.clone());
                Err(OpError::Size { what: "size of a first state", left, right })
            }
        }
    }

    /// Runs the cell over time in every direction. `W`, biases for the input, `R` and what else the cell captures come
    /// for each direction, as do its first states. Results as ONNX has them: all hidden states, then the last of
    /// each state.
    fn run(&self, b: &mut Build, parts: Vec<Direction>, cell: &Cell<'_>) -> Result<Vec<Value>, ImportError> {
        let count = parts[0].states.len();
        let per_direction = self.activations.len() / self.directions;
        let (mut stacks, mut lasts) = (Vec::new(), vec![Vec::new(); count]);
        for (direction, part) in parts.into_iter().enumerate() {
            let activations = &self.activations[direction * per_direction..][..per_direction];
            let results = self.direction(b, part, self.backwards[direction], activations, cell)?;
            for (last, result) in lasts.iter_mut().zip(&results) {
                let mut shape = b.ty(*result).shape.clone();
                shape.insert(0, Dim::constant(1));
                last.push(reshape(b, *result, shape)?);
            }
            let stack = results[count];
            let mut shape = b.ty(stack).shape.clone();
            shape.insert(1, Dim::constant(1));
            stacks.push(reshape(b, stack, shape)?);
        }
        let mut joined = |parts: &[Value], axis: i64| match parts {
            [part] => Ok(*part),
            parts => b.op_with(&CONCAT, parts, [concat::AXIS.is(axis)]),
        };
        let mut results = vec![joined(&stacks, 1)?];
        for last in &lasts {
            results.push(joined(last, 0)?);
        }
        if self.batch_first {
            results[0] = transpose(b, results[0], vec![2, 0, 1, 3])?;
            for last in &mut results[1..] {
                *last = transpose(b, *last, vec![1, 0, 2])?;
            }
        }
        Ok(results)
    }

    fn direction(
        &self,
        b: &mut Build,
        part: Direction,
        backwards: bool,
        activations: &[Activation],
        cell: &Cell<'_>,
    ) -> Result<Vec<Value>, ImportError> {
        let steps = b.ty(self.x).shape[0].clone();
        let mut input = part.weight.product(b, self.x)?;
        if let Some(bias) = part.bias {
            input = b.op(&ADD, &[input, bias])?;
        }
        let index = b.fresh_symbol("step");
        let mut body = Build::new("cell");
        body.set_origin(b.origin().clone());
        let mut take = |value: Value| {
            let name = format!("in{}", body.graph().inputs().len());
            body.input(&name, b.ty(value).clone())
        };
        let states: Vec<Value> = part.states.iter().map(|&state| take(state)).collect();
        let lengths = self.lengths.map(&mut take);
        let inputs = take(input);
        let recurrence = part.recurrence.mapped(&mut take);
        let extra: Vec<Value> = part.extra.iter().map(|&value| take(value)).collect();
        let at = at(&steps, &index, backwards);
        let now = slice_axis(&mut body, inputs, 0, at.clone(), Dim::constant(1))?;
        let shape = body.ty(now).shape[1..].to_vec();
        let now = reshape(&mut body, now, shape)?;
        let step = Step {
            input: now,
            states: states.clone(),
            recurrence,
            extra,
            activations,
            clip: self.clip,
            hidden: self.hidden.clone(),
        };
        let mut outputs = cell(&mut body, &step)?;
        outputs.push(outputs[0]);
        if let Some(lengths) = lengths {
            let at = size(&mut body, DType::I64, &at)?;
            let is_inside = body.op(&LT, &[at, lengths])?;
            let zero = body.scalar(body.ty(outputs[0]).dtype, 0.0);
            for (output, beyond) in outputs.iter_mut().zip(states.into_iter().chain([zero])) {
                *output = body.op(&WHERE, &[is_inside, *output, beyond])?;
            }
        }
        let body = body.finish(outputs);
        let matrix = [part.recurrence.value].into_iter().chain(part.recurrence.scale);
        let captures: Vec<Value> =
            self.lengths.into_iter().chain([input]).chain(matrix).chain(part.extra).collect();
        let count = Some(steps.clone());
        let parts =
            Repeat { body, index, count, cond: None, carried: part.states, captures, changing: vec![] };
        let mut results = repeat(b, parts, "step")?;
        if backwards {
            let last = results.last_mut().expect("a loop with a stack has a result");
            let ty = b.ty(*last).clone();
            let mut starts = vec![Dim::constant(0); 3];
            starts[0] = steps - Dim::constant(1);
            let attrs = [STARTS.is(starts), SIZES.is(ty.shape), STEPS.is(vec![-1, 1, 1])];
            *last = b.op_with(&SLICE, &[*last], attrs)?;
        }
        Ok(results)
    }
}

/// The parameters of one direction.
struct Direction {
    /// `[input, gates·H]`.
    weight: Matrix,
    /// Added to the input's part of the gates.
    bias: Option<Value>,
    /// `[H, gates·H]`.
    recurrence: Matrix,
    /// What else the cell captures.
    extra: Vec<Value>,
    /// The first states.
    states: Vec<Value>,
}

fn at(steps: &Dim, index: &Symbol, backwards: bool) -> Dim {
    if backwards { steps.clone() - Dim::constant(1) - Dim::from(index) } else { Dim::from(index) }
}

/// Are all elements of input `index` known to be `size`?
fn all_are(node: &NodeView, b: &Build, index: usize, size: &Dim) -> bool {
    node.known(b, index).is_some_and(|known| known.iter().all(|one| one == size))
}

/// The two halves of a bias, for the input and for the recurrence: `[gates·H]` each.
fn halves(b: &mut Build, bias: Value) -> Result<(Value, Value), OpError> {
    let half = b.ty(bias).shape[0].floor_div(&Dim::constant(2));
    let first = slice_axis(b, bias, 0, Dim::constant(0), half.clone())?;
    Ok((first, slice_axis(b, bias, 0, half.clone(), half)?))
}

/// `1 − x`.
fn complement(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let one = b.scalar(b.ty(x).dtype, 1.0);
    b.op(&crate::math::sub::SUB, &[one, x])
}
