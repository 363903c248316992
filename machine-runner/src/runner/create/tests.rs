use super::{check_name, host_memory_mb, made_up_name};

#[test]
fn made_up_names_pass_the_check_that_given_ones_do() {
    for byte in 0..=255 {
        let name = made_up_name([byte, byte, byte, byte]);
        assert_eq!(check_name(name.clone()).unwrap(), name);
    }
}

#[test]
fn names_that_break_dns_or_the_client_are_refused() {
    for name in ["-a", "_a", "a b", "a.b", "ä", "a/../b", &"a".repeat(64)] {
        assert_eq!(check_name(name.to_owned()).unwrap_err().status, 422, "{name}");
    }
}

#[test]
fn the_hosts_memory_is_known() {
    assert!(host_memory_mb().unwrap() > 100);
}

#[test]
fn a_volume_is_named_once() {
    assert_eq!(
        super::naming(
            "vol_1",
            "volume vol_1 is already attached to machine m1".to_owned()
        ),
        "volume vol_1 is already attached to machine m1"
    );
    assert_eq!(
        super::naming("vol_1", "volume not found".to_owned()),
        "volume vol_1: volume not found"
    );
}
