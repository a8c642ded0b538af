//! Where a model's external data may lie: the rules, as functions of paths.
//!
//! A location in a model is a path relative to the model's folder. [`validate_location`] decides by the text
//! alone; [`resolve_external`] follows links. A link is followed only if its target lies below the model's
//! logical folder (the one in its path) or below the folder of the model's own resolved path. So the layout of
//! model hubs works, where `snapshots/<revision>/model.onnx` and its weights are links into `blobs/`, and an
//! escape does not.
//!
//! Deliberately absent: opening and mapping files; the caller does that, through [`crate::Files`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why external data can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The tensor names no file.
    #[error("it names no file: its `location` is empty or missing")]
    NoLocation,
    /// The path is absolute.
    #[error("the path `{location}` is absolute; it must be relative to the model's folder")]
    Absolute {
        /// The path.
        location: String,
    },
    /// The path holds what a portable path doesn't: a NUL, a backslash, a colon.
    #[error("the path `{location}` holds {character:?}, which no portable path does")]
    Character {
        /// The path.
        location: String,
        /// The first such character.
        character: char,
    },
    /// The path leaves the model's folder.
    #[error("the path `{location}` leaves the model's folder")]
    Escapes {
        /// The path.
        location: String,
    },
    /// The path names a folder: the model's own.
    #[error("the path `{location}` names a folder, not a file")]
    NotAFile {
        /// The path.
        location: String,
    },
    /// A link on the path leads outside.
    #[error(
        "the path `{location}` is a link to `{}`, outside of the model's folder and of the folder of the model's own \
         resolved path",
        target.display()
    )]
    LinkEscapes {
        /// The path.
        location: String,
        /// Where the link leads.
        target: PathBuf,
    },
    /// The system refuses.
    #[error("`{location}` can't be read: {message}")]
    Io {
        /// The path.
        location: String,
        /// What the system says.
        message: String,
    },
    /// The range of bytes leaves the file.
    #[error("`{location}` has {size} bytes, but the tensor lies at {offset} and takes {length}")]
    Range {
        /// The path.
        location: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Size of the file.
        size: u64,
    },
    /// The model was given without a folder around it.
    #[error("`{location}` can't be read: the model was given as bytes, without a folder")]
    NoFolder {
        /// The path.
        location: String,
    },
}

impl FileError {
    /// The system's error about `location`.
    pub fn io(location: &str, error: &io::Error) -> FileError {
        FileError::Io { location: location.to_owned(), message: error.to_string() }
    }

    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            FileError::NoLocation
            | FileError::Absolute { .. }
            | FileError::Character { .. }
            | FileError::Escapes { .. }
            | FileError::LinkEscapes { .. } => "egraft::onnx::external_path",
            FileError::NotAFile { .. } | FileError::Io { .. } | FileError::NoFolder { .. } => {
                "egraft::onnx::external_file"
            }
            FileError::Range { .. } => "egraft::onnx::external_range",
        }
    }
}

/// `location` as a relative path without `.` and `..`, if it stays inside the model's folder by its text.
///
/// `data/../w.bin` is `w.bin`. Backslashes and colons are refused on every system, so that what is safe on one is
/// safe on all.
///
/// # Errors
/// [`FileError::NoLocation`], [`FileError::Absolute`], [`FileError::Character`], [`FileError::Escapes`],
/// [`FileError::NotAFile`].
pub fn validate_location(location: &str) -> Result<PathBuf, FileError> {
    let named = || location.to_owned();
    if location.is_empty() {
        return Err(FileError::NoLocation);
    }
    if location.starts_with('/') {
        return Err(FileError::Absolute { location: named() });
    }
    if let Some(character) = location.chars().find(|c| matches!(c, '\0' | '\\' | ':')) {
        return Err(FileError::Character { location: named(), character });
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in location.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| FileError::Escapes { location: named() })?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() || location.ends_with('/') {
        return Err(FileError::NotAFile { location: named() });
    }
    Ok(parts.iter().collect())
}

/// The file, without links, that `location` in the model at `model` names.
///
/// # Errors
/// Those of [`validate_location`]; [`FileError::LinkEscapes`]; [`FileError::Io`] for what does not exist;
/// [`FileError::NotAFile`] for folders and devices.
pub fn resolve_external(model: &Path, location: &str) -> Result<PathBuf, FileError> {
    let relative = validate_location(location)?;
    let io = |error: io::Error| FileError::io(location, &error);
    let folder = match model.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let target = fs::canonicalize(folder.join(&relative)).map_err(io)?;
    let logical = fs::canonicalize(folder).map_err(io)?;
    let resolved = fs::canonicalize(model).map_err(io)?;
    let inside =
        target.starts_with(&logical) || resolved.parent().is_some_and(|home| target.starts_with(home));
    if !inside {
        return Err(FileError::LinkEscapes { location: location.to_owned(), target });
    }
    if !fs::metadata(&target).map_err(io)?.is_file() {
        return Err(FileError::NotAFile { location: location.to_owned() });
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_inside_are_normalised() {
        for (location, expected) in [
            ("w.bin", "w.bin"),
            ("./w.bin", "w.bin"),
            ("data//w.bin", "data/w.bin"),
            ("data/../w.bin", "w.bin"),
            ("a/b/../../c/./w.bin", "c/w.bin"),
            ("..w.bin", "..w.bin"),
            ("größe der Daten.bin", "größe der Daten.bin"),
        ] {
            assert_eq!(validate_location(location), Ok(PathBuf::from(expected)), "{location}");
        }
    }

    #[test]
    fn locations_outside_are_refused() {
        let escapes = |location: &str| FileError::Escapes { location: location.to_owned() };
        for location in ["..", "../w.bin", "data/../../w.bin", "a/../../a/w.bin"] {
            assert_eq!(validate_location(location), Err(escapes(location)));
        }
        let absolute = |location: &str| FileError::Absolute { location: location.to_owned() };
        for location in ["/w.bin", "//host/share/w.bin", "/"] {
            assert_eq!(validate_location(location), Err(absolute(location)));
        }
        for (location, character) in
            [("C:w.bin", ':'), ("..\\w.bin", '\\'), ("w.bin\0.txt", '\0'), ("w:stream", ':')]
        {
            assert_eq!(
                validate_location(location),
                Err(FileError::Character { location: location.to_owned(), character })
            );
        }
        assert_eq!(validate_location(""), Err(FileError::NoLocation));
        for location in [".", "data/", "data/.."] {
            assert_eq!(
                validate_location(location),
                Err(FileError::NotAFile { location: location.to_owned() })
            );
        }
    }
}
