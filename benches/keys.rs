//! What only one process with the server in it can measure of many keys: the memory of each, and how soon a
//! change of very many at once holds, counted from its commit, with the silence of the administration listener
//! meanwhile. What a start and a command cost the program as it is shipped, `benches/keys` measures. `WEIR_KEYS` says how
//! many keys, 100,000 by default; ten of them are a tenant's. It writes to the disk that the target directory is on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir::bench::make_keys;
use weir::config::{Config, Secrets};
use weir::server::{Environment, Server};

/// Changed at once, at most.
const MANY: u64 = 100_000;
/// Longer than any change may take.
const GIVE_UP: Duration = Duration::from_secs(120);

fn main() {
    let keys = std::env::var("WEIR_KEYS").ok();
    let keys = keys.map_or(100_000, |text| text.parse().expect("WEIR_KEYS is a number"));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the directory is writable");
    let begun = Instant::now();
    let texts = make_keys(&dir.path().join("data"), keys, (keys / 10).max(1));
    let made = begun.elapsed();
    let before = resident_bytes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(async { start(dir.path()) });
    let after = resident_bytes();
    let ways = Ways { store: dir.path().join("data/weir.sqlite"), server: server.address(), texts };
    let silence = Silence::watch(server.admin_address());
    let tenant = ways.until_refused(
        1,
        "UPDATE keys SET expires_at_ms = 1
         WHERE tenant = (SELECT tenant FROM keys WHERE id = ?1)",
    );
    let many = keys.min(MANY);
    let at_once = format!(
        "UPDATE keys SET revoked_at_ms = 1 WHERE id = ?1 OR rowid <= {}",
        many.saturating_sub(1)
    );
    let at_once = ways.until_refused(2, &at_once);
    let longest = silence.longest();
    let grown = resident_bytes().saturating_sub(after);
    runtime.block_on(server.shutdown(std::future::ready(())));
    let per_key = after.saturating_sub(before) / keys;
    let lines = [
        ("made in one transaction".to_owned(), format!("{made:.1?}")),
        ("memory a key".to_owned(), format!("{per_key} bytes")),
        ("memory after the changes".to_owned(), format!("{} MB more", grown / 1_000_000)),
        ("a tenant's keys".to_owned(), format!("{tenant:.0?}")),
        (format!("{many} keys at once, from the commit"), format!("{at_once:.0?}")),
        ("longest wait for /healthz meanwhile".to_owned(), format!("{longest:.1?}")),
    ];
    let mut text = format!("\n{keys} keys\n\n| | |\n|---|---|\n");
    for (name, value) in lines {
        text.push_str(&format!("| {name} | {value} |\n"));
    }
    std::io::stdout().write_all(text.as_bytes()).expect("somebody reads it");
}

fn start(dir: &Path) -> Server {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nfailed_keys_per_minute = 0\nworkers = 1\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[data]\ndir = {:?}\n",
        dir.join("data").display().to_string()
    );
    let config = Config::from_toml(&config, Secrets::Optional).expect("a configuration");
    Server::start(&config, Environment::default()).expect("it starts")
}

/// How the server is changed and asked.
struct Ways {
    store: std::path::PathBuf,
    server: SocketAddr,
    /// Id and text of some keys.
    texts: Vec<(String, String)>,
}

impl Ways {
    /// From a statement's commit until the server refuses the key that it names.
    fn until_refused(&self, key: usize, sql: &str) -> Duration {
        let (id, text) = &self.texts[key];
        assert_eq!(self.ask(text), 200, "the key works");
        let connection = rusqlite::Connection::open(&self.store).expect("the store opens");
        connection.busy_timeout(GIVE_UP).expect("a setting");
        connection.execute(sql, [id]).expect("the statement is right");
        let begun = Instant::now();
        while self.ask(text) != 401 {
            assert!(begun.elapsed() < GIVE_UP, "the change never holds");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        begun.elapsed()
    }

    fn ask(&self, key: &str) -> u16 {
        ask(self.server, "/v1/models", &format!("authorization: Bearer {key}\r\n"))
    }
}

/// The status of an answer.
fn ask(address: SocketAddr, path: &str, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.expect("an answer has a status")
}

/// Asks for health all the time, on a thread of its own.
struct Silence {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Silence {
    fn watch(admin: SocketAddr) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert_eq!(ask(admin, "/healthz", ""), 200);
                longest = longest.max(begun.elapsed());
                std::thread::park_timeout(Duration::from_millis(2));
            }
            longest
        });
        Self { ended, thread }
    }

    fn longest(self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("health is always answered")
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
