use super::*;
use crate::keys::{ClusterKey, DataKey};
use crate::testing::CountingRandom;

const START: &str = "2026-01-01T00:00:00Z";

struct Table {
    random: CountingRandom,
    key: ClusterKey,
}

impl Table {
    fn new() -> Self {
        let random = CountingRandom::default();
        let key = ClusterKey::generate(&random);
        Self { random, key }
    }

    fn home() -> Home {
        Home {
            pool: "fast".to_owned(),
            region: "loc".to_owned(),
            zone: "0a01".to_owned(),
            now: START.parse().unwrap(),
        }
    }

    fn snapshot(&self, of: &VolumeId) -> Snapshot {
        let wrapped_key = self
            .key
            .wrap(of.as_str(), &DataKey::generate(&self.random), &self.random);
        Snapshot {
            id: SnapshotId::generate(&self.random),
            volume_id: of.clone(),
            app: "shop".to_owned(),
            volume_name: "data".to_owned(),
            state: SnapshotState::Created,
            scheduled: false,
            created_at: START.parse().unwrap(),
            retention_days: 7,
            volume_bytes: GIB,
            stored_bytes: 0,
            digest: String::new(),
            pool: None,
            in_disk: false,
            encrypted: true,
            generation: 5,
            formatted: true,
            fstype: "xfs".to_owned(),
            wrapped_key,
            last_verified: None,
            last_scrubbed: None,
            damage: None,
            damaged_since: None,
        }
    }

    /// A volume of 1 GB and its slice.
    fn volume(&self, state: VolumeState) -> (Volume, Found) {
        let id = VolumeId::generate(&self.random);
        let found = slice(&id, 1);
        let volume = adopted(&Self::home(), &found, None, Some(&self.snapshot(&id))).unwrap();
        (Volume { state, ..volume }, found)
    }
}

fn slice(id: &VolumeId, gb: u64) -> Found {
    Found {
        id: SliceId::Volume(id.clone()),
        allocated_bytes: 0,
        complete: true,
        size_bytes: Some(gb * GIB),
        encrypted: Some(true),
    }
}

fn running(subject: &str) -> Record {
    Record::new(
        OperationId::new("op"),
        subject,
        "restore",
        1,
        serde_json::json!({}),
    )
}

#[test]
fn a_slice_is_adopted_when_the_bucket_says_whose_it_is_and_else_left_with_a_reason() {
    let table = Table::new();
    let id = VolumeId::generate(&table.random);
    let (newest, good) = (table.snapshot(&id), slice(&id, 2));
    let volume = adopted(&Table::home(), &good, None, Some(&newest)).unwrap();
    assert_eq!((volume.app.as_str(), volume.name.as_str()), ("shop", "data"));
    assert_eq!(
        (volume.size.get(), volume.fstype, volume.formatted),
        (2, FsType::Xfs, true)
    );
    assert_eq!(
        (volume.state, volume.pool.as_str()),
        (VolumeState::Created, "fast")
    );
    assert_eq!(
        (volume.wrapped_key, volume.encrypted),
        (newest.wrapped_key.clone(), true)
    );
    assert!(volume.generation > newest.generation + 1000);

    let (gone, _) = table.volume(VolumeState::Destroyed);
    let capture = SliceId::Capture(SnapshotId::generate(&table.random));
    let with = |change: fn(&mut Found)| {
        let mut found = good.clone();
        change(&mut found);
        found
    };
    let capture = Found {
        id: capture,
        ..good.clone()
    };
    let cases = [
        (capture, None, Some(&newest), "capture"),
        (good.clone(), Some(&gone), Some(&newest), "destroyed"),
        (
            with(|f| f.complete = false),
            None,
            Some(&newest),
            "never finished",
        ),
        (with(|f| f.size_bytes = None), None, Some(&newest), "how large"),
        (
            with(|f| f.size_bytes = Some(GIB + 1)),
            None,
            Some(&newest),
            "whole GB",
        ),
        (
            with(|f| f.encrypted = Some(false)),
            None,
            Some(&newest),
            "otherwise",
        ),
        (good.clone(), None, None, "no snapshot"),
    ];
    for (found, record, newest, word) in cases {
        let why = adopted(&Table::home(), &found, record, newest).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_catalog_that_is_as_new_as_its_pool_is_left_as_it_is() {
    let table = Table::new();
    let (volume, found) = table.volume(VolumeState::Created);
    let (mut growing, mut grown) = table.volume(VolumeState::Extending);
    growing.extending_to = SizeGb::new(2);
    grown.size_bytes = Some(2 * GIB);
    let (deleted, of_deleted) = table.volume(VolumeState::PendingDestroy);
    let capture = Found {
        id: SliceId::Capture(SnapshotId::generate(&table.random)),
        ..found.clone()
    };
    let stranger = slice(&VolumeId::generate(&table.random), 1);
    let unfinished = Found {
        complete: false,
        ..stranger.clone()
    };
    let records = Records {
        running: vec![running(growing.id.as_str())],
        volumes: vec![volume, growing, deleted],
        snapshots: Vec::new(),
    };
    let agree = [found, grown, of_deleted, capture, unfinished];
    assert_eq!(amends("fast", &records, &agree), None);
    // Another pool's strangers say nothing of this one, and an empty catalog has nothing to be put right.
    assert_eq!(amends("slow", &records, std::slice::from_ref(&stranger)), None);
    assert_eq!(amends("fast", &Records::default(), &[stranger]), None);
}

#[test]
fn an_older_catalog_removes_nothing_resumes_nothing_and_takes_sizes_from_the_pool() {
    let table = Table::new();
    let (volume, mut grown) = table.volume(VolumeState::Created);
    grown.size_bytes = Some(3 * GIB);
    let (mut deleted, of_deleted) = table.volume(VolumeState::PendingDestroy);
    deleted.purge_after = Some(START.parse().unwrap());
    let (filling, of_filling) = table.volume(VolumeState::Restoring);
    let (without, _) = table.volume(VolumeState::Destroying);
    let (mut elsewhere, _) = table.volume(VolumeState::PendingDestroy);
    elsewhere.pool = "slow".to_owned();
    let mut unfinished = table.snapshot(&volume.id);
    unfinished.state = SnapshotState::Running;
    let finished = table.snapshot(&volume.id);
    let records = Records {
        running: vec![
            running(filling.id.as_str()),
            running(unfinished.id.as_str()),
            running(elsewhere.id.as_str()),
        ],
        volumes: vec![
            volume.clone(),
            deleted.clone(),
            filling.clone(),
            without,
            elsewhere,
        ],
        snapshots: vec![unfinished.clone(), finished],
    };
    let made = amends("fast", &records, &[grown, of_deleted, of_filling]).unwrap();
    let now: Vec<_> = made
        .volumes
        .iter()
        .map(|(v, _)| (&v.id, v.state, v.size.get(), v.purge_after))
        .collect();
    let created = VolumeState::Created;
    let expected = [
        (&volume.id, created, 3, None),
        (&deleted.id, created, 1, None),
        (&filling.id, created, 1, None),
    ];
    assert_eq!(now, expected);
    assert!(
        made.volumes
            .iter()
            .all(|(v, _)| v.generation > volume.generation + 1000)
    );
    assert_eq!((made.abandoned.len(), made.forgotten), (2, vec![unfinished.id]));
}
