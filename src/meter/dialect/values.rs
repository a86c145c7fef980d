//! What a value means that begins in a container of a known kind.

use super::{Document, Reading};
use crate::json::Token;
use crate::meter::facts::{CHOICES_LIMIT, Choice, Loose, Member, Slot};
use crate::meter::keys::{Key, Place};

impl Document {
    /// A value begins in a container that matters.
    pub(super) fn value(&mut self, container: Place, token: Token, depth: usize, at: u64) {
        match container {
            Place::Root => self.root_value(token, depth, at),
            Place::Groq | Place::Start | Place::Response => {
                let slot = match container {
                    Place::Groq => Slot::Groq,
                    Place::Start => Slot::Message,
                    _ => Slot::Response,
                };
                match (self.key, token) {
                    (Key::Usage, Token::Object) => self.captures.begin(slot, depth, at),
                    (Key::Model, Token::String) => self.read_model(at),
                    (Key::Error, _) => self.error(token),
                    (Key::Id, Token::String) if self.event && container == Place::Response => {
                        self.read_id();
                    }
                    _ => {}
                }
            }
            Place::Choices => self.choice(token),
            Place::Choice => self.choice_value(token, depth, at),
            Place::Delta if (self.key, token) == (Key::FinishReason, Token::String) => {
                self.read_word(Reading::Finish);
            }
            Place::Delta | Place::Message => {
                match (self.key, token, self.facts.choice.len().checked_sub(1)) {
                    (Key::Usage, Token::Object, Some(choice)) => {
                        self.captures.begin(Slot::Choice(choice), depth, at);
                    }
                    _ => self.said(token),
                }
            }
            Place::Answer | Place::Items => self.said(token),
            // An empty list of errors is none.
            Place::Detail => self.facts.signs.detail |= token != Token::Null,
            Place::Error => match token {
                Token::Null => {}
                Token::String => self.reading = Reading::Error,
                _ => self.facts.error = true,
            },
            Place::Item | Place::RepeatedItem => self.item_value(container, token),
            Place::Link => self.link(token),
            Place::Pictures | Place::Pictured => self.picture(token),
            Place::ToolUsage => {
                if let (Key::ImageGen, Token::Object) = (self.key, token) {
                    self.captures.begin(Slot::ImageTool, depth, at);
                }
            }
            Place::BaseResp => {
                if let (Key::StatusCode, Token::Number | Token::String) = (self.key, token) {
                    self.reading = Reading::Status;
                }
            }
            Place::Listed => {
                if self.key == Key::Error {
                    self.error(token);
                }
            }
            Place::List | Place::Repeated | Place::Usage | Place::Elsewhere => {}
        }
    }

    fn root_value(&mut self, token: Token, depth: usize, at: u64) {
        match (self.key, token) {
            (Key::Usage, _) => {
                let found = match token {
                    Token::Object => Member::Proper,
                    Token::Null => Member::Null,
                    _ => Member::Odd,
                };
                self.facts.usage = self.facts.usage.and(found);
                self.facts.usage_key_at = self.key_at;
                if token == Token::Object {
                    self.captures.begin(Slot::Top, depth, at);
                }
            }
            (Key::Svg, Token::Object) => self.captures.begin(Slot::Svg, depth, at),
            (Key::Timings, Token::Object) => self.captures.begin(Slot::Timings, depth, at),
            (Key::Metadata, Token::Object) => self.captures.begin(Slot::Metadata, depth, at),
            (Key::Choices, _) => {
                self.facts.shell = true;
                let found = match token {
                    Token::Array => Member::Proper,
                    Token::Null => Member::Null,
                    _ => Member::Odd,
                };
                self.facts.choices = self.facts.choices.and(found);
            }
            (Key::Error, _) => self.error(token),
            (Key::Model, Token::String) => self.read_model(at),
            (Key::Type, Token::String) => {
                self.facts.kind.clear();
                self.reading = Reading::Kind;
            }
            (Key::Moderation, token) => self.facts.moderation |= token != Token::Null,
            // An event's own is no response's.
            (Key::Id, Token::String) if !self.event => self.read_id(),
            (Key::Status, Token::String | Token::Number) => self.read_word(Reading::Pending),
            (Key::Envelope | Key::Label | Key::Id | Key::Status, _) => {}
            (Key::Groq, Token::Object) => {}
            (Key::Delta, Token::String) => {
                self.is_untyped = true;
                self.said(token);
            }
            (Key::Audio, Token::String) => self.facts.answered = true,
            (Key::Image, Token::String) => self.picture(token),
            // The events of the Responses API repeat in the end what their deltas said.
            (Key::Url, Token::String) => self.reading = Reading::Address,
            (Key::Text | Key::Reasoning, Token::String) if !self.event => self.said(token),
            (Key::Content | Key::Output | Key::Data, Token::Array)
            | (Key::Response | Key::Message, Token::Object) => self.facts.shell = true,
            (Key::Object, Token::String) => self.read_word(Reading::Object),
            (Key::PromptEvalCount, _) => self.read_loose(Loose::PromptEvalCount, token),
            (Key::EvalCount, _) => self.read_loose(Loose::EvalCount, token),
            (Key::Duration, _) => self.read_loose(Loose::Duration, token),
            (Key::Success, token) => self.facts.error |= token == Token::False,
            (Key::Code, Token::Number | Token::String) => self.read_word(Reading::Code),
            (Key::Message | Key::Note, Token::String) => self.reading = Reading::Note,
            (Key::Detail, Token::String) => self.reading = Reading::Detail,
            (Key::Detail, Token::Array | Token::Object) => self.facts.extra = true,
            (Key::ErrorCode, Token::Number | Token::String) => self.read_word(Reading::ErrorCode),
            (_, Token::String) => self.reading = Reading::Extra,
            (_, token) => self.facts.extra |= token != Token::Null,
        }
    }

