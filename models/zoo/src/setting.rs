//! Settings: what a model can be built with, and the values of one build.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::error::ZooError;
use crate::{Entry, Form};

/// No integer of a setting is larger: it is more than the words of any vocabulary of the papers.
pub const MOST: usize = 1 << 20;

/// Something that a model can be built with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Which values it may have, and which one it has where nobody says.
    pub kind: Kind,
    /// What it means.
    pub about: &'static str,
}

/// The values of a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// An integer from `least` to [`MOST`].
    Integer {
        /// Where nobody says.
        default: usize,
        /// None is smaller.
        least: usize,
    },
    /// Integers from `least` to [`MOST`], with commas between them.
    Integers {
        /// Where nobody says.
        default: &'static [usize],
        /// None is smaller.
        least: usize,
    },
    /// A finite number.
    Real {
        /// Where nobody says.
        default: f64,
    },
    /// One of these words, of which there is at least one; the first where nobody says.
    Choice {
        /// The words.
        of: &'static [&'static str],
    },
    /// `true` or `false`.
    Flag {
        /// Where nobody says.
        default: bool,
    },
}

/// An integer of at least `least`.
pub(crate) const fn integer(
    name: &'static str,
    default: usize,
    least: usize,
    about: &'static str,
) -> Setting {
    Setting { name, kind: Kind::Integer { default, least }, about }
}

/// Integers of at least `least`.
pub(crate) const fn integers(
    name: &'static str,
    default: &'static [usize],
    least: usize,
    about: &'static str,
) -> Setting {
    Setting { name, kind: Kind::Integers { default, least }, about }
}

/// A number.
pub(crate) const fn real(name: &'static str, default: f64, about: &'static str) -> Setting {
    Setting { name, kind: Kind::Real { default }, about }
}

/// One of these words, the first where nobody says.
pub(crate) const fn choice(name: &'static str, of: &'static [&'static str], about: &'static str) -> Setting {
    Setting { name, kind: Kind::Choice { of }, about }
}

/// `true` or `false`.
pub(crate) const fn flag(name: &'static str, default: bool, about: &'static str) -> Setting {
    Setting { name, kind: Kind::Flag { default }, about }
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq)]
enum Set {
    Integer(usize),
    Integers(Vec<usize>),
    Real(f64),
    Word(&'static str),
    Flag(bool),
}

impl Kind {
    /// The value where nobody says, as it is written.
    pub fn default(&self) -> String {
        match self {
            Kind::Integer { default, .. } => default.to_string(),
            Kind::Integers { default, .. } => joined(default.iter().map(usize::to_string), ","),
            Kind::Real { default } => default.to_string(),
            Kind::Choice { of } => of[0].to_owned(),
            Kind::Flag { default } => default.to_string(),
        }
    }

    /// What its values are, in words.
    pub fn possible(&self) -> String {
        match self {
            Kind::Integer { least, .. } => format!("an integer from {least} to {MOST}"),
            Kind::Integers { least, .. } => {
                format!("integers from {least} to {MOST} with commas between them")
            }
            Kind::Real { .. } => "a finite number".to_owned(),
            Kind::Choice { of } => joined(of.iter().map(|word| (*word).to_owned()), " or "),
            Kind::Flag { .. } => "true or false".to_owned(),
        }
    }

    fn parse(&self, text: &str) -> Option<Set> {
        let integer =
            |text: &str, least: usize| text.parse().ok().filter(|number| (least..=MOST).contains(number));
        Some(match self {
            Kind::Integer { least, .. } => Set::Integer(integer(text, *least)?),
            Kind::Integers { least, .. } => {
                let numbers = text.split(',').map(|text| integer(text, *least));
                Set::Integers(numbers.collect::<Option<_>>()?)
            }
            Kind::Real { .. } => Set::Real(text.parse().ok().filter(|number: &f64| number.is_finite())?),
            Kind::Choice { of } => Set::Word(of.iter().copied().find(|word| *word == text)?),
            Kind::Flag { .. } => Set::Flag(text.parse().ok()?),
        })
    }
}

fn joined(words: impl Iterator<Item = String>, between: &str) -> String {
    words.collect::<Vec<_>>().join(between)
}

/// The settings of one build: a value for each that the model has.
pub(crate) struct Config {
    entry: &'static Entry,
    form: Option<&'static Form>,
    values: Vec<Set>,
    seed: u64,
    /// The settings that the builder has read.
    read: RefCell<BTreeSet<&'static str>>,
}

/// The setting that chooses among a model's forms.
pub(crate) const FORM: &str = "form";

/// The setting that weights are drawn from.
pub(crate) const SEED: &str = "seed";

impl Config {
    /// What `given` says, else what the form says, else the defaults. Of several values for a setting the last counts.
    ///
    /// # Errors
    /// A setting that the model does not have, or a value that it cannot have.
    pub(crate) fn new(entry: &'static Entry, given: &[(String, String)]) -> Result<Config, ZooError> {
        let last = |key: &str| given.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value);
        let form = match last(FORM) {
            Some(name) if !entry.forms.is_empty() => {
                let found = entry.forms.iter().find(|form| form.name == name);
                Some(found.ok_or_else(|| {
                    let names = entry.forms.iter().map(|form| form.name.to_owned());
                    ZooError::value(entry.name, FORM, name, joined(names, " or "))
                })?)
            }
            _ => entry.forms.first(),
        };
        let mut values: Vec<Set> = entry.settings.iter().map(|setting| setting.in_form(form)).collect();
        let mut seed = 0;
        for (key, text) in given {
            match key.as_str() {
                SEED => {
                    let possible = || format!("an integer from 0 to {}", u64::MAX);
                    let parsed = text.parse();
                    seed = parsed.map_err(|_| ZooError::value(entry.name, key, text, possible()))?;
                }
                FORM if form.is_some() => {}
                _ => {
                    let at = entry.settings.iter().position(|setting| setting.name == key);
                    let at = at.ok_or_else(|| ZooError::Unknown {
                        model: entry.name,
                        key: key.clone(),
                        value: text.clone(),
                        known: joined(entry.keys().map(|name| format!("`{name}`")), ", "),
                    })?;
                    let kind = entry.settings[at].kind;
                    let set = kind.parse(text);
                    values[at] =
                        set.ok_or_else(|| ZooError::value(entry.name, key, text, kind.possible()))?;
                }
            }
        }
        Ok(Config { entry, form, values, seed, read: RefCell::default() })
    }

