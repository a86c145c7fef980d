//! The listener as HTTP clients meet it: which paths there are, what is refused and how, what every
//! answer carries, what never leaves, and how connections are shared out.

use crate::harness::{Answer, MODEL, Upstream, World, eventually, patiently, request};
use crate::traffic::{CHAT, simulated};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ORIGIN: &str = "origin: https://app.example\r\n";

pub fn chat(text: &str) -> String {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

/// Sends bytes as they are on a new connection.
pub async fn send(world: &World, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = world.connect().await;
    client.send(bytes.as_ref()).await;
    client.answer().await
}

/// What is true of every answer that Weir gives by itself.
pub fn assert_own_error(answer: &Answer, status: u16, kind: &str, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
    assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some(kind), Some(code)));
    assert!(error["message"].as_str().is_some_and(|text| text.ends_with(['.', '?'])), "{body}");
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
        "/v1/embeddings/",
        "/v1/responses/resp_1",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/files",
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
                let message = answer.json()["error"]["message"].to_string();
                assert!(message.contains(&format!("Unknown path `{path}`;")), "{message}");
                let is_near = path.to_lowercase().trim_end_matches('/').ends_with("/completions");
                assert!(!is_near || message.contains("did you mean `/v1/c"), "{message}");
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
    assert_eq!(received.head.header("origin"), None, "Weir answers browsers itself");
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

    let coded = send(&world, post("content-encoding: compress\r\n", &chat("a"))).await;
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
        let what = message.strip_prefix("\"Invalid request. ").expect(&message);
        assert!(what.starts_with(|it: char| it == '`' || it.is_uppercase()), "{message}");
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
async fn slow_heads_end() {
    let (simulator, builder) = simulated().await;
    let world = builder.set("deadlines.request_head_ms", 500).start().await;
    let mut half = world.connect().await;
    half.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: ").await;
    half.closed().await;
    let models = request("GET", "/v1/models", &world.key, "", "");
    let answered = async {
        loop {
            let mut idle = world.connect().await;
            idle.send(models.as_bytes()).await;
            // On a busy machine the deadline may come before the request does: then once more.
            if let Some(head) = idle.head_or_end().await {
                assert_eq!(head.status(), 200);
                return idle;
            }
        }
    };
    let mut idle = patiently("a head comes in time", answered).await;
    assert!(idle.rest().await.1);
    idle.closed().await;
    assert_eq!(simulator.counts().requests, 0);
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn slow_bodies_and_oversized_heads_end() {
    let (simulator, builder) = simulated().await;
    let world = builder
        .set("deadlines.request_body_idle_ms", 500)
        .set("server.max_headers", 16)
        .set("server.max_head_bytes", 8192)
        .start()
        .await;
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
    let two = builder.set("server.max_connections", 2);
    let world = two.set("server.max_connections_per_address", 2).start().await;
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
        format!("x-api-key: {key}\r\nx-api-key: {key}\r\n"),
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
    for (target, host, status) in [
        (CHAT.to_owned(), "host: evil.example\r\n", 200),
        (CHAT.to_owned(), "host: [::1]:99999\r\n", 200),
        (format!("http://evil.example{CHAT}"), "host: evil.example\r\n", 200),
        // RFC 9112, section 3.2: none or two are an error.
        (CHAT.to_owned(), "host: a\r\nhost: b\r\n", 400),
        (CHAT.to_owned(), "", 400),
    ] {
        let bytes = format!(
            "POST {target} HTTP/1.1\r\n{host}authorization: bEaReR {key}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let answer = send(&world, bytes).await;
        assert_eq!(answer.status, status, "{target} {host}: {}", answer.text());
    }
    let own = simulator.addr().to_string();
    for served in simulator.served() {
        assert_eq!(served.headers["host"], own.as_str());
    }
    assert_eq!(simulator.served().len(), 3);
    world.finish().await;
    simulator.shutdown().await;
}
