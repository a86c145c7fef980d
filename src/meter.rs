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

mod tap;
mod setup;
mod reading;
mod sse;
mod keys;
mod facts;
mod capture;
mod name;
mod text;
mod dialect;
mod decimal;
mod object;
mod stated;
mod tally;
mod outlet;
mod hide;
mod event;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::json::Scanner;
use dialect::Document;
use event::Event;
use hide::Verdict;
use outlet::Outlet;
use sse::{Lines, Part};
use tally::Tally;
use tap::Tap;

pub(crate) use reading::{Progress, Reading};
pub(crate) use setup::{Hide, Kind, Setup};
pub(crate) use tap::Coding;

/// So many bytes of an unfinished event are held to decide whether it is hidden; a longer one
/// passes as it comes.
pub(crate) const HOLD_LIMIT: u64 = 16 * 1024;

/// Meters one response. See the module's head.
#[derive(Debug)]
pub(crate) struct Meter {
    kind: Kind,
    /// What is read is decoded first, beside the bytes that pass.
    tap: Option<Box<Tap>>,
    hide: Hide,
    /// The model's public name in quotes, if it is to be put in.
    public_model: Option<Bytes>,
    lines: Lines,
    scanner: Scanner,
    document: Document,
    event: Event,
    tally: Tally,
    done: bool,
    /// `None` if nothing is ever edited.
    outlet: Option<Outlet>,
    /// Offset in the stream of the next byte to be scanned.
    at: u64,
}

