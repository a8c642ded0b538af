//! From options to the tensors of each run: files to inputs by name or position, the rest seeded random.

use std::io::Write;
use std::path::{Path, PathBuf};

use runtime::Size;
use runtime::plan::Entry;

use super::args::Options;
use super::error::{CliError, list};
use crate::files;
use crate::random::{self, SplitMix64};
use crate::tensor::Tensor;

/// One run: what is given for each input, and the files that are its own.
pub(super) struct Run {
    /// In the order of the entry's inputs.
    named: Vec<Option<PathOrTensor>>,
    /// Its files without an option.
    pub(super) files: Vec<PathBuf>,
}

/// Files of further runs are read when their turn comes.
enum PathOrTensor {
    Path(PathBuf),
    Tensor(Tensor),
}

/// The runs that the options ask for: one, or several if there are several files for each input.
///
/// # Errors
/// Unknown and repeated names, files that can't be read, a number of files that doesn't fit.
pub(super) fn runs(entry: &Entry, options: &Options) -> Result<Vec<Run>, CliError> {
    let names: Vec<&str> = entry.inputs.iter().map(|port| port.name.as_str()).collect();
    let index = |name: &str| {
        names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| CliError::Input { name: name.to_owned(), known: list(names.iter().copied()) })
    };
    let mut given: Vec<Option<PathOrTensor>> = names.iter().map(|_| None).collect();
    let mut give = |name: &str, what| match given[index(name)?].replace(what) {
        None => Ok(()),
        Some(_) => Err(CliError::InputTwice { name: name.to_owned() }),
    };
    for path in &options.inputs {
        for (name, tensor) in files::read_all(path)? {
            give(&name, PathOrTensor::Tensor(tensor))?;
        }
    }
    for option in &options.input {
        let (name, path) = Options::split_input(option, &names);
        give(name, PathOrTensor::Path(Path::new(path).to_owned()))?;
    }
    let open: Vec<usize> = (0..names.len()).filter(|&i| given[i].is_none()).collect();
    let count = options.files.len();
    if count <= open.len() {
        for (&i, path) in open.iter().zip(&options.files) {
            given[i] = Some(PathOrTensor::Path(path.clone()));
        }
        return Ok(vec![Run { named: given, files: options.files.clone() }]);
    }
    // What is given by name would have to be shared by all runs; a group of files is a whole set of inputs.
    if open.len() != names.len() || names.is_empty() || !count.is_multiple_of(names.len()) {
        return Err(CliError::Files { files: count, inputs: open.len() });
    }
    let group = |files: &[PathBuf]| Run {
        named: files.iter().cloned().map(PathOrTensor::Path).map(Some).collect(),
        files: files.to_vec(),
    };
    Ok(options.files.chunks(names.len()).map(group).collect())
}

/// The tensors of a run, in the order of the entry's inputs. What was not given is random; `err` is told.
///
/// # Errors
/// Files that can't be read, sizes that contradict each other or that no tensor has.
pub(super) fn complete(
    entry: &Entry,
    options: &Options,
    run: &mut Run,
    err: &mut dyn Write,
) -> Result<Vec<Tensor>, CliError> {
    let mut given = Vec::with_capacity(run.named.len());
    for what in std::mem::take(&mut run.named) {
        given.push(match what {
            None => None,
            Some(PathOrTensor::Tensor(tensor)) => Some(tensor),
            Some(PathOrTensor::Path(path)) => Some(files::read_one(&path)?),
        });
    }
    let symbols = symbols(entry, options, &given)?;
    let mut inputs = Vec::with_capacity(given.len());
    for (i, (port, given)) in entry.inputs.iter().zip(given).enumerate() {
        if let Some(tensor) = given {
            let wrong =
                |(index, byte)| CliError::Element { name: port.name.clone(), index, byte, dtype: port.dtype };
            inputs.push(tensor.read_as(port.dtype).map_err(wrong)?);
            continue;
        }
        let mut dims = Vec::with_capacity(port.dims.len());
        for (axis, size) in port.dims.iter().enumerate() {
            let wrong = |why: String| CliError::RandomDim {
                name: port.name.clone(),
                axis,
                expr: size.print(&entry.symbols),
                why,
            };
            let dim = size.eval(&symbols, &entry.symbols).map_err(|error| wrong(error.to_string()))?;
            dims.push(usize::try_from(dim).map_err(|_| wrong(format!("{dim}")))?);
        }
        let Some(mut tensor) = Tensor::zeroed(port.dtype, &dims) else {
            return Err(CliError::RandomTooLarge { name: port.name.clone(), dtype: port.dtype.name(), dims });
        };
        random::fill(port.dtype, tensor.bytes_mut(), &mut SplitMix64::stream(options.seed, i));
        // Nobody is left to tell if this fails.
        let _ = writeln!(
            err,
            "note: input `{}` {}{dims:?} is random (seed {})",
            port.name, port.dtype, options.seed
        );
        inputs.push(tensor);
    }
    Ok(inputs)
}

