use super::*;

fn found(config: &str, registry: &str) -> Option<RegistryAuth> {
    pick(&serde_json::from_str(config).unwrap(), registry)
}

#[test]
fn credentials_are_found_by_host_with_or_without_scheme() {
    let config =
        r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "r.example:5000": {"auth": "Yzpk"}}}"#;
    assert_eq!(
        found(config, "docker.io"),
        Some(RegistryAuth::Basic("a".into(), "b".into()))
    );
    assert_eq!(
        found(config, "r.example:5000"),
        Some(RegistryAuth::Basic("c".into(), "d".into()))
    );
    assert_eq!(found(config, "r.example"), None);
}

#[test]
fn an_entry_that_only_names_a_helper_gives_nothing() {
    assert_eq!(
        found(
            r#"{"auths": {"r.example": {}}, "credsStore": "desktop"}"#,
            "r.example"
        ),
        None
    );
}
