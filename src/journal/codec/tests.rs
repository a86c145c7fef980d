//! Records as they are written and read, and the samples of them that other tests use.

use super::*;

pub(crate) fn opened(n: u8) -> Opened {
    Opened {
        event_id: EventId([n; 16]),
        started_at_ms: 1_780_470_861_000 + i64::from(n),
        tenant: "acme".into(),
        key_id: "key_1".into(),
        model: "gpt-5.4".into(),
        upstream: "yisu".into(),
        endpoint: "/v1/chat/completions".into(),
        estimated_input_tokens: 8,
        reserved_tokens: 1032,
        streamed: true,
        price_version: PriceVersion::from_number(0x0123_4567_89ab),
    }
}

pub(crate) fn closed(n: u8) -> Closed {
    Closed {
        event_id: EventId([n; 16]),
        end: End::Complete,
        usage_source: UsageSource::Reported,
        usage: Usage {
            input: 8,
            output: 12,
            audio_ms: 3_500,
            reported_cost_nano_usd: n.checked_sub(1).map(u64::from),
            total: u64::MAX,
            ..Usage::default()
        },
        price_version: None,
        cost_nano_usd: Some(n.into()),
        output_images: 2,
        raw_usage: Some(r#"{"prompt_tokens":8}"#.into()),
        model_served: Some("".into()),
        status: 200,
        upstream_status: None,
        ttfb_ms: Some(0),
        duration_ms: 17,
        attempts: 1,
        flags: Flags::NO_DONE,
        upstream_request_id: None,
        upstream: None,
        upstream_key: "".into(),
        failed_attempts: None,
        owners: Box::default(),
    }
}

/// A request that went to two others before.
fn closed_elsewhere(n: u8) -> Closed {
    Closed {
        attempts: 3,
        upstream: Some("other".into()),
        upstream_key: "b".into(),
        failed_attempts: Some(r#"[{"upstream":"yisu","status":503,"duration_ms":5}]"#.into()),
        ..closed(n)
    }
}

#[test]
fn where_a_request_has_been_is_read_again_and_costs_nothing_where_it_is_not() {
    let plain = Closed { upstream_key: "".into(), ..closed(1) };
    let owners: Box<[_]> = [ResponseOwner(7)].into();
    let only_key = Closed { upstream_key: "b".into(), ..closed(1) };
    for (record, kind) in [
        (plain, KIND_CLOSED),
        (only_key, KIND_CLOSED_ELSEWHERE),
        (Closed { owners, ..closed_elsewhere(1) }, KIND_CLOSED_ELSEWHERE),
    ] {
        let mut bytes = Vec::new();
        encode_closed(&record, &mut bytes);
        assert_eq!(bytes[FRAME_BYTES], kind);
        let read = decode(&bytes, &mut Names::default());
        assert_eq!(read, Step::Record(Record::Closed(record), bytes.len()));
    }
}

#[test]
fn owners_stand_at_the_end_and_a_record_without_any_is_as_long_as_before() {
    let mut lengths = [0; 3];
    for (count, length) in lengths.iter_mut().enumerate() {
        let owners = (0..count).map(|number| ResponseOwner(u64::MAX - number as u64)).collect();
        let record = Closed { owners, ..closed(1) };
        let mut bytes = Vec::new();
        encode_closed(&record, &mut bytes);
        *length = bytes.len();
        let read = decode(&bytes, &mut Names::default());
        assert_eq!(read, Step::Record(Record::Closed(record), bytes.len()));
    }
    assert_eq!([lengths[1], lengths[2]], [lengths[0] + 8, lengths[0] + 16]);
}

#[test]
fn what_is_written_is_read_again() {
    let mut bytes = Vec::new();
    encode_opened(&opened(1), &mut bytes);
    let first = bytes.len();
    let price_version = PriceVersion::from_number(0xba98_7654_3210);
    let closed = Closed { price_version, ..closed(1) };
    encode_closed(&closed, &mut bytes);
    let mut names = Names::default();
    assert_eq!(decode(&bytes, &mut names), Step::Record(Record::Opened(opened(1)), first));
    let rest = bytes.len() - first;
    assert_eq!(decode(&bytes[first..], &mut names), Step::Record(Record::Closed(closed), rest));
}

/// Without what this version has added at the end.
#[test]
fn a_record_of_an_older_version_is_read() {
    let mut bytes = Vec::new();
    encode_closed(&closed(1), &mut bytes);
    let payload = bytes[FRAME_BYTES..bytes.len() - 1].to_vec();
    let mut old = Vec::new();
    frame(&mut old, |out| out.extend_from_slice(&payload));
    let expected = Closed { price_version: None, ..closed(1) };
    let step = Step::Record(Record::Closed(expected), old.len());
    assert_eq!(decode(&old, &mut Names::default()), step);
}

#[test]
fn a_cut_record_is_partial_and_a_changed_one_damaged() {
    let mut bytes = Vec::new();
    encode_closed(&closed(3), &mut bytes);
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes[..cut], &mut Names::default()), Step::Partial, "cut {cut}");
    }
    for at in 4..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(decode(&changed, &mut Names::default()), Step::Damaged, "byte {at}");
    }
}

/// What no record can be is not waited for: it would be the end of all that is behind it.
#[test]
fn a_length_that_no_record_has_is_damage() {
    for (length, is_possible) in [
        (0, false),
        (1, true),
        (MAX_RECORD_BYTES, true),
        (MAX_RECORD_BYTES + 1, false),
        (u32::MAX as usize, false),
    ] {
        let mut bytes = (length as u32).to_le_bytes().to_vec();
        bytes.extend([0; 5]);
        let payload = &bytes[..FRAME_BYTES];
        let step = if is_possible { Step::Partial } else { Step::Damaged };
        assert_eq!(decode(payload, &mut Names::default()), step, "{length}");
        let stated = is_possible.then_some(FRAME_BYTES + length);
        assert_eq!(stated_length(&bytes), stated, "{length}");
    }
}

#[test]
fn a_text_past_its_limit_is_cut_at_a_character() {
    let mut long = closed(4);
    long.raw_usage = Some("界".repeat(2000).into());
    let mut bytes = Vec::new();
    encode_closed(&long, &mut bytes);
    let Step::Record(Record::Closed(read), _) = decode(&bytes, &mut Names::default()) else {
        panic!("a whole record")
    };
    assert_eq!(read.raw_usage.expect("it was given").len(), 2046);
}
