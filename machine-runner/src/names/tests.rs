use guest_init::proto::config::NameData;

use super::{Named, records};

fn machine(id: &str, address: &str) -> Named {
    Named {
        id: id.to_owned(),
        name: format!("Name-{id}"),
        app: "web".to_owned(),
        region: "local".to_owned(),
        group: Some("app".to_owned()),
        address: address.parse().unwrap(),
    }
}

#[test]
fn each_machine_is_found_by_id_name_app_region_and_group() {
    let records = records(&[machine("a1", "fdaa::1"), machine("b2", "fdaa::2")]);
    let addresses = |name: &str| {
        let found = records.iter().filter(|record| record.name == name);
        found
            .filter(|record| matches!(record.data, NameData::Aaaa(_)))
            .count()
    };
    for (name, count) in [
        ("a1.vm.web.internal", 1),
        ("name-b2.vm.web.internal", 1),
        ("web.internal", 2),
        ("local.web.internal", 2),
        ("app.process.web.internal", 2),
        ("c3.vm.web.internal", 0),
    ] {
        assert_eq!(addresses(name), count, "{name}");
    }
    let vms = records
        .iter()
        .find(|record| record.name == "vms.web.internal")
        .unwrap();
    assert_eq!(vms.data, NameData::Txt("a1 local,b2 local".to_owned()));
}

#[test]
fn an_empty_network_has_no_names() {
    assert!(records(&[]).is_empty());
}
