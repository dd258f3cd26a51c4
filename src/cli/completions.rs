//! `omni completions`: what a shell needs to complete omni's command line, and the manual page.

use super::listing::emit;
use std::fmt::Write as _;
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
            emit(&manual(command)?)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "omni", &mut script);
    emit(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// One page with every verb on it: one file to install, and one place to search.
fn manual(command: &clap::Command) -> anyhow::Result<String> {
    let mut command = command.clone();
    command.build();
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_extra_section(&mut page)?;
    let mut page = String::from_utf8(page)?;
    write_verbs(&command, &mut page)?;
    // The generator's word for what it is given to print at the end.
    Ok(page.replace("SH EXTRA", "SH EXAMPLES").replace("SS EXTRA", "SS EXAMPLES"))
}

fn write_verbs(command: &clap::Command, page: &mut String) -> anyhow::Result<()> {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let man = clap_mangen::Man::new(verb.clone());
        let mut section = Vec::new();
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        man.render_extra_section(&mut section)?;
        writeln!(page, ".SH {}", verb.get_bin_name().unwrap_or(verb.get_name()).to_uppercase())?;
        // What heads a page of its own is a part of a section here.
        page.push_str(&String::from_utf8(section)?.replace("\n.SH ", "\n.SS "));
        write_verbs(verb, page)?;
    }
    Ok(())
}
