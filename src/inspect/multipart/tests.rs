//! Forms as clients write them, and as nobody should, cut at every byte.

use super::*;
use crate::config::{IdKind, IdKinds};
use crate::inspect::NOTHING;
use crate::inspect::reader::INTEGER;

const TYPE: &str = "multipart/form-data; boundary=XbX";

fn read<'a>(
    content_type: &str,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<RequestFacts, Invalid> {
    let mut form = Multipart::new(Api::Transcripts, content_type, &NOTHING)?;
    for piece in pieces {
        if let Err(invalid) = form.push(piece) {
            assert_eq!(form.push(b"--"), Err(invalid), "repeated");
            assert_eq!(form.finish(), Err(invalid), "repeated");
            return Err(invalid);
        }
    }
    form.finish()
}

/// What is found, which is the same however the body is cut.
fn inspect(body: &[u8]) -> Result<RequestFacts, Invalid> {
    let whole = read(TYPE, [body]);
    assert_eq!(read(TYPE, body.chunks(1)), whole, "in single bytes");
    for cut in 0..=body.len() {
        assert_eq!(read(TYPE, [&body[..cut], &body[cut..]]), whole, "cut at {cut}");
    }
    whole
}

fn field(name: &str, value: &str) -> String {
    format!("--XbX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(name: &str, media: &str, value: &str) -> String {
    format!(
        "--XbX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a;b=\\\"c.png\"\r\n\
         Content-Type: {media}\r\n\r\n{value}\r\n"
    )
}

#[test]
fn ids_in_forms_are_known_by_their_kind() {
    for (name, kind) in [
        ("image[file_id]", Some(IdKind::File)),
        ("previous_response_id", Some(IdKind::PreviousResponse)),
        ("prompt", None),
    ] {
        let body = format!("{}{}--XbX--", field("model", "m"), field(name, "x"));
        let mut kinds = IdKinds::default();
        kind.into_iter().for_each(|kind| kinds.add(kind));
        assert_eq!(inspect(body.as_bytes()).expect("a form").named.kinds, kinds, "{name}");
    }
}

#[test]
fn values_are_set_apart_by_tenant() {
    let body = [
        file("file", "audio/mpeg", "~"),
        field("user", "u"),
        field("cache_salt", ""),
        field("model", "m"),
        field("prompt_cache_key", "k\r\n--Xb"),
        "--XbX--".into(),
    ]
    .concat();
    let facts = inspect(body.as_bytes()).expect("a form");
    let edited = |tenant: &str, size: usize| {
        let frames = body.as_bytes().chunks(size).map(bytes::Bytes::copy_from_slice);
        let frames: Vec<_> = frames.collect();
        let edited = super::super::apply(&frames, &facts.scoped(&frames, tenant)).concat();
        String::from_utf8(edited).expect("it was")
    };
    let acme = edited("acme", 7);
    assert_eq!(acme, edited("acme", body.len()), "the same for the same");
    assert_ne!(acme, edited("other", 1));
    let bare = acme.replace(|letter: char| letter.is_ascii_hexdigit(), "");
    let emptied = body.replace("\r\n\r\nu\r\n", "\r\n\r\n\r\n").replace("k\r\n--Xb\r\n", "\r\n");
    assert_eq!(bare, emptied.replace(|letter: char| letter.is_ascii_hexdigit(), ""));
    assert_eq!(acme.len(), emptied.len() + 3 * 32);
    for name in ["user", "safety_identifier", "prompt_cache_key", "cache_salt"] {
        let again = field(name, "a") + &field(name, "b");
        let body = format!("{}{again}--XbX--", field("model", "m"));
        assert_eq!(inspect(body.as_bytes()), Err(Invalid::Duplicate(name)));
        let body = format!("{}{}--XbX--", field("model", "m"), file(name, "text/plain", "a"));
        assert!(matches!(inspect(body.as_bytes()), Err(Invalid::Type { .. })), "{name}");
        let other = name.to_uppercase();
        let body = format!("{}{}--XbX--", field("model", "m"), field(&other, "a"));
        assert_eq!(inspect(body.as_bytes()), Err(Invalid::Spelling(name)));
    }
}

/// A file that looks like the form around it.
const NASTY: &str = "\r\n--Xb\r\n--XbY\r\r\n--Xb\r\n\r\n-- name=\"model\"\r\n\r\nno\r\n--";

#[test]
fn fields_are_found_wherever_they_stand() {
    let (model, n, stream) = (field("model", "gpt-é"), field("n", "3"), field("stream", "True"));
    let prompt = field("prompt", "1234567");
    let image = file("image[]", "application/octet-stream", NASTY);
    let audio = file("file", "audio/wav", "\r\n");
    for parts in [
        [&model, &n, &stream, &prompt, &image, &audio],
        [&audio, &image, &prompt, &stream, &n, &model],
        [&image, &model, &audio, &n, &prompt, &stream],
    ] {
        let parts: String = parts.into_iter().map(String::as_str).collect();
        for after in ["", "\r\n", "\r\n\r\n", "\n"] {
            let body = format!("{parts}--XbX--{after}");
            let facts = inspect(body.as_bytes()).expect(&body);
            assert_eq!((&*facts.model, facts.n, facts.stream), ("gpt-é", 3, true));
            assert_eq!((facts.images, facts.text_bytes), (1, 7));
            assert_eq!(facts.media_bytes, NASTY.len() as u64 + 2);
            assert_eq!(facts.body_bytes, body.len() as u64);
            let frames = [bytes::Bytes::from(body.clone())];
            let renamed = super::super::apply(
                &frames,
                &facts.splices(Some("up\"s"), super::super::UsageAsk::Usage, Some(7)),
            )
            .concat();
            let expected = body.replace("gpt-é", "up\"s");
            assert_eq!(String::from_utf8(renamed).expect("UTF-8"), expected);
        }
    }
}

#[test]
fn forms_that_differ_and_mean_the_same() {
    let end = "--XbX--\r\n";
    for part in [
        "--XbX\r\ncontent-disposition:form-data;name=model\r\n\r\nm\r\n",
        "--XbX\r\nX-Any: 1\r\nCONTENT-DISPOSITION: Form-Data ; NAME = \"model\" ;\r\n\r\nm\r\n",
        "--XbX\r\nContent-Transfer-Encoding: 8bit\r\nContent-Disposition: form-data; a=b; name=\"model\"\r\n\
         Content-Type: text/plain; charset=\"UTF-8\"\r\n\r\nm\r\n",
    ] {
        let facts = inspect(format!("{part}{end}").as_bytes()).expect(part);
        assert_eq!(facts.model, "m");
    }
    for (value, is_stream) in [
        ("true", true),
        ("1", true),
        ("On", true),
        ("yes", true),
        ("t", true),
        ("Y", true),
        ("false", false),
        ("n", false),
        ("", false),
    ] {
        let body = format!("{}{}{}", field("stream", value), field("model", "m"), end);
        let facts = inspect(body.as_bytes()).expect("valid");
        assert_eq!(facts.stream, is_stream, "{value}");
    }
    for boundary in ["boundary=\"XbX\"", "charset=utf-8; Boundary=XbX"] {
        let body = format!("{}{end}", field("model", "m"));
        let content_type = format!("Multipart/Form-Data; {boundary}");
        assert!(is_form(&content_type));
        read(&content_type, [body.as_bytes()]).expect(boundary);
    }
}

#[test]
fn what_is_to_be_listened_to_counts_by_its_length_and_pictures_by_what_they_are_to_be() {
    let end = "--XbX--\r\n";
    let wav = "RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\0\0\0\0\x01\0\x08\0";
    for (head, bytes, ms) in [(wav, 16_000, 2_000), ("ID3", 16_000, 16_000), ("", 1, 1)] {
        let sound = format!("{head}{}", "~".repeat(bytes - head.len()));
        let body = format!("{}{}{end}", field("model", "m"), file("file", "audio/x", &sound));
        let facts = read(TYPE, body.as_bytes().chunks(7)).expect("valid");
        assert_eq!(facts.audio_ms, ms, "{head}");
        assert_eq!(facts.estimated_input_tokens(), (ms / 100).max(1));
    }
    for (name, ms) in [("file", 8_000), ("audio", 8_000), ("mask", 0), ("image[]", 0)] {
        let sound = file(name, "image/png", &"~".repeat(8_000));
        let body = format!("{}{sound}{end}", field("model", "m"));
        let facts = read(TYPE, [body.as_bytes()]).expect("valid");
        assert_eq!((facts.audio_ms, facts.images), (ms, u32::from(ms == 0)), "{name}");
    }
    let wanted = [field("quality", "low"), field("size", "1024x1536"), field("quality", "high")];
    let body = format!("{}{}{end}", field("model", "m"), wanted.concat());
    assert_eq!(inspect(body.as_bytes()).expect("valid").picture.tokens(), 6_240);
}

/// A field that nobody knows is text, unless it is a file in base64 from its beginning to its end.
#[test]
fn no_field_is_free() {
    let base64 = "QUJD".repeat(100);
    let picture = format!("data:image/png;base64,{base64}");
    let voice = format!("data:audio/ogg;base64,{base64}");
    let file = format!("data:application/pdf;base64,{base64}");
    let (len, text) = (base64.len() as u64, "a few words ".repeat(10));
    // Name and value; text, images, audio in ms, tokens of media.
    for (name, value, found) in [
        ("hotwords", &text, (120, 0, 0, 0)),
        ("negative_prompt", &text, (120, 0, 0, 0)),
        ("prompt", &picture, (picture.len() as u64, 0, 0, 0)),
        ("anything[]", &picture, (0, 1, 0, 0)),
        ("known_speaker_references[]", &voice, (0, 0, 300, 3)),
        ("file", &base64, (0, 0, 300, 3)),
        ("image[0]", &base64, (0, 1, 0, 0)),
        ("hotwords", &base64, (len, 0, 0, 0)),
        ("document", &file, (0, 0, 0, len.div_ceil(6))),
        // Words behind the head of a data URL are words.
        ("hotwords", &format!("{picture} {text}"), (picture.len() as u64 + 121, 0, 0, 0)),
        ("mask", &"https://a/b.png".to_owned(), (15, 1, 0, 0)),
        ("image", &String::new(), (0, 0, 0, 0)),
        ("image_strength", &"0.5".to_owned(), (3, 0, 0, 0)),
    ] {
        let body = format!("{}{}--XbX--", field("model", "m"), field(name, value));
        let facts = inspect(body.as_bytes()).expect("valid");
        let is = (facts.text_bytes, u64::from(facts.images), facts.audio_ms, facts.media_tokens);
        assert_eq!(is, found, "{name}");
        let (text, images, _, media) = found;
        let least = (facts.field_bytes / 8).max(1);
        let tokens = (text.div_ceil(4) + images * 1024 + media).max(least);
        assert_eq!(facts.estimated_input_tokens(), tokens, "{name}");
    }
    // Also those that decide, or go on as a hash.
    for name in ["user", "quality", "size", "stream"] {
        let body = format!("{}{}--XbX--", field("model", "m"), field(name, &"x".repeat(8_000)));
        let facts = read(TYPE, [body.as_bytes()]).expect("valid");
        assert_eq!(facts.estimated_input_tokens(), 1_000, "{name}");
    }
}

#[test]
fn the_largest_bound_of_a_form_counts_where_words_are_answered() {
    let bounds = [field("max_tokens", "9"), field("max_tokens", "5"), field("n_predict", "-1")];
    let body = format!("{}{}--XbX--", field("model", "m"), bounds.concat());
    let facts = inspect(body.as_bytes()).expect("valid");
    assert_eq!((facts.max_output_tokens, facts.least_output_tokens), (None, 9));
    let mut form = Multipart::new(Api::Images, TYPE, &NOTHING).expect("a boundary");
    form.push(body.as_bytes()).expect("valid");
    let facts = form.finish().expect("valid");
    assert_eq!((facts.least_output_tokens, facts.text_bytes), (0, 4));
    let endless = format!("{}{}--XbX--", field("model", "m"), field("max_tokens", &"9".repeat(30)));
    let facts = inspect(endless.as_bytes()).expect("valid");
    assert_eq!(facts.least_output_tokens, u64::MAX);
    for value in ["-", "5.0", " 5", "+5", "many"] {
        let body = format!("{}{}--XbX--", field("model", "m"), field("max_tokens", value));
        let invalid = Invalid::Type { key: "a bound of the answer", expected: INTEGER };
        assert_eq!(inspect(body.as_bytes()), Err(invalid), "{value}");
    }
}

/// Another server's word for `n` raises what is reserved.
#[test]
fn other_words_for_the_number_of_answers_count() {
    for (parts, n, made) in [
        (field("num_images", "8"), 1, 8),
        (field("n", "2") + &field("batch_size", "8"), 2, 8),
        (field("n_cmpl", "3") + &field("n", "4"), 4, 4),
    ] {
        let body = format!("{}{parts}--XbX--", field("model", "m"));
        let facts = inspect(body.as_bytes()).expect("valid");
        assert_eq!((facts.n, facts.made), (n, made), "{body}");
    }
}

#[test]
fn what_readers_could_disagree_about_is_refused() {
    let model = field("model", "m");
    let head = |head: &str| format!("{model}--XbX\r\n{head}\r\n\r\nx\r\n--XbX--");
    let long = format!("Content-Disposition: form-data; name={}", "x".repeat(PART_HEAD_MAX));
    for body in [
        String::new(),
        "--XbX".into(),
        model.clone(),
        format!("{model}--XbX"),
        format!("{model}--XbX-"),
        format!("{model}--XbX-x"),
        format!("{model}--XbXx\r\n"),
        format!("{model}--XbX\n"),
        format!("{model}--XbX \r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--XbX--"),
        format!("{model}--XbX--x"),
        format!("{model}--XbX--\r\n--XbX\r\nContent-Disposition: form-data; name=a\r\n\r\nb"),
        format!("preamble\r\n{model}--XbX--"),
        format!("\r\n{model}--XbX--"),
        format!("{{\"model\":\"x\"}}\r\n{model}--XbX--"),
        format!("x\n--XbX\n{model}--XbX--"),
        format!("{}--XbX--", file("file", "audio/wav", "a\n--XbX\nb") + &model),
        format!("{}--XbX--", file("file", "audio/wav", "a\r--XbX\rb") + &model),
        format!("{}--XbX--", field("a", "\n--XbX--") + &model),
        format!("{}--XbX--", field("_charset_", "utf-7") + &model),
        head(""),
        format!("--XbX\r\nContent-Disposition: form-data; name=a\r\n\r\n{model}--XbX--"),
        head("Content-Type: text/plain"),
        head("Content-Disposition: attachment; name=a"),
        head("Content-Disposition: form-data"),
        head("Content-Disposition: form-data; filename=a"),
        head("Content-Disposition: form-data; name=a; name=model"),
        head("Content-Disposition: form-data; name=a; name*=UTF-8''model"),
        head("Content-Disposition: form-data; name=\"mo\\del\""),
        head("Content-Disposition: form-data; name=\"a\\\""),
        head("Content-Disposition: form-data; name=a b"),
        head("Content-Disposition: form-data; name=prompt; filename=\"\""),
        head("Content-Disposition: form-data; name=a; filename=\"\""),
        head("Content-Disposition: form-data; name=\"a\"b"),
        head("Content-Disposition: form-data; name=a\r\nContent-Disposition : form-data; name=b"),
        head("Content-Disposition: form-data;\r\n name=a"),
        head("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"),
        head("Content-Disposition: form-data; name=a\nContent-Type: b"),
        head("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64"),
        head("Content-Disposition: form-data; name=n\r\nContent-Type: text/plain; charset=utf-7"),
        head("Content-Disposition: form-data; name=n\r\nContent-Type: application/json"),
        head(&long),
    ] {
        let found = inspect(body.as_bytes());
        assert!(matches!(found, Err(Invalid::Multipart { .. })), "{found:?} {body}");
    }
    let other = field("a", "b");
    let plain = |key| Invalid::Type { key, expected: "a plain field" };
    let cases = [
        (format!("{other}--XbX--"), Invalid::Missing("model")),
        (field("model", "") + "--XbX--", Invalid::ModelEmpty),
        (field("model", &"m".repeat(MODEL_MAX + 1)) + "--XbX--", Invalid::ModelTooLong),
        (format!("{model}{model}"), Invalid::Duplicate("model")),
        (
            file("model", "text/plain", "m"),
            Invalid::Type { key: "model", expected: "a plain field" },
        ),
        (field("n", "-1") + "--XbX--", Invalid::Type { key: "n", expected: INTEGER }),
        (field("n", "") + "--XbX--", Invalid::Type { key: "n", expected: INTEGER }),
        (file("prompt", "text/plain", "x"), plain("prompt")),
        (file("size", "text/plain", "auto"), plain("size")),
        (file("quality", "text/plain", "low"), plain("quality")),
        (file("n", "text/plain", "1"), plain("n")),
        (field("Size", "auto"), Invalid::Spelling("size")),
        (field("quality[]", "low"), Invalid::Spelling("quality")),
        (field(" prompt", "x"), Invalid::Spelling("prompt")),
        (field("Num_Images", "9"), Invalid::Spelling("num_images")),
        (field("Max_Tokens", "9"), Invalid::Spelling("max_tokens")),
        (file("max_tokens", "text/plain", "9"), plain("a bound of the answer")),
        (field("Model", "x"), Invalid::Spelling("model")),
        (field("model[]", "x"), Invalid::Spelling("model")),
        (field(" n", "9"), Invalid::Spelling("n")),
        (field("\u{17f}tream", "1"), Invalid::Spelling("stream")),
    ];
    for (body, invalid) in cases {
        assert_eq!(inspect(body.as_bytes()), Err(invalid), "{body}");
    }
    let latin = [
        field("a", "b").as_bytes(),
        b"--XbX\r\nContent-Disposition: form-data; name=model\r\n\r\n\xe9\r\n--XbX--",
    ]
    .concat();
    assert_eq!(inspect(&latin), Err(Invalid::ModelNotUnicode));
    for boundary in [
        "",
        "boundary=",
        "boundary=a; boundary=b",
        "boundary=a\rb",
        "boundary=\"a \"",
        "boundary*=a",
        "boundary*=a; boundary=a",
        "a=\"; boundary=a\"",
    ] {
        let content_type = format!("multipart/form-data; {boundary}");
        assert_eq!(
            Multipart::new(Api::Transcripts, &content_type, &NOTHING).err(),
            Some(Invalid::Boundary)
        );
    }
    for (given, canonical) in [
        ("boundary=XbX; charset=utf-7", "multipart/form-data; boundary=XbX"),
        ("boundary=\"XbX\"", "multipart/form-data; boundary=XbX"),
        ("x=y; BOUNDARY=\"a b:c\"", "multipart/form-data; boundary=\"a b:c\""),
        ("boundary=a/b", "multipart/form-data; boundary=\"a/b\""),
    ] {
        let form =
            Multipart::new(Api::Transcripts, &format!("multipart/form-data; {given}"), &NOTHING);
        assert_eq!(form.expect(given).facts.content_type, canonical);
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(BOUNDARY_MAX + 1));
    assert_eq!(Multipart::new(Api::Transcripts, &long, &NOTHING).err(), Some(Invalid::Boundary));
}
