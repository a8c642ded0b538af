//! A model as a file, in the form that the file's name says: text, or ONNX where it ends in `.onnx`.
//!
//! Weights of texts go to `weights.bin` beside them. Those of an ONNX model are in it, or where they are many in a file with
//! `.data` behind its name, which is there before the model is.

use std::path::Path;

use passes::pipeline::State;

use crate::error::Error;
use crate::weights_file::write_text;

/// Is a model of this name written as ONNX?
pub fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Whether a model can be written to `path`, whatever it is. To be asked before any work.
///
/// # Errors
/// [`Error::WithoutOnnx`].
pub fn check_form(path: &Path) -> Result<(), Error> {
    match is_onnx(path) && cfg!(not(feature = "onnx")) {
        true => Err(Error::WithoutOnnx { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// Writes a model: as ONNX if the name ends so, else this text of it, and its weights beside it.
///
/// # Errors
/// [`Error::Write`]; [`Error::WeightsFile`] where the file of weights in that folder belongs to other texts;
/// [`Error::Export`] and [`Error::NoGraph`] for what cannot be an ONNX model; [`Error::WithoutOnnx`].
pub fn write_model(path: &Path, text: &str, state: &State) -> Result<(), Error> {
    if is_onnx(path) { write_onnx(path, state) } else { write_text(path, text, state) }
}

#[cfg(not(feature = "onnx"))]
fn write_onnx(path: &Path, _: &State) -> Result<(), Error> {
    check_form(path)
}

#[cfg(feature = "onnx")]
fn write_onnx(path: &Path, state: &State) -> Result<(), Error> {
    use crate::output::Pending;

    let State::Graph(graph) = state else { return Err(Error::NoGraph { path: path.to_owned() }) };
    let mut data_path = path.as_os_str().to_owned();
    data_path.push(".data");
    let data_path = Path::new(&data_path);
    let data_file = data_path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let options = onnx::ExportOptions { data_file, ..onnx::ExportOptions::default() };
    let exported = onnx::export(graph, &options)
        .map_err(|at| Error::Export { path: path.to_owned(), at: Box::new(at) })?;
    let data =
        exported.has_data().then(|| Pending::create(data_path, false, |file| exported.write_data(file)));
    let data = data.transpose()?;
    let (model, ()) = Pending::create(path, false, |file| exported.write_model(file))?;
    if let Some((data, ())) = data {
        data.commit()?;
    }
    model.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_form() {
        assert!(["m.onnx", "d/M.ONNX"].iter().all(|name| is_onnx(Path::new(name))));
        assert!(["m.ir", "onnx", "m.onnx.ir"].iter().all(|name| !is_onnx(Path::new(name))));
    }
}
