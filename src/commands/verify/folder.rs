//! Test data in the layout of ONNX's own tests: a folder with `set_K/input_J.pb` and `set_K/output_J.pb`.
//!
//! How many tensors a sequence holds, and whether an optional holds any, decides what the model is compiled for; so
//! does the value of an input on which the lengths of sequences depend. Only these are looked at before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use egraft::{Error, Options, Source, source};
use ir::Tensor;
use onnx::{Data, Port, PortKind};

use super::cases::{Case, Names, nothing};
use crate::report::{FAILED, Failure, Problem};

/// What a model declares.
struct Ports {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Ports {
    /// Of the model in this file: an ONNX model knows sequences and optionals, others only tensors.
    fn of(model: &Path) -> Result<Option<Ports>, Failure> {
        if !source::is_onnx(model) {
            return Ok(None);
        }
        let (inputs, outputs) = source::ports(model)?;
        Ok(Some(Ports { inputs, outputs }))
    }

    fn of_tensors(names: &Names) -> Ports {
        let port = |name: &String| Port { name: name.clone(), kind: PortKind::Tensor };
        Ports {
            inputs: names.inputs.iter().map(port).collect(),
            outputs: names.outputs.iter().map(port).collect(),
        }
    }

    fn are_tensors(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).all(|port| port.kind == PortKind::Tensor)
    }
}

/// The model, and the data if they were needed to read it.
pub(super) struct Loaded {
    pub(super) options: Options,
    pub(super) source: Source,
    /// What the model is compiled for, as the data have it.
    pub(super) told: Vec<String>,
    pub(super) data: Known,
}

/// What is known of the model's ports and of the data, if they were needed to read the model.
pub(super) struct Known {
    folder: Option<Folder>,
    ports: Option<Ports>,
}

/// Reads a model. Where it depends on lengths of sequences, absent optionals or values of inputs that the options
/// leave open, they are taken from the data.
///
/// # Errors
/// What is wrong with the model, or with the data if they are needed.
pub(super) fn load(model: &Path, data: Option<&Path>, mut options: Options) -> Result<Loaded, Failure> {
    let data = data.filter(|data| data.is_dir());
    let ports = if data.is_some() { Ports::of(model)? } else { None };
    let mut told = Vec::new();
    let mut folder = None;
    if let (Some(data), Some(ports)) = (data, ports.as_ref().filter(|ports| !ports.are_tensors())) {
        let read = Folder::read(data, ports)?;
        told.extend(read.tell(ports, &mut options)?);
        folder = Some(read);
    }
    loop {
        let failure = match egraft::load(model, &options) {
            Ok(source) => return Ok(Loaded { options, source, told, data: Known { folder, ports } }),
            Err(failure) => failure,
        };
        let (Some(data), Some(ports), Error::Import { failure: import, .. }) = (data, &ports, &failure)
        else {
            return Err(failure.into());
        };
        let wanted = import.wanted_values();
        let wanted: Vec<&str> =
            wanted.into_iter().filter(|name| options.values.iter().all(|(known, _)| known != name)).collect();
        if wanted.is_empty() {
            return Err(failure.into());
        }
        if folder.is_none() {
            folder = Some(Folder::read(data, ports)?);
        }
        let before = options.values.len();
        for name in wanted {
            if let Some(values) = folder.as_ref().map_or(Ok(None), |folder| folder.value(name))? {
                let numbers: Vec<String> = values.iter().map(i64::to_string).collect();
                told.push(format!("{name}={}", numbers.join(",")));
                options.values.push((name.to_owned(), values));
            }
        }
        if options.values.len() == before {
            return Err(failure.into());
        }
    }
}

impl Known {
    /// The cases of a folder; at least one.
    ///
    /// # Errors
    /// What can't be read, or does not fit the model. The outputs must fit if they are `compared`.
    pub(super) fn cases(&self, data: &Path, names: &Names, compared: bool) -> Result<Vec<Case>, Failure> {
        let of_tensors = Ports::of_tensors(names);
        let ports = self.ports.as_ref().filter(|ports| !ports.are_tensors()).unwrap_or(&of_tensors);
        let read;
        let folder = match &self.folder {
            Some(folder) => folder,
            None => {
                read = Folder::read(data, ports)?;
                &read
            }
        };
        let cases: Result<Vec<Case>, Failure> =
            folder.sets.iter().map(|set| set.case(ports, names, compared)).collect();
        let cases = cases?;
        if cases.is_empty() { Err(nothing(data, names)) } else { Ok(cases) }
    }
}

/// What data hold.
#[derive(PartialEq)]
enum Held {
    Tensor,
    Sequence(usize),
    Nothing,
}

