//! The command line: arguments in, exit code out. One file a subcommand. Results go to stdout, all
//! else to stderr; 0 is success, 1 an error, 2 a command line that is not understood.

mod serve;
mod demo;
mod simulate;
mod check;
mod tenant;
mod key;
mod usage;
mod quota;
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
mod unpriced;
mod unreadable;
mod time_args;
#[cfg(test)]
mod samples;

use std::io;
use std::path::{Path, PathBuf};
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
    Quota(quota::Args),
    Requests(requests::Args),
    Verify(verify::Args),
    Backup(backup::Args),
    Export(export::Args),
    Completions(completions::Args),
}

/// Options that are understood one by one, and make no sense: as those that are not, this exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

impl Misuse {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
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
        Err(error) if error.is::<Misuse>() => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {}", told(&error));
            if error.downcast_ref::<ConfigErrors>().is_some() && !is_check {
                eprintln!("Repair that; `weir check` says whether a configuration is valid.");
            }
            ExitCode::FAILURE
        }
    }
}

/// What tells a process that it has come to its limit on the size of files (`RLIMIT_FSIZE`), and by default kills it. Its
/// number is the same on x86 and ARM, on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// From here on a file that may not grow does not kill the process: without its signal, that is an error of the write,
/// as of a full disk, and whoever writes says so.
fn survive_file_limit() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    // Nobody listens: that it is handled is enough, and it stays so.
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    survive_file_limit()?;
    let file = cli.config.as_deref();
    for (wrong, right) in Config::misspelt_variables() {
        output::note(&format!(
            "{wrong} sets nothing; it is {right} that overrides the configuration"
        ));
    }
    match cli.command {
        Command::Serve(args) => serve::run(args, file),
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(args) => simulate::run(args),
        Command::Check(args) => check::run(args, file),
        Command::Tenant(args) => with_store(file, |config| tenant::run(args, config)),
        Command::Key(args) => with_store(file, |config| key::run(args, config)),
        Command::Usage(args) => with_store(file, |config| usage::run(args, config)),
        Command::Quota(args) => with_store(file, |config| quota::run(args, config)),
        Command::Requests(args) => with_store(file, |config| requests::run(args, config)),
        Command::Verify(args) => with_store(file, |config| verify::run(&args, config)),
        Command::Backup(args) => with_store(file, |config| backup::run(&args, config)),
        Command::Export(args) => with_store(file, |config| export::run(args, config)),
        Command::Completions(args) => completions::run(args),
    }
}

/// Runs a command that needs the configuration and reads or changes the store.
fn with_store(
    file: Option<&Path>,
    command: impl FnOnce(&Config) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // What never goes upstream works without the upstream's key.
    let config = Config::load(file, Secrets::Optional)?;
    command(&config)
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
        let naming = crate::store::StoreError::Create { path, source: io() };
        assert_eq!(told(&naming.into()), "can't create /data: permission denied");
    }

    #[test]
    fn what_a_database_says_is_told_once_with_the_file() {
        let (dir, store) = crate::store::samples::store_with(&[]);
        store.connection().execute_batch("DROP TABLE requests").unwrap();
        let error = || store.newest_ms(0).unwrap_err();
        let drain =
            || crate::ledger::LedgerError::from(crate::ledger::drain::DrainError::from(error()));
        let file = dir.path().join(crate::store::FILE_NAME);
        for error in [anyhow::Error::from(error()), drain().into()] {
            let said = told(&error);
            assert_eq!(said, format!("{} fails: no such table: requests", file.display()));
        }
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
        assert_eq!(code(&["weir", "usage", "--since", "yesterday"]), Err(2));
        assert_eq!(code(&["weir", "key", "create", "--tenant", "a", "--expires", "soon"]), Err(2));
        assert_eq!(code(&["weir", "key", "delete", "--ended-before", "then"]), Err(2));
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
