//! Runs on tensors in safe Rust: checked, copied where they are not aligned, results in fresh memory.

use std::{ptr, sync::Arc};

use super::Session;
use crate::{
    error::RunError,
    memory::AlignedBytes,
    plan::Port,
    tensor::{TensorBuf, TensorRef},
};

impl Session {
    /// Binds, runs, and returns the outputs in fresh memory: `inputs` in the order of the entry.
    ///
    /// # Errors
    /// Wrong number, types, ranks, sizes or lengths of inputs, not enough memory, or values that decide
    /// sizes which contradict each other.
    pub fn run_tensors(&mut self, inputs: &[TensorRef<'_>]) -> Result<Vec<TensorBuf>, RunError> {
        let model = Arc::clone(&self.model);
        let entry = &model.plan().entries[self.entry];
        if inputs.len() != entry.inputs.len() {
            return Err(RunError::Count {
                what: "inputs",
                expected: entry.inputs.len(),
                found: inputs.len(),
            });
        }
        for (port, input) in entry.inputs.iter().zip(inputs) {
            check_dtype(port, input)?;
        }
        self.bind(&inputs.iter().map(|input| input.dims).collect::<Vec<_>>())?;
        // Copies of what is not aligned to its elements; the rest is read in place.
        let mut aligned = Vec::new();
        let mut pointers = Vec::new();
        for (index, (port, input)) in entry.inputs.iter().zip(inputs).enumerate() {
            let (expected, found) = (self.input_bytes(index)?, input.data.len());
            if found != expected {
                return Err(RunError::Bytes { what: "input", name: port.name.clone(), expected, found });
            }
            if input.data.as_ptr().addr().is_multiple_of(port.dtype.bytes()) {
                pointers.push(input.data.as_ptr());
            } else {
                let copy = AlignedBytes::copy_of(input.data, "an input")?;
                pointers.push(copy.as_ptr());
                aligned.push(copy);
            }
        }
        let mut outputs = Vec::new();
        for (index, port) in entry.outputs.iter().enumerate() {
            // What is decided while the model runs is filled in afterwards.
            let (dims, data) = match entry.is_dynamic(index) {
                true => (Vec::new(), AlignedBytes::default()),
                false => {
                    let bytes = self.output_bytes(index)?;
                    (self.output_shape(index)?.to_vec(), AlignedBytes::zeroed(bytes, "an output")?)
                }
            };
            outputs.push(TensorBuf { name: port.name.clone(), dtype: port.dtype, dims, data });
        }
        let pointer = |(index, output): (usize, &TensorBuf)| match entry.is_dynamic(index) {
            true => ptr::null_mut(),
            false => output.data.start(),
        };
        let results: Vec<*mut u8> = outputs.iter().enumerate().map(pointer).collect();
        // SAFETY: every buffer has the bytes that binding asked for, is aligned, and is borrowed or owned
        // by this function; outputs are fresh, so they overlap nothing.
        unsafe { self.run(&pointers, &results) }?;
        drop(aligned);
        for (index, output) in outputs.iter_mut().enumerate() {
            if entry.is_dynamic(index) {
                output.dims = self.output_shape(index)?.to_vec();
                output.data = AlignedBytes::copy_of(self.output_data(index)?, "an output")?;
            }
        }
        Ok(outputs)
    }

    /// As [`Session::run_tensors`], with inputs by name in any order.
    ///
    /// # Errors
    /// Also: unknown, repeated and missing names.
    pub fn run_named(&mut self, inputs: &[(&str, TensorRef<'_>)]) -> Result<Vec<TensorBuf>, RunError> {
        let entry = self.entry();
        for (i, (name, _)) in inputs.iter().enumerate() {
            if !entry.inputs.iter().any(|port| port.name == *name) {
                let known = entry.inputs.iter().map(|port| format!("`{}`", port.name));
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(RunError::UnknownInput { name: (*name).to_owned(), known });
            }
            if inputs[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(RunError::DuplicateInput { name: (*name).to_owned() });
            }
        }
        let find = |port: &Port| match inputs.iter().find(|(name, _)| *name == port.name) {
            Some((_, input)) => Ok(*input),
            None => Err(RunError::Missing { what: "input", name: port.name.clone() }),
        };
        let ordered = entry.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        self.run_tensors(&ordered)
    }
}

pub(crate) fn check_dtype(port: &Port, input: &TensorRef<'_>) -> Result<(), RunError> {
    if input.dtype == port.dtype {
        return Ok(());
    }
    Err(RunError::DType { input: port.name.clone(), expected: port.dtype, found: input.dtype })
}
