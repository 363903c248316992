//! What LVM answers, as far as volumed leans on it.

use host_tests::Guest;

use crate::report;

/// LVM's commands are not idempotent: whoever repeats one must look first.
pub(crate) fn what_is_there_already_is_an_error_five(guest: &Guest) {
    let five = |script: &str, words: &str| {
        let ran = guest.run(script);
        assert_eq!(ran.code, Some(5), "{script}");
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    };
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk");
    guest.must("lvcreate -y -n v-1 -L 64M $vg");
    five("lvcreate -y -n v-1 -L 64M $vg", "already exists in volume group");
    five("lvextend -L 64M $vg/v-1", "matches existing size");
    five("lvcreate -y -n v-2 -L 9G $vg", "insufficient free space");
    guest.must("lvremove -f $vg/v-1");
    five("lvremove -f $vg/v-1", "Failed to find logical volume");
    assert_eq!(guest.run("lvcreate --no-such-option $vg").code, Some(3));
}

pub(crate) fn reports_are_json_with_sizes_in_bytes(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y --addtag volumed $vg $disk");
    guest.must("lvcreate -y -n wal-1 -L 64M -Wy -Zy --addtag volumed.vol=w1 $vg");
    guest.must("lvcreate -y --type thin-pool -L 256M --chunksize 64k --poolmetadatasize 4m --zero y --discards passdown -n pool $vg");
    guest.must("lvcreate -y -n v-1 -V 1G --thinpool $vg/pool --addtag volumed --addtag volumed.vol=v1 -kn");
    guest.must("lvcreate -y -n s-1-1 -s $vg/v-1 --addtag volumed.snap=1 -ky -an");
    let lvs = report::text(guest, "lvs -a", report::LV_FIELDS);
    let vgs = report::text(guest, "vgs", report::VG_FIELDS);
    let pvs = guest.must(
        "pvs --reportformat json --units b --nosuffix -o pv_name,pv_uuid,pv_size,pv_free,vg_name $disk",
    );
    let rows = report::rows(&lvs, "lv");
    let row = |name: &str| rows.iter().find(|row| row["lv_name"] == name).expect(name);
    assert_eq!(row("v-1")["lv_size"], "1073741824");
    assert_eq!(row("v-1")["pool_lv"], "pool");
    assert_eq!(row("v-1")["lv_tags"], "volumed,volumed.vol=v1");
    assert_eq!(row("s-1-1")["origin"], "v-1");
    assert_eq!(row("s-1-1")["lv_active"], "");
    assert_eq!(row("wal-1")["pool_lv"], "");
    assert_eq!(row("[pool_tmeta]")["lv_size"], "4194304");
    assert_eq!(report::rows(&vgs, "vg")[0]["vg_tags"], "volumed");
    let found = guest.must("lvs --noheadings -o lv_name -S lv_tags=volumed.vol=v1 $vg");
    assert_eq!(found.trim(), "v-1");
    guest.record("lvs.json", &lvs);
    guest.record("vgs.json", &vgs);
    guest.record("pvs.json", &pvs);
    guest.record(
        "lvs-empty.json",
        &guest.must("lvs -a --reportformat json -o lv_name -S lv_tags=nobody $vg"),
    );
    guest.record("dmsetup-status.txt", &guest.must("dmsetup status | grep ^$vg-"));
    guest.record("dmsetup-table.txt", &guest.must("dmsetup table | grep ^$vg-"));
    // The mapper doubles dashes inside of names.
    guest.must("test -b /dev/mapper/$vg-v--1 && test -e /dev/$vg/v-1");
}

/// A guest that uses LVM on its disk must not make its volume group one of the host's.
pub(crate) fn a_volume_group_inside_a_volume_is_not_ours(guest: &Guest) {
    guest.must("pvcreate -y $disk && vgcreate -y $vg $disk && lvcreate -y -n v-1 -L 64M $vg");
    let inner = "--devices /dev/$vg/v-1 --config devices/scan_lvs=1";
    guest.must(&format!(
        "pvcreate -y {inner} /dev/$vg/v-1 && vgcreate -y {inner} $vg-inner /dev/$vg/v-1"
    ));
    // By the host's own configuration, which filters nothing.
    let all = |more: &str| {
        guest.must(&format!(
            "LVM_SYSTEM_DIR=/etc/lvm vgs --noheadings -o vg_name {more}"
        ))
    };
    let inner = format!("{}-inner", guest.vg());
    assert!(!all("").contains(&inner));
    assert!(all("--config devices/scan_lvs=1").contains(&inner));
}
