use std::collections::BTreeMap;

use super::{choose_forwards, fits, free_port, loopback_address};
use crate::ids::MachineId;
use crate::machine_config::Service;
use crate::record::RamKey;

fn key() -> RamKey {
    RamKey {
        instance_id: "v".to_owned(),
        boot_id: "b".to_owned(),
        digest: "d".to_owned(),
        vmm: "q".to_owned(),
        accelerator: "tcg".to_owned(),
        generations: BTreeMap::from([("vol_1".to_owned(), 4)]),
    }
}

#[test]
fn a_ram_image_fits_only_what_it_was_taken_from() {
    assert_eq!(fits(&key(), &key()), Ok(()));
    for (word, other) in [
        (
            "version",
            RamKey {
                instance_id: "w".to_owned(),
                ..key()
            },
        ),
        (
            "image",
            RamKey {
                digest: "e".to_owned(),
                ..key()
            },
        ),
        (
            "kernel",
            RamKey {
                vmm: "r".to_owned(),
                ..key()
            },
        ),
        (
            "accelerator",
            RamKey {
                accelerator: "kvm".to_owned(),
                ..key()
            },
        ),
        (
            "generation of volume vol_1",
            RamKey {
                generations: BTreeMap::from([("vol_1".to_owned(), 5)]),
                ..key()
            },
        ),
        (
            "list of volumes",
            RamKey {
                generations: BTreeMap::new(),
                ..key()
            },
        ),
    ] {
        assert!(fits(&key(), &other).unwrap_err().contains(word), "{word}");
    }
}

#[test]
fn a_taken_port_is_replaced_by_a_free_one() {
    let id = MachineId::parse("0102030405060f").unwrap();
    let address = loopback_address(&id);
    assert!(address.starts_with("127.129.2."), "{address}");
    let taken = std::net::TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(free_port("tcp", &address, port), None);
    let service = Service {
        protocol: "tcp".to_owned(),
        internal_port: port,
    };
    let forwards = choose_forwards(&id, &[service], &[]);
    assert_eq!(forwards.len(), 1);
    assert!(forwards[0].host_port != port && forwards[0].guest_port == port);
}
