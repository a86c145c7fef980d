//! What operators ask, and how they are answered: the commands of docs/questions.md one by one, quotas beside a
//! running server, keys that are suspended, and who was refused by what.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Call, Client, MODEL, Upstream, World, eventually, patiently, request,
};
use crate::process::Gateway;

const TOKEN: &str = "an-administrator-s-token";
const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":13,"total_tokens":24}}"#;

/// A chat with a bound.
fn chat_of(max_tokens: u64) -> String {
    format!(
        r#"{{"model":"{MODEL}","max_completion_tokens":{max_tokens},"messages":[{{"role":"user","content":"Go on."}}]}}"#
    )
}

async fn answer(mut call: Call) {
    call.answer("200 OK", "content-type: application/json\r\n", ANSWER).await;
}

/// The only key's id.
fn key_id(world: &World) -> String {
    let list: Value =
        serde_json::from_str(&world.place.weir(&["key", "list", "--format", "json"])).unwrap();
    list[0]["id"].as_str().unwrap().to_owned()
}

/// What a command says on stdout, as JSON, and on stderr.
fn said(mut command: Command) -> (Value, String) {
    let output = command.output().expect("the program runs");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{error}");
    (serde_json::from_slice(&output.stdout).expect("JSON"), error)
}

#[tokio::test]
async fn a_quota_shows_what_is_reserved_while_a_request_runs() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), TOKEN).unwrap();
    let reference = format!("\"file:{}\"", token.path().display());
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).set("admin.token", reference).start().await;
    let id = key_id(&world);
    world.place.weir(&["key", "set", &id, "--monthly-tokens", "5000", "--name", "ci"]);
    let address = world.server().admin_address().to_string();
    let quota = |address: &str| {
        let mut command = world.place.command(&["quota", "--key", &id, "--format", "json"]);
        command.env("WEIR__ADMIN__LISTEN", address);
        let (quotas, error) = said(command);
        (quotas[0].clone(), error)
    };
    let held = |quota: &Value| ["used", "reserved", "limit"].map(|field| quota[field].clone());
    // The server follows the new limit within a second.
    let known = || Some(quota(&address)).filter(|(quota, _)| !quota.is_null());
    let (idle, from) = eventually("the server knows the quota", known).await;
    assert_eq!(held(&idle), [json!(0), json!(0), json!(5000)]);
    assert_eq!((&idle["source"], &idle["key_name"]), (&json!("server"), &json!("ci")));
    assert!(from.contains(&format!("the server at {address}")), "{from}");

    let mut client = world.post(&chat_of(100)).await;
    let (call, _) = upstream.call().await;
    let (running, _) = quota(&address);
    assert_eq!((&running["used"], &running["limit"]), (&json!(0), &json!(5000)));
    let reserved = running["reserved"].as_u64().unwrap();
    assert!(reserved > 100, "{running}");
    answer(call).await;
    assert_eq!(client.answer().await.status, 200);
    world.settled().await;
    assert_eq!(held(&quota(&address).0), [json!(24), json!(0), json!(5000)]);

    // Nobody is there, or somebody who does not know the token: the ledger answers, and that is said.
    world.rows_eventually(1).await;
    let (ledger, from) = quota("127.0.0.1:1");
    assert_eq!(held(&ledger), [json!(24), Value::Null, json!(5000)]);
    assert_eq!((&ledger["source"], &ledger["percent"]), (&json!("ledger"), &json!(0)));
    assert!(from.contains("no answer from a server at 127.0.0.1:1"), "{from}");
    std::fs::write(token.path(), "another").unwrap();
    let (_, from) = quota(&address);
    assert!(from.contains("refuses (401 Unauthorized)"), "{from}");
    world.finish().await;
}

