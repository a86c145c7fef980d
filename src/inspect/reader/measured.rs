//! What a string is that a model may read: text, an image, or another file. What decides is where it
//! stands, because the rest a tenant can write as it likes.

use super::super::media;
use super::super::name::Name;
use super::Reader;

impl Reader<'_> {
    /// A string the model may read ended, of so many bytes: it is text, an image, or other media.
    pub(super) fn measured(&mut self, depth: usize, length: u64, head: &[u8]) {
        let (name, parent) = (self.names[depth], self.names[depth - 1]);
        self.prompts += u64::from(depth <= 2 && name == Name::Input);
        match (depth, name) {
            (1, Name::Size) => return self.facts.picture.set_size(head),
            (1, Name::Quality) => return self.facts.picture.set_quality(head),
            _ => {}
        }
        let is_media = match name {
            Name::Image | Name::ImageUrl | Name::Url | Name::FileData | Name::Data => {
                self.may_be_media(depth) && self.medium(name, parent, length, head)
            }
            Name::Type => {
                // Any other word, and another spelling of these, may be text to somebody.
                let is_known = matches!(head, b"base64" | b"url" | b"file" | b"content");
                self.is_source_text |= parent == Name::Source && !is_known;
                false
            }
            _ => false,
        };
        if self.is_spoken {
            self.facts.spoken_bytes += length;
        }
        let bytes = if is_media { &mut self.facts.media_bytes } else { &mut self.facts.text_bytes };
        *bytes += length;
    }

    /// Whether a file may stand here: not in tools and schemas, nor in what a tool is called with.
    fn may_be_media(&self, depth: usize) -> bool {
        // An item of the root's list stands under the name of that.
        let inside = self.names.get(3..depth).unwrap_or_default();
        let is_call = inside.iter().any(|name| matches!(name, Name::Arguments | Name::Input));
        self.names[1].takes_media() && !is_call
    }

    /// Counts an image, a file or audio, and says whether its bytes are here; an address is text.
    fn medium(&mut self, name: Name, parent: Name, length: u64, head: &[u8]) -> bool {
        let base64 = media::data_url(head);
        let begin = base64.unwrap_or_default();
        let bytes = length - begin as u64;
        match (name, parent) {
            (Name::Data, Name::InputAudio) => {
                self.facts.add_audio(media::base64_audio_ms(&head[begin..], bytes));
            }
            (Name::Data, Name::Source) => {
                self.source_bytes += length;
                if media::is_pdf(head) {
                    self.facts.media_tokens += media::file_tokens(bytes);
                } else {
                    self.facts.add_image();
                }
            }
            (Name::Data, _) => return false,
            (Name::Image, _) => self.facts.add_image(),
            (Name::ImageUrl, _) | (Name::Url, Name::ImageUrl) => {
                self.facts.add_image();
                return base64.is_some();
            }
            (Name::Url, Name::Source) => {
                self.facts.add_image();
                return false;
            }
            (Name::Url, _) if base64.is_none() => return false,
            _ => self.facts.media_tokens += media::file_tokens(bytes),
        }
        true
    }
}
