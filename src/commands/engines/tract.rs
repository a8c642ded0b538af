//! tract in this process: the model is loaded for the shapes of the given inputs and optimised as tract does by
//! default. It runs on one thread, since its crate for ONNX offers no other executor.
//!
//! tract panics on some models that it does not know. Then its message is that of the panic.

use std::borrow::Cow;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::Instant;

use egraft::tensors;
use ir::{DType, Tensor};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec,
    TractError, TractResult, TypedSimpleState,
};
use tract_onnx::tract_core::prelude::tract_data::prelude::Tensor as TractTensor;

use super::Other;
use crate::report::Failure;

/// tract, with the model that was loaded last.
pub(super) struct Tract {
    loaded: Option<Loaded>,
}

/// A model, and what it runs on.
struct Loaded {
    state: TypedSimpleState,
    inputs: TVec<TValue>,
}

impl Tract {
    /// No model yet.
    pub(super) fn new() -> Tract {
        Tract { loaded: None }
    }
}

impl Other for Tract {
    fn name(&self) -> &str {
        "tract"
    }

    fn load(
        &mut self,
        model: &Path,
        inputs: &[(&str, &runner::tensor::Tensor)],
        _threads: usize,
    ) -> Result<Vec<Tensor>, Failure> {
        let (loaded, outputs) = guarded(|| {
            let mut loaded = Loaded::new(model, inputs)?;
            let outputs =
                loaded.run()?.iter().map(|output| from_tract(output)).collect::<TractResult<_>>()?;
            Ok((loaded, outputs))
        })?;
        self.loaded = Some(loaded);
        Ok(outputs)
    }

    fn times(&mut self, runs: usize) -> Result<Vec<f64>, Failure> {
        let loaded = self.loaded.as_mut().expect("bug: a model is loaded before it is timed");
        let time = |_| {
            let start = Instant::now();
            loaded.run()?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        guarded(|| (0..runs).map(time).collect())
    }
}

impl Loaded {
    fn new(path: &Path, given: &[(&str, &runner::tensor::Tensor)]) -> TractResult<Loaded> {
        // What a file says of other values names sizes that are fixed here.
        let engine = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
        let mut model = engine.model_for_path(path)?;
        let names: Vec<String> =
            model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
        let mut inputs = TVec::new();
        for (index, name) in names.iter().enumerate() {
            let (_, tensor) = given.iter().find(|(known, _)| known == name).ok_or_else(|| {
                TractError::msg(format!("the model has an input `{name}`, which is not given"))
            })?;
            let tensor = to_tract(tensor)?;
            model.set_input_fact(index, InferenceFact::dt_shape(tensor.datum_type(), tensor.shape()))?;
            inputs.push(tensor.into_tvalue());
        }
        let plan = model.into_optimized()?.into_runnable()?;
        Ok(Loaded { state: plan.spawn()?, inputs })
    }

    fn run(&mut self) -> TractResult<TVec<TValue>> {
        self.state.run(self.inputs.clone())
    }
}

/// What tract calls the element types that it has.
const DTYPES: [(DType, DatumType); 12] = [
    (DType::F32, DatumType::F32),
    (DType::F64, DatumType::F64),
    (DType::F16, DatumType::F16),
    (DType::I8, DatumType::I8),
    (DType::I16, DatumType::I16),
    (DType::I32, DatumType::I32),
    (DType::I64, DatumType::I64),
    (DType::U8, DatumType::U8),
    (DType::U16, DatumType::U16),
    (DType::U32, DatumType::U32),
    (DType::U64, DatumType::U64),
    (DType::Bool, DatumType::Bool),
];

fn to_tract(tensor: &runner::tensor::Tensor) -> TractResult<TractTensor> {
    let dtype = tensors::from_runtime(tensor.dtype());
    let (_, theirs) = DTYPES
        .iter()
        .find(|(ours, _)| *ours == dtype)
        .ok_or_else(|| TractError::msg(format!("it has no tensors of {dtype}")))?;
    let mut made = TractTensor::zero_dt(*theirs, tensor.dims())?;
    made.as_bytes_mut().copy_from_slice(tensor.bytes());
    Ok(made)
}

fn from_tract(tensor: &TractTensor) -> TractResult<Tensor> {
    // Sizes are expressions there, and numbers in ONNX.
    let tensor = match tensor.datum_type() {
        DatumType::TDim => tensor.cast_to::<i64>()?,
        _ => Cow::Borrowed(tensor),
    };
    let dtype = tensor.datum_type();
    let (ours, _) = DTYPES
        .iter()
        .find(|(_, theirs)| *theirs == dtype)
        .ok_or_else(|| TractError::msg(format!("it gives a tensor of {dtype:?}")))?;
    Tensor::new(*ours, tensor.shape().to_vec(), tensor.as_bytes().to_vec())
        .ok_or_else(|| TractError::msg("it gives a tensor with other elements than its shape says"))
}

/// What tract does here: an error or a panic of it is a failure with its message, and a panic prints nothing.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, Failure> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    let why = match done {
        Ok(Ok(made)) => return Ok(made),
        Ok(Err(error)) => format!("{error:#}"),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
        }
    };
    let help = "leave out `--against`, or compare with onnxruntime: tract does not know every op";
    Err(Failure::bad_input("egraft::cli::tract", format!("tract: {why}"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_goes_there_and_back() {
        for (dtype, _) in DTYPES {
            let tensor = Tensor::new(dtype, vec![2, 1], vec![1; 2 * dtype.bytes()]).expect("as many bytes");
            let there = to_tract(&tensors::to_file(&tensor).expect("it is small")).expect("tract has it");
            assert_eq!(there.shape(), [2, 1]);
            assert_eq!(from_tract(&there).expect("we have it"), tensor);
        }
    }

    #[test]
    fn panics_become_failures() {
        let work = || -> TractResult<()> { panic!("no op {}", 7) };
        let Err(Failure::Problems { problems, exit }) = guarded(work) else { panic!("it fails") };
        assert_eq!((problems[0].message.as_str(), exit), ("tract: no op 7", crate::report::BAD_INPUT));
        assert_eq!(guarded(|| Ok(3)).expect("it is fine"), 3);
    }
}
