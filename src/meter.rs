//! Watches the response of one upstream request on its way to the client, and reads from it what
//! was used and how it ended.
//!
//! The meter observes: it can be wrong about usage, and says so; it can neither break, delay nor
//! change the stream, apart from three edits that are switched on one by one. Usage that the client
//! did not ask for is taken out of a stream again: whole events, or the member `usage`. And the
//! model's name becomes the one that the client knows: at the top of a document, in `response` and in
//! `message`, where events have it.
//!
//! Frames come as they are and leave as slices of themselves. Memory does not depend on the length
//! of lines, events or bodies: everything is scanned in the pieces in which it comes.

mod decoding_tap;
mod setup;
mod reading;
mod sse;
mod keys;
mod facts;
mod capture;
mod picture;
mod name;
mod id;
mod text;
mod dialect;
mod decimal;
mod usage_object;
mod usage_names;
mod usage_reader;
mod usage_selection;
mod release;
mod hide;
mod insert;
mod event;

use std::ops::Range;

use bytes::Bytes;

use crate::json::Scanner;
use decoding_tap::DecodingTap;
use dialect::Document;
use event::Event;
use hide::Verdict;
use release::Release;
use sse::{BOM, Lines, Part};
use usage_selection::UsageSelection;

pub(crate) use decoding_tap::Coding;
pub(crate) use reading::{Progress, Reading};
pub(crate) use setup::{Hide, Kind, Setup};

/// So many bytes of an unfinished event are held to decide whether it is hidden; a longer one passes as it comes.
pub(crate) const HOLD_LIMIT: u64 = 16 * 1024;

/// Meters one response. See the module's head.
#[derive(Debug)]
pub(crate) struct Meter {
    kind: Kind,
    /// What is read is decoded first, beside the bytes that pass.
    tap: Option<Box<DecodingTap>>,
    hide: Hide,
    /// The model's public name in quotes, if it is to be put in.
    public_model: Option<Bytes>,
    lines: Lines,
    scanner: Scanner,
    document: Document,
    event: Event,
    selection: UsageSelection,
    done: bool,
    /// Something has come.
    is_begun: bool,
    /// Bytes of data in the events that are over, but for the end mark and what broke off.
    content: u64,
    /// A document broke.
    is_broken: bool,
    /// The stream ended within an event.
    breaks_off: bool,
    /// Where the present line begins.
    line_at: u64,
    /// `None` if nothing is ever edited.
    release: Option<Release>,
    /// Offset in the stream of the next byte to be scanned.
    at: u64,
}

