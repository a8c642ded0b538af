//! The face of errors: code, message, a look into the text, and the way out.
//!
//! The crates below say what is wrong and where; only this file knows how that is shown. Several problems are shown
//! as several. Everything goes to standard error; what a command was asked for goes to standard output.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use egraft::{Error, ErrorKind};
use ir::{At, Graph, Origin};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use runner::cli::CliError;

/// Exit code of a mismatch, a failed check, or a model with unsupported nodes.
pub const FAILED: u8 = 1;
/// Exit code of bad usage and bad input.
pub const BAD_INPUT: u8 = 2;
/// Exit code of a bug of ours.
pub const BUG: u8 = 70;

/// Width of reports, in columns.
const WIDTH: usize = 110;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// These problems, at least one.
    Problems {
        /// What is wrong.
        problems: Vec<Problem>,
        /// How the program ends.
        exit: u8,
    },
    /// Standard output can't be written to.
    Stdout(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Stdout(error)
    }
}

/// Something wrong, ready to be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The node of the model that it is about, if it is about one.
    pub node: Option<String>,
    /// The way out, and where in the model it is.
    pub help: Option<String>,
    /// A text to point into.
    pub text: Option<Excerpt>,
}

/// A text, and the bytes in it that a problem is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Excerpt {
    /// What the text is called.
    pub name: String,
    /// The text.
    pub text: String,
    /// Start, length, and what is to be said there.
    pub labels: Vec<(usize, usize, String)>,
}

impl Problem {
    /// A problem without a place.
    pub fn new(code: &'static str, message: impl fmt::Display, help: impl Into<String>) -> Problem {
        let help = help.into();
        let help = (!help.is_empty()).then_some(help);
        Problem { code, message: message.to_string(), node: None, help, text: None }
    }
}

impl Failure {
    /// Bad usage or bad input.
    pub(crate) fn bad_input(
        code: &'static str,
        message: impl fmt::Display,
        help: impl Into<String>,
    ) -> Failure {
        Failure::Problems { problems: vec![Problem::new(code, message, help)], exit: BAD_INPUT }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        match error {
            CliError::Stdout(error) => Failure::Stdout(error),
            error => {
                let exit = if error.exit_code() == runner::cli::BUG { BUG } else { BAD_INPUT };
                Failure::Problems { problems: vec![Problem::new(error.code(), &error, error.help())], exit }
            }
        }
    }
}

impl From<runtime::RunError> for Failure {
    fn from(error: runtime::RunError) -> Self {
        CliError::from(error).into()
    }
}

impl From<runner::files::FileError> for Failure {
    fn from(error: runner::files::FileError) -> Self {
        CliError::from(error).into()
    }
}

impl From<runner::library::LibraryError> for Failure {
    fn from(error: runner::library::LibraryError) -> Self {
        let help =
            "check the dtypes and shapes of the inputs; `--through jit` runs the model without a library";
        Failure::bad_input(error.code(), error, help)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Input => BAD_INPUT,
            ErrorKind::Unsupported => FAILED,
            ErrorKind::Bug => BUG,
        };
        Failure::Problems { problems: problems(error), exit }
    }
}

/// The problems that an error consists of.
pub(crate) fn problems(error: Error) -> Vec<Problem> {
    match error {
        #[cfg(feature = "onnx")]
        Error::Import { path, failure } => {
            let problem = |at: &At<onnx::ImportProblem>| Problem {
                code: at.error.code(),
                message: at.error.to_string(),
                node: node(&at.origin),
                help: help(&at.origin, at.error.help(), at.error.code(), Some(&path.display().to_string())),
                text: match &at.error {
                    onnx::ImportProblem::Node { excerpt, .. } => Some(of_import(&path, excerpt)),
                    _ => None,
                },
            };
            failure.problems().iter().map(problem).collect()
        }
        Error::Text { path, text, problems } => {
            let name = path.display().to_string();
            let problem = |problem: egraft::TextProblem| {
                let label = |range: std::ops::Range<usize>| (range.start, range.len(), "here".to_owned());
                let place = problem.at.map(|range| Excerpt {
                    name: name.clone(),
                    text: text.clone(),
                    labels: vec![label(range)],
                });
                let file = match place {
                    None => Some(name.as_str()),
                    Some(_) => None,
                };
                Problem {
                    code: problem.code,
                    message: problem.message,
                    node: None,
                    help: help(&Origin::none(), problem.help, problem.code, file),
                    text: place,
                }
            };
            problems.into_iter().map(problem).collect()
        }
        Error::Passes { errors, graph } => errors.iter().map(|at| of_pass(at, graph.as_deref())).collect(),
        error => {
            let help = error.help().map(str::to_owned).unwrap_or_default();
            vec![Problem::new(error.code(), &error, help)]
        }
    }
}

/// The neighbourhood of a node that could not be imported.
#[cfg(feature = "onnx")]
fn of_import(path: &std::path::Path, excerpt: &onnx::Excerpt) -> Excerpt {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let labels = excerpt.labels.iter().map(|(at, remark)| (at.start, at.len(), remark.clone()));
    Excerpt { name: format!("{file}, as IR"), text: excerpt.text.clone(), labels: labels.collect() }
}

fn of_pass(at: &At<passes::PassError>, graph: Option<&Graph>) -> Problem {
    let op = graph.zip(at.node).filter(|(graph, node)| holds(graph, *node, &at.origin));
    let name = op.and_then(|(graph, node)| graph.node(node).op()).map(|(op, _)| op.name);
    let message = match name {
        Some(name) => format!("{name}: {}", at.error),
        None => at.error.to_string(),
    };
    Problem {
        code: at.error.code(),
        message,
        node: node(&at.origin),
        help: help(&at.origin, None, at.error.code(), None),
        text: op.map(|(graph, node)| crate::neighbourhood::excerpt(graph, node)),
    }
}

