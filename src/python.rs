//! The Python whose packages are used.

use std::env;
use std::path::PathBuf;

/// The one that is given, else $EGRAFT_PYTHON, else `python3`.
pub(crate) fn python(given: Option<PathBuf>) -> PathBuf {
    let stated = || env::var_os("EGRAFT_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
    given.or_else(stated).unwrap_or_else(|| PathBuf::from("python3"))
}
