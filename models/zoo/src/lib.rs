//! egraft's built-in models: builders that make a graph of a configuration.
//!
//! A model has a name, settings with defaults, and weights: given by name, or drawn from a seed, so that the same
//! settings give the same bytes. No file is read here (see [`Params`]). Trained weights are not here either;
//! `digits.onnx`, which lies in this folder, is a trained model of the network that [`digits`] builds.
//!
//! A model is one file: its [`Entry`], and a builder in the words of `net`. The models of papers have the names of
//! weights, inputs and outputs that their references have, and say which equations they are.

pub mod attention;
pub mod digits;
mod error;
mod init;
pub mod moe;
mod net;
mod params;
mod setting;
pub mod sliced_ot;
mod vision;

use ir::{Graph, TensorType};

pub use error::{ParamProblem, ZooError};
pub use params::Params;
pub use setting::{Kind, MOST, Setting};

use init::Init;
use net::{Built, Net, Weights};
use setting::{Config, FORM, SEED};

/// A built-in model.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The paper that it is from, short, with its number in arXiv; empty for ours.
    pub paper: &'static str,
    /// What of it is verified against the authors' code, reconstructed, or our own.
    pub status: &'static str,
    /// What the setting `form` chooses among; the first where nobody says. Empty for a model of one form.
    pub forms: &'static [Form],
    /// What it can be built with, besides `seed` and `form`.
    pub settings: &'static [Setting],
    /// Settings of a small one, which says as much of the model as a large one: for tables and pictures.
    pub small: &'static [(&'static str, &'static str)],
    build: fn(&Config, &mut Net) -> Built<()>,
}

/// One of the forms of a model: a layer, or a whole network, say.
#[derive(Debug)]
pub struct Form {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Values of settings where nobody says, if they are not those of the settings.
    pub defaults: &'static [(&'static str, &'static str)],
}

/// What experts do on handwritten digits: a study by `python/study_digits.py`, in Markdown.
pub const STUDY: &str = include_str!("../digits_moe/README.md");

/// Every built-in model.
pub static ALL: &[Entry] = &[
    digits::DIGITS,
    attention::transformer::TRANSFORMER,
    attention::elliptical::ELLIPTICAL,
    attention::rpc::RPC,
    attention::scaled::SCALED,
    attention::primal_dual::ATTENTION_BN,
    attention::primal_dual::ATTENTION_SH,
    attention::primal_dual::ATTENTION_BN_SH,
    attention::fare::FARE,
    attention::fare::SPARSE_FARE,
    attention::mgk::MGK,
    attention::kerple::KERPLE,
    attention::kernelized::KERNELIZED,
    attention::kernelized::FEED_FORWARD_KERNEL,
    attention::mosa::MOSA,
    attention::dynamic_conv::DYNAMIC_CONV,
    attention::mlp_kan::MLP_KAN,
    moe::smoe::SMOE,
    moe::momentum::MOMENTUM_SMOE,
    moe::momentum::ADAM_SMOE,
    moe::momentum::ROBUST_MOMENTUM_SMOE,
    moe::glam::GLAM,
    moe::vmoe::VMOE,
    moe::acmoe::ACMOE,
    moe::camex::CAMEX,
    moe::molex::MOLEX,
    moe::deepseek::DEEPSEEK_MOE,
    moe::sigma::SIGMA_MOE,
    moe::multi_head::MH_MOE,
    sliced_ot::tree::TSW_SL,
    sliced_ot::tree::DB_TSW,
    sliced_ot::tree::DB_TSW_PERP,
    sliced_ot::sphere::STSW,
    sliced_ot::sw::SW,
    sliced_ot::sw::SWGG,
    sliced_ot::sw::LCVSW,
    sliced_ot::spherical::S3W,
    sliced_ot::spherical::SSW,
];

/// The model called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

/// What a model is made of with some settings.
#[derive(Debug)]
pub struct Described {
    /// The settings that it has a use for, with their values.
    pub settings: Vec<(&'static Setting, String)>,
    /// Its inputs.
    pub inputs: Vec<(String, TensorType)>,
    /// Its outputs.
    pub outputs: Vec<(String, TensorType)>,
    /// Its weights.
    pub params: Vec<(String, TensorType)>,
}

impl Entry {
    /// The model with these settings, defaults for the others, and these weights, or else drawn ones.
    ///
    /// # Errors
    /// A setting that the model does not have or has no use for, a value that it cannot have, settings that do not go
    /// together; all that is wrong with the weights.
    pub fn build(
        &'static self,
        settings: &[(String, String)],
        params: Option<&dyn Params>,
    ) -> Result<Graph, ZooError> {
        let config = Config::new(self, settings)?;
        let weights = match params {
            Some(params) => Weights::Given(params),
            None => Weights::Drawn(Init::new(config.seed())),
        };
        Ok(self.construct(&config, settings, weights)?.0)
    }

