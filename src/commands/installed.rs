//! `pintail completions` and `pintail man`: what a package installs beside the program.
//!
//! Owns: the form of it. All of it is made from the definition of the command line, which is tested.
//! Does not own: where it is installed.

use std::io::Write;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use pintail_core::error::{Error, Result};

use crate::cli::Cli;

/// The name under which the program is installed.
const NAME: &str = "pintail";

/// Writes the completions of a shell.
pub(crate) fn completions(shell: Shell, to: &mut dyn Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut <Cli as CommandFactory>::command(), NAME, &mut script);
    to.write_all(&script).map_err(failed)
}

/// Writes the man page of the program, or of one of its commands.
pub(crate) fn man(command: Option<&str>, to: &mut dyn Write) -> Result<()> {
    let mut cli = <Cli as CommandFactory>::command();
    cli.build();
    let Some(name) = command else { return Man::new(cli).render(to).map_err(failed) };
    let Some(found) = cli.find_subcommand(name).filter(|found| !found.is_hide_set()) else {
        let names: Vec<_> = cli.get_subcommands().filter(|known| !known.is_hide_set()).map(Command::get_name).collect();
        return Err(Error::config(format!("`{name}` is no command: there are {}", names.join(", "))));
    };
    Man::new(found.clone()).render(to).map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::io("write to standard output", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<String> {
        let mut text = Vec::new();
        write(&mut text).map(|()| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_shell_is_told_of_the_commands_and_not_of_those_that_the_service_starts_itself_with() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = text(|to| completions(shell, to)).unwrap();
            assert!(script.contains("dead-letters") && script.contains("take-over"), "{shell}");
        }
        let page = text(|to| man(None, to)).unwrap();
        assert!(page.contains("dead") && !page.contains("sql\\-box") && page.contains("78"), "{page}");
    }

    #[test]
    fn each_command_has_a_page_and_another_name_is_told_which_there_are() {
        let page = text(|to| man(Some("verify"), to)).unwrap();
        assert!(page.contains("pintail\\-verify") && page.contains("\\-\\-since"), "{page}");
        let why = text(|to| man(Some("verfy"), to)).unwrap_err().to_string();
        assert!(why.contains("verify") && !why.contains("sql-box"), "{why}");
        assert!(text(|to| man(Some("sql-box"), to)).is_err());
    }
}