    /// What weights are drawn from.
    pub(crate) fn seed(&self) -> u64 {
        self.read.borrow_mut().insert(SEED);
        self.seed
    }

    /// The form, in a model that has some.
    pub(crate) fn form(&self) -> &'static str {
        self.form.expect("bug: the model has no forms").name
    }

    fn get(&self, name: &str) -> &Set {
        let at = self.entry.settings.iter().position(|setting| setting.name == name);
        let at = at.unwrap_or_else(|| panic!("bug: `{}` declares no `{name}`", self.entry.name));
        self.read.borrow_mut().insert(self.entry.settings[at].name);
        &self.values[at]
    }

    /// The value of a setting that is an integer.
    pub(crate) fn integer(&self, name: &str) -> usize {
        match self.get(name) {
            Set::Integer(value) => *value,
            other => panic!("bug: `{name}` is no integer: {other:?}"),
        }
    }

    /// The value of a setting that is several integers.
    pub(crate) fn integers(&self, name: &str) -> Vec<usize> {
        match self.get(name) {
            Set::Integers(values) => values.clone(),
            other => panic!("bug: `{name}` is no list of integers: {other:?}"),
        }
    }

    /// The value of a setting that is a number.
    pub(crate) fn real(&self, name: &str) -> f64 {
        match self.get(name) {
            Set::Real(value) => *value,
            other => panic!("bug: `{name}` is no number: {other:?}"),
        }
    }

    /// The value of a setting that is one of some words.
    pub(crate) fn word(&self, name: &str) -> &'static str {
        match self.get(name) {
            Set::Word(value) => value,
            other => panic!("bug: `{name}` is no word: {other:?}"),
        }
    }

    /// The value of a setting that is true or false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Set::Flag(value) => *value,
            other => panic!("bug: `{name}` is no flag: {other:?}"),
        }
    }

    /// Settings that make no model together, and why.
    pub(crate) fn unfit(&self, why: impl Into<String>) -> ZooError {
        ZooError::Unfit { model: self.entry.name, why: why.into() }
    }

    /// `size` divided by `parts`, both settings.
    ///
    /// # Errors
    /// It is no multiple.
    pub(crate) fn part(&self, size: &str, parts: &str) -> Result<usize, ZooError> {
        let (whole, count) = (self.integer(size), self.integer(parts));
        if count == 0 || !whole.is_multiple_of(count) {
            return Err(self.unfit(format!("`{size}` = {whole} is no multiple of `{parts}` = {count}")));
        }
        Ok(whole / count)
    }

    /// Whether the model as it was built had a use for each setting that was given.
    ///
    /// # Errors
    /// [`ZooError::Unused`].
    pub(crate) fn check_read(&self, given: &[(String, String)]) -> Result<(), ZooError> {
        let read = self.read.borrow();
        let is_read = |key: &str| key == FORM || read.contains(key);
        match given.iter().find(|(key, _)| !is_read(key)) {
            None => Ok(()),
            Some((key, value)) => Err(ZooError::Unused {
                model: self.entry.name,
                key: key.clone(),
                value: value.clone(),
                read: joined(read.iter().map(|name| format!("`{name}`")), ", "),
            }),
        }
    }

    /// The settings that the builder has read, with their values, in the order of the model.
    pub(crate) fn used(&self) -> Vec<(&'static Setting, String)> {
        let read = self.read.borrow();
        let settings = self.entry.settings.iter().zip(&self.values);
        let used = settings.filter(|(setting, _)| read.contains(setting.name));
        used.map(|(setting, value)| (setting, value.to_string())).collect()
    }
}

impl Setting {
    /// Whether this can be its value.
    pub fn accepts(&self, text: &str) -> bool {
        self.kind.parse(text).is_some()
    }

    /// Its value where nobody says, in a form of the model.
    fn in_form(&self, form: Option<&Form>) -> Set {
        let own = form.and_then(|form| form.defaults.iter().find(|(name, _)| *name == self.name));
        let text = own.map_or_else(|| self.kind.default(), |(_, text)| (*text).to_owned());
        self.kind.parse(&text).unwrap_or_else(|| panic!("bug: `{}` cannot be {text}", self.name))
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Set::Integer(value) => write!(f, "{value}"),
            Set::Integers(values) => f.write_str(&joined(values.iter().map(usize::to_string), ",")),
            Set::Real(value) => write!(f, "{value}"),
            Set::Word(value) => f.write_str(value),
            Set::Flag(value) => write!(f, "{value}"),
        }
    }
}
