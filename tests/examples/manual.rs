//! `manual DIR`: the manual pages and shell completions of the three programs, for packages.
#![allow(clippy::unwrap_used, reason = "a program of the build")]

use std::fs;
use std::path::PathBuf;

use clap_complete::Shell;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    fs::create_dir_all(&folder).unwrap();
    let commands = [
        posthouse_agent::command(),
        posthouse_market::vendor::command(),
        posthouse_market::distributor::command(),
    ];
    for command in commands {
        let mut command = command.disable_help_subcommand(true);
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, &name, &folder).unwrap();
        }
        // One page for the program and one for each of its commands.
        clap_mangen::generate_to(command, &folder).unwrap();
    }
}
