//! Runs whole graphs and whole programs.

use std::collections::BTreeMap;

use ir::dim::Symbol;
use ir::graph::SizeValues;
use ir::kernel::Access;
use ir::op::OpError;
use ir::program::{Arg, Buffer, Copy, Entry, Measure, Program, Require, Space, Step};
use ir::{At, Dim, Graph, Scalar, Tensor};

use crate::walk::{WalkError, walk};

/// The outputs of a graph, by evaluating its ops.
///
/// # Errors
/// Inputs that do not fit, or what an op says of its operands.
pub fn run_graph(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, At<OpError>> {
    ir::graph::eval(graph, inputs)
}

/// The outputs of an entry of a program, by walking its kernels.
///
/// A planned program runs in a real arena: buffers that share memory overwrite each other here, too.
///
/// # Errors
/// Inputs that do not fit, or a kernel that cannot be walked.
pub fn run_program(program: &Program, entry: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, WalkError> {
    run_program_on(program, entry, inputs, &mut States::new())
}

/// What runs the kernels of a program.
pub trait Kernels {
    /// Runs a kernel of the program on `arrays`, one for each of its parameters, with a value for each of its sizes.
    ///
    /// # Errors
    /// Where the kernel cannot run.
    fn call(
        &mut self,
        program: &Program,
        kernel: usize,
        sizes: &[i64],
        arrays: &mut [Tensor],
    ) -> Result<(), WalkError>;
}

/// Kernels are walked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walked;

impl Kernels for Walked {
    fn call(
        &mut self,
        program: &Program,
        kernel: usize,
        sizes: &[i64],
        arrays: &mut [Tensor],
    ) -> Result<(), WalkError> {
        walk(&program.kernels[kernel], sizes, arrays)
    }
}

/// What is kept from run to run, by name. Zeros, where there is nothing.
pub type States = BTreeMap<Symbol, Tensor>;

/// As [`run_program`], from these states on, which it changes.
///
/// # Errors
/// As [`run_program`].
pub fn run_program_on(
    program: &Program,
    entry: usize,
    inputs: &[Tensor],
    states: &mut States,
) -> Result<Vec<Tensor>, WalkError> {
    run_program_by(program, entry, inputs, states, &mut Walked)
}

/// As [`run_program_on`], with kernels run by something else.
///
/// # Errors
/// As [`run_program`].
pub fn run_program_by(
    program: &Program,
    entry: usize,
    inputs: &[Tensor],
    states: &mut States,
    kernels: &mut dyn Kernels,
) -> Result<Vec<Tensor>, WalkError> {
    let entry = &program.entries[entry];
    let sizes = bind(entry, inputs)?;
    let weights = program.weights.iter().map(|weight| weight.pack()).collect();
    let mut run = Run {
        program,
        entry,
        inputs,
        weights,
        outputs: vec![None; entry.outputs.len()],
        memory: Memory::new(entry),
        sizes,
        kernels,
    };
    let kept: Vec<usize> =
        (0..entry.buffers.len()).filter(|&i| entry.buffers[i].space == Space::State).collect();
    for &i in &kept {
        let Buffer { name, ty, .. } = &entry.buffers[i];
        let shape = run.shape(&ty.shape)?;
        let zeros = || Tensor::splat(Scalar::from_i64(ty.dtype, 0), &shape);
        run.write(Arg::Buffer(i), states.get(name).cloned().unwrap_or_else(zeros))?;
    }
    run.memory.lay_out(Space::Host, entry, &run.sizes)?;
    run.steps(&entry.host)?;
    run.memory.lay_out(Space::Arena, entry, &run.sizes)?;
    run.steps(&entry.steps)?;
    for &i in &kept {
        states.insert(entry.buffers[i].name.clone(), run.read(Arg::Buffer(i))?);
    }
    (0..entry.outputs.len()).map(|i| run.read(Arg::Output(i))).collect()
}

/// An entry that runs.
struct Run<'a> {
    program: &'a Program,
    entry: &'a Entry,
    inputs: &'a [Tensor],
    weights: Vec<Tensor>,
    /// Each once it is written.
    outputs: Vec<Option<Tensor>>,
    memory: Memory,
    sizes: SizeValues,
    kernels: &'a mut dyn Kernels,
}

impl Run<'_> {
    fn size(&self, dim: &Dim) -> Result<i64, WalkError> {
        value(dim, &self.sizes)
    }

    fn shape(&self, dims: &[Dim]) -> Result<Vec<usize>, WalkError> {
        dims.iter().map(|dim| Ok(self.size(dim)?.max(0) as usize)).collect()
    }

    fn read(&self, arg: Arg) -> Result<Tensor, WalkError> {
        Ok(match arg {
            Arg::Input(i) => self.inputs[i].clone(),
            Arg::Weight(i) => self.weights[i].clone(),
            Arg::Output(i) => {
                let ty = &self.entry.outputs[i].ty;
                let shape = self.shape(&ty.shape)?;
                let there = self.outputs[i].as_ref().and_then(|output| output.reshaped(&shape));
                there.unwrap_or_else(|| Tensor::splat(Scalar::from_i64(ty.dtype, 0), &shape))
            }
            Arg::Buffer(i) => {
                let ty = &self.entry.buffers[i].ty;
                self.memory.read(i, ty.dtype, self.shape(&ty.shape)?)?
            }
        })
    }

    fn write(&mut self, arg: Arg, tensor: Tensor) -> Result<(), WalkError> {
        match arg {
            Arg::Output(i) => self.outputs[i] = Some(tensor),
            Arg::Buffer(i) => self.memory.write(i, 0, tensor.bytes(), &self.entry.buffers[i].name)?,
            Arg::Input(_) | Arg::Weight(_) => {}
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), WalkError> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), WalkError> {
        match step {
            Step::Call(call) => {
                let mut arrays =
                    call.args.iter().map(|&arg| self.read(arg)).collect::<Result<Vec<_>, _>>()?;
                let sizes = call.sizes.iter().map(|size| self.size(size)).collect::<Result<Vec<i64>, _>>()?;
                let kernel = &self.program.kernels[call.kernel];
                self.kernels.call(self.program, call.kernel, &sizes, &mut arrays)?;
                for ((param, &arg), array) in kernel.params.iter().zip(&call.args).zip(arrays) {
                    if param.access != Access::Read {
                        self.write(arg, array)?;
                    }
                }
            }
            Step::Measure(Measure { symbol, source, bound, .. }) => {
                let found = self.read(*source)?.get(0).to_i64();
                let bound = bound.as_ref().map(|bound| self.size(bound)).transpose()?;
                if found < 0 || bound.is_some_and(|bound| found > bound) {
                    return Err(WalkError::Size { size: symbol.to_string(), found });
                }
                self.sizes.insert(symbol.clone(), found);
            }
            Step::Set(sizes) => {
                let values =
                    sizes.iter().map(|(_, size)| self.size(size)).collect::<Result<Vec<i64>, _>>()?;
                for ((symbol, _), value) in sizes.iter().zip(values) {
                    self.sizes.insert(symbol.clone(), value);
                }
            }
            Step::Require(Require { condition, what, .. }) => {
                for fact in condition.facts() {
                    if self.size(&fact)? < 0 {
                        let (condition, what) = (condition.to_string(), what.to_string());
                        return Err(WalkError::NotGiven { condition, what });
                    }
                }
            }
            // Memory here is as large as it is written.
            Step::Reserve(_) => {}
            Step::Copy(Copy { from, to, at, .. }) => {
                let source = self.read(*from)?;
                match at {
                    None => {
                        let shape = match *to {
                            Arg::Output(_) => source.shape().to_vec(),
                            _ => vec![source.elements()],
                        };
                        let copy = source.reshaped(&shape).expect("it has as many elements");
                        self.write(*to, copy)?;
                    }
                    Some(at) => {
                        let at = self.size(at)?.max(0) as usize * source.bytes().len();
                        self.put(*to, at, &source)?;
                    }
                }
            }
            Step::If(branch) => {
                let holds = self.read(branch.cond)?.get(0).to_bool();
                self.steps(if holds { &branch.then } else { &branch.otherwise })?;
            }
            Step::Loop(each) => {
                let count = each.count.as_ref().map(|count| self.size(count)).transpose()?;
                let mut trips = 0;
                while count.is_none_or(|count| trips < count) {
                    if let Some(cond) = each.cond
                        && !self.read(cond)?.get(0).to_bool()
                    {
                        break;
                    }
                    self.sizes.insert(each.index.clone(), trips);
                    self.steps(&each.body)?;
                    trips += 1;
                }
                if let Some(symbol) = &each.trips {
                    self.sizes.insert(symbol.clone(), trips);
                }
            }
        }
        Ok(())
    }

    /// The elements of `source` behind byte `at` of a stack.
    fn put(&mut self, to: Arg, at: usize, source: &Tensor) -> Result<(), WalkError> {
        match to {
            Arg::Buffer(i) => self.memory.write(i, at, source.bytes(), &self.entry.buffers[i].name),
            Arg::Output(i) => {
                let dtype = self.entry.outputs[i].ty.dtype;
                let mut bytes = self.outputs[i].as_ref().map_or(Vec::new(), |output| output.bytes().to_vec());
                bytes.truncate(at);
                bytes.resize(at, 0);
                bytes.extend_from_slice(source.bytes());
                let elements = bytes.len() / dtype.bytes();
                self.outputs[i] = Tensor::new(dtype, vec![elements], bytes);
                Ok(())
            }
            Arg::Input(_) | Arg::Weight(_) => Ok(()),
        }
    }
}

