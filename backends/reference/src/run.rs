//! Runs whole graphs and whole programs.

use std::collections::BTreeMap;

use ir::dim::Symbol;
use ir::op::OpError;
use ir::program::{Arg, Entry, Program};
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
    let entry = &program.entries[entry];
    let sizes = bind(entry, inputs)?;
    let value = |dim: &Dim| {
        let value = dim.eval(&|symbol| sizes.get(symbol).copied());
        value.ok_or_else(|| WalkError::Unbound { dim: dim.to_string() })
    };
    let shape = |dims: &[Dim]| -> Result<Vec<usize>, WalkError> {
        dims.iter().map(|dim| Ok(value(dim)?.max(0) as usize)).collect()
    };
    let mut outputs = Vec::with_capacity(entry.outputs.len());
    for port in &entry.outputs {
        outputs.push(Tensor::splat(Scalar::from_i64(port.ty.dtype, 0), &shape(&port.ty.shape)?));
    }
    let mut memory = Memory::new(entry, &value)?;
    let weights: Vec<Tensor> = program.weights.iter().map(|weight| weight.pack()).collect();
    for step in &entry.steps {
        let mut arrays = Vec::with_capacity(step.args.len());
        for &arg in &step.args {
            arrays.push(match arg {
                Arg::Input(i) => inputs[i].clone(),
                Arg::Output(i) => outputs[i].clone(),
                Arg::Weight(i) => weights[i].clone(),
                Arg::Buffer(i) => {
                    memory.read(i, entry.buffers[i].ty.dtype, shape(&entry.buffers[i].ty.shape)?)
                }
            });
        }
        let step_sizes = step.sizes.iter().map(value).collect::<Result<Vec<i64>, _>>()?;
        walk(&program.kernels[step.kernel], &step_sizes, &mut arrays)?;
        for (&arg, array) in step.args.iter().zip(arrays) {
            match arg {
                Arg::Output(i) => outputs[i] = array,
                Arg::Buffer(i) => memory.write(i, &array),
                Arg::Input(_) | Arg::Weight(_) => {}
            }
        }
    }
    Ok(outputs)
}

/// The value of every symbol, from the inputs' shapes: what a graph with these inputs says.
fn bind(entry: &Entry, inputs: &[Tensor]) -> Result<BTreeMap<Symbol, i64>, WalkError> {
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
    bytes: Vec<u8>,
    offsets: Vec<usize>,
}

impl Memory {
    fn new(entry: &Entry, value: &dyn Fn(&Dim) -> Result<i64, WalkError>) -> Result<Memory, WalkError> {
        let mut offsets = Vec::with_capacity(entry.buffers.len());
        let mut end = match &entry.arena {
            Some(arena) => value(arena)?.max(0) as usize,
            None => 0,
        };
        for buffer in &entry.buffers {
            let planned = buffer.offset.as_ref().filter(|_| buffer.space == ir::program::Space::Arena);
            match planned {
                Some(offset) => offsets.push(value(offset)?.max(0) as usize),
                None => {
                    offsets.push(end);
                    end += value(&buffer.ty.bytes())?.max(0) as usize;
                }
            }
        }
        // Fresh memory is not zero in real life.
        Ok(Memory { bytes: vec![0xAA; end], offsets })
    }

    fn read(&self, buffer: usize, dtype: ir::DType, shape: Vec<usize>) -> Tensor {
        let start = self.offsets[buffer];
        let len = shape.iter().product::<usize>() * dtype.bytes();
        let bytes = self.bytes.get(start..start + len).map(<[u8]>::to_vec);
        bytes
            .and_then(|bytes| Tensor::new(dtype, shape, bytes))
            .expect("bug: the arena is smaller than its plan")
    }

    fn write(&mut self, buffer: usize, array: &Tensor) {
        let start = self.offsets[buffer];
        self.bytes[start..start + array.bytes().len()].copy_from_slice(array.bytes());
    }
}
