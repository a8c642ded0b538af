//! External data of an ONNX model: files in the model's folder, mapped once each.
//!
//! Which files a model may name is decided by the importer's rules, [`onnx::external`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ir::weight::{Bytes, Storage};
use onnx::FileError;
use onnx::external::resolve_external;

use crate::map::map;

/// The files of the model at a path.
pub(crate) struct FilesOf<'a> {
    model: &'a Path,
    storage: Arc<dyn Storage>,
    mapped: RefCell<BTreeMap<PathBuf, Arc<dyn Storage>>>,
}

impl<'a> FilesOf<'a> {
    /// `storage` holds the model.
    pub(crate) fn model(model: &'a Path, storage: Arc<dyn Storage>) -> FilesOf<'a> {
        FilesOf { model, storage, mapped: RefCell::default() }
    }
}

impl onnx::Files for FilesOf<'_> {
    fn model(&self) -> Option<Bytes> {
        let storage = Arc::clone(&self.storage);
        let len = storage.bytes().len();
        Bytes::slice(storage, 0, len)
    }

    fn external(&self, location: &str, offset: u64, length: u64) -> Result<Bytes, FileError> {
        let path = resolve_external(self.model, location)?;
        let mut mapped = self.mapped.borrow_mut();
        let storage = match mapped.get(&path) {
            Some(storage) => Arc::clone(storage),
            None => {
                let storage = map(&path).map_err(|error| FileError::io(location, &error))?;
                mapped.insert(path, Arc::clone(&storage));
                storage
            }
        };
        let size = storage.bytes().len() as u64;
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        range
            .and_then(|(offset, length)| Bytes::slice(storage, offset, length))
            .ok_or_else(|| FileError::Range { location: location.to_owned(), offset, length, size })
    }
}
