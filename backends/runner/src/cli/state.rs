//! States from files, and to files.

use std::path::Path;

use runtime::Session;
use runtime::plan::Entry;

use super::args::Options;
use super::error::{CliError, list};
use crate::files;
use crate::tensor::Tensor;

/// The states that runs begin with, each with its position; the others begin as zeros.
///
/// # Errors
/// A file that can't be read, names of no state, elements of another type.
pub(super) fn read(entry: &Entry, options: &Options) -> Result<Vec<(usize, Tensor)>, CliError> {
    let Some(path) = &options.state else { return Ok(Vec::new()) };
    let mut states = Vec::new();
    for (name, tensor) in files::read_all(path)? {
        let Some(index) = entry.states.iter().position(|port| port.name == name) else {
            let known = list(entry.states.iter().map(|port| port.name.as_str()));
            return Err(CliError::State { name, known });
        };
        let dtype = entry.states[index].dtype;
        let wrong = |(index, byte)| CliError::Element { name: name.clone(), index, byte, dtype };
        states.push((index, tensor.read_as(dtype).map_err(wrong)?));
    }
    Ok(states)
}

/// Makes the states zeros, but for these. The session is bound for `inputs` then, whose sizes theirs depend on.
///
/// # Errors
/// Sizes that do not fit.
pub(super) fn begin(
    session: &mut Session,
    states: &[(usize, Tensor)],
    inputs: &[Tensor],
) -> Result<(), CliError> {
    session.reset_state();
    if states.is_empty() {
        return Ok(());
    }
    let dims: Vec<Vec<i64>> = inputs.iter().map(|tensor| tensor.signed_dims().to_vec()).collect();
    session.bind(&dims)?;
    for (index, tensor) in states {
        let port = &session.entry().states[*index];
        let (name, expected) = (port.name.clone(), session.state_shape(*index)?);
        let found = tensor.signed_dims();
        if port.dtype != tensor.dtype() || expected != found {
            let (expected, found) =
                (format!("{}{expected:?}", port.dtype), format!("{}{found:?}", tensor.dtype()));
            return Err(CliError::StateShape { name, expected, found });
        }
        session.write_state(*index, tensor.bytes())?;
    }
    Ok(())
}

/// Writes all states to a file.
///
/// # Errors
/// The session has no sizes yet; the file cannot be written.
pub(super) fn save(session: &Session, path: &Path) -> Result<(), CliError> {
    let mut states = Vec::new();
    for (index, port) in session.entry().states.iter().enumerate() {
        let shape = session.state_shape(index)?;
        let shape: Vec<usize> = shape.into_iter().map(|size| size.max(0) as usize).collect();
        let mut tensor = Tensor::zeroed(port.dtype, &shape).ok_or_else(|| {
            let (name, dtype) = (port.name.clone(), port.dtype.name());
            CliError::RandomTooLarge { name, dtype, dims: shape.clone() }
        })?;
        session.read_state(index, tensor.bytes_mut())?;
        states.push((port.name.as_str(), tensor));
    }
    let states: Vec<(&str, &Tensor)> = states.iter().map(|(name, tensor)| (*name, tensor)).collect();
    Ok(files::write_all(path, &states)?)
}
