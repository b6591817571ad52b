//! Completions and the manual page.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;

/// The completion script for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ringtrue", &mut script);
    script
}

/// The manual page, in roff, of the program or of one of its commands.
pub fn manual(command: Option<&str>) -> Result<Vec<u8>, String> {
    let mut root = Cli::command();
    root.build();
    let page_of = match command {
        None => root,
        // A built command knows its full name, `ringtrue-call`.
        Some(name) => match root.find_subcommand(name) {
            Some(found) => found.clone(),
            None => return Err(format!("there is no command \"{name}\"; --help lists them")),
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(page_of)
        .render(&mut page)
        .map_err(|error| error.to_string())?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_completions() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(script.contains("audio-in"));
        }
    }

    #[test]
    fn pages_tell_options_and_exit_statuses() {
        let whole = String::from_utf8(manual(None).unwrap()).unwrap();
        assert!(whole.contains("listen") && whole.contains("no media path"));
        let call = String::from_utf8(manual(Some("call")).unwrap()).unwrap();
        assert!(call.contains("ringtrue\\-call") && call.contains("require\\-ice"));
        assert!(manual(Some("sing")).is_err());
    }
}
