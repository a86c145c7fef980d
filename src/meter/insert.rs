//! Where an event of ours can be put into a stream.

use super::release::Release;
use super::sse::Lines;
use super::{Kind, Meter};

impl Meter {
    /// Whether an event of ours can be put after the bytes that have left; what is held must be discarded first.
    pub(crate) fn between_events(&self) -> bool {
        let whole = |release: &Release| self.event.open && release.released() == self.event.at;
        match (self.kind, &self.release) {
            (Kind::Sse, Some(release)) if release.holds() => whole(release),
            (Kind::Sse, _) => self.tap.is_none() && self.lines.is_between(),
            _ => false,
        }
    }

    /// Whether a stream may be cut after the bytes that have left: in one that is compressed there is no such
    /// place, and so each is as good.
    pub(crate) fn may_be_cut(&self) -> bool {
        self.tap.is_some() || self.between_events()
    }

    /// Throws away the unfinished event that is held: it will never be finished.
    pub(crate) fn discard_held(&mut self) {
        if let Some(release) = &mut self.release
            && release.holds()
        {
            // Where the event's beginning has left, nothing can follow it as an event of its own.
            let is_whole = release.released() == self.event.at;
            release.discard();
            self.close();
            if is_whole {
                self.lines = Lines::new();
            }
        }
    }
}
