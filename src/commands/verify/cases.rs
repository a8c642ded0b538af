//! Test data: inputs with the outputs that a model must give for them.
//!
//! A folder is read by `folder.rs`. A `.safetensors` or `.npz` file holds tensors by the names of inputs and outputs; with `in.` and `out.` in front, further sets come as
//! `in2.` and `out2.`, and so on.

use std::collections::BTreeMap;
use std::path::Path;

use egraft::tensors;
use ir::Tensor;
use runner::files;

use crate::report::Failure;

/// Inputs, and what must come out where that is known.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::commands) struct Case {
    /// What it is called in reports.
    pub name: String,
    /// In the order of the model's inputs.
    pub inputs: Vec<Tensor>,
    /// In the order of the model's outputs; `None` for those that the data leave out.
    pub expected: Vec<Option<Tensor>>,
}

/// What inputs and outputs of the model are called.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::commands) struct Names {
    /// Of its inputs, in order.
    pub inputs: Vec<String>,
    /// Of its outputs, in order.
    pub outputs: Vec<String>,
}

/// The cases in a file; at least one.
///
/// # Errors
/// What can't be read, or holds nothing that fits the model.
pub(in crate::commands) fn read(path: &Path, names: &Names) -> Result<Vec<Case>, Failure> {
    let cases = of_file(path, names)?;
    if cases.is_empty() {
        return Err(nothing(path, names));
    }
    Ok(cases)
}

pub(super) fn nothing(path: &Path, names: &Names) -> Failure {
    let inputs: Vec<String> = names.inputs.iter().map(|name| format!("`{name}`")).collect();
    Failure::bad_input(
        "egraft::cli::no_data",
        format!("{} holds no data for the model, whose inputs are {}", path.display(), inputs.join(", ")),
        "a folder holds set_K/input_J.pb and set_K/output_J.pb; in a file, tensors are called like the model's inputs \
         and outputs, also after `in.` and `out.`",
    )
}

fn of_file(path: &Path, names: &Names) -> Result<Vec<Case>, Failure> {
    let tensors: BTreeMap<String, Tensor> = files::read_all(path)?
        .iter()
        .map(|(name, tensor)| (name.clone(), tensors::from_file(tensor)))
        .collect();
    let prefixes = (1..).map(|set| match set {
        1 => ("in.".to_owned(), "out.".to_owned()),
        set => (format!("in{set}."), format!("out{set}.")),
    });
    let mut cases: Vec<Case> =
        prefixes.map_while(|(input, output)| case(&tensors, &input, &output, names)).collect();
    // A model without inputs is in every file, by any prefix: names alone decide then.
    if cases.is_empty() || names.inputs.is_empty() {
        cases = case(&tensors, "", "", names).into_iter().collect();
    }
    Ok(cases)
}

/// The case whose tensors have these words in front of their names, if all inputs are there.
fn case(tensors: &BTreeMap<String, Tensor>, input: &str, output: &str, names: &Names) -> Option<Case> {
    if names.inputs.is_empty() && !input.is_empty() {
        return None;
    }
    let find = |prefix: &str, name: &String| tensors.get(&format!("{prefix}{name}")).cloned();
    let inputs = names.inputs.iter().map(|name| find(input, name)).collect::<Option<Vec<Tensor>>>()?;
    let expected = names.outputs.iter().map(|name| find(output, name)).collect();
    let name = if input.is_empty() { "data".to_owned() } else { format!("{input}*") };
    Some(Case { name, inputs, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { inputs: vec!["x".to_owned(), "m".to_owned()], outputs: vec!["y".to_owned()] }
    }

    fn number(value: f32) -> Tensor {
        Tensor::from_f32(&[1], &[value])
    }

    fn tensors(entries: &[(&str, f32)]) -> BTreeMap<String, Tensor> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), number(*value))).collect()
    }

    #[test]
    fn prefixes_tell_inputs_from_outputs() {
        let all = tensors(&[("in.x", 1.0), ("in.m", 2.0), ("out.y", 3.0), ("w.y", 4.0)]);
        let found = case(&all, "in.", "out.", &names()).expect("both inputs are there");
        assert_eq!(found.inputs, [number(1.0), number(2.0)]);
        assert_eq!(found.expected, [Some(number(3.0))]);
        assert_eq!(case(&all, "in2.", "out2.", &names()), None);
        assert_eq!(case(&all, "", "", &names()), None);
    }

    #[test]
    fn outputs_may_be_left_out() {
        let all = tensors(&[("x", 1.0), ("m", 2.0)]);
        assert_eq!(case(&all, "", "", &names()).expect("the inputs are there").expected, [None]);
    }
}
