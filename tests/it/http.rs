//! The listener as HTTP clients meet it: which paths there are, what is refused and how, what every
//! answer carries, what never leaves, and how connections are shared out.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::simulator::{self, Simulator};

use crate::process::Gateway;
use crate::world::{
    Answer, Builder, Client, MODEL, UPSTREAM_KEY, Upstream, World, eventually, patiently, request,
};

const CHAT: &str = "/v1/chat/completions";
const ORIGIN: &str = "origin: https://app.example\r\n";

async fn simulated() -> (Simulator, Builder) {
    let options = simulator::Options { record: true, ..simulator::Options::default() };
    let simulator = simulator::start(options).await.expect("it starts");
    let base_url = format!("\"{}\"", simulator.base_url());
    (simulator, World::builder().set("upstream.base_url", base_url))
}

fn chat(text: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

/// Sends bytes as they are on a new connection.
async fn send(world: &World, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = world.connect().await;
    client.send(bytes.as_ref()).await;
    client.answer().await
}

/// What is true of every answer that Weir gives by itself.
fn assert_own_error(answer: &Answer, status: u16, kind: &str, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
    assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some(kind), Some(code)));
    assert!(error["message"].as_str().is_some_and(|text| text.ends_with('.')), "{body}");
    assert_eq!((error.len(), body.as_object().map(|all| all.len())), (3, Some(1)), "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-weir-origin"), Some("gateway"));
    let id = uuid::Uuid::parse_str(answer.event_id()).expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
}

fn assert_invalid(answer: &Answer, status: u16, code: &str) {
    assert_own_error(answer, status, "invalid_request_error", code);
}

#[tokio::test]
async fn the_routes_are_a_table_and_nothing_else_is_forwarded() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let unknown = [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/chat/completions/",
        "/v1/chat/completions/x",
        "//v1/chat/completions",
        "/v1/chat//completions",
        "/V1/chat/completions",
        "/v1/%63hat/completions",
        "/v1/models/",
        "/v2/models",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/completions",
        "/openai/v1/models",
        "/healthz",
        "/metrics",
        "/simulator/counts",
        "/v1/../v1/models",
        "/favicon.ico",
    ];
    for path in unknown {
        for method in ["GET", "POST", "OPTIONS", "DELETE", "BREW"] {
            for key in [&*world.key, "nobody"] {
                let answer = send(&world, request(method, path, key, "", "")).await;
                assert_invalid(&answer, 404, "not_found");
            }
        }
    }
    for (path, right) in [(CHAT, "POST"), ("/v1/models", "GET"), ("/v1/models/gpt-5.4", "GET")] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if method == right {
                continue;
            }
            let answer = send(&world, request(method, path, "nobody", "", "")).await;
            assert_invalid(&answer, 405, "method_not_allowed");
            assert_eq!(answer.header("allow"), Some(&*format!("{right}, OPTIONS")), "{path}");
        }
    }
    for path in ["/v1/models", "/v1/models/gpt-5.4", "/v1/models/gpt%2D5.4", "/v1/models?limit=1"] {
        let answer = send(&world, request("GET", path, &world.key, "", "")).await;
        assert_eq!(
            (answer.status, answer.header("x-weir-origin")),
            (200, Some("gateway")),
            "{path}"
        );
    }
    assert_eq!(simulator.counts().requests, 0, "nothing was forwarded");
    assert!(world.place.rows().is_empty());
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn browsers_may_call() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let asked = "authorization, content-type, x-stainless-os";
    let preflight = format!(
        "OPTIONS {CHAT} HTTP/1.1\r\nhost: x\r\n{ORIGIN}access-control-request-method: POST\r\n\
         access-control-request-headers: {asked}\r\n\r\n"
    );
    let answer = send(&world, preflight).await;
    assert_eq!((answer.status, &*answer.body), (204, &b""[..]));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some(asked));
    assert!(answer.header("access-control-allow-methods").is_some_and(|all| all.contains("POST")));
    assert!(answer.header("access-control-max-age").is_some());
    let refused = send(&world, request("POST", CHAT, "nobody", ORIGIN, "{}")).await;
    assert_eq!(refused.status, 401);
    let mut client = world.connect().await;
    client.send(request("POST", CHAT, &world.key, ORIGIN, &chat("a")).as_bytes()).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.head.header("origin"), Some("https://app.example"));
    let theirs = "content-type: application/json\r\naccess-control-allow-origin: https://up\r\n\
                  access-control-allow-credentials: true\r\n";
    call.answer("200 OK", theirs, "{}").await;
    let answered = client.answer().await;
    assert_eq!(answered.header("access-control-allow-credentials"), None);
    for answer in [refused, answered] {
        let ours = answer.head.headers.iter().filter(|(n, _)| n == "access-control-allow-origin");
        assert_eq!(ours.map(|(_, value)| &**value).collect::<Vec<_>>(), ["*"]);
        let exposed = answer.header("access-control-expose-headers").expect("some are exposed");
        for name in ["x-request-id", "retry-after", "x-ratelimit-remaining-tokens"] {
            assert!(exposed.contains(name), "{name}: {exposed}");
        }
    }
    let plain = send(&world, request("GET", "/v1/models", &world.key, "", "")).await;
    assert_eq!(plain.header("access-control-allow-origin"), None, "no browser asked");
    world.finish().await;

    let only = World::before(&upstream).set("server.cors_origins", "[\"https://app.example\"]");
    let world = only.start().await;
    for (origin, allowed) in
        [(ORIGIN, Some("https://app.example")), ("origin: https://e\r\n", None)]
    {
        let answer = send(&world, request("GET", "/v1/models", &world.key, origin, "")).await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        assert_eq!(answer.header("vary"), allowed.map(|_| "origin"));
    }
    world.finish().await;
}

