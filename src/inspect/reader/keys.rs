//! What a key means where it stands, in whichever letters it is written.

use super::Reader;
use crate::inspect::key_spelling::{Spelt, is_plain};
use crate::inspect::name::{KEPT, Name};
use crate::inspect::splice::Options;
use crate::inspect::{Api, Invalid};

impl Reader<'_> {
    pub(super) fn key_ended(&mut self, raw: &[u8], depth: usize) {
        let inside = depth == 2 && matches!(self.names[1], Name::StreamOptions | Name::Options);
        let name = match depth {
            1 => self.root_name(raw),
            _ if inside => self.inner_name(raw),
            _ => Name::of_raw(raw),
        };
        self.names[depth] = name;
        if let Err(invalid) = self.ids.key(&self.names, raw, depth) {
            self.invalid = Some(invalid);
        }
        if inside && let Options::Object { empty, .. } = &mut self.facts.places.options {
            *empty &= self.names[1] != Name::StreamOptions;
        }
        let seen = match depth {
            1 if name.decides() => &mut self.seen,
            2 if self.names[2].decides_in(self.names[1]) => &mut self.seen_inside,
            _ => return,
        };
        if *seen & name.bit() != 0 && self.invalid.is_none() {
            self.invalid = name.single().map(Invalid::Duplicate);
        }
        *seen |= name.bit();
    }

    /// What a key of the root means. One that decides elsewhere is here one of those that only pass.
    fn root_name(&mut self, raw: &[u8]) -> Name {
        let known = self.known;
        let here = |name: Name| {
            if !name.decides() || known & name.bit() != 0 { name } else { Name::Other }
        };
        if is_plain(raw) {
            self.is_spoken = self.api == Api::Speech && raw == b"input";
            self.refusable.find(raw, &mut self.facts.refusable);
            return here(Name::of(raw));
        }
        self.is_spoken = false;
        let Some(Spelt { text, folded }) = self.spelt(raw) else { return Name::Other };
        self.is_spoken = self.api == Api::Speech && folded == "input";
        self.refusable.find(folded.as_bytes(), &mut self.facts.refusable);
        let name = here(Name::of(folded.as_bytes()));
        if text != folded && name.decides() {
            self.invalid = name.single().map(Invalid::Spelling);
        }
        name
    }

    /// What a key means in an object of the root in which some decide.
    fn inner_name(&mut self, raw: &[u8]) -> Name {
        if is_plain(raw) {
            return Name::of(raw);
        }
        let Some(Spelt { text, folded }) = self.spelt(raw) else { return Name::Other };
        let name = Name::of(folded.as_bytes());
        if text != folded && name.decides_in(self.names[1]) {
            self.invalid = name.single().map(Invalid::Spelling);
        }
        name
    }

    fn spelt(&mut self, raw: &[u8]) -> Option<Spelt> {
        if raw.len() > KEPT {
            return None;
        }
        let spelt = Spelt::of(raw);
        if spelt.is_none() {
            self.invalid = Some(Invalid::KeyNotUnicode);
        }
        spelt
    }
}
