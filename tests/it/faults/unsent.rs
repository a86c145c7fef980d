//! The upstream can't be reached: nothing was sent, nothing is owed, and the client may try again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use weir::server::Environment;
use weir::simulator::{self, Options};

use super::{Booked, CHAT, Tokens, assert_refused};
use crate::harness::{UPSTREAM_KEY, Upstream, World};

/// The client is refused with `status` and `code`, and the row says that nothing was sent.
async fn check(world: World, status: u16, code: &str, retry: &str) {
    let answer = world.post(CHAT).await.answer().await;
    assert_refused(&world, &answer, status, code, Some(retry));
    let unsent = Booked::unanswered("not_sent", Tokens::Nothing, status);
    Booked { attempts: 0, ..unsent }.check_only(&world, answer.event_id()).await;
    world.finish().await;
}

fn before(base_url: &str) -> crate::harness::Builder {
    World::builder().set("upstream.base_url", format!("{base_url:?}"))
}

/// A socket that has a port and does not listen.
fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).expect("a port is free");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("it is IP");
    (socket, address)
}

#[tokio::test]
async fn row_01_name_does_not_resolve() {
    let environment = Environment {
        resolve: Arc::new(|_: &str, _| Box::pin(async { Err(io::ErrorKind::NotFound.into()) })),
        ..Environment::default()
    };
    let world = before("http://upstream.invalid:8123").environment(environment).start().await;
    check(world, 502, "upstream_dns", "true").await;
}

#[tokio::test]
async fn row_01_name_has_no_address() {
    let environment = Environment {
        resolve: Arc::new(|_: &str, _| Box::pin(async { Ok(Vec::new()) })),
        ..Environment::default()
    };
    let world = before("http://upstream.invalid:8123").environment(environment).start().await;
    check(world, 502, "upstream_dns", "true").await;
}

#[tokio::test]
async fn row_02_name_server_silent() {
    let environment = Environment {
        resolve: Arc::new(|_: &str, _| Box::pin(std::future::pending())),
        ..Environment::default()
    };
    let builder = before("http://upstream.invalid:8123").environment(environment);
    let world = builder.set("upstream.connect_ms", 150).start().await;
    check(world, 504, "upstream_dns_timeout", "true").await;
}

#[tokio::test]
async fn row_03_connection_refused() {
    let (_held, address) = bound();
    check(before(&format!("http://{address}")).start().await, 502, "upstream_connect", "true")
        .await;
}

#[tokio::test]
async fn row_04_syn_black_hole() {
    let (socket, address) = bound();
    socket.listen(0).expect("it is bound");
    // Connections that nobody accepts, until the kernel answers no further ones.
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue has no end");
    }
    let builder = before(&format!("http://{address}")).set("upstream.connect_ms", 150);
    check(builder.start().await, 504, "upstream_connect_timeout", "true").await;
}

#[tokio::test]
async fn row_05_certificate_of_an_unknown_authority() {
    let simulator = simulator::start(Options { tls: true, ..Options::default() }).await;
    let simulator = simulator.expect("it starts");
    check(before(&simulator.base_url()).start().await, 502, "upstream_tls", "false").await;
    assert_eq!(simulator.counts().requests, 0);
    simulator.shutdown().await;
}

#[tokio::test]
async fn row_05_certificate_for_another_name() {
    let (simulator, _dir, ca_file) = with_ca().await;
    let address = simulator.addr();
    let environment = Environment {
        resolve: Arc::new(move |_: &str, _| Box::pin(async move { Ok(vec![address]) })),
        ..Environment::default()
    };
    let base_url = format!("https://upstream.invalid:{}", address.port());
    let builder = before(&base_url).environment(environment).set("upstream.ca_file", ca_file);
    check(builder.start().await, 502, "upstream_tls", "false").await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_configured() {
    let (simulator, _dir, ca_file) = with_ca().await;
    let world = before(&simulator.base_url()).set("upstream.ca_file", ca_file).start().await;
    let answer = world.post(CHAT).await.answer().await;
    assert_eq!((answer.status, answer.is_whole), (200, true), "{}", answer.text());
    let usage = &answer.json()["usage"];
    let tokens = |name: &str| usage[name].as_u64().expect("the simulator states its usage");
    let stated = Tokens::Stated(tokens("prompt_tokens"), tokens("completion_tokens"));
    Booked::ok("complete", stated).check_only(&world, answer.event_id()).await;
    world.finish().await;
    simulator.shutdown().await;
}

#[tokio::test]
async fn row_06_tls_handshake_stalls() {
    let upstream = Upstream::start().await;
    let base_url = upstream.base_url().replace("http:", "https:");
    let builder = before(&base_url).set("upstream.connect_ms", 150);
    check(builder.start().await, 504, "upstream_connect_timeout", "true").await;
}

/// A simulator with TLS that takes only the gateway's key, and its authority in a file.
async fn with_ca() -> (simulator::Simulator, tempfile::TempDir, String) {
    let api_key = Some(UPSTREAM_KEY.to_owned());
    let options = Options { tls: true, api_key, ..Options::default() };
    let simulator = simulator::start(options).await.expect("it starts");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, simulator.ca_pem().expect("it has TLS")).expect("it is writable");
    (simulator, dir, format!("{:?}", file.display().to_string()))
}
