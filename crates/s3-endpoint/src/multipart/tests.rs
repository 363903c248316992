use std::path::Path;
use std::sync::Arc;

use crashsafe::{RealDisk, Recorder};
use daemon::wall_clock::SystemClock;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn real(directory: &Path) -> Bucket {
    Bucket::open(Arc::new(RealDisk), Arc::new(SystemClock), directory).unwrap()
}

fn upload(key: &str) -> Upload {
    let initiated = jiff::Timestamp::UNIX_EPOCH;
    Upload {
        key: key.to_owned(),
        initiated,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
    }
}

fn part(bucket: &Bucket, id: &str, number: u32, body: &[u8]) -> Result<(u32, String), BucketError> {
    let (staged, mut writer) = bucket.stage()?;
    writer.write(body).map_err(doing("write"))?;
    let etag = writer.digest().hash;
    let record = Record {
        key: "k".to_owned(),
        etag: etag.clone(),
        modified: jiff::Timestamp::UNIX_EPOCH,
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        checksums: BTreeMap::new(),
    };
    writer.finish(&record).map_err(doing("finish"))?;
    bucket.commit_part(id, "k", number, staged)?;
    Ok((number, etag))
}

fn big(byte: u8) -> Vec<u8> {
    vec![byte; 5 << 20]
}

#[test]
fn parts_in_any_order_make_the_object_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    let id = bucket.create_upload(&upload("k")).unwrap();
    let second = part(&bucket, &id, 7, b"tail").unwrap();
    drop(bucket);
    let bucket = real(directory.path());
    part(&bucket, &id, 1, b"replaced").unwrap();
    let first = part(&bucket, &id, 1, &big(3)).unwrap();
    let sizes: Vec<u64> = bucket
        .parts(&id, "k")
        .unwrap()
        .iter()
        .map(|part| part.size_bytes)
        .collect();
    assert_eq!(sizes, [5 << 20, 4]);
    let total = (5 << 20) + 4;
    let wrong = bucket.complete_upload(
        &id,
        "k",
        &[first.clone(), second.clone()],
        Some(4),
        &Condition::None,
    );
    assert!(matches!(wrong, Err(BucketError::InvalidPart)), "{wrong:?}");
    let (record, digest) = bucket
        .complete_upload(&id, "k", &[first, second], Some(total), &Condition::Absent)
        .unwrap();
    assert_eq!(digest.data_bytes, total);
    assert!(record.etag.ends_with("-2"), "{}", record.etag);
    let reader = bucket.read("k").unwrap();
    assert_eq!(reader.read(total - 5..total).unwrap(), "\u{3}tail");
    assert!(matches!(bucket.upload(&id, "k"), Err(BucketError::NoSuchUpload)));
    assert!(bucket.uploads().unwrap().is_empty());
}

#[test]
fn a_completion_that_is_not_what_was_uploaded_is_refused_and_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    let id = bucket.create_upload(&upload("k")).unwrap();
    let small = part(&bucket, &id, 1, b"small").unwrap();
    let last = part(&bucket, &id, 2, b"last").unwrap();
    let complete = |wanted: &[(u32, String)], condition: &Condition| {
        bucket
            .complete_upload(&id, "k", wanted, None, condition)
            .map(|(record, _)| record.etag)
    };
    let none = &Condition::None;
    assert!(matches!(complete(&[], none), Err(BucketError::InvalidPart)));
    assert!(matches!(
        complete(&[(1, "x".to_owned())], none),
        Err(BucketError::InvalidPart)
    ));
    assert!(matches!(
        complete(&[(9, "x".to_owned())], none),
        Err(BucketError::InvalidPart)
    ));
    let swapped = [last.clone(), small.clone()];
    assert!(matches!(
        complete(&swapped, none),
        Err(BucketError::InvalidPartOrder)
    ));
    let both = [small.clone(), last];
    assert!(matches!(
        complete(&both, none),
        Err(BucketError::PartTooSmall { number: 1 })
    ));
    let other = Condition::Matches("other".to_owned());
    assert!(matches!(
        complete(std::slice::from_ref(&small), &other),
        Err(BucketError::NoSuchKey)
    ));
    complete(&[small], &Condition::Absent).unwrap();
}

#[test]
fn an_id_from_the_network_leads_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = real(directory.path());
    let id = bucket.create_upload(&upload("k")).unwrap();
    for bad in ["", "..", "../objects", "../../../../etc", &"0".repeat(32)] {
        assert!(
            matches!(bucket.upload(bad, "k"), Err(BucketError::NoSuchUpload)),
            "{bad}"
        );
        assert!(
            matches!(bucket.abort_upload(bad), Err(BucketError::NoSuchUpload)),
            "{bad}"
        );
    }
    assert!(matches!(
        bucket.upload(&id, "another key"),
        Err(BucketError::NoSuchUpload)
    ));
    bucket.abort_upload(&id).unwrap();
    assert!(matches!(
        part(&bucket, &id, 1, b"x"),
        Err(BucketError::NoSuchUpload)
    ));
}

#[test]
fn a_power_cut_loses_no_acknowledged_part_and_leaves_no_half_object() {
    let directory = tempfile::tempdir().unwrap();
    real(directory.path());
    let recorder = Arc::new(Recorder::new(RealDisk, directory.path()).unwrap());
    let bucket = Bucket::open(recorder.clone(), Arc::new(SystemClock), directory.path()).unwrap();
    let id = bucket.create_upload(&upload("k")).unwrap();
    recorder.mark("created", []);
    let only = part(&bucket, &id, 1, b"the part").unwrap();
    recorder.mark("part", []);
    bucket
        .complete_upload(&id, "k", &[only], None, &Condition::Absent)
        .unwrap();
    recorder.mark("completed", []);
    let log = recorder.log();
    for events in 0..=log.len() {
        for seed in 0..20 {
            let cut = log.cut(events, &mut StdRng::seed_from_u64(seed));
            let directory = tempfile::tempdir().unwrap();
            cut.write(&RealDisk, directory.path()).unwrap();
            let bucket = real(directory.path());
            let at = format!("event {events} seed {seed}");
            let acknowledged = |label: &str| cut.last_marker(label).is_some();
            match bucket.read("k") {
                Ok(reader) => assert_eq!(reader.read(0..8).unwrap(), "the part", "{at}"),
                Err(BucketError::NoSuchKey) => {
                    assert!(!acknowledged("completed"), "{at}: object lost");
                    assert!(
                        !acknowledged("created") || bucket.upload(&id, "k").is_ok(),
                        "{at}: upload lost"
                    );
                    let parts = bucket.parts(&id, "k").map_or(0, |parts| parts.len());
                    assert!(!acknowledged("part") || parts == 1, "{at}: part lost");
                }
                Err(error) => panic!("{at}: {error:?}"),
            }
            bucket.uploads().unwrap_or_else(|error| panic!("{at}: {error:?}"));
        }
    }
}