    /// What the model is made of with these settings.
    ///
    /// # Errors
    /// Those of [`Entry::build`].
    pub fn describe(&'static self, settings: &[(String, String)]) -> Result<Described, ZooError> {
        let config = Config::new(self, settings)?;
        // Nothing is drawn here, and the seed may still be given.
        config.seed();
        let (graph, params) = self.construct(&config, settings, Weights::Listed)?;
        let is_weight = |name: &str| params.iter().any(|(known, _)| known == name);
        let inputs = graph.inputs().iter();
        let inputs = inputs.map(|&id| (graph.input_name(id).to_owned(), graph.node(id).types[0].clone()));
        let inputs = inputs.filter(|(name, _)| !is_weight(name)).collect();
        let outputs = graph.output_names().into_iter().map(str::to_owned);
        let types = graph.outputs().into_iter().map(|value| graph.ty(value).clone());
        Ok(Described { settings: config.used(), inputs, outputs: outputs.zip(types).collect(), params })
    }

    fn construct(
        &self,
        config: &Config,
        settings: &[(String, String)],
        weights: Weights,
    ) -> Built<(Graph, Vec<(String, TensorType)>)> {
        let mut net = Net::new(self.name, weights);
        (self.build)(config, &mut net)?;
        config.check_read(settings)?;
        net.finish()
    }

    /// The names of what can be set.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static str> {
        let form = (!self.forms.is_empty()).then_some(FORM);
        form.into_iter().chain(self.settings.iter().map(|setting| setting.name)).chain([SEED])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ir::{DType, Tensor, Weight};

    use super::*;

