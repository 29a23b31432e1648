//! `hookfast completions` and `hookfast man`: what shells and `man` want to know.

use std::io;

use clap::Args;
use clap_complete::Shell;

use super::{command, output};

/// Prints completions for a shell.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast completions bash > /etc/bash_completion.d/hookfast
  hookfast completions zsh > ~/.zfunc/_hookfast
  hookfast completions fish > ~/.config/fish/completions/hookfast.fish")]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the man page, of the whole program or of one command.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast man | man -l -
  hookfast man event show | man -l -")]
pub(super) struct ManArgs {
    /// The command.
    command: Vec<String>,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "hookfast", &mut script);
    output::bytes(&script)?;
    Ok(())
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let mut found = command();
    found.build();
    for name in &args.command {
        let inside = found.find_subcommand(name).cloned();
        found = inside.ok_or_else(|| anyhow::anyhow!("there is no command `{name}`; see `hookfast help`"))?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(found)
        .render(&mut page)
        .map_err(|error: io::Error| anyhow::anyhow!(error))?;
    output::bytes(&page)?;
    Ok(())
}
