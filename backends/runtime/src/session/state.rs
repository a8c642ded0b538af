//! What is kept from run to run, by one session or by several of one model that go on from each other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{Span, memory_size};
use crate::{
    device::{Queue, Region},
    error::RunError,
};

/// A session's view of the state: where it was when the session was bound.
#[derive(Default)]
pub(super) struct State {
    shared: Arc<Mutex<Kept>>,
    view: Option<View>,
}

#[derive(Clone, Copy)]
struct View {
    memory: Span,
    made: u64,
}

/// State buffers and whether they hold anything.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Region,
    /// First byte and length of each buffer.
    places: Vec<(i64, i64)>,
    /// Whether a run has seen it since it was zero.
    used: bool,
    /// How often its memory was made.
    made: u64,
}

impl State {
    /// A state whose memory comes from this queue, if there is one.
    pub(super) fn new(queue: Option<&Arc<dyn Queue>>) -> State {
        let kept = Kept { bytes: Region::none(queue), ..Kept::default() };
        State { shared: Arc::new(Mutex::new(kept)), view: None }
    }

    /// That of another session, which both may change.
    pub(super) fn shared(&self) -> State {
        State { shared: Arc::clone(&self.shared), view: None }
    }

    /// The state itself, for nobody else meanwhile.
    pub(super) fn handle(&self) -> Arc<Mutex<Kept>> {
        Arc::clone(&self.shared)
    }

    /// The memory as this session sees it.
    pub(super) fn span(&self) -> Span {
        self.view.map_or(Span::without_pointer(0), |view| view.memory)
    }

    /// Whether the memory is the one that this session sees.
    pub(super) fn is_current(&self, kept: &Kept) -> bool {
        self.view.is_some_and(|view| view.made == kept.made)
    }

    /// Makes room for buffers at these places; what is there stays as it is.
    pub(super) fn lay_out(&mut self, places: Vec<(i64, i64)>) -> Result<(), RunError> {
        self.view = None;
        let mut kept = lock(&self.shared);
        if places != kept.places {
            if kept.used {
                return Err(RunError::State);
            }
            let end = places.iter().map(|(offset, bytes)| offset + bytes).max().unwrap_or(0);
            kept.bytes.reserve(memory_size(end, "the state")?, "the state")?;
            kept.bytes.clear()?;
            (kept.places, kept.used, kept.made) = (places, false, kept.made + 1);
        }
        self.view = Some(kept.view());
        Ok(())
    }

    /// Makes it zero.
    pub(super) fn reset(&mut self) {
        let mut kept = lock(&self.shared);
        // A device that fails here has failed for good: the next run tells.
        let _ = kept.bytes.clear();
        kept.used = false;
    }
}

impl Kept {
    fn view(&self) -> View {
        let memory = Span { start: self.bytes.start(), room: self.bytes.len() };
        View { memory, made: self.made }
    }

    /// A run may change it from now on.
    pub(super) fn begin(&mut self) {
        self.used = self.places.iter().any(|(_, bytes)| *bytes > 0);
    }

    /// Its memory.
    pub(super) fn memory(&mut self) -> &mut Region {
        &mut self.bytes
    }
}

/// The state. A run that panicked has left it half changed, as one that failed does.
pub(super) fn lock(shared: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
