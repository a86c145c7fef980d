//! A new connection to an upstream: name, TCP, TLS, HTTP/1.1, all within one deadline. Names are
//! resolved once for all requests that wait for the same one, and kept for a short time: a name server
//! that does not answer holds one thread, not one a request.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use crate::coalesce::Coalesce;
use crate::config;
use crate::forward::interim_responses::{InterimLimited, Interims};
use crate::forward::pool::Connection;
use crate::forward::{LogThrottles, SendError};
use crate::telemetry::metrics::{Level, Shard};

/// How long an answer of the name server is used.
const DNS_TTL: Duration = Duration::from_secs(30);
/// The head of a response and hyper's read buffer; it takes 100 header fields at most.
const MAX_HEAD_BYTES: usize = 64 * 1024;

pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns a name and a port into addresses; a test brings its own.
pub type Resolve = Arc<dyn Fn(&str, u16) -> Resolving + Send + Sync>;

/// The operating system's resolver.
pub(crate) fn system_resolver() -> Resolve {
    Arc::new(|host, port| {
        let target = (host.to_owned(), port);
        Box::pin(async move { Ok(tokio::net::lookup_host(target).await?.collect()) })
    })
}

/// Makes connections to one upstream.
pub(crate) struct Connector {
    config: Arc<config::Upstream>,
    log_throttles: Arc<LogThrottles>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    resolve: Resolve,
    known: Rc<Mutex<Option<Known>>>,
}

/// What the name server said.
struct Known {
    since: Instant,
    addresses: Vec<SocketAddr>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("upstream", &self.config.name).finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(
        config: &Arc<config::Upstream>,
        log_throttles: Arc<LogThrottles>,
        resolve: Resolve,
    ) -> Result<Self, String> {
        let tls = if config.base_url.tls {
            let host = config.base_url.host.clone();
            let name = ServerName::try_from(host)
                .map_err(|_| "`base_url` has a host that no certificate can name".to_owned())?;
            Some((TlsConnector::from(Arc::new(client_config(config)?)), name))
        } else {
            None
        };
        Ok(Self { config: config.clone(), log_throttles, tls, resolve, known: Rc::default() })
    }

    /// Connects within `connect_ms`, whatever takes the time.
    pub(crate) async fn connect(&self, shard: &Arc<Shard>) -> Result<Connection, SendError> {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(self.config.connect_ms);
        let addresses = timeout_at(deadline, self.addresses())
            .await
            .map_err(|_: Elapsed| SendError::DnsTimeout)?
            .map_err(|_| SendError::Dns)?;
        let stream = timeout_at(deadline, self.tcp(&addresses))
            .await
            .map_err(|_: Elapsed| SendError::ConnectTimeout)?
            .map_err(|_| SendError::Connect)?;
        let connection = match &self.tls {
            None => handshake(stream, shard).await?,
            Some((tls, name)) => {
                let stream = timeout_at(deadline, tls.connect(name.clone(), stream))
                    .await
                    .map_err(|_: Elapsed| SendError::ConnectTimeout)?
                    .map_err(|error| self.tls_failed(&error))?;
                handshake(stream, shard).await?
            }
        };
        shard.upstream_opened();
        Ok(connection)
    }

    /// The upstream's addresses; whoever asks while another asks waits for the same answer.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut known = self.known.lock().await;
        if let Some(known) = &*known
            && known.since.elapsed() < DNS_TTL
        {
            return Ok(known.addresses.clone());
        }
        let base_url = &self.config.base_url;
        let addresses = (self.resolve)(&base_url.host, base_url.port).await?;
        if addresses.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        *known = Some(Known { since: Instant::now(), addresses: addresses.clone() });
        Ok(addresses)
    }

    /// The first address that accepts.
    async fn tcp(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        // The next attempt asks again: the upstream may have moved.
        if let Ok(mut known) = self.known.try_lock() {
            *known = None;
        }
        Err(last)
    }

    fn tls_failed(&self, error: &io::Error) -> SendError {
        let Some(left_out) = self.log_throttles.of(SendError::Tls).allow() else {
            return SendError::Tls;
        };
        tracing::error!(
            upstream = %self.config.name,
            %error,
            left_out,
            "tls with the upstream failed; check its certificate, `base_url` and `ca_file`"
        );
        SendError::Tls
    }
}

/// Begins HTTP/1.1 on a stream.
async fn handshake<T>(stream: T, shard: &Arc<Shard>) -> Result<Connection, SendError>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let interims = Interims::new();
    let stream = InterimLimited { stream: Coalesce(stream), interims: interims.clone() };
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| SendError::Reset)?;
    let driver = Box::pin(async move {
        let _ = connection.await;
    });
    Ok(Connection::new(sender, driver, interims, shard.hold(Level::Upstream)))
}

fn client_config(config: &config::Upstream) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    if let Some(path) = &config.ca_file {
        let unreadable = |error: &dyn std::fmt::Display| {
            format!("`ca_file` = `{}` cannot be used: {error}", path.display())
        };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?;
        let mut count = 0;
        for certificate in certificates {
            roots.add(certificate.map_err(|e| unreadable(&e))?).map_err(|e| unreadable(&e))?;
            count += 1;
        }
        if count == 0 {
            return Err(unreadable(&"it holds no certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}
