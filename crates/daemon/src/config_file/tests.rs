use std::error::Error as _;
use std::io::Write as _;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Settings {
    socket: PathBuf,
    retention_days: u8,
}

fn load_text(text: &str) -> Result<Settings, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load(file.path())
}

#[test]
fn a_file_becomes_the_type() {
    let settings = load_text("socket = \"/run/x.sock\"\nretention_days = 5\n").unwrap();
    assert_eq!(
        settings,
        Settings {
            socket: "/run/x.sock".into(),
            retention_days: 5
        }
    );
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let error = load_text("socket = \"x\"\nretention_days = 5\nretentoin = 7\n").unwrap_err();
    assert!(error.to_string().starts_with("parse configuration /"));
    assert!(error.source().unwrap().to_string().contains("retentoin"));
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Settings>("/nonexistent/volumed.toml").unwrap_err();
    assert_eq!(error.to_string(), "read configuration /nonexistent/volumed.toml");
}