fn value(dim: &Dim, sizes: &SizeValues) -> Result<i64, WalkError> {
    let value = dim.eval(&|symbol| sizes.get(symbol).copied());
    value.ok_or_else(|| WalkError::Unbound { dim: dim.to_string() })
}

/// The value of every symbol, from the inputs' shapes: what a graph with these inputs says.
fn bind(entry: &Entry, inputs: &[Tensor]) -> Result<SizeValues, WalkError> {
    let mut graph = Graph::new("inputs");
    for port in &entry.inputs {
        graph.add_input(port.name.clone(), port.ty.clone(), ir::Origin::none());
    }
    if inputs.len() != entry.inputs.len() {
        let expected = entry.inputs.len().to_string();
        return Err(OpError::Arity { expected, found: inputs.len() }.into());
    }
    ir::graph::bind(&graph, inputs).map_err(|at| at.error.into())
}

/// The buffers of an entry: in one arena if it is planned, each for itself else.
struct Memory {
    arena: Vec<u8>,
    /// What has no place in the arena: by buffer, and by number for those that grow and share.
    own: BTreeMap<(bool, usize), Vec<u8>>,
    /// Where each buffer is.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
enum Place {
    Arena(usize),
    Own((bool, usize)),
}

/// Fresh memory is not zero in real life.
const FRESH: u8 = 0xAA;

impl Memory {
    fn new(entry: &Entry) -> Memory {
        let place = |(i, buffer): (usize, &Buffer)| match (buffer.space, entry.arena.is_some()) {
            (Space::Growing(slot), true) => Place::Own((true, slot)),
            _ => Place::Own((false, i)),
        };
        let places = entry.buffers.iter().enumerate().map(place).collect();
        Memory { arena: Vec::new(), own: BTreeMap::new(), places }
    }

