//! The administration listener: whether the process lives, whether it can serve, and its metrics.
//! It runs on the control plane and never touches a request. None of this needs a token, so keep
//! the listener private.

mod host;
mod quotas;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use quotas::{Quota, Quotas, Wanted};

use crate::telemetry::log_throttle::LogThrottle;
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

/// Connections at once. One more ends the oldest: a health check never waits behind those that say
/// nothing.
const MAX_CONNECTIONS: usize = 64;
/// For the head of a request, and for an idle connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// For running answers at shutdown; they take milliseconds.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(1);
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whether new requests can be served, and why not. Shared by whoever knows.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    phase: AtomicU8,
    /// Workers whose journal can't be written.
    ledger_failed: AtomicUsize,
}

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const SHUTTING_DOWN: u8 = 2;

impl Readiness {
    /// All workers accept connections.
    pub(crate) fn serving(&self) {
        self.phase.store(SERVING, Ordering::Release);
    }

    /// No new requests are taken any more.
    pub(crate) fn shutting_down(&self) {
        self.phase.store(SHUTTING_DOWN, Ordering::Release);
    }

    /// A worker's journal can be written again, or no more; while it can't, new requests get 503.
    /// Each worker says so when that changes.
    pub(crate) fn ledger(&self, writable: bool) {
        match writable {
            true => self.ledger_failed.fetch_sub(1, Ordering::AcqRel),
            false => self.ledger_failed.fetch_add(1, Ordering::AcqRel),
        };
    }

    /// What keeps new requests from being served, none when it is ready.
    pub(crate) fn reasons(&self) -> Vec<&'static str> {
        let phase = match self.phase.load(Ordering::Acquire) {
            STARTING => Some("starting"),
            SHUTTING_DOWN => Some("shutting_down"),
            _ => None,
        };
        let ledger =
            (self.ledger_failed.load(Ordering::Acquire) > 0).then_some("ledger_unavailable");
        phase.into_iter().chain(ledger).collect()
    }
}

/// Serves until `shutdown` is ready, then lets running answers end for at most a second.
///
/// # Errors
///
/// When the listener has no address any more; failed connections only end themselves.
pub(crate) async fn serve(
    listener: TcpListener,
    shown: Shown,
    failed: LogThrottle,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    tracing::info!(listen = %listener.local_addr()?, "administration listener is open");
    let router = router(shown);
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    // The oldest first.
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let stream = tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener, &failed) => stream,
            // Ended connections are taken out as they end, or the set would only grow.
            Some(_) = connections.join_next() => continue,
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connections.spawn(connection(stream, router.clone(), closing.clone())));
    }
    drop(listener);
    close.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_DEADLINE, ended).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(listener: &TcpListener, failed: &LogThrottle) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                if let Some(left_out) = failed.allow() {
                    tracing::warn!(%error, left_out, "administration connection not accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What `wait_for` returns is a lock, which must not be held while the connection ends.
    let closed = async { closing.wait_for(|closing| *closing).await.map(drop) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = closed => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "administration connection ended early");
    }
}

/// What it shows, and to whom.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) quotas: Arc<Quotas>,
    /// Names by which it may be called.
    pub(crate) hosts: Arc<[String]>,
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(exposition))
        .route(quotas::PATH, get(quotas::answer))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "not_found", "No such page."))
        .method_not_allowed_fallback(async || {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET is answered.")
        })
        .layer(middleware::from_fn_with_state(shown.clone(), called_by_name))
        .with_state(shown)
}

/// Refuses who calls by a name that is not ours, wherever more is told than whether the process is well: a
/// web page can have its own name lead here, and read what the browser then gets (DNS rebinding).
async fn called_by_name(State(shown): State<Shown>, request: Request, next: Next) -> Response {
    let says_little = matches!(request.uri().path(), "/healthz" | "/readyz");
    if says_little || host::is_ours(request.headers(), &shown.hosts) {
        return next.run(request).await;
    }
    let message =
        "This listener is not called so; ask by an address, or add the name to admin.hosts.";
    refusal(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message)
}

async fn ready(State(shown): State<Shown>) -> Response {
    let reasons = shown.readiness.reasons();
    let (status, word) = match reasons.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    json(status, &serde_json::json!({ "status": word, "reasons": reasons }))
}

async fn exposition(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], shown.metrics.render()).into_response()
}

/// An error in the shape that the data listener uses too.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let error = serde_json::json!({
        "error": { "message": message, "type": "invalid_request_error", "code": code }
    });
    json(status, &error)
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::clock::Clock;

    /// One exchange over a connection of its own.
    async fn exchange(address: std::net::SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("the listener is open");
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers in UTF-8");
        answer
    }

    #[tokio::test]
    async fn answers_health_readiness_and_metrics() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let metrics = Arc::new(Metrics::new(1, Vec::new(), Clock::system()));
        let readiness = Arc::new(Readiness::default());
        let failed = LogThrottle::new(Clock::system());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.expect("the test sends it") };
        let quotas = Arc::new(Quotas::new(None));
        let shown = Shown { metrics, readiness: readiness.clone(), quotas, hosts: Arc::from([]) };
        let server = tokio::spawn(serve(listener, shown, failed, shutdown));

        let check = async |method: &str, path: &str, status: &str, text: &str| {
            let answer = exchange(address, method, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
            assert!(answer.contains(text), "{path}: {answer}");
        };
        check("GET", "/healthz", "200", "\r\n\r\nok").await;
        check("GET", "/readyz", "503", r#"{"reasons":["starting"],"status":"not_ready"}"#).await;
        readiness.serving();
        check("GET", "/readyz", "200", r#"{"reasons":[],"status":"ready"}"#).await;
        readiness.ledger(false);
        readiness.ledger(false);
        check("GET", "/readyz", "503", r#"["ledger_unavailable"]"#).await;
        readiness.ledger(true);
        // One worker still can't.
        check("GET", "/readyz", "503", r#"["ledger_unavailable"]"#).await;
        readiness.ledger(true);
        readiness.shutting_down();
        check("GET", "/readyz", "503", r#"["shutting_down"]"#).await;
        check("GET", "/metrics", "200", "content-type: application/openmetrics-text").await;
        check("GET", "/metrics", "200", "\nweir_uptime_seconds ").await;
        check("GET", quotas::PATH, "403", r#""code":"no_admin_token""#).await;
        check("GET", "/", "404", r#""code":"not_found""#).await;
        check("POST", "/healthz", "405", r#""code":"method_not_allowed""#).await;

        // As many as may be say nothing: whoever says something is answered, and only the oldest has ended.
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.expect("the listener is open"));
        }
        check("GET", "/healthz", "200", "\r\n\r\nok").await;
        assert_eq!(silent[0].read(&mut [0]).await.ok().unwrap_or_default(), 0);
        let still_open = silent[1].try_read(&mut [0]).expect_err("nothing is said on it");
        assert_eq!(still_open.kind(), io::ErrorKind::WouldBlock);
        drop(silent);

        // Metrics are told to nobody who calls by a name that a web page may have.
        let mut rebound = TcpStream::connect(address).await.expect("the listener is open");
        let lines = "GET /metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
        rebound.write_all(lines.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        rebound.read_to_string(&mut answer).await.expect("it answers in UTF-8");
        assert!(answer.starts_with("HTTP/1.1 421") && !answer.contains("weir_"), "{answer}");

        // A connection that says nothing doesn't keep the server from ending.
        let silent = TcpStream::connect(address).await.expect("the listener is open");
        stop.send(()).expect("the server waits for it");
        server.await.expect("it does not panic").expect("it ends well");
        drop(silent);
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    }
}
