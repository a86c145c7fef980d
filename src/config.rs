//! The configuration, valid by construction: what the file and the environment say
//! (`config/raw.rs`) has been checked, defaulted and turned into what the parts need.

mod error;
mod raw;
mod keys;
mod line_numbers;
pub(crate) mod suggest;
mod variables;
mod source;
mod secret;
mod refused;
mod base_url;
mod header_list;
mod id_kinds;
mod log_filter;
mod validate;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use self::error::Problems;
use self::variables::Variables;
use crate::price::Prices;
use crate::tenancy::Limits;

pub use self::error::ConfigErrors;
pub use self::header_list::HeaderList;
pub use self::id_kinds::{IdKind, IdKinds};
pub(crate) use self::log_filter::{FilterError, log_filter};

/// Whether the secrets that the configuration refers to have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// To serve: a missing upstream key is an error, and so is a missing file.
    Required,
    /// For what never goes upstream, such as `weir key`: secrets stay unresolved, all `None`.
    Optional,
}

/// Everything that `weir serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub data: Data,
    pub limits: Admission,
    pub deadlines: Deadlines,
    pub upstreams: Vec<Arc<Upstream>>,
    /// Only what the file says; a model that an upstream lists needs no entry.
    pub models: Vec<Model>,
    /// By public name; empty: nothing has a price.
    pub prices: Prices,
    pub retry: Retry,
    pub log: Log,
}

/// The data listener and its bounds.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: SocketAddr,
    /// Worker threads; at least 1, already resolved from 0 = one per core.
    pub workers: usize,
    /// Open client connections; further ones get 503 `overloaded`.
    pub max_connections: usize,
    /// Of them from one address; at least 1, already resolved from 0 = half of all.
    pub max_connections_per_address: usize,
    /// Header fields of one request.
    pub max_headers: usize,
    /// Bytes of one request head (and the size of the connection's read buffer), at least 8,192.
    pub max_head_bytes: usize,
    /// Bytes of one request body.
    pub max_body_bytes: u64,
    /// Bytes of all request bodies held at once, over all workers.
    pub max_inflight_body_bytes: u64,
    /// Of them of one tenant: its share, and never less than one whole body and what decodes it.
    pub max_tenant_body_bytes: u64,
    /// Failed keys per minute from one address before 429; 0 switches the limit off.
    pub failed_keys_per_minute: u32,
    /// Origins that browsers may call from; empty: any (`*`).
    pub cors_origins: Vec<String>,
    /// A client that has closed its sending side may still wait for its answer.
    pub half_close: bool,
}

/// Health, metrics and the administration API.
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    pub token: Option<SecretString>,
    /// Names by which it may be called, in lower case; addresses and `localhost` always may be.
    pub hosts: Vec<String>,
}

/// Where the journal and the store live.
#[derive(Clone, Debug)]
pub struct Data {
    pub dir: PathBuf,
    pub durability: Durability,
    /// A journal segment is closed and the next one begun at this size.
    pub segment_bytes: u64,
    /// For how long single requests are kept; their sums stay. `None`: for ever.
    pub keep_rows: Option<std::time::Duration>,
    /// Of so many responses it is remembered whose they are.
    pub response_owners: usize,
}

/// What a ledger record has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// `kill -9` at any instant.
    Crash,
    /// A power cut as well: an answer's end waits until its record is synced.
    Power,
}

/// Defaults for new keys, and what holds for all limits.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What a key gets that is created without limits of its own.
    pub new_key: Limits,
    /// Requests that may come at once before the rate counts; `None`: as many as the rate.
    pub rpm_burst: Option<u32>,
    /// In which days and months begin, of tenants without a zone of their own.
    pub time_zone: jiff::tz::TimeZone,
    /// Of a quota, in percent, ascending: whoever uses as much is to be told of.
    pub alert_percent: Vec<u8>,
    /// A model without a price, asked for by whom a quota of cost holds.
    pub unpriced: Unpriced,
}

