use super::*;
use crate::volume::{SnapshotId, VolumeId};

fn volume() -> VolumeId {
    VolumeId::generate(&crate::testing::CountingRandom::default())
}

fn lineage(transaction_id: u64) -> Lineage {
    Lineage {
        pool: "RZdR2J-GVsH".to_owned(),
        place: "0-1".to_owned(),
        damages: 0,
        transaction_id,
    }
}

#[test]
fn tags_say_again_what_was_put_into_them_and_are_legal() {
    let capture = SnapshotId::generate(&crate::testing::CountingRandom::default());
    let full = SliceTags {
        id: SliceId::Capture(capture),
        complete: false,
        size_bytes: 3 << 30,
        header_bytes: 16 << 20,
        of: Some(volume()),
        lineage: Some(lineage(4)),
        growing_from: Some(1 << 30),
    };
    let plain = SliceTags {
        id: SliceId::Volume(volume()),
        complete: true,
        size_bytes: 1 << 30,
        header_bytes: 0,
        of: None,
        lineage: None,
        growing_from: None,
    };
    for tags in [full, plain] {
        let rendered = tags.render();
        assert_eq!(SliceTags::parse(&rendered), Some(tags));
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&b);
        assert!(rendered.iter().all(|tag| tag.bytes().all(legal)), "{rendered:?}");
    }
}

#[test]
fn a_volume_without_our_tag_or_with_half_of_them_is_not_ours() {
    let id = format!("volumed.id=v-{}", volume());
    let tags = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    assert_eq!(SliceTags::parse(&tags(&[&id, "volumed.size=5"])), None);
    assert_eq!(SliceTags::parse(&tags(&["volumed", &id])), None);
    assert_eq!(
        SliceTags::parse(&tags(&["volumed", "volumed.id=home", "volumed.size=5"])),
        None
    );
    assert_eq!(SliceTags::parse(&[]), None);
}

#[test]
fn a_lineage_is_broken_by_a_repair_a_damage_or_a_step_back() {
    assert!(lineage(4).leads_to(&lineage(4)) && lineage(4).leads_to(&lineage(9)));
    assert!(!lineage(9).leads_to(&lineage(4)));
    let repaired = Lineage {
        place: "700-701".to_owned(),
        ..lineage(9)
    };
    let damaged = Lineage {
        damages: 1,
        ..lineage(9)
    };
    assert!(!lineage(4).leads_to(&repaired) && !lineage(4).leads_to(&damaged));
}

#[test]
fn a_helper_volume_names_its_owner_and_is_no_slice() {
    let owner = SliceId::Volume(volume());
    let tags = temporary(&owner);
    assert_eq!(temporary_owner(&tags), Some(owner));
    assert_eq!(SliceTags::parse(&tags), None);
}
