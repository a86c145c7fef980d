//! What each stage of a request costs by itself: `cargo bench`. The end-to-end figures, which are what
//! counts, are `benches/compare`'s.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use weir::bench;

/// What one read of a socket brings at most.
const FRAME: usize = 64 * 1024;

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

fn inspect(criterion: &mut Criterion) {
    let bodies = [
        ("chat of 300 B", chat(&"What is a weir? ".repeat(10))),
        ("chat of 16 KiB", chat(&"What is a \\\"weir\\\"?\\n".repeat(800))),
        ("picture of 10 MiB", picture(10 << 20)),
    ];
    let mut group = criterion.benchmark_group("inspect");
    for (name, body) in &bodies {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(*name, |b| b.iter(|| bench::inspect(black_box(body).chunks(FRAME))));
    }
}

fn identify(criterion: &mut Criterion) {
    let table = bench::Identify::new(10_000);
    criterion.bench_function("identify/one of 10,000 keys", |b| b.iter(|| table.once()));
}

fn admit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit and settle");
    for (name, is_limited) in [("no limits", false), ("all limits of key and tenant", true)] {
        let admission = bench::Admission::new(is_limited);
        group.bench_function(name, |b| b.iter(|| admission.once()));
    }
}

fn meter(criterion: &mut Criterion) {
    let event = Bytes::from_static(
        b"data: {\"id\":\"chatcmpl-CkGhTzB1qYVvW5dMZQ4rTn2xLhEfA\",\"object\":\"chat.completion.chunk\",\
          \"created\":1780470861,\"model\":\"gpt-5.4\",\"service_tier\":\"default\",\
          \"system_fingerprint\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" river\"},\
          \"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
    );
    let mut group = criterion.benchmark_group("meter");
    group.throughput(Throughput::Elements(1));
    for (name, hide_usage) in [("event", false), ("event, usage hidden", true)] {
        let mut metering = bench::Metering::stream(hide_usage);
        group.bench_function(name, |b| b.iter(|| metering.push(black_box(&event))));
    }
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
    let answered = |answer: &Bytes| {
        let mut metering = bench::Metering::json();
        metering.push(answer);
        metering.total()
    };
    assert_eq!(answered(&answer), 77, "the meter reads what the answer states");
    group.bench_function("JSON answer", |b| b.iter(|| answered(black_box(&answer))));
}

/// On the disk that the target directory is on: a memory file system would hide what appends cost.
fn ledger(criterion: &mut Criterion) {
    const BATCH: usize = 2_000;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(target).expect("the target directory is writable");
    let mut journaling = bench::Journaling::new(dir.path());
    criterion.bench_function("journal/open and close", |b| b.iter(|| journaling.once()));
    let mut storing = bench::Storing::new(dir.path());
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    group.bench_function("batch of 2,000 rows", |b| {
        b.iter_custom(|batches| {
            let mut spent = Duration::ZERO;
            for _ in 0..batches {
                let rows = storing.rows(BATCH);
                let begun = std::time::Instant::now();
                assert_eq!(storing.append(&rows), BATCH);
                spent += begun.elapsed();
            }
            spent
        });
    });
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

fn rewrite(criterion: &mut Criterion) {
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
    criterion.bench_function("rewrite/both heads", |b| {
        b.iter_batched_ref(
            || (request.clone(), response.clone()),
            |(request, response)| bench::rewrite(request, response),
            BatchSize::SmallInput,
        );
    });
}

fn quick() -> Criterion {
    let criterion = Criterion::default();
    criterion.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = quick();
    targets = inspect, identify, admit, meter, ledger, rewrite
}
criterion_main!(benches);
