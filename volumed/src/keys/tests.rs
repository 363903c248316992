use std::path::Path;

use crashsafe::{Disk, RealDisk};
use proptest::prelude::*;

use super::*;

/// Fills with one byte, so that vectors can be computed elsewhere.
#[derive(Debug)]
struct Always(u8);

impl Random for Always {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

fn counting(first: u8) -> [u8; KEY_BYTES] {
    std::array::from_fn(|index| first + u8::try_from(index).unwrap())
}

fn cluster_key() -> ClusterKey {
    ClusterKey::from_bytes(counting(0))
}

// The vectors below were computed by a program in another language, from docs/formats/keys.md.
const TEXT: &str = "hangar-key-1-000g40-r40m30-e20918-5gr38e-1w8124-gk2gah-c5rr34-d1p70x-3rftp7-atrc";
const LOCKED: &str = "hangar-key-1p-x01g00-36csk6-csk6cs-k6csk6-csk6cs-k6m27z-hm9sj8-2z0fgh-d7n2ax-44exnc-\
                      w8mde8-cghhzv-qm7pdg-k9g3dc-dsq315-e29n0q-grtt73-5tfc11-1tpnh1-50";
const WRAPPED: &str = "hwk019a48b9c1f7f773fa555555555555555555555555555555555555555555555555a27106a0b2c9c87d5e7e2d\
                       49ba6071d7e26b8ef529a9414206ac7a9e967b145513ca92a1aa8d0be0f535d68b8b66fe9ec7d75db3";

#[test]
fn subkeys_are_those_of_the_format() {
    assert_eq!(cluster_key().id().to_string(), "9a48b9c1f7f773fa");
    let key = DataKey::from_bytes(counting(0));
    let passphrase = "28712ddf74291b27407c4218c577052e2f13936eb6bcab18af5878d3166b4da2";
    assert_eq!(*key.luks_passphrase(), passphrase);
    let address = "d313f26b608649eadfc8784a11477bc87405332a7e7fafa193d75670264535b5";
    assert_eq!(hex::encode(*key.backup_keys().address), address);
}

#[test]
fn a_key_is_exported_as_the_format_says_and_imported_again() {
    assert_eq!(*cluster_key().export_text(None, &Always(1)), TEXT);
    assert!(ClusterKey::import_text(TEXT, None).unwrap() == cluster_key());
    assert!(ClusterKey::import_text(TEXT, Some("not needed")).unwrap() == cluster_key());
}

#[test]
fn a_locked_key_is_exported_as_the_format_says_and_opens_with_its_passphrase_only() {
    assert_eq!(
        *cluster_key().export_locked("correct horse", [0x66; 16], 1_000),
        LOCKED
    );
    assert!(ClusterKey::import_text(LOCKED, Some("correct horse")).unwrap() == cluster_key());
    assert_eq!(
        ClusterKey::import_text(LOCKED, Some("wrong horse")),
        Err(KeyTextError::PassphraseWrong)
    );
    assert_eq!(
        ClusterKey::import_text(LOCKED, None),
        Err(KeyTextError::PassphraseNeeded)
    );
}

#[test]
fn a_typed_key_may_be_upper_case_spaced_and_broken_into_lines() {
    let digits = TEXT.strip_prefix(export::PLAIN).unwrap();
    let typed = digits
        .to_uppercase()
        .replace("-5", " -\n 5 ")
        .replace('1', "l")
        .replace("0", "o");
    let typed = format!(" Hangar-KEY-1-{typed}\n");
    assert!(ClusterKey::import_text(&typed, None).unwrap() == cluster_key());
}

#[test]
fn any_wrong_character_is_noticed() {
    for at in "hangar-key-1-".len()..TEXT.len() {
        let right = TEXT.as_bytes()[at];
        for wrong in [b'0', b'z', b'u', b'!']
            .into_iter()
            .filter(|wrong| *wrong != right && right != b'-')
        {
            let mut text = TEXT.as_bytes().to_vec();
            text[at] = wrong;
            let text = String::from_utf8(text).unwrap();
            assert_eq!(
                ClusterKey::import_text(&text, None),
                Err(KeyTextError::Checksum),
                "{text}"
            );
        }
        let cut = ClusterKey::import_text(&TEXT[..at], None);
        assert_eq!(cut, Err(KeyTextError::Checksum), "cut at {at}");
    }
}

#[test]
fn what_is_no_key_and_what_is_a_later_one_are_told_apart() {
    assert_eq!(
        ClusterKey::import_text("ssh-ed25519 AAAA", None),
        Err(KeyTextError::NotAKey)
    );
    assert_eq!(ClusterKey::import_text("", None), Err(KeyTextError::NotAKey));
    let later = KeyTextError::Version {
        version: "2".to_owned(),
    };
    assert_eq!(ClusterKey::import_text("hangar-key-2-0000", None), Err(later));
}

#[test]
fn a_key_is_wrapped_as_the_format_says_and_unwrapped_again() {
    let data_key = DataKey::from_bytes(counting(32));
    let wrapped = cluster_key().wrap("vol_1", &data_key, &Always(0x55));
    assert_eq!(wrapped.as_str(), WRAPPED);
    assert!(cluster_key().unwrap("vol_1", &wrapped).unwrap() == data_key);
    assert_eq!(WrappedKey::from_bytes(&wrapped.to_bytes()).unwrap(), wrapped);
    let json = serde_json::to_string(&wrapped).unwrap();
    assert_eq!(serde_json::from_str::<WrappedKey>(&json).unwrap(), wrapped);
}

#[test]
fn a_wrapped_key_opens_for_its_volume_and_its_cluster_key_only() {
    let wrapped = cluster_key().wrap("vol_1", &DataKey::from_bytes([3; 32]), &Always(0x55));
    let other_volume = cluster_key().unwrap("vol_2", &wrapped);
    assert_eq!(
        other_volume,
        Err(UnwrapError::Foreign {
            volume_id: "vol_2".to_owned()
        })
    );
    let stranger = ClusterKey::from_bytes([4; 32]);
    let (wrapped_by, ours) = (cluster_key().id(), stranger.id());
    let other_key = UnwrapError::OtherClusterKey {
        volume_id: "vol_1".to_owned(),
        wrapped_by,
        ours,
    };
    assert_eq!(stranger.unwrap("vol_1", &wrapped), Err(other_key));
}

#[test]
fn a_damaged_wrapped_key_is_not_taken() {
    let bytes = cluster_key()
        .wrap("vol_1", &DataKey::from_bytes([3; 32]), &Always(0x55))
        .to_bytes();
    for at in 0..bytes.len() {
        let mut damaged = bytes;
        damaged[at] ^= 1 << (at % 8);
        assert_eq!(WrappedKey::from_bytes(&damaged), Err(WrappedKeyError::Damaged));
        assert_eq!(
            WrappedKey::from_bytes(&bytes[..at]),
            Err(WrappedKeyError::Damaged)
        );
    }
    let mut later = bytes[..WRAPPED_KEY_BYTES - 4].to_vec();
    later[0] = 2;
    later.extend_from_slice(&crc32fast::hash(&later).to_le_bytes());
    assert_eq!(
        WrappedKey::from_bytes(&later),
        Err(WrappedKeyError::Version { version: 2 })
    );
}

#[test]
fn the_key_file_is_private_and_never_overwritten_by_another_key() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.key");
    assert!(ClusterKey::load(&RealDisk, &path).unwrap().is_none());
    cluster_key().save(&RealDisk, &path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{TEXT}\n"));
    assert!(ClusterKey::load(&RealDisk, &path).unwrap() == Some(cluster_key()));

    cluster_key().save(&RealDisk, &path).unwrap();
    let other = ClusterKey::from_bytes([5; 32]);
    assert!(matches!(
        other.save(&RealDisk, &path),
        Err(KeyFileError::Other { .. })
    ));
    assert!(matches!(
        other.replace(&RealDisk, &path, &other.id()),
        Err(KeyFileError::Other { .. })
    ));
    assert!(ClusterKey::load(&RealDisk, &path).unwrap() == Some(cluster_key()));
    other.replace(&RealDisk, &path, &cluster_key().id()).unwrap();
    assert!(ClusterKey::load(&RealDisk, &path).unwrap() == Some(other));
}

#[test]
fn a_damaged_key_file_is_not_taken_for_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.key");
    for content in ["", "hangar-key-1-0000", "\u{fffd}"] {
        crashsafe::write_atomic(&RealDisk, "test", &path, content.as_bytes(), 0o600).unwrap();
        assert!(
            matches!(ClusterKey::load(&RealDisk, &path), Err(KeyFileError::Text { .. })),
            "{content:?}"
        );
        assert!(cluster_key().save(&RealDisk, &path).is_err());
    }
    let missing = Path::new("/nonexistent/cluster.key");
    assert!(matches!(
        cluster_key().save(&RealDisk as &dyn Disk, missing),
        Err(KeyFileError::Io { .. })
    ));
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let secret = hex::encode(*cluster_key().to_bytes());
    let shown = format!("{:?} {:?}", cluster_key(), DataKey::from_bytes(counting(0)));
    assert_eq!(shown, "ClusterKey(9a48b9c1f7f773fa) DataKey(..)");
    assert!(!shown.contains(&secret[..8]));
}

proptest! {
    #[test]
    fn prop_any_key_survives_its_text(bytes: [u8; 32]) {
        let key = ClusterKey::from_bytes(bytes);
        let text = key.export_text(None, &Always(0));
        prop_assert!(ClusterKey::import_text(&text, None).unwrap() == key);
    }

    #[test]
    fn prop_base32_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(base32::decode(&base32::encode(&bytes)), Some(bytes));
    }

    #[test]
    fn prop_arbitrary_texts_never_panic(text in "(hangar-key-1p?-)?.{0,150}", passphrase in proptest::option::of(".{0,9}")) {
        prop_assert!(ClusterKey::import_text(&text, passphrase.as_deref()).is_err());
        prop_assert!(WrappedKey::try_from(text).is_err());
    }
}
