//! nginx in front, by its defaults and by the file in deploy/: what is cut looks cut to a client behind it, and what is
//! whole looks whole.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::CHAT;
use crate::harness::{Client, Upstream, World, chunk, eventually, request};
use crate::http::chat;

const DEPLOYED: &str = include_str!("../../../deploy/nginx.conf");
/// What of it ends TLS.
const LISTEN: &str = "    listen 443 ssl;\n";

const DELTA: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// nginx in one process. Dropped, it is killed.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    async fn start(http: &str) -> Self {
        let address = free_address();
        let dir = tempfile::tempdir().expect("a directory");
        let http = http.replace(LISTEN, &format!("    listen {address};\n"));
        let mut command = nginx(dir.path(), &http);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut nginx =
            Self { child: child.expect("`make ready` installs it"), address, _dir: dir };
        let is_there = || {
            assert!(nginx.child.try_wait().expect("a process of ours").is_none(), "it has ended");
            TcpStream::connect(address).ok()
        };
        eventually("nginx listens", is_there).await;
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address at which nobody else listens: nothing but this takes ports there.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.77.1:0").expect("all of 127.0.0.0/8 is this machine");
    listener.local_addr().expect("it is bound")
}

/// nginx with a file for its `conf.d/`, everything else by its defaults.
fn nginx(dir: &Path, http: &str) -> Command {
    let at = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {at}/{name};\n")).concat();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{http}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config).expect("it is ours");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nginx");
    // Debian has it where only root looks.
    command.env("PATH", format!("{path}:/usr/sbin")).arg("-e").arg("stderr");
    command.arg("-p").arg(dir).arg("-c").arg(file).stdin(Stdio::null());
    command
}

/// By its defaults, which are HTTP/1.0 to its upstreams, and buffers.
fn by_default(weir: SocketAddr) -> String {
    format!("server {{\n{LISTEN}location / {{ proxy_pass http://{weir}; }}\n}}")
}

/// As in deploy/, without TLS.
fn as_deployed(weir: SocketAddr) -> String {
    let lines = DEPLOYED.lines().filter(|line| !line.trim_start().starts_with("ssl_"));
    let plain = lines.fold(String::new(), |text, line| text + line + "\n");
    assert!(plain.contains(LISTEN) && plain.contains("127.0.0.1:8080"));
    plain.replace("127.0.0.1:8080", &weir.to_string())
}

#[tokio::test]
async fn what_is_cut_does_not_look_whole_behind_nginx() {
    // More than what it keeps until there is more.
    let text = "x".repeat(200_000);
    let json = format!(
        r#"{{"choices":[{{"index":0,"message":{{"content":"{text}"}},"finish_reason":"stop"}}]}}"#
    );
    let half_json = &json[..json.len() / 2];
    let whole = [DELTA, FINISH, DONE].concat();
    for config in [by_default, as_deployed] {
        for (content_type, body, is_whole) in [
            ("text/event-stream", &*whole, true),
            ("text/event-stream", DELTA, false),
            ("application/json", &json, true),
            ("application/json", half_json, false),
        ] {
            let upstream = Upstream::start().await;
            let world = World::before(&upstream).start().await;
            let nginx = Nginx::start(&config(world.address())).await;
            let begin = match content_type {
                "text/event-stream" => r#"{"stream":true,"stream_options":{"include_usage":true},"#,
                _ => "{",
            };
            let asked = chat("a").replacen('{', begin, 1);
            let mut client = Client::connect(nginx.address).await;
            client.send(request("POST", CHAT, &world.key, "", &asked).as_bytes()).await;
            let (mut call, _) = upstream.call().await;
            call.ok(&format!("content-type: {content_type}\r\ntransfer-encoding: chunked\r\n"))
                .await;
            call.chunk(body).await;
            if is_whole {
                call.write(chunk("")).await;
            }
            let head = client.head().await;
            assert_eq!((head.status(), head.header("server").is_some()), (200, true));
            drop(call);
            let (rest, ends_whole) = client.rest().await;
            assert_eq!(ends_whole, is_whole, "{content_type}, {} bytes", rest.len());
            assert!(!is_whole || rest == body.as_bytes(), "{content_type}");
            let rows = world.rows_eventually(1).await;
            assert_eq!(rows[0].end, if is_whole { "complete" } else { "upstream_truncated" });
            world.finish().await;
        }
    }
}

#[test]
fn the_file_in_deploy_is_one_that_nginx_takes() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["llm.example.com".to_owned()]);
    let certificate = certificate.and_then(|params| params.self_signed(&key)).expect("a name");
    std::fs::write(dir.path().join("llm.example.com.pem"), certificate.pem()).expect("writes");
    std::fs::write(dir.path().join("llm.example.com.key"), key.serialize_pem()).expect("writes");
    let tls = dir.path().display().to_string();
    let listen = format!("    listen {} ssl;\n", free_address());
    let http = DEPLOYED.replace("/etc/nginx/tls", &tls).replace(LISTEN, &listen);
    let said: Output = nginx(dir.path(), &http).arg("-t").output().expect("nginx runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}
