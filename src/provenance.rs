//! Where a model came from, in dumps and in artifacts.
//!
//! A dump says on top which model it is of and how it is compiled, so that an artifact made from the dump is, byte
//! for byte, the one made from the model.

use ir::weight::Hash;
use passes::pipeline;
use serde::{Deserialize, Serialize};

use crate::options::{Options, Recorded, fp_mode};

/// How a line of a dump begins that holds a [`Provenance`].
const PREFIX: &str = "; from ";

/// Which model something was made of, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The file's name, without its folder.
    pub model: String,
    /// BLAKE3 of the file, in hexadecimal digits.
    pub blake3: String,
    /// What wrote the file, with its version; empty if unknown.
    pub producer: String,
    /// Sizes that became one, each with the reason.
    pub unified: Vec<String>,
    /// The options that results depend on, but for the processor.
    pub options: Recorded,
    /// How far the model has come: the last of the pipeline's passes that run once; empty before the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub past: String,
}

impl Provenance {
    /// That of a file which says nothing about itself.
    pub(crate) fn of_file(model: String, bytes: &[u8], options: Recorded) -> Provenance {
        let blake3 = Hash::of(bytes).to_string();
        Provenance {
            model,
            blake3,
            producer: String::new(),
            unified: Vec::new(),
            options,
            past: String::new(),
        }
    }

    /// That of several models as one.
    pub(crate) fn of_all(all: &[Provenance]) -> Provenance {
        let joined = |of: fn(&Provenance) -> &str| all.iter().map(of).collect::<Vec<_>>().join(" + ");
        let hashes: String = all.iter().map(|one| one.blake3.as_str()).collect();
        let options = all.first().map_or_else(|| Options::default().recorded(), |one| one.options.clone());
        Provenance {
            unified: all.iter().flat_map(|one| one.unified.clone()).collect(),
            producer: joined(|one| &one.producer),
            past: all.first().map_or_else(String::new, |one| one.past.clone()),
            ..Provenance::of_file(joined(|one| &one.model), hashes.as_bytes(), options)
        }
    }

    /// The model has been through a pass. One that runs again later on tells nothing.
    pub(crate) fn advance(&mut self, pass: &str) {
        let steps = pipeline::of_level(self.options.level);
        if pipeline::once(steps, pass) > pipeline::once(steps, &self.past) {
            self.past = pass.to_owned();
        }
    }

    /// As a line of comment in a text form.
    pub fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("strings and numbers have a form in JSON");
        format!("{PREFIX}{json}\n")
    }

    /// The provenance that a dump states among its first comments.
    pub fn of_dump(text: &str) -> Option<Provenance> {
        let comments = text.lines().take_while(|line| line.starts_with(';'));
        let mut stated = comments.filter_map(|line| line.strip_prefix(PREFIX));
        let found: Provenance = stated.find_map(|json| serde_json::from_str(json).ok())?;
        fp_mode(&found.options.fp).map(|_| found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dump_states_is_read() {
        let mut provenance =
            Provenance::of_file("m.onnx".to_owned(), b"model", Options::default().recorded());
        provenance.unified.push("m = n, because node \"a\nb\" (Add) needs m = n".to_owned());
        let line = provenance.to_line();
        assert_eq!(line.lines().count(), 1);
        let dump = format!("; 03-dce.ir: drop what nobody uses\n{line}\ngraph …");
        assert_eq!(Provenance::of_dump(&dump), Some(provenance));
    }

    #[test]
    fn only_comments_on_top_count() {
        let line = Provenance::of_file("m".to_owned(), b"", Options::default().recorded()).to_line();
        assert_eq!(Provenance::of_dump(&format!("graph …\n{line}")), None);
        assert_eq!(Provenance::of_dump("; from {}\n"), None);
    }
}
