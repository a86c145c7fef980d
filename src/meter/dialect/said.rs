//! What of that which stood where text stands was text, and what was a picture or sound.

use super::Document;

impl Document {
    /// The document has ended. What stood there as text may have been sound.
    pub(in crate::meter) fn settle(&mut self) {
        self.is_untyped = false;
        if self.is_sound() {
            self.text.take_back(self.text.bytes().saturating_sub(self.begun_at));
        }
    }

    fn is_sound(&self) -> bool {
        self.facts.kind.bytes().ends_with(b"audio.delta")
    }

    /// Bytes of text so far, without those of the present document that are sound, or may be.
    pub(in crate::meter) fn text_bytes(&self) -> u64 {
        let may_be_sound = self.is_untyped && self.facts.kind.bytes().is_empty();
        if may_be_sound || self.is_sound() { self.begun_at } else { self.text.bytes() }
    }

    /// Pictures in texts, but for those that stand in a place of their own as well.
    pub(in crate::meter) fn pictures_in_text(&self) -> u32 {
        match self.text.pictures() {
            0 => 0,
            all => {
                let known = self.text.prints().count() as u32;
                all - known.min(all) + self.pictures.without(self.text.prints())
            }
        }
    }
}
