use proptest::prelude::*;

use super::*;
use crate::lifecycle::tests::volume;
use crate::volume::GIB;

fn gb(n: u32) -> SizeGb {
    SizeGb::new(n).unwrap()
}

/// A volume of `size` GB whose file system has `total` GB, `percent` of them used.
fn filled(size: u32, total: u64, percent: u64) -> Volume {
    let (block_size, blocks) = (4096, total * GIB / 4096);
    let used = blocks * percent / 100;
    Volume {
        size: gb(size),
        formatted: true,
        usage: Some(FsUsage {
            block_size,
            blocks,
            blocks_free: blocks - used,
            blocks_avail: blocks - used,
            bytes_total: blocks * block_size,
            bytes_used: used * block_size,
        }),
        ..volume(VolumeState::Created)
    }
}

const WISH: AutoExtend = AutoExtend {
    threshold_percent: 80,
    add_size_gb: 5,
    size_gb_limit: Some(22),
};

#[test]
fn it_grows_at_its_threshold_by_its_increment_up_to_its_limit() {
    let decide = |v: &Volume| WISH.decide(v, gb(500));
    assert_eq!(decide(&filled(10, 10, 79)), Decision::Rest);
    assert_eq!(
        decide(&filled(10, 10, 80)),
        Decision::Extend {
            to: gb(15),
            percent: 80
        }
    );
    assert!(matches!(decide(&filled(20, 20, 99)), Decision::Extend { to, .. } if to == gb(22)));
    let Decision::Blocked { why } = decide(&filled(22, 22, 90)) else {
        panic!("above its limit");
    };
    assert!(why.contains("limit of 22 GB"), "{why}");
    // The operator's limit counts as well.
    assert!(matches!(WISH.decide(&filled(10, 10, 90), gb(12)), Decision::Extend { to, .. } if to == gb(12)));
    assert!(matches!(
        WISH.decide(&filled(12, 12, 90), gb(12)),
        Decision::Blocked { .. }
    ));
}

#[test]
fn nothing_more_is_given_until_the_guest_shows_the_last_extend() {
    let waiting = Volume {
        auto_extended_from_bytes: filled(10, 10, 0).usage.map(|u| u.bytes_total),
        ..filled(15, 10, 95)
    };
    assert_eq!(WISH.decide(&waiting, gb(500)), Decision::Rest);
    let arrived = Volume {
        auto_extended_from_bytes: waiting.auto_extended_from_bytes,
        ..filled(15, 15, 95)
    };
    assert!(matches!(WISH.decide(&arrived, gb(500)), Decision::Extend { to, .. } if to == gb(20)));
    for (state, needs_restart) in [(VolumeState::Extending, false), (VolumeState::Created, true)] {
        let busy = Volume {
            state,
            needs_restart,
            ..filled(15, 15, 95)
        };
        assert_eq!(WISH.decide(&busy, gb(500)), Decision::Rest);
    }
}

#[test]
fn what_is_kept_for_root_is_not_room() {
    let mut v = filled(10, 10, 76);
    if let Some(usage) = v.usage.as_mut() {
        usage.blocks_avail -= usage.blocks / 20;
    }
    assert!(matches!(
        WISH.decide(&v, gb(500)),
        Decision::Extend { percent: 80, .. }
    ));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    assert!(WISH.check().is_ok());
    for bad in [
        AutoExtend {
            threshold_percent: 100,
            ..WISH
        },
        AutoExtend {
            threshold_percent: 0,
            ..WISH
        },
        AutoExtend {
            add_size_gb: 0,
            ..WISH
        },
        AutoExtend {
            size_gb_limit: Some(0),
            ..WISH
        },
    ] {
        assert_eq!(bad.check().unwrap_err().status, 422, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn prop_it_never_shrinks_and_never_passes_a_limit(
        size in 1_u32..600, total in 0_u64..700, percent in 0_u64..=100,
        threshold_percent in 1_u32..=99, add_size_gb in 1_u32..=u32::MAX, limit in proptest::option::of(1_u32..700), max in 1_u32..600,
    ) {
        let wish = AutoExtend { threshold_percent, add_size_gb, size_gb_limit: limit };
        if let Decision::Extend { to, percent } = wish.decide(&filled(size, total, percent), gb(max)) {
            prop_assert!(to.get() > size && to.get() <= max && limit.is_none_or(|limit| to.get() <= limit));
            prop_assert!(percent >= threshold_percent);
        }
    }
}