/// The first node of an origin by its name.
fn node(origin: &Origin) -> Option<String> {
    origin.places().first().map(|place| place.name.clone()).filter(|name| !name.is_empty())
}

/// Whether the node that an error is about is this one: the pass may have changed the graph before it failed.
fn holds(graph: &Graph, node: ir::NodeId, origin: &Origin) -> bool {
    graph.order().contains(&node) && graph.node(node).origin == *origin
}

/// The way out, where the node is in the model, and where to read more.
fn help(origin: &Origin, way_out: Option<&str>, code: &str, file: Option<&str>) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(way_out.map(str::to_owned));
    let of_file = file.map(|file| format!(" of {file}")).unwrap_or_default();
    match origin.places() {
        [] => lines.extend(file.map(|file| format!("in {file}"))),
        places => {
            lines.extend(places.iter().take(4).map(|place| describe(place, &of_file)));
            if places.len() > 4 {
                lines.push(format!("and {} more nodes", places.len() - 4));
            }
        }
    }
    lines.push(format!("see `egraft explain {code}`"));
    Some(lines.join("\n"))
}

fn describe(place: &ir::origin::Place, of_file: &str) -> String {
    let mut text = match place.op.as_str() {
        "" => format!("this is node \"{}\"{of_file}", place.name),
        op => format!("this is node \"{}\" ({op}){of_file}", place.name),
    };
    if !place.module.is_empty() {
        text.push_str(&format!(", in module {}", place.module));
    }
    if !place.source.is_empty() {
        text.push_str(&format!(", from {}", place.source));
    }
    text
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// A problem as miette wants to see it.
#[derive(Debug)]
struct Shown {
    problem: Problem,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.problem.message))
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(printable(help)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = &self.problem.text.as_ref()?.labels;
        Some(Box::new(labels.iter().map(|(at, len, text)| LabeledSpan::new(Some(text.clone()), *at, *len))))
    }
}

/// Names in messages come from files: nothing in them may move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A problem as text, with colours or without.
pub(crate) fn render(problem: &Problem, colours: bool) -> String {
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_wrap_lines(false).with_links(false);
    let source = problem.text.as_ref().map(|text| NamedSource::new(&text.name, printable_text(&text.text)));
    let mut out = String::new();
    let shown = Shown { problem: problem.clone(), source };
    match handler.render_report(&mut out, &shown) {
        Ok(()) => out,
        // Spans that don't fit the text would be our bug; the message matters more.
        Err(_) => format!("{}: {}\n", problem.code, shown),
    }
}

/// As [`printable`], without changing where anything is.
fn printable_text(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') && c.is_ascii() { ' ' } else { c })
        .collect()
}

/// Shows a failure and says how the program ends. A reader that has gone away is no failure.
pub(crate) fn finish(failure: Failure) -> u8 {
    match failure {
        Failure::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Failure::Stdout(error) => show(&[of_stdout(&error)], BAD_INPUT),
        Failure::Problems { problems, exit } => show(&problems, exit),
    }
}

/// Standard output can't be written to.
pub(crate) fn of_stdout(error: &io::Error) -> Problem {
    Problem::new(
        "egraft::cli::stdout",
        format!("standard output cannot be written: {error}"),
        "check where it leads, and that there is room",
    )
}

fn show(problems: &[Problem], exit: u8) -> u8 {
    let stderr = io::stderr();
    let colours = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut err = stderr.lock();
    for problem in problems {
        // Nobody is left to tell if this fails.
        let _ = err.write_all(render(problem, colours).as_bytes());
    }
    if exit == BUG {
        let _ = writeln!(
            err,
            "bug: egraft {} did what it must not; please report this with the model",
            env!("CARGO_PKG_VERSION")
        );
    }
    exit
}

#[cfg(test)]
mod tests {
    use ir::origin::Place;

    use super::*;

    fn place() -> Origin {
        Origin::place(Place {
            name: "/conv1/Conv".to_owned(),
            op: "Conv".to_owned(),
            module: "encoder.conv1".to_owned(),
            source: "model.py:12".to_owned(),
        })
    }

    #[test]
    fn a_report_has_code_message_label_and_way_out() {
        let text = "graph {\n  %1 = conv2d %0\n}\n";
        let problem = Problem {
            code: "egraft::op::size",
            message: "conv2d: channels differ".to_owned(),
            node: None,
            help: help(&place(), None, "egraft::op::size", None),
            text: Some(Excerpt {
                name: "m.onnx, as IR".to_owned(),
                text: text.to_owned(),
                labels: vec![(15, 6, "64 channels".to_owned())],
            }),
        };
        let report = render(&problem, false);
        let parts = [
            "egraft::op::size",
            "conv2d: channels differ",
            "%1 = conv2d %0",
            "64 channels",
            "\"/conv1/Conv\" (Conv)",
            "encoder.conv1",
            "model.py:12",
            "egraft explain",
        ];
        for part in parts {
            assert!(report.contains(part), "{part} is missing:\n{report}");
        }
        assert!(!report.contains('\u{1b}'), "no colours were asked for");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let problem = Problem::new("egraft::x", "node \"\u{1b}[2Jevil\"", "\u{7}");
        assert!(!render(&problem, false).contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn several_problems_stay_several() {
        let at = |error| At { node: None, origin: place(), error };
        let errors = vec![
            at(passes::PassError::NoLowering { op: "sort" }),
            at(passes::PassError::NoLowering { op: "topk" }),
        ];
        let failure = Failure::from(Error::Passes { errors, graph: None });
        let Failure::Problems { problems, exit } = failure else { panic!("these are problems") };
        assert_eq!((problems.len(), exit), (2, FAILED));
    }
}
