//! The names of an app network. Pure: machines in, records out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use guest_init::proto::config::{NameData, NameRecord};

/// What of a machine its names are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Machine id.
    pub id: String,
    /// Machine name.
    pub name: String,
    /// App.
    pub app: String,
    /// Region.
    pub region: String,
    /// `fly_process_group` of its metadata.
    pub group: Option<String>,
    /// Address.
    pub address: Ipv6Addr,
}

/// All records of a network whose started machines are `machines`.
#[must_use]
pub fn records(machines: &[Named]) -> Vec<NameRecord> {
    let mut addresses: BTreeSet<(String, Ipv6Addr)> = BTreeSet::new();
    let mut vms: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut regions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for machine in machines {
        let app = &machine.app;
        let mut names = vec![
            format!("{app}.internal"),
            format!("{}.{app}.internal", machine.region),
            format!("{}.vm.{app}.internal", machine.id),
            format!("{}.vm.{app}.internal", machine.name),
        ];
        names.extend(
            machine
                .group
                .iter()
                .map(|group| format!("{group}.process.{app}.internal")),
        );
        addresses.extend(
            names
                .into_iter()
                .map(|name| (name.to_ascii_lowercase(), machine.address)),
        );
        vms.entry(app)
            .or_default()
            .push(format!("{} {}", machine.id, machine.region));
        regions.entry(app).or_default().insert(&machine.region);
    }
    let text = |name: String, text: String| NameRecord {
        name,
        data: NameData::Txt(text),
    };
    let mut records: Vec<_> = addresses
        .into_iter()
        .map(|(name, address)| NameRecord {
            name,
            data: NameData::Aaaa(address),
        })
        .collect();
    records.extend(
        vms.iter()
            .map(|(app, vms)| text(format!("vms.{app}.internal"), vms.join(","))),
    );
    records.extend(regions.iter().map(|(app, regions)| {
        text(
            format!("regions.{app}.internal"),
            regions.iter().copied().collect::<Vec<_>>().join(","),
        )
    }));
    if !vms.is_empty() {
        let apps: Vec<_> = vms.keys().copied().collect();
        records.push(text("_apps.internal".to_owned(), apps.join(",")));
        let instances = machines.iter().map(|machine| {
            let Named {
                id,
                app,
                address,
                region,
                ..
            } = machine;
            format!("instance={id},app={app},ip={address},region={region}")
        });
        records.push(text(
            "_instances.internal".to_owned(),
            instances.collect::<Vec<_>>().join(";"),
        ));
    }
    records
}

#[cfg(test)]
mod tests;
