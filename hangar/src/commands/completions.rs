//! Completion scripts and the manual page, both made from the command line's own definition.

use crate::failure::Failure;
use crate::output::Output;

/// Prints a shell's completion script.
pub(super) fn script(
    shell: clap_complete::Shell,
    command: &mut clap::Command,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "hangar", &mut text);
    output.raw(&text)
}

/// Prints the manual page: the program's, then one section for each command below it.
pub(super) fn manual(mut command: clap::Command, output: &mut Output<'_>) -> Result<(), Failure> {
    command.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        section(part, &mut text)?;
    }
    output.raw(&text)
}

fn section(command: &clap::Command, text: &mut Vec<u8>) -> Result<(), Failure> {
    let leaves: Vec<&clap::Command> = command
        .get_subcommands()
        .filter(|part| part.get_name() != "help" && !part.is_hide_set())
        .collect();
    if leaves.is_empty() {
        let man = clap_mangen::Man::new(command.clone());
        let title = command
            .get_bin_name()
            .unwrap_or(command.get_name())
            .to_uppercase();
        text.extend(format!(".SH \"{title}\"\n").into_bytes());
        let mut about = command.get_about().map(ToString::to_string).unwrap_or_default();
        about.push('\n');
        text.extend(about.into_bytes());
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_options_section(&mut part)?;
        // Sections of a command are subsections of the page.
        text.extend(
            String::from_utf8_lossy(&part)
                .replace(".SH ", ".SS ")
                .into_bytes(),
        );
    }
    leaves.into_iter().try_for_each(|leaf| section(leaf, text))
}