#[tokio::test]
async fn bodies_that_cannot_be_are_refused() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.max_body_bytes", 2000).start().await;
    let post = |headers: &str, body: &str| request("POST", CHAT, &world.key, headers, body);
    let large = chat(&"x".repeat(2000));
    assert_invalid(&send(&world, post("", &large)).await, 413, "request_too_large");
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        world.key,
        large.len()
    );
    assert_invalid(&send(&world, chunked).await, 413, "request_too_large");
    // Announced only: the answer does not wait for bytes that would be thrown away.
    let announced = post("", "").replace("content-length: 0", "content-length: 99999999999");
    let mut client = world.connect().await;
    client.send(announced.as_bytes()).await;
    client.half_close().await;
    assert_eq!(client.head().await.status(), 413);

    let coded = send(&world, post("content-encoding: br\r\n", &chat("a"))).await;
    assert_invalid(&coded, 415, "unsupported_media_type");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "x",
        "{}",
        r#"{"model":1}"#,
        r#"{"model":""}"#,
        r#"{"model":"gpt-5.4","model":"gpt-5.4-image-2"}"#,
        r#"{"model":"gpt-5.4","stream":true,"stream":false}"#,
        r#"{"model":"gpt-5.4","max_tokens":1,"max_t\u006fkens":2}"#,
        r#"{"model":"gpt-5.4","stream":"yes"}"#,
        r#"{"model":"gpt-5.4"}}"#,
        "{\"model\":\"gpt-5.4\",\"a\":\"\u{1}\"}",
    ] {
        let answer = send(&world, post("", body)).await;
        assert_invalid(&answer, 400, "invalid_request");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.starts_with("\"Invalid request. "), "{message}");
    }
    assert_eq!(simulator.counts().requests, 0);
    assert_eq!(send(&world, post("", &chat("a"))).await.status, 200, "and the next one is served");
    world.rows_eventually(1).await;
    world.finish().await;
    simulator.shutdown().await;
}

