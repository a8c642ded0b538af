//! The file of weights beside a dump: contents by hash.
//!
//! All numbers are little-endian and 64 bits wide:
//!
//! ```text
//! "EGRAFTW1"  count  (hash[32] offset length)*  padding  data…
//! ```
//!
//! Entries are sorted by hash; each one's data starts at a multiple of 64 bytes from the start of the file. Reading
//! copies nothing and trusts nothing: places are checked when the file is opened, contents when they are asked for.
//!
//! Deliberately absent: names and types (the text has them), compression.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use crate::text::print_graph::{Form, form};
use crate::weight::{Bytes, Hash, Storage, Weight};

const MAGIC: [u8; 8] = *b"EGRAFTW1";
const ALIGN: usize = 64;
const HEAD: usize = 16;
const ENTRY: usize = 48;

/// Where a parser finds the contents of large weights.
pub trait WeightSource {
    /// The contents with this hash.
    fn find(&self, hash: &Hash) -> Option<Bytes>;
}

/// No stored weights: every one is written out in the text.
#[derive(Debug, Clone, Copy)]
pub struct NoWeights;

impl WeightSource for NoWeights {
    fn find(&self, _: &Hash) -> Option<Bytes> {
        None
    }
}

/// Does text name this weight by its hash alone, so that its contents must be stored?
pub fn is_stored(weight: &Weight) -> bool {
    form(weight) == Form::Data
}

/// Writes the file with the contents of `weights`, each once.
///
/// # Errors
/// Those of `out`.
pub fn write_weights(weights: &[Weight], out: &mut dyn Write) -> io::Result<()> {
    let contents: BTreeMap<Hash, &Weight> = weights.iter().map(|weight| (weight.hash(), weight)).collect();
    let number = |value: usize| (value as u64).to_le_bytes();
    out.write_all(&MAGIC)?;
    out.write_all(&number(contents.len()))?;
    let head = HEAD + ENTRY * contents.len();
    let mut end = head;
    for (hash, weight) in &contents {
        let start = end.next_multiple_of(ALIGN);
        end = start + weight.size();
        out.write_all(&hash.0)?;
        out.write_all(&number(start))?;
        out.write_all(&number(weight.size()))?;
    }
    let mut end = head;
    for weight in contents.values() {
        let start = end.next_multiple_of(ALIGN);
        out.write_all(&[0; ALIGN][..start - end])?;
        weight.for_each_piece(&mut |piece| out.write_all(piece))?;
        end = start + weight.size();
    }
    Ok(())
}

/// Why bytes are no file of weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightFileError {
    /// It starts with something else.
    #[error("this is no file of weights: it does not start with `EGRAFTW1`")]
    Magic,
    /// It ends before its list of entries does.
    #[error("the file of weights has {found} bytes, too few for its {count} entries")]
    Cut {
        /// Entries that it claims.
        count: u64,
        /// Bytes that it has.
        found: usize,
    },
    /// An entry points outside.
    #[error("the weight {hash} lies outside the file of weights")]
    Outside {
        /// Its hash.
        hash: Hash,
    },
}

/// An opened file of weights.
pub struct WeightFile {
    storage: Arc<dyn Storage>,
    places: BTreeMap<Hash, (usize, usize)>,
}

impl WeightFile {
    /// Reads the list of entries.
    ///
    /// # Errors
    /// What makes it no file of weights.
    pub fn open(storage: Arc<dyn Storage>) -> Result<WeightFile, WeightFileError> {
        let bytes = storage.bytes();
        if !bytes.starts_with(&MAGIC) {
            return Err(WeightFileError::Magic);
        }
        let number = |at: usize| {
            let word = bytes.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(word.try_into().expect("eight bytes were asked for")))
        };
        let cut = |count| WeightFileError::Cut { count, found: bytes.len() };
        let count = number(8).ok_or(cut(0))?;
        let fits = usize::try_from(count).ok().and_then(|n| n.checked_mul(ENTRY)?.checked_add(HEAD));
        if fits.is_none_or(|end| end > bytes.len()) {
            return Err(cut(count));
        }
        let mut places = BTreeMap::new();
        for entry in bytes[HEAD..HEAD + count as usize * ENTRY].chunks_exact(ENTRY) {
            let hash = Hash(entry[..32].try_into().expect("32 of 48 bytes"));
            let [start, len] = [32, 40].map(|at| {
                let word: [u8; 8] = entry[at..at + 8].try_into().expect("8 of 48 bytes");
                usize::try_from(u64::from_le_bytes(word)).unwrap_or(usize::MAX)
            });
            if start.checked_add(len).is_none_or(|end| end > bytes.len()) {
                return Err(WeightFileError::Outside { hash });
            }
            places.insert(hash, (start, len));
        }
        Ok(WeightFile { storage, places })
    }

    /// Number of different contents.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl WeightSource for WeightFile {
    /// Contents that do not have the hash that the file claims are not found.
    fn find(&self, hash: &Hash) -> Option<Bytes> {
        let &(start, len) = self.places.get(hash)?;
        Bytes::slice(self.storage.clone(), start, len).filter(|bytes| Hash::of(bytes.as_slice()) == *hash)
    }
}