/// One GET beside the data listener.
async fn admin(world: &World, headers: &str) -> Answer {
    let mut client = Client::connect(world.server().admin_address()).await;
    let lines = format!("GET /api/v1/quotas HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    client.send(lines.as_bytes()).await;
    client.answer().await
}

#[tokio::test]
async fn without_a_token_of_its_own_a_server_tells_nobody_of_quotas() {
    let world = World::builder().start().await;
    for headers in ["", "authorization: Bearer x\r\n", "authorization: Bearer \r\n"] {
        let answer = admin(&world, headers).await;
        assert_eq!((answer.status, &*answer.code()), (403, "no_admin_token"));
        assert!(!answer.text().contains("acme"));
    }
    world.finish().await;
}

#[tokio::test]
async fn a_suspended_key_opens_nothing_until_it_is_resumed() {
    let world = World::builder().start().await;
    let id = key_id(&world);
    let status = async || {
        let mut client = world.connect().await;
        client.send(request("GET", "/v1/models", &world.key, "", "").as_bytes()).await;
        client.answer().await.status
    };
    let told = |arguments: &[&str]| {
        said(world.place.command(&[&["key"], arguments, &["--format", "json"]].concat())).1
    };
    for (action, expected, note) in [
        ("suspend", 401, None),
        ("suspend", 401, Some("was suspended already, since 20")),
        ("resume", 200, None),
        ("resume", 200, Some("was not suspended, and works")),
    ] {
        let error = told(&[action, &id]);
        assert_eq!(error.is_empty(), note.is_none(), "{error}");
        assert!(error.contains(note.unwrap_or_default()), "{error}");
        let set = told(&["set", &id, "--name", "ci"]);
        assert_eq!(set.contains("is suspended, since 20"), action == "suspend", "{set}");
        // At once would be too early: the server looks a few times a second.
        let follows = async { while status().await != expected {} };
        patiently("the server follows", follows).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn who_is_refused_by_which_limit_is_in_the_metrics_and_once_in_the_log() {
    let place =
        World::builder().set("log.filter", "\"info\"").set("log.format", "\"json\"").place().0;
    let key = place.create_key(&["--rpm", "1"]);
    let gateway = Gateway::start(&place);
    let mut client = Client::connect(gateway.address).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        client
            .send(request("POST", "/v1/chat/completions", &key, "", &chat_of(5)).as_bytes())
            .await;
        statuses.push(client.answer().await.status);
    }
    // The upstream can't be reached, which counts as a request all the same.
    assert_eq!(statuses, [502, 429, 429]);
    let (_, metrics) = crate::process::get(gateway.admin, "/metrics").await;
    let counted = metrics.lines().find(|line| line.starts_with("weir_limit_refusals_total{"));
    let counted = counted.unwrap_or_else(|| panic!("{metrics}"));
    assert!(counted.contains(r#"tenant="acme",key="key_"#), "{counted}");
    assert!(counted.ends_with(r#"limit="key-requests"} 2"#), "{counted}");
    gateway.signal("TERM");
    let (status, log) = gateway.ended().await;
    assert!(status.success(), "{log}");
    let told: Vec<_> = log.lines().filter(|line| line.contains("a limit refuses")).collect();
    assert_eq!(told.len(), 1, "{log}");
    for part in ["acme", "key_", "key-requests"] {
        assert!(told[0].contains(part), "{told:?}");
    }
    assert!(!log.contains(&key));
}

/// What is not there yet is there a moment later, and an empty answer would not say so.
#[tokio::test]
async fn a_report_without_a_line_says_that_a_running_server_stores_within_a_second() {
    let mut world = World::builder().start().await;
    let export = world.place.path().join("none.csv");
    let reports: [&[&str]; 3] =
        [&["usage"], &["requests", "--format", "json"], &["export", export.to_str().unwrap()]];
    let told = |world: &World, arguments: &[&str]| {
        let output = world.place.command(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let why = "the running server stores a request within a second of its end";
    let id = ["requests", "--id", "019ac38e-5f6b-7c8d-9e0f-1a2b3c4d5e6f"];
    for arguments in reports {
        let error = told(&world, arguments);
        assert!(error.contains("no such requests") && error.contains(why), "{error}");
    }
    assert!(told(&world, &id).contains("it may still run, or have ended within the last second"));
    world.stop().await;
    for arguments in reports {
        let error = told(&world, arguments);
        assert!(error.contains("no such requests") && !error.contains("server"), "{error}");
    }
}

/// The lines of the `sh` blocks of a page, by the heading that they stand under.
fn commands(page: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut heading, mut is_shell) = (String::new(), false);
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_owned();
            found.entry(heading.clone()).or_default();
        } else if line.starts_with("```") {
            is_shell = line == "```sh";
        } else if is_shell {
            found.entry(heading.clone()).or_default().push(line.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn every_question_is_answered_by_at_most_two_commands_that_work() {
    let upstream = Upstream::start().await;
    let world = World::before(&upstream).start().await;
    let mut client = world.post(&chat_of(5)).await;
    answer(upstream.call().await.0).await;
    let answered = client.answer().await;
    world.row(answered.event_id()).await;
    let id = key_id(&world);
    let backup = world.place.path().join("before.sqlite");
    // As a shell in the server's directory finds them.
    let config = world.place.path().join("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::copy(world.place.config_file(), config.join("weir.toml")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());

    let questions = commands(include_str!("../../docs/questions.md"));
    assert_eq!(questions.len(), 16, "{:?}", questions.keys());
    // The tenant goes last.
    let is_last = |question: &&String| question.starts_with("Delete");
    let names =
        questions.keys().filter(|name| !is_last(name)).chain(questions.keys().filter(is_last));
    for question in names {
        assert!(questions[question].len() <= 2, "{question}");
        for line in &questions[question] {
            let line = line
                .replace("019ac38e-5f6b-7c8d-9e0f-1a2b3c4d5e6f", answered.event_id())
                .replace("key_…", &id)
                .replace("/backup/before.sqlite", &backup.display().to_string());
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).current_dir(world.place.path());
            let output = shell.env("PATH", &path).env("KEY", &world.key).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{question}: {line}: {error}");
            let shown = String::from_utf8(output.stdout).unwrap();
            let says = |what: &str| assert!(shown.contains(what), "{line}: {shown}");
            match line.split_whitespace().take(2).collect::<Vec<_>>()[..] {
                ["weir", "usage"] if line.contains("--by tenant") => says("acme"),
                ["weir", "requests"] => says("complete"),
                ["printf", _] | ["weir", "key"] => says(&id),
                ["weir", "check"] => says("valid"),
                _ => {}
            }
        }
    }
    assert!(backup.is_file());
    world.finish().await;
}

/// The names of metrics in the rules of deploy/alerts.yml are those that there are.
#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let rules = include_str!("../../deploy/alerts.yml");
    let documented = include_str!("../../docs/metrics.md");
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let names = rules.split(|c| !is_part(c)).filter(|word| word.starts_with("weir_"));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(documented.contains(&format!("| `{name}` |")), "{name}");
    }
}
