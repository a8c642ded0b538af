//! What NVRTC has made before: a folder with a file for each source, architecture and version.
//!
//! A file holds the hash of its content, then the content: one that is damaged is as good as none. Whatever cannot be read
//! or written is compiled again, so results never depend on the folder.

use std::env;
use std::fs;
use std::path::PathBuf;

use ir::weight::Hash;

use crate::output;

/// The folder, if there is one.
pub(super) struct Cache(Option<PathBuf>);

/// Where something is kept, or would be.
pub(super) struct Entry(Option<PathBuf>);

/// Bytes of a hash.
const HASH: usize = 32;

impl Cache {
    /// The folder that $EGRAFT_CACHE names, or that of the user; none if the variable is empty.
    pub(super) fn of_user() -> Cache {
        let named = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let of_user = || {
            let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
            Some(caches.join("egraft"))
        };
        Cache(if env::var_os("EGRAFT_CACHE").is_some() { named("EGRAFT_CACHE") } else { of_user() })
    }

    /// The place for what all these texts decide.
    pub(super) fn entry(&self, texts: &[&str]) -> Entry {
        let told_apart = texts.iter().map(|text| format!("{} {text}", text.len())).collect::<String>();
        let name = Hash::of(told_apart.as_bytes()).to_string();
        Entry(self.0.as_ref().map(|folder| folder.join(name)))
    }
}

impl Entry {
    /// What is kept there, if it is whole.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.0.as_ref()?).ok()?;
        let content = bytes.split_off(HASH.min(bytes.len()));
        (bytes == Hash::of(&content).0).then_some(content)
    }

    /// Keeps this, if the system lets us.
    pub(super) fn write(&self, content: &[u8]) {
        let Some(path) = &self.0 else { return };
        let bytes = [&Hash::of(content).0, content].concat();
        if fs::create_dir_all(output::folder_of(path)).is_ok() {
            // Who cannot keep it compiles it again.
            let _ = output::write(path, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_found_again() {
        output::with_folder(|folder| {
            let cache = Cache(Some(folder.join("new")));
            let entry = cache.entry(&["13.0", "text"]);
            assert_eq!(entry.read(), None);
            entry.write(b"code");
            assert_eq!(entry.read().as_deref(), Some(&b"code"[..]));
            assert_eq!(cache.entry(&["13.0t", "ext"]).read(), None, "texts are told apart");
            let path = entry.0.as_ref().expect("it has a place");
            for damaged in [&b""[..], b"code", &[0; 40]] {
                fs::write(path, damaged).expect("writable");
                assert_eq!(entry.read(), None);
            }
            fs::remove_dir_all(folder.join("new")).expect("writable");
            Ok(())
        })
        .expect("there is room");
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let entry = Cache(None).entry(&["text"]);
        entry.write(b"code");
        assert_eq!(entry.read(), None);
    }
}
