//! Weights of built-in models from a `.safetensors` file, by name.
//!
//! The file is mapped: of a weight, pages are read when its contents are looked at, and nothing is copied.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ir::weight::{Bytes, Storage};
use ir::{TensorType, Weight};
use runner::files::{self, Place};

use crate::error::Error;
use crate::map::map;
use crate::tensors::from_runtime;

/// A file of weights. It must not change as long as one of them lives.
pub(crate) struct ParamsFile {
    storage: Arc<dyn Storage>,
    places: BTreeMap<String, Place>,
}

impl ParamsFile {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::File`].
    pub(crate) fn open(path: &Path) -> Result<ParamsFile, Error> {
        let storage = map(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let places = files::places(path, storage.bytes())?;
        let places = places.into_iter().map(|place| (place.name.clone(), place)).collect();
        Ok(ParamsFile { storage, places })
    }
}

impl zoo::Params for ParamsFile {
    fn names(&self) -> Vec<&str> {
        self.places.keys().map(String::as_str).collect()
    }

    fn ty(&self, name: &str) -> Option<TensorType> {
        let place = self.places.get(name)?;
        Some(TensorType::fixed(from_runtime(place.dtype), &place.dims))
    }

    fn weight(&self, name: &str) -> Option<Weight> {
        let Place { dtype, dims, bytes, .. } = self.places.get(name)?;
        let bytes = Bytes::slice(Arc::clone(&self.storage), bytes.start, bytes.len())?;
        Weight::new(name, from_runtime(*dtype), dims.clone(), bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use ir::{DType, Tensor};
    use zoo::Params;

    use super::*;
    use crate::output::with_folder;
    use crate::tensors::to_file;

    #[test]
    fn weights_are_found_where_they_lie() {
        with_folder(|folder| {
            let path = folder.join("w.safetensors");
            let (a, b) = (Tensor::from_f32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), Tensor::from_i64(&[1], &[7]));
            let [first, second] = [&a, &b].map(|tensor| to_file(tensor).expect("it is small"));
            files::write_all(&path, &[("layer.a", &first), ("b", &second)])?;
            let file = ParamsFile::open(&path)?;
            assert_eq!(file.names(), ["b", "layer.a"]);
            assert_eq!(file.ty("b"), Some(TensorType::fixed(DType::I64, &[1])));
            assert_eq!(file.weight("layer.a").expect("it is there").tensor(), a);
            assert_eq!(file.weight("b").expect("it is there").tensor(), b);
            assert!(file.weight("a").is_none());
            Ok(())
        })
        .expect("the folder is writable");
    }

    #[test]
    fn other_files_are_refused() {
        with_folder(|folder| {
            for (name, code) in
                [("w.npz", "egraft::runner::format"), ("w.safetensors", "egraft::runner::safetensors")]
            {
                let path = folder.join(name);
                std::fs::write(&path, b"something else").expect("writable");
                assert_eq!(ParamsFile::open(&path).err().expect("no file of weights").code(), code);
            }
            Ok(())
        })
        .expect("the folder is writable");
    }
}
