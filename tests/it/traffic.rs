//! What several files send and read: a gateway in front of the simulator, requests that say to it what
//! is to happen, exchanges that survive the server's death, dice that fall alike every time, and sums of the ledger.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir::simulator::{self, Simulator};

use crate::harness::{Builder, Client, MODEL, Place, Row, World, patiently, request};

pub const CHAT: &str = "/v1/chat/completions";

/// A simulator that keeps a record, and a gateway to be started in front of it.
pub async fn simulated() -> (Simulator, Builder) {
    let options = simulator::Options { record: true, ..simulator::Options::default() };
    let simulator = simulator::start(options).await.expect("it starts");
    let base_url = format!("\"{}\"", simulator.base_url());
    (simulator, World::builder().set("upstream.base_url", base_url))
}

pub fn body(model: &str, is_stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","stream":{is_stream},"messages":[{{"role":"user","content":"Go on."}}]}}"#
    )
}

pub fn chat(key: &str, headers: &str) -> String {
    request("POST", CHAT, key, headers, &body(MODEL, false))
}

pub fn stream(key: &str, headers: &str) -> String {
    request("POST", CHAT, key, headers, &body(MODEL, true))
}

/// Begins a stream, and returns once something of it has come.
pub async fn begin(address: SocketAddr, bytes: &str) -> (Client, String) {
    let mut client = Client::connect(address).await;
    client.send(bytes.as_bytes()).await;
    let head = client.head().await;
    assert_eq!(head.status(), 200, "{}", head.raw);
    let id = head.header("x-request-id").expect("every answer has an id").to_owned();
    client.body_until("data: ").await;
    (client, id)
}

/// What a client got that does not mind if the server dies.
pub struct Heard {
    pub status: u16,
    pub id: String,
    pub text: String,
    /// The end that clients go by was there.
    pub is_whole: bool,
}

/// One exchange on a connection of its own; `None` where not even a head came back.
pub async fn exchange(address: SocketAddr, bytes: &str) -> Option<Heard> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    connection.write_all(bytes.as_bytes()).await.ok()?;
    let mut raw = Vec::new();
    // A reset is an end as good as any: what came before it counts.
    let _ = patiently("an answer", connection.read_to_end(&mut raw)).await;
    let raw = String::from_utf8(raw).expect("these answers are text");
    let (head, rest) = raw.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let is_whole = match header("content-length") {
        Some(length) => length.parse() == Ok(rest.len()),
        None => rest.contains("data: [DONE]") && rest.ends_with("0\r\n\r\n"),
    };
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let id = header("x-request-id")?.to_owned();
    Some(Heard { status, id, text: rest.to_owned(), is_whole })
}

/// The rows by event id, each of which there is once.
pub fn by_id(rows: &[Row]) -> HashMap<&str, &Row> {
    let rows_by_id: HashMap<_, _> = rows.iter().map(|row| (&*row.event_id, row)).collect();
    assert_eq!(rows_by_id.len(), rows.len(), "no event id twice");
    rows_by_id
}

/// Tokens of all rows.
pub fn sum(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.total_tokens).sum()
}

/// `weir usage` without groups: requests and tokens.
pub fn usage(place: &Place) -> (u64, u64) {
    usage_since(place, "2000-01-01")
}

/// As [`usage`], from a moment on.
pub fn usage_since(place: &Place, since: &str) -> (u64, u64) {
    let text = place.weir(&["usage", "--since", since, "--format", "json"]);
    let lines: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let total = |name: &str| lines.iter().map(|line| line[name].as_u64().expect("a number")).sum();
    (total("requests"), total("total_tokens"))
}

/// The next number of a sequence that looks random (SplitMix64), always the same one.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}
