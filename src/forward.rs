//! One request to one upstream: a connection out of the worker's own pool or a new one, the head
//! rewritten, deadlines for connecting and for the response's head, one more try when an idle
//! connection turns out closed. What comes back is the response's head, its body as it arrives, and a
//! [`Lease`] on the connection: dropped before the body's end it closes the connection at once.

pub(crate) mod headers;
mod body;
mod connect;
mod drains;
mod interim_responses;
mod pool;
mod peeked_body;
mod log_throttles;
mod usage_options;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::config;
use crate::forward::connect::Connector;
use crate::forward::pool::{Connection, Pool};
use crate::telemetry::metrics::Shard;

pub(crate) use crate::forward::body::Frames;
pub use crate::forward::connect::Resolve;
pub(crate) use crate::forward::connect::system_resolver;
pub(crate) use crate::forward::drains::Drains;
pub(crate) use crate::forward::peeked_body::PeekedBody;
pub(crate) use crate::forward::pool::Lease;
pub(crate) use crate::forward::usage_options::{At, ModelOptions, UsageOption, UsageOptions};

/// What the paths of Weir's own endpoints begin with.
const ENDPOINTS_ROOT: &str = "/v1";
pub(crate) use crate::forward::log_throttles::LogThrottles;

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the upstream's name does not resolve")]
    Dns,
    #[error("resolving the upstream's name took too long")]
    DnsTimeout,
    #[error("the upstream refuses connections")]
    Connect,
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    #[error("the upstream's certificate is not trusted or TLS failed")]
    Tls,
    /// The connection ended after a byte of the request may have left and before a response.
    #[error("the upstream closed the connection before it answered")]
    Reset,
    #[error("the upstream did not begin to answer in time")]
    HeadTimeout,
    #[error("the upstream's answer is not HTTP/1.1")]
    Protocol,
}

impl SendError {
    pub(crate) const COUNT: usize = Self::Protocol as usize + 1;

    /// As rows have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::DnsTimeout => "dns_timeout",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::HeadTimeout => "timeout",
            Self::Protocol => "protocol",
        }
    }

    /// Whether a byte of the request may have reached the upstream.
    pub(crate) fn is_sent(self) -> bool {
        matches!(self, Self::Reset | Self::HeadTimeout | Self::Protocol)
    }
}

/// One upstream as one worker sees it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) config: Arc<config::Upstream>,
    pub(crate) usage_options: Arc<UsageOptions>,
    pub(crate) log_throttles: Arc<LogThrottles>,
    host: HeaderValue,
    /// In the configuration's order.
    credentials: Vec<Credential>,
    connector: Connector,
    pool: Rc<Pool>,
    shard: Arc<Shard>,
    /// Drains of abandoned streams that run now.
    pub(crate) drains: Rc<Drains>,
}

/// One of an upstream's keys, as it is sent.
#[derive(Debug, Default)]
struct Credential {
    authorization: Option<HeaderValue>,
    /// The same key without its scheme.
    api_key: Option<HeaderValue>,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) method: Method,
    /// The endpoint's path and the client's query, byte for byte.
    pub(crate) path_and_query: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<Bytes>,
}

/// What an upstream answered.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) response: Response<PeekedBody>,
    pub(crate) lease: Lease,
    /// When the request was about to be sent.
    pub(crate) begun: Instant,
}

impl Inbound {
    /// Reads up to `most` bytes of the body in advance, or a little more, which stay part of it. Returns
    /// them; `None` if the body broke off or took longer than `time`, after which it must not be taken for
    /// whole.
    pub(crate) async fn read_ahead(&mut self, most: usize, time: Duration) -> Option<Bytes> {
        let (lease, body) = (&mut self.lease, self.response.body_mut());
        let mut read = BytesMut::new();
        let reading = async {
            while read.len() < most {
                match poll_fn(|cx| lease.poll_frame(cx, body)).await {
                    // Trailers are not part of these APIs and are dropped.
                    Some(frame) => {
                        read.extend_from_slice(&frame?.into_data().unwrap_or_default());
                    }
                    None => break,
                }
            }
            Ok(())
        };
        let is_read = tokio::time::timeout(time, reading).await;
        let (is_whole, broken) = match is_read {
            Ok(Ok(())) => (true, None),
            Ok(Err(error)) => (false, Some(error)),
            Err(_) => (false, None),
        };
        let read = read.freeze();
        body.put_back(read.clone(), broken);
        is_whole.then_some(read)
    }
}

/// An upstream's settings that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("upstream `{upstream}`: {reason}")]
pub struct UnusableUpstream {
    upstream: String,
    reason: String,
}

impl Credential {
    /// `None`: it has characters that cannot be sent.
    fn new(key: &config::ApiKey) -> Option<Self> {
        let Some(secret) = &key.secret else { return Some(Self::default()) };
        let value = |scheme: &str| {
            let mut value =
                HeaderValue::from_str(&format!("{scheme}{}", secret.expose_secret())).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        Some(Self { authorization: Some(value("Bearer ")?), api_key: Some(value("")?) })
    }
}

impl Upstream {
    pub(crate) fn new(
        config: Arc<config::Upstream>,
        usage_options: Arc<UsageOptions>,
        log_throttles: Arc<LogThrottles>,
        resolve: Resolve,
        shard: Arc<Shard>,
    ) -> Result<Self, UnusableUpstream> {
        let unusable =
            |reason: String| UnusableUpstream { upstream: config.name.to_string(), reason };
        let host = HeaderValue::from_str(&config.base_url.authority)
            .map_err(|_| unusable("`base_url` has a host that cannot be sent".into()))?;
        let credentials = config.api_keys.iter().map(Credential::new).collect::<Option<_>>();
        let credentials = credentials
            .ok_or_else(|| unusable("`api_key` has characters that cannot be sent".into()))?;
        let connector =
            Connector::new(&config, log_throttles.clone(), resolve).map_err(unusable)?;
        let idle = Duration::from_millis(config.pool_idle_ms);
        let pool = Rc::new(Pool::new(idle, config.pool_max_idle, shard.clone()));
        Ok(Self {
            config,
            usage_options,
            log_throttles,
            host,
            credentials,
            connector,
            pool,
            shard,
            drains: Rc::default(),
        })
    }