/// Reads until a blank line.
async fn first_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        patiently("a head", stream.read_exact(&mut byte)).await.expect("the server answers");
        head.extend(byte);
    }
    String::from_utf8(head).expect("heads are ASCII")
}

#[tokio::test]
async fn nobody_is_asked_for_a_body_that_is_not_wanted() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let body = chat("a");
    for (key, first) in [("nobody", "HTTP/1.1 401"), (&*world.key, "HTTP/1.1 100")] {
        let mut stream = TcpStream::connect(world.address()).await.expect("it listens");
        let whole = request("POST", CHAT, key, "expect: 100-continue\r\n", &body);
        let head = &whole[..whole.len() - body.len()];
        patiently("bytes are taken", stream.write_all(head.as_bytes())).await.expect("open");
        let answer = first_head(&mut stream).await;
        assert!(answer.starts_with(first), "{answer}");
        if first.ends_with("100") {
            stream.write_all(body.as_bytes()).await.expect("open");
            let answer = first_head(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    world.rows_eventually(1).await;
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn slow_and_oversized_heads_end() {
    let (simulator, builder) = simulated().await;
    let world = builder
        .set("deadlines.request_head_ms", 50)
        .set("deadlines.request_body_idle_ms", 50)
        .set("server.max_headers", 16)
        .set("server.max_head_bytes", 8192)
        .start()
        .await;
    let mut half = world.connect().await;
    half.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ").await;
    half.closed().await;
    let mut idle = world.connect().await;
    idle.send(request("GET", "/v1/models", &world.key, "", "").as_bytes()).await;
    assert_eq!(idle.answer().await.status, 200);
    idle.closed().await;

    let whole = request("POST", CHAT, &world.key, "", &chat("a"));
    let stalled = send(&world, &whole[..whole.len() - 5]).await;
    assert_invalid(&stalled, 400, "invalid_request");
    for headers in ["x-a: b\r\n".repeat(20), format!("x-a: {}\r\n", "b".repeat(10_000))] {
        let mut client = world.connect().await;
        client.send(request("GET", "/v1/models", &world.key, &headers, "").as_bytes()).await;
        assert_eq!(client.head().await.status(), 431);
        client.closed().await;
    }
    assert_eq!(simulator.counts().requests, 0);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn request_bytes_in_flight_have_a_bound() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream)
        .set("server.max_body_bytes", 2000)
        .set("server.max_inflight_body_bytes", 2000)
        .start()
        .await;
    let body = chat(&"x".repeat(1500));
    let mut first = world.post(&body).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(received.body, body.as_bytes());
    let refused = send(&world, world.chat(&body)).await;
    assert_own_error(&refused, 503, "server_error", "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(first.answer().await.status, 200);
    let mut again = world.post(&body).await;
    call.receive().await;
    call.answer("200 OK", "content-type: application/json\r\n", "{}").await;
    assert_eq!(again.answer().await.status, 200, "there is room again");
    world.finish().await;
}

#[tokio::test]
async fn connections_have_a_bound() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.max_connections", 2).start().await;
    let models = request("GET", "/v1/models", &world.key, "", "");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = world.connect().await;
        client.send(models.as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        open.push(client);
    }
    let refused = send(&world, &models).await;
    assert_own_error(&refused, 503, "server_error", "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let mut first = open.remove(0);
    first.send(models.as_bytes()).await;
    assert_eq!(first.answer().await.status, 200, "who is in stays in");
    drop((first, open));
    let room = || (world.server().connections() == [0]).then_some(());
    eventually("the connections are gone", room).await;
    assert_eq!(send(&world, &models).await.status, 200);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn few_connections_are_shared_out_evenly() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("server.workers", 2).start().await;
    let models = request("GET", "/v1/models", &world.key, "", "");
    for count in [2, 4, 8] {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = world.connect().await;
            client.send(models.as_bytes()).await;
            assert_eq!(client.answer().await.status, 200);
            clients.push(client);
        }
        assert_eq!(world.server().connections(), [count / 2, count / 2]);
        // Whoever leaves makes room where it was.
        drop(clients.swap_remove(0));
        let one_less =
            || (world.server().connections().iter().sum::<usize>() < count).then_some(());
        eventually("one less", one_less).await;
        let mut client = world.connect().await;
        client.send(models.as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(world.server().connections(), [count / 2, count / 2]);
        drop((client, clients));
        let none = || (world.server().connections() == [0, 0]).then_some(());
        eventually("all are gone", none).await;
    }
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn hostile_credentials_are_nobody_s_and_a_host_decides_nothing() {
    let (simulator, builder) = simulated().await;
    let world = builder.start().await;
    let key = &*world.key;
    let long = format!("authorization: Bearer {key}{}\r\n", "x".repeat(4000));
    let lines = [
        String::new(),
        "authorization:\r\n".to_owned(),
        "authorization: Bearer\r\n".to_owned(),
        "authorization: Bearer \r\n".to_owned(),
        format!("authorization: {key}\r\n"),
        format!("authorization: Basic {key}\r\n"),
        format!("authorization: Bearer{key}\r\n"),
        format!("authorization: Bearer {key}, Bearer {key}\r\n"),
        format!("authorization: Bearer {key}\r\nauthorization: Bearer {key}\r\n"),
        format!("authorization: Bearer \u{e9}{key}\r\n"),
        format!("authorization: Bearer {}\r\n", key.to_lowercase()),
        format!("x-api-key: {key}\r\n"),
        format!("cookie: authorization=Bearer {key}\r\n"),
        long,
    ];
    for line in lines {
        let bytes = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{line}\r\n");
        let answer = send(&world, bytes).await;
        assert_own_error(&answer, 401, "authentication_error", "invalid_api_key");
        assert!(answer.text().contains("\"Invalid API key.\""), "as the API document prints it");
        assert!(!answer.head.raw.contains(key), "{line}");
    }
    let body = chat("a");
    let length = body.len();
    for (target, host) in [
        (CHAT.to_owned(), "host: evil.example\r\n"),
        (CHAT.to_owned(), "host: a\r\nhost: b\r\n"),
        (CHAT.to_owned(), "host: [::1]:99999\r\n"),
        (CHAT.to_owned(), ""),
        (format!("http://evil.example{CHAT}"), "host: evil.example\r\n"),
    ] {
        let bytes = format!(
            "POST {target} HTTP/1.1\r\n{host}authorization: bEaReR {key}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let answer = send(&world, bytes).await;
        assert_eq!(answer.status, 200, "{target} {host}: {}", answer.text());
    }
    let own = simulator.addr().to_string();
    for served in simulator.served() {
        assert_eq!(served.headers["host"], own.as_str());
    }
    assert_eq!(simulator.served().len(), 5);
    world.finish().await;
    simulator.shutdown().await;
}

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
    let kept = "user-agent: OpenAI/Python 3.54.0\r\nx-stainless-lang: python\r\nx-new: 1\r\n\
                idempotency-key: abc\r\ntraceparent: 00-1-2-01\r\nopenai-beta: x=v2\r\n\
                accept-encoding: gzip, deflate\r\n";
    let path = format!("{CHAT}?a=%2F&b=c%20d&&x");
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
    let theirs = "content-type: application/json\r\nx-request-id: req_1\r\nx-other: kept\r\n\
                  set-cookie: canary=1\r\nalt-svc: canary\r\nopenai-organization: canary\r\n\
                  keep-alive: canary\r\nconnection: x-hidden\r\nx-hidden: canary\r\n\
                  x-ratelimit-limit-requests: 60\r\n";
    call.answer("200 OK", theirs, "{\"choices\":[]}").await;
    let answer = client.answer().await;
    assert!(!answer.head.raw.contains("canary"), "{}", answer.head.raw);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), None);
    assert_eq!(answer.header("x-other"), Some("kept"));
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
    let typo = format!("{}x", &key[..key.len() - 1]);
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
