//! One pass over the body of a request: which model, streamed or not, how much it may answer, and how
//! much goes in. JSON is read by a scanner, a form by its delimiters.
//!
//! The keys that decide can follow megabytes of base64, so the whole body is scanned, frame by frame
//! as it arrives. Nothing is built from it and nothing of it is copied but the model's name; what the
//! upstream needs otherwise is spliced into the client's own bytes. Which fields decide, and what else
//! the readers behind Weir may take for one of them, is in `decisive.rs`; which ones an operator does not
//! let pass, in `refusable.rs`. Whatever is not named there passes untouched: unknown fields are the
//! upstream's business.

mod api;
mod key_spelling;
mod name;
mod checked_fields;
mod refusable_fields;
mod item;
mod ids;
mod media;
mod mp3;
mod picture;
mod reader;
mod splice;
mod tenant_scope;
mod multipart;

use http::HeaderValue;

use crate::json::{Malformed, Scanner};
pub(crate) use api::Api;
pub(crate) use checked_fields::checked;
pub(crate) use ids::Named;
use multipart::Multipart;
pub(crate) use multipart::is_form;
pub(crate) use picture::Picture;
use reader::Reader;
#[cfg(test)]
pub(crate) use refusable_fields::NOTHING;
pub(crate) use refusable_fields::{NotAllowed, RefusableFields, Seen};
use splice::Places;
pub(crate) use splice::{Splice, UsageAsk, apply};

/// Bytes of a model's name, decoded, at most.
pub(crate) const MODEL_MAX: usize = 256;

/// Input tokens assumed for an image. What one costs depends on its size and on the model, from about
/// a hundred to a few thousand; this is in the middle, and only the reservation is made of it: what is
/// settled is what the upstream reports.
pub(crate) const TOKENS_PER_IMAGE: u64 = 1024;

/// What the body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// Decoded; 1 to [`MODEL_MAX`] bytes.
    pub(crate) model: String,
    /// Whether `stream` is `true`; null and absent are `false`.
    pub(crate) stream: bool,
    /// `stream_options.include_usage`, if it is a boolean.
    pub(crate) include_usage: Option<bool>,
    /// `stream_options.continuous_usage_stats`, if it is a boolean.
    pub(crate) continuous_usage: Option<bool>,
    /// `background` is `true`: the answer is made after the response has ended.
    pub(crate) background: bool,
    /// Tokens of one answer at most: the largest of all bounds, if one is the API's own and none says that
    /// there is none. Saturated at `u64::MAX`.
    pub(crate) max_output_tokens: Option<u64>,
    /// Tokens of one answer that some upstream may make by a bound, if it knows the word; no less is
    /// reserved.
    pub(crate) least_output_tokens: u64,
    /// Answers asked for, at least 1: `n` (at most `u32::MAX`), for every prompt of a list where the API
    /// takes one.
    pub(crate) n: u64,
    /// The prompts of that list, at least 1.
    pub(crate) prompts: u64,
    /// Answers that are made for them: `best_of` may ask for more, of which the best are shown, and so may
    /// other servers' words for it.
    pub(crate) made: u64,
    /// Tokens that the client has made of its text already.
    pub(crate) tokens: u64,
    /// Raw bytes of the strings a model may read: those in messages, prompts, tools and schemas.
    pub(crate) text_bytes: u64,
    /// Of these, where the answer is speech, what is to be read out.
    pub(crate) spoken_bytes: u64,
    /// Of a form, the bytes of its plain fields, but for media.
    pub(crate) field_bytes: u64,
    /// Raw bytes of images, audio and files in base64 or `data:` URLs.
    pub(crate) media_bytes: u64,
    /// Image parts, inline or by address.
    pub(crate) images: u32,
    /// What files and audio are estimated at.
    pub(crate) media_tokens: u64,
    /// Of these, the audio's, and how long that is.
    pub(crate) audio_tokens: u64,
    pub(crate) audio_ms: u64,
    /// What a picture is to be, if it asks for one.
    pub(crate) picture: Picture,
    pub(crate) body_bytes: u64,
    /// What it names that lies with the upstream's account.
    pub(crate) named: Named,
    /// Fields that some operator refuses.
    pub(crate) refusable: Seen,
    /// What the body was read as, and goes on as.
    pub(crate) content_type: HeaderValue,
    places: Places,
}

