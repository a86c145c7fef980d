//! `weir completions`: what a shell needs to complete Weir's commands.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Print the completions for a shell, such as `weir completions bash > weir.bash`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    // Into memory first: the generator panics when its output can't be written.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "weir", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_the_subcommands() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
            let script = String::from_utf8(script).expect("scripts are UTF-8");
            assert!(script.contains("completions") && script.contains("check"), "{shell}");
        }
    }
}
