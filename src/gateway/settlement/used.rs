//! What a request is booked at: what the upstream stated, else what was seen, else all that it may have
//! used, which is its reservation.

use super::Settlement;
use crate::admit::Permit;
use crate::config::Unstated;
use crate::inspect::Picture;
use crate::meter::Reading;
use crate::usage::{End, Flags, Usage, UsageSource};

/// Bytes of text that make about one token; the cheap bound that estimates use.
pub(super) const BYTES_PER_TOKEN: u64 = 4;

/// What the request tells of its use and the answer does not show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestedMedia {
    /// Of the prompt.
    pub(crate) audio_tokens: u64,
    pub(crate) audio_ms: u64,
    /// Of an answer that is speech.
    pub(crate) speech_tokens: u64,
    /// Pictures asked for, and what one that is answered is taken for.
    pub(crate) pictures: u64,
    pub(crate) picture_tokens: u64,
}

impl Default for RequestedMedia {
    fn default() -> Self {
        let picture_tokens = Picture::default().tokens();
        Self { audio_tokens: 0, audio_ms: 0, speech_tokens: 0, pictures: 0, picture_tokens }
    }
}

/// What a request is known to have used.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) usage: Usage,
    pub(crate) source: Option<UsageSource>,
    pub(crate) raw: Option<Box<str>>,
    pub(crate) model_served: Option<Box<str>>,
    pub(crate) response_ids: Box<[Box<str>]>,
    /// Images in the answer.
    pub(crate) images: u64,
    /// Remarks on the numbers.
    pub(crate) flags: Flags,
}

impl Used {
    /// Nothing: the request did not run.
    pub(crate) fn nothing() -> Self {
        Self { source: Some(UsageSource::None), ..Self::default() }
    }
}

/// Whether a status says that somebody on the way did not wait for the end, which says nothing of the work
/// behind it: 408 (LiteLLM's word for a model's time out), 499 (nginx: the client has gone), 504, and 524
/// (Cloudflare's 504).
fn has_given_up(status: u16) -> bool {
    matches!(status, 408 | 499 | 504 | 524)
}

/// Remarks on the numbers that follow from what was read alone.
/// Whether no output is stated although there was some: proxies that don't know the usage write zeros. What was
/// heard is measured by its length, and its words cost nothing.
fn says_too_little(usage: &Usage, reading: &Reading) -> bool {
    let is_silent = usage.output == 0 && usage.audio_ms == 0;
    is_silent && reading.is_final && !reading.is_pending && reading.output_text_bytes > 0
}

fn flags_of(reading: &Reading) -> Flags {
    let mut flags = Flags::default();
    for (is_so, flag) in [
        (reading.suspect, Flags::USAGE_SUSPECT),
        (reading.is_blind, Flags::ENCODED),
        (reading.total_differs, Flags::TOTAL_DIFFERS),
        (reading.is_unread, Flags::UNREAD),
    ] {
        if is_so {
            flags.set(flag);
        }
    }
    flags
}

impl Settlement {
    /// It was sent, and nothing came of an answer that says what it used.
    pub(crate) fn unanswered(&self) -> Used {
        self.used(Reading::default(), End::ClientClosed, false)
    }

    /// Where the last one did nothing, what one before it may have done, of which its status says nothing.
    pub(super) fn with_owed(&mut self, used: Used) -> Used {
        if !self.is_owed_before || used.source != Some(UsageSource::None) {
            return used;
        }
        let status = self.upstream_status.take();
        let owed = self.unanswered();
        self.upstream_status = status;
        owed
    }

    /// What the meter has read, or what counts where it has read no usage. `is_whole`: the answer is
    /// all there.
    pub(crate) fn used(&self, reading: Reading, end: End, is_whole: bool) -> Used {
        // The upstream's own word: an answer that it began with 200 and did not finish has cost.
        let has_given_up = self.upstream_status.is_some_and(has_given_up);
        let is_refused = self.upstream_status.is_some_and(|status| status >= 400)
            && !has_given_up
            && reading.usage.is_none();
        if is_refused || self.is_free {
            return Used { model_served: reading.model_served, ..Used::nothing() };
        }
        let stated = reading.usage.map(|usage| match reading.is_undivided {
            true => self.divided(usage, &reading),
            false => usage,
        });
        let is_whole = is_whole || matches!(end, End::Complete | End::UpstreamError);
        let is_success = self.upstream_status.is_some_and(|status| (200..300).contains(&status));
        let mut flags = flags_of(&reading);
        // Of an answer that was broken off nobody knows what it would have been.
        if reading.is_no_answer && end == End::Complete && is_success {
            flags.set(Flags::NO_ANSWER);
        }
        if stated.is_some_and(|usage| says_too_little(&usage, &reading)) {
            flags.set(Flags::USAGE_SUSPECT);
        }
        let mut images = reading.output_images.into();
        let (usage, source) = match self.said(stated, &reading, is_whole) {
            Some(said) => said,
            None => {
                // Of no prompt nothing was stated, whatever stands there.
                let stated = stated.filter(|usage| usage.input > 0);
                let stated = stated.map(|usage| self.of_all_prompts(usage, &reading));
                let seen = self.seen(stated, &reading);
                let may_be_more = self.may_be_more(&reading, is_whole, is_success);
                let reserved = may_be_more.then(|| self.reserved(seen, stated.is_some())).flatten();
                // Pictures have a price of their own, so that each was reserved.
                let pictures = if may_be_more { self.media.pictures } else { 0 };
                if reserved.is_some() || pictures > images {
                    flags.set(Flags::RESERVED);
                }
                images = pictures.max(images);
                (reserved.unwrap_or(seen), UsageSource::Estimated)
            }
        };
        // Nothing is written about nothing; what was heard has its own measure.
        let is_unprompted = source != UsageSource::Estimated
            && (usage.input, usage.audio_ms) == (0, 0)
            && usage.output > 0;
        if is_unprompted {
            flags.set(Flags::USAGE_SUSPECT);
        }
        Used {
            usage: if is_unprompted { self.prompted(usage) } else { usage },
            source: Some(source),
            raw: reading.raw_usage,
            model_served: reading.model_served,
            response_ids: reading.response_ids,
            images,
            flags,
        }
    }

