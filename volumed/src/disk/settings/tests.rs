#![allow(clippy::unwrap_used)]

use crashsafe::RealDisk;

use super::*;
use crate::keys::{ClusterKey, DataKey};
use crate::random::OsRandom;

fn settings() -> Settings {
    let volume = VolumeId::parse("vol_0123456789abcdef").unwrap();
    let wrapped =
        ClusterKey::generate(&OsRandom).wrap(volume.as_str(), &DataKey::generate(&OsRandom), &OsRandom);
    let slice = SliceSettings::new(PathBuf::from("/dev/slice"), RING_BYTES_MIN, 1 << 20);
    Settings::new(volume, 1 << 30, wrapped, slice)
}

#[test]
fn what_was_saved_is_loaded_by_its_volume_and_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.json");
    let saved = settings();
    saved.save(&RealDisk, &file).unwrap();
    assert_eq!(Settings::load(&file, &saved.volume_id).unwrap(), saved);
    let other = VolumeId::parse("vol_ffffffffffffffff").unwrap();
    assert!(matches!(
        Settings::load(&file, &other),
        Err(SettingsError::Volume { .. })
    ));
}

#[test]
fn sizes_and_bounds_that_make_no_sense_are_refused_by_name() {
    let refused = |change: fn(&mut Settings)| {
        let mut wrong = settings();
        change(&mut wrong);
        wrong.check().unwrap_err().to_string()
    };
    assert!(refused(|s| s.size_bytes = 4097).contains("size_bytes"));
    assert!(refused(|s| s.slice.ring_bytes = 1 << 20).contains("slice.ring_bytes"));
    assert!(refused(|s| s.slice.cache_bytes = 1).contains("slice.cache_bytes"));
    assert!(refused(|s| s.lag_ms_max = 0).contains("lag_ms_max"));
}

#[test]
fn changes_touch_only_what_they_name() {
    let before = settings();
    let changes = Changes {
        durability: Some(DurabilityClass::Remote),
        lag_ms_max: Some(7),
        ..Changes::default()
    };
    let after = before.with(&changes);
    assert_eq!(after.durability, DurabilityClass::Remote);
    assert_eq!(after.engine().lag_us_max, 7_000);
    assert_eq!(
        (after.on_outage, after.lag_bytes_max),
        (before.on_outage, before.lag_bytes_max)
    );
}

#[test]
fn the_parts_of_a_slice_lie_one_after_the_other() {
    let slice = settings().slice;
    assert_eq!(slice.map_at(), 8192 + RING_BYTES_MIN);
    assert_eq!(slice.cache_at(), slice.map_at() + slice.map_bytes);
    assert_eq!(slice.total_bytes(), slice.cache_at() + (1 << 20));
}

#[test]
fn a_disk_is_named_by_the_random_part_of_its_volume() {
    let volume = VolumeId::parse("vol_0123456789abcdef").unwrap();
    assert_eq!(disk_id(&volume), DiskId(*b"0123456789abcdef"));
}