/// What becomes of a request whose cost would be needed and is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// 400, for the quota could not hold it.
    Refuse,
    /// It goes upstream, costs the quota nothing, and its row has the flag `unpriced`.
    Flag,
}

/// Deadlines towards the client, in milliseconds.
#[derive(Clone, Debug)]
pub struct Deadlines {
    pub request_head_ms: u64,
    pub request_body_idle_ms: u64,
    /// For a whole request body.
    pub request_body_ms: u64,
    /// What has to come of one on average, once the idle deadline is over; 0: any.
    pub request_body_bytes_per_second: u64,
    /// Without any progress in writing the response.
    pub write_progress_ms: u64,
    /// For running requests after the first signal.
    pub shutdown_ms: u64,
}

/// One OpenAI-compatible service.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: Arc<str>,
    pub base_url: BaseUrl,
    /// At least one; without a secret, requests are sent without a key.
    pub api_keys: Vec<ApiKey>,
    pub models: Vec<ModelName>,
    /// Failures in a row that let it rest; 0: none do.
    pub breaker_failures: u32,
    /// Ask streams for usage that the client did not ask for, and hide it again.
    pub inject_usage: bool,
    /// Ask streams for their usage with every chunk, too, and hide it again.
    pub running_usage: bool,
    /// Parameters of a request's query that go upstream.
    pub allow_query: Vec<String>,
    /// Fields of a request's body that are refused, in lower case; at the end of one `*` stands for any.
    pub refuse_fields: Vec<String>,
    /// Let answers be made in the background.
    pub allow_background: bool,
    pub on_disconnect: OnDisconnect,
    /// What a request is booked at whose usage was never stated.
    pub unstated: Unstated,
    /// How long and how many at once (per worker) a drain after a disconnect may be.
    pub drain_ms: u64,
    pub drain_max: usize,
    /// A private certificate authority, PEM.
    pub ca_file: Option<PathBuf>,
    /// DNS and TLS included.
    pub connect_ms: u64,
    pub head_ms: u64,
    pub idle_ms: u64,
    /// 0: off.
    pub total_ms: u64,
    /// An idle connection is kept this long; below the upstream's own limit.
    pub pool_idle_ms: u64,
    /// Idle connections kept per worker.
    pub pool_max_idle: usize,
    /// Header fields that cross besides those that always do.
    pub request_headers: HeaderList,
    pub response_headers: HeaderList,
    /// What tenants share there is kept apart; else all of it is theirs alike.
    pub separate_tenants: bool,
    /// Kinds of ids that pass whoever made what they name.
    pub allow_ids: IdKinds,
}

/// A Base URL, taken apart: `https://host:port/root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// What goes into `host:`, without the scheme's default port.
    pub authority: String,
    /// What takes the place of `/v1` in an endpoint's path; mostly `/v1` as well.
    pub root: String,
}

/// What Weir authenticates with at an upstream: one of its keys.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Empty for the only one.
    pub name: Arc<str>,
    pub secret: Option<SecretString>,
    /// Its part of what the upstream gets.
    pub weight: u64,
}

/// Candidates of one model: keys of upstreams that serve it.
pub(crate) const CANDIDATES_MAX: usize = 64;

/// A model's public name, what this upstream calls it, and when it serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    pub name: String,
    pub upstream_name: String,
    /// The lower, the sooner: of those who serve a model, the others get what these can't take.
    pub priority: u32,
    /// The part of what those of one priority get.
    pub weight: u64,
}

/// When a request goes to another candidate, before anything of an answer has reached its client.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Of one request, the first included.
    pub attempts: u32,
    /// No further one begins later than so long after the first.
    pub within_ms: u64,
    /// Further attempts among all requests, in percent.
    pub budget_percent: u64,
    /// Answers that are tried elsewhere; a key that is not accepted always is.
    pub on_status: Vec<u16>,
    /// Also where the upstream may have begun to work: it closed the connection, or did not answer in time.
    pub on_reset: bool,
}

