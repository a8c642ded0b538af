//! `egraft explain`: what rewrite rules did to a model, or what an error code means and what to do.

mod model;

pub(crate) use model::json as of_model;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use egraft::source;
use serde_json::json;

use super::{Common, print_json};
use crate::codes::{CODES, Code};
use crate::near;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "What is there as a file, ends in .onnx, .ir, .kir or .prog, or starts with zoo: is a MODEL; \
                        anything else is a CODE.\n\n\
                        Examples:\n  egraft explain egraft::op::size\n  egraft explain model.onnx\n  \
                        egraft explain model.onnx /layers.0/Softmax --fp strict"
)]
pub(super) struct Explain {
    /// A model: which rules made which kernels, what kept others from it, and what --fp and --disable-rule do not
    /// allow. Or an error code, such as egraft::op::size; without one, all are listed
    #[arg(value_name = "MODEL|CODE")]
    what: Option<PathBuf>,
    /// Of a model: only what is about these ONNX nodes, by their name or a part of it, or about this kernel
    #[arg(value_name = "NODE|KERNEL")]
    part: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Explain {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        match &self.what {
            Some(path) if is_model(path) => model::explain(path, self.part.as_deref(), &self.common, out),
            what => {
                let name = what.as_ref().map(|path| path.to_string_lossy());
                self.refuse_what_a_model_has()?;
                code(name.as_deref(), self.common.json, out)
            }
        }
    }

    /// A code is the same for every model.
    fn refuse_what_a_model_has(&self) -> Result<(), Failure> {
        let what = match (&self.part, self.common.of_compilation()) {
            (Some(part), _) => format!("`{part}`"),
            (None, Some(option)) => format!("`{option}`"),
            (None, None) => return Ok(()),
        };
        let code = self.what.as_ref().map(|code| code.display().to_string()).unwrap_or_default();
        Err(Failure::bad_input(
            "egraft::cli::explain",
            format!("{what} is about a model, and `{code}` is none: there is no such file"),
            "give a model, or a code alone",
        ))
    }
}

/// Is it a model, rather than a code?
fn is_model(what: &Path) -> bool {
    source::is_model(what) || what.exists()
}

/// Explains a code, or lists all.
fn code(name: Option<&str>, as_json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let Some(name) = name else {
        if as_json {
            let codes: Vec<_> = CODES.iter().map(json).collect();
            print_json(out, &json!({"codes": codes}))?;
            return Ok(0);
        }
        let width = CODES.iter().map(|code| code.name.len()).max().unwrap_or(0);
        for code in CODES {
            writeln!(out, "{:width$}  {}", code.name, code.meaning)?;
        }
        return Ok(0);
    };
    let found =
        CODES.iter().find(|code| code.name == name || code.name.strip_prefix("egraft::") == Some(name));
    let Some(code) = found else {
        return Err(Failure::bad_input(
            "egraft::cli::unknown_code",
            format!("there is no error code `{name}`, and no such file"),
            similar(name),
        ));
    };
    if as_json {
        print_json(out, &json(code))?;
    } else {
        writeln!(out, "{}\n\n{}\n\nWhat to do: {}", code.name, code.meaning, code.remedy)?;
    }
    Ok(0)
}

fn json(code: &Code) -> serde_json::Value {
    json!({"code": code.name, "meaning": code.meaning, "remedy": code.remedy})
}

/// Codes that end alike, or are spelled alike.
fn similar(name: &str) -> String {
    let last = name.rsplit("::").next().unwrap_or(name);
    let names = || CODES.iter().map(|code| code.name);
    let alike: Vec<&str> = names().filter(|code| !last.is_empty() && code.ends_with(last)).collect();
    match alike.as_slice() {
        [] => near::suggestion(name, names(), "`egraft explain` without a code lists all"),
        alike => format!("did you mean {}?", alike.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(name: Option<&str>) -> Result<String, Failure> {
        let mut out = Vec::new();
        code(name, false, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn codes_are_explained() {
        let text = explain(Some("egraft::op::size")).expect("it is known");
        assert!(text.starts_with("egraft::op::size\n") && text.contains("What to do: "), "{text}");
        assert_eq!(explain(Some("op::size")).expect("short forms do"), text);
        assert_eq!(explain(None).expect("the list").lines().count(), CODES.len());
    }

    #[test]
    fn unknown_codes_suggest_others() {
        let Err(Failure::Problems { problems, .. }) = explain(Some("operator::size")) else {
            panic!("there is no such code");
        };
        assert!(problems[0].help.as_ref().is_some_and(|help| help.contains("egraft::op::size")));
    }
}
