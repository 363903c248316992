use super::*;
use crate::config::{Config, PoolConfig};

const HEAD: &str = r#"
socket = "/run/v.sock"
data_dir = "/var/lib/v"
region = "loc"
zones = ["0a01"]
[object_store]
endpoint = "http://127.0.0.1:1"
bucket = "b"
"#;

fn pools(text: &str) -> Vec<PoolConfig> {
    let config: Config = toml::from_str(&format!("{HEAD}{text}")).unwrap();
    config.settings().unwrap();
    config.pools_or_default()
}

fn file(name: &str, path: &Path) -> String {
    format!("[[pools]]\nname = {name:?}\npath = {path:?}\n")
}

fn lvm(name: &str, kind: &str, more: &str) -> String {
    format!("[[pools]]\nname = {name:?}\nkind = {kind:?}\n[pools.lvm]\ndevices = [\"/dev/x\"]\n{more}\n")
}

fn refused(text: &str) -> String {
    check(&pools(text), on_this_host).unwrap_err().to_string()
}

#[test]
fn two_pools_in_one_folder_are_refused_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("a")).unwrap();
    std::os::unix::fs::symlink(real.join("a"), real.join("link")).unwrap();
    for other in ["a", "a/", "a/./", "link", "b/../a"] {
        let sentence = refused(&(file("fast", &real.join("a")) + &file("slow", &real.join(other))));
        assert!(
            sentence.contains("pools fast and slow")
                && sentence.contains(&real.join("a").display().to_string()),
            "{other}: {sentence}"
        );
    }
}

#[test]
fn a_pool_in_the_folder_of_another_is_refused_also_where_neither_exists() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("not/there/yet");
    for (one, two) in [(dir.path(), inner.as_path()), (inner.as_path(), dir.path())] {
        let sentence = refused(&(file("fast", one) + &file("slow", two)));
        assert!(sentence.contains("one is in the other"), "{sentence}");
    }
    // A name that only begins alike is another folder.
    let text = file("fast", &dir.path().join("a")) + &file("slow", &dir.path().join("ab"));
    check(&pools(&text), on_this_host).unwrap();
}

#[test]
fn two_pools_on_one_thin_pool_or_on_one_group_are_refused() {
    let thin = |name, pool: &str| lvm(name, "lvm-thin", &format!("vg = \"vg0\"\nthin_pool = {pool:?}"));
    let linear = |name, vg: &str| lvm(name, "lvm-linear", &format!("vg = {vg:?}"));
    assert!(refused(&(thin("a", "tp") + &thin("b", "tp"))).contains("thin pool vg0/tp"));
    assert!(refused(&(linear("a", "vg0") + &linear("b", "vg0"))).contains("volume group vg0"));
    for apart in [
        thin("a", "tp") + &thin("b", "tq"),
        linear("a", "vg0") + &linear("b", "vg1"),
        thin("a", "tp") + &linear("b", "vg0"),
    ] {
        check(&pools(&apart), on_this_host).unwrap();
    }
}
