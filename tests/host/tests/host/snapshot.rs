//! Snapshots of linear volumes by dm-snapshot: temporary, with room for so much and no more.

use host_tests::Guest;

use crate::{
    bytes::{MIB, fill, is_filled},
    report,
};

pub(crate) fn a_snapshot_that_overflows_is_lost_and_its_origin_is_not(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk && lvcreate -y -n v -L 64M $vg");
    let (origin, snapshot) = (format!("/dev/{}/v", guest.vg()), format!("/dev/{}/s", guest.vg()));
    fill(&origin, 0, 32 * MIB, 1);
    guest.must("lvcreate -y -n s -s -L 8M $vg/v");
    fill(&origin, 0, 2 * MIB, 2);
    assert!(is_filled(&snapshot, 0, 32 * MIB, 1));
    guest.record("dm-snapshot-status.txt", &guest.must("dmsetup status $vg-s"));
    guest.record(
        "lvs-snapshot.json",
        &report::text(guest, "lvs -a", report::LV_FIELDS),
    );
    assert_eq!(report::lv(guest, "s")["lv_snapshot_invalid"], "");
    fill(&origin, 0, 32 * MIB, 3);
    let status = guest.must("dmsetup status $vg-s");
    guest.record("dm-snapshot-status-invalid.txt", &status);
    guest.record(
        "lvs-snapshot-invalid.json",
        &report::text(guest, "lvs -a", report::LV_FIELDS),
    );
    assert!(status.contains("Invalid"), "{status}");
    assert_eq!(report::lv(guest, "s")["lv_snapshot_invalid"], "snapshot invalid");
    assert!(is_filled(&origin, 0, 32 * MIB, 3));
    guest.must("lvremove -f $vg/s");
    assert!(is_filled(&origin, 0, 32 * MIB, 3));
}
