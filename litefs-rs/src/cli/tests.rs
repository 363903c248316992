use super::{Command, MountArgs, TransferArgs, UsageError, parse};

fn check(line: &str) -> Result<Command, UsageError> {
    parse(line.split_whitespace().map(str::to_owned))
}

#[test]
fn flags_have_one_dash_or_two_and_their_value_joined_or_not() {
    let expected = MountArgs {
        config: Some("/x.yml".into()),
        skip_unmount: true,
        command: vec!["app".to_owned(), "-x".to_owned()],
        ..MountArgs::default()
    };
    for line in [
        "mount -config /x.yml -skip-unmount -- app -x",
        "mount --config=/x.yml --skip-unmount=true -- app -x",
    ] {
        assert_eq!(check(line), Ok(Command::Mount(expected.clone())), "{line}");
    }
}

#[test]
fn a_node_is_meant_by_its_url() {
    let meant = |url: &str| super::NodeArgs { url: url.to_owned() };
    assert_eq!(check("promote"), Ok(Command::Promote(meant(super::DEFAULT_URL))));
    assert_eq!(
        check("status -url http://h:1"),
        Ok(Command::Status(meant("http://h:1")))
    );
    assert_eq!(check("promote now"), Err(UsageError::TooMany("now".to_owned())));
}

#[test]
fn a_transfer_needs_a_name_and_a_path() {
    let expected = TransferArgs {
        url: "http://h:1".to_owned(),
        name: "db".to_owned(),
        path: "/f".into(),
    };
    assert_eq!(
        check("import -name db -url http://h:1 /f"),
        Ok(Command::Import(expected))
    );
    assert_eq!(check("export /f"), Err(UsageError::Missing("database name")));
    assert_eq!(
        check("export -name db"),
        Err(UsageError::Missing("path of a file"))
    );
}

#[test]
fn what_is_no_command_line_is_told_by_name() {
    assert_eq!(check("mont"), Err(UsageError::UnknownCommand("mont".to_owned())));
    assert_eq!(
        check("mount -confg x"),
        Err(UsageError::UnknownFlag("confg".to_owned()))
    );
    assert_eq!(
        check("mount -config"),
        Err(UsageError::NoValue("config".to_owned()))
    );
    assert_eq!(check("run"), Err(UsageError::Missing("command after --")));
    assert_eq!(
        check("run -promote -with-halt-lock-on /mnt/db -- app"),
        Err(UsageError::PromoteWithHalt)
    );
    assert_eq!(check(""), Ok(Command::Help));
}
