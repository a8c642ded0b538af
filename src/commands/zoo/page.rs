//! `docs/zoo.md`: what the built-in models are, and what becomes of small ones.

use std::fs;
use std::io::Write;
use std::path::Path;

use egraft::summary::{Total, total_at};
use egraft::{Error, Options, Source, optimize, picture, source};
use passes::pipeline::State;
use zoo::Entry;

use crate::report::Failure;

/// The value of each size that a model leaves open.
const OPEN: i64 = 64;

/// The models of which there are pictures: one of each paper that they are made for.
const PICTURED: [&str; 11] = [
    "momentum-smoe",
    "acmoe",
    "camex",
    "molex",
    "elliptical",
    "rpc-attention",
    "attention-bn",
    "fare",
    "tsw-sl",
    "db-tsw",
    "stsw",
];

/// Prints the page, and writes its pictures to a folder.
pub(super) fn write(pictures: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "# Built-in models\n")?;
    writeln!(
        out,
        "Written by `egraft zoo list --markdown --pictures docs/zoo > docs/zoo.md`; don't edit by hand. `egraft zoo show NAME` lists\n\
         settings, inputs, outputs and weights; `zoo:NAME` stands for a model in every command. `tests/zoo.rs` compares models with\n\
         the golden cases of their papers, kernel by kernel with what is imported for these.\n"
    )?;
    writeln!(out, "| model | what it is | paper | what is verified | forms |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    for entry in zoo::ALL {
        let forms: Vec<String> = entry.forms.iter().map(|form| format!("`{}`", form.name)).collect();
        let cells = [entry.about, entry.paper, entry.status].map(|text| text.replace('|', "\\|"));
        writeln!(out, "| `{}` | {} | {} |", entry.name, cells.join(" | "), forms.join(", "))?;
    }
    costs(pictures, out)?;
    // Under this page's title it is a section.
    writeln!(out, "\n#{}", zoo::STUDY.trim_end())?;
    Ok(())
}

/// A row for each model; and the pictures.
fn costs(pictures: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "\n## What fusion saves\n\n\
         Of small models with {OPEN} for every size that is left open: launches of kernels, floating-point operations, and bytes that\n\
         kernels read or write, each array once a launch. On the left of an arrow each op is a kernel (`-O0`), on the right is what\n\
         runs by default. `egraft inspect zoo:NAME --set KEY=VALUE --kernels` lists the kernels. Pictures show the graph as it is\n\
         built, and the kernels as they are launched.\n"
    )?;
    writeln!(out, "| model | settings | kernels | Mflop | kB moved | pictures |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    if let Some(folder) = pictures {
        fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    }
    for entry in zoo::ALL {
        let name = entry.name;
        let settings: Vec<String> = entry.small.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let settings = if settings.is_empty() { String::new() } else { format!("`{}`", settings.join(" ")) };
        let graph = built(entry, 0)?.state;
        let [unfused, fused] = [compiled(entry, 0)?, compiled(entry, 2)?];
        let [before, after] = [&unfused, &fused].map(total);
        let mut links = Vec::new();
        if PICTURED.contains(&name) {
            for (which, state) in [("before", &graph), ("after", &fused)] {
                let file = format!("{name}-{which}.svg");
                links.push(format!("[{which}](zoo/{file})"));
                let Some(path) = pictures.map(|folder| folder.join(file)) else { continue };
                fs::write(&path, picture::svg(state)).map_err(|source| Error::Write { path, source })?;
            }
        }
        let [mflop, kb] = [
            [before.flops, after.flops].map(|flops| flops as f64 * 1e-6),
            [before.bytes, after.bytes].map(|bytes| bytes as f64 * 1e-3),
        ];
        writeln!(
            out,
            "| `{name}` | {settings} | {} → {} | {:.2} → {:.2} | {:.0} → {:.0} | {} |",
            before.launches,
            after.launches,
            mflop[0],
            mflop[1],
            kb[0],
            kb[1],
            links.join(", "),
        )?;
    }
    Ok(())
}

fn total(state: &State) -> Total {
    let State::Program(program) = state else { unreachable!("bug: a compiled model is a program") };
    total_at(program, &|_| Some(OPEN)).expect("bug: all sizes have values")
}

/// The small model at a level of optimisation, before machine code.
fn compiled(entry: &Entry, level: u8) -> Result<State, Error> {
    let options = options(entry, level);
    Ok(optimize(built(entry, level)?, &options, &mut ())?.state)
}

fn built(entry: &Entry, level: u8) -> Result<Source, Error> {
    source::build(entry.name, &options(entry, level))
}

fn options(entry: &Entry, level: u8) -> Options {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let settings = entry.small.iter().map(owned).collect();
    Options { level: Some(level), settings, ..Options::default() }
}
