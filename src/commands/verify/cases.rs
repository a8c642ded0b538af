//! Test data: inputs with the outputs that a model must give for them.
//!
//! A folder in the layout of ONNX's own tests holds `set_K/input_J.pb` and `set_K/output_J.pb`. A `.safetensors` or
//! `.npz` file holds tensors by the names of inputs and outputs; with `in.` and `out.` in front, further sets come as
//! `in2.` and `out2.`, and so on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use egraft::{Error, tensors};
use ir::Tensor;
use runner::files;

use crate::report::Failure;

/// Inputs, and what must come out where that is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// What it is called in reports.
    pub name: String,
    /// In the order of the model's inputs.
    pub inputs: Vec<Tensor>,
    /// In the order of the model's outputs; `None` for those that the data leave out.
    pub expected: Vec<Option<Tensor>>,
}

/// What inputs and outputs of the model are called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Names {
    /// Of its inputs, in order.
    pub inputs: Vec<String>,
    /// Of its outputs, in order.
    pub outputs: Vec<String>,
}

/// The cases in a folder or a file; at least one.
///
/// # Errors
/// What can't be read, or holds nothing that fits the model.
pub(super) fn read(path: &Path, names: &Names) -> Result<Vec<Case>, Failure> {
    let cases = if path.is_dir() { of_folder(path, names)? } else { of_file(path, names)? };
    if cases.is_empty() {
        return Err(nothing(path, names));
    }
    Ok(cases)
}

fn nothing(path: &Path, names: &Names) -> Failure {
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

fn of_folder(folder: &Path, names: &Names) -> Result<Vec<Case>, Failure> {
    let mut sets: Vec<(u64, PathBuf)> = Vec::new();
    for path in list(folder)? {
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
            let digits = name.strip_prefix("set_").or_else(|| name.strip_prefix("test_data_set_"))?;
            digits.parse().ok()
        });
        if let Some(number) = number.filter(|_| path.is_dir()) {
            sets.push((number, path));
        }
    }
    sets.sort();
    if sets.is_empty() {
        // The folder may be a set itself.
        sets.push((0, folder.to_owned()));
    }
    let mut cases = Vec::new();
    for (_, set) in sets {
        cases.extend(of_set(&set, names)?);
    }
    Ok(cases)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::from(Error::Read { path: folder.to_owned(), source });
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

/// The case of one `set_K`; `None` if there are no files of a case in it.
fn of_set(set: &Path, names: &Names) -> Result<Option<Case>, Failure> {
    let inputs = numbered(set, "input")?;
    let outputs = numbered(set, "output")?;
    if inputs.is_empty() && outputs.is_empty() {
        return Ok(None);
    }
    let inputs = assign(&names.inputs, inputs);
    let missing = names.inputs.iter().zip(&inputs).find(|(_, tensor)| tensor.is_none());
    if let Some((name, _)) = missing {
        return Err(Failure::bad_input(
            "egraft::cli::verify_input",
            format!("{} has no tensor for input `{name}`", set.display()),
            "input_J.pb belongs to input J of the model, or to the one whose name it holds",
        ));
    }
    let name = set.file_name().unwrap_or(set.as_os_str()).to_string_lossy().into_owned();
    let inputs = inputs.into_iter().flatten().collect();
    Ok(Some(Case { name, inputs, expected: assign(&names.outputs, outputs) }))
}

/// The tensors by the ports they belong to: by name where the file holds one that is a port's, else by number.
fn assign(names: &[String], files: Vec<(usize, String, Tensor)>) -> Vec<Option<Tensor>> {
    let mut ports: Vec<Option<Tensor>> = names.iter().map(|_| None).collect();
    let mut rest = Vec::new();
    for (number, name, tensor) in files {
        match names.iter().position(|known| *known == name) {
            Some(port) if ports[port].is_none() => ports[port] = Some(tensor),
            _ => rest.push((number, tensor)),
        }
    }
    for (number, tensor) in rest {
        if let Some(port @ None) = ports.get_mut(number) {
            *port = Some(tensor);
        }
    }
    ports
}

/// The files `KIND_J.pb` of a set, by J.
fn numbered(set: &Path, kind: &str) -> Result<Vec<(usize, String, Tensor)>, Failure> {
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    for path in list(set)? {
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(kind)?.strip_prefix('_')?.strip_suffix(".pb")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    found
        .into_iter()
        .map(|(number, path)| read_pb(&path).map(|(name, tensor)| (number, name, tensor)))
        .collect()
}

#[cfg(feature = "onnx")]
fn read_pb(path: &Path) -> Result<(String, Tensor), Failure> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    onnx::read_tensor(&bytes).map_err(|problem| {
        let help = problem.help().unwrap_or("only tensors are read, no sequences and no optionals");
        Failure::bad_input(problem.code(), format!("{}: {problem}", path.display()), help)
    })
}

#[cfg(not(feature = "onnx"))]
fn read_pb(path: &Path) -> Result<(String, Tensor), Failure> {
    Err(Error::WithoutOnnx { path: path.to_owned() }.into())
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

    #[test]
    fn files_belong_to_the_port_that_they_name() {
        let ports = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let files = vec![
            (0, "b".to_owned(), number(0.0)),
            (1, String::new(), number(1.0)),
            (2, "z".to_owned(), number(2.0)),
        ];
        assert_eq!(assign(&ports, files), [None, Some(number(0.0)), Some(number(2.0))]);
        let files = vec![(0, String::new(), number(0.0)), (1, String::new(), number(1.0))];
        assert_eq!(assign(&ports, files), [Some(number(0.0)), Some(number(1.0)), None]);
    }

    #[test]
    fn an_empty_folder_is_no_data() {
        let read = egraft::output::with_folder(|folder| Ok(read(folder, &names())));
        let Ok(Err(Failure::Problems { problems, .. })) = read else { panic!("there is no case") };
        assert_eq!(problems[0].code, "egraft::cli::no_data");
    }
}
