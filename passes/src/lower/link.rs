//! Several programs as one: their entries, on weights and kernels that they share.
//!
//! Weights of equal contents in an equal layout are one, whatever they are called; so are states of one name, which all
//! entries keep for each other. Programs are linked before their memory is planned: states then lie at the same place
//! for every entry.

use std::collections::HashMap;

use ir::Symbol;
use ir::program::{Arg, Buffer, Entry, Layout, PackedWeight, Program, Space, Step};
use ir::weight::Weight;

use crate::lower::Names;

/// Two entries whose states are not the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state `{state}` is {first} in `{entry}`, and {second} in `{other}`")]
pub struct LinkError {
    /// The state.
    pub state: String,
    /// An entry that has it.
    pub entry: String,
    /// Its type there.
    pub first: String,
    /// Another entry that has it.
    pub other: String,
    /// Its type there.
    pub second: String,
}

/// A program called `name` of the entries of all; those of the program at position `i` are called `entries[i]`, with
/// their own name behind if there are several.
///
/// # Errors
/// [`LinkError`].
pub fn link(name: &str, programs: Vec<(String, Program)>) -> Result<Program, LinkError> {
    let mut linked = Program { name: name.to_owned(), weights: vec![], kernels: vec![], entries: vec![] };
    let mut weights: HashMap<(Weight, Layout), usize> = HashMap::new();
    let [mut weight_names, mut kernel_names] = [Names::default(), Names::default()];
    for (name, program) in programs {
        let place: Vec<usize> = program
            .weights
            .into_iter()
            .map(|packed| {
                let key = (packed.weight.clone(), packed.layout.clone());
                *weights.entry(key).or_insert_with(|| {
                    let name = Symbol::new(weight_names.fresh(packed.name.name(), "c"));
                    linked.weights.push(PackedWeight { name, ..packed });
                    linked.weights.len() - 1
                })
            })
            .collect();
        let first = linked.kernels.len();
        for mut kernel in program.kernels {
            kernel.name = Symbol::new(kernel_names.fresh(kernel.name.name(), "k"));
            linked.kernels.push(kernel);
        }
        let several = program.entries.len() > 1;
        for mut entry in program.entries {
            entry.name = if several { format!("{name}.{}", entry.name) } else { name.clone() };
            entry.for_each_call_mut(&mut |call| call.kernel += first);
            change_args(&mut entry, |arg| match arg {
                Arg::Weight(at) => Arg::Weight(place[at]),
                other => other,
            });
            linked.entries.push(entry);
        }
    }
    share_states(&mut linked)?;
    Ok(linked)
}

/// Gives every entry all states, first among its buffers and in one order.
fn share_states(program: &mut Program) -> Result<(), LinkError> {
    let mut states: Vec<(Buffer, String)> = Vec::new();
    for entry in &program.entries {
        for buffer in entry.buffers.iter().filter(|buffer| buffer.space == Space::State) {
            match states.iter().find(|(state, _)| state.name == buffer.name) {
                None => states.push((buffer.clone(), entry.name.clone())),
                Some((state, _)) if state.ty == buffer.ty => {}
                Some((state, first)) => {
                    return Err(LinkError {
                        state: state.name.to_string(),
                        entry: first.clone(),
                        first: state.ty.to_string(),
                        other: entry.name.clone(),
                        second: buffer.ty.to_string(),
                    });
                }
            }
        }
    }
    for entry in &mut program.entries {
        let (own, mut rest) = (std::mem::take(&mut entry.buffers), Vec::new());
        let mut place = Vec::with_capacity(own.len());
        for buffer in own {
            let state = states.iter().position(|(state, _)| state.name == buffer.name);
            match state.filter(|_| buffer.space == Space::State) {
                Some(at) => place.push(at),
                None => {
                    place.push(states.len() + rest.len());
                    rest.push(buffer);
                }
            }
        }
        entry.buffers = states.iter().map(|(state, _)| state.clone()).chain(rest).collect();
        change_args(entry, |arg| match arg {
            Arg::Buffer(at) => Arg::Buffer(place[at]),
            other => other,
        });
    }
    Ok(())
}

fn change_args(entry: &mut Entry, to: impl Fn(Arg) -> Arg) {
    let mut change = |arg: &mut Arg| *arg = to(*arg);
    Step::walk_args_mut(&mut entry.host, &mut change);
    Step::walk_args_mut(&mut entry.steps, &mut change);
}
