//! `weir simulate`: the simulator by itself.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser};
use tokio::signal::unix::{SignalKind, signal};

use crate::simulator::{
    self, Dialect, IMAGE_MODEL, Mode, Options, StreamOptions, TEXT_MODEL, UsageForm,
};

/// An upstream to try things out with: speaks the whole API, costs nothing, needs no network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// The only API key to accept [default: any]
    #[arg(long, env = "WEIR_SIMULATOR_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// OpenAI's complete objects, or the API documents' examples as printed, which leave things out
    #[arg(long, value_enum, default_value = "full")]
    mode: ModeArg,
    /// In mode literal: JSON mode answers with the bare object, without an envelope
    #[arg(long)]
    bare_json: bool,
    /// How usage is stated [default: extended in mode full, standard in mode literal]
    #[arg(long, value_enum)]
    usage: Option<UsageArg>,
    /// What to do with stream_options
    #[arg(long, value_enum, default_value = "honour")]
    stream_options: StreamOptionsArg,
    /// Whose form chat has
    #[arg(long, default_value = "openai", value_parser = dialects())]
    dialect: String,
    /// Serve HTTPS with a certificate made at start
    #[arg(long)]
    tls: bool,
    /// With --tls: write the certificate authority to this file, as PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// Milliseconds to the first token
    #[arg(long, value_name = "MS", default_value_t = 0)]
    first_token_ms: u64,
    /// Milliseconds between two tokens; 0: as fast as they are read
    #[arg(long, value_name = "MS", default_value_t = 0)]
    interval_ms: u64,
    /// Tokens of a text answer [default: a few sentences]
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Model to serve; may be given several times
    #[arg(long = "model", value_name = "NAME", default_values = [TEXT_MODEL, IMAGE_MODEL])]
    models: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum ModeArg {
    Full,
    Literal,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Full => Self::Full,
            ModeArg::Literal => Self::Literal,
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum UsageArg {
    Standard,
    Extended,
    None,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StreamOptionsArg {
    Honour,
    Ignore,
    Refuse,
}

/// For `--help` each with what is its own.
fn dialects() -> PossibleValuesParser {
    let value = |(name, about)| PossibleValue::new(name).help(about);
    PossibleValuesParser::new(Dialect::described().map(value))
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(serve(args))
}

#[expect(clippy::print_stdout, reason = "the address is this command's result")]
async fn serve(args: Args) -> anyhow::Result<()> {
    let (listen, ca_file) = (args.listen, args.ca_file.clone());
    // Before the address is printed, so that whoever reads it may already send a signal.
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for Ctrl-C")?;
    let simulator = simulator::start(options(args)?).await.with_context(|| {
        format!("can't listen on {listen}: choose another address with --listen")
    })?;
    if let (Some(path), Some(pem)) = (&ca_file, simulator.ca_pem()) {
        std::fs::write(path, pem).with_context(|| format!("can't write {}", path.display()))?;
    }
    println!("simulator listens on {}", simulator.base_url());
    std::io::stdout().flush().context("can't write to stdout")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let counts = simulator.counts();
    simulator.shutdown().await;
    eprintln!(
        "{} requests, {} answers completed, {} tokens",
        counts.requests, counts.completed, counts.total_tokens
    );
    Ok(())
}

fn options(args: Args) -> anyhow::Result<Options> {
    let dialect = Dialect::named(&args.dialect).context("unknown dialect")?;
    Ok(Options {
        listen: args.listen,
        api_key: args.api_key,
        mode: args.mode.into(),
        bare_json: args.bare_json,
        usage: args.usage.map(|usage| match usage {
            UsageArg::Standard => UsageForm::Standard,
            UsageArg::Extended => UsageForm::Extended,
            UsageArg::None => UsageForm::Absent,
        }),
        stream_options: match args.stream_options {
            StreamOptionsArg::Honour => StreamOptions::Honour,
            StreamOptionsArg::Ignore => StreamOptions::Ignore,
            StreamOptionsArg::Refuse => StreamOptions::Refuse,
        },
        dialect,
        tls: args.tls,
        first_token_ms: args.first_token_ms,
        token_interval_ms: args.interval_ms,
        answer_tokens: args.tokens,
        models: args.models,
        record: false,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from([&["simulate"], arguments].concat());
        options(line.map_err(|error| error.to_string())?.args).map_err(|error| error.to_string())
    }

    #[test]
    fn without_arguments_it_is_as_the_simulator_has_it() {
        let (line, default) = (parse(&[]).expect("nothing is required"), Options::default());
        assert_eq!((line.mode, line.models, line.tls), (default.mode, default.models, false));
        assert_eq!(line.dialect.name(), default.dialect.name());
        assert_eq!((line.first_token_ms, line.token_interval_ms), (0, 0));
    }

    #[test]
    fn arguments_arrive_and_wrong_ones_are_refused() {
        let line = ["--mode", "literal", "--bare-json", "--dialect", "azure", "--usage", "none"];
        let options = parse(&line).expect("all known");
        assert_eq!((options.mode, options.bare_json), (Mode::Literal, true));
        assert_eq!((options.dialect.name(), options.usage), ("azure", Some(UsageForm::Absent)));
        for wrong in [&["--dialect", "smoke"][..], &["--ca-file", "ca.pem"], &["--tokens", "-1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
