//! `omni completions`: what a shell needs to complete omni's command line, and the manual page.

use std::io;
use std::process::ExitCode;

/// What to print.
#[derive(clap::Args)]
#[command(after_help = "Example: omni completions bash > ~/.local/share/bash-completion/completions/omni")]
pub struct Args {
    /// The shell, or `man` for the manual page.
    #[arg(value_enum)]
    shell: Target,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Target {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    Man,
}

/// Prints it.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args, command: &mut clap::Command) -> anyhow::Result<ExitCode> {
    use clap_complete::Shell;
    let shell = match args.shell {
        Target::Bash => Shell::Bash,
        Target::Elvish => Shell::Elvish,
        Target::Fish => Shell::Fish,
        Target::Powershell => Shell::PowerShell,
        Target::Zsh => Shell::Zsh,
        Target::Man => {
            clap_mangen::Man::new(command.clone()).render(&mut io::stdout())?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    clap_complete::generate(shell, command, "omni", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
