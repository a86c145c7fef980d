//! The command line: arguments in, exit code out. One file a subcommand. Results go to stdout, all
//! else to stderr; 0 is success, 1 an error, 2 a command line that is not understood.

mod serve;
mod demo;
mod simulate;
mod check;
mod tenant;
mod key;
mod usage;
mod requests;
mod verify;
mod backup;
mod export;
mod completions;
mod filter;
mod limits;
mod names;
mod open;
mod output;
mod progress;
mod unreadable;
mod when;
#[cfg(test)]
mod samples;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigErrors, Secrets};

/// A streaming gateway for LLM APIs that meters every token exactly once.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Cli {
    /// The configuration [default: config/weir.toml where there is one, else built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

/// In the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Simulate(simulate::Args),
    Check(check::Args),
    Tenant(tenant::Args),
    Key(key::Args),
    Usage(usage::Args),
    Requests(requests::Args),
    Verify(verify::Args),
    Backup(backup::Args),
    Export(export::Args),
    Completions(completions::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors: clap prints them to stdout and exits 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    let is_check = matches!(cli.command, Command::Check(_));
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // `weir … | head` has read enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            if error.downcast_ref::<ConfigErrors>().is_some() && !is_check {
                eprintln!("Repair that; `weir check` says whether a configuration is valid.");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let file = cli.config.as_deref();
    // What never goes upstream works without the upstream's key.
    let config = || Config::load(file, Secrets::Optional);
    match cli.command {
        Command::Serve(args) => serve::run(args, file),
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(args) => simulate::run(args),
        Command::Check(args) => check::run(args, file),
        Command::Tenant(args) => tenant::run(args, &config()?),
        Command::Key(args) => key::run(args, &config()?),
        Command::Usage(args) => usage::run(args, &config()?),
        Command::Requests(args) => requests::run(args, &config()?),
        Command::Verify(args) => verify::run(&args, &config()?),
        Command::Backup(args) => backup::run(&args, &config()?),
        Command::Export(args) => export::run(args, &config()?),
        Command::Completions(args) => completions::run(args),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error with its causes, each once: many name their cause in their own text already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        let io = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let plain = anyhow::Error::new(io()).context("the outermost");
        assert_eq!(told(&plain), "the outermost: permission denied");
        let path = "/data".into();
        let naming = crate::ledger::store::StoreError::Create { path, source: io() };
        assert_eq!(told(&naming.into()), "can't create /data: permission denied");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_is_named_before_or_after_the_subcommand() {
        for line in
            [["weir", "--config", "x.toml", "check"], ["weir", "check", "--config", "x.toml"]]
        {
            let cli = Cli::try_parse_from(line).expect("both orders are understood");
            assert_eq!(cli.config, Some(PathBuf::from("x.toml")));
        }
    }

    #[test]
    fn what_is_not_understood_exits_with_2_and_help_with_0() {
        let code = |line: &[&str]| Cli::try_parse_from(line).map(|_| ()).map_err(|e| e.exit_code());
        assert_eq!(code(&["weir", "flood"]), Err(2));
        assert_eq!(code(&["weir", "check", "--never"]), Err(2));
        assert_eq!(code(&["weir", "completions", "cobol"]), Err(2));
        assert_eq!(code(&["weir"]), Err(2));
        assert_eq!(code(&["weir", "--help"]), Err(0));
        assert_eq!(code(&["weir", "--version"]), Err(0));
    }

    #[test]
    fn a_reader_that_has_read_enough_is_no_error() {
        let broken = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&broken.context("can't write")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("no disk")));
    }
}
