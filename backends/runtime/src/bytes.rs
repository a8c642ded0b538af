//! Little-endian bytes: what plans and headers are written in, and how they are read back.
//!
//! Reading is total: it is bounds-checked, never panics, and never allocates more than a small
//! multiple of the bytes there are.

use crate::error::PlanError;

/// Appends a byte count or element count.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("bug: a list of more than 2^32 elements in a plan");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Appends a string: its length, then its UTF-8 bytes.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A position in bytes that are being read.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], PlanError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(PlanError::Truncated { at: self.bytes.len(), what })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], PlanError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, PlanError> {
        self.array(what).map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, PlanError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, PlanError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, PlanError> {
        self.array(what).map(i64::from_le_bytes)
    }

    pub(crate) fn string(&mut self, what: &'static str) -> Result<String, PlanError> {
        let len = self.u32(what)? as usize;
        let at = self.at;
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| PlanError::Utf8 { at })
    }

    /// A list: its length, then its elements, of which each takes a byte at least.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut element: impl FnMut(&mut Reader<'a>) -> Result<T, PlanError>,
    ) -> Result<Vec<T>, PlanError> {
        let count = self.u32(what)? as usize;
        if count > self.bytes.len() - self.at {
            return Err(PlanError::Truncated { at: self.bytes.len(), what });
        }
        // No `with_capacity`: the count is not trusted further than the elements read.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    pub(crate) fn end(&self) -> Result<(), PlanError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            count => Err(PlanError::Trailing { count }),
        }
    }
}