    /// What the upstream said of the whole answer, or of what there is of it.
    fn said(
        &self,
        stated: Option<Usage>,
        reading: &Reading,
        is_whole: bool,
    ) -> Option<(Usage, UsageSource)> {
        let usage = stated?;
        if says_too_little(&usage, reading) {
            return None;
        }
        // Some upstreams state the prompt with their first event, and then nothing until the end.
        // What was heard is measured by its length.
        let has_words = reading.output_text_bytes > 0 && usage.audio_ms == 0;
        let counts_nothing = usage.output == 0 && (!reading.is_final || has_words);
        let is_early = reading.is_early && !reading.is_final;
        let is_part = reading.is_start || reading.is_pending || reading.misses_choices;
        if is_part || (!is_whole && (is_early || counts_nothing)) {
            return None;
        }
        // A complete answer that states its usage along the way has stated it.
        let is_final = reading.is_final || (is_whole && !reading.error);
        Some((usage, if is_final { UsageSource::Reported } else { UsageSource::Running }))
    }

    /// Whether the upstream may have done more than was seen, by what its operator says of it.
    fn may_be_more(&self, reading: &Reading, is_whole: bool, is_success: bool) -> bool {
        let shows_nothing = reading.is_no_answer || reading.unread_bytes > 0;
        match self.unstated {
            _ if reading.is_pending => true,
            Unstated::Reserved => {
                !is_whole
                    || reading.breaks_off
                    || reading.misses_choices
                    || reading.is_blind
                    || self.upstream_status.is_some_and(has_given_up)
                    || (shows_nothing && is_success)
                    || self.is_asked_again()
            }
            Unstated::Seen => false,
        }
    }

    /// Whether this very request had the usage option taken out of it: who can bring about a refusal would else
    /// choose to be metered by bytes.
    fn is_asked_again(&self) -> bool {
        self.attempts > 1 && self.flags.contains(Flags::USAGE_OPTION_REFUSED)
    }

    /// An estimate from what was seen. What was stated before there was an answer counts for the prompt.
    fn seen(&self, stated: Option<Usage>, reading: &Reading) -> Usage {
        let RequestedMedia { audio_tokens, audio_ms, speech_tokens, .. } = self.media;
        let is_charged = self.price.is_some_and(|price| price.rates.per_second > 0);
        // Of what could not be read the size is all that is known.
        let bytes = reading.output_text_bytes.max(reading.unread_bytes);
        let text = bytes.div_ceil(BYTES_PER_TOKEN);
        let images = u64::from(reading.output_images).saturating_mul(self.media.picture_tokens);
        let begun = stated.unwrap_or(Usage {
            input: self.estimated_input,
            audio_input: audio_tokens,
            audio_output: speech_tokens,
            audio_ms: if is_charged { audio_ms } else { 0 },
            ..Usage::default()
        });
        let output = text.saturating_add(images).max(speech_tokens).max(begun.output);
        let total = begun.input.saturating_add(output);
        Usage { output, image_output: images, total, ..begun }
    }

    /// With the prompts as they were reserved, where some of them are not stated.
    fn of_all_prompts(&self, usage: Usage, reading: &Reading) -> Usage {
        let least = if reading.misses_prompts { self.estimated_input } else { 0 };
        Usage { input: usage.input.max(least), ..usage }
    }

    /// With the prompt as it was reserved.
    fn prompted(&self, usage: Usage) -> Usage {
        let input = self.estimated_input;
        let audio_input = self.media.audio_tokens;
        Usage { input, audio_input, total: input.saturating_add(usage.output), ..usage }
    }

    /// Of a total that was stated alone, the answer is what was seen of it, and the rest the prompt.
    fn divided(&self, stated: Usage, reading: &Reading) -> Usage {
        let output = self.seen(None, reading).output.min(stated.total);
        Usage { input: stated.total - output, output, ..stated }
    }

    /// The whole reservation, where that is more than what was seen: nobody knows of what kind the rest
    /// is, so that it costs what was reserved.
    fn reserved(&self, seen: Usage, is_prompt_stated: bool) -> Option<Usage> {
        let reserved = self.permit.as_ref().map_or(0, Permit::reserved_tokens);
        let output = reserved.saturating_sub(self.estimated_input);
        if output <= seen.output {
            return None;
        }
        let usage = Usage { output, total: seen.input.saturating_add(output), ..seen };
        let rates = self.price.map(|price| price.rates).unwrap_or_default();
        Some(rates.at_the_dearest(usage, !is_prompt_stated))
    }
}
