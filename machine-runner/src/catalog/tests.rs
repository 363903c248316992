use std::collections::BTreeMap;

use serde_json::json;

use super::{Catalog, CatalogError, Change};
use crate::ids::MachineId;
use crate::lease::Lease;
use crate::lifecycle::State;
use crate::record::{Event, ImageRef, MachineRecord, RunState, Version};

fn record(id: &MachineId, state: State) -> MachineRecord {
    let now = jiff::Timestamp::from_second(1_000).unwrap();
    MachineRecord {
        id: id.clone(),
        app: "web".to_owned(),
        org: "personal".to_owned(),
        name: "quiet-hill-1".to_owned(),
        region: "local".to_owned(),
        instance_id: "01".to_owned(),
        state,
        config: json!({"image": "debian"}),
        image: ImageRef::default(),
        secrets: BTreeMap::new(),
        network: "web".to_owned(),
        private_ip: "fdaa:0:1:a7b:1:0:0:1".to_owned(),
        created_at: now,
        updated_at: now,
        cordoned: false,
        run: RunState::default(),
    }
}

fn event(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        kind: "start".to_owned(),
        status: "started".to_owned(),
        source: "user".to_owned(),
        timestamp: 7,
        request: None,
    }
}

fn id() -> MachineId {
    MachineId::parse("d4a192e0dbda1e").unwrap()
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    {
        let catalog = Catalog::open(&path).unwrap();
        let change = Change {
            machine: Some(record(&id(), State::Started)),
            events: vec![event("a"), event("b")],
            version: Some(Version {
                version: "01".to_owned(),
                user_config: json!({"image": "debian"}),
            }),
        };
        catalog.commit(&id(), change).await.unwrap();
    }
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.machines().await.unwrap(), [record(&id(), State::Started)]);
    let events = catalog.events(&id(), 1).await.unwrap();
    assert_eq!(events, [event("b")], "newest first, cut at the limit");
    assert_eq!(catalog.versions(&id()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn old_events_are_forgotten_and_the_newest_kept() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.db")).unwrap();
    let events = (0..700).map(|n| event(&n.to_string())).collect();
    catalog
        .commit(
            &id(),
            Change {
                events,
                ..Change::default()
            },
        )
        .await
        .unwrap();
    let kept = catalog.events(&id(), 10_000).await.unwrap();
    assert_eq!((kept.len(), kept[0].id.as_str()), (500, "699"));
}

#[tokio::test]
async fn a_refused_lease_change_leaves_the_lease_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.db")).unwrap();
    let lease = Lease {
        nonce: "n".to_owned(),
        expires_at: 5,
        owner: "ann".to_owned(),
        description: String::new(),
        version: "01".to_owned(),
    };
    let given = lease.clone();
    catalog
        .change_lease::<CatalogError, _>(&id(), |_| Ok(Some(given)))
        .await
        .unwrap();
    let refused = catalog
        .change_lease::<CatalogError, _>(&id(), |_| Err(CatalogError::Closed))
        .await;
    assert!(refused.is_err());
    assert_eq!(catalog.lease(&id()).await.unwrap(), Some(lease));
}

#[tokio::test]
async fn numbers_of_networks_are_never_given_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&dir.path().join("catalog.db")).unwrap();
    assert_eq!(catalog.network_number("a").await.unwrap(), 1);
    assert_eq!(catalog.network_number("b").await.unwrap(), 2);
    assert_eq!(catalog.network_number("a").await.unwrap(), 1);
}

#[test]
fn a_catalog_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(
        Catalog::open(&path),
        Err(CatalogError::Newer { found: 99, .. })
    ));
}
