//! The load that `benches/compare` makes, and what it sees of the answers: how many, how late, and that
//! they are whole. One thread, no HTTP library: a request goes out as the bytes that it was given, and of
//! the answer no more is read than where it ends.
//!
//! Without `--rate` each connection asks again as soon as it has its answer. With it every request is due
//! at an instant of its own, and one that has to wait for the answer before counts from when it was due:
//! a slow answer is felt by those behind it (Gil Tene's "coordinated omission").

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use memchr::memmem;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

/// Before a time in nanoseconds since the epoch, which the simulator puts before an event.
const STAMP: &[u8] = b":sent ";
const EVENT: &[u8] = b"data: ";
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
const READ: usize = 64 * 1024;
/// Connections that are opened at once.
const OPENING: usize = 64;

#[derive(Debug, Parser)]
struct Options {
    /// Where to, as `127.0.0.1:8080`
    address: SocketAddr,
    /// A file with a whole request, head and body, as it goes over the wire
    request: PathBuf,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// No request begins later than this
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Answers on each connection, at most
    #[arg(long, default_value_t = u64::MAX)]
    each: u64,
    /// Requests a second, over all connections
    #[arg(long)]
    rate: Option<f64>,
    /// Says `open` once every connection has the beginning of an answer
    #[arg(long)]
    hold: bool,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was seen. Times in nanoseconds.
#[derive(Debug, Default)]
struct Seen {
    answers: u64,
    events: u64,
    bytes: u64,
    /// From the request, or from when it was due, to the end of the answer.
    whole: Vec<u64>,
    /// From the request to the first byte of the answer.
    first: Vec<u64>,
    /// From an event's stamp to its arrival.
    event: Vec<u64>,
}

/// What all connections have in common.
struct Load {
    options: Options,
    request: Vec<u8>,
    begun: Instant,
    opening: Semaphore,
    /// One for each connection that has the beginning of an answer.
    held: Semaphore,
}

fn main() {
    let options = Options::parse();
    let request = std::fs::read(&options.request).expect("the request can be read");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let seen = LocalSet::new().block_on(&runtime.expect("a runtime"), run(options, request));
    println!("{}", seen.report());
}

async fn run(options: Options, request: Vec<u8>) -> Seen {
    let (connections, hold) = (options.connections, options.hold);
    let load = Rc::new(Load {
        options,
        request,
        begun: Instant::now(),
        opening: Semaphore::new(OPENING),
        held: Semaphore::new(0),
    });
    let tasks: Vec<_> = (0..connections)
        .map(|number| tokio::task::spawn_local(connection(load.clone(), number)))
        .collect();
    if hold {
        let all = u32::try_from(connections).expect("as many as there are ports");
        let _all = load.held.acquire_many(all).await.expect("never closed");
        println!("open");
    }
    let mut seen = Seen::default();
    for task in tasks {
        seen.add(task.await.expect("a connection does its work"));
    }
    seen
}

async fn connection(load: Rc<Load>, number: usize) -> Seen {
    let opening = load.opening.acquire().await.expect("never closed");
    let mut stream = TcpStream::connect(load.options.address).await.expect("the server listens");
    drop(opening);
    stream.set_nodelay(true).expect("the socket is open");
    let mut seen = Seen::default();
    let mut buffer = Vec::with_capacity(READ);
    for round in 0..load.options.each {
        let Some(due) = load.due(number, round) else { break };
        let mut from = due;
        if from > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
            // A timer that was late is ours.
            from = Instant::now();
        }
        let sent = Instant::now();
        stream.write_all(&load.request).await.expect("the server takes the request");
        read_answer(&mut stream, &mut buffer, sent, &load, &mut seen).await;
        seen.answers += 1;
        seen.whole.push(nanoseconds(from.elapsed()));
    }
    seen
}

impl Load {
    /// When a connection's request is due, if there is time for it.
    fn due(&self, number: usize, round: u64) -> Option<Instant> {
        let due = match self.options.rate {
            None => Instant::now(),
            Some(rate) => {
                let before = round * self.options.connections as u64 + number as u64;
                self.begun + Duration::from_secs_f64(before as f64 / rate)
            }
        };
        let length = Duration::from_secs_f64(self.options.seconds);
        (due.duration_since(self.begun) < length).then_some(due)
    }
}

/// Reads one answer to its end. Anything but a whole 200 ends the program.
async fn read_answer(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    sent: Instant,
    load: &Load,
    seen: &mut Seen,
) {
    buffer.clear();
    let mut head = None;
    let mut looked = 0;
    let mut length = 0;
    loop {
        let count = stream.read_buf(buffer).await.expect("the server answers");
        assert!(count > 0, "the answer broke off: {}", String::from_utf8_lossy(buffer));
        if length == 0 {
            seen.first.push(nanoseconds(sent.elapsed()));
        }
        length += count;
        if head.is_none() {
            head = Head::find(buffer);
            if head.is_some() && load.options.hold {
                load.held.add_permits(1);
            }
        }
        let Some(found) = &head else { continue };
        seen.look(&buffer[looked..]);
        let is_over = match found.length {
            Some(length) => buffer.len() >= found.end + length,
            None => buffer.ends_with(LAST_CHUNK),
        };
        if is_over {
            seen.bytes += length as u64;
            return;
        }
        // What stands after the last whole line is looked at again.
        looked = memchr::memrchr(b'\n', buffer).map_or(looked, |at| at + 1);
    }
}

/// Where a head ends, and how long what follows is.
struct Head {
    end: usize,
    length: Option<usize>,
}

impl Head {
    fn find(buffer: &[u8]) -> Option<Self> {
        let end = memmem::find(buffer, b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(buffer));
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map(|text| text.trim().parse().expect("a length is a number"));
        Some(Self { end, length })
    }
}

impl Seen {
    /// Counts the events in what has come, and how old they are.
    #[expect(clippy::disallowed_methods, reason = "the simulator's stamps are of this clock")]
    fn look(&mut self, bytes: &[u8]) {
        let whole = &bytes[..memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)];
        self.events += memmem::find_iter(whole, EVENT).count() as u64;
        for at in memmem::find_iter(whole, STAMP) {
            let digits = &whole[at + STAMP.len()..];
            let digits = &digits[..memchr::memchr(b'\n', digits).unwrap_or(digits.len())];
            let stamp = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u128>().ok());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let age = now.saturating_sub(stamp.expect("a stamp is a number"));
            self.event.push(u64::try_from(age).unwrap_or(u64::MAX));
        }
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.events += other.events;
        self.bytes += other.bytes;
        self.whole.extend(other.whole);
        self.first.extend(other.first);
        self.event.extend(other.event);
    }

    fn report(self) -> Value {
        json!({
            "answers": self.answers,
            "events": self.events,
            "bytes": self.bytes,
            "whole_us": percentiles(self.whole),
            "first_us": percentiles(self.first),
            "event_us": percentiles(self.event),
        })
    }
}

/// Microseconds; null where nothing was seen.
fn percentiles(mut times: Vec<u64>) -> Value {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return Value::Null };
    let at = |share: f64| times[(last as f64 * share).round() as usize] as f64 / 1e3;
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
