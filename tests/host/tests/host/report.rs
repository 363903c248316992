//! LVM's reports.

use host_tests::Guest;
use serde_json::Value;

/// Fields of logical volumes that volumed asks for.
pub(crate) const LV_FIELDS: &str = "lv_uuid,lv_name,lv_full_name,lv_attr,lv_size,lv_tags,pool_lv,origin,thin_id,data_percent,\
                                    metadata_percent,lv_when_full,discards,chunk_size,lv_health_status,lv_active,seg_monitor,\
                                    lv_snapshot_invalid,transaction_id";
/// Fields of volume groups that volumed asks for.
pub(crate) const VG_FIELDS: &str = "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_tags";

/// Returns the text of a report about the test's volume group.
pub(crate) fn text(guest: &Guest, command: &str, fields: &str) -> String {
    guest.must(&format!(
        "{command} --reportformat json --units b --nosuffix -o {fields} $vg"
    ))
}

/// Returns the logical volumes of the test's volume group, the hidden ones in brackets.
pub(crate) fn lvs(guest: &Guest) -> Vec<Value> {
    rows(&text(guest, "lvs -a", LV_FIELDS), "lv")
}

/// Returns the row of one logical volume.
pub(crate) fn lv(guest: &Guest, name: &str) -> Value {
    let rows = lvs(guest);
    let row = rows.iter().find(|row| row["lv_name"] == name);
    row.unwrap_or_else(|| panic!("no {name} among {rows:?}")).clone()
}

/// Takes the rows out of a report.
pub(crate) fn rows(text: &str, kind: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(text).expect("the report is JSON");
    report["report"][0][kind]
        .as_array()
        .expect("the report has rows")
        .clone()
}