impl Meter {
    pub(crate) fn new(setup: Setup<'_>) -> Self {
        let Setup { kind, coding, hide, answers, model } = setup;
        let tap = coding.filter(|_| kind != Kind::Opaque).map(|coding| Box::new(Tap::new(coding)));
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
            scanner: Scanner::new(),
            document: Document::new(kind == Kind::Sse, model.is_some()),
            event: Event::none(),
            tally: Tally::new(answers),
            done: false,
            outlet: (hide != Hide::Nothing || model.is_some()).then(Outlet::default),
            at: 0,
        }
    }

    /// Whether bytes may be edited, so that the length announced may not be the one that leaves.
    pub(crate) fn edits(&self) -> bool {
        self.outlet.is_some()
    }

    /// Takes a frame in; what may leave is appended to `out`.
    pub(crate) fn push(&mut self, frame: Bytes, out: &mut Vec<Bytes>) {
        if frame.is_empty() {
            return;
        }
        if let Some(mut tap) = self.tap.take() {
            // Without an outlet nothing but the frame leaves.
            tap.push(&frame, |piece| self.scan(piece, &mut Vec::new()));
            self.tap = Some(tap);
            out.push(frame);
            return;
        }
        if let Some(outlet) = &mut self.outlet {
            outlet.open(&frame);
        }
        self.scan(&frame, out);
        match &mut self.outlet {
            Some(outlet) => outlet.shut(out),
            None => out.push(frame),
        }
    }

    /// The upstream ended cleanly: what is held leaves, an unfinished event as it is.
    pub(crate) fn finish(&mut self, out: &mut Vec<Bytes>) {
        // Strictly, an event without its blank line is none; what it states was used all the same.
        if self.event.scanned > 0 && !(self.kind == Kind::Json && self.done) {
            self.absorb();
            self.event.scanned = 0;
        }
        self.pass(out);
        if let Some(outlet) = &mut self.outlet {
            outlet.clear(self.at);
            outlet.shut(out);
        }
    }

    /// Whether the end has been seen: `data: [DONE]`, the blank line of the event that is the last
    /// one in an API that has no such mark, or the last byte of a JSON body. What completes it may
    /// be in `out` of the very push that made this true.
    pub(crate) fn done(&self) -> bool {
        self.done
    }

    /// Whether an event of ours can be put after the bytes that have left; what is held must be
    /// discarded first.
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
            outlet.discard();
            self.close();
            self.lines = Lines::new();
        }
    }

    /// Whether it is a stream whose events are read.
    pub(crate) fn is_stream(&self) -> bool {
        self.kind == Kind::Sse && !self.is_blind()
    }

    /// Whether a stream that ends here may be whole; of one that could not be read nobody knows.
    pub(crate) fn may_end(&self) -> bool {
        self.done || self.finish_reason() || self.error() || self.is_blind()
    }

    /// Whether an error has been stated; as [`Reading::error`].
    pub(crate) fn error(&self) -> bool {
        self.tally().error
    }

    /// As [`Reading::finish_reason`].
    pub(crate) fn finish_reason(&self) -> bool {
        self.tally().finish_reason
    }

    /// How far a stream has come. Cheap enough to be asked after every piece.
    pub(crate) fn progress(&self) -> Progress {
        let pick = self.tally.pick.as_ref();
        let is_final = pick.is_some_and(|pick| pick.is_final);
        let has_ended = self.tally.has_ended();
        Progress {
            total_tokens: pick.filter(|pick| !pick.is_start).map(|pick| pick.usage.total),
            output_text_bytes: self.document.text.bytes(),
            output_images: self.tally.images,
            is_over: self.done || is_final || has_ended || self.tally.error,
        }
    }

    /// What has been said so far. May be called at any time.
    pub(crate) fn reading(&self) -> Reading {
        let tally = self.tally();
        let pick = tally.pick.as_ref();
        Reading {
            usage: pick.map(|pick| pick.usage),
            is_final: pick.is_some_and(|pick| pick.is_final),
            is_start: pick.is_some_and(|pick| pick.is_start),
            raw_usage: pick.and_then(|pick| pick.raw.clone()),
            model_served: self.document.name.model(),
            finish_reason: tally.finish_reason,
            done: self.done,
            error: tally.error,
            suspect: tally.suspect,
            is_blind: self.is_blind(),
            output_text_bytes: self.document.text.bytes(),
            output_images: tally.images,
        }
    }

    fn is_blind(&self) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.is_blind())
    }

    /// What counts so far.
    fn tally(&self) -> Cow<'_, Tally> {
        if self.kind != Kind::Json || self.done {
            return Cow::Borrowed(&self.tally);
        }
        // A body that was cut may have stated its usage already.
        let mut tally = self.tally.clone();
        tally.absorb(&self.document, true);
        Cow::Owned(tally)
    }

    /// Reads the next bytes, decoded.
    fn scan(&mut self, piece: &[u8], out: &mut Vec<Bytes>) {
        match self.kind {
            Kind::Opaque => {}
            Kind::Text => self.document.text.add(piece.len()),
            Kind::Json => self.scan_body(piece, out),
            Kind::Sse => self.scan_events(piece, out),
        }
    }

    fn scan_body(&mut self, frame: &[u8], out: &mut Vec<Bytes>) {
        self.scan_json(frame, out);
        self.at += frame.len() as u64;
        self.clear();
        if !self.done && self.scanner.is_complete() {
            self.absorb();
        }
    }

    fn scan_events(&mut self, frame: &[u8], out: &mut Vec<Bytes>) {
        let mut rest = frame;
        while !rest.is_empty() {
            let (part, len) = self.lines.next(rest);
            let (run, more) = rest.split_at(len);
            rest = more;
            let event = matches!(part, Part::Field | Part::Data { .. });
            if event && !self.event.open {
                self.event = Event::begin(self.at, self.hide == Hide::Nothing);
            }
            if let Part::Data { first } = part {
                self.scan_data(run, first, out);
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

    /// The next bytes of the document, which stand at `self.at` in the stream.
    fn scan_json(&mut self, piece: &[u8], out: &mut Vec<Bytes>) {
        if self.event.broken {
            return;
        }
        let scanned = self.event.scanned;
        self.document.stands(self.at.wrapping_sub(scanned));
        self.event.broken = self.scanner.push(piece, &mut self.document).is_err();
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
        let whole = self.event.scanned > 0 && self.absorb();
        self.document.name.abandon();
        let short = self.at - self.event.at <= HOLD_LIMIT;
        let mut dropped = false;
        if whole
            && short
            && !self.event.passing
            && let Some(outlet) = &self.outlet
        {
            match hide::verdict(self.hide, &self.document.facts, outlet) {
                Verdict::Pass => {}
                Verdict::Drop => {
                    self.cut(self.event.at..self.at, out);
                    self.document.name.reset();
                    dropped = true;
                }
                Verdict::TakeOut(span) => {
                    self.rename(span.start, out);
                    self.cut(span, out);
                }
            }
        }
        self.pass(out);
        self.clear();
        self.close();
        self.event.dropped = dropped;
    }

    /// Takes in what the document said, if it is whole.
    fn absorb(&mut self) -> bool {
        let whole = !self.event.broken && self.scanner.finish(&mut self.document).is_ok();
        if whole {
            self.tally.absorb(&self.document, self.kind == Kind::Json);
            self.done |= self.kind == Kind::Json || self.tally.is_over;
        }
        whole
    }

    /// No event is open any more.
    fn close(&mut self) {
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
        if let Some(outlet) = &mut self.outlet
            && self.event.passing
        {
            outlet.clear(self.document.name.undecided_from().unwrap_or(self.at));
        }
    }

    fn cut(&mut self, span: Range<u64>, out: &mut Vec<Bytes>) {
        if let Some(outlet) = &mut self.outlet {
            outlet.replace(span, &Bytes::new(), out);
        }
    }

    /// Puts the public name wherever another one was found before `before`.
    fn rename(&mut self, before: u64, out: &mut Vec<Bytes>) {
        let (Some(outlet), Some(public)) = (&mut self.outlet, &self.public_model) else { return };
        while let Some(span) = self.document.name.renamed(before) {
            outlet.replace(span, public, out);
        }
    }
}

#[cfg(test)]
mod tests;
