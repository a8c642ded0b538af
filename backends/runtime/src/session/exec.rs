//! Steps, one after the other.
//!
//! Nothing is allocated here but growing memory that is too small. Deliberately absent: any trust in the
//! plan beyond what its validation and the table have checked: places that depend on the run are checked
//! before they are used.

use std::sync::Arc;

use super::{
    memory::{Memory, describe, fits},
    profile::Look,
    table::{self, Line, Ready, Table},
};
use crate::{
    bind,
    device::{DeviceError, Queue},
    error::RunError,
    model::Model,
    plan::{Arg, Call, Entry, Step},
    services::Services,
    size::Size,
};

/// A run of a list of steps, which `table` was made from.
pub(super) struct Run<'a, L> {
    pub(super) model: &'a Model,
    pub(super) entry: &'a Entry,
    pub(super) services: &'a Services,
    /// What runs the kernels, if it is not the processor.
    pub(super) queue: Option<&'a Arc<dyn Queue>>,
    pub(super) memory: &'a mut Memory,
    pub(super) table: &'a mut Table,
    /// Room for the values of a [`Step::Set`].
    pub(super) values: &'a mut Vec<i64>,
    pub(super) look: &'a mut L,
}

impl<L: Look> Run<'_, L> {
    /// Runs all steps.
    ///
    /// # Safety
    /// Inputs and outputs in `memory` lead to their tensors, as [`super::Session::run`] asks.
    pub(super) unsafe fn all(&mut self, steps: &[Step]) -> Result<(), RunError> {
        self.table.set_ports(self.memory);
        // SAFETY: as the caller vouches.
        unsafe { self.block(steps, 0) }
    }

    /// Runs steps whose lines start at `first`.
    ///
    /// # Safety
    /// As [`Run::all`].
    unsafe fn block(&mut self, steps: &[Step], first: usize) -> Result<(), RunError> {
        let mut at = first;
        for step in steps {
            // SAFETY: as the caller vouches.
            at = unsafe { self.step(step, at) }?;
        }
        Ok(())
    }

    /// Runs a step; gives the line of the next one.
    ///
    /// # Safety
    /// As [`Run::all`].
    unsafe fn step(&mut self, step: &Step, at: usize) -> Result<usize, RunError> {
        let entry = self.entry;
        match (step, self.table.lines[at]) {
            (Step::Call(call), Line::Call(ready)) => {
                if !ready.fixed {
                    self.resolve(call, ready, at)?;
                }
                let start = self.look.now();
                // SAFETY: both offsets are inside the tables (or at their end, for a call without any),
                // which hold what the plan gives this kernel; the caller vouches for its own tensors.
                unsafe {
                    let args = self.table.args.as_ptr().add(ready.args);
                    let sizes = self.table.sizes.as_ptr().add(ready.sizes);
                    match self.queue {
                        None => self.model.kernel(ready.kernel)(&raw const *self.services, args, sizes),
                        Some(queue) => {
                            let args = std::slice::from_raw_parts(args, call.args.len());
                            let sizes = std::slice::from_raw_parts(sizes, call.sizes.len());
                            self.look.mark(queue)?;
                            queue.call(ready.kernel, args, sizes)?;
                            self.look.mark(queue)?;
                            if let Some(guards) = queue.guards() {
                                let kernel = || table::describe(self.model, call, at);
                                self.memory.check(entry, guards, kernel)?;
                            }
                        }
                    }
                }
                self.look.called(ready.number, start);
            }
            (Step::Measure { symbol, source, bound, what }, _) => {
                // SAFETY: as the caller vouches.
                let value = i64::from_ne_bytes(unsafe { self.read(*source) }?);
                let value = bind::measured(entry, value, bound.as_ref(), &self.memory.symbols, what)?;
                self.memory.symbols[*symbol as usize] = value;
            }
            (Step::Set(values), _) => {
                self.values.clear();
                for (symbol, size) in values {
                    let what = || format!("`{}`", entry.symbols[*symbol as usize]);
                    self.values.push(bind::eval_count(entry, size, &self.memory.symbols, what)?);
                }
                for ((symbol, _), value) in values.iter().zip(&*self.values) {
                    self.memory.symbols[*symbol as usize] = *value;
                }
            }
            (Step::Require { left, relation, right, what }, _) => {
                bind::require(entry, left, *relation, right, &self.memory.symbols, what)?;
            }
            (Step::Reserve(arg), _) => self.memory.reserve(entry, *arg)?,
            (Step::Copy { from, to, bytes, at: element }, _) => {
                // SAFETY: as the caller vouches.
                unsafe { self.copy(*from, *to, bytes, element.as_ref(), at) }?;
            }
            (Step::If { cond, then, otherwise }, Line::If { otherwise: second, end }) => {
                // SAFETY: as the caller vouches.
                let (steps, first) = match unsafe { self.holds(*cond) }? {
                    true => (then, at + 1),
                    false => (otherwise, second),
                };
                // SAFETY: as above.
                unsafe { self.block(steps, first) }?;
                return Ok(end);
            }
            (Step::Loop { index, count, cond, trips, body }, Line::Loop { end }) => {
                let count = bind::eval(entry, count, &self.memory.symbols, || format!("step {at}"))?;
                let mut done = 0;
                // SAFETY (both): as the caller vouches.
                while done < count && cond.map_or(Ok(true), |cond| unsafe { self.holds(cond) })? {
                    self.memory.symbols[*index as usize] = done;
                    unsafe { self.block(body, at + 1) }?;
                    done += 1;
                }
                if let Some(trips) = trips {
                    self.memory.symbols[*trips as usize] = done;
                }
                return Ok(end);
            }
            (Step::Call(_) | Step::If { .. } | Step::Loop { .. }, _) => {
                unreachable!("bug: the table was made from other steps")
            }
        }
        Ok(at + 1)
    }

    /// Fills in what a call gets, as sizes and memory are now.
    fn resolve(&mut self, call: &Call, ready: Ready, number: usize) -> Result<(), RunError> {
        for (i, arg) in call.args.iter().enumerate() {
            self.table.args[ready.args + i] = self.memory.pointer(self.entry, *arg)?;
        }
        for (i, size) in call.sizes.iter().enumerate() {
            let what = || table::describe(self.model, call, number);
            self.table.sizes[ready.sizes + i] = bind::eval(self.entry, size, &self.memory.symbols, what)?;
        }
        Ok(())
    }

    /// # Safety
    /// As [`Run::all`].
    unsafe fn copy(
        &mut self,
        from: Arg,
        to: Arg,
        bytes: &Size,
        element: Option<&Size>,
        number: usize,
    ) -> Result<(), RunError> {
        let (entry, what) = (self.entry, || format!("step {number}, a copy"));
        let bytes = bind::eval_count(entry, bytes, &self.memory.symbols, what)?;
        let before = match element {
            Some(element) => bind::eval_count(entry, element, &self.memory.symbols, what)?,
            None => 0,
        };
        let start = before.checked_mul(bytes);
        let end = start.and_then(|start| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(RunError::TooLarge { what: describe(entry, to) });
        };
        self.memory.make_room(entry, to, end, element.is_some())?;
        let (source, target) = (self.memory.span(entry, from)?, self.memory.span(entry, to)?);
        let count = fits(entry, from, bytes, source)?;
        fits(entry, to, end, target)?;
        // SAFETY: both spans are as large as this asks; they may overlap.
        unsafe {
            let to = target.start.add(start as usize);
            match self.queue {
                None => std::ptr::copy(source.start, to, count),
                Some(_) if count == 0 || to == source.start => {}
                Some(_) if to.addr().abs_diff(source.start.addr()) < count => {
                    let (call, why) = (what(), "it overlaps itself".to_owned());
                    return Err(DeviceError { call, why }.into());
                }
                Some(queue) => queue.copy(source.start, to, count)?,
            }
        }
        Ok(())
    }

    /// # Safety
    /// As [`Run::all`].
    unsafe fn holds(&self, cond: Arg) -> Result<bool, RunError> {
        // SAFETY: as the caller vouches.
        unsafe { self.read(cond) }.map(|[byte]| byte != 0)
    }

    /// The first bytes that an argument leads to.
    ///
    /// # Safety
    /// As [`Run::all`].
    unsafe fn read<const N: usize>(&self, arg: Arg) -> Result<[u8; N], RunError> {
        let span = self.memory.span(self.entry, arg)?;
        fits(self.entry, arg, N as i64, span)?;
        let Some(queue) = self.queue else {
            // SAFETY: that many bytes are there, and bytes need no alignment.
            return Ok(unsafe { span.start.cast::<[u8; N]>().read() });
        };
        let mut bytes = [0; N];
        // SAFETY: as above.
        unsafe { queue.read(span.start, bytes.as_mut_ptr(), N) }?;
        Ok(bytes)
    }
}