    /// Gives buffers of this space their places.
    fn lay_out(&mut self, space: Space, entry: &Entry, sizes: &SizeValues) -> Result<(), WalkError> {
        let Some(arena) = entry.arena.as_ref().filter(|_| space == Space::Arena) else { return Ok(()) };
        self.arena = vec![FRESH; value(arena, sizes)?.max(0) as usize];
        for (place, buffer) in self.places.iter_mut().zip(&entry.buffers) {
            if let Some(offset) = buffer.offset.as_ref().filter(|_| buffer.space == space) {
                *place = Place::Arena(value(offset, sizes)?.max(0) as usize);
            }
        }
        Ok(())
    }

    fn read(&self, buffer: usize, dtype: ir::DType, shape: Vec<usize>) -> Result<Tensor, WalkError> {
        let len = shape.iter().product::<usize>() * dtype.bytes();
        let mut bytes = match self.places[buffer] {
            Place::Arena(start) => self.arena.get(start..start + len).map(<[u8]>::to_vec).unwrap_or_default(),
            Place::Own(key) => self.own.get(&key).cloned().unwrap_or_default(),
        };
        bytes.resize(len, FRESH);
        Tensor::new(dtype, shape, bytes)
            .ok_or_else(|| WalkError::Undefined { name: format!("buffer {buffer}") })
    }

    fn write(&mut self, buffer: usize, at: usize, bytes: &[u8], name: &Symbol) -> Result<(), WalkError> {
        match self.places[buffer] {
            Place::Arena(start) => {
                let range = start + at..start + at + bytes.len();
                let room = self.arena.get_mut(range.clone()).ok_or_else(|| WalkError::OutOfRange {
                    array: name.to_string(),
                    index: vec![range.end as i64],
                    shape: Vec::new(),
                })?;
                room.copy_from_slice(bytes);
            }
            Place::Own(key) => {
                let own = self.own.entry(key).or_default();
                if at == 0 && own.len() > bytes.len() {
                    own.truncate(bytes.len());
                }
                own.resize(own.len().max(at + bytes.len()), FRESH);
                own[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
        Ok(())
    }
}