/// What happens to the upstream request when the client goes away mid-stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    Cancel,
    Drain,
}

/// What a request is booked at that ended before the upstream stated its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstated {
    /// Its reservation, or what was seen of it if that is more: the upstream may have gone on.
    Reserved,
    /// An estimate from what was seen: the upstream is known to stop where its connection is closed.
    Seen,
}

/// What differs from the defaults for one model.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub default_output_tokens: u64,
    /// It answers with pictures: they are reserved, and its API has no bound to hold an answer to.
    pub makes_images: bool,
    /// Reserve what answers of this model have been like, once enough are known.
    pub learn_reservation: bool,
    /// Other public names.
    pub aliases: Vec<String>,
    /// Seconds since the Unix epoch, as the model list shows it.
    pub created: i64,
    pub owned_by: String,
}

impl Model {
    /// A model that has no entry of its own in the configuration.
    pub(crate) fn unconfigured(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            default_output_tokens: raw::DEFAULT_OUTPUT_TOKENS,
            makes_images: name == raw::IMAGE_MODEL,
            learn_reservation: false,
            aliases: Vec::new(),
            created: raw::DEFAULT_CREATED,
            owned_by: raw::DEFAULT_OWNER.to_owned(),
        }
    }
}

/// How much to log and in which form.
#[derive(Clone, Debug)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `weir=debug`.
    pub filter: String,
    pub json: bool,
}

impl Config {
    /// Loads `file` (else `config/weir.toml` where there is one, else the built-in defaults), and
    /// what the environment overrides (`WEIR__SERVER__LISTEN=…`).
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at once.
    pub fn load(file: Option<&Path>, secrets: Secrets) -> Result<Self, ConfigErrors> {
        let file = Self::file_in_use(file);
        let text = source::read(file.as_deref())?;
        // `parent` of a bare file name is "", from which `join` makes paths as they were given.
        let base = file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        Self::build(&text, base, &Variables::of_process(), secrets)
            .map_err(|errors| errors.in_file(file.as_deref(), &text))
    }

    /// Reads a configuration from the text of a file. No key is overridden by the environment,
    /// relative paths start at the working directory.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at once.
    pub fn from_toml(text: &str, secrets: Secrets) -> Result<Self, ConfigErrors> {
        let variables = Variables::of_process().without_overrides();
        Self::build(text, Path::new(""), &variables, secrets)
    }

    /// The file that [`Config::load`] reads for this `--config`; `None`: built-in defaults.
    pub fn file_in_use(named: Option<&Path>) -> Option<PathBuf> {
        source::file_in_use(named)
    }

    /// The names of the environment variables that override keys now.
    pub fn overriding_variables() -> Vec<String> {
        Variables::of_process().overrides().map(|(name, _)| name.to_owned()).collect()
    }

    /// The names of variables that look like those that override a key, and do nothing, each with the one that
    /// would: one underscore where two belong.
    pub fn misspelt_variables() -> Vec<(String, String)> {
        Variables::of_process().misspelt(&keys::paths())
    }

