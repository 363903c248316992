use super::*;

const MINIMAL: &str = r#"
    socket = "/n/run/flaps.sock"
    catalog = "/n/flaps/catalog.db"
    token_file = "/n/flaps/token"
    volumed_socket = "/n/run/volumed.sock"
    machine_runner_socket = "/n/run/machine-runner.sock"
"#;

fn parse(text: &str) -> Result<Config, InvalidConfig> {
    Config::try_from(toml::from_str::<RawConfig>(text).unwrap())
}

#[test]
fn sockets_and_files_alone_are_a_configuration() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
    assert_eq!(config.regions[0].code, "local");
    assert_eq!(config.organization, "personal");
}

#[test]
fn all_problems_are_told_together() {
    let text = format!(
        "listen = \"nowhere\"\norganization = \"A B\"\nbody_bytes_max = 1\ncall_timeout_s = 0\n{MINIMAL}\n[[regions]]\ncode = \"Iad\""
    );
    let problems = parse(&text).unwrap_err().problems;
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(
        problems.iter().any(|problem| problem.contains("\"Iad\"")),
        "{problems:?}"
    );
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let error = toml::from_str::<RawConfig>(&format!("lisen = \"x\"\n{MINIMAL}")).unwrap_err();
    assert!(error.to_string().contains("lisen"), "{error}");
}
