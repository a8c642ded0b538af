//! Test data in the layout of ONNX's own tests, where egraft was built without ONNX: there is no reading them.

use std::path::Path;

use egraft::{Error, Options, Source};

use super::cases::{Case, Names};
use crate::report::Failure;

/// The model.
pub(super) struct Loaded {
    pub(super) options: Options,
    pub(super) source: Source,
    /// What the model is compiled for, as the data have it: nothing.
    pub(super) told: Vec<String>,
    pub(super) data: Known,
}

/// Nothing is known of the data.
pub(super) struct Known;

/// Reads a model.
///
/// # Errors
/// What is wrong with it.
pub(super) fn load(model: &Path, _: Option<&Path>, options: Options) -> Result<Loaded, Failure> {
    let source = egraft::load(model, &options)?;
    Ok(Loaded { options, source, told: Vec::new(), data: Known })
}

impl Known {
    /// # Errors
    /// Always: the files are ONNX's.
    pub(super) fn cases(&self, data: &Path, _: &Names, _: bool) -> Result<Vec<Case>, Failure> {
        Err(Error::WithoutOnnx { path: data.to_owned() }.into())
    }
}
