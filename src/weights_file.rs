//! `weights.bin` beside text forms: the contents of large weights, which texts name by hash.
//!
//! The format is [`ir::text::weights`]'. This file knows where it lies: in the folder of the texts, mapped when it is
//! read, and never replaced where another text may need it.

use std::collections::BTreeMap;
use std::path::Path;

use ir::Weight;
use ir::text::weights::{WeightFile, WeightSource, is_stored, write_weights};
use ir::weight::{Bytes, Hash};
use passes::pipeline::State;

use crate::error::Error;
use crate::map::map;
use crate::output;

/// The name of the file in the folder of the texts.
pub(crate) const NAME: &str = "weights.bin";

/// The weights beside a text; none if there is no such file.
pub(crate) struct Beside(Option<WeightFile>);

impl Beside {
    /// The weights in the folder of `text`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::WeightsFile`].
    pub(crate) fn of(text: &Path) -> Result<Beside, Error> {
        let path = text.with_file_name(NAME);
        if !path.exists() {
            return Ok(Beside(None));
        }
        let storage = map(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let file = WeightFile::open(storage);
        file.map(|file| Beside(Some(file)))
            .map_err(|error| Error::WeightsFile { path, why: error.to_string() })
    }
}

impl WeightSource for Beside {
    fn find(&self, hash: &Hash) -> Option<Bytes> {
        self.0.as_ref()?.find(hash)
    }
}

/// The weights of a model that its text does not hold, by what they hold.
pub(crate) fn stored(state: &State) -> BTreeMap<Hash, Weight> {
    let all: Vec<Weight> = match state {
        State::Graph(graph) => {
            let mut all = Vec::new();
            graph.walk(&mut |graph| {
                all.extend(graph.order().into_iter().filter_map(|id| graph.node(id).weight().cloned()));
            });
            all
        }
        State::Program(program) => program.weights.iter().map(|packed| packed.weight.clone()).collect(),
    };
    all.into_iter().filter(is_stored).map(|weight| (weight.hash(), weight)).collect()
}

/// Writes the file in `folder`; one that is there is replaced.
///
/// # Errors
/// [`Error::Write`].
pub(crate) fn write(folder: &Path, weights: &BTreeMap<Hash, Weight>) -> Result<(), Error> {
    let weights: Vec<Weight> = weights.values().cloned().collect();
    output::write_with(&folder.join(NAME), |file| write_weights(&weights, file))
}

/// Writes the text form of a model, and its weights beside it.
///
/// # Errors
/// [`Error::Write`]; [`Error::WeightsFile`] where the file of weights in that folder belongs to other texts.
pub fn write_text(path: &Path, text: &str, state: &State) -> Result<(), Error> {
    let needed = stored(state);
    let there = Beside::of(path)?;
    if needed.keys().any(|hash| there.find(hash).is_none()) {
        if there.0.as_ref().is_some_and(|file| !file.is_empty()) {
            let why =
                "it holds the weights of other texts, which need it; write to another folder".to_owned();
            return Err(Error::WeightsFile { path: path.with_file_name(NAME), why });
        }
        write(output::folder_of(path), &needed)?;
    }
    output::write(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use ir::graph::Graph;
    use ir::{Origin, Tensor};

    use super::*;
    use crate::output::with_folder;

    /// A graph with a weight that is too large and too varied to stand in the text.
    fn model(first: f32) -> State {
        let values: Vec<f32> = (0..100).map(|i| first + i as f32).collect();
        let mut graph = Graph::new("g");
        let weight = Weight::from_tensor("w", &Tensor::from_f32(&[100], &values));
        let value = graph.add_weight(weight, Origin::none());
        graph.set_outputs([("y".to_owned(), value)]);
        State::Graph(graph)
    }

    #[test]
    fn what_is_written_is_found() {
        with_folder(|folder| {
            let path = folder.join("m.ir");
            write_text(&path, "text", &model(0.0))?;
            let found = Beside::of(&path)?;
            for (hash, weight) in stored(&model(0.0)) {
                assert_eq!(
                    found.find(&hash).expect("it was written").as_slice(),
                    weight.stored().collect::<Vec<_>>().concat()
                );
            }
            assert!(found.find(&Hash::of(b"another")).is_none());
            // The same weights do for a second text.
            write_text(&folder.join("n.ir"), "text", &model(0.0))
        })
        .expect("the folder is writable");
    }

    #[test]
    fn weights_of_other_texts_stay() {
        with_folder(|folder| {
            write_text(&folder.join("m.ir"), "text", &model(0.0))?;
            let error = write_text(&folder.join("n.ir"), "text", &model(1.0)).expect_err("m.ir needs them");
            assert_eq!(error.code(), "egraft::cli::weights_file");
            assert!(!folder.join("n.ir").exists());
            assert!(
                Beside::of(&folder.join("m.ir"))?
                    .find(stored(&model(0.0)).keys().next().expect("one"))
                    .is_some()
            );
            Ok(())
        })
        .expect("the folder is writable");
    }

    #[test]
    fn something_else_under_that_name_is_an_error() {
        with_folder(|folder| {
            assert!(Beside::of(&folder.join("m.ir"))?.0.is_none());
            std::fs::write(folder.join(NAME), b"something else").expect("writable");
            let error = Beside::of(&folder.join("m.ir")).err().expect("no file of weights");
            assert_eq!(error.code(), "egraft::cli::weights_file");
            Ok(())
        })
        .expect("the folder is writable");
    }
}
