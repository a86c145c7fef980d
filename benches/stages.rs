//! What `micro.rs` times and `instructions.rs` counts: each stage of a request by itself, on what an
//! ordinary request brings.

use std::cell::{OnceCell, RefCell};
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use weir::bench;

/// What one read of a socket brings at most.
const FRAME: usize = 64 * 1024;
/// Rows that are drained at once.
const ROWS: u32 = 2_000;

/// What is done once, and begins when it is called.
pub type Work = Box<dyn FnOnce()>;

pub struct Stage {
    /// Unique, and as it stands in reports.
    pub name: &'static str,
    /// How many of what it is named after one piece of work does.
    pub times: u32,
    /// Makes the work ready.
    pub prepare: Box<dyn Fn() -> Work>,
}

impl Stage {
    fn new<W: FnOnce() + 'static>(name: &'static str, prepare: impl Fn() -> W + 'static) -> Self {
        Self { name, times: 1, prepare: Box::new(move || Box::new(prepare())) }
    }
}

/// All of them. Those that write do so below `dir`, which should be on a disk.
pub fn stages(dir: &Path) -> Vec<Stage> {
    let mut stages = inspect();
    stages.extend(splice());
    stages.push(identify());
    stages.extend(admit());
    stages.push(rewrite());
    stages.extend(meter());
    stages.extend(ledger(dir));
    stages
}

fn chat(content: &str) -> Vec<u8> {
    format!(
        r#"{{"model":"gpt-5.4","messages":[{{"role":"system","content":"You are a careful assistant."}},{{"role":"user","content":"{content}"}}],"temperature":0.7,"stream":true}}"#
    )
    .into_bytes()
}

fn picture(bytes: usize) -> Vec<u8> {
    let base64 = "iVBORw0KGgoAAAANSUhEUgAA".repeat(bytes / 24);
    format!(
        r#"{{"model":"gpt-5.4","messages":[{{"role":"user","content":[{{"type":"text","text":"What is this?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{base64}"}}}}]}}]}}"#
    )
    .into_bytes()
}

fn small() -> Vec<u8> {
    chat(&"What is a weir? ".repeat(10))
}

fn inspect() -> Vec<Stage> {
    let bodies = [
        ("inspect: chat of 300 B", small()),
        ("inspect: chat of 16 KiB", chat(&"What is a \\\"weir\\\"?\\n".repeat(800))),
        ("inspect: picture of 1 MiB", picture(1 << 20)),
    ];
    let stage = |(name, body): (_, Vec<u8>)| {
        let body = Rc::new(body);
        Stage::new(name, move || {
            let body = body.clone();
            move || {
                black_box(bench::inspect(black_box(&body).chunks(FRAME)));
            }
        })
    };
    bodies.into_iter().map(stage).collect()
}

fn splice() -> Vec<Stage> {
    let body = Rc::new(bench::Inspected::new(small().into()));
    let stage = Stage::new("splice: usage option and model", move || {
        let body = body.clone();
        move || {
            black_box(body.spliced());
        }
    });
    vec![stage]
}

fn identify() -> Stage {
    // Made when it is wanted: all other stages would wait for it.
    let table = Rc::new(OnceCell::new());
    Stage::new("identify: one of 100,000 keys", move || {
        let table = table.clone();
        table.get_or_init(|| bench::Identify::new(100_000));
        move || {
            black_box(table.get().expect("it was made just before").once());
        }
    })
}

fn admit() -> Vec<Stage> {
    let kinds = [
        ("admit and settle: no limits", false),
        ("admit and settle: all limits of key and tenant", true),
    ];
    let stage = |(name, is_limited)| {
        let admission = Rc::new(bench::Admission::new(is_limited));
        Stage::new(name, move || {
            let admission = admission.clone();
            move || admission.once()
        })
    };
    kinds.into_iter().map(stage).collect()
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

fn rewrite() -> Stage {
    let request = headers(&[
        ("host", "127.0.0.1:8080"),
        ("accept-encoding", "gzip, deflate"),
        ("connection", "keep-alive"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "OpenAI/Python 2.1.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "2.1.0"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-arch", "x64"),
        ("x-stainless-runtime", "CPython"),
        ("x-stainless-retry-count", "0"),
        ("authorization", "Bearer sk-weir-0000000000000000000000000000000000000000"),
        ("content-length", "300"),
    ]);
    let response = headers(&[
        ("content-type", "application/json"),
        ("content-length", "700"),
        ("date", "Mon, 01 Jun 2026 00:00:00 GMT"),
        ("x-request-id", "req_0123456789abcdef"),
        ("openai-processing-ms", "340"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("set-cookie", "__cf_bm=0"),
        ("server", "cloudflare"),
    ]);
    Stage::new("rewrite: both heads", move || {
        let (mut request, mut response) = (request.clone(), response.clone());
        move || bench::rewrite(black_box(&mut request), black_box(&mut response))
    })
}

fn meter() -> Vec<Stage> {
    let event = Bytes::from_static(
        b"data: {\"id\":\"chatcmpl-CkGhTzB1qYVvW5dMZQ4rTn2xLhEfA\",\"object\":\"chat.completion.chunk\",\
          \"created\":1780470861,\"model\":\"gpt-5.4\",\"service_tier\":\"default\",\
          \"system_fingerprint\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" river\"},\
          \"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
    );
    let stage = |name, hide_usage| {
        let (metering, event) = (bench::Metering::stream(hide_usage), event.clone());
        let metering = Rc::new(RefCell::new(metering));
        Stage::new(name, move || {
            let (metering, event) = (metering.clone(), event.clone());
            move || {
                black_box(metering.borrow_mut().push(black_box(&event)));
            }
        })
    };
    let mut stages =
        vec![stage("meter: event", false), stage("meter: event, usage taken out", true)];
    let answer = Bytes::from_static(
        b"{\"id\":\"chatcmpl-CkGhTzB1qYVvW5dMZQ4rTn2xLhEfA\",\"object\":\"chat.completion\",\
          \"created\":1780470861,\"model\":\"gpt-5.4\",\"choices\":[{\"index\":0,\"message\":{\"role\":\
          \"assistant\",\"content\":\"A weir lets the river run over it while the flow is measured.\",\
          \"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\
          \"usage\":{\"prompt_tokens\":57,\"completion_tokens\":20,\"total_tokens\":77,\
          \"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\
          \"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,\
          \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},\
          \"service_tier\":\"default\"}",
    );
    stages.push(Stage::new("meter: JSON answer", move || {
        let answer = answer.clone();
        move || {
            let mut metering = bench::Metering::json();
            metering.push(&answer);
            assert_eq!(metering.total(), 77, "the meter reads what the answer states");
        }
    }));
    stages
}

fn ledger(dir: &Path) -> Vec<Stage> {
    let journaling = tempfile::tempdir_in(dir).expect("the directory is writable");
    let opened = Rc::new(RefCell::new(bench::Journaling::new(journaling.path())));
    let journal = Stage::new("journal: open and close", move || {
        let _kept = &journaling;
        let opened = opened.clone();
        move || {
            black_box(opened.borrow_mut().once());
        }
    });
    let dir = dir.to_owned();
    let drain = Stage::new("drain: a row", move || {
        let data = tempfile::tempdir_in(&dir).expect("the directory is writable");
        let mut draining = bench::Draining::new(data.path(), ROWS.into(), false);
        move || {
            let _kept = data;
            assert_eq!(draining.once(), u64::from(ROWS));
        }
    });
    vec![journal, Stage { times: ROWS, ..drain }]
}