impl Meter {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
        let Setup { kind, coding, hide, answers, prompts, has_output, hears, model, wants_ids } =
            setup;
        let tap = coding
            .filter(|_| !matches!(kind, Kind::Opaque | Kind::Page))
            .map(|coding| Box::new(DecodingTap::new(coding)));
        // What is compressed passes as it is.
        let is_edited = matches!(kind, Kind::Json | Kind::Sse) && tap.is_none();
        let model = model.filter(|_| is_edited);
        let hide = if kind == Kind::Sse && is_edited { hide } else { Hide::Nothing };
        Self {
            kind,
            tap,
            hide,
            public_model: model.map(name::json_string),
            lines: Lines::new(),
            scanner: Scanner::lenient(),
            document: Document::new(kind == Kind::Sse, model.is_some(), wants_ids),
            event: Event::none(),
            selection: UsageSelection::new(answers, prompts, has_output, hears),
            done: false,
            is_begun: false,
            content: 0,
            is_broken: false,
            breaks_off: false,
            line_at: 0,
            release: (hide != Hide::Nothing || model.is_some()).then(Release::default),
            at: 0,
        }
    }

    /// Whether bytes may be edited, so that the length announced may not be the one that leaves.
    pub(crate) fn edits(&self) -> bool {
        self.release.is_some()
    }

    /// Takes a frame in; what may leave is appended to `out`.
    pub(crate) fn push(&mut self, frame: Bytes, out: &mut Vec<Bytes>) {
        if frame.is_empty() {
            return;
        }
        self.is_begun = true;
        if let Some(mut tap) = self.tap.take() {
            // Without one nothing but the frame leaves.
            tap.push(&frame, |piece| self.scan(piece, &mut Vec::new()));
            self.tap = Some(tap);
            out.push(frame);
            return;
        }
        if let Some(release) = &mut self.release {
            release.open(&frame);
        }
        self.scan(&frame, out);
        match &mut self.release {
            Some(release) => release.shut(out),
            None => out.push(frame),
        }
    }

    /// The upstream ended cleanly: what is held leaves, an unfinished event as it is.
    pub(crate) fn finish(&mut self, out: &mut Vec<Bytes>) {
        // Strictly, an event without its blank line is none; what it states was used all the same.
        if self.event.scanned > 0 && !(self.kind == Kind::Json && self.done) {
            let is_whole = self.absorb();
            self.is_broken |= !is_whole && self.kind == Kind::Json && !self.error();
            let is_open = self.kind == Kind::Sse && self.document.is_object;
            self.breaks_off |= !is_whole && is_open && !self.event.broken;
            if is_whole {
                self.edit(self.at, out);
            }
            self.event.scanned = 0;
        }
        self.pass(out);
        if let Some(release) = &mut self.release {
            release.clear(self.at);
            release.shut(out);
        }
    }

    /// Whether the end has been seen: `data: [DONE]`, the blank line of the event that is the last one in an API
    /// without such a mark, or a JSON body's last byte. It may be in `out` of the push that made this true.
    pub(crate) fn done(&self) -> bool {
        self.done
    }

    /// Reads the next bytes, decoded.
    fn scan(&mut self, piece: &[u8], out: &mut Vec<Bytes>) {
        match self.kind {
            Kind::Opaque | Kind::Page => {}
            Kind::Unread => self.event.len += piece.len() as u64,
            Kind::Text => self.document.text.add(piece.len()),
            Kind::Json => self.scan_body(piece, out),
            Kind::Sse => self.scan_events(piece, out),
        }
    }

    fn scan_body(&mut self, frame: &[u8], out: &mut Vec<Bytes>) {
        self.event.len += frame.len() as u64;
        let marked = BOM.get(self.at as usize..).map_or(0, |mark| sse::common(mark, frame));
        self.at += marked as u64;
        let document = &frame[marked..];
        self.scan_json(document, out);
        self.at += document.len() as u64;
        self.clear();
        if !self.done && self.scanner.is_complete() {
            self.absorb();
        }
    }

    fn scan_events(&mut self, frame: &[u8], out: &mut Vec<Bytes>) {
        let mut rest = frame;
        while !rest.is_empty() {
            if self.lines.is_line_start() {
                self.line_at = self.at;
            }
            let (part, len) = self.lines.next(rest);
            let (run, more) = rest.split_at(len);
            rest = more;
            let event = matches!(part, Part::Field | Part::Data { .. } | Part::Stray { .. });
            if event && !self.event.open {
                self.event = Event::begin(self.at, self.hide == Hide::Nothing);
            }
            match part {
                Part::Data { first } => self.scan_data(run, first, out),
                Part::Stray { first } => self.scan_stray(run, first, out),
                _ => {}
            }
            let from = self.at;
            self.at += len as u64;
            match part {
                Part::End => self.end_event(out),
                Part::Tail if self.event.dropped => self.cut(from..self.at, out),
                _ => self.clear(),
            }
        }
        if self.event.open && self.at - self.event.at > HOLD_LIMIT {
            self.pass(out);
        }
    }

    /// A piece of a data line's value.
    fn scan_data(&mut self, piece: &[u8], first: bool, out: &mut Vec<Bytes>) {
        if first && self.document.is_object && self.scanner.is_complete() {
            // No document goes on after its end: a blank line is missing.
            self.next_event(out);
        }
        self.event.len += piece.len() as u64;
        self.done |= self.event.completes_end_mark(piece, first);
        if first && self.event.scanned > 0 {
            // The data lines of an event are joined by line feeds.
            self.scan_json(b"\n", out);
        }
        self.scan_json(piece, out);
        if self.event.broken {
            self.pass(out);
        }
    }

    /// A piece of a line that is no field: of the document that the data line before has begun, or of one that stands there without a name.
    fn scan_stray(&mut self, piece: &[u8], first: bool, out: &mut Vec<Bytes>) {
        let begins = first && piece[0] == b'{';
        let goes_on = self.document.is_object && !self.event.broken && !self.scanner.is_complete();
        if goes_on || (begins && (self.event.scanned == 0 || self.scanner.is_complete())) {
            self.scan_data(piece, first, out);
        }
    }

    /// An event ends where its last line did, and with the present line another one has begun.
    fn next_event(&mut self, out: &mut Vec<Bytes>) {
        let was_passing = self.event.passing;
        let dropped = self.decide(self.line_at, out);
        self.rename(u64::MAX, out);
        if let (Some(release), false) = (&mut self.release, dropped) {
            release.clear(self.line_at);
        }
        self.close();
        self.event = Event::begin(self.line_at, was_passing);
    }

    /// The next bytes of the document, which stand at `self.at` in the stream.
    fn scan_json(&mut self, piece: &[u8], out: &mut Vec<Bytes>) {
        if self.event.broken {
            return;
        }
        let scanned = self.event.scanned;
        self.document.stands(self.at.wrapping_sub(scanned));
        if let Err(malformed) = self.scanner.push(piece, &mut self.document) {
            self.event.broken = true;
            // A page for people, whatever its type says.
            let byte = malformed.at.checked_sub(scanned).and_then(|at| piece.get(at as usize));
            let is_page = self.kind == Kind::Json && !self.document.is_object;
            let is_page = is_page && byte == Some(&b'<');
            self.selection.error |= is_page;
            self.is_broken |= self.kind == Kind::Json && !is_page;
        }
        self.document.captures.collect(piece, scanned);
        self.event.scanned += piece.len() as u64;
        if self.event.broken {
            self.document.name.abandon();
        }
        if self.event.passing {
            self.rename(u64::MAX, out);
        }
    }

    /// A blank line has ended the event.
    fn end_event(&mut self, out: &mut Vec<Bytes>) {
        let dropped = self.decide(self.at, out);
        self.pass(out);
        self.clear();
        self.close();
        self.event.dropped = dropped;
    }

    /// Takes in what the event said that ends at `end`, and decides what of it the client gets. Whether nothing.
    fn decide(&mut self, end: u64, out: &mut Vec<Bytes>) -> bool {
        // Whatever an error says, in JSON or not.
        self.selection.error |= self.lines.is_error(self.event.len > 0);
        let whole = self.event.scanned > 0 && self.absorb();
        self.is_broken |= self.event.scanned > 0 && !whole && self.document.is_object;
        self.document.name.abandon();
        whole && self.edit(end, out)
    }

    /// Takes out of a whole event that ends at `end` what the client is not to see. Whether nothing is left.
    fn edit(&mut self, end: u64, out: &mut Vec<Bytes>) -> bool {
        let short = end - self.event.at <= HOLD_LIMIT;
        if short
            && !self.event.passing
            && let Some(release) = &self.release
        {
            match hide::verdict(self.hide, &self.document.facts, release) {
                Verdict::Pass => {}
                Verdict::Drop => {
                    self.cut(self.event.at..end, out);
                    self.document.name.reset();
                    return true;
                }
                Verdict::TakeOut(span) => {
                    self.rename(span.start, out);
                    self.cut(span, out);
                }
            }
        }
        false
    }

    /// Takes in what the document said, if it is whole.
    fn absorb(&mut self) -> bool {
        let whole = !self.event.broken && self.scanner.finish(&mut self.document).is_ok();
        if whole {
            self.document.settle();
            self.selection.absorb(&self.document, self.kind == Kind::Json);
            self.done |= self.kind == Kind::Json || self.selection.is_over;
        }
        whole
    }

    /// No event is open any more.
    fn close(&mut self) {
        if !self.event.is_mark && !self.is_within_document() {
            self.content += self.event.len;
        }
        self.event = Event::none();
        self.scanner.reset();
        self.document.reset();
    }

    /// The event is no longer held: nothing will be hidden in it.
    fn pass(&mut self, out: &mut Vec<Bytes>) {
        self.rename(u64::MAX, out);
        self.event.passing = true;
        self.clear();
    }

    /// Everything that has been scanned may leave, unless it waits for a decision.
    fn clear(&mut self) {
        if let Some(release) = &mut self.release
            && self.event.passing
        {
            release.clear(self.document.name.undecided_from().unwrap_or(self.at));
        }
    }

    fn cut(&mut self, span: Range<u64>, out: &mut Vec<Bytes>) {
        if let Some(release) = &mut self.release {
            release.replace(span, &Bytes::new(), out);
        }
    }

    /// Puts the public name wherever another one was found before `before`.
    fn rename(&mut self, before: u64, out: &mut Vec<Bytes>) {
        let (Some(release), Some(public)) = (&mut self.release, &self.public_model) else { return };
        while let Some(span) = self.document.name.renamed(before) {
            release.replace(span, public, out);
        }
    }
}

#[cfg(test)]
mod tests;
