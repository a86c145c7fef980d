//! Requests of every endpoint, in each form that a client can choose.

use crate::harness::MODEL;

/// A request, and what is true of its answer.
pub struct Sample {
    pub path: &'static str,
    pub content_type: String,
    pub body: Vec<u8>,
    pub stream: bool,
    /// The answer's media type.
    pub answer: &'static str,
    /// What stands in the answer.
    pub holds: &'static str,
    /// The answer states its usage in tokens.
    pub states: bool,
}

/// Nothing is used by what is asked there.
pub const FREE: &str = "/v1/messages/count_tokens";

const BOUNDARY: &str = "----WebKitFormBoundary7MA4YWxkTrZu0gW";
const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

/// A whole request; `key` empty: without one.
pub fn post(target: &str, key: &str, content_type: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let authorization = match key {
        "" => String::new(),
        key => format!("authorization: Bearer {key}\r\n"),
    };
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: weir.test\r\n{authorization}content-type: {content_type}\r\n\
         {headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Sample {
    /// Request and answer are both text.
    pub fn is_text(&self) -> bool {
        self.content_type == JSON && [JSON, STREAM].contains(&self.answer)
    }
}

/// The first sample of a path.
pub fn sample(path: &str) -> Sample {
    let found = samples().into_iter().find(|sample| sample.path == path);
    found.unwrap_or_else(|| panic!("there is no sample of {path}"))
}

/// A form of these fields, with a file that looks like a form before them.
pub fn form(fields: &[(&str, &str)], file: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let decoy =
        "\r\n--\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nnone\r\n\u{0}\u{1}";
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{file}\"; filename=\"a.png\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    body.extend(head.as_bytes());
    body.extend(decoy.as_bytes().repeat(50));
    body.extend(b"\xff\xfe\r\n");
    for (name, value) in fields {
        let part = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend(part.as_bytes());
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

pub fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

fn json(
    path: &'static str,
    fields: &str,
    answer: &'static str,
    holds: &'static str,
    states: bool,
) -> Sample {
    let body = format!(r#"{{"model":"{MODEL}",{fields}}}"#).into_bytes();
    let stream = fields.contains("\"stream\":true");
    Sample { path, content_type: JSON.into(), body, stream, answer, holds, states }
}

fn multipart(
    path: &'static str,
    file: &str,
    fields: &[(&str, &str)],
    answer: &'static str,
    holds: &'static str,
    states: bool,
) -> Sample {
    let stream = fields.contains(&("stream", "true"));
    let fields = [fields, &[("model", MODEL)]].concat();
    let body = form(&fields, file);
    Sample { path, content_type: form_type(), body, stream, answer, holds, states }
}

/// All of them; each path's first is no stream.
pub fn samples() -> Vec<Sample> {
    let chat = r#""messages":[{"role":"user","content":"Go on."}]"#;
    let input = r#""input":[{"role":"user","content":[{"type":"input_text","text":"Go on."}]}]"#;
    let message =
        r#""max_tokens":40,"system":"Be brief.","messages":[{"role":"user","content":"Go on."}]"#;
    let edits = "/v1/images/edits";
    let heard = "/v1/audio/transcriptions";
    let streamed = |fields: &str| format!("{fields},\"stream\":true");
    vec![
        json("/v1/chat/completions", chat, JSON, "\"chat.completion\"", true),
        json("/v1/chat/completions", &streamed(chat), STREAM, "data: [DONE]", true),
        json("/v1/completions", r#""prompt":["a","b"],"n":2"#, JSON, "\"index\":3", true),
        json("/v1/completions", r#""stream":true,"prompt":"a""#, STREAM, "data: [DONE]", true),
        json("/v1/responses", input, JSON, "\"output_text\"", true),
        json("/v1/responses", &streamed(input), STREAM, "event: response.completed\n", true),
        json("/v1/messages", message, JSON, "\"end_turn\"", true),
        json("/v1/messages", &streamed(message), STREAM, "event: message_stop\n", true),
        json(FREE, message, JSON, "\"input_tokens\":", false),
        json("/v1/embeddings", r#""input":["a","b"]"#, JSON, "\"index\":1", true),
        json("/v1/embeddings", r#""input":"a","encoding_format":"base64""#, JSON, "=\"}", true),
        json("/v1/moderations", r#""input":["a","b"]"#, JSON, "\"flagged\":false", false),
        json("/v1/images/generations", r#""prompt":"a cat","n":2"#, JSON, "b64_json", true),
        json(
            "/v1/images/generations",
            r#""prompt":"a cat","stream":true,"partial_images":2"#,
            STREAM,
            "event: image_generation.completed\n",
            true,
        ),
        multipart(edits, "image[]", &[("prompt", "a hat"), ("n", "2")], JSON, "b64_json", true),
        multipart(
            edits,
            "image",
            &[("stream", "true"), ("prompt", "a")],
            STREAM,
            "image_edit",
            true,
        ),
        json(edits, r#""prompt":"a","images":[{"image_url":"data:x"}]"#, JSON, "b64_json", true),
        multipart("/v1/images/variations", "image", &[("n", "2")], JSON, "b64_json", true),
        multipart(heard, "file", &[("prompt", "Weir")], JSON, "\"text\":\"Thank", true),
        multipart(heard, "file", &[("stream", "true")], STREAM, "transcript.text.done", true),
        multipart(heard, "file", &[("response_format", "text")], "text/plain", "Thank you.", false),
        multipart("/v1/audio/translations", "file", &[], JSON, "\"text\":\"Thank", false),
        json("/v1/audio/speech", r#""input":"Go on.","voice":"alloy""#, "audio/mpeg", "ID3", false),
        json(
            "/v1/audio/speech",
            r#""input":"Go on.","voice":"alloy","stream_format":"sse""#,
            STREAM,
            "speech.audio.done",
            true,
        ),
    ]
}