/// The files in a folder.
struct Folder {
    sets: Vec<Set>,
}

/// Those of one set, by the ports that they belong to.
struct Set {
    path: PathBuf,
    inputs: BTreeMap<String, Data>,
    outputs: BTreeMap<String, Data>,
}

impl Folder {
    fn read(folder: &Path, ports: &Ports) -> Result<Folder, Failure> {
        let mut found: Vec<(u64, PathBuf)> = Vec::new();
        for path in list(folder)? {
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| {
                let digits = name.strip_prefix("set_").or_else(|| name.strip_prefix("test_data_set_"))?;
                digits.parse().ok()
            });
            if let Some(number) = number.filter(|_| path.is_dir()) {
                found.push((number, path));
            }
        }
        found.sort();
        if found.is_empty() {
            // The folder may be a set itself.
            found.push((0, folder.to_owned()));
        }
        let mut sets = Vec::new();
        for (_, path) in found {
            let inputs = numbered(&path, "input", &ports.inputs)?;
            let outputs = numbered(&path, "output", &ports.outputs)?;
            if !(inputs.is_empty() && outputs.is_empty()) {
                let (inputs, outputs) = (assign(&ports.inputs, inputs), assign(&ports.outputs, outputs));
                sets.push(Set { path, inputs, outputs });
            }
        }
        Ok(Folder { sets })
    }

    /// Puts lengths, absent optionals and numbers of axes into `options`, where they say nothing of them. Gives what
    /// it put.
    fn tell(&self, ports: &Ports, options: &mut Options) -> Result<Vec<String>, Failure> {
        let mut told = Vec::new();
        for Port { name, kind } in &ports.inputs {
            let held = self.agreed(name, "number of tensors", |data| {
                Some(match data {
                    Data::Sequence(list) => Held::Sequence(list.len()),
                    Data::Tensor(_) => Held::Tensor,
                    Data::Nothing => Held::Nothing,
                })
            })?;
            let is_open =
                options.lengths.iter().all(|(known, _)| known != name) && !options.absent.contains(name);
            match held {
                Some(Held::Sequence(length)) if is_open => {
                    told.push(format!("{name} of length {length}"));
                    options.lengths.push((name.clone(), length));
                }
                Some(Held::Nothing) if is_open && kind.is_optional() => {
                    told.push(format!("{name} absent"));
                    options.absent.push(name.clone());
                }
                _ => {}
            }
        }
        for port in self.sets.first().iter().flat_map(|set| flat(&set.inputs)) {
            options.ranks.push((port.0, port.1.shape().len()));
        }
        Ok(told)
    }

    /// The value of an input of integers or bools, if the data have one.
    fn value(&self, name: &str) -> Result<Option<Vec<i64>>, Failure> {
        self.agreed(name, "value", |data| match data {
            Data::Tensor(tensor) if !tensor.dtype().is_float() => Some(tensor.to_i64()),
            _ => None,
        })
    }

    /// What `of` says of the data for an input, the same in all sets.
    fn agreed<T: PartialEq>(
        &self,
        name: &str,
        what: &str,
        of: impl Fn(&Data) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let mut agreed = None;
        for set in &self.sets {
            let Some(found) = set.inputs.get(name).and_then(&of) else { continue };
            match &agreed {
                Some((known, _)) if *known == found => {}
                None => agreed = Some((found, set)),
                Some((_, first)) => {
                    return Err(Failure::bad_input(
                        "egraft::cli::verify_input",
                        format!(
                            "{} gives input `{name}` another {what} than {}, and the model is compiled for one",
                            set.path.display(),
                            first.path.display()
                        ),
                        format!("verify the sets one by one: `--data {}`", set.path.display()),
                    ));
                }
            }
        }
        Ok(agreed.map(|(found, _)| found))
    }
}

impl Set {
    /// Inputs and outputs as the graph has them.
    fn case(&self, ports: &Ports, names: &Names, compared: bool) -> Result<Case, Failure> {
        let mut given: BTreeMap<String, &Tensor> = flat(&self.inputs).collect();
        let mut inputs = Vec::new();
        for name in &names.inputs {
            let Some(tensor) = given.remove(name) else {
                return Err(Failure::bad_input(
                    "egraft::cli::verify_input",
                    format!("{} has no tensor for input `{name}`", self.path.display()),
                    "input_J.pb belongs to input J of the model, or to the one whose name it holds",
                ));
            };
            inputs.push(tensor.clone());
        }
        if let Some(name) = given.keys().next() {
            return Err(Failure::bad_input(
                "egraft::cli::verify_input",
                format!("{} gives `{name}`, for which the model was not compiled", self.path.display()),
                "leave out `--length` and `--absent`: they follow from the data",
            ));
        }
        let given: BTreeMap<String, &Tensor> = flat(&self.outputs).collect();
        let mut expected: Vec<Option<Tensor>> = names.outputs.iter().map(|_| None).collect();
        if compared {
            for port in &ports.outputs {
                self.check_length(port, names)?;
            }
            for (expected, name) in expected.iter_mut().zip(&names.outputs) {
                *expected = given.get(name).map(|&tensor| tensor.clone());
            }
        }
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        Ok(Case { name, inputs, expected })
    }

