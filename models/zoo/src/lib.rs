//! egraft's built-in models: builders that make a graph of a configuration.
//!
//! A model has a name, settings with defaults, and weights drawn from a seed: the same settings give the same bytes.
//! Trained weights are not here; `digits.onnx`, which lies in this folder, is a trained model of the network that
//! [`digits`] builds.

pub mod digits;
mod init;

use ir::Graph;
use ir::op::OpError;

/// A number that a model can be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it is where nobody says; at least 1.
    pub default: usize,
    /// What it means.
    pub about: &'static str,
}

/// A built-in model.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it can be built with, besides `seed`.
    pub settings: &'static [Setting],
    build: fn(&Config) -> Result<Graph, OpError>,
}

/// Every built-in model.
pub static ALL: &[Entry] = &[digits::DIGITS];

/// The model called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

/// The settings of one build: a value for each that the model has.
struct Config<'a> {
    entry: &'a Entry,
    values: Vec<usize>,
    seed: u64,
}

impl Config<'_> {
    /// The value of a setting, which the model declares.
    fn get(&self, name: &str) -> usize {
        let at = self.entry.settings.iter().position(|setting| setting.name == name);
        self.values[at.expect("bug: a setting that the model does not declare")]
    }
}

/// Why a model is not built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// A setting that the model does not have.
    #[error("`{model}` has no setting `{key}`; it has {known}")]
    Unknown {
        /// The model.
        model: &'static str,
        /// What was set.
        key: String,
        /// What there is.
        known: String,
    },
    /// A value that makes no sense.
    #[error("`{key}` is a number from 1 to {MAX_SETTING}, or any for `seed`; found `{value}`")]
    Value {
        /// What was set.
        key: String,
        /// To what.
        value: String,
    },
    /// Settings that do not go together.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// No setting is larger: networks with more of anything are not built by hand.
pub const MAX_SETTING: usize = 1 << 16;

impl Entry {
    /// The model with these settings, defaults for the others.
    ///
    /// # Errors
    /// A setting that the model does not have, or a value that makes no sense.
    pub fn build(&self, settings: &[(String, String)]) -> Result<Graph, ZooError> {
        let values = self.settings.iter().map(|setting| setting.default).collect();
        let mut config = Config { entry: self, values, seed: 0 };
        for (key, value) in settings {
            let bad = || ZooError::Value { key: key.clone(), value: value.clone() };
            if key == "seed" {
                config.seed = value.parse().map_err(|_| bad())?;
                continue;
            }
            let Some(at) = self.settings.iter().position(|setting| setting.name == key) else {
                let names = self.settings.iter().map(|setting| setting.name).chain(["seed"]);
                let known = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(ZooError::Unknown { model: self.name, key: key.clone(), known });
            };
            let number = value.parse().ok().filter(|number| (1..=MAX_SETTING).contains(number));
            config.values[at] = number.ok_or_else(bad)?;
        }
        Ok((self.build)(&config)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_model_is_valid_and_the_same_each_time() {
        for entry in ALL {
            let graph = entry.build(&[]).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert_eq!(ir::verify::verify(&graph), [], "{}", entry.name);
            let again = entry.build(&set(&[("seed", "0")])).expect("it was built");
            assert_eq!(graph.to_string(), again.to_string(), "{}", entry.name);
            let other = entry.build(&set(&[("seed", "1")])).expect("any seed will do");
            assert_ne!(graph.to_string(), other.to_string(), "{}", entry.name);
        }
    }

    #[test]
    fn settings_change_the_model_or_are_refused() {
        let digits = find("digits").expect("it is there");
        let narrow = digits.build(&set(&[("channels", "3"), ("classes", "7")])).expect("it fits");
        let output = narrow.outputs()[0];
        assert_eq!(narrow.ty(output).to_string(), "f32[batch, 7]");
        for (key, value) in [("hidden", "0"), ("hidden", "x"), ("hidden", "99999999"), ("seed", "-1")] {
            let error = digits.build(&set(&[(key, value)])).expect_err("it makes no sense");
            assert_eq!(error, ZooError::Value { key: key.to_owned(), value: value.to_owned() });
        }
        let error = digits.build(&set(&[("experts", "4")])).expect_err("it has none");
        assert!(error.to_string().contains("`channels`"), "{error}");
        assert!(find("nothing").is_none());
    }
}
