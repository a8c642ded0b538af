//! `egraft check`: every node that cannot be compiled, at once, and what a model can hardly be meant to do.
//!
//! Nothing is compiled for that, unless the model is a program already: how many kernels a graph becomes, and what they
//! are made of, `egraft inspect --kernels` tells.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use egraft::{Checked, Error, ErrorKind};
use ir::{At, Origin};
use serde_json::{Value, json};

use super::{Common, print_json};
use crate::codes::remedy;
use crate::report::{self, FAILED, Failure};
use crate::watch::Watch;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The model
    model: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// A node that cannot be compiled.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    node: String,
    op: String,
    opset: Option<i64>,
    code: &'static str,
    reason: String,
    remedy: String,
}

impl Check {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let name = self.model.display().to_string();
        match self.check() {
            Ok(Checked::Program(kernels)) => {
                self.report(&name, &format!("compiles to {kernels} kernels"), &[], &[], out)
            }
            Ok(Checked::Graph { nodes, problems, lints }) => {
                let problems: Vec<Row> = problems.iter().map(|at| Row::of(at, at.error.code())).collect();
                let lints: Vec<Row> = lints.iter().map(|at| Row::of(at, at.error.code())).collect();
                self.report(&name, &format!("each of {nodes} nodes can be compiled"), &problems, &lints, out)
            }
            Err(Refused::Failure(failure)) => Err(failure),
            // A broken model is bad input here as everywhere.
            Err(Refused::Error(error)) if error.kind() != ErrorKind::Unsupported => Err(error.into()),
            Err(Refused::Error(error)) => self.report(&name, "", &rows(error), &[], out),
        }
    }

    /// Says what cannot be compiled of a model, or that it `can`; and what it can hardly be meant to do.
    fn report(
        &self,
        name: &str,
        can: &str,
        problems: &[Row],
        lints: &[Row],
        out: &mut dyn Write,
    ) -> Result<u8, Failure> {
        let ok = problems.is_empty();
        let code = if ok { 0 } else { FAILED };
        if self.common.json {
            let json = |rows: &[Row]| -> Vec<Value> { rows.iter().map(Row::json).collect() };
            let (problems, lints) = (json(problems), json(lints));
            print_json(out, &json!({"model": name, "ok": ok, "problems": problems, "lints": lints}))?;
            return Ok(code);
        }
        match ok {
            true => writeln!(out, "{name}: ok, {can}")?,
            false => writeln!(out, "{name}: {} of its nodes cannot be compiled", problems.len())?,
        }
        for row in problems {
            row.print("", out)?;
        }
        for row in lints {
            row.print("warning: ", out)?;
        }
        Ok(code)
    }

    /// Looks at the model.
    fn check(&self) -> Result<Checked, Refused> {
        // What the options say wrong is no property of the model.
        let options = self.common.options()?;
        self.common.check_settings(&self.model)?;
        let mut watch = Watch::new();
        let checked = egraft::load(&self.model, &options)
            .and_then(|source| egraft::check(source, &options, &mut watch));
        // Ends the progress; there is no dump whose failure could come with it.
        let _ = watch.finish(Ok(()));
        Ok(checked?)
    }
}

enum Refused {
    Failure(Failure),
    Error(Error),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Refused::Failure(failure)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

/// One row for each problem.
fn rows(error: Error) -> Vec<Row> {
    match error {
        #[cfg(feature = "onnx")]
        Error::Import { failure, .. } => failure.problems().iter().map(of_import).collect(),
        Error::Passes { errors, .. } => errors.iter().map(|at| Row::of(at, at.error.code())).collect(),
        error => report::problems(error)
            .into_iter()
            .map(|problem| Row {
                reason: problem.message,
                remedy: problem.help.unwrap_or_default(),
                ..Row::at(&Origin::none(), problem.code)
            })
            .collect(),
    }
}

#[cfg(feature = "onnx")]
fn of_import(at: &ir::At<onnx::ImportProblem>) -> Row {
    use onnx::ImportProblem;
    let code = at.error.code();
    let row = Row::at(&at.origin, code);
    let way_out = at.error.help().unwrap_or_else(|| remedy(code)).to_owned();
    match &at.error {
        ImportProblem::UnsupportedOp { op, opset, reason, help } => Row {
            op: op.clone(),
            opset: Some(*opset),
            reason: (*reason).to_owned(),
            remedy: (*help).to_owned(),
            ..row
        },
        ImportProblem::Node { opset, error, .. } => {
            Row { opset: Some(*opset), reason: error.to_string(), remedy: way_out, ..row }
        }
        error => Row { reason: error.to_string(), remedy: way_out, ..row },
    }
}

impl Row {
    /// The place of a problem; what is wrong is still to be said.
    fn at(origin: &Origin, code: &'static str) -> Row {
        let place = origin.places().first();
        let (node, op) = place.map_or_else(Default::default, |place| (place.name.clone(), place.op.clone()));
        Row { node, op, opset: None, code, reason: String::new(), remedy: String::new() }
    }

    /// Something about a node, with what there is to do about its code.
    fn of(at: &At<impl Display>, code: &'static str) -> Row {
        Row { reason: at.error.to_string(), remedy: remedy(code).to_owned(), ..Row::at(&at.origin, code) }
    }

    fn json(&self) -> Value {
        json!({
            "node": self.node, "op": self.op, "opset": self.opset, "code": self.code, "reason": self.reason,
            "remedy": self.remedy,
        })
    }

    fn print(&self, before: &str, out: &mut dyn Write) -> std::io::Result<()> {
        let opset = self.opset.map_or_else(String::new, |opset| format!(", opset {opset}"));
        match (self.node.as_str(), self.op.as_str()) {
            ("", "") => writeln!(out, "\n{before}{}", self.reason)?,
            (node, "") => writeln!(out, "\n{before}node \"{node}\": {}", self.reason)?,
            (node, op) => writeln!(out, "\n{before}node \"{node}\" ({op}{opset}): {}", self.reason)?,
        }
        if !self.remedy.is_empty() {
            writeln!(out, "  remedy: {}", self.remedy)?;
        }
        writeln!(out, "  code: {}", self.code)
    }
}

#[cfg(test)]
mod tests {
    use ir::origin::Place;

    use super::*;

    #[test]
    fn every_problem_has_its_row() {
        let at = |name: &str, op| At {
            node: None,
            origin: Origin::place(Place { name: name.to_owned(), op: "TopK".to_owned(), ..Place::default() }),
            error: passes::PassError::NoLowering { op },
        };
        let rows = rows(Error::Passes { errors: vec![at("a", "topk"), at("b", "sort")], graph: None });
        assert_eq!(rows.iter().map(|row| row.node.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(rows.iter().all(|row| row.op == "TopK" && !row.remedy.is_empty()));
        let mut text = Vec::new();
        rows[0].print("", &mut text).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("node \"a\" (TopK): `topk` cannot be compiled yet"), "{text}");
    }
}