    /// A value whose text is compared once it has ended.
    pub(super) fn read_word(&mut self, reading: Reading) {
        self.word.clear();
        self.reading = reading;
    }

    fn read_loose(&mut self, loose: Loose, token: Token) {
        if let Token::Number | Token::String = token {
            self.read_word(Reading::Loose(loose));
        }
    }

    fn choice(&mut self, token: Token) {
        self.facts.answered = true;
        if self.facts.choice.len() == CHOICES_LIMIT {
            self.facts.more_choices = true;
            return;
        }
        let empty = token == Token::Object;
        self.facts.choice.push(Choice { index: 0, finished: false, empty });
    }

    fn choice_value(&mut self, token: Token, depth: usize, at: u64) {
        if self.facts.more_choices {
            return;
        }
        match (self.key, token) {
            (_, Token::Null) | (Key::Delta | Key::Message, Token::Object) => {}
            (Key::Index, Token::Number) => self.reading = Reading::Index,
            // OpenRouter's: what broke an answer off stands in its choice.
            (Key::Error, _) => {
                if token != Token::String {
                    self.fill();
                }
                self.error(token);
            }
            (Key::FinishReason, Token::String) => self.read_word(Reading::Finish),
            (Key::Usage, Token::Object) => {
                let choice = self.facts.choice.len().saturating_sub(1);
                self.captures.begin(Slot::Choice(choice), depth, at);
            }
            (Key::Text | Key::Reasoning, Token::String) => {
                self.text.begin();
                self.reading = Reading::Text;
            }
            (_, Token::String) => self.reading = Reading::Filled,
            _ => self.fill(),
        }
    }

    /// A value in what the model said. What is empty says nothing.
    fn said(&mut self, token: Token) {
        self.facts.answered = true;
        match (self.key, token) {
            (Key::Content | Key::Text | Key::Delta, Token::String) => {
                self.text.begin();
                self.reading = Reading::Text;
            }
            (Key::Reasoning, Token::String) => {
                self.text.begin();
                self.text_from = self.text.bytes();
                self.reading = Reading::Reasoning;
            }
            (Key::Image, Token::String) => self.reading = Reading::Image { any: false },
            (Key::ImageUrl, Token::String) => self.begin_picture(Reading::Picture),
            (Key::Other | Key::ContainerId, Token::String) => self.reading = Reading::Strange,
            (_, Token::String) => self.reading = Reading::Filled,
            (Key::Aside, Token::Object | Token::Array)
            | (_, Token::Number | Token::True | Token::False) => self.fill(),
            _ => {}
        }
    }

    /// The present choice has finished, if a reason stands there: some write an empty one, or the word.
    pub(super) fn finish(&mut self) {
        if matches!(self.word.bytes(), b"" | b"null") && !self.word.is_long() {
            return;
        }
        self.facts.error |= is_failure(self.word.bytes());
        self.facts.finished = true;
        if let Some(choice) = self.facts.choice.last_mut() {
            (choice.finished, choice.empty) = (true, false);
        }
    }

    /// The present choice says something.
    pub(super) fn fill(&mut self) {
        if let Some(choice) = self.facts.choice.last_mut() {
            choice.empty = false;
        }
    }

    /// A value in an item of the Responses API.
    fn item_value(&mut self, container: Place, token: Token) {
        match (self.key, token) {
            (Key::Type, Token::String) => self.read_word(Reading::ItemType),
            (Key::Id, Token::String) => {
                self.facts.answered |= container == Place::Item;
                self.read_id();
            }
            // Of what the item was made in, which was made for it.
            (Key::ContainerId, Token::String) => self.read_id(),
            (Key::Result, Token::String) => self.begin_picture(Reading::Result),
            _ if container == Place::Item => self.said(token),
            _ => {}
        }
    }

    /// A value in an object that says where a picture is.
    fn link(&mut self, token: Token) {
        if let (Key::Url, Token::String) = (self.key, token) {
            self.begin_picture(Reading::Picture);
        }
    }

    fn begin_picture(&mut self, reading: Reading) {
        self.pictures.begin();
        self.reading = reading;
    }

    /// A picture that a stream may say again.
    pub(super) fn count(&mut self, print: Option<u64>) {
        if print.is_some_and(|print| self.pictures.is_new(print)) {
            self.facts.images += 1;
        }
    }

    /// A model's name begins; `at`: its offset in the document.
    fn read_model(&mut self, at: u64) {
        self.reading = Reading::Model;
        self.name.begin(self.base.wrapping_add(at));
    }

    fn read_id(&mut self) {
        if self.ids.begin() {
            self.reading = Reading::Id;
        }
    }

    /// A value in a list of the images API, or in one of its events.
    fn picture(&mut self, token: Token) {
        // One of several may have failed.
        self.facts.answered |= token != Token::Object && self.key != Key::Error;
        if let (Key::Image | Key::Url, Token::String) = (self.key, token) {
            self.reading = Reading::Image { any: false };
            self.facts.images_api = true;
        }
    }

    fn error(&mut self, token: Token) {
        match token {
            Token::True => self.facts.error = true,
            // An empty one is no error, and has nothing to come: neither text nor members.
            Token::String => self.reading = Reading::Error,
            _ => {}
        }
    }
}

/// Whether a reason to finish is that the upstream failed: OpenRouter and vLLM, vLLM and SGLang whose engine gave
/// the request up, Zhipu, DeepSeek.
fn is_failure(reason: &[u8]) -> bool {
    matches!(reason, b"error" | b"abort" | b"network_error" | b"insufficient_system_resource")
}
