//! The stages of a compilation as numbered files in a folder: listing it is reading the compiler.
//!
//! `00-import.ir` is what the compilation starts with; every pass that changes something adds a file called after
//! it; `NN-emit.clif` is the last. Weights lie in `weights.bin` beside them, each once. Each file says on top what
//! its pass does and which model it is of; a compilation can start from any `.ir`, `.kir` and `.prog` of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ir::Weight;
use ir::weight::Hash;
use passes::pipeline::{Observer, State};
use passes::{About, Changed};

use crate::compile::EMIT;
use crate::error::Error;
use crate::output;
use crate::provenance::Provenance;
use crate::source::Source;
use crate::weights_file;

/// What the first file is called after.
pub(crate) const IMPORT: &str = "import";

/// Writes the stages of one compilation, as an observer of it.
pub struct Dump {
    folder: PathBuf,
    target: cranelift::Target,
    /// What every file says on top.
    from: Provenance,
    files: usize,
    weights: BTreeMap<Hash, Weight>,
    failed: Option<Error>,
}

impl Dump {
    /// Prepares the folder, and writes what the compilation of `source` starts with. Files of a former dump are
    /// removed.
    ///
    /// # Errors
    /// [`Error::NotADump`] for a folder that holds anything else, [`Error::Write`].
    pub fn create(folder: &Path, source: &Source, target: cranelift::Target) -> Result<Dump, Error> {
        clear(folder)?;
        let mut dump = Dump {
            folder: folder.to_owned(),
            target,
            from: source.provenance.clone(),
            files: 0,
            weights: BTreeMap::new(),
            failed: None,
        };
        dump.write(About::new(IMPORT, "what the compilation starts with"), &source.state)?;
        Ok(dump)
    }

    fn write(&mut self, about: About, state: &State) -> Result<(), Error> {
        let (extension, text) = match state {
            State::Program(program) if about == EMIT => ("clif", cranelift::clif(program, &self.target)?),
            State::Program(program) => (state.extension(), program.to_string()),
            State::Graph(graph) => (state.extension(), graph.to_string()),
        };
        self.weights.extend(weights_file::stored(state));
        let name = format!("{:02}-{}.{extension}", self.files, about.name);
        let content = format!("; {name}: {}\n{}{text}", about.summary, self.from.to_line());
        output::write(&self.folder.join(name), content.as_bytes())?;
        self.files += 1;
        Ok(())
    }

    /// Writes the weights. To be called when the compilation is over, also if it failed.
    ///
    /// # Errors
    /// What went wrong first in writing any of the files.
    pub fn finish(self) -> Result<(), Error> {
        match self.failed {
            Some(error) => Err(error),
            None => weights_file::write(&self.folder, &self.weights),
        }
    }
}

impl Observer for Dump {
    fn after(&mut self, pass: About, state: &State, changed: Changed) {
        self.from.advance(pass.name);
        if changed.0
            && self.failed.is_none()
            && let Err(error) = self.write(pass, state)
        {
            self.failed = Some(error);
        }
    }
}

/// Makes the folder, or empties it of a former dump.
fn clear(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: folder.to_owned(), source };
    if !folder.exists() {
        return fs::create_dir(folder).map_err(failed);
    }
    let mut old = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_dump(&name) || !entry.file_type().map_err(failed)?.is_file() {
            return Err(Error::NotADump { folder: folder.to_owned(), file: name });
        }
        old.push(entry.path());
    }
    old.into_iter().try_for_each(|path| fs::remove_file(path).map_err(failed))
}

/// Whether a file may be one of ours, by its name.
fn is_dump(name: &str) -> bool {
    if name == weights_file::NAME {
        return true;
    }
    let Some((number, rest)) = name.split_once('-') else { return false };
    let Some((pass, extension)) = rest.rsplit_once('.') else { return false };
    number.len() >= 2
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && pass.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && matches!(extension, "ir" | "kir" | "prog" | "clif")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::with_folder;

    #[test]
    fn only_dumps_are_removed() {
        for name in ["00-import.ir", "12-to_loops.kir", "115-emit.clif", "weights.bin"] {
            assert!(is_dump(name), "{name}");
        }
        for name in
            ["import.ir", "0-import.ir", "00-import.txt", "00-Import.ir", "xx-import.ir", "model.onnx"]
        {
            assert!(!is_dump(name), "{name}");
        }
    }

    #[test]
    fn a_folder_with_anything_else_is_left_alone() {
        with_folder(|folder| {
            fs::write(folder.join("00-import.ir"), "x").expect("writable");
            fs::write(folder.join("notes.txt"), "x").expect("writable");
            assert_eq!(clear(folder).expect_err("notes are no dump").code(), "egraft::cli::not_a_dump");
            assert!(folder.join("00-import.ir").exists());
            fs::remove_file(folder.join("notes.txt")).expect("it was there");
            clear(folder)?;
            assert_eq!(fs::read_dir(folder).expect("it is there").count(), 0);
            clear(&folder.join("new"))?;
            assert!(folder.join("new").is_dir());
            Ok(())
        })
        .expect("the folder is writable");
    }
}
