use crate::accel::judge;
use crate::config::{AccelPolicy, Config, RawConfig};
use crate::kvm_probe::Outcome;

#[test]
fn a_host_without_guest_files_is_told_what_to_do() {
    let text = "data_dir = '/d'\nsocket = '/s'\nassets_dir = '/nowhere'\nqemu = '/nowhere/qemu'\n";
    let raw: RawConfig = toml::from_str(text).unwrap();
    let config = Config::try_from(raw).unwrap();
    let outcome = Outcome::Failed {
        reason: "/dev/kvm does not exist".to_owned(),
    };
    let verdict = judge(AccelPolicy::Auto, &outcome, Some(2_000_000), true);
    let report = super::report(&config, &verdict);
    assert_eq!(report["ok"], false);
    let words = super::words(&report);
    for word in [
        "xtask setup",
        "qemu-system-x86",
        "volumed_socket",
        "TCG",
        "/dev/kvm does not exist",
    ] {
        assert!(words.contains(word), "{word} is not in {words}");
    }
}
