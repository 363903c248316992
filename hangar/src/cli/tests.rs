use clap::{CommandFactory as _, Parser as _};

use super::*;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn options_may_stand_between_image_and_command() {
    let words = [
        "hangar",
        "machine",
        "run",
        "demo:latest",
        "-a",
        "demo",
        "--volume",
        "v:/data",
        "/bin/sh",
        "-c",
        "sleep -a",
    ];
    let Command::Machine {
        command: machine::Command::Run(run),
    } = Cli::parse_from(words).command
    else {
        panic!("a run");
    };
    assert_eq!(run.command, ["/bin/sh", "-c", "sleep -a"]);
    assert_eq!(
        (run.app.app.as_deref(), run.volume.as_deref()),
        (Some("demo"), Some("v:/data"))
    );
}

#[test]
fn the_aliases_of_fly_work() {
    for words in [
        ["hangar", "vol", "list"],
        ["hangar", "v", "ls"],
        ["hangar", "volume", "list"],
        ["hangar", "m", "ls"],
        ["hangar", "machines", "list"],
        ["hangar", "app", "list"],
    ] {
        Cli::try_parse_from(words).unwrap();
    }
}

#[test]
fn switches_take_a_value_only_after_an_equals_sign() {
    let words = [
        "hangar",
        "volumes",
        "create",
        "data",
        "--scheduled-snapshots=false",
        "--require-unique-zone=false",
        "-y",
    ];
    let Command::Volumes {
        command: volumes::Command::Create(create),
    } = Cli::parse_from(words).command
    else {
        panic!("a create");
    };
    assert_eq!(
        (create.scheduled_snapshots, create.require_unique_zone),
        (Some(false), false)
    );
    let Command::Volumes {
        command: volumes::Command::Create(create),
    } = Cli::parse_from(["hangar", "volumes", "create", "data"]).command
    else {
        panic!("a create");
    };
    assert_eq!(
        (create.scheduled_snapshots, create.require_unique_zone),
        (None, true)
    );
}

#[test]
fn a_size_to_add_is_taken() {
    let words = ["hangar", "volumes", "extend", "vol_1", "-s", "+1"];
    let Command::Volumes {
        command: volumes::Command::Extend(extend),
    } = Cli::parse_from(words).command
    else {
        panic!("an extend");
    };
    assert_eq!(extend.size.as_deref(), Some("+1"));
}