    /// An output is as many tensors as the data say.
    fn check_length(&self, port: &Port, names: &Names) -> Result<(), Failure> {
        let Some(data) = self.outputs.get(&port.name) else { return Ok(()) };
        let mut made = 0;
        while names.outputs.contains(&Port::element(&port.name, made)) && port.kind.is_sequence() {
            made += 1;
        }
        let (expected, found) = match data {
            Data::Tensor(_) => (1, usize::from(names.outputs.contains(&port.name))),
            Data::Sequence(list) => (list.len(), made),
            Data::Nothing => (0, made.max(usize::from(names.outputs.contains(&port.name)))),
        };
        if expected == found {
            return Ok(());
        }
        let message = format!(
            "output `{}` is {found} tensors, and {} has {expected} of them",
            port.name,
            self.path.display()
        );
        let help = "check `--length`, `--absent` and `--value`, if they are given";
        let problems = vec![Problem::new("egraft::cli::verify_length", message, help)];
        Err(Failure::Problems { problems, exit: FAILED })
    }
}

/// The tensors in data, by the names of the graph's inputs and outputs.
fn flat(ports: &BTreeMap<String, Data>) -> impl Iterator<Item = (String, &Tensor)> {
    ports.iter().flat_map(|(name, data)| -> Vec<(String, &Tensor)> {
        match data {
            Data::Tensor(tensor) => vec![(name.clone(), tensor)],
            Data::Sequence(list) => {
                list.iter().enumerate().map(|(index, tensor)| (Port::element(name, index), tensor)).collect()
            }
            Data::Nothing => Vec::new(),
        }
    })
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |source| Failure::from(Error::Read { path: folder.to_owned(), source });
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

/// The data by the ports they belong to: by name where the file holds one that is a port's, else by number.
fn assign<T>(ports: &[Port], files: Vec<(usize, String, T)>) -> BTreeMap<String, T> {
    let mut assigned = BTreeMap::new();
    let mut rest = Vec::new();
    for (number, name, data) in files {
        if ports.iter().any(|port| port.name == name) && !assigned.contains_key(&name) {
            assigned.insert(name, data);
        } else {
            rest.push((number, data));
        }
    }
    for (number, data) in rest {
        if let Some(port) = ports.get(number) {
            assigned.entry(port.name.clone()).or_insert(data);
        }
    }
    assigned
}

/// The files `KIND_J.pb` of a set, by J.
fn numbered(set: &Path, kind: &str, ports: &[Port]) -> Result<Vec<(usize, String, Data)>, Failure> {
    let mut found: Vec<(usize, PathBuf)> = Vec::new();
    for path in list(set)? {
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(kind)?.strip_prefix('_')?.strip_suffix(".pb")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    let read = |(number, path): (usize, PathBuf)| {
        let kind = ports.get(number).map_or(PortKind::Tensor, |port| port.kind);
        let failed = |source| Error::Read { path: path.clone(), source };
        let bytes = std::fs::read(&path).map_err(failed)?;
        match onnx::read_data(&bytes, kind) {
            Ok((name, data)) => Ok((number, name, data)),
            Err(problem) => {
                let help = problem.help().unwrap_or("the file must hold what the model declares");
                Err(Failure::bad_input(problem.code(), format!("{}: {problem}", path.display()), help))
            }
        }
    };
    found.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_port_that_they_name() {
        let port = |name: &str| Port { name: name.to_owned(), kind: PortKind::Tensor };
        let ports = [port("a"), port("b"), port("c")];
        let named = |files: &[(usize, &str)]| {
            let files = files.iter().map(|(number, name)| (*number, (*name).to_owned(), *number)).collect();
            assign(&ports, files)
        };
        let by = |pairs: &[(&str, usize)]| pairs.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        assert_eq!(named(&[(0, "b"), (1, ""), (2, "z")]), by(&[("b", 0), ("c", 2)]));
        assert_eq!(named(&[(0, ""), (1, "")]), by(&[("a", 0), ("b", 1)]));
    }
}
