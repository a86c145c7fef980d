//! How a record looks in the journal: `length u32 | CRC-32 u32 | payload`, little-endian, where the
//! payload is a kind byte and the fields in a fixed order, integers as LEB128, text with its length.
//! The checksum covers the payload; a record that is cut or damaged anywhere is told from a whole one.

mod names;
mod encode;

use std::sync::Arc;

use crate::price::PriceVersion;
use crate::record::{Closed, EventId, Opened, ResponseOwner};
use crate::usage::{End, Flags, Usage, UsageSource};

use encode::{put_optional_text, put_text, put_u64};
pub(crate) use names::Names;

/// Bytes before the payload.
const FRAME_BYTES: usize = 8;
/// No record is longer: its texts are cut to their limits before they are written.
const MAX_RECORD_BYTES: usize = 16 * 1024;

const KIND_OPENED: u8 = 1;
const KIND_CLOSED: u8 = 2;
/// The same of a request that was sent elsewhere, or with one of several keys.
const KIND_CLOSED_ELSEWHERE: u8 = 3;

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Opened(Opened),
    Closed(Closed),
}

/// What stands at an offset of a journal.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
pub(crate) enum Step {
    /// A whole record, and the bytes it took.
    Record(Record, usize),
    /// The bytes end before the record does.
    Partial,
    /// Not a record: a wrong length, a wrong checksum, or fields that cannot be.
    Damaged,
}

/// Appends `opened` to `out`, framed.
pub(crate) fn encode_opened(opened: &Opened, out: &mut Vec<u8>) {
    frame(out, |out| {
        out.push(KIND_OPENED);
        out.extend_from_slice(&opened.event_id.0);
        put_u64(out, opened.started_at_ms.cast_unsigned());
        put_text(out, &opened.tenant);
        put_text(out, &opened.key_id);
        put_text(out, &opened.model);
        put_text(out, &opened.upstream);
        put_text(out, &opened.endpoint);
        put_u64(out, opened.estimated_input_tokens);
        put_u64(out, opened.reserved_tokens);
        out.push(u8::from(opened.streamed));
        put_u64(out, opened.price_version.map_or(0, PriceVersion::number));
    });
}

/// Appends `closed` to `out`, framed.
pub(crate) fn encode_closed(closed: &Closed, out: &mut Vec<u8>) {
    let Closed { upstream, upstream_key, failed_attempts, .. } = closed;
    let is_elsewhere = upstream.is_some() || !upstream_key.is_empty() || failed_attempts.is_some();
    frame(out, |out| {
        out.push(if is_elsewhere { KIND_CLOSED_ELSEWHERE } else { KIND_CLOSED });
        out.extend_from_slice(&closed.event_id.0);
        out.push(closed.end as u8);
        out.push(closed.usage_source as u8);
        for count in counts(&closed.usage) {
            put_u64(out, count);
        }
        put_u64(out, closed.cost_nano_usd.map_or(0, |cost| cost.saturating_add(1)));
        put_u64(out, closed.output_images);
        put_optional_text(out, closed.raw_usage.as_deref());
        put_optional_text(out, closed.model_served.as_deref());
        put_u64(out, u64::from(closed.status));
        put_u64(out, u64::from(closed.upstream_status.unwrap_or(0)));
        put_u64(out, closed.ttfb_ms.map_or(0, |ms| ms.saturating_add(1)));
        put_u64(out, closed.duration_ms);
        put_u64(out, u64::from(closed.attempts));
        put_u64(out, u64::from(closed.flags.0));
        put_optional_text(out, closed.upstream_request_id.as_deref());
        // Records of older versions end here.
        put_u64(out, closed.price_version.map_or(0, PriceVersion::number));
        if is_elsewhere {
            put_optional_text(out, closed.upstream.as_deref());
            put_text(out, &closed.upstream_key);
            put_optional_text(out, closed.failed_attempts.as_deref());
        }
        for owner in &closed.owners {
            out.extend_from_slice(&owner.0.to_le_bytes());
        }
    });
}

/// Reads the record at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8], names: &mut Names) -> Step {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_BYTES>() else { return Step::Partial };
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let checksum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if length == 0 || length > MAX_RECORD_BYTES {
        return Step::Damaged;
    }
    let Some(payload) = rest.get(..length) else { return Step::Partial };
    if crc32fast::hash(payload) != checksum {
        return Step::Damaged;
    }
    let mut reader = Reader { rest: &payload[1..], names };
    let record = match payload[0] {
        KIND_OPENED => reader.opened().map(Record::Opened),
        KIND_CLOSED => reader.closed(false).map(Record::Closed),
        KIND_CLOSED_ELSEWHERE => reader.closed(true).map(Record::Closed),
        _ => None,
    };
    match record {
        Some(record) => Step::Record(record, FRAME_BYTES + length),
        None => Step::Damaged,
    }
}