/// The value of each symbol that inputs decide: by the inputs, else by `--dim`, else 1.
fn symbols(entry: &Entry, options: &Options, given: &[Option<Tensor>]) -> Result<Vec<i64>, CliError> {
    let mut values = vec![None; entry.input_symbols().len()];
    for (port, tensor) in entry.inputs.iter().zip(given) {
        let Some(tensor) = tensor else { continue };
        for (size, &dim) in port.dims.iter().zip(tensor.signed_dims()) {
            if let Some((symbol, value)) = solve(size, dim)
                && let Some(known @ None) = values.get_mut(symbol as usize)
            {
                *known = Some(value);
            }
        }
    }
    for bind in &entry.binds {
        // What follows from several sizes together.
        let tensor = given[bind.input as usize].as_ref();
        let found = tensor.and_then(|tensor| tensor.signed_dims().get(bind.axis as usize));
        let value = found.and_then(|&found| bind.value(&values, found));
        if let (value @ Some(_), known @ None) = (value, &mut values[bind.symbol as usize]) {
            *known = value;
        }
    }
    for (name, value) in &options.dims {
        let Some(symbol) = entry.input_symbols().iter().position(|known| known == name) else {
            let known = list(entry.input_symbols().iter().map(String::as_str));
            return Err(CliError::Dim { name: name.clone(), known });
        };
        match values[symbol].replace(*value) {
            Some(found) if found != *value => {
                return Err(CliError::DimConflict { name: name.clone(), given: *value, found });
            }
            _ => {}
        }
    }
    Ok(values.into_iter().map(|value| value.unwrap_or(1)).collect())
}

/// The symbol and the value that makes `size` equal `dim`, where `size` is `a*s + b`.
/// Contradictions are found when the session binds its sizes, with better words.
fn solve(size: &Size, dim: i64) -> Option<(u32, i64)> {
    match size {
        Size::Symbol(symbol) => Some((*symbol, dim)).filter(|_| dim >= 0),
        Size::Add(a, b) => match (&**a, &**b) {
            (Size::Const(constant), rest) | (rest, Size::Const(constant)) => {
                solve(rest, dim.checked_sub(*constant)?)
            }
            _ => None,
        },
        Size::Mul(a, b) => match (&**a, &**b) {
            (Size::Const(factor), rest) | (rest, Size::Const(factor)) => {
                let exact = dim.checked_rem(*factor)? == 0;
                exact.then_some(())?;
                solve(rest, dim.checked_div(*factor)?)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_solved_for_their_symbol() {
        let symbol = || Box::new(Size::Symbol(3));
        let constant = |value| Box::new(Size::Const(value));
        let twice = || Box::new(Size::Mul(constant(2), symbol()));
        assert_eq!(solve(&Size::Symbol(3), 5), Some((3, 5)));
        assert_eq!(solve(&Size::Add(twice(), constant(1)), 7), Some((3, 3)));
        assert_eq!(solve(&Size::Add(constant(1), twice()), 8), None);
        assert_eq!(solve(&Size::Add(constant(9), symbol()), 8), None);
        assert_eq!(solve(&Size::Mul(symbol(), constant(0)), 8), None);
        assert_eq!(solve(&Size::Add(symbol(), constant(i64::MIN)), 8), None);
        assert_eq!(solve(&Size::Add(symbol(), symbol()), 8), None);
        assert_eq!(solve(&Size::Const(8), 8), None);
    }
}