/// Why the body is refused. The messages are public: they name keys we know, never the client's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("malformed JSON at byte {}", .0.at)]
    Malformed(#[from] Malformed),
    #[error("malformed form at byte {at}: {reason}")]
    Multipart { at: u64, reason: &'static str },
    #[error("the content type must have one `boundary` of 1 to 70 characters")]
    Boundary,
    #[error("the body must be a JSON object")]
    NotAnObject,
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Parsers disagree about which of two counts, so what we admit might not be what is served.
    #[error("duplicate key `{0}`")]
    Duplicate(&'static str),
    /// Some of them take no notice of case, and would take it for the key itself.
    #[error("a key differs from `{0}` only in how it is written; write `{0}`")]
    Spelling(&'static str),
    #[error("`input` names more than {0} items by their ids; send them themselves")]
    Items(usize),
    #[error("a key is not valid Unicode")]
    KeyNotUnicode,
    #[error("a request has one content type")]
    ContentTypes,
    #[error("`{key}` must be {expected}")]
    Type { key: &'static str, expected: &'static str },
    #[error("`model` must not be empty")]
    ModelEmpty,
    #[error("`model` must be at most {MODEL_MAX} bytes long")]
    ModelTooLong,
    #[error("`model` must be valid Unicode")]
    ModelNotUnicode,
}

/// A body being scanned.
/// On the heap, as it is handed on while the body comes.
#[derive(Debug)]
pub(crate) enum Scan<'f> {
    Json(Box<Json<'f>>),
    Form(Box<Multipart<'f>>),
}

/// A JSON document being scanned.
#[derive(Debug)]
pub(crate) struct Json<'f> {
    scanner: Scanner,
    reader: Reader<'f>,
    body_bytes: u64,
}

impl<'f> Scan<'f> {
    pub(crate) fn json(api: Api, refusable: &'f RefusableFields) -> Self {
        let reader = Reader::new(api, refusable);
        Self::Json(Box::new(Json { scanner: Scanner::new(), reader, body_bytes: 0 }))
    }

    /// `content_type`: that of the request, which names the form's boundary.
    pub(crate) fn form(
        api: Api,
        content_type: &str,
        refusable: &'f RefusableFields,
    ) -> Result<Self, Invalid> {
        Ok(Self::Form(Box::new(Multipart::new(api, content_type, refusable)?)))
    }

    /// Scans the next frame.
    ///
    /// # Errors
    /// The first thing wrong in the body, however it is cut into frames; later calls repeat it.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        match self {
            Self::Json(json) => json.push(piece),
            Self::Form(form) => form.push(piece),
        }
    }

    /// The body ended.
    ///
    /// # Errors
    /// What [`Self::push`] said, or what is missing.
    pub(crate) fn finish(self) -> Result<RequestFacts, Invalid> {
        match self {
            Self::Json(json) => json.finish(),
            Self::Form(form) => form.finish(),
        }
    }
}

impl Json<'_> {
    fn push(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        let verdict = self.scanner.push(piece, &mut self.reader);
        self.body_bytes += piece.len() as u64;
        // The reader sees nothing after a malformed byte, so what it refused came before that.
        self.reader.verdict()?;
        Ok(verdict?)
    }

    fn finish(mut self: Box<Self>) -> Result<RequestFacts, Invalid> {
        let verdict = self.scanner.finish(&mut self.reader);
        self.reader.verdict()?;
        verdict?;
        self.reader.sum_up(self.body_bytes)?;
        Ok(self.reader.facts)
    }
}

impl RequestFacts {
    fn new(places: Places, content_type: HeaderValue) -> Self {
        Self {
            model: String::new(),
            stream: false,
            include_usage: None,
            continuous_usage: None,
            background: false,
            max_output_tokens: None,
            least_output_tokens: 0,
            n: 1,
            prompts: 1,
            made: 1,
            tokens: 0,
            text_bytes: 0,
            spoken_bytes: 0,
            field_bytes: 0,
            media_bytes: 0,
            images: 0,
            media_tokens: 0,
            audio_tokens: 0,
            audio_ms: 0,
            picture: Picture::default(),
            body_bytes: 0,
            named: Named::default(),
            refusable: Seen::default(),
            content_type,
            places,
        }
    }

    /// Tokens to reserve for the input, at least 1: a quarter of the text's bytes, rounded up, the
    /// tokens that stand there as such, [`TOKENS_PER_IMAGE`] for each image, and what files and audio are
    /// taken for. Never less than an eighth of all that is no file: whatever it stands under, a model may
    /// read it. What a form has around its fields is read by nobody.
    pub(crate) fn estimated_input_tokens(&self) -> u64 {
        let images = u64::from(self.images) * TOKENS_PER_IMAGE;
        let sum = self.text_bytes.div_ceil(4) + self.tokens + images + self.media_tokens;
        let bytes = match self.places.is_plain {
            true => self.field_bytes,
            false => self.body_bytes.saturating_sub(self.media_bytes),
        };
        sum.max(bytes / 8).max(1)
    }

    fn add_image(&mut self) {
        self.images = self.images.saturating_add(1);
    }

