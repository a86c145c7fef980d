//! What is told to whom: the upstream, the client, the ledger, metrics and logs each learn their part,
//! and keys, prompts and answers stay where they belong.

use crate::harness::{
    Answer, Client, MODEL, UPSTREAM_KEY, Upstream, World, eventually, misspelt, request,
};
use crate::http::{assert_own_error, chat, send};
use crate::process::Gateway;
use crate::traffic::{CHAT, simulated};

#[tokio::test]
async fn the_upstream_gets_what_is_its_business() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let secret = "cookie: canary=1\r\nx-api-key: canary\r\napi-key: canary\r\n\
                  proxy-authorization: Basic canary\r\nopenai-organization: canary\r\n\
                  openai-project: canary\r\nx-forwarded-for: canary\r\nforwarded: for=canary\r\n\
                  keep-alive: canary\r\nte: canary\r\nproxy-connection: canary\r\n\
                  connection: keep-alive, x-private\r\nx-private: canary\r\n\
                  expect: 100-continue\r\n";
    let kept = "user-agent: OpenAI/Python 3.54.0\r\nx-stainless-lang: python\r\n\
                traceparent: 00-1-2-01\r\nopenai-beta: x=v2\r\n\
                accept-encoding: gzip, deflate\r\n";
    let path = format!("{CHAT}?api-version=%2F&beta=c%20d");
    let body = "{ \"model\" : \"gpt-5.4\",\n \"x\":1.50e1, \"messages\":[], \"u\":\"\\u00e9\"}";
    let mut client = world.connect().await;
    let head = format!("{secret}{kept}");
    client.send(request("POST", &path, &world.key, &head, body).as_bytes()).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.head.first, format!("POST {path} HTTP/1.1"));
    assert_eq!(received.body, body.as_bytes());
    let raw = &received.head.raw;
    assert!(!raw.contains("canary") && !raw.contains(&world.key), "{raw}");
    assert_eq!(received.head.header("expect"), None);
    let authorization = format!("Bearer {UPSTREAM_KEY}");
    assert_eq!(received.head.header("authorization"), Some(&*authorization));
    assert_eq!(received.head.header("accept-encoding"), Some("identity"));
    for line in kept.lines().filter(|line| !line.starts_with("accept-encoding")) {
        let (name, value) = line.split_once(": ").expect("a header");
        assert_eq!(received.head.header(name), Some(value));
    }
    let theirs = "content-type: application/json\r\nx-request-id: req_1\r\nopenai-processing-ms: 7\r\n\
                  set-cookie: canary=1\r\nalt-svc: canary\r\nopenai-organization: canary\r\n\
                  keep-alive: canary\r\nconnection: x-hidden\r\nx-hidden: canary\r\n\
                  x-ratelimit-limit-requests: 60\r\n";
    call.answer("200 OK", theirs, "{\"choices\":[]}").await;
    let answer = client.answer().await;
    assert!(!answer.head.raw.contains("canary"), "{}", answer.head.raw);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), None);
    assert_eq!(answer.header("openai-processing-ms"), Some("7"));
    let row = world.row(answer.event_id()).await;
    assert_eq!(row.upstream_request_id.as_deref(), Some("req_1"));
    world.finish().await;
}

#[tokio::test]
async fn an_answer_s_id_is_its_row_s() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let stream = chat("a").replacen('{', "{\"stream\":true,", 1);
    let cases = [
        ("", &*chat("a"), 200, true),
        ("", &*stream, 200, true),
        ("x-sim-error: 400\r\n", &*chat("a"), 400, true),
        ("x-sim-error: 401\r\n", &*chat("a"), 502, true),
        ("x-sim-error: 500\r\n", &*stream, 500, true),
        ("x-sim-fault: close\r\n", &*chat("a"), 502, true),
        ("", "{", 400, false),
        ("", r#"{"model":"other"}"#, 404, false),
    ];
    for (headers, body, status, is_sent) in cases {
        let answer = send(&world, request("POST", CHAT, &world.key, headers, body)).await;
        assert_eq!(answer.status, status, "{headers}{body}: {}", answer.text());
        if is_sent {
            assert_eq!(world.row(answer.event_id()).await.status, status);
        }
    }
    world.rows_eventually(cases.iter().filter(|case| case.3).count()).await;
    world.finish().await;
    simulator.shutdown().await;
}

/// One exchange with the administration listener.
async fn admin(address: std::net::SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await;
    client.answer().await
}

/// The value of one time series.
fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no {series} in:\n{metrics}"));
    value.trim().parse().expect("a number")
}