    /// The head that goes upstream, made from the client's in place. `key`: which of the upstream's. `with_api_key`:
    /// it goes in both forms, because servers of Anthropic's API differ in which one they take.
    pub(crate) fn rewrite(&self, headers: &mut HeaderMap, key: usize, with_api_key: bool) {
        let Credential { authorization, api_key } = &self.credentials[key];
        let api_key = api_key.as_ref().filter(|_| with_api_key);
        let (host, authorization) = (&self.host, authorization.as_ref());
        headers::toward_upstream(
            headers,
            host,
            authorization,
            api_key,
            &self.config.request_headers,
        );
    }

    /// Sends `outbound` and waits for the head of the response.
    pub(crate) async fn send(&self, outbound: Outbound) -> Result<Inbound, SendError> {
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(self.config.head_ms);
        let mut request = self.request(outbound)?;
        // An idle connection may have been closed by the upstream at this very moment. As long as
        // nothing of the request has left, it goes out again on a connection that is new.
        while let Some(lease) =
            poll_fn(|cx| Poll::Ready(self.pool.take(cx, begun.into_std()))).await
        {
            self.shard.upstream_reused();
            match exchange(lease, request, begun, deadline).await {
                Ok(inbound) => return Ok(inbound),
                Err(Failure::NotSent(unsent)) => request = *unsent,
                Err(Failure::Failed(error)) => return Err(error),
            }
        }
        // Rare and large, so it does not make every request's future as large.
        let sender = Box::pin(self.connector.connect(&self.shard)).await?;
        self.first_on(sender, request, begun, deadline).await
    }

    /// The same, on a connection that is new: an upstream may be about to close those that it has.
    pub(crate) async fn send_anew(&self, outbound: Outbound) -> Result<Inbound, SendError> {
        let begun = Instant::now();
        let deadline = begun + Duration::from_millis(self.config.head_ms);
        let request = self.request(outbound)?;
        let sender = self.connector.connect(&self.shard).await?;
        self.first_on(sender, request, begun, deadline).await
    }

    /// The first exchange on a new connection.
    async fn first_on(
        &self,
        connection: Connection,
        request: Request<Frames>,
        begun: Instant,
        deadline: Instant,
    ) -> Result<Inbound, SendError> {
        let lease = Lease::new(connection, self.pool.clone());
        match exchange(lease, request, begun, deadline).await {
            Ok(inbound) => Ok(inbound),
            Err(Failure::NotSent(_)) => Err(SendError::Reset),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    fn request(&self, outbound: Outbound) -> Result<Request<Frames>, SendError> {
        let mut request = Request::new(Frames::new(outbound.body));
        *request.method_mut() = outbound.method;
        *request.uri_mut() = self.target(outbound.path_and_query)?;
        *request.headers_mut() = outbound.headers;
        Ok(request)
    }

    /// The request target in origin form (RFC 9112 §3.2.1): the Base URL's path in the place of the `/v1`
    /// that every endpoint begins with.
    fn target(&self, path_and_query: PathAndQuery) -> Result<Uri, SendError> {
        let root = self.config.base_url.root.as_str();
        match path_and_query.as_str().strip_prefix(ENDPOINTS_ROOT) {
            Some(path) if root != ENDPOINTS_ROOT => {
                format!("{root}{path}").parse().map_err(|_| SendError::Protocol)
            }
            _ => Ok(path_and_query.into()),
        }
    }

    /// Closes idle connections that are too old; called on a timer.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }
}

/// How one exchange on one connection failed.
enum Failure {
    /// hyper gave the request back: no byte of it has left.
    NotSent(Box<Request<Frames>>),
    Failed(SendError),
}

/// One exchange on one connection, up to the response's head.
async fn exchange(
    mut lease: Lease,
    request: Request<Frames>,
    begun: Instant,
    deadline: Instant,
) -> Result<Inbound, Failure> {
    let turn = lease.turn();
    let mut request = Some(request);
    let mut answer = pin!(None);
    let answered = poll_fn(|cx| {
        turn.take(cx, |cx| {
            if let Some(mut request) = request.take() {
                lease.interims().watch(&mut request);
                answer.set(Some(lease.sender().try_send_request(request)));
                // It has told the connection, which is driven here anyway.
                turn.catch_up();
            }
            lease.drive(cx);
            answer.as_mut().as_pin_mut().map_or(Poll::Pending, |answer| answer.poll(cx))
        })
    });
    match tokio::time::timeout_at(deadline, answered).await {
        // However that ended, it is no answer to go by.
        _ if lease.interims().are_too_many() => Err(Failure::Failed(SendError::Protocol)),
        Err(_) => Err(Failure::Failed(SendError::HeadTimeout)),
        Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Failure::Failed(SendError::Protocol))
        }
        Ok(Ok(response)) => Ok(Inbound { response: response.map(PeekedBody::new), lease, begun }),
        Ok(Err(mut refused)) => match refused.take_message() {
            Some(request) => Err(Failure::NotSent(Box::new(request))),
            None => Err(Failure::Failed(classify(refused.error()))),
        },
    }
}

/// An error after the request may have been sent.
fn classify(error: &hyper::Error) -> SendError {
    if error.is_parse() { SendError::Protocol } else { SendError::Reset }
}