    fn add_audio(&mut self, ms: u64) {
        let tokens = media::audio_tokens(ms);
        self.audio_ms = self.audio_ms.saturating_add(ms);
        self.audio_tokens = self.audio_tokens.saturating_add(tokens);
        self.media_tokens = self.media_tokens.saturating_add(tokens);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<RequestFacts, Invalid> {
        scan_for(Api::Chat, pieces)
    }

    fn scan_for<'a>(
        api: Api,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<RequestFacts, Invalid> {
        let mut scan = Scan::json(api, &NOTHING);
        for piece in pieces {
            if let Err(invalid) = scan.push(piece) {
                assert_eq!(scan.push(b" "), Err(invalid), "repeated");
                assert_eq!(scan.finish(), Err(invalid), "repeated");
                return Err(invalid);
            }
        }
        scan.finish()
    }

    /// The facts, which are the same however the body is cut.
    fn inspect(body: &[u8]) -> Result<RequestFacts, Invalid> {
        let whole = scan([body]);
        assert_eq!(scan(body.chunks(1)), whole, "in single bytes");
        for cut in 0..=body.len().min(600) {
            assert_eq!(scan([&body[..cut], &body[cut..]]), whole, "cut at {cut}");
        }
        whole
    }

    fn valid(body: &str) -> RequestFacts {
        inspect(body.as_bytes()).expect(body)
    }

    #[test]
    fn every_clients_order() {
        let messages = r#""messages":[{"role":"user","content":"hello"}]"#;
        let options = r#""stream_options":{"include_usage":true}"#;
        let cases = [
            (format!(r#"{{"model":"m-1","stream":true,{messages},{options}}}"#), true, Some(true)),
            (format!(r#"{{"model":"m-1",{messages}}}"#), false, None),
            (format!(r#"{{{messages},"model":"m-1","stream":true,{options}}}"#), true, Some(true)),
            (format!(r#"{{"model":"m-1",{messages},"stream":false}}"#), false, None),
            (format!(r#"{{"model":"m-1","stream":true,{options},{messages}}}"#), true, Some(true)),
        ];
        for (body, stream, include_usage) in cases {
            let facts = valid(&body);
            assert_eq!((&*facts.model, facts.stream), ("m-1", stream), "{body}");
            assert_eq!(facts.include_usage, include_usage, "{body}");
            assert_eq!(facts.text_bytes, "userhello".len() as u64);
            assert_eq!((facts.media_bytes, facts.images), (0, 0));
            assert_eq!(facts.body_bytes, body.len() as u64);
            // It is short: what stands around the text is more than that.
            assert_eq!(facts.estimated_input_tokens(), (body.len() as u64 / 8).max(3));
        }
    }

    #[test]
    fn limits_and_counts() {
        const MAX: u64 = u64::MAX;
        // Rest of the body, most output tokens, least that is reserved, n, answers made.
        let cases = [
            ("", None, 0, 1, 1),
            (r#","max_tokens":5,"n":3"#, Some(5), 5, 3, 3),
            (r#","max_completion_tokens":7,"max_tokens":5"#, Some(7), 7, 1, 1),
            (r#","max_completion_tokens":2,"max_tokens":100000"#, Some(100_000), 100_000, 1, 1),
            (r#","max_completion_tokens":null,"max_tokens":5,"n":null"#, Some(5), 5, 1, 1),
            (r#","max_t\u006fkens":18446744073709551615"#, Some(MAX), MAX, 1, 1),
            (
                r#","max_tokens":99999999999999999999999,"n":4294967296"#,
                Some(MAX),
                MAX,
                4294967295,
                4294967295,
            ),
            (r#","extra":{"n":9,"max_tokens":[8],"stream":1,"model":2},"x":1e9"#, None, 0, 1, 1),
            // No bound, to some reader at least.
            (r#","max_tokens":-1,"n":0"#, None, 0, 1, 1),
            (r#","max_tokens":0"#, None, 0, 1, 1),
            (r#","max_tokens":-1,"max_completion_tokens":7"#, None, 7, 1, 1),
            (r#","max_tokens":9,"n_predict":-1"#, None, 9, 1, 1),
            // Other servers' words raise what is reserved, and are not believed to bound.
            (r#","n_predict":9"#, None, 9, 1, 1),
            (r#","max_tokens":5,"num_predict":9"#, Some(9), 9, 1, 1),
            (r#","max_tokens":5,"max_new_tokens":4"#, Some(5), 5, 1, 1),
            (r#","max_tokens":5,"options":{"num_predict":9}"#, Some(9), 9, 1, 1),
            (r#","options":{"a":{"num_predict":"x"},"n":7},"max_tokens":5"#, Some(5), 5, 1, 1),
            (r#","options":[{"num_predict":9}]"#, None, 0, 1, 1),
            (r#","max_tokens":5,"min_tokens":9"#, Some(9), 9, 1, 1),
            (r#","max_tokens":5,"min_tokens":0,"min_new_tokens":-1"#, Some(5), 5, 1, 1),
            (r#","max_tokens_to_sample":3,"max_output_tokens":4"#, None, 4, 1, 1),
            (r#","n":2,"best_of":9,"use_beam_search":true"#, None, 0, 2, 9),
            (r#","n":2,"n_cmpl":3,"num_return_sequences":4"#, None, 0, 2, 4),
        ];
        for (rest, max_output_tokens, least, n, made) in cases {
            let facts = valid(&format!(r#"{{"model":"m"{rest}}}"#));
            let found = (facts.max_output_tokens, facts.least_output_tokens, facts.n, facts.made);
            assert_eq!(found, (max_output_tokens, least, n, made), "{rest}");
        }
    }

    #[test]
    fn what_operators_refuse_is_seen_however_it_is_written() {
        let lists = [["models", "mock_*"].map(str::to_owned)];
        let refusable = RefusableFields::new(lists.iter().map(|list| &list[..]));
        for (key, is_seen) in [
            ("models", true),
            ("MODELS", true),
            (r"mod\u0065ls", true),
            ("mode\\u017fs", false),
            ("model\\u017f", true),
            ("mock_response", true),
            ("MOCK_", true),
            ("mock", false),
            ("mode", false),
        ] {
            let body = format!(r#"{{"model":"m","metadata":{{"models":1}},"{key}":[]}}"#);
            for pieces in [1, body.len()] {
                let mut scan = Scan::json(Api::Chat, &refusable);
                body.as_bytes().chunks(pieces).for_each(|piece| scan.push(piece).expect(&body));
                let seen = scan.finish().expect(&body).refusable;
                assert_eq!(refusable.refused(0, seen).is_some(), is_seen, "{key}");
            }
        }
    }

    #[test]
    fn a_background_answer_is_known() {
        for (value, expected) in [("true", true), ("false", false), ("null", false)] {
            let body = format!(r#"{{"model":"m","background":{value}}}"#);
            let facts = scan_for(Api::Responses, [body.as_bytes()]).expect(&body);
            assert_eq!(facts.background, expected);
        }
    }

    #[test]
    fn images_media_and_text() {
        // A content part, images, bytes of media, bytes of text without `"content"`'s surroundings.
        let cases = [
            (r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#, 1, 26, 9),
            (r#"{"type":"image_url","image_url":{"url":"https://a/b","detail":"low"}}"#, 1, 0, 23),
            (r#"{"type":"image","image":"data:image/png;base64,AAAA"}"#, 1, 26, 5),
            (r#"{"type":"image","image":"AAAA"}"#, 1, 4, 5),
            (r#"{"type":"image","im\u0061ge":"AA\/A"}"#, 1, 5, 5),
            (r#"{"type":"input_image","image_url":"https://a/b"}"#, 1, 0, 22),
            (r#"{"type":"input_image","image_url":"data:x"}"#, 1, 0, 17),
            (r#"{"type":"input_image","image_url":"data:image\/png;base64,A"}"#, 1, 24, 11),
            (r#"{"type":"image_base64","image_base64":"AAAA"}"#, 1, 4, 12),
            (r#"{"b64_json":["AAAA","BB"]}"#, 2, 6, 0),
            (r#"{"image_url":[{"url":"data:a/b;base64,A"},{"url":"http"}]}"#, 2, 17, 4),
            (r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#, 0, 4, 14),
            (r#"{"type":"file","file":{"file_data":"AAAA","filename":"f"}}"#, 0, 4, 5),
            (r#"{"file":{"url":"data:,A"}}"#, 0, 0, 7),
            (r#"{"file":{"url":"data:a/b;base64,A"}}"#, 0, 17, 0),
            (r#"{"other":{"data":"AAAA","url":"data"},"x":["data:a/b;base64,A"]}"#, 0, 0, 25),
            (r#"{"arguments":"data:a/b;base64,A","refusal":"data:a/b;base64,A"}"#, 0, 0, 34),
            (r#"{"reasoning_content":"data:a/b;base64,A"}"#, 0, 0, 17),
            (r#"{"function":{"arguments":{"image":"A","url":"data:a/b;base64,A"}}}"#, 0, 0, 18),
            (r#"{"type":"tool_use","input":{"file_data":"AA"}}"#, 0, 0, 10),
            (r#"{"source":{"data":"words","type":"text"}}"#, 1, 0, 9),
            (r#"{"source":{"type":"base64","data":"JVBERiAA"}}"#, 0, 8, 6),
            (r#"{"type":"text","text":"data: is text, \u00e9"}"#, 0, 0, 25),
            (r#""data:image/png;base64,AAAA""#, 0, 0, 26),
            (r#"{"image":{"description":"words"}}"#, 0, 0, 5),
            (r#"{"image":null,"image_url":{"url":3},"data:":1}"#, 0, 0, 0),
        ];
        for (part, images, media_bytes, text_bytes) in cases {
            let body = format!(r#"{{"messages":[{{"content":[{part}]}}],"model":"m","user":"u"}}"#);
            let facts = valid(&body);
            let found = (facts.images, facts.media_bytes, facts.text_bytes);
            assert_eq!(found, (images, media_bytes, text_bytes), "{part}");
        }
        let elsewhere =
            r#"{"model":"m","tools":[{"a":"12"}],"prompt":"345","input":["6"],"z":"no"}"#;
        assert_eq!(valid(elsewhere).text_bytes, 6);
    }

    /// Each prompt has an answer, in whatever form it comes.
    #[test]
    fn prompts_are_counted_in_all_their_forms() {
        for (api, field, prompts, made) in [
            (Api::Completions, r#""prompt":"x""#, 1, 1),
            (Api::Completions, r#""prompt":[1,2,3]"#, 1, 1),
            (Api::Completions, r#""prompt":["x","y"],"n":2"#, 2, 4),
            (Api::Completions, r#""prompt_embeds":["A","B","C"]"#, 3, 3),
            (Api::Completions, r#""prompt":"x","prompt_embeds":["A","B"]"#, 3, 3),
            (Api::Images, r#""prompt":"x","num_images":8"#, 1, 8),
            (Api::Images, r#""prompt":"x","n":2,"batch_size":3"#, 1, 3),
        ] {
            let body = format!(r#"{{"model":"m",{field}}}"#);
            let facts = scan_for(api, [body.as_bytes()]).expect("valid");
            assert_eq!((facts.prompts, facts.made), (prompts, made), "{body}");
        }
    }

    #[test]
    fn the_size_of_a_picture_is_a_string_in_any_letters() {
        let scan = |rest: &str| {
            let body = format!(r#"{{"model":"m","prompt":"x",{rest}}}"#);
            scan_for(Api::Images, [body.as_bytes()])
        };
        for (rest, tokens) in [
            (r#""size":"2048x2048""#, 4 * 1_560),
            (r#""Size":"2048x2048""#, 4 * 1_560),
            (r#""\u0073ize":"2048x2048""#, 4 * 1_560),
            (r#""size":null,"\u017fize":"2048x2048","size":"1024x1024""#, 4 * 1_560),
            (r#""Quality":"high""#, 4_160),
        ] {
            assert_eq!(scan(rest).expect(rest).picture.tokens(), tokens, "{rest}");
        }
        let wrong = Err(Invalid::Type { key: "size", expected: "a string" });
        for odd in [r#"{"width":9000,"height":9000}"#, "[9000,9000]", "9000", "true", "{}"] {
            assert_eq!(scan(&format!(r#""size":{odd}"#)), wrong, "{odd}");
        }
    }

    /// What decides at one API only raises what is reserved at another, or passes.
    #[test]
    fn each_api_has_fields_of_its_own() {
        let all =
            r#""max_tokens":5,"max_completion_tokens":7,"max_output_tokens":11,"n":2,"best_of":3"#;
        let body = format!(r#"{{"model":"m",{all}}}"#);
        let foreign = r#"{"model":"m","max_output_tokens":11}"#;
        let odd = r#"{"model":"m","n":"x","best_of":[],"stream_options":7,"max_output_tokens":{}}"#;
        for (api, max, max_foreign, n, made, takes_odd) in [
            (Api::Chat, Some(11), None, 2, 3, false),
            (Api::Completions, Some(11), None, 2, 3, false),
            (Api::Responses, Some(11), Some(11), 1, 3, false),
            (Api::Messages, Some(11), None, 1, 3, false),
            (Api::Images, None, None, 2, 3, false),
            (Api::Transcripts, None, None, 1, 1, false),
            (Api::Other, None, None, 1, 1, true),
        ] {
            let facts = scan_for(api, [body.as_bytes()]).expect("valid");
            let found = (facts.max_output_tokens, facts.n, facts.made);
            assert_eq!(found, (max, n, made), "{api:?}");
            assert_eq!(scan_for(api, [odd.as_bytes()]).is_ok(), takes_odd, "{api:?}");
            let facts = scan_for(api, [foreign.as_bytes()]).expect("valid");
            assert_eq!(facts.max_output_tokens, max_foreign, "{api:?}");
            let is_words = !matches!(api, Api::Images | Api::Other);
            assert_eq!(facts.least_output_tokens, if is_words { 11 } else { 0 }, "{api:?}");
        }
    }

    #[test]
    fn only_the_input_is_read_out() {
        for (api, rest, spoken) in [
            (Api::Speech, r#""input":"12345""#, 5),
            (Api::Speech, r#""instructions":"slowly","input":"12345","voice":"v""#, 5),
            (Api::Speech, r#""prompt":"a","text":"b","messages":["c"],"inp\u0075t":"12345""#, 5),
            (Api::Speech, r#""input":["12",{"image":"345"}]"#, 5),
            (Api::Speech, r#""prompt":"a""#, 0),
            (Api::Other, r#""input":"12345""#, 0),
        ] {
            let body = format!(r#"{{"model":"m",{rest}}}"#);
            let facts = scan_for(api, [body.as_bytes()]).expect(&body);
            assert_eq!(facts.spoken_bytes, spoken, "{body}");
            assert!(facts.estimated_input_tokens() >= facts.text_bytes / 4);
            assert_eq!(scan_for(api, body.as_bytes().chunks(1)), Ok(facts), "in single bytes");
        }
    }

    #[test]
    fn inputs_of_every_api() {
        // API, rest of the body, estimated input tokens, answers made.
        let image = TOKENS_PER_IMAGE;
        let long = "d".repeat(200);
        let cases = [
            (Api::Completions, r#""prompt":"12345678","n":2"#.to_owned(), 2, 2),
            (Api::Completions, r#""prompt":["1234","5678","9"],"best_of":4,"n":2"#.into(), 3, 12),
            (Api::Completions, r#""prompt":[1,2,3]"#.into(), 3, 1),
            (Api::Completions, r#""prompt":[[1,2,3],[4]],"n":2"#.into(), 4, 4),
            (Api::Other, r#""input":["1234","5678"],"n":9"#.into(), 2, 1),
            (Api::Other, r#""input":[[1,2],[3]]"#.into(), 3, 1),
            (Api::Other, r#""input":"speak!!!","voice":"alloy""#.into(), 2, 1),
            (
                Api::Responses,
                r#""instructions":"1234","input":[{"role":"user","content":[
                   {"type":"input_text","text":"12345678"},
                   {"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}]"#
                    .into(),
                // The words of roles and types count, too.
                (4 + 4 + 10 + 8 + 11u64).div_ceil(4) + image,
                1,
            ),
            (
                Api::Messages,
                r#""system":[{"type":"text","text":"1234"}],"messages":[{"role":"user","content":[
                   {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAAAAAA"}},
                   {"type":"image","source":{"type":"url","url":"https://a"}}]}]"#
                    .into(),
                (4 + 4 + 4 + 5 + 6 + 9 + 5 + 3 + 9u64).div_ceil(4) + 2 * image,
                1,
            ),
            (Api::Images, r#""prompt":"1234","n":3,"images":[{"image_url":"data:A"}]"#.into(), 3 + image, 3),
            // Long, so that it is more than what counts in any field.
            (Api::Chat, format!(r#""prediction":{{"content":"{long}"}}"#), 50, 1),
            (Api::Chat, format!(r#""documents":["{long}",{{"a":"{long}"}}]"#), 100, 1),
            (Api::Chat, format!(r#""tools":[{{"enum":[{}-2.5e9]}}]"#, "1,".repeat(49)), 50, 1),
            (Api::Responses, format!(r#""text":{{"format":{{"title":"{long}"}}}}"#), 50, 1),
        ];
        for (api, rest, tokens, n) in cases {
            let body = format!(r#"{{"model":"m",{rest}}}"#);
            let facts = scan_for(api, [body.as_bytes()]).expect(&body);
            let floor = (facts.body_bytes - facts.media_bytes) / 8;
            let estimated = (facts.estimated_input_tokens(), facts.made);
            assert_eq!(estimated, (tokens.max(floor), n), "{api:?} {body}");
            assert_eq!(scan_for(api, body.as_bytes().chunks(1)), Ok(facts), "in single bytes");
        }
    }

    /// Whatever stands in a body, and under which name: a model may read it.
    #[test]
    fn no_field_is_free() {
        let words = "word".repeat(100_000);
        let numbers = "1,".repeat(200_000);
        for field in [
            format!(
                r#""messages":[{{"tool_calls":[{{"function":{{"arguments":"data:a/b;base64,{words}"}}}}]}}]"#
            ),
            format!(
                r#""messages":[{{"content":[{{"type":"refusal","refusal":"data:a/b;base64,{words}"}}]}}]"#
            ),
            format!(r#""messages":[{{"reasoning_content":"data:a/b;base64,{words}"}}]"#),
            format!(r#""messages":[{{"content":[{{"file":{{"file_data":"{words}"}}}}]}}]"#),
            format!(
                r#""messages":[{{"content":[{{"source":{{"type":"text","data":"{words}"}}}}]}}]"#
            ),
            format!(
                r#""messages":[{{"content":[{{"source":{{"type":"te\u0078t","data":"{words}"}}}}]}}]"#
            ),
            format!(r#""messages":[{{"content":[{{"source":{{"data":"{words}","type":"x"}}}}]}}]"#),
            format!(
                r#""tools":[{{"function":{{"parameters":{{"properties":{{"{words}":1}}}}}}}}]"#
            ),
            format!(r#""tools":[{{"function":{{"parameters":{{"image":"{words}"}}}}}}]"#),
            format!(r#""tools":[{{"enum":[{numbers}1]}}]"#),
            format!(r#""prediction":{{"type":"content","content":"{words}"}}"#),
            format!(r#""text":{{"format":{{"schema":{{"title":"{words}"}}}}}}"#),
            format!(r#""documents":["{words}"]"#),
            format!(r#""metadata":{{"anything":"{words}"}}"#),
            format!(r#""input":[{{"type":"function_call","arguments":{{"image":"{words}"}}}}]"#),
        ] {
            let body = format!(r#"{{"model":"m",{field}}}"#);
            let facts = scan([body.as_bytes()]).expect("valid");
            let tokens = facts.estimated_input_tokens();
            assert!(tokens >= body.len() as u64 / 8 - 1, "{tokens}: {:.90}", field);
        }
    }

    #[test]
    fn files_and_audio_count_by_their_size() {
        // A second of speech at 16 kHz in a WAV file's head, and three more bytes of it.
        let wav = "UklGRgAAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAAAAA".to_owned();
        let seconds = |base64: usize, rate: u64| (base64 as u64 / 4 * 3 * 1_000).div_ceil(rate);
        let (long_wav, other) = (wav + &"A".repeat(40_000), "A".repeat(40_000));
        let wav_ms = seconds(long_wav.len(), 32_000);
        for (part, tokens, ms) in [
            (format!(r#"{{"input_audio":{{"data":"{long_wav}"}}}}"#), wav_ms.div_ceil(100), wav_ms),
            (format!(r#"{{"input_audio":{{"data":"{other}"}}}}"#), 300, 30_000),
            (
                format!(r#"{{"input_audio":{{"data":"data:audio/mp3;base64,{other}"}}}}"#),
                300,
                30_000,
            ),
            (format!(r#"{{"file":{{"file_data":"{other}"}}}}"#), 6_667, 0),
            (
                format!(r#"{{"file":{{"file_data":"data:application/pdf;base64,{other}"}}}}"#),
                6_667,
                0,
            ),
            (format!(r#"{{"source":{{"data":"JVBERi{other}"}}}}"#), 6_668, 0),
        ] {
            let body = format!(r#"{{"model":"m","messages":[{{"content":[{part}]}}]}}"#);
            let facts = scan([body.as_bytes()]).expect("valid");
            assert_eq!((facts.media_tokens, facts.audio_ms), (tokens, ms), "{part:.60}");
            assert_eq!(facts.audio_tokens, if ms > 0 { tokens } else { 0 });
            assert_eq!(
                facts.estimated_input_tokens(),
                tokens.max((facts.body_bytes - facts.media_bytes) / 8)
            );
            assert_eq!(scan(body.as_bytes().chunks(7)), Ok(facts), "in pieces");
        }
    }

    #[test]
    fn estimates() {
        let facts = |text: usize, images: usize| {
            let images = vec![r#"{"image":"A"}"#; images].join(",");
            let text = "x".repeat(text);
            valid(&format!(r#"{{"model":"m","prompt":"{text}","messages":[{images}]}}"#))
        };
        // An eighth of what is no file counts at least: 39 bytes here, without text and images.
        for (text, images, tokens) in
            [(0, 0, 4), (1, 0, 5), (20, 0, 7), (40, 0, 10), (41, 0, 11), (8, 2, 2050)]
        {
            assert_eq!(facts(text, images).estimated_input_tokens(), tokens, "{text} {images}");
        }
    }

    #[test]
    fn names_are_decoded() {
        for (raw, model) in [(r"\u0067pt\/4", "gpt/4"), ("é", "é"), (r"\ud834\udd1e", "𝄞")] {
            assert_eq!(valid(&format!(r#"{{"model":"{raw}"}}"#)).model, model);
        }
        let longest = format!(r#"{{"model":"{}"}}"#, r"\u0061".repeat(MODEL_MAX));
        assert_eq!(valid(&longest).model, "a".repeat(MODEL_MAX));
    }

    #[test]
    fn refusals() {
        let depth = crate::json::MAX_DEPTH;
        let deep = format!(r#"{{"model":"m","a":{}"#, "[".repeat(depth));
        let deep_message = format!("malformed JSON at byte {}", deep.len() - 1);
        let (long, longer) = ("m".repeat(MODEL_MAX + 1), r"\u0061".repeat(MODEL_MAX + 1));
        let cases = [
            ("", "malformed JSON at byte 0"),
            ("model=m", "malformed JSON at byte 0"),
            ("{model:1}", "malformed JSON at byte 1"),
            ("nonsense", "the body must be a JSON object"),
            (r#"{"model":"m""#, "malformed JSON at byte 12"),
            (r#"{"model":"m"} x"#, "malformed JSON at byte 14"),
            (&deep, &deep_message),
            (r#"[{"model":"m"}]"#, "the body must be a JSON object"),
            ("3", "the body must be a JSON object"),
            ("{}", "`model` is missing"),
            (r#"{"messages":[{"model":"m"}]}"#, "`model` is missing"),
            (r#"{"model":null}"#, "`model` must be a string"),
            (r#"{"model":["m"]}"#, "`model` must be a string"),
            (r#"{"model":""}"#, "`model` must not be empty"),
            (r#"{"model":"\ud800"}"#, "`model` must be valid Unicode"),
            (&format!(r#"{{"model":"{long}"}}"#), "`model` must be at most 256 bytes long"),
            (&format!(r#"{{"model":"{longer}"}}"#), "`model` must be at most 256 bytes long"),
            (r#"{"model":"m","mod\u0065l":"m"}"#, "duplicate key `model`"),
            (r#"{"stream":null,"stream":true,"model":"m"}"#, "duplicate key `stream`"),
            (r#"{"stream_options":null,"stream_options":{}}"#, "duplicate key `stream_options`"),
            (r#"{"max_tokens":1,"max_tokens":1}"#, "duplicate key `max_tokens`"),
            (r#"{"n":1,"\u006e":1}"#, "duplicate key `n`"),
            (
                r#"{"max_completion_tokens":1,"max_completion_tokens":1}"#,
                "duplicate key `max_completion_tokens`",
            ),
            (
                r#"{"stream_options":{"include_usage":true,"a":1,"include_usage":false}}"#,
                "duplicate key `include_usage`",
            ),
            (
                r#"{"stream_options":{"continuous_usage_stats":true,"continuous_usage_stats":1}}"#,
                "duplicate key `continuous_usage_stats`",
            ),
            (r#"{"n_predict":1,"n_predict":1}"#, "duplicate key `n_predict`"),
            (r#"{"service_tier":"a","service_tier":"b"}"#, "duplicate key `service_tier`"),
            (
                r#"{"options":{"num_predict":1,"x":2,"num_predict":1}}"#,
                "duplicate key `num_predict`",
            ),
            (
                r#"{"Model":"m"}"#,
                "a key differs from `model` only in how it is written; write `model`",
            ),
            (
                r#"{"max_to\u212aens":1}"#,
                "a key differs from `max_tokens` only in how it is written; write `max_tokens`",
            ),
            (
                r#"{"ſtream":true}"#,
                "a key differs from `stream` only in how it is written; write `stream`",
            ),
            (
                r#"{"stream_options":{"Include_usage":true}}"#,
                "a key differs from `include_usage` only in how it is written; write `include_usage`",
            ),
            (
                r#"{"options":{"NUM_PREDICT":9}}"#,
                "a key differs from `num_predict` only in how it is written; write `num_predict`",
            ),
            (r#"{"\ud800":1,"model":"m"}"#, "a key is not valid Unicode"),
            (r#"{"background":"true"}"#, "`background` must be a boolean"),
            (r#"{"stream_options":{"include_usage":"true"}}"#, "`include_usage` must be a boolean"),
            (r#"{"stream_options":{"include_usage":[]}}"#, "`include_usage` must be a boolean"),
            (r#"{"options":{"num_predict":"9"}}"#, "`num_predict` must be a non-negative integer"),
            (r#"{"stream":"true"}"#, "`stream` must be a boolean"),
            (r#"{"stream":1}"#, "`stream` must be a boolean"),
            (r#"{"stream_options":true}"#, "`stream_options` must be an object"),
            (r#"{"stream_options":[]}"#, "`stream_options` must be an object"),
            (r#"{"max_tokens":"5"}"#, "`max_tokens` must be a non-negative integer"),
            (r#"{"max_tokens":-5.5}"#, "`max_tokens` must be a non-negative integer"),
            (r#"{"n":-1}"#, "`n` must be a non-negative integer"),
            (r#"{"n":1e-2}"#, "`n` must be a non-negative integer"),
            (r#"{"max_tokens":5.0}"#, "`max_tokens` must be a non-negative integer"),
            (r#"{"n":1e2}"#, "`n` must be a non-negative integer"),
            (
                r#"{"max_completion_tokens":{}}"#,
                "`max_completion_tokens` must be a non-negative integer",
            ),
            // The first fault counts, wherever the frames end.
            (r#"{"stream":1}}"#, "`stream` must be a boolean"),
        ];
        for (body, message) in cases {
            let invalid = inspect(body.as_bytes()).expect_err(body);
            assert_eq!(invalid.to_string(), message, "{body}");
        }
        let latin = b"{\"model\":\"\xe9\"}";
        assert_eq!(inspect(latin), Err(Invalid::ModelNotUnicode));
    }

    #[test]
    fn what_does_not_concern_us_passes() {
        let bodies: [&[u8]; 7] = [
            b"{\"model\":\"m\",\"user\":\"\xff\xfe\"}",
            br#"{"model":"m","include_usage":1,"include_usage":[[2]]}"#,
            br#"{"model":"m","seed":1,"seed":2,"":0,"":{}}"#,
            br#"{"model":"m","stream_options":{"include_usage":null,"x":1,"x":2}}"#,
            br#"{"model":"m","Temperature":1,"metadata":{"Model":"x","\ud800":1},"Stop":[]}"#,
            br#"{"model":"m","metadata":{"model":1,"model":2,"n":"x","include_usage":0}}"#,
            b"\r\n\t {\"model\" : \"m\"}\n\n",
        ];
        for body in bodies {
            let facts = inspect(body).expect("valid");
            assert_eq!((&*facts.model, facts.n, facts.include_usage), ("m", 1, None));
        }
        let long_key = format!(r#"{{"{}":1,"model":"m"}}"#, "model".repeat(100));
        assert_eq!(valid(&long_key).model, "m");
    }

    #[test]
    fn megabytes_of_base64_before_the_model() {
        let data = "iVBORw0KGgo+/AAA".repeat(512 * 1024);
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image","image":"data:image/png;base64,{data}"}}]}}],"model":"m","stream":true}}"#
        );
        let facts = scan(body.as_bytes().chunks(16 * 1024)).expect("valid");
        assert_eq!((&*facts.model, facts.stream, facts.images), ("m", true, 1));
        assert_eq!(facts.media_bytes, (data.len() + "data:image/png;base64,".len()) as u64);
        assert_eq!(facts.text_bytes, "userimage".len() as u64);
        assert_eq!(scan([body.as_bytes()]), Ok(facts));
    }

    /// Adds to `[text bytes, media bytes, images]` what stands at `path`, the names of all that it
    /// stands in; an item of a list stands under the list's name.
    fn measure(value: &Value, path: &mut Vec<String>, sums: &mut [u64; 3]) {
        match value {
            Value::String(text) => {
                let raw = value.to_string().len() as u64 - 2;
                let name = |back: usize| path.iter().rev().nth(back).map_or("", |name| name);
                let (name, parent) = (name(0), name(1));
                let inside = path.get(2..path.len() - 1).unwrap_or_default();
                let is_call = inside.iter().any(|name| ["arguments", "prompt"].contains(&&**name));
                let is_free = path[0] != "tools" && !is_call;
                let url = text.starts_with("data:image/png;base64,");
                let bytes = ["image", "image_base64", "b64_json"].contains(&name);
                let is_source = parent == "source" && ["data", "url"].contains(&name);
                let address = name == "image_url" || (name, parent) == ("url", "image_url");
                let media = bytes
                    || name == "file_data"
                    || (name == "data" && ["input_audio", "source"].contains(&parent))
                    || (url && ["image_url", "url"].contains(&name) && !is_source);
                sums[usize::from(media && is_free)] += raw;
                sums[2] += u64::from(is_free && (bytes || address || is_source));
            }
            Value::Array(items) => {
                path.push(path[path.len() - 1].clone());
                items.iter().for_each(|item| measure(item, path, sums));
                path.pop();
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    path.push(key.clone());
                    measure(field, path, sums);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn content() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec![
            "content",
            "text",
            "image",
            "image_url",
            "url",
            "file_data",
            "data",
            "input_audio",
            "b64_json",
            "image_base64",
            "source",
            "arguments",
            "prompt",
            "messages",
            "model",
            "stream",
            "other",
        ]);
        let leaf = prop_oneof![
            any::<u32>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            "data:[a-z\"\\\\]{0,9}".prop_map(Value::from),
            "data?".prop_map(Value::from),
            "data:image/png;base64,[A-Z]{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name.clone().prop_map(String::from), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn field() -> impl Strategy<Value = (&'static str, Value)> {
        let integer = || prop_oneof![Just(Value::Null), any::<u32>().prop_map(Value::from)];
        let truth = || prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)];
        prop_oneof![
            integer().prop_map(|value| ("max_tokens", value)),
            integer().prop_map(|value| ("max_completion_tokens", value)),
            integer().prop_map(|value| ("n", value)),
            truth().prop_map(|value| ("stream", value)),
            Just(("stream_options", Value::Null)),
            truth().prop_map(|value| ("stream_options", json!({"include_usage": value, "z": [1]}))),
            truth().prop_map(|value| ("stream_options", json!({"continuous_usage_stats": value}))),
            Just(("stream_options", json!({}))),
            content().prop_map(|value| ("messages", value)),
            content().prop_map(|value| ("tools", value)),
            content().prop_map(|value| ("prompt", value)),
            content().prop_map(|value| ("metadata", value)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn facts_are_those_of_a_parsed_document(
            model in ".{1,20}",
            at in any::<prop::sample::Index>(),
            fields in prop::collection::vec(field(), 0..8),
            upstream in prop::option::of(".{1,9}"),
            ask in prop::sample::select(vec![UsageAsk::Nothing, UsageAsk::Usage, UsageAsk::Running]),
        ) {
            let mut order: Vec<(&str, Value)> = Vec::new();
            for (key, value) in fields {
                if order.iter().all(|(seen, _)| *seen != key) {
                    order.push((key, value));
                }
            }
            order.insert(at.index(order.len() + 1), ("model", model.clone().into()));
            let written: Vec<_> =
                order.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            let body = format!("{{{}}}", written.join(","));
            let mut value: Value = serde_json::from_str(&body).expect("written by serde_json");

            let facts = valid(&body);
            let mut sums = [0; 3];
            for name in ["messages", "tools", "prompt"] {
                measure(&value[name], &mut vec![name.to_owned()], &mut sums);
            }
            prop_assert_eq!([facts.text_bytes, facts.media_bytes, u64::from(facts.images)], sums);
            prop_assert_eq!(&facts.model, &model);
            prop_assert_eq!(facts.stream, value["stream"] == json!(true));
            prop_assert_eq!(facts.include_usage, value["stream_options"]["include_usage"].as_bool());
            let bounds = ["max_completion_tokens", "max_tokens"].map(|name| value[name].as_u64());
            let is_bounded = !bounds.contains(&Some(0));
            let max = bounds[0].max(bounds[1]).filter(|_| is_bounded);
            prop_assert_eq!(facts.max_output_tokens, max);
            prop_assert_eq!(facts.n, value["n"].as_u64().unwrap_or(1).max(1));

            let splices = facts.splices(upstream.as_deref(), ask, None);
            let frames = [bytes::Bytes::from(body)];
            let edited: Value = serde_json::from_slice(&apply(&frames, &splices).concat())
                .expect("still JSON");
            if let Some(upstream) = upstream {
                value["model"] = upstream.into();
            }
            if ask != UsageAsk::Nothing {
                if value["stream_options"].is_null() {
                    value["stream_options"] = json!({});
                }
                value["stream_options"]["include_usage"] = json!(true);
            }
            if ask == UsageAsk::Running {
                value["stream_options"]["continuous_usage_stats"] = json!(true);
            }
            prop_assert_eq!(edited, value);
        }
    }
}