#[tokio::test]
async fn health_and_metrics_tell_how_it_is() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let address = world.server().admin_address();
    for _ in 0..3 {
        assert_eq!(send(&world, world.chat(&chat("a"))).await.status, 200);
    }
    assert_eq!(send(&world, request("POST", CHAT, "nobody", "", "{}")).await.status, 401);
    let rows = world.rows_eventually(3).await;
    assert_eq!(admin(address, "/healthz").await.status, 200);
    assert_eq!(admin(address, "/readyz").await.status, 200);
    let metrics = admin(address, "/metrics").await;
    let text = metrics.text();
    let asked =
        |status: u16| format!("weir_requests_total{{endpoint=\"{CHAT}\",status=\"{status}\"}}");
    assert_eq!((value(text, &asked(200)), value(text, &asked(401))), (3.0, 1.0));
    assert_eq!(value(text, "weir_refusals_total{code=\"invalid_api_key\"}"), 1.0);
    assert_eq!(value(text, "weir_request_ends_total{end=\"complete\"}"), 3.0);
    assert_eq!(value(text, "weir_journal_records_total"), 6.0);
    assert_eq!(value(text, "weir_drain_rows_total"), 3.0);
    assert_eq!(value(text, "weir_requests_in_flight"), 0.0);
    assert_eq!(value(text, "weir_request_body_bytes_in_flight"), 0.0);
    let output: u64 = rows.iter().map(|row| row.output_tokens).sum();
    let tokens = format!("weir_tokens_total{{model=\"{MODEL}\",kind=\"output\"}}");
    assert_eq!(value(text, &tokens), output as f64);
    world.server().pretend_disk_full(true);
    let refused = send(&world, world.chat(&chat("a"))).await;
    assert_own_error(&refused, 503, "server_error", "ledger_unavailable");
    let unready = admin(address, "/readyz").await;
    assert_eq!((unready.status, unready.text().contains("ledger_unavailable")), (503, true));
    world.server().pretend_disk_full(false);
    assert_eq!(send(&world, world.chat(&chat("a"))).await.status, 200);
    assert_eq!(admin(address, "/readyz").await.status, 200);
    world.finish().await;
    simulator.shutdown().await;
}

/// Everything in the files below `dir`, file after file.
fn bytes_below(dir: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let more = if path.is_dir() { Ok(bytes_below(&path)) } else { std::fs::read(&path) };
        all.extend(more.expect("a file"));
    }
    all
}

/// No key, prompt or answer is in a log (at its finest level), a metric, the ledger or an error.
#[tokio::test]
async fn what_is_said_stays_between_client_and_upstream() {
    let (simulator, builder) = simulated().await;
    let builder = builder
        .set("log.filter", "\"trace\"")
        .set("log.format", "\"json\"")
        .set("server.max_body_bytes", 5000);
    let (place, _) = builder.place();
    let key = place.create_key(&[]);
    let gateway = Gateway::start(&place);
    let canary = "CanaryOfTheDeep";
    let body = chat(canary);
    let stream = body.replacen('{', "{\"stream\":true,", 1);
    let typo = misspelt(&key);
    let broken = body.replacen('{', "{{", 1);
    let large = chat(&canary.repeat(500));
    let cases: [(&str, &str, &str, u16); 10] = [
        (&key, "", &body, 200),
        (&key, "", &stream, 200),
        (&key, "x-sim-error: invalid_image\r\n", &body, 400),
        (&key, "x-sim-error: 401\r\n", &body, 502),
        (&key, "x-sim-fault: cut:2\r\n", &stream, 200),
        (&key, "x-sim-fault: close\r\n", &body, 502),
        (&key, "", &broken, 400),
        (&key, "", &large, 413),
        (&typo, "", &body, 401),
        (&key, "cookie: CanaryOfTheDeep\r\n", &body.replace(MODEL, "CanaryOfTheDeep"), 404),
    ];
    let mut own = Vec::new();
    for (key, headers, body, status) in cases {
        let mut client = Client::connect(gateway.address).await;
        client.send(request("POST", CHAT, key, headers, body).as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{headers}{body}: {}", answer.text());
        if status == 200 && answer.is_whole {
            // The simulator takes the question up, so an answer would be found by the same word.
            assert!(answer.text().contains("Canary"), "{}", answer.text());
        } else if status != 404 {
            own.extend(answer.head.raw.into_bytes());
        }
    }
    let mut gone = Client::connect(gateway.address).await;
    let bytes = request("POST", CHAT, &key, "x-sim-fault: stall:3\r\n", &stream);
    gone.send(bytes.as_bytes()).await;
    gone.head().await;
    drop(gone);
    eventually("seven rows", || (place.rows().len() == 7).then_some(())).await;
    let metrics = admin(gateway.admin, "/metrics").await.body;
    let files = bytes_below(&place.data_dir());
    gateway.signal("TERM");
    let (status, log) = gateway.ended().await;
    assert!(status.success());
    let after = bytes_below(&place.data_dir());
    assert!(log.contains("request settled"), "the finest level is on: {log}");
    for (place, bytes) in [
        ("the log", log.as_bytes()),
        ("the metrics", &metrics),
        ("the data directory", &files),
        ("the data directory, closed", &after),
        ("an error's head", &own),
    ] {
        for secret in [canary, &key, &typo, UPSTREAM_KEY, &key["sk-weir-".len()..]] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "`{secret}` is in {place}");
        }
    }
    simulator.shutdown().await;
}
