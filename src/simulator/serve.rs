//! One request: which path, whose key, what is wrong with it, and the answer.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::answer::Reply;
use super::api::{Api, Content, Signature};
use super::body::{Body, Play};
use super::chat_request::Question;
use super::controls::{Controls, FaultKind};
use super::counts::{Counters, Served, Tally};
use super::models::Models;
use super::options::{Mode, Options, StreamOptions};
use super::refusal::Refusal;
use super::render::{self, Envelope};
use super::script::Script;
use crate::clock::Clock;

/// The path of chat.
const CHAT: &str = "/v1/chat/completions";
/// The largest request body.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Everything that all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    options: Options,
    books: Arc<Counters>,
    clock: Clock,
    /// Answers so far, for their ids.
    sequence: AtomicU64,
    /// What sets the ids of this simulator apart from those of others.
    salt: u32,
    models: Models,
}

/// Why there is no ordinary answer.
enum Failure {
    Refused(Refusal),
    /// The connection is closed without one.
    Closed,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let clock = Clock::system();
        Self {
            books: Arc::new(Counters::new(options.record)),
            sequence: AtomicU64::new(1),
            salt: clock.now().unix_ms as u32,
            clock,
            models: Models::new(&options.models),
            options,
        }
    }

    pub(super) fn books(&self) -> &Arc<Counters> {
        &self.books
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Only where `x-sim-fault: close` asks for no answer at all.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        reset: &Arc<AtomicBool>,
    ) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        if parts.uri.path() == "/simulator/counts" {
            return Ok(self.counts(&parts));
        }
        self.books.request();
        let id =
            format!("req_{:08x}{:08x}", self.salt, self.sequence.fetch_add(1, Ordering::Relaxed));
        let mut heard = Bytes::new();
        let answered = self.route(&parts, body, &mut heard, &id, reset).await;
        let mut response = match answered {
            Ok(response) => response,
            Err(Failure::Closed) => return Err(io::Error::other("closed, as x-sim-fault asked")),
            Err(Failure::Refused(refusal)) => {
                let record = self.record(&parts, heard, &id, refusal.status);
                self.books.refusal(record);
                let is_anthropic = Api::of(parts.uri.path()).is_some_and(Api::is_anthropic);
                refused(if is_anthropic { refusal.anthropic() } else { refusal })
            }
        };
        let id = HeaderValue::try_from(id).expect("hexadecimal digits are a header value");
        response.headers_mut().insert("x-request-id", id);
        Ok(response)
    }

    async fn route(
        &self,
        parts: &Parts,
        body: Incoming,
        heard: &mut Bytes,
        id: &str,
        reset: &Arc<AtomicBool>,
    ) -> Result<Response<Body>, Failure> {
        let path = parts.uri.path();
        let model = path.strip_prefix("/v1/models/");
        let api = Api::of(path);
        let allowed = match path {
            CHAT => Method::POST,
            _ if api.is_some() => Method::POST,
            "/v1/models" => Method::GET,
            _ if model.is_some() => Method::GET,
            _ => return Err(Refusal::not_found().into()),
        };
        if parts.method != allowed {
            let allow = if allowed == Method::POST { "POST" } else { "GET" };
            return Err(Refusal::method_not_allowed(allow).into());
        }
        self.authenticate(&parts.headers, api)?;
        let mut controls = Controls::read(&parts.headers, &self.options)?;
        if let Some(model) = model {
            let model = self.models.one(model)?;
            return Ok(json(Body::plain(model)));
        }
        if path == "/v1/models" {
            return Ok(json(Body::plain(self.models.list(controls.mode))));
        }
        *heard = read(body).await?;
        if controls.head_ms > 0 {
            tokio::time::sleep(Duration::from_millis(controls.head_ms)).await;
        }
        if let Some(refusal) = controls.error.take() {
            return Err(refusal.into());
        }
        if controls.fault.is_some_and(|fault| fault.kind == FaultKind::Close) {
            return Err(Failure::Closed);
        }
        if let Some(api) = api {
            return self.other(api, parts, heard, &controls, id, reset).await;
        }
        let question = Question::read(heard)?;
        self.check(&question, &controls)?;
        let served = self.record(parts, heard.clone(), id, StatusCode::OK);
        Ok(self.chat(&question, &controls, served, id, reset).await)
    }

    /// Answers a request of another API than chat.
    async fn other(
        &self,
        api: Api,
        parts: &Parts,
        body: &Bytes,
        controls: &Controls,
        id: &str,
        reset: &Arc<AtomicBool>,
    ) -> Result<Response<Body>, Failure> {
        let asked = Api::read(&parts.headers, body)?;
        if !self.models.has(&asked.model) {
            return Err(Refusal::unknown_model(&asked.model).into());
        }
        let created = self.clock.now().unix_ms / 1000;
        let signature = Signature { id: id.trim_start_matches("req_"), created };
        let answered = api.answer(&asked, controls, &signature)?;
        let streamed = matches!(answered.content, Content::Stream(_));
        let served = self.record(parts, body.clone(), id, StatusCode::OK);
        let served = served.map(|it| Served { model: asked.model.clone(), streamed, ..it });
        let (prompt, completion) = (answered.prompt_tokens, answered.completion_tokens);
        let books = self.books.clone();
        let tally = Tally::begin(books, api.path(), streamed, prompt, completion, served);
        match answered.content {
            Content::Stream(queue) => {
                Ok(stream(Body::stream(Play::Other(queue), tally, controls, reset)))
            }
            Content::Whole(media, bytes) => {
                if controls.first_token_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(controls.first_token_ms)).await;
                }
                Ok(typed(media, Body::answer(bytes, tally, controls.fault, reset)))
            }
        }
    }

    /// Anthropic's clients have their key in a header of its own.
    fn authenticate(&self, headers: &HeaderMap, api: Option<Api>) -> Result<(), Refusal> {
        let own = headers.get("x-api-key").filter(|_| api.is_some_and(Api::is_anthropic));
        if let Some(key) = own.and_then(|value| value.to_str().ok()) {
            return match &self.options.api_key {
                Some(right) if right != key => Err(Refusal::bad_key("unknown key")),
                _ => Ok(()),
            };
        }
        let value = headers.get(AUTHORIZATION).ok_or(Refusal::bad_key("no key"))?;
        let (scheme, key) = value.to_str().unwrap_or("").split_once(' ').unwrap_or_default();
        let key = key.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() {
            return Err(Refusal::bad_key("no bearer key"));
        }
        match &self.options.api_key {
            Some(right) if right != key => Err(Refusal::bad_key("unknown key")),
            _ => Ok(()),
        }
    }

    fn check(&self, question: &Question, controls: &Controls) -> Result<(), Refusal> {
        if !self.models.has(&question.model) {
            return Err(Refusal::unknown_model(&question.model));
        }
        if question.has_stream_options && controls.stream_options == StreamOptions::Refuse {
            return Err(Refusal::invalid("stream_options is unknown here"));
        }
        Ok(())
    }

    async fn chat(
        &self,
        question: &Question,
        controls: &Controls,
        served: Option<Served>,
        id: &str,
        reset: &Arc<AtomicBool>,
    ) -> Response<Body> {
        let reply = Reply::to(question, controls);
        let separator = if controls.mode == Mode::Literal { '_' } else { '-' };
        let envelope = Envelope {
            id: format!("chatcmpl{separator}{}", id.trim_start_matches("req_")),
            created: self.clock.now().unix_ms / 1000,
            model: question.model.clone(),
        };
        let served = served.map(|served| Served {
            model: question.model.clone(),
            streamed: question.stream,
            ..served
        });
        let (prompt, completion) = (reply.prompt_tokens, reply.completion_tokens);
        let books = self.books.clone();
        let tally = Tally::begin(books, CHAT, question.stream, prompt, completion, served);
        if question.stream {
            let script = Script::new(reply, controls, &envelope, question.include_usage);
            return stream(Body::stream(Play::Chat(script), tally, controls, reset));
        }
        if controls.first_token_ms > 0 {
            tokio::time::sleep(Duration::from_millis(controls.first_token_ms)).await;
        }
        let bytes = render::whole(reply, controls, &envelope);
        json(Body::answer(bytes, tally, controls.fault, reset))
    }

    fn counts(&self, parts: &Parts) -> Response<Body> {
        if parts.method != Method::GET {
            return refused(Refusal::method_not_allowed("GET"));
        }
        let counts = serde_json::to_vec(&self.books.printed());
        json(Body::plain(counts.expect("names and numbers are JSON")))
    }

    /// What is known of a posted request before it is answered; `None` if nothing is recorded.
    fn record(&self, parts: &Parts, body: Bytes, id: &str, status: StatusCode) -> Option<Served> {
        if !self.books.records() || parts.method != Method::POST {
            return None;
        }
        let tag = ["x-sim-tag", "x-weir-event", "x-request-id"]
            .iter()
            .find_map(|name| parts.headers.get(*name)?.to_str().ok());
        Some(Served {
            tag: tag.unwrap_or_default().to_owned(),
            path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            request_id: id.to_owned(),
            model: String::new(),
            streamed: false,
            status: status.as_u16(),
            prompt_tokens: 0,
            completion_tokens: 0,
            completed: false,
            headers: parts.headers.clone(),
            body,
        })
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, MAX_BODY_BYTES).collect().await;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::too_large()),
        Err(_) => Err(Refusal::invalid("the body ended early")),
    }
}

fn json(body: Body) -> Response<Body> {
    typed("application/json", body)
}

fn typed(media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

fn stream(body: Body) -> Response<Body> {
    let mut response = typed("text/event-stream", body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn refused(refusal: Refusal) -> Response<Body> {
    let bytes = match refusal.body {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    let mut response = json(Body::plain(bytes));
    *response.status_mut() = refusal.status;
    let headers = response.headers_mut();
    if refusal.status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        headers.insert("x-ratelimit-limit-requests", HeaderValue::from_static("60"));
        headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("0"));
        headers.insert("x-ratelimit-reset-requests", HeaderValue::from_static("1s"));
    }
    if let Some(allow) = refusal.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    // A reason can quote the request, and so hold what no header may.
    if let Ok(reason) = HeaderValue::from_str(&refusal.reason) {
        headers.insert("x-sim-reason", reason);
    }
    response
}
