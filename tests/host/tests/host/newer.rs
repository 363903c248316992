//! A catalog that knows less than its pool: an old one, and none.

use std::sync::Arc;
use std::time::Duration;

use host_tests::Guest;
use operation::NoProbe;
use volumed::service::{CreateRequest, Service};
use volumed::snapshot::SnapshotState;
use volumed::volume::VolumeState;

use crate::operations::{Host, holds_sevens, settled, volume, write_sevens};
use crate::pool::{prepare, thin};

const BUCKET_LIMIT: Duration = Duration::from_secs(30);

fn request(name: &str) -> CreateRequest {
    CreateRequest {
        app: Some("shop".to_owned()),
        name: Some(name.to_owned()),
        size_gb: Some(1.into()),
        encrypted: Some(true),
        require_unique_zone: Some(false),
        auto_backup_enabled: Some(false),
        ..CreateRequest::default()
    }
}

/// A volume with something on it, and with a snapshot when `backed_up`.
async fn make(service: &Service, name: &str, backed_up: bool) {
    service.create(request(name)).await.unwrap();
    settled(service).await;
    let made = volume(service, name).await;
    write_sevens(service, &made).await;
    if backed_up {
        service.take_snapshot(&made.id).await.unwrap();
        settled(service).await;
        let taken = service.snapshots_of(&made.id).await.unwrap();
        assert_eq!(taken[0].state, SnapshotState::Created);
    }
}

pub(crate) fn a_pool_that_knows_more_than_its_catalog_is_put_right_by_tags_and_not_touched(guest: &Guest) {
    prepare(guest);
    let lvs = "lvs --noheadings -o lv_uuid,lv_name,lv_size,lv_tags $vg | sort";
    guest.block_on(async {
        let host = Host::new(guest, thin(1024));
        let first = host.run(Arc::new(NoProbe), async |service| {
            make(&service, "data", true).await;
            make(&service, "deleted", false).await;
            service
                .destroy(&volume(&service, "deleted").await.id)
                .await
                .unwrap();
            settled(&service).await;
        });
        first.await.unwrap();
        let backup = host.catalog.lock().unwrap().clone();
        let later = host.run(Arc::new(NoProbe), async |service| {
            service
                .extend(&volume(&service, "data").await.id, Some(&2.into()))
                .await
                .unwrap();
            service
                .recover(&volume(&service, "deleted").await.id)
                .await
                .unwrap();
            make(&service, "late", true).await;
            make(&service, "bare", false).await;
        });
        later.await.unwrap();
        let left = guest.must(lvs);

        *host.catalog.lock().unwrap() = backup;
        // What the old catalog has as deleted is due.
        host.clock.advance(Duration::from_secs(25 * 3600));
        let restored = host.run(Arc::new(NoProbe), async |service| {
            service.sweep_once().await;
            settled(&service).await;
            assert_eq!(volume(&service, "data").await.size.get(), 2);
            for name in ["data", "deleted", "late"] {
                let found = volume(&service, name).await;
                assert_eq!(found.state, VolumeState::Created, "{name}");
                holds_sevens(&service, &found).await;
            }
            let unknown = service.unknown_slices("p");
            let told = |words: &str| {
                unknown
                    .iter()
                    .filter(|slice| slice.reason.contains(words))
                    .count()
            };
            assert_eq!(
                (unknown.len(), told("no snapshot"), told("capture")),
                (2, 1, 1),
                "{unknown:?}"
            );
            let events = service.events(0).await.unwrap();
            for kind in ["catalog_older", "adopted", "slice_unknown"] {
                assert!(events.iter().any(|e| e.kind == kind), "{kind} among {events:?}");
            }
        });
        restored.await.unwrap();
        assert_eq!(guest.must(lvs), left);

        let moved = host.other();
        let adopted = moved.run(Arc::new(NoProbe), async |service| {
            service.adopt(BUCKET_LIMIT).await.unwrap();
            let mut names: Vec<String> = Vec::new();
            for found in service.volumes(None, false).await.unwrap() {
                holds_sevens(&service, &found).await;
                names.push(found.name);
            }
            names.sort();
            assert_eq!(names, ["data", "late"]);
            assert_eq!(
                service.unknown_slices("p").len(),
                4,
                "bare, deleted and two captures"
            );
            // They are volumes like any other.
            service
                .extend(&volume(&service, "late").await.id, Some(&2.into()))
                .await
                .unwrap();
        });
        adopted.await.unwrap();
    });
}
