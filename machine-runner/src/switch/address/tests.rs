use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn an_address_is_the_same_forever_and_has_eight_groups() {
    let network = NetworkId::of("personal", "demo");
    let address = allocate(network, HostId::of("node"), "d4a192e0dbda1e", &|_| false);
    // Written down: machines keep their address over versions of this program.
    assert_eq!(written(address), "fdaa:6b6e:de80:a7b:a10:a166:9d16:89d8");
    assert_eq!(mac_of("d4a192e0dbda1e").to_string(), "4a:6f:34:19:c7:b6");
}

#[test]
fn a_taken_address_is_passed_over() {
    let (network, host) = (NetworkId::of("o", "n"), HostId::of("h"));
    let first = allocate(network, host, "m", &|_| false);
    let asked = Cell::new(0);
    let second = allocate(network, host, "m", &|address| {
        asked.set(asked.get() + 1);
        address == first
    });
    assert_ne!(first, second);
    assert_eq!(asked.get(), 2);
    assert_eq!(
        second,
        allocate(network, host, "m", &|address| address == first),
        "the second choice is stable too"
    );
}

#[test]
fn names_of_networks_do_not_run_into_each_other() {
    assert_ne!(NetworkId::of("ab", "c"), NetworkId::of("a", "bc"));
    assert_ne!(NetworkId::of("", "abc"), NetworkId::of("abc", ""));
}

#[test]
fn groups_that_are_zero_are_written() {
    assert_eq!(written("fdaa::1".parse().unwrap()), "fdaa:0:0:0:0:0:0:1");
}

#[test]
fn a_card_has_the_link_local_address_that_linux_gives_it() {
    let mac: Mac = "02:11:22:33:44:55".parse().unwrap();
    assert_eq!(
        mac.link_local(),
        "fe80::11:22ff:fe33:4455".parse::<Ipv6Addr>().unwrap()
    );
}

#[test]
fn what_is_no_unicast_card_is_refused() {
    for text in [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:00:00",
        "01:00:00:00:00:00",
        "00:00:00:00:00:00",
        "0g:0:0:0:0:0",
    ] {
        assert!(text.parse::<Mac>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn prop_addresses_of_many_machines_are_distinct_and_in_their_network(
        ids in prop::collection::btree_set("[0-9a-f]{14}", 1..60), net in "[a-z]{1,10}", host in "[a-z]{1,10}",
    ) {
        let mut taken = BTreeSet::new();
        for id in &ids {
            let address = allocate(NetworkId::of("org", &net), HostId::of(&host), id, &|a| taken.contains(&a));
            let text = written(address);
            let groups: Vec<&str> = text.split(':').collect();
            prop_assert_eq!(groups.len(), 8);
            prop_assert_eq!((groups[0], groups[3]), ("fdaa", "a7b"));
            prop_assert_eq!(text.parse::<Ipv6Addr>().unwrap(), address);
            prop_assert!(taken.insert(address));
            let mac = mac_of(id);
            prop_assert_eq!(mac.bytes()[0] & 3, 2);
            prop_assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        }
    }
}