    fn build(
        text: &str,
        base: &Path,
        variables: &Variables,
        secrets: Secrets,
    ) -> Result<Self, ConfigErrors> {
        let mut tree = source::merge(text, variables)?;
        let mut problems = Problems::default();
        keys::check(&mut tree, &mut problems);
        let raw = tree.try_deserialize().map_err(|error| ConfigErrors::whole(error.to_string()))?;
        let context = validate::Context { base, variables, secrets };
        let config = validate::config(raw, &context, &mut problems);
        problems.into_result(config, variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = include_str!("../config/weir.toml");
    const KEY: (&str, &str) = ("WEIR_UPSTREAM_API_KEY", "sk-upstream-secret");

    fn build(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::build(text, Path::new("etc"), &Variables::of(variables), Secrets::Required)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn an_empty_file_and_the_documented_one_mean_the_same() {
        let empty = build("", &[KEY]).expect("the defaults are valid");
        let mut documented = build(DOCUMENTED, &[KEY]).expect("the documented file is valid");
        for model in std::mem::take(&mut documented.models) {
            let listed = |name: &ModelName| name.name == model.name;
            assert!(empty.upstreams[0].models.iter().any(listed), "{model:?}");
            assert_eq!((model.default_output_tokens, model.learn_reservation), (1024, false));
            let built_in = Model::unconfigured(&model.name).makes_images;
            assert_eq!(
                (model.makes_images, built_in),
                (model.name.ends_with("image-2"), model.makes_images)
            );
            assert_eq!((model.created, model.owned_by.as_str()), (1_780_000_000, "system"));
        }
        assert_eq!(format!("{empty:#?}"), format!("{documented:#?}"));
        // The example of a price is a comment, for nothing has one by default.
        let priced = build(&with_price(), &[KEY]).expect("the example is valid");
        let (model, price) = priced.prices.iter().next().expect("a price");
        assert_eq!((model, price.rates.output), ("gpt-5.4", 15_000_000));
    }

    /// The documented file with its example of a price as if it were none.
    fn with_price() -> String {
        let (before, rest) = DOCUMENTED.split_once("# [[price]]\n").expect("there is an example");
        let (example, after) = rest.split_once("\n\n").expect("it ends with an empty line");
        let plain = |line: &str| line.strip_prefix("# ").expect("all are comments").to_owned();
        let example: Vec<String> = example.lines().map(plain).collect();
        format!("{before}[[price]]\n{}\n\n{after}", example.join("\n"))
    }

    #[test]
    fn the_documented_file_has_every_key() {
        let tree = source::merge(&with_price(), &Variables::default()).expect("it is TOML");
        let tables = tree.into_table().expect("the root is a table");
        for table in keys::ROOT {
            let value =
                tables.get(table.name).unwrap_or_else(|| panic!("{} is missing", table.name));
            let (keys, value) = match table.kind {
                keys::Kind::Table(keys) => (keys, value.clone()),
                keys::Kind::Tables(keys) => {
                    (keys, value.clone().into_array().expect("it is a list").remove(0))
                }
                _ => panic!("all keys stand in tables"),
            };
            let documented = value.into_table().expect("it is a table");
            for key in keys {
                assert!(documented.contains_key(key.name), "{}.{}", table.name, key.name);
            }
        }
    }

    #[test]
    fn the_built_in_upstream_is_complete() {
        let config = build("", &[KEY]).expect("the defaults are valid");
        let [upstream] = config.upstreams.as_slice() else { panic!("one upstream") };
        assert_eq!((&*upstream.name, upstream.base_url.tls), ("yisu", true));
        assert_eq!(upstream.base_url.authority, "api.yisu.com");
        assert!(upstream.api_keys[0].secret.is_some() && config.admin.token.is_none());
        assert!(config.server.workers >= 1 && config.models.is_empty());
        let text = format!("{config:?}");
        assert!(!text.contains("sk-upstream-secret"), "a secret is printed: {text}");
    }

    #[test]
    fn reads_what_a_file_and_the_environment_say() {
        let text = r#"
            [server]
            workers = 3
            [limits]
            rpm = 60
            time_zone = "Europe/Berlin"
            monthly_usd = "12.50"
            alert_percent = [95, 50]
            [[upstream]]
            name = "lab"
            base_url = "http://127.0.0.1:9999/v1"
            models = ["a", { name = "b", upstream_name = "b-2026" }]
            on_disconnect = "drain"
            unstated = "seen"
            [[model]]
            name = "b"
            default_output_tokens = 7
            learn_reservation = true
        "#;
        let variables = [
            ("WEIR__SERVER__LISTEN", "0.0.0.0:0"),
            ("WEIR__SERVER__WORKERS", "5"),
            ("WEIR__SERVER__CORS_ORIGINS", "https://a.example, https://b.example"),
            ("WEIR__DATA__DIR", "2026"),
            ("WEIR__LOG__FORMAT", "json"),
            ("WEIR__ADMIN__TOKEN", "env:TOKEN"),
            ("TOKEN", "t"),
        ];
        let config = build(text, &variables).expect("all of it is valid");
        assert_eq!(config.server.listen, SocketAddr::from(([0, 0, 0, 0], 0)));
        assert_eq!(config.server.workers, 5);
        assert_eq!(config.server.cors_origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.data.dir, Path::new("2026"));
        assert!(config.log.json && config.admin.token.is_some());
        assert_eq!((config.limits.new_key.rpm, config.limits.new_key.tpm), (Some(60), None));
        assert_eq!(config.limits.time_zone.iana_name(), Some("Europe/Berlin"));
        let upstream = &config.upstreams[0];
        assert_eq!(upstream.models[1].upstream_name, "b-2026");
        assert_eq!(upstream.on_disconnect, OnDisconnect::Drain);
        assert_eq!(upstream.unstated, Unstated::Seen);
        assert!(upstream.api_keys[0].secret.is_none() && config.upstreams.len() == 1);
        assert_eq!(config.models[0].default_output_tokens, 7);
        assert!(config.models[0].learn_reservation);
        let new_key = &config.limits.new_key;
        assert_eq!(
            (new_key.monthly_nano_usd, new_key.daily_nano_usd),
            (Some(12_500_000_000), None)
        );
        assert_eq!(config.limits.alert_percent, [50, 95]);
    }

    #[test]
    fn a_missing_upstream_key_is_an_error_only_for_who_needs_it() {
        let error = build("", &[]).expect_err("no key");
        assert_eq!(
            error,
            "the configuration is not valid: upstream[0].api_key: the environment variable \
             WEIR_UPSTREAM_API_KEY is not set; set it to the secret, as in \
             WEIR_UPSTREAM_API_KEY=…"
        );
        let config = Config::build("", Path::new(""), &Variables::default(), Secrets::Optional)
            .expect("no secret is needed");
        assert!(config.upstreams[0].api_keys[0].secret.is_none());
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let text = r#"
            sever = 1
            listen = "127.0.0.1:1"
            [server]
            listen = 8080
            workers = 5000
            max_connectons = 5
            [admin]
            token = "my-secret-token"
            [data]
            durability = "full"
            [log]
            format = "xml"
            [[upstream]]
            base_url = "ftp://x"
            api_key = "sk-inline-secret"
            models = [1, "a", "a"]
            connect_ms = "5s"
            [[model]]
            name = "b"
        "#;
        let error = build(text, &[("WEIR__LIMITS__RPM", "many")]).expect_err("nothing is right");
        let expected = [
            "admin.token: must be a reference",
            "data.durability = \"full\": must be \"crash\" or \"power\"",
            "limits.rpm = \"many\" (from WEIR__LIMITS__RPM): must be a whole number from 0 to",
            "listen: is not a known key here; it belongs into [server]",
            "log.format = \"xml\": must be \"text\" or \"json\"",
            "model[0].name = \"b\": is a model that no upstream lists",
            "server.listen = 8080: must be an IP address with a port",
            "server.max_connectons: is not a known key; did you mean \"max_connections\"?",
            "server.workers = 5000: must be a whole number from 0 to 1024",
            "sever: is not a known key; did you mean \"server\"?",
            "upstream[0].api_key: must be a reference",
            "upstream[0].base_url = \"ftp://x\": must begin with https:// or http://",
            "upstream[0].connect_ms = \"5s\": must be a whole number from 1 to 86400000",
            "upstream[0].models[0] = 1: must be a list of model names",
            "upstream[0].models[2] = \"a\": is listed twice",
            "upstream[0].name: is missing",
        ];
        let lines: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line}\nshould be\n{expected}");
        }
        assert_eq!(lines.len(), expected.len(), "{error}");
        assert!(!error.contains("secret-token") && !error.contains("inline-secret"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused() {
        let upstream = "[[upstream]]\nname = 'x'\nbase_url = 'http://x'\n";
        let cases = [
            ("server = 1", "server = 1: must be a table"),
            ("upstream = []", "must hold at least one upstream"),
            ("upstream = [1]", "upstream[0] = 1: must be a table"),
            ("[upstream]\nname = 'x'", "upstream = { … }: must be a list of tables"),
            ("[server]\nmax_head_bytes = 8191", "from 8192 to"),
            ("[server]\nmax_body_bytes = 1.5", "= 1.5: must be a whole number"),
            ("[server]\nmax_inflight_body_bytes = 4096", "is less than server.max_body_bytes"),
            ("[server]\nlisten = 'localhost:80'", "must be an IP address"),
            ("[server]\ncors_origins = ['https://x/y']", "cors_origins[0] = \"https://x/y\""),
            ("[server]\ncors_origins = [1]", "must be a list of origins"),
            ("[admin]\nlisten = '127.0.0.1:8080'", "must differ from server.listen"),
            ("[admin]\ntoken = 5", "admin.token: must be a reference"),
            ("[data]\ndir = ''", "data.dir = \"\": must be a directory"),
            ("[limits]\ntime_zone = 'Mars'", "= \"Mars\": must be a time zone"),
            ("[limits]\ndaily_usd = '1,50'", "= \"1,50\": must be an amount in dollars"),
            ("[limits]\ndaily_usd = 1.5", "daily_usd = 1.5: must be an amount in dollars"),
            (
                "[limits]\nalert_percent = [0]",
                "must be a list of up to 8 whole numbers from 1 to 100",
            ),
            ("[limits]\nalert_percent = ['a']", "must be a list of up to 8 whole numbers"),
            ("[log]\nfilter = 'weir=loud'", "must be a filter"),
            (upstream, "upstream[0].models: must list the models"),
            (&format!("{upstream}models = ['']"), "must be a model's name"),
            (
                &format!("{upstream}models = ['a']\ninject_usage = false\nrunning_usage = true"),
                "running_usage = \"true\": needs inject_usage = true",
            ),
            (
                &format!("{upstream}models = ['a']\nunstated = 'all'"),
                "must be \"reserved\" or \"seen\"",
            ),
            (&format!("{upstream}models = [{{ upstream_name = 'a' }}]"), "is missing its name"),
            (&format!("{upstream}models = ['a']\nca_file = 'none.pem'"), "none at etc/none.pem"),
            (
                &format!("{upstream}models = ['a']\n{upstream}models = ['b']"),
                "upstream[1].name = \"x\": must differ from all others",
            ),
            ("[[model]]\nname = 'gpt-5.5'", "did you mean \"gpt-5.4\"?"),
            ("[[model]]\nname = 'gpt-5.4'\n[[model]]\nname = 'gpt-5.4'", "already"),
        ];
        for (text, expected) in cases {
            let error = build(text, &[KEY]).map(|_| ()).expect_err(text);
            assert!(error.contains(expected) && error.lines().count() == 1, "{text}\n{error}");
        }
        let error = build("", &[KEY, ("WEIR__UPSTREAM__0__NAME", "x")]).expect_err("only in files");
        assert!(error.contains("no variable can set it"), "{error}");
    }

    #[test]
    fn the_file_is_named_and_must_exist() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = dir.path().join("weir.toml");
        let load = || Config::load(Some(&path), Secrets::Optional).map_err(|e| e.to_string());
        let error = load().expect_err("there is no such file yet");
        assert!(error.contains("can't read") && error.contains("--config FILE"), "{error}");
        std::fs::write(&path, "[server]\nworkers = -1\n").expect("a file for the test");
        let error = load().expect_err("a negative number");
        let placed = format!("in {} is not valid: line 2: server.workers", path.display());
        assert!(error.contains(&placed), "{error}");
        std::fs::write(&path, "[server]\nworkers = 2\n").expect("a file for the test");
        assert_eq!(load().expect("it is valid now").server.workers, 2);
    }
}
