use super::*;
use crate::lifecycle::tests::volume;
use crate::volume::VolumeState;

#[test]
fn a_refusal_for_want_of_room_says_what_deleted_volumes_hold_and_what_ends_that() {
    let (kept, mut deleted) = (volume(VolumeState::Created), volume(VolumeState::PendingDestroy));
    deleted.deleted_at = Some(jiff::Timestamp::UNIX_EPOCH);
    let size = kept.size.bytes();
    let promised = Promised::of(&kept.pool, &[kept.clone(), deleted], &[]);
    assert_eq!(
        promised,
        Promised {
            volumes_bytes: 2 * size,
            deleted_bytes: size,
            captures_bytes: 0,
            largest_bytes: size,
        }
    );
    let room = Room {
        promisable_bytes: 2 * size,
        captures_count: true,
    };
    assert_eq!(room.judge("default", &promised, 0), Ok(()));
    let refused = room.judge("default", &promised, size).unwrap_err();
    let gb = size.div_ceil(GIB);
    for words in [
        "pool default can promise 0 GB more".to_owned(),
        format!("the request needs {gb} GB"),
        "destroy --purge".to_owned(),
        format!("deleted ones hold {gb} GB until their grace is over"),
    ] {
        assert!(refused.contains(&words), "{words}: {refused}");
    }
    let of_kept = Promised::of(&kept.pool, std::slice::from_ref(&kept), &[]);
    let refused = room.judge("default", &of_kept, 2 * size).unwrap_err();
    assert!(!refused.contains("deleted ones"), "{refused}");
}
