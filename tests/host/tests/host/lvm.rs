//! What LVM answers, as far as volumed leans on it.

use host_tests::Guest;

/// LVM's commands are not idempotent: whoever repeats one must look first.
pub(crate) fn what_is_there_already_is_an_error_five(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must("lvcreate -y -n v-1 -L 64M $vg");
    let again = guest.run("lvcreate -y -n v-1 -L 64M $vg");
    assert_eq!(again.code, Some(5));
    assert!(
        again.stderr.contains("already exists in volume group"),
        "{}",
        again.stderr
    );
    let same = guest.run("lvextend -L 64M $vg/v-1");
    assert_eq!(same.code, Some(5));
    assert!(same.stderr.contains("matches existing size"), "{}", same.stderr);
    guest.must("lvremove -f $vg/v-1");
    let missing = guest.run("lvremove -f $vg/v-1");
    assert_eq!(missing.code, Some(5));
    assert!(
        missing.stderr.contains("Failed to find logical volume"),
        "{}",
        missing.stderr
    );
}
