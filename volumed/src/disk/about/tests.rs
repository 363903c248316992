#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const DISK: DiskId = DiskId(*b"0123456789abcdef");

fn about() -> About {
    About {
        author: "a1".to_owned(),
        volume: VolumeFacts {
            app: "shop".to_owned(),
            name: "data".to_owned(),
            size: SizeGb::new(3).unwrap(),
            region: "local".to_owned(),
            zone: "a1b2".to_owned(),
            fstype: FsType::Ext4,
            formatted: true,
            ever_attached: true,
            snapshot_retention: 5,
            snapshot_counts: Counts::default(),
            auto_backup_enabled: false,
            generation: 7,
            origin: Origin::Empty,
            created_at: Timestamp::UNIX_EPOCH,
            snapshots: Vec::new(),
        },
        serving: Serving {
            durability: DurabilityClass::Remote,
            on_outage: OutageRule::Stop,
            lag_bytes_max: 1,
            lag_ms_max: 2,
            compression: CompressionKind::Zstd,
        },
    }
}

fn key() -> DataKey {
    DataKey::from_bytes([7; 32])
}

#[test]
fn what_was_written_is_read_with_the_key_of_the_disk_only() {
    let bytes = about().encode(&key(), DISK, [9; 24]).unwrap();
    assert_eq!(About::decode(&key(), DISK, &bytes).unwrap(), about());
    let others = DataKey::from_bytes([8; 32]);
    assert!(About::decode(&others, DISK, &bytes).is_err());
    assert!(About::decode(&key(), DiskId(*b"fedcba9876543210"), &bytes).is_err());
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("shop"), "names stand in the clear");
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = about().encode(&key(), DISK, [9; 24]).unwrap();
    bytes[4] = 2;
    let read = About::decode(&key(), DISK, &bytes);
    assert!(matches!(read, Err(AboutError::Version { found: 2 })), "{read:?}");
}

#[test]
fn the_first_bytes_are_as_the_table_says() {
    let bytes = about().encode(&key(), DISK, [9; 24]).unwrap();
    assert_eq!(&bytes[..8], b"HGAB\x01\0\0\0");
    assert_eq!(&bytes[8..24], b"0123456789abcdef");
    assert_eq!(&bytes[24..48], [9; 24]);
    let json = serde_json::to_vec(&about()).unwrap();
    assert_eq!(bytes.len(), 48 + json.len() + 16);
}

proptest! {
    #[test]
    fn prop_what_is_said_of_a_volume_is_refused_when_a_bit_of_it_is_flipped_or_its_end_is_gone(
        at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()
    ) {
        let mut bytes = about().encode(&key(), DISK, [9; 24]).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        let read = About::decode(&key(), DISK, &bytes);
        prop_assert!(read.is_err(), "{read:?}");
    }

    #[test]
    fn prop_arbitrary_bytes_say_nothing_of_a_volume(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(About::decode(&key(), DISK, &bytes).is_err());
    }
}
