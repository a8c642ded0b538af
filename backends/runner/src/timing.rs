//! Timing of runs. Each time is that of one call of a bound session: no file, no printing, and nothing is allocated,
//! since a run before has made all room.

#![allow(unsafe_code, reason = "runs are timed without the allocation of their outputs")]

use std::ptr;
use std::time::Instant;

use runtime::{Profile, RunError, Session, TensorBuf, TensorRef};

use crate::tensor::Tensor;

/// A session that is bound to inputs, with room for its outputs: it runs again and again.
pub struct Bound<'a> {
    session: &'a mut Session,
    inputs: Vec<*const u8>,
    /// Their elements.
    _given: &'a [Tensor],
    /// The states that each run begins with, but for zeros.
    states: &'a [(usize, Tensor)],
    outputs: Vec<TensorBuf>,
    results: Vec<*mut u8>,
}

impl<'a> Bound<'a> {
    /// Binds the session to the inputs and runs it once. Each run begins with these states, by position, and zeros
    /// else.
    ///
    /// # Errors
    /// The inputs, or the states, don't fit the model.
    pub fn new(
        session: &'a mut Session,
        inputs: &'a [Tensor],
        states: &'a [(usize, Tensor)],
    ) -> Result<Bound<'a>, RunError> {
        let views: Vec<TensorRef<'_>> = inputs.iter().map(Tensor::view).collect();
        let dims: Vec<&[i64]> = inputs.iter().map(Tensor::signed_dims).collect();
        session.reset_state();
        session.bind(&dims)?;
        begin(session, states)?;
        // Checks dtypes and sizes, and gives outputs of the right size.
        let mut outputs = session.run_tensors(&views)?;
        // What is as large as the run decides is in the session's memory.
        let dynamic: Vec<bool> = (0..outputs.len()).map(|index| session.entry().is_dynamic(index)).collect();
        let result = |(output, dynamic): (&mut TensorBuf, bool)| match dynamic {
            true => ptr::null_mut(),
            false => output.data.as_mut_ptr(),
        };
        let results = outputs.iter_mut().zip(dynamic).map(result).collect();
        let pointers = inputs.iter().map(|input| input.bytes().as_ptr()).collect();
        Ok(Bound { session, inputs: pointers, _given: inputs, states, outputs, results })
    }

    /// The session.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Runs once; gives the milliseconds that it took. State is reset before, so that each run starts as a program
    /// does; the clock doesn't see it.
    ///
    /// # Errors
    /// The values of the inputs decide sizes that the model refuses.
    pub fn time(&mut self) -> Result<f64, RunError> {
        begin(self.session, self.states)?;
        let start = Instant::now();
        // SAFETY: the session is bound to exactly these inputs by the run in `new`, which also gave each output its
        // size; all are owned or borrowed here, aligned to 64 bytes, and overlap nothing.
        unsafe { self.session.run(&self.inputs, &self.results) }?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// The milliseconds of each of `count` runs, after `warmup` that nobody times.
    ///
    /// # Errors
    /// As [`Bound::time`].
    pub fn times(&mut self, warmup: usize, count: usize) -> Result<Times, RunError> {
        for _ in 0..warmup {
            self.time()?;
        }
        let mut times = Vec::with_capacity(count.min(1 << 20));
        for _ in 0..count {
            times.push(self.time()?);
        }
        Ok(Times::new(times))
    }

    /// Runs once and records the calls of kernels.
    ///
    /// # Errors
    /// As [`Bound::time`].
    pub fn profile(&mut self, profile: &mut Profile) -> Result<(), RunError> {
        begin(self.session, self.states)?;
        // SAFETY: as in `time`.
        unsafe { self.session.run_profiled(&self.inputs, &self.results, profile) }
    }

    /// The outputs of the run that bound it. All runs give the same.
    pub fn outputs(&self) -> &[TensorBuf] {
        &self.outputs
    }

    /// The same, to be kept.
    pub fn into_outputs(self) -> Vec<TensorBuf> {
        self.outputs
    }
}

/// Gives a bound session the states that a run begins with.
fn begin(session: &mut Session, states: &[(usize, Tensor)]) -> Result<(), RunError> {
    session.reset_state();
    states.iter().try_for_each(|(index, state)| session.write_state(*index, state.bytes()))
}

/// Times of several runs; at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    in_order: Vec<f64>,
    sorted: Vec<f64>,
}

impl Times {
    /// Of these times, at least one.
    pub fn new(in_order: Vec<f64>) -> Times {
        let mut sorted = in_order.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Times { in_order, sorted }
    }

    /// As they were measured.
    pub fn in_order(&self) -> &[f64] {
        &self.in_order
    }

    /// Linear interpolation between the two nearest of the sorted times, as NumPy does it.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let at = quantile * (self.sorted.len() - 1) as f64;
        let (below, above) = (self.sorted[at.floor() as usize], self.sorted[at.ceil() as usize]);
        below + (above - below) * at.fract()
    }

    /// The time that half of them are below.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.in_order.iter().sum::<f64>() / self.in_order.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let times = Times::new(vec![4.0, 2.0, 3.0, 1.0]);
        assert_eq!([0.0, 0.5, 0.9, 1.0].map(|q| times.quantile(q)), [1.0, 2.5, 3.7, 4.0]);
        assert_eq!((times.median(), times.mean(), times.in_order()[0]), (2.5, 2.5, 4.0));
        assert_eq!(Times::new(vec![7.0]).quantile(0.99), 7.0);
    }
}
