//! The program as its users run it: `weir serve` as a child process, for what only a process can show:
//! signals, exit codes, `kill -9`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{PATIENCE, Place, eventually, patiently};

/// A running `weir serve`. Dropped, it is killed.
pub struct Gateway {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    log: Option<JoinHandle<String>>,
}

impl Gateway {
    /// Starts it and waits until it says that it is ready. The place has to log as JSON.
    pub fn start(place: &Place) -> Self {
        Self::start_by(place.command(&["serve"]))
    }

    /// As [`Gateway::start`], by a command that becomes `weir serve`.
    pub fn start_by(command: Command) -> Self {
        Self::spawn(command, false)
    }

    /// As [`Gateway::start`]; then the pipe that it logs to is closed.
    pub fn start_unheard(place: &Place) -> Self {
        Self::spawn(place.command(&["serve"]), true)
    }

    fn spawn(mut command: Command, is_unheard: bool) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (found, ready) = mpsc::sync_channel(1);
        let log = std::thread::spawn(move || {
            let (mut all, mut line) = (String::new(), String::new());
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some(addresses) = addresses(&line) {
                    if is_unheard {
                        drop(stderr);
                        let _ = found.try_send(addresses);
                        return all;
                    }
                    let _ = found.try_send(addresses);
                }
                all.push_str(&line);
                line.clear();
            }
            all
        });
        match ready.recv_timeout(PATIENCE) {
            Ok((address, admin)) => Self { child, address, admin, log: Some(log) },
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("not ready: {}", log.join().expect("the reader ends with its pipe"));
            }
        }
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id).status();
        assert!(sent.expect("kill is a command").success(), "no process to send {name} to");
    }

    /// `kill -9`, at once.
    pub fn kill(mut self) {
        self.child.kill().expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }

    /// Waits for the end; how it ended, and all that it logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status =
            eventually("the process ends", || self.child.try_wait().expect("a process of ours"));
        let status = status.await;
        let log = self.log.take().expect("taken only here");
        (status, log.join().expect("the reader ends with its pipe"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One GET on a connection of its own: status and body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let lines = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    connection.write_all(lines.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    patiently("an answer", connection.read_to_string(&mut answer)).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status line"), body.to_owned())
}

/// The two addresses in the line that says that requests are served.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "ready" {
        return None;
    }
    Some((line["listen"].as_str()?.parse().ok()?, line["admin"].as_str()?.parse().ok()?))
}
