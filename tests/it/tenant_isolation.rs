//! Tenants share one account at the upstream, and do not reach what others have there.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Upstream, World, request};
use crate::http::assert_own_error;
use crate::process::Gateway;

const RESPONSES: &str = "/v1/responses";
const JSON: &str = "content-type: application/json\r\n";

/// A request of the Responses API; `rest`: members after the model's.
fn ask(key: &str, rest: &str) -> String {
    request("POST", RESPONSES, key, "", &format!(r#"{{"model":"gpt-5.4",{rest}}}"#))
}

fn going_on(key: &str, id: &str) -> String {
    ask(key, &format!(r#""input":"go on","previous_response_id":"{id}""#))
}

/// A response as an upstream makes it, of one item.
fn response(id: &str) -> String {
    let item = json!({"id": format!("msg_of_{id}"), "type": "message", "content": []});
    json!({"id": id, "object": "response", "status": "completed", "output": [item]}).to_string()
}

/// Asks for `bytes`, and has the upstream answer with a response called `id`.
async fn made(client: &mut Client, upstream: &Upstream, bytes: &str, id: &str) -> Answer {
    client.send(bytes.as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", &format!("{JSON}connection: close\r\n"), &response(id)).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Asks for what is refused without a word to the upstream.
async fn refused(client: &mut Client, upstream: &Upstream, bytes: &str) -> Answer {
    client.send(bytes.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(!upstream.was_called());
    answer
}

fn assert_not_found(answer: &Answer, id: &str) {
    let expected = json!({"error": {
        "message": format!("Previous response with id '{id}' not found."),
        "type": "invalid_request_error",
        "code": "previous_response_not_found",
        "param": "previous_response_id",
    }});
    assert_eq!(answer.json(), expected, "OpenAI's word for it");
}

#[tokio::test]
async fn a_response_is_gone_on_from_by_its_own_tenant_only() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let (acme, other) = (&world.key, &world.new_key(&["--tenant", "other"]).await);
    let second = &world.new_key(&["--tenant", "acme"]).await;
    let mut client = world.connect().await;
    assert_not_found(&refused(&mut client, &upstream, &going_on(acme, "resp_1")).await, "resp_1");
    made(&mut client, &upstream, &ask(acme, r#""input":"a""#), "resp_1").await;
    // Every key of the tenant, and nobody else.
    made(&mut client, &upstream, &going_on(acme, "resp_1"), "resp_2").await;
    made(&mut client, &upstream, &going_on(second, "resp_2"), "resp_3").await;
    for id in ["resp_1", "resp_2", "resp_3", "resp_4"] {
        let answer = refused(&mut client, &upstream, &going_on(other, id)).await;
        assert_not_found(&answer, id);
    }
    // Items as well, which a client names instead of sending them once more.
    let item = |key: &str, id: &str| {
        ask(key, &format!(r#""input":[{{"type":"item_reference","id":"{id}"}}]"#))
    };
    made(&mut client, &upstream, &item(acme, "msg_of_resp_1"), "resp_5").await;
    let answer = refused(&mut client, &upstream, &item(other, "msg_of_resp_1")).await;
    assert_eq!(answer.code(), "id_not_allowed");
    // Of one that is not kept as well, whose items are sent back whole.
    made(&mut client, &upstream, &ask(acme, r#""input":"a","store":false"#), "resp_6").await;
    let searched =
        |key: &str| ask(key, r#""input":[{"type":"web_search_call","id":"msg_of_resp_6"}]"#);
    made(&mut client, &upstream, &searched(acme), "resp_7").await;
    let answer = refused(&mut client, &upstream, &searched(other)).await;
    assert_eq!(answer.code(), "id_not_allowed");
    // And the container in which an item was made, which would be used again.
    let item = json!({"id": "ci_1", "type": "code_interpreter_call", "container_id": "cntr_1"});
    client.send(ask(acme, r#""input":"a""#).as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    let whole = json!({"id": "resp_8", "status": "completed", "output": [item]}).to_string();
    call.answer("200 OK", &format!("{JSON}connection: close\r\n"), &whole).await;
    assert_eq!(client.answer().await.status, 200);
    let computed = |key: &str| {
        let outputs = r#""outputs":[{"type":"logs","logs":"7"}]"#;
        let item = format!(r#""type":"code_interpreter_call",{outputs},"container_id":"cntr_1""#);
        ask(key, &format!(r#""input":[{{{item}}}]"#))
    };
    made(&mut client, &upstream, &computed(acme), "resp_9").await;
    let answer = refused(&mut client, &upstream, &computed(other)).await;
    assert_eq!(answer.code(), "id_not_allowed");
    world.rows_eventually(8).await;
    world.finish().await;
}

/// A stream's id is known also where its client has left in the middle of it.
#[tokio::test]
async fn streams_have_owners_however_they_end() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let created = |id: &str| {
        let data = json!({"type": "response.created", "response": {"id": id, "output": []}});
        format!("event: response.created\ndata: {data}\n\n")
    };
    let completed = "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
    for (id, is_left) in [("resp_whole", false), ("resp_left", true)] {
        let mut client = world.connect().await;
        client.send(ask(&world.key, r#""input":"a","stream":true"#).as_bytes()).await;
        let (mut call, _) = upstream.call().await;
        call.stream_of(&created(id)).await;
        assert_eq!(client.head().await.status(), 200);
        client.body_until("\n\n").await;
        if !is_left {
            call.chunk(completed).await;
            call.chunk("").await;
            client.rest().await;
        }
        drop(client);
        if is_left {
            call.closed().await;
        }
    }
    world.rows_eventually(2).await;
    let mut client = world.connect().await;
    for (number, id) in ["resp_whole", "resp_left"].into_iter().enumerate() {
        let next = format!("resp_{number}");
        made(&mut client, &upstream, &going_on(&world.key, id), &next).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn ids_that_say_nothing_of_whose_they_are_need_the_operators_word() {
    let upstream = Upstream::start().await;
    let kinds = [
        ("conversation", r#""conversation":"conv_1","input":"a""#),
        ("item_reference", r#""input":[{"id":"msg_1"}]"#),
        ("file_id", r#""input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]"#),
        (
            "vector_store_ids",
            r#""input":"a","tools":[{"type":"file_search","vector_store_ids":["v"]}]"#,
        ),
        ("container", r#""input":"a","tools":[{"type":"code_interpreter","container":"c"}]"#),
        ("prompt", r#""prompt":{"id":"pmpt_1"}"#),
        ("skill_id", r#""input":"a","tools":[{"environment":{"skills":[{"skill_id":"s"}]}}]"#),
        // An item that is not there itself, of a type that is often sent back.
        ("item_reference", r#""input":[{"type":"web_search_call","id":"ws_1"}]"#),
    ];
    let world = World::before(&upstream).start().await;
    let mut client = world.connect().await;
    for (kind, rest) in kinds {
        let answer = refused(&mut client, &upstream, &ask(&world.key, rest)).await;
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["param"]), (&"id_not_allowed".into(), &kind.into()));
        assert_eq!(error["type"], "invalid_request_error");
    }
    // Servers that answer one API by another take its fields along.
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let ask = |rest: &str| {
            let body = format!(r#"{{"model":"gpt-5.4","max_tokens":1,"messages":[],{rest}}}"#);
            request("POST", path, &world.key, "", &body)
        };
        for (code, rest) in [
            ("previous_response_not_found", r#""previous_response_id":"resp_1""#),
            ("id_not_allowed", r#""conversation":"conv_1""#),
            ("id_not_allowed", r#""prompt":{"id":"pmpt_1"}"#),
        ] {
            let answer = refused(&mut client, &upstream, &ask(rest)).await;
            assert!(answer.text().contains(code), "{path} {rest}: {}", answer.text());
        }
    }
    world.finish().await;
    for (key, value) in [
        (
            "upstream.allow_ids",
            r#"["conversation", "item_reference", "file_id", "vector_store_ids", "container", "prompt",
                "previous_response_id", "skill_id"]"#,
        ),
        ("upstream.separate_tenants", "false"),
    ] {
        let world = World::before(&upstream).set(key, value).start().await;
        let mut client = world.connect().await;
        for (_, rest) in kinds {
            made(&mut client, &upstream, &ask(&world.key, rest), "resp_1").await;
        }
        made(&mut client, &upstream, &going_on(&world.key, "resp_unknown"), "resp_2").await;
        world.finish().await;
    }
}

/// What two tenants call alike is one thing for each of them, and always the same.
#[tokio::test]
async fn keys_and_names_of_users_are_another_for_each_tenant() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let other = world.new_key(&["--tenant", "other"]).await;
    let body = r#"{"model":"gpt-5.4", "user":"u","messages":[],"prompt_cache_key" : "k"}"#;
    let seen = async |world: &World, key: &str| {
        let mut client = world.connect().await;
        let headers = "idempotency-key: i\r\nx-request-id: r\r\n";
        let bytes = request("POST", "/v1/chat/completions", key, headers, body);
        client.send(bytes.as_bytes()).await;
        let (mut call, received) = upstream.call().await;
        call.answer("200 OK", JSON, "{}").await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        // What a server may run the request under is nobody else's, and is told to the client.
        let id = received.head.header("x-request-id").expect("it goes on").to_owned();
        assert!(id == "r" || id == answer.event_id(), "{id}");
        assert_eq!(id == "r", received.head.header("idempotency-key") == Some("i"));
        let sent: Value = serde_json::from_slice(&received.body).expect("JSON");
        let key = received.head.header("idempotency-key").expect("it goes on").to_owned();
        let text = String::from_utf8(received.body).expect("text");
        let values = [&sent["user"], &sent["prompt_cache_key"]];
        let [user, cache] = values.map(|value| value.as_str().expect("a string").to_owned());
        let back = text.replacen(&user, "u", 1).replacen(&cache, "k", 1);
        assert_eq!(back, body, "nothing else is edited");
        [key, user, cache]
    };
    let first = seen(&world, &world.key).await;
    assert_eq!(seen(&world, &world.key).await, first);
    for (mine, theirs) in first.iter().zip(seen(&world, &other).await) {
        assert!(*mine != theirs && mine.len() >= 32 && mine.len() <= 64, "{mine} {theirs}");
    }
    world.finish().await;
    let world = World::before(&upstream).set("upstream.separate_tenants", "false").start().await;
    assert_eq!(seen(&world, &world.key).await, ["i", "u", "k"]);
    world.finish().await;
}

#[tokio::test]
async fn owners_survive_a_kill() {
    let upstream = Upstream::start().await;
    let logged =
        World::before(&upstream).set("log.filter", "\"info\"").set("log.format", "\"json\"");
    let (place, _) = logged.place();
    let (acme, other) = (place.create_key(&[]), place.create_key(&["--tenant", "other"]));
    let gateway = Gateway::start(&place);
    let mut client = Client::connect(gateway.address).await;
    made(&mut client, &upstream, &ask(&acme, r#""input":"a""#), "resp_1").await;
    gateway.kill();
    // Twice: what the journal had is in the store by then.
    for number in 2..4 {
        let gateway = Gateway::start(&place);
        let mut client = Client::connect(gateway.address).await;
        let answer = refused(&mut client, &upstream, &going_on(&other, "resp_1")).await;
        assert_not_found(&answer, "resp_1");
        made(&mut client, &upstream, &going_on(&acme, "resp_1"), &format!("resp_{number}")).await;
        gateway.kill();
    }
}

/// Anthropic's clients read the id of a request under their own name for it, in the head and in errors.
#[tokio::test]
async fn anthropics_clients_find_the_id_of_their_request() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.connect().await;
    let post = |body: &str| request("POST", "/v1/messages", &world.key, "", body);
    client.send(post(r#"{"model":"gpt-5.4","max_tokens":1,"messages":[]}"#).as_bytes()).await;
    let (mut call, _) = upstream.call().await;
    call.answer("200 OK", &format!("{JSON}request-id: req_theirs\r\n"), "{}").await;
    let answer = client.answer().await;
    assert_eq!(answer.header("request-id"), Some(answer.event_id()));
    let row = world.row(answer.event_id()).await;
    assert_eq!(row.upstream_request_id.as_deref(), Some("req_theirs"));
    client.send(post("{").as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("request-id")), (400, Some(answer.event_id())));
    assert_eq!(answer.json()["request_id"], answer.event_id());
    client.send(ask(&world.key, "").as_bytes()).await;
    let answer = client.answer().await;
    assert_own_error(&answer, 400, "invalid_request_error", "invalid_request");
    assert_eq!(answer.header("request-id"), None, "that is Anthropic's");
    world.finish().await;
}
