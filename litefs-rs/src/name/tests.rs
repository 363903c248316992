use super::*;

fn check(name: &str, expected: Option<&str>) {
    let found = name.parse::<MountName>().map(|name| format!("{name:?}")).ok();
    assert_eq!(found.as_deref(), expected, "{name:?}");
}

#[test]
fn a_name_stands_for_what_its_end_says() {
    check(".lag", Some("Lag"));
    check(".primary", Some("Primary"));
    check("db", Some(r#"Database(DatabaseName("db"))"#));
    check("foo.txt", Some(r#"Database(DatabaseName("foo.txt"))"#));
    check(
        "db-journal",
        Some(r#"SideFile(DatabaseName("db"), RollbackJournal)"#),
    );
    check("db-wal", Some(r#"SideFile(DatabaseName("db"), Wal)"#));
    check("db-shm", Some(r#"SideFile(DatabaseName("db"), Shm)"#));
    check("db-pos", Some(r#"Pos(DatabaseName("db"))"#));
    check("db-lock", Some(r#"Lock(DatabaseName("db"))"#));
    check("db-mj0123ABC9F", Some(r#"SuperJournal("db-mj0123ABC9F")"#));
    check(
        "db-mj0123abc9f",
        Some(r#"Database(DatabaseName("db-mj0123abc9f"))"#),
    );
    check(
        "db-mj0123ABC9",
        Some(r#"Database(DatabaseName("db-mj0123ABC9"))"#),
    );
    for nothing in [
        "",
        ".",
        "..",
        "a/b",
        "a\0b",
        "-wal",
        "db-wal-pos",
        "db-pos-lock",
        ".lag-wal",
        "../db-wal",
    ] {
        check(nothing, None);
    }
}

#[test]
fn every_file_of_a_database_has_room_for_its_name() {
    let longest = "x".repeat(NAME_BYTES_MAX);
    assert_eq!(longest.parse::<DatabaseName>().unwrap().as_str(), longest);
    let longer = format!("{longest}x");
    assert_eq!(
        longer.parse::<DatabaseName>(),
        Err(NameError::Long { bytes: 248 })
    );
    assert!(matches!(
        "db-wal".parse::<DatabaseName>(),
        Err(NameError::Reserved(_))
    ));
}
