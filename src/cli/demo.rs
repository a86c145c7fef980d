//! `weir demo`: the whole thing on one machine without anything else: the simulator as the upstream, the
//! gateway in front of it, a tenant with a fresh key, and the lines to try it with.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use secrecy::SecretString;

use crate::cli::open::open_or_make_store;
use crate::cli::serve::{Signals, end_of};
use crate::cli::simulate::ModeArg;
use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::identify::key_text::{KeyText, generate_id};
use crate::server::{Environment, Server};
use crate::simulator::{self, Options};
use crate::store::NewKey;
use crate::telemetry::log;
use crate::tenancy::{Limits, Secret};

const TENANT: &str = "demo";
/// Slow enough to see a stream come, fast enough not to wait for it.
const TOKEN_INTERVAL_MS: u64 = 30;

/// Made up, so that the first report shows what it could look like: dollars for a million tokens, and for a
/// picture.
const PRICES: &str = r#"
[[price]]
model = "gpt-5.4"
from = "2026-01-01"
input = "1.25"
cached_input = "0.125"
output = 10

[[price]]
model = "gpt-5.4-image-2"
from = "2026-01-01"
input = 5
output = 10
per_image = "0.04"
"#;

/// Run simulator and gateway in one process, with nothing to configure
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address of the gateway; its port is replaced by a free one where it is taken
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// OpenAI's complete objects, or the API documents' examples as printed, which leave things out
    #[arg(long, value_enum, default_value = "full")]
    mode: ModeArg,
    /// Where the demo keeps its ledger
    #[arg(long, value_name = "DIR", default_value = "weir-data/demo")]
    data_dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let options = Options {
            token_interval_ms: TOKEN_INTERVAL_MS,
            mode: args.mode.into(),
            ..Options::default()
        };
        let simulator = simulator::start(options).await.context("the simulator does not start")?;
        let config = config(args, &simulator.base_url())?;
        log::init(&config.log)?;
        let key = make_key(&config)?;
        let server = Server::start(&config, Environment::default())?;
        print(&server, &key, &config.data.dir)?;
        let ended = end_of(&server, &mut signals).await;
        eprintln!("stopping; a second signal hurries");
        server.shutdown(signals.next()).await;
        simulator.shutdown().await;
        ended
    })
}

/// The defaults, with the simulator as the only upstream.
fn config(args: &Args, base_url: &str) -> anyhow::Result<Config> {
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, args.listen.port().wrapping_add(1)));
    let listen = free(args.listen);
    let text = format!(
        "[server]\nlisten = \"{listen}\"\n[admin]\nlisten = \"{}\"\n[data]\ndir = {:?}\n\
         [log]\nfilter = \"warn\"\n\
         [[upstream]]\nname = \"simulator\"\nbase_url = \"{base_url}\"\n\
         models = [\"{}\", \"{}\"]\n{PRICES}",
        free(admin),
        args.data_dir.display().to_string(),
        simulator::TEXT_MODEL,
        simulator::IMAGE_MODEL,
    );
    let mut config = Config::from_toml(&text, Secrets::Required)?;
    for upstream in &mut config.upstreams {
        // The simulator takes any key, but like every upstream it wants one.
        Arc::make_mut(upstream).api_keys[0].secret = Some(SecretString::from("demo"));
    }
    Ok(config)
}

/// The address, or one with a port that is free where its own is taken.
fn free(address: SocketAddr) -> SocketAddr {
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}

/// A fresh key, because an earlier one's text is not kept anywhere.
fn make_key(config: &Config) -> anyhow::Result<KeyText> {
    let text = KeyText::generate()?;
    let new = NewKey {
        id: generate_id()?.into(),
        tenant: TENANT.into(),
        name: "demo".to_owned(),
        limits: Limits::default(),
        clamp: false,
        cut: false,
        models: None,
        expires_at_ms: None,
        secret: Secret {
            digest: text.digest(),
            last4: text.last4().to_owned(),
            expires_at_ms: None,
        },
    };
    open_or_make_store(config, "demo")?.create_key(&new, Clock::system().now().unix_ms)?;
    Ok(text)
}

fn print(server: &Server, key: &KeyText, dir: &Path) -> std::io::Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "weir".to_owned());
    let base = format!("http://{}/v1", server.address());
    let admin = server.admin_address();
    let key = key.reveal();
    let (text, image) = (simulator::TEXT_MODEL, simulator::IMAGE_MODEL);
    let curl = |body: &str| {
        format!(
            "curl -sN {base}/chat/completions -H 'Authorization: Bearer {key}' \\\n     \
             -H 'Content-Type: application/json' \\\n     -d '{body}'"
        )
    };
    let chat =
        curl(&format!(r#"{{"model":"{text}","messages":[{{"role":"user","content":"Hello"}}]}}"#));
    let stream = curl(&format!(
        r#"{{"model":"{text}","stream":true,"messages":[{{"role":"user","content":"介绍一下Linux"}}]}}"#
    ));
    let picture = curl(&format!(
        r#"{{"model":"{image}","messages":[{{"role":"user","content":"a cat on the moon"}}]}}"#
    ));
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "Weir is running in front of its simulator.

  address   {base}
  key       {key}
  metrics   http://{admin}/metrics

A chat:

  {chat}

A stream:

  {stream}

An image:

  {picture}

With the official SDK (pip install openai):

  from openai import OpenAI
  client = OpenAI(base_url=\"{base}\", api_key=\"{key}\")
  stream = client.chat.completions.create(model=\"{text}\", stream=True,
      messages=[{{\"role\": \"user\", \"content\": \"What is a weir?\"}}])
  for chunk in stream: print(chunk.choices[0].delta.content or \"\", end=\"\", flush=True)

What it used, in another terminal:

  WEIR__DATA__DIR={dir} {program} usage

Ctrl-C ends it; the ledger stays in {dir}.
",
        dir = for_shell(&dir.display().to_string()),
        program = for_shell(&program),
    )?;
    out.flush()
}

/// A text as a shell takes it for one word.
fn for_shell(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_is_one_word() {
        for (text, expected) in [
            ("weir-data/demo", "weir-data/demo"),
            ("my data", "'my data'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(for_shell(text), expected);
        }
    }

    #[test]
    fn every_model_of_the_demo_has_a_price() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let args = Args { listen, mode: ModeArg::Literal, data_dir: PathBuf::from("demo") };
        let config = config(&args, "http://127.0.0.1:9").expect("it is valid");
        let now = Clock::system().now().unix_ms;
        for model in [simulator::TEXT_MODEL, simulator::IMAGE_MODEL] {
            assert!(config.prices.of(model).at(now).is_some(), "{model}");
        }
    }
}
