//! `egraft explain CODE`: what an error code means and what to do.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::print_json;
use crate::codes::{CODES, Code};
use crate::report::Failure;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The code, such as egraft::op::size; without one, all are listed
    code: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let Some(name) = &self.code else {
            if self.json {
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
                format!("there is no error code `{name}`"),
                near(name),
            ));
        };
        if self.json {
            print_json(out, &json(code))?;
        } else {
            writeln!(out, "{}\n\n{}\n\nWhat to do: {}", code.name, code.meaning, code.remedy)?;
        }
        Ok(0)
    }
}

fn json(code: &Code) -> serde_json::Value {
    json!({"code": code.name, "meaning": code.meaning, "remedy": code.remedy})
}

/// Codes that end alike.
fn near(name: &str) -> String {
    let last = name.rsplit("::").next().unwrap_or(name);
    let near: Vec<&str> =
        CODES.iter().map(|code| code.name).filter(|code| !last.is_empty() && code.ends_with(last)).collect();
    match near.as_slice() {
        [] => "`egraft explain` without a code lists all".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(code: Option<&str>) -> Result<String, Failure> {
        let mut out = Vec::new();
        Explain { code: code.map(str::to_owned), json: false }.run(&mut out)?;
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
