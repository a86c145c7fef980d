//! Where an event of ours can be put into a stream.

use super::outlet::Outlet;
use super::sse::Lines;
use super::{Kind, Meter};

impl Meter {
    /// Whether an event of ours can be put after the bytes that have left; what is held must be discarded first.
    pub(crate) fn between_events(&self) -> bool {
        let whole = |outlet: &Outlet| self.event.open && outlet.released() == self.event.at;
        match (self.kind, &self.outlet) {
            (Kind::Sse, Some(outlet)) if outlet.holds() => whole(outlet),
            (Kind::Sse, _) => self.tap.is_none() && self.lines.is_between(),
            _ => false,
        }
    }

    /// Throws away the unfinished event that is held: it will never be finished.
    pub(crate) fn discard_held(&mut self) {
        if let Some(outlet) = &mut self.outlet
            && outlet.holds()
        {
            // Where the event's beginning has left, nothing can follow it as an event of its own.
            let is_whole = outlet.released() == self.event.at;
            outlet.discard();
            self.close();
            if is_whole {
                self.lines = Lines::new();
            }
        }
    }
}