/// The bytes that the record at the start of `bytes` takes, by its own word; `None` where that cannot be.
pub(crate) fn stated_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    (1..=MAX_RECORD_BYTES).contains(&length).then_some(FRAME_BYTES + length)
}

/// The usage record as a list, in the order in which it is written.
fn counts(usage: &Usage) -> [u64; 14] {
    [
        usage.input,
        usage.cached,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        usage.audio_input,
        usage.audio_output,
        usage.image_input,
        usage.image_output,
        usage.accepted_prediction,
        usage.rejected_prediction,
        usage.audio_ms,
        // One more than it is, so that none is told from nothing.
        usage.reported_cost_nano_usd.map_or(0, |cost| cost.saturating_add(1)),
        usage.total,
    ]
}

/// Writes what `payload` writes, with its length and checksum before it.
fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    payload(out);
    let body = start + FRAME_BYTES;
    let length = u32::try_from(out.len() - body).expect("every text is cut, so a record is short");
    let checksum = crc32fast::hash(&out[body..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a payload from its front; `None` as soon as something cannot be.
struct Reader<'a, 'n> {
    rest: &'a [u8],
    names: &'n mut Names,
}

impl<'a> Reader<'a, '_> {
    fn opened(&mut self) -> Option<Opened> {
        Some(Opened {
            event_id: self.event_id()?,
            started_at_ms: self.u64()?.cast_signed(),
            tenant: self.name(0)?,
            key_id: self.name(1)?,
            model: self.name(2)?,
            upstream: self.name(3)?,
            endpoint: self.name(4)?,
            estimated_input_tokens: self.u64()?,
            reserved_tokens: self.u64()?,
            streamed: self.byte()? != 0,
            price_version: PriceVersion::from_number(self.u64()?),
        })
    }

    fn closed(&mut self, is_elsewhere: bool) -> Option<Closed> {
        let mut closed = Closed {
            event_id: self.event_id()?,
            end: End::from_code(self.byte()?)?,
            usage_source: UsageSource::from_code(self.byte()?)?,
            usage: self.usage()?,
            price_version: None,
            cost_nano_usd: self.u64()?.checked_sub(1),
            output_images: self.u64()?,
            raw_usage: self.optional_text()?,
            model_served: self.optional_text()?,
            status: self.u16()?,
            upstream_status: Some(self.u16()?).filter(|status| *status != 0),
            ttfb_ms: self.u64()?.checked_sub(1),
            duration_ms: self.u64()?,
            attempts: u32::try_from(self.u64()?).ok()?,
            flags: Flags(u32::try_from(self.u64()?).ok()?),
            upstream_request_id: self.optional_text()?,
            upstream: None,
            upstream_key: self.names.none(),
            failed_attempts: None,
            owners: Box::default(),
        };
        if !self.rest.is_empty() {
            closed.price_version = PriceVersion::from_number(self.u64()?);
            if is_elsewhere {
                self.elsewhere(&mut closed)?;
            }
            closed.owners = self.owners()?;
        }
        Some(closed)
    }

    fn elsewhere(&mut self, closed: &mut Closed) -> Option<()> {
        closed.upstream = self.optional_text()?.map(Arc::from);
        closed.upstream_key = Arc::from(self.plain_text()?);
        closed.failed_attempts = self.optional_text()?;
        Some(())
    }

    fn usage(&mut self) -> Option<Usage> {
        Some(Usage {
            input: self.u64()?,
            cached: self.u64()?,
            cache_write: self.u64()?,
            output: self.u64()?,
            reasoning: self.u64()?,
            audio_input: self.u64()?,
            audio_output: self.u64()?,
            image_input: self.u64()?,
            image_output: self.u64()?,
            accepted_prediction: self.u64()?,
            rejected_prediction: self.u64()?,
            audio_ms: self.u64()?,
            reported_cost_nano_usd: self.u64()?.checked_sub(1),
            total: self.u64()?,
        })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn event_id(&mut self) -> Option<EventId> {
        Some(EventId(self.take(16)?.try_into().ok()?))
    }

    /// What may stand at a record's end.
    fn owners(&mut self) -> Option<Box<[ResponseOwner]>> {
        let (owners, []) = self.rest.as_chunks() else { return None };
        Some(owners.iter().map(|owner| ResponseOwner(u64::from_le_bytes(*owner))).collect())
    }

    fn u64(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.u64()?).ok()
    }

    fn text(&mut self, length: u64) -> Option<&'a str> {
        std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()
    }

    fn plain_text(&mut self) -> Option<&'a str> {
        let length = self.u64()?;
        self.text(length)
    }

    fn name(&mut self, field: usize) -> Option<Arc<str>> {
        let length = self.u64()?;
        let text = self.text(length)?;
        Some(self.names.shared(field, text))
    }

    fn optional_text(&mut self) -> Option<Option<Box<str>>> {
        match self.u64()? {
            0 => Some(None),
            length => Some(Some(Box::from(self.text(length - 1)?))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
