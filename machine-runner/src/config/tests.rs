use super::{Config, RawConfig};

fn raw(text: &str) -> RawConfig {
    toml::from_str(text).unwrap()
}

#[test]
fn all_problems_are_told_together() {
    let raw = raw("data_dir = 'a,b'\nsocket = '/s'\nassets_dir = '/a'\nregion = 'x y'\n");
    let text = Config::try_from(raw).unwrap_err().to_string();
    assert!(
        text.contains("absolute") && text.contains("comma") && text.contains("region"),
        "{text}"
    );
}

#[test]
fn a_socket_path_that_the_kernel_would_cut_is_refused() {
    let long = format!("/{}", "d".repeat(80));
    let raw = raw(&format!(
        "data_dir = '{long}'\nsocket = '/s'\nassets_dir = '/a'\n"
    ));
    assert!(
        Config::try_from(raw)
            .unwrap_err()
            .to_string()
            .contains("shorter directory")
    );
}

#[test]
fn an_unknown_field_is_refused() {
    let text = "data_dir = '/d'\nsocket = '/s'\nassets_dir = '/a'\ncolour = 'red'\n";
    assert!(toml::from_str::<RawConfig>(text).is_err());
}