    fn set(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The weights that a model wants, all of them zeros.
    fn zeros(described: &Described) -> BTreeMap<String, Weight> {
        let params = described.params.iter();
        let zeros = params.map(|(name, ty)| {
            let shape = ty.fixed_shape().expect("weights have fixed shapes");
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            let tensor = Tensor::new(DType::F32, shape, bytes).expect("it has as many bytes as it takes");
            (name.clone(), Weight::of(name.clone(), tensor))
        });
        zeros.collect()
    }

    #[test]
    fn every_model_says_what_it_is_and_has_settings_that_parse() {
        for entry in ALL {
            assert!(!entry.about.is_empty() && !entry.status.is_empty(), "{}", entry.name);
            let mut names: Vec<&str> = entry.settings.iter().map(|setting| setting.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}: {names:?}", entry.name);
            for form in entry.forms {
                let own = form.defaults.iter().map(|(key, _)| *key);
                assert!(own.clone().all(|key| names.contains(&key)), "{}: {}", entry.name, form.name);
                let described = entry.describe(&set(&[("form", form.name)]));
                let described = described.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
                // What a form has a default for, it has a use for.
                let used: Vec<&str> = described.settings.iter().map(|(setting, _)| setting.name).collect();
                assert!(own.clone().all(|key| used.contains(&key)), "{}: {}", entry.name, form.name);
            }
        }
    }

    #[test]
    fn every_model_is_valid_with_the_weights_that_it_wants_and_refuses_others() {
        for entry in ALL {
            let described = entry.describe(&[]).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            let mut params = zeros(&described);
            let graph = entry.build(&[], Some(&params));
            let graph = graph.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert_eq!(ir::verify::verify(&graph), [], "{}", entry.name);
            let error = entry.build(&set(&[("seed", "1")]), Some(&params));
            let error = error.expect_err("nothing is drawn");
            assert!(matches!(&error, ZooError::Unused { key, .. } if key == "seed"), "{error:?}");
            params.insert("extra".to_owned(), Weight::of("extra", Tensor::from_i64(&[1], &[1])));
            let error = entry.build(&[], Some(&params)).expect_err("it has no such weight");
            let unused = vec![ParamProblem::Unused { name: "extra".to_owned() }];
            assert_eq!(error, ZooError::Params { model: entry.name, problems: unused });
        }
    }

    #[test]
    fn every_model_has_a_small_form() {
        for entry in ALL {
            let described = entry.describe(&set(entry.small));
            let described = described.unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            let elements = |(_, ty): &(String, TensorType)| ty.elements().as_const().unwrap_or(0);
            let weights: i64 = described.params.iter().map(elements).sum();
            assert!(weights < 100_000, "{}: {weights} weights are not small", entry.name);
        }
    }

    #[test]
    fn drawn_weights_are_the_same_each_time() {
        let digits = find("digits").expect("it is there");
        let graph = digits.build(&[], None).expect("it is built");
        let again = digits.build(&set(&[("seed", "0")]), None).expect("it is built");
        assert_eq!(graph.to_string(), again.to_string());
        let other = digits.build(&set(&[("seed", "1")]), None).expect("any seed will do");
        assert_ne!(graph.to_string(), other.to_string());
    }

    #[test]
    fn all_that_is_wrong_with_weights_is_said_at_once() {
        let digits = find("digits").expect("it is there");
        let mut params = zeros(&digits.describe(&[]).expect("it is described"));
        params.remove("hidden.bias");
        params.insert("hidden.weight".to_owned(), Weight::of("x", Tensor::from_f32(&[1, 2], &[1.0, 2.0])));
        params.insert("classes.bias".to_owned(), Weight::of("x", Tensor::from_i64(&[10], &[0; 10])));
        params.insert("head.bias".to_owned(), Weight::of("x", Tensor::from_i64(&[1], &[0])));
        let error = digits.build(&[], Some(&params)).expect_err("they do not suit").to_string();
        for part in [
            "`digits`",
            "`hidden.bias` is missing: f32[64]",
            "`hidden.weight` is f32[1, 2], and the model wants f32[128, 64]",
            "`classes.bias` is i64[10], and the model wants f32[10]",
            "`head.bias` is given, and the model has none",
        ] {
            assert!(error.contains(part), "`{part}` is not in it: {error}");
        }
    }

    #[test]
    fn settings_change_the_model_or_are_refused() {
        let digits = find("digits").expect("it is there");
        let narrow = set(&[("channels", "3"), ("classes", "7")]);
        let narrow = digits.build(&narrow, None).expect("it fits");
        let output = narrow.outputs()[0];
        assert_eq!(narrow.ty(output).to_string(), "f32[batch, 7]");
        for (key, value) in [("hidden", "0"), ("hidden", "x"), ("hidden", "99999999"), ("seed", "-1")] {
            let error = digits.build(&set(&[(key, value)]), None).expect_err("it makes no sense");
            let text = error.to_string();
            for part in ["`digits`", key, value, "integer from"] {
                assert!(text.contains(part), "`{part}` is not in it: {text}");
            }
            assert!(matches!(error, ZooError::Value { .. }), "{error:?}");
        }
        let error = digits.build(&set(&[("experts", "4")]), None).expect_err("it has none");
        assert!(error.to_string().contains("`channels`"), "{error}");
        let huge = set(&[("channels", "1048576"), ("hidden", "1048576")]);
        let error = digits.build(&huge, None).expect_err("no machine has room for it");
        assert!(matches!(error, ZooError::TooLarge { .. }), "{error:?}");
        assert!(find("nothing").is_none());
    }

    #[test]
    fn kinds_of_settings_say_what_is_possible() {
        for (kind, good, bad, possible) in [
            (Kind::Integer { default: 2, least: 2 }, "3", "1", "an integer from 2 to 1048576"),
            (Kind::Integers { default: &[1], least: 1 }, "1,2,4", "1,,2", "integers from 1 to 1048576"),
            (Kind::Real { default: 0.5 }, "-1e-3", "inf", "a finite number"),
            (Kind::Choice { of: &["a", "b"] }, "b", "c", "a or b"),
            (Kind::Flag { default: true }, "false", "yes", "true or false"),
        ] {
            let of = |kind: Kind| setting::Setting { name: "x", kind, about: "" };
            assert!(of(kind).accepts(good) && of(kind).accepts(&kind.default()), "{kind:?}");
            assert!(!of(kind).accepts(bad), "{kind:?}");
            assert!(kind.possible().starts_with(possible), "{}", kind.possible());
        }
    }
}
